/*
 * The files of stored models, as lists.
 * Owner: the caller closes them. Lifetime: file_rows_read to file_rows_close.
 */
#ifndef MLXR_REGISTRY_ROWS_H
#define MLXR_REGISTRY_ROWS_H

#include "registry/inside.h"

typedef struct file_rows {
    stored_file *items;
    size_t n;
} file_rows;

mlxr_status file_rows_add(file_rows *rows, const char *role, const char *name, const char *digest, mlxr_error *error);
/* Of the stored model with exactly this name. Takes the lock. */
mlxr_status file_rows_read(registry *r, const char *name, file_rows *out, mlxr_error *error);
/* Of a model that was resolved: one that is stored, or in place with adapters that are. */
mlxr_status file_rows_of(registry *r, const registry_model *m, file_rows *out, mlxr_error *error);
void file_rows_close(file_rows *rows);

/* A model of several files before its row is made, under the names its loader looks for: path (REGISTRY_PATH_MAX bytes)
 * is what mlxr_model_load takes. Whoever made it drops it; path is "" then, and after an error. */
#define ROWS_TRY_PREFIX "try-"
mlxr_status rows_try_set(registry *r, const file_rows *files, char *path, mlxr_error *error);
void rows_drop_set(const registry *r, char *path);
/* Those that a process which ended meanwhile has left since before then, and sets that no row names. */
void rows_tidy_sets(const registry *r, int64_t before_us);

#endif
