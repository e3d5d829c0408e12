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

/* What is to be fetched while n_bytes are met: as many bytes, or `other`, which costs next to nothing as it is at hand;
 * and, in *n, how many times in turn it goes on there, at most *n. What else is due, and what is left of a run that has
 * fewer, is fetched at once: nothing is left out, or it would be waited for later. */
static inline const uint8_t *simd_due(simd_ahead *a, size_t n_bytes, uint32_t *n, const uint8_t *other)
{
    const uint8_t *due = other;
    const uint32_t most = *n;
    for (uint32_t each = a->rows ? a->rows->each : 0; each > 0; each--) {
        while ((size_t)(a->end - a->at) < n_bytes) {
            simd_fetch(a->at, (size_t)(a->end - a->at));
            if (a->run == a->rows->n_runs) {
                a->rows = NULL;
                return due;
            }
            a->at = a->rows->at[a->run];
            a->end = a->at + a->rows->n_bytes[a->run++];
        }
        if (each > 1) {
            simd_fetch(a->at, n_bytes);
            a->at += n_bytes;
            continue;
        }
        due = a->at;
        *n = a->rows->each > 1 ? 1 : (uint32_t)(a->end - a->at) / (uint32_t)n_bytes;
        *n = *n < most ? *n : most;
        a->at += *n * n_bytes;
    }
    return due;
}

/* The rows as n_queries read them: as they lie or, where converting them once is cheaper, in `panel`. */
static attend_rows_at simd_readable(const attend_rows_at *rows, uint32_t n_queries, float *panel)
{
    attend_rows_at readable = *rows;
    if (!attend_direct(rows->type, rows->head_dim, n_queries)) {
        simd_convert(rows, panel);
        readable.at = (const uint8_t *)panel;
        readable.row_bytes = attend_padded(rows->head_dim) * sizeof *panel;
        readable.type = DTYPE_F32;
    }
    return readable;
}

/* A function of its own for each type of rows and number of queries, of which both are constants then: side by side in
 * one they are more than compilers find registers for. SIMD_TABLE makes them by the macro `function`(name, type,
 * n_queries, fetching), and the array of them, name[simd_type(type)][fetching][n_queries − 1]. */
