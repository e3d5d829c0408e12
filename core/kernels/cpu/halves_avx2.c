/*
 * Rows in two parts for AVX2: making them, and their products. There a vector is a row's two blocks, of which each has
 * a lane of 128 bits.
 * Owner: none. Lifetime: the call.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/halves.h"

#define INLINE static inline __attribute__((always_inline))
#define ROWS HALVES_ROWS
#define FAR 4096 /* bytes ahead, in the order in which they lie */

/* The input of two blocks. */
typedef struct step {
    __m256i high[2], low[2]; /* digits of each block's first 16 and last 16 */
    __m256i minus;           /* what an offset of the weights takes away */
    __m256 units;
} step;

INLINE __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

INLINE step step_of(bool whole, const halves_input *x, uint32_t at)
{
    size_t part = (size_t)x->n_blocks * 16;
    const int8_t *p = x->digits + at * 16;
    __m256i minus = load(x->minus + (size_t)at * 4);
    return (step){.high = {load(p), load(p + part)},
                  .low = {load(p + 2 * part), load(p + 3 * part)},
                  .minus = whole ? _mm256_slli_epi32(minus, 7) : _mm256_sub_epi32(_mm256_slli_epi32(minus, 4), minus),
                  .units = _mm256_loadu_ps(x->units + (size_t)at * 4)};
}

/* A block's nibbles, or twice those. */
typedef struct nibbles {
    __m256i first, last;
} nibbles;

INLINE nibbles nibbles_of(__m256i bytes, int twice)
{
    const __m256i mask = _mm256_set1_epi8((char)(15 << twice));
    return (nibbles){.first = _mm256_and_si256(_mm256_slli_epi16(bytes, twice), mask),
                     .last = _mm256_and_si256(_mm256_srli_epi16(bytes, 4 - twice), mask)};
}

/* Sums of four products of nibbles and digits, which are within 16 bits even of twice those; two of them × `by`. */
INLINE __m256i sums_of(nibbles n, const __m256i digits[2], int by)
{
    __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(n.first, digits[0]), _mm256_maddubs_epi16(n.last, digits[1]));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16((short)by));
}

/* Twice the nibbles, from which 15 is taken away. */
INLINE __m256 add_upper(__m256 acc, __m256i upper, __m128i scales, const step *x)
{
    const __m256i spread = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    nibbles n = nibbles_of(upper, 1);
    __m256i sum = _mm256_add_epi32(_mm256_add_epi32(sums_of(n, x->high, 256), x->minus), sums_of(n, x->low, 1));
    __m256 scale = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_cvtph_ps(scales)), spread);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, x->units), acc);
}

INLINE __m128 add_lanes(const __m256 acc[ROWS])
{
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(acc[0], acc[1]), _mm256_hadd_ps(acc[2], acc[3]));
    return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/* The row's bytes × the input, less the offset: bytes of 8 bits would leave the 16 bits of two products. */
INLINE __m256i whole_sums(__m256i upper, __m256i lower, const step *x)
{
    nibbles up = nibbles_of(upper, 0), low = nibbles_of(lower, 0);
    __m256i a = _mm256_add_epi32(sums_of(up, x->high, 16 * 256), sums_of(low, x->high, 256));
    __m256i b = _mm256_add_epi32(sums_of(up, x->low, 16), sums_of(low, x->low, 1));
    return _mm256_add_epi32(_mm256_add_epi32(a, b), x->minus);
}

/* Blocks' sums of four rows: of a lane of 128 bits, each row has one. */
INLINE __m256i turn_sums(const __m256i sum[ROWS])
{
    return _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
}

INLINE __m256 turn_scales(const __m128i scales[ROWS])
{
    __m128i a = _mm_unpacklo_epi16(scales[0], scales[1]), b = _mm_unpacklo_epi16(scales[2], scales[3]);
    return _mm256_cvtph_ps(_mm_unpacklo_epi32(a, b));
}

