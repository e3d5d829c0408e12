/*
 * Regular expressions as the reference's engine reads them (Oniguruma, Ruby syntax), translated to PCRE2.
 * Owner: the tokenizer. Lifetime: the tokenizer; match data: one call. Immutable once compiled; any thread.
 *
 * Translated are: \s, which PCRE2 extends by U+180E; \w and \h, which mean other things there; properties, where
 * PCRE2's Unicode is older than the reference's; nested sets; and ^ and $, which match at every line. What cannot be
 * translated is refused by name. Matching has limits, so that no pattern and no text can hang the caller.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#define PATTERN_BYTES_MAX 65536u
#define MATCH_LIMIT 20000000u /* PCRE2's steps for one search */
#define DEPTH_LIMIT 100000u
#define HEAP_LIMIT_KB 65536u

struct pattern {
    pcre2_code *code;
    pcre2_match_context *context;
};

typedef struct translation {
    const char *source;
    size_t n, at;
    uint32_t sets; /* how many '[' are open */
    bool negated;  /* the outermost open one is [^ */
    buffer *out;
} translation;

static void put(translation *x, const char *text)
{
    buffer_append_text(x->out, text);
}

/* ---- properties ---- */

static const struct {
    char name[3];
    uint32_t categories; /* bits by enum unicode_category */
} general_categories[] = {
#define BIT(c) (1u << UNICODE_##c)
    {"L", BIT(LU) | BIT(LL) | BIT(LT) | BIT(LM) | BIT(LO)},
    {"Lu", BIT(LU)},
    {"Ll", BIT(LL)},
    {"Lt", BIT(LT)},
    {"Lm", BIT(LM)},
    {"Lo", BIT(LO)},
    {"M", BIT(MN) | BIT(MC) | BIT(ME)},
    {"Mn", BIT(MN)},
    {"Mc", BIT(MC)},
    {"Me", BIT(ME)},
    {"N", BIT(ND) | BIT(NL) | BIT(NO)},
    {"Nd", BIT(ND)},
    {"Nl", BIT(NL)},
    {"No", BIT(NO)},
    {"P", BIT(PC) | BIT(PD) | BIT(PS) | BIT(PE) | BIT(PI) | BIT(PF) | BIT(PO)},
    {"Pc", BIT(PC)},
    {"Pd", BIT(PD)},
    {"Ps", BIT(PS)},
    {"Pe", BIT(PE)},
    {"Pi", BIT(PI)},
    {"Pf", BIT(PF)},
    {"Po", BIT(PO)},
    {"S", BIT(SM) | BIT(SC) | BIT(SK) | BIT(SO)},
    {"Sm", BIT(SM)},
    {"Sc", BIT(SC)},
    {"Sk", BIT(SK)},
    {"So", BIT(SO)},
};

/* The code points of these categories that an older PCRE2 does not know, as set members. */
static void put_newer(translation *x, uint32_t categories)
{
    for (size_t i = 0; i < unicode_since_14.n; i++) {
        unicode_range range = unicode_since_14.items[i];
        for (uint32_t code = range.first; code <= range.last; code++) {
            uint32_t first = code;
            while (code <= range.last && (categories >> unicode_category_of(code) & 1)) {
                code++;
            }
            if (code > first) {
                buffer_printf(x->out, "\\x{%x}-\\x{%x}", first, code - 1);
            }
        }
    }
}

static bool compiles(const char *source)
{
    int code;
    size_t offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)source, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
                                         &offset, NULL);
    pcre2_code_free(compiled);
    return compiled != NULL;
}

static void put_property(translation *x, const char *name, size_t n, bool negated)
{
    for (size_t i = 0; i < sizeof general_categories / sizeof *general_categories; i++) {
        if (strlen(general_categories[i].name) != n || memcmp(general_categories[i].name, name, n) != 0) {
            continue;
        }
        if (negated && x->sets) {
            buffer_printf(x->out, "\\P{%.*s}", (int)n, name); /* cannot take members away inside a set */
            return;
        }
        put(x, x->sets ? "" : negated ? "[^" : "[");
        buffer_printf(x->out, "\\p{%.*s}", (int)n, name);
        put_newer(x, general_categories[i].categories);
        put(x, x->sets ? "" : "]");
        return;
    }
    /* A script: PCRE2 would add what other scripts share with it. */
    char script[64];
    int length = snprintf(script, sizeof script, "\\p{sc:%.*s}", (int)n, name);
    bool is_script = length > 0 && (size_t)length < sizeof script && compiles(script);
    bool han = is_script && n == 3 && memcmp(name, "Han", 3) == 0 && !(negated && x->sets);
    put(x, han && !x->sets ? negated ? "[^" : "[" : "");
    buffer_printf(x->out, "\\%c{%s%.*s}", negated && (x->sets || !han) ? 'P' : 'p', is_script ? "sc:" : "", (int)n,
                  name);
    if (han) { /* new letters of these planes are Han */
        put(x, x->sets ? "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}" : "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}]");
    }
}

