/*
 * Pager: the page tables of one sequence.
 * Owner: a sequence. Lifetime: pager_init to pager_close.
 */
#include "runtime/kv/pager.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void pager_init(pager *p, const plan *model_plan, kv_pool *const *pools)
{
    *p = (pager){.n_tables = model_plan->n_kv_groups, .page_tokens = pools[0]->layout.page_tokens};
    for (uint32_t g = 0; g < p->n_tables; g++) {
        p->tables[g].pool = pools[g];
        p->tables[g].window = model_plan->kv_groups[g].window;
    }
}

/* Unmaps pages [n_keep, n_pages). */
static void table_shrink(pager_table *t, uint32_t n_keep)
{
    while (t->n_pages > n_keep) {
        uint32_t page = t->pages[--t->n_pages];
        if (page != KV_PAGE_NONE) {
            kv_pool_unref(t->pool, page);
        }
    }
    if (t->n_dropped > t->n_pages) {
        t->n_dropped = t->n_pages;
    }
}

void pager_close(pager *p)
{
    for (uint32_t g = 0; g < p->n_tables; g++) {
        table_shrink(&p->tables[g], 0);
        free(p->tables[g].pages);
    }
    *p = (pager){0};
}

static mlxr_status table_room(pager_table *t, uint32_t n_pages, mlxr_error *error)
{
    if (n_pages > t->cap) {
        uint32_t cap = t->cap ? t->cap : 8;
        while (cap < n_pages) {
            cap *= 2;
        }
        uint32_t *pages = realloc(t->pages, cap * sizeof *pages);
        if (!pages) {
            return error_nomem(error, "page table", cap * sizeof *pages);
        }
        t->pages = pages;
        t->cap = cap;
    }
    return MLXR_OK;
}

static mlxr_status table_full(const pager_table *t, uint32_t n_pages, mlxr_error *error)
{
    const kv_arena *a = t->pool->arena;
    return error_set(
        error, MLXR_KV_FULL, "KV memory is full: %llu of %llu bytes in use, %u more pages of %zu bytes needed",
        (unsigned long long)a->bytes_used, (unsigned long long)a->bytes_budget, n_pages, t->pool->layout.page_bytes);
}

static mlxr_status table_grow(pager_table *t, uint32_t n_pages, mlxr_error *error)
{
    mlxr_status status = table_room(t, n_pages, error);
    while (status == MLXR_OK && t->n_pages < n_pages) {
        uint32_t page = kv_pool_take(t->pool);
        if (page == KV_PAGE_NONE) {
            return table_full(t, n_pages - t->n_pages, error);
        }
        t->pages[t->n_pages++] = page;
    }
    return status;
}

/* Gives the table a page of its own for each shared one from the block of `position` on. Only the first can hold
 * positions that were computed already; what the others hold will be overwritten. */
static mlxr_status table_unshare(pager_table *t, uint32_t position, uint32_t page_tokens, mlxr_error *error)
{
    for (uint32_t block = position / page_tokens; block < t->n_pages; block++) {
        uint32_t shared = t->pages[block];
        if (shared == KV_PAGE_NONE || t->pool->refs[shared] == 1) {
            continue;
        }
        uint32_t own = kv_pool_take(t->pool);
        if (own == KV_PAGE_NONE) {
            return table_full(t, 1, error);
        }
        if (block * page_tokens < position) {
            size_t n = t->pool->layout.page_bytes;
            memcpy((char *)t->pool->memory + own * n, (char *)t->pool->memory + shared * n, n);
        }
        t->pages[block] = own;
        kv_pool_unref(t->pool, shared);
    }
    return MLXR_OK;
}

