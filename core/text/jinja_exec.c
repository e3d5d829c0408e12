/*
 * Runs the statements of a compiled template: output, loops, macros, scopes.
 * Owner: the render. Lifetime: the call.
 */
#include <string.h>

#include "text/jinja_ast.h"

typedef enum jflow { FLOW_FAILED, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } jflow;

struct jmacro {
    const jmacro_node *node;
    jframe *outer; /* where it was defined */
};

/* The `loop` variable. */
struct jloop {
    jvalue source; /* what is iterated, for its length */
    jiter *it;
    int64_t index0;
    jvalue before, current, after; /* JMISSING: not there (or not looked at yet) */
    bool peeked;                   /* `after` holds the next item, or JMISSING at the end */
    int64_t length;                /* -1: not known yet */
    jvalue changed;                /* the arguments of the last loop.changed() */
    const jnode *node;             /* of a recursive loop: what loop(…) runs again, in `outer` */
    jframe *outer;
    int64_t depth0;
};

static jflow run_block(jrun *r, jframe *f, const jblock *b);

/* ---- capturing output -------------------------------------------------------------------------------------------- */

/* Output is one growing text. A capture is its tail since `mark`; taking it cuts it off. */
static const jtext *take_capture(jrun *r, size_t mark)
{
    const jtext *t = jtext_copy(r, r->text.data ? r->text.data + mark : "", r->text.n - mark);
    r->text.n = mark;
    return t;
}

static jflow capture_block(jrun *r, jframe *f, const jblock *b, const jtext **out)
{
    size_t mark = r->text.n;
    jflow flow = run_block(r, f, b);
    if (flow == FLOW_NEXT) {
        *out = take_capture(r, mark);
        return *out ? FLOW_NEXT : FLOW_FAILED;
    }
    r->text.n = mark; /* break and continue leave what was captured behind */
    return flow;
}

static bool write_value(jrun *r, jvalue v)
{
    if (v.kind == JTEXT) {
        return jrun_write(r, v.as.text->bytes, v.as.text->n);
    }
    const jtext *t = jvalue_str(r, v);
    return t && jrun_write(r, t->bytes, t->n);
}

/* What filter and call blocks put out is not converted: Jinja joins it as it is. */
static bool write_text(jrun *r, jvalue v)
{
    if (v.kind != JTEXT) {
        return jrun_fail(r, "the result of this block is of type '%s', not a string", jvalue_type(v));
    }
    return write_value(r, v);
}

static jflow as_flow(bool ok)
{
    return ok ? FLOW_NEXT : FLOW_FAILED;
}

/* ---- loops ------------------------------------------------------------------------------------------------------- */

/* The items of a loop that its `if` lets through. */
typedef struct filtered {
    jframe *frame;
    const jfor_node *node;
    jiter *it;
    bool entered;
} filtered;

/* What a target was given; Jinja passes on tuples whatever was taken apart. */
static bool give_target(jrun *r, jframe *f, const jnode *target, jvalue *out)
{
    if (target->type != JNODE_TUPLE) {
        return jeval(r, f, target, out);
    }
    jlist *items = jlist_new(r);
    for (uint32_t i = 0; i < target->as.list.n; i++) {
        jvalue v;
        if (!items || !give_target(r, f, target->as.list.items[i], &v) || !jlist_push(r, items, v)) {
            return false;
        }
    }
    *out = jvalue_tuple(items);
    return items != NULL;
}

static jstep next_filtered(jrun *r, void *state, jvalue *out)
{
    filtered *s = state;
    if (!s->entered) {
        jscope_enter(r, s->frame, &s->node->test_scope);
        s->entered = true;
    }
    for (;;) {
        jvalue test;
        jstep step = jiter_next(r, s->it, out);
        if (step != JSTEP_ITEM) {
            return step;
        }
        if (!jassign(r, s->frame, s->node->test_target, *out) || !jeval(r, s->frame, s->node->test, &test)) {
            return JSTEP_FAILED;
        }
        if (jvalue_true(test)) {
            return give_target(r, s->frame, s->node->test_target, out) ? JSTEP_ITEM : JSTEP_FAILED;
        }
    }
}

