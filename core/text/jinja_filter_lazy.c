/*
 * Filters that return Python generators: nothing is computed, and nothing fails, before somebody asks for an item.
 * Owner: the render. Lifetime: the same.
 */
#include "text/jinja_filters.h"

static bool give(jiter *it, jvalue *out)
{
    *out = (jvalue){.kind = JITER, .as.iter = it};
    return it != NULL;
}

/* ---- map, select and their kin ----------------------------------------------------------------------------------- */

enum { PICK_ATTRIBUTE = 1, PICK_REJECT = 2 };

typedef struct lazy {
    jvalue input;
    const jcall *call;
    jiter *it; /* NULL before the first item */
    int tag;
    jgetter get;
    const jfunction *function; /* the filter or test; NULL: the getter (map) or the truth (select) */
    jcall rest;                /* its arguments */
    jdict *seen;
} lazy;

static lazy *lazy_new(jrun *r, jvalue input, const jcall *call, int tag)
{
    lazy *s = jrun_array(r, 1, sizeof *s);
    jcall *kept = s ? jrun_alloc(r, sizeof *kept) : NULL;
    if (!kept) {
        return NULL;
    }
    /* The arguments of a call that took parameters apart live on the C stack: keep copies. */
    jlist *args = jlist_copy(r, call->args, call->n_args);
    if (!args) {
        return NULL;
    }
    *kept = (jcall){.args = args->items, .n_args = args->n, .keywords = call->keywords, .n_keywords = call->n_keywords};
    *s = (lazy){.input = input, .call = kept, .tag = tag};
    return s;
}

static bool named(const jcall *call, const char *name, jvalue *out)
{
    for (size_t i = 0; i < call->n_keywords; i++) {
        if (jtext_is(call->keywords[i].name, name)) {
            *out = call->keywords[i].value;
            return true;
        }
    }
    return false;
}

/* The function named by argument i, with the arguments behind it. */
static bool take_function(jrun *r, lazy *s, size_t i, bool is_filter)
{
    const jtext *name = NULL;
    if (!jarg_text(r, is_filter ? "the name of a filter" : "the name of a test", s->call->args[i], &name)) {
        return false;
    }
    s->function = is_filter ? jfilter_find(name) : jtest_find(name);
    if (!s->function) {
        return jrun_fail(r, "there is no %s '%.*s'", is_filter ? "filter" : "test", jtext_shown(name), name->bytes);
    }
    s->rest = *s->call;
    s->rest.args += i + 1;
    s->rest.n_args -= i + 1;
    return true;
}

static bool start_map(jrun *r, lazy *s)
{
    jvalue attribute, otherwise = JVALUE_NONE;
    if (s->call->n_args == 0 && named(s->call, "attribute", &attribute)) {
        bool has_default = named(s->call, "default", &otherwise);
        if (s->call->n_keywords != 1u + has_default) {
            return jrun_fail(r, "map(attribute=…) takes only 'default' besides");
        }
        if (!jgetter_make(r, attribute, &s->get)) {
            return false;
        }
        s->get.otherwise = otherwise;
        return true;
    }
    if (s->call->n_args == 0) {
        return jrun_fail(r, "map needs the name of a filter, or attribute=…");
    }
    return take_function(r, s, 0, true);
}

static jstep next_mapped(jrun *r, void *state, jvalue *out)
{
    lazy *s = state;
    if (!s->it) {
        if (!jvalue_true(s->input)) {
            return JSTEP_END;
        }
        if (!start_map(r, s) || !jiter_open(r, s->input, &s->it)) {
            return JSTEP_FAILED;
        }
    }
    jvalue item;
    jstep step = jiter_next(r, s->it, &item);
    if (step != JSTEP_ITEM) {
        return step;
    }
    bool ok = s->function ? jfunction_call(r, s->function, item, &s->rest, out) : jgetter_get(r, &s->get, item, out);
    return ok ? JSTEP_ITEM : JSTEP_FAILED;
}

