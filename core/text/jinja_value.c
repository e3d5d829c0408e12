/*
 * What Python does with any value: truth, equality, order, hashing; lists and dicts.
 * Owner: the render, or the compiled template for constants. Lifetime: the same.
 */
#include "text/jinja_value.h"

#include <math.h>
#include <string.h>

#include "text/jinja_run.h"

#define INDEX_FROM 9 /* smaller dicts are searched from end to end */

const char *jvalue_type(jvalue v)
{
    static const char *const names[] = {
        [JMISSING] = "missing", [JUNDEFINED] = "Undefined", [JNONE] = "None",      [JBOOL] = "bool",
        [JINT] = "int",         [JFLOAT] = "float",         [JTEXT] = "str",       [JLIST] = "list",
        [JTUPLE] = "tuple",     [JDICT] = "dict",           [JVIEW] = "dict view", [JRANGE] = "range",
        [JITER] = "generator",  [JNAMESPACE] = "namespace", [JMACRO] = "macro",    [JFUNCTION] = "function",
        [JMETHOD] = "method",   [JLOOP] = "loop",           [JCYCLER] = "cycler",  [JJOINER] = "joiner",
    };
    return names[v.kind];
}

bool jvalue_true(jvalue v)
{
    switch (v.kind) {
    case JMISSING:
    case JUNDEFINED:
    case JNONE:
        return false;
    case JBOOL:
        return v.as.boolean;
    case JINT:
        return v.as.integer != 0;
    case JFLOAT:
        return v.as.real != 0.0;
    case JTEXT:
        return v.as.text->n > 0;
    case JLIST:
    case JTUPLE:
        return v.as.list->n > 0;
    case JDICT:
    case JVIEW:
        return v.as.dict->n > 0;
    case JRANGE:
        return v.as.range->n > 0;
    default:
        return true;
    }
}

bool jvalue_length(jvalue v, size_t *out)
{
    switch (v.kind) {
    case JUNDEFINED:
        *out = 0;
        return true;
    case JTEXT:
        *out = jtext_count(v.as.text);
        return true;
    case JLIST:
    case JTUPLE:
        *out = v.as.list->n;
        return true;
    case JDICT:
    case JVIEW:
        *out = v.as.dict->n;
        return true;
    case JRANGE:
        *out = (size_t)v.as.range->n;
        return true;
    default:
        return false;
    }
}

/* ---- hashing ----------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

static bool is_whole(double f, int64_t *out)
{
    if (f >= -9223372036854775808.0 && f < 9223372036854775808.0 && f == floor(f)) {
        *out = (int64_t)f;
        return true;
    }
    return false;
}

static bool hash_tuple(jrun *r, const jlist *l, uint64_t *out)
{
    if (!jrun_enter(r)) {
        return false;
    }
    uint64_t h = 0x345678;
    bool ok = jrun_charge(r, l->n);
    for (size_t i = 0; i < l->n && ok; i++) {
        uint64_t item = 0;
        ok = jvalue_hash(r, l->items[i], &item);
        h = ok ? mix(h ^ item) + 0x9e3779b97f4a7c15u : h;
    }
    jrun_leave(r);
    *out = h;
    return ok;
}

bool jvalue_hash(jrun *r, jvalue v, uint64_t *out)
{
    int64_t whole;
    switch (v.kind) {
    case JUNDEFINED:
    case JNONE:
        *out = mix(v.kind);
        return true;
    case JBOOL:
    case JINT:
        *out = mix((uint64_t)jvalue_integer(v));
        return true;
    case JFLOAT:
        if (is_whole(v.as.real, &whole)) {
            *out = mix((uint64_t)whole);
        } else {
            uint64_t bits;
            memcpy(&bits, &v.as.real, sizeof bits);
            *out = mix(bits);
        }
        return true;
    case JTEXT:
        *out = jtext_hash(v.as.text);
        return true;
    case JTUPLE:
        return hash_tuple(r, v.as.list, out);
    case JRANGE:
        *out = mix((uint64_t)v.as.range->n);
        return true;
    case JLIST:
    case JDICT:
    case JVIEW:
        return jrun_fail(r, "a value of type '%s' cannot be a key of a dict", jvalue_type(v));
    default:
        *out = mix((uint64_t)(uintptr_t)v.as.dict);
        return true;
    }
}

/* ---- equality and order ------------------------------------------------------------------------------------------ */

