/*
 * Weights as MLX wants them.
 * Owner: the program, in its arena of weights. Lifetime: the program's.
 *
 * type                                how it is kept
 * F32, F16, BF16                      the file's own bytes
 * Q4_0 Q4_1 Q5_0 Q5_1 Q8_0            packed for MLX's quantised product: whole numbers of 4, 5 or 8 bits, a scale and
 * Q4_K Q5_K Q8_K                      a bias in F32 for 32 weights. The same weights exactly: scale × q and the bias
 *                                     have no more digits than a float
 * Q2_K Q3_K Q6_K                      the file's own bytes, with scales and biases in F32: their groups of 16 are
 *                                     smaller than MLX's, so operations of MLX decode them in each step
 * with our own kernels: all those     the file's own bytes (`raw`)
 * they know (kernel_takes_weight)
 */
#ifndef MLXR_KERNELS_MLX_WEIGHTS_H
#define MLXR_KERNELS_MLX_WEIGHTS_H

#include "base/region.h"
#include "kernels/mlx/bridge.h"
#include "quant/tensor.h"

typedef struct mlx_weight {
    const tensor *source;
    int32_t n_in, n_out;
    mlx_value *w;               /* dense [n_out, n_in], packed [n_out, n_in × bits / 32], or blocks [n_out, bytes] */
    mlx_value *scales, *biases; /* [n_out, n_in / group]; NULL: dense */
    int group, bits;
    bool packed;
    bool f32;              /* w is dense, of F32 */
    int32_t n_rows_packed; /* products of more rows than this decode what is packed first */
    bool raw;              /* blocks as in the file, for our own kernels; no scales */
} mlx_weight;

/* Matrices of one shape: experts, heads. */
typedef struct mlx_stack {
    int32_t n;
    mlx_weight all;         /* one below the other, [n × n_out, n_in]; all.w NULL: their types differ */
    const mlx_weight *each; /* [n], parts of it */
} mlx_stack;

/* False: no memory; what went wrong inside MLX is in the arena's status. */
bool mlx_weight_load(mlx_weight *out, mlx_arena *arena, const bridge_device *device, const tensor *source, bool raw);
/* What a convolution multiplies by, [n_out, n_in, 1] of F32. */
mlx_value *mlx_taps_load(mlx_arena *arena, const tensor *source);
/* A vector as F32, whatever its type. */
mlx_value *mlx_vector_load(mlx_arena *arena, const tensor *source);

/* x [n_rows, n_in] → [n_rows, n_out] */
mlx_value *mlx_weight_product(mlx_arena *arena, const mlx_weight *w, const mlx_value *x);
/* The weight as F32 [n_out, n_in]. */
mlx_value *mlx_weight_dense(mlx_arena *arena, const mlx_weight *w);

/* ---- stacks.c ---- */

/* Those that lie one behind the other in the file are kept as one matrix is, others are joined: a copy. */
bool mlx_stack_load(mlx_stack *out, mlx_arena *arena, region *memory, const bridge_device *device, const tensor *parts,
                    uint32_t n);
/* Is it better to look up the matrices of n_rows rows, n_used each (mlx_stack_chosen), than to multiply all rows by all
 * of them? */
bool mlx_stack_gathers(const mlx_stack *s, int32_t n_rows, int32_t n_used);
/* x [n, 1 or m, 1, n_in] by those that chosen [n, m] names → [n, m, 1, n_out] */
mlx_value *mlx_stack_chosen(mlx_arena *arena, const mlx_stack *s, const mlx_value *x, const mlx_value *chosen,
                            bool sorted);
/* x [n, n_rows, n_in] → [n, n_rows, n_out], each with its own */
mlx_value *mlx_stack_product(mlx_arena *arena, const mlx_stack *s, const mlx_value *x);

#endif
