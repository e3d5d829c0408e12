/*
 * The packed integer input of linear layers: what lies where, and its scalar packer.
 * Owner: none; the memory is the caller's linear_input. Lifetime: the input's.
 *
 * One int8 a value is not exact enough: greedy decoding then differs from float32 in one of several hundred places
 * where the choice is clear. So a value is an integer of 16 bits in two signed digits, each of which meets the weights
 * as an int8; the sums of both digits join as integers, and one scale serves them:
 *
 *     value = unit × (256 q + r),  |q| ≤ 127, |r| ≤ 127
 *
 * Tokens lie in tiles of LINEAR_TILE; the last tile holds the n_tokens mod LINEAR_TILE left over. A tile of T tokens is
 * a list of n_in / 32 records, each of T × Q16_RECORD_BYTES, so that a kernel for T tokens reaches everything from one
 * pointer with constant offsets:
 *
 *     {int8 q[32], r[32]}[T], or as words {int16[32]}[T] | f32 unit[T] | f32 scaled_sum[T] | i32 minus_sum[T] |
 *     i32 minus_low[T] | i32 minus_high[T]
 *
 * Inputs that are rounded to 8 bits are integers q with |q| ≤ 127: all of them lower digits r, with higher ones of
 * zero, or words, or (LINEAR_Q8) the lower digits alone, {int8 r[32]}[T]. So every way to multiply them gives the same
 * bits.
 *
 *     scaled_sum = unit × Σ(256 q + r)                    meets a format's minimum
 *     minus_sum = −Σ(256 q + r), and of each half of 16   take an unsigned weight's offset back within the integers
 *
 * Words are the integers 256 q + r in the order k = 0 2 1 3 | 4 6 5 7 | …, see linear_words.h.
 *
 * No sum over a block leaves 32 bits: 32 × 255 × (256 × 127 + 127) < 2^28.
 *
 * Words of 15 bits lie as those of 16 do, with their unit alone. They meet float weights that were made integers of up
 * to 16 bits such that the magnitudes of a row's 32 add up to less than 2^17: 16383 × 2^17 < 2^31.
 */
#ifndef MLXR_KERNELS_CPU_QUANTIZE_ACT_H
#define MLXR_KERNELS_CPU_QUANTIZE_ACT_H

#include "kernels/cpu/linear.h"

#define Q16_BLOCK 32
#define Q16_DIGITS 64       /* bytes of a token's digits in a record: 32 high ones, 32 low ones */
#define Q16_RECORD_BYTES 84 /* a token's part of a record */
#define C16_RECORD_BYTES 96 /* the same of LINEAR_C16 */
#define Q16_MOST 32512.0f   /* 256 × 127: what the largest magnitude of a block becomes */
#define Q8_MOST 127.0f      /* the same of inputs that are rounded to 8 bits */
#define W15_MOST 16383.0f   /* of words that meet words */
#define Q16_TINY 0x1p-100f  /* blocks whose largest magnitude is below become zero */

/* A record's arrays of words. LINEAR_C16 has three more, modulo 2^32: −Σ x[2i] x[2i + 1] of the integers x of a block,
 * and of each half of 16, but for the last four of a half, which are not crossed (linear_words.h). */
enum {
    Q16_UNIT,
    Q16_SCALED_SUM,
    Q16_MINUS_SUM,
    Q16_MINUS_LOW,
    Q16_MINUS_HIGH,
    Q16_MINUS_PAIRS,
    Q16_MINUS_PAIRS_LOW,
    Q16_MINUS_PAIRS_HIGH,
};

/* One token's place: the digits of block b at q + b × record, its i-th word (Q16_UNIT, …) at words + b × record + i ×
 * word. */
typedef struct q16_place {
    uint8_t *q;
    uint8_t *words;
    size_t record; /* bytes from block to block */
    size_t word;   /* bytes from word to word */
} q16_place;

static inline uint32_t q16_tile_tokens(uint32_t n_tokens, uint32_t first)
{
    return n_tokens - first < LINEAR_TILE ? n_tokens - first : LINEAR_TILE;
}

/* A token's part of a record, and of it its digits. */
static inline size_t q16_digit_bytes(linear_format format)
{
    return format == LINEAR_Q8 ? Q16_BLOCK : Q16_DIGITS;
}

static inline size_t q16_record_bytes(linear_format format)
{
    return format == LINEAR_C16 ? C16_RECORD_BYTES : Q16_RECORD_BYTES - Q16_DIGITS + q16_digit_bytes(format);
}

static inline uint8_t *q16_tile(const linear_input *input, uint32_t first)
{
    return (uint8_t *)input->data + (size_t)first * (input->n_in / Q16_BLOCK) * q16_record_bytes(input->format);
}

static inline q16_place q16_find(const linear_input *input, uint32_t token)
{
    uint32_t first = token / LINEAR_TILE * LINEAR_TILE;
    size_t t = q16_tile_tokens(input->n_tokens, first), digits = q16_digit_bytes(input->format);
    uint8_t *tile = q16_tile(input, first);
    return (q16_place){.q = tile + (token - first) * digits,
                       .words = tile + t * digits + (token - first) * sizeof(float),
                       .record = t * q16_record_bytes(input->format),
                       .word = t * sizeof(float)};
}

void quantize_act_q16_scalar(const linear_input *input, uint32_t token, uint32_t n, const float *src, size_t stride);
void quantize_act_w16_scalar(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                             size_t stride); /* and LINEAR_C16 */
/* Rounded to 8 bits, as LINEAR_Q16, LINEAR_W16 or LINEAR_Q8. */
void quantize_act_rounded_scalar(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                 size_t stride);
void quantize_act_w15_scalar(const linear_input *input, uint32_t token, uint32_t n, const float *src, size_t stride);
void quantize_act_bf16_scalar(const linear_input *input, uint32_t token, uint32_t n, const float *src, size_t stride);
void quantize_act_f32(const linear_input *input, uint32_t token, uint32_t n, const float *src, size_t stride);

#endif
