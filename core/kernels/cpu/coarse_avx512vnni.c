/*
 * Products with rows of one scale each, for AVX-512 with VNNI: a vector is four weights of 16 rows.
 * Owner: none. Lifetime: the call.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/coarse.h"
#include "quant/half.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    PANELS = 2, /* that meet a tile at a time: their sums and themselves fill the registers */
    BLOCK = 32, /* of Q8_0 */
    BLOCK_BYTES = 34,
    GROUP = 4 * COARSE_TILE, /* tokens that pass while the panels are in L1 */
};

#define PANEL_BYTES(n_in) ((size_t)16 * (n_in))
#define LEAST 0x1p-24 /* of a row's length, unless it is zero: the least scale there is */
#define MOST 0x1p100

/* ---- making ---- */

static float scale_at(const uint8_t *block)
{
    uint16_t half;
    memcpy(&half, block, sizeof half);
    return half_to_float(half);
}

static float scale_of(const uint8_t *row, uint32_t n_in)
{
    float most = 0;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += BLOCK_BYTES) {
        const __m256i sizes = _mm256_abs_epi8(_mm256_loadu_si256((const void *)(row + 2))); /* 128 as an unsigned one */
        const __m128i larger = _mm_max_epu8(_mm256_castsi256_si128(sizes), _mm256_extracti128_si256(sizes, 1));
        float size = fabsf(scale_at(row)) * (float)_mm512_reduce_max_epi32(_mm512_cvtepu8_epi32(larger));
        most = size > most ? size : most;
    }
    return most / 127;
}

/* Sums of squares of a row and of what it loses: in doubles, of which the differences are exact. */
typedef struct sums {
    __m512d whole, left;
} sums;

INLINE void add_squares(__m256 x, __m256 rounded, __m512d unit, sums *s)
{
    const __m512d value = _mm512_cvtps_pd(x), apart = _mm512_fnmadd_pd(unit, _mm512_cvtps_pd(rounded), value);
    s->whole = _mm512_fmadd_pd(value, value, s->whole);
    s->left = _mm512_fmadd_pd(apart, apart, s->left);
}

/* Sixteen weights of a block. */
INLINE void make_some(const uint8_t *q, float d, float unit, float by, uint8_t *to, sums *s)
{
    const __m512 whole = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)q)));
    const __m512 x = _mm512_mul_ps(whole, _mm512_set1_ps(d)), most = _mm512_set1_ps(127), least = _mm512_set1_ps(-127);
    __m512 r = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(by)), 0);
    r = _mm512_max_ps(_mm512_min_ps(r, most), least); /* 127 where it is NaN */
    add_squares(_mm512_castps512_ps256(x), _mm512_castps512_ps256(r), _mm512_set1_pd((double)unit), s);
    add_squares(_mm512_extractf32x8_ps(x, 1), _mm512_extractf32x8_ps(r, 1), _mm512_set1_pd((double)unit), s);
    uint8_t bytes[16];
    const __m512i above = _mm512_add_epi32(_mm512_cvtps_epi32(r), _mm512_set1_epi32(128));
    _mm_storeu_si128((void *)bytes, _mm512_cvtepi32_epi8(above));
    for (int i = 0; i < 4; i++) {
        memcpy(to + (size_t)i * 64, bytes + (size_t)i * 4, 4);
    }
}

static float rounded_up(__m512d squares)
{
    return (float)(sqrt(_mm512_reduce_add_pd(squares)) * (1 + 0x1p-20));
}

static void make_row(const uint8_t *row, uint32_t n_in, uint8_t *to, float *scale, float *length, float *rest)
{
    float unit = scale_of(row, n_in), by = unit > 0 ? 1 / unit : 0;
    sums s = {_mm512_setzero_pd(), _mm512_setzero_pd()};
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += BLOCK_BYTES, to += (size_t)BLOCK / 4 * 64) {
        make_some(row + 2, scale_at(row), unit, by, to, &s);
        make_some(row + 18, scale_at(row), unit, by, to + 256, &s);
    }
    *scale = unit;
    *length = rounded_up(s.whole);
    *length = *length > 0 && (double)*length < LEAST ? (float)LEAST : *length;
    *length = (double)*length <= MOST ? *length : INFINITY; /* also where it is NaN */
    *rest = rounded_up(s.left);
}

