/*
 * Attention over a KV cache of words (kv_words.h), compiled once for each simd_*.h: the bodies. The including file says
 * how pairs of words are multiplied and added to sums of 32 bits, vi_dot(sums, a, b), and how many sums fit its
 * registers: VI_KEY_Q queries against a part's keys, VI_VALUE_Q queries against 32 elements of values.
 * Owner: none. Lifetime: the call.
 *
 * Sums of words are exact, so they have the same bits whatever other queries share a tile; what is made of them in
 * floats is one query's, in the order of parts.
 */
#ifndef MLXR_KERNELS_CPU_ATTENTION_WORDS_H
#define MLXR_KERNELS_CPU_ATTENTION_WORDS_H

#include "kernels/cpu/attention.h"
#include "kernels/cpu/ops.h"

#define WORDS_INLINE static inline __attribute__((always_inline))
#define WORDS_V (KV_HALF / VF_N) /* vectors of a half's keys, or of 16 elements */

/* kv_words_encode_scalar; the sums of squares are its lanes. */
static float words_encode(kv_words_kind kind, const float *src, uint32_t n, int16_t *words)
{
    vf most = vf_zero(), bad = vf_zero(), sums[KV_WORDS_LANES / VF_N];
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf a = vf_load(src + i);
        most = vf_max(most, vf_max(a, vf_sub(vf_zero(), a)));
        bad = vf_add(bad, vf_sub(a, a));
    }
    float top = vf_max_lane(most), factor, squares[KV_WORDS_LANES];
    bool is_bad = vf_sum(bad) != 0;
    if (is_bad || top < KV_WORDS_LEAST) {
        memset(words, 0, n * sizeof *words);
        return is_bad ? NAN : 0.0f;
    }
    vf inverse = vf_set(1.0f / top);
    for (uint32_t j = 0; j < KV_WORDS_LANES / VF_N; j++) {
        sums[j] = vf_zero();
    }
    for (uint32_t i = 0; kind == KV_WORDS_KEY && i < n; i += KV_WORDS_LANES) {
        for (uint32_t j = 0; j < KV_WORDS_LANES / VF_N; j++) {
            vf x = vf_mul(vf_load(src + i + j * VF_N), inverse);
            sums[j] = vf_add(sums[j], vf_mul(x, x));
        }
    }
    for (uint32_t j = 0; j < KV_WORDS_LANES / VF_N; j++) {
        vf_store(squares + j * VF_N, sums[j]);
    }
    float scale = kv_words_scale(kind, top, squares, &factor);
    vf by = vf_set(factor);
    for (uint32_t i = 0; i < n; i += VF_N) {
        vf_store_i16(words + i, vf_round(vf_mul(vf_mul(vf_load(src + i), inverse), by)));
    }
    return scale;
}

/* Where the fetching of an attend_fetch has got to. */
typedef struct words_ahead {
    const attend_fetch *rows;
    const uint8_t *at, *end;
    uint32_t run;
} words_ahead;

static inline void words_fetch(const uint8_t *at, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i += 64) {
        __builtin_prefetch(at + i, 0, 2);
    }
}

/* What is to be fetched, line by line, while n_bytes are met: as many bytes, or `other`, which costs next to nothing as
 * it is at hand. What else is due, and what is left of a run that has fewer, is fetched at once. */
static const uint8_t *words_due(words_ahead *a, size_t n_bytes, const uint8_t *other)
{
    const uint8_t *due = other;
    for (uint32_t each = a->rows->each; each > 0; each--) {
        while ((size_t)(a->end - a->at) < n_bytes) {
            words_fetch(a->at, (size_t)(a->end - a->at));
            a->at = a->end = NULL;
            if (a->run == a->rows->n_runs) {
                return other;
            }
            a->at = a->rows->at[a->run];
            a->end = a->at + a->rows->n_bytes[a->run++];
        }
        if (each > 1) {
            words_fetch(a->at, n_bytes);
        } else {
            due = a->at;
        }
        a->at += n_bytes;
    }
    return due;
}

/* n_queries × n_halves, both constants, of a part's keys; with few of them two chains of sums keep the multipliers
 * busy. A step is two pairs of elements, 128 bytes of each half. */
