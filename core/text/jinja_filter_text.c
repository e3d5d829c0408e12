/*
 * Filters on texts.
 * Owner: none. Lifetime: the call.
 */
#include <string.h>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

/* The input as text, and the result of a str method on it: markup stays markup. */
static bool give(const jtext *source, jrun *r, const jtext *t, jvalue *out)
{
    if (t && source->markup) {
        t = jtext_with_markup(r, t, true);
    }
    *out = jvalue_text(t);
    return t != NULL;
}

/* upper, lower */
JNATIVE(jfilter_convert)
{
    const jtext *t = jvalue_soft_str(r, self);
    (void)call;
    return t && give(t, r, junicode_convert(r, t, (jcase)f->tag), out);
}

JNATIVE(jfilter_capitalize)
{
    const jtext *t = jvalue_soft_str(r, self);
    (void)f;
    (void)call;
    return t && give(t, r, junicode_capitalize(r, t), out);
}

static bool starts_word(uint32_t code)
{
    return code == '-' || code == '(' || code == '{' || code == '[' || code == '<' || junicode_is_space(code);
}

/* Words begin behind white space and opening brackets, unlike in str.title(). */
JNATIVE(jfilter_title)
{
    const jtext *t = jvalue_soft_str(r, self);
    jbuild b = {.run = r};
    (void)f;
    (void)call;
    for (size_t at = 0; t && at < t->n;) {
        uint32_t code;
        size_t used = jtext_char(t->bytes, t->n, at, &code);
        const jtext *first = jtext_sub(r, t, at, at + used), *rest;
        at += used;
        if (starts_word(code)) {
            if (!first || !jbuild_text(&b, first)) {
                return false;
            }
            continue;
        }
        size_t from = at;
        while (at < t->n) {
            used = jtext_char(t->bytes, t->n, at, &code);
            if (starts_word(code)) {
                break;
            }
            at += used;
        }
        rest = jtext_sub(r, t, from, at);
        first = first ? junicode_convert(r, first, JCASE_UPPER) : NULL;
        rest = rest ? junicode_convert(r, rest, JCASE_LOWER) : NULL;
        if (!first || !rest || !jbuild_text(&b, first) || !jbuild_text(&b, rest)) {
            return false;
        }
    }
    const jtext *title = t ? jbuild_finish(&b) : NULL;
    *out = jvalue_text(title);
    return title != NULL;
}

JNATIVE(jfilter_trim)
{
    const jtext *t = jvalue_soft_str(r, self), *set = NULL, *trimmed;
    (void)f;
    if (!t || (call->args[0].kind != JNONE && !jarg_text(r, "the characters to trim", call->args[0], &set))) {
        return false;
    }
    return jstr_strip_text(r, t, set, 3, &trimmed) && give(t, r, trimmed, out);
}

JNATIVE(jfilter_center)
{
    const jtext *t = jvalue_soft_str(r, self), *blank = jtext_of(r, " ");
    int64_t width = 80;
    (void)f;
    return t && blank && jarg_int(r, "the width", call->args[0], &width) &&
           give(t, r, jstr_pad_text(r, t, width, blank, 0), out);
}

JNATIVE(jfilter_replace)
{
    const jtext *t = jvalue_str(r, self), *old = jvalue_str(r, call->args[0]), *new = jvalue_str(r, call->args[1]);
    int64_t count = -1;
    (void)f;
    if (!t || !old || !new || (call->args[2].kind != JNONE && !jarg_int(r, "the count", call->args[2], &count))) {
        return false;
    }
    const jtext *replaced = jstr_replace_text(r, t, old, new, count);
    *out = jvalue_text(replaced);
    return replaced != NULL;
}

