/*
 * Binding of a layer's tensors: the table of their names, shapes and the layers that need them. Experts and latent
 * attention's matrices are bound elsewhere.
 * Owner: the model's graph. Lifetime: the model's.
 */
#ifndef MLXR_GRAPH_BIND_LAYER_H
#define MLXR_GRAPH_BIND_LAYER_H

#include "graph/bind.h"

/* Fills the layer's weights and counts the tensors it took. */
mlxr_status bind_layer(layer_weights *out, const hparams *h, const model_file *file, uint32_t layer, uint64_t *n_bound,
                       mlxr_error *error);
/* Is this the name, behind "blk.<layer>.", of a tensor that bind_layer may take? */
bool layer_knows(const hparams *h, uint32_t layer, const char *name);
/* What layers may lack, all of them have or none has: one that is missing would silently count for nothing;
 * layers[hparams_layers_bound]. */
mlxr_status layers_refuse_gaps(const layer_weights *layers, const hparams *h, mlxr_error *error);

#endif
