/*
 * Filters on numbers.
 * Owner: none. Lifetime: the call.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_filters.h"

#define INT64_LIMIT 9223372036854775808.0

static bool float_to_int(jrun *r, double f, jvalue *out)
{
    if (!(f >= -INT64_LIMIT && f < INT64_LIMIT)) {
        return jrun_fail(r, "the float does not fit into a 64-bit integer");
    }
    *out = jvalue_int((int64_t)f);
    return true;
}

static jvalue given(jvalue v, jvalue otherwise)
{
    return v.kind == JMISSING ? otherwise : v;
}

/* int(default, base) */
JNATIVE(jfilter_int)
{
    jvalue fallback = given(call->args[0], jvalue_int(0));
    int64_t base = 10, i;
    double real;
    bool too_big;
    (void)f;
    switch (self.kind) {
    case JUNDEFINED:
        return jrun_undefined(r, self);
    case JINT:
    case JBOOL:
        *out = jvalue_int(jvalue_integer(self));
        return true;
    case JFLOAT:
        if (isnan(self.as.real)) {
            *out = fallback;
            return true;
        }
        return float_to_int(r, self.as.real, out);
    case JTEXT:
        break;
    default:
        *out = fallback;
        return true;
    }
    if (!jrun_charge_bytes(r, self.as.text->n)) {
        return false;
    }
    if (call->args[1].kind != JMISSING) { /* a base that is none leaves the text to be read as a float */
        base = jvalue_is_integer(call->args[1]) ? jvalue_integer(call->args[1]) : 1;
    }
    bool base_ok = base == 0 || (base >= 2 && base <= 36);
    if (base_ok && jnumber_parse_int(self.as.text, (int)base, &i, &too_big)) {
        if (too_big) {
            return jrun_fail(r, "the integer does not fit into 64 bits");
        }
        *out = jvalue_int(i);
        return true;
    }
    if (!jnumber_parse_float(self.as.text, &real) || !isfinite(real)) {
        *out = fallback;
        return true;
    }
    return float_to_int(r, real, out);
}

/* float(default) */
JNATIVE(jfilter_float)
{
    double real;
    (void)f;
    if (self.kind == JUNDEFINED) {
        return jrun_undefined(r, self);
    }
    if (jvalue_is_number(self)) {
        *out = jvalue_real(jvalue_number(self));
    } else if (self.kind == JTEXT && jnumber_parse_float(self.as.text, &real)) {
        *out = jvalue_real(real);
    } else {
        *out = given(call->args[0], jvalue_real(0.0));
    }
    return true;
}

JNATIVE(jfilter_abs)
{
    (void)f;
    (void)call;
    if (self.kind == JFLOAT) {
        *out = jvalue_real(fabs(self.as.real));
        return true;
    }
    if (!jvalue_is_integer(self)) {
        return self.kind == JUNDEFINED ? jrun_undefined(r, self)
                                       : jrun_fail(r, "abs needs a number, not '%s'", jvalue_type(self));
    }
    return jvalue_integer(self) < 0 ? jop_negate(r, self, out) : jop_plus(r, self, out);
}

/* Python's round(f, places): decimal rounding of the exact value, halves to even. */
static double round_places(double f, int64_t places)
{
    char text[JNUMBER_TEXT];
    size_t n;
    if (!isfinite(f) || f == 0.0 || places > 300) {
        return f;
    }
    if (places >= 0) {
        n = jnumber_format(f, 'f', (int)places, false, text, sizeof text);
        return jnumber_read(text, n);
    }
    int exponent = (int)floor(log10(fabs(f)));
    int64_t digits = places < -400 ? -1 : exponent + 1 + places; /* how many significant ones are kept */
    if (digits < 0) {
        return copysign(0.0, f);
    }
    if (digits == 0) { /* the leading digit itself is rounded away: to 0 or to the next power of ten */
        double unit = pow(10.0, exponent + 1);
        return fabs(f) > unit / 2 ? copysign(unit, f) : copysign(0.0, f);
    }
    n = jnumber_format(f, 'e', (int)digits - 1, false, text, sizeof text);
    return jnumber_read(text, n);
}

