/*
 * KV cache of one model: what connects a sequence's pages with the prefix index in memory and the store on disk.
 * Owner: a model. Lifetime: the model's. One thread at a time.
 *
 *   append ─▶ kv_cache_attach    longest known prefix becomes computed, from memory or from disk
 *   step   ─▶ kv_cache_register  every block completed is named by its content, or found to be known and shared
 *   full   ─▶ eviction ─▶ store  least useful blocks leave memory, written behind
 *
 * Checkpoints of recurrent state are found, shared, evicted and stored as the pages of their block. On each path of the
 * tree register keeps about 2 · log₂(blocks) of them, closer together towards the end: one is dropped where the gap it
 * leaves is no wider than the distance from there to the newest. So going back by d tokens computes at most about d
 * again. Where paths part a checkpoint stays, and attach asks for one (pager.state_wanted): what two prompts share a
 * third may.
 */
#ifndef MLXR_RUNTIME_KV_CACHE_H
#define MLXR_RUNTIME_KV_CACHE_H

#include "runtime/kv/pager.h"
#include "runtime/kv/prefix_index.h"
#include "runtime/kv/store.h"

typedef struct kv_cache {
    prefix_index index;
    kv_store *store;     /* the engine's; NULL: memory only */
    kv_hash fingerprint; /* of the model's bytes and of every option that changes what pages hold */
    bool off;            /* sequences keep to themselves */
} kv_cache;

typedef enum kv_miss {                   /* why a prefix was not continued further; for statistics */
                       KV_MISS_NONE,     /* everything that could match did */
                       KV_MISS_NEW,      /* no such block was ever seen */
                       KV_MISS_EVICTED,  /* a block is known, but its pages are gone (a window's among them) */
                       KV_MISS_REJECTED, /* the file on disk failed a check */
                       KV_MISS_NO_ROOM,  /* the budget had no room to load it */
                       KV_MISS_OFF,
} kv_miss;

/* Extends a sequence that has tokens[0 … n_tokens), of which n_computed are computed and lie in `pages`; *node is the
 * deepest node it builds on (pinned; NULL: none). Leaves at least one token to compute. Returns the new n_computed. */
size_t kv_cache_attach(kv_cache *c, pager *pages, const int32_t *tokens, size_t n_tokens, size_t n_computed,
                       kv_node **node, uint64_t now_ms, kv_miss *miss);

/* After a step: names the blocks completed up to n_computed. Lack of memory only means they will not be found. */
void kv_cache_register(kv_cache *c, pager *pages, const int32_t *tokens, size_t n_computed, kv_node **node,
                       uint64_t now_ms);

/* Moves *node up to the deepest ancestor that covers at most n_tokens (0: releases it). */
void kv_cache_release(kv_cache *c, kv_node **node, size_t n_tokens);

/* Queues every block in memory for the disk (before a shutdown). */
void kv_cache_save_all(kv_cache *c);

#endif
