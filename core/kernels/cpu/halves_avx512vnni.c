/*
 * Products of rows in two parts for AVX-512 with VNNI: a vector is a row's four blocks, of which each has a lane of 128
 * bits. Owner: none. Lifetime: the call.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/halves.h"

#define INLINE static inline __attribute__((always_inline))
#define ROWS HALVES_ROWS
/* Bytes ahead, in the order in which they lie: following each of four rows, as the processor does by itself, reads half
 * as fast. */
#define FAR 4096
/* Of upper parts alone, into L2: those that are asked for into L1 come a third slower, however far ahead. */
#define FAR_UPPER 16384
#define LINE 64
#define KEPT_MOST 5u /* steps of an input that registers have room for */

/* Four blocks' input. */
typedef struct step {
    __m512i high[2], low[2]; /* digits of each block's first 16 and last 16 */
} step;

INLINE step step_of(const halves_input *x, uint32_t b)
{
    size_t part = (size_t)x->n_blocks * 16;
    const int8_t *p = x->digits + b * 16;
    step s = {.high = {_mm512_loadu_si512(p), _mm512_loadu_si512(p + part)},
              .low = {_mm512_loadu_si512(p + 2 * part), _mm512_loadu_si512(p + 3 * part)}};
    __asm__("" : "+v"(s.high[0]), "+v"(s.high[1]), "+v"(s.low[0]), "+v"(s.low[1])); /* loaded once for all rows */
    return s;
}

/* Each lane's sum over its unsigned bytes × the input: of the higher digits first, so that one register is enough. */
INLINE __m512i sums_of(__m512i first, __m512i last, const step *x)
{
    __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, x->high[0]);
    sum = _mm512_slli_epi32(_mm512_dpbusd_epi32(sum, last, x->high[1]), 8);
    return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, first, x->low[0]), last, x->low[1]);
}

/* Of 16 times the nibbles. */
INLINE __m512i upper_sums(__m512i upper, const step *x)
{
    const __m512i mask = _mm512_set1_epi8((char)0xf0);
    __asm__("" : "+v"(upper)); /* loaded once: it crosses a cache line */
    return sums_of(_mm512_and_si512(_mm512_slli_epi16(upper, 4), mask), _mm512_and_si512(upper, mask), x);
}

/* Of the row's bytes, put together again. */
INLINE __m512i whole_sums(__m512i upper, __m512i lower, const step *x)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i first = _mm512_ternarylogic_epi32(low, lower, _mm512_slli_epi16(upper, 4), 0xca); /* low ? lower : … */
    __m512i last = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(lower, 4), upper, 0xca);
    return sums_of(first, last, x);
}

/* Blocks' sums of four rows, less what an offset of the weights adds to them: of a lane of 128 bits, each row has
 * one. */
INLINE __m512 turn_sums(const __m512i sum[ROWS], const int32_t *minus)
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[0], sum[1]), _mm512_unpackhi_epi32(sum[0], sum[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[2], sum[3]), _mm512_unpackhi_epi32(sum[2], sum[3]));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    return _mm512_cvtepi32_ps(_mm512_add_epi32(all, _mm512_loadu_si512(minus)));
}

/* Blocks' scales × units in the same order. Blocks that do not exist have none. */
INLINE __m512 turn_scales(const uint8_t *const upper[ROWS], uint32_t n_in, const halves_input *x, uint32_t b,
                          uint32_t n)
{
    const __mmask8 there = (__mmask8)((1u << n) - 1);
    __m128i s[ROWS];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint8_t *at = upper[r] + n_in / 2 + b * 2;
        s[r] = n < HALVES_STEP ? _mm_maskz_loadu_epi16(there, at) : _mm_loadu_si64(at);
    }
    __m128i c = _mm_unpacklo_epi16(s[0], s[1]), d = _mm_unpacklo_epi16(s[2], s[3]);
    __m256i all = _mm256_set_m128i(_mm_unpackhi_epi32(c, d), _mm_unpacklo_epi32(c, d));
    return _mm512_mul_ps(_mm512_cvtph_ps(all), _mm512_loadu_ps(x->units + (size_t)b * 4));
}

INLINE __m512i load_blocks(const uint8_t *p, uint32_t n)
{
    return n < HALVES_STEP ? _mm512_maskz_loadu_epi8(((__mmask64)1 << 16 * n) - 1, p) : _mm512_loadu_si512(p);
}

/* ---- upper parts ---- */

/* n blocks of all rows, from block b on. A lane of 128 bits adds up every fourth block. */
INLINE __m512 add_upper(__m512 acc, const uint8_t *const upper[ROWS], uint32_t n_in, const halves_input *x, uint32_t b,
                        uint32_t n)
{
    __m512i sums[ROWS];
    step s = step_of(x, b);
#pragma GCC unroll 4
    for (uint32_t r = 0; r < ROWS; r++) {
        sums[r] = upper_sums(load_blocks(upper[r] + b * 16, n), &s);
    }
    return _mm512_fmadd_ps(turn_sums(sums, x->minus_upper + (size_t)b * 4), turn_scales(upper, n_in, x, b, n), acc);
}

