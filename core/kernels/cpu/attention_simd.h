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
#include "kernels/cpu/kv_row_simd.h"
#include "kernels/cpu/simd_math.h"
#include "quant/codec.h"

#define SIMD_INLINE static inline __attribute__((always_inline))

/* VF_N elements of a row; `type` is a constant where this is inlined. A scale times a whole number is exact, so a
 * quantised element has the same bits wherever it is converted. */
SIMD_INLINE vf simd_element(dtype type, const uint8_t *row, uint32_t i)
{
    const uint8_t *block;
    switch (type) {
    case DTYPE_Q8_0:
        block = row + i / KV_BLOCK * 34;
        return vf_mul(vf_load_half(block), vf_load_i8(block + 2 + i % KV_BLOCK));
    case DTYPE_Q4_0:
        block = row + i / KV_BLOCK * 18;
        return vf_mul(vf_load_half(block), vf_load_q4(block + 2, i % KV_BLOCK));
    case DTYPE_F16:
        return vf_load_f16(row + 2 * (size_t)i);
    case DTYPE_BF16:
        return vf_load_bf16(row + 2 * (size_t)i);
    default:
        return vf_load((const float *)(const void *)row + i);
    }
}

SIMD_INLINE void simd_convert_rows(dtype type, const attend_rows_at *rows, float *panel)
{
    uint32_t n = rows->head_dim, padded = attend_padded(n);
    for (uint32_t r = 0; r < rows->n_rows; r++, panel += padded) {
        const uint8_t *row = rows->at + r * rows->row_bytes;
        uint32_t i = 0;
        for (; i + VF_N <= n; i += VF_N) {
            vf_store(panel + i, simd_element(type, row, i));
        }
        if (i < n) {
            codec_decode(type, row + dtype_row_bytes(type, i), panel + i, n - i);
        }
        if (n < padded) {
            memset(panel + n, 0, (padded - n) * sizeof *panel);
        }
    }
}

/* Elements that share a scale, or one vector of those that have none: the step of loops over a row. */
SIMD_INLINE uint32_t simd_span(dtype type)
{
    return type == DTYPE_Q8_0 || type == DTYPE_Q4_0 ? KV_BLOCK : VF_N;
}

/* Bytes before element i, which begins a span, of a row. */
SIMD_INLINE size_t simd_offset(dtype type, uint32_t i)
{
    return type == DTYPE_F32                         ? 4 * (size_t)i
           : type == DTYPE_F16 || type == DTYPE_BF16 ? 2 * (size_t)i
           : type == DTYPE_Q8_0                      ? i / KV_BLOCK * (size_t)34
                                                     : i / KV_BLOCK * (size_t)18;
}

/* Rows as padded f32. */
static void simd_convert(const attend_rows_at *rows, float *panel)
{
    switch (rows->type) {
    case DTYPE_F16:
        simd_convert_rows(DTYPE_F16, rows, panel);
        break;
    case DTYPE_BF16:
        simd_convert_rows(DTYPE_BF16, rows, panel);
        break;
    case DTYPE_Q8_0:
        simd_convert_rows(DTYPE_Q8_0, rows, panel);
        break;
    case DTYPE_Q4_0:
        simd_convert_rows(DTYPE_Q4_0, rows, panel);
        break;
    default:
        simd_convert_rows(DTYPE_F32, rows, panel);
        break;
    }
}

/* Bytes that n elements take, rounded up. */
SIMD_INLINE size_t simd_bytes(dtype type, uint32_t n)
{
    return (n * simd_offset(type, KV_BLOCK) + KV_BLOCK - 1) / KV_BLOCK;
}

/* Where the fetching of an attend_fetch has got to. */
typedef struct simd_ahead {
    const attend_fetch *rows; /* NULL: nothing is fetched */
    const uint8_t *at, *end;  /* of this run */
    uint32_t run;             /* the next one */
} simd_ahead;

/* Lines into L2: it is too early for L1. */
SIMD_INLINE void simd_fetch(const uint8_t *at, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i += 64) {
        __builtin_prefetch(at + i, 0, 2);
    }
}

