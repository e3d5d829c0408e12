/*
 * Row kernels over vectors of an instruction set: the bodies, compiled once for each simd_*.h.
 * Owner: none. Lifetime: the call.
 *
 * Each element of a result depends on the row alone, never on how many rows or which share of them is computed.
 */
#ifndef MLXR_KERNELS_CPU_OPS_SIMD_H
#define MLXR_KERNELS_CPU_OPS_SIMD_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/kv_row_simd.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd_math.h"
#include "quant/half.h"

/* Elements i … i + VF_N − 1 of p[n]; 0 past the end. */
#define SIMD_LOAD(p, i, n) ((i) + VF_N <= (n) ? vf_load((p) + (i)) : vf_load_n((p) + (i), (n) - (i)))

/* Likewise; nothing is written past the end. */
static inline void simd_store(float *p, uint32_t i, uint32_t n, vf a)
{
    if (i + VF_N <= n) {
        vf_store(p + i, a);
    } else {
        vf_store_n(p + i, a, n - i);
    }
}

static float simd_mean(const float *x, uint32_t n)
{
    vf sum = vf_zero();
    for (uint32_t i = 0; i < n; i += VF_N) {
        sum = vf_add(sum, SIMD_LOAD(x, i, n));
    }
    return vf_sum(sum) / (float)n;
}

/* Four running sums: the additions of one wait for each other. */
static float simd_square_sum(const float *x, uint32_t n, float mean)
{
    vf sums[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()}, m = vf_set(mean);
    uint32_t i = 0;
    for (; i + 4 * VF_N <= n; i += 4 * VF_N) {
        for (uint32_t j = 0; j < 4; j++) {
            vf d = vf_sub(vf_load(x + i + j * VF_N), m);
            sums[j] = vf_fma(d, d, sums[j]);
        }
    }
    for (; i + VF_N <= n; i += VF_N) {
        vf d = vf_sub(vf_load(x + i), m);
        sums[0] = vf_fma(d, d, sums[0]);
    }
    float total = vf_sum(vf_add(vf_add(sums[0], sums[1]), vf_add(sums[2], sums[3])));
    for (; i < n; i++) {
        total += (x[i] - mean) * (x[i] - mean);
    }
    return total;
}

static float simd_dot(const float *a, const float *b, uint32_t n)
{
    vf sums[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    uint32_t i = 0;
    for (; i + 4 * VF_N <= n; i += 4 * VF_N) {
        for (uint32_t j = 0; j < 4; j++) {
            sums[j] = vf_fma(vf_load(a + i + j * VF_N), vf_load(b + i + j * VF_N), sums[j]);
        }
    }
    for (; i < n; i += VF_N) {
        sums[0] = vf_fma(SIMD_LOAD(a, i, n), SIMD_LOAD(b, i, n), sums[0]);
    }
    return vf_sum(vf_add(vf_add(sums[0], sums[1]), vf_add(sums[2], sums[3])));
}

static void simd_norm(norm_kind kind, const float *src, float *dst, const float *weight, const float *bias, uint32_t n,
                      float eps)
{
    float mean = kind == NORM_LAYER ? simd_mean(src, n) : 0;
    vf m = vf_set(mean), factor = vf_set(1.0f / sqrtf(simd_square_sum(src, n, mean) / (float)n + eps));
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf y = vf_mul(vf_sub(SIMD_LOAD(src, i, n), m), factor);
        if (weight) {
            y = vf_mul(y, SIMD_LOAD(weight, i, n));
        }
        if (bias) {
            y = vf_add(y, SIMD_LOAD(bias, i, n));
        }
        simd_store(dst, i, n, y);
    }
}

static void simd_rope_halves(float *x, uint32_t half, const float *cosines, const float *sines)
{
    for (uint32_t i = 0; i < half; i += VF_N) {
        vf a = SIMD_LOAD(x, i, half), b = SIMD_LOAD(x + half, i, half);
        vf c = SIMD_LOAD(cosines, i, half), s = SIMD_LOAD(sines, i, half);
        simd_store(x, i, half, vf_fnma(b, s, vf_mul(a, c)));
        simd_store(x + half, i, half, vf_fma(b, c, vf_mul(a, s)));
    }
}