/* \w of the reference, which takes the superscripts and fractions of Latin-1 in. */
static void put_word(translation *x)
{
    put(x, "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{"
           "1f150}-\\x{1f169}"
           "\\x{1f170}-\\x{1f189}");
    put_newer(x, general_categories[0].categories | BIT(MN) | BIT(MC) | BIT(ME) | BIT(ND) | BIT(NL));
}

/* \b or \B by that \w. */
static void put_boundary(translation *x, bool negated)
{
    static const char *const parts[] = {"(?:(?<=[", "])(?![", "])|(?<![", "])(?=[", "]))"};
    static const char *const inside[] = {"(?:(?<=[", "])(?=[", "])|(?<![", "])(?![", "]))"};
    for (size_t i = 0; i < 5; i++) {
        put(x, negated ? inside[i] : parts[i]);
        if (i < 4) {
            put_word(x);
        }
    }
}

/* ---- translation ---- */

static mlxr_status refuse(const translation *x, const char *what, mlxr_error *error)
{
    return error_set(error, MLXR_UNSUPPORTED,
                     "tokenizer: regular expression \"%.*s\": %s at character %zu is not "
                     "supported",
                     (int)(x->n < 120 ? x->n : 120), x->source, what, x->at);
}

/* After "\p" or "\P": {Name} or {^Name}. */
static mlxr_status translate_property(translation *x, bool negated, mlxr_error *error)
{
    const char *open = x->source + x->at;
    const char *close = x->at < x->n && *open == '{' ? memchr(open, '}', x->n - x->at) : NULL;
    if (!close) {
        return refuse(x, "a property without {…}", error);
    }
    const char *name = open + 1;
    if (name < close && *name == '^') {
        negated = !negated;
        name++;
    }
    put_property(x, name, (size_t)(close - name), negated);
    x->at += (size_t)(close - open) + 1;
    return MLXR_OK;
}

static mlxr_status translate_escape(translation *x, mlxr_error *error)
{
    if (x->at + 1 >= x->n) {
        return refuse(x, "a trailing backslash", error);
    }
    char c = x->source[x->at + 1];
    x->at += 2;
    switch (c) {
    case 's':
        put(x, "\\p{White_Space}");
        return MLXR_OK;
    case 'S':
        put(x, "\\P{White_Space}");
        return MLXR_OK;
    case 'h':
        put(x, x->sets ? "0-9a-fA-F" : "[0-9a-fA-F]");
        return MLXR_OK;
    case 'd':
        put_property(x, "Nd", 2, false);
        return MLXR_OK;
    case 'D':
        put_property(x, "Nd", 2, true);
        return MLXR_OK;
    case 'w':
        put(x, x->sets ? "" : "[");
        put_word(x);
        put(x, x->sets ? "" : "]");
        return MLXR_OK;
    case 'b':
    case 'B':
        if (x->sets) {
            return refuse(x, "\\b in a set", error);
        }
        put_boundary(x, c == 'B');
        return MLXR_OK;
    case 'W':
        if (x->sets) {
            return refuse(x, "\\W in a set", error);
        }
        put(x, "[^");
        put_word(x);
        put(x, "]");
        return MLXR_OK;
    case 'p':
    case 'P':
        return translate_property(x, c == 'P', error);
    case 'u':
        if (x->n - x->at < 4) {
            return refuse(x, "\\u without four digits", error);
        }
        buffer_printf(x->out, "\\x{%.4s}", x->source + x->at);
        x->at += 4;
        return MLXR_OK;
    case 'H':
    case 'K':
    case 'R':
    case 'X':
    case 'y':
    case 'Y':
    case 'g':
    case 'C':
    case 'Q': {
        char what[3] = {'\\', c, 0};
        return refuse(x, what, error);
    }
    default:
        buffer_append(x->out, x->source + x->at - 2, 2);
        return MLXR_OK;
    }
}

/* '[' inside a set: a POSIX class, or a set of its own, which is flattened. */
static mlxr_status translate_open(translation *x, mlxr_error *error)
{
    bool negated = x->at + 1 < x->n && x->source[x->at + 1] == '^';
    if (x->sets && x->at + 1 < x->n && x->source[x->at + 1] == ':') {
        return refuse(x, "a POSIX class", error);
    }
    if (x->sets && negated) {
        return refuse(x, "a negated set in a set", error);
    }
    if (!x->sets) {
        put(x, negated ? "[^" : "[");
        x->at += negated;
    }
    x->at++;
    x->sets++;
    if (x->at < x->n && x->source[x->at] == ']') {
        return refuse(x, "a set that begins with ]", error);
    }
    return MLXR_OK;
}

static mlxr_status translate_set_char(translation *x, mlxr_error *error)
{
    char c = x->source[x->at];
    if (c == '[') {
        return translate_open(x, error);
    }
    if (c == ']') {
        put(x, --x->sets ? "" : "]");
        x->at++;
        return MLXR_OK;
    }
    if (c == '&' && x->at + 1 < x->n && x->source[x->at + 1] == '&') {
        return refuse(x, "&& in a set", error);
    }
    buffer_append(x->out, &c, 1);
    x->at++;
    return MLXR_OK;
}

