/*
 * The compiled form of a template: a tree whose names are bound to slots.
 * Owner: the compiled template (its region). Lifetime: until chat_template_close. Immutable once compiled.
 */
#ifndef MLXR_TEXT_JINJA_AST_H
#define MLXR_TEXT_JINJA_AST_H

#include "base/region.h"
#include "text/jinja_run.h"

typedef struct jnode jnode;

typedef enum jnode_type {
    JNODE_CONST,
    JNODE_NAME,
    JNODE_NSREF, /* namespace.attribute as a target of set */
    JNODE_TUPLE,
    JNODE_LIST,
    JNODE_DICT, /* keys and values in turn */
    JNODE_NEG,
    JNODE_POS,
    JNODE_NOT,
    JNODE_BINARY, /* op is a jbinary */
    JNODE_AND,
    JNODE_OR,
    JNODE_CONCAT,
    JNODE_COMPARE,
    JNODE_COND,
    JNODE_ATTR,
    JNODE_ITEM,
    JNODE_SLICE,
    JNODE_CALL,
    JNODE_FILTER,
    JNODE_TEST,
    /* statements */
    JNODE_DATA,
    JNODE_PRINT,
    JNODE_IF,
    JNODE_FOR,
    JNODE_SET,
    JNODE_SET_BLOCK,
    JNODE_MACRO,
    JNODE_CALL_BLOCK,
    JNODE_FILTER_BLOCK,
    JNODE_WITH,
    JNODE_BREAK,
    JNODE_CONTINUE,
} jnode_type;

/* Where a variable lives: a slot of the function `hops` functions further out, or a global. */
typedef struct jref {
    uint32_t slot;
    uint16_t hops;
    bool is_global;
} jref;

typedef struct jkeyword_node {
    const jtext *name;
    jnode *value;
} jkeyword_node;

typedef struct jargs {
    jnode **args;
    jkeyword_node *keywords;
    uint32_t n_args, n_keywords;
    jnode *star, *star_star; /* *args, **kwargs or NULL */
} jargs;

typedef struct jblock {
    jnode **nodes;
    uint32_t n;
} jblock;

/* What entering a scope does to a slot: empty it, or copy an outer variable. */
typedef struct jinit {
    uint32_t slot;
    bool copy;
    jref from;
} jinit;

typedef struct jscope {
    jinit *inits;
    uint32_t n;
} jscope;

/* A macro, or the body of a call block (name NULL). */
typedef struct jmacro_node {
    const jtext *name;
    const jtext **params;
    uint32_t *slots;  /* of the parameters */
    jnode **defaults; /* of the last n_defaults parameters */
    uint32_t n_params, n_defaults;
    bool has_caller, has_kwargs, has_varargs; /* implicit parameters the body uses */
    bool explicit_caller;
    uint32_t caller_slot, kwargs_slot, varargs_slot;
    uint32_t n_slots;
    jblock body;
    jscope scope;
} jmacro_node;

typedef struct jbranch {
    jnode *test;
    jblock body;
} jbranch;

typedef struct jfor_node {
    jnode *target, *iter;
    jnode *test, *test_target; /* NULL without an `if` */
    jblock body, otherwise;
    jscope scope, test_scope, else_scope;
    bool has_else, uses_loop, recursive;
    uint32_t loop_slot;
    uint32_t n_slots; /* of a recursive loop, which is a function of its own */
} jfor_node;

struct jnode {
    uint8_t type; /* jnode_type */
    uint8_t op;
    uint16_t depth; /* of the tree below, itself included */
    uint32_t line;
    union {
        jvalue value; /* JNODE_CONST; JNODE_DATA */
        struct {
            const jtext *id;
            jref ref;
            const jtext *attr; /* JNODE_NSREF */
        } name;
        struct {
            jnode **items;
            uint32_t n;
        } list; /* TUPLE, LIST, DICT, CONCAT, PRINT */
        struct {
            jnode *left, *right;
        } two; /* BINARY, AND, OR; NEG, POS, NOT: left */
        struct {
            jnode *first;
            jnode **others;
            uint8_t *ops; /* jcompare */
            uint32_t n;
        } compare;
        struct {
            jnode *test, *yes, *no; /* no may be NULL */
        } cond;
        struct {
            jnode *object;
            const jtext *id;
            const jattr *known;
        } attr;
        struct {
            jnode *object, *key;
        } item;
        struct {
            jnode *object;
            jnode *parts[3]; /* start, stop, step; each may be NULL */
        } slice;
        struct {
            jnode *object; /* the callee, or what is filtered or tested; NULL: the text of the filter block */
            jargs *args;
            const jtext *id;           /* FILTER, TEST */
            const jfunction *function; /* NULL: unknown, an error when it is run */
        } call;
        struct {
            jbranch *branches;
            uint32_t n;
            jblock otherwise;
        } branch;
        jfor_node *loop;
        struct {
            jnode *target, *value; /* SET; SET_BLOCK: the filters or NULL */
            jblock *body;
            jscope *scope;
        } set;
        struct {
            jmacro_node *macro;
            jref ref;    /* MACRO: where its name is stored */
            jnode *call; /* CALL_BLOCK; NULL: a generation block */
        } macro;
        struct {
            jnode *filter;
            jblock *body;
            jscope *scope;
        } filter_block;
        struct {
            jnode **targets, **values;
            uint32_t n;
            jblock *body;
            jscope *scope;
        } with;
    } as;
};

typedef struct jprogram {
    region memory;
    jblock body;
    jscope scope;
    uint32_t n_slots;
    const jtext **globals; /* names looked up outside the template */
    uint32_t n_globals;
} jprogram;

/* The slots of one running function. */
typedef struct jframe {
    jvalue *slots;
    struct jframe *outer; /* of the function it was defined in */
} jframe;

/* Runs a whole program into r->text. */
bool jprogram_run(jrun *r, const jprogram *p);
/* Evaluates an expression. */
bool jeval(jrun *r, jframe *f, const jnode *n, jvalue *out);
bool jeval_args(jrun *r, jframe *f, const jargs *args, const jkeyword *extra, jcall *out);
bool jeval_filter(jrun *r, jframe *f, const jnode *n, jvalue input, jvalue *out);
bool jassign(jrun *r, jframe *f, const jnode *target, jvalue v);
void jscope_enter(jrun *r, jframe *f, const jscope *s);

#endif