WORDS_INLINE void words_score_tile(const int16_t *q, const float *q_scales, uint32_t n_queries, uint32_t n_halves,
                                   uint32_t n, const uint8_t *k, float *scores, words_ahead *ahead)
{
    const uint32_t n_vectors = n_halves * WORDS_V, n_sums = n_queries * n_vectors;
    const size_t half = kv_words_half(n);
    vi sums[2 * VI_KEY_Q * 2 * WORDS_V];
#pragma GCC unroll 64
    for (uint32_t i = 0; i < 2 * n_sums; i++) {
        sums[i] = vi_zero();
    }
    const bool two = n_sums < 8;
    const uint8_t *due = ahead ? words_due(ahead, n_halves * half, k) : NULL;
    for (const int16_t *end = q + n; q < end; q += 4, k += 8 * KV_HALF) {
#pragma GCC unroll 2
        for (uint32_t s = 0; s < 2; s++) {
            vi pair[VI_KEY_Q];
#pragma GCC unroll 16
            for (uint32_t i = 0; i < n_queries; i++) {
                pair[i] = vi_pair(q + (size_t)i * n + 2 * s);
            }
#pragma GCC unroll 16
            for (uint32_t j = 0; j < n_vectors; j++) {
                vi key = vi_load(k + j / WORDS_V * half + s * 4 * KV_HALF + j % WORDS_V * 4 * VF_N);
#pragma GCC unroll 16
                for (uint32_t i = 0; i < n_queries; i++) {
                    const uint32_t at = (two ? s * n_sums : 0) + i * n_vectors + j;
                    sums[at] = vi_dot(sums[at], key, pair[i]);
                }
            }
        }
        if (ahead) {
            words_fetch(due, 8 * KV_HALF * n_halves);
            due += 8 * KV_HALF * n_halves;
        }
    }
    if (ahead) {
        words_fetch(due, n_halves * KV_HALF * sizeof(float)); /* scales */
    }
#pragma GCC unroll 16
    for (uint32_t i = 0; i < n_queries; i++) {
        vf scale = vf_set(q_scales[i]);
#pragma GCC unroll 16
        for (uint32_t j = 0; j < n_vectors; j++) {
            const uint32_t at = i * n_vectors + j;
            const float *scales = (const float *)(const void *)(k + j / WORDS_V * half) + j % WORDS_V * VF_N;
            vi sum = two ? vi_add(sums[at], sums[n_sums + at]) : sums[at];
            vf_store(scores + (size_t)i * ATTEND_STRIDE + j * VF_N,
                     vf_mul(vi_float(sum), vf_mul(scale, vf_load(scales))));
        }
    }
}

typedef void words_score_tiles(const int16_t *q, const float *q_scales, uint32_t n, const uint8_t *k, float *scores,
                               words_ahead *ahead);

#define WORDS_SCORES_OF(name, n_queries, n_halves, fetched)                                                            \
    static __attribute__((noinline)) void name(const int16_t *q, const float *q_scales, uint32_t n, const uint8_t *k,  \
                                               float *scores, words_ahead *ahead)                                      \
    {                                                                                                                  \
        (void)ahead;                                                                                                   \
        words_score_tile(q, q_scales, n_queries, n_halves, n, k, scores, fetched);                                     \
    }
