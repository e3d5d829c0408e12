/*
 * Encoding of floats to every weight format. Scales are chosen for the smallest weighted squared error, once more after
 * each has been rounded to what the block can store.
 * Owner: none. Lifetime: the call. Any thread.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "quant/codec.h"
#include "quant/codec_encode.h"
#include "quant/codec_fit.h"
#include "quant/codec_layout.h"
#include "quant/codec_table.h"
#include "quant/half.h"

#define HALF_MAX 65504.0

typedef struct block {
    double x[CODEC_BLOCK_MAX], w[CODEC_BLOCK_MAX];
    double scale[CODEC_GROUPS_MAX], min[CODEC_GROUPS_MAX]; /* as fitted: a weight is scale·q + min */
    int scales[CODEC_GROUPS_MAX], mins[CODEC_GROUPS_MAX];  /* as stored */
    uint8_t q[CODEC_BLOCK_MAX];
} block;

double codec_store_half(uint8_t *at, double value)
{
    value = value > HALF_MAX ? HALF_MAX : value < -HALF_MAX ? -HALF_MAX : value;
    uint16_t half = half_from_float((float)value);
    store_u16le(at, half);
    return (double)half_to_float(half);
}

static double finite_or_zero(float value)
{
    return isfinite(value) ? (double)value : 0.0;
}

/* Groups in which no weight matters count as if all did. */
static void load(block *b, unsigned n, unsigned group, const float *src, const float *importance)
{
    for (unsigned first = 0; first < n; first += group) {
        bool any = false;
        for (unsigned i = first; i < first + group; i++) {
            b->x[i] = finite_or_zero(src[i]);
            b->w[i] = importance ? fmax(finite_or_zero(importance[i]), 0) : 1;
            any = any || b->w[i] > 0;
        }
        for (unsigned i = first; i < first + group && !any; i++) {
            b->w[i] = 1;
        }
    }
}

static codec_group group_at(const block *b, const codec_layout *layout, unsigned g)
{
    unsigned first = g * layout->group;
    return (codec_group){b->x + first, b->w + first, layout->group};
}

static void choose_q(block *b, const codec_layout *layout, unsigned g, double scale, double min)
{
    double lowest = -layout->zero, highest = layout->top - layout->zero, inverse = codec_fit_inverse(scale);
    for (unsigned i = g * layout->group; i < (g + 1u) * layout->group; i++) {
        b->q[i] = (uint8_t)(codec_fit_q(b->x[i], inverse, min, lowest, highest) + layout->zero);
    }
}

static void fit(block *b, const codec_layout *layout)
{
    for (unsigned g = 0; g < layout->n / layout->group; g++) {
        codec_group group = group_at(b, layout, g);
        b->min[g] = 0;
        if (layout->dmin) {
            codec_fit_pair(&group, layout->top, layout->scale_top > 0, &b->scale[g], &b->min[g]);
        } else {
            b->scale[g] = codec_fit_scale(&group, -layout->zero, layout->top - layout->zero);
        }
    }
}

/* Q4_0 … Q5_1: one group, its scale and min are halves. */
static void encode_simple(block *b, const codec_layout *layout, uint8_t *dst)
{
    double scale = codec_store_half(dst + layout->d, b->scale[0]), min = 0;
    if (layout->dmin) {
        min = codec_store_half(dst + layout->dmin, b->min[0]);
    }
    choose_q(b, layout, 0, scale, min);
    codec_planes_put(layout, dst, b->q);
}

/* The stored scale (and min) of a group near its fitted one that gives the smallest error under factors d and dmin. */
static void choose_scale(block *b, const codec_layout *layout, unsigned g, double d, double dmin)
{
    int lowest = layout->dmin ? 0 : -layout->scale_top - 1, top = layout->scale_top;
    codec_group group = group_at(b, layout, g);
    double best = INFINITY;
    int scale0 = (int)codec_fit_q(b->scale[g], codec_fit_inverse(d), 0, lowest, top);
    int min0 = (int)codec_fit_q(-b->min[g], codec_fit_inverse(dmin), 0, 0, top);
    for (int m = min0 - (dmin != 0); m <= min0 + (dmin != 0); m++) {
        for (int s = scale0 - 1; s <= scale0 + 1; s++) {
            if (s < lowest || s > top || m < 0 || m > top) {
                continue;
            }
            double error = codec_fit_error(&group, d * s, -dmin * m, -layout->zero, layout->top - layout->zero);
            if (error < best) {
                best = error;
                b->scales[g] = s;
                b->mins[g] = m;
            }
        }
    }
}

/* Factors for the whole numbers chosen so far: two normal equations over the block. */
static void refit_factors(const block *b, const codec_layout *layout, double *d, double *dmin)
{
    double ss = 0, sm = 0, mm = 0, xs = 0, xm = 0;
    for (unsigned i = 0; i < layout->n; i++) {
        unsigned g = i / layout->group;
        double s = (double)b->scales[g] * (b->q[i] - layout->zero), m = -(double)b->mins[g];
        ss += b->w[i] * s * s;
        sm += b->w[i] * s * m;
        mm += b->w[i] * m * m;
        xs += b->w[i] * b->x[i] * s;
        xm += b->w[i] * b->x[i] * m;
    }
    double det = ss * mm - sm * sm;
    if (det > 1e-9 * ss * mm) {
        *d = (xs * mm - xm * sm) / det;
        *dmin = (xm * ss - xs * sm) / det;
    } else if (ss > 0) {
        *d = (xs - *dmin * sm) / ss;
    }
}

