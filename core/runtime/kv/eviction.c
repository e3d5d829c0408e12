/*
 * Eviction: which cached pages go when the KV budget runs out.
 * Owner: none. Lifetime: the call.
 *
 * Each class is gone through twice, from the node used longest ago to the newest. A node comes before its parent in
 * that order (prefix_index.h), so that a single walk takes whole branches from their ends: no node is looked at twice.
 */
#include "runtime/kv/eviction.h"

typedef enum eviction_class { CLASS_OLD, CLASS_SEEN_ONCE, CLASS_WORKING, CLASS_COUNT } eviction_class;

typedef struct eviction { /* one call */
    kv_arena *arena;
    prefix_index *const *indexes;
    size_t n_indexes;
    uint64_t target_bytes, now_ms;
    const eviction_policy *policy;
    eviction_save save;
    void *save_context;
} eviction;

static eviction_class class_of(const eviction *v, const kv_node *node)
{
    uint64_t age_ms = v->now_ms > node->used_at_ms ? v->now_ms - node->used_at_ms : 0;
    if (age_ms >= v->policy->working_set_ms) {
        return CLASS_OLD;
    }
    return node->n_hits == 0 ? CLASS_SEEN_ONCE : CLASS_WORKING;
}

static bool only_cached(const prefix_index *index, const kv_node *node, uint32_t group)
{
    uint32_t page = node->pages[group];
    return page != KV_PAGE_NONE && index->pools[group]->refs[page] == 1;
}

/* Can the node leave as a whole: nobody continues it, runs on it or holds one of its pages? */
static bool can_remove(const prefix_index *index, const kv_node *node)
{
    if (node->n_children || node->n_users) {
        return false;
    }
    for (uint32_t g = 0; g < index->n_groups; g++) {
        if (node->pages[g] != KV_PAGE_NONE && !only_cached(index, node, g)) {
            return false;
        }
    }
    return true;
}

static void save_node(const eviction *v, prefix_index *index, const kv_node *node)
{
    if (v->save) {
        v->save(v->save_context, index, node);
    }
}

static bool has_states(const prefix_index *index, const kv_node *node)
{
    bool all = true;
    for (uint32_t g = 0; g < index->n_groups; g++) {
        all = all && (!index->recurrent[g] || node->pages[g] != KV_PAGE_NONE);
    }
    return all;
}

/* How many blocks each node is away from the nearest end below it, and whether an end needs its checkpoint. */
static void measure_ends(prefix_index *index)
{
    for (kv_node *node = index->oldest; node; node = node->newer) {
        node->n_to_end = node->n_children ? UINT32_MAX : 0;
        node->serves = node->n_children == 0;
    }
    for (kv_node *node = index->oldest; node; node = node->newer) {
        kv_node *parent = node->parent;
        if (parent) {
            parent->n_to_end = node->n_to_end + 1 < parent->n_to_end ? node->n_to_end + 1 : parent->n_to_end;
            parent->serves = parent->serves || (node->serves && !has_states(index, node));
        }
    }
}

/* Does one who goes on at `next`, an end, see a block? Where a chunk ends there, one who adds to it sees nothing of the
 * chunk, but the same tokens again, the last of which is always computed, see all of it: from one block before. */
static bool end_needs(const prefix_index *index, uint32_t group, size_t block, size_t next)
{
    bool border = index->chunked[group] && next % index->windows[group] == 0;
    return prefix_index_needs(index, group, block, border ? next - index->page_tokens : next);
}

/* Drops the window pages of a node that nobody sees who goes on at an end below it, and a checkpoint that nobody would
 * go on from there: they would only help a prompt that leaves the prefix right here. */
static void drop_unseen(const eviction *v, prefix_index *index, kv_node *node)
{
    bool saved = false;
    size_t block = node->depth, next = (block + node->n_to_end + 1) * index->page_tokens; /* of the nearest end */
    for (uint32_t g = 0; g < index->n_groups; g++) {
        bool needed = index->recurrent[g] ? node->serves : end_needs(index, g, block, next);
        if (!needed && only_cached(index, node, g)) {
            if (!saved) {
                save_node(v, index, node);
                saved = true;
            }
            prefix_index_drop_page(index, node, g);
        }
    }
}

/* The next node in the order of use over all indexes. */
static kv_node *next_node(const eviction *v, prefix_index **owner)
{
    prefix_index *best = NULL;
    for (size_t i = 0; i < v->n_indexes; i++) {
        prefix_index *x = v->indexes[i];
        if (x->cursor && (!best || x->cursor->used_at_ms < best->cursor->used_at_ms)) {
            best = x;
        }
    }
    if (!best) {
        return NULL;
    }
    kv_node *node = best->cursor;
    best->cursor = node->newer;
    *owner = best;
    return node;
}

/* One walk over the nodes of a class and of those before it: takes unseen pages, or whole nodes. */
static void walk(const eviction *v, eviction_class wanted, bool whole)
{
    prefix_index *owner = NULL;
    kv_node *node;
    for (size_t i = 0; i < v->n_indexes; i++) {
        v->indexes[i]->cursor = v->indexes[i]->oldest;
        if (!whole) {
            measure_ends(v->indexes[i]);
        }
    }
    while (v->arena->bytes_used > v->target_bytes && (node = next_node(v, &owner)) != NULL) {
        eviction_class own = class_of(v, node);
        if (own > wanted && wanted == CLASS_OLD) {
            return; /* what follows is younger still */
        }
        if (own > wanted) {
            continue;
        }
        if (!whole) {
            drop_unseen(v, owner, node);
        } else if (can_remove(owner, node)) {
            save_node(v, owner, node);
            prefix_index_remove(owner, node);
        }
    }
}

uint64_t eviction_run(kv_arena *arena, prefix_index *const *indexes, size_t n_indexes, uint64_t target_bytes,
                      const eviction_policy *policy, uint64_t now_ms, eviction_save save, void *save_context)
{
    eviction v = {.arena = arena,
                  .indexes = indexes,
                  .n_indexes = n_indexes,
                  .target_bytes = target_bytes,
                  .now_ms = now_ms,
                  .policy = policy,
                  .save = save,
                  .save_context = save_context};
    uint64_t before = arena->bytes_used;
    bool parts = false;
    for (size_t i = 0; i < n_indexes; i++) {
        parts = parts || prefix_index_has_parts(indexes[i]);
    }
    for (eviction_class wanted = CLASS_OLD; wanted < CLASS_COUNT && arena->bytes_used > target_bytes; wanted++) {
        if (parts) {
            walk(&v, wanted, false);
        }
        walk(&v, wanted, true);
    }
    return before - arena->bytes_used;
}

uint64_t eviction_target(const kv_arena *arena, const eviction_policy *policy)
{
    if ((double)arena->bytes_used <= policy->high * (double)arena->bytes_budget) {
        return UINT64_MAX;
    }
    return (uint64_t)(policy->low * (double)arena->bytes_budget);
}
