/*
 * Selecting from large arrays without sorting them: maxima of blocks, and the cut of a descending order at a given
 * count or mass.
 * Owner: the caller's arrays. Lifetime: the call.
 *
 * Everywhere "descending order" breaks ties by position, lower first.
 */
#ifndef MLXR_RUNTIME_SAMPLER_SELECT_H
#define MLXR_RUNTIME_SAMPLER_SELECT_H

#include <stddef.h>
#include <stdint.h>

#define SELECT_BLOCK 64u

/* The largest of x[n] and its first position; NaN is never largest. −INFINITY and position n if there is nothing above
 * −INFINITY. One pass. */
float select_max(const float *x, size_t n, size_t *position);

/* maxima[i] = the largest of x[64·i, 64·i + 64), n_blocks = ⌈n / 64⌉ of them; −INFINITY where all are NaN. Returns the
 * largest of all. */
float select_block_maxima(const float *x, size_t n, float *maxima);

/* Σ e^((x[i] − max)·scale) over x[n]; elements that are NaN or −INFINITY add nothing. */
double select_sum_exp(const float *x, size_t n, float max, float scale);

typedef struct select_cut {
    float value;  /* everything above it is inside; of those equal to it, the first ones until the target is reached */
    double above; /* what is above it, in the target's unit */
} select_cut;

/* The shortest prefix of the descending order of values[n] whose weights add up to at least `target`; `weights` NULL:
 * each weighs 1, the target is a count. Everything, if the target is not reached. Values must not be NaN. O(n),
 * whatever the values are: a radix search over their bits. n > 0. */
select_cut select_prefix(const float *values, const float *weights, size_t n, double target);

#endif
