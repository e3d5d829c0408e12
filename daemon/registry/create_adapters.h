/*
 * Adapters of a model that is made: brought into the store, and checked against the model.
 * Owner: the rows are the caller's. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_CREATE_ADAPTERS_H
#define MLXR_REGISTRY_CREATE_ADAPTERS_H

#include "registry/rows.h"

/* Adds rows to `files`, behind the base's that are there: first what the base has where another program keeps it, then
 * those that are given. `model`: the path of the weights they must fit. `directory`: as registry_create's. */
mlxr_status create_adapters(registry *r, const registry_model *base, const registry_pairs *given, const char *model,
                            const char *directory, file_rows *files, mlxr_error *error);

#endif
