/*
 * Blocks of weights that came from quantised safetensors and that no GGUF format holds exactly. The formats are ours:
 * they live in memory only.
 *
 *     AFFINE4   bfloat16 scale, bfloat16 bias, 32 numbers of 4 bits as in Q4_1: scale × q + bias
 *     ZERO4     half scale, uint16 zero point, 32 numbers of 4 bits: scale × (q − zero)
 *     AFFINE8   float scale, float bias, 32 bytes: scale × q + bias
 *     NF4       float scale, 64 numbers of 4 bits that stand for quantiles of a normal distribution (QLoRA, appendix E)
 *     FP8_E4M3  float scale, 32 numbers without infinities; 0x7f and 0xff are NaN
 *     FP8_E5M2  float scale, 32 numbers: the upper halves of IEEE halves
 *
 * Numbers of 4 bits lie as in ggml's blocks: the first half of them in the low nibbles.
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_QUANT_CODEC_CHECKPOINT_H
#define MLXR_QUANT_CODEC_CHECKPOINT_H

#include "quant/dtype.h"

/* One block. A product is rounded once, to float; what is added to one by an affine format rounds once more. */
void codec_checkpoint_decode(dtype type, const uint8_t *block, float *dst);

/* What the numbers of NF4 stand for. */
extern const float codec_nf4_values[16];
float codec_e4m3_value(uint8_t bits);
float codec_e5m2_value(uint8_t bits);

#endif
