/*
 * Parts of a layer's tensors: what files have in one tensor and the plan reads as several (Q, K and V; gate and up;
 * what goes into a mixer), and the forms that mixers' tensors come in. Owner: the model's graph (memory from its
 * region). Lifetime: the model's.
 */
#ifndef MLXR_GRAPH_BIND_PARTS_H
#define MLXR_GRAPH_BIND_PARTS_H

#include "graph/bind.h"

/* All that a mixer reads: gates and what they open (LFM2); or queries, keys, values and gates; with Mamba-2's steps. */
uint64_t mixer_in_width(const hparams *h);

/* Fills the members of a bound layer that are parts of others; FORMAT where a mixer's inputs are in none of the known
 * forms. */
mlxr_status bind_parts(layer_weights *w, const hparams *h, uint32_t layer, region *memory, mlxr_error *error);

#endif
