/*
 * Lines of a JSONL file, one at a time, however long the file is.
 * Owner: the verb `batch`. Lifetime: batch_reader_open to batch_reader_close.
 */
#ifndef MLXR_CLI_BATCH_READER_H
#define MLXR_CLI_BATCH_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BATCH_LINE_MAX ((size_t)64 << 20) /* bytes of a line; what is longer is an error of that line */

typedef struct batch_reader {
    int fd;
    char *line; /* [n_line], NUL-terminated, without its line feed */
    size_t n_line, cap;
    uint64_t number; /* of the line, from 1 */
    uint64_t offset; /* in the file, behind the line */
    bool complete;   /* a line feed ended it */
    bool too_long;   /* only its beginning is there */

    char *ahead; /* what was read and is in no line so far: [n_ahead] from [at] on */
    size_t at, n_ahead;
    bool given; /* the line was: the next one begins anew */
    bool at_end;
    int error; /* errno of what ended it; 0: nothing did */
} batch_reader;

/* The reader owns the descriptor, unless it is stdin. */
void batch_reader_open(batch_reader *r, int fd);
void batch_reader_close(batch_reader *r);
/* Reads the next line as far as it is there within `timeout_ms`; true: all of it is, or the end, and batch_reader_next
 * does not wait. A signal ends the wait. */
bool batch_reader_wait(batch_reader *r, int timeout_ms);
/* The next line, empty ones too, waited for; a byte order mark at the beginning is left out. False at the end; *failed:
 * out of memory or unreadable, told by errno. */
bool batch_reader_next(batch_reader *r, bool *failed);
/* Nothing but blanks. */
bool batch_reader_blank(const batch_reader *r);

#endif
