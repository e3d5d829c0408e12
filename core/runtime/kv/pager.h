/*
 * Pager: the page tables of one sequence, one a layer group.
 * Owner: a sequence. Lifetime: pager_init to pager_close. One thread at a time.
 *
 *   positions   0 ……………………… n_computed ……… n_mapped
 *   full group  [page][page][page][page]         every page stays
 *   window      [ –  ][ –  ][page][page]         pages no later query can see are dropped (KV_PAGE_NONE)
 *   recurrent   [ –  ][ –  ][page][ –  ] + state  a page is a checkpoint: the state behind the block's last position
 *
 * A state is never written in place. Each step reads the state at n_computed and leaves the states it may be asked for
 * in fresh pages: the one behind its last row, the one behind each drafted row and the one before the draft, and
 * checkpoints at block borders. Commit keeps those that became true. So a failed step or a rejected draft has nothing
 * to undo, a fork shares the state like any page, and a checkpoint where a step ends costs no copy.
 *
 * Which checkpoints: of the block borders a step crosses only the last (a step of decoding crosses one in page_tokens),
 * and the one where a prompt left a known prefix (state_wanted): that prefix has now been asked for twice. A table
 * holds on to the newest PAGER_STATES_KEPT of its checkpoints; older ones live on in the prefix index (cache.h thins
 * them out there).
 *
 *   pager_attach    maps pages that the prefix cache holds; shared, never written
 *   pager_fork      a second table over the same pages
 *   pager_reserve   maps pages up to a position; all groups or none; a shared page about to be written is copied first
 *   pager_commit    drops window pages behind the computed position
 *   pager_truncate  unmaps pages past a position; says how much remains
 */
#ifndef MLXR_RUNTIME_KV_PAGER_H
#define MLXR_RUNTIME_KV_PAGER_H

#include "runtime/kv/arena.h"

/* Checkpoints that a table holds on to: two, so that going back by up to a page always finds one. */
#define PAGER_STATES_KEPT 2u
/* States that a sequence wants room for: the one it has, the one a step makes, its checkpoints. */
#define PAGER_STATES_HELD (2u + PAGER_STATES_KEPT)

typedef struct pager_table {
    kv_pool *pool;
    uint32_t window; /* 0: none */
    bool chunked;    /* a window's positions are those of chunks */
    bool recurrent;
    uint32_t *pages; /* [n_pages] */
    uint32_t n_pages, cap;
    uint32_t n_dropped; /* leading pages that are known to be KV_PAGE_NONE */
    /* Recurrent: states of the step under way, as backend.h wants them: states[0] at n_computed (KV_PAGE_NONE: at
     * position 0), states[i] behind row i − 1 or KV_PAGE_NONE. One reference on each. */
    uint32_t *states; /* [1 + n_marked], at least [1] once there is one */
    uint32_t n_marked, cap_states;
    uint32_t state_at; /* the position of states[0] */
} pager_table;

typedef struct pager {
    pager_table tables[KV_GROUPS_MAX];
    uint32_t n_tables;
    uint32_t page_tokens;
    uint32_t state_wanted; /* a block border that deserves a checkpoint; 0: none */
} pager;

/* pools[g] serves model_plan->kv_groups[g]. */
void pager_init(pager *p, const plan *model_plan, kv_pool *const *pools);
void pager_close(pager *p);

/* Prepares writing of positions [n_computed, n_tokens): maps pages that are missing, and gives this sequence its own
 * copy of a shared page that the first of them falls into. On MLXR_KV_FULL or MLXR_NOMEM nothing has changed that
 * matters. Checkpoints are taken as far as there is room; where there is none for a state that the step needs, the
 * table's own old checkpoints go first. */
mlxr_status pager_reserve(pager *p, uint32_t n_computed, uint32_t n_tokens, mlxr_error *error);
/* The same where positions from n_sure on are drafted: the step may be committed at any position from n_sure. */
mlxr_status pager_reserve_draft(pager *p, uint32_t n_computed, uint32_t n_sure, uint32_t n_tokens, mlxr_error *error);

/* Maps pages of attention for positions [begin, end) alone, behind those computed: what lies there before the step that
 * computes them does not outlive it. On an error nothing has changed that matters. */
mlxr_status pager_reserve_ahead(pager *p, uint32_t begin, uint32_t end, mlxr_error *error);

/* The state at the computed position of a recurrent group; KV_PAGE_NONE: zeros. */
uint32_t pager_state(const pager *p, uint32_t group);

/* What a step_slice needs of a group: pages, or the states that reserve laid out. */
const uint32_t *pager_step_pages(const pager *p, uint32_t group);

/* Appends one block's pages behind n_blocks mapped blocks; takes a reference on each. KV_PAGE_NONE only in window
 * groups where no query behind the attached prefix sees it, and in recurrent ones everywhere but at its end:
 * pager_commit there makes that known. */
mlxr_status pager_attach(pager *p, uint32_t n_blocks, const uint32_t *pages, mlxr_error *error);

/* *out becomes a second table over the same pages (one reference more on each), for positions [0, n_tokens). */
mlxr_status pager_fork(pager *out, const pager *p, mlxr_error *error);

/* Uses `page` instead of the table's own for one block of one group: the same content, shared from now on. */
void pager_share(pager *p, uint32_t group, uint32_t block, uint32_t page);

/* The page of a block, KV_PAGE_NONE where there is none. */
uint32_t pager_page(const pager *p, uint32_t group, uint32_t block);

/* Pages of one attention group that a sequence holds while positions [n_computed, n_computed + n_more) are computed,
 * when positions before n_computed have been. */
uint64_t pager_pages_needed(const kv_group *group, uint32_t page_tokens, uint64_t n_computed, uint64_t n_more);

/* After positions [0, n_computed) were computed: drops window pages that no query at n_computed or later can see; the
 * state at n_computed is the sequence's from now on. */
void pager_commit(pager *p, uint32_t n_computed);

/* Keeps positions [0, n_tokens), or as many of them as can be gone on from: recurrent groups go back to a checkpoint.
 * Where a window group has already dropped pages that a query there would need, nothing remains. Returns how many. */
uint32_t pager_truncate(pager *p, uint32_t n_tokens);

#endif
