/*
 * Model cache: which models are loaded, who uses them, and which go when memory or time runs out. Bookkeeping only: it
 * loads nothing and knows no clock.
 * Owner: a model table. Lifetime: its owner's. One thread at a time (its owner's lock).
 *
 *   absent ─▶ loading ─▶ loaded ⇄ in use          an entry that is absent and unwanted is removed
 *      ▲        │           │
 *      └────────┴─ unloading ◀─ idle and: kept long enough, or told to go, or least recently used where room is needed
 *
 * Invariants
 *   1. weight_bytes = Σ over entries that are loaded or unloading.
 *   2. A model in use or pinned is never chosen to go.
 */
#ifndef MLXR_SCHEDULER_MODEL_CACHE_H
#define MLXR_SCHEDULER_MODEL_CACHE_H

#include "mlxr.h"

typedef enum model_state { MODEL_ABSENT, MODEL_LOADING, MODEL_LOADED, MODEL_UNLOADING } model_state;

typedef struct cached_model {
    char *path;
    model_state state;
    mlxr_model *model; /* LOADED, UNLOADING */
    uint64_t weight_bytes;
    uint32_t n_uses; /* leases */
    bool pinned;
    bool dismissed;         /* goes as soon as it is idle */
    uint64_t used_at_us;    /* when it last became idle or was taken into use */
    uint64_t expires_at_us; /* when idle; UINT64_MAX: never */
    uint32_t n_loads;       /* times it was loaded */
} cached_model;

typedef struct model_cache {
    cached_model **items; /* [n]; pointers stay valid until model_cache_remove */
    uint32_t n, cap;
    uint32_t n_loaded; /* LOADED or UNLOADING */
    uint64_t weight_bytes;
} model_cache;

/* All entries must be gone or absent. */
void model_cache_close(model_cache *c);

cached_model *model_cache_find(const model_cache *c, const char *path);
cached_model *model_cache_of(const model_cache *c, const mlxr_model *model);
/* The entry of a path, made where there is none; NULL: no memory. */
cached_model *model_cache_add(model_cache *c, const char *path);
/* Of an absent one. */
void model_cache_remove(model_cache *c, cached_model *m);

void model_cache_loaded(model_cache *c, cached_model *m, mlxr_model *model, uint64_t weight_bytes, uint64_t now_us);
void model_cache_unloaded(model_cache *c, cached_model *m);

void model_cache_take(cached_model *m, uint64_t now_us);
/* keep_us UINT64_MAX: for ever. Of several leases the last to end decides. */
void model_cache_give(cached_model *m, uint64_t keep_us, uint64_t now_us);

/* An idle model whose time is over or that is dismissed, NULL: none. */
cached_model *model_cache_expired(const model_cache *c, uint64_t now_us);
/* The idle model used longest ago, NULL: none can go. */
cached_model *model_cache_victim(const model_cache *c);
/* When the next one expires, UINT64_MAX: never. */
uint64_t model_cache_next_us(const model_cache *c);

#endif
