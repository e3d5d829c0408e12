/*
 * Pace.
 * Owner: a scheduler. Lifetime: its owner's.
 */
#include "scheduler/pace.h"

#include <string.h>

#include "scheduler/quantile.h"

#define SPREAD_PART 0.97
#define SPREAD_GUESS 1.25 /* of the steps that have not been seen yet */
#define SPREAD_LEAST 1.05
#define FLOOR 1.5

void pace_alone(pace *p, const cost_load *load, double us)
{
    p->alone[p->n_alone % PACE_ALONE_N].load = *load;
    p->alone[p->n_alone % PACE_ALONE_N].us = us;
    p->n_alone = p->n_alone + 1 < 2 * PACE_ALONE_N ? p->n_alone + 1 : PACE_ALONE_N;
    p->slow = 1;
}

static double slow_of(const pace *p)
{
    return p->slow > 1 ? p->slow : 1;
}

void pace_shared(pace *p, double predicted_us, double us)
{
    if (predicted_us > 0) {
        p->shared[p->n_shared % PACE_SHARED_N] = us / predicted_us / slow_of(p);
        p->n_shared = p->n_shared + 1 < 2 * PACE_SHARED_N ? p->n_shared + 1 : PACE_SHARED_N;
        p->slow = us / predicted_us;
    }
}

/* Known from steps in which they were alone, the median of the newest: drawn from steps that a long prompt shares it
 * would be an extrapolation, and the budget would drift with its errors. */
double pace_alone_ratio(const pace *p, const cost_model *cost)
{
    double ratios[PACE_ALONE_N];
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_alone && i < PACE_ALONE_N; i++) {
        double us = cost_model_step_us(cost, &p->alone[i].load);
        if (us > 0) {
            ratios[n++] = p->alone[i].us / us;
        }
    }
    return n ? quantile_of(ratios, n, 0.5) : 1;
}

double pace_spread(const pace *p)
{
    double ratios[PACE_SHARED_N];
    memcpy(ratios, p->shared, sizeof ratios);
    for (uint32_t i = p->n_shared; i < PACE_SHARED_N; i++) {
        ratios[i] = SPREAD_GUESS;
    }
    double spread = quantile_of(ratios, PACE_SHARED_N, SPREAD_PART);
    return spread > SPREAD_LEAST ? spread : SPREAD_LEAST;
}

/* Where the machine has become slower since the streams were alone, or where it is slow again and again, the bound
 * would leave the prompt next to nothing: then a step may take FLOOR times what decoding takes, alone or now. */
double pace_budget_us(const pace *p, double now_us, double alone_ratio, double stretch)
{
    double floor_us = (FLOOR < stretch ? FLOOR : stretch) * (alone_ratio > 1 ? alone_ratio : 1) * now_us;
    double budget_us = stretch / (pace_spread(p) * slow_of(p)) * alone_ratio * now_us;
    return budget_us > floor_us ? budget_us : floor_us;
}