/* Each row's block after block, as linear_rows adds them up. */
INLINE __m128 add_blocks(__m128 acc, const __m256i sum[ROWS], const __m128i scales[ROWS], const step *x, bool both)
{
    __m256 sums = _mm256_cvtepi32_ps(turn_sums(sum)), by = _mm256_mul_ps(turn_scales(scales), x->units);
    acc = _mm_fmadd_ps(_mm256_castps256_ps128(sums), _mm256_castps256_ps128(by), acc);
    return both ? _mm_fmadd_ps(_mm256_extractf128_ps(sums, 1), _mm256_extractf128_ps(by, 1), acc) : acc;
}

/* Two blocks, or the last one. */
INLINE __m256i blocks_at(const uint8_t *p, bool both)
{
    return both ? load(p) : _mm256_inserti128_si256(_mm256_setzero_si256(), _mm_loadu_si128((const void *)p), 0);
}

INLINE __m128i scales_at(const uint8_t *p, bool both)
{
    uint32_t two = 0;
    memcpy(&two, p, both ? 4 : 2);
    return _mm_cvtsi32_si128((int)two);
}

/* Block b of all rows and, if `both`, the next one. */
INLINE void add_step(bool whole, const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
                     const halves_input *x, uint32_t b, bool both, bool ahead, __m256 acc[ROWS], __m128 *acc_whole)
{
    step s = step_of(whole, x, b);
    __m256i sum[ROWS];
    __m128i scales[ROWS];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < ROWS; r++) {
        if (ahead) {
            _mm_prefetch((const char *)upper[0] + FAR + (2 * b + r) * 36, _MM_HINT_T0);
        }
        if (ahead && whole) {
            _mm_prefetch((const char *)lower[0] + FAR + (2 * b + r) * 32, _MM_HINT_T0);
        }
        __m256i up = blocks_at(upper[r] + b * 16, both);
        scales[r] = scales_at(upper[r] + n_in / 2 + b * 2, both);
        if (whole) {
            sum[r] = whole_sums(up, blocks_at(lower[r] + b * 16, both), &s);
        } else {
            acc[r] = add_upper(acc[r], up, scales[r], &s);
        }
    }
    if (whole) {
        *acc_whole = add_blocks(*acc_whole, sum, scales, &s, both);
    }
}

INLINE void multiply(bool whole, const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
                     const halves_input *x, bool ahead, float out[ROWS])
{
    const uint32_t n_blocks = n_in / 32;
    __m256 acc[ROWS] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    __m128 acc_whole = _mm_setzero_ps();
    uint32_t b = 0;
    for (; b + 2 <= n_blocks; b += 2) {
        add_step(whole, upper, lower, n_in, x, b, true, ahead, acc, &acc_whole);
    }
    if (b < n_blocks) {
        add_step(whole, upper, lower, n_in, x, b, false, false, acc, &acc_whole);
    }
    _mm_storeu_ps(out, whole ? acc_whole : _mm_mul_ps(add_lanes(acc), _mm_set1_ps(8)));
}

#include "kernels/cpu/halves_rows.h"

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

/* ---- making parts of rows, and rows of parts ---- */

enum { BLOCK = 32, HALF = 16, WHOLE_BYTES = 2 + BLOCK };

/* A block's nibbles, each in a byte, as parts have them. */
INLINE void store_nibbles(__m256i values, uint8_t *to)
{
    __m128i last = _mm_slli_epi16(_mm256_extracti128_si256(values, 1), 4);
    _mm_storeu_si128((void *)to, _mm_or_si128(_mm256_castsi256_si128(values), last));
}

/* Σ (l − 8)² squares, over every eighth value: integers of up to 64, so that each term is rounded once. */
INLINE __m256 rests_of(__m256i low, const float *squares)
{
    const __m256i apart = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(64, 49, 36, 25, 16, 9, 4, 1, 0, 1, 4, 9, 16, 25, 36, 49));
    __m256i values = _mm256_shuffle_epi8(apart, low);
    __m128i first = _mm256_castsi256_si128(values), last = _mm256_extracti128_si256(values, 1);
    __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(first));
    __m256 b = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(first, 8)));
    __m256 c = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(last));
    __m256 d = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(last, 8)));
    a = _mm256_fmadd_ps(b, _mm256_loadu_ps(squares + 8), _mm256_mul_ps(a, _mm256_loadu_ps(squares)));
    c = _mm256_fmadd_ps(d, _mm256_loadu_ps(squares + 24), _mm256_mul_ps(c, _mm256_loadu_ps(squares + 16)));
    return _mm256_add_ps(a, c);
}

