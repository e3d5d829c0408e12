/*
 * Growing bytes.
 * Owner: whoever declares one. Lifetime: until buffer_free.
 */
#include "server/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_BYTES 16384u

bool buffer_reserve(buffer *b, size_t n)
{
    if (n <= b->cap - b->n) {
        return true;
    }
    if (n > SIZE_MAX / 4 || b->n > SIZE_MAX / 4) {
        return false;
    }
    size_t cap = b->cap < 256 ? 256 : b->cap;
    while (cap - b->n < n) {
        cap *= 2;
    }
    char *grown = realloc(b->data, cap);
    if (!grown) {
        return false;
    }
    b->data = grown;
    b->cap = cap;
    return true;
}

bool buffer_add(buffer *b, const void *data, size_t n)
{
    if (!buffer_reserve(b, n)) {
        return false;
    }
    if (n) {
        memcpy(b->data + b->n, data, n);
        b->n += n;
    }
    return true;
}

bool buffer_add_text(buffer *b, const char *text)
{
    return buffer_add(b, text, strlen(text));
}

bool buffer_format(buffer *b, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return n >= 0 && (size_t)n < sizeof line && buffer_add(b, line, (size_t)n);
}

void buffer_drop(buffer *b, size_t n)
{
    b->n -= n;
    if (b->n) {
        memmove(b->data, b->data + n, b->n);
    }
}

void buffer_clear(buffer *b)
{
    b->n = 0;
    if (b->cap > KEPT_BYTES) {
        buffer_free(b);
    }
}

void buffer_free(buffer *b)
{
    free(b->data);
    *b = (buffer){0};
}
