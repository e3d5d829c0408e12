/*
 * Batcher: decides which rows the next step computes. A pure function: arrays in, slices out, nothing remembered.
 * Owner: none. Lifetime: the call. Any thread.
 *
 *   1. Whoever waited BATCH_WAIT_MAX steps or more goes first, the longest wait first.
 *   2. Decoding sequences follow in the order given, one row each (and its draft), within the budget; where prompts
 *      wait, within decode_us.
 *   3. Prompts follow in the order given; each takes as many rows as still fit.
 *
 * Invariants
 *   1. The predicted cost never exceeds the budget, unless the step is one single slice that can be no smaller.
 *   2. Rows never exceed rows_max (a slice's drafts included, unless it is the only one).
 *   3. A step takes at least one slice if anything is pending and has pages.
 *   4. Of two equal sequences the earlier in the order never waits for the later (but for rule 1).
 *   5. Prompts take only pages that decoding sequences of the same step leave.
 */
#ifndef MLXR_SCHEDULER_BATCHER_H
#define MLXR_SCHEDULER_BATCHER_H

#include "scheduler/cost_model.h"

enum { BATCH_WAIT_MAX = 16 };

typedef struct batch_item {
    uint32_t depth;   /* tokens computed */
    uint32_t pending; /* tokens to compute, ≥ 1; 1 for decoding sequences */
    uint32_t n_draft; /* rows expected behind the pending token */
    uint32_t waited;  /* steps since it was last in one */
} batch_item;

typedef struct batch_limits {
    double budget_us; /* of the whole step, as predicted */
    double decode_us; /* … and of its decoding, where prompts wait; not above budget_us */
    uint32_t rows_max;
    uint64_t pages_free; /* UINT64_MAX: no limit */
    uint32_t page_tokens;
} batch_limits;

typedef struct batch_slice {
    uint32_t item; /* index into decodes, or n_decodes + index into prefills */
    uint32_t n;    /* pending tokens to compute */
} batch_slice;

typedef struct batch {
    uint32_t n_slices;
    cost_load load; /* as predicted, drafts included */
    double cost_us;
    bool pages_short; /* something waits for pages only */
} batch;

/* What n of an item's pending tokens, and its draft, add to a step. */
void batch_item_load(const batch_item *item, uint32_t n, cost_load *load);

/* slices: room for n_decodes + n_prefills. */
batch batcher_fill(const cost_model *cost, const batch_limits *limits, const batch_item *decodes, uint32_t n_decodes,
                   const batch_item *prefills, uint32_t n_prefills, batch_slice *slices);

#endif