JNATIVE(jfilter_map)
{
    lazy *s = lazy_new(r, self, call, f->tag);
    return s && give(jiter_make(r, next_mapped, s), out);
}

static bool start_select(jrun *r, lazy *s)
{
    size_t i = 0;
    if (s->tag & PICK_ATTRIBUTE) {
        if (s->call->n_args == 0) {
            return jrun_fail(r, "selectattr and rejectattr need the name of an attribute");
        }
        if (!jgetter_make(r, s->call->args[0], &s->get)) {
            return false;
        }
        i = 1;
    }
    return s->call->n_args == i || take_function(r, s, i, false);
}

static jstep next_selected(jrun *r, void *state, jvalue *out)
{
    lazy *s = state;
    if (!s->it) {
        if (!jvalue_true(s->input)) {
            return JSTEP_END;
        }
        if (!start_select(r, s) || !jiter_open(r, s->input, &s->it)) {
            return JSTEP_FAILED;
        }
    }
    for (;;) {
        jvalue v;
        jstep step = jiter_next(r, s->it, out);
        if (step != JSTEP_ITEM) {
            return step;
        }
        v = *out;
        if (((s->tag & PICK_ATTRIBUTE) && !jgetter_get(r, &s->get, v, &v)) ||
            (s->function && !jfunction_call(r, s->function, v, &s->rest, &v))) {
            return JSTEP_FAILED;
        }
        if (jvalue_true(v) != ((s->tag & PICK_REJECT) != 0)) {
            return JSTEP_ITEM;
        }
    }
}

JNATIVE(jfilter_select)
{
    lazy *s = lazy_new(r, self, call, f->tag);
    return s && give(jiter_make(r, next_selected, s), out);
}

/* ---- unique, items ----------------------------------------------------------------------------------------------- */

static jstep next_unique(jrun *r, void *state, jvalue *out)
{
    lazy *s = state;
    if (!s->it) {
        s->seen = jdict_new(r);
        if (!s->seen || !jgetter_make(r, s->call->args[1], &s->get) || !jiter_open(r, s->input, &s->it)) {
            return JSTEP_FAILED;
        }
        s->get.lower = !jvalue_true(s->call->args[0]);
    }
    for (;;) {
        jvalue key;
        const jentry *known;
        jstep step = jiter_next(r, s->it, out);
        if (step != JSTEP_ITEM) {
            return step;
        }
        if (!jgetter_get(r, &s->get, *out, &key) || !jdict_find(r, s->seen, key, &known)) {
            return JSTEP_FAILED;
        }
        if (!known) {
            return jdict_set(r, s->seen, key, JVALUE_NONE) ? JSTEP_ITEM : JSTEP_FAILED;
        }
    }
}

/* unique(case_sensitive, attribute) */
JNATIVE(jfilter_unique)
{
    lazy *s = lazy_new(r, self, call, f->tag);
    return s && give(jiter_make(r, next_unique, s), out);
}

static jstep next_pair(jrun *r, void *state, jvalue *out)
{
    lazy *s = state;
    if (s->input.kind == JUNDEFINED) {
        return JSTEP_END;
    }
    if (!s->it) {
        if (s->input.kind != JDICT) {
            jrun_fail(r, "items needs a dict, not '%s'", jvalue_type(s->input));
            return JSTEP_FAILED;
        }
        jvalue view = {.kind = JVIEW, .note = JVIEW_ITEMS, .as.dict = s->input.as.dict};
        if (!jiter_open(r, view, &s->it)) {
            return JSTEP_FAILED;
        }
    }
    return jiter_next(r, s->it, out);
}

JNATIVE(jfilter_items)
{
    lazy *s = lazy_new(r, self, call, f->tag);
    return s && give(jiter_make(r, next_pair, s), out);
}

/* ---- batch, slice ------------------------------------------------------------------------------------------------ */

static jstep give_list(jlist *l, jvalue *out)
{
    *out = jvalue_list(l);
    return JSTEP_ITEM;
}

