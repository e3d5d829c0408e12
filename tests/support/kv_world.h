/*
 * A KV cache without a model behind it: arena, prefix indexes of several models, sequences, and pages whose rows hold
 * what the whole history of a position demands, so that a wrong, stale or torn row is always seen.
 * Owner: the test. Lifetime: world_open to world_close. Any failure ends the test.
 *
 * The row of position i holds words made from a chained hash over (model, tokens 0 … i), its group and its place in the
 * page; world_check_rows compares every word of every row a query can see. The state behind position i likewise fills a
 * page of a recurrent group.
 */
#ifndef MLXR_TEST_KV_WORLD_H
#define MLXR_TEST_KV_WORLD_H

#include "runtime/kv/cache.h"
#include "runtime/kv/eviction.h"

enum { WORLD_MODELS_MAX = 3, WORLD_PAGE = 4, WORLD_TOKENS_MAX = 160, WORLD_PAGES_MAX = 2048 };

typedef struct world_model {
    const plan *layers;
    kv_pool *pools[KV_GROUPS_MAX];
    kv_cache cache;
    uint64_t name; /* its fingerprint; two models never share a page */
} world_model;

typedef struct world {
    kv_arena arena;
    kv_store *store; /* NULL: memory only */
    world_model models[WORLD_MODELS_MAX];
    uint32_t n_models;
    uint64_t now_ms;
    eviction_policy policy;
} world;

typedef struct world_sequence {
    world_model *model;
    int32_t tokens[WORLD_TOKENS_MAX];
    uint64_t stamps[WORLD_TOKENS_MAX]; /* [n_tokens]: of the tokens up to each */
    size_t n_tokens, n_computed;
    pager pages;
    kv_node *node;
} world_sequence;

/* Layer groups to choose from: full attention, windows smaller and larger than a page, and both together; recurrent
 * states beside full attention, beside that and a window, and alone. */
extern const plan world_full, world_window, world_mixed, world_two_windows, world_chunks, world_short_chunks;
extern const plan world_full_states, world_mixed_states, world_states;

/* plans[n_models]; model i is named first_name + i. */
void world_open(world *w, const plan *const *plans, uint32_t n_models, uint64_t first_name, uint64_t budget_bytes,
                kv_store *store);
/* All sequences must be closed; every page must come back. */
void world_close(world *w);

void world_evict(world *w, uint64_t target_bytes);
void world_save_all(world *w);

void sequence_init(world *w, world_sequence *s, uint32_t model);
void sequence_close(world_sequence *s);
kv_miss sequence_append(world *w, world_sequence *s, const int32_t *tokens, size_t n);
/* Computes n pending tokens; if they are all there are, n_draft tokens are drafted behind them and the first n_accepted
 * of those stay. false: no room, nothing has changed. */
bool sequence_compute(world *w, world_sequence *s, size_t n, const int32_t *draft, size_t n_draft, size_t n_accepted);
bool sequence_fork(world_sequence *to, const world_sequence *from);
void sequence_truncate(world_sequence *s, size_t n_tokens);
/* What a cancelled or pre-empted request does, and how it goes on. */
void sequence_release(world_sequence *s);
kv_miss sequence_resume(world *w, world_sequence *s);

/* Every row that a query at n_computed or later sees is what it must be. */
void sequence_check_rows(const world_sequence *s);
/* The same for the pages that the index of a model holds. */
void world_check_index_rows(const world_model *m);

/* Reference counts, free lists and byte counters follow from what these sequences and the indexes hold. */
void world_check_pages(const world *w, const world_sequence *all, size_t n);

/* The first position a query at `position` sees in a group. */
size_t world_first_seen(const world_model *m, uint32_t group, size_t position);

#endif
