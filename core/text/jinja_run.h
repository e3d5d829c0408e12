/*
 * One render: its memory, fuel, output and error, and the calls between values, operators, filters and the evaluator.
 * Owner: chat_template_render. Lifetime: that call. One thread.
 */
#ifndef MLXR_TEXT_JINJA_RUN_H
#define MLXR_TEXT_JINJA_RUN_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/region.h"
#include "text/jinja_value.h"

/* How deep evaluation, comparing and printing may nest. A level costs at most about 400 bytes of C stack. */
#define JDEPTH_MAX 1000

struct jrun {
    region memory;
    size_t memory_max;
    uint64_t steps, steps_max;
    buffer text; /* output so far; the tail of it may be a capture in progress */
    unsigned depth;
    uint32_t line;
    int64_t now;
    mlxr_error *error;
    mlxr_status status;
    jvalue *globals; /* one per global name of the program */
};

/* Each sets the run's error and returns false. */
bool jrun_fail(jrun *r, const char *format, ...) ERROR_PRINTF(2, 3);
bool jrun_unsupported(jrun *r, const char *format, ...) ERROR_PRINTF(2, 3);
bool jrun_limit(jrun *r, const char *format, ...) ERROR_PRINTF(2, 3);
bool jrun_no_memory(jrun *r, size_t n_bytes);
bool jrun_undefined(jrun *r, jvalue v); /* "'x' is undefined" */

/* NULL when memory or the limit on it runs out (error set). */
void *jrun_alloc(jrun *r, size_t n_bytes);
void *jrun_array(jrun *r, size_t count, size_t size); /* zeroed */
bool jrun_charge(jrun *r, uint64_t steps);
bool jrun_charge_bytes(jrun *r, size_t n_bytes); /* work in proportion to bytes moved */
bool jrun_enter(jrun *r);                        /* one level deeper; jrun_leave undoes it */
static inline void jrun_leave(jrun *r)
{
    r->depth--;
}
bool jrun_write(jrun *r, const char *bytes, size_t n);

/* ---- calls ------------------------------------------------------------------------------------------------------- */

typedef struct jkeyword {
    const jtext *name;
    jvalue value;
} jkeyword;

typedef struct jcall {
    const jvalue *args;
    size_t n_args;
    const jkeyword *keywords;
    size_t n_keywords;
} jcall;

typedef bool (*jnative)(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out);

/* A function, filter, test or method. `params` names its parameters, blanks between: "old new ?count": from the first
 * '?' on they may be left out (JMISSING then), a final "/" refuses keywords. NULL: it takes the call as it came. */
struct jfunction {
    const char *name;
    const char *params;
    jnative native; /* NULL: known by name, but not supported here */
    int tag;        /* tells apart those that share one native */
};

struct jbound {
    const jfunction *function;
    jvalue self;
};

#define JPARAMS_MAX 8

/* Calls one of ours after matching arguments to parameters. */
bool jfunction_call(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out);
/* Calls any value: functions, methods, macros, loops, joiners. */
bool jvalue_call(jrun *r, jvalue callee, const jcall *call, jvalue *out);
bool jmacro_call(jrun *r, const jmacro *m, const jcall *call, jvalue *out); /* jinja_exec.c */
bool jloop_call(jrun *r, jloop *loop, const jcall *call, jvalue *out);      /* loop(…) of a recursive loop */
const jtext *jmacro_name(const jmacro *m);

const jfunction *jfilter_find(const jtext *name);
const jfunction *jtest_find(const jtext *name);
const jfunction *jglobal_find(const jtext *name);
/* Whether Jinja has such a filter that we leave out on purpose. */
bool jfilter_refused(const jtext *name);

/* ---- operators (jinja_ops.c) ------------------------------------------------------------------------------------- */

typedef enum jbinary { JOP_ADD, JOP_SUB, JOP_MUL, JOP_DIV, JOP_FLOORDIV, JOP_MOD, JOP_POW } jbinary;

bool jop_binary(jrun *r, jbinary op, jvalue a, jvalue b, jvalue *out);
bool jop_negate(jrun *r, jvalue v, jvalue *out);
bool jop_plus(jrun *r, jvalue v, jvalue *out);
/* "…" % values */
bool jop_percent(jrun *r, const jtext *format, jvalue values, jvalue *out);

/* ---- attributes (jinja_attr.c) ----------------------------------------------------------------------------------- */

