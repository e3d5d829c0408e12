/*
 * The LoRA adapters that a command line names.
 * Owner: the verb frees the list. Lifetime: adapter_list_take to adapter_list_free.
 */
#ifndef MLXR_CLI_ADAPTERS_H
#define MLXR_CLI_ADAPTERS_H

#include "mlxr_adapter.h"
#include "options.h"

typedef struct adapter_list {
    mlxr_adapter_path items[MLXR_ADAPTERS_MAX]; /* [n] */
    size_t n;
} adapter_list;

/* FILE, or FILE=SCALE where what stands behind the last = is a number (else the scale is 1). `flag`: for the error of
 * too many, MLXR_ARG. After an error the list is empty. */
mlxr_status adapter_list_take(adapter_list *out, const options *o, const char *flag, mlxr_error *error);
/* Behind what is there. */
mlxr_status adapter_list_add(adapter_list *list, const char *path, float scale, const char *flag, mlxr_error *error);
void adapter_list_free(adapter_list *list);

#endif
