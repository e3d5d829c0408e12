/*
 * Parses statements and blocks, and compiles a template as a whole.
 * Owner: jcompile; the program it returns belongs to its caller. Lifetime: until jprogram_close.
 */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_parse.h"

#define COMPILE_MEMORY_MAX ((size_t)512 << 20)
#define COMPILE_STEPS_MAX 20000000

/* Names of tags that end a block; the parser stops in front of them. */
typedef struct endings {
    const char *names[4]; /* the last is NULL */
    const char *opened;   /* the tag they belong to, and its line */
    uint32_t line;
} endings;

static bool parse_block(jparser *p, const endings *until, jblock *out);

static bool at_ending(const jparser *p, const endings *until)
{
    for (size_t i = 0; until && until->names[i]; i++) {
        if (jparse_is_name(p, until->names[i])) {
            return true;
        }
    }
    return false;
}

/* The statements behind a tag, up to one of the endings, which becomes the current token. */
static bool parse_body(jparser *p, const endings *until, jblock *out)
{
    if (p->token.type == JTOK_COLON && !jparse_advance(p)) {
        return false;
    }
    if (!jparse_expect(p, JTOK_BLOCK_END, "'%}'") || !jparse_enter(p) || !parse_block(p, until, out)) {
        return false;
    }
    jparse_leave(p);
    return true;
}

/* As above, for a block with a single ending, which is stepped over. */
static bool parse_body_to(jparser *p, const char *end, const char *opened, uint32_t line, jblock *out)
{
    endings until = {.names = {end}, .opened = opened, .line = line};
    return parse_body(p, &until, out) && jparse_advance(p);
}

static bool adopt_block(jparser *p, jnode *n, const jblock *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        if (!jnode_adopt(p, n, b->nodes[i])) {
            return false;
        }
    }
    return true;
}

static void *allocate(jparser *p, size_t size)
{
    return jrun_array(&p->run, 1, size);
}

/* ---- statements -------------------------------------------------------------------------------------------------- */

static bool push_branch(jparser *p, jnode *n, uint32_t *cap, jbranch branch)
{
    if (n->as.branch.n == *cap) {
        *cap = *cap ? *cap * 2 : 2;
        jbranch *grown = jrun_array(&p->run, *cap, sizeof *grown);
        if (!grown) {
            return false;
        }
        if (n->as.branch.n) {
            memcpy(grown, n->as.branch.branches, n->as.branch.n * sizeof *grown);
        }
        n->as.branch.branches = grown;
    }
    n->as.branch.branches[n->as.branch.n++] = branch;
    return true;
}

static jnode *parse_if(jparser *p)
{
    jnode *n = jnode_new(p, JNODE_IF, p->token.line);
    uint32_t cap = 0;
    if (!n) {
        return NULL;
    }
    endings until = {.names = {"elif", "else", "endif"}, .opened = "if", .line = n->line};
    for (bool more = true; more;) {
        jbranch branch = {0};
        bool is_else;
        if (!jparse_advance(p)) {
            return NULL;
        }
        branch.test = jparse_tuple(p, 0);
        if (!jnode_adopt(p, n, branch.test) || !parse_body(p, &until, &branch.body) ||
            !adopt_block(p, n, &branch.body) || !push_branch(p, n, &cap, branch)) {
            return NULL;
        }
        more = jparse_is_name(p, "elif");
        is_else = jparse_is_name(p, "else");
        if (!more && !jparse_advance(p)) {
            return NULL;
        }
        if (is_else && (!parse_body_to(p, "endif", "if", n->line, &n->as.branch.otherwise) ||
                        !adopt_block(p, n, &n->as.branch.otherwise))) {
            return NULL;
        }
    }
    return n;
}

