/*
 * Filters on sequences that return a value at once.
 * Owner: none. Lifetime: the call.
 */
#include <string.h>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

/* ---- attributes -------------------------------------------------------------------------------------------------- */

bool jgetter_make(jrun *r, jvalue attribute, jgetter *out)
{
    jlist *parts = jlist_new(r);
    *out = (jgetter){.parts = parts, .otherwise = JVALUE_NONE};
    if (!parts) {
        return false;
    }
    if (attribute.kind == JNONE || attribute.kind == JMISSING) {
        return true;
    }
    if (attribute.kind != JTEXT) {
        return jlist_push(r, parts, attribute);
    }
    const jtext *t = attribute.as.text;
    for (size_t from = 0; from <= t->n;) {
        const char *dot = memchr(t->bytes + from, '.', t->n - from);
        size_t end = dot ? (size_t)(dot - t->bytes) : t->n;
        const jtext *name = jtext_sub(r, t, from, end);
        bool digits = end > from, too_big;
        int64_t index;
        for (size_t i = from; i < end && digits; i++) {
            digits = t->bytes[i] >= '0' && t->bytes[i] <= '9';
        }
        if (!name || !jrun_charge(r, 1)) {
            return false;
        }
        bool number = digits && jnumber_parse_int(name, 10, &index, &too_big) && !too_big;
        if (!jlist_push(r, parts, number ? jvalue_int(index) : jvalue_text(name))) {
            return false;
        }
        from = end + 1;
    }
    return true;
}

bool jgetter_get(jrun *r, const jgetter *g, jvalue item, jvalue *out)
{
    for (size_t i = 0; i < g->parts->n; i++) {
        if (!jvalue_item(r, item, g->parts->items[i], &item)) {
            return false;
        }
        if (item.kind == JUNDEFINED && g->otherwise.kind != JNONE) {
            item = g->otherwise;
        }
    }
    if (g->lower && item.kind == JTEXT) {
        jtext *t = junicode_convert(r, item.as.text, JCASE_LOWER);
        item = jvalue_text(t);
        if (!t) {
            return false;
        }
    }
    *out = item;
    return true;
}

JNATIVE(jfilter_attr)
{
    const jtext *name = NULL;
    (void)f;
    if (!jarg_text(r, "the name of an attribute", call->args[0], &name) ||
        !jvalue_attr_only(r, self, name, jattr_find(name), out)) {
        return false;
    }
    if (out->kind == JMISSING) {
        *out = jvalue_undefined(JWHY_ATTRIBUTE, name);
    }
    return true;
}

/* ---- simple ones ------------------------------------------------------------------------------------------------- */

JNATIVE(jfilter_length)
{
    size_t n;
    (void)f;
    (void)call;
    if (!jvalue_length(self, &n)) {
        return jrun_fail(r, "a value of type '%s' has no length", jvalue_type(self));
    }
    *out = jvalue_int((int64_t)n);
    return true;
}

/* default(value, boolean) */
JNATIVE(jfilter_default)
{
    (void)f;
    *out = self;
    if (self.kind == JUNDEFINED || (jvalue_true(call->args[1]) && !jvalue_true(self))) {
        const jtext *empty = jtext_of(r, "");
        *out = call->args[0].kind == JMISSING ? jvalue_text(empty) : call->args[0];
        return empty != NULL;
    }
    return true;
}

static bool nothing_there(jrun *r, const char *why, jvalue *out)
{
    const jtext *t = jtext_of(r, why);
    *out = jvalue_undefined(JWHY_MESSAGE, t);
    return t != NULL;
}

static bool first_of(jrun *r, jiter *it, const char *otherwise, jvalue *out)
{
    jstep step = jiter_next(r, it, out);
    return step == JSTEP_ITEM || (step == JSTEP_END && nothing_there(r, otherwise, out));
}

JNATIVE(jfilter_first)
{
    jiter *it;
    (void)f;
    (void)call;
    return jiter_open(r, self, &it) && first_of(r, it, "there is no first item: the sequence is empty", out);
}

JNATIVE(jfilter_last)
{
    jiter *it;
    (void)f;
    (void)call;
    if (!jiter_reversed(r, self, &it)) {
        return jrun_fail(r, "a value of type '%s' has no last item", jvalue_type(self));
    }
    return first_of(r, it, "there is no last item: the sequence is empty", out);
}

JNATIVE(jfilter_list)
{
    jlist *l;
    (void)f;
    (void)call;
    if (!jiter_collect(r, self, &l)) {
        return false;
    }
    *out = jvalue_list(l);
    return true;
}

