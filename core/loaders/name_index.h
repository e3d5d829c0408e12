/*
 * Hash index of an array of rows that begin with a `const char *` name.
 * Owner: whoever opened it; slots live in the region given. Lifetime: the region's and the rows'. Immutable, any
 * thread.
 */
#ifndef MLXR_LOADERS_NAME_INDEX_H
#define MLXR_LOADERS_NAME_INDEX_H

#include "base/region.h"
#include "mlxr.h"

#define NAME_INDEX_NONE UINT64_MAX

typedef struct name_index { /* {0}: empty, finds nothing */
    const unsigned char *rows;
    size_t stride;
    uint32_t *slots; /* row + 1, or 0; linear probing */
    uint64_t mask;
} name_index;

/* Indexes n rows of `stride` bytes, each with its NUL-terminated name first. `what` names the rows in errors. A name
 * seen twice is MLXR_FORMAT. Hostile names that pile up in one place of the table are refused, so that the time stays
 * linear in n. */
mlxr_status name_index_open(name_index *out, region *memory, const void *rows, size_t stride, uint64_t n,
                            const char *what, mlxr_error *error);

/* The row, or NAME_INDEX_NONE. */
uint64_t name_index_find(const name_index *index, const char *name);

#endif