/* indent(width, first, blank) */
JNATIVE(jfilter_indent)
{
    const jtext *step = NULL, *s = NULL;
    int64_t width = 4;
    jlist *lines = jlist_new(r);
    jbuild indentation = {.run = r}, b = {.run = r};
    bool first = jvalue_true(call->args[1]), blank = jvalue_true(call->args[2]);
    (void)f;
    if (!lines || !jarg_text(r, "the input of indent", self, &s)) {
        return false;
    }
    if (call->args[0].kind == JTEXT) {
        step = call->args[0].as.text; /* beside markup it counts as markup: it is not escaped */
    } else {
        const jtext *space = jtext_of(r, " ");
        if (!space || !jarg_int(r, "the width", call->args[0], &width) ||
            !jbuild_fill(&indentation, space, width > 0 ? (size_t)width : 0)) {
            return false;
        }
        step = jbuild_finish(&indentation);
    }
    const jtext *line_break = jtext_of(r, "\n"), *whole = line_break ? jtext_concat(r, s, line_break) : NULL;
    if (!step || !whole || !jstr_split_lines(r, jvalue_text(whole), false, lines)) {
        return false;
    }
    bool ok = !first || jbuild_text(&b, step);
    for (size_t i = 0; i < lines->n && ok; i++) {
        const jtext *line = lines->items[i].as.text;
        ok = (i == 0 || jbuild_c(&b, "\n")) && (i == 0 || (line->n == 0 && !blank) || jbuild_text(&b, step)) &&
             jbuild_text(&b, line);
    }
    return ok && give(s, r, jbuild_finish(&b), out);
}

/* truncate(length, killwords, end, leeway) */
JNATIVE(jfilter_truncate)
{
    const jtext *end = jtext_of(r, "..."), *t = NULL;
    int64_t length = 255, leeway = 5;
    size_t n;
    (void)f;
    if (!end || !jarg_int(r, "the length", call->args[0], &length) || !jarg_text(r, "the end", call->args[2], &end) ||
        (call->args[3].kind != JNONE && !jarg_int(r, "the leeway", call->args[3], &leeway))) {
        return false;
    }
    size_t n_end = jtext_count(end);
    if (length < (int64_t)n_end || leeway < 0) {
        return jrun_fail(r, "truncate() needs a length of at least that of its end, and a leeway of at least 0");
    }
    if (!jvalue_length(self, &n)) {
        return jrun_fail(r, "truncate() needs a string, not '%s'", jvalue_type(self));
    }
    if (n <= (uint64_t)length || n - (uint64_t)length <= (uint64_t)leeway) {
        *out = self;
        return true;
    }
    if (!jarg_text(r, "the input of truncate", self, &t)) {
        return false;
    }
    size_t cut = jtext_offset(t, (size_t)length - n_end);
    if (!jvalue_true(call->args[1])) { /* back to the end of a word */
        size_t at = cut;
        while (at > 0 && t->bytes[at - 1] != ' ') {
            at--;
        }
        cut = at > 0 ? at - 1 : cut;
    }
    jtext *head = jtext_sub(r, t, 0, cut);
    if (!head) {
        return false;
    }
    head->markup = t->markup;
    return jop_binary(r, JOP_ADD, jvalue_text(head), jvalue_text(end), out);
}

JNATIVE(jfilter_wordcount)
{
    const jtext *t = jvalue_soft_str(r, self);
    int64_t n = 0;
    bool inside = false;
    (void)f;
    (void)call;
    for (size_t at = 0; t && at < t->n;) {
        uint32_t code;
        at += jtext_char(t->bytes, t->n, at, &code);
        bool word = junicode_is_word(code);
        n += word && !inside;
        inside = word;
    }
    *out = jvalue_int(n);
    return t && jrun_charge_bytes(r, t->n);
}

JNATIVE(jfilter_string)
{
    const jtext *t = jvalue_soft_str(r, self);
    (void)f;
    (void)call;
    *out = jvalue_text(t);
    return t != NULL;
}

JNATIVE(jfilter_safe)
{
    const jtext *t = jvalue_soft_str(r, self);
    (void)f;
    (void)call;
    t = t ? jtext_with_markup(r, t, true) : NULL;
    *out = jvalue_text(t);
    return t != NULL;
}

/* escape; forceescape (1), which escapes markup again */
JNATIVE(jfilter_escape)
{
    const jtext *t = jvalue_soft_str(r, self);
    (void)call;
    if (t && f->tag) {
        t = jtext_with_markup(r, t, false);
    }
    t = t ? jtext_escape(r, t) : NULL;
    *out = jvalue_text(t);
    return t != NULL;
}

