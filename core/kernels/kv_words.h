/*
 * Rows of a KV cache of type I16: 16-bit words and a scale, made so that sums of their products are exact in 32 bits.
 * The scalar code is the definition; attention_words.h gives the same bits.
 * Owner: none. Lifetime: the call. Any thread.
 *
 * Keys and queries are bounded by their length, ‖words‖ ≤ 2^15.5: no partial sum of a product of two such rows leaves
 * 32 bits (Cauchy and Schwarz), so it has the same value in any order of adding. Values are bounded by their largest
 * element, 2¹⁴ − 1: with weights whose sum over a part stays within KV_WEIGHTS_SUM, neither does a sum of values.
 *
 * Sums are exact over a part, 32 positions of a head. It lies in two halves of 16, so that of one begun little is read
 * in vain, turned for products of pairs whose lanes are positions (keys) or elements (values), which so need no adding
 * up of lanes:
 *
 *   keys:   [pair of elements][position] of two words, then [position] scales
 *   values: [16 elements][pair of positions][element] of two words, then [position] scales
 *
 * An element is off by up to half a step whatever it is itself, where a float's error is a part of it: with heads up to
 * about 256 and no element far above the others that is less than f16's. Where one element of a row is more than about
 * 30 times the others and meets none that is as large (of a key: in the query), f16 keeps the others better.
 */
#ifndef MLXR_KERNELS_KV_WORDS_H
#define MLXR_KERNELS_KV_WORDS_H

#include <math.h>

#include "kernels/kv_layout.h"

#define KV_WORDS_MAX 1024u /* elements of a head at most */
/* ‖words‖ before they are rounded, which adds √head_dim / 2 at most: 16 for heads of 1,024 (46,340² < 2³¹). */
#define KV_WORDS_LENGTH 46320.0f
#define KV_WORDS_TOP 32767.0f
#define KV_VALUES_TOP 16383.0f
/* Σ weights of a part, before they are rounded, which adds 16 at most: (131,039 + 32) × 16,383 < 2³¹. */
#define KV_WEIGHTS_SUM 131039.0f
/* Below this everything is 0: its inverse is still a number. */
#define KV_WORDS_LEAST 0x1p-100f

enum { KV_WORDS_LANES = 16 }; /* of the sum of squares: element i is added to sum i mod 16 */

/* What one head of one position is in a part. */
typedef enum kv_words_kind {
    KV_WORDS_KEY, /* or a query */
    KV_WORDS_VALUE
} kv_words_kind;

/* The scale of a row whose largest magnitude is `top`, and in *factor what x / top is multiplied by before rounding;
 * `squares` are lanes of Σ (x / top)². NaN stays NaN. */
static inline float kv_words_scale(kv_words_kind kind, float top, const float *squares, float *factor)
{
    float sums[KV_WORDS_LANES], f = KV_VALUES_TOP;
    if (kind == KV_WORDS_KEY) {
        memcpy(sums, squares, sizeof sums);
        for (uint32_t half = KV_WORDS_LANES / 2; half > 0; half /= 2) {
            for (uint32_t i = 0; i < half; i++) {
                sums[i] += sums[i + half];
            }
        }
        f = KV_WORDS_LENGTH / sqrtf(sums[0]);
        f = f < KV_WORDS_TOP ? f : KV_WORDS_TOP;
    }
    *factor = f;
    return top / f;
}

/* src[n] → words[n]; returns the scale. A row with a NaN or an infinity has zeros and the scale NaN: what meets it is
 * NaN, but for values whose weight is 0. n is a multiple of 32. */
float kv_words_encode_scalar(kv_words_kind kind, const float *src, uint32_t n, int16_t *words);

#define KV_HALF 16u /* positions */

/* Bytes of a half's words, behind which its scales are. */
static inline size_t kv_words_bytes(uint32_t head_dim)
{
    return KV_HALF * (size_t)head_dim * sizeof(int16_t);
}

/* Bytes of a half. */
static inline size_t kv_words_half(uint32_t head_dim)
{
    return kv_words_bytes(head_dim) + KV_HALF * sizeof(float);
}

/* The scale of the row at `lane`, 0 to 31, of a part. */
static inline float *kv_words_scale_at(uint8_t *part, uint32_t head_dim, uint32_t lane)
{
    return (float *)(void *)(part + lane / KV_HALF * kv_words_half(head_dim) + kv_words_bytes(head_dim)) +
           lane % KV_HALF;
}

/* Where element i of a row lies in its half, in words; lane 0 to 15. */
static inline size_t kv_words_at(kv_words_kind kind, uint32_t lane, uint32_t i)
{
    return kind == KV_WORDS_KEY ? i / 2 * (size_t)(2 * KV_HALF) + 2 * lane + i % 2
                                : (i / 16 * (size_t)(KV_HALF / 2) + lane / 2) * 32 + i % 16 * 2 + lane % 2;
}

/* A row into its part. Threads may write different rows of a part at the same time. */
void kv_words_put(kv_words_kind kind, const int16_t *words, float scale, uint8_t *part, uint32_t lane, uint32_t n);

/* … and back: dst[n]. */
void kv_words_get(kv_words_kind kind, const uint8_t *part, uint32_t lane, float *dst, uint32_t n);

#endif
