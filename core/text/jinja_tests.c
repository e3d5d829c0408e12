/*
 * The tests behind `is`, and the table of them.
 * Owner: none; constant. Lifetime: the program.
 */
#include "text/jinja_methods.h"

enum {
    KIND_DEFINED,
    KIND_UNDEFINED,
    KIND_NONE,
    KIND_BOOLEAN,
    KIND_TRUE,
    KIND_FALSE,
    KIND_INTEGER,
    KIND_FLOAT,
    KIND_NUMBER,
    KIND_STRING,
    KIND_MAPPING,
    KIND_SEQUENCE,
    KIND_ITERABLE,
    KIND_CALLABLE,
    KIND_ESCAPED
};

static bool has_length_and_items(jvalue v)
{
    return v.kind == JTEXT || v.kind == JLIST || v.kind == JTUPLE || v.kind == JDICT || v.kind == JRANGE ||
           v.kind == JUNDEFINED;
}

static bool is_callable(jvalue v)
{
    return v.kind == JMACRO || v.kind == JFUNCTION || v.kind == JMETHOD || v.kind == JLOOP || v.kind == JJOINER ||
           v.kind == JUNDEFINED;
}

static JNATIVE(test_kind)
{
    bool holds;
    (void)r;
    (void)call;
    switch (f->tag) {
    case KIND_DEFINED:
        holds = self.kind != JUNDEFINED;
        break;
    case KIND_UNDEFINED:
        holds = self.kind == JUNDEFINED;
        break;
    case KIND_NONE:
        holds = self.kind == JNONE;
        break;
    case KIND_BOOLEAN:
        holds = self.kind == JBOOL;
        break;
    case KIND_TRUE:
    case KIND_FALSE:
        holds = self.kind == JBOOL && self.as.boolean == (f->tag == KIND_TRUE);
        break;
    case KIND_INTEGER:
        holds = self.kind == JINT;
        break;
    case KIND_FLOAT:
        holds = self.kind == JFLOAT;
        break;
    case KIND_NUMBER:
        holds = jvalue_is_number(self);
        break;
    case KIND_STRING:
        holds = self.kind == JTEXT;
        break;
    case KIND_MAPPING:
        holds = self.kind == JDICT;
        break;
    case KIND_SEQUENCE:
        holds = has_length_and_items(self);
        break;
    case KIND_ITERABLE:
        holds = jvalue_iterable(self);
        break;
    case KIND_CALLABLE:
        holds = is_callable(self);
        break;
    default: /* KIND_ESCAPED */
        holds = self.kind == JTEXT && self.as.text->markup;
    }
    *out = jvalue_bool(holds);
    return true;
}

static JNATIVE(test_compare)
{
    bool holds;
    if (!jvalue_compare(r, (jcompare)f->tag, self, call->args[0], &holds)) {
        return false;
    }
    *out = jvalue_bool(holds);
    return true;
}

static bool rest_is(jrun *r, jvalue v, jvalue divisor, int64_t rest, jvalue *out)
{
    bool same;
    jvalue left;
    if (!jop_binary(r, JOP_MOD, v, divisor, &left) || !jvalue_equal(r, left, jvalue_int(rest), &same)) {
        return false;
    }
    *out = jvalue_bool(same);
    return true;
}

/* odd (1), even (0) */
static JNATIVE(test_parity)
{
    (void)call;
    return rest_is(r, self, jvalue_int(2), f->tag, out);
}

static JNATIVE(test_divisible)
{
    (void)f;
    return rest_is(r, self, call->args[0], 0, out);
}

/* upper, lower: of str(value) */
static JNATIVE(test_case)
{
    const jtext *t = jvalue_str(r, self);
    (void)call;
    *out = jvalue_bool(t && jstr_is_cased(t, (char)f->tag));
    return t && jrun_charge_bytes(r, t->n);
}

/* The very same object; numbers and strings, which Python may or may not share, when they are equal. */
static JNATIVE(test_same)
{
    jvalue other = call->args[0];
    bool same = self.kind == other.kind;
    (void)f;
    switch (self.kind) {
    case JUNDEFINED: /* each look-up makes a new one */
        same = false;
        break;
    case JNONE:
        break;
    case JBOOL:
    case JINT:
    case JFLOAT:
    case JTEXT:
        if (same && !jvalue_equal(r, self, other, &same)) {
            return false;
        }
        break;
    default:
        same = same && self.as.dict == other.as.dict;
    }
    *out = jvalue_bool(same);
    return true;
}

/* Whether a filter (0) or test (1) of that name exists. */
static JNATIVE(test_exists)
{
    uint64_t hash;
    (void)call;
    if (self.kind != JTEXT) {
        *out = jvalue_bool(false);
        return jvalue_hash(r, self, &hash); /* what cannot be a key cannot be a name either */
    }
    *out = jvalue_bool(f->tag ? jtest_find(self.as.text) != NULL
                              : jfilter_find(self.as.text) != NULL || jfilter_refused(self.as.text));
    return true;
}

static const jfunction tests[] = {
    {"!=", "other /", test_compare, JCMP_NE},
    {"<", "other /", test_compare, JCMP_LT},
    {"<=", "other /", test_compare, JCMP_LE},
    {"==", "other /", test_compare, JCMP_EQ},
    {">", "other /", test_compare, JCMP_GT},
    {">=", "other /", test_compare, JCMP_GE},
    {"boolean", "", test_kind, KIND_BOOLEAN},
    {"callable", "", test_kind, KIND_CALLABLE},
    {"defined", "", test_kind, KIND_DEFINED},
    {"divisibleby", "num", test_divisible, 0},
    {"eq", "other /", test_compare, JCMP_EQ},
    {"equalto", "other /", test_compare, JCMP_EQ},
    {"escaped", "", test_kind, KIND_ESCAPED},
    {"even", "", test_parity, 0},
    {"false", "", test_kind, KIND_FALSE},
    {"filter", "", test_exists, 0},
    {"float", "", test_kind, KIND_FLOAT},
    {"ge", "other /", test_compare, JCMP_GE},
    {"greaterthan", "other /", test_compare, JCMP_GT},
    {"gt", "other /", test_compare, JCMP_GT},
    {"in", "seq", test_compare, JCMP_IN},
    {"integer", "", test_kind, KIND_INTEGER},
    {"iterable", "", test_kind, KIND_ITERABLE},
    {"le", "other /", test_compare, JCMP_LE},
    {"lessthan", "other /", test_compare, JCMP_LT},
    {"lower", "", test_case, 'l'},
    {"lt", "other /", test_compare, JCMP_LT},
    {"mapping", "", test_kind, KIND_MAPPING},
    {"ne", "other /", test_compare, JCMP_NE},
    {"none", "", test_kind, KIND_NONE},
    {"number", "", test_kind, KIND_NUMBER},
    {"odd", "", test_parity, 1},
    {"sameas", "other", test_same, 0},
    {"sequence", "", test_kind, KIND_SEQUENCE},
    {"string", "", test_kind, KIND_STRING},
    {"test", "", test_exists, 1},
    {"true", "", test_kind, KIND_TRUE},
    {"undefined", "", test_kind, KIND_UNDEFINED},
    {"upper", "", test_case, 'u'},
};

const jfunction *jtest_find(const jtext *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (jtext_is(name, tests[i].name)) {
            return &tests[i];
        }
    }
    return NULL;
}
