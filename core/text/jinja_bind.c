/*
 * Binds every name of a parsed template to a slot or a global, with Jinja's rules of scope: loops, macros, with,
 * filter and set blocks open a scope, `if` does not; what a scope stores anywhere starts as a copy of the outer
 * variable of that name, and what a scope only reads is the outer variable itself.
 * Owner: jcompile. Lifetime: that call.
 */
#include <string.h>

#include "text/jinja_parse.h"

/* A function has slots of its own: the template, a macro, a call block, a recursive loop. */
typedef struct function {
    struct function *outer;
    uint32_t n_slots;
} function;

typedef enum origin { FROM_PARAMETER, FROM_NOTHING, FROM_OUTER, FROM_GLOBAL } origin;

typedef struct symbol {
    const jtext *name;
    struct symbol *next; /* in order of appearance */
    origin how;          /* what the variable holds when its scope is entered */
    bool stored;         /* has a slot; otherwise it is the global itself */
    uint32_t slot;       /* of the function, or of the global */
} symbol;

typedef struct scope {
    struct scope *outer;
    function *fn;
    jdict *symbols; /* name -> number in `table` */
    symbol **table;
    size_t n, cap;
} scope;

typedef struct binder {
    jparser *p;
    jrun *run;
    jdict *globals; /* name -> number */
    jlist *global_names;
} binder;

/* Where a node stands, for what Jinja or Python refuse there. */
typedef struct place {
    bool soft;      /* inside an if: an unknown filter fails only when it is run */
    bool in_loop;   /* break and continue are allowed */
    bool under_for; /* `loop` cannot be assigned to */
} place;

static bool fail(binder *b, uint32_t line, const char *what, const jtext *name)
{
    b->run->line = line;
    return jrun_fail(b->run, "%s '%.*s'", what, jtext_shown(name), name->bytes);
}

/* ---- symbols ----------------------------------------------------------------------------------------------------- */

static symbol *find_here(const scope *s, const jtext *name)
{
    const jentry *entry = jdict_get(s->symbols, name);
    return entry ? s->table[entry->value.as.integer] : NULL;
}

static symbol *find(const scope *s, const jtext *name, const scope **owner)
{
    for (; s; s = s->outer) {
        symbol *found = find_here(s, name);
        if (found) {
            *owner = s;
            return found;
        }
    }
    return NULL;
}

static symbol *add(binder *b, scope *s, const jtext *name, origin how)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        symbol **table = jrun_array(b->run, cap, sizeof *table);
        if (!table) {
            return NULL;
        }
        if (s->n) {
            memcpy(table, s->table, s->n * sizeof *table);
        }
        s->table = table;
        s->cap = cap;
    }
    symbol *new = jrun_array(b->run, 1, sizeof *new);
    if (!new || !jdict_set_text(b->run, s->symbols, name, jvalue_int((int64_t)s->n))) {
        return NULL;
    }
    new->name = name;
    new->how = how;
    s->table[s->n++] = new;
    return new;
}

static bool declare_load(binder *b, scope *s, const jtext *name)
{
    const scope *owner;
    return find(s, name, &owner) || add(b, s, name, FROM_GLOBAL);
}

static bool declare_store(binder *b, scope *s, const jtext *name, bool conditional)
{
    const scope *owner;
    symbol *known = find_here(s, name);
    if (!known) {
        bool outer = s->outer && find(s->outer, name, &owner);
        known = add(b, s, name, outer ? FROM_OUTER : conditional ? FROM_GLOBAL : FROM_NOTHING);
    }
    if (known) {
        known->stored = true;
    }
    return known != NULL;
}

static bool declare_parameter(binder *b, scope *s, const jtext *name)
{
    symbol *known = find_here(s, name);
    if (!known) {
        known = add(b, s, name, FROM_PARAMETER);
    }
    if (known) {
        known->how = FROM_PARAMETER;
        known->stored = true;
    }
    return known != NULL;
}

static bool global_number(binder *b, const jtext *name, uint32_t *out)
{
    const jentry *entry = jdict_get(b->globals, name);
    if (entry) {
        *out = (uint32_t)entry->value.as.integer;
        return true;
    }
    *out = (uint32_t)b->globals->n;
    return jdict_set_text(b->run, b->globals, name, jvalue_int(*out)) &&
           jlist_push(b->run, b->global_names, jvalue_text(name));
}

