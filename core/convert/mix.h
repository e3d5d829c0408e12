/*
 * Quantisation mixes: which type each tensor of a model gets under a name such as Q4_K_M.
 * Owner: none; const tables. Lifetime: static; mix_model the call's. Any thread.
 *
 * The mixes are the field's, tensor for tensor, so that a name means the same size and quality everywhere: some layers'
 * values and downward projections, and the output, get more bits than the rest.
 */
#ifndef MLXR_CONVERT_MIX_H
#define MLXR_CONVERT_MIX_H

#include "loaders/model_file.h"

typedef struct mix mix;

/* What the choice depends on. */
typedef struct mix_model {
    uint32_t n_layers, n_head, n_head_kv, n_expert;
    bool tied;     /* there is no output matrix: the embedding is it, too */
    bool weighted; /* there is an importance matrix */
} mix_model;

const mix *mix_find(const char *name); /* any case; NULL */
const char *mix_names(void);           /* of all, for messages */
uint32_t mix_file_type(const mix *m);  /* general.file_type */
bool mix_weighs(const mix *m);         /* there is a choice of errors, which an importance matrix can weigh */

#define MIX_TYPES 64 /* more than the largest dtype */
/* general.file_type of a model whose weights mostly have this type. */
uint32_t mix_file_type_of(dtype type);

mix_model mix_model_of(const model_file *file, bool weighted);

/* The type of a tensor; *gave_way: its rows do not divide into the blocks of what it should have had. */
dtype mix_type(const mix *m, const mix_model *model, const tensor *t, bool *gave_way);

#endif
