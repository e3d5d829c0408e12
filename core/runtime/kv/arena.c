/*
 * KV arena: one byte budget for all KV pages of an engine.
 * Owner: the engine. Lifetime: the engine's.
 */
#include "runtime/kv/arena.h"

#include <assert.h>
#include <stdlib.h>

#include "base/error.h"

void kv_arena_init(kv_arena *arena, const backend_ops *ops, backend *device, uint64_t bytes_budget)
{
    *arena = (kv_arena){.ops = ops, .device = device, .bytes_budget = bytes_budget, .bytes_most = bytes_budget};
}

mlxr_status kv_pool_open(kv_pool **out, kv_arena *arena, const kv_layout *layout, mlxr_error *error)
{
    uint64_t capacity = arena->bytes_most / layout->page_bytes;
    if (capacity == 0) {
        return error_set(error, MLXR_LIMIT, "a KV budget of %llu bytes holds no page of %zu bytes (%u tokens)",
                         (unsigned long long)arena->bytes_budget, layout->page_bytes, layout->page_tokens);
    }
    if (capacity > UINT32_MAX - 1) {
        capacity = UINT32_MAX - 1;
    }
    kv_pool *p = calloc(1, sizeof *p);
    if (!p) {
        return error_nomem(error, "KV pool", sizeof *p);
    }
    mlxr_status status = MLXR_OK;
    p->arena = arena;
    p->layout = *layout;
    p->capacity = (uint32_t)capacity;
    p->free_list = calloc(capacity, sizeof *p->free_list); /* untouched zero pages cost nothing */
    p->refs = calloc(capacity, sizeof *p->refs);
    p->held = calloc(capacity, sizeof *p->held);
    if (!p->free_list || !p->refs || !p->held) {
        status = error_nomem(error, "KV page lists", (size_t)capacity * 9);
        goto fail;
    }
    p->n_bytes = (size_t)capacity * layout->page_bytes;
    status = arena->ops->kv_alloc(arena->device, p->n_bytes, &p->memory, error);
    if (status != MLXR_OK) {
        goto fail;
    }
    p->next = arena->pools;
    arena->pools = p;
    *out = p;
    return MLXR_OK;
fail:
    free(p->free_list);
    free(p->refs);
    free(p->held);
    free(p);
    return status;
}

void kv_pool_close(kv_pool **pointer)
{
    kv_pool *p = *pointer;
    if (!p) {
        return;
    }
    assert(p->n_used == 0);
    kv_arena *arena = p->arena;
    for (kv_pool **link = &arena->pools; *link; link = &(*link)->next) {
        if (*link == p) {
            *link = p->next;
            break;
        }
    }
    arena->bytes_touched -= (uint64_t)p->n_touched * p->layout.page_bytes;
    arena->ops->kv_free(arena->device, &p->memory, p->n_bytes);
    free(p->free_list);
    free(p->refs);
    free(p->held);
    free(p);
    *pointer = NULL;
}

uint32_t kv_pool_take(kv_pool *pool)
{
    kv_arena *arena = pool->arena;
    size_t page_bytes = pool->layout.page_bytes;
    if (arena->bytes_budget - arena->bytes_used < page_bytes && arena->reclaim) {
        arena->reclaim(arena->reclaim_context, page_bytes);
    }
    if (arena->bytes_budget - arena->bytes_used < page_bytes) {
        return KV_PAGE_NONE;
    }
    uint32_t page;
    if (pool->n_free > 0) {
        page = pool->free_list[--pool->n_free];
    } else if (pool->n_touched < pool->capacity) {
        page = pool->n_touched++;
        arena->bytes_touched += page_bytes;
    } else {
        return KV_PAGE_NONE;
    }
    pool->refs[page] = 1;
    pool->n_used++;
    arena->bytes_used += page_bytes;
    return page;
}

void kv_pool_ref(kv_pool *pool, uint32_t page)
{
    assert(page < pool->n_touched && pool->refs[page] > 0);
    pool->n_alone -= pool->held[page] && pool->refs[page] == 1;
    pool->refs[page]++;
}

void kv_pool_unref(kv_pool *pool, uint32_t page)
{
    assert(page < pool->n_touched && pool->refs[page] > 0);
    pool->n_alone += pool->held[page] && pool->refs[page] == 2;
    if (--pool->refs[page] == 0) {
        pool->free_list[pool->n_free++] = page;
        pool->n_used--;
        pool->arena->bytes_used -= pool->layout.page_bytes;
    }
}

void kv_pool_hold(kv_pool *pool, uint32_t page)
{
    assert(!pool->held[page]);
    kv_pool_ref(pool, page); /* the caller has one too: it is not alone yet */
    pool->held[page] = true;
}

void kv_pool_let_go(kv_pool *pool, uint32_t page)
{
    assert(pool->held[page]);
    pool->n_alone -= pool->refs[page] == 1;
    pool->held[page] = false;
    kv_pool_unref(pool, page);
}

static size_t touched_bytes(const kv_pool *p)
{
    return (size_t)p->n_touched * p->layout.page_bytes;
}

void kv_arena_discard(kv_arena *arena)
{
    for (kv_pool *p = arena->pools; p && arena->ops->kv_discard; p = p->next) {
        for (uint32_t i = 0; i < p->n_free; i++) {
            arena->ops->kv_discard(arena->device, (char *)p->memory + (size_t)p->free_list[i] * p->layout.page_bytes,
                                   p->layout.page_bytes);
        }
        p->n_gathered = p->n_free > 0 ? touched_bytes(p) : p->n_gathered;
    }
}

void kv_arena_gather(kv_arena *arena)
{
    for (kv_pool *p = arena->pools; p && arena->ops->kv_gather; p = p->next) {
        if (p->n_gathered < touched_bytes(p)) {
            p->n_gathered = arena->ops->kv_gather(arena->device, p->memory, p->n_gathered, touched_bytes(p));
        }
    }
}