/* The variable a name means in scope s. Whatever is bound in a scope was declared in it before, so there is one. */
static void resolve(const scope *s, const jtext *name, jref *out)
{
    const scope *owner = NULL;
    const symbol *found = find(s, name, &owner);
    out->is_global = !found->stored;
    out->slot = found->slot;
    out->hops = 0;
    for (const function *fn = s->fn; fn != owner->fn; fn = fn->outer) {
        out->hops++;
    }
}

static bool scope_open(binder *b, scope *s, scope *outer, function *fn)
{
    *s = (scope){.outer = outer, .fn = fn, .symbols = jdict_new(b->run)};
    return s->symbols != NULL;
}

/* Gives the declared symbols slots, and writes down what entering the scope does. */
static bool scope_seal(binder *b, scope *s, jscope *out)
{
    jinit *inits = jrun_array(b->run, s->n, sizeof *inits);
    if (!inits) {
        return false;
    }
    out->inits = inits;
    for (size_t i = 0; i < s->n; i++) {
        symbol *sym = s->table[i];
        if (!sym->stored) {
            if (!global_number(b, sym->name, &sym->slot)) {
                return false;
            }
            continue;
        }
        sym->slot = s->fn->n_slots++;
        if (sym->how == FROM_PARAMETER) {
            continue;
        }
        jinit *init = &inits[out->n++];
        init->slot = sym->slot;
        init->copy = sym->how != FROM_NOTHING;
        if (sym->how == FROM_GLOBAL) {
            init->from.is_global = true;
            if (!global_number(b, sym->name, &init->from.slot)) {
                return false;
            }
        } else if (sym->how == FROM_OUTER) {
            resolve(s->outer, sym->name, &init->from);
            for (const function *fn = s->fn; fn != s->outer->fn; fn = fn->outer) {
                init->from.hops++;
            }
        }
    }
    return true;
}

/* ---- first pass: which names a scope reads and stores, its inner scopes left out --------------------------------- */

static bool declare(binder *b, scope *s, const jnode *n, bool conditional);

static bool declare_list(binder *b, scope *s, jnode **nodes, size_t n, bool conditional)
{
    for (size_t i = 0; i < n; i++) {
        if (!declare(b, s, nodes[i], conditional)) {
            return false;
        }
    }
    return true;
}

static bool declare_args(binder *b, scope *s, const jargs *args)
{
    if (!args) {
        return true;
    }
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (!declare(b, s, args->keywords[i].value, false)) {
            return false;
        }
    }
    return declare_list(b, s, args->args, args->n_args, false) && declare(b, s, args->star, false) &&
           declare(b, s, args->star_star, false);
}

static bool declare_target(binder *b, scope *s, const jnode *n, bool parameter, bool conditional)
{
    switch (n->type) {
    case JNODE_TUPLE:
        for (uint32_t i = 0; i < n->as.list.n; i++) {
            if (!declare_target(b, s, n->as.list.items[i], parameter, conditional)) {
                return false;
            }
        }
        return true;
    case JNODE_NSREF:
        return declare_load(b, s, n->as.name.id);
    default:
        return parameter ? declare_parameter(b, s, n->as.name.id) : declare_store(b, s, n->as.name.id, conditional);
    }
}

static bool declare_if(binder *b, scope *s, const jnode *n, bool conditional)
{
    for (uint32_t i = 0; i < n->as.branch.n; i++) {
        const jbranch *branch = &n->as.branch.branches[i];
        if (!declare(b, s, branch->test, conditional) ||
            !declare_list(b, s, branch->body.nodes, branch->body.n, true)) {
            return false;
        }
    }
    return declare_list(b, s, n->as.branch.otherwise.nodes, n->as.branch.otherwise.n, true);
}

