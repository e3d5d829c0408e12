/*
 * Eviction: which cached pages go when the KV budget runs out.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/kv/eviction.h"

typedef enum eviction_class { CLASS_OLD, CLASS_SEEN_ONCE, CLASS_WORKING, CLASS_COUNT } eviction_class;

static eviction_class class_of(const kv_node *node, const eviction_policy *policy, uint64_t now_ms)
{
    if (now_ms - node->used_at_ms >= policy->working_set_ms) {
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

/* The oldest node of a class that can go, over all indexes. */
static kv_node *oldest_of(prefix_index *const *indexes, size_t n_indexes, eviction_class wanted,
                          const eviction_policy *policy, uint64_t now_ms, prefix_index **owner)
{
    kv_node *best = NULL;
    for (size_t i = 0; i < n_indexes; i++) {
        for (kv_node *node = indexes[i]->oldest; node; node = node->newer) {
            if (best && node->used_at_ms >= best->used_at_ms) {
                break; /* the list is in order of use */
            }
            if (class_of(node, policy, now_ms) <= wanted && can_remove(indexes[i], node)) {
                best = node;
                *owner = indexes[i];
                break;
            }
        }
    }
    return best;
}

/* Window pages inside a prefix only help a continuation right behind them; they go before whole prefixes do. */
static void drop_window_pages(prefix_index *index, const eviction_policy *policy, uint64_t now_ms,
                              uint64_t target_bytes, const kv_arena *arena, eviction_save save, void *save_context)
{
    for (kv_node *node = index->oldest; node && arena->bytes_used > target_bytes; node = node->newer) {
        if (node->n_children == 0 || node->n_users || class_of(node, policy, now_ms) != CLASS_OLD) {
            continue;
        }
        bool saved = false;
        for (uint32_t g = 0; g < index->n_groups; g++) {
            if (index->windows[g] && only_cached(index, node, g)) {
                if (save && !saved) {
                    save(save_context, index, node);
                    saved = true;
                }
                prefix_index_drop_page(index, node, g);
            }
        }
    }
}

uint64_t eviction_run(kv_arena *arena, prefix_index *const *indexes, size_t n_indexes, uint64_t target_bytes,
                      const eviction_policy *policy, uint64_t now_ms, eviction_save save, void *save_context)
{
    uint64_t before = arena->bytes_used;
    for (size_t i = 0; i < n_indexes; i++) {
        drop_window_pages(indexes[i], policy, now_ms, target_bytes, arena, save, save_context);
    }
    for (eviction_class wanted = CLASS_OLD; wanted < CLASS_COUNT && arena->bytes_used > target_bytes; wanted++) {
        prefix_index *owner = NULL;
        kv_node *node;
        while (arena->bytes_used > target_bytes &&
               (node = oldest_of(indexes, n_indexes, wanted, policy, now_ms, &owner)) != NULL) {
            if (save) {
                save(save_context, owner, node);
            }
            prefix_index_remove(owner, node);
        }
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
