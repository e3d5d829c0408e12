/*
 * Selection without sorting: the loops over the whole vocabulary.
 * Owner: the caller's arrays. Lifetime: the call.
 */
#include "runtime/sampler_select.h"

#include <math.h>
#include <string.h>

#include "runtime/sampler_math.h"

#define LANES 16u /* independent sums, so that the compiler may use vectors without reordering anything */

/* Four floats: GCC and Clang have this on every machine. A select written with it is a vector instruction, while GCC
 * leaves `x > y ? x : y` alone because a comparison might raise an exception. */
typedef float quad __attribute__((vector_size(16)));
typedef int32_t quad_mask __attribute__((vector_size(16)));

static inline quad quad_at(const float *x)
{
    quad value;
    memcpy(&value, x, sizeof value);
    return value;
}

/* The larger of each pair; `b` where `a` is NaN. */
static inline quad larger_quad(quad a, quad b)
{
    quad_mask larger = a > b;
    return (quad)(((quad_mask)a & larger) | ((quad_mask)b & ~larger));
}

/* The largest of 64 elements; NaN compares false and is passed over. Four chains, because each step waits for its last.
 */
static inline float block_max(const float *x)
{
    const quad least = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    quad a = least, b = least, c = least, d = least;
    for (unsigned i = 0; i < SELECT_BLOCK; i += 16) {
        a = larger_quad(quad_at(x + i), a);
        b = larger_quad(quad_at(x + i + 4), b);
        c = larger_quad(quad_at(x + i + 8), c);
        d = larger_quad(quad_at(x + i + 12), d);
    }
    a = larger_quad(larger_quad(a, b), larger_quad(c, d));
    float left = a[0] > a[1] ? a[0] : a[1], right = a[2] > a[3] ? a[2] : a[3];
    return left > right ? left : right;
}

static float tail_max(const float *x, size_t n)
{
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

float select_max(const float *x, size_t n, size_t *position)
{
    float best = -INFINITY;
    size_t best_block = n, whole = n - n % SELECT_BLOCK;
    for (size_t i = 0; i < whole; i += SELECT_BLOCK) {
        float max = block_max(x + i);
        if (max > best) {
            best = max;
            best_block = i;
        }
    }
    float last = tail_max(x + whole, n - whole);
    if (last > best) {
        best = last;
        best_block = whole;
    }
    size_t i = best_block;
    while (i < n && x[i] != best) {
        i++;
    }
    *position = i;
    return best;
}

float select_block_maxima(const float *x, size_t n, float *maxima)
{
    float best = -INFINITY;
    size_t whole = n / SELECT_BLOCK;
    for (size_t b = 0; b < whole; b++) {
        maxima[b] = block_max(x + b * SELECT_BLOCK);
        best = maxima[b] > best ? maxima[b] : best;
    }
    if (n % SELECT_BLOCK) {
        maxima[whole] = tail_max(x + whole * SELECT_BLOCK, n % SELECT_BLOCK);
        best = maxima[whole] > best ? maxima[whole] : best;
    }
    return best;
}

double select_sum_exp(const float *x, size_t n, float max, float scale)
{
    float lane[LANES] = {0};
    size_t whole = n - n % LANES;
    double total = 0;
    for (size_t i = 0; i < whole;) { /* float sums of few elements, so that they stay exact enough; then double */
        size_t end = whole - i < 1024 ? whole : i + 1024;
        memset(lane, 0, sizeof lane);
        for (; i < end; i += LANES) {
            for (unsigned j = 0; j < LANES; j++) {
                lane[j] += sampler_exp_float((x[i + j] - max) * scale);
            }
        }
        for (unsigned j = 0; j < LANES; j++) {
            total += (double)lane[j];
        }
    }
    for (size_t i = whole; i < n; i++) {
        total += (double)sampler_exp_float((x[i] - max) * scale);
    }
    return total;
}

/* Bits that order like the floats, the largest float first. −0 counts as 0. */
static inline uint32_t descending_key(float value)
{
    float canonical = value + 0.0f;
    uint32_t bits;
    memcpy(&bits, &canonical, sizeof bits);
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

static float value_of_key(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key : ~key & 0x7fffffffu;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#define BINS 2048u

/* Adds up the weights of the elements whose key begins with `prefix` (all bits above `shift + bits`), by the next bits.
 */
static void fill_bins(const float *values, const float *weights, size_t n, uint32_t prefix, unsigned shift,
                      unsigned bits, double *bins)
{
    memset(bins, 0, BINS * sizeof *bins);
    uint32_t mask = (1u << bits) - 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t key = descending_key(values[i]) >> shift;
        if (shift + bits == 32 || key >> bits == prefix) {
            bins[key & mask] += weights ? (double)weights[i] : 1.0;
        }
    }
}

select_cut select_prefix(const float *values, const float *weights, size_t n, double target)
{
    static const unsigned widths[] = {11, 11, 10};
    double bins[BINS];
    double above = 0;
    uint32_t prefix = 0;
    unsigned shift = 32;
    for (unsigned level = 0; level < 3; level++) {
        shift -= widths[level];
        fill_bins(values, weights, n, prefix, shift, widths[level], bins);
        uint32_t chosen = 0;
        double before = above, sum = above;
        for (uint32_t bin = 0; bin < 1u << widths[level]; bin++) {
            if (bins[bin] > 0) { /* if rounding keeps the sum below the target, the last one that has anything */
                chosen = bin;
                before = sum;
                sum += bins[bin];
                if (sum >= target) {
                    break;
                }
            }
        }
        above = before;
        prefix = prefix << widths[level] | chosen;
    }
    return (select_cut){.value = value_of_key(prefix), .above = above};
}
