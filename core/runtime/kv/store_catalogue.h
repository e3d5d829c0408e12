/*
 * What the KV store knows of its directory: one entry a block file, found by name, in the order of use, with the bytes
 * they take together.
 * Owner: the KV store, whose lock guards it. Lifetime: the store's.
 */
#ifndef MLXR_RUNTIME_KV_STORE_CATALOGUE_H
#define MLXR_RUNTIME_KV_STORE_CATALOGUE_H

#include "runtime/kv/prefix_index.h"

#define CATALOGUE_BUCKETS 4096u

typedef struct store_entry store_entry;
struct store_entry {
    store_entry *bucket_next, *older, *newer;
    kv_hash fingerprint, hash;
    uint64_t n_bytes;
    uint32_t groups; /* a bit per page in it; 0: not looked at yet */
    bool damaged;    /* and could not be removed */
};

typedef struct store_catalogue { /* {0}: empty */
    store_entry *buckets[CATALOGUE_BUCKETS];
    store_entry *oldest, *newest;
    uint64_t n_files, bytes;
} store_catalogue;

store_entry *catalogue_find(const store_catalogue *c, kv_hash fingerprint, kv_hash hash);
/* Takes over `made` (from malloc), whose name and sizes are filled in, as the newest; an entry of that name goes. */
void catalogue_add(store_catalogue *c, store_entry *made);
void catalogue_remove(store_catalogue *c, store_entry *entry);
void catalogue_clear(store_catalogue *c);
/* Makes an entry the newest. */
void catalogue_renew(store_catalogue *c, store_entry *entry);

#endif
