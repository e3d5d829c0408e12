/*
 * Heads: what a model makes of a text's pooled hidden state.
 * Owner: none; a function and a view. Lifetime: the call.
 */
#ifndef MLXR_RUNTIME_HEAD_H
#define MLXR_RUNTIME_HEAD_H

#include "graph/graph.h"

/* Numbers a head gives; n_in where it has no layers. */
uint32_t head_width(const text_head *head, uint32_t n_in);

/* *out = the head's layers over in[n_in], malloc'ed, [head_width]. Sums are double. */
mlxr_status head_apply(double **out, const text_head *head, const double *in, uint32_t n_in, mlxr_error *error);

#endif
