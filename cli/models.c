/*
 * Names of models, through the registry.
 * Owner: the caller. Lifetime: the call.
 */
#include "models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "output.h"

bool models_directory(char *out, size_t cap)
{
    return registry_directory(out, cap);
}

static bool is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

static bool is_model_folder(const char *path)
{
    char config[MODEL_PATH_MAX];
    int n = snprintf(config, sizeof config, "%s/config.json", path);
    return n > 0 && (size_t)n < sizeof config && is_file(config);
}

bool models_is_path(const char *argument)
{
    return *argument == '/' || *argument == '.' || is_file(argument) || is_model_folder(argument) ||
           (strchr(argument, '/') && !registry_name_valid(argument));
}

static bool open_registry(registry **out)
{
    mlxr_error error;
    if (registry_open(out, NULL, &(registry_options){.read_only = true}, &error) == MLXR_OK) {
        return true;
    }
    print_error("%s", error.text);
    return false;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

static mlxr_status add_entry(void *user, const registry_model *m, mlxr_error *error)
{
    (void)error;
    model_list *list = user;
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        model_entry *grown = realloc(list->items, cap * sizeof *grown);
        if (!grown) {
            return MLXR_NOMEM;
        }
        list->items = grown;
        list->cap = cap;
    }
    model_entry entry = {.name = strdup(m->name), .path = strdup(m->path)};
    if (!entry.name || !entry.path) {
        free(entry.name);
        free(entry.path);
        return MLXR_NOMEM;
    }
    list->items[list->n++] = entry;
    return MLXR_OK;
}

bool models_list(model_list *out)
{
    char directory[MODEL_PATH_MAX];
    registry *r;
    mlxr_error error = {.text = "out of memory"};
    *out = (model_list){0};
    if (!models_directory(directory, sizeof directory)) {
        return true;
    }
    if (!open_registry(&r)) {
        return false;
    }
    mlxr_status status = registry_each(r, add_entry, out, &error);
    registry_close(&r);
    if (status != MLXR_OK) {
        models_list_close(out);
        print_error("%s", error.text);
    }
    return status == MLXR_OK;
}

void models_list_close(model_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].name);
        free(list->items[i].path);
    }
    free(list->items);
    *list = (model_list){0};
}

/* ---- finding one ------------------------------------------------------------------------------------------------- */

static bool copy_path(const char *from, char *path, size_t cap)
{
    int n = snprintf(path, cap, "%s", from);
    if (n < 0 || (size_t)n >= cap) {
        print_error("the path is longer than %zu bytes", cap - 1);
        return false;
    }
    return true;
}

bool models_resolve(const char *argument, registry_model *m)
{
    registry *r;
    mlxr_error error;
    *m = (registry_model){0};
    if (models_is_path(argument)) {
        m->path = strdup(argument);
        m->name = strdup(argument);
        if (m->path && m->name) {
            return true;
        }
        registry_model_close(m);
        print_error("out of memory");
        return false;
    }
    if (!open_registry(&r)) {
        return false;
    }
    bool found = registry_resolve(r, argument, m, &error) == MLXR_OK;
    registry_close(&r);
    if (!found) {
        print_error("%s", error.text);
    }
    return found;
}

bool models_find(const char *argument, char *path, size_t cap)
{
    registry_model m;
    if (models_is_path(argument)) {
        return copy_path(argument, path, cap);
    }
    bool found = models_resolve(argument, &m) && copy_path(m.path, path, cap);
    registry_model_close(&m);
    return found;
}
