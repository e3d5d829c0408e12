/*
 * Parses expressions, by recursive descent with Jinja's precedence: or, and, not, comparisons, + -, ~, * / // %, **,
 * signs, then what follows a value (.name [key] (call) |filter is test).
 * Owner: jcompile. Lifetime: that call.
 */
#include <string.h>

#include "text/jinja_parse.h"

static jnode *parse_unary(jparser *p, bool with_filter);

bool jparse_enter(jparser *p)
{
    if (p->nesting >= JNESTING_MAX) {
        return jparse_fail_at(p, p->token.line, p->token.at, "nested more than %d levels deep", JNESTING_MAX);
    }
    p->nesting++;
    return true;
}

bool jparse_advance(jparser *p)
{
    if (p->has_ahead) {
        p->token = p->ahead;
        p->has_ahead = false;
        return true;
    }
    return jlex_next(p, &p->token);
}

bool jparse_peek(jparser *p, jtoken *out)
{
    if (!p->has_ahead) {
        if (!jlex_next(p, &p->ahead)) {
            return false;
        }
        p->has_ahead = true;
    }
    *out = p->ahead;
    return true;
}

bool jparse_unexpected(jparser *p, const char *wanted)
{
    const jtoken *t = &p->token;
    if (t->type == JTOK_NAME) {
        int n = jtext_shown(t->value.as.text);
        return jparse_fail_at(p, t->line, t->at, "expected %s, not '%.*s'", wanted, n, t->value.as.text->bytes);
    }
    return jparse_fail_at(p, t->line, t->at, "expected %s, not %s", wanted, jtoken_text(t->type));
}

bool jparse_expect(jparser *p, jtoken_type type, const char *what)
{
    return p->token.type == type ? jparse_advance(p) : jparse_unexpected(p, what);
}

bool jparse_is_name(const jparser *p, const char *name)
{
    return p->token.type == JTOK_NAME && jtext_is(p->token.value.as.text, name);
}

bool jparse_skip_name(jparser *p, const char *name, bool *skipped)
{
    *skipped = jparse_is_name(p, name);
    return !*skipped || jparse_advance(p);
}

jnode *jnode_new(jparser *p, jnode_type type, uint32_t line)
{
    jnode *n = jrun_array(&p->run, 1, sizeof *n);
    if (n) {
        n->type = (uint8_t)type;
        n->line = line;
        n->depth = 1;
    }
    return n;
}

bool jnode_adopt(jparser *p, jnode *parent, const jnode *child)
{
    if (!child) {
        return false;
    }
    if (child->depth >= parent->depth) {
        parent->depth = (uint16_t)(child->depth + 1);
    }
    if (parent->depth > JTREE_DEPTH_MAX) {
        return jparse_fail_at(p, parent->line, p->token.at, "an expression or block of more than %d levels",
                              JTREE_DEPTH_MAX);
    }
    return true;
}

