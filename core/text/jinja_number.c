/*
 * Numbers as Python reads and prints them, independent of the locale.
 * Owner: none. Lifetime: the call.
 */
#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

#define PRECISION_MAX 300

static char locale_point(void)
{
    return localeconv()->decimal_point[0]; /* never empty, says POSIX */
}

size_t jnumber_format(double f, char style, int precision, bool alternate, char *out, size_t size)
{
    char format[] = {'%', '#', '.', '*', style, 0};
    if (!alternate) {
        memmove(format + 1, format + 2, 4);
    }
    precision = precision > PRECISION_MAX ? PRECISION_MAX : precision;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    int n = snprintf(out, size, format, precision, f);
#pragma GCC diagnostic pop
    char point = locale_point();
    if (point != '.') {
        for (int i = 0; i < n; i++) {
            out[i] = out[i] == point ? '.' : out[i];
        }
    }
    return n > 0 ? (size_t)n : 0;
}

double jnumber_read(const char *digits, size_t n)
{
    char text[JNUMBER_DIGITS_MAX + 1];
    char point = locale_point();
    n = n < JNUMBER_DIGITS_MAX ? n : JNUMBER_DIGITS_MAX;
    for (size_t i = 0; i < n; i++) {
        text[i] = digits[i] == '.' ? point : digits[i];
    }
    text[n] = 0;
    return strtod(text, NULL);
}

/* Adds one to the last digit of d.ddd…e±xx; false when it would carry out of the first digit. */
static bool next_up(char *text)
{
    char *end = strchr(text, 'e');
    for (char *p = end - 1; p >= text; p--) {
        if (*p == '9') {
            *p = '0';
        } else if (*p != '.') {
            ++*p;
            return true;
        }
    }
    return false;
}

/* The shortest d.ddde±xx that reads back as f (positive and finite). */
static void shortest(double f, char out[40])
{
    for (int precision = 0; precision < 17; precision++) {
        jnumber_format(f, 'e', precision, false, out, 40);
        if (jnumber_read(out, strlen(out)) == f) {
            return;
        }
        /* Above a power of two the gap is wider than below: the neighbour may do where the nearest does not. */
        char up[40];
        memcpy(up, out, sizeof up);
        if (next_up(up) && jnumber_read(up, strlen(up)) == f) {
            memcpy(out, up, sizeof up);
            return;
        }
    }
}