static void simd_rope_pairs(float *x, uint32_t half, const float *cosines, const float *sines)
{
    uint32_t i = 0;
    for (; i + VF_N / 2 <= half; i += VF_N / 2) {
        vf a = vf_load(x + 2 * (size_t)i), c = vf_load_twice(cosines + i), s = vf_load_twice(sines + i);
        vf_store(x + 2 * (size_t)i, vf_fmaddsub(a, c, vf_mul(vf_swap(a, 1), s)));
    }
    for (; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosines[i] - b * sines[i];
        x[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
}

static void simd_rope(rope_kind kind, float *heads, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot,
                      const float *cosines, const float *sines)
{
    for (uint32_t h = 0; h < n_heads; h++) {
        float *x = heads + (size_t)h * head_dim;
        if (kind == ROPE_PAIRS) {
            simd_rope_pairs(x, n_rot / 2, cosines, sines);
        } else {
            simd_rope_halves(x, n_rot / 2, cosines, sines);
        }
    }
}

static void simd_gated(activation act, float *gate, const float *up, uint32_t n)
{
    const vf a = vf_set(-1.5957691216057308f), b = vf_set(-1.5957691216057308f * 0.044715f); /* −2 √(2/π) */
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf x = SIMD_LOAD(gate, i, n), y;
        if (act == ACT_SILU) {
            y = vf_gate(x, vf_sub(vf_zero(), x));
        } else if (act == ACT_GELU_TANH) { /* ½ (1 + tanh u) is the logistic function of 2u */
            y = vf_gate(x, vf_mul(x, vf_fma(vf_mul(x, x), b, a)));
        } else if (act == ACT_SIGMOID) {
            y = vf_gate(vf_set(1), vf_sub(vf_zero(), x));
        } else if (act == ACT_NONE) {
            y = x;
        } else {
            y = vf_max(vf_zero(), x);
            y = act == ACT_RELU_SQUARED ? vf_mul(y, y) : y;
        }
        simd_store(gate, i, n, up ? vf_mul(y, SIMD_LOAD(up, i, n)) : y);
    }
}

static void simd_gated_clamped(float *gate, const float *up, uint32_t n)
{
    const vf top = vf_set(7), bottom = vf_set(-7), one = vf_set(1), steep = vf_set(-1.702f);
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf x = vf_min(top, SIMD_LOAD(gate, i, n)), u = vf_min(top, vf_max(bottom, SIMD_LOAD(up, i, n)));
        simd_store(gate, i, n, vf_mul(vf_gate(x, vf_mul(x, steep)), vf_add(u, one)));
    }
}

/* ½ x erfc(−x / √2), by Chebyshev's fit of erfc with a relative error below 1.2e-7 (Press et al., Numerical Recipes).
 */
static void simd_gelu_erf(float *gate, const float *up, uint32_t n)
{
    static const float fit[] = {0.17087277f,  -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
                                -0.18628806f, 0.09678418f,  0.37409196f, 1.00002368f,  -1.26551223f};
    const vf one = vf_set(1), half = vf_set(0.5f);
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf x = SIMD_LOAD(gate, i, n);
        vf z = vf_mul(vf_max(x, vf_sub(vf_zero(), x)), vf_set(0.70710678f));
        vf t = vf_div(one, vf_fma(half, z, one)), p = vf_set(fit[0]);
        for (uint32_t j = 1; j < sizeof fit / sizeof *fit; j++) {
            p = vf_fma(p, t, vf_set(fit[j]));
        }
        vf tail = vf_mul(t,
                         vf_exp(vf_fnma(vf_mul(half, x), x, p))); /* erfc |z|; z² is ½ x², rounded with the sum only */
        vf positive = vf_mul(vf_max(vf_zero(), x), vf_fnma(half, tail, one)); /* x (1 − ½ erfc) */
        vf negative = vf_mul(vf_mul(half, vf_min(vf_zero(), x)), tail);
        vf y = vf_add(positive, negative);
        simd_store(gate, i, n, up ? vf_mul(y, SIMD_LOAD(up, i, n)) : y);
    }
}

