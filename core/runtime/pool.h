/*
 * Pooling: hidden states of many texts, made one a text.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_RUNTIME_POOL_H
#define MLXR_RUNTIME_POOL_H

#include "graph/hparams.h"
#include "mlxr_embed.h"

/* What the model's file says; the mean where it says nothing. */
mlxr_pooling pool_kind(const hparams *h);

/* Takes the state [n_embd] of one text; what it returns but MLXR_OK ends the whole. */
typedef mlxr_status pool_taker(void *user, size_t index, const double *pooled, mlxr_error *error);

/* Texts are computed together, as many as a step takes, and taken as they are done. `mark` is called for each with its
 * tokens, before it is computed; NULL: nothing. */
mlxr_status pool_texts(mlxr_engine *engine, mlxr_model *model, const mlxr_embed_input *inputs, size_t n_inputs,
                       mlxr_pooling pooling, void (*mark)(mlxr_sequence *), pool_taker *take, void *user,
                       mlxr_error *error);

#endif
