/*
 * Names of models: the model directory and what is in it.
 * Owner: the caller frees what it is given. Lifetime: the call.
 */
#ifndef MLXR_CLI_MODELS_H
#define MLXR_CLI_MODELS_H

#include <stdbool.h>
#include <stddef.h>

#include "registry/registry.h"

#define MODEL_PATH_MAX REGISTRY_PATH_MAX

/* $MLXR_MODELS, else $XDG_DATA_HOME/mlxr/models, else ~/.local/share/mlxr/models. False if that is too long, or there
 * is no home. */
bool models_directory(char *out, size_t cap);

typedef struct model_entry {
    char *name; /* the file without its ending; of a split model without the number of the part */
    char *path;
} model_entry;

typedef struct model_list {
    model_entry *items; /* sorted by name */
    size_t n, cap;
} model_list;

/* What the registry knows: the store, the model directory, other programs' folders. False after telling why. */
bool models_list(model_list *out);
void models_list_close(model_list *list);

/* Whether an argument is a path, and no name: it says so ("./x", "/x"), or there is such a file. */
bool models_is_path(const char *argument);
/* The model of the registry that a name means; for a path, only m->path and m->name are set. The caller closes it. */
bool models_resolve(const char *argument, registry_model *m);
/* The path of the model an argument names. False after telling why there is none. */
bool models_find(const char *argument, char *path, size_t cap);

#endif