JNATIVE(jfilter_format)
{
    const jtext *t = jvalue_soft_str(r, self);
    (void)f;
    if (!t) {
        return false;
    }
    if (call->n_keywords == 0) {
        jlist *values = jlist_copy(r, call->args, call->n_args);
        return values && jop_percent(r, t, jvalue_tuple(values), out);
    }
    if (call->n_args) {
        return jrun_fail(r, "format() takes values or keywords, not both");
    }
    jdict *names = jdict_new(r);
    bool ok = names != NULL;
    for (size_t i = 0; i < call->n_keywords && ok; i++) {
        ok = jdict_set_text(r, names, call->keywords[i].name, call->keywords[i].value);
    }
    return ok && jop_percent(r, t, jvalue_dict(names), out);
}

JNATIVE(jfilter_tojson)
{
    (void)f;
    return jformat_json(r, call, self, out);
}

/* ---- for URLs and XML -------------------------------------------------------------------------------------------- */

static bool quote(jbuild *b, jvalue v, bool in_query)
{
    const jtext *t = jvalue_str(b->run, v);
    bool ok = t != NULL;
    for (size_t i = 0; ok && i < t->n; i++) {
        unsigned char c = (unsigned char)t->bytes[i];
        unsigned char letter = c | 0x20;
        bool plain = (letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || (c && strchr("_.-~", c)) ||
                     (c == '/' && !in_query);
        if (plain) {
            ok = jbuild_bytes(b, &t->bytes[i], 1);
        } else if (c == ' ' && in_query) {
            ok = jbuild_c(b, "+");
        } else {
            const char *digits = "0123456789ABCDEF";
            char hex[3] = {'%', digits[c >> 4], digits[c & 15]};
            ok = jbuild_bytes(b, hex, 3);
        }
    }
    return ok;
}

JNATIVE(jfilter_urlencode)
{
    jbuild b = {.run = r};
    (void)f;
    (void)call;
    bool ok = true;
    if (self.kind == JTEXT || !jvalue_iterable(self)) {
        ok = quote(&b, self, false);
    } else {
        jlist *pairs;
        jvalue source = self.kind == JDICT ? (jvalue){.kind = JVIEW, .note = JVIEW_ITEMS, .as.dict = self.as.dict}
                                           : self;
        if (!jiter_collect(r, source, &pairs)) {
            return false;
        }
        for (size_t i = 0; i < pairs->n && ok; i++) {
            jlist *pair;
            if (!jiter_collect(r, pairs->items[i], &pair)) {
                return false;
            }
            if (pair->n != 2) {
                return jrun_fail(r, "urlencode needs pairs of a name and a value");
            }
            ok = (i == 0 || jbuild_c(&b, "&")) && quote(&b, pair->items[0], true) && jbuild_c(&b, "=") &&
                 quote(&b, pair->items[1], true);
        }
    }
    const jtext *t = ok ? jbuild_finish(&b) : NULL;
    *out = jvalue_text(t);
    return t != NULL;
}

static bool append_escaped(jbuild *b, jvalue v)
{
    const jtext *t = jvalue_soft_str(b->run, v);
    t = t ? jtext_escape(b->run, t) : NULL;
    return t && jbuild_text(b, t);
}

JNATIVE(jfilter_xmlattr)
{
    jbuild b = {.run = r};
    bool space = call->args[0].kind == JMISSING || jvalue_true(call->args[0]), any = false;
    (void)f;
    if (self.kind != JDICT) {
        return self.kind == JUNDEFINED ? jrun_undefined(r, self) : jrun_fail(r, "xmlattr needs a dict");
    }
    for (size_t i = 0; i < self.as.dict->n; i++) {
        const jentry *entry = &self.as.dict->entries[i];
        const jtext *key = NULL;
        if (entry->value.kind == JNONE || entry->value.kind == JUNDEFINED) {
            continue;
        }
        if (!jarg_text(r, "the name of an attribute", entry->key, &key)) {
            return false;
        }
        for (size_t k = 0; k < key->n; k++) {
            if (key->bytes[k] && strchr(" \t\n\r\f\v/>=", key->bytes[k])) {
                return jrun_fail(r, "the name of an attribute holds the character '%c'", key->bytes[k]);
            }
        }
        if ((any || space) && !jbuild_c(&b, " ")) {
            return false;
        }
        any = true;
        if (!append_escaped(&b, entry->key) || !jbuild_c(&b, "=\"") || !append_escaped(&b, entry->value) ||
            !jbuild_c(&b, "\"")) {
            return false;
        }
    }
    const jtext *t = jbuild_finish(&b);
    *out = jvalue_text(t);
    return t != NULL;
}
