/*
 * The store of models as the verbs see it: a few operations whose answers are JSON, whoever carries them out.
 * Owner: the verb. Lifetime: store_open to store_close.
 *
 * Now that is this process, directly (store_direct.c). A daemon that answers would be another store_ops with the same
 * answers, so that `--json` does not depend on which it was.
 */
#ifndef MLXR_CLI_STORE_H
#define MLXR_CLI_STORE_H

#include <jansson.h>

#include "registry/registry.h"

typedef struct store store;

typedef struct store_ops {
    /* [registry_model_json, …] */
    mlxr_status (*list)(store *s, json_t **out, mlxr_error *error);
    /* registry_model_json */
    mlxr_status (*show)(store *s, const char *name, json_t **out, mlxr_error *error);
    mlxr_status (*remove)(store *s, const char *name, mlxr_error *error);
    mlxr_status (*copy)(store *s, const char *from, const char *to, bool alias, mlxr_error *error);
    mlxr_status (*create)(store *s, const char *name, const registry_recipe *recipe, const char *directory,
                          mlxr_error *error);
    /* name: REGISTRY_NAME_MAX + 1 bytes */
    mlxr_status (*pull)(store *s, const char *source, const registry_pull_options *options, char *name,
                        mlxr_error *error);
    void (*close)(store *s);
} store_ops;

struct store {
    const store_ops *ops;
    registry *registry; /* of store_direct */
};

/* change: whether anything may be changed. False after telling why not. */
bool store_open(store *out, bool change);
void store_close(store *s);

#endif