#define WORDS_SCORES(n)                                                                                                \
    WORDS_SCORES_OF(words_scores_##n, n, 2, NULL)                                                                      \
    WORDS_SCORES_OF(words_scores_ahead_##n, n, 2, ahead)                                                               \
    WORDS_SCORES_OF(words_scores_half_##n, n, 1, NULL)                                                                 \
    WORDS_SCORES_OF(words_scores_ahead_half_##n, n, 1, ahead)
#define WORDS_SCORE_ROW(n)                                                                                             \
    {                                                                                                                  \
        {words_scores_half_##n, words_scores_##n},                                                                     \
        {                                                                                                              \
            words_scores_ahead_half_##n, words_scores_ahead_##n                                                        \
        }                                                                                                              \
    }
WORDS_SCORES(1)
WORDS_SCORES(2)
#if VI_KEY_Q == 8
WORDS_SCORES(3)
WORDS_SCORES(4)
WORDS_SCORES(5)
WORDS_SCORES(6)
WORDS_SCORES(7)
WORDS_SCORES(8)
static words_score_tiles *const words_scores_of[VI_KEY_Q][2][2] = {
    WORDS_SCORE_ROW(1), WORDS_SCORE_ROW(2), WORDS_SCORE_ROW(3), WORDS_SCORE_ROW(4),
    WORDS_SCORE_ROW(5), WORDS_SCORE_ROW(6), WORDS_SCORE_ROW(7), WORDS_SCORE_ROW(8)};
#else
static words_score_tiles *const words_scores_of[VI_KEY_Q][2][2] = {WORDS_SCORE_ROW(1), WORDS_SCORE_ROW(2)};
#endif

/* n queries in as few tiles of at most `most` as there must be: so many in the next. */
static inline uint32_t words_tile(uint32_t n, uint32_t most)
{
    uint32_t n_tiles = (n + most - 1) / most;
    return (n + n_tiles - 1) / n_tiles;
}

static void words_scores(const int16_t *q, const float *q_scales, uint32_t n_queries, const words_part *keys,
                         float *scores, const attend_fetch *ahead)
{
    const uint32_t head_dim = keys->head_dim, from = keys->first / KV_HALF,
                   n_halves = (keys->end - 1) / KV_HALF + 1 - from;
    const uint8_t *k = keys->at + from * kv_words_half(head_dim);
    words_ahead fetched = {.rows = ahead};
    scores += from * KV_HALF;
    for (uint32_t n, first = 1; n_queries > 0; n_queries -= n, first = 0) { /* the first fetch what lies ahead */
        n = words_tile(n_queries, VI_KEY_Q);
        words_scores_of[n - 1][first][n_halves - 1](q, q_scales, head_dim, k, scores, &fetched);
        q += n * (size_t)head_dim;
        q_scales += n;
        scores += n * (size_t)ATTEND_STRIDE;
    }
    words_due(&fetched, SIZE_MAX, NULL); /* what is left */
}

static inline const float *words_scales(const words_part *part, uint32_t lane)
{
    const uint8_t *half = part->at + lane / KV_HALF * kv_words_half(part->head_dim);
    return (const float *)(const void *)(half + kv_words_bytes(part->head_dim)) + lane % KV_HALF;
}

/* The weights exp(score − max) × scale of a value, of one query and block, made words with a common scale; they take
 * the scores' place. Returns the scale. What lies before `begin` or behind `end` is 0, as is what has no weight,
 * whatever its scale: it may be of a row never written. */
static float words_weights(float *scores, const words_part *parts, uint32_t n_parts, uint32_t begin, uint32_t end)
{
    const uint32_t first = begin / VF_N * VF_N;
    vf most = vf_zero(), fullest = vf_zero(), all = vf_zero();
    int16_t *words = (int16_t *)(void *)scores;
    for (uint32_t p = 0; p < n_parts; p++) {
        const uint32_t from = parts[p].from;
        vf part = vf_zero();
        for (uint32_t i = 0; i < KV_PART; i += VF_N) {
            vf w = vf_zero();
            if (from + i >= first && from + i < end) {
                vf weight = vf_load(scores + from + i);
                w = vf_zero_below(vf_mul(weight, vf_load(words_scales(&parts[p], i))), weight, 0x1p-126f);
            }
            vf_store(scores + from + i, w);
            most = vf_max(most, w);
            part = vf_add(part, w);
        }
        fullest = vf_max(fullest, part);
        all = vf_add(all, part);
    }
    /* No part's sum is more than that of the lanes' greatest; all − all is NaN where something is. */
    float top = vf_max_lane(most), sum = vf_sum(vf_add(fullest, vf_sub(all, all)));
    float factor = KV_WORDS_TOP / top, by_sum = KV_WEIGHTS_SUM / sum;
    factor = factor < by_sum ? factor : by_sum;
    factor = top < KV_WORDS_LEAST && sum == sum ? 0 : factor;
    vf by = vf_set(factor);
    for (uint32_t p = 0; p < n_parts; p++) {
        for (uint32_t i = parts[p].from; i < parts[p].from + KV_PART; i += VF_N) {
            vf_store_i16(words + i, vf_mul(vf_load(scores + i), by));
        }
    }
    return factor > 0 ? 1.0f / factor : factor; /* 0 or NaN */
}

/* n_queries, a constant, × 32 × n_columns elements of all parts. */
WORDS_INLINE void words_value_tile(const float *weights, const float *units, uint32_t n_queries, uint32_t n_columns,
                                   const words_part *parts, uint32_t n_parts, uint32_t column, float *out,
                                   words_ahead *ahead)
{
    const uint32_t n_vectors = n_columns * 2 * WORDS_V, padded = parts->head_dim;
    const size_t sixteen = (size_t)KV_HALF * 32, half = kv_words_half(padded); /* bytes of 16 elements of a half */
    out += 32 * column;
    for (uint32_t p = 0; p < n_parts; p++) {
        const words_part *part = &parts[p];
        const int16_t *w = (const int16_t *)(const void *)weights + part->from;
        vi sums[VI_VALUE_Q * VI_VALUE_COLUMNS * 2 * WORDS_V];
#pragma GCC unroll 64
        for (uint32_t i = 0; i < n_queries * n_vectors; i++) {
            sums[i] = vi_zero();
        }
        const uint32_t end = (part->end + 1) / 2;
        const size_t met = 128 * n_columns; /* bytes of a pair of positions */
        for (uint32_t j = part->first / 2, last; j < end; j = last) {
            const uint8_t *v = part->at + j / (KV_HALF / 2) * half + column * 2 * sixteen + j % (KV_HALF / 2) * 64;
            last = j < KV_HALF / 2 && end > KV_HALF / 2 ? KV_HALF / 2 : end;
            const uint8_t *due = ahead ? words_due(ahead, (last - j) * met, v) : NULL;
            for (; j < last; j++, v += 64) {
                vi pair[VI_VALUE_Q];
#pragma GCC unroll 16
                for (uint32_t i = 0; i < n_queries; i++) {
                    pair[i] = vi_pair(w + (size_t)i * ATTEND_STRIDE * 2 + 2 * j);
                }
#pragma GCC unroll 16
                for (uint32_t e = 0; e < n_vectors; e++) {
                    vi value = vi_load(v + e / WORDS_V * sixteen + e % WORDS_V * 4 * VF_N);
#pragma GCC unroll 16
                    for (uint32_t i = 0; i < n_queries; i++) {
                        sums[i * n_vectors + e] = vi_dot(sums[i * n_vectors + e], value, pair[i]);
                    }
                }
                if (ahead) {
                    words_fetch(due, met);
                    due += met;
                }
            }
        }
#pragma GCC unroll 16
        for (uint32_t i = 0; i < n_queries; i++) {
            float *to = out + (size_t)i * padded;
            vf unit = vf_set(units[i]);
#pragma GCC unroll 16
            for (uint32_t e = 0; e < n_vectors; e++) {
                vf sum = vi_float(sums[i * n_vectors + e]);
                vf_store(to + e * VF_N, p ? vf_fma(sum, unit, vf_load(to + e * VF_N)) : vf_mul(sum, unit));
            }
        }
    }
}

typedef void words_value_tiles(const float *weights, const float *units, const words_part *parts, uint32_t n_parts,
                               uint32_t column, float *out, words_ahead *ahead);

#define WORDS_VALUES_OF(name, n, columns, fetched)                                                                     \
    static __attribute__((noinline)) void name(const float *weights, const float *units, const words_part *parts,      \
                                               uint32_t n_parts, uint32_t column, float *out, words_ahead *ahead)      \
    {                                                                                                                  \
        (void)ahead;                                                                                                   \
        words_value_tile(weights, units, n, columns, parts, n_parts, column, out, fetched);                            \
    }
#define WORDS_VALUES(n)                                                                                                \
    WORDS_VALUES_OF(words_values_##n, n, VI_VALUE_COLUMNS, NULL)                                                       \
    WORDS_VALUES_OF(words_values_ahead_##n, n, VI_VALUE_COLUMNS, ahead)                                                \
    WORDS_VALUES_OF(words_values_last_##n, n, 1, NULL)                                                                 \
    WORDS_VALUES_OF(words_values_ahead_last_##n, n, 1, ahead)
#define WORDS_VALUE_ROW(n)                                                                                             \
    {                                                                                                                  \
        {words_values_last_##n, words_values_##n},                                                                     \
        {                                                                                                              \
            words_values_ahead_last_##n, words_values_ahead_##n                                                        \
        }                                                                                                              \
    }
WORDS_VALUES(1)
WORDS_VALUES(2)
#if VI_VALUE_Q == 4
WORDS_VALUES(3)
WORDS_VALUES(4)
static words_value_tiles *const words_values_of[VI_VALUE_Q][2][2] = {WORDS_VALUE_ROW(1), WORDS_VALUE_ROW(2),
                                                                     WORDS_VALUE_ROW(3), WORDS_VALUE_ROW(4)};
#else
static words_value_tiles *const words_values_of[VI_VALUE_Q][2][2] = {WORDS_VALUE_ROW(1), WORDS_VALUE_ROW(2)};
#endif

/* Element by element of all parts, so that what is met again and again by many queries stays in L1. */
static void words_values(const float *weights, const float *units, uint32_t n_queries, const words_part *parts,
                         uint32_t n_parts, float *out, const attend_fetch *ahead)
{
    const uint32_t head_dim = parts->head_dim;
    words_ahead fetched = {.rows = ahead};
    for (uint32_t column = 0, n_columns; column < head_dim / 32; column += n_columns) {
        n_columns = column + VI_VALUE_COLUMNS <= head_dim / 32 ? VI_VALUE_COLUMNS : 1;
        for (uint32_t i = 0, n; i < n_queries; i += n) {
            n = words_tile(n_queries - i, VI_VALUE_Q);
            words_values_of[n - 1][i == 0][n_columns > 1 || VI_VALUE_COLUMNS == 1](
                weights + (size_t)i * ATTEND_STRIDE, units + i, parts, n_parts, column, out + (size_t)i * head_dim,
                &fetched);
        }
    }
    words_due(&fetched, SIZE_MAX, NULL); /* what is left */
}

static void words_fill(ops_table *table)
{
    table->to_words = words_encode;
    table->attend.words = (attend_words){
        .encode = words_encode, .scores = words_scores, .weights = words_weights, .values = words_values};
}

#endif
