/*
 * Loops for ARM64: the ones for any machine already are Advanced SIMD's multiply-adds and loads; int8 with dot
 * products. Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include "kernels/cpu/limits.h"

void limits_table_arch(limits_loops *loops, cpu_features features)
{
    if (features & CPU_DOTPROD) {
        limits_table_dotprod(loops);
    }
}
