/*
 * Attention kernels over vectors of an instruction set: the bodies, compiled once for each simd_*.h.
 * Owner: none. Lifetime: the call.
 *
 * The arithmetic of one query is the same whatever other queries share its tile: a score is one vector of running sums
 * over the head, added up in a fixed order; a softmax adds its lanes by their place in the block; an output element is
 * one chain of fused multiply-adds over the keys in order.
 */
#ifndef MLXR_KERNELS_CPU_ATTENTION_SIMD_H
#define MLXR_KERNELS_CPU_ATTENTION_SIMD_H

#include <string.h>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/simd_math.h"
#include "quant/codec.h"

static void simd_attend_load(dtype type, const void *src, size_t row_bytes, uint32_t n_rows, uint32_t n, float *dst)
{
    uint32_t padded = attend_padded(n);
    for (uint32_t r = 0; r < n_rows; r++, dst += padded) {
        const uint8_t *row = (const uint8_t *)src + r * row_bytes;
        uint32_t i = 0;
        if (type == DTYPE_F16) {
            for (; i + VF_N <= n; i += VF_N) {
                vf_store(dst + i, vf_load_f16(row + 2 * (size_t)i));
            }
        } else if (type == DTYPE_BF16) {
            for (; i + VF_N <= n; i += VF_N) {
                vf_store(dst + i, vf_load_bf16(row + 2 * (size_t)i));
            }
        }
        if (i < n) {
            codec_decode(type, row + dtype_row_bytes(type, i), dst + i, n - i);
        }
        memset(dst + n, 0, (padded - n) * sizeof *dst);
    }
}

/* n_queries (a constant where this is inlined) × 4 keys */
static inline __attribute__((always_inline)) void simd_score_tile(const float *q, uint32_t n_queries, const float *k,
                                                                  uint32_t padded, float *scores)
{
    vf sums[4 * VF_TILE_Q];
    for (uint32_t j = 0; j < 4 * n_queries; j++) {
        sums[j] = vf_zero();
    }
    for (uint32_t d = 0; d < padded; d += VF_N) {
        vf key[4];
        for (uint32_t j = 0; j < 4; j++) {
            key[j] = vf_load(k + (size_t)j * padded + d);
        }
        for (uint32_t i = 0; i < n_queries; i++) {
            vf query = vf_load(q + (size_t)i * padded + d);
            for (uint32_t j = 0; j < 4; j++) {
                sums[4 * i + j] = vf_fma(query, key[j], sums[4 * i + j]);
            }
        }
    }
    vf_sum_tile(sums, n_queries, scores, ATTEND_STRIDE);
}

static void simd_attend_scores(const float *q, uint32_t n_queries, const float *k, uint32_t n_keys, uint32_t padded,
                               float *scores)
{
    uint32_t i = 0;
    for (; i + VF_TILE_Q <= n_queries; i += VF_TILE_Q) {
        for (uint32_t j = 0; j < n_keys; j += 4) {
            simd_score_tile(q + (size_t)i * padded, VF_TILE_Q, k + (size_t)j * padded, padded,
                            scores + (size_t)i * ATTEND_STRIDE + j);
        }
    }
    uint32_t left = n_queries - i;
    q += (size_t)i * padded;
    scores += (size_t)i * ATTEND_STRIDE;
    for (uint32_t j = 0; j < n_keys && left; j += 4, k += 4 * (size_t)padded) {
        if (left == 1) {
            simd_score_tile(q, 1, k, padded, scores + j);
        } else if (left == 2) {
            simd_score_tile(q, 2 < VF_TILE_Q ? 2 : VF_TILE_Q, k, padded, scores + j);
        } else {
            simd_score_tile(q, 3 < VF_TILE_Q ? 3 : VF_TILE_Q, k, padded, scores + j);
        }
    }
}

static void simd_attend_soften(float *scores, uint32_t begin, uint32_t end, uint32_t lo, uint32_t hi, float scale,
                               float softcap, float *max, float *sum)
{
    uint32_t first = begin / VF_N * VF_N;
    vf factor = vf_set(scale), top = vf_set(ATTEND_NONE), total = vf_zero();
    vf cap = vf_set(softcap), capped = vf_set(softcap > 0 ? scale / softcap : 0);
    for (uint32_t i = first; i < end; i += VF_N) {
        vf s = vf_load(scores + i);
        s = softcap > 0 ? vf_mul(cap, vf_tanh(vf_mul(s, capped))) : vf_mul(s, factor);
        s = vf_keep(s, (int32_t)lo - (int32_t)i, (int32_t)hi - (int32_t)i);
        vf_store(scores + i, s);
        top = vf_max(top, s);
    }
    *max = vf_max_lane(top);
    vf shift = vf_set(*max);
    for (uint32_t i = first; i < end; i += VF_N) {
        vf p = vf_exp(vf_sub(vf_load(scores + i), shift));
        vf_store(scores + i, p);
        total = vf_add(total, p);
    }
    *sum = vf_sum(total);
}