JNATIVE(jfilter_reverse)
{
    jiter *it;
    jlist *l;
    (void)f;
    (void)call;
    if (self.kind == JTEXT) {
        return jvalue_slice(r, self, JVALUE_NONE, JVALUE_NONE, jvalue_int(-1), out);
    }
    if (jiter_reversed(r, self, &it)) {
        *out = (jvalue){.kind = JITER, .as.iter = it};
        return true;
    }
    if (r->status != MLXR_OK || !jiter_collect(r, self, &l)) {
        return false;
    }
    jvalue *items = (jvalue *)l->items; /* nobody else has this list yet */
    for (size_t i = 0; l->n && i < l->n - 1 - i; i++) {
        jvalue swap = items[i];
        items[i] = items[l->n - 1 - i];
        items[l->n - 1 - i] = swap;
    }
    *out = jvalue_list(l);
    return true;
}

/* join(separator, attribute) */
JNATIVE(jfilter_join)
{
    jbuild b = {.run = r};
    jgetter get;
    jiter *it;
    const jtext *separator = call->args[0].kind == JMISSING ? jtext_of(r, "") : jvalue_str(r, call->args[0]);
    (void)f;
    if (!separator || !jgetter_make(r, call->args[1], &get) || !jiter_open(r, self, &it)) {
        return false;
    }
    for (bool first = true;; first = false) {
        jvalue item;
        jstep step = jiter_next(r, it, &item);
        if (step == JSTEP_END) {
            break;
        }
        if (step == JSTEP_FAILED || !jgetter_get(r, &get, item, &item) || (!first && !jbuild_text(&b, separator)) ||
            !jprint_str(&b, item)) {
            return false;
        }
    }
    const jtext *t = jbuild_finish(&b);
    *out = jvalue_text(t);
    return t != NULL;
}

/* ---- sorting and grouping ---------------------------------------------------------------------------------------- */

static bool reorder(jrun *r, const jlist *items, const jvalue *keys, bool reverse, jlist **out)
{
    uint32_t *order;
    jvalue *sorted = jrun_array(r, items->n, sizeof *sorted);
    *out = jlist_new(r);
    if (!sorted || !*out || !jsort_order(r, keys, items->n, reverse, &order)) {
        return false;
    }
    for (size_t i = 0; i < items->n; i++) {
        sorted[i] = items->items[order[i]];
    }
    **out = (jlist){.items = sorted, .n = items->n};
    return true;
}

/* The keys of sort(): a list per item, with a value for every attribute of "a,b". */
static bool sort_keys(jrun *r, const jlist *items, jvalue attribute, bool lower, jvalue *keys)
{
    jlist *names = jlist_new(r);
    if (!names) {
        return false;
    }
    if (attribute.kind == JTEXT) {
        jfunction split = {.name = "split"};
        jvalue parts, args[2] = {jvalue_text(jtext_of(r, ",")), JVALUE_MISSING};
        if (!args[0].as.text || !jstr_split(r, &split, attribute, &(jcall){.args = args, .n_args = 2}, &parts)) {
            return false;
        }
        names = (jlist *)parts.as.list;
    } else if (!jlist_push(r, names, attribute)) {
        return false;
    }
    jgetter *getters = jrun_array(r, names->n, sizeof *getters);
    for (size_t i = 0; i < names->n; i++) {
        if (!getters || !jgetter_make(r, names->items[i], &getters[i])) {
            return false;
        }
        getters[i].lower = lower;
    }
    for (size_t i = 0; i < items->n; i++) {
        jlist *key = jlist_new(r);
        for (size_t k = 0; k < names->n; k++) {
            jvalue v;
            if (!key || !jgetter_get(r, &getters[k], items->items[i], &v) || !jlist_push(r, key, v)) {
                return false;
            }
        }
        keys[i] = jvalue_list(key);
    }
    return true;
}

/* sort(reverse, case_sensitive, attribute) */
JNATIVE(jfilter_sort)
{
    jlist *items, *sorted;
    (void)f;
    if (!jiter_collect(r, self, &items)) {
        return false;
    }
    jvalue *keys = jrun_array(r, items->n, sizeof *keys);
    if (!keys || !sort_keys(r, items, call->args[2], !jvalue_true(call->args[1]), keys) ||
        !reorder(r, items, keys, jvalue_true(call->args[0]), &sorted)) {
        return false;
    }
    *out = jvalue_list(sorted);
    return true;
}

