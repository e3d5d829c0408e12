/*
 * JSON Schema compiler: numbers within bounds, digit by digit.
 * Owner: one compilation. Lifetime: grammar_open_schema's call.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/grammar/schema_parts.h"

#define FREE_DIGITS_MAX 18u

typedef struct bounds {
    bool has_low, has_high;
    bool open_low, open_high; /* exclusive */
    int64_t low, high;
} bounds;

static uint32_t digits(schema *s, char low, char high)
{
    return rules_class(s->rules, &(code_range){(uint8_t)low, (uint8_t)high}, 1, false);
}

static uint32_t any_digits(schema *s, uint32_t least, uint32_t most)
{
    return rules_repeat(s->rules, digits(s, '0', '9'), least, most);
}

/* Digit strings from low[0 … n) to high[0 … n), of equal length. */
static uint32_t same_length(schema *s, const char *low, const char *high, uint32_t n)
{
    static const char zeros[] = "0000000000000000000", nines[] = "9999999999999999999";
    rules *r = s->rules;
    if (n == 0) {
        return schema_text(s, "");
    }
    if (*low == *high) {
        uint32_t parts[] = {digits(s, *low, *low), same_length(s, low + 1, high + 1, n - 1)};
        return rules_sequence(r, parts, 2);
    }
    uint32_t choices[3], n_choices = 0;
    bool low_free = strncmp(low + 1, zeros, n - 1) == 0, high_free = strncmp(high + 1, nines, n - 1) == 0;
    char from = low_free ? *low : (char)(*low + 1), to = high_free ? *high : (char)(*high - 1);
    if (!low_free) {
        uint32_t parts[] = {digits(s, *low, *low), same_length(s, low + 1, nines, n - 1)};
        choices[n_choices++] = rules_sequence(r, parts, 2);
    }
    if (from <= to) {
        uint32_t parts[] = {digits(s, from, to), any_digits(s, n - 1, n - 1)};
        choices[n_choices++] = rules_sequence(r, parts, 2);
    }
    if (!high_free) {
        uint32_t parts[] = {digits(s, *high, *high), same_length(s, zeros, high + 1, n - 1)};
        choices[n_choices++] = rules_sequence(r, parts, 2);
    }
    return rules_choice(r, choices, n_choices);
}

/* Whole numbers from low on, to high where has_high, without sign and without leading zeros. */
static uint32_t magnitudes(schema *s, uint64_t low, uint64_t high, bool has_high)
{
    uint32_t choices[24], n_choices = 0;
    char from[24], to[24];
    uint32_t n_low = (uint32_t)snprintf(from, sizeof from, "%" PRIu64, low);
    uint32_t n_high = has_high ? (uint32_t)snprintf(to, sizeof to, "%" PRIu64, high) : FREE_DIGITS_MAX;
    n_high = n_high < n_low ? n_low : n_high;
    for (uint32_t n = n_low; n <= n_high; n++) {
        char a[24], b[24];
        memset(a, '0', sizeof a);
        memset(b, '9', sizeof b);
        a[0] = '1';
        choices[n_choices++] = same_length(s, n == n_low ? from : a, has_high && n == n_high ? to : b, n);
    }
    return rules_choice(s->rules, choices, n_choices);
}

/* "." digits, optional; `zero` : only zeros; `positive`: at least one digit above 0 (then not optional) */
static uint32_t fraction(schema *s, bool zero, bool positive)
{
    rules *r = s->rules;
    uint32_t dot = schema_text(s, ".");
    if (positive) {
        uint32_t parts[] = {dot, rules_repeat(r, digits(s, '0', '0'), 0, 8), digits(s, '1', '9'), any_digits(s, 0, 8)};
        return rules_sequence(r, parts, 4);
    }
    uint32_t parts[] = {dot, rules_repeat(r, zero ? digits(s, '0', '0') : digits(s, '0', '9'), 1, 17)};
    return rules_optional(r, rules_sequence(r, parts, 2));
}

