/*
 * The values a template computes with: Python's, as far as chat templates see them. All but namespaces, loops, cyclers
 * and iterators are immutable, so values are shared freely and copied as 16 bytes.
 * Owner: the render (its region), or the compiled template for constants. Lifetime: the same.
 */
#ifndef MLXR_TEXT_JINJA_VALUE_H
#define MLXR_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct jrun jrun;
typedef struct jtext jtext;
typedef struct jlist jlist;
typedef struct jdict jdict;
typedef struct jrange jrange;
typedef struct jiter jiter;
typedef struct jmacro jmacro;
typedef struct jfunction jfunction;
typedef struct jbound jbound;
typedef struct jloop jloop;
typedef struct jcycler jcycler;
typedef struct jjoiner jjoiner;

typedef enum jkind {
    JMISSING, /* an empty slot, or an argument not given; templates never see it */
    JUNDEFINED,
    JNONE,
    JBOOL,
    JINT,
    JFLOAT,
    JTEXT,
    JLIST,
    JTUPLE,
    JDICT,
    JVIEW, /* dict.keys(), .values(), .items(): as.dict, note is a jview */
    JRANGE,
    JITER, /* what a lazy filter returns: runs once, has no length, is true */
    JNAMESPACE,
    JMACRO,
    JFUNCTION,
    JMETHOD,
    JLOOP,
    JCYCLER,
    JJOINER,
} jkind;

typedef enum jview { JVIEW_KEYS, JVIEW_VALUES, JVIEW_ITEMS } jview;

/* Why a value is undefined: what its error message says. as.text is the name, or the whole message. */
typedef enum jwhy { JWHY_VARIABLE, JWHY_ATTRIBUTE, JWHY_UNSAFE, JWHY_MESSAGE } jwhy;

#define JNOTE_GROUP 1 /* of a JTUPLE: a (grouper, list) pair from the groupby filter */

typedef struct jvalue {
    uint8_t kind; /* jkind */
    uint8_t note; /* jview, jwhy or JNOTE_GROUP */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const jtext *text;
        const jlist *list; /* JLIST and JTUPLE */
        jdict *dict;       /* JDICT, JVIEW; JNAMESPACE: its attributes */
        const jrange *range;
        jiter *iter;
        const jmacro *macro;
        const jfunction *function;
        const jbound *bound;
        jloop *loop;
        jcycler *cycler;
        jjoiner *joiner;
    } as;
} jvalue;

#define JTEXT_UNCOUNTED ((size_t)-1)

/* UTF-8, not NUL-terminated. Bytes that are not UTF-8 count as one character each. */
struct jtext {
    const char *bytes;
    size_t n;
    size_t n_chars;       /* JTEXT_UNCOUNTED until somebody asks; always known in a compiled template */
    uint64_t hash;        /* 0 until somebody asks; always known in a compiled template */
    struct jstore *store; /* the buffer whose end this text may be, so that appending is cheap */
    bool markup;          /* markupsafe's Markup: escapes what is added to it */
};

struct jlist {
    const jvalue *items;
    size_t n;
    struct jstore *store;
};

/* A buffer that texts or lists share. Whoever ends where it ends may append in place. */
typedef struct jstore {
    size_t used, cap; /* bytes */
    _Alignas(16) char data[];
} jstore;

typedef struct jentry {
    jvalue key, value;
    uint64_t hash;
} jentry;

/* Keeps insertion order; nothing is ever removed. */
struct jdict {
    jentry *entries;
    size_t n, cap;
    uint32_t *index; /* open addressing, entry number + 1; only from 9 entries up */
    size_t index_n;  /* a power of two, or 0 */
    bool being_printed;
};

struct jrange {
    int64_t start, stop, step, n;
};

struct jcycler {
    const jlist *items;
    size_t at;
};

struct jjoiner {
    const jtext *separator;
    bool used;
};

typedef enum jcompare { JCMP_EQ, JCMP_NE, JCMP_LT, JCMP_LE, JCMP_GT, JCMP_GE, JCMP_IN, JCMP_NOT_IN } jcompare;

#define JVALUE_NONE ((jvalue){.kind = JNONE})
#define JVALUE_MISSING ((jvalue){.kind = JMISSING})

static inline jvalue jvalue_bool(bool b)
{
    return (jvalue){.kind = JBOOL, .as.boolean = b};
}

static inline jvalue jvalue_int(int64_t i)
{
    return (jvalue){.kind = JINT, .as.integer = i};
}

static inline jvalue jvalue_real(double f)
{
    return (jvalue){.kind = JFLOAT, .as.real = f};
}

static inline jvalue jvalue_text(const jtext *t)
{
    return (jvalue){.kind = JTEXT, .as.text = t};
}

static inline jvalue jvalue_list(const jlist *l)
{
    return (jvalue){.kind = JLIST, .as.list = l};
}

static inline jvalue jvalue_tuple(const jlist *l)
{
    return (jvalue){.kind = JTUPLE, .as.list = l};
}

static inline jvalue jvalue_dict(jdict *d)
{
    return (jvalue){.kind = JDICT, .as.dict = d};
}