/* What is to be fetched while n_bytes are met: as many bytes, or `other`, which costs next to nothing as it is at hand.
 * What else is due, and what is left of a run that has fewer, is fetched at once: nothing is left out, or it would be
 * waited for later. */
static inline const uint8_t *simd_due(simd_ahead *a, size_t n_bytes, const uint8_t *other)
{
    const uint8_t *due = other;
    for (uint32_t n = a->rows ? a->rows->each : 0; n > 0; n--) {
        while ((size_t)(a->end - a->at) < n_bytes) {
            simd_fetch(a->at, (size_t)(a->end - a->at));
            if (a->run == a->rows->n_runs) {
                a->rows = NULL;
                return due;
            }
            a->at = a->rows->at[a->run];
            a->end = a->at + a->rows->n_bytes[a->run++];
        }
        if (n == 1) {
            due = a->at;
        } else {
            simd_fetch(a->at, n_bytes);
        }
        a->at += n_bytes;
    }
    return due;
}

/* n_queries × 4 keys; the type and n_queries are constants where this is inlined */
SIMD_INLINE void simd_score_tile(dtype type, const float *q, uint32_t n_queries, const uint8_t *const k[4],
                                 uint32_t padded, float *scores, simd_ahead *fetched)
{
    const size_t met = simd_bytes(type, 4 * simd_span(type));
    const uint8_t *due = simd_due(fetched, simd_bytes(type, 4 * padded), k[0]);
    vf sums[4 * VF_TILE_Q];
    for (uint32_t j = 0; j < 4 * n_queries; j++) {
        sums[j] = vf_zero();
    }
    for (uint32_t d = 0; d < padded; d += simd_span(type)) {
        for (uint32_t e = 0; e < simd_span(type); e += VF_N) {
            vf query[VF_TILE_Q];
            for (uint32_t i = 0; i < n_queries; i++) {
                query[i] = vf_load(q + (size_t)i * padded + d + e);
            }
            for (uint32_t j = 0; j < 4; j++) {
                vf element = simd_element(type, k[j] + simd_offset(type, d), e);
                for (uint32_t i = 0; i < n_queries; i++) {
                    sums[4 * i + j] = vf_fma(query[i], element, sums[4 * i + j]);
                }
            }
        }
        simd_fetch(due, met);
        due += met;
    }
    vf_sum_tile(sums, n_queries, scores, ATTEND_STRIDE);
}

/* Queries [i, i + n_queries) against all keys, four at a time, of which the last ones may be the last key again; the
 * first tile fetches what lies ahead. */
SIMD_INLINE void simd_score_rows(dtype type, const float *q, uint32_t n_queries, const uint8_t *k, size_t row_bytes,
                                 uint32_t n_keys, uint32_t padded, float *scores, const attend_fetch *ahead)
{
    simd_ahead fetched = {.rows = ahead};
    for (uint32_t j = 0; j < n_keys; j += 4) {
        const uint8_t *const first = k + j * row_bytes;
        const size_t last = n_keys - j < 4 ? (n_keys - j - 1) * row_bytes : 3 * row_bytes;
        const uint8_t *const keys[4] = {first, first + (row_bytes < last ? row_bytes : last),
                                        first + (2 * row_bytes < last ? 2 * row_bytes : last), first + last};
        simd_score_tile(type, q, n_queries, keys, padded, scores + j, &fetched);
    }
}

SIMD_INLINE void simd_score_all(dtype type, const float *q, uint32_t n_queries, const uint8_t *k, size_t row_bytes,
                                uint32_t n_keys, uint32_t padded, float *scores, const attend_fetch *ahead)
{
    for (; n_queries >= VF_TILE_Q; n_queries -= VF_TILE_Q) {
        simd_score_rows(type, q, VF_TILE_Q, k, row_bytes, n_keys, padded, scores, ahead);
        q += VF_TILE_Q * (size_t)padded;
        scores += VF_TILE_Q * (size_t)ATTEND_STRIDE;
        ahead = NULL;
    }
    if (n_queries == 1) {
        simd_score_rows(type, q, 1, k, row_bytes, n_keys, padded, scores, ahead);
    } else if (n_queries == 2) {
        simd_score_rows(type, q, 2 < VF_TILE_Q ? 2 : VF_TILE_Q, k, row_bytes, n_keys, padded, scores, ahead);
    } else if (n_queries == 3) {
        simd_score_rows(type, q, 3 < VF_TILE_Q ? 3 : VF_TILE_Q, k, row_bytes, n_keys, padded, scores, ahead);
    }
}

