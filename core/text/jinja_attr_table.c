/*
 * The attributes of built-in types: methods of lists, dicts, ranges and cyclers, and the table of all attributes.
 * Owner: none; constant. Lifetime: the program.
 */
#include "text/jinja_attr.h"
#include "text/jinja_methods.h"
#include "text/jinja_unicode.h"

JNATIVE(jlist_count)
{
    int64_t n = 0;
    (void)f;
    for (size_t i = 0; i < self.as.list->n; i++) {
        bool same;
        if (!jvalue_equal(r, self.as.list->items[i], call->args[0], &same)) {
            return false;
        }
        n += same;
    }
    *out = jvalue_int(n);
    return true;
}

JNATIVE(jlist_index)
{
    jslice s;
    (void)f;
    if (!jslice_resolve(r, call->args[1], call->args[2], JVALUE_NONE, self.as.list->n, &s)) {
        return false;
    }
    for (int64_t i = s.first; i < s.first + s.count; i++) {
        bool same;
        if (!jvalue_equal(r, self.as.list->items[i], call->args[0], &same)) {
            return false;
        }
        if (same) {
            *out = jvalue_int(i);
            return true;
        }
    }
    return jrun_fail(r, "index() did not find its value");
}

JNATIVE(jlist_duplicate)
{
    (void)f;
    (void)call;
    jlist *l = jlist_copy(r, self.as.list->items, self.as.list->n);
    *out = jvalue_list(l);
    return l != NULL;
}

/* range.count(value) and range.index(value) */
JNATIVE(jrange_count)
{
    for (int64_t i = 0; i < self.as.range->n; i++) {
        bool same;
        if (!jvalue_equal(r, jvalue_int(jrange_at(self.as.range, i)), call->args[0], &same)) {
            return false;
        }
        if (same) {
            *out = jvalue_int(f->tag ? i : 1);
            return true;
        }
    }
    if (f->tag) {
        return jrun_fail(r, "index() did not find its value");
    }
    *out = jvalue_int(0);
    return true;
}

JNATIVE(jdict_get_method)
{
    const jentry *entry;
    (void)f;
    if (!jdict_find(r, self.as.dict, call->args[0], &entry)) {
        return false;
    }
    *out = entry ? entry->value : call->args[1].kind == JMISSING ? JVALUE_NONE : call->args[1];
    return true;
}

JNATIVE(jdict_view)
{
    (void)r;
    (void)call;
    *out = (jvalue){.kind = JVIEW, .note = (uint8_t)f->tag, .as.dict = self.as.dict};
    return true;
}

JNATIVE(jdict_duplicate)
{
    jdict *copy;
    (void)f;
    (void)call;
    if (!jdict_copy(r, self.as.dict, &copy)) {
        return false;
    }
    *out = jvalue_dict(copy);
    return true;
}

JNATIVE(jcycler_method)
{
    jcycler *c = self.as.cycler;
    (void)r;
    (void)call;
    if (f->tag) { /* reset() */
        c->at = 0;
        *out = JVALUE_NONE;
        return true;
    }
    *out = c->items->items[c->at];
    c->at = (c->at + 1) % c->items->n;
    return true;
}

static bool cycler_current(jrun *r, const jattr *row, jvalue v, jvalue *out)
{
    (void)r;
    (void)row;
    *out = v.as.cycler->items->items[v.as.cycler->at];
    return true;
}

static bool range_part(jrun *r, const jattr *row, jvalue v, jvalue *out)
{
    (void)r;
    const jrange *range = v.as.range;
    *out = jvalue_int(row->function.tag == 0 ? range->start : row->function.tag == 1 ? range->stop : range->step);
    return true;
}

static bool macro_attr(jrun *r, const jattr *row, jvalue v, jvalue *out)
{
    (void)r;
    (void)row;
    const jtext *name = jmacro_name(v.as.macro);
    *out = name ? jvalue_text(name) : JVALUE_NONE;
    return true;
}