static void simd_gated_any(activation act, float *gate, const float *up, uint32_t n)
{
    if (act == ACT_GELU_ERF) {
        simd_gelu_erf(gate, up, n);
    } else if (act == ACT_SWIGLU_CLAMPED) {
        simd_gated_clamped(gate, up, n);
    } else {
        simd_gated(act, gate, up, n);
    }
}

static void simd_add(float *dst, const float *src, float scale, uint32_t n)
{
    vf factor = vf_set(scale);
    for (uint32_t i = 0; i < n; i += VF_N) {
        simd_store(dst, i, n, vf_fma(SIMD_LOAD(src, i, n), factor, SIMD_LOAD(dst, i, n)));
    }
}

static void simd_decay(float *x, const float *before, const float *factors, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += VF_N) {
        simd_store(x, i, n, vf_fma(SIMD_LOAD(before, i, n), SIMD_LOAD(factors, i, n), SIMD_LOAD(x, i, n)));
    }
}

#define RECUR_COLUMNS 4u /* vectors of a state's row at a time: their running sums stay in registers */

/* Columns [i, i + RECUR_COLUMNS × VF_N) of the state, all of which there are. */
static void simd_recur_columns(const recur_row *r, uint32_t i)
{
    const float *before = r->before ? r->before + i : NULL;
    float *after = r->after + i;
    vf u[RECUR_COLUMNS], out[RECUR_COLUMNS], fade = vf_set(r->fade), learn = vf_set(r->learn);
    for (uint32_t c = 0; c < RECUR_COLUMNS; c++) {
        u[c] = out[c] = vf_zero();
    }
    for (uint32_t j = 0; j < r->n_k && before && r->delta; j++) {
        const float *row = before + j * r->before_stride;
        vf k = vf_set(r->k[j]);
        for (uint32_t c = 0; c < RECUR_COLUMNS; c++) {
            u[c] = vf_fma(vf_load(row + c * VF_N), k, u[c]);
        }
    }
    for (uint32_t c = 0; c < RECUR_COLUMNS; c++) {
        u[c] = vf_mul(learn, vf_fnma(fade, u[c], vf_load(r->v + i + c * VF_N)));
    }
    for (uint32_t j = 0; j < r->n_k; j++) {
        const float *from = before ? before + j * r->before_stride : NULL;
        float *to = after + j * r->after_stride;
        vf k = vf_set(r->k[j]), q = vf_set(r->q[j]);
        for (uint32_t c = 0; c < RECUR_COLUMNS; c++) {
            vf s = vf_fma(k, u[c], from ? vf_mul(fade, vf_load(from + c * VF_N)) : vf_zero());
            vf_store(to + c * VF_N, s);
            out[c] = vf_fma(s, q, out[c]);
        }
    }
    for (uint32_t c = 0; c < RECUR_COLUMNS; c++) {
        vf_store(r->out + i + c * VF_N, out[c]);
    }
}

/* The same for one vector, or what is left. */
static void simd_recur_column(const recur_row *r, uint32_t i)
{
    vf u = vf_zero(), out = vf_zero(), fade = vf_set(r->fade);
    for (uint32_t j = 0; j < r->n_k && r->before && r->delta; j++) {
        u = vf_fma(SIMD_LOAD(r->before + j * r->before_stride, i, r->n_v), vf_set(r->k[j]), u);
    }
    u = vf_mul(vf_set(r->learn), vf_fnma(fade, u, SIMD_LOAD(r->v, i, r->n_v)));
    for (uint32_t j = 0; j < r->n_k; j++) {
        vf s = r->before ? vf_mul(fade, SIMD_LOAD(r->before + j * r->before_stride, i, r->n_v)) : vf_zero();
        s = vf_fma(vf_set(r->k[j]), u, s);
        simd_store(r->after + j * r->after_stride, i, r->n_v, s);
        out = vf_fma(s, vf_set(r->q[j]), out);
    }
    simd_store(r->out, i, r->n_v, out);
}

