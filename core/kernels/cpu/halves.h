/*
 * Rows of Q8_0 in two parts: the upper four bits of each weight, and the lower four. Together they are the row, bit for
 * bit, in as many bytes. Whoever reads the upper part alone reads 18 bytes where the row has 34, and halves_measure
 * says how far from the row's product that can be.
 *
 * Of a block with scale d and integers q, v = q + 128 is 16 u + l:
 *
 *     upper: u as nibbles [n_in / 32][16]: of byte i the lower is that of weight i, the higher that of weight i + 16;
 *            behind them the scales d as halves [n_in / 32]
 *     lower: l as nibbles in the same order
 *
 * The upper part alone stands for the middle of what it may be part of, 16 u + 8 − 128 = 8 (2 u − 15), and what it
 * leaves out is l − 8.
 *
 * Owner: none; the memory is the caller's. Lifetime: the call. Functions are pure; any thread.
 */
#ifndef MLXR_KERNELS_CPU_HALVES_H
#define MLXR_KERNELS_CPU_HALVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/linear.h"

#define HALVES_ROWS 4        /* that kernels take at a time: their input is loaded once */
#define HALVES_STEP 4u       /* blocks that kernels take at a time */
#define HALVES_IN_MOST 8192u /* values of a row */

/* Bytes of a row's parts; n_in is a multiple of 32. */
static inline size_t halves_upper_bytes(uint32_t n_in)
{
    return n_in / 32 * (size_t)18;
}

static inline size_t halves_lower_bytes(uint32_t n_in)
{
    return n_in / 2;
}

/* A row of Q8_0 → its parts. */
void halves_split(const uint8_t *row, uint32_t n_in, uint8_t *upper, uint8_t *lower);

/* The row again. */
void halves_join(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint8_t *row);

/* What is known of a row w, its upper part u and what that leaves out, r. Rounded up, by less than a part in 10,000. */
typedef struct halves_lengths {
    float rest;  /* the square root of Σ r[i]² squares[i] */
    float parts; /* |w| + |u| */
} halves_lengths;

halves_lengths halves_measure(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, const float *squares);

#define HALVES_ROUNDED_UP (1 + 0x1p-14) /* above 32 + n_in / 32 roundings of floats, all of positive terms */

/* An input as kernels read it: digits as in LINEAR_Q16, [4][padded blocks][16], which are the higher ones of the first
 * 16 of each block, those of the last 16, and the lower ones likewise; for each 32-bit lane of them [padded blocks][4]
 * −Σ (256 q + r) over its eight values, four of the first 16 and four of the last; and four times each block's unit,
 * 120 times and 128 times its Σ −(256 q + r). Blocks are padded with zeros to whole steps. */
typedef struct halves_input {
    uint32_t n_blocks; /* padded */
    int8_t *digits;
    int32_t *minus;
    int32_t *minus_upper, *minus_whole;
    float *units;
} halves_input;

/* Bytes that it takes, LINEAR_ALIGN-aligned. */
size_t halves_input_bytes(uint32_t n_in);
/* `memory` → an input, from one that is packed as LINEAR_Q16 and has one token. */
halves_input halves_input_make(const linear_input *packed, void *memory);

typedef struct halves_kernels {
    /* halves_split and halves_measure at once; sums are added up in another order. */
    halves_lengths (*split)(const uint8_t *row, uint32_t n_in, const float *squares, uint8_t *upper, uint8_t *lower);
    /* halves_join */
    void (*join)(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint8_t *row);
    /* products[n_rows] = those of the upper parts of rows, which lie one after the other. A lane adds up what eight
     * values, or all 32, of every second or fourth block come to, each rounded twice; then up to 16 lanes are added. */
    void (*products)(const uint8_t *upper, uint32_t n_in, uint32_t n_rows, const halves_input *input, float *products);
    /* The same of whole rows, with the bits that linear_rows gives for Q8_0. */
    void (*wholes)(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint32_t n_rows,
                   const halves_input *input, float *products);
    /* The same of any rows. */
    void (*some)(const uint8_t *const upper[HALVES_ROWS], const uint8_t *const lower[HALVES_ROWS], uint32_t n_in,
                 const halves_input *input, float out[HALVES_ROWS]);
    /* Bit i is set unless products[i] + lengths[i] × reach < bound, for i < 64; none of them is NaN. */
    uint64_t (*reaching)(const float *products, const float *lengths, float reach, float bound);
} halves_kernels;

/* NULL functions: these features have none. */
halves_kernels halves_kernels_for(cpu_features features);
extern const halves_kernels halves_kernels_avx2, halves_kernels_avx512vnni;

#endif
