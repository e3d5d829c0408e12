/*
 * Linear layers of weights that are decoded first, for ARM64 Advanced SIMD.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_neon.h"

#define DECODED_FILL linear_table_decoded_neon
#define DECODED_ISA "neon"
#include "kernels/cpu/linear_decoded.h"