static void make(const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint32_t n_rows, uint8_t *block, float *scales,
                 float *lengths, float *rests)
{
    for (uint32_t i = 0; i < COARSE_ROWS; i++) {
        uint8_t *to = block + i / 16 * PANEL_BYTES(n_in) + i % 16 * 4;
        if (i < n_rows) {
            make_row(rows + i * row_bytes, n_in, to, scales + i, lengths + i, rests + i);
            continue;
        }
        scales[i] = lengths[i] = rests[i] = 0;
        for (uint32_t k = 0; k < n_in / 4; k++) {
            memset(to + (size_t)k * 64, 128, 4);
        }
    }
}

/* ---- products ---- */

/* The higher halves of the floats of two vectors. */
static const _Alignas(64) uint16_t upper_halves[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                       33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};

INLINE __m512i four_of(const int8_t *digits)
{
    int32_t four;
    memcpy(&four, digits, sizeof four);
    return _mm512_set1_epi32(four);
}

/* `acc` += the fours at `digits`, which meet those at `weights`. */
INLINE void add_four(const uint8_t *weights, size_t panel, const int8_t *digits, int n,
                     __m512i acc[PANELS][COARSE_TILE])
{
    const __m512i first = _mm512_loadu_si512(weights), second = _mm512_loadu_si512(weights + panel);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        const __m512i x = four_of(digits + t * 4);
        acc[0][t] = _mm512_dpbusd_epi32(acc[0][t], first, x);
        acc[1][t] = _mm512_dpbusd_epi32(acc[1][t], second, x);
    }
}

/* Two panels × n tokens of a tile. `ahead` is fetched meanwhile, at most two cache lines for each step. */
INLINE void run_pair(const uint8_t *weights, uint32_t n_in, const coarse_tile *tile, int n, const uint8_t *ahead,
                     size_t step, __m512i acc[PANELS][COARSE_TILE])
{
    const size_t panel = PANEL_BYTES(n_in);
    const int8_t *high = coarse_high(tile), *low = coarse_low(tile);
    for (int t = 0; t < n; t++) {
        acc[0][t] = acc[1][t] = _mm512_setzero_si512();
    }
    for (uint32_t f = 0; f < tile->n_far; f++, high += 4 * COARSE_TILE) {
        add_four(weights + (size_t)tile->far[f] * 64, panel, high, n, acc);
    }
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        const __m512i minus = _mm512_set1_epi32(tile->minus[t]);
        acc[0][t] = _mm512_add_epi32(_mm512_slli_epi32(acc[0][t], 8), minus);
        acc[1][t] = _mm512_add_epi32(_mm512_slli_epi32(acc[1][t], 8), minus);
    }
    for (uint32_t k = 0; k < n_in / 4; k++, weights += 64, low += 4 * COARSE_TILE, ahead += step) {
        _mm_prefetch((const char *)ahead, _MM_HINT_T1);
        _mm_prefetch((const char *)ahead + step / 2, _MM_HINT_T1);
        add_four(weights, panel, low, n, acc);
    }
}

/* A pair of panels' products of n tokens; `most` is each lane's greatest so far. */
INLINE void store_pair(__m512i acc[PANELS][COARSE_TILE], const float *scales, const coarse_tile *tile, int n,
                       int n_tokens, uint16_t *dst, __m512 *most)
{
    const __m512i upper = _mm512_load_si512(upper_halves);
    const __m512 first = _mm512_loadu_ps(scales), second = _mm512_loadu_ps(scales + 16);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        const __m512 unit = _mm512_set1_ps(tile->unit[t]);
        __m512 a = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[0][t]), _mm512_mul_ps(first, unit));
        __m512 b = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[1][t]), _mm512_mul_ps(second, unit));
        if (t < n_tokens) {
            _mm512_storeu_si512(dst + (size_t)t * COARSE_ROWS,
                                _mm512_permutex2var_epi16(_mm512_castps_si512(a), upper, _mm512_castps_si512(b)));
        }
        most[t] = _mm512_max_ps(most[t], _mm512_max_ps(a, b));
    }
}

typedef struct call {
    const uint8_t *block;
    const float *scales;
    uint32_t n_in;
} call;

INLINE void run_tile(const call *c, uint32_t pair, const coarse_tile *tile, int n, int n_tokens, const uint8_t *ahead,
                     size_t step, uint16_t *dst, __m512 *most)
{
    __m512i acc[PANELS][COARSE_TILE];
    run_pair(c->block + pair * PANELS * PANEL_BYTES(c->n_in), c->n_in, tile, n, ahead, step, acc);
    store_pair(acc, c->scales + (size_t)pair * PANELS * 16, tile, n, n_tokens, dst + (size_t)pair * PANELS * 16, most);
}

