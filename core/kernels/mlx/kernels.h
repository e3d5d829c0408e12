/*
 * Our own Metal kernels in a step's graph: which operations they can take, chosen by shape and type when the graph is
 * built, and how they are called. What returns NULL or false was not taken: MLX's operations do it.
 * Owner, lifetime: as walk.h says.
 *
 * kernel                   takes
 * rms_norm                 NORM (RMS, without bias), of rows or of heads
 * rope_apply               ROPE of up to the whole head
 * q_gemm_dequant           LINEAR by the formats that kernel_takes_weight names
 * swiglu_mlp_fused         LINEAR, LINEAR, GATED (SiLU, GELU-tanh) of few rows, both weights of one such format
 * attention_decode_fused   KV_WRITE (kv_write) and ATTEND where no slice has many rows
 * attention_prefill_fused  ROPE, ROPE, KV_WRITE, ATTEND where one has
 *
 * Both attentions: heads of 64, 80, 96, 128 or 256, pages of F32 or F16. They write the rows of the step into the pages
 * that they read, through the array of the pool: on Metal these are the host's own pages, so that nothing is handed
 * back; where MLX copied the pool the rows come back as results and the host stores them, as without kernels.
 */
#ifndef MLXR_KERNELS_MLX_KERNELS_H
#define MLXR_KERNELS_MLX_KERNELS_H

#include "kernels/mlx/walk.h"

/* A slice of more rows than this is a prompt. */
#define KERNEL_DECODE_ROWS 8u
/* Of a GPU, as far as sharing out long contexts goes: Apple's have 7 to 80. */
#define KERNEL_CORES 10u

/* Shall q_gemm_dequant and swiglu_mlp_fused read this weight as it lies in the file? */
bool kernel_takes_weight(const unit_choices *choices, const tensor *t);

mlx_value *kernel_norm(walk *w, const op *o, const op_arrays *arrays, const mlx_value *x);
mlx_value *kernel_rope(walk *w, const op *o, const mlx_value *x);
mlx_value *kernel_product(walk *w, const mlx_weight *weight, const mlx_value *x, const mlx_value *bias);
/* activation(x · gateᵀ) ∘ (x · upᵀ) for n_rows of x */
mlx_value *kernel_gated(walk *w, const mlx_weight *gate, const mlx_weight *up, activation act, const mlx_value *x,
                        int32_t n_rows);

/* Is the attention of this layer ours in this step? o: its KV_WRITE or ATTEND. Not where the one does not follow the
 * other: ours stores what it sees. */
bool kernel_takes_attention(const walk *w, const op *o);
/* Attention of all rows of the step, which puts their keys and values into the pages, too. */
mlx_value *kernel_attend(walk *w, const op *o, const op_arrays *arrays);

#endif
