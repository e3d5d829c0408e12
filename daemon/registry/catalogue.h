/*
 * Models we recommend, by short names.
 * Owner: const data. Lifetime: static.
 */
#ifndef MLXR_REGISTRY_CATALOGUE_H
#define MLXR_REGISTRY_CATALOGUE_H

#include "mlxr.h"

typedef struct catalogue_entry {
    const char *name, *source, *about;
    uint64_t n_params;
    uint64_t bytes;     /* exact where there is a digest, else within a tenth */
    const char *digest; /* NULL: not known; what is downloaded is compared with the server's list in any case */
    uint32_t kv_bytes_per_token; /* f16, as if all layers saw everything */
    bool first;                  /* one to begin with, on a machine that it fits */
} catalogue_entry;

/* NULL: no such name. */
const catalogue_entry *catalogue_entry_find(const char *name);
const catalogue_entry *catalogue_entry_at(size_t i); /* NULL behind the last */
/* The first one of a name without its size, as "gemma3" is of "gemma3:1b"; NULL: there is none. */
const catalogue_entry *catalogue_size_of(const char *name);

#endif
