/*
 * JSON Schema compiler: strings by format and by pattern, and keys that are none of some names.
 * Owner: one compilation. Lifetime: grammar_open_schema's call.
 *
 * Patterns are the part of ECMA 262 that describes a regular language: literals, classes with \d \w \s, ( ), (?: ), |,
 * * + ? {n,m}, ^ at the beginning and $ at the end. Look-around, back-references and lazy quantifiers are refused by
 * name.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "runtime/grammar/schema_parts.h"

#define CLASS_RANGES_MAX 128u

/* ---- characters inside a JSON string
 * --------------------------------------------------------------------------------- */

/* One character out of the ranges as JSON spells it: as it is, or with its short escape. */
static uint32_t json_class(schema *s, const code_range *ranges, size_t n, bool negated)
{
    static const struct {
        uint32_t code;
        const char *escape;
    } escapes[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"},
                   {'\n', "\\n"}, {'\r', "\\r"},  {'\t', "\\t"}};
    code_range plain[2 * CLASS_RANGES_MAX + 8];
    uint32_t choices[8], n_choices = 0;
    size_t n_plain = 0;
    for (size_t e = 0; e < sizeof escapes / sizeof *escapes; e++) {
        bool in = negated;
        for (size_t i = 0; i < n; i++) {
            in = ranges[i].low <= escapes[e].code && escapes[e].code <= ranges[i].high ? !negated : in;
        }
        if (in) {
            choices[n_choices++] = schema_text(s, escapes[e].escape);
        }
    }
    if (negated) { /* what must not appear bare joins what is excluded */
        memcpy(plain, ranges, n * sizeof *plain);
        n_plain = n;
        plain[n_plain++] = (code_range){0, 0x1f};
        plain[n_plain++] = (code_range){'"', '"'};
        plain[n_plain++] = (code_range){'\\', '\\'};
    } else {
        static const code_range allowed[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}};
        for (size_t i = 0; i < n; i++) {
            for (size_t a = 0; a < 3; a++) {
                uint32_t low = ranges[i].low > allowed[a].low ? ranges[i].low : allowed[a].low;
                uint32_t high = ranges[i].high < allowed[a].high ? ranges[i].high : allowed[a].high;
                if (low <= high && n_plain < sizeof plain / sizeof *plain) {
                    plain[n_plain++] = (code_range){low, high};
                }
            }
        }
    }
    if (negated || n_plain > 0) {
        choices[n_choices++] = rules_class(s->rules, plain, n_plain, negated);
    }
    return n_choices ? rules_choice(s->rules, choices, n_choices)
                     : schema_fail(s, MLXR_FORMAT, "pattern: a class matches nothing");
}

/* ---- patterns
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct pattern {
    schema *s;
    const char *begin, *at, *end;
    uint32_t depth;
} pattern;

static uint32_t pattern_fail(pattern *p, const char *what)
{
    return schema_fail(p->s, MLXR_UNSUPPORTED, "pattern, character %zu: %s", (size_t)(p->at - p->begin) + 1, what);
}

static bool failed(const pattern *p)
{
    return p->s->status != MLXR_OK;
}

static bool next_is(const pattern *p, char c)
{
    return p->at < p->end && *p->at == c;
}

static const code_range digit_ranges[] = {{'0', '9'}};
static const code_range word_ranges[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const code_range space_ranges[] = {{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                                          {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                                          {0x3000, 0x3000}, {0xfeff, 0xfeff}};

/* Ranges of \d, \w, \s; 0 for another letter. Capitals negate. */
static size_t class_escape(char c, const code_range **ranges, bool *negated)
{
    *negated = c == 'D' || c == 'W' || c == 'S';
    switch (c) {
    case 'd':
    case 'D':
        *ranges = digit_ranges;
        return 1;
    case 'w':
    case 'W':
        *ranges = word_ranges;
        return 4;
    case 's':
    case 'S':
        *ranges = space_ranges;
        return 10;
    default:
        return 0;
    }
}

