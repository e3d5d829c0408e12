/*
 * The tojson filter: Python's json.dumps with the arguments transformers lets templates give.
 * Owner: none. Lifetime: the call.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_run.h"

typedef struct json_style {
    bool ascii, sort;
    const jtext *indent; /* NULL: one line */
    const jtext *item_separator, *key_separator;
} json_style;

static bool dump(jbuild *b, const json_style *style, jvalue v, size_t level);

static bool dump_escape(jbuild *b, uint32_t code)
{
    char text[16];
    if (!jrun_charge(b->run, 1)) {
        return false;
    }
    switch (code) {
    case '"':
        return jbuild_c(b, "\\\"");
    case '\\':
        return jbuild_c(b, "\\\\");
    case '\n':
        return jbuild_c(b, "\\n");
    case '\r':
        return jbuild_c(b, "\\r");
    case '\t':
        return jbuild_c(b, "\\t");
    case '\b':
        return jbuild_c(b, "\\b");
    case '\f':
        return jbuild_c(b, "\\f");
    default:
        break;
    }
    if (code >= 0x10000) {
        code -= 0x10000;
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800 + (unsigned)(code >> 10),
                 0xdc00 + (unsigned)(code & 0x3ff));
    } else {
        snprintf(text, sizeof text, "\\u%04x", (unsigned)code);
    }
    return jbuild_c(b, text);
}

static bool dump_text(jbuild *b, const json_style *style, const jtext *t)
{
    bool ok = jbuild_c(b, "\"");
    size_t done = 0;
    for (size_t at = 0; at < t->n && ok;) {
        uint32_t code;
        size_t used = jtext_char(t->bytes, t->n, at, &code);
        bool invalid = used == 1 && code >= 0x80; /* a byte that is no text: it stays */
        bool plain = code >= 0x20 && code != '"' && code != '\\' && (!style->ascii || code < 0x7f || invalid);
        if (!plain) {
            ok = jbuild_bytes(b, t->bytes + done, at - done) && dump_escape(b, code);
            done = at + used;
        }
        at += used;
    }
    return ok && jbuild_bytes(b, t->bytes + done, t->n - done) && jbuild_c(b, "\"");
}

static bool dump_float(jbuild *b, double f)
{
    char text[JNUMBER_TEXT];
    if (isnan(f)) {
        return jbuild_c(b, "NaN");
    }
    if (isinf(f)) {
        return jbuild_c(b, f < 0 ? "-Infinity" : "Infinity");
    }
    return jbuild_bytes(b, text, jnumber_repr(f, text));
}

/* A line break and the indentation of a level, where there is one. */
static bool dump_break(jbuild *b, const json_style *style, size_t level)
{
    return !style->indent || (jbuild_c(b, "\n") && jbuild_fill(b, style->indent, level));
}

static bool dump_list(jbuild *b, const json_style *style, const jlist *l, size_t level)
{
    if (l->n == 0) {
        return jbuild_c(b, "[]");
    }
    bool ok = jbuild_c(b, "[");
    for (size_t i = 0; i < l->n && ok; i++) {
        ok = (i == 0 || jbuild_text(b, style->item_separator)) && dump_break(b, style, level + 1) &&
             dump(b, style, l->items[i], level + 1);
    }
    return ok && dump_break(b, style, level) && jbuild_c(b, "]");
}

static bool dump_key(jbuild *b, const json_style *style, jvalue key)
{
    char text[32];
    switch (key.kind) {
    case JTEXT:
        return dump_text(b, style, key.as.text);
    case JFLOAT:
        return jbuild_c(b, "\"") && dump_float(b, key.as.real) && jbuild_c(b, "\"");
    case JBOOL:
        return jbuild_c(b, key.as.boolean ? "\"true\"" : "\"false\"");
    case JNONE:
        return jbuild_c(b, "\"null\"");
    case JINT:
        snprintf(text, sizeof text, "\"%lld\"", (long long)key.as.integer);
        return jbuild_c(b, text);
    default:
        return jrun_fail(b->run, "tojson cannot write a key of type '%s'", jvalue_type(key));
    }
}

