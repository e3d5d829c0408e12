/*
 * KV arena: one byte budget for all KV pages of an engine, handed out page by page.
 * Owner: the engine. Lifetime: the engine's. One thread at a time.
 *
 * A pool holds the pages of one layer group of one model: all of one size, numbered from 0. Pools reserve address
 * space for the whole budget and commit memory page by page, so that one budget serves page sizes of any mix.
 *
 * Invariants
 *   1. A page is free (refs = 0, on its pool's free list or never touched) or in use (refs ≥ 1).
 *   2. bytes_used = Σ over pools of pages in use × page_bytes ≤ budget.
 *   3. n_alone = pages that the prefix index holds and nobody else: what eviction could free.
 *   4. Pages are taken from the free list first, so that memory touched grows only with the most pages in use at once.
 */
#ifndef MLXR_RUNTIME_KV_ARENA_H
#define MLXR_RUNTIME_KV_ARENA_H

#include "kernels/backend.h"

typedef struct kv_pool kv_pool;

typedef struct kv_arena {
    const backend_ops *ops;
    backend *device;
    uint64_t bytes_budget, bytes_used, bytes_touched;
    uint64_t bytes_most; /* the budget may change, but not above this: pools reserve so much */
    kv_pool *pools;      /* list */
    /* Asked to free at least n_bytes of cached pages when the budget is used up; NULL: nothing is cached. */
    void (*reclaim)(void *context, uint64_t n_bytes);
    void *reclaim_context;
} kv_arena;

struct kv_pool {
    kv_arena *arena;
    kv_pool *next;
    kv_layout layout;
    void *memory;
    size_t n_bytes;     /* address space reserved: capacity × page_bytes */
    uint32_t capacity;  /* pages that bytes_most could hold */
    uint32_t n_touched; /* pages 0 … n_touched − 1 have been used at least once */
    size_t n_gathered;  /* bytes from the beginning that need not be gathered, or must not: they were given back */
    uint32_t n_used;
    uint32_t n_free;
    uint32_t *free_list; /* [n_free] of [capacity]; the last one is taken first */
    uint32_t *refs;      /* [capacity] */
    bool *held;          /* [capacity] one of the references is the prefix index's */
    uint32_t n_alone;    /* of these, pages without another reference */
};

void kv_arena_init(kv_arena *arena, const backend_ops *ops, backend *device, uint64_t bytes_budget);

mlxr_status kv_pool_open(kv_pool **out, kv_arena *arena, const kv_layout *layout, mlxr_error *error);
/* All pages must be free. */
void kv_pool_close(kv_pool **pool);

/* A page with one reference; its content is undefined. KV_PAGE_NONE when the budget is used up. */
uint32_t kv_pool_take(kv_pool *pool);
void kv_pool_ref(kv_pool *pool, uint32_t page);
/* Drops one reference; the last one frees the page. */
void kv_pool_unref(kv_pool *pool, uint32_t page);
/* The same for the prefix index, which holds a page once. */
void kv_pool_hold(kv_pool *pool, uint32_t page);
void kv_pool_let_go(kv_pool *pool, uint32_t page);

/* Gives the memory of all free pages back to the system; they stay free. */
void kv_arena_discard(kv_arena *arena);
/* Lets the device move some of what has been touched to where it reads it fastest: a few megabytes a pool and call. Not
 * what may have been given back, which would come back. */
void kv_arena_gather(kv_arena *arena);

#endif