static bool separator_attr(jrun *r, const jattr *row, jvalue v, jvalue *out)
{
    (void)r;
    *out = row->function.tag ? jvalue_bool(v.as.joiner->used) : jvalue_text(v.as.joiner->separator);
    return true;
}

#define TEXT JATTR_OF(JTEXT)
#define LIST JATTR_OF(JLIST)
#define TUPLE JATTR_OF(JTUPLE)
#define DICT JATTR_OF(JDICT)
#define RANGE JATTR_OF(JRANGE)
#define CYCLER JATTR_OF(JCYCLER)
#define NUMBER (JATTR_OF(JINT) | JATTR_OF(JBOOL) | JATTR_OF(JFLOAT))
#define METHOD(name, kinds, params, native, tag) {{name, params, native, tag}, kinds, false, NULL}
#define UNSAFE(name, kinds) {{name, "", NULL, 0}, kinds, true, NULL}
#define UNSUPPORTED(name, kinds) {{name, "", NULL, 0}, kinds, false, NULL}
#define VALUE(name, kinds, get, tag) {{name, "", NULL, tag}, kinds, false, get}

/* Sorted by name. What Python's types have and templates have no use for is listed too, so that it is refused by name
 * instead of looking undefined. */
const jattr jattr_table[] = {
    UNSAFE("append", LIST),
    UNSUPPORTED("arguments", JATTR_OF(JMACRO)),
    UNSUPPORTED("as_integer_ratio", NUMBER),
    UNSUPPORTED("bit_count", JATTR_OF(JINT) | JATTR_OF(JBOOL)),
    UNSUPPORTED("bit_length", JATTR_OF(JINT) | JATTR_OF(JBOOL)),
    METHOD("capitalize", TEXT, "", jstr_recase, 0),
    METHOD("casefold", TEXT, "", jstr_convert, JCASE_FOLD),
    METHOD("center", TEXT, "width ?fill /", jstr_pad, 0),
    UNSAFE("clear", LIST | DICT),
    UNSUPPORTED("conjugate", NUMBER),
    METHOD("copy", LIST, "", jlist_duplicate, 0),
    METHOD("copy", DICT, "", jdict_duplicate, 0),
    METHOD("count", TEXT, "sub ?start ?end /", jstr_count, 0),
    METHOD("count", LIST | TUPLE, "value /", jlist_count, 0),
    METHOD("count", RANGE, "value /", jrange_count, 0),
    VALUE("current", CYCLER, cycler_current, 0),
    UNSUPPORTED("denominator", NUMBER),
    UNSUPPORTED("encode", TEXT),
    METHOD("endswith", TEXT, "suffix ?start ?end /", jstr_affix, 1),
    METHOD("expandtabs", TEXT, "?tabsize", jstr_expandtabs, 0),
    UNSAFE("extend", LIST),
    METHOD("find", TEXT, "sub ?start ?end /", jstr_find, 0),
    METHOD("format", TEXT, NULL, jstr_format, 0),
    METHOD("format_map", TEXT, "mapping /", jstr_format_map, 0),
    UNSUPPORTED("fromkeys", DICT),
    METHOD("get", DICT, "key ?default /", jdict_get_method, 0),
    UNSUPPORTED("hex", JATTR_OF(JFLOAT)),
    UNSUPPORTED("imag", NUMBER),
    METHOD("index", TEXT, "sub ?start ?end /", jstr_find, 2),
    METHOD("index", LIST | TUPLE, "value ?start ?stop /", jlist_index, 0),
    METHOD("index", RANGE, "value /", jrange_count, 1),
    UNSAFE("insert", LIST),
    UNSUPPORTED("is_integer", JATTR_OF(JFLOAT)),
    METHOD("isalnum", TEXT, "", jstr_is, 0),
    METHOD("isalpha", TEXT, "", jstr_is, 1),
    METHOD("isascii", TEXT, "", jstr_is, 6),
    METHOD("isdecimal", TEXT, "", jstr_is, 2),
    METHOD("isdigit", TEXT, "", jstr_is, 3),
    UNSUPPORTED("isdisjoint", JATTR_OF(JVIEW)),
    METHOD("isidentifier", TEXT, "", jstr_is, 8),
    METHOD("islower", TEXT, "", jstr_is, 10),
    METHOD("isnumeric", TEXT, "", jstr_is, 4),
    METHOD("isprintable", TEXT, "", jstr_is, 7),
    METHOD("isspace", TEXT, "", jstr_is, 5),
    METHOD("istitle", TEXT, "", jstr_is, 11),
    METHOD("isupper", TEXT, "", jstr_is, 9),
    METHOD("items", DICT, "", jdict_view, JVIEW_ITEMS),
    METHOD("join", TEXT, "iterable /", jstr_join, 0),
    METHOD("keys", DICT, "", jdict_view, JVIEW_KEYS),
    METHOD("ljust", TEXT, "width ?fill /", jstr_pad, 1),
    METHOD("lower", TEXT, "", jstr_convert, JCASE_LOWER),
    METHOD("lstrip", TEXT, "?chars /", jstr_strip, 1),
    UNSUPPORTED("maketrans", TEXT),
    UNSUPPORTED("mapping", JATTR_OF(JVIEW)),
    VALUE("name", JATTR_OF(JMACRO), macro_attr, 0),
    METHOD("next", CYCLER, "", jcycler_method, 0),
    UNSUPPORTED("numerator", NUMBER),
    METHOD("partition", TEXT, "sep /", jstr_partition, 0),
    UNSAFE("pop", LIST | DICT),
    UNSAFE("popitem", DICT),
    UNSUPPORTED("real", NUMBER),
    UNSAFE("remove", LIST),
    METHOD("removeprefix", TEXT, "prefix /", jstr_remove, 1),
    METHOD("removesuffix", TEXT, "suffix /", jstr_remove, 0),
    METHOD("replace", TEXT, "old new ?count /", jstr_replace, 0),
    METHOD("reset", CYCLER, "", jcycler_method, 1),
    UNSAFE("reverse", LIST),
    METHOD("rfind", TEXT, "sub ?start ?end /", jstr_find, 1),
    METHOD("rindex", TEXT, "sub ?start ?end /", jstr_find, 3),
    METHOD("rjust", TEXT, "width ?fill /", jstr_pad, 2),
    METHOD("rpartition", TEXT, "sep /", jstr_partition, 1),
    METHOD("rsplit", TEXT, "?sep ?maxsplit", jstr_split, 1),
    METHOD("rstrip", TEXT, "?chars /", jstr_strip, 2),
    VALUE("sep", JATTR_OF(JJOINER), separator_attr, 0),
    UNSAFE("setdefault", DICT),
    UNSAFE("sort", LIST),
    METHOD("split", TEXT, "?sep ?maxsplit", jstr_split, 0),
    METHOD("splitlines", TEXT, "?keepends", jstr_splitlines, 0),
    VALUE("start", RANGE, range_part, 0),
    METHOD("startswith", TEXT, "prefix ?start ?end /", jstr_affix, 0),
    VALUE("step", RANGE, range_part, 2),
    VALUE("stop", RANGE, range_part, 1),
    METHOD("strip", TEXT, "?chars /", jstr_strip, 3),
    METHOD("swapcase", TEXT, "", jstr_recase, 2),
    METHOD("title", TEXT, "", jstr_recase, 1),
    UNSUPPORTED("to_bytes", JATTR_OF(JINT) | JATTR_OF(JBOOL)),
    UNSUPPORTED("translate", TEXT),
    UNSAFE("update", DICT),
    METHOD("upper", TEXT, "", jstr_convert, JCASE_UPPER),
    VALUE("used", JATTR_OF(JJOINER), separator_attr, 1),
    METHOD("values", DICT, "", jdict_view, JVIEW_VALUES),
    METHOD("zfill", TEXT, "width /", jstr_zfill, 0),
};

const size_t jattr_table_n = sizeof jattr_table / sizeof *jattr_table;
