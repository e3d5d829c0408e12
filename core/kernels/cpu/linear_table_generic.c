/*
 * Architectures without vector kernels of their own: the scalar ones serve.
 * Owner: the caller's linear_kernels. Lifetime: linear_init.
 */
#include "kernels/cpu/linear_table.h"

void linear_table_arch(linear_kernels *kernels, cpu_features features)
{
    (void)kernels;
    (void)features;
}