static void simd_attend_scores(const float *q, uint32_t n_queries, const attend_rows_at *keys, float *panel,
                               float *scores, const attend_fetch *ahead)
{
    uint32_t padded = attend_padded(keys->head_dim);
    attend_rows_at rows = *keys;
    if (!attend_direct(keys->type, keys->head_dim, n_queries)) {
        simd_convert(keys, panel);
        rows.at = (const uint8_t *)panel;
        rows.row_bytes = padded * sizeof *panel;
        rows.type = DTYPE_F32;
    }
    switch (rows.type) {
    case DTYPE_F16:
        simd_score_all(DTYPE_F16, q, n_queries, rows.at, rows.row_bytes, rows.n_rows, padded, scores, ahead);
        break;
    case DTYPE_BF16:
        simd_score_all(DTYPE_BF16, q, n_queries, rows.at, rows.row_bytes, rows.n_rows, padded, scores, ahead);
        break;
    case DTYPE_Q8_0:
        simd_score_all(DTYPE_Q8_0, q, n_queries, rows.at, rows.row_bytes, rows.n_rows, padded, scores, ahead);
        break;
    case DTYPE_Q4_0:
        simd_score_all(DTYPE_Q4_0, q, n_queries, rows.at, rows.row_bytes, rows.n_rows, padded, scores, ahead);
        break;
    default:
        simd_score_all(DTYPE_F32, q, n_queries, rows.at, rows.row_bytes, rows.n_rows, padded, scores, ahead);
        break;
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

/* n_queries × n_vectors of output over all keys; these two and the type are constants where this is inlined */
SIMD_INLINE void simd_value_tile(dtype type, const float *p, uint32_t n_queries, const attend_rows_at *rows,
                                 uint32_t first, uint32_t n_vectors, bool fresh, uint32_t padded, float *out,
                                 simd_ahead *fetched)
{
    vf sums[VF_TILE_Q * VF_TILE_V];
    for (uint32_t i = 0; i < n_queries; i++) {
        for (uint32_t j = 0; j < n_vectors; j++) {
            sums[i * n_vectors + j] = fresh ? vf_zero() : vf_load(out + (size_t)i * padded + first + j * VF_N);
        }
    }
    /* whole spans begin where a span does: constants then, and a scale is read once for them all */
    uint32_t within = n_vectors * VF_N % simd_span(type) ? first % simd_span(type) : 0;
    const uint8_t *v = rows->at + simd_offset(type, first - within);
    const size_t met = simd_bytes(type, n_vectors * VF_N);
    for (uint32_t key = 0; key < rows->n_rows;) {
        const uint32_t end = rows->n_rows - key < 4 ? rows->n_rows : key + 4;
        const uint8_t *due = simd_due(fetched, 4 * met, v);
        for (; key < end; key++, v += rows->row_bytes, due += met) {
            vf weight[VF_TILE_Q];
            for (uint32_t i = 0; i < n_queries; i++) {
                weight[i] = vf_set(p[(size_t)i * ATTEND_STRIDE + key]);
            }
            for (uint32_t j = 0; j < n_vectors; j++) {
                vf value = simd_element(type, v, within + j * VF_N);
                for (uint32_t i = 0; i < n_queries; i++) {
                    sums[i * n_vectors + j] = vf_fma(weight[i], value, sums[i * n_vectors + j]);
                }
            }
            simd_fetch(due, met);
        }
    }
    for (uint32_t i = 0; i < n_queries; i++) {
        for (uint32_t j = 0; j < n_vectors; j++) {
            vf_store(out + (size_t)i * padded + first + j * VF_N, sums[i * n_vectors + j]);
        }
    }
}

SIMD_INLINE void simd_value_rows(dtype type, const float *p, uint32_t n_queries, const attend_rows_at *rows, bool fresh,
                                 uint32_t padded, float *out, const attend_fetch *ahead)
{
    simd_ahead fetched = {.rows = ahead};
    uint32_t d = 0;
    for (; d + VF_TILE_V * VF_N <= padded; d += VF_TILE_V * VF_N) {
        simd_value_tile(type, p, n_queries, rows, d, VF_TILE_V, fresh, padded, out, &fetched);
    }
    for (; d < padded; d += VF_N) {
        simd_value_tile(type, p, n_queries, rows, d, 1, fresh, padded, out, &fetched);
    }
}

SIMD_INLINE void simd_value_all(dtype type, const float *p, uint32_t n_queries, const attend_rows_at *rows, bool fresh,
                                uint32_t padded, float *out, const attend_fetch *ahead)
{
    for (; n_queries >= VF_TILE_Q; n_queries -= VF_TILE_Q) {
        simd_value_rows(type, p, VF_TILE_Q, rows, fresh, padded, out, ahead);
        p += VF_TILE_Q * (size_t)ATTEND_STRIDE;
        out += VF_TILE_Q * (size_t)padded;
        ahead = NULL;
    }
    if (n_queries == 1) {
        simd_value_rows(type, p, 1, rows, fresh, padded, out, ahead);
    } else if (n_queries == 2) {
        simd_value_rows(type, p, 2 < VF_TILE_Q ? 2 : VF_TILE_Q, rows, fresh, padded, out, ahead);
    } else if (n_queries == 3) {
        simd_value_rows(type, p, 3 < VF_TILE_Q ? 3 : VF_TILE_Q, rows, fresh, padded, out, ahead);
    }
}

static void simd_attend_values(const float *p, uint32_t n_queries, const attend_rows_at *values, bool fresh,
                               float *panel, float *out, const attend_fetch *ahead)
{
    uint32_t padded = attend_padded(values->head_dim);
    attend_rows_at rows = *values;
    if (!attend_direct(values->type, values->head_dim, n_queries)) {
        simd_convert(values, panel);
        rows.at = (const uint8_t *)panel;
        rows.row_bytes = padded * sizeof *panel;
        rows.type = DTYPE_F32;
    }
    switch (rows.type) {
    case DTYPE_F16:
        simd_value_all(DTYPE_F16, p, n_queries, &rows, fresh, padded, out, ahead);
        break;
    case DTYPE_BF16:
        simd_value_all(DTYPE_BF16, p, n_queries, &rows, fresh, padded, out, ahead);
        break;
    case DTYPE_Q8_0:
        simd_value_all(DTYPE_Q8_0, p, n_queries, &rows, fresh, padded, out, ahead);
        break;
    case DTYPE_Q4_0:
        simd_value_all(DTYPE_Q4_0, p, n_queries, &rows, fresh, padded, out, ahead);
        break;
    default:
        simd_value_all(DTYPE_F32, p, n_queries, &rows, fresh, padded, out, ahead);
        break;
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

static void simd_attend_finish(const attend_sums *sums, const float *factors, uint32_t n_queries, uint32_t head_dim,
                               float *out)
{
    uint32_t padded = attend_padded(head_dim);
    for (uint32_t i = 0; i < n_queries; i++) {
        const float *x = sums->out + (size_t)i * padded;
        float *y = out + (size_t)i * head_dim;
        vf factor = vf_set(factors[i]);
        uint32_t d = 0;
        for (; d + VF_N <= head_dim; d += VF_N) {
            vf_store(y + d, vf_mul(vf_load(x + d), factor));
        }
        for (; d < head_dim; d++) {
            y[d] = x[d] * factors[i];
        }
    }
}

static void simd_attend_fill(attend_kernels *k)
{
    *k = (attend_kernels){.scores = simd_attend_scores,
                          .soften = simd_attend_soften,
                          .values = simd_attend_values,
                          .fold = simd_attend_fold,
                          .finish = simd_attend_finish,
                          .turn = simd_turn};
}

#endif
