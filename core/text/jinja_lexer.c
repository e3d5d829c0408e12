/*
 * Cuts a template into tokens: text between tags (with Jinja's rules on white space around tags), and the tokens of
 * expressions inside them.
 * Owner: jcompile. Lifetime: that call.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_parse.h"
#include "text/jinja_unicode.h"

bool jparse_fail_at(jparser *p, uint32_t line, size_t at, const char *format, ...)
{
    char text[400];
    va_list args;
    if (p->run.status != MLXR_OK) {
        return false;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t end = at < p->n ? at : p->n, start = end, column = 1;
    while (start > 0 && p->source[start - 1] != '\n') {
        start--;
    }
    for (size_t i = start; i < end; i++) {
        column += ((unsigned char)p->source[i] & 0xc0) != 0x80;
    }
    p->run.status = MLXR_FORMAT;
    error_set(p->run.error, MLXR_FORMAT, "chat template, line %u, column %zu: %s", (unsigned)line, column, text);
    return false;
}

const jtext *jparse_text(jparser *p, const char *bytes, size_t n)
{
    jtext *t = jtext_view(&p->run, bytes, n);
    if (!t) {
        return NULL;
    }
    jtext_count(t);
    jtext_hash(t);
    const jentry *known = jdict_get(p->texts, t);
    if (known) {
        return known->key.as.text;
    }
    return jdict_set_text(&p->run, p->texts, t, JVALUE_NONE) ? t : NULL;
}

/* Moves to `to`, counting lines. */
static void move(jparser *p, size_t to)
{
    for (; p->at < to; p->at++) {
        p->line += p->source[p->at] == '\n';
    }
    p->line_starting = to > 0 && p->source[to - 1] == '\n';
}

static bool starts(const jparser *p, size_t at, const char *text)
{
    size_t n = strlen(text);
    return at <= p->n && p->n - at >= n && memcmp(p->source + at, text, n) == 0;
}

static size_t skip_space(const jparser *p, size_t at)
{
    for (size_t used; (used = junicode_space_at(p->source, p->n, at)) > 0;) {
        at += used;
    }
    return at;
}

/* Where a closing "%}", "}}" or "#}" (with an optional sign before it) at `at` ends, the white space it swallows
 * included; 0 if there is none. Only blocks and comments swallow the line break behind them. */
static size_t closing(const jparser *p, size_t at, const char *mark)
{
    if (starts(p, at, mark)) {
        at += 2;
        return at + (mark[0] != '}' && at < p->n && p->source[at] == '\n');
    }
    if (at < p->n && p->source[at] == '-' && starts(p, at + 1, mark)) {
        return skip_space(p, at + 3);
    }
    return mark[0] != '}' && at < p->n && p->source[at] == '+' && starts(p, at + 1, mark) ? at + 3 : 0;
}

/* If a raw tag opens at `at`, the place behind it. */
static size_t raw_opening(const jparser *p, size_t at)
{
    at += 2;
    at += at < p->n && (p->source[at] == '-' || p->source[at] == '+');
    at = skip_space(p, at);
    if (!starts(p, at, "raw")) {
        return 0;
    }
    at = skip_space(p, at + 3);
    if (starts(p, at, "%}")) {
        return at + 2;
    }
    return starts(p, at, "-%}") ? skip_space(p, at + 3) : 0;
}

/* How much of text [from, to) is left before a tag with this sign. */
static size_t strip_before(const jparser *p, size_t from, size_t to, char sign, bool is_variable)
{
    if (sign == '-') {
        for (size_t used; (used = junicode_space_before(p->source + from, to - from)) > 0;) {
            to -= used;
        }
        return to;
    }
    if (sign == '+' || is_variable) {
        return to;
    }
    size_t start = to;
    while (start > from && p->source[start - 1] != '\n') {
        start--;
    }
    if (start == from && !p->line_starting) {
        return to;
    }
    return skip_space(p, start) >= to ? start : to;
}

