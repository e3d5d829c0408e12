/*
 * Prefix index: full pages found again by what they hold.
 * Owner: a model. Lifetime: the model's.
 */
#include "runtime/kv/prefix_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"

#define BUCKETS_FIRST 64u

mlxr_status prefix_index_open(prefix_index *index, const plan *model_plan, kv_pool *const *pools, kv_hash salt,
                              mlxr_error *error)
{
    prefix_index x = {.n_groups = model_plan->n_kv_groups,
                      .page_tokens = pools[0]->layout.page_tokens,
                      .salt = salt,
                      .n_buckets = BUCKETS_FIRST};
    for (uint32_t g = 0; g < x.n_groups; g++) {
        x.pools[g] = pools[g];
        x.windows[g] = model_plan->kv_groups[g].window;
        x.chunked[g] = model_plan->kv_groups[g].chunked;
        x.recurrent[g] = model_plan->kv_groups[g].state_width != 0;
    }
    x.buckets = calloc(x.n_buckets, sizeof(kv_node *));
    if (!x.buckets) {
        return error_nomem(error, "prefix index", x.n_buckets * sizeof(kv_node *));
    }
    *index = x;
    return MLXR_OK;
}

void prefix_index_close(prefix_index *index)
{
    while (index->oldest) { /* it has no children: they would be older */
        prefix_index_remove(index, index->oldest);
    }
    free(index->buckets);
    *index = (prefix_index){0};
}

/* XXH3-128 of (parent's name, XXH3-128 of the tokens). */
kv_hash prefix_index_hash(const prefix_index *index, const kv_hash *parent, const int32_t *tokens)
{
    kv_hash from = parent ? *parent : index->salt;
    uint64_t words[4] = {from.low, from.high, 0, 0};
    XXH128_hash_t own = XXH3_128bits(tokens, index->page_tokens * sizeof *tokens);
    words[2] = own.low64;
    words[3] = own.high64;
    XXH128_hash_t chained = XXH3_128bits(words, sizeof words);
    return (kv_hash){chained.low64, chained.high64};
}

static kv_hash chain_hash(const prefix_index *index, const kv_node *parent, const int32_t *tokens)
{
    return prefix_index_hash(index, parent ? &parent->hash : NULL, tokens);
}

static kv_node *find_hashed(const prefix_index *index, const kv_node *parent, const int32_t *tokens, kv_hash hash)
{
    for (kv_node *node = index->buckets[hash.low & (index->n_buckets - 1)]; node; node = node->bucket_next) {
        if (node->hash.low == hash.low && node->hash.high == hash.high && node->parent == parent &&
            memcmp(node->tokens, tokens, index->page_tokens * sizeof *tokens) == 0) {
            return node;
        }
    }
    return NULL;
}

kv_node *prefix_index_find(const prefix_index *index, const kv_node *parent, const int32_t *tokens)
{
    return find_hashed(index, parent, tokens, chain_hash(index, parent, tokens));
}

bool prefix_index_needs(const prefix_index *index, uint32_t group, size_t block, size_t next)
{
    if (index->recurrent[group]) {
        return (block + 1) * index->page_tokens == next;
    }
    return (block + 1) * index->page_tokens > plan_first_seen(index->windows[group], index->chunked[group], next);
}

bool prefix_index_has_parts(const prefix_index *index)
{
    bool any = false;
    for (uint32_t g = 0; g < index->n_groups; g++) {
        any = any || index->windows[g] || index->recurrent[g];
    }
    return any;
}

bool prefix_index_has_full(const prefix_index *index)
{
    bool any = false;
    for (uint32_t g = 0; g < index->n_groups; g++) {
        any = any || (!index->windows[g] && !index->recurrent[g]);
    }
    return any;
}

static void list_remove(prefix_index *index, kv_node *node)
{
    *(node->older ? &node->older->newer : &index->oldest) = node->newer;
    *(node->newer ? &node->newer->older : &index->newest) = node->older;
    node->older = node->newer = NULL;
}