mlxr_status pager_attach(pager *p, uint32_t n_blocks, const uint32_t *pages, mlxr_error *error)
{
    for (uint32_t g = 0; g < p->n_tables; g++) {
        mlxr_status status = table_room(&p->tables[g], n_blocks + 1, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    for (uint32_t g = 0; g < p->n_tables; g++) {
        pager_table *t = &p->tables[g];
        table_shrink(t, n_blocks);
        t->pages[t->n_pages++] = pages[g];
        if (pages[g] != KV_PAGE_NONE) {
            kv_pool_ref(t->pool, pages[g]);
        }
    }
    return MLXR_OK;
}

mlxr_status pager_fork(pager *out, const pager *p, mlxr_error *error)
{
    pager copy = {.n_tables = p->n_tables, .page_tokens = p->page_tokens};
    for (uint32_t g = 0; g < p->n_tables; g++) {
        const pager_table *t = &p->tables[g];
        pager_table *c = &copy.tables[g];
        *c = (pager_table){.pool = t->pool, .window = t->window};
        mlxr_status status = table_room(c, t->n_pages, error);
        if (status != MLXR_OK) {
            pager_close(&copy);
            return status;
        }
        for (uint32_t i = 0; i < t->n_pages; i++) {
            if (t->pages[i] != KV_PAGE_NONE) {
                kv_pool_ref(t->pool, t->pages[i]);
            }
            c->pages[i] = t->pages[i];
        }
        c->n_pages = t->n_pages;
        c->n_dropped = t->n_dropped;
    }
    *out = copy;
    return MLXR_OK;
}

void pager_share(pager *p, uint32_t group, uint32_t block, uint32_t page)
{
    pager_table *t = &p->tables[group];
    if (t->pages[block] != page) {
        kv_pool_ref(t->pool, page);
        kv_pool_unref(t->pool, t->pages[block]);
        t->pages[block] = page;
    }
}

uint32_t pager_page(const pager *p, uint32_t group, uint32_t block)
{
    const pager_table *t = &p->tables[group];
    return block < t->n_pages ? t->pages[block] : KV_PAGE_NONE;
}

mlxr_status pager_reserve(pager *p, uint32_t n_computed, uint32_t n_tokens, mlxr_error *error)
{
    uint32_t n_pages = n_tokens / p->page_tokens + (n_tokens % p->page_tokens != 0);
    uint32_t before[KV_GROUPS_MAX];
    for (uint32_t g = 0; g < p->n_tables; g++) {
        before[g] = p->tables[g].n_pages;
    }
    for (uint32_t g = 0; g < p->n_tables; g++) {
        mlxr_status status = table_unshare(&p->tables[g], n_computed, p->page_tokens, error);
        if (status == MLXR_OK) {
            status = table_grow(&p->tables[g], n_pages, error);
        }
        if (status != MLXR_OK) {
            for (uint32_t undo = 0; undo <= g; undo++) {
                table_shrink(&p->tables[undo], before[undo]);
            }
            return status;
        }
    }
    return MLXR_OK;
}

/* The first position a query at `position` can see. */
static uint32_t window_begin(const pager_table *t, uint32_t position)
{
    return t->window && position + 1 > t->window ? position + 1 - t->window : 0;
}

void pager_commit(pager *p, uint32_t n_computed)
{
    for (uint32_t g = 0; g < p->n_tables; g++) {
        pager_table *t = &p->tables[g];
        uint32_t n_unseen = window_begin(t, n_computed) / p->page_tokens;
        for (; t->n_dropped < n_unseen && t->n_dropped < t->n_pages; t->n_dropped++) {
            if (t->pages[t->n_dropped] != KV_PAGE_NONE) { /* an attached prefix may lack it already */
                kv_pool_unref(t->pool, t->pages[t->n_dropped]);
                t->pages[t->n_dropped] = KV_PAGE_NONE;
            }
        }
    }
}

bool pager_truncate(pager *p, uint32_t n_tokens)
{
    uint32_t n_pages = n_tokens / p->page_tokens + (n_tokens % p->page_tokens != 0);
    bool whole = true;
    for (uint32_t g = 0; g < p->n_tables; g++) {
        const pager_table *t = &p->tables[g];
        whole = whole && t->n_dropped <= window_begin(t, n_tokens) / p->page_tokens;
    }
    for (uint32_t g = 0; g < p->n_tables; g++) {
        table_shrink(&p->tables[g], whole ? n_pages : 0);
    }
    return whole;
}
