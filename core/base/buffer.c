/*
 * Growable byte buffer born with a limit.
 * Owner: whoever opened it. Lifetime: until buffer_close or buffer_take.
 */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

buffer buffer_make(size_t limit)
{
    return (buffer){.limit = limit};
}

static bool reserve(buffer *b, size_t extra)
{
    if (b->failed || extra > b->limit - b->n) {
        b->failed = true;
        return false;
    }
    size_t need = b->n + extra + 1;
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < need) {
            cap = cap > (size_t)-1 / 2 ? need : cap * 2;
        }
        char *data = realloc(b->data, cap);
        if (!data) {
            b->failed = true;
            return false;
        }
        b->data = data;
        b->cap = cap;
    }
    return true;
}

bool buffer_append(buffer *b, const void *bytes, size_t n)
{
    if (!reserve(b, n)) {
        return false;
    }
    if (n) {
        memcpy(b->data + b->n, bytes, n);
    }
    b->n += n;
    b->data[b->n] = 0;
    return true;
}

bool buffer_append_text(buffer *b, const char *text)
{
    return buffer_append(b, text, strlen(text));
}

bool buffer_printf(buffer *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    bool ok = n >= 0 && reserve(b, (size_t)n);
    if (ok) {
        vsnprintf(b->data + b->n, (size_t)n + 1, format, again);
        b->n += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
    return ok;
}

void buffer_clear(buffer *b)
{
    b->n = 0;
    b->failed = false;
    if (b->data) {
        b->data[0] = 0;
    }
}

char *buffer_take(buffer *b)
{
    char *data = NULL;
    if (!b->failed && (b->data || buffer_append(b, "", 0))) {
        data = b->data;
        b->data = NULL;
    }
    buffer_close(b);
    return data;
}

void buffer_close(buffer *b)
{
    free(b->data);
    *b = (buffer){.limit = b->limit};
}