/* The numbers of the entries in order of their keys. */
static bool sorted_entries(jrun *r, const jdict *d, uint32_t **out)
{
    jvalue *keys = jrun_array(r, d->n, sizeof *keys);
    for (size_t i = 0; i < d->n && keys; i++) {
        keys[i] = d->entries[i].key;
    }
    return keys && jsort_order(r, keys, d->n, false, out);
}

static bool dump_dict(jbuild *b, const json_style *style, const jdict *d, size_t level)
{
    if (d->n == 0) {
        return jbuild_c(b, "{}");
    }
    uint32_t *order = NULL;
    if (style->sort && !sorted_entries(b->run, d, &order)) {
        return false;
    }
    bool ok = jbuild_c(b, "{");
    for (size_t i = 0; i < d->n && ok; i++) {
        const jentry *entry = &d->entries[order ? order[i] : i];
        ok = (i == 0 || jbuild_text(b, style->item_separator)) && dump_break(b, style, level + 1) &&
             dump_key(b, style, entry->key) && jbuild_text(b, style->key_separator) &&
             dump(b, style, entry->value, level + 1);
    }
    return ok && dump_break(b, style, level) && jbuild_c(b, "}");
}

static bool dump(jbuild *b, const json_style *style, jvalue v, size_t level)
{
    bool ok;
    if (!jrun_charge(b->run, 1)) {
        return false;
    }
    switch (v.kind) {
    case JNONE:
        return jbuild_c(b, "null");
    case JBOOL:
        return jbuild_c(b, v.as.boolean ? "true" : "false");
    case JINT:
        return jprint_repr(b, v);
    case JFLOAT:
        return dump_float(b, v.as.real);
    case JTEXT:
        return dump_text(b, style, v.as.text);
    case JLIST:
    case JTUPLE:
    case JDICT:
        if (!jrun_enter(b->run)) {
            return false;
        }
        ok = v.kind == JDICT ? dump_dict(b, style, v.as.dict, level) : dump_list(b, style, v.as.list, level);
        jrun_leave(b->run);
        return ok;
    case JUNDEFINED:
        return jrun_undefined(b->run, v);
    default:
        return jrun_fail(b->run, "tojson cannot write a value of type '%s'", jvalue_type(v));
    }
}

static bool read_indent(jrun *r, jvalue v, json_style *style)
{
    int64_t width = 0;
    if (v.kind == JMISSING || v.kind == JNONE) {
        return true;
    }
    if (v.kind == JTEXT) {
        style->indent = v.as.text;
        return true;
    }
    if (!jarg_int(r, "tojson's indent", v, &width)) {
        return false;
    }
    jbuild b = {.run = r};
    const jtext *space = jtext_of(r, " ");
    if (!space || !jbuild_fill(&b, space, width > 0 ? (size_t)width : 0)) {
        return false;
    }
    style->indent = jbuild_finish(&b);
    return style->indent != NULL;
}

static bool read_separators(jrun *r, jvalue v, json_style *style)
{
    if (v.kind == JMISSING || v.kind == JNONE) {
        style->item_separator = jtext_of(r, style->indent ? "," : ", ");
        style->key_separator = jtext_of(r, ": ");
        return style->item_separator && style->key_separator;
    }
    jlist *pair;
    if (!jiter_collect(r, v, &pair)) {
        return false;
    }
    if (pair->n != 2 || pair->items[0].kind != JTEXT || pair->items[1].kind != JTEXT) {
        return jrun_fail(r, "tojson's separators must be two strings");
    }
    style->item_separator = pair->items[0].as.text;
    style->key_separator = pair->items[1].as.text;
    return true;
}

/* tojson(ensure_ascii, indent, separators, sort_keys) */
bool jformat_json(jrun *r, const jcall *call, jvalue v, jvalue *out)
{
    json_style style = {.ascii = jvalue_true(call->args[0]), .sort = jvalue_true(call->args[3])};
    jbuild b = {.run = r};
    if (!read_indent(r, call->args[1], &style) || !read_separators(r, call->args[2], &style) ||
        !dump(&b, &style, v, 0)) {
        return false;
    }
    const jtext *t = jbuild_finish(&b);
    *out = jvalue_text(t);
    return t != NULL;
}
