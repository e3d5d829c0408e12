/*
 * Growing bytes.
 * Owner: whoever declares one. Lifetime: until byte_queue_free.
 */
#include "server/byte_queue.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_BYTES 16384u

bool byte_queue_reserve(byte_queue *b, size_t n)
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

bool byte_queue_add(byte_queue *b, const void *data, size_t n)
{
    if (!byte_queue_reserve(b, n)) {
        return false;
    }
    if (n) {
        memcpy(b->data + b->n, data, n);
        b->n += n;
    }
    return true;
}

bool byte_queue_add_text(byte_queue *b, const char *text)
{
    return byte_queue_add(b, text, strlen(text));
}

bool byte_queue_format(byte_queue *b, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return n >= 0 && (size_t)n < sizeof line && byte_queue_add(b, line, (size_t)n);
}

void byte_queue_drop(byte_queue *b, size_t n)
{
    b->n -= n;
    if (b->n) {
        memmove(b->data, b->data + n, b->n);
    }
}

void byte_queue_clear(byte_queue *b)
{
    b->n = 0;
    if (b->cap > KEPT_BYTES) {
        byte_queue_free(b);
    }
}

void byte_queue_free(byte_queue *b)
{
    free(b->data);
    *b = (byte_queue){0};
}
