/*
 * Which encoder an x86-64 processor gets.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/encode.h"

encode_fn *encode_find_arch(cpu_features features)
{
    return features & CPU_AVX512 ? encode_avx512 : features & CPU_AVX2 ? encode_avx2 : NULL;
}
