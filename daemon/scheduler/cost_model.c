/*
 * Cost model of steps.
 * Owner: a scheduler. Lifetime: its owner's.
 */
#include "scheduler/cost_model.h"

#include <math.h>
#include <string.h>

#define FORGET 0.98 /* an observation's weight halves in 34 steps that tell the same */
#define TRUST 1e-3  /* weight of the first guess against one observation */
#define OUTLIER 4.0 /* a step this many times slower than predicted was disturbed by something else */
#define OUTLIER_FROM 16

void cost_model_init(cost_model *m, const mlxr_model_info *info)
{
    memset(m, 0, sizeof *m);
    m->guess[COST_FIXED] = 1000;
    m->guess[COST_ROW] = 100;
    m->guess[COST_ROW_DEPTH] = 0.01;
    m->guess[COST_LOGITS] = 100;
    if (info) { /* 10 GB/s of weights, 100 GFLOP/s in products, 20 in attention: the order of a small machine */
        double n_output = (double)info->n_vocab * info->n_embd, n_params = (double)info->n_params;
        double n_body = n_params > n_output ? n_params - n_output : n_params;
        m->guess[COST_FIXED] = 50 + (double)info->bytes_per_token / 1e4;
        m->guess[COST_ROW] = 1 + 2 * n_body / 1e5;
        m->guess[COST_ROW_DEPTH] = 1e-4 + 4.0 * info->n_layers * info->n_head * info->head_dim / 2e4;
        m->guess[COST_LOGITS] = 1 + 2 * n_output / 1e5;
    }
    for (int i = 0; i < COST_N; i++) {
        m->us[i] = m->guess[i];
        m->normal[i][i] = TRUST / (m->guess[i] * m->guess[i]);
        m->right[i] = TRUST / m->guess[i];
    }
}

/* Solves the equations of the coefficients in `use`; the others are 0. Gauss with the diagonal as pivots: the matrix is
 * symmetric and positive definite. */
static void solve(const cost_model *m, const bool *use, double *out)
{
    double a[COST_N][COST_N + 1] = {{0}};
    for (int i = 0; i < COST_N; i++) {
        for (int j = 0; j < COST_N; j++) {
            a[i][j] = use[i] && use[j] ? m->normal[i][j] : 0;
        }
        a[i][i] = use[i] ? a[i][i] : 1;
        a[i][COST_N] = use[i] ? m->right[i] : 0;
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

/* The non-negative solution: what comes out negative is left out. False: no finite one. */
static bool fit(const cost_model *m, double *found)
{
    bool use[COST_N] = {true, true, true, true};
    for (int pass = 0; pass < COST_N; pass++) {
        solve(m, use, found);
        bool negative = false;
        for (int i = 0; i < COST_N; i++) {
            if (!isfinite(found[i])) {
                return false;
            }
            negative |= found[i] < 0;
            use[i] = use[i] && found[i] >= 0;
        }
        if (!negative) {
            break;
        }
    }
    return true;
}

/* Takes 1 - FORGET of what is known along x out of the equations, and of nothing else. The solution stays. */
static void forget(cost_model *m, const double *x)
{
    double rx[COST_N] = {0}, xrx = 0, xr = 0, found[COST_N];
    static const bool all[COST_N] = {true, true, true, true};
    solve(m, all, found);
    for (int i = 0; i < COST_N; i++) {
        for (int j = 0; j < COST_N; j++) {
            rx[i] += m->normal[i][j] * x[j];
        }
        xrx += x[i] * rx[i];
        xr += rx[i] * found[i];
    }
    if (!(xrx > 0) || !isfinite(xrx) || !isfinite(xr)) {
        return;
    }
    for (int i = 0; i < COST_N; i++) {
        for (int j = 0; j < COST_N; j++) {
            m->normal[i][j] -= (1 - FORGET) * rx[i] * rx[j] / xrx;
        }
        m->right[i] -= (1 - FORGET) * rx[i] * xr / xrx;
    }
}

void cost_model_learn(cost_model *m, const cost_load *load, double us)
{
    if (!(us > 0) || !isfinite(us)) {
        return;
    }
    double predicted = cost_model_step_us(m, load);
    if (m->n_steps >= OUTLIER_FROM && us > OUTLIER * predicted) {
        us = OUTLIER * predicted;
    }
    double x[COST_N] = {1 / us, load->rows / us, load->row_depths / us, load->logits / us}, found[COST_N];
    forget(m, x);
    for (int i = 0; i < COST_N; i++) {
        for (int j = 0; j < COST_N; j++) {
            m->normal[i][j] += x[i] * x[j];
        }
        m->right[i] += x[i];
    }
    m->n_steps++;
    if (fit(m, found)) {
        for (int i = 0; i < COST_N; i++) {
            m->us[i] = found[i] > 0 ? found[i] : 0;
        }
    }
}

double cost_model_step_us(const cost_model *m, const cost_load *load)
{
    return m->us[COST_FIXED] + m->us[COST_ROW] * load->rows + m->us[COST_ROW_DEPTH] * load->row_depths +
           m->us[COST_LOGITS] * load->logits;
}

void cost_load_add(cost_load *load, uint32_t depth, uint32_t n, uint32_t n_logits)
{
    load->rows += n;
    load->row_depths += (double)n * depth + (double)n * ((double)n + 1) / 2;
    load->logits += n_logits;
}
