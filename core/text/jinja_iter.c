/*
 * Iteration over every kind of value, and Python's one-shot iterators.
 * Owner: the render. Lifetime: the same.
 */
#include "text/jinja_run.h"

struct jiter {
    jvalue source;
    size_t at; /* items given so far; byte offset of the next character for texts */
    bool reversed;
    jstep (*next)(jrun *r, void *state, jvalue *out); /* not NULL: computes the items */
    void *state;
};

bool jvalue_iterable(jvalue v)
{
    switch (v.kind) {
    case JUNDEFINED:
    case JTEXT:
    case JLIST:
    case JTUPLE:
    case JDICT:
    case JVIEW:
    case JRANGE:
    case JITER:
    case JLOOP:
        return true;
    default:
        return false;
    }
}

static jiter *make(jrun *r, jiter content)
{
    jiter *it = jrun_alloc(r, sizeof *it);
    if (it) {
        *it = content;
    }
    return it;
}

bool jiter_open(jrun *r, jvalue v, jiter **out)
{
    if (v.kind == JITER) {
        *out = v.as.iter;
        return true;
    }
    if (!jvalue_iterable(v)) {
        return jrun_fail(r, "a value of type '%s' is not iterable", jvalue_type(v));
    }
    if (v.kind == JLOOP) {
        return jrun_unsupported(r, "iterating over 'loop' itself is not supported");
    }
    *out = make(r, (jiter){.source = v});
    return *out != NULL;
}

bool jiter_reversed(jrun *r, jvalue v, jiter **out)
{
    *out = NULL;
    switch (v.kind) {
    case JUNDEFINED:
    case JTEXT:
    case JLIST:
    case JTUPLE:
    case JDICT:
    case JVIEW:
    case JRANGE:
        *out = make(r, (jiter){.source = v, .reversed = true});
        return *out != NULL;
    default:
        return false;
    }
}

jiter *jiter_make(jrun *r, jstep (*next)(jrun *r, void *state, jvalue *out), void *state)
{
    return make(r, (jiter){.next = next, .state = state});
}

static jstep next_char(jrun *r, jiter *it, jvalue *out)
{
    const jtext *t = it->source.as.text;
    uint32_t code;
    if (it->at >= t->n) {
        return JSTEP_END;
    }
    size_t from = it->at, used;
    if (it->reversed) {
        size_t end = t->n - it->at;
        from = end - 1;
        while (from > 0 && end - from < 4 && ((unsigned char)t->bytes[from] & 0xc0) == 0x80) {
            from--;
        }
        if (jtext_char(t->bytes, end, from, &code) != end - from) {
            from = end - 1;
        }
        used = end - from;
    } else {
        used = jtext_char(t->bytes, t->n, from, &code);
    }
    it->at += used;
    const jtext *c = jtext_sub(r, t, from, from + used);
    *out = jvalue_text(c);
    return c ? JSTEP_ITEM : JSTEP_FAILED;
}

jstep jiter_next(jrun *r, jiter *it, jvalue *out)
{
    size_t n = 0;
    if (!jrun_charge(r, 1)) {
        return JSTEP_FAILED;
    }
    if (it->next) {
        if (!jrun_enter(r)) { /* iterators over iterators nest as deep as a template piles them up */
            return JSTEP_FAILED;
        }
        jstep step = it->next(r, it->state, out);
        jrun_leave(r);
        return step;
    }
    if (it->source.kind == JTEXT) {
        return next_char(r, it, out);
    }
    jvalue_length(it->source, &n); /* whatever else can be iterated has one */
    if (it->at >= n) {
        return JSTEP_END;
    }
    size_t i = it->reversed ? n - 1 - it->at : it->at;
    it->at++;
    switch (it->source.kind) {
    case JLIST:
    case JTUPLE:
        *out = it->source.as.list->items[i];
        return JSTEP_ITEM;
    case JRANGE:
        *out = jvalue_int(jrange_at(it->source.as.range, (int64_t)i));
        return JSTEP_ITEM;
    default: { /* JDICT iterates its keys; JVIEW what it shows */
        jview view = it->source.kind == JVIEW ? (jview)it->source.note : JVIEW_KEYS;
        return jview_item(r, it->source.as.dict, view, i, out) ? JSTEP_ITEM : JSTEP_FAILED;
    }
    }
}

bool jiter_collect(jrun *r, jvalue v, jlist **out)
{
    jiter *it;
    jlist *l = jlist_new(r);
    if (!l || !jiter_open(r, v, &it)) {
        return false;
    }
    for (;;) {
        jvalue item;
        jstep step = jiter_next(r, it, &item);
        if (step != JSTEP_ITEM) {
            *out = l;
            return step == JSTEP_END;
        }
        if (!jlist_push(r, l, item)) {
            return false;
        }
    }
}
