/*
 * Program: a plan with its weights as MLX arrays, and the graph of one step of it.
 * Owner: the engine. Lifetime: prepare to release. On the worker's thread only.
 *
 *   mlx_program_open     checks the plan, loads weights
 *   mlx_program_run      walk_build → submit → while it is computed, as results come: pages_write, logits
 *
 * Pages stay the host's: a graph reads those of earlier steps through an array over the pool's memory, takes the keys
 * and values of its own rows from the graph itself, and hands them back as results, which the host stores. So MLX never
 * writes into memory that others read, a step that fails leaves nothing behind, and eviction, disk tier and forks see
 * the same pages as with every other backend.
 */
#ifndef MLXR_KERNELS_MLX_PROGRAM_H
#define MLXR_KERNELS_MLX_PROGRAM_H

#include "base/region.h"
#include "kernels/backend.h"
#include "kernels/mlx/bridge_kernel.h"
#include "kernels/mlx/weights.h"

/* What one operation of the plan needs that outlives a step. */
typedef struct op_arrays {
    const mlx_weight *weight; /* LINEAR */
    mlx_value *vector;        /* NORM, SCAN: the weight */
    mlx_value *bias, *sinks;  /* or NULL */
} op_arrays;

/* Keys and values, or states, of a step's rows: results that belong into pages. */
typedef struct page_rows {
    const op *o;  /* KV_WRITE or SCAN; NULL: it only has to be computed, for what a kernel stores itself */
    mlx_value *k; /* [n_rows, n_head_kv × head_dim] in the pages' type, F32 where that has blocks; SCAN: the states */
    mlx_value *v; /* NULL for SCAN */
} page_rows;

struct program {
    const plan *plan;
    bridge_device device;
    bool kernels;              /* our own are used */
    kernel_failures *failures; /* of the backend: where a runner runs them; NULL: Metal does */
    region memory;
    mlx_weight *weights; /* [n_weights], one a tensor */
    uint32_t n_weights;
    op_arrays *ops; /* [plan.n_ops] */
    mlx_arena *kept, *step, *results;
    page_rows *rows; /* [n_rows_max] of the step */
    uint32_t n_rows, n_rows_max;
    mlx_value *logits; /* of the step, or NULL */
};

/* What the backend gives its programs. */
typedef struct program_device {
    bridge_device device;
    bool kernels;
    kernel_failures *failures;
} program_device;

mlxr_status mlx_program_open(program **out, const plan *p, const program_device *device, mlxr_error *error);
void mlx_program_close(program **prog);
mlxr_status mlx_program_run(program *prog, const step *s, mlxr_error *error);

/* Builds the step's graph in prog->step; what has to be computed goes to prog->rows and prog->logits. */
void walk_build(program *prog, const step *s, region *memory);

/* Stores rows [n_rows] that were computed. */
void pages_write(const page_rows *rows, const step *s, const void *k, const void *v);

#endif
