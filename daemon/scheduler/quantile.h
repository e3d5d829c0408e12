/*
 * Medians and quantiles of a few measured figures, for the scheduler and for the programs that measure.
 * Owner: the caller's array, which is sorted. Lifetime: the call.
 */
#ifndef MLXR_SCHEDULER_QUANTILE_H
#define MLXR_SCHEDULER_QUANTILE_H

#include <stddef.h>

/* The value nearest to rank part × (n − 1), part from 0 to 1; 0 if there are none. */
double quantile_of(double *values, size_t n, double part);
/* The middle one, or the mean of the middle two; 0 if there are none. */
double median_of(double *values, size_t n);

#endif
