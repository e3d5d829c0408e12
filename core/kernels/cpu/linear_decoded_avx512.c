/*
 * Linear layers of weights that are decoded first, for AVX-512.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_avx512.h"

#define DECODED_FILL linear_table_decoded_avx512
#define DECODED_ISA "avx512"
#include "kernels/cpu/linear_decoded.h"
