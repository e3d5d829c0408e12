/*
 * Cost model of steps.
 * Owner: a scheduler. Lifetime: its owner's.
 */
#include "scheduler/cost_model.h"

#include <math.h>
#include <string.h>

#define FORGET 0.98 /* an observation's weight halves in 34 steps */
#define TRUST 1e-3  /* weight of the first guess against one observation */
#define OUTLIER 4.0 /* a step this many times slower than predicted was disturbed by something else */
#define OUTLIER_FROM 16

void cost_model_init(cost_model *m, const mlxr_model_info *info)
{
    memset(m, 0, sizeof *m);
    m->guess[COST_FIXED] = 1000;
    m->guess[COST_ROW] = 100;
    m->guess[COST_ROW_DEPTH] = 0.01;
    if (info) { /* 10 GB/s of weights, 100 GFLOP/s in products, 20 in attention: the order of a small machine */
        m->guess[COST_FIXED] = 50 + (double)info->bytes_per_token / 1e4;
        m->guess[COST_ROW] = 1 + 2 * (double)info->n_params / 1e5;
        m->guess[COST_ROW_DEPTH] = 1e-4 + 4.0 * info->n_layers * info->n_head * info->head_dim / 2e4;
    }
    memcpy(m->us, m->guess, sizeof m->us);
}

/* Solves the equations of the coefficients in `use`; the others are 0. Gauss with the diagonal as pivots: the matrix is
 * symmetric and positive definite. */
static void solve(const cost_model *m, const bool *use, double *out)
{
    double a[COST_N][COST_N + 1] = {{0}};
    for (int i = 0; i < COST_N; i++) {
        double trust = TRUST / (m->guess[i] * m->guess[i]);
        for (int j = 0; j < COST_N; j++) {
            a[i][j] = use[i] && use[j] ? m->normal[i][j] : 0;
        }
        a[i][i] = use[i] ? a[i][i] + trust : 1;
        a[i][COST_N] = use[i] ? m->right[i] + trust * m->guess[i] : 0;
    }
    for (int i = 0; i < COST_N; i++) {
        for (int k = i + 1; k < COST_N; k++) {
            double factor = a[k][i] / a[i][i];
            for (int j = i; j <= COST_N; j++) {
                a[k][j] -= factor * a[i][j];
            }
        }
    }
    for (int i = COST_N - 1; i >= 0; i--) {
        out[i] = a[i][COST_N];
        for (int j = i + 1; j < COST_N; j++) {
            out[i] -= a[i][j] * out[j];
        }
        out[i] /= a[i][i];
    }
}

void cost_model_learn(cost_model *m, double rows, double row_depths, double us)
{
    if (!(us > 0) || !isfinite(us)) {
        return;
    }
    double predicted = cost_model_step_us(m, rows, row_depths);
    if (m->n_steps >= OUTLIER_FROM && us > OUTLIER * predicted) {
        us = OUTLIER * predicted;
    }
    double x[COST_N] = {1, rows, row_depths}, weight = 1 / (us * us), found[COST_N];
    for (int i = 0; i < COST_N; i++) {
        for (int j = 0; j < COST_N; j++) {
            m->normal[i][j] = FORGET * m->normal[i][j] + weight * x[i] * x[j];
        }
        m->right[i] = FORGET * m->right[i] + weight * x[i] * us;
    }
    m->n_steps++;
    bool use[COST_N] = {true, true, true};
    for (int pass = 0; pass < COST_N; pass++) {
        solve(m, use, found);
        bool negative = false;
        for (int i = 0; i < COST_N; i++) {
            if (!isfinite(found[i])) {
                return;
            }
            if (found[i] < 0) {
                use[i] = false;
                negative = true;
            }
        }
        if (!negative) {
            break;
        }
    }
    for (int i = 0; i < COST_N; i++) {
        m->us[i] = found[i] > 0 ? found[i] : 0;
    }
}

double cost_model_step_us(const cost_model *m, double rows, double row_depths)
{
    return m->us[COST_FIXED] + m->us[COST_ROW] * rows + m->us[COST_ROW_DEPTH] * row_depths;
}

double cost_row_depths(uint32_t depth, uint32_t n)
{
    return (double)n * depth + (double)n * ((double)n + 1) / 2;
}

double cost_model_rows_us(const cost_model *m, uint32_t depth, uint32_t n)
{
    return m->us[COST_ROW] * n + m->us[COST_ROW_DEPTH] * cost_row_depths(depth, n);
}
