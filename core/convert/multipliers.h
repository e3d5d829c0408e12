/*
 * Falcon-H1's multipliers: folders have them beside the weights, GGUF in them.
 * Owner: the source's memory. Lifetime: its own.
 */
#ifndef MLXR_CONVERT_MULTIPLIERS_H
#define MLXR_CONVERT_MULTIPLIERS_H

#include "convert/source.h"
#include "graph/hparams.h"

/* Has the model of a folder some? */
bool multipliers_are_there(const hparams *h);

/* Metadata that are true no more once they are in the weights; those of embedding and logits only where the model does
 * not tie these. */
bool multipliers_say(const source *s, const char *key);

/* Multiplies rows of matrices when they are written, and vectors here. */
mlxr_status multipliers_fold(source *s, const hparams *h, mlxr_error *error);

#endif