static bool declare_statement(binder *b, scope *s, const jnode *n, bool conditional)
{
    switch (n->type) {
    case JNODE_PRINT:
        return declare_list(b, s, n->as.list.items, n->as.list.n, conditional);
    case JNODE_IF:
        return declare_if(b, s, n, conditional);
    case JNODE_FOR:
        return declare(b, s, n->as.loop->iter, conditional);
    case JNODE_SET:
        return declare(b, s, n->as.set.value, conditional) &&
               declare_target(b, s, n->as.set.target, false, conditional);
    case JNODE_SET_BLOCK:
        return declare_target(b, s, n->as.set.target, false, conditional);
    case JNODE_MACRO:
        return declare_store(b, s, n->as.macro.macro->name, conditional);
    case JNODE_CALL_BLOCK:
        return declare(b, s, n->as.macro.call, conditional);
    case JNODE_FILTER_BLOCK:
        return declare(b, s, n->as.filter_block.filter, conditional);
    case JNODE_WITH:
        return declare_list(b, s, n->as.with.values, n->as.with.n, conditional);
    default:
        return true;
    }
}

/* n may be NULL. */
static bool declare(binder *b, scope *s, const jnode *n, bool conditional)
{
    if (!n) {
        return true;
    }
    switch (n->type) {
    case JNODE_CONST:
        return true;
    case JNODE_NAME:
        return declare_load(b, s, n->as.name.id);
    case JNODE_TUPLE:
    case JNODE_LIST:
    case JNODE_DICT:
    case JNODE_CONCAT:
        return declare_list(b, s, n->as.list.items, n->as.list.n, false);
    case JNODE_NEG:
    case JNODE_POS:
    case JNODE_NOT:
    case JNODE_BINARY:
    case JNODE_AND:
    case JNODE_OR:
        return declare(b, s, n->as.two.left, false) && declare(b, s, n->as.two.right, false);
    case JNODE_COMPARE:
        return declare(b, s, n->as.compare.first, false) &&
               declare_list(b, s, n->as.compare.others, n->as.compare.n, false);
    case JNODE_COND:
        return declare(b, s, n->as.cond.test, false) && declare(b, s, n->as.cond.yes, false) &&
               declare(b, s, n->as.cond.no, false);
    case JNODE_ATTR:
        return declare(b, s, n->as.attr.object, false);
    case JNODE_ITEM:
        return declare(b, s, n->as.item.object, false) && declare(b, s, n->as.item.key, false);
    case JNODE_SLICE:
        return declare(b, s, n->as.slice.object, false) && declare_list(b, s, (jnode **)n->as.slice.parts, 3, false);
    case JNODE_CALL:
    case JNODE_FILTER:
    case JNODE_TEST:
        return declare(b, s, n->as.call.object, false) && declare_args(b, s, n->as.call.args);
    default:
        return declare_statement(b, s, n, conditional);
    }
}

/* ---- whether a body reads a name that nothing before it in the body stores --------------------------------------- */

typedef struct search {
    const char *name;
    bool found, hidden;
} search;

static void search_node(search *q, const jnode *n);

static void search_list(search *q, jnode **nodes, size_t n)
{
    for (size_t i = 0; i < n && !q->found; i++) {
        search_node(q, nodes[i]);
    }
}

static void search_block(search *q, const jblock *block)
{
    search_list(q, block->nodes, block->n);
}

static void search_target(search *q, const jnode *n)
{
    if (n->type == JNODE_TUPLE) {
        for (uint32_t i = 0; i < n->as.list.n; i++) {
            search_target(q, n->as.list.items[i]);
        }
    } else if (n->type == JNODE_NAME) {
        q->hidden |= jtext_is(n->as.name.id, q->name);
    }
}

static void search_args(search *q, const jargs *args)
{
    if (args) {
        search_list(q, args->args, args->n_args);
        for (uint32_t i = 0; i < args->n_keywords; i++) {
            search_node(q, args->keywords[i].value);
        }
        search_node(q, args->star);
        search_node(q, args->star_star);
    }
}

static void search_macro(search *q, const jmacro_node *m)
{
    for (uint32_t i = 0; i < m->n_params; i++) {
        q->hidden |= jtext_is(m->params[i], q->name);
    }
    search_list(q, m->defaults, m->n_defaults);
    search_block(q, &m->body);
}

