/*
 * Weights of safetensors that lie in ways that no kernel reads, quantised or turned, rewritten row by row as one does.
 * Owner: the model_file; nothing is copied until rows are asked for. Lifetime: its own. Immutable; any thread.
 *
 * A checkpoint's numbers become blocks that stand for the same weights exactly: of a GGUF format where one holds them
 * (GPTQ without zero points: Q4_0; MLX with halves: Q4_1 or Q5_1; MXFP4), else of quant/codec_checkpoint.h. Scales of
 * larger groups are repeated.
 */
#ifndef MLXR_LOADERS_PACKED_H
#define MLXR_LOADERS_PACKED_H

#include "quant/dtype.h"

typedef enum packed_layout {
    PACKED_GPTQ,   /* words of 8 inputs: q[n_in / 8][n_out], scales[groups][n_out], zeros[groups][n_out / 8] */
    PACKED_AWQ,    /* words of 8 outputs 0, 2, 4, 6, 1, 3, 5, 7: q[n_in][n_out / 8], scales and zeros as GPTQ */
    PACKED_AFFINE, /* MLX: q[n_out][n_in × bits / 32] without gaps, scales[n_out][groups], biases the same */
    PACKED_MXFP4,  /* bytes of two inputs, the first one low: q[n_out][n_in / 2], scales[n_out][n_in / 32] of E8M0 */
    PACKED_NF4,    /* bitsandbytes: bytes of two weights, the first one high; scales[n_out × groups], maybe quantised */
    PACKED_FP8,    /* q[n_out][n_in], scales[⌈n_out / group_rows⌉][⌈n_in / group⌉] */
    PACKED_TURNED, /* plain weights, of each matrix of a stack q[n_in][n_rows] */
} packed_layout;

typedef struct packed_weight {
    packed_layout layout;
    dtype type;                 /* of the blocks that rows become */
    uint64_t n_in, n_out;       /* n_out: of all matrices of a stack */
    uint64_t n_rows;            /* PACKED_TURNED: of one of them … */
    uint64_t step;              /* … and weights from one to the next; 0: of one */
    uint64_t group, group_rows; /* inputs and outputs that share a scale */
    uint32_t bits;
    bool zero_less_one; /* GPTQ: zero points are stored less 1 */
    uint64_t n_zip;     /* not 0: rows of each matrix that alternate, gate and up, where all of gate come first here */
    const uint8_t *q;
    const uint8_t *scales; /* of scale_type; MXFP4: bytes */
    dtype scale_type;
    const uint8_t *zeros; /* words, or MLX's biases of scale_type */
    const uint8_t *order; /* GPTQ: int32 [n_in], the group of each input, where they are not in order; else NULL */
    /* NF4 with double quantisation: a scale is map[code] × outer[i / outer_group] + offset; outer NULL: floats */
    const uint8_t *map, *outer;
    uint64_t outer_group;
    float offset;
    const void *sources[5]; /* all of these, for giving their pages back */
    uint64_t source_bytes[5];
    uint32_t n_sources;
} packed_weight;

/* Rows [first, first + n) as blocks of p->type, one after the other. */
void packed_rows(const packed_weight *p, uint64_t first, uint64_t n, void *dst);
/* The pages of what it was made of leave memory until they are needed again. */
void packed_forget(const packed_weight *p);
/* The same of what no row but [first, first + n), and of turned matrices those before, is made of, as far as it lies
 * together: memory is bounded whatever the tensor's size. Where outputs lie side by side (GPTQ, AWQ) nothing does. */
void packed_forget_rows(const packed_weight *p, uint64_t first, uint64_t n);

#endif
