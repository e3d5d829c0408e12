/*
 * GBNF: the grammar notation of the llama.cpp world.
 * Owner: none. Lifetime: the call.
 *
 *   rule     name ::= choice            a rule ends with its line; inside ( ) and after | lines may go on
 *   choice   sequence | sequence …
 *   item     "text"  [a-z0-9]  [^"]  .  name  ( choice )      with * + ? {n} {n,} {n,m} behind it
 *   escapes  \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH       in texts and classes
 *   # comment to the end of the line
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"
#include "runtime/grammar/grammar.h"
#include "runtime/grammar/place.h"

#define NESTING_MAX 64u
#define CLASS_RANGES_MAX 1024u
#define TEXT_BYTES_MAX ((size_t)4 << 20)

typedef struct parser {
    const char *text, *at, *end;
    rules *rules;
    uint32_t depth;
    mlxr_status status;
    mlxr_error *error;
} parser;

static void fail(parser *p, const char *what)
{
    if (p->status != MLXR_OK) {
        return;
    }
    place at = place_of(p->text, (size_t)(p->at - p->text));
    p->status = error_set(p->error, MLXR_FORMAT, "grammar, line %zu, column %zu: %s", at.line, at.column, what);
}

/* The rule of this name in the text, made where it is met first: that is the place messages about it give. */
static uint32_t named_rule(parser *p, const char *name, size_t n)
{
    uint32_t index = rules_find(p->rules, name, n);
    if (index == RULES_NONE) {
        index = rules_add(p->rules, name, n);
        if (index != RULES_NONE) {
            p->rules->list[index].at = (size_t)(name - p->text);
        }
    }
    return index;
}

static bool at_end(const parser *p)
{
    return p->status != MLXR_OK || p->at >= p->end;
}

static char peek(const parser *p)
{
    return p->at < p->end ? *p->at : 0;
}

static void skip_space(parser *p, bool lines)
{
    while (p->at < p->end) {
        char c = *p->at;
        if (c == '#') {
            while (p->at < p->end && *p->at != '\n') {
                p->at++;
            }
        } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
            p->at++;
        } else {
            break;
        }
    }
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static uint32_t parse_hex(parser *p, int n_digits)
{
    uint32_t value = 0;
    for (int i = 0; i < n_digits; i++) {
        char c = peek(p);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            fail(p, "expected a hexadecimal digit");
            return 0;
        }
        value = value << 4 | (uint32_t)digit;
        p->at++;
    }
    return value;
}

/* One character of a text or class, escapes resolved. *raw_byte: it was \xHH and stands for a byte. */
static uint32_t parse_char(parser *p, bool *raw_byte)
{
    uint32_t code = 0;
    *raw_byte = false;
    if (peek(p) != '\\') {
        size_t n = utf8_decode(p->at, (size_t)(p->end - p->at), &code);
        if (n == 0) {
            fail(p, "invalid UTF-8");
        }
        p->at += n;
        return code;
    }
    p->at++;
    char c = peek(p);
    p->at += p->at < p->end;
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
    case '^':
    case '/':
        return (uint32_t)c;
    case 'x':
        *raw_byte = true;
        return parse_hex(p, 2);
    case 'u':
        code = parse_hex(p, 4);
        break;
    case 'U':
        code = parse_hex(p, 8);
        break;
    default:
        fail(p, "unknown escape");
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        fail(p, "escape is not a character");
    }
    return code;
}

static uint32_t parse_text(parser *p)
{
    char *bytes = malloc((size_t)(p->end - p->at) + 4);
    size_t n = 0;
    p->at++;
    while (bytes && !at_end(p) && *p->at != '"' && *p->at != '\n') {
        bool raw;
        uint32_t code = parse_char(p, &raw);
        if (raw) {
            bytes[n++] = (char)code;
        } else {
            n += utf8_encode(code, bytes + n);
        }
    }
    uint32_t made = bytes ? rules_literal(p->rules, bytes, n) : RULES_NONE;
    if (!bytes) {
        p->rules->failed = true;
    }
    free(bytes);
    if (peek(p) != '"') {
        fail(p, "text is not closed by \"");
    }
    p->at += p->at < p->end;
    return made;
}

static uint32_t parse_class(parser *p)
{
    code_range ranges[CLASS_RANGES_MAX];
    size_t n = 0;
    bool raw, negated = false;
    p->at++;
    if (peek(p) == '^') {
        negated = true;
        p->at++;
    }
    while (!at_end(p) && *p->at != ']' && *p->at != '\n') {
        code_range range;
        range.low = range.high = parse_char(p, &raw);
        if (peek(p) == '-' && p->at + 1 < p->end && p->at[1] != ']') {
            p->at++;
            range.high = parse_char(p, &raw);
        }
        if (range.high < range.low) {
            fail(p, "range of characters runs backwards");
        }
        if (n == CLASS_RANGES_MAX) {
            fail(p, "more than 1024 ranges in a class");
            break;
        }
        ranges[n++] = range;
    }
    if (peek(p) != ']') {
        fail(p, "class is not closed by ]");
    }
    p->at += p->at < p->end;
    return rules_class(p->rules, ranges, n, negated);
}

static uint32_t parse_count(parser *p)
{
    uint32_t value = 0;
    if (peek(p) < '0' || peek(p) > '9') {
        fail(p, "expected a number");
    }
    while (peek(p) >= '0' && peek(p) <= '9') {
        value = value * 10 + (uint32_t)(*p->at++ - '0');
        if (value > RULES_REPEAT_MAX) {
            fail(p, "repetition above 2000");
            return 0;
        }
    }
    return value;
}

