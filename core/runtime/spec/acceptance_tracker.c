/*
 * Acceptance tracker: how long a draft pays.
 * Owner: a sequence. Lifetime: the sequence's.
 */
#include "runtime/spec/acceptance_tracker.h"

#include <math.h>

#define START_ACCEPTANCE 0.6 /* optimistic: the first drafts find out */
#define MEMORY 0.9           /* weight of the past for each drafted token */
#define START_ROW_COST 0.15
#define LEAST_GAIN 1.03
#define FIRST_PAUSE 4u
#define LONGEST_PAUSE 256u

void acceptance_tracker_init(acceptance_tracker *t, uint32_t n_max, double draft_cost)
{
    *t = (acceptance_tracker){.acceptance = START_ACCEPTANCE,
                              .row_cost = START_ROW_COST,
                              .draft_cost = draft_cost,
                              .n_max = n_max < SPEC_DRAFT_MAX ? n_max : SPEC_DRAFT_MAX,
                              .next_pause = FIRST_PAUSE};
}

/* Tokens a step yields over what it costs, both in plain steps. */
static double gain(const acceptance_tracker *t, uint32_t k)
{
    double a = fmin(t->acceptance, 0.9999);
    double yield = (1 - pow(a, k + 1)) / (1 - a);
    return yield / (1 + k * (t->row_cost + t->draft_cost));
}

uint32_t acceptance_tracker_length(acceptance_tracker *t)
{
    t->n_steps++;
    if (t->pause > 0) {
        t->pause--;
        return 0;
    }
    uint32_t best = 0;
    double best_gain = LEAST_GAIN;
    for (uint32_t k = 1; k <= t->n_max; k++) {
        double g = gain(t, k);
        if (g > best_gain) {
            best_gain = g;
            best = k;
        }
    }
    if (best == 0) { /* look again later, with hope restored just enough to draft one or two tokens */
        t->pause = t->next_pause;
        t->next_pause = t->next_pause * 2 < LONGEST_PAUSE ? t->next_pause * 2 : LONGEST_PAUSE;
        t->acceptance = START_ACCEPTANCE;
    }
    return best;
}

void acceptance_tracker_update(acceptance_tracker *t, uint32_t n_drafted, uint32_t n_accepted)
{
    t->n_drafting_steps++;
    t->n_drafted += n_drafted;
    t->n_accepted += n_accepted;
    for (uint32_t i = 0; i < n_drafted; i++) {
        t->drafted_at[i]++;
        t->accepted_at[i] += i < n_accepted;
        if (i <= n_accepted) { /* what stands behind a wrong token tells nothing */
            t->acceptance = MEMORY * t->acceptance + (1 - MEMORY) * (i < n_accepted);
        }
    }
    if (n_drafted > 0 && n_accepted == n_drafted) {
        t->next_pause = FIRST_PAUSE;
    }
}

void acceptance_tracker_costs(acceptance_tracker *t, double plain_s, double step_s, uint32_t n_rows)
{
    if (plain_s > 0 && n_rows > 1) {
        double cost = fmax((step_s / plain_s - 1) / (n_rows - 1), 0);
        t->row_cost = 0.8 * t->row_cost + 0.2 * fmin(cost, 2);
    }
}
