/*
 * Rows of Q8_0 with one scale each: a copy of a matrix that many inputs meet at the rate of the integer products, with
 * no float between them. It tells roughly what the matrix itself would, and how far from that it can be.
 *
 *     weight = scale × q, |q| ≤ 127, as q + 128
 *
 * Rows lie in blocks of COARSE_ROWS, each of four panels [n_in / 4][16 rows][4 weights]; rows behind the last one of a
 * matrix are zeros.
 *
 * Inputs lie in tiles of COARSE_TILE tokens. A value is unit × an integer of 8 bits, with one unit a token; the few
 * fours of values that are far larger than the others in any of the tile's tokens have a higher digit as well, 256
 * times as much, so that they do not take the others' digits.
 *
 * Owner: none; the memory is the caller's. Lifetime: the call. Functions are pure; any thread.
 */
#ifndef MLXR_KERNELS_CPU_COARSE_H
#define MLXR_KERNELS_CPU_COARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/linear.h"

#define COARSE_ROWS 64u
#define COARSE_TILE 8u
#define COARSE_FAR 12u /* fours of values that have a higher digit */
#define COARSE_ROUNDS 0x1p-7f
#define COARSE_IN_MOST 16384u /* n_in: no sum leaves 32 bits */

/* What a tile begins with; behind it lie the higher digits [COARSE_FAR][COARSE_TILE][4] and the lower ones [n_in / 4]
 * [COARSE_TILE][4]. */
typedef struct coarse_tile {
    int32_t minus[COARSE_TILE]; /* −128 × the sum of all digits: takes the weights' offset back */
    float unit[COARSE_TILE];    /* NaN: the token has a value that is no number, or is too large */
    uint32_t far[COARSE_FAR];   /* which fours */
    uint32_t n_far, pad[3];
} coarse_tile;

static inline int8_t *coarse_high(const coarse_tile *t)
{
    return (int8_t *)(uintptr_t)(t + 1);
}

static inline int8_t *coarse_low(const coarse_tile *t)
{
    return coarse_high(t) + COARSE_FAR * COARSE_TILE * 4;
}

/* Bytes of a tile, a multiple of LINEAR_ALIGN. */
static inline size_t coarse_tile_bytes(uint32_t n_in)
{
    size_t n = sizeof(coarse_tile) + (COARSE_FAR + n_in / 4) * (size_t)COARSE_TILE * 4;
    return (n + LINEAR_ALIGN - 1) / LINEAR_ALIGN * LINEAR_ALIGN;
}

/* src[n_tokens][n_in] → a tile; tokens behind them are zeros. n_in is a multiple of 4, at most COARSE_IN_MOST. Takes
 * less than 32 KiB of stack. */
void coarse_pack(uint32_t n_in, uint32_t n_tokens, const float *const src[COARSE_TILE], coarse_tile *out);

/* The integers of a token of a tile. */
void coarse_read(const coarse_tile *t, uint32_t token, uint32_t n_in, int32_t *out);

/* Bytes of the weights of a block. */
static inline size_t coarse_block_bytes(uint32_t n_in)
{
    return (size_t)COARSE_ROWS * n_in;
}

typedef struct coarse_kernels {
    /* n_rows ≤ COARSE_ROWS rows of Q8_0 → a block. Of each row w and the one it became, w': its scale, |w| and |w −
     * w'|, both rounded up, by less than a part in 100,000; |w| is +infinity where a weight is no number. */
    void (*make)(const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint32_t n_rows, uint8_t *block, float *scales,
                 float *lengths, float *rests);
    /* dst[n_tokens][COARSE_ROWS] = their products with a block's rows, each rounded three times and then to the higher
     * half of a float, towards zero: COARSE_ROUNDS × itself at most is lost. greatest[token × stride]: the greatest of
     * them, before that was done. */
    void (*products)(const uint8_t *block, const float *scales, uint32_t n_in, const void *tiles, uint32_t n_tokens,
                     uint16_t *dst, float *greatest, size_t stride);
    /* Bit i is set unless what products[i] may have been, with lengths[i] × length + rests[i] × rest added, is below
     * `bound`, for i < COARSE_ROWS; none of them is NaN. */
    uint64_t (*reaching)(const uint16_t *products, const float *lengths, const float *rests, float length, float rest,
                         float bound);
} coarse_kernels;

/* A product as `products` leaves it. */
static inline float coarse_float(uint16_t upper)
{
    uint32_t bits = (uint32_t)upper << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* NULL functions: these features have none. */
coarse_kernels coarse_kernels_for(cpu_features features);
extern const coarse_kernels coarse_kernels_avx512vnni;

#endif