/* Numbers x with low ≤ x ≤ high (open ends exclude themselves), low ≥ 0, no sign. RULES_NONE: there are none. */
static uint32_t unsigned_range(schema *s, uint64_t low, bool open_low, uint64_t high, bool open_high, bool has_high,
                               bool integer)
{
    rules *r = s->rules;
    uint32_t choices[3], n = 0;
    if (integer) {
        low += open_low;
        if (has_high && (open_high ? high == 0 || low > high - 1 : low > high)) {
            return RULES_NONE;
        }
        return magnitudes(s, low, high - (has_high && open_high), has_high);
    }
    if (has_high && (low > high || (low == high && (open_low || open_high)))) {
        return RULES_NONE;
    }
    if (has_high && low == high) {
        uint32_t parts[] = {magnitudes(s, low, low, true), fraction(s, true, false)};
        return rules_sequence(r, parts, 2);
    }
    if (open_low) {
        uint32_t parts[] = {magnitudes(s, low, low, true), fraction(s, false, true)};
        choices[n++] = rules_sequence(r, parts, 2);
    }
    uint64_t first = low + open_low;
    if (!has_high || first < high) { /* whole parts that leave the fraction free */
        uint32_t parts[] = {magnitudes(s, first, high - has_high, has_high), fraction(s, false, false)};
        choices[n++] = rules_sequence(r, parts, 2);
    }
    if (has_high && !open_high) {
        uint32_t parts[] = {magnitudes(s, high, high, true), fraction(s, true, false)};
        choices[n++] = rules_sequence(r, parts, 2);
    }
    return rules_choice(r, choices, n);
}

static void read_bound(schema *s, const json_t *at, const char *key, bool integer, bool is_low, bool open, bounds *b)
{
    const json_t *value = json_object_get(at, key);
    if (!value) {
        return;
    }
    double number = json_number_value(value);
    if (!json_is_number(value) || fabs(number) > 1e15) {
        schema_fail(s, MLXR_FORMAT, "'%s' must be a number within ±10^15", key);
        return;
    }
    int64_t whole = (int64_t)(is_low ? ceil(number) : floor(number));
    if ((double)whole != number) {
        if (!integer) {
            schema_fail(s, MLXR_UNSUPPORTED, "'%s' of a number must be whole, not %g", key, number);
            return;
        }
        open = false; /* an integer above 1.5 is one from 2 on */
    }
    if (is_low) {
        bool tighter = !b->has_low || whole > b->low || (whole == b->low && open);
        *b = tighter ? (bounds){true, b->has_high, open, b->open_high, whole, b->high} : *b;
    } else {
        bool tighter = !b->has_high || whole < b->high || (whole == b->high && open);
        *b = tighter ? (bounds){b->has_low, true, b->open_low, open, b->low, whole} : *b;
    }
}

uint32_t schema_bounded_number(schema *s, const json_t *at, bool integer)
{
    bounds b = {0};
    read_bound(s, at, "minimum", integer, true, false, &b);
    read_bound(s, at, "exclusiveMinimum", integer, true, true, &b);
    read_bound(s, at, "maximum", integer, false, false, &b);
    read_bound(s, at, "exclusiveMaximum", integer, false, true, &b);
    if (s->status != MLXR_OK) {
        return RULES_NONE;
    }
    if (!b.has_low && !b.has_high) {
        return integer ? schema_any_integer(s) : schema_any_number(s);
    }
    uint32_t choices[2], n = 0;
    if (!b.has_low || b.low < 0) { /* below zero: magnitudes above 0, mirrored */
        bool below = b.has_high && b.high < 0;
        uint64_t from = below ? (uint64_t)-b.high : 0;
        bool open_from = below ? b.open_high : true;
        uint32_t magnitude = unsigned_range(s, from, open_from, b.has_low ? (uint64_t)-b.low : 0, b.open_low, b.has_low,
                                            integer);
        if (magnitude != RULES_NONE) {
            uint32_t parts[] = {schema_text(s, "-"), magnitude};
            choices[n++] = rules_sequence(s->rules, parts, 2);
        }
    }
    if (!b.has_high || b.high >= 0) {
        bool above = b.has_low && b.low >= 0;
        uint32_t magnitude = unsigned_range(s, above ? (uint64_t)b.low : 0, above && b.open_low,
                                            b.has_high ? (uint64_t)b.high : 0, b.open_high, b.has_high, integer);
        if (magnitude != RULES_NONE) {
            choices[n++] = magnitude;
        }
    }
    return n ? rules_choice(s->rules, choices, n) : schema_fail(s, MLXR_FORMAT, "no number lies within its bounds");
}
