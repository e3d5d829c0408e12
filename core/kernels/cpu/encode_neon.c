/*
 * The fast encoder for ARM64 Advanced SIMD.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_neon.h"

/* x where a < b, else y */
static inline vf vf_where_less(vf a, vf b, vf x, vf y)
{
    return vbslq_f32(vcltq_f32(a, b), x, y);
}

#define ENCODE_NAME encode_neon
#include "kernels/cpu/encode_simd.h"
