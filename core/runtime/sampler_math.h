/*
 * Arithmetic of the sampler that is bit-identical on every machine: exp and log built from additions and products only
 * (libm's differ in the last bit, and one bit can change a token), and a counter-based random number.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_RUNTIME_SAMPLER_MATH_H
#define MLXR_RUNTIME_SAMPLER_MATH_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* e^x for x ≤ 0, relative error below 2e-7; 0 below −87 and for NaN. Written so that compilers vectorise loops over it:
 * comparisons are of integers, because floating-point ones could raise exceptions. */
static inline float sampler_exp_float(float x)
{
    const float magic = 12582912.0f; /* 1.5·2²³: adding it rounds to an integer held in the low bits */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t inside = 0u - (uint32_t)((bits & 0x7fffffffu) < 0x42ae0000u); /* all ones if |x| < 87 */
    bits &= inside;
    memcpy(&x, &bits, sizeof x);
    float shifted = x * 1.44269504f + magic;
    float n = shifted - magic;
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f; /* ln 2 in two parts; the first product is exact */
    float p = 1.98756915e-4f;                              /* Cephes' minimax polynomial of e^r on |r| ≤ ½ ln 2 */
    p = p * r + 1.39819995e-3f;
    p = p * r + 8.33345191e-3f;
    p = p * r + 4.16657959e-2f;
    p = p * r + 1.66666655e-1f;
    p = p * r + 5.00000013e-1f;
    p = p * (r * r) + r + 1.0f;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000u; /* 2^n: the magic's own bits are shifted out */
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    float value = p * scale;
    memcpy(&bits, &value, sizeof bits);
    bits &= inside;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* e^x, relative error below 1e-15; 0 below −708, HUGE_VAL above 709. */
static inline double sampler_exp(double x)
{
    if (!(x > -708.0)) {
        return 0.0;
    }
    if (x > 709.0) {
        return HUGE_VAL;
    }
    const double magic = 6755399441055744.0; /* 1.5·2⁵² */
    double n = (x * 1.4426950408889634 + magic) - magic;
    double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double p = 1.0;
    for (int i = 13; i > 0; i--) { /* Taylor in Horner form: |r| ≤ 0.35, so the 14th term is below 1e-17 */
        p = 1.0 + p * r / i;
    }
    uint64_t bits = (uint64_t)((int64_t)n + 1022) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale * 2.0; /* in two steps: 2^1024 would not fit */
}

/* Natural logarithm of a positive finite x, absolute error below 1e-15·max(1, |ln x|); −HUGE_VAL for x ≤ 0. */
static inline double sampler_log(double x)
{
    if (!(x > 0.0)) {
        return -HUGE_VAL;
    }
    int exponent;
    double m = frexp(x, &exponent); /* exact on every machine */
    if (m < 0.70710678118654752) {
        m *= 2.0;
        exponent--;
    }
    double s = (m - 1.0) / (m + 1.0), s2 = s * s, sum = 0.0;
    for (int i = 21; i > 0; i -= 2) { /* 2·atanh(s), |s| ≤ 0.172 */
        sum = sum * s2 + 1.0 / i;
    }
    return exponent * 0.69314718055994531 + 2.0 * s * sum;
}

/* splitmix64's finaliser. */
static inline uint64_t sampler_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Number `index` of the sequence `key` names, uniform in [0, 1). */
static inline double sampler_uniform(uint64_t key, uint64_t index)
{
    return (double)(sampler_mix(key + (index + 1) * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
}

#endif