/* The character behind a backslash (p->at on it). */
static uint32_t escaped_char(pattern *p)
{
    char c = p->at < p->end ? *p->at++ : 0;
    int n_digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    uint32_t code = 0;
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'f':
        return '\f';
    case 'v':
        return '\v';
    case '0':
        return 0;
    default:
        break;
    }
    for (int i = 0; i < n_digits; i++) {
        static const char hex[] = "0123456789abcdef";
        char lower = p->at < p->end ? (char)(*p->at | 0x20) : 0;
        const char *digit = lower ? memchr(hex, p->at[0] <= '9' ? *p->at : lower, 16) : NULL;
        if (!digit) {
            return pattern_fail(p, "expected a hexadecimal digit");
        }
        code = code << 4 | (uint32_t)(digit - hex);
        p->at++;
    }
    if (n_digits) {
        return code;
    }
    if ((c >= '1' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == 0) {
        p->at -= c != 0;
        return pattern_fail(p, "this escape is not supported (back-references, \\b, \\p and the like)");
    }
    return (uint8_t)c;
}

static uint32_t plain_char(pattern *p)
{
    uint32_t code = 0;
    size_t n = utf8_decode(p->at, (size_t)(p->end - p->at), &code);
    p->at += n ? n : 1;
    return n ? code : pattern_fail(p, "invalid UTF-8");
}

static uint32_t pattern_class(pattern *p)
{
    code_range ranges[CLASS_RANGES_MAX];
    size_t n = 0;
    bool negated = next_is(p, '^');
    p->at += negated;
    while (!failed(p) && p->at < p->end && *p->at != ']') {
        const code_range *set;
        bool set_negated;
        size_t n_set = *p->at == '\\' && p->at + 1 < p->end ? class_escape(p->at[1], &set, &set_negated) : 0;
        if (n + 10 > CLASS_RANGES_MAX || (n_set && set_negated)) {
            return pattern_fail(p, n_set && set_negated ? "\\D, \\W and \\S inside a class are not supported"
                                                        : "class is too long");
        }
        if (n_set) {
            memcpy(ranges + n, set, n_set * sizeof *set);
            n += n_set;
            p->at += 2;
            continue;
        }
        code_range range;
        bool escape = *p->at == '\\';
        p->at += escape;
        range.low = range.high = escape ? escaped_char(p) : plain_char(p);
        if (p->at + 1 < p->end && *p->at == '-' && p->at[1] != ']') {
            p->at++;
            escape = *p->at == '\\';
            p->at += escape;
            range.high = escape ? escaped_char(p) : plain_char(p);
        }
        if (range.high < range.low) {
            return pattern_fail(p, "range of characters runs backwards");
        }
        ranges[n++] = range;
    }
    if (!next_is(p, ']')) {
        return pattern_fail(p, "class is not closed by ]");
    }
    p->at++;
    return failed(p) ? RULES_NONE : json_class(p->s, ranges, n, negated);
}

static uint32_t pattern_choice(pattern *p);

static uint32_t pattern_atom(pattern *p)
{
    static const code_range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    if (next_is(p, '(')) {
        p->at++;
        if (next_is(p, '?')) {
            if (p->at + 1 >= p->end || p->at[1] != ':') {
                return pattern_fail(p, "look-around and named groups are not supported");
            }
            p->at += 2;
        }
        if (++p->depth > SCHEMA_DEPTH_MAX) {
            return pattern_fail(p, "groups nest deeper than 64");
        }
        uint32_t made = pattern_choice(p);
        p->depth--;
        if (!next_is(p, ')')) {
            return pattern_fail(p, "( is not closed by )");
        }
        p->at++;
        return made;
    }
    if (next_is(p, '[')) {
        p->at++;
        return pattern_class(p);
    }
    if (next_is(p, '.')) {
        p->at++;
        return json_class(p->s, line_ends, 3, true);
    }
    if (next_is(p, '^') || next_is(p, '$') || next_is(p, '*') || next_is(p, '+') || next_is(p, '?') ||
        next_is(p, '{')) {
        return pattern_fail(p, "this character has no meaning here; write \\ before it if it is meant");
    }
    code_range one = {0, 0};
    if (next_is(p, '\\')) {
        const code_range *set;
        bool negated;
        size_t n_set = p->at + 1 < p->end ? class_escape(p->at[1], &set, &negated) : 0;
        if (n_set) {
            p->at += 2;
            return json_class(p->s, set, n_set, negated);
        }
        p->at++;
        one.low = one.high = escaped_char(p);
    } else {
        one.low = one.high = plain_char(p);
    }
    return failed(p) ? RULES_NONE : json_class(p->s, &one, 1, false);
}