/* n_queries × n_vectors (constants where this is inlined) of output over all keys */
static inline __attribute__((always_inline)) void simd_value_tile(const float *p, uint32_t n_queries, const float *v,
                                                                  uint32_t n_keys, uint32_t padded, uint32_t n_vectors,
                                                                  float *out)
{
    vf sums[VF_TILE_Q * VF_TILE_V];
    for (uint32_t i = 0; i < n_queries; i++) {
        for (uint32_t j = 0; j < n_vectors; j++) {
            sums[i * n_vectors + j] = vf_load(out + (size_t)i * padded + j * VF_N);
        }
    }
    for (uint32_t key = 0; key < n_keys; key++, v += padded) {
        vf value[VF_TILE_V];
        for (uint32_t j = 0; j < n_vectors; j++) {
            value[j] = vf_load(v + j * VF_N);
        }
        for (uint32_t i = 0; i < n_queries; i++) {
            vf weight = vf_set(p[(size_t)i * ATTEND_STRIDE + key]);
            for (uint32_t j = 0; j < n_vectors; j++) {
                sums[i * n_vectors + j] = vf_fma(weight, value[j], sums[i * n_vectors + j]);
            }
        }
    }
    for (uint32_t i = 0; i < n_queries; i++) {
        for (uint32_t j = 0; j < n_vectors; j++) {
            vf_store(out + (size_t)i * padded + j * VF_N, sums[i * n_vectors + j]);
        }
    }
}

static inline __attribute__((always_inline)) void simd_value_rows(const float *p, uint32_t n_queries, const float *v,
                                                                  uint32_t n_keys, uint32_t padded, float *out)
{
    uint32_t d = 0;
    for (; d + VF_TILE_V * VF_N <= padded; d += VF_TILE_V * VF_N) {
        simd_value_tile(p, n_queries, v + d, n_keys, padded, VF_TILE_V, out + d);
    }
    for (; d < padded; d += VF_N) {
        simd_value_tile(p, n_queries, v + d, n_keys, padded, 1, out + d);
    }
}

static void simd_attend_values(const float *p, uint32_t n_queries, const float *v, uint32_t n_keys, uint32_t padded,
                               float *out)
{
    uint32_t i = 0;
    for (; i + VF_TILE_Q <= n_queries; i += VF_TILE_Q) {
        simd_value_rows(p + (size_t)i * ATTEND_STRIDE, VF_TILE_Q, v, n_keys, padded, out + (size_t)i * padded);
    }
    p += (size_t)i * ATTEND_STRIDE;
    out += (size_t)i * padded;
    if (n_queries - i == 1) {
        simd_value_rows(p, 1, v, n_keys, padded, out);
    } else if (n_queries - i == 2) {
        simd_value_rows(p, 2 < VF_TILE_Q ? 2 : VF_TILE_Q, v, n_keys, padded, out);
    } else if (n_queries - i == 3) {
        simd_value_rows(p, 3 < VF_TILE_Q ? 3 : VF_TILE_Q, v, n_keys, padded, out);
    }
}

static void simd_attend_fold(attend_sums *into, const attend_sums *block, uint32_t n_queries, uint32_t padded)
{
    for (uint32_t i = 0; i < n_queries; i++) {
        vf old_max = vf_set(into->max[i]), new_max = vf_set(block->max[i]), zero = vf_zero();
        vf a = vf_exp(vf_min(zero, vf_sub(old_max, new_max))), b = vf_exp(vf_min(zero, vf_sub(new_max, old_max)));
        float lanes[VF_N];
        vf_store(lanes, vf_fma(vf_set(block->sum[i]), b, vf_mul(vf_set(into->sum[i]), a)));
        into->sum[i] = lanes[0];
        into->max[i] = into->max[i] > block->max[i] ? into->max[i] : block->max[i];
        float *x = into->out + (size_t)i * padded;
        const float *y = block->out + (size_t)i * padded;
        for (uint32_t d = 0; d < padded; d += VF_N) {
            vf_store(x + d, vf_fma(vf_load(y + d), b, vf_mul(vf_load(x + d), a)));
        }
    }
}

static void simd_attend_fill(attend_kernels *k)
{
    *k = (attend_kernels){.load = simd_attend_load,
                          .scores = simd_attend_scores,
                          .soften = simd_attend_soften,
                          .values = simd_attend_values,
                          .fold = simd_attend_fold};
}

#endif