static jnode *parse_for(jparser *p)
{
    jnode *n = jnode_new(p, JNODE_FOR, p->token.line);
    jfor_node *loop = n ? allocate(p, sizeof *loop) : NULL;
    bool found;
    if (!loop || !jparse_advance(p)) {
        return NULL;
    }
    n->as.loop = loop;
    loop->target = jparse_target(p, 0);
    if (!jnode_adopt(p, n, loop->target) || !jparse_skip_name(p, "in", &found)) {
        return NULL;
    }
    if (!found) {
        jparse_unexpected(p, "'in'");
        return NULL;
    }
    loop->iter = jparse_tuple(p, 0);
    if (!jnode_adopt(p, n, loop->iter) || !jparse_skip_name(p, "if", &found)) {
        return NULL;
    }
    if (found) {
        loop->test = jparse_expression(p, true);
        if (!jnode_adopt(p, n, loop->test)) {
            return NULL;
        }
    }
    endings until = {.names = {"endfor", "else"}, .opened = "for", .line = n->line};
    if (!jparse_skip_name(p, "recursive", &loop->recursive) || !parse_body(p, &until, &loop->body) ||
        !adopt_block(p, n, &loop->body)) {
        return NULL;
    }
    loop->has_else = jparse_is_name(p, "else");
    if (!jparse_advance(p)) {
        return NULL;
    }
    if (loop->has_else &&
        (!parse_body_to(p, "endfor", "for", n->line, &loop->otherwise) || !adopt_block(p, n, &loop->otherwise))) {
        return NULL;
    }
    return n;
}

static jnode *parse_set(jparser *p)
{
    jnode *n = jnode_new(p, JNODE_SET, p->token.line);
    if (!n || !jparse_advance(p)) {
        return NULL;
    }
    n->as.set.target = jparse_target(p, JTUPLE_NAMESPACE);
    if (!jnode_adopt(p, n, n->as.set.target)) {
        return NULL;
    }
    if (p->token.type == JTOK_ASSIGN) {
        n->as.set.value = jparse_advance(p) ? jparse_tuple(p, JTUPLE_CONDITION) : NULL;
        return jnode_adopt(p, n, n->as.set.value) ? n : NULL;
    }
    n->type = JNODE_SET_BLOCK;
    n->as.set.body = allocate(p, sizeof *n->as.set.body);
    n->as.set.scope = allocate(p, sizeof *n->as.set.scope);
    if (p->token.type == JTOK_PIPE) {
        n->as.set.value = jparse_filters(p, NULL, false);
        if (!jnode_adopt(p, n, n->as.set.value)) {
            return NULL;
        }
    }
    if (!n->as.set.body || !n->as.set.scope || !parse_body_to(p, "endset", "set", n->line, n->as.set.body)) {
        return NULL;
    }
    return adopt_block(p, n, n->as.set.body) ? n : NULL;
}

/* A name that can be assigned to. */
static jnode *parse_parameter(jparser *p)
{
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (jparse_is_name(p, constants[i])) {
            jparse_unexpected(p, "a name");
            return NULL;
        }
    }
    jnode *n = jnode_new(p, JNODE_NAME, p->token.line);
    if (!n) {
        return NULL;
    }
    n->as.name.id = p->token.value.as.text;
    return jparse_expect(p, JTOK_NAME, "a name") ? n : NULL;
}

/* (a, b, c=1): parameters and the defaults of the last of them */
static bool parse_signature(jparser *p, jnode *n, jmacro_node *m)
{
    jnodes names = {0}, defaults = {0};
    if (!jparse_expect(p, JTOK_LPAREN, "'('")) {
        return false;
    }
    while (p->token.type != JTOK_RPAREN) {
        if (names.n && !jparse_expect(p, JTOK_COMMA, "',' or ')'")) {
            return false;
        }
        jnode *name = parse_parameter(p);
        if (!name) {
            return false;
        }
        for (uint32_t i = 0; i < names.n; i++) {
            if (names.items[i]->as.name.id == name->as.name.id) {
                return jparse_fail_at(p, name->line, p->token.at, "two parameters have the same name");
            }
        }
        if (!jrun_charge(&p->run, names.n) || !jnodes_push(p, &names, name)) {
            return false;
        }
        if (p->token.type == JTOK_ASSIGN) {
            if (!jparse_advance(p) || !jnodes_push(p, &defaults, jparse_expression(p, true)) ||
                !jnode_adopt(p, n, defaults.items[defaults.n - 1])) {
                return false;
            }
        } else if (defaults.n) {
            return jparse_fail_at(p, p->token.line, p->token.at, "a parameter without default behind one with default");
        }
    }
    m->params = jrun_array(&p->run, names.n, sizeof *m->params);
    m->slots = jrun_array(&p->run, names.n, sizeof *m->slots);
    if (!m->params || !m->slots) {
        return false;
    }
    for (uint32_t i = 0; i < names.n; i++) {
        m->params[i] = names.items[i]->as.name.id;
        m->explicit_caller |= jtext_is(m->params[i], "caller");
    }
    m->n_params = names.n;
    m->defaults = defaults.items;
    m->n_defaults = defaults.n;
    return jparse_advance(p);
}

