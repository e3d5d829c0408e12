/*
 * Least-squares fits of scales: how well can whole numbers 0…top, a scale and a min express a group of weights?
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_QUANT_CODEC_FIT_H
#define MLXR_QUANT_CODEC_FIT_H

/* A group of at most 32 weights x with the importance w (≥ 0, not all 0) of their squared errors. */
typedef struct codec_group {
    const double *x, *w; /* [n] */
    int n;
} codec_group;

/* The error Σ w (x − scale·q − min)² with the best q in lowest…highest for each weight. */
double codec_fit_error(const codec_group *g, double scale, double min, int lowest, int highest);

/* The scale of either sign, min being 0, that comes near the smallest error. */
double codec_fit_scale(const codec_group *g, int lowest, int highest);

/* Scale ≥ 0 and min for q in 0…top; with `below` the min may not be above 0. */
void codec_fit_pair(const codec_group *g, int top, int below, double *scale, double *min);

/* The q of a weight in lowest…highest: the nearest, ties to even. inverse: 1/scale, 0 for a scale of 0. Adding 1.5 ×
 * 2⁵² leaves no bits for a fraction, which rounds faster than a library call. */
static inline double codec_fit_q(double x, double inverse, double min, double lowest, double highest)
{
    double q = (x - min) * inverse;
    q = q < lowest ? lowest : q;
    q = q > highest ? highest : q;
    return q + 0x1.8p52 - 0x1.8p52;
}

static inline double codec_fit_inverse(double scale)
{
    return scale != 0 ? 1 / scale : 0;
}

#endif