static uint32_t parse_repetition(parser *p, uint32_t item)
{
    char c = peek(p);
    uint32_t least = 0, most = RULES_NONE;
    if (c == '*' || c == '+' || c == '?') {
        p->at++;
        least = c == '+';
        most = c == '?' ? 1 : RULES_NONE;
    } else if (c == '{') {
        p->at++;
        skip_space(p, false);
        least = most = parse_count(p);
        skip_space(p, false);
        if (peek(p) == ',') {
            p->at++;
            skip_space(p, false);
            most = peek(p) == '}' ? RULES_NONE : parse_count(p);
            skip_space(p, false);
        }
        if (peek(p) != '}') {
            fail(p, "repetition is not closed by }");
        } else if (most < least) {
            fail(p, "repetition runs backwards");
        }
        p->at += p->at < p->end;
    } else {
        return item;
    }
    return p->status == MLXR_OK ? rules_repeat(p->rules, item, least, most) : item;
}

static uint32_t parse_choice(parser *p, bool nested);

static uint32_t parse_item(parser *p)
{
    char c = peek(p);
    if (c == '"') {
        return parse_text(p);
    }
    if (c == '[') {
        return parse_class(p);
    }
    if (c == '.') {
        p->at++;
        return rules_class(p->rules, NULL, 0, true);
    }
    if (c == '(') {
        if (++p->depth > NESTING_MAX) {
            fail(p, "more than 64 nested parentheses");
            return RULES_NONE;
        }
        p->at++;
        uint32_t made = parse_choice(p, true);
        if (peek(p) != ')') {
            fail(p, "( is not closed by )");
        }
        p->at += p->at < p->end;
        p->depth--;
        return made;
    }
    if (is_name(c)) {
        const char *name = p->at;
        while (p->at < p->end && is_name(*p->at)) {
            p->at++;
        }
        size_t n = (size_t)(p->at - name);
        return named_rule(p, name, n);
    }
    fail(p, "expected a text, a class, a rule name or (");
    return RULES_NONE;
}

/* Does another item follow, on this line or, inside parentheses, on a later one? */
static bool more_items(parser *p, bool nested)
{
    skip_space(p, nested);
    char c = peek(p);
    return !at_end(p) && c != '|' && c != ')' && c != '\n' && c != '\r' && c != 0;
}

static void parse_sequence(parser *p, uint32_t into, bool nested)
{
    element *sequence = NULL;
    uint32_t n = 0, cap = 0;
    while (more_items(p, nested)) {
        if (n == cap) {
            cap = cap ? cap * 2 : 8;
            element *grown = realloc(sequence, cap * sizeof *sequence);
            if (!grown) {
                p->rules->failed = true;
                break;
            }
            sequence = grown;
        }
        uint32_t item = parse_item(p);
        if (p->status != MLXR_OK) {
            break;
        }
        sequence[n++] = rules_use(parse_repetition(p, item));
    }
    if (p->status == MLXR_OK) {
        rules_alternative(p->rules, into, sequence, n);
    }
    free(sequence);
}

static void parse_choices(parser *p, uint32_t into, bool nested)
{
    parse_sequence(p, into, nested);
    while (!at_end(p) && peek(p) == '|') {
        p->at++;
        skip_space(p, true);
        parse_sequence(p, into, nested);
    }
}

static uint32_t parse_choice(parser *p, bool nested)
{
    uint32_t made = rules_add(p->rules, NULL, 0);
    parse_choices(p, made, nested);
    return made;
}

static void parse_rule(parser *p)
{
    const char *name = p->at;
    while (p->at < p->end && is_name(*p->at)) {
        p->at++;
    }
    size_t n = (size_t)(p->at - name);
    if (n == 0) {
        fail(p, "expected a rule name");
        return;
    }
    skip_space(p, false);
    if (p->end - p->at < 3 || memcmp(p->at, "::=", 3) != 0) {
        fail(p, "expected ::=");
        return;
    }
    uint32_t index = named_rule(p, name, n);
    if (index != RULES_NONE && p->rules->list[index].n_alternatives > 0) {
        p->at = name;
        fail(p, "rule is defined twice");
        return;
    }
    p->at += 3;
    skip_space(p, true);
    parse_choices(p, index, false);
    skip_space(p, false);
    if (!at_end(p) && peek(p) != '\n' && peek(p) != '\r') {
        fail(p, "unexpected character");
    }
}

mlxr_status grammar_open_gbnf(grammar **out, const char *text, size_t n, const token_trie *trie, mlxr_error *error)
{
    if (n > TEXT_BYTES_MAX) {
        return error_set(error, MLXR_LIMIT, "grammar of %zu bytes; at most %zu are taken", n, TEXT_BYTES_MAX);
    }
    rules made = {.text = text};
    parser p = {.text = text, .at = text, .end = text + n, .rules = &made, .error = error};
    skip_space(&p, true);
    while (!at_end(&p)) {
        parse_rule(&p);
        skip_space(&p, true);
    }
    uint32_t root = rules_find(&made, "root", 4);
    if (p.status == MLXR_OK && root == RULES_NONE) {
        p.status = error_set(error, MLXR_FORMAT, "grammar has no rule named 'root'");
    }
    if (p.status != MLXR_OK) {
        rules_close(&made);
        return p.status;
    }
    return grammar_open(out, &made, root, trie, error);
}