static void search_statement(search *q, const jnode *n)
{
    switch (n->type) {
    case JNODE_PRINT:
        search_list(q, n->as.list.items, n->as.list.n);
        break;
    case JNODE_IF:
        for (uint32_t i = 0; i < n->as.branch.n; i++) {
            search_node(q, n->as.branch.branches[i].test);
            search_block(q, &n->as.branch.branches[i].body);
        }
        search_block(q, &n->as.branch.otherwise);
        break;
    case JNODE_FOR:
        search_target(q, n->as.loop->target);
        search_node(q, n->as.loop->iter);
        search_block(q, &n->as.loop->body);
        search_block(q, &n->as.loop->otherwise);
        search_node(q, n->as.loop->test);
        break;
    case JNODE_SET:
        search_target(q, n->as.set.target);
        search_node(q, n->as.set.value);
        break;
    case JNODE_SET_BLOCK:
        search_target(q, n->as.set.target);
        search_node(q, n->as.set.value);
        search_block(q, n->as.set.body);
        break;
    case JNODE_MACRO:
        search_macro(q, n->as.macro.macro);
        break;
    case JNODE_CALL_BLOCK:
        search_node(q, n->as.macro.call);
        search_macro(q, n->as.macro.macro);
        break;
    case JNODE_FILTER_BLOCK:
        search_block(q, n->as.filter_block.body);
        search_node(q, n->as.filter_block.filter);
        break;
    case JNODE_WITH:
        for (uint32_t i = 0; i < n->as.with.n; i++) {
            search_target(q, n->as.with.targets[i]);
        }
        search_list(q, n->as.with.values, n->as.with.n);
        search_block(q, n->as.with.body);
        break;
    default:
        break;
    }
}

static void search_node(search *q, const jnode *n)
{
    if (!n || q->found || q->hidden) {
        return;
    }
    switch (n->type) {
    case JNODE_NAME:
        q->found = jtext_is(n->as.name.id, q->name);
        break;
    case JNODE_TUPLE:
    case JNODE_LIST:
    case JNODE_DICT:
    case JNODE_CONCAT:
        search_list(q, n->as.list.items, n->as.list.n);
        break;
    case JNODE_NEG:
    case JNODE_POS:
    case JNODE_NOT:
    case JNODE_BINARY:
    case JNODE_AND:
    case JNODE_OR:
        search_node(q, n->as.two.left);
        search_node(q, n->as.two.right);
        break;
    case JNODE_COMPARE:
        search_node(q, n->as.compare.first);
        search_list(q, n->as.compare.others, n->as.compare.n);
        break;
    case JNODE_COND:
        search_node(q, n->as.cond.test);
        search_node(q, n->as.cond.yes);
        search_node(q, n->as.cond.no);
        break;
    case JNODE_ATTR:
        search_node(q, n->as.attr.object);
        break;
    case JNODE_ITEM:
        search_node(q, n->as.item.object);
        search_node(q, n->as.item.key);
        break;
    case JNODE_SLICE:
        search_node(q, n->as.slice.object);
        search_list(q, (jnode **)n->as.slice.parts, 3);
        break;
    case JNODE_CALL:
    case JNODE_FILTER:
    case JNODE_TEST:
        search_node(q, n->as.call.object);
        search_args(q, n->as.call.args);
        break;
    default:
        search_statement(q, n);
    }
}

static bool reads(const jblock *body, const char *name)
{
    search q = {.name = name};
    search_block(&q, body);
    return q.found;
}

/* ---- second pass: names to slots --------------------------------------------------------------------------------- */

static bool bind(binder *b, scope *s, jnode *n, place at);

static bool bind_list(binder *b, scope *s, jnode **nodes, size_t n, place at)
{
    for (size_t i = 0; i < n; i++) {
        if (!bind(b, s, nodes[i], at)) {
            return false;
        }
    }
    return true;
}

static bool bind_block(binder *b, scope *s, const jblock *block, place at)
{
    return bind_list(b, s, block->nodes, block->n, at);
}

static bool bind_target(binder *b, scope *s, jnode *n, place at)
{
    if (n->type == JNODE_TUPLE) {
        for (uint32_t i = 0; i < n->as.list.n; i++) {
            if (!bind_target(b, s, n->as.list.items[i], at)) {
                return false;
            }
        }
        return true;
    }
    if (n->type == JNODE_NAME && at.under_for && jtext_is(n->as.name.id, "loop")) {
        return fail(b, n->line, "inside a for block nothing can be assigned to", n->as.name.id);
    }
    resolve(s, n->as.name.id, &n->as.name.ref);
    return true;
}