static bool pattern_number(pattern *p, uint32_t *out)
{
    uint32_t value = 0;
    const char *first = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9' && value <= RULES_REPEAT_MAX) {
        value = value * 10 + (uint32_t)(*p->at++ - '0');
    }
    *out = value;
    return p->at > first && value <= RULES_REPEAT_MAX;
}

static uint32_t pattern_item(pattern *p)
{
    uint32_t item = pattern_atom(p), least = 1, most = 1;
    if (failed(p) || p->at >= p->end) {
        return item;
    }
    char c = *p->at;
    if (c == '*' || c == '+' || c == '?') {
        p->at++;
        least = c == '+';
        most = c == '?' ? 1 : RULES_NONE;
    } else if (c == '{') {
        p->at++;
        bool ok = pattern_number(p, &least);
        most = least;
        if (ok && next_is(p, ',')) {
            p->at++;
            most = RULES_NONE;
            ok = next_is(p, '}') || pattern_number(p, &most);
        }
        if (!ok || !next_is(p, '}') || most < least) {
            return pattern_fail(p, "expected {n}, {n,} or {n,m} with numbers up to 2000");
        }
        p->at++;
    } else {
        return item;
    }
    if (next_is(p, '?') || next_is(p, '+') || next_is(p, '*')) {
        return pattern_fail(p, "lazy and possessive quantifiers are not supported");
    }
    return rules_repeat(p->s->rules, item, least, most);
}

static uint32_t pattern_sequence(pattern *p)
{
    uint32_t made = schema_text(p->s, "");
    while (!failed(p) && p->at < p->end && *p->at != '|' && *p->at != ')') {
        if (*p->at == '$' && p->at + 1 == p->end) {
            break;
        }
        uint32_t pair[] = {made, pattern_item(p)};
        made = failed(p) ? RULES_NONE : rules_sequence(p->s->rules, pair, 2);
    }
    return made;
}

static uint32_t pattern_choice(pattern *p)
{
    uint32_t made = pattern_sequence(p);
    while (!failed(p) && next_is(p, '|')) {
        p->at++;
        uint32_t pair[] = {made, pattern_sequence(p)};
        made = failed(p) ? RULES_NONE : rules_choice(p->s->rules, pair, 2);
    }
    return made;
}

uint32_t schema_pattern(schema *s, const char *text)
{
    size_t n = strlen(text);
    bool from_start = n > 0 && text[0] == '^';
    bool to_end = n > 0 && text[n - 1] == '$' && !(n > 1 && text[n - 2] == '\\');
    pattern p = {.s = s, .begin = text, .at = text + from_start, .end = text + n - to_end};
    if (p.at > p.end) {
        p.end = p.at;
    }
    if ((from_start || to_end) && strchr(text, '|') && !(strchr(text, '('))) {
        return schema_fail(s, MLXR_UNSUPPORTED, "pattern: put ( ) around alternatives beside ^ or $");
    }
    uint32_t body = pattern_choice(&p);
    if (!failed(&p) && p.at < p.end) {
        return pattern_fail(&p, "unexpected character");
    }
    if (failed(&p)) {
        return RULES_NONE;
    }
    uint32_t any = from_start && to_end ? RULES_NONE : rules_repeat(s->rules, schema_string_char(s), 0, RULES_NONE);
    uint32_t parts[3], n_parts = 0;
    if (!from_start) {
        parts[n_parts++] = any;
    }
    parts[n_parts++] = body;
    if (!to_end) {
        parts[n_parts++] = any;
    }
    return rules_sequence(s->rules, parts, n_parts);
}

