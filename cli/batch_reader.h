/*
 * Lines of a JSONL file, one at a time, however long the file is.
 * Owner: the verb `batch`. Lifetime: batch_reader_open to batch_reader_close.
 */
#ifndef MLXR_CLI_BATCH_READER_H
#define MLXR_CLI_BATCH_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BATCH_LINE_MAX ((size_t)64 << 20) /* bytes of a line; what is longer is an error of that line */

typedef struct batch_reader {
    FILE *file;
    char *line; /* [n_line], NUL-terminated, without its line feed */
    size_t n_line, cap;
    uint64_t number; /* of the line, from 1 */
    uint64_t offset; /* in the file, behind the line */
    bool complete;   /* a line feed ended it */
    bool too_long;   /* only its beginning is there */
} batch_reader;

/* The reader owns the file, unless it is stdin. */
void batch_reader_open(batch_reader *r, FILE *file);
void batch_reader_close(batch_reader *r);
/* The next line, empty ones too; a byte order mark at the beginning is left out. False at the end; *failed: out of
 * memory or unreadable, told by errno. */
bool batch_reader_next(batch_reader *r, bool *failed);
/* Nothing but blanks. */
bool batch_reader_blank(const batch_reader *r);

#endif