static bool bind_args(binder *b, scope *s, const jargs *args, place at)
{
    if (!args) {
        return true;
    }
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (!bind(b, s, args->keywords[i].value, at)) {
            return false;
        }
    }
    return bind_list(b, s, args->args, args->n_args, at) && bind(b, s, args->star, at) &&
           bind(b, s, args->star_star, at);
}

static bool bind_call(binder *b, scope *s, jnode *n, place at)
{
    if (n->type != JNODE_CALL && !n->as.call.function && !at.soft) {
        if (n->type == JNODE_FILTER && jfilter_refused(n->as.call.id)) {
            b->run->line = n->line;
            return jrun_unsupported(b->run, "the filter '%.*s' is not supported in chat templates",
                                    jtext_shown(n->as.call.id), n->as.call.id->bytes);
        }
        return fail(b, n->line, n->type == JNODE_FILTER ? "there is no filter" : "there is no test", n->as.call.id);
    }
    return bind(b, s, n->as.call.object, at) && bind_args(b, s, n->as.call.args, at);
}

/* A scope of the same function around a body. */
static bool bind_inner(binder *b, scope *s, const jblock *body, jnode *filter, jscope *out, place at)
{
    scope inner;
    at.soft = false;
    return scope_open(b, &inner, s, s->fn) && declare_list(b, &inner, body->nodes, body->n, false) &&
           declare(b, &inner, filter, false) && scope_seal(b, &inner, out) && bind_block(b, &inner, body, at) &&
           bind(b, &inner, filter, at);
}

static bool bind_with(binder *b, scope *s, jnode *n, place at)
{
    scope inner;
    place within = at;
    within.soft = false;
    if (!bind_list(b, s, n->as.with.values, n->as.with.n, at) || !scope_open(b, &inner, s, s->fn)) {
        return false;
    }
    for (uint32_t i = 0; i < n->as.with.n; i++) {
        if (!declare_target(b, &inner, n->as.with.targets[i], true, false)) {
            return false;
        }
    }
    if (!declare_list(b, &inner, n->as.with.body->nodes, n->as.with.body->n, false) ||
        !scope_seal(b, &inner, n->as.with.scope)) {
        return false;
    }
    for (uint32_t i = 0; i < n->as.with.n; i++) {
        if (!bind_target(b, &inner, n->as.with.targets[i], (place){0})) {
            return false;
        }
    }
    return bind_block(b, &inner, n->as.with.body, within);
}

static bool implicit_parameter(binder *b, scope *s, const char *name, const jtext **id)
{
    *id = jparse_text(b->p, name, strlen(name));
    return *id && declare_parameter(b, s, *id);
}

static bool declares_name(const jmacro_node *m, const char *name)
{
    for (uint32_t i = 0; i < m->n_params; i++) {
        if (jtext_is(m->params[i], name)) {
            return true;
        }
    }
    return false;
}

/* caller, kwargs and varargs become parameters of a macro whose body reads them. */
static bool declare_implicit(binder *b, scope *s, jmacro_node *m, uint32_t line, const jtext *ids[3])
{
    bool reads_caller = reads(&m->body, "caller");
    if (reads_caller && m->explicit_caller) {
        for (uint32_t i = 0; i < m->n_params - m->n_defaults; i++) {
            if (jtext_is(m->params[i], "caller")) {
                return fail(b, line, "the parameter needs a default:", m->params[i]);
            }
        }
    }
    m->has_caller = reads_caller;
    m->has_kwargs = reads(&m->body, "kwargs") && !declares_name(m, "kwargs");
    m->has_varargs = reads(&m->body, "varargs") && !declares_name(m, "varargs");
    return (!m->has_caller || m->explicit_caller || implicit_parameter(b, s, "caller", &ids[0])) &&
           (!m->has_kwargs || implicit_parameter(b, s, "kwargs", &ids[1])) &&
           (!m->has_varargs || implicit_parameter(b, s, "varargs", &ids[2]));
}

