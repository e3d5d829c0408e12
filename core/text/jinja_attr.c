/*
 * value.name, value[key] and value[start:stop:step], with the rules of Jinja's immutable sandbox: methods that change
 * their object, and private attributes, are undefined.
 * Owner: none. Lifetime: the call.
 */
#include "text/jinja_attr.h"

#include <string.h>

#include "text/jinja_run.h"

const jattr *jattr_find(const jtext *name)
{
    size_t low = 0, high = jattr_table_n;
    while (low < high) { /* the first row that is not smaller */
        size_t mid = (low + high) / 2;
        const char *have = jattr_table[mid].function.name;
        size_t n = strlen(have);
        int order = memcmp(have, name->bytes, n < name->n ? n : name->n);
        if (order < 0 || (order == 0 && n < name->n)) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < jattr_table_n && jtext_is(name, jattr_table[low].function.name) ? &jattr_table[low] : NULL;
}

/* The row for values of this kind among those of the same name. */
static const jattr *row_for(const jattr *known, jkind kind)
{
    if (!known) {
        return NULL;
    }
    const char *name = known->function.name;
    for (const jattr *row = known; row < jattr_table + jattr_table_n && strcmp(row->function.name, name) == 0; row++) {
        if (row->kinds & JATTR_OF(kind)) {
            return row;
        }
    }
    return NULL;
}

static bool bind_method(jrun *r, jvalue v, const jfunction *function, jvalue *out)
{
    jbound *bound = jrun_alloc(r, sizeof *bound);
    if (!bound) {
        return false;
    }
    *bound = (jbound){.function = function, .self = v};
    *out = (jvalue){.kind = JMETHOD, .as.bound = bound};
    return true;
}

static bool is_private(const jtext *name)
{
    return name->n > 0 && name->bytes[0] == '_';
}

static bool is_dunder(const jtext *name)
{
    return name->n > 4 && memcmp(name->bytes, "__", 2) == 0 && memcmp(name->bytes + name->n - 2, "__", 2) == 0;
}

static bool group_attr(jvalue v, const jtext *name, jvalue *out)
{
    if (v.kind == JTUPLE && v.note == JNOTE_GROUP && (jtext_is(name, "grouper") || jtext_is(name, "list"))) {
        *out = v.as.list->items[name->bytes[0] == 'l'];
        return true;
    }
    return false;
}

bool jvalue_attr_only(jrun *r, jvalue v, const jtext *name, const jattr *known, jvalue *out)
{
    *out = JVALUE_MISSING;
    if (v.kind == JNAMESPACE) {
        const jentry *entry = jdict_get(v.as.dict, name);
        *out = entry ? entry->value : JVALUE_MISSING;
        return true;
    }
    if (v.kind == JLOOP) {
        return jloop_attr(r, v.as.loop, name, out);
    }
    const jattr *row = row_for(known, (jkind)v.kind);
    if (row && row->get) {
        return row->get(r, row, v, out);
    }
    if (row && row->unsafe) {
        *out = jvalue_undefined(JWHY_UNSAFE, name);
        return true;
    }
    if (row) {
        return bind_method(r, v, &row->function, out);
    }
    if (group_attr(v, name, out)) {
        return true;
    }
    if (v.kind == JUNDEFINED && !jtext_is(name, "__class__")) {
        return jrun_undefined(r, v);
    }
    if (is_dunder(name) && v.kind != JDICT) {
        *out = jvalue_undefined(JWHY_UNSAFE, name);
    }
    return true;
}

bool jvalue_attr(jrun *r, jvalue v, const jtext *name, const jattr *known, jvalue *out)
{
    if (v.kind == JDICT && !known) { /* by far the most frequent */
        const jentry *entry = jdict_get(v.as.dict, name);
        *out = entry ? entry->value : jvalue_undefined(is_private(name) ? JWHY_UNSAFE : JWHY_ATTRIBUTE, name);
        return true;
    }
    if (!jvalue_attr_only(r, v, name, known, out)) {
        return false;
    }
    if (out->kind == JMISSING) {
        const jentry *entry = v.kind == JDICT ? jdict_get(v.as.dict, name) : NULL;
        *out = entry ? entry->value : jvalue_undefined(JWHY_ATTRIBUTE, name);
    }
    return true;
}

/* What an undefined item is called: the key, printed. */
static bool undefined_item(jrun *r, jvalue key, jvalue *out)
{
    const jtext *name = key.kind == JTEXT ? key.as.text : NULL;
    if (!name) {
        jbuild b = {.run = r};
        bool plain = key.kind == JINT || key.kind == JFLOAT || key.kind == JBOOL || key.kind == JNONE;
        name = (plain ? jprint_repr(&b, key) : jbuild_c(&b, jvalue_type(key))) ? jbuild_finish(&b) : NULL;
    }
    *out = jvalue_undefined(JWHY_ATTRIBUTE, name);
    return name != NULL;
}

static bool item_at(jrun *r, jvalue v, int64_t i, jvalue *out)
{
    size_t n;
    jvalue_length(v, &n);
    if (i < 0) {
        i += (int64_t)n;
    }
    if (i < 0 || (uint64_t)i >= n) {
        return undefined_item(r, jvalue_int(i), out);
    }
    if (v.kind == JTEXT) {
        const jtext *t = v.as.text;
        uint32_t code;
        size_t from = jtext_offset(t, (size_t)i);
        jtext *c = jrun_charge_bytes(r, jtext_count(t) == t->n ? 0 : t->n)
                       ? jtext_sub(r, t, from, from + jtext_char(t->bytes, t->n, from, &code))
                       : NULL;
        if (c) {
            c->markup = t->markup;
        }
        *out = jvalue_text(c);
        return c != NULL;
    }
    *out = v.kind == JRANGE ? jvalue_int(jrange_at(v.as.range, i)) : v.as.list->items[i];
    return true;
}

/* Whether Python could use it as a key. Tuples nested absurdly deep count: hashing them says so. */
static bool is_hashable(jvalue key, unsigned depth)
{
    if (key.kind != JTUPLE || depth > JDEPTH_MAX) {
        return key.kind != JLIST && key.kind != JDICT && key.kind != JVIEW;
    }
    for (size_t i = 0; i < key.as.list->n; i++) {
        if (!is_hashable(key.as.list->items[i], depth + 1)) {
            return false;
        }
    }
    return true;
}

bool jvalue_item(jrun *r, jvalue v, jvalue key, jvalue *out)
{
    const jentry *entry = NULL;
    switch (v.kind) {
    case JUNDEFINED:
        return jrun_undefined(r, v);
    case JDICT:
        if (!is_hashable(key, 0)) {
            return undefined_item(r, key, out);
        }
        if (!jdict_find(r, v.as.dict, key, &entry)) {
            return false;
        }
        if (entry) {
            *out = entry->value;
            return true;
        }
        break;
    case JTEXT:
    case JLIST:
    case JTUPLE:
    case JRANGE:
        if (jvalue_is_integer(key)) {
            return item_at(r, v, jvalue_integer(key), out);
        }
        break;
    default:
        break;
    }
    if (key.kind == JTEXT) {
        if (!jvalue_attr_only(r, v, key.as.text, jattr_find(key.as.text), out)) {
            return false;
        }
        if (out->kind != JMISSING) {
            return true;
        }
    }
    return undefined_item(r, key, out);
}

/* ---- slices ------------------------------------------------------------------------------------------------------ */

static bool slice_part(jrun *r, jvalue v, int64_t *out)
{
    if (v.kind == JNONE || v.kind == JMISSING) {
        return true;
    }
    return jarg_int(r, "the bound of a slice", v, out);
}

static int64_t clamp(int64_t bound, int64_t n, bool backwards)
{
    if (bound < 0) {
        bound += n;
        return bound < 0 ? (backwards ? -1 : 0) : bound;
    }
    return bound >= n ? (backwards ? n - 1 : n) : bound;
}

bool jslice_resolve(jrun *r, jvalue start, jvalue stop, jvalue step, size_t n, jslice *out)
{
    int64_t length = (int64_t)n, by = 1;
    if (!slice_part(r, step, &by)) {
        return false;
    }
    if (by == 0) {
        return jrun_fail(r, "the step of a slice is zero");
    }
    bool backwards = by < 0;
    by = by < -INT64_MAX ? -INT64_MAX : by;
    int64_t from = backwards ? INT64_MAX : 0, to = backwards ? INT64_MIN : INT64_MAX;
    if (!slice_part(r, start, &from) || !slice_part(r, stop, &to)) {
        return false;
    }
    from = clamp(from, length, backwards);
    to = to == INT64_MIN ? (backwards ? -1 : 0) : clamp(to, length, backwards);
    int64_t span = backwards ? from - to : to - from, size = backwards ? -by : by;
    *out = (jslice){.first = from, .end = to, .by = by, .count = span > 0 ? (span - 1) / size + 1 : 0};
    return true;
}

static bool slice_text(jrun *r, const jtext *t, jslice s, jvalue *out)
{
    int64_t first = s.first, by = s.by, count = s.count;
    jtext *sub;
    size_t from = jtext_offset(t, (size_t)(first < 0 ? 0 : first));
    if (!jrun_charge_bytes(r, jtext_count(t) == t->n ? 0 : t->n)) {
        return false;
    }
    if (by == 1 || count == 0) {
        size_t to = count == 0 ? from : jtext_offset(t, (size_t)(first + count));
        sub = jtext_sub(r, t, from, to);
    } else {
        /* Offsets of all characters, so that a step of -1 does not walk the text for each of them. */
        jbuild b = {.run = r};
        size_t n = jtext_count(t);
        size_t *offsets = jrun_array(r, n + 1, sizeof *offsets);
        if (!offsets || !jrun_charge(r, (uint64_t)count)) {
            return false;
        }
        uint32_t code;
        for (size_t i = 0; i < n; i++) {
            offsets[i + 1] = offsets[i] + jtext_char(t->bytes, t->n, offsets[i], &code);
        }
        for (int64_t i = 0; i < count; i++) {
            size_t at = (size_t)(first + i * by);
            if (!jbuild_bytes(&b, t->bytes + offsets[at], offsets[at + 1] - offsets[at])) {
                return false;
            }
        }
        sub = jbuild_finish(&b);
    }
    if (sub) {
        sub->markup = t->markup;
    }
    *out = jvalue_text(sub);
    return sub != NULL;
}

static bool slice_list(jrun *r, jvalue v, jslice s, jvalue *out)
{
    int64_t first = s.first, by = s.by, count = s.count;
    jlist *l = jlist_new(r);
    if (!l) {
        return false;
    }
    if (by == 1 || count == 0) { /* nothing changes a list, so a part of it can stand where it is */
        *l = (jlist){.items = v.as.list->items + (count ? first : 0), .n = (size_t)count};
    } else {
        jvalue *items = jrun_charge(r, (uint64_t)count) ? jrun_array(r, (size_t)count, sizeof *items) : NULL;
        if (!items) {
            return false;
        }
        for (int64_t i = 0; i < count; i++) {
            items[i] = v.as.list->items[first + i * by];
        }
        *l = (jlist){.items = items, .n = (size_t)count};
    }
    *out = (jvalue){.kind = v.kind, .as.list = l};
    return true;
}

static bool slice_range(jrun *r, const jrange *range, jslice s, jvalue *out)
{
    jrange *sub = jrun_alloc(r, sizeof *sub);
    if (!sub) {
        return false;
    }
    *sub = (jrange){.start = jrange_at(range, s.first), .stop = jrange_at(range, s.end), .n = s.count};
    if (__builtin_mul_overflow(range->step, s.by, &sub->step)) {
        sub->step = (range->step < 0) == (s.by < 0) ? INT64_MAX : INT64_MIN; /* more than one step never fits then */
    }
    *out = (jvalue){.kind = JRANGE, .as.range = sub};
    return true;
}

bool jvalue_slice(jrun *r, jvalue v, jvalue start, jvalue stop, jvalue step, jvalue *out)
{
    size_t n;
    jslice s;
    if (v.kind == JUNDEFINED) {
        return jrun_undefined(r, v);
    }
    if (v.kind != JTEXT && v.kind != JLIST && v.kind != JTUPLE && v.kind != JRANGE) {
        return jrun_fail(r, "a value of type '%s' cannot be sliced", jvalue_type(v));
    }
    jvalue_length(v, &n);
    if (!jslice_resolve(r, start, stop, step, n, &s)) {
        return false;
    }
    if (v.kind == JTEXT) {
        return slice_text(r, v.as.text, s, out);
    }
    return v.kind == JRANGE ? slice_range(r, v.as.range, s, out) : slice_list(r, v, s, out);
}
