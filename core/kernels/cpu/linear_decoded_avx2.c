/*
 * Linear layers of weights that are decoded first, for AVX2 and FMA.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_avx2.h"

#define DECODED_FILL linear_table_decoded_avx2
#define DECODED_ISA "avx2"
#include "kernels/cpu/linear_decoded.h"
