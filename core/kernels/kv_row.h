/*
 * Rows of a quantised KV cache: how the elements of one head become blocks, and back. The scalar code is the
 * definition; kv_row_simd.h gives the same bits.
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_KERNELS_KV_ROW_H
#define MLXR_KERNELS_KV_ROW_H

#include <string.h>

#include "kernels/kv_layout.h"
#include "quant/half.h"

#define KV_BLOCK 32u /* elements a block of Q8_0 or Q4_0 */
#define KV_HALF_TOP 65504.0f
/* Q4_0: a block's elements are looked at as whole numbers up to this, so that sums of them times 4 bits are exact in a
 * float, whatever the order of adding. */
#define KV_FINE_TOP 2047.0f
/* Below this the scale would round to 0 in half precision. */
#define KV_LEAST 0x1p-30f

/* What the largest element of a block of Q4_0 may come to, in steps of the scale; each is tried. 9 cuts it off at 8,
 * which pays where the others are small. */
#define KV_Q4_TRIES 3
static const float kv_q4_levels[KV_Q4_TRIES] = {9.0f, 8.0f, 7.0f};

/* Stores the scale d and returns the inverse of what was stored; 0 for none. */
static inline float kv_block_scale(uint8_t *block, float d)
{
    d = d > KV_HALF_TOP ? KV_HALF_TOP : d < -KV_HALF_TOP ? -KV_HALF_TOP : d;
    uint16_t half = half_from_float(d);
    block[0] = (uint8_t)half;
    block[1] = (uint8_t)(half >> 8);
    float stored = half_to_float(half);
    return stored != 0 ? 1.0f / stored : 0.0f;
}

/* A block that held a NaN or an infinity: everything read of it is NaN. */
static inline void kv_block_nan(uint8_t *block, uint32_t n_bytes)
{
    memset(block, 0, n_bytes);
    block[1] = 0x7e;
}

/* x[n] = factor × H × x, each `length` elements (a power of two) by themselves. H's rows are Walsh functions: `length`
 * log₂ `length` additions. */
void kv_turn_scalar(float *x, uint32_t n, uint32_t length, float factor);

/* src[n] → a row of Q8_0 or Q4_0; n is a multiple of 32. */
void kv_row_encode_scalar(dtype type, const float *src, uint8_t *dst, uint32_t n);

/* A row of any KV type → dst[n], turned back. */
void kv_row_decode(dtype type, const uint8_t *src, float *dst, uint32_t n);

#endif
