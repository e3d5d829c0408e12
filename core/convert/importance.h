/*
 * Importance matrices: for each matrix of a model, the mean square of each input it met on some text. Squared errors of
 * weights count by it. Two formats: GGUF (NAME.in_sum2 and NAME.counts, general.type "imatrix"), and the older one.
 * Owner: the caller. Lifetime: importance_open to importance_close. Immutable; any thread.
 */
#ifndef MLXR_CONVERT_IMPORTANCE_H
#define MLXR_CONVERT_IMPORTANCE_H

#include "base/region.h"
#include "loaders/model_file.h"

typedef struct importance_entry {
    const char *name; /* of the tensor */
    float *values;    /* [n_matrices][n / n_matrices], means */
    uint64_t n;
    uint32_t n_matrices; /* 1 of the older format, which does not tell: n may be that of several matrices */
} importance_entry;

typedef struct importance {
    region memory;
    importance_entry *entries; /* [n] */
    uint64_t n;
    const char *dataset; /* "" if the file does not tell */
    uint32_t n_chunks;
    void *index;
} importance;

mlxr_status importance_open(importance *out, const char *path, mlxr_error *error);
void importance_close(importance *imp);

/* The older format in memory; everything is checked. For tests and fuzzing. */
mlxr_status importance_read_legacy(importance *out, const void *data, size_t n_bytes, const char *name,
                                   mlxr_error *error);
/* The same of a GGUF file. */
mlxr_status importance_read_gguf(importance *out, const model_file *file, const char *name, mlxr_error *error);

/* NULL if it has none. */
const importance_entry *importance_find(const importance *imp, const char *tensor_name);

#endif