static bool open_loop(jrun *r, jframe *f, const jfor_node *node, jvalue source, jloop *loop)
{
    *loop = (jloop){.source = source, .index0 = -1, .length = -1};
    if (!jiter_open(r, source, &loop->it)) {
        return false;
    }
    if (node->test) {
        filtered *state = jrun_array(r, 1, sizeof *state);
        if (!state) {
            return false;
        }
        *state = (filtered){.frame = f, .node = node, .it = loop->it};
        loop->it = jiter_make(r, next_filtered, state);
        loop->source = (jvalue){.kind = JITER, .as.iter = loop->it};
    }
    return loop->it != NULL;
}

static bool peek(jrun *r, jloop *loop)
{
    if (!loop->peeked) {
        jstep step = jiter_next(r, loop->it, &loop->after);
        if (step == JSTEP_FAILED) {
            return false;
        }
        if (step == JSTEP_END) {
            loop->after = JVALUE_MISSING;
        }
        loop->peeked = true;
    }
    return true;
}

static jstep advance(jrun *r, jloop *loop)
{
    if (!peek(r, loop)) {
        return JSTEP_FAILED;
    }
    loop->peeked = false;
    if (loop->after.kind == JMISSING) {
        return JSTEP_END;
    }
    loop->before = loop->current;
    loop->current = loop->after;
    loop->index0++;
    return JSTEP_ITEM;
}

static jflow run_loop(jrun *r, jframe *f, const jnode *n, jloop *loop)
{
    const jfor_node *node = n->as.loop;
    bool completed = false; /* Jinja: `else` runs unless some round reached the end of the body */
    for (;;) {
        r->line = n->line;
        jstep step = advance(r, loop);
        if (step == JSTEP_FAILED) {
            return FLOW_FAILED;
        }
        if (step == JSTEP_END) {
            break;
        }
        if (!jassign(r, f, node->target, loop->current)) {
            return FLOW_FAILED;
        }
        if (node->uses_loop) {
            f->slots[node->loop_slot] = (jvalue){.kind = JLOOP, .as.loop = loop};
        }
        jscope_enter(r, f, &node->scope);
        jflow flow = run_block(r, f, &node->body);
        if (flow == FLOW_FAILED) {
            return FLOW_FAILED;
        }
        if (flow == FLOW_BREAK) {
            break;
        }
        completed |= flow == FLOW_NEXT;
    }
    if (node->has_else && !completed) {
        jscope_enter(r, f, &node->else_scope);
        return run_block(r, f, &node->otherwise);
    }
    return FLOW_NEXT;
}

static jframe *frame_new(jrun *r, uint32_t n_slots, jframe *outer)
{
    jframe *f = jrun_alloc(r, sizeof *f);
    if (!f) {
        return NULL;
    }
    *f = (jframe){.slots = jrun_array(r, n_slots, sizeof(jvalue)), .outer = outer};
    return f->slots ? f : NULL;
}

/* A recursive loop is a function: each run has its own variables. */
static jflow run_recursive(jrun *r, jframe *outer, const jnode *n, jvalue source, int64_t depth0)
{
    jframe *f = frame_new(r, n->as.loop->n_slots, outer);
    jloop *loop = f ? jrun_array(r, 1, sizeof *loop) : NULL;
    if (!loop || !open_loop(r, f, n->as.loop, source, loop)) {
        return FLOW_FAILED;
    }
    loop->node = n;
    loop->outer = outer;
    loop->depth0 = depth0;
    return run_loop(r, f, n, loop);
}

static jflow run_for(jrun *r, jframe *f, const jnode *n)
{
    jvalue source;
    if (!jeval(r, f, n->as.loop->iter, &source)) {
        return FLOW_FAILED;
    }
    r->line = n->line;
    if (n->as.loop->recursive) {
        return run_recursive(r, f, n, source, 0);
    }
    jloop *loop = jrun_array(r, 1, sizeof *loop);
    if (!loop || !open_loop(r, f, n->as.loop, source, loop)) {
        return FLOW_FAILED;
    }
    return run_loop(r, f, n, loop);
}