static bool bind_macro(binder *b, scope *s, jmacro_node *m, uint32_t line, place at)
{
    function fn = {.outer = s->fn};
    scope inner;
    const jtext *ids[3] = {0};
    uint32_t *slots[3] = {&m->caller_slot, &m->kwargs_slot, &m->varargs_slot};
    at.soft = at.in_loop = false;
    if (!scope_open(b, &inner, s, &fn)) {
        return false;
    }
    for (uint32_t i = 0; i < m->n_params; i++) {
        if (!declare_parameter(b, &inner, m->params[i])) {
            return false;
        }
    }
    if (!declare_list(b, &inner, m->defaults, m->n_defaults, false) ||
        !declare_list(b, &inner, m->body.nodes, m->body.n, false) || !declare_implicit(b, &inner, m, line, ids) ||
        !scope_seal(b, &inner, &m->scope)) {
        return false;
    }
    for (uint32_t i = 0; i < m->n_params; i++) {
        m->slots[i] = find_here(&inner, m->params[i])->slot;
    }
    for (int i = 0; i < 3; i++) {
        if (ids[i]) {
            *slots[i] = find_here(&inner, ids[i])->slot;
        }
    }
    if (!bind_list(b, &inner, m->defaults, m->n_defaults, at) || !bind_block(b, &inner, &m->body, at)) {
        return false;
    }
    m->n_slots = fn.n_slots;
    return true;
}

/* A target once more: the filter of a loop has its own variables, so that looking ahead disturbs nothing. */
static jnode *copy_target(binder *b, const jnode *n)
{
    jnode *copy = jnode_new(b->p, (jnode_type)n->type, n->line);
    if (!copy) {
        return NULL;
    }
    *copy = *n;
    if (n->type == JNODE_TUPLE) {
        copy->as.list.items = jrun_array(b->run, n->as.list.n, sizeof *copy->as.list.items);
        for (uint32_t i = 0; i < n->as.list.n && copy->as.list.items; i++) {
            copy->as.list.items[i] = copy_target(b, n->as.list.items[i]);
            if (!copy->as.list.items[i]) {
                return NULL;
            }
        }
        return copy->as.list.items ? copy : NULL;
    }
    return copy;
}

static bool bind_loop_test(binder *b, scope *s, jfor_node *loop, place at)
{
    scope inner;
    loop->test_target = copy_target(b, loop->target);
    return loop->test_target && scope_open(b, &inner, s, s->fn) &&
           declare_target(b, &inner, loop->test_target, true, false) && declare(b, &inner, loop->test, false) &&
           scope_seal(b, &inner, &loop->test_scope) && bind_target(b, &inner, loop->test_target, at) &&
           bind(b, &inner, loop->test, at);
}

static bool bind_for(binder *b, scope *s, jnode *n, place at)
{
    jfor_node *loop = n->as.loop;
    function own = {.outer = s->fn};
    scope outer = *s, inner; /* `outer` is s, seen from the loop's function */
    place within = {.in_loop = true, .under_for = true};
    place beside = {.in_loop = at.in_loop && !loop->recursive, .under_for = true};
    if (!bind(b, s, loop->iter, at)) {
        return false;
    }
    scope *around = s;
    if (loop->recursive) {
        outer = (scope){.outer = s, .fn = &own, .symbols = jdict_new(b->run)};
        if (!outer.symbols) {
            return false;
        }
        around = &outer;
    }
    loop->uses_loop = loop->recursive || reads(&loop->body, "loop");
    if (!scope_open(b, &inner, around, around->fn)) {
        return false;
    }
    const jtext *id = NULL;
    if (loop->uses_loop && !implicit_parameter(b, &inner, "loop", &id)) {
        return false;
    }
    if (!declare_target(b, &inner, loop->target, true, false) ||
        !declare_list(b, &inner, loop->body.nodes, loop->body.n, false) || !scope_seal(b, &inner, &loop->scope)) {
        return false;
    }
    if (id) {
        loop->loop_slot = find_here(&inner, id)->slot;
    }
    if (loop->test && !bind_loop_test(b, around, loop, (place){.under_for = true})) {
        return false;
    }
    if (!bind_target(b, &inner, loop->target, (place){.under_for = true}) ||
        !bind_block(b, &inner, &loop->body, within) ||
        !bind_inner(b, around, &loop->otherwise, NULL, &loop->else_scope, beside)) {
        return false;
    }
    loop->n_slots = own.n_slots;
    return true;
}

static bool bind_if(binder *b, scope *s, jnode *n, place at)
{
    at.soft = true;
    for (uint32_t i = 0; i < n->as.branch.n; i++) {
        if (!bind(b, s, n->as.branch.branches[i].test, at) || !bind_block(b, s, &n->as.branch.branches[i].body, at)) {
            return false;
        }
    }
    return bind_block(b, s, &n->as.branch.otherwise, at);
}

