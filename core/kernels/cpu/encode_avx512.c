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

/* The last of 16 rising bounds that x reaches, and what stands there: one bit of its place after the other. from[0] is
 * no bound. */
static inline vf vf_entry(vf x, const float *from, const float *values)
{
    const vf bounds = vf_load(from);
    const __m512i four = _mm512_set1_epi32(4), two = _mm512_set1_epi32(2), one = _mm512_set1_epi32(1);
    __m512i at = _mm512_maskz_set1_epi32(_mm512_cmp_ps_mask(x, vf_set(from[8]), _CMP_GE_OQ), 8);
    vf next = _mm512_permutexvar_ps(_mm512_or_si512(at, four), bounds);
    at = _mm512_mask_or_epi32(at, _mm512_cmp_ps_mask(x, next, _CMP_GE_OQ), at, four);
    next = _mm512_permutexvar_ps(_mm512_or_si512(at, two), bounds);
    at = _mm512_mask_or_epi32(at, _mm512_cmp_ps_mask(x, next, _CMP_GE_OQ), at, two);
    next = _mm512_permutexvar_ps(_mm512_or_si512(at, one), bounds);
    at = _mm512_mask_or_epi32(at, _mm512_cmp_ps_mask(x, next, _CMP_GE_OQ), at, one);
    return _mm512_permutexvar_ps(at, vf_load(values));
}

#define ENCODE_NAME encode_avx512
#include "kernels/cpu/encode_simd.h"
