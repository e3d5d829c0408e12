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

/* src[n] → blocks of `type`. `importance` [n] weighs each element's squared error, or is NULL. Non-finite input is
 * treated as 0. Deterministic. */
void codec_encode(dtype type, const float *src, void *dst, size_t n, const float *importance);

#endif