static void simd_recur(const recur_row *r)
{
    uint32_t i = 0;
    for (; i + RECUR_COLUMNS * VF_N <= r->n_v; i += RECUR_COLUMNS * VF_N) {
        simd_recur_columns(r, i);
    }
    for (; i < r->n_v; i += VF_N) {
        simd_recur_column(r, i);
    }
}

static void simd_scale(float *x, float scale, uint32_t n)
{
    vf factor = vf_set(scale);
    for (uint32_t i = 0; i < n; i += VF_N) {
        simd_store(x, i, n, vf_mul(SIMD_LOAD(x, i, n), factor));
    }
}

static void simd_softcap(float *x, float cap, uint32_t n)
{
    vf c = vf_set(cap), inverse = vf_set(1.0f / cap);
    for (uint32_t i = 0; i < n; i += VF_N) {
        simd_store(x, i, n, vf_mul(c, vf_tanh(vf_mul(SIMD_LOAD(x, i, n), inverse))));
    }
}

static void simd_curve(const op_curve *c, float *x, uint32_t n)
{
    const vf top = vf_set(c->limit), bottom = vf_set(-c->limit), one = vf_set(1), rise = vf_set(c->rise),
             fall = vf_set(c->fall), slope = vf_set(c->slope);
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf v = SIMD_LOAD(x, i, n);
        if (c->kind == CURVE_CLAMP) {
            simd_store(x, i, n, vf_min(top, vf_max(bottom, v)));
            continue;
        }
        vf above = vf_max(vf_zero(), v), below = vf_sub(vf_sub(vf_exp(vf_min(top, v)), one), v);
        below = vf_zero_below(below, vf_sub(vf_zero(), v), 0);
        vf y = vf_fma(vf_mul(rise, above), above, vf_mul(slope, v));
        simd_store(x, i, n, vf_fma(fall, below, y));
    }
}

static void simd_to_kv(dtype type, const float *src, void *dst, uint32_t n)
{
    if (type == DTYPE_Q8_0 || type == DTYPE_Q4_0) {
        simd_row_encode(type, src, dst, n);
        return;
    }
    if (type != DTYPE_F16) {
        ops_table_scalar().to_kv(type, src, dst, n);
        return;
    }
    uint16_t *words = dst, last[VF_N];
    const vf top = vf_set(65504.0f), bottom = vf_set(-65504.0f);
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf x = vf_min(top, vf_max(bottom, SIMD_LOAD(src, i, n)));
        if (i + VF_N <= n) {
            vf_store_f16(words + i, x);
        } else {
            vf_store_f16(last, x);
            memcpy(words + i, last, (n - i) * sizeof *words);
        }
    }
}

static void simd_upper(const float *values, const float *lengths, float reach, uint32_t n, float *upper)
{
    const vf by = vf_set(reach), none = vf_set(-INFINITY);
    uint32_t i = 0;
    for (; i + OPS_UPPER_BLOCK <= n; i += OPS_UPPER_BLOCK) {
        vf most = none;
        for (uint32_t j = i; j < i + OPS_UPPER_BLOCK; j += VF_N) {
            most = vf_max_number(vf_fma(vf_load(lengths + j), by, vf_load(values + j)), most);
        }
        upper[i / OPS_UPPER_BLOCK] = vf_max_lane(most);
    }
    float most = -INFINITY;
    for (uint32_t j = i; j < n; j++) {
        float one = values[j] + lengths[j] * reach;
        most = one > most ? one : most;
    }
    if (i < n) {
        upper[i / OPS_UPPER_BLOCK] = most;
    }
}

static void ops_simd_fill(ops_table *t)
{
    t->norm = simd_norm;
    t->rope = simd_rope;
    t->gated = simd_gated_any;
    t->add = simd_add;
    t->dot = simd_dot;
    t->decay = simd_decay;
    t->recur = simd_recur;
    t->scale = simd_scale;
    t->softcap = simd_softcap;
    t->curve = simd_curve;
    t->upper = simd_upper;
    t->to_kv = simd_to_kv;
}

#endif
