/*
 * Cost model: predicts how long a step takes, and learns from how long steps took.
 * Owner: one for each model in use, in a scheduler. Lifetime: its owner's. One thread at a time.
 *
 *   step_us = fixed + per_row · rows + per_row_depth · Σ (rows × depth) + per_logits · rows with logits
 *
 * The first two are the weights' pass and the matrix products, the third is attention, which at 16k tokens of depth
 * outweighs the products, the fourth the output matrix: with a large vocabulary a decoding row costs three of
 * a prompt. Fitted by least squares of the *relative* error.
 *
 * Forgetting is directional (Kulhavý 1987, Cao and Schwartz 2000): a step makes room only for what it tells itself. A
 * prompt among sixteen streams is a hundred steps with the same numbers of rows and logits, which say nothing of how
 * their cost is made up; with plain exponential forgetting the coefficients drift, decoding seems to cost what the
 * whole step does, and streams are left out of steps. No coefficient becomes negative.
 */
#ifndef MLXR_SCHEDULER_COST_MODEL_H
#define MLXR_SCHEDULER_COST_MODEL_H

#include "mlxr.h"

enum { COST_FIXED, COST_ROW, COST_ROW_DEPTH, COST_LOGITS, COST_N };

typedef struct cost_load { /* what a step computes */
    double rows, row_depths, logits;
} cost_load;

typedef struct cost_model {
    double guess[COST_N], us[COST_N];             /* microseconds; the first guess, and what is believed now */
    double normal[COST_N][COST_N], right[COST_N]; /* the normal equations; they begin as the guess */
    uint64_t n_steps;
} cost_model;

/* `info` NULL: 1000, 100, 0.01 and 100 µs. */
void cost_model_init(cost_model *m, const mlxr_model_info *info);
/* A step with this load took us > 0 microseconds. */
void cost_model_learn(cost_model *m, const cost_load *load, double us);
double cost_model_step_us(const cost_model *m, const cost_load *load);
/* Adds n rows at depths depth + 1 … depth + n, n_logits of them with logits. */
void cost_load_add(cost_load *load, uint32_t depth, uint32_t n, uint32_t n_logits);

#endif