static jnode *parse_macro(jparser *p)
{
    jnode *n = jnode_new(p, JNODE_MACRO, p->token.line);
    jmacro_node *m = n ? allocate(p, sizeof *m) : NULL;
    if (!m || !jparse_advance(p)) {
        return NULL;
    }
    n->as.macro.macro = m;
    jnode *name = parse_parameter(p);
    if (!name) {
        return NULL;
    }
    m->name = name->as.name.id;
    bool ok = parse_signature(p, n, m) && parse_body_to(p, "endmacro", "macro", n->line, &m->body) &&
              adopt_block(p, n, &m->body);
    return ok ? n : NULL;
}

static jnode *parse_call_block(jparser *p)
{
    jnode *n = jnode_new(p, JNODE_CALL_BLOCK, p->token.line);
    jmacro_node *m = n ? allocate(p, sizeof *m) : NULL;
    if (!m || !jparse_advance(p)) {
        return NULL;
    }
    n->as.macro.macro = m;
    if (p->token.type == JTOK_LPAREN && !parse_signature(p, n, m)) {
        return NULL;
    }
    jnode *call = jparse_expression(p, true);
    if (!jnode_adopt(p, n, call)) {
        return NULL;
    }
    if (call->type != JNODE_CALL) {
        jparse_fail_at(p, n->line, p->token.at, "a call block must call something");
        return NULL;
    }
    n->as.macro.call = call;
    return parse_body_to(p, "endcall", "call", n->line, &m->body) && adopt_block(p, n, &m->body) ? n : NULL;
}

/* transformers' tag around what the model says: here it only renders its body. */
static jnode *parse_generation(jparser *p)
{
    jnode *n = jnode_new(p, JNODE_CALL_BLOCK, p->token.line);
    jmacro_node *m = n ? allocate(p, sizeof *m) : NULL;
    if (!m || !jparse_advance(p)) {
        return NULL;
    }
    n->as.macro.macro = m;
    return parse_body_to(p, "endgeneration", "generation", n->line, &m->body) && adopt_block(p, n, &m->body) ? n : NULL;
}

static jnode *parse_filter_block(jparser *p)
{
    jnode *n = jnode_new(p, JNODE_FILTER_BLOCK, p->token.line);
    if (!n || !jparse_advance(p)) {
        return NULL;
    }
    n->as.filter_block.body = allocate(p, sizeof *n->as.filter_block.body);
    n->as.filter_block.scope = allocate(p, sizeof *n->as.filter_block.scope);
    n->as.filter_block.filter = n->as.filter_block.body && n->as.filter_block.scope ? jparse_filters(p, NULL, true)
                                                                                    : NULL;
    bool ok = jnode_adopt(p, n, n->as.filter_block.filter) &&
              parse_body_to(p, "endfilter", "filter", n->line, n->as.filter_block.body) &&
              adopt_block(p, n, n->as.filter_block.body);
    return ok ? n : NULL;
}

