/*
 * The LoRA adapters that a command line names.
 * Owner: see adapters.h. Lifetime: the list's.
 */
#include "adapters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

mlxr_status adapter_list_add(adapter_list *list, const char *path, float scale, const char *flag, mlxr_error *error)
{
    if (list->n == MLXR_ADAPTERS_MAX) {
        *error = (mlxr_error){.status = MLXR_ARG};
        snprintf(error->text, sizeof error->text, "%s: at most %d adapters at once", flag, MLXR_ADAPTERS_MAX);
        return MLXR_ARG;
    }
    char *copy = strdup(path);
    if (!copy) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return MLXR_NOMEM;
    }
    list->items[list->n++] = (mlxr_adapter_path){.path = copy, .scale = scale};
    return MLXR_OK;
}

mlxr_status adapter_list_take(adapter_list *out, const options *o, const char *flag, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    *out = (adapter_list){.n = 0};
    for (size_t i = 0; i < o->adapters.n && status == MLXR_OK; i++) {
        const char *text = o->adapters.items[i], *equals = strrchr(text, '=');
        char *end = NULL;
        float scale = equals ? strtof(equals + 1, &end) : 1;
        status = adapter_list_add(out, text, 1, flag, error);
        if (status == MLXR_OK && end && end != equals + 1 && *end == 0) {
            ((char *)(uintptr_t)out->items[i].path)[equals - text] = 0;
            out->items[i].scale = scale;
        }
    }
    if (status != MLXR_OK) {
        adapter_list_free(out);
    }
    return status;
}

void adapter_list_free(adapter_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free((void *)(uintptr_t)list->items[i].path);
    }
    list->n = 0;
}
