/*
 * Pager: the page tables of one sequence, one a layer group.
 * Owner: a sequence. Lifetime: pager_init to pager_close. One thread at a time.
 *
 *   positions   0 ……………………… n_computed ……… n_mapped
 *   full group  [page][page][page][page]         every page stays
 *   window      [ –  ][ –  ][page][page]         pages no later query can see are dropped (KV_PAGE_NONE)
 *
 *   pager_attach    maps pages that the prefix cache holds; shared, never written
 *   pager_fork      a second table over the same pages
 *   pager_reserve   maps pages up to a position; all groups or none; a shared page about to be written is copied first
 *   pager_commit    drops window pages behind the computed position
 *   pager_truncate  unmaps pages past a position; says whether what remains is still whole
 */
#ifndef MLXR_RUNTIME_KV_PAGER_H
#define MLXR_RUNTIME_KV_PAGER_H

#include "runtime/kv/arena.h"

typedef struct pager_table {
    kv_pool *pool;
    uint32_t window; /* 0: none */
    uint32_t *pages; /* [n_pages] */
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

/* Prepares writing of positions [n_computed, n_tokens): maps pages that are missing, and gives this sequence its own
 * copy of a shared page that the first of them falls into. On MLXR_KV_FULL or MLXR_NOMEM nothing has changed that
 * matters. */
mlxr_status pager_reserve(pager *p, uint32_t n_computed, uint32_t n_tokens, mlxr_error *error);

/* Appends one block's pages behind n_blocks mapped blocks; takes a reference on each. KV_PAGE_NONE only in window
 * groups, and only where no query behind the attached prefix sees it: pager_commit at its end makes that known. */
mlxr_status pager_attach(pager *p, uint32_t n_blocks, const uint32_t *pages, mlxr_error *error);

/* *out becomes a second table over the same pages (one reference more on each), for positions [0, n_tokens). */
mlxr_status pager_fork(pager *out, const pager *p, mlxr_error *error);

/* Uses `page` instead of the table's own for one block of one group: the same content, shared from now on. */
void pager_share(pager *p, uint32_t group, uint32_t block, uint32_t page);

/* The page of a block, KV_PAGE_NONE where there is none. */
uint32_t pager_page(const pager *p, uint32_t group, uint32_t block);

/* After positions [0, n_computed) were computed: drops window pages that no query at n_computed or later can see. */
void pager_commit(pager *p, uint32_t n_computed);

/* Keeps positions [0, n_tokens). Returns false where a window group has already dropped pages that a query at
 * n_tokens would need: then everything has been unmapped and must be computed again from position 0. */
bool pager_truncate(pager *p, uint32_t n_tokens);

#endif