bool jloop_call(jrun *r, jloop *loop, const jcall *call, jvalue *out)
{
    if (!loop->node) {
        return jrun_fail(r, "loop(…) needs a loop that is marked 'recursive'");
    }
    if (call->n_args != 1 || call->n_keywords) {
        return jrun_fail(r, "loop(…) takes one argument");
    }
    size_t mark = r->text.n;
    if (!jrun_enter(r)) {
        return false;
    }
    jflow flow = run_recursive(r, loop->outer, loop->node, call->args[0], loop->depth0 + 1);
    jrun_leave(r);
    if (flow == FLOW_FAILED) {
        return false;
    }
    const jtext *t = take_capture(r, mark);
    *out = jvalue_text(t);
    return t != NULL;
}

static bool loop_length(jrun *r, jloop *loop)
{
    size_t n;
    if (loop->length >= 0) {
        return true;
    }
    if (jvalue_length(loop->source, &n)) {
        loop->length = (int64_t)n;
        return true;
    }
    /* A lazy source: read to its end, and go on from what was read. */
    jlist *rest;
    if (!jiter_collect(r, (jvalue){.kind = JITER, .as.iter = loop->it}, &rest) ||
        !jiter_open(r, jvalue_list(rest), &loop->it)) {
        return false;
    }
    loop->length = (int64_t)rest->n + loop->index0 + 1 + (loop->peeked && loop->after.kind != JMISSING);
    return true;
}

static const jtext no_previous = {.bytes = "there is no previous item", .n = 25, .n_chars = 25, .hash = 1};
static const jtext no_next = {.bytes = "there is no next item", .n = 21, .n_chars = 21, .hash = 1};

static bool loop_cycle(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    (void)f;
    if (call->n_keywords || call->n_args == 0) {
        return jrun_fail(r, "loop.cycle() needs values to choose from");
    }
    *out = call->args[(uint64_t)self.as.loop->index0 % call->n_args];
    return true;
}

static bool loop_changed(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    bool same = false;
    (void)f;
    if (call->n_keywords) {
        return jrun_fail(r, "loop.changed() takes no keywords");
    }
    jlist *args = jlist_copy(r, call->args, call->n_args);
    if (!args) {
        return false;
    }
    jvalue now = jvalue_tuple(args);
    if (self.as.loop->changed.kind != JMISSING && !jvalue_equal(r, self.as.loop->changed, now, &same)) {
        return false;
    }
    if (!same) {
        self.as.loop->changed = now;
    }
    *out = jvalue_bool(!same);
    return true;
}

static const jfunction loop_methods[] = {{.name = "cycle", .native = loop_cycle},
                                         {.name = "changed", .native = loop_changed}};

enum {
    LOOP_INDEX,
    LOOP_INDEX0,
    LOOP_FIRST,
    LOOP_LAST,
    LOOP_LENGTH,
    LOOP_REVINDEX,
    LOOP_REVINDEX0,
    LOOP_DEPTH,
    LOOP_DEPTH0,
    LOOP_CYCLE,
    LOOP_CHANGED,
    LOOP_PREVITEM,
    LOOP_NEXTITEM,
    LOOP_ATTRIBUTES,
};

static bool loop_method(jrun *r, jloop *loop, const jfunction *function, jvalue *out)
{
    jbound *bound = jrun_alloc(r, sizeof *bound);
    if (bound) {
        *bound = (jbound){.function = function, .self = {.kind = JLOOP, .as.loop = loop}};
        *out = (jvalue){.kind = JMETHOD, .as.bound = bound};
    }
    return bound != NULL;
}