/* Σ (2 u − 15)² over eight values, in every other lane: a 64th of what the upper part stands for. */
INLINE __m256 parts_of(__m256i high)
{
    const __m256i odd = _mm256_broadcastsi128_si256(
        _mm_setr_epi8((char)225, (char)169, 121, 81, 49, 25, 9, 1, 1, 9, 25, 49, 81, 121, (char)169, (char)225));
    return _mm256_cvtepi32_ps(_mm256_sad_epu8(_mm256_shuffle_epi8(odd, high), _mm256_setzero_si256()));
}

/* Σ q² over four values. */
INLINE __m256 wholes_of(__m256i q)
{
    __m256i first = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(q));
    __m256i last = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(q, 1));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_madd_epi16(first, first), _mm256_madd_epi16(last, last)));
}

INLINE double sum_of(__m256 v)
{
    float lanes[8];
    double sum = 0;
    _mm256_storeu_ps(lanes, v);
    for (int i = 0; i < 8; i++) {
        sum += (double)lanes[i];
    }
    return sum;
}

static halves_lengths split(const uint8_t *row, uint32_t n_in, const float *squares, uint8_t *upper, uint8_t *lower)
{
    const __m256i mask = _mm256_set1_epi8(15);
    __m256 rest = _mm256_setzero_ps(), whole = rest, part = rest;
    uint8_t *scales = upper + n_in / 2;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += WHOLE_BYTES, upper += HALF, lower += HALF, squares += BLOCK) {
        uint16_t scale;
        memcpy(&scale, row, sizeof scale);
        memcpy(scales + 2 * b, row, sizeof scale);
        __m256i q = load(row + 2), v = _mm256_xor_si256(q, _mm256_set1_epi8((char)0x80));
        __m256i low = _mm256_and_si256(v, mask), high = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);
        store_nibbles(high, upper);
        store_nibbles(low, lower);
        __m256 d = _mm256_set1_ps(_cvtsh_ss(scale)), square = _mm256_mul_ps(d, d); /* of 22 bits: exact */
        rest = _mm256_fmadd_ps(square, rests_of(low, squares), rest);
        part = _mm256_fmadd_ps(square, parts_of(high), part);
        whole = _mm256_fmadd_ps(square, wholes_of(q), whole);
    }
    return (halves_lengths){.rest = (float)(sqrt(sum_of(rest)) * HALVES_ROUNDED_UP),
                            .parts = (float)((sqrt(sum_of(whole)) + 8 * sqrt(sum_of(part))) * HALVES_ROUNDED_UP)};
}

static void join(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint8_t *row)
{
    const __m128i mask = _mm_set1_epi8(15), sign = _mm_set1_epi8((char)0x80);
    const uint8_t *scales = upper + n_in / 2;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += WHOLE_BYTES, upper += HALF, lower += HALF) {
        __m128i up = _mm_loadu_si128((const void *)upper), low = _mm_loadu_si128((const void *)lower);
        __m128i first = _mm_or_si128(_mm_andnot_si128(mask, _mm_slli_epi16(up, 4)), _mm_and_si128(mask, low));
        __m128i last = _mm_or_si128(_mm_andnot_si128(mask, up), _mm_and_si128(mask, _mm_srli_epi16(low, 4)));
        memcpy(row, scales + 2 * b, 2);
        _mm_storeu_si128((void *)(row + 2), _mm_xor_si128(first, sign));
        _mm_storeu_si128((void *)(row + 2 + HALF), _mm_xor_si128(last, sign));
    }
}

const halves_kernels halves_kernels_avx2 = {
    .split = split, .join = join, .products = products, .wholes = wholes, .some = some, .reaching = reaching};
