/*
 * Cost model: predicts how long a step takes, and learns from how long steps took.
 * Owner: one for each model in use, in a scheduler. Lifetime: its owner's. One thread at a time.
 *
 *   step_us = fixed + per_row · rows + per_row_depth · Σ (rows × depth)
 *
 * The first two are the weights' pass and the matrix products, the third is attention, which at 16k tokens of depth
 * outweighs the products. Fitted by least squares of the *relative* error with exponential forgetting; what was never
 * varied (a step without depth tells nothing of attention) stays at the first guess. No coefficient becomes negative.
 */
#ifndef MLXR_SCHEDULER_COST_MODEL_H
#define MLXR_SCHEDULER_COST_MODEL_H

#include "mlxr.h"

enum { COST_FIXED, COST_ROW, COST_ROW_DEPTH, COST_N };

typedef struct cost_model {
    double guess[COST_N], us[COST_N];             /* microseconds; the first guess, and what is believed now */
    double normal[COST_N][COST_N], right[COST_N]; /* the normal equations, decayed */
    uint64_t n_steps;
} cost_model;

/* `info` NULL: 1000, 100 and 0.01 µs. */
void cost_model_init(cost_model *m, const mlxr_model_info *info);
/* A step with `rows` rows whose depths add up to row_depths took us > 0 microseconds. */
void cost_model_learn(cost_model *m, double rows, double row_depths, double us);
double cost_model_step_us(const cost_model *m, double rows, double row_depths);
/* What n rows at depths depth + 1 … depth + n add to a step. */
double cost_model_rows_us(const cost_model *m, uint32_t depth, uint32_t n);
/* Σ of those depths. */
double cost_row_depths(uint32_t depth, uint32_t n);

#endif
