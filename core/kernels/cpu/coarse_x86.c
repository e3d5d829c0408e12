/*
 * Which kernels for rows of one scale each an x86-64 processor gets.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/coarse.h"

coarse_kernels coarse_kernels_for(cpu_features features)
{
    const cpu_features needed = CPU_HALVES | CPU_AVX512_VNNI;
    return (features & needed) == needed ? coarse_kernels_avx512vnni : (coarse_kernels){0};
}
