/*
 * Binding of what a head for multi-token prediction has beside its layer.
 * Owner: the model's graph. Lifetime: the model's.
 */
#ifndef MLXR_GRAPH_BIND_AHEAD_H
#define MLXR_GRAPH_BIND_AHEAD_H

#include "graph/bind.h"

/* Fills w->ahead, behind the model's own weights, which stand for what the head has none of; counts the tensors it
 * took. */
mlxr_status bind_ahead(model_weights *w, const hparams *h, const model_file *file, uint64_t *n_bound,
                       mlxr_error *error);
/* Is this the name, behind "blk.<i>.", of a tensor that bind_ahead may take? */
bool ahead_knows(const char *name);

#endif
