/*
 * Stacks: tensors that hold a matrix for each expert, or for each head.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_GRAPH_BIND_STACK_H
#define MLXR_GRAPH_BIND_STACK_H

#include "base/error.h"
#include "loaders/model_file.h"

/* FORMAT, with both shapes, where it is not [n_in, n_out, n]. */
mlxr_status stack_check(const tensor *t, uint64_t n_in, uint64_t n_out, uint64_t n, mlxr_error *error);
/* Rows [first + i × apart, … + n_out) of a tensor as matrix i of n. */
void stack_cut(const tensor *all, uint64_t first, uint64_t apart, uint64_t n_out, uint32_t n, tensor *out);

#endif
