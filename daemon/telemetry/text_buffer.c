/*
 * Growing text, UTF-8 checked by the table of Unicode 15, 3.9.
 * Owner: whoever declares the buffer. Lifetime: the buffer's.
 */
#include "telemetry/text_buffer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more bytes and a NUL. */
static bool reserve(text_buffer *t, size_t n)
{
    if (t->failed || n >= SIZE_MAX / 4 - t->n) {
        t->failed = true;
        return false;
    }
    if (t->n + n >= t->cap) {
        size_t cap = t->cap ? t->cap : 256;
        while (cap <= t->n + n) {
            cap *= 2;
        }
        char *grown = realloc(t->data, cap);
        if (!grown) {
            t->failed = true;
            return false;
        }
        t->data = grown;
        t->cap = cap;
    }
    return true;
}

void text_add(text_buffer *t, const char *data, size_t n)
{
    if (reserve(t, n)) {
        if (n > 0) { /* nothing may be at NULL */
            memcpy(t->data + t->n, data, n);
        }
        t->n += n;
        t->data[t->n] = '\0';
    }
}

void text_add_without_nul(text_buffer *t, const void *data, size_t n)
{
    const char *at = data, *end = at + n, *nul;
    while (at < end && (nul = memchr(at, 0, (size_t)(end - at)))) {
        text_add(t, at, (size_t)(nul - at));
        text_add(t, "\xef\xbf\xbd", 3);
        at = nul + 1;
    }
    text_add(t, at, (size_t)(end - at));
}

void text_add_string(text_buffer *t, const char *string)
{
    text_add(t, string, strlen(string));
}

void text_print(text_buffer *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n >= 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->n, (size_t)n + 1, format, again);
        t->n += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

size_t text_character(const char *data, size_t n)
{
    const unsigned char *b = (const unsigned char *)data;
    if (n == 0 || b[0] < 0x80) {
        return n > 0;
    }
    unsigned least = 0x80, most = 0xbf;
    size_t length = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    if (b[0] < 0xc2 || b[0] > 0xf4 || n < length) {
        return 0;
    }
    least = b[0] == 0xe0 ? 0xa0 : b[0] == 0xf0 ? 0x90 : least; /* overlong */
    most = b[0] == 0xed ? 0x9f : b[0] == 0xf4 ? 0x8f : most;   /* surrogates; beyond U+10FFFF */
    if (b[1] < least || b[1] > most) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if (b[i] < 0x80 || b[i] > 0xbf) {
            return 0;
        }
    }
    return length;
}

void text_add_json(text_buffer *t, const char *data, size_t n)
{
    text_add(t, "\"", 1);
    for (size_t i = 0, plain = 0; i <= n; i++) {
        unsigned char c = i < n ? (unsigned char)data[i] : 0;
        size_t length = i < n ? text_character(data + i, n - i) : 0;
        if (i < n && length > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += length - 1;
            continue;
        }
        text_add(t, data + plain, i - plain);
        plain = i + 1;
        if (i == n) {
            break;
        }
        if (length == 0) {
            text_add_string(t, "\xef\xbf\xbd");
        } else if (c == '"' || c == '\\') {
            text_print(t, "\\%c", c);
        } else if (c == '\n') {
            text_add_string(t, "\\n");
        } else if (c == '\t') {
            text_add_string(t, "\\t");
        } else {
            text_print(t, "\\u%04x", c);
        }
    }
    text_add(t, "\"", 1);
}

void text_add_number(text_buffer *t, double value)
{
    char digits[40];
    if (isnan(value)) {
        text_add_string(t, "NaN");
    } else if (isinf(value)) {
        text_add_string(t, value > 0 ? "+Inf" : "-Inf");
    } else if (fabs(value) < 1e15 && value == floor(value)) {
        text_print(t, "%.0f", value == 0 ? 0.0 : value); /* no "-0" */
    } else {
        for (int precision = 6; precision <= 17; precision++) {
            snprintf(digits, sizeof digits, "%.*g", precision, value);
            if (strtod(digits, NULL) == value) {
                break;
            }
        }
        text_add_string(t, digits);
    }
}

void text_buffer_close(text_buffer *t)
{
    free(t->data);
    *t = (text_buffer){0};
}
