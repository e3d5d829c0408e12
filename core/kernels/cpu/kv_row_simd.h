/*
 * Rows of a quantised KV cache over vectors of an instruction set: the bits of kv_row.c.
 * Owner: none. Lifetime: the call.
 *
 * Sums here are exact (whole numbers that fit a float) or in the order of kv_row.c, so lanes may be added in any order.
 */
#ifndef MLXR_KERNELS_CPU_KV_ROW_SIMD_H
#define MLXR_KERNELS_CPU_KV_ROW_SIMD_H

#include "kernels/kv_row.h"
#include "quant/codec.h"

#define KV_VECTORS (KV_BLOCK / VF_N) /* of a block */

/* Butterflies within vectors: lanes whose bit `distance` is set are subtracted from their partners. */
static inline void simd_turn_lanes(float *x, uint32_t n, uint32_t distance)
{
    float signs[VF_N];
    for (uint32_t i = 0; i < VF_N; i++) {
        signs[i] = i & distance ? -1.0f : 1.0f;
    }
    vf sign = vf_load(signs);
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf a = vf_load(x + i);
        vf_store(x + i, vf_fma(a, sign, vf_swap(a, distance)));
    }
}

/* kv_turn_scalar; `length` is a multiple of 32 */
static void simd_turn(float *x, uint32_t n, uint32_t length, float factor)
{
    simd_turn_lanes(x, n, 1);
    simd_turn_lanes(x, n, 2);
    if (VF_N > 4) {
        simd_turn_lanes(x, n, 4);
    }
    if (VF_N > 8) {
        simd_turn_lanes(x, n, 8);
    }
    for (uint32_t half = VF_N; half < length; half *= 2) {
        for (uint32_t i = 0; i < n; i += 2 * half) {
            for (uint32_t j = i; j < i + half; j += VF_N) {
                vf a = vf_load(x + j), b = vf_load(x + j + half);
                vf_store(x + j, vf_add(a, b));
                vf_store(x + j + half, vf_sub(a, b));
            }
        }
    }
    vf f = vf_set(factor);
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf_store(x + i, vf_mul(vf_load(x + i), f));
    }
}

/* The largest magnitude of a block; false if it has a NaN or an infinity. */
static inline bool simd_block_top(const float *x, float *top)
{
    vf most = vf_zero(), bad = vf_zero();
    for (uint32_t i = 0; i < KV_BLOCK; i += VF_N) {
        vf a = vf_load(x + i);
        most = vf_max(most, vf_max(a, vf_sub(vf_zero(), a)));
        bad = vf_add(bad, vf_sub(a, a));
    }
    *top = vf_max_lane(most);
    return vf_sum(bad) == 0;
}

static inline vf simd_nearest(vf x, float lowest, float highest)
{
    return vf_min(vf_set(highest), vf_max(vf_set(lowest), vf_round(x)));
}

static inline void simd_encode_q8(const float *x, uint8_t *block)
{
    float top;
    if (!simd_block_top(x, &top)) {
        kv_block_nan(block, 34);
        return;
    }
    vf inverse = vf_set(kv_block_scale(block, top / 127.0f));
    for (uint32_t i = 0; i < KV_BLOCK; i += VF_N) {
        vf_store_i8(block + 2 + i, simd_nearest(vf_mul(vf_load(x + i), inverse), -127.0f, 127.0f));
    }
}

static inline float simd_fit_q4(const float *x, float top)
{
    vf fine[KV_VECTORS], high = vf_zero(), low = vf_zero(), factor = vf_set(KV_FINE_TOP / top);
    float best = 0, scale = 0;
    for (uint32_t i = 0; i < KV_VECTORS; i++) {
        fine[i] = vf_round(vf_mul(vf_load(x + i * VF_N), factor));
        high = vf_max(high, fine[i]);
        low = vf_max(low, vf_sub(vf_zero(), fine[i]));
    }
    float side = vf_max_lane(high) > vf_max_lane(low) ? -1.0f : 1.0f;
    for (uint32_t t = 0; t < KV_Q4_TRIES; t++) {
        vf steps = vf_set(side * (kv_q4_levels[t] / KV_FINE_TOP)), sum_xq = vf_zero(), sum_qq = vf_zero();
        for (uint32_t i = 0; i < KV_VECTORS; i++) {
            vf q = simd_nearest(vf_mul(fine[i], steps), -8.0f, 7.0f);
            sum_xq = vf_fma(fine[i], q, sum_xq);
            sum_qq = vf_fma(q, q, sum_qq);
        }
        float xq = vf_sum(sum_xq), qq = vf_sum(sum_qq), merit = xq * xq / qq;
        if (merit > best) {
            best = merit;
            scale = xq / qq;
        }
    }
    return scale * (top / KV_FINE_TOP);
}

static inline void simd_encode_q4(const float *x, uint8_t *block)
{
    float top;
    uint8_t q[KV_BLOCK];
    if (!simd_block_top(x, &top)) {
        kv_block_nan(block, 18);
        return;
    }
    vf inverse = vf_set(kv_block_scale(block, top < KV_LEAST ? 0 : simd_fit_q4(x, top))), zero = vf_set(8.0f);
    for (uint32_t i = 0; i < KV_BLOCK; i += VF_N) {
        vf_store_i8(q + i, vf_add(simd_nearest(vf_mul(vf_load(x + i), inverse), -8.0f, 7.0f), zero));
    }
    for (uint32_t i = 0; i < KV_BLOCK / 2; i++) {
        block[2 + i] = (uint8_t)(q[i] | q[i + KV_BLOCK / 2] << 4);
    }
}

static void simd_row_encode(dtype type, const float *src, uint8_t *dst, uint32_t n)
{
    float x[KV_TURN_MAX];
    uint32_t length = kv_turn_length(type, n);
    for (uint32_t at = 0; at < n; at += length) {
        memcpy(x, src + at, length * sizeof *x);
        simd_turn(x, length, length, kv_turn_factor(length));
        for (uint32_t i = 0; i < length; i += KV_BLOCK, dst += dtype_row_bytes(type, KV_BLOCK)) {
            if (type == DTYPE_Q8_0) {
                simd_encode_q8(x + i, dst);
            } else {
                simd_encode_q4(x + i, dst);
            }
        }
    }
}

#endif
