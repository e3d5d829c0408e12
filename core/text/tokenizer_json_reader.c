/*
 * JSON text value by value, without a tree: a vocabulary of a quarter million strings costs no allocation for each.
 * Owner: the call that opens a tokenizer. Lifetime: the call.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_json.h"

bool scan_fail(json_reader *r, mlxr_status status, const char *format, ...)
{
    if (r->status == MLXR_OK) {
        char words[200];
        va_list args;
        va_start(args, format);
        vsnprintf(words, sizeof words, format, args);
        va_end(args);
        r->status = error_set(r->error, status, "tokenizer.json: %s: %s at byte %zu of %zu", r->where, words, r->at,
                              r->n);
    }
    return false;
}

char scan_peek(json_reader *r)
{
    while (r->at < r->n &&
           (r->text[r->at] == ' ' || r->text[r->at] == '\n' || r->text[r->at] == '\r' || r->text[r->at] == '\t')) {
        r->at++;
    }
    return r->at < r->n ? r->text[r->at] : 0;
}

bool scan_take(json_reader *r, char c)
{
    if (r->status != MLXR_OK) {
        return false;
    }
    if (scan_peek(r) != c || r->at >= r->n) {
        return scan_fail(r, MLXR_FORMAT, "expected '%c'", c);
    }
    r->at++;
    return true;
}

/* Four hexadecimal digits after "\u". */
static bool take_hex(json_reader *r, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = r->at < r->n ? r->text[r->at] : 0;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) {
            return scan_fail(r, MLXR_FORMAT, "bad \\u escape");
        }
        *value = *value << 4 | digit;
    }
    return true;
}