typedef struct batching {
    lazy base;
    int64_t size;
    jvalue first;     /* read already, or JMISSING */
    bool empty_first; /* Jinja compares before it adds: a size of 0 gives [] and then everything */
} batching;

static bool start_batch(jrun *r, batching *s)
{
    jstep step;
    if (!jarg_int(r, "the size of a batch", s->base.call->args[0], &s->size) ||
        !jiter_open(r, s->base.input, &s->base.it)) {
        return false;
    }
    step = jiter_next(r, s->base.it, &s->first);
    if (step == JSTEP_END) {
        s->first = JVALUE_MISSING;
    }
    s->empty_first = s->size == 0 && step == JSTEP_ITEM;
    return step != JSTEP_FAILED;
}

/* Up to `size` items, filled up with the second argument unless that is none. */
static jstep next_batch(jrun *r, void *state, jvalue *out)
{
    batching *s = state;
    jvalue item, fill = s->base.call->args[1];
    jlist *l = jlist_new(r);
    if (!l || (!s->base.it && !start_batch(r, s))) {
        return JSTEP_FAILED;
    }
    if (s->empty_first) {
        s->empty_first = false;
        return give_list(l, out);
    }
    if (s->first.kind != JMISSING) {
        if (!jlist_push(r, l, s->first)) {
            return JSTEP_FAILED;
        }
        s->first = JVALUE_MISSING;
    }
    while (s->size <= 0 || l->n < (uint64_t)s->size) {
        jstep step = jiter_next(r, s->base.it, &item);
        if (step == JSTEP_FAILED || (step == JSTEP_ITEM && !jlist_push(r, l, item))) {
            return JSTEP_FAILED;
        }
        if (step == JSTEP_END) {
            break;
        }
    }
    if (l->n == 0) {
        return JSTEP_END;
    }
    while (s->size > 0 && l->n < (uint64_t)s->size && fill.kind != JMISSING && fill.kind != JNONE) {
        if (!jrun_charge(r, 1) || !jlist_push(r, l, fill)) {
            return JSTEP_FAILED;
        }
    }
    return give_list(l, out);
}

/* batch(linecount, fill_with) */
JNATIVE(jfilter_batch)
{
    lazy *base = lazy_new(r, self, call, f->tag);
    batching *s = base ? jrun_array(r, 1, sizeof *s) : NULL;
    if (!s) {
        return false;
    }
    s->base = *base;
    return give(jiter_make(r, next_batch, s), out);
}

typedef struct slicing {
    lazy base;
    jlist *all;
    int64_t n_slices, at;
} slicing;

static jstep next_slice(jrun *r, void *state, jvalue *out)
{
    slicing *s = state;
    if (!s->all) {
        if (!jarg_int(r, "the number of slices", s->base.call->args[0], &s->n_slices) ||
            !jiter_collect(r, s->base.input, &s->all)) {
            return JSTEP_FAILED;
        }
        if (s->n_slices == 0) {
            jrun_fail(r, "division by zero: no slices");
            return JSTEP_FAILED;
        }
    }
    if (s->at >= s->n_slices) {
        return JSTEP_END;
    }
    int64_t n = (int64_t)s->all->n, each = n / s->n_slices, extra = n % s->n_slices, i = s->at++;
    int64_t from = i * each + (i < extra ? i : extra), count = each + (i < extra);
    jvalue fill = s->base.call->args[1];
    jlist *l = jlist_copy(r, s->all->items + from, (size_t)count);
    if (!l || (i >= extra && fill.kind != JMISSING && fill.kind != JNONE && !jlist_push(r, l, fill))) {
        return JSTEP_FAILED;
    }
    return give_list(l, out);
}

/* slice(slices, fill_with) */
JNATIVE(jfilter_slice)
{
    lazy *base = lazy_new(r, self, call, f->tag);
    slicing *s = base ? jrun_array(r, 1, sizeof *s) : NULL;
    if (!s) {
        return false;
    }
    s->base = *base;
    return give(jiter_make(r, next_slice, s), out);
}
