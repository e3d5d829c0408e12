/*
 * Bytes that grow at the end and are taken from the front.
 * Owner: whoever declares one; {0} is empty. Lifetime: until buffer_free.
 */
#ifndef MLXR_SERVER_BUFFER_H
#define MLXR_SERVER_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct buffer {
    char *data;
    size_t n, cap;
} buffer;

/* Room for n more bytes at data + n. False, and nothing has changed: no memory. */
bool buffer_reserve(buffer *b, size_t n);
bool buffer_add(buffer *b, const void *data, size_t n);
bool buffer_add_text(buffer *b, const char *text);
bool buffer_format(buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_drop(buffer *b, size_t n); /* the first n bytes */
/* Forgets the contents; keeps the memory unless it is more than an idle connection should hold. */
void buffer_clear(buffer *b);
void buffer_free(buffer *b);

#endif
