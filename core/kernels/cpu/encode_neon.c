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

/* The last of 16 rising bounds that x reaches, and what stands there. from[0] is no bound. */
static inline vf vf_entry(vf x, const float *from, const float *values)
{
    vf found = vdupq_n_f32(values[0]);
    for (int i = 1; i < 16; i++) {
        found = vbslq_f32(vcgeq_f32(x, vdupq_n_f32(from[i])), vdupq_n_f32(values[i]), found);
    }
    return found;
}

#define ENCODE_NAME encode_neon
#include "kernels/cpu/encode_simd.h"
