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
/* Is this tensor, whose name behind "blk.<i>." is `name`, one that bind_experts took for the layer? */
bool experts_know(const layer_weights *w, const hparams *h, const tensor *t, const char *name);
/* Biases are there for all parts of all layers, or for none; layers[hparams_layers_bound]. */
mlxr_status experts_refuse_gaps(const layer_weights *layers, const hparams *h, mlxr_error *error);

#endif
