/*
 * Architectures without loops of their own: the ones for any machine serve.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include "kernels/cpu/limits.h"

void limits_table_arch(limits_loops *loops, cpu_features features)
{
    (void)loops;
    (void)features;
}
