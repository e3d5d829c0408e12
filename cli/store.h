/*
 * The store of models as the verbs see it: a few operations whose answers are JSON, whoever carries them out.
 * Owner: the verb. Lifetime: store_open to store_close.
 *
 *   store_open ─┬─ a daemon answers (client.h) ─▶ store_daemon.c: over its /ui-api
 *               └─ none does ──────────────────▶ store_direct.c: the registry, in this process
 *
 * Both give the same JSON and the same errors, so that `--json` does not depend on which it was.
 */
#ifndef MLXR_CLI_STORE_H
#define MLXR_CLI_STORE_H

#include <jansson.h>

#include "client.h"
#include "registry/registry.h"

typedef struct store store;

typedef struct store_ops {
    /* [registry_model_json, …] */
    mlxr_status (*list)(store *s, json_t **out, mlxr_error *error);
    /* {"model": registry_model_json, "modelfile": its text}; details: and "description", as mlxr_model_describe gives
     * it */
    mlxr_status (*show)(store *s, const char *name, bool details, json_t **out, mlxr_error *error);
    mlxr_status (*remove)(store *s, const char *name, mlxr_error *error);
    mlxr_status (*copy)(store *s, const char *from, const char *to, bool alias, mlxr_error *error);
    mlxr_status (*create)(store *s, const char *name, const registry_recipe *recipe, const char *directory,
                          mlxr_error *error);
    /* name: REGISTRY_NAME_MAX + 1 bytes */
    mlxr_status (*pull)(store *s, const char *source, const registry_pull_options *options, char *name,
                        mlxr_error *error);
    /* To where the model's own name says. */
    mlxr_status (*push)(store *s, const char *name, const registry_pull_options *options, mlxr_error *error);
    /* [key, …]; with "key" among what a new one has: the only time it is told */
    mlxr_status (*keys)(store *s, json_t **out, mlxr_error *error);
    mlxr_status (*key_create)(store *s, const registry_key *key, json_t **out, mlxr_error *error);
    mlxr_status (*key_revoke)(store *s, const char *id, mlxr_error *error);
    void (*close)(store *s);
} store_ops;

struct store {
    const store_ops *ops;
    registry *registry; /* of store_direct */
    client *client;     /* of store_daemon */
};

enum {
    STORE_CHANGE = 1u << 0, /* something may be changed */
    STORE_FILES = 1u << 1,  /* with a file of this machine: always in this process */
};

/* Returns an exit code, after telling why not. */
int store_open(store *out, const options *o, unsigned flags);
/* The same without a daemon, and over one. */
int store_open_direct(store *out, bool change);
void store_open_daemon(store *out, client *c);
void store_close(store *s);

#endif
