/*
 * The fast encoder, written once for every instruction set. Include after simd_<isa>.h, with vf_where_less and
 * ENCODE_NAME defined.
 * Owner: none; a unit lives on the stack. Lifetime: the call.
 *
 * Scales are searched as core/quant/codec_fit.c does: a fan of them around the one that maps the largest weight to the
 * last level; for the whole numbers that each gives, the best scale (and min) in closed form, whose error comes with
 * it; from the best of these a few rounds more. Then a K-quant's factors are rounded to halves, each group's scale (and
 * min) is chosen again among the whole numbers nearby, and the factors are solved for again.
 *
 * IQ4_NL, IQ4_XS and MXFP4 differ in what a weight over its scale is rounded to: not a whole number but the nearest of
 * sixteen of a table (vf_entry). The rest is the same; MXFP4's scales are powers of two, of which few are worth a try.
 *
 * Weights are scaled by a power of two for each block, so that no sum overflows or vanishes.
 */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "kernels/cpu/encode.h"
#include "quant/codec_layout.h"
#include "quant/codec_table.h"
#include "quant/half.h"

#define LANES 16
#define GROUP_MAX 32
#define HALF_MAX 65504.0f
#define MAGIC 0x1.8p23f /* added, it leaves no bits for a fraction */
#define REFINE 2        /* rounds from the best of the fan */
#define REFIT 1         /* of a K-quant's factors */
#define FAN_STEP 0.1f
#define ENTRIES 16          /* of a table */
#define TABLE_FAN 6         /* steps to each side of an end of the table … */
#define TABLE_FAN_STEP 2.5f /* … of so many of its numbers */

/* The entries of a format, rising. What is at or above from[i] and below from[i + 1] is nearest to values[i]. */
typedef struct entries {
    float from[ENTRIES], values[ENTRIES];
    uint8_t codes[256]; /* of a value as int8 */
} entries;

typedef struct unit {
    dtype type;
    const codec_layout *layout;
    const entries *table;                            /* NULL: whole numbers from lowest to highest */
    unsigned n, n_blocks, per_block;                 /* weights a group; blocks that are there; groups a block */
    float lowest, highest;                           /* of a whole number */
    bool weighted;                                   /* else all w are 1 */
    float x[GROUP_MAX][LANES], w[GROUP_MAX][LANES];  /* [n] */
    float sum_w[LANES], sum_x[LANES], sum_xx[LANES]; /* Σw, Σwx, Σwx² */
    float low[LANES], high[LANES];                   /* the least and the greatest x */
    float factor[LANES], back[LANES];                /* of the lane's block: x is src × factor, src x × back */
    float scale[LANES], min[LANES];                  /* a weight is scale × q + min */
    float d[LANES], dmin[LANES];                     /* of the lane's block, as stored, times factor */
    float scales[LANES], mins[LANES];                /* whole numbers: scale = d × scales, min = −dmin × mins */
    float error[LANES];
    uint8_t q[GROUP_MAX][LANES];
} unit;

/* What the whole numbers that a scale and a min give add up to: Σwq, Σwq², Σwxq. */
typedef struct sums {
    vf q, qq, xq;
} sums;

/* ---- loading ---- */

static float power_of_two(int exponent)
{
    return float_from_bits((uint32_t)(exponent + 127) << 23);
}

