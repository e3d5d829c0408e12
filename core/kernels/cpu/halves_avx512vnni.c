/*
 * Products of rows in two parts for AVX-512 with VNNI: a vector is a row's four blocks, of which each has a lane of 128
 * bits. Owner: none. Lifetime: the call.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/halves.h"

#define INLINE static inline __attribute__((always_inline))
#define ROWS HALVES_ROWS
/* Bytes ahead, in the order in which they lie: following each of the rows, as the processor does by itself, reads half
 * as fast. */
#define FAR 4096

/* A step's input. */
typedef struct step {
    __m512i high[2], low[2]; /* digits of each block's first 16 and last 16 */
    __m512i minus;           /* what an offset of the weights takes away */
    __m512 units;
} step;

INLINE step step_of(bool whole, const halves_input *x, uint32_t at)
{
    size_t part = (size_t)x->n_blocks * 16;
    const int8_t *p = x->digits + at * 16;
    __m512i minus = _mm512_loadu_si512(x->minus + (size_t)at * 4);
    return (step){.high = {_mm512_loadu_si512(p), _mm512_loadu_si512(p + part)},
                  .low = {_mm512_loadu_si512(p + 2 * part), _mm512_loadu_si512(p + 3 * part)},
                  .minus = whole ? _mm512_slli_epi32(minus, 7) : _mm512_sub_epi32(_mm512_slli_epi32(minus, 4), minus),
                  .units = _mm512_loadu_ps(x->units + (size_t)at * 4)};
}

/* Each lane's sum over its unsigned bytes × the input, less the offset. */
INLINE __m512i sums_of(__m512i first, __m512i last, const step *x)
{
    __m512i high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, x->high[0]);
    __m512i low = _mm512_dpbusd_epi32(x->minus, first, x->low[0]);
    high = _mm512_dpbusd_epi32(high, last, x->high[1]);
    low = _mm512_dpbusd_epi32(low, last, x->low[1]);
    return _mm512_add_epi32(low, _mm512_slli_epi32(high, 8));
}

/* Twice the nibbles, from which 15 is taken away. */
INLINE __m512 add_upper(__m512 acc, __m512i upper, __m128i scales, const step *x)
{
    const __m512i twice = _mm512_set1_epi8(30);
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512i first = _mm512_and_si512(_mm512_slli_epi16(upper, 1), twice);
    __m512i last = _mm512_and_si512(_mm512_srli_epi16(upper, 3), twice);
    __m512 scale = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(_mm_cvtph_ps(scales)));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums_of(first, last, x)), _mm512_mul_ps(scale, x->units), acc);
}

INLINE __m128 add_lanes(const __m512 acc[ROWS])
{
    __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(acc[0], acc[1]), _mm512_unpackhi_ps(acc[0], acc[1]));
    __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(acc[2], acc[3]), _mm512_unpackhi_ps(acc[2], acc[3]));
    __m512d c = _mm512_castps_pd(a), d = _mm512_castps_pd(b);
    __m512 all = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(c, d)), _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
    __m256 two = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1));
}

/* The row's bytes again. */
INLINE __m512i whole_sums(__m512i upper, __m512i lower, const step *x)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i first = _mm512_ternarylogic_epi32(low, lower, _mm512_slli_epi16(upper, 4), 0xca); /* low ? lower : … */
    __m512i last = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(lower, 4), upper, 0xca);
    return sums_of(first, last, x);
}

