/*
 * Scalar codecs of every weight format: the definition of what the bytes mean, and the oracle of every kernel.
 * Block formats and their arithmetic follow ggml's published layouts; decoding is bit-exact with PyPI `gguf`.
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_QUANT_CODEC_H
#define MLXR_QUANT_CODEC_H

#include "quant/dtype.h"

/* src: n elements of `type` (n a multiple of the block size; src need not be aligned) → dst[n]. */
void codec_decode(dtype type, const void *src, float *dst, size_t n);

/* Whether a type can be written, too. */
bool codec_encodes(dtype type);

/* src[n] → blocks of `type`. `importance` [n] weighs each element's squared error, or is NULL. Non-finite input is
 * treated as 0. Deterministic. */
void codec_encode(dtype type, const float *src, void *dst, size_t n, const float *importance);

/* Weights that one scale and one bias in codec_affine stand for: 32 or 16; 0 where the type has no scales, or its
 * numbers stand for entries of a table. */
uint32_t codec_affine_group(dtype type);
uint32_t codec_affine_bits(dtype type); /* of its whole numbers */

/* A block as whole numbers q ≥ 0: its weights are scales[group] × q + biases[group], the products exact in float. Both
 * arrays are for the whole block, one a group. */
void codec_affine(dtype type, const void *block, uint8_t *q, float *scales, float *biases);

#endif
