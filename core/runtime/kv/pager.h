/*
 * Pager: the page tables of one sequence, one a layer group.
 * Owner: a sequence. Lifetime: pager_init to pager_close. One thread at a time.
 *
 *   positions   0 ……………………… n_computed ……… n_mapped
 *   full group  [page][page][page][page]         every page stays
 *   window      [ –  ][ –  ][page][page]         pages no later query can see are dropped (KV_PAGE_NONE)
 *
 *   pager_reserve   maps pages up to a position; all groups or none
 *   pager_commit    drops window pages behind the computed position
 *   pager_truncate  unmaps pages past a position; says whether what remains is still whole
 */
#ifndef MLXR_RUNTIME_KV_PAGER_H
#define MLXR_RUNTIME_KV_PAGER_H

#include "runtime/kv/arena.h"

typedef struct pager_table {
    kv_pool *pool;
    uint32_t window;  /* 0: none */
    uint32_t *pages;  /* [n_pages] */
    uint32_t n_pages, cap;
    uint32_t n_dropped; /* leading pages that are KV_PAGE_NONE */
} pager_table;

typedef struct pager {
    pager_table tables[KV_GROUPS_MAX];
    uint32_t n_tables;
    uint32_t page_tokens;
} pager;

/* pools[g] serves model_plan->kv_groups[g]. */
void pager_init(pager *p, const plan *model_plan, kv_pool *const *pools);
void pager_close(pager *p);

/* Maps pages so that positions [0, n_tokens) have a place. On MLXR_KV_FULL or MLXR_NOMEM nothing has changed. */
mlxr_status pager_reserve(pager *p, uint32_t n_tokens, mlxr_error *error);

/* After positions [0, n_computed) were computed: drops window pages that no query at n_computed or later can see. */
void pager_commit(pager *p, uint32_t n_computed);

/* Keeps positions [0, n_tokens). Returns false where a window group has already dropped pages that a query at
 * n_tokens would need: then everything has been unmapped and must be computed again from position 0. */
bool pager_truncate(pager *p, uint32_t n_tokens);

#endif
