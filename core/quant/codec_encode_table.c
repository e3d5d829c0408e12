/*
 * Encoding to formats whose numbers of 4 bits stand for entries of a table: IQ4_NL, IQ4_XS, MXFP4.
 * Owner: none. Lifetime: the call. Any thread.
 *
 * As codec_fit.c does it: try a fan of scales around those that map the largest weight to an end of the table, and
 * solve for the scale that suits the entries each of them leads to.
 */
#include <math.h>
#include <string.h>

#include "quant/codec_encode.h"
#include "quant/codec_fit.h"
#include "quant/codec_table.h"

#define GROUP 32
#define FAN_STEP 2.5 /* of the table's numbers */
#define FAN 6        /* steps to each side */

/* The entry nearest to x: the table rises, but for the signs of E2M1, whose upper half mirrors the lower one. */
static unsigned nearest(const int8_t *values, double x)
{
    bool mirrored = values[0] == 0;
    unsigned low = 0, high = mirrored ? 7 : 15;
    double at = mirrored ? fabs(x) : x;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (at < values[middle]) {
            high = middle;
        } else {
            low = middle;
        }
    }
    unsigned found = at - values[low] <= values[high] - at ? low : high;
    return mirrored && x < 0 && found ? found + 8 : found;
}

static double error_of(const codec_group *g, const int8_t *values, double scale)
{
    double error = 0, inverse = codec_fit_inverse(scale);
    for (int i = 0; i < g->n; i++) {
        double e = g->x[i] - scale * values[nearest(values, g->x[i] * inverse)];
        error += g->w[i] * e * e;
    }
    return error;
}

/* The best scale for the entries that `scale` leads to. */
static double solve(const codec_group *g, const int8_t *values, double scale)
{
    double xv = 0, vv = 0, inverse = codec_fit_inverse(scale);
    for (int i = 0; i < g->n; i++) {
        double v = values[nearest(values, g->x[i] * inverse)];
        xv += g->w[i] * g->x[i] * v;
        vv += g->w[i] * v * v;
    }
    return vv > 0 ? xv / vv : scale;
}

static double largest(const codec_group *g)
{
    double most = 0;
    for (int i = 0; i < g->n; i++) {
        most = fabs(g->x[i]) > fabs(most) ? g->x[i] : most;
    }
    return most;
}

static double fit(const codec_group *g, const int8_t *values)
{
    double most = largest(g), best = 0, best_error = INFINITY;
    for (int end = 0; end < 2 && most != 0; end++) {
        for (int step = -FAN; step <= FAN; step++) {
            double scale = solve(g, values, most / (values[end ? 15 : 0] + FAN_STEP * step));
            double error = error_of(g, values, scale);
            if (error < best_error) {
                best_error = error;
                best = scale;
            }
        }
    }
    return best;
}

static void put_nibbles(const codec_group *g, const int8_t *values, double scale, uint8_t *dst)
{
    double inverse = codec_fit_inverse(scale);
    for (int i = 0; i < GROUP / 2; i++) {
        unsigned low = nearest(values, g->x[i] * inverse), high = nearest(values, g->x[i + GROUP / 2] * inverse);
        dst[i] = (uint8_t)(low | high << 4);
    }
}

/* A power of two near the one that maps the largest weight to the last number. */
static void encode_mxfp4(const codec_group *g, uint8_t *dst)
{
    const int8_t *values = codec_table_values(DTYPE_MXFP4);
    double most = fabs(largest(g)), best = 0, best_error = INFINITY;
    int exponent;
    frexp(most / 12, &exponent); /* 2^exponent is just above */
    for (int e = exponent - 2; e <= exponent + 1 && most > 0; e++) {
        int stored = e + 128; /* half of 2^(stored − 127) */
        double scale = ldexp(1, e), error = stored < 0 || stored > 252
                                                ? INFINITY
                                                : error_of(g, values, scale); /* 253: 12 × it is infinite */
        if (error < best_error) {
            best_error = error;
            best = scale;
            dst[0] = (uint8_t)stored;
        }
    }
    put_nibbles(g, values, best, dst + 1);
}