static inline jvalue jvalue_undefined(jwhy why, const jtext *name)
{
    return (jvalue){.kind = JUNDEFINED, .note = (uint8_t)why, .as.text = name};
}

static inline bool jvalue_is_integer(jvalue v) /* as Python's operators see it: bools count */
{
    return v.kind == JINT || v.kind == JBOOL;
}

static inline int64_t jvalue_integer(jvalue v) /* of a JINT or JBOOL */
{
    return v.kind == JBOOL ? (int64_t)v.as.boolean : v.as.integer;
}

static inline bool jvalue_is_number(jvalue v)
{
    return v.kind == JINT || v.kind == JBOOL || v.kind == JFLOAT;
}

static inline double jvalue_number(jvalue v) /* of any number */
{
    return v.kind == JFLOAT ? v.as.real : (double)jvalue_integer(v);
}

/* Python's name of the type, for messages ("str", "dict", …). */
const char *jvalue_type(jvalue v);
bool jvalue_true(jvalue v);
/* Each fails (false, error in the run) on what Python refuses, and on nesting beyond the depth limit. */
bool jvalue_hash(jrun *r, jvalue v, uint64_t *out);
bool jvalue_equal(jrun *r, jvalue a, jvalue b, bool *out);
bool jvalue_compare(jrun *r, jcompare op, jvalue a, jvalue b, bool *out);
bool jvalue_contains(jrun *r, jvalue container, jvalue item, bool *out);
/* len(v); false without an error when the type has none. */
bool jvalue_length(jvalue v, size_t *out);

/* ---- texts (jinja_text.c) ---------------------------------------------------------------------------------------- */

/* A text over bytes that outlive the render. NULL when memory runs out. */
jtext *jtext_view(jrun *r, const char *bytes, size_t n);
jtext *jtext_copy(jrun *r, const char *bytes, size_t n);
jtext *jtext_of(jrun *r, const char *c_string);
jtext *jtext_sub(jrun *r, const jtext *t, size_t from, size_t to); /* byte offsets; shares the bytes */
const jtext *jtext_with_markup(jrun *r, const jtext *t, bool markup);
jtext *jtext_concat(jrun *r, const jtext *a, const jtext *b); /* plain; appends in place where it can */
const jtext *jtext_escape(jrun *r, const jtext *t);           /* HTML-escaped, marked as markup */
bool jtext_equal(const jtext *a, const jtext *b);
bool jtext_is(const jtext *t, const char *c_string);
int jtext_shown(const jtext *t); /* how many bytes of a name or the like go into a message: for "%.*s" */
int jtext_order(const jtext *a, const jtext *b); /* by code point: <0, 0, >0 */
size_t jtext_count(const jtext *t);              /* characters */
uint64_t jtext_hash(const jtext *t);
size_t jtext_offset(const jtext *t, size_t i_char); /* byte offset of a character; n when past the end */
/* The character at byte `at` (< n): its length; what is not UTF-8 gives U+FFFD and 1. */
size_t jtext_char(const char *bytes, size_t n, size_t at, uint32_t *code);
/* Byte offset of the first/last occurrence in [from, to), or -1. */
ptrdiff_t jtext_find(const jtext *t, const jtext *needle, size_t from, size_t to);
ptrdiff_t jtext_rfind(const jtext *t, const jtext *needle, size_t from, size_t to);

/* ---- growing texts ----------------------------------------------------------------------------------------------- */

typedef struct jbuild { /* {.run = r} is an empty one */
    jrun *run;
    char *bytes;
    size_t n, cap;
} jbuild;

bool jbuild_bytes(jbuild *b, const char *bytes, size_t n);
bool jbuild_text(jbuild *b, const jtext *t);
bool jbuild_c(jbuild *b, const char *c_string);
bool jbuild_code(jbuild *b, uint32_t code);
bool jbuild_fill(jbuild *b, const jtext *unit, size_t count); /* `count` times */
jtext *jbuild_finish(jbuild *b);

/* ---- lists and dicts (jinja_value.c) ----------------------------------------------------------------------------- */

/* A list of n items, copied. */
jlist *jlist_copy(jrun *r, const jvalue *items, size_t n);
jlist *jlist_concat(jrun *r, const jlist *a, const jlist *b);
/* Appends to a list that nobody else has seen yet. */
bool jlist_push(jrun *r, jlist *l, jvalue v);
jlist *jlist_new(jrun *r);

jdict *jdict_new(jrun *r);
bool jdict_set(jrun *r, jdict *d, jvalue key, jvalue value);
bool jdict_set_text(jrun *r, jdict *d, const jtext *key, jvalue value);
/* NULL when absent; for keys that cannot be hashed use jdict_find. */
const jentry *jdict_get(const jdict *d, const jtext *key);
bool jdict_find(jrun *r, const jdict *d, jvalue key, const jentry **out);
bool jdict_copy(jrun *r, const jdict *d, jdict **out);

/* The i-th item of a dict view, as Python iterates it. */
bool jview_item(jrun *r, const jdict *d, jview view, size_t i, jvalue *out);
static inline int64_t jrange_at(const jrange *range, int64_t i)
{
    return (int64_t)((uint64_t)range->start + (uint64_t)i * (uint64_t)range->step);
}

#endif