static double block_error(const block *b, const codec_layout *layout, double d, double dmin)
{
    double error = 0;
    for (unsigned i = 0; i < layout->n; i++) {
        unsigned g = i / layout->group;
        double e = b->x[i] - d * b->scales[g] * (b->q[i] - layout->zero) + dmin * b->mins[g];
        error += b->w[i] * e * e;
    }
    return error;
}

/* Stores the factors, then the scales that suit them, then the q. */
static double encode_factors(block *b, dtype type, const codec_layout *layout, double d, double dmin, uint8_t *dst)
{
    memset(dst, 0, dtype_row_bytes(type, layout->n));
    d = codec_store_half(dst + layout->d, d);
    dmin = layout->dmin ? codec_store_half(dst + layout->dmin, dmin) : 0;
    for (unsigned g = 0; g < layout->n / layout->group; g++) {
        choose_scale(b, layout, g, d, dmin);
        choose_q(b, layout, g, d * b->scales[g], -dmin * b->mins[g]);
    }
    codec_scales_put(type, dst, b->scales, b->mins);
    codec_planes_put(layout, dst, b->q);
    return block_error(b, layout, d, dmin);
}

static void encode_k(block *b, dtype type, const codec_layout *layout, uint8_t *dst)
{
    double scale = 0, min = 0;
    for (unsigned g = 0; g < layout->n / layout->group; g++) {
        scale = fabs(b->scale[g]) > fabs(scale) ? b->scale[g] : scale;
        min = fmin(min, b->min[g]);
    }
    /* signed scales have one value more below 0 */
    double d = layout->dmin ? scale / layout->scale_top : scale / (-layout->scale_top - 1),
           dmin = -min / layout->scale_top;
    double error = encode_factors(b, type, layout, d, dmin, dst);
    uint8_t again[256];
    for (int round = 0; round < 2 && error > 0; round++) {
        refit_factors(b, layout, &d, &dmin);
        double better = encode_factors(b, type, layout, d, fmax(dmin, 0), again);
        if (better < error) {
            error = better;
            memcpy(dst, again, dtype_row_bytes(type, layout->n));
        }
    }
}

/* Q8_0 and Q8_K: the scale follows from the largest weight; 8 bits leave nothing to search for. */
static void encode_bytes(dtype type, const float *src, uint8_t *dst, unsigned n)
{
    double most = 0;
    for (unsigned i = 0; i < n; i++) {
        most = fmax(most, fabs(finite_or_zero(src[i])));
    }
    uint8_t *q = dst + (type == DTYPE_Q8_0 ? 2 : 4);
    double d = (double)(float)(most / 127);
    if (type == DTYPE_Q8_0) {
        d = codec_store_half(dst, d);
    } else {
        d = d * 127 > (double)FLT_MAX ? (double)(FLT_MAX / 128)
                                      : d; /* rounded up, the largest would decode to infinity */
        uint32_t bits = float_to_bits((float)d);
        store_u16le(dst, (uint16_t)bits);
        store_u16le(dst + 2, (uint16_t)(bits >> 16));
    }
    double inverse = codec_fit_inverse(d);
    for (unsigned first = 0; first < n; first += 16) {
        int sum = 0;
        for (unsigned i = first; i < first + 16; i++) {
            int value = (int)codec_fit_q(finite_or_zero(src[i]), inverse, 0, -127, 127);
            q[i] = (uint8_t)value;
            sum += value;
        }
        if (type == DTYPE_Q8_K) {
            store_u16le(q + n + first / 8, (uint16_t)sum);
        }
    }
}

static void encode_plain(dtype type, const float *src, uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float value = isfinite(src[i]) ? src[i] : 0.0f;
        if (type == DTYPE_F32) {
            uint32_t bits = float_to_bits(value);
            store_u16le(dst + 4 * i, (uint16_t)bits);
            store_u16le(dst + 4 * i + 2, (uint16_t)(bits >> 16));
        } else {
            store_u16le(dst + 2 * i, type == DTYPE_F16 ? half_from_float(value) : bf16_from_float(value));
        }
    }
}

bool codec_encodes(dtype type)
{
    return !codec_table_has(type) || codec_table_values(type);
}

void codec_encode(dtype type, const float *src, void *dst, size_t n, const float *importance)
{
    const dtype_info *info = dtype_find(type);
    const codec_layout *layout = codec_layout_of(type);
    uint8_t *bytes = dst;
    block b;
    if (info->block_size == 1) {
        encode_plain(type, src, bytes, n);
        return;
    }
    for (size_t i = 0; i < n; i += info->block_size, bytes += info->block_bytes) {
        memset(bytes, 0, info->block_bytes);
        if (codec_table_values(type)) {
            load(&b, info->block_size, 32, src + i, importance ? importance + i : NULL);
            codec_table_encode(type, b.x, b.w, bytes);
            continue;
        }
        if (layout->n == 0) {
            encode_bytes(type, src + i, bytes, info->block_size);
            continue;
        }
        load(&b, layout->n, layout->group, src + i, importance ? importance + i : NULL);
        fit(&b, layout);
        if (layout->scale_top) {
            encode_k(&b, type, layout, bytes);
        } else {
            encode_simple(&b, layout, bytes);
        }
    }
}
