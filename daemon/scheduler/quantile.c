/*
 * Medians and quantiles.
 * Owner: the caller's array. Lifetime: the call.
 */
#include "scheduler/quantile.h"

#include <stdlib.h>

static int by_size(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double quantile_of(double *values, size_t n, double part)
{
    if (n == 0) {
        return 0;
    }
    qsort(values, n, sizeof *values, by_size);
    return values[(size_t)(part * (double)(n - 1) + 0.5)];
}

double median_of(double *values, size_t n)
{
    double upper = quantile_of(values, n, 0.5);
    return n == 0 || n % 2 ? upper : (values[n / 2 - 1] + upper) / 2;
}
