/*
 * UTF-8 one character at a time.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_BASE_UTF8_H
#define MLXR_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decodes the character at text[0..n). Returns its length (1…4) and the code point, or 0 if the bytes are not a
 * whole, shortest-form character (surrogates and values above U+10FFFF included). Unicode 15, table 3-7. */
size_t utf8_decode(const char *text, size_t n, uint32_t *code);

/* Writes a code point to out[0..4) and returns its length; 0 for what is not a Unicode scalar value. */
size_t utf8_encode(uint32_t code, char out[4]);

/* How many of the trailing bytes of text[0..n) begin a character that further bytes could finish (0…3). */
size_t utf8_incomplete_tail(const char *text, size_t n);

#endif
