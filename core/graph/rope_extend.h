/*
 * Contexts beyond the one a model was trained for: what options make of its RoPE.
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_GRAPH_ROPE_EXTEND_H
#define MLXR_GRAPH_ROPE_EXTEND_H

#include "graph/hparams.h"
#include "graph/rope_options.h"

/* Sets h->n_ctx, and scaling, base and what lies beside them as mlxr_rope_options says (mlxr.h). `factors`: [n_rot/2]
 * what the file divides frequencies by, or NULL. MLXR_UNSUPPORTED: whatever does not suit this model, such as a scaling
 * beside its own, or too many tokens of its context; else as mlxr_model_options_check. */
mlxr_status rope_extend(hparams *h, const float *factors, const mlxr_model_options *options, mlxr_error *error);

/* "yarn", for mlxr_model_info; and its factor. */
const char *rope_name(const hparams *h);
float rope_factor(const hparams *h);

/* Which option has the model read more than it was trained for, one that it takes: what is to be said beside its
 * context. NULL: none does. */
const char *rope_advice(const hparams *h);

/* Does any layer that sees the whole context turn? */
bool rope_turns(const hparams *h);

#endif