/* <0, 0, >0; 2 for "not comparable" (NaN). Exact, also where an int64 does not fit into a double. */
static int order_numbers(jvalue a, jvalue b)
{
    if (a.kind != JFLOAT && b.kind != JFLOAT) {
        int64_t x = jvalue_integer(a), y = jvalue_integer(b);
        return (x > y) - (x < y);
    }
    if (a.kind == JFLOAT && b.kind == JFLOAT) {
        double x = a.as.real, y = b.as.real;
        return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
    }
    bool swapped = b.kind == JFLOAT;
    double f = swapped ? b.as.real : a.as.real;
    int64_t i = jvalue_integer(swapped ? a : b);
    int order; /* of f against i */
    if (isnan(f)) {
        return 2;
    }
    if (f >= 9223372036854775808.0) {
        order = 1;
    } else if (f < -9223372036854775808.0) {
        order = -1;
    } else {
        int64_t whole = (int64_t)f; /* towards zero */
        double rest = f - (double)whole;
        order = whole != i ? (whole > i) - (whole < i) : (rest > 0) - (rest < 0);
    }
    return swapped ? -order : order;
}

static bool equal_lists(jrun *r, const jlist *a, const jlist *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; i < a->n && *out; i++) {
        if (!jvalue_equal(r, a->items[i], b->items[i], out)) {
            return false;
        }
    }
    return true;
}

static bool equal_dicts(jrun *r, const jdict *a, const jdict *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; i < a->n && *out; i++) {
        const jentry *other;
        if (!jdict_find(r, b, a->entries[i].key, &other)) {
            return false;
        }
        *out = other != NULL;
        if (other && !jvalue_equal(r, a->entries[i].value, other->value, out)) {
            return false;
        }
    }
    return true;
}

static bool equal_views(jrun *r, jvalue a, jvalue b, bool *out)
{
    if (a.note == JVIEW_VALUES || b.note == JVIEW_VALUES || a.note != b.note) {
        *out = false; /* values() views equal nothing; keys against items have never been seen to meet */
        return true;
    }
    if (a.note == JVIEW_ITEMS) {
        return equal_dicts(r, a.as.dict, b.as.dict, out);
    }
    *out = a.as.dict->n == b.as.dict->n;
    for (size_t i = 0; i < a.as.dict->n && *out; i++) {
        const jentry *other;
        if (!jdict_find(r, b.as.dict, a.as.dict->entries[i].key, &other)) {
            return false;
        }
        *out = other != NULL;
    }
    return true;
}

static bool equal_deep(jrun *r, jvalue a, jvalue b, bool *out)
{
    switch (a.kind) {
    case JLIST:
    case JTUPLE:
        return equal_lists(r, a.as.list, b.as.list, out);
    case JDICT:
        return equal_dicts(r, a.as.dict, b.as.dict, out);
    case JVIEW:
        return equal_views(r, a, b, out);
    case JRANGE:
        *out = a.as.range->n == b.as.range->n &&
               (a.as.range->n == 0 || (a.as.range->start == b.as.range->start &&
                                       (a.as.range->n == 1 || a.as.range->step == b.as.range->step)));
        return true;
    case JMETHOD: {
        const jbound *x = a.as.bound, *y = b.as.bound;
        *out = false; /* Python: the same function of the very same object */
        if (x->function == y->function && x->self.kind == y->self.kind) {
            *out = x->self.as.dict == y->self.as.dict;
        }
        return true;
    }
    default:
        *out = a.as.dict == b.as.dict; /* the same object */
        return true;
    }
}

