/*
 * Options of contexts and RoPE (mlxr_rope_options, mlxr_model_options_check): names, and what suits no model.
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_GRAPH_ROPE_OPTIONS_H
#define MLXR_GRAPH_ROPE_OPTIONS_H

#include "mlxr.h"

/* Contexts are positions in an int32_t, with room to add two of them; as of a file's context_length. */
#define CONTEXT_TOKENS_MAX (1u << 30)

/* As mlxr_rope_scaling_find knows it; not of MLXR_ROPE_OF_FILE. */
const char *rope_options_name(mlxr_rope_scaling scaling);

/* Do they divide frequencies? */
bool rope_options_stretch(const mlxr_rope_options *options);

/* Do they ask for anything? */
bool rope_options_change(const mlxr_rope_options *options);

#endif
