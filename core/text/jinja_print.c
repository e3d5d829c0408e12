/*
 * str() and repr() of values, as Python prints them.
 * Owner: none. Lifetime: the call.
 */
#include <stdio.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

static bool escape_code(jbuild *b, uint32_t code)
{
    char text[16];
    const char mark = code < 0x100 ? 'x' : code < 0x10000 ? 'u' : 'U';
    snprintf(text, sizeof text, "\\%c%0*x", mark, code < 0x100 ? 2 : code < 0x10000 ? 4 : 8, (unsigned)code);
    return jbuild_c(b, text);
}

static bool repr_char(jbuild *b, const char *bytes, size_t used, uint32_t code, char quote)
{
    switch (code) {
    case '\\':
        return jbuild_c(b, "\\\\");
    case '\n':
        return jbuild_c(b, "\\n");
    case '\r':
        return jbuild_c(b, "\\r");
    case '\t':
        return jbuild_c(b, "\\t");
    default:
        break;
    }
    if (code == (unsigned char)quote) {
        return jbuild_c(b, "\\") && jbuild_bytes(b, bytes, used);
    }
    if (junicode_is_printable(code)) {
        return jbuild_bytes(b, bytes, used);
    }
    return escape_code(b, code);
}

static bool repr_text(jbuild *b, const jtext *t)
{
    bool single = memchr(t->bytes, '\'', t->n) != NULL, twofold = memchr(t->bytes, '"', t->n) != NULL;
    char quote = single && !twofold ? '"' : '\'';
    bool ok = jbuild_c(b, t->markup ? "Markup(" : "") && jbuild_bytes(b, &quote, 1);
    for (size_t at = 0; at < t->n && ok;) {
        uint32_t code;
        size_t used = jtext_char(t->bytes, t->n, at, &code);
        ok = repr_char(b, t->bytes + at, used, code, quote);
        at += used;
    }
    return ok && jbuild_bytes(b, &quote, 1) && jbuild_c(b, t->markup ? ")" : "");
}

static bool repr_items(jbuild *b, const jlist *l, const char *open, const char *close)
{
    bool ok = jbuild_c(b, open);
    for (size_t i = 0; i < l->n && ok; i++) {
        ok = (i == 0 || jbuild_c(b, ", ")) && jprint_repr(b, l->items[i]);
    }
    return ok && jbuild_c(b, close);
}

static bool repr_dict(jbuild *b, jdict *d)
{
    if (d->being_printed) {
        return jbuild_c(b, "{...}");
    }
    d->being_printed = true; /* only a namespace can hold itself */
    bool ok = jbuild_c(b, "{");
    for (size_t i = 0; i < d->n && ok; i++) {
        ok = (i == 0 || jbuild_c(b, ", ")) && jprint_repr(b, d->entries[i].key) && jbuild_c(b, ": ") &&
             jprint_repr(b, d->entries[i].value);
    }
    d->being_printed = false;
    return ok && jbuild_c(b, "}");
}

static bool repr_view(jbuild *b, jvalue v)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    bool ok = jbuild_c(b, names[v.note]);
    for (size_t i = 0; i < v.as.dict->n && ok; i++) {
        jvalue item;
        ok = (i == 0 || jbuild_c(b, ", ")) && jview_item(b->run, v.as.dict, (jview)v.note, i, &item) &&
             jprint_repr(b, item);
    }
    return ok && jbuild_c(b, "])");
}

static bool repr_range(jbuild *b, const jrange *range)
{
    char text[100];
    if (range->step == 1) {
        snprintf(text, sizeof text, "range(%lld, %lld)", (long long)range->start, (long long)range->stop);
    } else {
        snprintf(text, sizeof text, "range(%lld, %lld, %lld)", (long long)range->start, (long long)range->stop,
                 (long long)range->step);
    }
    return jbuild_c(b, text);
}

static bool repr_nested(jbuild *b, jvalue v)
{
    switch (v.kind) {
    case JLIST:
        return repr_items(b, v.as.list, "[", "]");
    case JTUPLE:
        return repr_items(b, v.as.list, "(", v.as.list->n == 1 ? ",)" : ")");
    case JDICT:
        return repr_dict(b, v.as.dict);
    case JVIEW:
        return repr_view(b, v);
    case JNAMESPACE:
        return jbuild_c(b, "<Namespace ") && repr_dict(b, v.as.dict) && jbuild_c(b, ">");
    case JMACRO: {
        const jtext *name = jmacro_name(v.as.macro);
        return jbuild_c(b, "<Macro ") && (name ? repr_text(b, name) : jbuild_c(b, "anonymous")) && jbuild_c(b, ">");
    }
    case JFUNCTION:
        return jbuild_c(b, "<function ") && jbuild_c(b, v.as.function->name) && jbuild_c(b, ">");
    case JMETHOD:
        return jbuild_c(b, "<built-in method ") && jbuild_c(b, v.as.bound->function->name) && jbuild_c(b, ">");
    default:
        return jbuild_c(b, "<") && jbuild_c(b, jvalue_type(v)) && jbuild_c(b, " object>");
    }
}

bool jprint_repr(jbuild *b, jvalue v)
{
    char text[JNUMBER_TEXT];
    if (!jrun_charge(b->run, 1)) {
        return false;
    }
    switch (v.kind) {
    case JUNDEFINED:
        return jbuild_c(b, "Undefined");
    case JNONE:
        return jbuild_c(b, "None");
    case JBOOL:
        return jbuild_c(b, v.as.boolean ? "True" : "False");
    case JINT:
        return jbuild_bytes(b, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v.as.integer));
    case JFLOAT:
        return jbuild_bytes(b, text, jnumber_repr(v.as.real, text));
    case JTEXT:
        return repr_text(b, v.as.text);
    case JRANGE:
        return repr_range(b, v.as.range);
    default:
        break;
    }
    if (!jrun_enter(b->run)) {
        return false;
    }
    bool ok = repr_nested(b, v);
    jrun_leave(b->run);
    return ok;
}

bool jprint_ascii(jbuild *b, jvalue v)
{
    jbuild repr = {.run = b->run};
    bool ok = jprint_repr(&repr, v);
    for (size_t at = 0; at < repr.n && ok;) {
        uint32_t code;
        size_t used = jtext_char(repr.bytes, repr.n, at, &code);
        ok = used == 1 ? jbuild_bytes(b, repr.bytes + at, 1) : escape_code(b, code);
        at += used;
    }
    return ok;
}

bool jprint_str(jbuild *b, jvalue v)
{
    if (v.kind == JTEXT) {
        return jbuild_text(b, v.as.text);
    }
    return v.kind == JUNDEFINED || jprint_repr(b, v);
}

const jtext *jvalue_soft_str(jrun *r, jvalue v)
{
    if (v.kind == JTEXT) {
        return v.as.text;
    }
    jbuild b = {.run = r};
    return jprint_str(&b, v) ? jbuild_finish(&b) : NULL;
}

const jtext *jvalue_str(jrun *r, jvalue v)
{
    const jtext *t = jvalue_soft_str(r, v);
    return t ? jtext_with_markup(r, t, false) : NULL;
}