uint32_t schema_format(schema *s, const char *name)
{
/* Days that their months have; 29 February in leap years only. There is no year 0000. */
#define YEAR "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
#define LEAP "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DAY                                                                                                            \
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"                          \
    "02-(?:0[1-9]|1[0-9]|2[0-8]))"
#define DATE "(?:" YEAR "-" DAY "|" LEAP "-02-29)"
#define TIME "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define LABEL "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    static const struct {
        const char *name, *pattern;
    } formats[] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"duration",
         "^P(?:[0-9]{1,9}W|(?:[0-9]{1,9}Y)?(?:[0-9]{1,9}M)?[0-9]{1,9}D|T(?:[0-9]{1,9}H)?(?:[0-9]{1,9}M)?[0-9]{1,9}S)$"},
        {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
        {"ipv4", "^" OCTET "(?:\\." OCTET "){3}$"},
        {"ipv6", "^(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}$"},
        {"hostname", "^" LABEL "(?:\\." LABEL "){0,8}$"},
        {"email", "^[a-zA-Z0-9_+-]+(?:\\.[a-zA-Z0-9_+-]+){0,8}@" LABEL "(?:\\." LABEL "){1,8}$"},
    };
#undef YEAR
#undef LEAP
#undef DAY
#undef DATE
#undef TIME
#undef OCTET
#undef LABEL
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            return schema_pattern(s, formats[i].pattern);
        }
    }
    return schema_fail(s, MLXR_UNSUPPORTED,
                       "format '%.40s' (known: date, time, date-time, duration, uuid, ipv4, ipv6, hostname, email)",
                       name);
}

/* ---- keys that are none of some names
 * ------------------------------------------------------------------------------------- */

/* Rest of a key behind `depth` bytes on which names[0 … n) agree: it must leave each name's path or stop short of it.
 */
static uint32_t other_rest(schema *s, const char *const *names, size_t n, size_t depth)
{
    rules *r = s->rules;
    uint32_t made = rules_add(r, NULL, 0);
    uint32_t quote = schema_text(s, "\"");
    static const code_range plain[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x7f}};
    bool follows[256] = {false}, ends = false;
    for (size_t i = 0; i < n; i++) {
        ends = ends || names[i][depth] == 0;
        follows[(uint8_t)names[i][depth]] = true;
    }
    if (!ends) {
        element use = rules_use(quote);
        rules_alternative(r, made, &use, 1);
    }
    code_range leaving[140];
    size_t n_leaving = 0;
    for (size_t i = 0; i < 3; i++) { /* ASCII only: a name's path is left at a byte, and a byte must be a character */
        for (uint32_t c = plain[i].low; c <= plain[i].high; c++) {
            if (!follows[c]) {
                leaving[n_leaving++] = (code_range){c, c};
            }
        }
    }
    uint32_t any = rules_repeat(
        r, rules_class(r, (const code_range[]){{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}}, 3, false), 0, RULES_NONE);
    uint32_t out[] = {rules_class(r, leaving, n_leaving, false), any, quote};
    element leave = rules_use(rules_sequence(r, out, 3));
    rules_alternative(r, made, &leave, 1);
    for (uint32_t c = 1; c < 256 && depth < 256; c++) {
        if (!follows[c]) {
            continue;
        }
        const char **longer = malloc(n * sizeof *longer);
        size_t n_longer = 0;
        for (size_t i = 0; longer && i < n; i++) {
            if ((uint8_t)names[i][depth] == c) {
                longer[n_longer++] = names[i];
            }
        }
        char byte = (char)c;
        element path[] = {rules_use(rules_literal(r, &byte, 1)),
                          rules_use(longer ? other_rest(s, longer, n_longer, depth + 1) : RULES_NONE)};
        rules_alternative(r, made, path, 2);
        free(longer);
    }
    return made;
}

uint32_t schema_other_key(schema *s, const char *const *names, size_t n)
{
    if (n == 0) {
        return schema_any_string(s);
    }
    uint32_t parts[] = {schema_text(s, "\""), other_rest(s, names, n, 0)};
    return rules_sequence(s->rules, parts, 2);
}