static bool data_token(jparser *p, size_t from, size_t to, jtoken *out)
{
    const jtext *t = jparse_text(p, p->source + from, to - from);
    out->type = JTOK_DATA;
    out->value = jvalue_text(t);
    return t != NULL;
}

/* Text up to the next tag. Leaves what tag it was in p->pending; the token is EOF when there was no text. */
static bool lex_data(jparser *p, jtoken *out)
{
    size_t from = p->at, at = from;
    char tag = 0;
    for (;; at++) {
        const char *brace = memchr(p->source + at, '{', p->n - at);
        at = brace ? (size_t)(brace - p->source) : p->n;
        if (at + 1 >= p->n) {
            at = p->n;
            break;
        }
        tag = p->source[at + 1];
        if (tag == '%' || tag == '{' || tag == '#') {
            break;
        }
        tag = 0;
    }
    size_t behind = at, end = at;
    if (tag) {
        char sign = at + 2 < p->n ? p->source[at + 2] : 0;
        sign = sign == '-' || sign == '+' ? sign : 0;
        size_t raw = tag == '%' ? raw_opening(p, at) : 0;
        behind = raw ? raw : at + 2 + (sign != 0);
        tag = raw ? 'r' : tag;
        end = strip_before(p, from, at, sign, tag == '{');
    }
    p->pending = tag;
    p->pending_at = behind;
    if (end > from && !data_token(p, from, end, out)) {
        return false;
    }
    move(p, at);
    return true;
}

static bool skip_comment(jparser *p)
{
    for (size_t at = p->at; at < p->n; at++) {
        size_t end = closing(p, at, "#}");
        if (end) {
            move(p, end);
            return true;
        }
    }
    /* Jinja lets a comment or raw block stay open where nothing at all follows it. */
    if (p->at < p->n) {
        return jparse_fail_at(p, p->line, p->at, "a comment is not closed by '#}'");
    }
    return true;
}

/* The text of a raw block, whose opening was just passed. */
static bool lex_raw(jparser *p, jtoken *out)
{
    size_t from = p->at;
    for (size_t at = from; at + 1 < p->n; at++) {
        if (!starts(p, at, "{%")) {
            continue;
        }
        size_t inner = at + 2;
        char sign = inner < p->n && (p->source[inner] == '-' || p->source[inner] == '+') ? p->source[inner] : 0;
        inner = skip_space(p, inner + (sign != 0));
        if (!starts(p, inner, "endraw")) {
            continue;
        }
        size_t end = closing(p, skip_space(p, inner + 6), "%}");
        if (!end) {
            continue;
        }
        size_t stop = strip_before(p, from, at, sign, false);
        if (stop > from && !data_token(p, from, stop, out)) {
            return false;
        }
        move(p, end);
        return true;
    }
    if (p->at < p->n) { /* as with comments */
        return jparse_fail_at(p, p->line, p->at, "a raw block is not closed by endraw");
    }
    return true;
}

