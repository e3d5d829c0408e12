/*
 * Acceptance tracker: how long a draft pays, learned per sequence.
 * Owner: a sequence. Lifetime: the sequence's. One thread at a time.
 *
 * With acceptance probability a for each drafted token, a draft of k yields E(k) = (1 − a^(k+1)) / (1 − a) tokens for
 * the price of one step with k + 1 rows (Leviathan et al. 2023, equation 1). A row beyond the first costs `row_cost` of
 * a whole plain step, a draft token `draft_cost` more; both are measured. The tracker picks the k with the best
 * E(k) / cost and drafts nothing where that is not above 1. It then looks again, with hope for just one token, after a
 * pause that doubles each time looking did not help.
 *
 * What useless drafts cost is bounded by an account: each draft is charged what it costs, gets what it gave, and none
 * is made that could lose more than an allowance (0.7 plain steps, and 0.005 more with each step), but for these:
 * - a sequence's first draft, and one of a single token where the account shows no loss: made if by what is believed
 *   it can pay, which is at less than a plain step, so that above 0.7 it takes more than the allowance once;
 * - a draft is chosen by believed costs, and charged the measured ones up to twice those and 0.1. What is above (it is
 *   dearer than was known, or the step was disturbed) is not charged, but raises the belief for the next;
 * - what drafts have gained, up to 4 plain steps, may be lost again.
 */
#ifndef MLXR_RUNTIME_SPEC_ACCEPTANCE_TRACKER_H
#define MLXR_RUNTIME_SPEC_ACCEPTANCE_TRACKER_H

#include <stdint.h>

#define SPEC_DRAFT_MAX 15u /* tokens a draft; with the token before it, 16 rows */

typedef struct acceptance_tracker {
    double acceptance; /* probability, a moving average over drafted tokens */
    double row_cost;   /* of one more row, in plain steps */
    double draft_cost; /* of one draft token, in plain steps; 0 for lookups */
    double loss;       /* what drafts have cost more than they gave, in plain steps; less than 0: gained */
    double charged;    /* for each of n_charged tokens, until it is known what they cost, or the next step */
    uint32_t n_charged;
    uint32_t n_max; /* 1 … SPEC_DRAFT_MAX */
    uint32_t pause; /* steps left without drafting */
    uint32_t next_pause;
    uint32_t n_trials; /* drafted tokens that `acceptance` rests on; starts anew with each look */
    uint64_t n_drafted, n_accepted, n_steps, n_drafting_steps;
    uint64_t accepted_at[SPEC_DRAFT_MAX], drafted_at[SPEC_DRAFT_MAX]; /* by position in the draft */
} acceptance_tracker;

/* row_cost 0: not known yet. */
void acceptance_tracker_init(acceptance_tracker *t, uint32_t n_max, double row_cost, double draft_cost);
/* Begins the account where another one's ended that had the same drafter, perhaps on another text: half of what that
 * lost, and nothing of what it gained. */
void acceptance_tracker_inherit(acceptance_tracker *t, double loss);
/* How many tokens to draft for the next step; counts the step. */
uint32_t acceptance_tracker_length(acceptance_tracker *t);
/* After a verified draft: the first n_accepted of n_drafted tokens were right. */
void acceptance_tracker_update(acceptance_tracker *t, uint32_t n_drafted, uint32_t n_accepted);
/* What a drafting step told: the price of one more row for each sequence, and of drafting a token (0: a lookup), both
 * in plain steps. */
void acceptance_tracker_costs(acceptance_tracker *t, double row_cost, double draft_cost);

#endif
