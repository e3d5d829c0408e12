/*
 * Reading lines.
 * Owner: the verb `batch`. Lifetime: batch_reader_open to batch_reader_close.
 */
#include "batch_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void batch_reader_open(batch_reader *r, FILE *file)
{
    *r = (batch_reader){.file = file};
}

void batch_reader_close(batch_reader *r)
{
    if (r->file && r->file != stdin) {
        fclose(r->file);
    }
    free(r->line);
    *r = (batch_reader){0};
}

static bool grow(batch_reader *r)
{
    size_t cap = r->cap ? r->cap * 2 : 4096;
    char *grown = realloc(r->line, cap);
    if (!grown) {
        errno = ENOMEM;
        return false;
    }
    r->line = grown;
    r->cap = cap;
    return true;
}

bool batch_reader_next(batch_reader *r, bool *failed)
{
    int byte = EOF;
    *failed = false;
    r->n_line = 0;
    r->too_long = false;
    r->complete = false;
    while (!r->complete && (byte = getc_unlocked(r->file)) != EOF) {
        r->offset++;
        r->complete = byte == '\n';
        if (r->n_line + 1 >= r->cap && !grow(r)) {
            *failed = true;
            return false;
        }
        if (r->n_line >= BATCH_LINE_MAX) {
            r->too_long = true;
        } else if (!r->complete) {
            r->line[r->n_line++] = (char)byte;
        }
    }
    if (ferror(r->file)) {
        *failed = true;
        return false;
    }
    if (byte == EOF && r->n_line == 0) {
        return false;
    }
    r->number++;
    if (r->number == 1 && r->n_line >= 3 && memcmp(r->line, "\xef\xbb\xbf", 3) == 0) {
        r->n_line -= 3;
        memmove(r->line, r->line + 3, r->n_line);
    }
    r->line[r->n_line] = '\0';
    return true;
}

bool batch_reader_blank(const batch_reader *r)
{
    return strspn(r->line, " \t\r") == r->n_line;
}