size_t jnumber_repr(double f, char out[JNUMBER_TEXT])
{
    if (isnan(f)) {
        return (size_t)sprintf(out, "nan");
    }
    const char *sign = signbit(f) ? "-" : "";
    f = fabs(f);
    if (isinf(f)) {
        return (size_t)sprintf(out, "%sinf", sign);
    }
    if (f == 0.0) {
        return (size_t)sprintf(out, "%s0.0", sign);
    }
    char text[40] = "", digits[24];
    shortest(f, text);
    size_t n = 0;
    char *p = text;
    for (; *p != 'e'; p++) { /* none of the digits is a zero at the end: fewer would have done */
        if (*p != '.') {
            digits[n++] = *p;
        }
    }
    digits[n] = 0;
    int exponent = atoi(p + 1);
    if (exponent < -4 || exponent >= 16) {
        return (size_t)sprintf(out, "%s%c%s%se%c%02d", sign, digits[0], n > 1 ? "." : "", digits + 1,
                               exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (exponent < 0) {
        return (size_t)sprintf(out, "%s0.%.*s%s", sign, -exponent - 1, "0000", digits);
    }
    size_t whole = (size_t)exponent + 1;
    if (n > whole) {
        return (size_t)sprintf(out, "%s%.*s.%s", sign, (int)whole, digits, digits + whole);
    }
    return (size_t)sprintf(out, "%s%s%.*s.0", sign, digits, (int)(whole - n), "0000000000000000");
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Copies the digits without the underscores Python allows between them; false on any other use of them. */
static bool copy_number(const char *bytes, size_t n, char out[JNUMBER_DIGITS_MAX], size_t *n_out)
{
    size_t m = 0;
    if (n > JNUMBER_DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '_') {
            bool between = i > 0 && i + 1 < n && isdigit((unsigned char)bytes[i - 1]) &&
                           isdigit((unsigned char)bytes[i + 1]);
            if (!between) {
                return false;
            }
            continue;
        }
        out[m++] = bytes[i];
    }
    *n_out = m;
    return true;
}

static void trim(const jtext *t, const char **bytes, size_t *n)
{
    size_t from, to;
    junicode_trim(t, &from, &to);
    *bytes = t->bytes + from;
    *n = to - from;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

/* Steps over 0x, 0o, 0b where the base allows them; base 0 takes it from the prefix. */
static const char *skip_prefix(const char *p, const char *end, int *base, bool *prefixed)
{
    *prefixed = false;
    if (end - p >= 2 && p[0] == '0') {
        char c = (char)(p[1] | 0x20);
        int implied = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (implied && (*base == 0 || *base == implied)) {
            *base = implied;
            *prefixed = true;
            return p + 2;
        }
    }
    return p;
}

static bool only_zeros(const char *p, const char *end)
{
    for (; p < end; p++) {
        if (*p != '0' && *p != '_') {
            return false;
        }
    }
    return true;
}

bool jnumber_parse_int(const jtext *t, int base, int64_t *out, bool *too_big)
{
    const char *p;
    size_t n;
    *too_big = false;
    trim(t, &p, &n);
    const char *end = p + n;
    bool negative = p < end && *p == '-', prefixed;
    p += p < end && (*p == '-' || *p == '+');
    bool free_base = base == 0;
    p = skip_prefix(p, end, &base, &prefixed);
    if (free_base && !prefixed) {
        base = 10;
        if (end - p > 1 && *p == '0' && !only_zeros(p, end)) {
            return false; /* 012 is not Python */
        }
    }
    if (prefixed && p < end && *p == '_') {
        p++; /* 0x_ff is */
    }
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
    bool digit_before = false;
    for (; p < end; p++) {
        if (*p == '_' && digit_before && p + 1 < end) {
            digit_before = false;
            continue;
        }
        int digit = digit_value(*p);
        if (digit >= base) {
            return false;
        }
        digit_before = true;
        if (*too_big || value > (limit - (uint64_t)digit) / (uint64_t)base) {
            *too_big = true; /* still look whether it is a number at all */
            continue;
        }
        value = value * (uint64_t)base + (uint64_t)digit;
    }
    if (!digit_before) {
        return false;
    }
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

static bool word_float(const char *p, size_t n, double *out)
{
    static const struct {
        const char *word;
        double value;
    } words[] = {{"inf", INFINITY}, {"infinity", INFINITY}, {"nan", NAN}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strlen(words[i].word) == n && strncasecmp(words[i].word, p, n) == 0) {
            *out = words[i].value;
            return true;
        }
    }
    return false;
}

static size_t count_digits(const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && p[n] >= '0' && p[n] <= '9') {
        n++;
    }
    return n;
}

/* digits[.digits][e[±]digits], at least one digit before the exponent */
static bool is_decimal(const char *p, const char *end)
{
    size_t whole = count_digits(p, end), fraction = 0;
    p += whole;
    if (p < end && *p == '.') {
        fraction = count_digits(++p, end);
        p += fraction;
    }
    if (whole + fraction == 0) {
        return false;
    }
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        size_t exponent = count_digits(p, end);
        if (exponent == 0) {
            return false;
        }
        p += exponent;
    }
    return p == end;
}

bool jnumber_parse_float(const jtext *t, double *out)
{
    const char *p;
    size_t n;
    trim(t, &p, &n);
    bool negative = n > 0 && *p == '-';
    if (n > 0 && (*p == '-' || *p == '+')) {
        p++;
        n--;
    }
    double f = 0.0;
    if (!word_float(p, n, &f)) {
        char digits[JNUMBER_DIGITS_MAX];
        size_t m;
        if (!copy_number(p, n, digits, &m) || !is_decimal(digits, digits + m)) {
            return false;
        }
        f = jnumber_read(digits, m);
    }
    *out = negative ? -f : f;
    return true;
}