static void encode_iq4_nl(const codec_group *g, uint8_t *dst)
{
    const int8_t *values = codec_table_values(DTYPE_IQ4_NL);
    put_nibbles(g, values, codec_store_half(dst, fit(g, values)), dst + 2);
}

/* ---- IQ4_XS: eight groups whose scales are whole numbers of −32 … 31 times a factor ---- */

static int choose(const codec_group *g, const int8_t *values, double d, double scale)
{
    int near = (int)codec_fit_q(scale, codec_fit_inverse(d), 0, -32, 31), best = near;
    double best_error = INFINITY;
    for (int s = near - 1; s <= near + 1; s++) {
        double error = s < -32 || s > 31 ? INFINITY : error_of(g, values, d * s);
        if (error < best_error) {
            best_error = error;
            best = s;
        }
    }
    return best;
}

/* Scales of all groups under the factor d; returns the factor that suits what was chosen. */
static double choose_all(const codec_group *groups, const int8_t *values, double d, const double *scales, int *chosen,
                         double *error)
{
    double xv = 0, vv = 0;
    *error = 0;
    for (int k = 0; k < 8; k++) {
        const codec_group *g = &groups[k];
        chosen[k] = choose(g, values, d, scales[k]);
        double scale = d * chosen[k], inverse = codec_fit_inverse(scale);
        *error += error_of(g, values, scale);
        for (int i = 0; i < g->n; i++) {
            double v = values[nearest(values, g->x[i] * inverse)] * (double)chosen[k];
            xv += g->w[i] * g->x[i] * v;
            vv += g->w[i] * v * v;
        }
    }
    return vv > 0 ? xv / vv : d;
}

static void put_iq4_xs(const codec_group *groups, const int8_t *values, double d, const int *chosen, uint8_t *dst)
{
    for (int k = 0; k < 8; k++) {
        unsigned s = (unsigned)(chosen[k] + 32);
        dst[2 + k / 4] = (uint8_t)(dst[2 + k / 4] | s >> 4 << k % 4 * 2);
        dst[4 + k / 2] = (uint8_t)(dst[4 + k / 2] | (s & 15) << k % 2 * 4);
        put_nibbles(&groups[k], values, d * chosen[k], dst + 8 + 16 * k);
    }
}

static void encode_iq4_xs(const codec_group *groups, uint8_t *dst)
{
    const int8_t *values = codec_table_values(DTYPE_IQ4_XS);
    double scales[8], most = 0, error, again_error;
    int chosen[8], again[8];
    uint8_t half[2];
    for (int k = 0; k < 8; k++) {
        scales[k] = fit(&groups[k], values);
        most = fabs(scales[k]) > fabs(most) ? scales[k] : most;
    }
    double d = codec_store_half(dst, most / -32); /* there is one more below 0 */
    double better = codec_store_half(half, choose_all(groups, values, d, scales, chosen, &error));
    choose_all(groups, values, better, scales, again, &again_error);
    if (again_error < error) {
        memcpy(dst, half, sizeof half);
        memcpy(chosen, again, sizeof chosen);
        d = better;
    }
    put_iq4_xs(groups, values, d, chosen, dst);
}

void codec_table_encode(dtype type, const double *x, const double *w, uint8_t *dst)
{
    codec_group groups[8];
    unsigned n = type == DTYPE_IQ4_XS ? 8 : 1;
    for (unsigned k = 0; k < n; k++) {
        groups[k] = (codec_group){x + GROUP * k, w + GROUP * k, GROUP};
    }
    if (type == DTYPE_MXFP4) {
        encode_mxfp4(groups, dst);
    } else if (type == DTYPE_IQ4_NL) {
        encode_iq4_nl(groups, dst);
    } else {
        encode_iq4_xs(groups, dst);
    }
}
