/*
 * KV cache of one model.
 * Owner: a model. Lifetime: the model's.
 */
#include "runtime/kv/cache.h"

#include <string.h>

static size_t covered(const kv_cache *c, const kv_node *node)
{
    return node ? ((size_t)node->depth + 1) * c->index.page_tokens : 0;
}

static void move_to(kv_node **node, kv_node *target)
{
    if (target) {
        prefix_index_pin(target);
    }
    if (*node) {
        prefix_index_unpin(*node);
    }
    *node = target;
}

void kv_cache_release(kv_cache *c, kv_node **node, size_t n_tokens)
{
    kv_node *target = *node;
    while (target && covered(c, target) > n_tokens) {
        target = target->parent;
    }
    if (target != *node) {
        move_to(node, target);
    }
}

/* Which groups' pages of block `block` a sequence that goes on at `next` needs. */
static uint32_t groups_needed(const prefix_index *index, size_t block, size_t next)
{
    uint32_t groups = 0;
    for (uint32_t g = 0; g < index->n_groups; g++) {
        groups |= (uint32_t)prefix_index_needs(index, g, block, next) << g;
    }
    return groups;
}

static uint32_t groups_present(const prefix_index *index, const kv_node *node)
{
    uint32_t groups = 0;
    for (uint32_t g = 0; node && g < index->n_groups; g++) {
        groups |= (uint32_t)(node->pages[g] != KV_PAGE_NONE) << g;
    }
    return groups;
}

/* Which groups' pages of a block can be had, from its node in memory (NULL: none) or from disk; 0: unknown block. */
static uint32_t groups_known(kv_cache *c, const kv_node *node, kv_hash name)
{
    const prefix_index *x = &c->index;
    uint32_t all = (1u << x->n_groups) - 1, groups = groups_present(x, node);
    if (groups == all || !c->store) {
        return groups;
    }
    if (!prefix_index_has_parts(x)) { /* then every file has every page: no need to look */
        return kv_store_has(c->store, c->fingerprint, name) ? all : groups;
    }
    return groups | kv_store_groups(c->store, c->fingerprint, name, x->n_groups);
}

/* A prefix that is known to have begun several sequences gets a checkpoint where they part, if it has none yet. */
static void want_state(const prefix_index *x, pager *pages, size_t n_named, size_t n_blocks)
{
    pages->state_wanted = n_named > n_blocks ? (uint32_t)n_named * x->page_tokens : 0;
}

/* The longest prefix of tokens[0 … n_blocks × page_tokens), of which `first` blocks are mapped already, that could be
 * gone on from: in blocks. *n_named: how many blocks are known at all. */
static size_t blocks_known(kv_cache *c, kv_node *node, const int32_t *tokens, size_t first, size_t n_blocks,
                           size_t *n_named)
{
    const prefix_index *x = &c->index;
    kv_hash name = node ? node->hash : x->salt;
    size_t known = first, begin[KV_GROUPS_MAX] = {0}; /* since which block a group's pages are there without a gap */
    bool every = prefix_index_has_full(x);            /* else a block without pages may lie between others */
    *n_named = first;
    for (size_t block = first; block < n_blocks; block++) {
        const int32_t *own = tokens + block * x->page_tokens;
        bool at_root = block == 0;
        name = prefix_index_hash(x, at_root ? NULL : &name, own);
        node = node || at_root ? prefix_index_find(x, node, own) : NULL;
        uint32_t groups = groups_known(c, node, name);
        if (!groups && every) {
            break;
        }
        *n_named = groups ? block + 1 : *n_named;
        bool whole = true;
        for (uint32_t g = 0; g < x->n_groups; g++) {
            begin[g] = groups >> g & 1 ? begin[g] : block + 1;
            whole = whole && (begin[g] == 0 || !prefix_index_needs(x, g, begin[g] - 1, (block + 1) * x->page_tokens));
        }
        known = whole ? block + 1 : known;
    }
    return known;
}

/* Takes from disk what a block lacks in memory. */
static kv_miss block_fetch(kv_cache *c, kv_hash name, const int32_t *tokens, size_t block, uint32_t lacking,
                           uint32_t pages[KV_GROUPS_MAX])
{
    const prefix_index *x = &c->index;
    uint64_t rejected = kv_store_stats_get(c->store).n_rejected;
    if (kv_store_get(c->store, c->fingerprint, name, x, tokens, (uint32_t)((block + 1) * x->page_tokens), lacking,
                     pages)) {
        return KV_MISS_NONE;
    }
    if (kv_store_stats_get(c->store).n_rejected > rejected) {
        return KV_MISS_REJECTED;
    }
    return kv_store_has(c->store, c->fingerprint, name) ? KV_MISS_NO_ROOM : KV_MISS_EVICTED;
}