bool jloop_attr(jrun *r, jloop *loop, const jtext *name, jvalue *out)
{
    static const char *const names[] = {"index", "index0", "first", "last",    "length",   "revindex", "revindex0",
                                        "depth", "depth0", "cycle", "changed", "previtem", "nextitem"};
    int which = 0;
    while (which < LOOP_ATTRIBUTES && !jtext_is(name, names[which])) {
        which++;
    }
    if ((which == LOOP_LAST || which == LOOP_NEXTITEM) && !peek(r, loop)) {
        return false;
    }
    if ((which == LOOP_LENGTH || which == LOOP_REVINDEX || which == LOOP_REVINDEX0) && !loop_length(r, loop)) {
        return false;
    }
    switch (which) {
    case LOOP_INDEX:
    case LOOP_INDEX0:
        *out = jvalue_int(loop->index0 + (which == LOOP_INDEX));
        return true;
    case LOOP_FIRST:
        *out = jvalue_bool(loop->index0 == 0);
        return true;
    case LOOP_LAST:
        *out = jvalue_bool(loop->after.kind == JMISSING);
        return true;
    case LOOP_LENGTH:
        *out = jvalue_int(loop->length);
        return true;
    case LOOP_REVINDEX:
    case LOOP_REVINDEX0:
        *out = jvalue_int(loop->length - loop->index0 - (which == LOOP_REVINDEX0));
        return true;
    case LOOP_DEPTH:
    case LOOP_DEPTH0:
        *out = jvalue_int(loop->depth0 + (which == LOOP_DEPTH));
        return true;
    case LOOP_CYCLE:
    case LOOP_CHANGED:
        return loop_method(r, loop, &loop_methods[which - LOOP_CYCLE], out);
    case LOOP_PREVITEM:
        *out = loop->index0 == 0 ? jvalue_undefined(JWHY_MESSAGE, &no_previous) : loop->before;
        return true;
    case LOOP_NEXTITEM:
        *out = loop->after.kind == JMISSING ? jvalue_undefined(JWHY_MESSAGE, &no_next) : loop->after;
        return true;
    default:
        *out = JVALUE_MISSING;
        return true;
    }
}

/* ---- macros ------------------------------------------------------------------------------------------------------ */

const jtext *jmacro_name(const jmacro *m)
{
    return m->node->name;
}

static bool keyword_value(const jcall *call, bool *used, const jtext *name, jvalue *out)
{
    for (size_t i = 0; i < call->n_keywords; i++) {
        if (jtext_equal(call->keywords[i].name, name)) {
            *out = call->keywords[i].value;
            used[i] = true;
            return true;
        }
    }
    return false;
}

static bool rest_of_keywords(jrun *r, const jmacro_node *m, const jcall *call, const bool *used, jframe *f)
{
    jdict *d = m->has_kwargs ? jdict_new(r) : NULL;
    if (m->has_kwargs) {
        if (!d) {
            return false;
        }
        f->slots[m->kwargs_slot] = jvalue_dict(d);
    }
    for (size_t i = 0; i < call->n_keywords; i++) {
        const jtext *name = call->keywords[i].name;
        if (used[i]) {
            continue;
        }
        if (!d) {
            return jrun_fail(r, "the macro '%.*s' takes no argument named '%.*s'", m->name ? (int)m->name->n : 6,
                             m->name ? m->name->bytes : "caller", jtext_shown(name), name->bytes);
        }
        if (!jdict_set_text(r, d, name, call->keywords[i].value)) {
            return false;
        }
    }
    return true;
}

static bool rest_of_values(jrun *r, const jmacro_node *m, const jcall *call, jframe *f)
{
    size_t n = call->n_args > m->n_params ? call->n_args - m->n_params : 0;
    if (m->has_varargs) {
        jlist *l = jlist_copy(r, call->args + (n ? m->n_params : 0), n);
        if (l) {
            f->slots[m->varargs_slot] = jvalue_tuple(l);
        }
        return l != NULL;
    }
    if (n > 0) {
        return jrun_fail(r, "the macro '%.*s' takes at most %u arguments, not %zu", m->name ? jtext_shown(m->name) : 6,
                         m->name ? m->name->bytes : "caller", (unsigned)m->n_params, call->n_args);
    }
    return true;
}

