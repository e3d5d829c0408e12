/*
 * Which experts to keep in memory where not all fit: those used most, older uses counting less. A pure rule: it moves
 * no memory and looks at no clock.
 *
 * A use at time t counts 2^(−(now − t) / half-life). A pass over a layer uses some experts: those that were not kept
 * are missed and kept from then on; then, while the kept ones exceed the budget, the one of the least value is given up
 * (of equals the first), but none that this pass uses. So at most the budget is kept, or what one pass uses where that
 * is more.
 *
 * Owner: expert_cache. Lifetime: expert_policy_open to expert_policy_close. One thread at a time.
 */
#ifndef MLXR_RUNTIME_EXPERT_POLICY_H
#define MLXR_RUNTIME_EXPERT_POLICY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct expert_item {
    uint64_t n_bytes;
    double value;  /* Σ 2^((t − base) / half-life): as the sum above, in another unit that no time changes */
    uint64_t pass; /* the newest that used it */
    bool kept;
} expert_item;

typedef struct expert_policy {
    expert_item *items; /* [n_items] */
    uint32_t n_items;
    uint64_t n_bytes_max; /* the budget */
    double half_life, base;
    uint64_t n_passes, n_hits, n_misses, n_given_up; /* of experts, since opening */
    uint64_t n_bytes_kept;
    /* Of the newest pass, each [n_items] */
    uint32_t *missed, *given_up;
    uint32_t n_missed, n_given;
} expert_policy;

/* Items of 0 bytes until the caller sets items[i].n_bytes. False: no memory. */
bool expert_policy_open(expert_policy *p, uint32_t n_items, uint64_t n_bytes_max, double half_life);
void expert_policy_close(expert_policy *p);
/* A pass at time `now`, not before the last one, uses items used[n], each once. */
void expert_policy_use(expert_policy *p, double now, const uint32_t *used, uint32_t n);

#endif