/* "(?imx-imx": Oniguruma's m lets the dot match line breaks, which is PCRE2's s. */
static void translate_group(translation *x)
{
    put(x, "(");
    x->at++;
    if (x->at + 1 >= x->n || x->source[x->at] != '?') {
        return;
    }
    size_t end = x->at + 1;
    while (end < x->n &&
           (x->source[end] == 'i' || x->source[end] == 'm' || x->source[end] == 'x' || x->source[end] == '-')) {
        end++;
    }
    if (end < x->n && (x->source[end] == ':' || x->source[end] == ')')) {
        for (; x->at < end; x->at++) {
            char c = x->source[x->at] == 'm' ? 's' : x->source[x->at];
            buffer_append(x->out, &c, 1);
        }
    }
}

static mlxr_status translate(translation *x, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    while (status == MLXR_OK && x->at < x->n) {
        char c = x->source[x->at];
        if (c == '\\') {
            status = translate_escape(x, error);
        } else if (x->sets) {
            status = translate_set_char(x, error);
        } else if (c == '[') {
            status = translate_open(x, error);
        } else if (c == '(') {
            translate_group(x);
        } else {
            buffer_append(x->out, &c, 1);
            x->at++;
        }
    }
    if (status == MLXR_OK && x->out->failed) {
        status = error_nomem(error, "regular expression", x->n);
    }
    return status;
}

/* ---- compiling and matching ---- */

static mlxr_status compile(pattern *p, const char *source, size_t n, const buffer *translated, mlxr_error *error)
{
    int code;
    size_t offset;
    p->code = pcre2_compile((PCRE2_SPTR)(translated->data ? translated->data : ""), translated->n,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
                            &code, &offset, NULL);
    if (!p->code) {
        char words[160];
        if (code == PCRE2_ERROR_HEAP_FAILED || code == PCRE2_ERROR_NOMEMORY) {
            return error_nomem(error, "regular expression", n);
        }
        pcre2_get_error_message(code, (PCRE2_UCHAR *)words, sizeof words);
        return error_set(error, MLXR_UNSUPPORTED, "tokenizer: regular expression \"%.*s\": %s",
                         (int)(n < 160 ? n : 160), source, words);
    }
    p->context = pcre2_match_context_create(NULL);
    if (!p->context) {
        return error_nomem(error, "regular expression", n);
    }
    pcre2_set_match_limit(p->context, MATCH_LIMIT);
    pcre2_set_depth_limit(p->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(p->context, HEAP_LIMIT_KB);
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it matching is slower, and the same */
    return MLXR_OK;
}

mlxr_status pattern_open(pattern **out, const char *source, size_t n, mlxr_error *error)
{
    if (n > PATTERN_BYTES_MAX) {
        return error_set(error, MLXR_LIMIT, "tokenizer: regular expression of %zu bytes; at most %u", n,
                         PATTERN_BYTES_MAX);
    }
    pattern *p = calloc(1, sizeof *p);
    if (!p) {
        return error_nomem(error, "regular expression", sizeof *p);
    }
    buffer translated = buffer_make((size_t)64 * PATTERN_BYTES_MAX);
    translation x = {.source = source, .n = n, .out = &translated};
    mlxr_status status = translate(&x, error);
    if (status == MLXR_OK) {
        status = compile(p, source, n, &translated, error);
    }
    buffer_close(&translated);
    if (status != MLXR_OK) {
        pattern_close(&p);
        return status;
    }
    *out = p;
    return MLXR_OK;
}

void pattern_close(pattern **p)
{
    if (*p) {
        pcre2_code_free((*p)->code);
        pcre2_match_context_free((*p)->context);
        free(*p);
        *p = NULL;
    }
}

void pattern_scratch_close(scratch *s)
{
    pcre2_match_data_free(s->match_data);
    s->match_data = NULL;
}

mlxr_status pattern_find(const pattern *p, scratch *s, const char *text, size_t at, size_t n, size_t *begin,
                         size_t *end, bool *found, mlxr_error *error)
{
    *found = false;
    if (!s->match_data && !(s->match_data = pcre2_match_data_create(1, NULL))) {
        return error_nomem(error, "regular expression match", 64);
    }
    int count = pcre2_match(p->code, (PCRE2_SPTR)text, n, at, 0, s->match_data, p->context);
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
        count = pcre2_match(p->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_JIT, s->match_data, p->context);
    }
    if (count == PCRE2_ERROR_NOMATCH) {
        return MLXR_OK;
    }
    if (count < 0) {
        char words[160];
        pcre2_get_error_message(count, (PCRE2_UCHAR *)words, sizeof words);
        return error_set(error, count == PCRE2_ERROR_NOMEMORY ? MLXR_NOMEM : MLXR_LIMIT,
                         "pre-tokenizer's regular expression on a text of %zu bytes: %s", n, words);
    }
    const size_t *range = pcre2_get_ovector_pointer(s->match_data);
    *begin = range[0];
    *end = range[1] < range[0] ? range[0] : range[1];
    *found = true;
    return MLXR_OK;
}
