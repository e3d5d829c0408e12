/*
 * What the KV store knows of its directory.
 * Owner: the KV store. Lifetime: the store's.
 */
#include "runtime/kv/store_catalogue.h"

#include <stdlib.h>

static size_t bucket_of(kv_hash fingerprint, kv_hash hash)
{
    return (hash.low ^ fingerprint.low) % CATALOGUE_BUCKETS;
}

static bool same(kv_hash a, kv_hash b)
{
    return a.low == b.low && a.high == b.high;
}

store_entry *catalogue_find(const store_catalogue *c, kv_hash fingerprint, kv_hash hash)
{
    for (store_entry *e = c->buckets[bucket_of(fingerprint, hash)]; e; e = e->bucket_next) {
        if (same(e->hash, hash) && same(e->fingerprint, fingerprint)) {
            return e;
        }
    }
    return NULL;
}

static void order_remove(store_catalogue *c, store_entry *e)
{
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
}

static void order_append(store_catalogue *c, store_entry *e)
{
    e->older = c->newest;
    e->newer = NULL;
    *(c->newest ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

void catalogue_renew(store_catalogue *c, store_entry *e)
{
    order_remove(c, e);
    order_append(c, e);
}

void catalogue_add(store_catalogue *c, store_entry *made)
{
    store_entry *old = catalogue_find(c, made->fingerprint, made->hash);
    if (old) {
        catalogue_remove(c, old);
    }
    store_entry **bucket = &c->buckets[bucket_of(made->fingerprint, made->hash)];
    made->bucket_next = *bucket;
    *bucket = made;
    order_append(c, made);
    c->n_files++;
    c->bytes += made->n_bytes;
}

void catalogue_remove(store_catalogue *c, store_entry *e)
{
    store_entry **link = &c->buckets[bucket_of(e->fingerprint, e->hash)];
    while (*link != e) {
        link = &(*link)->bucket_next;
    }
    *link = e->bucket_next;
    order_remove(c, e);
    c->n_files--;
    c->bytes -= e->n_bytes;
    free(e);
}

void catalogue_clear(store_catalogue *c)
{
    while (c->oldest) {
        catalogue_remove(c, c->oldest);
    }
}