bool jvalue_equal(jrun *r, jvalue a, jvalue b, bool *out)
{
    if (!jrun_charge(r, 1)) {
        return false;
    }
    if (jvalue_is_number(a) && jvalue_is_number(b)) {
        *out = order_numbers(a, b) == 0;
        return true;
    }
    if (a.kind != b.kind) {
        *out = false;
        return true;
    }
    switch (a.kind) {
    case JUNDEFINED:
    case JNONE:
        *out = true;
        return true;
    case JTEXT:
        *out = jtext_equal(a.as.text, b.as.text);
        return jrun_charge_bytes(r, *out ? a.as.text->n : 0);
    default:
        break;
    }
    if (a.as.dict == b.as.dict && a.kind != JVIEW) { /* whatever the object is: itself */
        *out = true;
        return true;
    }
    if (!jrun_enter(r)) {
        return false;
    }
    bool ok = equal_deep(r, a, b, out);
    jrun_leave(r);
    return ok;
}

static bool order_holds(jcompare op, int order)
{
    switch (op) {
    case JCMP_LT:
        return order == -1;
    case JCMP_LE:
        return order == -1 || order == 0;
    case JCMP_GT:
        return order == 1;
    default:
        return order == 1 || order == 0;
    }
}

static const char *compare_sign(jcompare op)
{
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">=", "in", "not in"};
    return signs[op];
}

/* Python compares the first items that differ, and the lengths when none do. */
static bool compare_lists(jrun *r, jcompare op, const jlist *a, const jlist *b, bool *out)
{
    size_t n = a->n < b->n ? a->n : b->n;
    for (size_t i = 0; i < n; i++) {
        bool same;
        if (!jvalue_equal(r, a->items[i], b->items[i], &same)) {
            return false;
        }
        if (!same) {
            if (!jrun_enter(r)) {
                return false;
            }
            bool ok = jvalue_compare(r, op, a->items[i], b->items[i], out);
            jrun_leave(r);
            return ok;
        }
    }
    *out = order_holds(op, (a->n > b->n) - (a->n < b->n));
    return true;
}

bool jvalue_compare(jrun *r, jcompare op, jvalue a, jvalue b, bool *out)
{
    switch (op) {
    case JCMP_EQ:
        return jvalue_equal(r, a, b, out);
    case JCMP_NE:
        if (!jvalue_equal(r, a, b, out)) {
            return false;
        }
        *out = !*out;
        return true;
    case JCMP_IN:
        return jvalue_contains(r, b, a, out);
    case JCMP_NOT_IN:
        if (!jvalue_contains(r, b, a, out)) {
            return false;
        }
        *out = !*out;
        return true;
    default:
        break;
    }
    if (a.kind == JUNDEFINED || b.kind == JUNDEFINED) {
        return jrun_undefined(r, a.kind == JUNDEFINED ? a : b);
    }
    if (jvalue_is_number(a) && jvalue_is_number(b)) {
        *out = order_holds(op, order_numbers(a, b));
        return true;
    }
    if (a.kind == JTEXT && b.kind == JTEXT) {
        int order = jtext_order(a.as.text, b.as.text);
        *out = order_holds(op, (order > 0) - (order < 0));
        return jrun_charge_bytes(r, a.as.text->n < b.as.text->n ? a.as.text->n : b.as.text->n);
    }
    if ((a.kind == JLIST && b.kind == JLIST) || (a.kind == JTUPLE && b.kind == JTUPLE)) {
        return compare_lists(r, op, a.as.list, b.as.list, out);
    }
    return jrun_fail(r, "'%s' cannot order '%s' and '%s'", compare_sign(op), jvalue_type(a), jvalue_type(b));
}

static bool contains_item(jrun *r, jvalue container, jvalue item, bool *out)
{
    jiter *it;
    if (!jiter_open(r, container, &it)) {
        return false;
    }
    *out = false;
    for (;;) {
        jvalue v;
        jstep step = jiter_next(r, it, &v);
        if (step != JSTEP_ITEM) {
            return step == JSTEP_END;
        }
        if (!jvalue_equal(r, v, item, out)) {
            return false;
        }
        if (*out) {
            return true;
        }
    }
}

