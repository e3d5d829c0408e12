/*
 * Products with upper halves for AVX2: a vector is a row's two blocks, of which each has a lane of 128 bits.
 * Owner: none. Lifetime: the call.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/halves.h"

#define ROWS HALVES_ROWS
#define FAR 4096 /* bytes ahead, in the order in which they lie */

/* The input of two blocks. */
typedef struct step {
    __m256i high[2], low[2], sums; /* digits of each block's first 16 and last 16 */
    __m256 units;
} step;

static inline __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

static inline step step_of(const halves_input *x, uint32_t at)
{
    size_t part = (size_t)x->n_blocks * 16;
    const int8_t *p = x->digits + at * 16;
    return (step){.high = {load(p), load(p + part)},
                  .low = {load(p + 2 * part), load(p + 3 * part)},
                  .sums = load(x->sums + (size_t)at * 4),
                  .units = _mm256_loadu_ps(x->units + (size_t)at * 4)};
}

/* Four products of nibbles and digits are within 16 bits. */
static inline __m256i sums_of_four(__m256i first, __m256i last, const __m256i digits[2])
{
    __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(first, digits[0]), _mm256_maddubs_epi16(last, digits[1]));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

static inline __m256 add_step(__m256 acc, __m256i nibbles, uint32_t scales, const step *x)
{
    const __m256i fifteen = _mm256_set1_epi8(15), spread = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    __m256i first = _mm256_and_si256(nibbles, fifteen);
    __m256i last = _mm256_and_si256(_mm256_srli_epi16(nibbles, 4), fifteen);
    __m256i high = _mm256_slli_epi32(sums_of_four(first, last, x->high), 8);
    __m256i sum = _mm256_add_epi32(_mm256_add_epi32(high, x->sums), sums_of_four(first, last, x->low));
    __m128 two = _mm_cvtph_ps(_mm_cvtsi32_si128((int)scales));
    __m256 scale = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(two), spread);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, x->units), acc);
}

static inline __m128 sums_of(const __m256 acc[ROWS])
{
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(acc[0], acc[1]), _mm256_hadd_ps(acc[2], acc[3]));
    return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

static inline void multiply(const uint8_t *const rows[ROWS], const uint8_t *const scales[ROWS], uint32_t n_blocks,
                            const halves_input *x, bool ahead, float out[ROWS])
{
    __m256 acc[ROWS];
    for (int r = 0; r < ROWS; r++) {
        acc[r] = _mm256_setzero_ps();
    }
    uint32_t b = 0;
    for (; b + 2 <= n_blocks; b += 2) {
        step s = step_of(x, b);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            const uint8_t *at = rows[r] + b * 16;
            uint32_t two;
            memcpy(&two, scales[r] + b * 2, sizeof two);
            if (ahead) {
                _mm_prefetch((const char *)rows[0] + FAR + (2 * b + (uint32_t)r) * 36, _MM_HINT_T0);
            }
            acc[r] = add_step(acc[r], load(at), two, &s);
        }
    }
    if (b < n_blocks) { /* the last one: what is read beyond it meets zeros */
        step s = step_of(x, b);
        for (int r = 0; r < ROWS; r++) {
            uint16_t scale;
            memcpy(&scale, scales[r] + b * 2, sizeof scale);
            __m256i nibbles = _mm256_castsi128_si256(_mm_loadu_si128((const void *)(rows[r] + b * 16)));
            acc[r] = add_step(acc[r], _mm256_inserti128_si256(nibbles, _mm_setzero_si128(), 1), scale, &s);
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
    const __m256 by = _mm256_set1_ps(reach), least = _mm256_set1_ps(bound);
    uint64_t found = 0;
    for (int i = 0; i < 64; i += 8) {
        __m256 most = _mm256_fmadd_ps(_mm256_loadu_ps(lengths + i), by, _mm256_loadu_ps(values + i));
        found |= (uint64_t)(unsigned)_mm256_movemask_ps(_mm256_cmp_ps(most, least, _CMP_GE_OQ)) << i;
    }
    return found;
}

const halves_kernels halves_kernels_avx2 = {products, rests, reaching};