bool jnodes_push(jparser *p, jnodes *list, jnode *node)
{
    if (!node) {
        return false;
    }
    if (list->n == list->cap) {
        uint32_t cap = list->cap ? list->cap * 2 : 4;
        jnode **items = jrun_array(&p->run, cap, sizeof *items);
        if (!items) {
            return false;
        }
        if (list->n) {
            memcpy(items, list->items, list->n * sizeof *items);
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = node;
    return true;
}

static jnode *list_node(jparser *p, jnode_type type, uint32_t line, const jnodes *items)
{
    jnode *n = jnode_new(p, type, line);
    if (!n) {
        return NULL;
    }
    n->as.list.items = items->items;
    n->as.list.n = items->n;
    for (uint32_t i = 0; i < items->n; i++) {
        if (!jnode_adopt(p, n, items->items[i])) {
            return NULL;
        }
    }
    return n;
}

static jnode *const_node(jparser *p, jvalue v, uint32_t line)
{
    jnode *n = jnode_new(p, JNODE_CONST, line);
    if (n) {
        n->as.value = v;
    }
    return n;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static jnode *parse_name(jparser *p, unsigned how)
{
    const jtext *id = p->token.value.as.text;
    uint32_t line = p->token.line;
    if (!jparse_advance(p)) {
        return NULL;
    }
    if (jtext_is(id, "true") || jtext_is(id, "True") || jtext_is(id, "false") || jtext_is(id, "False")) {
        return const_node(p, jvalue_bool((id->bytes[0] | 0x20) == 't'), line);
    }
    if (jtext_is(id, "none") || jtext_is(id, "None")) {
        return const_node(p, JVALUE_NONE, line);
    }
    jnode *n = jnode_new(p, JNODE_NAME, line);
    if (!n) {
        return NULL;
    }
    n->as.name.id = id;
    if ((how & JTUPLE_NAMESPACE) && p->token.type == JTOK_DOT) {
        if (!jparse_advance(p)) {
            return NULL;
        }
        n->type = JNODE_NSREF;
        n->as.name.attr = p->token.value.as.text;
        return jparse_expect(p, JTOK_NAME, "the name of an attribute") ? n : NULL;
    }
    return n;
}

/* Strings next to each other are one string. */
static jnode *parse_string(jparser *p)
{
    const jtext *t = p->token.value.as.text;
    uint32_t line = p->token.line;
    jbuild joined = {.run = &p->run};
    if (!jparse_advance(p)) {
        return NULL;
    }
    if (p->token.type != JTOK_STRING) {
        return const_node(p, jvalue_text(t), line);
    }
    bool ok = jbuild_text(&joined, t);
    while (ok && p->token.type == JTOK_STRING) {
        ok = jbuild_text(&joined, p->token.value.as.text) && jparse_advance(p);
    }
    t = ok ? jparse_text(p, joined.bytes ? joined.bytes : "", joined.n) : NULL;
    return t ? const_node(p, jvalue_text(t), line) : NULL;
}

static jnode *parse_list(jparser *p)
{
    jnodes items = {0};
    uint32_t line = p->token.line;
    if (!jparse_advance(p)) {
        return NULL;
    }
    while (p->token.type != JTOK_RBRACKET) {
        if (items.n && !jparse_expect(p, JTOK_COMMA, "',' or ']' in a list")) {
            return NULL;
        }
        if (p->token.type != JTOK_RBRACKET && !jnodes_push(p, &items, jparse_expression(p, true))) {
            return NULL;
        }
    }
    return jparse_advance(p) ? list_node(p, JNODE_LIST, line, &items) : NULL;
}

static jnode *parse_dict(jparser *p)
{
    jnodes items = {0};
    uint32_t line = p->token.line;
    if (!jparse_advance(p)) {
        return NULL;
    }
    while (p->token.type != JTOK_RBRACE) {
        if (items.n && !jparse_expect(p, JTOK_COMMA, "',' or '}' in a dict")) {
            return NULL;
        }
        if (p->token.type == JTOK_RBRACE) {
            break;
        }
        if (!jnodes_push(p, &items, jparse_expression(p, true)) ||
            !jparse_expect(p, JTOK_COLON, "':' behind the key of a dict") ||
            !jnodes_push(p, &items, jparse_expression(p, true))) {
            return NULL;
        }
    }
    return jparse_advance(p) ? list_node(p, JNODE_DICT, line, &items) : NULL;
}

static jnode *parse_primary(jparser *p, unsigned how)
{
    jnode *n;
    switch (p->token.type) {
    case JTOK_NAME:
        return parse_name(p, how);
    case JTOK_STRING:
        return parse_string(p);
    case JTOK_INTEGER:
    case JTOK_FLOAT:
        n = const_node(p, p->token.value, p->token.line);
        return n && jparse_advance(p) ? n : NULL;
    case JTOK_LPAREN:
    case JTOK_LBRACKET:
    case JTOK_LBRACE:
        break;
    default:
        jparse_unexpected(p, "an expression");
        return NULL;
    }
    if (!jparse_enter(p)) {
        return NULL;
    }
    if (p->token.type == JTOK_LPAREN) {
        n = jparse_advance(p) ? jparse_tuple(p, JTUPLE_CONDITION | JTUPLE_PARENS) : NULL;
        n = n && jparse_expect(p, JTOK_RPAREN, "')'") ? n : NULL;
    } else {
        n = p->token.type == JTOK_LBRACKET ? parse_list(p) : parse_dict(p);
    }
    jparse_leave(p);
    return n;
}

static bool tuple_ends(const jparser *p)
{
    return p->token.type == JTOK_VARIABLE_END || p->token.type == JTOK_BLOCK_END || p->token.type == JTOK_RPAREN;
}

jnode *jparse_tuple(jparser *p, unsigned how)
{
    jnodes items = {0};
    bool is_tuple = false;
    uint32_t line = p->token.line;
    for (;;) {
        if (items.n && !jparse_expect(p, JTOK_COMMA, "','")) {
            return NULL;
        }
        if (tuple_ends(p)) {
            break;
        }
        jnode *item = how & JTUPLE_SIMPLE ? parse_primary(p, how) : jparse_expression(p, how & JTUPLE_CONDITION);
        if (!jnodes_push(p, &items, item)) {
            return NULL;
        }
        if (p->token.type != JTOK_COMMA) {
            break;
        }
        is_tuple = true;
    }
    if (!is_tuple) {
        if (items.n) {
            return items.items[0];
        }
        if (!(how & JTUPLE_PARENS)) {
            jparse_unexpected(p, "an expression");
            return NULL;
        }
    }
    return list_node(p, JNODE_TUPLE, line, &items);
}

/* ---- what follows a value ---------------------------------------------------------------------------------------- */

static bool push_keyword(jparser *p, jargs *args, uint32_t *cap, jkeyword_node keyword)
{
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (args->keywords[i].name == keyword.name) {
            return jparse_fail_at(p, p->token.line, p->token.at, "the argument '%.*s' is given twice",
                                  jtext_shown(keyword.name), keyword.name->bytes);
        }
    }
    if (!jrun_charge(&p->run, args->n_keywords)) {
        return false;
    }
    if (args->n_keywords == *cap) {
        *cap = *cap ? *cap * 2 : 4;
        jkeyword_node *grown = jrun_array(&p->run, *cap, sizeof *grown);
        if (!grown) {
            return false;
        }
        if (args->n_keywords) {
            memcpy(grown, args->keywords, args->n_keywords * sizeof *grown);
        }
        args->keywords = grown;
    }
    args->keywords[args->n_keywords++] = keyword;
    return true;
}

/* One argument: value, name=value, *value or **value. */
static bool parse_argument(jparser *p, jnode *owner, jargs *args, jnodes *plain, uint32_t *cap)
{
    jtoken next;
    bool ok;
    jnode **star = p->token.type == JTOK_MUL ? &args->star : p->token.type == JTOK_POW ? &args->star_star : NULL;
    if (star) {
        ok = !*star && !args->star_star;
        if (!ok) {
            return jparse_fail_at(p, p->token.line, p->token.at, "arguments in an order that no call allows");
        }
        *star = jparse_advance(p) ? jparse_expression(p, true) : NULL;
        return jnode_adopt(p, owner, *star);
    }
    if (!jparse_peek(p, &next)) {
        return false;
    }
    jkeyword_node keyword = {0};
    if (p->token.type == JTOK_NAME && next.type == JTOK_ASSIGN) {
        keyword.name = p->token.value.as.text;
        ok = !args->star_star;
    } else {
        ok = !args->star && !args->star_star && !args->n_keywords;
    }
    if (!ok) {
        return jparse_fail_at(p, p->token.line, p->token.at, "arguments in an order that no call allows");
    }
    if (keyword.name && (!jparse_advance(p) || !jparse_advance(p))) {
        return false;
    }
    jnode *value = jparse_expression(p, true);
    if (!jnode_adopt(p, owner, value)) {
        return false;
    }
    keyword.value = value;
    return keyword.name ? push_keyword(p, args, cap, keyword) : jnodes_push(p, plain, value);
}

/* (…), the current token being '('. */
static jargs *parse_args(jparser *p, jnode *owner)
{
    jargs *args = jrun_array(&p->run, 1, sizeof *args);
    jnodes plain = {0};
    uint32_t cap = 0;
    bool first = true;
    if (!args || !jparse_enter(p) || !jparse_advance(p)) {
        return NULL;
    }
    while (p->token.type != JTOK_RPAREN) {
        if (!first && !jparse_expect(p, JTOK_COMMA, "',' or ')' in a call")) {
            return NULL;
        }
        first = false;
        if (p->token.type != JTOK_RPAREN && !parse_argument(p, owner, args, &plain, &cap)) {
            return NULL;
        }
    }
    jparse_leave(p);
    args->args = plain.items;
    args->n_args = plain.n;
    return jparse_advance(p) ? args : NULL;
}

static jnode *parse_call(jparser *p, jnode *callee)
{
    jnode *n = jnode_new(p, JNODE_CALL, p->token.line);
    if (!n || !jnode_adopt(p, n, callee)) {
        return NULL;
    }
    n->as.call.object = callee;
    n->as.call.args = parse_args(p, n);
    return n->as.call.args ? n : NULL;
}

static jnode *item_node(jparser *p, jnode *object, jnode *key, uint32_t line)
{
    jnode *n = jnode_new(p, JNODE_ITEM, line);
    if (!n || !jnode_adopt(p, n, object) || !jnode_adopt(p, n, key)) {
        return NULL;
    }
    n->as.item.object = object;
    n->as.item.key = key;
    return n;
}

static jnode *parse_dot(jparser *p, jnode *object)
{
    uint32_t line = p->token.line;
    if (!jparse_advance(p)) {
        return NULL;
    }
    if (p->token.type == JTOK_INTEGER) {
        jnode *key = const_node(p, p->token.value, line);
        return key && jparse_advance(p) ? item_node(p, object, key, line) : NULL;
    }
    jnode *n = jnode_new(p, JNODE_ATTR, line);
    if (!n || !jnode_adopt(p, n, object)) {
        return NULL;
    }
    n->as.attr.object = object;
    n->as.attr.id = p->token.value.as.text;
    if (!jparse_expect(p, JTOK_NAME, "a name or number behind '.'")) {
        return NULL;
    }
    n->as.attr.known = jattr_find(n->as.attr.id);
    return n;
}

/* start:stop:step, the start (or NULL) already read and the current token being ':'. */
static jnode *parse_slice(jparser *p, jnode *object, jnode *start, uint32_t line)
{
    jnode *n = jnode_new(p, JNODE_SLICE, line);
    if (!n || !jnode_adopt(p, n, object) || (start && !jnode_adopt(p, n, start))) {
        return NULL;
    }
    n->as.slice.object = object;
    n->as.slice.parts[0] = start;
    for (int part = 1; part < 3 && p->token.type == JTOK_COLON; part++) {
        if (!jparse_advance(p)) {
            return NULL;
        }
        if (p->token.type != JTOK_COLON && p->token.type != JTOK_RBRACKET && p->token.type != JTOK_COMMA) {
            jnode *value = jparse_expression(p, true);
            n->as.slice.parts[part] = value;
            if (!jnode_adopt(p, n, value)) {
                return NULL;
            }
        }
    }
    return n;
}

/* [key], [a, b] (a tuple) or [start:stop:step] */
static jnode *parse_bracket(jparser *p, jnode *object)
{
    jnodes keys = {0};
    uint32_t line = p->token.line;
    if (!jparse_enter(p) || !jparse_advance(p)) {
        return NULL;
    }
    jnode *n = NULL;
    while (p->token.type != JTOK_RBRACKET) {
        if (keys.n && !jparse_expect(p, JTOK_COMMA, "',' or ']' in a subscript")) {
            return NULL;
        }
        jnode *key = NULL;
        if (p->token.type != JTOK_COLON) {
            key = jparse_expression(p, true);
            if (!key) {
                return NULL;
            }
        }
        if (p->token.type == JTOK_COLON) {
            n = parse_slice(p, object, key, line);
            if (!n) {
                return NULL;
            }
            if (keys.n || p->token.type != JTOK_RBRACKET) {
                jparse_unexpected(p, "']' behind a slice");
                return NULL;
            }
        } else if (!jnodes_push(p, &keys, key)) {
            return NULL;
        }
    }
    jparse_leave(p);
    if (!jparse_advance(p)) {
        return NULL;
    }
    if (n) {
        return n;
    }
    jnode *key = keys.n == 1 ? keys.items[0] : list_node(p, JNODE_TUPLE, line, &keys);
    return key ? item_node(p, object, key, line) : NULL;
}

static jnode *parse_postfix(jparser *p, jnode *n)
{
    while (n) {
        if (p->token.type == JTOK_DOT) {
            n = parse_dot(p, n);
        } else if (p->token.type == JTOK_LBRACKET) {
            n = parse_bracket(p, n);
        } else if (p->token.type == JTOK_LPAREN) {
            n = parse_call(p, n);
        } else {
            break;
        }
    }
    return n;
}

/* name(.name)* of a filter or test */
static const jtext *dotted_name(jparser *p)
{
    const jtext *id = p->token.value.as.text;
    if (!jparse_expect(p, JTOK_NAME, "the name of a filter or test")) {
        return NULL;
    }
    while (p->token.type == JTOK_DOT) {
        jbuild b = {.run = &p->run};
        if (!jparse_advance(p)) {
            return NULL;
        }
        if (p->token.type != JTOK_NAME) {
            jparse_unexpected(p, "a name behind '.'");
            return NULL;
        }
        if (!jbuild_text(&b, id) || !jbuild_c(&b, ".") || !jbuild_text(&b, p->token.value.as.text)) {
            return NULL;
        }
        id = jparse_text(p, b.bytes, b.n);
        if (!id || !jparse_advance(p)) {
            return NULL;
        }
    }
    return id;
}

jnode *jparse_filters(jparser *p, jnode *object, bool inline_start)
{
    while (inline_start || p->token.type == JTOK_PIPE) {
        if (!inline_start && !jparse_advance(p)) {
            return NULL;
        }
        inline_start = false;
        jnode *n = jnode_new(p, JNODE_FILTER, p->token.line);
        if (!n || (object && !jnode_adopt(p, n, object))) {
            return NULL;
        }
        n->as.call.object = object;
        n->as.call.id = dotted_name(p);
        if (!n->as.call.id) {
            return NULL;
        }
        n->as.call.function = jfilter_find(n->as.call.id);
        if (p->token.type == JTOK_LPAREN) {
            n->as.call.args = parse_args(p, n);
            if (!n->as.call.args) {
                return NULL;
            }
        }
        object = n;
    }
    return object;
}

static bool argument_follows(const jparser *p)
{
    switch (p->token.type) {
    case JTOK_NAME:
        return !jparse_is_name(p, "else") && !jparse_is_name(p, "or") && !jparse_is_name(p, "and");
    case JTOK_STRING:
    case JTOK_INTEGER:
    case JTOK_FLOAT:
    case JTOK_LBRACKET:
    case JTOK_LBRACE:
        return true;
    default:
        return false;
    }
}

/* The one argument of a test that stands without brackets. */
static jargs *bare_argument(jparser *p, jnode *owner)
{
    jnodes one = {0};
    if (jparse_is_name(p, "is")) {
        jparse_fail_at(p, p->token.line, p->token.at, "tests with 'is' cannot be chained");
        return NULL;
    }
    jargs *args = jrun_array(&p->run, 1, sizeof *args);
    jnode *value = args ? parse_postfix(p, parse_primary(p, 0)) : NULL;
    if (!jnode_adopt(p, owner, value) || !jnodes_push(p, &one, value)) {
        return NULL;
    }
    args->args = one.items;
    args->n_args = 1;
    return args;
}

static jnode *not_node(jparser *p, jnode *operand, uint32_t line)
{
    jnode *n = jnode_new(p, JNODE_NOT, line);
    if (!n || !jnode_adopt(p, n, operand)) {
        return NULL;
    }
    n->as.two.left = operand;
    return n;
}

static jnode *parse_test(jparser *p, jnode *object)
{
    bool negated;
    jnode *n = jnode_new(p, JNODE_TEST, p->token.line);
    if (!n || !jnode_adopt(p, n, object) || !jparse_advance(p) || !jparse_skip_name(p, "not", &negated)) {
        return NULL;
    }
    n->as.call.object = object;
    n->as.call.id = dotted_name(p);
    if (!n->as.call.id) {
        return NULL;
    }
    n->as.call.function = jtest_find(n->as.call.id);
    if (p->token.type == JTOK_LPAREN || argument_follows(p)) {
        n->as.call.args = p->token.type == JTOK_LPAREN ? parse_args(p, n) : bare_argument(p, n);
        if (!n->as.call.args) {
            return NULL;
        }
    }
    return negated ? not_node(p, n, n->line) : n;
}

static jnode *parse_filters_and_tests(jparser *p, jnode *n)
{
    while (n) {
        if (p->token.type == JTOK_PIPE) {
            n = jparse_filters(p, n, false);
        } else if (jparse_is_name(p, "is")) {
            n = parse_test(p, n);
        } else if (p->token.type == JTOK_LPAREN) {
            n = parse_call(p, n);
        } else {
            break;
        }
    }
    return n;
}

/* ---- operators --------------------------------------------------------------------------------------------------- */

static jnode *parse_unary(jparser *p, bool with_filter)
{
    jnode *n;
    if (p->token.type == JTOK_SUB || p->token.type == JTOK_ADD) {
        n = jnode_new(p, p->token.type == JTOK_SUB ? JNODE_NEG : JNODE_POS, p->token.line);
        if (!n || !jparse_enter(p) || !jparse_advance(p)) {
            return NULL;
        }
        n->as.two.left = parse_unary(p, false);
        jparse_leave(p);
        if (!jnode_adopt(p, n, n->as.two.left)) {
            return NULL;
        }
    } else {
        n = parse_primary(p, 0);
    }
    n = parse_postfix(p, n);
    return with_filter ? parse_filters_and_tests(p, n) : n;
}

static jnode *two_node(jparser *p, jnode_type type, unsigned op, jnode *left, jnode *right, uint32_t line)
{
    jnode *n = jnode_new(p, type, line);
    if (!n || !jnode_adopt(p, n, left) || !jnode_adopt(p, n, right)) {
        return NULL;
    }
    n->op = (uint8_t)op;
    n->as.two.left = left;
    n->as.two.right = right;
    return n;
}

static jnode *parse_power(jparser *p)
{
    uint32_t line = p->token.line;
    jnode *left = parse_unary(p, true);
    while (left && p->token.type == JTOK_POW) {
        jnode *right = jparse_advance(p) ? parse_unary(p, true) : NULL;
        left = right ? two_node(p, JNODE_BINARY, JOP_POW, left, right, line) : NULL;
    }
    return left;
}

static jnode *parse_product(jparser *p)
{
    uint32_t line = p->token.line;
    jnode *left = parse_power(p);
    while (left && (p->token.type == JTOK_MUL || p->token.type == JTOK_DIV || p->token.type == JTOK_FLOORDIV ||
                    p->token.type == JTOK_MOD)) {
        unsigned op = p->token.type == JTOK_MUL        ? JOP_MUL
                      : p->token.type == JTOK_DIV      ? JOP_DIV
                      : p->token.type == JTOK_FLOORDIV ? JOP_FLOORDIV
                                                       : JOP_MOD;
        jnode *right = jparse_advance(p) ? parse_power(p) : NULL;
        left = right ? two_node(p, JNODE_BINARY, op, left, right, line) : NULL;
    }
    return left;
}

static jnode *parse_concat(jparser *p)
{
    jnodes parts = {0};
    uint32_t line = p->token.line;
    jnode *first = parse_product(p);
    if (!first || p->token.type != JTOK_TILDE) {
        return first;
    }
    if (!jnodes_push(p, &parts, first)) {
        return NULL;
    }
    while (p->token.type == JTOK_TILDE) {
        if (!jparse_advance(p) || !jnodes_push(p, &parts, parse_product(p))) {
            return NULL;
        }
    }
    return list_node(p, JNODE_CONCAT, line, &parts);
}

static jnode *parse_sum(jparser *p)
{
    uint32_t line = p->token.line;
    jnode *left = parse_concat(p);
    while (left && (p->token.type == JTOK_ADD || p->token.type == JTOK_SUB)) {
        unsigned op = p->token.type == JTOK_ADD ? JOP_ADD : JOP_SUB;
        jnode *right = jparse_advance(p) ? parse_concat(p) : NULL;
        left = right ? two_node(p, JNODE_BINARY, op, left, right, line) : NULL;
    }
    return left;
}

/* The comparison that starts at the current token, which it steps over; false with *found = false if there is none. */
static bool comparison(jparser *p, uint8_t *op, bool *found)
{
    jtoken next;
    *found = true;
    switch (p->token.type) {
    case JTOK_EQ:
        *op = JCMP_EQ;
        break;
    case JTOK_NE:
        *op = JCMP_NE;
        break;
    case JTOK_LT:
        *op = JCMP_LT;
        break;
    case JTOK_LE:
        *op = JCMP_LE;
        break;
    case JTOK_GT:
        *op = JCMP_GT;
        break;
    case JTOK_GE:
        *op = JCMP_GE;
        break;
    default:
        if (jparse_is_name(p, "in")) {
            *op = JCMP_IN;
            break;
        }
        *found = false;
        if (!jparse_is_name(p, "not")) {
            return true;
        }
        if (!jparse_peek(p, &next)) {
            return false;
        }
        if (next.type != JTOK_NAME || !jtext_is(next.value.as.text, "in")) {
            return true;
        }
        *op = JCMP_NOT_IN;
        *found = true;
        if (!jparse_advance(p)) {
            return false;
        }
    }
    return jparse_advance(p);
}

static jnode *parse_compare(jparser *p)
{
    uint32_t line = p->token.line;
    jnode *first = parse_sum(p);
    jnodes others = {0};
    jbuild ops = {.run = &p->run};
    for (bool found; first;) {
        uint8_t op;
        if (!comparison(p, &op, &found)) {
            return NULL;
        }
        if (!found) {
            break;
        }
        if (!jbuild_bytes(&ops, (const char *)&op, 1) || !jnodes_push(p, &others, parse_sum(p))) {
            return NULL;
        }
    }
    if (!first || others.n == 0) {
        return first;
    }
    jnode *n = list_node(p, JNODE_COMPARE, line, &others);
    if (!n || !jnode_adopt(p, n, first)) {
        return NULL;
    }
    n->as.compare.first = first;
    n->as.compare.others = others.items;
    n->as.compare.ops = (uint8_t *)ops.bytes;
    n->as.compare.n = others.n;
    return n;
}

static jnode *parse_not(jparser *p)
{
    if (!jparse_is_name(p, "not")) {
        return parse_compare(p);
    }
    uint32_t line = p->token.line;
    if (!jparse_enter(p) || !jparse_advance(p)) {
        return NULL;
    }
    jnode *operand = parse_not(p);
    jparse_leave(p);
    return operand ? not_node(p, operand, line) : NULL;
}

static jnode *parse_and(jparser *p)
{
    uint32_t line = p->token.line;
    jnode *left = parse_not(p);
    while (left && jparse_is_name(p, "and")) {
        jnode *right = jparse_advance(p) ? parse_not(p) : NULL;
        left = right ? two_node(p, JNODE_AND, 0, left, right, line) : NULL;
    }
    return left;
}

static jnode *parse_or(jparser *p)
{
    uint32_t line = p->token.line;
    jnode *left = parse_and(p);
    while (left && jparse_is_name(p, "or")) {
        jnode *right = jparse_advance(p) ? parse_and(p) : NULL;
        left = right ? two_node(p, JNODE_OR, 0, left, right, line) : NULL;
    }
    return left;
}

/* value if test else value, the value read already */
static jnode *parse_condition(jparser *p, jnode *yes)
{
    while (yes && jparse_is_name(p, "if")) {
        bool has_else;
        jnode *n = jnode_new(p, JNODE_COND, p->token.line);
        if (!n || !jparse_advance(p)) {
            return NULL;
        }
        n->as.cond.yes = yes;
        n->as.cond.test = parse_or(p);
        if (!jnode_adopt(p, n, yes) || !jnode_adopt(p, n, n->as.cond.test) || !jparse_skip_name(p, "else", &has_else)) {
            return NULL;
        }
        if (has_else) {
            n->as.cond.no = jparse_expression(p, true);
            if (!jnode_adopt(p, n, n->as.cond.no)) {
                return NULL;
            }
        }
        yes = n;
    }
    return yes;
}

jnode *jparse_expression(jparser *p, bool with_condition)
{
    if (!jparse_enter(p)) {
        return NULL;
    }
    jnode *n = parse_or(p);
    if (n && with_condition) {
        n = parse_condition(p, n);
    }
    jparse_leave(p);
    return n;
}

/* ---- targets ----------------------------------------------------------------------------------------------------- */

static bool assignable(const jnode *n)
{
    if (n->type == JNODE_TUPLE) {
        for (uint32_t i = 0; i < n->as.list.n; i++) {
            if (!assignable(n->as.list.items[i])) {
                return false;
            }
        }
        return true;
    }
    return n->type == JNODE_NAME || n->type == JNODE_NSREF;
}

jnode *jparse_target(jparser *p, unsigned how)
{
    uint32_t line = p->token.line;
    size_t at = p->token.at;
    jnode *n = jparse_tuple(p, how | JTUPLE_SIMPLE);
    if (n && !assignable(n)) {
        jparse_fail_at(p, line, at, "this cannot be assigned to");
        return NULL;
    }
    return n;
}