#if VF_TILE_Q == 3
#define SIMD_EACH(function, name, type, fetching)                                                                      \
    function(name##_1, type, 1, fetching) function(name##_2, type, 2, fetching) function(name##_3, type, 3, fetching)
#define SIMD_ROW(name) {name##_1, name##_2, name##_3}
#else
#define SIMD_EACH(function, name, type, fetching)                                                                      \
    function(name##_1, type, 1, fetching) function(name##_2, type, 2, fetching) function(name##_3, type, 3, fetching)  \
        function(name##_4, type, 4, fetching)
#define SIMD_ROW(name) {name##_1, name##_2, name##_3, name##_4}
#endif
_Static_assert(VF_TILE_Q == 3 || VF_TILE_Q == 4, "SIMD_EACH makes functions for as many queries");

enum { SIMD_F16, SIMD_BF16, SIMD_Q8_0, SIMD_Q4_0, SIMD_F32, SIMD_TYPES };

#define SIMD_BOTH(function, name, type)                                                                                \
    SIMD_EACH(function, name, type, false)                                                                             \
    SIMD_EACH(function, name##_ahead, type, true)
#define SIMD_ROWS(name) {SIMD_ROW(name), SIMD_ROW(name##_ahead)}
#define SIMD_TABLE(function_type, function, name)                                                                      \
    SIMD_BOTH(function, name##_f16, DTYPE_F16)                                                                         \
    SIMD_BOTH(function, name##_bf16, DTYPE_BF16)                                                                       \
    SIMD_BOTH(function, name##_q8_0, DTYPE_Q8_0)                                                                       \
    SIMD_BOTH(function, name##_q4_0, DTYPE_Q4_0)                                                                       \
    SIMD_BOTH(function, name##_f32, DTYPE_F32)                                                                         \
    static function_type *const name[SIMD_TYPES][2][VF_TILE_Q] = {[SIMD_F16] = SIMD_ROWS(name##_f16),                  \
                                                                  [SIMD_BF16] = SIMD_ROWS(name##_bf16),                \
                                                                  [SIMD_Q8_0] = SIMD_ROWS(name##_q8_0),                \
                                                                  [SIMD_Q4_0] = SIMD_ROWS(name##_q4_0),                \
                                                                  [SIMD_F32] = SIMD_ROWS(name##_f32)};

static uint32_t simd_type(dtype type)
{
    return type == DTYPE_F16    ? SIMD_F16
           : type == DTYPE_BF16 ? SIMD_BF16
           : type == DTYPE_Q8_0 ? SIMD_Q8_0
           : type == DTYPE_Q4_0 ? SIMD_Q4_0
                                : SIMD_F32;
}

/* Compilers otherwise keep an address for each vector that a loop reads, more than there are registers, and fetch them
 * back from vector registers. */
#define SIMD_HIDE(pointer) __asm__("" : "+r"(pointer))

/* n_queries × 4 keys, which lie at k + offset[j]; the type, n_queries and whether anything is fetched (due is NULL
 * where not) are constants where this is inlined. Loops over sums must unroll early, or gcc keeps a copy of the sums in
 * memory. */
SIMD_INLINE void simd_score_tile(dtype type, const float *q, uint32_t n_queries, bool fetching, const uint8_t *k,
                                 const size_t offset[4], uint32_t padded, float *scores, const uint8_t *due)
{
    const uint32_t span = simd_span(type);
    const size_t met = simd_bytes(type, 4 * span);
    vf sums[4 * VF_TILE_Q];
#pragma GCC unroll 16
    for (uint32_t j = 0; j < 4 * n_queries; j++) {
        sums[j] = vf_zero();
    }
    for (const float *end = q + padded; q < end; q += span, k += simd_offset(type, span)) {
        SIMD_HIDE(q);
        SIMD_HIDE(k);
#pragma GCC unroll 8
        for (uint32_t e = 0; e < span; e += VF_N) {
            vf query[VF_TILE_Q];
#pragma GCC unroll 4
            for (uint32_t i = 0; i < n_queries; i++) {
                query[i] = vf_load(q + (size_t)i * padded + e);
            }
#pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; j++) {
                vf element = simd_element(type, k + offset[j], e);
#pragma GCC unroll 4
                for (uint32_t i = 0; i < n_queries; i++) {
                    sums[4 * i + j] = vf_fma(query[i], element, sums[4 * i + j]);
                }
            }
        }
        if (fetching) {
            simd_fetch(due, met);
            due += met;
        }
    }
    vf_sum_tile(sums, n_queries, scores, ATTEND_STRIDE);
}

/* n times four keys. One that fetches nothing (due is NULL), as most of many queries do, is 6 % faster. */
typedef void simd_score_tiles(const float *q, const uint8_t *k, const size_t offset[4], size_t four_bytes, uint32_t n,
                              uint32_t padded, float *scores, const uint8_t *due);

#define SIMD_SCORE_TILES(name, type, n_queries, fetching)                                                              \
    static __attribute__((noinline)) void name(const float *q, const uint8_t *k, const size_t offset[4],               \
                                               size_t four_bytes, uint32_t n, uint32_t padded, float *scores,          \
                                               const uint8_t *due)                                                     \
    {                                                                                                                  \
        const size_t at[4] = {0, offset[1], offset[2], offset[3]}, met = simd_bytes(type, 4 * padded);                 \
        for (; n > 0; n--, k += four_bytes, scores += 4) {                                                             \
            simd_score_tile(type, q, n_queries, fetching, k, at, padded, scores, due);                                 \
            if (fetching) { /* NULL otherwise */                                                                       \
                due += met;                                                                                            \
            }                                                                                                          \
        }                                                                                                              \
    }
SIMD_TABLE(simd_score_tiles, SIMD_SCORE_TILES, simd_scores)

/* n_queries ≤ VF_TILE_Q against all keys, four at a time. The last four may be partly those before or, where there are
 * fewer than four, the last key again: a score has the same bits wherever it is computed. */
static void simd_score_rows(simd_score_tiles *tiles, const float *q, const attend_rows_at *rows, size_t met,
                            uint32_t padded, float *scores, const attend_fetch *ahead)
{
    const uint32_t n_keys = rows->n_rows, last = n_keys < 4 ? n_keys - 1 : 3;
    const size_t bytes = rows->row_bytes,
                 offset[4] = {0, (last < 1 ? last : 1) * bytes, (last < 2 ? last : 2) * bytes, last * bytes};
    simd_ahead fetched = {.rows = ahead};
    for (uint32_t j = 0; j < n_keys;) {
        uint32_t whole = (n_keys - j) / 4, n = whole ? whole : 1, first = whole || n_keys < 4 ? j : n_keys - 4;
        const uint8_t *k = rows->at + first * bytes, *due = ahead ? simd_due(&fetched, met, &n, k) : NULL;
        tiles(q, k, offset, 4 * bytes, n, padded, scores + first, due);
        j += 4 * n;
    }
}

static void simd_attend_scores(const float *q, uint32_t n_queries, const attend_rows_at *keys, float *panel,
                               float *scores, const attend_fetch *ahead)
{
    const uint32_t padded = attend_padded(keys->head_dim);
    const attend_rows_at rows = simd_readable(keys, n_queries, panel);
    simd_score_tiles *const(*tiles)[VF_TILE_Q] = simd_scores[simd_type(rows.type)];
    const size_t met = simd_bytes(rows.type, 4 * padded);
    for (uint32_t n; n_queries > 0; n_queries -= n, ahead = NULL) { /* the first queries fetch what lies ahead */
        n = n_queries < VF_TILE_Q ? n_queries : VF_TILE_Q;
        simd_score_rows(tiles[ahead != NULL][n - 1], q, &rows, met, padded, scores, ahead);
        q += n * (size_t)padded;
        scores += n * (size_t)ATTEND_STRIDE;
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
        if (i < lo || i + VF_N > hi) { /* only at the ends of what is seen */
            s = vf_keep(s, (int32_t)lo - (int32_t)i, (int32_t)hi - (int32_t)i);
        }
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

/* n_queries × n_vectors of output over all keys; these two, the type and whether anything is fetched (`fetched` is NULL
 * where not) are constants where this is inlined */
SIMD_INLINE void simd_value_tile(dtype type, const float *p, uint32_t n_queries, const attend_rows_at *rows,
                                 uint32_t first, uint32_t n_vectors, bool fresh, uint32_t padded, float *out,
                                 simd_ahead *fetched)
{
    vf sums[VF_TILE_Q * VF_TILE_V];
    float *to[VF_TILE_Q];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n_queries; i++) {
        to[i] = out + (size_t)i * padded + first;
        SIMD_HIDE(to[i]);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < n_vectors; j++) {
            sums[i * n_vectors + j] = fresh ? vf_zero() : vf_load(to[i] + j * VF_N);
        }
    }
    /* whole spans begin where a span does: constants then, and a scale is read once for them all */
    uint32_t within = n_vectors * VF_N % simd_span(type) ? first % simd_span(type) : 0;
    const uint8_t *v = rows->at + simd_offset(type, first - within);
    const size_t met = simd_bytes(type, n_vectors * VF_N);
    for (uint32_t key = 0; key < rows->n_rows;) {
        uint32_t n = (rows->n_rows - key + 3) / 4;
        const uint8_t *due = fetched ? simd_due(fetched, 4 * met, &n, v) : NULL;
        const uint32_t end = rows->n_rows - key < 4 * n ? rows->n_rows : key + 4 * n;
        for (; key < end; key++, v += rows->row_bytes) {
#pragma GCC unroll 4
            for (uint32_t j = 0; j < n_vectors; j++) {
                vf value = simd_element(type, v, within + j * VF_N);
#pragma GCC unroll 4
                for (uint32_t i = 0; i < n_queries; i++) {
                    sums[i * n_vectors + j] = vf_fma_at(p + (size_t)i * ATTEND_STRIDE + key, value,
                                                        sums[i * n_vectors + j]);
                }
            }
            if (fetched) {
                simd_fetch(due, met);
                due += met;
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n_queries; i++) {
#pragma GCC unroll 4
        for (uint32_t j = 0; j < n_vectors; j++) {
            vf_store(to[i] + j * VF_N, sums[i * n_vectors + j]);
        }
    }
}

/* All elements. */
typedef void simd_value_rows(const float *p, const attend_rows_at *rows, bool fresh, uint32_t padded, float *out,
                             const attend_fetch *ahead);

#define SIMD_VALUE_ROWS(name, type, n_queries, fetching)                                                               \
    static __attribute__((noinline)) void name(const float *p, const attend_rows_at *rows, bool fresh,                 \
                                               uint32_t padded, float *out, const attend_fetch *ahead)                 \
    {                                                                                                                  \
        simd_ahead begin = {.rows = ahead}, *fetched = fetching ? &begin : NULL;                                       \
        uint32_t d = 0;                                                                                                \
        for (; d + VF_TILE_V * VF_N <= padded; d += VF_TILE_V * VF_N) {                                                \
            simd_value_tile(type, p, n_queries, rows, d, VF_TILE_V, fresh, padded, out, fetched);                      \
        }                                                                                                              \
        for (; d < padded; d += VF_N) {                                                                                \
            simd_value_tile(type, p, n_queries, rows, d, 1, fresh, padded, out, fetched);                              \
        }                                                                                                              \
    }
SIMD_TABLE(simd_value_rows, SIMD_VALUE_ROWS, simd_values)

static void simd_attend_values(const float *p, uint32_t n_queries, const attend_rows_at *values, bool fresh,
                               float *panel, float *out, const attend_fetch *ahead)
{
    const uint32_t padded = attend_padded(values->head_dim);
    const attend_rows_at rows = simd_readable(values, n_queries, panel);
    simd_value_rows *const(*meet)[VF_TILE_Q] = simd_values[simd_type(rows.type)];
    for (uint32_t n; n_queries > 0; n_queries -= n, ahead = NULL) {
        n = n_queries < VF_TILE_Q ? n_queries : VF_TILE_Q;
        meet[ahead != NULL][n - 1](p, &rows, fresh, padded, out, ahead);
        p += n * (size_t)ATTEND_STRIDE;
        out += n * (size_t)padded;
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
