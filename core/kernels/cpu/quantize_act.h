/*
 * The packed int8 input of linear layers: what lies where, and its scalar packer.
 * Owner: none; the memory is the caller's linear_input. Lifetime: the input's.
 *
 * Tokens lie in tiles of LINEAR_TILE; the last tile holds the n_tokens mod LINEAR_TILE left over. A tile of T tokens is
 * a list of n_in / 32 records, each of T × Q8_RECORD_BYTES, so that a kernel for T tokens reaches everything from one
 * pointer with constant offsets:
 *
 *     int8 q[T][32] | f32 scale[T] | f32 scaled_sum[T] | i32 minus_sum[T] | i32 minus_low[T] | i32 minus_high[T]
 *
 *     value = scale × q,  |q| ≤ 127
 *     scaled_sum = scale × Σq                     meets a format's minimum
 *     minus_sum = −Σq, and −Σ of each half of 16  take an unsigned weight's offset back within the integers
 */
#ifndef MLXR_KERNELS_CPU_QUANTIZE_ACT_H
#define MLXR_KERNELS_CPU_QUANTIZE_ACT_H

#include "kernels/cpu/linear.h"

#define Q8_BLOCK 32
#define Q8_RECORD_BYTES 52 /* a token's part of a record */
#define Q8_TINY 0x1p-100f  /* blocks whose largest magnitude is below become zero */

enum { Q8_SCALE, Q8_SCALED_SUM, Q8_MINUS_SUM, Q8_MINUS_LOW, Q8_MINUS_HIGH };

/* One token's place: q of block b at q + b × record, its i-th word (Q8_SCALE, …) at words + b × record + i × word. */
typedef struct q8_place {
    uint8_t *q;
    uint8_t *words;
    size_t record; /* bytes from block to block */
    size_t word;   /* bytes from word to word */
} q8_place;

static inline uint32_t q8_tile_tokens(uint32_t n_tokens, uint32_t first)
{
    return n_tokens - first < LINEAR_TILE ? n_tokens - first : LINEAR_TILE;
}

static inline uint8_t *q8_tile(const linear_input *input, uint32_t first)
{
    return (uint8_t *)input->data + (size_t)first * (input->n_in / Q8_BLOCK) * Q8_RECORD_BYTES;
}

static inline q8_place q8_find(const linear_input *input, uint32_t token)
{
    uint32_t first = token / LINEAR_TILE * LINEAR_TILE;
    size_t t = q8_tile_tokens(input->n_tokens, first);
    uint8_t *tile = q8_tile(input, first);
    return (q8_place){.q = tile + (token - first) * (size_t)Q8_BLOCK,
                      .words = tile + t * Q8_BLOCK + (token - first) * sizeof(float),
                      .record = t * Q8_RECORD_BYTES,
                      .word = t * sizeof(float)};
}

/* What packing src[n_in] as int8 left out, rest[i] = src[i] − scale × q[i]; zeros where src was not finite. Packed as a
 * further input and added, it makes an input of about 15 bits. */
void quantize_act_q8_rest(const linear_input *input, uint32_t token, const float *src, float *rest);

void quantize_act_q8_scalar(const linear_input *input, uint32_t token, const float *src);
void quantize_act_bf16_scalar(const linear_input *input, uint32_t token, const float *src);
void quantize_act_f32(const linear_input *input, uint32_t token, const float *src);

#endif
