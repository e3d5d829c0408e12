/*
 * The store of models, in this process.
 * Owner: the verb. Lifetime: store_open to store_close.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "store.h"

static mlxr_status add_json(void *user, const registry_model *m, mlxr_error *error)
{
    (void)error;
    json_t *one = registry_model_json(m);
    return one && json_array_append_new(user, one) == 0 ? MLXR_OK : MLXR_NOMEM;
}

static mlxr_status direct_list(store *s, json_t **out, mlxr_error *error)
{
    *out = json_array();
    mlxr_status status = registry_each(s->registry, add_json, *out, error);
    if (status != MLXR_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

/* A path that is longer than what the library takes would be cut. */
static mlxr_status describe(const char *path, json_t **out, mlxr_error *error)
{
    char *text = NULL;
    json_error_t where;
    mlxr_status status = mlxr_model_describe(path, &text, error);
    if (status == MLXR_OK) {
        *out = json_loads(text, 0, &where);
        mlxr_free(text);
    }
    if (status == MLXR_OK && !*out) {
        *error = (mlxr_error){.status = MLXR_FORMAT};
        snprintf(error->text, sizeof error->text, "the description of the model is no JSON: %s", where.text);
        status = MLXR_FORMAT;
    }
    return status;
}

static mlxr_status direct_show(store *s, const char *name, bool details, json_t **out, mlxr_error *error)
{
    registry_model m;
    json_t *description = NULL;
    mlxr_status status = registry_resolve(s->registry, name, &m, error);
    if (status != MLXR_OK) {
        return status;
    }
    char *modelfile = registry_modelfile_text(&m);
    if (details) {
        status = describe(m.path, &description, error);
    }
    if (status == MLXR_OK) {
        *out = json_pack("{s:o, s:o, s:o*}", "model", registry_model_json(&m), "modelfile",
                         modelfile ? json_text(modelfile, strlen(modelfile)) : json_null(), "description", description);
        status = *out ? MLXR_OK : MLXR_NOMEM;
    }
    free(modelfile);
    registry_model_close(&m);
    return status;
}

static mlxr_status direct_remove(store *s, const char *name, mlxr_error *error)
{
    return registry_remove(s->registry, name, 0, error);
}

static mlxr_status direct_copy(store *s, const char *from, const char *to, bool alias, mlxr_error *error)
{
    return alias ? registry_alias(s->registry, to, from, error) : registry_copy(s->registry, from, to, error);
}

static mlxr_status direct_create(store *s, const char *name, const registry_recipe *recipe, const char *directory,
                                 mlxr_error *error)
{
    return registry_create(s->registry, name, recipe, directory, error);
}

static mlxr_status direct_pull(store *s, const char *source, const registry_pull_options *how, char *name,
                               mlxr_error *error)
{
    return registry_pull(s->registry, source, how, name, error);
}

static mlxr_status direct_push(store *s, const char *name, const registry_pull_options *how, mlxr_error *error)
{
    return registry_push(s->registry, name, NULL, how, error);
}

static mlxr_status add_key(void *user, const registry_key *key, mlxr_error *error)
{
    (void)error;
    json_t *one = registry_key_json(key);
    return one && json_array_append_new(user, one) == 0 ? MLXR_OK : MLXR_NOMEM;
}

static mlxr_status direct_keys(store *s, json_t **out, mlxr_error *error)
{
    *out = json_array();
    mlxr_status status = registry_key_each(s->registry, add_key, *out, error);
    if (status != MLXR_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

static mlxr_status direct_key_create(store *s, const registry_key *key, json_t **out, mlxr_error *error)
{
    char text[REGISTRY_KEY_TEXT_MAX];
    registry_key made = *key;
    mlxr_status status = registry_key_create(s->registry, &made, text, error);
    if (status == MLXR_OK) {
        *out = registry_key_json(&made);
        json_object_set_new(*out, "key", json_string(text));
    }
    return status;
}

static mlxr_status direct_key_revoke(store *s, const char *id, mlxr_error *error)
{
    return registry_key_revoke(s->registry, id, error);
}

static void direct_close(store *s)
{
    registry_close(&s->registry);
}

int store_open_direct(store *out, bool change)
{
    static const store_ops direct = {direct_list,       direct_show,       direct_remove, direct_copy,
                                     direct_create,     direct_pull,       direct_push,   direct_keys,
                                     direct_key_create, direct_key_revoke, direct_close};
    mlxr_error error;
    *out = (store){.ops = &direct};
    if (registry_open(&out->registry, NULL, &(registry_options){.read_only = !change}, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}
