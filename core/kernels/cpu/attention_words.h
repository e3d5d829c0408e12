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
#define WORDS_KEY_V (KV_PART / VF_N) /* vectors of a part's keys */
#define WORDS_VALUE_V (32 / VF_N)    /* vectors of 32 elements */

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

/* The next `n` lines, if there are any. */
WORDS_INLINE void words_fetch(words_ahead *a, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, a->at += 64) {
        while (a->at >= a->end) {
            if (a->run == a->rows->n_runs) {
                return;
            }
            a->at = a->rows->at[a->run];
            a->end = a->at + a->rows->n_bytes[a->run++];
        }
        __builtin_prefetch(a->at, 0, 2);
    }
}

/* n_queries, a constant, against a part's keys; with few of them two chains of sums keep the multipliers busy. A step
 * is two pairs of elements, 256 bytes. */
WORDS_INLINE void words_score_tile(const int16_t *q, const float *q_scales, uint32_t n_queries, uint32_t padded,
                                   const words_part *keys, float *scores, words_ahead *ahead)
{
    const uint32_t n_sums = n_queries * WORDS_KEY_V;
    vi sums[2 * VI_KEY_Q * WORDS_KEY_V];
#pragma GCC unroll 64
    for (uint32_t i = 0; i < 2 * n_sums; i++) {
        sums[i] = vi_zero();
    }
    const uint8_t *k = keys->at;
    const bool two = n_sums < 8;
    for (const int16_t *end = q + keys->head_dim; q < end; q += 4, k += 8 * KV_PART) {
#pragma GCC unroll 2
        for (uint32_t s = 0; s < 2; s++) {
            vi pair[VI_KEY_Q];
#pragma GCC unroll 16
            for (uint32_t i = 0; i < n_queries; i++) {
                pair[i] = vi_pair(q + (size_t)i * padded + 2 * s);
            }
#pragma GCC unroll 16
            for (uint32_t j = 0; j < WORDS_KEY_V; j++) {
                vi key = vi_load(k + s * 4 * KV_PART + j * 4 * VF_N);
#pragma GCC unroll 16
                for (uint32_t i = 0; i < n_queries; i++) {
                    const uint32_t at = (two ? s * n_sums : 0) + i * WORDS_KEY_V + j;
                    sums[at] = vi_dot(sums[at], key, pair[i]);
                }
            }
        }
        if (ahead) {
            words_fetch(ahead, ahead->rows->each * 4);
        }
    }
#pragma GCC unroll 16
    for (uint32_t i = 0; i < n_queries; i++) {
        vf scale = vf_set(q_scales[i]);
#pragma GCC unroll 16
        for (uint32_t j = 0; j < WORDS_KEY_V; j++) {
            const uint32_t at = i * WORDS_KEY_V + j;
            vi sum = two ? vi_add(sums[at], sums[n_sums + at]) : sums[at];
            vf_store(scores + (size_t)i * ATTEND_STRIDE + j * VF_N,
                     vf_mul(vi_float(sum), vf_mul(scale, vf_load(keys->scales + j * VF_N))));
        }
    }
}

typedef void words_score_tiles(const int16_t *q, const float *q_scales, uint32_t padded, const words_part *keys,
                               float *scores, words_ahead *ahead);

#define WORDS_SCORES(n)                                                                                                \
    static __attribute__((noinline)) void words_scores_##n(const int16_t *q, const float *q_scales, uint32_t padded,   \
                                                           const words_part *keys, float *scores, words_ahead *ahead)  \
    {                                                                                                                  \
        words_score_tile(q, q_scales, n, padded, keys, scores, NULL);                                                  \
        (void)ahead;                                                                                                   \
    }                                                                                                                  \
    static __attribute__((noinline)) void words_scores_ahead_##n(                                                      \
        const int16_t *q, const float *q_scales, uint32_t padded, const words_part *keys, float *scores,               \
        words_ahead *ahead)                                                                                            \
    {                                                                                                                  \
        words_score_tile(q, q_scales, n, padded, keys, scores, ahead);                                                 \
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
static words_score_tiles *const words_scores_of[2][VI_KEY_Q] = {
    {words_scores_1, words_scores_2, words_scores_3, words_scores_4, words_scores_5, words_scores_6, words_scores_7,
     words_scores_8},
    {words_scores_ahead_1, words_scores_ahead_2, words_scores_ahead_3, words_scores_ahead_4, words_scores_ahead_5,
     words_scores_ahead_6, words_scores_ahead_7, words_scores_ahead_8}};
#else
static words_score_tiles *const words_scores_of[2][VI_KEY_Q] = {{words_scores_1, words_scores_2},
                                                                {words_scores_ahead_1, words_scores_ahead_2}};
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
    const uint32_t padded = keys->head_dim;
    words_ahead fetched = {.rows = ahead};
    for (uint32_t n, first = 1; n_queries > 0; n_queries -= n, first = 0) { /* the first fetch what lies ahead */
        n = words_tile(n_queries, VI_KEY_Q);
        words_scores_of[first][n - 1](q, q_scales, padded, keys, scores, &fetched);
        q += n * (size_t)padded;
        q_scales += n;
        scores += n * (size_t)ATTEND_STRIDE;
    }
}

/* The weights exp(score − max) × scale of a value, of one query and block, made words with a common scale; they take
 * the scores' place. Returns the scale. What lies before `begin` or behind `end` is 0, as is what has no weight, whatever
 * its scale: it may be of a row never written. */
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
                w = vf_zero_below(vf_mul(weight, vf_load(parts[p].scales + i)), weight, 0x1p-126f);
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
    const uint32_t n_vectors = n_columns * WORDS_VALUE_V, padded = parts->head_dim;
    const size_t sixteen = (size_t)KV_PART * 32; /* bytes of 16 elements of a part */
    out += 32 * column;
    for (uint32_t p = 0; p < n_parts; p++) {
        const words_part *part = &parts[p];
        const uint8_t *v = part->at + column * 2 * sixteen;
        const int16_t *w = (const int16_t *)(const void *)weights + part->from;
        vi sums[VI_VALUE_Q * 2 * WORDS_VALUE_V];
#pragma GCC unroll 64
        for (uint32_t i = 0; i < n_queries * n_vectors; i++) {
            sums[i] = vi_zero();
        }
        for (uint32_t j = part->first / 2; j < (part->end + 1) / 2; j++) {
            vi pair[VI_VALUE_Q];
#pragma GCC unroll 16
            for (uint32_t i = 0; i < n_queries; i++) {
                pair[i] = vi_pair(w + (size_t)i * ATTEND_STRIDE * 2 + 2 * j);
            }
#pragma GCC unroll 16
            for (uint32_t e = 0; e < n_vectors; e++) {
                vi value = vi_load(v + e / (16 / VF_N) * sixteen + j * 64 + e % (16 / VF_N) * 4 * VF_N);
#pragma GCC unroll 16
                for (uint32_t i = 0; i < n_queries; i++) {
                    sums[i * n_vectors + e] = vi_dot(sums[i * n_vectors + e], value, pair[i]);
                }
            }
            if (ahead) {
                words_fetch(ahead, ahead->rows->each * 2 * n_columns);
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
    {{words_values_last_##n, words_values_##n}, {words_values_ahead_last_##n, words_values_ahead_##n}}
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
}

static void words_fill(ops_table *table)
{
    table->to_words = words_encode;
    table->attend.words = (attend_words){
        .encode = words_encode, .scores = words_scores, .weights = words_weights, .values = words_values};
}

#endif
