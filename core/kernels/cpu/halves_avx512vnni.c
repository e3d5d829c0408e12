/*
 * Products with upper halves for AVX-512 with VNNI: a vector is a row's four blocks, of which each has a lane of 128
 * bits. Owner: none. Lifetime: the call.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/halves.h"

#define ROWS HALVES_ROWS
/* Bytes ahead, in the order in which they lie: following each of the rows, as the processor does by itself, reads half
 * as fast. */
#define FAR 4096

/* A step's input. */
typedef struct step {
    __m512i high[2], low[2], sums; /* digits of each block's first 16 and last 16 */
    __m512 units;
} step;

static inline step step_of(const halves_input *x, uint32_t at)
{
    size_t part = (size_t)x->n_blocks * 16;
    const int8_t *p = x->digits + at * 16;
    return (step){.high = {_mm512_loadu_si512(p), _mm512_loadu_si512(p + part)},
                  .low = {_mm512_loadu_si512(p + 2 * part), _mm512_loadu_si512(p + 3 * part)},
                  .sums = _mm512_loadu_si512(x->sums + (size_t)at * 4),
                  .units = _mm512_loadu_ps(x->units + (size_t)at * 4)};
}

/* Each lane's four sums × its scale. */
static inline __m512 add_step(__m512 acc, __m512i nibbles, __m128i scales, const step *x)
{
    const __m512i fifteen = _mm512_set1_epi8(15);
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512i first = _mm512_and_si512(nibbles, fifteen);
    __m512i last = _mm512_and_si512(_mm512_srli_epi16(nibbles, 4), fifteen);
    __m512i high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, x->high[0]);
    __m512i low = _mm512_dpbusd_epi32(x->sums, first, x->low[0]);
    high = _mm512_dpbusd_epi32(high, last, x->high[1]);
    low = _mm512_dpbusd_epi32(low, last, x->low[1]);
    __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(low, _mm512_slli_epi32(high, 8)));
    __m512 scale = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(_mm_cvtph_ps(scales)));
    return _mm512_fmadd_ps(sum, _mm512_mul_ps(scale, x->units), acc);
}

static inline __m128 sums_of(const __m512 acc[ROWS])
{
    __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(acc[0], acc[1]), _mm512_unpackhi_ps(acc[0], acc[1]));
    __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(acc[2], acc[3]), _mm512_unpackhi_ps(acc[2], acc[3]));
    __m512d c = _mm512_castps_pd(a), d = _mm512_castps_pd(b);
    __m512 all = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(c, d)), _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
    __m256 two = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1));
}

/* Rows that do not exist repeat the last one. */
static inline void multiply(const uint8_t *const rows[ROWS], const uint8_t *const scales[ROWS], uint32_t n_blocks,
                            const halves_input *x, bool ahead, float out[ROWS])
{
    __m512 acc[ROWS];
    for (int r = 0; r < ROWS; r++) {
        acc[r] = _mm512_setzero_ps();
    }
    uint32_t b = 0;
    for (; b + HALVES_STEP <= n_blocks; b += HALVES_STEP) {
        step s = step_of(x, b);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            const uint8_t *at = rows[r] + b * 16;
            if (ahead) {
                _mm_prefetch((const char *)rows[0] + FAR + (b + (uint32_t)r) * 72, _MM_HINT_T0);
            }
            acc[r] = add_step(acc[r], _mm512_loadu_si512(at), _mm_loadl_epi64((const void *)(scales[r] + b * 2)), &s);
        }
    }
    if (b < n_blocks) {
        const uint32_t left = n_blocks - b;
        const __mmask64 there = ((__mmask64)1 << 16 * left) - 1;
        step s = step_of(x, b);
        for (int r = 0; r < ROWS; r++) {
            __m128i some = _mm_maskz_loadu_epi16((__mmask8)((1u << left) - 1), scales[r] + b * 2);
            acc[r] = add_step(acc[r], _mm512_maskz_loadu_epi8(there, rows[r] + b * 16), some, &s);
        }
    }
    _mm_storeu_ps(out, sums_of(acc));
}

static void products(const uint8_t *upper, uint32_t n_in, uint32_t n_rows, const halves_input *x, float *out)
{
    size_t row_bytes = halves_upper_bytes(n_in);
    uint32_t i = 0;
    for (; i + ROWS <= n_rows; i += ROWS, upper += ROWS * row_bytes) {
        const uint8_t *const rows[ROWS] = {upper, upper + row_bytes, upper + 2 * row_bytes, upper + 3 * row_bytes};
        const uint8_t *const scales[ROWS] = {rows[0] + n_in / 2, rows[1] + n_in / 2, rows[2] + n_in / 2,
                                             rows[3] + n_in / 2};
        multiply(rows, scales, n_in / 32, x, true, out + i);
    }
    for (; i < n_rows; i++, upper += row_bytes) {
        const uint8_t *const rows[ROWS] = {upper, upper, upper, upper};
        float four[ROWS];
        const uint8_t *const scales[ROWS] = {upper + n_in / 2, upper + n_in / 2, upper + n_in / 2, upper + n_in / 2};
        multiply(rows, scales, n_in / 32, x, true, four);
        out[i] = four[0];
    }
}

static void rests(const uint8_t *const lower[ROWS], const uint8_t *const scales[ROWS], uint32_t n_in,
                  const halves_input *x, float out[ROWS])
{
    multiply(lower, scales, n_in / 32, x, false, out);
}

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

const halves_kernels halves_kernels_avx512vnni = {products, rests, reaching};
