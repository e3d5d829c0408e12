/*
 * Python's arithmetic operators. Integers have 64 bits: what does not fit is an error, not another number.
 * Owner: none. Lifetime: the call.
 */
#include <math.h>
#include <string.h>

#include "text/jinja_run.h"

static const char *op_sign(jbinary op)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    return signs[op];
}

static bool overflow(jrun *r)
{
    return jrun_fail(r, "the result does not fit into a 64-bit integer");
}

static bool zero_division(jrun *r)
{
    return jrun_fail(r, "division by zero");
}

/* ---- integers ---------------------------------------------------------------------------------------------------- */

static bool floor_divide(jrun *r, int64_t a, int64_t b, int64_t *quotient, int64_t *rest)
{
    if (b == 0) {
        return zero_division(r);
    }
    if (b == -1) { /* INT64_MIN / -1 traps */
        *rest = 0;
        if (__builtin_sub_overflow((int64_t)0, a, quotient)) {
            return overflow(r);
        }
        return true;
    }
    *quotient = a / b;
    *rest = a % b;
    if (*rest != 0 && (*rest < 0) != (b < 0)) {
        *rest += b;
        --*quotient;
    }
    return true;
}

static bool integer_power(jrun *r, int64_t base, int64_t exponent, jvalue *out)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0) {
            return zero_division(r);
        }
        *out = jvalue_real(pow((double)base, (double)exponent));
        return true;
    }
    for (;;) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) {
            return overflow(r);
        }
        exponent >>= 1;
        if (exponent == 0) {
            break;
        }
        if (__builtin_mul_overflow(base, base, &base)) {
            return overflow(r);
        }
    }
    *out = jvalue_int(result);
    return true;
}

/* a / b, correctly rounded also where the integers have more bits than a double. */
static double true_divide(int64_t a, int64_t b)
{
    const int64_t exact = (int64_t)1 << 53;
    if (a > -exact && a < exact && b > -exact && b < exact) {
        return (double)a / (double)b;
    }
    if (a == 0) {
        return (double)a / (double)b; /* with the sign of zero that it has */
    }
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    int shift = 63 + __builtin_clzll(x); /* leaves a quotient of at least 63 bits; the rest only breaks ties */
    unsigned __int128 scaled = (unsigned __int128)x << shift, quotient = scaled / y;
    quotient |= scaled % y != 0;
    double f = ldexp((double)quotient, -shift);
    return (a < 0) != (b < 0) ? -f : f;
}

static bool integer_op(jrun *r, jbinary op, int64_t a, int64_t b, jvalue *out)
{
    int64_t result = 0, rest;
    switch (op) {
    case JOP_ADD:
        if (__builtin_add_overflow(a, b, &result)) {
            return overflow(r);
        }
        break;
    case JOP_SUB:
        if (__builtin_sub_overflow(a, b, &result)) {
            return overflow(r);
        }
        break;
    case JOP_MUL:
        if (__builtin_mul_overflow(a, b, &result)) {
            return overflow(r);
        }
        break;
    case JOP_DIV:
        if (b == 0) {
            return zero_division(r);
        }
        *out = jvalue_real(true_divide(a, b));
        return true;
    case JOP_FLOORDIV:
        if (!floor_divide(r, a, b, &result, &rest)) {
            return false;
        }
        break;
    case JOP_MOD:
        if (b == -1) {
            break;
        }
        if (!floor_divide(r, a, b, &rest, &result)) {
            return false;
        }
        break;
    case JOP_POW:
    default:
        return integer_power(r, a, b, out);
    }
    *out = jvalue_int(result);
    return true;
}

/* ---- floats ------------------------------------------------------------------------------------------------------ */

static void float_divide(double a, double b, double *quotient, double *rest)
{
    double mod = fmod(a, b), div = (a - mod) / b;
    if (mod != 0.0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1.0;
        }
    } else {
        mod = copysign(0.0, b);
    }
    if (div != 0.0) {
        double whole = floor(div);
        *quotient = div - whole > 0.5 ? whole + 1.0 : whole;
    } else {
        *quotient = copysign(0.0, a / b);
    }
    *rest = mod;
}

static bool float_power(jrun *r, double a, double b, jvalue *out)
{
    if (a == 0.0 && b < 0.0) {
        return zero_division(r);
    }
    if (a < 0.0 && isfinite(a) && isfinite(b) && b != floor(b)) {
        return jrun_fail(r, "a negative number to a broken power is not a real number");
    }
    double result = pow(a, b);
    if (isinf(result) && isfinite(a) && isfinite(b)) {
        return jrun_fail(r, "the power is too large for a float");
    }
    *out = jvalue_real(result);
    return true;
}