typedef struct jattr jattr;
const jattr *jattr_find(const jtext *name); /* NULL: no built-in type has an attribute of that name */
/* value.name; `known` is jattr_find(name). */
bool jvalue_attr(jrun *r, jvalue v, const jtext *name, const jattr *known, jvalue *out);
/* As above, but JMISSING where Python has no such attribute, and no fall-back to an item. */
bool jvalue_attr_only(jrun *r, jvalue v, const jtext *name, const jattr *known, jvalue *out);
bool jvalue_item(jrun *r, jvalue v, jvalue key, jvalue *out);
bool jvalue_slice(jrun *r, jvalue v, jvalue start, jvalue stop, jvalue step, jvalue *out);
bool jloop_attr(jrun *r, jloop *loop, const jtext *name, jvalue *out); /* jinja_exec.c */

typedef struct jslice {
    int64_t first, end, by, count; /* indices, -1 and n included; how many items */
} jslice;

/* Clamps a Python slice to a sequence of n items. */
bool jslice_resolve(jrun *r, jvalue start, jvalue stop, jvalue step, size_t n, jslice *out);

/* ---- iteration (jinja_iter.c) ------------------------------------------------------------------------------------ */

typedef enum jstep { JSTEP_FAILED, JSTEP_ITEM, JSTEP_END } jstep;

/* Python's iter(v). */
bool jiter_open(jrun *r, jvalue v, jiter **out);
bool jvalue_iterable(jvalue v);
jstep jiter_next(jrun *r, jiter *it, jvalue *out);
/* reversed(v); false with *out = NULL and no error where Python refuses it. */
bool jiter_reversed(jrun *r, jvalue v, jiter **out);
/* An iterator whose items `next` computes from `state`. */
jiter *jiter_make(jrun *r, jstep (*next)(jrun *r, void *state, jvalue *out), void *state);
bool jiter_collect(jrun *r, jvalue v, jlist **out); /* list(v) */

/* ---- text forms (jinja_print.c, jinja_json.c, jinja_format.c) ---------------------------------------------------- */

bool jprint_str(jbuild *b, jvalue v);                                 /* str(v) */
bool jprint_repr(jbuild *b, jvalue v);                                /* repr(v) */
bool jprint_ascii(jbuild *b, jvalue v);                               /* ascii(v) */
const jtext *jvalue_str(jrun *r, jvalue v);                           /* str(v): plain text; NULL on failure */
const jtext *jvalue_soft_str(jrun *r, jvalue v);                      /* the same, but markup stays markup */
bool jformat_json(jrun *r, const jcall *call, jvalue v, jvalue *out); /* the tojson filter; bound arguments */
bool jformat_spec(jrun *r, jvalue v, const jtext *spec, jvalue *out); /* format(v, spec) */
/* str.format(…) */
bool jformat_braces(jrun *r, const jtext *format, const jcall *call, const jdict *mapping, jvalue *out);

/* ---- numbers (jinja_number.c) ------------------------------------------------------------------------------------ */

#define JNUMBER_TEXT 700       /* enough for any double in %f with 300 places */
#define JNUMBER_DIGITS_MAX 512 /* longer texts are not taken for a float */

size_t jnumber_repr(double f, char out[JNUMBER_TEXT]); /* repr(f): shortest text that reads back the same */
/* %.*e, %.*f, %.*g with a point whatever the locale; precision is clamped to 300. */
size_t jnumber_format(double f, char style, int precision, bool alternate, char *out, size_t size);
/* Decimal text to double, whatever the locale: at most JNUMBER_DIGITS_MAX digits, point, exponent, as checked by the
 * caller. */
double jnumber_read(const char *digits, size_t n);
/* Python's int(text, base) and float(text): false when the text is no number; *too_big when it is, beyond 64 bits. */
bool jnumber_parse_int(const jtext *t, int base, int64_t *out, bool *too_big);
bool jnumber_parse_float(const jtext *t, double *out);

/* ---- sorting (jinja_sort.c) -------------------------------------------------------------------------------------- */

/* The order in which Python's sorted() would leave items with these keys; stable. */
bool jsort_order(jrun *r, const jvalue *keys, size_t n, bool reverse, uint32_t **out);

/* ---- arguments --------------------------------------------------------------------------------------------------- */

/* What a bound argument must be; a missing one leaves *out as it is. */
bool jarg_int(jrun *r, const char *what, jvalue v, int64_t *out);
bool jarg_text(jrun *r, const char *what, jvalue v, const jtext **out);

#endif
