/*
 * Bytes from a line of text, so that a broken file is one row of a table.
 *
 *   =GGUF        these letters              'name       8 bytes of length, then the letters ('' is the empty string)
 *   4:7 8:0xff   a number in 1, 2, 4 or 8   0*128       128 zero bytes
 *   x:c3ff       bytes in hex               |32         zeros up to a multiple of 32
 *
 * Tokens are separated by single spaces, which thus cannot be in names.
 * Owner: the caller frees the bytes. Lifetime: the call.
 */
#ifndef MLXR_TEST_BYTE_SCRIPT_H
#define MLXR_TEST_BYTE_SCRIPT_H

#include "base/buffer.h"
#include "support/test.h"

static inline void byte_script_number(buffer *out, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char byte = (char)(value >> 8 * i);
        assert_true(buffer_append(out, &byte, 1));
    }
}

static inline void byte_script_zeros(buffer *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_true(buffer_append(out, "", 1));
    }
}

static inline void byte_script_token(buffer *out, const char *token, size_t n)
{
    if (token[0] == '=') {
        assert_true(buffer_append(out, token + 1, n - 1));
    } else if (token[0] == '\'') {
        bool empty = n == 2 && token[1] == '\'';
        byte_script_number(out, empty ? 0 : n - 1, 8);
        assert_true(buffer_append(out, token + 1, empty ? 0 : n - 1));
    } else if (token[0] == 'x') {
        for (size_t i = 2; i + 1 < n; i += 2) {
            const char hex[3] = {token[i], token[i + 1], 0};
            byte_script_number(out, strtoull(hex, NULL, 16), 1);
        }
    } else if (token[0] == '|') {
        size_t to = (size_t)strtoull(token + 1, NULL, 10);
        byte_script_zeros(out, (to - out->n % to) % to);
    } else if (token[0] == '0' && token[1] == '*') {
        byte_script_zeros(out, (size_t)strtoull(token + 2, NULL, 10));
    } else if (token[1] == ':') {
        byte_script_number(out, strtoull(token + 2, NULL, 0), (size_t)(token[0] - '0'));
    } else {
        fail_msg("unknown token '%.*s'", (int)n, token);
    }
}

/* malloc'd; *n bytes. An exact allocation, so that AddressSanitizer sees the first byte read past the end. */
static inline uint8_t *byte_script(const char *script, size_t *n)
{
    buffer out = buffer_make(1 << 20);
    for (const char *p = script; *p;) {
        size_t length = strcspn(p, " ");
        if (length) {
            byte_script_token(&out, p, length);
        }
        p += length + (p[length] == ' ');
    }
    uint8_t *bytes = malloc(out.n ? out.n : 1);
    assert_non_null(bytes);
    if (out.n) {
        memcpy(bytes, out.data, out.n);
    }
    *n = out.n;
    buffer_close(&out);
    return bytes;
}

#endif
