/*
 * Evaluates expressions of a compiled template.
 * Owner: the render. Lifetime: the call.
 */
#include <string.h>

#include "text/jinja_ast.h"

static jvalue *variable(jrun *r, const jframe *f, jref ref)
{
    if (ref.is_global) {
        return &r->globals[ref.slot];
    }
    for (unsigned hops = ref.hops; hops > 0; hops--) {
        f = f->outer;
    }
    return &f->slots[ref.slot];
}

void jscope_enter(jrun *r, jframe *f, const jscope *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const jinit *init = &s->inits[i];
        f->slots[init->slot] = init->copy ? *variable(r, f, init->from) : JVALUE_MISSING;
    }
}

/* ---- assignment -------------------------------------------------------------------------------------------------- */

static bool unpack(jrun *r, jframe *f, const jnode *target, jvalue v)
{
    jiter *it;
    jvalue item;
    uint32_t n = target->as.list.n;
    if (!jiter_open(r, v, &it)) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        jstep step = jiter_next(r, it, &item);
        if (step == JSTEP_END) {
            return jrun_fail(r, "%u values are wanted here, but there are only %u", (unsigned)n, (unsigned)i);
        }
        if (step == JSTEP_FAILED || !jassign(r, f, target->as.list.items[i], item)) {
            return false;
        }
    }
    switch (jiter_next(r, it, &item)) {
    case JSTEP_END:
        return true;
    case JSTEP_ITEM:
        return jrun_fail(r, "only %u values are wanted here, but there are more", (unsigned)n);
    default:
        return false;
    }
}

static bool assign_attribute(jrun *r, jframe *f, const jnode *target, jvalue v)
{
    jvalue *space = variable(r, f, target->as.name.ref);
    const jtext *attr = target->as.name.attr;
    if (space->kind != JNAMESPACE) {
        return jrun_fail(r, "only a namespace can be assigned attributes, not '%s'", jvalue_type(*space));
    }
    if (attr->bytes[0] == '_') {
        return jrun_fail(r, "a namespace keeps no attribute that begins with '_'");
    }
    return jdict_set_text(r, space->as.dict, attr, v);
}

bool jassign(jrun *r, jframe *f, const jnode *target, jvalue v)
{
    switch (target->type) {
    case JNODE_TUPLE:
        return unpack(r, f, target, v);
    case JNODE_NSREF:
        return assign_attribute(r, f, target, v);
    default:
        *variable(r, f, target->as.name.ref) = v;
        return true;
    }
}

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static bool spread_list(jrun *r, jframe *f, const jnode *star, jlist *args)
{
    jvalue v;
    jlist *more;
    if (!jeval(r, f, star, &v) || !jiter_collect(r, v, &more)) {
        return false;
    }
    for (size_t i = 0; i < more->n; i++) {
        if (!jlist_push(r, args, more->items[i])) {
            return false;
        }
    }
    return true;
}

static bool has_keyword(const jkeyword *keywords, size_t n, const jtext *name)
{
    for (size_t i = 0; i < n; i++) {
        if (jtext_equal(keywords[i].name, name)) {
            return true;
        }
    }
    return false;
}

static bool spread_dict(jrun *r, const jdict *d, jkeyword *keywords, size_t *n)
{
    for (size_t i = 0; i < d->n; i++) {
        if (d->entries[i].key.kind != JTEXT) {
            return jrun_fail(r, "keywords must be strings");
        }
        const jtext *name = d->entries[i].key.as.text;
        if (!jrun_charge(r, *n) || has_keyword(keywords, *n, name)) {
            return jrun_fail(r, "an argument is given twice: '%.*s'", jtext_shown(name), name->bytes);
        }
        keywords[(*n)++] = (jkeyword){.name = name, .value = d->entries[i].value};
    }
    return true;
}

