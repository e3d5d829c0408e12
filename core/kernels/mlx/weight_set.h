/*
 * The weights of a model on the device, shared by its programs: that of its logits, that of hidden states, and those
 * that apply adapters multiply by the same matrices.
 * Owner: a set is its programs'. Lifetime: from the first program of a model to the last. On the worker's thread only.
 */
#ifndef MLXR_KERNELS_MLX_WEIGHT_SET_H
#define MLXR_KERNELS_MLX_WEIGHT_SET_H

#include "base/region.h"
#include "kernels/mlx/weights.h"
#include "kernels/plan.h"

typedef struct weight_set weight_set;

/* The set of the plan's model, among those in *sets or a new one. NULL: no memory. */
weight_set *weight_set_open(weight_set **sets, const plan *p);
void weight_set_close(weight_set **sets, weight_set **set);

/* Loaded the first time. NULL: no memory, or MLX failed (weight_set_status). */
const mlx_weight *weight_set_get(weight_set *set, const bridge_device *device, const tensor *t, bool raw);
/* The same of matrices of one shape. */
const mlx_stack *weight_set_stack(weight_set *set, const bridge_device *device, const tensor *parts, uint32_t n);
/* What MLX said of what could not be loaded since somebody asked. */
mlxr_status weight_set_status(weight_set *set, mlxr_error *error);

#endif
