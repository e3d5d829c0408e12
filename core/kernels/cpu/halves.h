/*
 * Rows of Q8_0 in two parts: the upper four bits of each weight, and what they leave out. Together they are the row,
 * bit for bit. Whoever reads the upper part alone reads 18 bytes where the row has 34, and halves_rest says how far
 * from the row's product that can be.
 *
 * Of a block with scale d and integers q, s is 1 or −1, whichever makes fewer of s q greater than 119:
 *
 *     upper: u + 8, where u is the nearest to s q / 16 in −8 … 7, as nibbles [n_in / 32][16]: of byte i the lower is
 * that of weight i, the higher that of weight i + 16; behind them the scales 16 s d as halves [n_in / 32] lower: l = s
 * q − 16 u, of −8 … 7, as nibbles l + 8 in the same order; greater ones less 16, and their places behind the nibbles,
 * as u16 [HALVES_ODD] that end before 0xffff
 *
 * Owner: none; the memory is the caller's. Lifetime: the call. Functions are pure; any thread.
 */
#ifndef MLXR_KERNELS_CPU_HALVES_H
#define MLXR_KERNELS_CPU_HALVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/linear.h"

#define HALVES_ODD 10u        /* in Gemma 3 270M some rows in 100,000 have more */
#define HALVES_IN_MOST 65504u /* n_in: places are u16 */
#define HALVES_ROWS 4         /* that kernels take at a time: their input is loaded once */
#define HALVES_STEP 4u        /* blocks that kernels take at a time */

/* Bytes of a row's parts; n_in is a multiple of 32, at most HALVES_IN_MOST. */
static inline size_t halves_upper_bytes(uint32_t n_in)
{
    return n_in / 32 * (size_t)18;
}

static inline size_t halves_lower_bytes(uint32_t n_in)
{
    return n_in / 2 + HALVES_ODD * sizeof(uint16_t);
}

/* A row of Q8_0 → its parts. False: it cannot be made of two, having a scale that is negative, no number or too large,
 * an integer −128, or too many places that do not fit; both parts are unspecified then. */
bool halves_split(const uint8_t *row, uint32_t n_in, uint8_t *upper, uint8_t *lower);

/* The row again. */
void halves_join(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint8_t *row);

/* Of what a row's upper part leaves out, r: the square root of Σ r[i]² squares[i], and the same of the row w itself
 * with squares of 1 in *length. Both rounded up, by less than a part in 10,000. */
float halves_rest(const uint8_t *row, const uint8_t *upper, uint32_t n_in, const float *squares, float *length);

/* An input as halves_products reads it: digits as in LINEAR_Q16, [4][padded blocks][16], which are the higher ones of
 * the first 16 of each block, those of the last 16, and the lower ones likewise; sums and units [padded blocks][4], the
 * block's −8 Σ (256 q + r) and three zeros, and its unit four times. Blocks are padded with zeros to whole steps. */
typedef struct halves_input {
    uint32_t n_blocks; /* padded */
    int8_t *digits;
    int32_t *sums;
    float *units;
} halves_input;

/* Bytes that it takes, LINEAR_ALIGN-aligned. */
size_t halves_input_bytes(uint32_t n_in);
/* `memory` → an input, from one that is packed as LINEAR_Q16 and has one token. */
halves_input halves_input_make(const linear_input *packed, void *memory);

/* What the places that did not fit add to a row's product. */
float halves_odd(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, const halves_input *input);

typedef struct halves_kernels {
    /* products[n_rows] = those of the upper parts of rows, which lie one after the other, in floats: of n_in / 32
     * terms, each rounded three times, in any order. */
    void (*products)(const uint8_t *upper, uint32_t n_in, uint32_t n_rows, const halves_input *input, float *products);
    /* The same of any rows' lower parts, with the upper ones' scales: 16 times what they add, but for the places that
     * did not fit, of which each is 16 less. */
    void (*rests)(const uint8_t *const lower[HALVES_ROWS], const uint8_t *const scales[HALVES_ROWS], uint32_t n_in,
                  const halves_input *input, float out[HALVES_ROWS]);
    /* Bit i is set unless products[i] + lengths[i] × reach < bound, for i < 64; none of them is NaN. */
    uint64_t (*reaching)(const float *products, const float *lengths, float reach, float bound);
} halves_kernels;

/* NULL functions: these features have none. */
halves_kernels halves_kernels_for(cpu_features features);
extern const halves_kernels halves_kernels_avx2, halves_kernels_avx512vnni;

#endif