INLINE __m256i sums_of_two(const uint8_t *upper, const int8_t *digits, size_t part)
{
    const __m256i mask = _mm256_set1_epi8((char)0xf0);
    __m256i v = _mm256_loadu_si256((const void *)upper);
    __m256i first = _mm256_and_si256(_mm256_slli_epi16(v, 4), mask), last = _mm256_and_si256(v, mask);
    __m256i sum = _mm256_dpbusd_epi32(_mm256_setzero_si256(), first, _mm256_loadu_si256((const void *)digits));
    sum = _mm256_dpbusd_epi32(sum, last, _mm256_loadu_si256((const void *)(digits + part)));
    sum = _mm256_slli_epi32(sum, 8);
    sum = _mm256_dpbusd_epi32(sum, first, _mm256_loadu_si256((const void *)(digits + 2 * part)));
    return _mm256_dpbusd_epi32(sum, last, _mm256_loadu_si256((const void *)(digits + 3 * part)));
}

/* The same of two blocks, in half of the time. */
INLINE __m512 add_two(__m512 acc, const uint8_t *const upper[ROWS], uint32_t n_in, const halves_input *x, uint32_t b)
{
    __m512i sums[ROWS];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < ROWS; r++) {
        sums[r] = _mm512_castsi256_si512(sums_of_two(upper[r] + b * 16, x->digits + b * 16, (size_t)x->n_blocks * 16));
    }
    __m256 both = _mm512_castps512_ps256(turn_sums(sums, x->minus_upper + (size_t)b * 4));
    __m256 by = _mm512_castps512_ps256(turn_scales(upper, n_in, x, b, 2));
    return _mm512_insertf32x8(acc, _mm256_fmadd_ps(both, by, _mm512_castps512_ps256(acc)), 0);
}

INLINE __m128 add_lanes(__m512 acc)
{
    __m256 two = _mm256_add_ps(_mm512_castps512_ps256(acc), _mm512_extractf32x8_ps(acc, 1));
    return _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1));
}

INLINE __m128 multiply_upper(const uint8_t *const upper[ROWS], uint32_t n_in, const halves_input *x)
{
    __m512 acc = _mm512_setzero_ps();
    for (uint32_t b = 0; b < n_in / 32; b += HALVES_STEP) {
        uint32_t n = n_in / 32 - b;
        acc = add_upper(acc, upper, n_in, x, b, n < HALVES_STEP ? n : HALVES_STEP);
    }
    return add_lanes(acc);
}

/* Whole steps of a row → every fourth of sums[n_steps][ROWS]. */
INLINE void sum_row(const uint8_t *row, uint32_t n_steps, const step *x, const char *soon, __m512i *sums)
{
#pragma GCC unroll 5
    for (uint32_t i = 0; i < n_steps; i++) {
        _mm_prefetch(soon + (size_t)i * LINE, _MM_HINT_T1);
        sums[i * ROWS] = upper_sums(_mm512_loadu_si512(row + (size_t)i * LINE), &x[i]);
    }
}

/* The same of a row and the one behind it, which share what is loaded of the input; more would not be read in the order
 * in which they lie. */
INLINE void sum_two(const uint8_t *row, size_t row_bytes, uint32_t n_steps, const halves_input *x, const char *soon,
                    __m512i *sums)
{
    for (uint32_t i = 0; i < n_steps; i++, soon += 2 * LINE) {
        _mm_prefetch(soon, _MM_HINT_T1);
        _mm_prefetch(soon + LINE, _MM_HINT_T1);
        step s = step_of(x, i * HALVES_STEP);
        sums[i * ROWS] = upper_sums(_mm512_loadu_si512(row + (size_t)i * LINE), &s);
        sums[i * ROWS + 1] = upper_sums(_mm512_loadu_si512(row + row_bytes + (size_t)i * LINE), &s);
    }
}

/* The products of ROWS rows that lie one after the other. `kept`: the input's whole steps, or NULL. */
INLINE __m128 multiply_next(const uint8_t *first, size_t row_bytes, uint32_t n_in, uint32_t n_steps, const step *kept,
                            const halves_input *x)
{
    const uint32_t n_blocks = n_in / 32, done = n_steps * HALVES_STEP;
    const uint8_t *const rows[ROWS] = {first, first + row_bytes, first + 2 * row_bytes, first + 3 * row_bytes};
    const char *soon = (const char *)first + FAR_UPPER, *end = soon + ROWS * row_bytes;
    __m512i sums[HALVES_IN_MOST / 32 / HALVES_STEP][ROWS];
    __m512 acc = _mm512_setzero_ps();
    for (uint32_t r = 0; r < ROWS; r += kept ? 1 : 2, soon += (kept ? 1 : 2) * (size_t)n_steps * LINE) {
        if (kept) {
            sum_row(rows[r], n_steps, kept, soon, sums[0] + r);
        } else {
            sum_two(rows[r], row_bytes, n_steps, x, soon, sums[0] + r);
        }
    }
    for (; soon < end; soon += LINE) {
        _mm_prefetch(soon, _MM_HINT_T1); /* as many bytes as scales take, and what is no whole step */
    }
#pragma GCC unroll 5
    for (uint32_t i = 0; i < n_steps; i++) {
        acc = _mm512_fmadd_ps(turn_sums(sums[i], x->minus_upper + (size_t)i * 16),
                              turn_scales(rows, n_in, x, i * HALVES_STEP, HALVES_STEP), acc);
    }
    if (n_blocks - done == 2) {
        acc = add_two(acc, rows, n_in, x, done);
    } else if (n_blocks > done) {
        acc = add_upper(acc, rows, n_in, x, done, n_blocks - done);
    }
    return add_lanes(acc);
}