static bool bind_arguments(jrun *r, const jmacro_node *m, const jcall *call, jframe *f)
{
    static const jtext caller_name = {.bytes = "caller", .n = 6, .n_chars = 6, .hash = 1};
    bool *used = jrun_array(r, call->n_keywords, sizeof *used);
    if (!used) {
        return false;
    }
    for (uint32_t i = 0; i < m->n_params; i++) {
        jvalue *slot = &f->slots[m->slots[i]];
        if (i < call->n_args) {
            *slot = call->args[i];
        } else {
            keyword_value(call, used, m->params[i], slot);
        }
    }
    if (m->has_caller && !m->explicit_caller) {
        jvalue *slot = &f->slots[m->caller_slot];
        if (!keyword_value(call, used, &caller_name, slot) || slot->kind == JNONE) {
            *slot = jvalue_undefined(JWHY_VARIABLE, &caller_name);
        }
    }
    return rest_of_keywords(r, m, call, used, f) && rest_of_values(r, m, call, f);
}

static bool fill_defaults(jrun *r, const jmacro_node *m, jframe *f)
{
    uint32_t n_without = m->n_params - m->n_defaults;
    for (uint32_t i = 0; i < m->n_params; i++) {
        jvalue *slot = &f->slots[m->slots[i]];
        if (slot->kind != JMISSING) {
            continue;
        }
        if (i < n_without) {
            *slot = jvalue_undefined(JWHY_VARIABLE, m->params[i]);
        } else if (!jeval(r, f, m->defaults[i - n_without], slot)) {
            return false;
        }
    }
    return true;
}

bool jmacro_call(jrun *r, const jmacro *m, const jcall *call, jvalue *out)
{
    const jmacro_node *node = m->node;
    const jtext *t = NULL;
    jframe *f = frame_new(r, node->n_slots, m->outer);
    if (!f || !bind_arguments(r, node, call, f) || !jrun_enter(r)) {
        return false;
    }
    jscope_enter(r, f, &node->scope);
    bool ok = fill_defaults(r, node, f) && capture_block(r, f, &node->body, &t) == FLOW_NEXT;
    jrun_leave(r);
    *out = jvalue_text(t);
    return ok;
}

static bool macro_value(jrun *r, jframe *f, const jmacro_node *node, jvalue *out)
{
    jmacro *m = jrun_alloc(r, sizeof *m);
    if (m) {
        *m = (jmacro){.node = node, .outer = f};
        *out = (jvalue){.kind = JMACRO, .as.macro = m};
    }
    return m != NULL;
}

static bool run_call_block(jrun *r, jframe *f, const jnode *n)
{
    jkeyword extra = {.name = jtext_of(r, "caller")};
    jvalue callee, out;
    jcall call = {0};
    if (!extra.name || !macro_value(r, f, n->as.macro.macro, &extra.value)) {
        return false;
    }
    if (!n->as.macro.call) { /* a generation block */
        r->line = n->line;
        return jvalue_call(r, extra.value, &call, &out) && write_value(r, out);
    }
    const jnode *node = n->as.macro.call;
    if (!jeval(r, f, node->as.call.object, &callee) || !jeval_args(r, f, node->as.call.args, &extra, &call)) {
        return false;
    }
    r->line = node->line;
    return jvalue_call(r, callee, &call, &out) && write_text(r, out);
}

/* ---- statements -------------------------------------------------------------------------------------------------- */

static jflow run_if(jrun *r, jframe *f, const jnode *n)
{
    for (uint32_t i = 0; i < n->as.branch.n; i++) {
        jvalue test;
        if (!jeval(r, f, n->as.branch.branches[i].test, &test)) {
            return FLOW_FAILED;
        }
        if (jvalue_true(test)) {
            return run_block(r, f, &n->as.branch.branches[i].body);
        }
    }
    return run_block(r, f, &n->as.branch.otherwise);
}