static void run_some(const call *c, uint32_t pair, const coarse_tile *tile, int n_tokens, const uint8_t *ahead,
                     size_t step, uint16_t *dst, __m512 *most)
{
    if (n_tokens > 4) {
        run_tile(c, pair, tile, 8, n_tokens, ahead, step, dst, most);
    } else if (n_tokens > 2) {
        run_tile(c, pair, tile, 4, n_tokens, ahead, step, dst, most);
    } else if (n_tokens > 1) {
        run_tile(c, pair, tile, 2, n_tokens, ahead, step, dst, most);
    } else {
        run_tile(c, pair, tile, 1, n_tokens, ahead, step, dst, most);
    }
}

/* Each token of a group meets the first two panels, then the others. */
static const uint8_t *run_group(const call *c, const uint8_t *tiles, int n_tokens, const uint8_t *ahead, size_t step,
                                uint16_t *dst, float *greatest, size_t stride)
{
    const uint8_t *last = c->block + 2 * coarse_block_bytes(c->n_in);
    __m512 most[GROUP];
    for (int t = 0; t < GROUP; t++) {
        most[t] = _mm512_set1_ps(-INFINITY);
    }
    for (uint32_t pair = 0; pair < COARSE_ROWS / 16 / PANELS; pair++) {
        for (int t = 0; t < n_tokens; t += COARSE_TILE) {
            const void *tile = tiles + (size_t)t / COARSE_TILE * coarse_tile_bytes(c->n_in);
            int n = n_tokens - t < (int)COARSE_TILE ? n_tokens - t : (int)COARSE_TILE;
            size_t some = ahead < last ? step : 0;
            run_some(c, pair, tile, n, ahead, some, dst + (size_t)t * COARSE_ROWS, most + t);
            ahead += c->n_in / 4 * some;
        }
    }
    for (int t = 0; t < n_tokens; t++) {
        greatest[(size_t)t * stride] = _mm512_reduce_max_ps(most[t]);
    }
    return ahead;
}

static void products(const uint8_t *block, const float *scales, uint32_t n_in, const void *tiles, uint32_t n_tokens,
                     uint16_t *dst, float *greatest, size_t stride)
{
    const call c = {.block = block, .scales = scales, .n_in = n_in};
    /* the next block comes into L2 while this one meets the inputs */
    size_t n_steps = (size_t)(n_tokens + COARSE_TILE - 1) / COARSE_TILE * (COARSE_ROWS / 16 / PANELS) * (n_in / 4);
    size_t lines = coarse_block_bytes(n_in) / 64, step = (lines + n_steps - 1) / n_steps * 64;
    const uint8_t *ahead = block + coarse_block_bytes(n_in);
    for (uint32_t t = 0; t < n_tokens; t += GROUP) {
        uint32_t n = n_tokens - t < GROUP ? n_tokens - t : GROUP;
        const uint8_t *tile = (const uint8_t *)tiles + (size_t)t / COARSE_TILE * coarse_tile_bytes(n_in);
        ahead = run_group(&c, tile, (int)n, ahead, step, dst + (size_t)t * COARSE_ROWS, greatest + t * stride, stride);
    }
}

static uint64_t reaching(const uint16_t *values, const float *lengths, const float *rests, float length, float rest,
                         float bound)
{
    const __m512 least = _mm512_set1_ps(bound);
    uint64_t found = 0;
    for (int i = 0; i < (int)COARSE_ROWS; i += 16) {
        __m512i upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(values + i)));
        __m512 value = _mm512_castsi512_ps(_mm512_slli_epi32(upper, 16));
        __m512 most = _mm512_fmadd_ps(_mm512_abs_ps(value), _mm512_set1_ps(COARSE_ROUNDS), value);
        most = _mm512_fmadd_ps(_mm512_loadu_ps(lengths + i), _mm512_set1_ps(length), most);
        most = _mm512_fmadd_ps(_mm512_loadu_ps(rests + i), _mm512_set1_ps(rest), most);
        found |= (uint64_t)_mm512_cmp_ps_mask(most, least, _CMP_NLT_UQ) << i;
    }
    return found;
}

const coarse_kernels coarse_kernels_avx512vnni = {make, products, reaching};