/* The largest magnitude as bits, infinity and NaN included. */
static uint32_t largest_bits(const float *src, unsigned n)
{
    uint32_t most = 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t bits = float_to_bits(src[i]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

static float finite_or_zero(float value)
{
    return isfinite(value) ? value : 0.0f;
}

/* Importance of a group, relative to its greatest; all 1 where none is above 0. */
static void load_importance(unit *u, unsigned lane, const float *importance)
{
    float most = 0;
    for (unsigned i = 0; i < u->n; i++) {
        float w = finite_or_zero(importance[i]);
        most = w > most ? w : most;
    }
    int exponent = (int)(float_to_bits(most) >> 23) - 127;
    float factor = power_of_two(exponent < -100 ? 100 : -exponent);
    for (unsigned i = 0; i < u->n; i++) {
        float w = finite_or_zero(importance[i]) * factor;
        u->w[i][lane] = most * factor < 0x1p-30f ? 1.0f : w > 0 ? w : 0.0f;
    }
}

static void load_block(unit *u, unsigned block, const float *src, const float *importance)
{
    float tame[CODEC_BLOCK_MAX];
    uint32_t most = largest_bits(src, u->layout->n);
    if (most >= 0x7f800000u) {
        for (unsigned i = 0; i < u->layout->n; i++) {
            tame[i] = finite_or_zero(src[i]);
        }
        src = tame;
        most = largest_bits(src, u->layout->n);
    }
    int exponent = (int)(most >> 23) - 127; /* of the largest; what is tiny stays so */
    exponent = exponent < -100 ? -100 : exponent;
    float factor = power_of_two(-exponent);
    for (unsigned g = 0; g < u->per_block; g++) {
        unsigned lane = block * u->per_block + g;
        u->factor[lane] = factor;
        u->back[lane] = power_of_two(exponent);
        for (unsigned i = 0; i < u->n; i++) {
            u->x[i][lane] = src[g * u->n + i] * factor;
        }
        if (u->weighted) {
            load_importance(u, lane, importance + (size_t)g * u->n);
        }
    }
}

/* Lanes without a block hold zeros. */
static void clear_rest(unit *u)
{
    for (unsigned lane = u->n_blocks * u->per_block; lane < LANES; lane++) {
        u->factor[lane] = u->back[lane] = 1;
        for (unsigned i = 0; i < u->n; i++) {
            u->x[i][lane] = 0;
            u->w[i][lane] = 1;
        }
    }
}

static void sum_up(unit *u)
{
    for (unsigned h = 0; h < LANES; h += VF_N) {
        vf w = vf_zero(), x = vf_zero(), xx = vf_zero(), low = vf_load(&u->x[0][h]), high = low;
        for (unsigned i = 0; i < u->n; i++) {
            vf xi = vf_load(&u->x[i][h]), wi = u->weighted ? vf_load(&u->w[i][h]) : vf_set(1), wx = vf_mul(wi, xi);
            w = vf_add(w, wi);
            x = vf_add(x, wx);
            xx = vf_fma(wx, xi, xx);
            low = vf_min(low, xi);
            high = vf_max(high, xi);
        }
        vf_store(u->sum_w + h, w);
        vf_store(u->sum_x + h, x);
        vf_store(u->sum_xx + h, xx);
        vf_store(u->low + h, low);
        vf_store(u->high + h, high);
    }
}

/* ---- one pass over the groups ---- */

/* 1/scale, 0 for a scale of 0 and where it would be no number. */
static inline vf inverse(vf scale)
{
    vf size = vf_max(scale, vf_sub(vf_zero(), scale));
    vf safe = vf_where_less(size, vf_set(0x1p-126f), vf_set(1), scale);
    return vf_where_less(size, vf_set(0x1p-126f), vf_zero(), vf_div(vf_set(1), safe));
}

/* The nearest whole numbers in lowest … highest; `x` is the weight less the min. */
static inline vf whole(vf x, vf inv, vf least, vf most)
{
    vf t = vf_fma(x, inv, vf_set(MAGIC));
    return vf_sub(vf_min(vf_max(t, least), most), vf_set(MAGIC));
}

/* What a weight less its min is rounded to, over the scale. */
static inline __attribute__((always_inline)) vf level(const unit *u, bool tabled, vf x, vf inv, vf least, vf most)
{
    return tabled ? vf_entry(vf_mul(x, inv), u->table->from, u->table->values) : whole(x, inv, least, most);
}

static inline __attribute__((always_inline)) sums add_up(const unit *u, unsigned n, unsigned h, bool tabled,
                                                         bool weighted, bool with_min, vf scale, vf min)
{
    sums s = {vf_zero(), vf_zero(), vf_zero()};
    vf inv = inverse(scale), least = vf_set(MAGIC + u->lowest), most = vf_set(MAGIC + u->highest);
    for (unsigned i = 0; i < n; i++) {
        vf x = vf_load(&u->x[i][h]), q = level(u, tabled, with_min ? vf_sub(x, min) : x, inv, least, most);
        vf wq = weighted ? vf_mul(q, vf_load(&u->w[i][h])) : q;
        s.q = with_min ? vf_add(s.q, wq) : s.q;
        s.qq = vf_fma(wq, q, s.qq);
        s.xq = vf_fma(wq, x, s.xq);
    }
    return s;
}

/* The same with what is known of a unit made constants. */
static inline __attribute__((always_inline)) sums add_up_kind(const unit *u, unsigned h, bool weighted, vf scale,
                                                              vf min)
{
    if (u->table) {
        return add_up(u, 32, h, true, weighted, false, scale, min);
    }
    if (u->layout->dmin != 0) {
        return u->n == 32 ? add_up(u, 32, h, false, weighted, true, scale, min)
                          : add_up(u, 16, h, false, weighted, true, scale, min);
    }
    return u->n == 32 ? add_up(u, 32, h, false, weighted, false, scale, min)
                      : add_up(u, 16, h, false, weighted, false, scale, min);
}

static sums sums_of(const unit *u, unsigned h, vf scale, vf min)
{
    return u->weighted ? add_up_kind(u, h, true, scale, min) : add_up_kind(u, h, false, scale, min);
}

static inline __attribute__((always_inline)) vf add_errors(const unit *u, unsigned n, unsigned h, bool tabled,
                                                           bool weighted, vf scale, vf min)
{
    vf error = vf_zero(), inv = inverse(scale), least = vf_set(MAGIC + u->lowest), most = vf_set(MAGIC + u->highest);
    for (unsigned i = 0; i < n; i++) {
        vf x = vf_sub(vf_load(&u->x[i][h]), min), e = vf_fnma(scale, level(u, tabled, x, inv, least, most), x);
        error = vf_fma(weighted ? vf_mul(e, vf_load(&u->w[i][h])) : e, e, error);
    }
    return error;
}

static inline __attribute__((always_inline)) vf add_errors_kind(const unit *u, unsigned h, bool weighted, vf scale,
                                                                vf min)
{
    if (u->table) {
        return add_errors(u, 32, h, true, weighted, scale, min);
    }
    return u->n == 32 ? add_errors(u, 32, h, false, weighted, scale, min)
                      : add_errors(u, 16, h, false, weighted, scale, min);
}

/* Σw (x − scale·q − min)² */
static vf error_of(const unit *u, unsigned h, vf scale, vf min)
{
    return u->weighted ? add_errors_kind(u, h, true, scale, min) : add_errors_kind(u, h, false, scale, min);
}

static void choose_q(unit *u)
{
    vf least = vf_set(MAGIC + u->lowest), most = vf_set(MAGIC + u->highest), zero = vf_set(u->layout->zero);
    for (unsigned h = 0; h < LANES; h += VF_N) {
        vf scale = vf_load(u->scale + h), min = vf_load(u->min + h), inv = inverse(scale);
        for (unsigned i = 0; i < u->n; i++) {
            vf x = vf_sub(vf_load(&u->x[i][h]), min);
            vf_store_i8(&u->q[i][h], vf_add(level(u, u->table != NULL, x, inv, least, most), zero));
        }
    }
}

/* ---- fits ---- */

/* The best scales so far, alone: for given q it is Σwxq / Σwq², and lowers the error by (Σwxq)² / Σwq². */
typedef struct fan {
    vf scale, gain;
} fan;

static inline void try_scale(const unit *u, unsigned h, vf scale, fan *best)
{
    sums s = sums_of(u, h, scale, vf_zero());
    vf solved = vf_mul(s.xq, inverse(s.qq)), gain = vf_mul(solved, s.xq);
    best->scale = vf_where_less(best->gain, gain, solved, best->scale);
    best->gain = vf_where_less(best->gain, gain, gain, best->gain);
}

/* Scales that map the largest weight near the last whole number of either side. */
static void try_whole(const unit *u, unsigned h, vf most, fan *best)
{
    bool fine = u->highest > 20; /* with many levels, one more on a side matters little */
    for (int sign = -1; sign <= (fine ? -1 : 1); sign += 2) {
        for (int step = fine ? -10 : -12; step <= (fine ? 10 : 14); step += fine ? 1 : 2) {
            /* the largest weight falls on the side with one level more, or on the other */
            float levels = (sign < 0 ? -u->lowest : u->highest) + FAN_STEP * (float)step;
            try_scale(u, h, vf_mul(most, vf_set((float)sign / levels)), best);
        }
    }
}

/* Scales that map the largest weight near the first or the last entry. */
static void try_entries(const unit *u, unsigned h, vf most, fan *best)
{
    for (unsigned end = 0; end < ENTRIES; end += ENTRIES - 1) {
        for (int step = -TABLE_FAN; step <= TABLE_FAN; step++) {
            float at = u->table->values[end] + TABLE_FAN_STEP * (float)step;
            try_scale(u, h, vf_mul(most, vf_set(1 / at)), best);
        }
    }
}

/* Of either sign, without a min. */
static void fit_scales(unit *u)
{
    for (unsigned h = 0; h < LANES; h += VF_N) {
        vf low = vf_load(u->low + h), high = vf_load(u->high + h);
        vf most = vf_where_less(high, vf_sub(vf_zero(), low), low, high); /* the farthest from 0, with its sign */
        fan best = {vf_zero(), vf_zero()};
        if (u->table) {
            try_entries(u, h, most, &best);
        } else {
            try_whole(u, h, most, &best);
        }
        for (int round = 0; round < REFINE; round++) {
            try_scale(u, h, best.scale, &best);
        }
        vf_store(u->scale + h, best.scale);
        vf_store(u->min + h, vf_zero());
    }
}

/* MXFP4: the largest of the lane's block lies in [1, 2) and its entries end at 12: of the powers 2⁻⁵ to 2⁻¹ one is the
 * best, or none is better than 0. */
static void fit_powers(unit *u)
{
    for (unsigned h = 0; h < LANES; h += VF_N) {
        vf best = vf_load(u->sum_xx + h), scale = vf_zero();
        for (int e = -5; e <= -1; e++) {
            vf at = vf_set(power_of_two(e)), stored = vf_mul(at, vf_load(u->back + h)); /* 12 × 2¹²⁵ is infinite */
            vf error = vf_where_less(stored, vf_set(0x1p125f), error_of(u, h, at, vf_zero()), vf_set(INFINITY));
            scale = vf_where_less(error, best, at, scale);
            best = vf_where_less(error, best, error, best);
        }
        vf_store(u->scale + h, scale);
        vf_store(u->min + h, vf_zero());
    }
}

/* The best scale > 0 and min for the whole numbers that the given ones lead to, and their error; the given ones and an
 * error of `none` where these whole numbers teach nothing. */
static vf solve_pairs(const unit *u, unsigned h, bool below, vf *scale, vf *min)
{
    const vf none = vf_set(INFINITY);
    vf w = vf_load(u->sum_w + h), x = vf_load(u->sum_x + h), xx = vf_load(u->sum_xx + h);
    sums s = sums_of(u, h, *scale, *min);
    vf det = vf_fnma(s.q, s.q, vf_mul(w, s.qq)), inv = inverse(det);
    vf solved = vf_mul(vf_fnma(s.q, x, vf_mul(w, s.xq)), inv),
       offset = vf_mul(vf_fnma(s.q, s.xq, vf_mul(s.qq, x)), inv);
    if (below) { /* a min above 0 cannot be stored: 0, and the scale that suits it */
        solved = vf_where_less(vf_zero(), offset, vf_mul(s.xq, inverse(s.qq)), solved);
        offset = vf_where_less(vf_zero(), offset, vf_zero(), offset);
    }
    vf error = vf_fnma(offset, x, vf_fnma(solved, s.xq, xx));
    vf least = vf_mul(vf_set(1e-6f), vf_mul(w, s.qq));
    error = vf_where_less(least, det, error, none);
    error = vf_where_less(vf_zero(), solved, error, none);
    *scale = vf_where_less(error, none, solved, *scale);
    *min = vf_where_less(error, none, offset, *min);
    return error;
}

static void fit_pairs(unit *u)
{
    bool below = u->layout->scale_top > 0;
    for (unsigned h = 0; h < LANES; h += VF_N) {
        vf low = vf_load(u->low + h), high = vf_load(u->high + h);
        low = below ? vf_min(low, vf_zero()) : low;
        vf range = vf_sub(high, low), best = vf_mul(range, vf_set(1 / u->highest)), best_min = low;
        vf best_error = error_of(u, h, best, low);
        for (int step = -20; step <= 20; step += 2) {
            vf scale = vf_mul(range, vf_set(1 / (u->highest + FAN_STEP * (float)step))), min = low;
            vf error = solve_pairs(u, h, below, &scale, &min);
            best = vf_where_less(error, best_error, scale, best);
            best_min = vf_where_less(error, best_error, min, best_min);
            best_error = vf_where_less(error, best_error, error, best_error);
        }
        for (int round = 0; round < REFINE; round++) {
            vf scale = best, min = best_min, error = solve_pairs(u, h, below, &scale, &min);
            best = vf_where_less(error, best_error, scale, best);
            best_min = vf_where_less(error, best_error, min, best_min);
            best_error = vf_where_less(error, best_error, error, best_error);
        }
        vf_store(u->scale + h, vf_where_less(vf_zero(), range, best, vf_zero()));
        vf_store(u->min + h, best_min);
    }
}

/* ---- blocks with one scale ---- */

/* What a reader of the half sees, in the lane's scale. */
static float as_half(const unit *u, unsigned lane, float value, uint16_t *bits)
{
    float plain = value * u->back[lane];
    plain = plain > HALF_MAX ? HALF_MAX : plain < -HALF_MAX ? -HALF_MAX : plain;
    *bits = half_from_float(plain);
    return half_to_float(*bits) * u->factor[lane];
}

static void take_q(const unit *u, unsigned block, uint8_t *q)
{
    for (unsigned g = 0; g < u->per_block; g++) {
        for (unsigned i = 0; i < u->n; i++) {
            q[g * u->n + i] = u->q[i][block * u->per_block + g];
        }
    }
}

/* The codes of 32 entries that stand in a block's q: the first half in the low bits. */
static void put_codes(const entries *table, const uint8_t *q, uint8_t *dst)
{
    for (unsigned i = 0; i < 16; i++) {
        dst[i] = (uint8_t)(table->codes[q[i]] | table->codes[q[i + 16]] << 4);
    }
}

static void put_simple(unit *u, uint8_t *dst, size_t block_bytes)
{
    uint16_t d[LANES], m[LANES];
    uint8_t q[CODEC_BLOCK_MAX];
    for (unsigned lane = 0; lane < LANES; lane++) {
        u->scale[lane] = as_half(u, lane, u->scale[lane], &d[lane]);
        u->min[lane] = as_half(u, lane, u->min[lane], &m[lane]);
    }
    choose_q(u);
    for (unsigned block = 0; block < u->n_blocks; block++, dst += block_bytes) {
        store_u16le(dst + u->layout->d, d[block]);
        if (u->layout->dmin) {
            store_u16le(dst + u->layout->dmin, m[block]);
        }
        take_q(u, block, q);
        if (u->table) {
            put_codes(u->table, q, dst + 2);
        } else {
            codec_planes_put(u->layout, dst, q);
        }
    }
}

/* The byte is the exponent of twice the scale, as a float has it. */
static void put_powers(unit *u, uint8_t *dst, size_t block_bytes)
{
    uint8_t q[CODEC_BLOCK_MAX];
    choose_q(u);
    for (unsigned block = 0; block < u->n_blocks; block++, dst += block_bytes) {
        float scale = u->scale[block] * u->back[block];
        dst[0] = (uint8_t)(scale > 0 ? (float_to_bits(scale) >> 23) + 1 : 0);
        take_q(u, block, q);
        put_codes(u->table, q, dst + 1);
    }
}

/* ---- K-quants ---- */

/* The stored scale (and min) near the fitted one that gives the smallest error under d and dmin. */
static void choose_scales(unit *u)
{
    float top = u->layout->scale_top, bottom = u->layout->dmin ? 0.0f : -top - 1;
    for (unsigned h = 0; h < LANES; h += VF_N) {
        vf d = vf_load(u->d + h), dmin = vf_load(u->dmin + h), best = vf_set(INFINITY);
        vf s0 = whole(vf_load(u->scale + h), inverse(d), vf_set(MAGIC + bottom), vf_set(MAGIC + top)), best_s = s0;
        vf m0 = whole(vf_sub(vf_zero(), vf_load(u->min + h)), inverse(dmin), vf_set(MAGIC), vf_set(MAGIC + top));
        vf best_m = m0;
        for (int i = 0; i < (u->layout->dmin ? 9 : 3); i++) {
            vf s = vf_add(s0, vf_set((float)(i % 3 - 1))), m = vf_add(m0, vf_set((float)(i / 3 - 1)));
            s = vf_min(vf_max(s, vf_set(bottom)), vf_set(top));
            m = vf_min(vf_max(m, vf_zero()), vf_set(top));
            vf error = error_of(u, h, vf_mul(d, s), vf_sub(vf_zero(), vf_mul(dmin, m)));
            best_s = vf_where_less(error, best, s, best_s);
            best_m = vf_where_less(error, best, m, best_m);
            best = vf_where_less(error, best, error, best);
        }
        vf_store(u->scales + h, best_s);
        vf_store(u->mins + h, best_m);
        vf_store(u->error + h, best);
    }
}

/* Factors for the whole numbers chosen so far: two normal equations over a block. */
static void refit(const unit *u, float *d, float *dmin)
{
    float q[LANES], qq[LANES], xq[LANES];
    for (unsigned h = 0; h < LANES; h += VF_N) {
        vf scale = vf_mul(vf_load(u->d + h), vf_load(u->scales + h));
        vf min = vf_sub(vf_zero(), vf_mul(vf_load(u->dmin + h), vf_load(u->mins + h)));
        sums s = sums_of(u, h, scale, min);
        vf_store(q + h, s.q);
        vf_store(qq + h, s.qq);
        vf_store(xq + h, s.xq);
    }
    for (unsigned first = 0; first < LANES; first += u->per_block) {
        double ss = 0, sm = 0, mm = 0, xs = 0, xm = 0, new_d = u->d[first], new_min = u->dmin[first];
        for (unsigned i = first; i < first + u->per_block; i++) {
            double s = (double)u->scales[i], m = -(double)u->mins[i];
            ss += s * s * (double)qq[i];
            sm += s * m * (double)q[i];
            mm += m * m * (double)u->sum_w[i];
            xs += s * (double)xq[i];
            xm += m * (double)u->sum_x[i];
        }
        double det = ss * mm - sm * sm;
        if (det > 1e-6 * ss * mm) {
            new_d = (xs * mm - xm * sm) / det;
            new_min = (xm * ss - xs * sm) / det;
        } else if (ss > 0) {
            new_d = (xs - new_min * sm) / ss;
        }
        for (unsigned i = first; i < first + u->per_block; i++) {
            d[i] = (float)new_d;
            dmin[i] = new_min > 0 ? (float)new_min : 0.0f;
        }
    }
}

/* Factors that map the greatest scale and min of each block to the last whole number. */
static void first_factors(const unit *u, float *d, float *dmin)
{
    float top = u->layout->scale_top;
    for (unsigned first = 0; first < LANES; first += u->per_block) {
        float scale = 0, min = 0;
        for (unsigned i = first; i < first + u->per_block; i++) {
            scale = fabsf(u->scale[i]) > fabsf(scale) ? u->scale[i] : scale;
            min = u->min[i] < min ? u->min[i] : min;
        }
        for (unsigned i = first; i < first + u->per_block; i++) {
            d[i] = u->layout->dmin ? scale / top : scale / (-top - 1); /* signed scales have one more below 0 */
            dmin[i] = u->layout->dmin ? -min / top : 0.0f;
        }
    }
}

typedef struct chosen {
    uint16_t d_bits[LANES], dmin_bits[LANES];
    float scale[LANES], min[LANES], scales[LANES], mins[LANES], error[LANES];
} chosen;

/* Tries factors; blocks for which they are the best so far keep them. */
static void try_factors(unit *u, const float *d, const float *dmin, chosen *best)
{
    uint16_t d_bits[LANES], dmin_bits[LANES];
    for (unsigned first = 0; first < LANES; first += u->per_block) {
        float stored = as_half(u, first, d[first], &d_bits[first]);
        float stored_min = as_half(u, first, dmin[first], &dmin_bits[first]);
        for (unsigned i = first; i < first + u->per_block; i++) {
            u->d[i] = stored;
            u->dmin[i] = stored_min;
        }
    }
    choose_scales(u);
    for (unsigned first = 0; first < LANES; first += u->per_block) {
        float before = 0, now = 0;
        for (unsigned i = first; i < first + u->per_block; i++) {
            before += best->error[i];
            now += u->error[i];
        }
        if (!(now < before)) {
            continue;
        }
        best->d_bits[first] = d_bits[first];
        best->dmin_bits[first] = dmin_bits[first];
        for (unsigned i = first; i < first + u->per_block; i++) {
            best->scale[i] = u->d[i] * u->scales[i];
            best->min[i] = -(u->dmin[i] * u->mins[i]);
            best->scales[i] = u->scales[i];
            best->mins[i] = u->mins[i];
            best->error[i] = u->error[i];
        }
    }
}

/* IQ4_XS: scales of 6 bits, 32 standing for 0: the low four of each, the high two of each, then the codes. */
static void put_groups(const unit *u, const int *scales, const uint8_t *q, uint8_t *dst)
{
    for (unsigned g = 0; g < u->per_block; g++) {
        unsigned s = (unsigned)(scales[g] + 32);
        dst[2 + g / 4] = (uint8_t)(dst[2 + g / 4] | s >> 4 << g % 4 * 2);
        dst[4 + g / 2] = (uint8_t)(dst[4 + g / 2] | (s & 15) << g % 2 * 4);
        put_codes(u->table, q + 32 * g, dst + 8 + 16 * g);
    }
}

static void put_k(unit *u, uint8_t *dst, size_t block_bytes)
{
    float d[LANES], dmin[LANES];
    chosen best;
    for (unsigned i = 0; i < LANES; i++) {
        best.error[i] = INFINITY;
    }
    first_factors(u, d, dmin);
    try_factors(u, d, dmin, &best);
    for (int round = 0; round < REFIT; round++) {
        refit(u, d, dmin);
        try_factors(u, d, dmin, &best);
    }
    memcpy(u->scale, best.scale, sizeof u->scale);
    memcpy(u->min, best.min, sizeof u->min);
    choose_q(u);
    for (unsigned block = 0; block < u->n_blocks; block++, dst += block_bytes) {
        int scales[CODEC_GROUPS_MAX], mins[CODEC_GROUPS_MAX];
        uint8_t q[CODEC_BLOCK_MAX];
        unsigned first = block * u->per_block;
        for (unsigned g = 0; g < u->per_block; g++) {
            scales[g] = (int)best.scales[first + g];
            mins[g] = (int)best.mins[first + g];
        }
        store_u16le(dst + u->layout->d, best.d_bits[first]);
        if (u->layout->dmin) {
            store_u16le(dst + u->layout->dmin, best.dmin_bits[first]);
        }
        take_q(u, block, q);
        if (u->table) {
            put_groups(u, scales, q, dst);
        } else {
            codec_scales_put(u->type, dst, scales, mins);
            codec_planes_put(u->layout, dst, q);
        }
    }
}

/* ---- rows ---- */

static void encode_blocks(unit *u, uint8_t *dst, size_t block_bytes)
{
    if (u->type == DTYPE_MXFP4) {
        fit_powers(u);
        put_powers(u, dst, block_bytes);
        return;
    }
    if (u->layout->dmin) {
        fit_pairs(u);
    } else {
        fit_scales(u);
    }
    if (u->layout->scale_top) {
        put_k(u, dst, block_bytes);
    } else {
        put_simple(u, dst, block_bytes);
    }
}

/* What the formats with tables have of a layout. */
static const codec_layout *table_layout(dtype type)
{
    static const codec_layout one = {.n = 32, .group = 32}, eight = {.n = 256, .group = 32, .scale_top = 31};
    return type == DTYPE_IQ4_XS ? &eight : &one;
}

/* Sorts the entries. Of two at the same distance a weight takes the one that codec_encode does: the lower one, of MXFP4
 * the one nearer to 0. */
static void read_table(entries *out, dtype type, const int8_t *values)
{
    float *sorted = out->values;
    bool mirrored = type == DTYPE_MXFP4;
    for (unsigned code = 0; code < ENTRIES; code++) {
        unsigned at = mirrored ? code < 8 ? 8 + code : ENTRIES - 1 - code : code;
        sorted[at] = values[code];
    }
    for (unsigned code = ENTRIES; code-- > 0;) { /* 0, which is there twice, gets the first code */
        out->codes[(uint8_t)values[code]] = (uint8_t)code;
    }
    out->from[0] = -INFINITY;
    for (unsigned i = 1; i < ENTRIES; i++) {
        float middle = (sorted[i - 1] + sorted[i]) / 2;
        out->from[i] = mirrored && middle <= 0 ? middle : nextafterf(middle, INFINITY);
    }
}

void ENCODE_NAME(const encode_job *job)
{
    const int8_t *values = codec_table_values(job->type);
    const codec_layout *layout = values ? table_layout(job->type) : codec_layout_of(job->type);
    entries table;
    if (!layout->n) {
        encode_scalar(job);
        return;
    }
    if (values) {
        read_table(&table, job->type, values);
    }
    unit u = {.type = job->type,
              .layout = layout,
              .table = values ? &table : NULL,
              .n = layout->group,
              .per_block = layout->n / layout->group,
              .lowest = -(float)layout->zero,
              .highest = (float)layout->top - (float)layout->zero,
              .weighted = job->importance != NULL};
    size_t n_blocks = job->n_rows * (job->n_in / layout->n), block_bytes = dtype_find(job->type)->block_bytes;
    unsigned most = LANES / u.per_block;
    for (size_t at = 0; at < n_blocks; at += u.n_blocks) {
        u.n_blocks = n_blocks - at < most ? (unsigned)(n_blocks - at) : most;
        for (unsigned i = 0; i < u.n_blocks; i++) {
            size_t first = (at + i) * layout->n;
            load_block(&u, i, job->src + first, job->importance ? job->importance + first % job->n_in : NULL);
        }
        clear_rest(&u);
        sum_up(&u);
        uint8_t *dst = (uint8_t *)job->dst + at * block_bytes;
        memset(dst, 0, u.n_blocks * block_bytes);
        encode_blocks(&u, dst, block_bytes);
    }
}
