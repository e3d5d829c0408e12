/*
 * What sentence-transformers computes of a model's hidden states, as its folder says: modules.json, else the folders
 * that it has always named so.
 * Owner: the caller's; names live in the region given. Lifetime: the model_file's.
 */
#ifndef MLXR_LOADERS_SAFETENSORS_MODULES_H
#define MLXR_LOADERS_SAFETENSORS_MODULES_H

#include "base/error.h"
#include "base/region.h"

#define MODULES_DENSE_MAX 2u

/* Paths within the folder; NULL: there is none. */
typedef struct safetensors_modules {
    const char *pooling; /* its config.json */
    struct {
        const char *config, *weights;
    } dense[MODULES_DENSE_MAX]; /* layers behind pooling, in order */
    uint32_t n_dense;
} safetensors_modules;

/* Modules of `folder` in modules.json's order: the transformer, pooling, up to MODULES_DENSE_MAX dense layers, and a
 * normalisation as the last. MLXR_UNSUPPORTED names any other; MLXR_FORMAT a list that is none, and paths that lead out
 * of the folder. Without modules.json: 1_Pooling, 2_Dense and 3_Dense, of which those with files count. Each dense
 * layer must be a product without an activation. Any thread.
 * Source: sentence-transformers' modules.json (Reimers and Gurevych 2019), whose list is the order of computation. */
mlxr_status safetensors_modules_read(safetensors_modules *out, const char *folder, region *memory, mlxr_error *error);

/* "folder/name" in the region; NULL without memory. An empty folder is the current one. */
const char *safetensors_join_path(region *memory, const char *folder, const char *name);

#endif
