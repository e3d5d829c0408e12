/*
 * Binding of what latent attention makes keys and values with: one matrix of both for all heads, or one of each for
 * each head.
 * Owner: the model's graph (memory from its region). Lifetime: the model's.
 */
#ifndef MLXR_GRAPH_BIND_LATENT_H
#define MLXR_GRAPH_BIND_LATENT_H

#include "graph/bind.h"

/* Fills the layer's k_up and v_up and counts the tensors it took. Where keys are rows of kv_up their data is NULL until
 * latent_make_keys. */
mlxr_status bind_latent(layer_weights *out, const hparams *h, const model_file *file, uint32_t layer, region *memory,
                        uint64_t *n_bound, mlxr_error *error);
/* Is this the name, behind "blk.<i>.", of a tensor that bind_latent may take? */
bool latent_knows(const char *name);

/* Bytes that latent_make_keys takes for the layer; 0: nothing is to be made. */
uint64_t latent_keys_bytes(const layer_weights *w, const hparams *h);
/* Queries meet the keys' matrix from the other side than the latent numbers do, so that a copy of it is made whose rows
 * are its columns: floats of 16 bits as they are, all others as F32, which loses nothing of any type. */
mlxr_status latent_make_keys(layer_weights *w, const hparams *h, region *memory, mlxr_error *error);

#endif