/* Makes sure that the block behind `parent` is in memory with at least `groups`; NULL and the reason where not. */
static kv_node *block_load(kv_cache *c, kv_node *parent, const int32_t *tokens, size_t block, uint32_t groups,
                           uint64_t now_ms, kv_miss *miss)
{
    prefix_index *x = &c->index;
    const int32_t *own = tokens + block * x->page_tokens;
    kv_node *node = prefix_index_find(x, parent, own), *part = node;
    uint32_t lacking = groups & ~groups_present(x, node);
    if (node && !lacking) {
        return node;
    }
    uint32_t pages[KV_GROUPS_MAX] = {KV_PAGE_NONE, KV_PAGE_NONE, KV_PAGE_NONE, KV_PAGE_NONE};
    if (!groups) { /* only a step on the way */
        if (prefix_index_insert(x, parent, own, pages, now_ms, &node, NULL) != MLXR_OK) {
            *miss = KV_MISS_NO_ROOM;
        }
        return node;
    }
    kv_hash name = prefix_index_hash(x, parent ? &parent->hash : NULL, own);
    if (!c->store || !kv_store_has(c->store, c->fingerprint, name)) {
        *miss = node ? KV_MISS_EVICTED : KV_MISS_NEW;
        return NULL;
    }
    if (part) { /* room for what it lacks must not be made by evicting what it has */
        prefix_index_pin(part);
    }
    kv_miss why = block_fetch(c, name, tokens, block, lacking, pages);
    if (part) {
        prefix_index_unpin(part);
    }
    if (why != KV_MISS_NONE) {
        *miss = why;
        return NULL;
    }
    mlxr_status status = prefix_index_insert(x, parent, own, pages, now_ms, &node, NULL);
    for (uint32_t g = 0; g < x->n_groups; g++) { /* the index holds its own reference now */
        if (pages[g] != KV_PAGE_NONE) {
            kv_pool_unref(x->pools[g], pages[g]);
        }
    }
    if (status != MLXR_OK || (groups & ~groups_present(x, node))) {
        *miss = status != MLXR_OK ? KV_MISS_NO_ROOM : KV_MISS_EVICTED;
        return NULL;
    }
    return node;
}

/* Maps blocks [first, n_blocks), each as soon as it is there, so that loading the next cannot evict it. Returns at
 * which one it failed; n_blocks: all are mapped. */
static size_t map_blocks(kv_cache *c, pager *pages, kv_node **node, const int32_t *tokens, size_t first,
                         size_t n_blocks, uint64_t now_ms, kv_miss *miss)
{
    prefix_index *x = &c->index;
    size_t next = n_blocks * x->page_tokens;
    for (size_t block = first; block < n_blocks; block++) {
        uint32_t groups = groups_needed(x, block, next), own[KV_GROUPS_MAX];
        kv_node *found = block_load(c, *node, tokens, block, groups, now_ms, miss);
        for (uint32_t g = 0; found && g < x->n_groups; g++) {
            own[g] = groups >> g & 1 ? found->pages[g] : KV_PAGE_NONE;
        }
        if (!found || pager_attach(pages, (uint32_t)block, own, NULL) != MLXR_OK) {
            return block;
        }
        move_to(node, found);
    }
    return n_blocks;
}