static bool bind_statement(binder *b, scope *s, jnode *n, place at)
{
    switch (n->type) {
    case JNODE_PRINT:
        return bind_list(b, s, n->as.list.items, n->as.list.n, at);
    case JNODE_IF:
        return bind_if(b, s, n, at);
    case JNODE_FOR:
        return bind_for(b, s, n, at);
    case JNODE_SET:
        return bind(b, s, n->as.set.value, at) && bind_target(b, s, n->as.set.target, at);
    case JNODE_SET_BLOCK:
        return bind_target(b, s, n->as.set.target, at) &&
               bind_inner(b, s, n->as.set.body, n->as.set.value, n->as.set.scope, at);
    case JNODE_MACRO:
        resolve(s, n->as.macro.macro->name, &n->as.macro.ref);
        return bind_macro(b, s, n->as.macro.macro, n->line, at);
    case JNODE_CALL_BLOCK:
        return bind(b, s, n->as.macro.call, at) && bind_macro(b, s, n->as.macro.macro, n->line, at);
    case JNODE_FILTER_BLOCK:
        return bind_inner(b, s, n->as.filter_block.body, n->as.filter_block.filter, n->as.filter_block.scope, at);
    case JNODE_WITH:
        return bind_with(b, s, n, at);
    case JNODE_BREAK:
    case JNODE_CONTINUE:
        if (!at.in_loop) {
            b->run->line = n->line;
            return jrun_fail(b->run, "'%s' outside of a loop", n->type == JNODE_BREAK ? "break" : "continue");
        }
        return true;
    default:
        return true;
    }
}

/* n may be NULL. */
static bool bind(binder *b, scope *s, jnode *n, place at)
{
    if (!n) {
        return true;
    }
    switch (n->type) {
    case JNODE_NAME:
        resolve(s, n->as.name.id, &n->as.name.ref);
        return true;
    case JNODE_TUPLE:
    case JNODE_LIST:
    case JNODE_DICT:
    case JNODE_CONCAT:
        return bind_list(b, s, n->as.list.items, n->as.list.n, at);
    case JNODE_NEG:
    case JNODE_POS:
    case JNODE_NOT:
    case JNODE_BINARY:
    case JNODE_AND:
    case JNODE_OR:
        return bind(b, s, n->as.two.left, at) && bind(b, s, n->as.two.right, at);
    case JNODE_COMPARE:
        return bind(b, s, n->as.compare.first, at) && bind_list(b, s, n->as.compare.others, n->as.compare.n, at);
    case JNODE_COND:
        at.soft = true;
        return bind(b, s, n->as.cond.test, at) && bind(b, s, n->as.cond.yes, at) && bind(b, s, n->as.cond.no, at);
    case JNODE_ATTR:
        return bind(b, s, n->as.attr.object, at);
    case JNODE_ITEM:
        return bind(b, s, n->as.item.object, at) && bind(b, s, n->as.item.key, at);
    case JNODE_SLICE:
        return bind(b, s, n->as.slice.object, at) && bind_list(b, s, n->as.slice.parts, 3, at);
    case JNODE_CALL:
    case JNODE_FILTER:
    case JNODE_TEST:
        return bind_call(b, s, n, at);
    default:
        return bind_statement(b, s, n, at);
    }
}

bool jbind_program(jparser *p, jprogram *program)
{
    binder b = {.p = p, .run = &p->run, .globals = jdict_new(&p->run), .global_names = jlist_new(&p->run)};
    function fn = {0};
    scope root;
    if (!b.globals || !b.global_names || !scope_open(&b, &root, NULL, &fn) ||
        !declare_list(&b, &root, program->body.nodes, program->body.n, false) ||
        !scope_seal(&b, &root, &program->scope) || !bind_block(&b, &root, &program->body, (place){0})) {
        return false;
    }
    program->n_slots = fn.n_slots;
    program->n_globals = (uint32_t)b.global_names->n;
    program->globals = jrun_array(&p->run, program->n_globals, sizeof *program->globals);
    for (uint32_t i = 0; i < program->n_globals && program->globals; i++) {
        program->globals[i] = b.global_names->items[i].as.text;
    }
    return program->globals != NULL;
}
