/*
 * From source text to a bound tree: lexer, parser and binder share one state.
 * Owner: jcompile. Lifetime: that call.
 */
#ifndef MLXR_TEXT_JINJA_PARSE_H
#define MLXR_TEXT_JINJA_PARSE_H

#include "text/jinja_ast.h"

#define JSOURCE_MAX ((size_t)4 << 20) /* bytes of a template */
#define JNESTING_MAX 200              /* of brackets and blocks in the source */
#define JTREE_DEPTH_MAX 500           /* long chains of operators make deep trees too */

typedef enum jtoken_type {
    JTOK_EOF,
    JTOK_DATA,
    JTOK_VARIABLE_BEGIN,
    JTOK_VARIABLE_END,
    JTOK_BLOCK_BEGIN,
    JTOK_BLOCK_END,
    JTOK_NAME,
    JTOK_STRING,
    JTOK_INTEGER,
    JTOK_FLOAT,
    JTOK_ADD,
    JTOK_SUB,
    JTOK_MUL,
    JTOK_DIV,
    JTOK_FLOORDIV,
    JTOK_MOD,
    JTOK_POW,
    JTOK_TILDE,
    JTOK_LPAREN,
    JTOK_RPAREN,
    JTOK_LBRACKET,
    JTOK_RBRACKET,
    JTOK_LBRACE,
    JTOK_RBRACE,
    JTOK_EQ,
    JTOK_NE,
    JTOK_LT,
    JTOK_LE,
    JTOK_GT,
    JTOK_GE,
    JTOK_ASSIGN,
    JTOK_DOT,
    JTOK_COLON,
    JTOK_PIPE,
    JTOK_COMMA,
    JTOK_SEMICOLON,
} jtoken_type;

typedef struct jtoken {
    jtoken_type type;
    uint32_t line;
    size_t at;    /* byte offset in the source, for the column */
    jvalue value; /* NAME, STRING, DATA: a text; INTEGER; FLOAT */
} jtoken;

typedef enum jlex_state { JLEX_ROOT, JLEX_VARIABLE, JLEX_BLOCK } jlex_state;

typedef struct jparser {
    jrun run; /* memory and errors */
    const char *source;
    size_t n, at;
    uint32_t line;
    jlex_state state;
    char closers[JNESTING_MAX];
    size_t n_closers;
    bool line_starting; /* what was matched last ended with a line break */
    char pending;       /* the tag found behind a DATA token: '{', '%', '#', 'r' for raw; 0: none */
    size_t pending_at;  /* behind that tag's opening */
    jtoken token, ahead;
    bool has_ahead;
    unsigned nesting;
    jdict *texts; /* names and strings, each kept once */
} jparser;

/* Each fails with line and column and returns false (or NULL). */
bool jparse_fail_at(jparser *p, uint32_t line, size_t at, const char *format, ...) ERROR_PRINTF(4, 5);
bool jlex_next(jparser *p, jtoken *out);
/* A text that lives as long as the program, counted and hashed. */
const jtext *jparse_text(jparser *p, const char *bytes, size_t n);

bool jparse_advance(jparser *p);
bool jparse_peek(jparser *p, jtoken *out);
bool jparse_expect(jparser *p, jtoken_type type, const char *what);
bool jparse_is_name(const jparser *p, const char *name); /* the current token is this name */
bool jparse_skip_name(jparser *p, const char *name, bool *skipped);
bool jparse_unexpected(jparser *p, const char *wanted);
const char *jtoken_text(jtoken_type type);

jnode *jnode_new(jparser *p, jnode_type type, uint32_t line);
/* Counts a child into the depth of its parent; false when the tree gets too deep. */
bool jnode_adopt(jparser *p, jnode *parent, const jnode *child);

/* Growing an array of pointers in the parser's memory. */
typedef struct jnodes {
    jnode **items;
    uint32_t n, cap;
} jnodes;
bool jnodes_push(jparser *p, jnodes *list, jnode *node);

/* Expressions (jinja_expr.c); NULL on error. */
jnode *jparse_expression(jparser *p, bool with_condition);
enum { JTUPLE_CONDITION = 1, JTUPLE_SIMPLE = 2, JTUPLE_PARENS = 4, JTUPLE_NAMESPACE = 8 };
jnode *jparse_tuple(jparser *p, unsigned how);
jnode *jparse_filters(jparser *p, jnode *object, bool inline_start); /* NULL and no error: no filter there */
jnode *jparse_target(jparser *p, unsigned how);                      /* something that can be assigned to */
bool jparse_enter(jparser *p);
static inline void jparse_leave(jparser *p)
{
    p->nesting--;
}

/* Statements (jinja_parser.c). */
bool jparse_program(jparser *p, jblock *out);

/* Binding names to slots (jinja_bind.c). */
bool jbind_program(jparser *p, jprogram *program);

/* Compiles a template; the program owns everything. */
mlxr_status jcompile(jprogram **out, const char *source, size_t n, mlxr_error *error);
void jprogram_close(jprogram **program);

#endif