/* dictsort(case_sensitive, by, reverse) */
JNATIVE(jfilter_dictsort)
{
    const jtext *by = jtext_of(r, "key");
    jlist *items, *sorted;
    jgetter get;
    (void)f;
    if (!by || !jarg_text(r, "'by'", call->args[1], &by)) {
        return false;
    }
    bool by_value = jtext_is(by, "value");
    if (!by_value && !jtext_is(by, "key")) {
        return jrun_fail(r, "dictsort sorts by \"key\" or \"value\" only");
    }
    if (self.kind != JDICT) {
        return self.kind == JUNDEFINED ? jrun_undefined(r, self)
                                       : jrun_fail(r, "dictsort needs a dict, not '%s'", jvalue_type(self));
    }
    jvalue view = {.kind = JVIEW, .note = JVIEW_ITEMS, .as.dict = self.as.dict};
    if (!jgetter_make(r, jvalue_int(by_value), &get) || !jiter_collect(r, view, &items)) {
        return false;
    }
    get.lower = !jvalue_true(call->args[0]);
    jvalue *keys = jrun_array(r, items->n, sizeof *keys);
    for (size_t i = 0; i < items->n; i++) {
        if (!keys || !jgetter_get(r, &get, items->items[i], &keys[i])) {
            return false;
        }
    }
    if (!keys || !reorder(r, items, keys, jvalue_true(call->args[2]), &sorted)) {
        return false;
    }
    *out = jvalue_list(sorted);
    return true;
}

static bool push_group(jrun *r, jlist *groups, jvalue key, jlist *members)
{
    jlist *pair = jlist_copy(r, (jvalue[]){key, jvalue_list(members)}, 2);
    return pair && jlist_push(r, groups, (jvalue){.kind = JTUPLE, .note = JNOTE_GROUP, .as.list = pair});
}

/* groupby(attribute, default, case_sensitive) */
JNATIVE(jfilter_groupby)
{
    jlist *items, *groups = jlist_new(r), *members = NULL;
    jgetter get, show;
    uint32_t *order;
    (void)f;
    if (!groups || !jgetter_make(r, call->args[0], &get) || !jiter_collect(r, self, &items)) {
        return false;
    }
    if (call->args[1].kind != JMISSING) {
        get.otherwise = call->args[1];
    }
    show = get;
    get.lower = !jvalue_true(call->args[2]);
    jvalue *keys = jrun_array(r, items->n, sizeof *keys), shown = JVALUE_NONE;
    for (size_t i = 0; i < items->n && keys; i++) {
        if (!jgetter_get(r, &get, items->items[i], &keys[i])) {
            return false;
        }
    }
    if (!keys || !jsort_order(r, keys, items->n, false, &order)) {
        return false;
    }
    for (size_t i = 0; i < items->n; i++) {
        jvalue item = items->items[order[i]];
        bool same = false;
        if (i > 0 && !jvalue_equal(r, keys[order[i - 1]], keys[order[i]], &same)) {
            return false;
        }
        if (!same) {
            if ((members && !push_group(r, groups, shown, members)) || !(members = jlist_new(r)) ||
                !jgetter_get(r, &show, item, &shown)) { /* a group shows the key of its first member as it is */
                return false;
            }
        }
        if (!jlist_push(r, members, item)) {
            return false;
        }
    }
    *out = jvalue_list(groups);
    return !members || push_group(r, groups, shown, members);
}

/* min, max (tag 1) (case_sensitive, attribute) */
JNATIVE(jfilter_extreme)
{
    jiter *it;
    jgetter get;
    jvalue best = JVALUE_MISSING, best_key = JVALUE_MISSING;
    if (!jgetter_make(r, call->args[1], &get) || !jiter_open(r, self, &it)) {
        return false;
    }
    get.lower = !jvalue_true(call->args[0]);
    for (;;) {
        jvalue item, key;
        bool better = best.kind == JMISSING;
        jstep step = jiter_next(r, it, &item);
        if (step == JSTEP_END) {
            break;
        }
        if (step == JSTEP_FAILED || !jgetter_get(r, &get, item, &key) ||
            (!better && !jvalue_compare(r, f->tag ? JCMP_GT : JCMP_LT, key, best_key, &better))) {
            return false;
        }
        if (better) {
            best = item;
            best_key = key;
        }
    }
    *out = best;
    return best.kind != JMISSING ||
           nothing_there(r, "there is no smallest or largest item: the sequence is empty", out);
}

/* sum(attribute, start) */
JNATIVE(jfilter_sum)
{
    jiter *it;
    jgetter get;
    jvalue total = call->args[1].kind == JMISSING ? jvalue_int(0) : call->args[1];
    (void)f;
    if (!jgetter_make(r, call->args[0], &get) || !jiter_open(r, self, &it)) {
        return false;
    }
    if (total.kind == JTEXT) {
        return jrun_fail(r, "sum does not add strings; use join");
    }
    for (;;) {
        jvalue item;
        jstep step = jiter_next(r, it, &item);
        if (step != JSTEP_ITEM) {
            *out = total;
            return step == JSTEP_END;
        }
        if (!jgetter_get(r, &get, item, &item) || !jop_binary(r, JOP_ADD, total, item, &total)) {
            return false;
        }
    }
}