/* Blocks' sums of four rows: of a lane of 128 bits, each row has one. */
INLINE __m512i turn_sums(const __m512i sum[ROWS])
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[0], sum[1]), _mm512_unpackhi_epi32(sum[0], sum[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[2], sum[3]), _mm512_unpackhi_epi32(sum[2], sum[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

INLINE __m512 turn_scales(const __m128i scales[ROWS])
{
    __m128i a = _mm_unpacklo_epi16(scales[0], scales[1]), b = _mm_unpacklo_epi16(scales[2], scales[3]);
    return _mm512_cvtph_ps(_mm256_set_m128i(_mm_unpackhi_epi32(a, b), _mm_unpacklo_epi32(a, b)));
}

/* Each row's block after block, as linear_rows adds them up. */
INLINE __m128 add_blocks(__m128 acc, const __m512i sum[ROWS], const __m128i scales[ROWS], const step *x, uint32_t n)
{
    __m512 sums = _mm512_cvtepi32_ps(turn_sums(sum)), by = _mm512_mul_ps(turn_scales(scales), x->units);
    acc = _mm_fmadd_ps(_mm512_castps512_ps128(sums), _mm512_castps512_ps128(by), acc);
    acc = n > 1 ? _mm_fmadd_ps(_mm512_extractf32x4_ps(sums, 1), _mm512_extractf32x4_ps(by, 1), acc) : acc;
    acc = n > 2 ? _mm_fmadd_ps(_mm512_extractf32x4_ps(sums, 2), _mm512_extractf32x4_ps(by, 2), acc) : acc;
    return n > 3 ? _mm_fmadd_ps(_mm512_extractf32x4_ps(sums, 3), _mm512_extractf32x4_ps(by, 3), acc) : acc;
}

/* n ≤ HALVES_STEP blocks of all rows, from block b on. */
INLINE void add_step(bool whole, const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
                     const halves_input *x, uint32_t b, uint32_t n, bool ahead, __m512 acc[ROWS], __m128 *acc_whole)
{
    const __mmask64 there = n < HALVES_STEP ? ((__mmask64)1 << 16 * n) - 1 : ~(__mmask64)0;
    const __mmask8 scales_there = (__mmask8)((1u << n) - 1);
    step s = step_of(whole, x, b);
    __m512i sum[ROWS];
    __m128i scales[ROWS];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < ROWS; r++) {
        if (ahead) {
            _mm_prefetch((const char *)upper[0] + FAR + (b + r) * 72, _MM_HINT_T0);
        }
        if (ahead && whole) {
            _mm_prefetch((const char *)lower[0] + FAR + (b + r) * 64, _MM_HINT_T0);
        }
        __m512i up = _mm512_maskz_loadu_epi8(there, upper[r] + b * 16);
        scales[r] = _mm_maskz_loadu_epi16(scales_there, upper[r] + n_in / 2 + b * 2);
        if (whole) {
            sum[r] = whole_sums(up, _mm512_maskz_loadu_epi8(there, lower[r] + b * 16), &s);
        } else {
            acc[r] = add_upper(acc[r], up, scales[r], &s);
        }
    }
    if (whole) {
        *acc_whole = add_blocks(*acc_whole, sum, scales, &s, n);
    }
}

INLINE void multiply(bool whole, const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
                     const halves_input *x, bool ahead, float out[ROWS])
{
    const uint32_t n_blocks = n_in / 32;
    __m512 acc[ROWS] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    __m128 acc_whole = _mm_setzero_ps();
    uint32_t b = 0;
    for (; b + HALVES_STEP <= n_blocks; b += HALVES_STEP) {
        add_step(whole, upper, lower, n_in, x, b, HALVES_STEP, ahead, acc, &acc_whole);
    }
    if (b < n_blocks) {
        add_step(whole, upper, lower, n_in, x, b, n_blocks - b, false, acc, &acc_whole);
    }
    _mm_storeu_ps(out, whole ? acc_whole : _mm_mul_ps(add_lanes(acc), _mm_set1_ps(8)));
}

#include "kernels/cpu/halves_rows.h"

static uint64_t reaching(const float *values, const float *lengths, float reach, float bound)
{
    const __m512 by = _mm512_set1_ps(reach), least = _mm512_set1_ps(bound);
    uint64_t found = 0;
    for (int i = 0; i < 64; i += 16) {
        __m512 most = _mm512_fmadd_ps(_mm512_loadu_ps(lengths + i), by, _mm512_loadu_ps(values + i));
        found |= (uint64_t)_mm512_cmp_ps_mask(most, least, _CMP_GE_OQ) << i;
    }
    return found;
}

const halves_kernels halves_kernels_avx512vnni = {products, wholes, some, reaching};
