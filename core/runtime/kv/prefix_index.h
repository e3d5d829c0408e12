/*
 * Prefix index: full pages found again by what they hold, so that equal prefixes are computed once.
 * Owner: a model (pages of different models never match). Lifetime: the model's. One thread at a time.
 *
 * A block is page_tokens consecutive tokens; its node knows the pages (one a layer group) that hold its keys and
 * values. Nodes form a tree: a node's children continue its prefix, so a node stands for the whole token sequence from
 * the root.
 *
 *   root ── [t0…t31] ── [t32…t63] ─┬─ [t64…t95]
 *                                  └─ [t64'…t95']
 *
 * Invariants
 *   1. A node is found by the hash of (parent's hash, tokens) and then compared: parent and all tokens must be equal.
 *   2. The index holds one reference on every page it names; page refs = 1 means "only the cache wants it".
 *   3. A node with children or with users is never removed; removal goes leaf first, so every node reaches the root.
 *   4. A node may lack the page of a group (window pages dropped or evicted, no checkpoint taken): it then helps only
 *      where that group does not need it (prefix_index_needs).
 *   5. In the order of last use every node comes before its parent.
 */
#ifndef MLXR_RUNTIME_KV_PREFIX_INDEX_H
#define MLXR_RUNTIME_KV_PREFIX_INDEX_H

#include "runtime/kv/arena.h"

typedef struct kv_hash {
    uint64_t low, high;
} kv_hash;

typedef struct kv_node kv_node;
struct kv_node {
    kv_node *parent; /* NULL: the first block */
    kv_node *bucket_next;
    kv_node *older, *newer; /* order of last use, over all nodes of the index */
    kv_hash hash;           /* chain: XXH3-128 of (parent's hash or the salt, tokens) */
    uint64_t used_at_ms;
    uint32_t depth; /* blocks before this one */
    uint32_t n_children;
    uint32_t n_users;              /* sequences that build on it */
    uint32_t n_hits;               /* times it was found again after it was made */
    uint32_t n_to_end;             /* eviction's: blocks to the nearest node without children below it */
    bool serves;                   /* eviction's: a node without children below it has no checkpoint nearer than this */
    uint32_t pages[KV_GROUPS_MAX]; /* KV_PAGE_NONE: not in memory */
    int32_t tokens[];              /* [page_tokens] */
};

typedef struct prefix_index {
    kv_pool *pools[KV_GROUPS_MAX];
    uint32_t windows[KV_GROUPS_MAX]; /* 0: full attention, or recurrent */
    bool chunked[KV_GROUPS_MAX];     /* a window's positions are those of chunks */
    bool recurrent[KV_GROUPS_MAX];   /* a page is the state behind the block */
    uint32_t n_groups, page_tokens;
    kv_hash salt;      /* model fingerprint, cache type, adapters, tenant */
    kv_node **buckets; /* [n_buckets], a power of two */
    size_t n_buckets, n_nodes;
    kv_node *oldest, *newest;
    kv_node *cursor; /* eviction's */
} prefix_index;

mlxr_status prefix_index_open(prefix_index *index, const plan *model_plan, kv_pool *const *pools, kv_hash salt,
                              mlxr_error *error);
/* Gives all pages back; no node may have users. */
void prefix_index_close(prefix_index *index);

/* The name of the block tokens[0 … page_tokens) behind a prefix of that name (NULL: at the root). */
kv_hash prefix_index_hash(const prefix_index *index, const kv_hash *parent, const int32_t *tokens);

/* The child of `parent` (NULL: the root) that holds exactly these page_tokens tokens, or NULL. */
kv_node *prefix_index_find(const prefix_index *index, const kv_node *parent, const int32_t *tokens);

/* Does a sequence that goes on at position `next` need group g's page of `block`? Full attention needs every page, a
 * window (or chunk) those that a query at `next` sees, a recurrent group the state at `next`. */
bool prefix_index_needs(const prefix_index *index, uint32_t group, size_t block, size_t next);
/* Is there a group that does not need all pages of a prefix? One that does? */
bool prefix_index_has_parts(const prefix_index *index);
bool prefix_index_has_full(const prefix_index *index);

/* Adds a block with its pages (one reference each is taken; KV_PAGE_NONE: has none), or completes the
 * node that is there already with pages it lacks. */
mlxr_status prefix_index_insert(prefix_index *index, kv_node *parent, const int32_t *tokens, const uint32_t *pages,
                                uint64_t now_ms, kv_node **out, mlxr_error *error);

/* Marks the node and all before it as just used, itself first: parents stay newer than their children. */
void prefix_index_touch(prefix_index *index, kv_node *node, uint64_t now_ms);

/* Users pin a node (and through the tree everything before it). */
void prefix_index_pin(kv_node *node);
void prefix_index_unpin(kv_node *node);

/* Gives one group's page of a node back. */
void prefix_index_drop_page(prefix_index *index, kv_node *node, uint32_t group);
/* Removes a node without children and users, with its pages. */
void prefix_index_remove(prefix_index *index, kv_node *node);

#endif