/* round() of an integer to tens, hundreds, …; halves to even */
static bool round_integer(jrun *r, int64_t i, int64_t places, jvalue *out)
{
    int64_t unit = 1;
    if (places >= 0) {
        *out = jvalue_int(i);
        return true;
    }
    for (; places < 0; places++) {
        if (__builtin_mul_overflow(unit, (int64_t)10, &unit)) {
            *out = jvalue_int(0);
            return true;
        }
    }
    int64_t rest = i % unit, down = i - rest, up;
    int64_t size = rest < 0 ? -rest : rest;
    bool away = size > unit - size || (size == unit - size && (down / unit) % 2 != 0);
    if (away && __builtin_add_overflow(down, i < 0 ? -unit : unit, &up)) {
        return jrun_fail(r, "the rounded number does not fit into 64 bits");
    }
    *out = jvalue_int(away ? up : down);
    return true;
}

/* ceil or floor of value × 10^places, divided again, as Jinja writes it */
static bool round_towards(jrun *r, jvalue value, jvalue places, bool up, jvalue *out)
{
    jvalue scale, scaled, whole;
    if (!jop_binary(r, JOP_POW, jvalue_int(10), places, &scale) || !jop_binary(r, JOP_MUL, value, scale, &scaled)) {
        return false;
    }
    whole = scaled;
    if (scaled.kind == JFLOAT && !float_to_int(r, up ? ceil(scaled.as.real) : floor(scaled.as.real), &whole)) {
        return false;
    }
    return jop_binary(r, JOP_DIV, whole, scale, out);
}

/* round(precision, method) */
JNATIVE(jfilter_round)
{
    const jtext *method = jtext_of(r, "common");
    int64_t places = 0;
    jvalue precision = given(call->args[0], jvalue_int(0));
    (void)f;
    if (!method || !jarg_text(r, "the method of round", call->args[1], &method)) {
        return false;
    }
    bool common = jtext_is(method, "common"), up = jtext_is(method, "ceil");
    if (!common && !up && !jtext_is(method, "floor")) {
        return jrun_fail(r, "the method of round must be common, ceil or floor");
    }
    if (!jvalue_is_number(self)) {
        return self.kind == JUNDEFINED ? jrun_undefined(r, self)
                                       : jrun_fail(r, "round needs a number, not '%s'", jvalue_type(self));
    }
    if (!common) {
        return round_towards(r, self, precision, up, out);
    }
    bool to_integer = precision.kind == JNONE;
    if (!to_integer && !jarg_int(r, "the precision of round", precision, &places)) {
        return false;
    }
    if (self.kind != JFLOAT) {
        return round_integer(r, jvalue_integer(self), places < -100 ? -100 : places, out);
    }
    double rounded = round_places(self.as.real, places);
    if (isinf(rounded) && isfinite(self.as.real)) {
        return jrun_fail(r, "the rounded number does not fit into a float");
    }
    *out = jvalue_real(rounded);
    return !to_integer || float_to_int(r, rounded, out);
}

/* bytes < unit, exactly: 1e24 as a double is less than 10^24. */
static bool is_below(double bytes, unsigned __int128 unit)
{
    return bytes < 1e37 && (unsigned __int128)bytes < unit;
}

/* filesizeformat(binary) */
JNATIVE(jfilter_filesizeformat)
{
    static const char *const prefixes[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                               {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    bool binary = jvalue_true(call->args[0]);
    double bytes, base = binary ? 1024 : 1000;
    char text[JNUMBER_TEXT + 16];
    (void)f;
    if (jvalue_is_number(self)) {
        bytes = jvalue_number(self);
    } else if (self.kind == JUNDEFINED) {
        return jrun_undefined(r, self);
    } else if (self.kind != JTEXT || !jnumber_parse_float(self.as.text, &bytes)) {
        return jrun_fail(r, "filesizeformat needs a number, not '%s'", jvalue_type(self));
    }
    if (bytes == 1.0) {
        strcpy(text, "1 Byte");
    } else if (bytes < base) {
        jvalue whole = JVALUE_NONE;
        if (!float_to_int(r, bytes, &whole)) {
            return false;
        }
        snprintf(text, sizeof text, "%lld Bytes", (long long)whole.as.integer);
    } else {
        unsigned __int128 unit = (unsigned)(base * base);
        int i = 0;
        for (; i < 7 && !is_below(bytes, unit); i++) {
            unit *= (unsigned)base;
        }
        size_t n = jnumber_format(base * bytes / (double)unit, 'f', 1, false, text, JNUMBER_TEXT);
        snprintf(text + n, 16, " %s", prefixes[binary][i]);
    }
    const jtext *t = jtext_copy(r, text, strlen(text));
    *out = jvalue_text(t);
    return t != NULL;
}
