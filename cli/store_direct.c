/*
 * The store of models, in this process.
 * Owner: the verb. Lifetime: store_open to store_close.
 */
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

static mlxr_status direct_show(store *s, const char *name, json_t **out, mlxr_error *error)
{
    registry_model m;
    mlxr_status status = registry_resolve(s->registry, name, &m, error);
    if (status == MLXR_OK) {
        char *modelfile = registry_modelfile_text(&m);
        *out = registry_model_json(&m);
        if (*out && modelfile) {
            json_object_set_new(*out, "modelfile", json_text(modelfile, strlen(modelfile)));
        }
        free(modelfile);
        registry_model_close(&m);
        status = *out ? MLXR_OK : MLXR_NOMEM;
    }
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

static mlxr_status direct_pull(store *s, const char *source, const registry_pull_options *options, char *name,
                               mlxr_error *error)
{
    return registry_pull(s->registry, source, options, name, error);
}

static void direct_close(store *s)
{
    registry_close(&s->registry);
}

bool store_open(store *out, bool change)
{
    static const store_ops direct = {direct_list,   direct_show, direct_remove, direct_copy,
                                     direct_create, direct_pull, direct_close};
    mlxr_error error;
    *out = (store){.ops = &direct};
    if (registry_open(&out->registry, NULL, &(registry_options){.read_only = !change}, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return false;
    }
    return true;
}

void store_close(store *s)
{
    s->ops->close(s);
}
