/*
 * Least-squares fits of scales. The method is the field's usual one: try a fan of scales around the one that maps the
 * largest weight to the last level, and for the whole numbers each gives solve for the scale (and min) in closed form.
 * Owner: none. Lifetime: the call.
 */
#include "quant/codec_fit.h"

#include <math.h>

/* Steps of the fan, in levels of the largest weight: beyond the last level it is clipped, which often costs least. */
#define FAN_STEP 0.1
#define FAN_BELOW 12
#define FAN_ABOVE 14

double codec_fit_error(const codec_group *g, double scale, double min, int lowest, int highest)
{
    double error = 0, inverse = codec_fit_inverse(scale);
    for (int i = 0; i < g->n; i++) {
        double e = g->x[i] - min - scale * codec_fit_q(g->x[i], inverse, min, lowest, highest);
        error += g->w[i] * e * e;
    }
    return error;
}

/* The best scale for the whole numbers that `scale` gives. */
static double solve_scale(const codec_group *g, double scale, int lowest, int highest)
{
    double xq = 0, qq = 0, inverse = codec_fit_inverse(scale);
    for (int i = 0; i < g->n; i++) {
        double q = codec_fit_q(g->x[i], inverse, 0, lowest, highest);
        xq += g->w[i] * g->x[i] * q;
        qq += g->w[i] * q * q;
    }
    return qq > 0 ? xq / qq : scale;
}

static double largest(const codec_group *g)
{
    double most = 0;
    for (int i = 0; i < g->n; i++) {
        most = fabs(g->x[i]) > fabs(most) ? g->x[i] : most;
    }
    return most;
}

double codec_fit_scale(const codec_group *g, int lowest, int highest)
{
    double most = largest(g), best = 0, best_error = INFINITY;
    if (most == 0) {
        return 0;
    }
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int step = -FAN_BELOW; step <= FAN_ABOVE; step++) {
            /* the largest weight falls on the side with one level more, or on the other */
            double levels = (sign < 0 ? -lowest : highest) + FAN_STEP * step;
            double scale = levels > 0 ? solve_scale(g, sign * most / levels, lowest, highest) : 0;
            double error = codec_fit_error(g, scale, 0, lowest, highest);
            if (error < best_error) {
                best_error = error;
                best = scale;
            }
        }
    }
    return best;
}

/* Scale and min for the whole numbers that the given ones lead to: two normal equations. */
static void solve_pair(const codec_group *g, int top, int below, double *scale, double *min)
{
    double w = 0, q1 = 0, q2 = 0, x1 = 0, xq = 0, inverse = codec_fit_inverse(*scale);
    for (int i = 0; i < g->n; i++) {
        double q = codec_fit_q(g->x[i], inverse, *min, 0, top);
        w += g->w[i];
        q1 += g->w[i] * q;
        q2 += g->w[i] * q * q;
        x1 += g->w[i] * g->x[i];
        xq += g->w[i] * g->x[i] * q;
    }
    double det = w * q2 - q1 * q1;
    if (det > 1e-9 * w * q2) { /* else all q are the same: nothing to learn */
        double s = (w * xq - q1 * x1) / det, m = (q2 * x1 - q1 * xq) / det;
        if (below && m > 0) {
            m = 0;
            s = xq / q2;
        }
        if (s > 0) {
            *scale = s;
            *min = m;
        }
    }
}

void codec_fit_pair(const codec_group *g, int top, int below, double *scale, double *min)
{
    double low = g->x[0], high = g->x[0];
    for (int i = 1; i < g->n; i++) {
        low = fmin(low, g->x[i]);
        high = fmax(high, g->x[i]);
    }
    if (below && low > 0) {
        low = 0;
    }
    if (high <= low) {
        *scale = 0;
        *min = low;
        return;
    }
    double best_error = INFINITY;
    for (int step = -FAN_BELOW; step <= FAN_ABOVE; step++) {
        double s = (high - low) / (top + FAN_STEP * step), m = low;
        for (int round = 0; round < 3; round++) {
            solve_pair(g, top, below, &s, &m);
            double error = codec_fit_error(g, s, m, 0, top);
            if (error < best_error) {
                best_error = error;
                *scale = s;
                *min = m;
            }
        }
    }
}