bool jvalue_contains(jrun *r, jvalue container, jvalue item, bool *out)
{
    const jentry *entry;
    if (container.kind == JTEXT) {
        if (item.kind != JTEXT) {
            return jrun_fail(r, "'in' looks for a string in a string, not for '%s'", jvalue_type(item));
        }
        *out = jtext_find(container.as.text, item.as.text, 0, container.as.text->n) >= 0;
        return jrun_charge_bytes(r, container.as.text->n);
    }
    if (container.kind == JDICT || (container.kind == JVIEW && container.note == JVIEW_KEYS)) {
        if (!jdict_find(r, container.as.dict, item, &entry)) {
            return false;
        }
        *out = entry != NULL;
        return true;
    }
    return contains_item(r, container, item, out);
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

jlist *jlist_new(jrun *r)
{
    static const jvalue no_items[1];
    jlist *l = jrun_array(r, 1, sizeof *l);
    if (l) {
        l->items = no_items; /* not NULL, to which nothing may be added, not even 0 */
    }
    return l;
}

/* Makes room behind l's items for `extra` more, moving them unless l ends where its store ends. */
static jvalue *list_room(jrun *r, const jlist *l, size_t extra, jstore **out_store)
{
    jstore *store = l->store;
    size_t n_bytes = l->n * sizeof(jvalue), extra_bytes, cap;
    if (__builtin_mul_overflow(extra, sizeof(jvalue), &extra_bytes) ||
        __builtin_add_overflow(n_bytes, extra_bytes, &cap) || cap > SIZE_MAX / 4) {
        jrun_limit(r, "%zu items more are too many", extra);
        return NULL;
    }
    if (!store || (const char *)(l->items + l->n) != store->data + store->used ||
        store->cap - store->used < extra_bytes) {
        cap += cap / 2 + 4 * sizeof(jvalue);
        store = jrun_charge_bytes(r, n_bytes) ? jrun_alloc(r, sizeof *store + cap) : NULL;
        if (!store) {
            return NULL;
        }
        store->cap = cap;
        if (n_bytes) {
            memcpy(store->data, l->items, n_bytes);
        }
        store->used = n_bytes;
    }
    jvalue *end = (jvalue *)(void *)(store->data + store->used);
    store->used += extra_bytes;
    *out_store = store;
    return end;
}

bool jlist_push(jrun *r, jlist *l, jvalue v)
{
    jvalue *end = list_room(r, l, 1, &l->store);
    if (!end) {
        return false;
    }
    *end = v;
    l->items = end - l->n;
    l->n++;
    return true;
}

jlist *jlist_concat(jrun *r, const jlist *a, const jlist *b)
{
    jlist *l = jlist_new(r);
    if (!l || !jrun_charge(r, b->n)) {
        return NULL;
    }
    jvalue *end = list_room(r, a, b->n, &l->store);
    if (!end) {
        return NULL;
    }
    if (b->n) {
        memcpy(end, b->items, b->n * sizeof *end);
    }
    l->items = end - a->n;
    l->n = a->n + b->n;
    return l;
}

jlist *jlist_copy(jrun *r, const jvalue *items, size_t n)
{
    jlist *l = jlist_new(r);
    jvalue *copy = l ? jrun_array(r, n, sizeof *copy) : NULL;
    if (!copy) {
        return NULL;
    }
    if (n) {
        memcpy(copy, items, n * sizeof *copy);
    }
    l->items = copy;
    l->n = n;
    return l;
}

/* ---- dicts ------------------------------------------------------------------------------------------------------- */

jdict *jdict_new(jrun *r)
{
    return jrun_array(r, 1, sizeof(jdict));
}

static void index_add(jdict *d, size_t i)
{
    size_t mask = d->index_n - 1, at = d->entries[i].hash & mask;
    while (d->index[at]) {
        at = (at + 1) & mask;
    }
    d->index[at] = (uint32_t)i + 1;
}

static bool grow(jrun *r, jdict *d)
{
    size_t cap = d->cap ? d->cap * 2 : 4;
    if (cap > UINT32_MAX / 4) {
        return jrun_limit(r, "a dict of more than %zu keys", d->n);
    }
    jentry *entries = jrun_array(r, cap, sizeof *entries);
    if (!entries) {
        return false;
    }
    if (d->n) {
        memcpy(entries, d->entries, d->n * sizeof *entries);
    }
    d->entries = entries;
    d->cap = cap;
    if (cap >= INDEX_FROM) {
        uint32_t *index = jrun_array(r, cap * 2, sizeof *index);
        if (!index) {
            return false;
        }
        d->index = index;
        d->index_n = cap * 2;
        for (size_t i = 0; i < d->n; i++) {
            index_add(d, i);
        }
    }
    return true;
}

static bool same_key(jrun *r, const jentry *entry, jvalue key, uint64_t hash, bool *out)
{
    *out = false;
    return entry->hash != hash || jvalue_equal(r, entry->key, key, out);
}

static bool find(jrun *r, const jdict *d, jvalue key, uint64_t hash, jentry **out)
{
    bool same;
    *out = NULL;
    if (!d->index_n) {
        for (size_t i = 0; i < d->n; i++) {
            if (!same_key(r, &d->entries[i], key, hash, &same)) {
                return false;
            }
            if (same) {
                *out = &d->entries[i];
                return true;
            }
        }
        return true;
    }
    size_t mask = d->index_n - 1, probes = 0;
    for (size_t at = hash & mask; d->index[at]; at = (at + 1) & mask) {
        jentry *entry = &d->entries[d->index[at] - 1];
        if (!same_key(r, entry, key, hash, &same)) {
            return false;
        }
        if (same) {
            *out = entry;
            return true;
        }
        /* Keys chosen to collide cost their finder, not the machine. */
        if (++probes % 16 == 0 && !jrun_charge(r, 1)) {
            return false;
        }
    }
    return true;
}

bool jdict_find(jrun *r, const jdict *d, jvalue key, const jentry **out)
{
    uint64_t hash = 0;
    jentry *entry;
    if (!jvalue_hash(r, key, &hash) || !find(r, d, key, hash, &entry)) {
        return false;
    }
    *out = entry;
    return true;
}

const jentry *jdict_get(const jdict *d, const jtext *key)
{
    uint64_t hash = jtext_hash(key);
    if (!d->index_n) {
        for (size_t i = 0; i < d->n; i++) {
            const jentry *entry = &d->entries[i];
            if (entry->hash == hash && entry->key.kind == JTEXT && jtext_equal(entry->key.as.text, key)) {
                return entry;
            }
        }
        return NULL;
    }
    size_t mask = d->index_n - 1;
    for (size_t at = hash & mask; d->index[at]; at = (at + 1) & mask) {
        const jentry *entry = &d->entries[d->index[at] - 1];
        if (entry->hash == hash && entry->key.kind == JTEXT && jtext_equal(entry->key.as.text, key)) {
            return entry;
        }
    }
    return NULL;
}

bool jdict_set(jrun *r, jdict *d, jvalue key, jvalue value)
{
    uint64_t hash = 0;
    jentry *entry;
    if (!jrun_charge(r, 1) || !jvalue_hash(r, key, &hash) || !find(r, d, key, hash, &entry)) {
        return false;
    }
    if (entry) {
        entry->value = value;
        return true;
    }
    if (d->n == d->cap && !grow(r, d)) {
        return false;
    }
    d->entries[d->n] = (jentry){.key = key, .value = value, .hash = hash};
    d->n++;
    if (d->index_n) {
        index_add(d, d->n - 1);
    }
    return true;
}

bool jdict_set_text(jrun *r, jdict *d, const jtext *key, jvalue value)
{
    return jdict_set(r, d, jvalue_text(key), value);
}

bool jdict_copy(jrun *r, const jdict *d, jdict **out)
{
    *out = jdict_new(r);
    bool ok = *out != NULL;
    for (size_t i = 0; i < d->n && ok; i++) {
        ok = jdict_set(r, *out, d->entries[i].key, d->entries[i].value);
    }
    return ok;
}

bool jview_item(jrun *r, const jdict *d, jview view, size_t i, jvalue *out)
{
    if (view == JVIEW_KEYS) {
        *out = d->entries[i].key;
    } else if (view == JVIEW_VALUES) {
        *out = d->entries[i].value;
    } else {
        const jlist *pair = jlist_copy(r, (jvalue[]){d->entries[i].key, d->entries[i].value}, 2);
        if (!pair) {
            return false;
        }
        *out = jvalue_tuple(pair);
    }
    return true;
}
