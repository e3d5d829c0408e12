/*
 * Hash index of names: open addressing, at most half full.
 * Owner: whoever opened it. Lifetime: the region's and the rows'.
 */
#include "loaders/name_index.h"

#include <string.h>

#include "base/error.h"

/* Honest names stay far below this: with half of 2^20 slots full the longest probe expected is about 70. */
#define PROBES_MAX 256

/* FNV-1a, 64 bits, with its better upper half folded in. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) {
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    }
    return hash ^ hash >> 32;
}

static const char *row_name(const name_index *index, uint64_t row)
{
    const char *name;
    memcpy(&name, index->rows + row * index->stride, sizeof name);
    return name;
}

static mlxr_status insert(name_index *index, uint64_t row, const char *what, mlxr_error *error)
{
    const char *name = row_name(index, row);
    uint64_t at = hash_name(name) & index->mask;
    for (unsigned probe = 0; probe < PROBES_MAX; probe++, at = (at + 1) & index->mask) {
        if (!index->slots[at]) {
            index->slots[at] = (uint32_t)row + 1;
            return MLXR_OK;
        }
        if (strcmp(row_name(index, index->slots[at] - 1), name) == 0) {
            return error_set(error, MLXR_FORMAT, "%s '%.128s' appears twice", what, name);
        }
    }
    return error_set(error, MLXR_FORMAT, "%s '%.128s' and %d others have been chosen to collide", what, name,
                     PROBES_MAX);
}

mlxr_status name_index_open(name_index *out, region *memory, const void *rows, size_t stride, uint64_t n,
                            const char *what, mlxr_error *error)
{
    if (n > UINT32_MAX / 4) {
        return error_set(error, MLXR_LIMIT, "%llu %ss; at most %u are supported", (unsigned long long)n, what,
                         UINT32_MAX / 4);
    }
    uint64_t n_slots = 4;
    while (n_slots < n * 2) {
        n_slots *= 2;
    }
    name_index index = {.rows = rows, .stride = stride, .mask = n_slots - 1};
    index.slots = region_array(memory, (size_t)n_slots, sizeof *index.slots);
    if (!index.slots) {
        return error_nomem(error, "index of names", (size_t)n_slots * sizeof *index.slots);
    }
    for (uint64_t row = 0; row < n; row++) {
        mlxr_status status = insert(&index, row, what, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    *out = index;
    return MLXR_OK;
}

uint64_t name_index_find(const name_index *index, const char *name)
{
    if (!index->slots) {
        return NAME_INDEX_NONE;
    }
    uint64_t at = hash_name(name) & index->mask;
    while (index->slots[at]) {
        uint64_t row = index->slots[at] - 1;
        if (strcmp(row_name(index, row), name) == 0) {
            return row;
        }
        at = (at + 1) & index->mask;
    }
    return NAME_INDEX_NONE;
}
