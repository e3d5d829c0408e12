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
typedef enum context_use {
    CONTEXT_OF_MODEL,    /* --ctx, else what the model was made with */
    CONTEXT_MEASURED,    /* all that there is: what the model was made with counts beside --rope-* only, and so does the
                            --ctx of a window */
    CONTEXT_OF_REQUESTS, /* all that there is: requests say how much of it they use; beside --rope-* as CONTEXT_OF_MODEL
                          */
} context_use;
/* Context and RoPE; model NULL: none is known. 0 is what a model was trained for. Other members of *out stay. False:
 * the error says what is wrong. */
bool context_take(mlxr_model_options *out, const options *o, const registry_model *model, context_use use,
                  mlxr_error *error);
/* Tells what a scale does that the model's file has already. */
void context_warn(const options *o, const mlxr_model_info *info);
/* A draft model reads as far as the one it drafts for, where that reads further than it was trained for. */
mlxr_model_options context_of_draft(const mlxr_model *model);
/* "; RoPE scaling yarn by 4, base 10000", where there is one or the base is not the file's, and the line's end. */
void context_print_rope(const mlxr_model_info *info);

#endif
