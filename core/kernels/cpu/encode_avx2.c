/*
 * The fast encoder for AVX2 and FMA.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_avx2.h"

/* x where a < b, else y */
static inline vf vf_where_less(vf a, vf b, vf x, vf y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

#define ENCODE_NAME encode_avx2
#include "kernels/cpu/encode_simd.h"
