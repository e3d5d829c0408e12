/*
 * Eviction: which cached pages go when the KV budget runs out.
 * Owner: none; works on prefix indexes. Lifetime: the call. One thread at a time.
 *
 * Least recently used, aware of the working set (Denning 1968): pages used within the last working_set_ms go after all
 * others, and among those, prefixes that were never found again go before prefixes that were. In each of these classes
 * window pages out of sight of every end of their prefix, and checkpoints of recurrent state that no end of it would go
 * on from, go before whole blocks do, and blocks before what they continue. Pages that a sequence holds (refs > 1) or
 * builds on (a pinned node) are never taken.
 *
 * Time: a few walks over the nodes for a call, however many pages it frees.
 */
#ifndef MLXR_RUNTIME_KV_EVICTION_H
#define MLXR_RUNTIME_KV_EVICTION_H

#include "runtime/kv/prefix_index.h"

typedef struct eviction_policy {
    double high, low; /* fractions of the budget: above `high`, evict down to `low`; 0 < low ≤ high ≤ 1 */
    uint64_t working_set_ms;
} eviction_policy;

/* Called before a node's pages leave memory, so that a disk tier can keep them; may be NULL. */
typedef void (*eviction_save)(void *context, prefix_index *index, const kv_node *node);

/* Frees pages of the indexes until at most `target_bytes` of the arena are in use, or nothing more can go. Returns the
 * bytes freed. */
uint64_t eviction_run(kv_arena *arena, prefix_index *const *indexes, size_t n_indexes, uint64_t target_bytes,
                      const eviction_policy *policy, uint64_t now_ms, eviction_save save, void *save_context);

/* The target where usage is above the high threshold; UINT64_MAX where nothing has to be done. */
uint64_t eviction_target(const kv_arena *arena, const eviction_policy *policy);

#endif
