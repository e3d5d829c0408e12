/*
 * Python's "…" % values.
 * Owner: none. Lifetime: the call.
 */
#include <math.h>
#include <string.h>

#include "text/jinja_format.h"
#include "text/jinja_run.h"

typedef struct percent {
    jrun *run;
    const jtext *text;
    size_t at;
    jvalue values;
    size_t next; /* which of a tuple's items, or 0/1 for a single value */
    bool is_single, escape;
} percent;

typedef struct directive {
    bool left, plus, blank, alternate, zero, has_precision;
    int64_t width, precision;
    char type;
} directive;

static bool next_value(percent *p, jvalue *out)
{
    if (p->is_single) {
        if (p->next++ == 0) {
            *out = p->values;
            return true;
        }
    } else if (p->next < p->values.as.list->n) {
        *out = p->values.as.list->items[p->next++];
        return true;
    }
    return jrun_fail(p->run, "not enough values for the format string");
}

static bool is_mapping(jvalue v)
{
    return v.kind == JDICT;
}

/* (key) */
static bool read_key(percent *p, jvalue *out)
{
    size_t from = ++p->at, depth = 1;
    while (p->at < p->text->n) {
        char c = p->text->bytes[p->at++];
        depth += c == '(';
        depth -= c == ')';
        if (depth == 0) {
            break;
        }
    }
    if (depth) {
        return jrun_fail(p->run, "a format string has an open '('");
    }
    if (!is_mapping(p->values)) {
        return jrun_fail(p->run, "a format string with names needs a dict");
    }
    const jtext *key = jtext_sub(p->run, p->text, from, p->at - 1);
    if (!key) {
        return false;
    }
    const jentry *entry = jdict_get(p->values.as.dict, key);
    if (!entry) {
        return jrun_fail(p->run, "a format string names '%.*s', which the dict does not have", jtext_shown(key),
                         key->bytes);
    }
    p->next = 1;
    *out = entry->value;
    return true;
}

static bool read_number(percent *p, int64_t *out)
{
    const jtext *t = p->text;
    if (p->at < t->n && t->bytes[p->at] == '*') {
        jvalue v;
        p->at++;
        *out = 0;
        if (!next_value(p, &v)) {
            return false;
        }
        return v.kind == JINT || v.kind == JBOOL ? jarg_int(p->run, "'*'", v, out)
                                                 : jrun_fail(p->run, "'*' in a format string needs an integer");
    }
    int64_t n = 0;
    for (; p->at < t->n && t->bytes[p->at] >= '0' && t->bytes[p->at] <= '9'; p->at++) {
        n = n * 10 + (t->bytes[p->at] - '0');
        if (n > INT32_MAX) {
            return jrun_limit(p->run, "a width or precision in a format string is too large");
        }
    }
    *out = n;
    return true;
}

static bool read_directive(percent *p, directive *d)
{
    const jtext *t = p->text;
    for (;; p->at++) {
        char c = p->at < t->n ? t->bytes[p->at] : 0;
        d->left |= c == '-';
        d->plus |= c == '+';
        d->blank |= c == ' ';
        d->alternate |= c == '#';
        d->zero |= c == '0';
        if (!c || !strchr("-+ #0", c)) {
            break;
        }
    }
    if (!read_number(p, &d->width)) {
        return false;
    }
    if (d->width < 0) {
        d->left = true;
        d->width = d->width < -INT32_MAX ? INT32_MAX : -d->width;
    }
    if (p->at < t->n && t->bytes[p->at] == '.') {
        p->at++;
        d->has_precision = true;
        if (!read_number(p, &d->precision)) {
            return false;
        }
        d->precision = d->precision < 0 ? 0 : d->precision;
    }
    if (p->at < t->n && strchr("hlL", t->bytes[p->at]) && t->bytes[p->at]) {
        p->at++;
    }
    if (p->at >= t->n) {
        return jrun_fail(p->run, "a format string ends inside a directive");
    }
    d->type = t->bytes[p->at++];
    return true;
}

static bool put(percent *p, jbuild *b, const directive *d, const char *sign, const jtext *body, bool zero)
{
    const jtext *sign_text = jtext_of(p->run, sign), *fill = jtext_of(p->run, zero ? "0" : " ");
    if (!sign_text || !fill || !body) {
        return false;
    }
    return jformat_pad(b, fill, d->left ? '<' : zero ? '=' : '>', d->width, sign_text, body);
}

static bool put_text(percent *p, jbuild *b, const directive *d, jvalue v)
{
    jbuild text = {.run = p->run};
    const jtext *t;
    if (p->escape && d->type == 's' && v.kind == JTEXT) { /* markup goes in as it is */
        t = v.as.text;
    } else {
        bool ok = d->type == 's'   ? jprint_str(&text, v)
                  : d->type == 'r' ? jprint_repr(&text, v)
                                   : jprint_ascii(&text, v);
        t = ok ? jbuild_finish(&text) : NULL;
    }
    if (t && p->escape) {
        t = jtext_escape(p->run, t);
    }
    if (t && d->has_precision && (uint64_t)d->precision < jtext_count(t)) {
        t = jtext_sub(p->run, t, 0, jtext_offset(t, (size_t)d->precision));
    }
    return put(p, b, d, "", t, false);
}

static const char *sign_of(const directive *d, bool negative)
{
    return negative ? "-" : d->plus ? "+" : d->blank ? " " : "";
}

