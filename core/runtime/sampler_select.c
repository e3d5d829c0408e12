/*
 * Selection without sorting: the loops over the whole vocabulary.
 * Owner: the caller's arrays. Lifetime: the call.
 */
#include "runtime/sampler_select.h"

#include <math.h>
#include <string.h>

#include "runtime/sampler_math.h"

#define LANES 16u /* independent maxima or sums, so that the compiler may use vectors without reordering anything */

/* The largest of 64 elements; NaN compares false and is passed over. */
static inline float block_max(const float *x)
{
    float lane[LANES];
    for (unsigned j = 0; j < LANES; j++) {
        lane[j] = -INFINITY;
    }
    for (unsigned i = 0; i < SELECT_BLOCK; i += LANES) {
        for (unsigned j = 0; j < LANES; j++) {
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
        }
    }
    for (unsigned width = LANES / 2; width > 0; width /= 2) {
        for (unsigned j = 0; j < width; j++) {
            lane[j] = lane[j + width] > lane[j] ? lane[j + width] : lane[j];
        }
    }
    return lane[0];
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

double select_sum_exp(const float *x, size_t n, float max)
{
    double total = 0;
    size_t i = 0;
    while (n - i >= 1024) { /* float sums of few elements, so that they stay exact enough; then double */
        float lane[LANES] = {0};
        for (size_t end = i + 1024; i < end; i += LANES) {
            for (unsigned j = 0; j < LANES; j++) {
                lane[j] += sampler_exp_float(x[i + j] - max);
            }
        }
        for (unsigned j = 0; j < LANES; j++) {
            total += (double)lane[j];
        }
    }
    for (; i < n; i++) {
        total += (double)sampler_exp_float(x[i] - max);
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

/* Adds up the weights of the elements whose key begins with `prefix` (all bits above `shift + bits`), by the next bits. */
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