static bool eval_keywords(jrun *r, jframe *f, const jargs *args, const jkeyword *extra, jcall *out)
{
    jvalue spread = JVALUE_MISSING;
    size_t n = 0;
    jkeyword *keywords = jrun_array(r, args->n_keywords + 1, sizeof *keywords);
    if (!keywords) {
        return false;
    }
    for (; n < args->n_keywords; n++) {
        keywords[n].name = args->keywords[n].name;
        if (!jeval(r, f, args->keywords[n].value, &keywords[n].value)) {
            return false;
        }
    }
    if (extra) {
        if (has_keyword(keywords, n, extra->name)) {
            return jrun_fail(r, "a call block gives its callee a second caller");
        }
        keywords[n++] = *extra;
    }
    if (args->star_star) {
        if (!jeval(r, f, args->star_star, &spread)) {
            return false;
        }
        if (spread.kind != JDICT) {
            return jrun_fail(r, "'**' needs a dict, not '%s'", jvalue_type(spread));
        }
        jkeyword *all = jrun_array(r, n + spread.as.dict->n, sizeof *all);
        if (!all) {
            return false;
        }
        memcpy(all, keywords, n * sizeof *all);
        keywords = all;
        if (!spread_dict(r, spread.as.dict, keywords, &n)) {
            return false;
        }
    }
    out->keywords = keywords;
    out->n_keywords = n;
    return true;
}

bool jeval_args(jrun *r, jframe *f, const jargs *args, const jkeyword *extra, jcall *out)
{
    *out = (jcall){0};
    if (!args) {
        return true;
    }
    jvalue *values = jrun_array(r, args->n_args, sizeof *values);
    if (!values) {
        return false;
    }
    for (uint32_t i = 0; i < args->n_args; i++) {
        if (!jeval(r, f, args->args[i], &values[i])) {
            return false;
        }
    }
    out->args = values;
    out->n_args = args->n_args;
    if (args->star) {
        jlist *all = jlist_copy(r, values, args->n_args);
        if (!all || !spread_list(r, f, args->star, all)) {
            return false;
        }
        out->args = all->items;
        out->n_args = all->n;
    }
    return (!args->n_keywords && !extra && !args->star_star) || eval_keywords(r, f, args, extra, out);
}

/* ---- operators --------------------------------------------------------------------------------------------------- */

static bool eval_list(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jlist *l = jlist_new(r);
    jvalue *items = l ? jrun_array(r, n->as.list.n, sizeof *items) : NULL;
    if (!items) {
        return false;
    }
    for (uint32_t i = 0; i < n->as.list.n; i++) {
        if (!jeval(r, f, n->as.list.items[i], &items[i])) {
            return false;
        }
    }
    *l = (jlist){.items = items, .n = n->as.list.n};
    *out = n->type == JNODE_TUPLE ? jvalue_tuple(l) : jvalue_list(l);
    return true;
}

static bool eval_dict(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jdict *d = jdict_new(r);
    if (!d) {
        return false;
    }
    for (uint32_t i = 0; i < n->as.list.n; i += 2) {
        jvalue key, value;
        if (!jeval(r, f, n->as.list.items[i], &key) || !jeval(r, f, n->as.list.items[i + 1], &value) ||
            !jdict_set(r, d, key, value)) {
            return false;
        }
    }
    *out = jvalue_dict(d);
    return true;
}

static bool eval_concat(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jvalue v;
    const jtext *whole = NULL;
    for (uint32_t i = 0; i < n->as.list.n; i++) {
        const jtext *part = jeval(r, f, n->as.list.items[i], &v) ? jvalue_str(r, v) : NULL;
        whole = part && whole ? jtext_concat(r, whole, part) : part;
        if (!whole) {
            return false;
        }
    }
    *out = jvalue_text(whole);
    return true;
}

static bool eval_compare(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jvalue left, right;
    bool holds = true;
    if (!jeval(r, f, n->as.compare.first, &left)) {
        return false;
    }
    for (uint32_t i = 0; i < n->as.compare.n && holds; i++) {
        if (!jeval(r, f, n->as.compare.others[i], &right)) {
            return false;
        }
        r->line = n->line;
        if (!jvalue_compare(r, (jcompare)n->as.compare.ops[i], left, right, &holds)) {
            return false;
        }
        left = right;
    }
    *out = jvalue_bool(holds);
    return true;
}

static bool eval_cond(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    static const jtext why = {
        .bytes = "an 'if' without 'else' did not hold, so there is no value", .n = 57, .n_chars = 57, .hash = 1};
    jvalue test;
    if (!jeval(r, f, n->as.cond.test, &test)) {
        return false;
    }
    if (jvalue_true(test)) {
        return jeval(r, f, n->as.cond.yes, out);
    }
    if (n->as.cond.no) {
        return jeval(r, f, n->as.cond.no, out);
    }
    *out = jvalue_undefined(JWHY_MESSAGE, &why);
    return true;
}

