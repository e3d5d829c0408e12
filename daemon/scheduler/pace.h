/*
 * Pace: how long a step may take where a prompt shares it with decoding sequences.
 * Owner: one for each model in use, in a scheduler. Lifetime: its owner's. One thread at a time.
 *
 *   budget = stretch / (spread × slow) × what the decoding takes alone
 *
 * A step is to take at most `stretch` times what its decoding takes alone, but for one in thirty. Steps take now less
 * and now more than predicted, so the budget lies below that bound by as much as the slowest of the newest did
 * (`spread`): a machine that is ours gives a prompt more of the time than one whose cores come and go. Cores that go
 * are away for some steps, so what the last one took beyond its prediction (`slow`) is expected of the next as well.
 */
#ifndef MLXR_SCHEDULER_PACE_H
#define MLXR_SCHEDULER_PACE_H

#include "scheduler/cost_model.h"

enum { PACE_ALONE_N = 63, PACE_SHARED_N = 32 };

typedef struct pace { /* {0}: nothing seen yet */
    struct {
        cost_load load;
        double us;
    } alone[PACE_ALONE_N];        /* the newest steps without prompts, in a ring … */
    double shared[PACE_SHARED_N]; /* … and of those with both what they took over what was expected */
    uint32_t n_alone, n_shared;   /* there were */
    double slow;                  /* > 1: the last step was so many times slower than predicted */
} pace;

/* A step of decoding only, with this load. */
void pace_alone(pace *p, const cost_load *load, double us);
/* A step of decoding and a prompt. */
void pace_shared(pace *p, double predicted_us, double us);

/* What decoding rows take alone over what the cost model says of them. */
double pace_alone_ratio(const pace *p, const cost_model *cost);
/* How far the slowest one in thirty of the newest shared steps went beyond what was expected, as a factor. */
double pace_spread(const pace *p);
/* For a step whose decoding takes now_us by the cost model, with its pace_alone_ratio. */
double pace_budget_us(const pace *p, double now_us, double alone_ratio, double stretch);

#endif