static bool take_unicode(json_reader *r)
{
    uint32_t code, low;
    if (!take_hex(r, &code)) {
        return false;
    }
    if (code >= 0xd800 && code < 0xdc00) {
        if (r->n - r->at < 2 || r->text[r->at] != '\\' || r->text[r->at + 1] != 'u') {
            return scan_fail(r, MLXR_FORMAT, "half a surrogate pair");
        }
        r->at += 2;
        if (!take_hex(r, &low)) {
            return false;
        }
        if (low < 0xdc00 || low > 0xdfff) {
            return scan_fail(r, MLXR_FORMAT, "half a surrogate pair");
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    char bytes[4];
    size_t length = utf8_encode(code, bytes);
    if (length == 0) {
        return scan_fail(r, MLXR_FORMAT, "half a surrogate pair");
    }
    buffer_append(r->strings, bytes, length);
    return true;
}

static bool take_escape(json_reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->n ? r->text[r->at] : 0;
    r->at++;
    if (c == 'u') {
        return take_unicode(r);
    }
    const char *known = c ? strchr(from, c) : NULL;
    if (!known) {
        r->at--;
        return scan_fail(r, MLXR_FORMAT, "unknown escape");
    }
    buffer_append(r->strings, &to[known - from], 1);
    return true;
}

bool scan_string(json_reader *r, size_t *begin, size_t *n)
{
    if (!scan_take(r, '"')) {
        return false;
    }
    *begin = r->strings->n;
    for (;;) {
        size_t run = r->at;
        while (run < r->n && (unsigned char)r->text[run] >= 0x20 && (unsigned char)r->text[run] < 0x80 &&
               r->text[run] != '"' && r->text[run] != '\\') {
            run++;
        }
        buffer_append(r->strings, r->text + r->at, run - r->at);
        r->at = run;
        if (run == r->n) {
            return scan_fail(r, MLXR_FORMAT, "unfinished string");
        }
        char c = r->text[r->at];
        if (c == '"') {
            break;
        }
        if (c == '\\') {
            r->at++;
            if (!take_escape(r)) {
                return false;
            }
            continue;
        }
        uint32_t code;
        size_t length = utf8_decode(r->text + r->at, r->n - r->at, &code);
        if (length < 2) {
            return scan_fail(r, MLXR_FORMAT, length ? "control character in a string" : "invalid UTF-8");
        }
        buffer_append(r->strings, r->text + r->at, length);
        r->at += length;
    }
    r->at++;
    *n = r->strings->n - *begin;
    return r->strings->failed ? scan_fail(r, MLXR_NOMEM, "out of memory for strings") : true;
}

/* Reads digits into *significand until it is full; those that no longer fit are counted, or dropped behind the
 * point. *scale counts digits behind the point. */
static bool take_digits(json_reader *r, uint64_t *significand, int32_t *scale, bool behind_point)
{
    size_t before = r->at;
    for (; r->at < r->n && r->text[r->at] >= '0' && r->text[r->at] <= '9'; r->at++) {
        uint64_t digit = (uint64_t)(r->text[r->at] - '0');
        bool fits = *significand < (UINT64_MAX - digit) / 10;
        *significand = fits ? *significand * 10 + digit : *significand;
        *scale += fits == behind_point ? fits : !behind_point && !fits ? -1 : 0;
    }
    return r->at > before && r->at - before < 100000;
}

static bool take_exponent(json_reader *r, int32_t *exponent)
{
    bool negative = r->at < r->n && r->text[r->at] == '-';
    r->at += r->at < r->n && (r->text[r->at] == '-' || r->text[r->at] == '+');
    size_t before = r->at;
    for (; r->at < r->n && r->text[r->at] >= '0' && r->text[r->at] <= '9'; r->at++) {
        *exponent = *exponent < 10000 ? *exponent * 10 + (r->text[r->at] - '0') : *exponent;
    }
    *exponent = negative ? -*exponent : *exponent;
    return r->at > before;
}

/* 10^n for 0 ≤ n ≤ 308, correctly rounded. */
static double power_of_ten(int32_t n)
{
    char text[16];
    snprintf(text, sizeof text, "1e%d", (int)n);
    return strtod(text, NULL); /* no decimal point, so the locale does not matter */
}

/* The value as the reference's parser rounds it: the digits as an integer, times or over one power of ten. That can be
 * one unit off in the last place; scores that tie in the reference must tie here. */
static double scaled(uint64_t significand, int32_t exponent)
{
    double value = (double)significand;
    for (; exponent < -308 && value != 0; exponent += 308) {
        value /= power_of_ten(308);
    }
    if (value == 0) {
        return 0;
    }
    return exponent > 308  ? (double)INFINITY
           : exponent >= 0 ? value * power_of_ten(exponent)
                           : value / power_of_ten(-exponent);
}

bool scan_number(json_reader *r, double *value)
{
    if (r->status != MLXR_OK) {
        return false;
    }
    scan_peek(r);
    uint64_t significand = 0;
    int32_t scale = 0, exponent = 0;
    bool negative = r->at < r->n && r->text[r->at] == '-';
    r->at += negative;
    bool fits = take_digits(r, &significand, &scale, false);
    if (fits && r->at < r->n && r->text[r->at] == '.') {
        r->at++;
        fits = take_digits(r, &significand, &scale, true);
    }
    if (fits && r->at < r->n && (r->text[r->at] == 'e' || r->text[r->at] == 'E')) {
        r->at++;
        fits = take_exponent(r, &exponent);
    }
    if (!fits) {
        return scan_fail(r, MLXR_FORMAT, "not a number");
    }
    *value = scaled(significand, exponent - scale);
    *value = negative ? -*value : *value;
    return true;
}

bool scan_more(json_reader *r, char close, bool *first)
{
    if (r->status != MLXR_OK) {
        return false;
    }
    if (scan_peek(r) == close) {
        r->at++;
        return false;
    }
    bool expected = *first;
    *first = false;
    return expected || scan_take(r, ',');
}

static bool skip_word(json_reader *r, const char *word)
{
    size_t n = strlen(word);
    if (r->n - r->at < n || memcmp(r->text + r->at, word, n) != 0) {
        return scan_fail(r, MLXR_FORMAT, "not a value");
    }
    r->at += n;
    return true;
}

/* A value that holds no others. */
static bool skip_scalar(json_reader *r, char c)
{
    size_t begin, n;
    double number;
    if (c == '"') {
        bool fits = scan_string(r, &begin, &n);
        if (fits) { /* not wanted: give the room back */
            r->strings->n = begin;
        }
        return fits;
    }
    if (c == 't' || c == 'f' || c == 'n') {
        return skip_word(r, c == 't' ? "true" : c == 'f' ? "false" : "null");
    }
    return scan_number(r, &number);
}

/* Without recursion: `open` holds a bit for each open container, 1 for an object. */
bool scan_skip(json_reader *r, size_t *begin, size_t *end)
{
    uint64_t open = 0;
    uint32_t depth = 0;
    bool first = true, fits = r->status == MLXR_OK;
    scan_peek(r);
    *begin = r->at;
    while (fits) {
        char c = scan_peek(r);
        if (c == '{' || c == '[') {
            if (depth == JSON_DEPTH_MAX) {
                return scan_fail(r, MLXR_LIMIT, "nested deeper than %u", JSON_DEPTH_MAX);
            }
            r->at++;
            depth++;
            open = open << 1 | (c == '{');
            first = true;
        } else {
            fits = skip_scalar(r, c);
            first = false;
        }
        /* On to the next value: past the ends of containers, a comma, a key. */
        while (fits && depth && !scan_more(r, open & 1 ? '}' : ']', &first)) {
            fits = r->status == MLXR_OK;
            depth--;
            open >>= 1;
            first = false;
        }
        if (depth == 0) {
            break;
        }
        if (fits && (open & 1)) {
            fits = scan_peek(r) == '"' ? skip_scalar(r, '"') && scan_take(r, ':') : scan_take(r, '"');
        }
    }
    *end = r->at;
    return r->status == MLXR_OK;
}
