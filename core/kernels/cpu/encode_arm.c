/*
 * Which encoder an ARM64 processor gets.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/encode.h"

encode_fn *encode_find_arch(cpu_features features)
{
    return features & CPU_NEON ? encode_neon : NULL;
}
