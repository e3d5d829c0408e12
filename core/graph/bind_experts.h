/*
 * Binding of experts: matrices of all experts in one tensor, gate and up in one, or one tensor an expert.
 * Owner: the model's graph (memory from its region). Lifetime: the model's.
 */
#ifndef MLXR_GRAPH_BIND_EXPERTS_H
#define MLXR_GRAPH_BIND_EXPERTS_H

#include "graph/bind.h"

/* Fills the layer's experts and counts the tensors it took. */
mlxr_status bind_experts(layer_weights *out, const hparams *h, const model_file *file, uint32_t layer, region *memory,
                         uint64_t *n_bound, mlxr_error *error);
/* Is this the name, behind "blk.<i>.", of a tensor that bind_experts may take? */
bool experts_know(const char *name, uint32_t n_expert);

#endif
