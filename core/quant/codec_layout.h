/*
 * Where the bits of a quantised block lie: shared by decoding and encoding.
 * A weight is scale[group] × (q − zero) − min[group]; q is spread over one or two bit planes of the block.
 * Layouts are ggml's (ggml-common.h describes the same structs).
 * Owner: none; const tables. Lifetime: static.
 */
#ifndef MLXR_QUANT_CODEC_LAYOUT_H
#define MLXR_QUANT_CODEC_LAYOUT_H

#include "quant/dtype.h"

#define CODEC_BLOCK_MAX 256
#define CODEC_GROUPS_MAX 16

/* `bits` of each weight. Bytes come in runs: a run holds run × 8/bits weights, the first `run` of them in the lowest
 * bits of its bytes, the next `run` in the bits above, and so on. bits = 0: the plane is absent. */
typedef struct codec_plane {
    uint8_t offset; /* of the plane in the block */
    uint8_t bits, run;
} codec_plane;

typedef struct codec_layout {
    uint16_t n;    /* weights a block; 0: not a block format of this kind */
    uint8_t group; /* weights that share a scale */
    uint8_t zero;  /* the q that stands for 0 */
    uint8_t top;   /* largest q */
    codec_plane low, high;
    uint8_t d, dmin;   /* offsets of the block's half-precision factors; dmin 0: there is none */
    uint8_t scales;    /* offset of the packed scales of K-quants */
    uint8_t scale_top; /* their largest value; 0: the block has only d (and dmin) */
} codec_layout;

/* Of Q4_0 … Q6_K; n = 0 for the other types. */
const codec_layout *codec_layout_of(dtype type);

/* Packed scales of a K-quant: one whole number a group; mins for Q2_K, Q4_K and Q5_K. Q3_K's and Q6_K's are signed. */
void codec_scales_get(dtype type, const uint8_t *block, int *scales, int *mins);
void codec_scales_put(dtype type, uint8_t *block, const int *scales, const int *mins); /* into zeroed bytes */

void codec_planes_get(const codec_layout *layout, const uint8_t *block, uint8_t *q);
void codec_planes_put(const codec_layout *layout, uint8_t *block, const uint8_t *q); /* into zeroed bytes */

#endif
