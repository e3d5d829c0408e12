/*
 * Acceptance tracker: how long a draft pays.
 * Owner: a sequence. Lifetime: the sequence's.
 */
#include "runtime/spec/acceptance_tracker.h"

#include <math.h>
#include <stdbool.h>

#define START_ACCEPTANCE 0.6 /* optimistic: the first drafts find out */
#define START_TRIALS 3u      /* a start counts as much as so many drafted tokens … */
#define MOST_TRIALS 9u       /* … and the past never more than so many */
#define START_ROW_COST 0.3
#define COST_MEMORY 0.8
#define LEAST_GAIN 1.03
#define HOPE 0.02 /* above the acceptance at which one drafted token pays */
#define FIRST_PAUSE 8u
#define LONGEST_PAUSE 256u
/* What a sequence may lose by drafts, in plain steps: this at once … */
#define LOSS_AT_ONCE 0.7
/* … and so much more with each of its steps. Together 1.6 % of 64 steps and 0.8 % of 256. */
#define LOSS_A_STEP 0.005
/* What drafts have gained may be lost again, up to so many plain steps. */
#define GAIN_KEPT 4.0

void acceptance_tracker_init(acceptance_tracker *t, uint32_t n_max, double row_cost, double draft_cost)
{
    *t = (acceptance_tracker){.acceptance = START_ACCEPTANCE,
                              .row_cost = row_cost > 0 ? row_cost : START_ROW_COST,
                              .draft_cost = draft_cost,
                              .n_max = n_max < SPEC_DRAFT_MAX ? n_max : SPEC_DRAFT_MAX,
                              .next_pause = FIRST_PAUSE,
                              .n_trials = START_TRIALS};
}

void acceptance_tracker_inherit(acceptance_tracker *t, double loss)
{
    t->loss = fmax(loss, 0) / 2;
}

/* Tokens a step yields over what it costs, both in plain steps. */
static double gain(const acceptance_tracker *t, uint32_t k)
{
    double a = fmin(t->acceptance, 0.9999);
    double yield = (1 - pow(a, k + 1)) / (1 - a);
    return yield / (1 + k * (t->row_cost + t->draft_cost));
}

/* Nothing is drafted for a while; then hope is just enough for one token, and one that fails ends it again. Costs that
 * are only measured while drafting fade, so that one bad measurement is not believed for ever. */
static void pause_drafting(acceptance_tracker *t)
{
    t->pause = t->next_pause;
    t->next_pause = t->next_pause * 2 < LONGEST_PAUSE ? t->next_pause * 2 : LONGEST_PAUSE;
    t->row_cost = fmax(t->row_cost * 0.9, fmin(t->row_cost, START_ROW_COST));
    t->acceptance = fmin(LEAST_GAIN * (1 + t->row_cost + t->draft_cost) - 1 + HOPE, 0.99);
    t->n_trials = START_TRIALS;
}

/* May it try k tokens that would all be wrong? A sequence's first is always tried, and one by who has lost nothing:
 * acceptance_tracker_length asks only where it could pay, so it is believed to cost less than a plain step. */
static bool affords(const acceptance_tracker *t, uint32_t k)
{
    return (k == 1 && (t->loss <= 0 || t->n_drafting_steps == 0)) ||
           t->loss + k * (t->row_cost + t->draft_cost) <= LOSS_AT_ONCE;
}

uint32_t acceptance_tracker_length(acceptance_tracker *t)
{
    t->n_steps++;
    t->n_charged = 0; /* a step that told no costs: what was expected stands */
    t->loss = t->loss > LOSS_A_STEP ? t->loss - LOSS_A_STEP : fmin(t->loss, 0);
    if (t->pause > 0) {
        t->pause--;
        return 0;
    }
    if (!affords(t, 1)) {
        return 0;
    }
    uint32_t best = 0;
    double best_gain = LEAST_GAIN;
    for (uint32_t k = 1; k <= t->n_max; k++) {
        double g = gain(t, k);
        if (g > best_gain && affords(t, k)) {
            best_gain = g;
            best = k;
        }
    }
    if (best == 0) {
        pause_drafting(t);
    }
    return best;
}

static void charge(acceptance_tracker *t, double cost)
{
    t->loss = fmax(t->loss + cost, -GAIN_KEPT);
}

void acceptance_tracker_update(acceptance_tracker *t, uint32_t n_drafted, uint32_t n_accepted)
{
    t->n_drafting_steps++;
    t->n_drafted += n_drafted;
    t->n_accepted += n_accepted;
    t->n_charged = n_drafted;
    t->charged = t->row_cost + t->draft_cost;
    charge(t, n_drafted * t->charged - n_accepted);
    for (uint32_t i = 0; i < n_drafted; i++) {
        t->drafted_at[i]++;
        t->accepted_at[i] += i < n_accepted;
        if (i <= n_accepted) { /* what stands behind a wrong token tells nothing */
            t->acceptance = (t->acceptance * t->n_trials + (i < n_accepted)) / (t->n_trials + 1);
            t->n_trials += t->n_trials < MOST_TRIALS;
        }
    }
    if (n_drafted > 0 && n_accepted == n_drafted && t->next_pause > FIRST_PAUSE) {
        t->next_pause /= 2;
    }
}

/* One measurement that was disturbed counts little. */
static double believed(double cost, double measured)
{
    return fmax(fmin(measured, 2 * cost + 0.1), 0);
}

/* Moves a cost towards what was measured. */
static void learn(double *cost, double measured)
{
    *cost = COST_MEMORY * *cost + (1 - COST_MEMORY) * measured;
}

void acceptance_tracker_costs(acceptance_tracker *t, double row_cost, double draft_cost)
{
    double row = believed(t->row_cost, row_cost);
    double draft = draft_cost > 0 ? believed(t->draft_cost, draft_cost) : t->draft_cost;
    charge(t, t->n_charged * (row + draft - t->charged)); /* of what was expected */
    t->n_charged = 0;
    learn(&t->row_cost, row);
    learn(&t->draft_cost, draft);
}
