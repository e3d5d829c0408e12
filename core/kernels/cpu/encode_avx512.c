/*
 * The fast encoder for AVX-512.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_avx512.h"

/* x where a < b, else y */
static inline vf vf_where_less(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

#define ENCODE_NAME encode_avx512
#include "kernels/cpu/encode_simd.h"