static void list_append(prefix_index *index, kv_node *node)
{
    node->older = index->newest;
    node->newer = NULL;
    *(index->newest ? &index->newest->newer : &index->oldest) = node;
    index->newest = node;
}

/* Doubles the table; without memory the chains just grow longer. */
static void grow_buckets(prefix_index *index)
{
    size_t n = index->n_buckets * 2;
    kv_node **buckets = calloc(n, sizeof *buckets);
    if (!buckets) {
        return;
    }
    for (size_t i = 0; i < index->n_buckets; i++) {
        for (kv_node *node = index->buckets[i], *next; node; node = next) {
            next = node->bucket_next;
            kv_node **bucket = &buckets[node->hash.low & (n - 1)];
            node->bucket_next = *bucket;
            *bucket = node;
        }
    }
    free(index->buckets);
    index->buckets = buckets;
    index->n_buckets = n;
}

static kv_node *node_new(prefix_index *index, kv_node *parent, const int32_t *tokens, kv_hash hash)
{
    kv_node *node = calloc(1, sizeof *node + index->page_tokens * sizeof *tokens);
    if (!node) {
        return NULL;
    }
    node->parent = parent;
    node->hash = hash;
    node->depth = parent ? parent->depth + 1 : 0;
    memcpy(node->tokens, tokens, index->page_tokens * sizeof *tokens);
    for (uint32_t g = 0; g < KV_GROUPS_MAX; g++) {
        node->pages[g] = KV_PAGE_NONE;
    }
    if (index->n_nodes >= index->n_buckets) {
        grow_buckets(index);
    }
    kv_node **bucket = &index->buckets[hash.low & (index->n_buckets - 1)];
    node->bucket_next = *bucket;
    *bucket = node;
    index->n_nodes++;
    if (parent) {
        parent->n_children++;
    }
    list_append(index, node);
    return node;
}

mlxr_status prefix_index_insert(prefix_index *index, kv_node *parent, const int32_t *tokens, const uint32_t *pages,
                                uint64_t now_ms, kv_node **out, mlxr_error *error)
{
    kv_hash hash = chain_hash(index, parent, tokens);
    kv_node *node = find_hashed(index, parent, tokens, hash);
    if (!node) {
        node = node_new(index, parent, tokens, hash);
        if (!node) {
            return error_nomem(error, "prefix node", sizeof *node + index->page_tokens * sizeof *tokens);
        }
    }
    for (uint32_t g = 0; g < index->n_groups; g++) {
        if (node->pages[g] == KV_PAGE_NONE && pages[g] != KV_PAGE_NONE) {
            kv_pool_hold(index->pools[g], pages[g]);
            node->pages[g] = pages[g];
        }
    }
    prefix_index_touch(index, node, now_ms);
    *out = node;
    return MLXR_OK;
}

void prefix_index_touch(prefix_index *index, kv_node *node, uint64_t now_ms)
{
    for (; node; node = node->parent) { /* deepest first, so that the root side ends up newest and leaves go first */
        node->used_at_ms = now_ms;
        list_remove(index, node);
        list_append(index, node);
    }
}

void prefix_index_pin(kv_node *node)
{
    node->n_users++;
}

void prefix_index_unpin(kv_node *node)
{
    assert(node->n_users > 0);
    node->n_users--;
}

void prefix_index_drop_page(prefix_index *index, kv_node *node, uint32_t group)
{
    if (node->pages[group] != KV_PAGE_NONE) {
        kv_pool_let_go(index->pools[group], node->pages[group]);
        node->pages[group] = KV_PAGE_NONE;
    }
}

void prefix_index_remove(prefix_index *index, kv_node *node)
{
    assert(node->n_children == 0 && node->n_users == 0);
    for (uint32_t g = 0; g < index->n_groups; g++) {
        prefix_index_drop_page(index, node, g);
    }
    kv_node **link = &index->buckets[node->hash.low & (index->n_buckets - 1)];
    while (*link != node) {
        link = &(*link)->bucket_next;
    }
    *link = node->bucket_next;
    list_remove(index, node);
    if (node->parent) {
        node->parent->n_children--;
    }
    index->n_nodes--;
    free(node);
}
