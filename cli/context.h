/*
 * How far a model reads: --ctx and --rope-*.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_CLI_CONTEXT_H
#define MLXR_CLI_CONTEXT_H

#include "options.h"
#include "registry/registry.h"

/* Whether an option is one of --rope-*, which are of a model as it is loaded. */
bool context_is_rope(const option_spec *spec);
/* Whether --ctx is of a window of tokens (perplexity, imatrix), not of a model. */
bool context_is_window(const options *o);
/* Context and RoPE. The context is the command line's, else the one that the model was made with (NULL: none), else 0:
 * what it was trained for. measuring: --ctx is of a window, and counts beside --rope-* only. Other members of *out
 * stay. False: the error says what is wrong. */
bool context_take(mlxr_model_options *out, const options *o, const registry_model *model, bool measuring,
                  mlxr_error *error);
/* A draft model reads as far as the one it drafts for, where that reads further than it was trained for. */
mlxr_model_options context_of_draft(const mlxr_model *model);
/* "; RoPE scaling yarn by 4", where there is one, and the line's end. */
void context_print_rope(const mlxr_model_info *info);

#endif
