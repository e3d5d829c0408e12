/*
 * What the readers of the formats share with model_file.c, and the ways in that need no file (tests, fuzzing).
 * Owner: the model_file being filled. Lifetime: its own.
 */
#ifndef MLXR_LOADERS_READERS_H
#define MLXR_LOADERS_READERS_H

#include "base/error.h"
#include "loaders/model_file.h"
#include "loaders/name_index.h"

#define EXTRAS_MAX 8

/* What model_file.index points at. */
typedef struct model_index {
    name_index keys, tensors;
    bool borrowed;              /* the parts are somebody else's memory: closing does not unmap them */
    mapping extras[EXTRAS_MAX]; /* config.json and what else lies beside safetensors; unused ones are {0} */
} model_index;

/* A model_file with an index and nothing else in it. */
mlxr_status model_file_make(model_file **out, mlxr_error *error);
/* Indexes meta and tensors; names that appear twice are MLXR_FORMAT. */
mlxr_status model_file_index(model_file *file, mlxr_error *error);

/* Fill what model_file_make made; if they fail the caller closes it. A GGUF whose first part is already open is read
 * from there, `path` then only names it. */
mlxr_status gguf_read(model_file *file, const char *path, mlxr_error *error);
mlxr_status safetensors_read(model_file *file, const char *path, mlxr_error *error);

/* A GGUF of one part from memory that outlives the model_file. */
mlxr_status gguf_open_memory(model_file **out, const void *data, size_t n_bytes, mlxr_error *error);

/* `path`, or its end if it is too long for an error line. */
const char *short_path(const char *path);

/* A whole number that fits 64 bits unsigned; false for other types and negative numbers. */
bool meta_as_u64(const meta_value *value, uint64_t *out);
/* Bytes of a scalar; 0 for META_STRING and META_ARRAY. */
size_t meta_type_bytes(meta_type type);
const char *meta_type_name(meta_type type);

#endif