static bool eval_slice(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jvalue object, parts[3] = {JVALUE_NONE, JVALUE_NONE, JVALUE_NONE};
    if (!jeval(r, f, n->as.slice.object, &object)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (n->as.slice.parts[i] && !jeval(r, f, n->as.slice.parts[i], &parts[i])) {
            return false;
        }
    }
    r->line = n->line;
    return jvalue_slice(r, object, parts[0], parts[1], parts[2], out);
}

static bool eval_call(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jvalue callee;
    jcall call;
    if (!jeval(r, f, n->as.call.object, &callee) || !jeval_args(r, f, n->as.call.args, NULL, &call)) {
        return false;
    }
    r->line = n->line;
    return jvalue_call(r, callee, &call, out);
}

bool jeval_filter(jrun *r, jframe *f, const jnode *n, jvalue input, jvalue *out)
{
    jcall call;
    if (n->as.call.object && !jeval_filter(r, f, n->as.call.object, input, &input)) {
        return false;
    }
    if (!jeval_args(r, f, n->as.call.args, NULL, &call)) {
        return false;
    }
    r->line = n->line;
    return jfunction_call(r, n->as.call.function, input, &call, out); /* unknown ones were refused when binding */
}

static bool eval_filter_or_test(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jvalue object;
    jcall call;
    if (!jeval(r, f, n->as.call.object, &object) || !jeval_args(r, f, n->as.call.args, NULL, &call)) {
        return false;
    }
    r->line = n->line;
    if (!n->as.call.function) {
        return jrun_fail(r, "there is no %s '%.*s'", n->type == JNODE_FILTER ? "filter" : "test",
                         jtext_shown(n->as.call.id), n->as.call.id->bytes);
    }
    return jfunction_call(r, n->as.call.function, object, &call, out);
}

static bool eval_two(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jvalue left, right;
    if (!jeval(r, f, n->as.two.left, &left)) {
        return false;
    }
    switch (n->type) {
    case JNODE_AND:
    case JNODE_OR:
        if (jvalue_true(left) == (n->type == JNODE_OR)) {
            *out = left;
            return true;
        }
        return jeval(r, f, n->as.two.right, out);
    case JNODE_NOT:
        *out = jvalue_bool(!jvalue_true(left));
        return true;
    case JNODE_NEG:
        r->line = n->line;
        return jop_negate(r, left, out);
    case JNODE_POS:
        r->line = n->line;
        return jop_plus(r, left, out);
    default:
        if (!jeval(r, f, n->as.two.right, &right)) {
            return false;
        }
        r->line = n->line;
        return jop_binary(r, (jbinary)n->op, left, right, out);
    }
}

static bool eval_deep(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    jvalue object, key;
    switch (n->type) {
    case JNODE_TUPLE:
    case JNODE_LIST:
        return eval_list(r, f, n, out);
    case JNODE_DICT:
        return eval_dict(r, f, n, out);
    case JNODE_CONCAT:
        return eval_concat(r, f, n, out);
    case JNODE_COMPARE:
        return eval_compare(r, f, n, out);
    case JNODE_COND:
        return eval_cond(r, f, n, out);
    case JNODE_ATTR:
        if (!jeval(r, f, n->as.attr.object, &object)) {
            return false;
        }
        r->line = n->line;
        return jvalue_attr(r, object, n->as.attr.id, n->as.attr.known, out);
    case JNODE_ITEM:
        if (!jeval(r, f, n->as.item.object, &object) || !jeval(r, f, n->as.item.key, &key)) {
            return false;
        }
        r->line = n->line;
        return jvalue_item(r, object, key, out);
    case JNODE_SLICE:
        return eval_slice(r, f, n, out);
    case JNODE_CALL:
        return eval_call(r, f, n, out);
    case JNODE_FILTER:
    case JNODE_TEST:
        return eval_filter_or_test(r, f, n, out);
    default:
        return eval_two(r, f, n, out);
    }
}

bool jeval(jrun *r, jframe *f, const jnode *n, jvalue *out)
{
    if (n->type == JNODE_CONST) {
        *out = n->as.value;
        return true;
    }
    if (n->type == JNODE_NAME) {
        *out = *variable(r, f, n->as.name.ref);
        if (out->kind == JMISSING) {
            *out = jvalue_undefined(JWHY_VARIABLE, n->as.name.id);
        }
        return true;
    }
    if (!jrun_charge(r, 1) || !jrun_enter(r)) {
        return false;
    }
    bool ok = eval_deep(r, f, n, out);
    jrun_leave(r);
    return ok;
}