static bool float_op(jrun *r, jbinary op, double a, double b, jvalue *out)
{
    double quotient = 0, rest = 0;
    if ((op == JOP_DIV || op == JOP_FLOORDIV || op == JOP_MOD) && b == 0.0) {
        return zero_division(r);
    }
    if (op == JOP_FLOORDIV || op == JOP_MOD) {
        float_divide(a, b, &quotient, &rest);
    }
    switch (op) {
    case JOP_ADD:
        *out = jvalue_real(a + b);
        return true;
    case JOP_SUB:
        *out = jvalue_real(a - b);
        return true;
    case JOP_MUL:
        *out = jvalue_real(a * b);
        return true;
    case JOP_DIV:
        *out = jvalue_real(a / b);
        return true;
    case JOP_FLOORDIV:
        *out = jvalue_real(quotient);
        return true;
    case JOP_MOD:
        *out = jvalue_real(rest);
        return true;
    case JOP_POW:
    default:
        return float_power(r, a, b, out);
    }
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

static bool add_texts(jrun *r, const jtext *a, const jtext *b, jvalue *out)
{
    bool markup = a->markup || b->markup;
    if (markup) { /* whichever is not markup is escaped */
        a = jtext_escape(r, a);
        b = a ? jtext_escape(r, b) : NULL;
        if (!b) {
            return false;
        }
    }
    jtext *t = jtext_concat(r, a, b);
    if (t) {
        t->markup = markup;
    }
    *out = jvalue_text(t);
    return t != NULL;
}

static bool repeat(jrun *r, jvalue sequence, int64_t count, jvalue *out)
{
    size_t n_times = count > 0 ? (size_t)count : 0, n;
    if (sequence.kind == JTEXT) {
        jbuild b = {.run = r};
        if (!jbuild_fill(&b, sequence.as.text, n_times)) {
            return false;
        }
        jtext *t = jbuild_finish(&b);
        if (t) {
            t->markup = sequence.as.text->markup;
        }
        *out = jvalue_text(t);
        return t != NULL;
    }
    const jlist *l = sequence.as.list;
    if (__builtin_mul_overflow(l->n, n_times, &n) || !jrun_charge(r, n)) {
        return jrun_limit(r, "a list repeated %zu times is too long", n_times);
    }
    jvalue *items = jrun_array(r, n, sizeof *items);
    jlist *repeated = items ? jlist_new(r) : NULL;
    if (!repeated) {
        return false;
    }
    for (size_t i = 0; i < n; i += l->n) {
        memcpy(items + i, l->items, l->n * sizeof *items);
    }
    *repeated = (jlist){.items = items, .n = n};
    *out = (jvalue){.kind = sequence.kind, .as.list = repeated};
    return true;
}

static bool is_sequence(jvalue v)
{
    return v.kind == JTEXT || v.kind == JLIST || v.kind == JTUPLE;
}

bool jop_binary(jrun *r, jbinary op, jvalue a, jvalue b, jvalue *out)
{
    if (jvalue_is_integer(a) && jvalue_is_integer(b)) {
        return integer_op(r, op, jvalue_integer(a), jvalue_integer(b), out);
    }
    if (jvalue_is_number(a) && jvalue_is_number(b)) {
        return float_op(r, op, jvalue_number(a), jvalue_number(b), out);
    }
    if (op == JOP_MOD && a.kind == JTEXT) {
        return jop_percent(r, a.as.text, b, out);
    }
    if (a.kind == JUNDEFINED || b.kind == JUNDEFINED) {
        return jrun_undefined(r, a.kind == JUNDEFINED ? a : b);
    }
    if (op == JOP_ADD && a.kind == b.kind) {
        if (a.kind == JTEXT) {
            return add_texts(r, a.as.text, b.as.text, out);
        }
        if (a.kind == JLIST || a.kind == JTUPLE) {
            jlist *l = jlist_concat(r, a.as.list, b.as.list);
            *out = (jvalue){.kind = a.kind, .as.list = l};
            return l != NULL;
        }
    }
    if (op == JOP_MUL && is_sequence(a) && jvalue_is_integer(b)) {
        return repeat(r, a, jvalue_integer(b), out);
    }
    if (op == JOP_MUL && is_sequence(b) && jvalue_is_integer(a)) {
        return repeat(r, b, jvalue_integer(a), out);
    }
    return jrun_fail(r, "'%s' does not work on '%s' and '%s'", op_sign(op), jvalue_type(a), jvalue_type(b));
}

bool jop_negate(jrun *r, jvalue v, jvalue *out)
{
    int64_t negated;
    if (v.kind == JFLOAT) {
        *out = jvalue_real(-v.as.real);
        return true;
    }
    if (jvalue_is_integer(v)) {
        if (__builtin_sub_overflow((int64_t)0, jvalue_integer(v), &negated)) {
            return overflow(r);
        }
        *out = jvalue_int(negated);
        return true;
    }
    return v.kind == JUNDEFINED ? jrun_undefined(r, v) : jrun_fail(r, "'-' does not work on '%s'", jvalue_type(v));
}

bool jop_plus(jrun *r, jvalue v, jvalue *out)
{
    if (jvalue_is_number(v)) {
        *out = v.kind == JBOOL ? jvalue_int(jvalue_integer(v)) : v;
        return true;
    }
    return v.kind == JUNDEFINED ? jrun_undefined(r, v) : jrun_fail(r, "'+' does not work on '%s'", jvalue_type(v));
}