static bool to_integer(percent *p, const directive *d, jvalue v, int64_t *out)
{
    if (v.kind == JUNDEFINED) {
        return jrun_undefined(p->run, v);
    }
    if (jvalue_is_integer(v)) {
        *out = jvalue_integer(v);
        return true;
    }
    if (v.kind == JFLOAT && strchr("diu", d->type)) {
        if (!(v.as.real >= -9223372036854775808.0 && v.as.real < 9223372036854775808.0)) {
            return jrun_fail(p->run, "a float too large for %%%c", d->type);
        }
        *out = (int64_t)v.as.real;
        return true;
    }
    return jrun_fail(p->run, "%%%c needs a number, not '%s'", d->type, jvalue_type(v));
}

static bool put_integer(percent *p, jbuild *b, const directive *d, jvalue v)
{
    int64_t i = 0;
    char digits[72], sign[8];
    if (!to_integer(p, d, v, &i)) {
        return false;
    }
    unsigned base = d->type == 'o' ? 8 : (d->type | 0x20) == 'x' ? 16 : 10;
    size_t n = jformat_integer(i < 0 ? 0 - (uint64_t)i : (uint64_t)i, base, d->type == 'X', digits);
    const char *prefix = !d->alternate || base == 10 ? "" : base == 8 ? "0o" : d->type == 'X' ? "0X" : "0x";
    strcpy(sign, sign_of(d, i < 0));
    strcat(sign, prefix);
    jbuild body = {.run = p->run};
    const jtext *zero = jtext_of(p->run, "0");
    if (!zero ||
        (d->has_precision && (uint64_t)d->precision > n && !jbuild_fill(&body, zero, (size_t)d->precision - n))) {
        return false;
    }
    return jbuild_bytes(&body, digits, n) && put(p, b, d, sign, jbuild_finish(&body), d->zero && !d->left);
}

static bool put_float(percent *p, jbuild *b, const directive *d, jvalue v)
{
    char text[JNUMBER_TEXT];
    if (v.kind == JUNDEFINED) {
        return jrun_undefined(p->run, v);
    }
    if (!jvalue_is_number(v)) {
        return jrun_fail(p->run, "%%%c needs a number, not '%s'", d->type, jvalue_type(v));
    }
    if (d->has_precision && d->precision > 300) {
        return jrun_limit(p->run, "a precision above 300 in a format string");
    }
    double f = jvalue_number(v);
    size_t n = jnumber_format(fabs(f), d->type, d->has_precision ? (int)d->precision : 6, d->alternate, text,
                              sizeof text);
    return put(p, b, d, sign_of(d, signbit(f) && !isnan(f)), jtext_copy(p->run, text, n), d->zero && !d->left);
}

static bool put_char(percent *p, jbuild *b, const directive *d, jvalue v)
{
    jbuild body = {.run = p->run};
    if (v.kind == JTEXT && jtext_count(v.as.text) == 1) {
        return put(p, b, d, "", v.as.text, false);
    }
    if (!jvalue_is_integer(v) || jvalue_integer(v) < 0 || jvalue_integer(v) > 0x10ffff) {
        return jrun_fail(p->run, "%%c needs one character or its number");
    }
    return jbuild_code(&body, (uint32_t)jvalue_integer(v)) && put(p, b, d, "", jbuild_finish(&body), false);
}

static bool put_directive(percent *p, jbuild *b)
{
    directive d = {0};
    jvalue v = JVALUE_MISSING;
    if (p->at < p->text->n && p->text->bytes[p->at] == '%') {
        p->at++;
        return jbuild_c(b, "%");
    }
    if (p->at < p->text->n && p->text->bytes[p->at] == '(' && !read_key(p, &v)) {
        return false;
    }
    if (!read_directive(p, &d)) {
        return false;
    }
    if (!strchr("diouxXeEfFgGcrsa", d.type) || !d.type) {
        return jrun_fail(p->run, "a format string has no directive '%%%c'", d.type ? d.type : '?');
    }
    if (v.kind == JMISSING && !next_value(p, &v)) {
        return false;
    }
    switch (d.type) {
    case 's':
    case 'r':
    case 'a':
        return put_text(p, b, &d, v);
    case 'c':
        return put_char(p, b, &d, v);
    case 'd':
    case 'i':
    case 'u':
    case 'o':
    case 'x':
    case 'X':
        return put_integer(p, b, &d, v);
    default:
        return put_float(p, b, &d, v);
    }
}

bool jop_percent(jrun *r, const jtext *format, jvalue values, jvalue *out)
{
    percent p = {
        .run = r, .text = format, .values = values, .is_single = values.kind != JTUPLE, .escape = format->markup};
    jbuild b = {.run = r};
    while (p.at < format->n) {
        const char *found = memchr(format->bytes + p.at, '%', format->n - p.at);
        size_t end = found ? (size_t)(found - format->bytes) : format->n;
        if (!jbuild_bytes(&b, format->bytes + p.at, end - p.at)) {
            return false;
        }
        p.at = end;
        if (found) {
            p.at++;
            if (!put_directive(&p, &b)) {
                return false;
            }
        }
    }
    /* Python lets anything with keys or indices stand unused; of our values those are dicts, lists and ranges. */
    bool may_stay = values.kind == JDICT || values.kind == JLIST || values.kind == JRANGE || values.kind == JUNDEFINED;
    if (p.is_single ? p.next == 0 && !may_stay : p.next < values.as.list->n) {
        return jrun_fail(r, "not all values are used by the format string");
    }
    jtext *t = jbuild_finish(&b);
    if (t) {
        t->markup = format->markup;
    }
    *out = jvalue_text(t);
    return t != NULL;
}