/* ---- whole rows ---- */

/* n ≤ HALVES_STEP blocks of all rows, from block b on: each row's block after block, as linear_rows adds them up. */
INLINE __m128 add_step(__m128 acc, const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
                       const halves_input *x, uint32_t b, uint32_t n, bool ahead)
{
    step s = step_of(x, b);
    __m512i sum[ROWS];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < ROWS; r++) {
        if (ahead) {
            _mm_prefetch((const char *)upper[0] + FAR + (b + r) * 72, _MM_HINT_T0);
            _mm_prefetch((const char *)lower[0] + FAR + (b + r) * 64, _MM_HINT_T0);
        }
        sum[r] = whole_sums(load_blocks(upper[r] + b * 16, n), load_blocks(lower[r] + b * 16, n), &s);
    }
    __m512 sums = turn_sums(sum, x->minus_whole + (size_t)b * 4), by = turn_scales(upper, n_in, x, b, n);
    acc = _mm_fmadd_ps(_mm512_castps512_ps128(sums), _mm512_castps512_ps128(by), acc);
    acc = n > 1 ? _mm_fmadd_ps(_mm512_extractf32x4_ps(sums, 1), _mm512_extractf32x4_ps(by, 1), acc) : acc;
    acc = n > 2 ? _mm_fmadd_ps(_mm512_extractf32x4_ps(sums, 2), _mm512_extractf32x4_ps(by, 2), acc) : acc;
    return n > 3 ? _mm_fmadd_ps(_mm512_extractf32x4_ps(sums, 3), _mm512_extractf32x4_ps(by, 3), acc) : acc;
}

INLINE __m128 multiply_whole(const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
                             const halves_input *x, bool ahead)
{
    const uint32_t n_blocks = n_in / 32;
    __m128 acc = _mm_setzero_ps();
    uint32_t b = 0;
    for (; b + HALVES_STEP <= n_blocks; b += HALVES_STEP) {
        acc = add_step(acc, upper, lower, n_in, x, b, HALVES_STEP, ahead);
    }
    return b < n_blocks ? add_step(acc, upper, lower, n_in, x, b, n_blocks - b, false) : acc;
}

INLINE void multiply(bool whole, const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
                     const halves_input *x, bool ahead, float out[ROWS])
{
    _mm_storeu_ps(out, whole ? multiply_whole(upper, lower, n_in, x, ahead) : multiply_upper(upper, n_in, x));
}

#include "kernels/cpu/halves_rows.h"

/* Whole groups of ROWS rows. `n_steps` is a constant where the input's are kept in registers. */
INLINE void products_next(const uint8_t *upper, uint32_t n_in, uint32_t n_rows, uint32_t n_steps, bool keep,
                          const halves_input *x, float *out)
{
    const size_t row_bytes = halves_upper_bytes(n_in);
    step kept[KEPT_MOST];
#pragma GCC unroll 5
    for (uint32_t i = 0; keep && i < n_steps; i++) {
        kept[i] = step_of(x, i * HALVES_STEP);
    }
    for (uint32_t i = 0; i + ROWS <= n_rows; i += ROWS) {
        _mm_storeu_ps(out + i, multiply_next(upper + i * row_bytes, row_bytes, n_in, n_steps, keep ? kept : NULL, x));
    }
}

static void products_ahead(const uint8_t *upper, uint32_t n_in, uint32_t n_rows, const halves_input *x, float *out)
{
    const uint32_t n_steps = n_in / 32 / HALVES_STEP, whole = n_rows / ROWS * ROWS;
    switch (n_steps) {
    case 3:
        products_next(upper, n_in, whole, 3, true, x, out);
        break;
    case 4:
        products_next(upper, n_in, whole, 4, true, x, out);
        break;
    case KEPT_MOST:
        products_next(upper, n_in, whole, KEPT_MOST, true, x, out);
        break;
    default: /* too long for registers, or so short that it does not matter */
        products_next(upper, n_in, whole, n_steps, false, x, out);
        break;
    }
    products(upper + whole * halves_upper_bytes(n_in), n_in, n_rows - whole, x, out + whole);
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

const halves_kernels halves_kernels_avx512vnni = {
    .products = products_ahead, .wholes = wholes, .some = some, .reaching = reaching};
