/*
 * UTF-8 one character at a time.
 * Owner: none. Lifetime: the call.
 */
#include "base/utf8.h"

/* Length announced by a lead byte and the range its second byte must lie in (Unicode table 3-7), 0 if it cannot lead.
 */
static size_t lead(unsigned char byte, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (byte < 0x80) {
        return 1;
    }
    if (byte >= 0xc2 && byte <= 0xdf) {
        return 2;
    }
    if (byte >= 0xe0 && byte <= 0xef) {
        if (byte == 0xe0) {
            *low = 0xa0; /* shortest form */
        } else if (byte == 0xed) {
            *high = 0x9f; /* no surrogates */
        }
        return 3;
    }
    if (byte >= 0xf0 && byte <= 0xf4) {
        if (byte == 0xf0) {
            *low = 0x90;
        } else if (byte == 0xf4) {
            *high = 0x8f; /* not above U+10FFFF */
        }
        return 4;
    }
    return 0;
}

size_t utf8_decode(const char *text, size_t n, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned char low, high;
    if (n == 0) {
        return 0;
    }
    size_t length = lead(p[0], &low, &high);
    if (length == 0 || length > n) {
        return 0;
    }
    if (length == 1) {
        *code = p[0];
        return 1;
    }
    uint32_t value = p[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if (p[i] < low || p[i] > high) {
            return 0;
        }
        value = value << 6 | (p[i] & 0x3fu);
        low = 0x80;
        high = 0xbf;
    }
    *code = value;
    return length;
}

size_t utf8_encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        if (code >= 0xd800 && code < 0xe000) {
            return 0;
        }
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    if (code < 0x110000) {
        out[0] = (char)(0xf0 | code >> 18);
        out[1] = (char)(0x80 | (code >> 12 & 0x3f));
        out[2] = (char)(0x80 | (code >> 6 & 0x3f));
        out[3] = (char)(0x80 | (code & 0x3f));
        return 4;
    }
    return 0;
}

size_t utf8_incomplete_tail(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char low, high;
        unsigned char byte = p[n - back];
        if ((byte & 0xc0) == 0x80) {
            continue;
        }
        size_t length = lead(byte, &low, &high);
        if (length <= back || (back >= 2 && (p[n - back + 1] < low || p[n - back + 1] > high))) {
            return 0;
        }
        return back;
    }
    return 0;
}