static bool run_print(jrun *r, jframe *f, const jnode *n)
{
    for (uint32_t i = 0; i < n->as.list.n; i++) {
        jvalue v;
        if (!jeval(r, f, n->as.list.items[i], &v) || !write_value(r, v)) {
            return false;
        }
    }
    return true;
}

static bool run_set(jrun *r, jframe *f, const jnode *n)
{
    jvalue v;
    if (!jeval(r, f, n->as.set.value, &v)) {
        return false;
    }
    r->line = n->line;
    return jassign(r, f, n->as.set.target, v);
}

static jflow run_set_block(jrun *r, jframe *f, const jnode *n)
{
    const jtext *t;
    jscope_enter(r, f, n->as.set.scope);
    jflow flow = capture_block(r, f, n->as.set.body, &t);
    if (flow != FLOW_NEXT) {
        return flow;
    }
    jvalue v = jvalue_text(t);
    if (n->as.set.value && !jeval_filter(r, f, n->as.set.value, v, &v)) {
        return FLOW_FAILED;
    }
    r->line = n->line;
    return as_flow(jassign(r, f, n->as.set.target, v));
}

static jflow run_filter_block(jrun *r, jframe *f, const jnode *n)
{
    const jtext *t;
    jvalue v;
    jscope_enter(r, f, n->as.filter_block.scope);
    jflow flow = capture_block(r, f, n->as.filter_block.body, &t);
    if (flow != FLOW_NEXT) {
        return flow;
    }
    return as_flow(jeval_filter(r, f, n->as.filter_block.filter, jvalue_text(t), &v) && write_text(r, v));
}

static jflow run_with(jrun *r, jframe *f, const jnode *n)
{
    jscope_enter(r, f, n->as.with.scope);
    for (uint32_t i = 0; i < n->as.with.n; i++) {
        jvalue v;
        if (!jeval(r, f, n->as.with.values[i], &v) || !jassign(r, f, n->as.with.targets[i], v)) {
            return FLOW_FAILED;
        }
    }
    return run_block(r, f, n->as.with.body);
}

static jflow run_node(jrun *r, jframe *f, const jnode *n)
{
    r->line = n->line;
    switch (n->type) {
    case JNODE_DATA:
        return as_flow(jrun_write(r, n->as.value.as.text->bytes, n->as.value.as.text->n));
    case JNODE_PRINT:
        return as_flow(run_print(r, f, n));
    case JNODE_IF:
        return run_if(r, f, n);
    case JNODE_FOR:
        return run_for(r, f, n);
    case JNODE_SET:
        return as_flow(run_set(r, f, n));
    case JNODE_SET_BLOCK:
        return run_set_block(r, f, n);
    case JNODE_MACRO: {
        jvalue v;
        if (!macro_value(r, f, n->as.macro.macro, &v)) {
            return FLOW_FAILED;
        }
        f->slots[n->as.macro.ref.slot] = v; /* a scope always has a slot of its own for what it stores */
        return FLOW_NEXT;
    }
    case JNODE_CALL_BLOCK:
        return as_flow(run_call_block(r, f, n));
    case JNODE_FILTER_BLOCK:
        return run_filter_block(r, f, n);
    case JNODE_WITH:
        return run_with(r, f, n);
    case JNODE_BREAK:
        return FLOW_BREAK;
    default:
        return FLOW_CONTINUE;
    }
}

static jflow run_block(jrun *r, jframe *f, const jblock *b)
{
    jflow flow = FLOW_NEXT;
    if (!jrun_enter(r)) {
        return FLOW_FAILED;
    }
    for (uint32_t i = 0; i < b->n && flow == FLOW_NEXT; i++) {
        flow = jrun_charge(r, 1) ? run_node(r, f, b->nodes[i]) : FLOW_FAILED;
    }
    jrun_leave(r);
    return flow;
}

bool jprogram_run(jrun *r, const jprogram *p)
{
    jframe *f = frame_new(r, p->n_slots, NULL);
    if (!f) {
        return false;
    }
    jscope_enter(r, f, &p->scope);
    return run_block(r, f, &p->body) == FLOW_NEXT;
}
