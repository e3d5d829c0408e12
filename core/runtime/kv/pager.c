/*
 * Pager: the page tables of one sequence.
 * Owner: a sequence. Lifetime: pager_init to pager_close.
 */
#include "runtime/kv/pager.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void pager_init(pager *p, const plan *model_plan, kv_pool *const *pools)
{
    *p = (pager){.n_tables = model_plan->n_kv_groups, .page_tokens = pools[0]->layout.page_tokens};
    for (uint32_t g = 0; g < p->n_tables; g++) {
        p->tables[g].pool = pools[g];
        p->tables[g].window = model_plan->kv_groups[g].window;
        p->tables[g].chunked = model_plan->kv_groups[g].chunked;
        p->tables[g].recurrent = model_plan->kv_groups[g].state_width != 0;
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

static void page_unref(pager_table *t, uint32_t *page)
{
    if (*page != KV_PAGE_NONE) {
        kv_pool_unref(t->pool, *page);
        *page = KV_PAGE_NONE;
    }
}

static void page_set(pager_table *t, uint32_t *to, uint32_t page)
{
    if (page != KV_PAGE_NONE) {
        kv_pool_ref(t->pool, page);
    }
    page_unref(t, to);
    *to = page;
}

/* Gives up the states of a step that is over or will not happen. */
static void states_unmark(pager_table *t)
{
    for (; t->n_marked > 0; t->n_marked--) {
        page_unref(t, &t->states[t->n_marked]);
    }
}

static mlxr_status states_room(pager_table *t, uint32_t n, mlxr_error *error)
{
    if (n > t->cap_states) {
        uint32_t *states = realloc(t->states, n * sizeof *states);
        if (!states) {
            return error_nomem(error, "states of a step", n * sizeof *states);
        }
        if (t->cap_states == 0) {
            states[0] = KV_PAGE_NONE;
        }
        t->states = states;
        t->cap_states = n;
    }
    return MLXR_OK;
}

void pager_close(pager *p)
{
    for (uint32_t g = 0; g < p->n_tables; g++) {
        pager_table *t = &p->tables[g];
        table_shrink(t, 0);
        states_unmark(t);
        if (t->states) {
            page_unref(t, &t->states[0]);
        }
        free(t->pages);
        free(t->states);
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
        uint32_t page = t->recurrent ? KV_PAGE_NONE : kv_pool_take(t->pool);
        if (page == KV_PAGE_NONE && !t->recurrent) {
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
        if (status == MLXR_OK && p->tables[g].recurrent) {
            status = states_room(&p->tables[g], 1, error);
        }
        if (status != MLXR_OK) {
            return status;
        }
    }
    for (uint32_t g = 0; g < p->n_tables; g++) {
        pager_table *t = &p->tables[g];
        states_unmark(t);
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
    pager copy = {.n_tables = p->n_tables, .page_tokens = p->page_tokens, .state_wanted = p->state_wanted};
    for (uint32_t g = 0; g < p->n_tables; g++) {
        const pager_table *t = &p->tables[g];
        pager_table *c = &copy.tables[g];
        *c = (pager_table){.pool = t->pool,
                           .window = t->window,
                           .chunked = t->chunked,
                           .recurrent = t->recurrent,
                           .state_at = t->state_at};
        mlxr_status status = table_room(c, t->n_pages, error);
        if (status == MLXR_OK && t->states) {
            status = states_room(c, 1, error);
        }
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
        if (t->states) {
            page_set(c, &c->states[0], t->states[0]);
        }
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

const uint32_t *pager_step_pages(const pager *p, uint32_t group)
{
    const pager_table *t = &p->tables[group];
    return t->recurrent ? t->states : t->pages;
}

/* ---- states ---- */

static uint32_t last_border(const pager *p, uint32_t n_tokens)
{
    return n_tokens - n_tokens % p->page_tokens;
}

/* The table's own checkpoints go, but for the newest n_keep up to position `end`, and all past it. */
static void checkpoints_thin(const pager *p, pager_table *t, uint32_t end, uint32_t n_keep)
{
    uint32_t lowest = t->n_pages;
    for (uint32_t block = t->n_pages; block-- > t->n_dropped;) {
        if (t->pages[block] != KV_PAGE_NONE && n_keep > 0 && (block + 1) * p->page_tokens <= end) {
            lowest = block;
            n_keep--;
        } else {
            page_unref(t, &t->pages[block]);
        }
    }
    t->n_dropped = lowest;
}

/* A fresh page for a state; the checkpoints held go before the step fails. */
static uint32_t state_take(const pager *p, pager_table *t, bool needed)
{
    uint32_t page = kv_pool_take(t->pool);
    if (page == KV_PAGE_NONE && needed) {
        checkpoints_thin(p, t, 0, 0);
        page = kv_pool_take(t->pool);
    }
    return page;
}

/* Where a step over [begin, end), drafted from `sure` on, leaves states: wherever it may be committed, and at the
 * borders that become checkpoints. */
static mlxr_status states_mark(const pager *p, pager_table *t, uint32_t begin, uint32_t sure, uint32_t end,
                               mlxr_error *error)
{
    uint32_t border = last_border(p, sure);
    mlxr_status status = states_room(t, 1 + end - begin, error);
    for (uint32_t at = end; at > begin && status == MLXR_OK; at--) { /* from the end: first what the step needs */
        uint32_t *state = &t->states[at - begin];
        if (t->n_marked == 0) {
            t->n_marked = end - begin;
            memset(t->states + 1, 0xff, t->n_marked * sizeof *t->states); /* KV_PAGE_NONE */
        }
        if (at >= sure || at == border || at == p->state_wanted) {
            *state = state_take(p, t, at >= sure);
        }
        if (*state == KV_PAGE_NONE && at >= sure) {
            status = table_full(t, at + 1 - sure, error);
        }
        if (*state != KV_PAGE_NONE && at % p->page_tokens == 0) {
            uint32_t block = at / p->page_tokens - 1;
            page_set(t, &t->pages[block], *state);
            t->n_dropped = t->n_dropped < block ? t->n_dropped : block;
        }
    }
    return status;
}

/* The state at n_computed becomes the sequence's: of the step, or the checkpoint at the end of an attached prefix. */
static void states_commit(const pager *p, pager_table *t, uint32_t n_computed)
{
    uint32_t n = n_computed - t->state_at, state = KV_PAGE_NONE;
    if (n_computed == t->state_at) {
        return; /* nothing was computed */
    }
    if (n_computed > t->state_at && n <= t->n_marked) {
        state = t->states[n];
    } else if (n_computed % p->page_tokens == 0) {
        state = pager_page(p, (uint32_t)(t - p->tables), n_computed / p->page_tokens - 1);
    }
    assert(state != KV_PAGE_NONE);
    page_set(t, &t->states[0], state);
    states_unmark(t);
    t->state_at = n_computed;
    checkpoints_thin(p, t, n_computed, PAGER_STATES_KEPT);
}

/* Goes back to a state that the table has: its own at state_at, or a checkpoint at a block border. */
static void states_truncate(const pager *p, pager_table *t, uint32_t n_tokens)
{
    states_unmark(t);
    if (t->states && n_tokens != t->state_at) {
        uint32_t block = n_tokens / p->page_tokens;
        page_set(t, &t->states[0], block ? t->pages[block - 1] : KV_PAGE_NONE);
    }
    t->state_at = n_tokens;
    checkpoints_thin(p, t, n_tokens, PAGER_STATES_KEPT);
}

/* Can the table go on from there? */
static bool has_state(const pager *p, const pager_table *t, uint32_t position)
{
    return position == 0 || position == t->state_at ||
           (position % p->page_tokens == 0 &&
            pager_page(p, (uint32_t)(t - p->tables), position / p->page_tokens - 1) != KV_PAGE_NONE);
}

/* ---- growing and shrinking ---- */

mlxr_status pager_reserve(pager *p, uint32_t n_computed, uint32_t n_tokens, mlxr_error *error)
{
    return pager_reserve_draft(p, n_computed, n_tokens, n_tokens, error);
}

mlxr_status pager_reserve_draft(pager *p, uint32_t n_computed, uint32_t n_sure, uint32_t n_tokens, mlxr_error *error)
{
    uint32_t n_pages = n_tokens / p->page_tokens + (n_tokens % p->page_tokens != 0);
    uint32_t before[KV_GROUPS_MAX];
    mlxr_status status = MLXR_OK;
    for (uint32_t g = 0; g < p->n_tables; g++) {
        before[g] = p->tables[g].n_pages;
        states_unmark(&p->tables[g]); /* of a step that failed */
    }
    for (uint32_t g = 0; g < p->n_tables && status == MLXR_OK; g++) {
        pager_table *t = &p->tables[g];
        if (!t->recurrent) {
            status = table_unshare(t, n_computed, p->page_tokens, error);
        }
        if (status == MLXR_OK) {
            status = table_grow(t, n_pages, error);
        }
        if (status == MLXR_OK && t->recurrent) {
            checkpoints_thin(p, t, n_computed, PAGER_STATES_KEPT);
            status = states_mark(p, t, n_computed, n_sure, n_tokens, error);
        }
    }
    for (uint32_t g = 0; g < p->n_tables && status != MLXR_OK; g++) {
        states_unmark(&p->tables[g]);
        table_shrink(&p->tables[g], before[g]);
        if (p->tables[g].recurrent) {
            checkpoints_thin(p, &p->tables[g], n_computed, PAGER_STATES_KEPT);
        }
    }
    return status;
}

mlxr_status pager_reserve_ahead(pager *p, uint32_t begin, uint32_t end, mlxr_error *error)
{
    uint32_t n_pages = end / p->page_tokens + (end % p->page_tokens != 0), before[KV_GROUPS_MAX];
    mlxr_status status = MLXR_OK;
    for (uint32_t g = 0; g < p->n_tables; g++) {
        before[g] = p->tables[g].n_pages;
    }
    for (uint32_t g = 0; g < p->n_tables && status == MLXR_OK; g++) {
        pager_table *t = &p->tables[g];
        if (!t->recurrent) {
            status = table_unshare(t, begin, p->page_tokens, error);
            status = status != MLXR_OK ? status : table_grow(t, n_pages, error);
        }
    }
    for (uint32_t g = 0; g < p->n_tables && status != MLXR_OK; g++) {
        table_shrink(&p->tables[g], before[g]);
    }
    return status;
}

uint32_t pager_state(const pager *p, uint32_t group)
{
    const pager_table *t = &p->tables[group];
    return t->states ? t->states[0] : KV_PAGE_NONE;
}

static uint32_t window_begin(const pager_table *t, uint32_t position)
{
    return (uint32_t)plan_first_seen(t->window, t->chunked, position);
}

uint64_t pager_pages_needed(const kv_group *group, uint32_t page_tokens, uint64_t n_computed, uint64_t n_more)
{
    uint64_t end = n_computed + n_more, n_mapped = end / page_tokens + (end % page_tokens != 0);
    uint64_t n_dropped = plan_first_seen(group->window, group->chunked, n_computed) / page_tokens;
    return n_mapped > n_dropped ? n_mapped - n_dropped : 0;
}

void pager_commit(pager *p, uint32_t n_computed)
{
    for (uint32_t g = 0; g < p->n_tables; g++) {
        pager_table *t = &p->tables[g];
        if (t->recurrent) {
            states_commit(p, t, n_computed);
            continue;
        }
        uint32_t n_unseen = window_begin(t, n_computed) / p->page_tokens;
        for (; t->n_dropped < n_unseen && t->n_dropped < t->n_pages; t->n_dropped++) {
            if (t->pages[t->n_dropped] != KV_PAGE_NONE) { /* an attached prefix may lack it already */
                kv_pool_unref(t->pool, t->pages[t->n_dropped]);
                t->pages[t->n_dropped] = KV_PAGE_NONE;
            }
        }
    }
}

uint32_t pager_truncate(pager *p, uint32_t n_tokens)
{
    uint32_t n_kept = n_tokens;
    bool whole = false;
    while (!whole) { /* back to where every recurrent group has a state */
        whole = true;
        for (uint32_t g = 0; g < p->n_tables; g++) {
            whole = whole && (!p->tables[g].recurrent || has_state(p, &p->tables[g], n_kept));
        }
        n_kept = whole ? n_kept : last_border(p, n_kept - 1);
    }
    for (uint32_t g = 0; g < p->n_tables; g++) {
        const pager_table *t = &p->tables[g];
        uint32_t first = window_begin(t, n_kept) / p->page_tokens; /* which a chunk that begins there does not need */
        whole = whole && (t->recurrent || t->n_dropped <= first || first * p->page_tokens >= n_kept);
    }
    n_kept = whole ? n_kept : 0;
    for (uint32_t g = 0; g < p->n_tables; g++) {
        pager_table *t = &p->tables[g];
        if (t->recurrent) {
            states_truncate(p, t, n_kept);
        }
        table_shrink(t, n_kept / p->page_tokens + (n_kept % p->page_tokens != 0));
    }
    return n_kept;
}