/* Text, or the opening of a tag. */
static bool lex_root(jparser *p, jtoken *out)
{
    while (out->type == JTOK_EOF) {
        char tag = p->pending;
        p->pending = 0;
        out->line = p->line;
        out->at = p->at;
        if (tag) {
            move(p, p->pending_at);
        }
        switch (tag) {
        case '{':
        case '%':
            out->type = tag == '{' ? JTOK_VARIABLE_BEGIN : JTOK_BLOCK_BEGIN;
            p->state = tag == '{' ? JLEX_VARIABLE : JLEX_BLOCK;
            p->n_closers = 0;
            break;
        case '#':
            if (!skip_comment(p)) {
                return false;
            }
            break;
        case 'r':
            if (!lex_raw(p, out)) {
                return false;
            }
            break;
        default:
            if (p->at >= p->n) {
                return true;
            }
            if (!lex_data(p, out)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- inside tags ------------------------------------------------------------------------------------------------- */

static bool is_digit_of(char c, unsigned base)
{
    unsigned digit = c >= '0' && c <= '9'                     ? (unsigned)(c - '0')
                     : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (unsigned)((c | 0x20) - 'a') + 10
                                                              : 99;
    return digit < base;
}

/* Steps over digits with single underscores between them (and before the first, where `lead`). */
static size_t skip_digits(const jparser *p, size_t at, unsigned base, bool lead)
{
    size_t start = at;
    while (at < p->n) {
        size_t digit = at + (p->source[at] == '_' && (lead || at > start));
        if (digit >= p->n || !is_digit_of(p->source[digit], base)) {
            break;
        }
        at = digit + 1;
    }
    return at;
}

/* The end of a float at `at`, or `at` itself. */
static size_t float_end(const jparser *p, size_t at)
{
    if (p->source[at - 1] == '.') { /* there is always a tag before a number */
        return at;                  /* x.1.2 are two subscripts */
    }
    size_t whole = skip_digits(p, at, 10, false), end = whole;
    bool fraction = false;
    if (whole < p->n && p->source[whole] == '.') {
        size_t digits = skip_digits(p, whole + 1, 10, false);
        fraction = digits > whole + 1;
        end = fraction ? digits : whole;
    }
    if (end < p->n && (p->source[end] | 0x20) == 'e') {
        size_t from = end + 1;
        from += from < p->n && (p->source[from] == '+' || p->source[from] == '-');
        size_t digits = skip_digits(p, from, 10, false);
        if (digits > from) {
            return digits;
        }
    }
    return fraction ? end : at;
}

static size_t integer_end(const jparser *p, size_t at)
{
    if (p->source[at] == '0') {
        static const struct {
            char mark;
            unsigned base;
        } kinds[] = {{'b', 2}, {'o', 8}, {'x', 16}};
        char mark = at + 1 < p->n ? (char)(p->source[at + 1] | 0x20) : 0;
        for (size_t i = 0; i < 3; i++) {
            size_t end = mark == kinds[i].mark ? skip_digits(p, at + 2, kinds[i].base, true) : 0;
            if (end > at + 2) {
                return end;
            }
        }
        return skip_digits(p, at, 1, false);
    }
    return skip_digits(p, at, 10, false);
}

static bool lex_number(jparser *p, jtoken *out)
{
    size_t from = p->at, end = float_end(p, from);
    jtext text = {.bytes = p->source + from, .n_chars = JTEXT_UNCOUNTED};
    bool too_big = false;
    if (end > from) {
        double f;
        text.n = end - from;
        out->type = JTOK_FLOAT;
        if (!jnumber_parse_float(&text, &f)) {
            return jparse_fail_at(p, p->line, from, "a number of %zu digits is too long", text.n);
        }
        out->value = jvalue_real(f);
    } else {
        int64_t i;
        end = integer_end(p, from);
        text.n = end - from;
        out->type = JTOK_INTEGER;
        if (!jnumber_parse_int(&text, 0, &i, &too_big) || too_big) {
            return jparse_fail_at(p, p->line, from, "an integer does not fit into 64 bits");
        }
        out->value = jvalue_int(i);
    }
    move(p, end);
    return true;
}

static bool lex_name(jparser *p, jtoken *out)
{
    size_t from = p->at, at = from;
    bool valid = true;
    while (at < p->n) {
        uint32_t code;
        size_t used = jtext_char(p->source, p->n, at, &code);
        bool part = junicode_is_identifier(code, false);
        if (!part && !junicode_is_word(code)) {
            break;
        }
        valid = valid && junicode_is_identifier(code, at == from);
        at += used;
    }
    if (!valid) {
        return jparse_fail_at(p, p->line, from, "a name holds a character that names may not hold");
    }
    const jtext *t = jparse_text(p, p->source + from, at - from);
    out->type = JTOK_NAME;
    out->value = jvalue_text(t);
    move(p, at);
    return t != NULL;
}

/* \ooo, \xhh, \uhhhh, \Uhhhhhhhh; *at is behind the backslash. */
static bool numeric_escape(jparser *p, size_t *at, size_t end, uint32_t *code)
{
    char kind = p->source[*at];
    size_t n = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 3;
    unsigned base = n == 3 ? 8 : 16;
    size_t from = *at + (n != 3), i = from;
    *code = 0;
    while (i < end && i - from < n && is_digit_of(p->source[i], base)) {
        char c = p->source[i++];
        *code = *code * base + (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (n != 3 && i - from < n) {
        return jparse_fail_at(p, p->line, *at - 1, "'\\%c' in a string needs %zu hexadecimal digits", kind, n);
    }
    if (*code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000)) {
        return jparse_fail_at(p, p->line, *at - 1, "an escape in a string is no Unicode character");
    }
    *at = i;
    return true;
}

/* Not an escape: the backslash stays. Jinja writes what is not ASCII as \xe9 before it looks for escapes, so that
 * such a character comes out as those letters behind a backslash. */
static bool keep_backslash(jparser *p, size_t *at, size_t end, jbuild *b)
{
    char text[16] = "\\";
    if ((unsigned char)p->source[*at] >= 0x80) {
        uint32_t code;
        *at += jtext_char(p->source, end, *at, &code);
        const char mark = code < 0x100 ? 'x' : code < 0x10000 ? 'u' : 'U';
        snprintf(text, sizeof text, "\\%c%0*x", mark, code < 0x100 ? 2 : code < 0x10000 ? 4 : 8, (unsigned)code);
    }
    return jbuild_c(b, text);
}

static bool unescape(jparser *p, size_t from, size_t end, jbuild *b)
{
    static const char letters[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    for (size_t at = from; at < end;) {
        char c = p->source[at];
        if (c != '\\') {
            if (!jbuild_bytes(b, &p->source[at], 1)) {
                return false;
            }
            at++;
            continue;
        }
        char next = p->source[++at]; /* the lexer never ends a string behind a lone backslash */
        const char *letter = memchr(letters, next, sizeof letters - 1);
        uint32_t code;
        bool ok = true;
        if (letter) {
            ok = jbuild_bytes(b, &values[letter - letters], 1);
            at++;
        } else if (next == '\n') {
            at++;
        } else if (next == 'N') {
            ok = jparse_fail_at(p, p->line, at - 1, "characters by name ('\\N{…}') are not supported");
        } else if ((next >= '0' && next <= '7') || next == 'x' || next == 'u' || next == 'U') {
            ok = numeric_escape(p, &at, end, &code) && jbuild_code(b, code);
        } else {
            ok = keep_backslash(p, &at, end, b);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool lex_string(jparser *p, jtoken *out)
{
    size_t from = p->at + 1, at = from;
    char quote = p->source[p->at];
    bool escapes = false;
    while (at < p->n && p->source[at] != quote) {
        bool escape = p->source[at] == '\\';
        escapes |= escape;
        at += 1 + escape;
    }
    if (at >= p->n) {
        return jparse_fail_at(p, p->line, p->at, "a string is not closed by %c", quote);
    }
    const jtext *t;
    if (escapes) {
        jbuild b = {.run = &p->run};
        if (!unescape(p, from, at, &b)) {
            return false;
        }
        t = jparse_text(p, b.bytes ? b.bytes : "", b.n);
    } else {
        t = jparse_text(p, p->source + from, at - from);
    }
    out->type = JTOK_STRING;
    out->value = jvalue_text(t);
    move(p, at + 1);
    return t != NULL;
}

static const struct {
    const char *text;
    jtoken_type type;
} operators[] = {
    {"**", JTOK_POW},      {"//", JTOK_FLOORDIV}, {"==", JTOK_EQ},    {"!=", JTOK_NE},    {"<=", JTOK_LE},
    {">=", JTOK_GE},       {"+", JTOK_ADD},       {"-", JTOK_SUB},    {"*", JTOK_MUL},    {"/", JTOK_DIV},
    {"%", JTOK_MOD},       {"~", JTOK_TILDE},     {"(", JTOK_LPAREN}, {")", JTOK_RPAREN}, {"[", JTOK_LBRACKET},
    {"]", JTOK_RBRACKET},  {"{", JTOK_LBRACE},    {"}", JTOK_RBRACE}, {"<", JTOK_LT},     {">", JTOK_GT},
    {"=", JTOK_ASSIGN},    {".", JTOK_DOT},       {":", JTOK_COLON},  {"|", JTOK_PIPE},   {",", JTOK_COMMA},
    {";", JTOK_SEMICOLON},
};

const char *jtoken_text(jtoken_type type)
{
    static const char *const others[] = {
        [JTOK_EOF] = "the end of the template",
        [JTOK_DATA] = "text",
        [JTOK_VARIABLE_BEGIN] = "{{",
        [JTOK_VARIABLE_END] = "}}",
        [JTOK_BLOCK_BEGIN] = "{%",
        [JTOK_BLOCK_END] = "%}",
        [JTOK_NAME] = "a name",
        [JTOK_STRING] = "a string",
        [JTOK_INTEGER] = "an integer",
        [JTOK_FLOAT] = "a float",
    };
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (operators[i].type == type) {
            return operators[i].text;
        }
    }
    return others[type];
}

/* Brackets must pair up; what closes the tag counts only outside of them. */
static bool balance(jparser *p, jtoken_type type)
{
    char c = p->source[p->at];
    if (type == JTOK_LPAREN || type == JTOK_LBRACKET || type == JTOK_LBRACE) {
        if (p->n_closers == JNESTING_MAX) {
            return jparse_fail_at(p, p->line, p->at, "more than %d brackets inside each other", JNESTING_MAX);
        }
        p->closers[p->n_closers++] = type == JTOK_LPAREN ? ')' : type == JTOK_LBRACKET ? ']' : '}';
    } else if (type == JTOK_RPAREN || type == JTOK_RBRACKET || type == JTOK_RBRACE) {
        if (p->n_closers == 0) {
            return jparse_fail_at(p, p->line, p->at, "'%c' closes nothing", c);
        }
        char wanted = p->closers[--p->n_closers];
        if (wanted != c) {
            return jparse_fail_at(p, p->line, p->at, "'%c' where '%c' should close a bracket", c, wanted);
        }
    }
    return true;
}

static bool lex_operator(jparser *p, jtoken *out)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (starts(p, p->at, operators[i].text)) {
            out->type = operators[i].type;
            if (!balance(p, out->type)) {
                return false;
            }
            move(p, p->at + strlen(operators[i].text));
            return true;
        }
    }
    unsigned char c = (unsigned char)p->source[p->at];
    return c > 0x20 && c < 0x7f ? jparse_fail_at(p, p->line, p->at, "the character '%c' means nothing here", c)
                                : jparse_fail_at(p, p->line, p->at, "the byte 0x%02x means nothing here", c);
}

static bool lex_tag(jparser *p, jtoken *out)
{
    bool variable = p->state == JLEX_VARIABLE;
    for (;;) {
        size_t end = p->n_closers == 0 ? closing(p, p->at, variable ? "}}" : "%}") : 0;
        out->line = p->line;
        out->at = p->at;
        if (end) {
            out->type = variable ? JTOK_VARIABLE_END : JTOK_BLOCK_END;
            move(p, end);
            p->state = JLEX_ROOT;
            return true;
        }
        size_t space = skip_space(p, p->at);
        if (space == p->at) {
            break;
        }
        move(p, space);
    }
    if (p->at >= p->n) {
        return true; /* the end: the parser says what is missing */
    }
    uint32_t code;
    jtext_char(p->source, p->n, p->at, &code);
    if (code >= '0' && code <= '9') {
        return lex_number(p, out);
    }
    if (code == '\'' || code == '"') {
        return lex_string(p, out);
    }
    if (junicode_is_word(code) || junicode_is_identifier(code, false)) {
        return lex_name(p, out);
    }
    return lex_operator(p, out);
}

bool jlex_next(jparser *p, jtoken *out)
{
    *out = (jtoken){.type = JTOK_EOF, .line = p->line, .at = p->at};
    p->run.line = p->line;
    return p->state == JLEX_ROOT ? lex_root(p, out) : lex_tag(p, out);
}