size_t kv_cache_attach(kv_cache *c, pager *pages, const int32_t *tokens, size_t n_tokens, size_t n_computed,
                       kv_node **node, uint64_t now_ms, kv_miss *miss)
{
    const uint32_t page_tokens = c->index.page_tokens;
    *miss = c->off ? KV_MISS_OFF : KV_MISS_NONE;
    if (c->off || n_tokens == 0 || n_computed % page_tokens != 0 || covered(c, *node) != n_computed) {
        return n_computed;
    }
    size_t first = n_computed / page_tokens, n_named, n_wanted = (n_tokens - 1) / page_tokens;
    size_t n_blocks = blocks_known(c, *node, tokens, first, n_wanted, &n_named);
    if (n_blocks < n_wanted) {
        *miss = n_blocks < n_named ? KV_MISS_EVICTED : KV_MISS_NEW;
    }
    kv_node *reached = NULL;
    while (n_blocks > first) { /* a block that cannot be had shortens the prefix, and with it what windows need */
        reached = *node;
        if (reached) {
            prefix_index_pin(reached);
        }
        size_t n_mapped = map_blocks(c, pages, &reached, tokens, first, n_blocks, now_ms, miss);
        if (n_mapped == n_blocks) {
            break;
        }
        pager_truncate(pages, (uint32_t)n_computed);
        if (reached) {
            prefix_index_unpin(reached);
        }
        n_blocks = blocks_known(c, *node, tokens, first, n_mapped, &n_mapped);
    }
    want_state(&c->index, pages, n_named, n_blocks);
    if (n_blocks <= first) {
        return n_computed;
    }
    pager_commit(pages, (uint32_t)(n_blocks * page_tokens));
    prefix_index_touch(&c->index, reached, now_ms);
    for (kv_node *n = reached; n && n->depth >= first; n = n->parent) {
        n->n_hits++;
    }
    if (*node) {
        prefix_index_unpin(*node);
    }
    *node = reached;
    return n_blocks * page_tokens;
}

static bool has_state(const prefix_index *x, const kv_node *node)
{
    bool any = false;
    for (uint32_t g = 0; g < x->n_groups; g++) {
        any = any || (x->recurrent[g] && node->pages[g] != KV_PAGE_NONE);
    }
    return any;
}

/* Drops a node's checkpoint, unless paths part here or somebody else holds it. */
static bool drop_state(prefix_index *x, kv_node *node)
{
    bool free_to_go = node->n_children <= 1;
    for (uint32_t g = 0; g < x->n_groups && free_to_go; g++) {
        free_to_go = !x->recurrent[g] || node->pages[g] == KV_PAGE_NONE || x->pools[g]->refs[node->pages[g]] == 1;
    }
    for (uint32_t g = 0; g < x->n_groups && free_to_go; g++) {
        if (x->recurrent[g]) {
            prefix_index_drop_page(x, node, g);
        }
    }
    return free_to_go;
}

/* Thins out the checkpoints before a new one; position 0 counts as one. */
static void thin_states(kv_cache *c, kv_node *newest)
{
    kv_node *after = newest, *candidate = NULL;
    for (kv_node *n = newest->parent;; n = n->parent) {
        if (n && !has_state(&c->index, n)) {
            continue;
        }
        size_t gap = covered(c, after) - covered(c, n);
        bool dense = candidate && gap <= covered(c, newest) - covered(c, after);
        if (candidate && !(dense && drop_state(&c->index, candidate))) {
            after = candidate;
        }
        candidate = n;
        if (!n) {
            return;
        }
    }
}

void kv_cache_register(kv_cache *c, pager *pages, const int32_t *tokens, size_t n_computed, kv_node **node,
                       uint64_t now_ms)
{
    prefix_index *x = &c->index;
    kv_node *newest = NULL; /* with a checkpoint */
    while (!c->off && covered(c, *node) + x->page_tokens <= n_computed) {
        size_t block = covered(c, *node) / x->page_tokens;
        uint32_t own[KV_GROUPS_MAX];
        kv_node *found = NULL;
        for (uint32_t g = 0; g < x->n_groups; g++) {
            own[g] = pager_page(pages, g, (uint32_t)block);
        }
        if (prefix_index_insert(x, *node, tokens + block * x->page_tokens, own, now_ms, &found, NULL) != MLXR_OK) {
            break;
        }
        for (uint32_t g = 0; g < x->n_groups; g++) { /* computed twice at the same time: keep one copy */
            if (own[g] != KV_PAGE_NONE && found->pages[g] != KV_PAGE_NONE) {
                pager_share(pages, g, (uint32_t)block, found->pages[g]);
            }
        }
        move_to(node, found);
        newest = has_state(x, found) ? found : newest;
    }
    if (newest) {
        thin_states(c, newest);
    }
}

void kv_cache_save_all(kv_cache *c)
{
    if (c->store) {
        for (kv_node *node = c->index.newest; node; node = node->older) { /* what was used last matters most */
            kv_store_put(c->store, c->fingerprint, &c->index, node);
        }
    }
}