static jnode *parse_with(jparser *p)
{
    jnode *n = jnode_new(p, JNODE_WITH, p->token.line);
    jnodes targets = {0}, values = {0};
    if (!n || !jparse_advance(p)) {
        return NULL;
    }
    while (p->token.type != JTOK_BLOCK_END) {
        if (targets.n && !jparse_expect(p, JTOK_COMMA, "','")) {
            return NULL;
        }
        if (!jnodes_push(p, &targets, jparse_target(p, 0)) || !jparse_expect(p, JTOK_ASSIGN, "'='") ||
            !jnodes_push(p, &values, jparse_expression(p, true)) || !jnode_adopt(p, n, targets.items[targets.n - 1]) ||
            !jnode_adopt(p, n, values.items[values.n - 1])) {
            return NULL;
        }
    }
    n->as.with.targets = targets.items;
    n->as.with.values = values.items;
    n->as.with.n = targets.n;
    n->as.with.body = allocate(p, sizeof *n->as.with.body);
    n->as.with.scope = allocate(p, sizeof *n->as.with.scope);
    bool ok = n->as.with.body && n->as.with.scope && parse_body_to(p, "endwith", "with", n->line, n->as.with.body) &&
              adopt_block(p, n, n->as.with.body);
    return ok ? n : NULL;
}

static jnode *print_node(jparser *p, uint32_t line, const jnodes *items)
{
    jnode *n = jnode_new(p, JNODE_PRINT, line);
    for (uint32_t i = 0; i < items->n && n; i++) {
        if (!jnode_adopt(p, n, items->items[i])) {
            return NULL;
        }
    }
    if (n) {
        n->as.list.items = items->items;
        n->as.list.n = items->n;
    }
    return n;
}

static jnode *parse_print(jparser *p)
{
    jnodes items = {0};
    uint32_t line = p->token.line;
    if (!jparse_advance(p)) {
        return NULL;
    }
    while (p->token.type != JTOK_BLOCK_END) {
        if (items.n && !jparse_expect(p, JTOK_COMMA, "','")) {
            return NULL;
        }
        if (!jnodes_push(p, &items, jparse_expression(p, true))) {
            return NULL;
        }
    }
    return print_node(p, line, &items);
}

static jnode *parse_break(jparser *p)
{
    bool is_break = jparse_is_name(p, "break");
    jnode *n = jnode_new(p, is_break ? JNODE_BREAK : JNODE_CONTINUE, p->token.line);
    return n && jparse_advance(p) ? n : NULL;
}

static jnode *parse_refused(jparser *p)
{
    const jtoken *t = &p->token;
    jparse_fail_at(p, t->line, t->at,
                   "the tag '%.*s' is not supported: a chat template is one file and escapes nothing",
                   (int)t->value.as.text->n, t->value.as.text->bytes);
    p->run.status = MLXR_UNSUPPORTED;
    if (p->run.error) {
        p->run.error->status = MLXR_UNSUPPORTED;
    }
    return NULL;
}

static jnode *parse_statement(jparser *p, const endings *until)
{
    static const struct {
        const char *tag;
        jnode *(*parse)(jparser *p);
    } statements[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"generation", parse_generation},
        {"print", parse_print},
        {"break", parse_break},
        {"continue", parse_break},
        {"block", parse_refused},
        {"extends", parse_refused},
        {"include", parse_refused},
        {"import", parse_refused},
        {"from", parse_refused},
        {"autoescape", parse_refused},
    };
    const jtoken *t = &p->token;
    if (t->type != JTOK_NAME) {
        jparse_unexpected(p, "the name of a tag");
        return NULL;
    }
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (jparse_is_name(p, statements[i].tag)) {
            return statements[i].parse(p);
        }
    }
    int n = jtext_shown(t->value.as.text);
    const char *tag = t->value.as.text->bytes;
    if (until) {
        jparse_fail_at(p, t->line, t->at, "unknown tag '%.*s' inside '%s' of line %u, which is not closed yet", n, tag,
                       until->opened, (unsigned)until->line);
    } else {
        jparse_fail_at(p, t->line, t->at, "unknown tag '%.*s'", n, tag);
    }
    return NULL;
}

