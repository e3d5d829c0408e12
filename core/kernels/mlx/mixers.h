/*
 * Layers with a state in the place of attention, as a graph: states come out of pages, and those that the step's
 * sequences want to keep are results that the host stores in other pages, as keys and values are.
 * Owner, lifetime: as walk.h says.
 */
#ifndef MLXR_KERNELS_MLX_MIXERS_H
#define MLXR_KERNELS_MLX_MIXERS_H

#include "kernels/mlx/walk.h"

/* The part of a layer's state that an operation goes on from and leaves behind. */
typedef struct state_part {
    const op_state *state;
    uint32_t width; /* elements */
} state_part;

/* Which part of which state SCAN, CONV and RECUR have. */
state_part state_part_of(const op *o);

/* [n, width] what the batch's slices go on from, 0 where nothing was before; NULL: nothing was before any of them, or
 * the arena has failed. */
mlx_value *state_before(walk *w, const batch *b, const op *o);
/* The rows whose states the batch's slices keep, in the batch's order. NULL: no memory, and the arena has failed. */
const state_target *states_wanted(walk *w, const batch *b, const op *o, uint32_t *n);
/* Notes states [n_targets, width] as results. */
void states_keep(walk *w, const op *o, mlx_value *states, const state_target *targets, uint32_t n_targets);

/* A batch's rows of x [rows of the step, width] as [n, n_rows, width], and results like that as rows of the step. */
mlx_value *batch_rows(walk *w, const batch *b, const mlx_value *x);
mlx_value *batches_joined(walk *w, const mlx_value *const *parts);

mlx_value *walk_scan(walk *w, const op *o, const op_arrays *arrays);
mlx_value *walk_conv(walk *w, const op *o, const op_arrays *arrays);
mlx_value *walk_recur(walk *w, const op *o, const op_arrays *arrays);

#endif
