/*
 * Growable byte buffer born with a limit.
 * Owner: whoever opened it. Lifetime: until buffer_close or buffer_take.
 */
#ifndef MLXR_BASE_BUFFER_H
#define MLXR_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct buffer {
    char *data; /* NUL-terminated once anything was written; NULL before */
    size_t n, cap;
    size_t limit; /* never grows beyond this many bytes */
    bool failed;  /* an append did not fit or found no memory; sticks, later appends do nothing */
} buffer;

/* A buffer that may hold up to `limit` bytes; allocates nothing yet. */
buffer buffer_make(size_t limit);
bool buffer_append(buffer *b, const void *bytes, size_t n);
bool buffer_append_text(buffer *b, const char *text);
bool buffer_printf(buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_clear(buffer *b); /* keeps the memory */
char *buffer_take(buffer *b); /* the malloc'd, NUL-terminated bytes, now the caller's; NULL if it failed */
void buffer_close(buffer *b);

#endif
