/*
 * What the two scans share: names made from files' names.
 * Owner: the caller's list. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_FOUND_H
#define MLXR_REGISTRY_FOUND_H

#include <sys/stat.h>

#include "registry/disk.h"
#include "registry/inside.h"

/* By its ending. */
bool found_is_weights(const char *name);
bool found_is_file(const char *path, struct stat *info);
/* A folder with a config.json; *info is of that. */
bool found_is_folder_model(const char *path, struct stat *info);
/* The length of a split file's name without "-00001-of-00003"; 0 for a later part, n for a file that is not split. */
size_t found_without_part(const char *name, size_t n);
/* The length of a GGUF file's name without its ending (and the number of its part); 0 for any other file. */
size_t found_stem(const char *file_name);
/* NULL: no memory. */
found_model *found_put(found_list *list, const char *name, size_t n, const char *path, const struct stat *info,
                       registry_source source);

#endif
