/*
 * Which kernels for upper halves an x86-64 processor gets.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/halves.h"

halves_kernels halves_kernels_for(cpu_features features)
{
    if (!(features & CPU_HALVES)) {
        return (halves_kernels){0};
    }
    if (features & CPU_AVX512_VNNI) {
        return halves_kernels_avx512vnni;
    }
    return features & CPU_AVX2 ? halves_kernels_avx2 : (halves_kernels){0};
}