static bool parse_piece(jparser *p, const endings *until, jnodes *nodes, bool *ended)
{
    jnode *n;
    jnodes one = {0};
    uint32_t line = p->token.line;
    switch (p->token.type) {
    case JTOK_DATA:
        n = jnode_new(p, JNODE_DATA, line);
        if (!n) {
            return false;
        }
        n->as.value = p->token.value;
        return jnodes_push(p, nodes, n) && jparse_advance(p);
    case JTOK_VARIABLE_BEGIN:
        return jparse_advance(p) && jnodes_push(p, &one, jparse_tuple(p, JTUPLE_CONDITION)) &&
               jnodes_push(p, nodes, print_node(p, line, &one)) && jparse_expect(p, JTOK_VARIABLE_END, "'}}'");
    default: /* JTOK_BLOCK_BEGIN: nothing else comes between tags */
        if (!jparse_advance(p)) {
            return false;
        }
        if (at_ending(p, until)) {
            *ended = true;
            return true;
        }
        return jnodes_push(p, nodes, parse_statement(p, until)) && jparse_expect(p, JTOK_BLOCK_END, "'%}'");
    }
}

static bool parse_block(jparser *p, const endings *until, jblock *out)
{
    jnodes nodes = {0};
    bool ended = false;
    while (!ended && p->token.type != JTOK_EOF) {
        if (!parse_piece(p, until, &nodes, &ended)) {
            return false;
        }
    }
    if (until && !ended) {
        return jparse_fail_at(p, p->token.line, p->token.at, "the template ends inside '%s' of line %u", until->opened,
                              (unsigned)until->line);
    }
    out->nodes = nodes.items;
    out->n = nodes.n;
    return true;
}

bool jparse_program(jparser *p, jblock *out)
{
    return jparse_advance(p) && parse_block(p, NULL, out);
}

/* ---- compiling --------------------------------------------------------------------------------------------------- */

/* Line ends become \n, and one at the very end goes, as Jinja has it. */
static const char *normalise(jparser *p, const char *source, size_t n, size_t *n_out)
{
    char *copy = jrun_alloc(&p->run, n + 1);
    size_t m = 0;
    if (!copy) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r') {
            copy[m++] = '\n';
            i += i + 1 < n && source[i + 1] == '\n';
        } else {
            copy[m++] = source[i];
        }
    }
    m -= m > 0 && copy[m - 1] == '\n';
    copy[m] = 0;
    *n_out = m;
    return copy;
}

static bool is_utf8(jparser *p, const char *source, size_t n)
{
    uint32_t line = 1;
    for (size_t at = 0; at < n;) {
        uint32_t code;
        size_t used = jtext_char(source, n, at, &code);
        if (used == 1 && code == 0xFFFD) {
            p->run.line = line;
            return jrun_fail(&p->run, "byte %zu of the template (0x%02x) is not UTF-8", at, (unsigned char)source[at]);
        }
        line += code == '\n';
        at += used;
    }
    return true;
}

static bool compile(jparser *p, jprogram *program, const char *source, size_t n)
{
    if (n > JSOURCE_MAX) {
        return jrun_limit(&p->run, "the template has %zu bytes; the limit is %zu", n, JSOURCE_MAX);
    }
    p->texts = jdict_new(&p->run);
    return p->texts && is_utf8(p, source, n) && (p->source = normalise(p, source, n, &p->n)) != NULL &&
           jparse_program(p, &program->body) && jbind_program(p, program);
}

mlxr_status jcompile(jprogram **out, const char *source, size_t n, mlxr_error *error)
{
    jprogram *program = calloc(1, sizeof *program);
    jparser *p = calloc(1, sizeof *p);
    mlxr_status status = MLXR_NOMEM;
    if (!program || !p) {
        error_nomem(error, "a chat template", sizeof *program + sizeof *p);
        goto done;
    }
    p->run = (jrun){.memory_max = COMPILE_MEMORY_MAX, .steps_max = COMPILE_STEPS_MAX, .line = 1, .error = error};
    p->line = 1;
    p->line_starting = true;
    status = compile(p, program, source, n) ? MLXR_OK : p->run.status;
    program->memory = p->run.memory;
done:
    free(p);
    if (status == MLXR_OK) {
        *out = program;
    } else {
        jprogram_close(&program);
    }
    return status;
}

void jprogram_close(jprogram **program)
{
    if (*program) {
        region_close(&(*program)->memory);
        free(*program);
        *program = NULL;
    }
}
