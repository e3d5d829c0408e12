/*
 * Text that grows as it is written, JSON strings among it.
 * Owner: whoever declares it, as {0}. Lifetime: until text_buffer_close, or until its data is handed over.
 */
#ifndef MLXR_TELEMETRY_TEXT_BUFFER_H
#define MLXR_TELEMETRY_TEXT_BUFFER_H

#include "mlxr.h"

typedef struct text_buffer {
    char *data; /* [n], a NUL behind it; NULL while nothing was written */
    size_t n, cap;
    bool failed; /* there was no memory; what was added since then is missing */
} text_buffer;

void text_add(text_buffer *t, const char *data, size_t n);
void text_add_string(text_buffer *t, const char *string);
/* U+0000 as U+FFFD: what texts of C and SQLite would end at. */
void text_add_without_nul(text_buffer *t, const void *data, size_t n);
void text_print(text_buffer *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes; what is not UTF-8 becomes U+FFFD. */
void text_add_json(text_buffer *t, const char *data, size_t n);
/* The shortest decimal that reads back as the same number; "NaN", "+Inf" and "-Inf" are not JSON. */
void text_add_number(text_buffer *t, double value);
void text_buffer_close(text_buffer *t);

/* How many bytes at `data` are one whole character of UTF-8; 0: none, or not well-formed. */
size_t text_character(const char *data, size_t n);

#endif
