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

/* The last of 16 rising bounds that x reaches, and what stands there: which half it is first, as a mask, then one bit
 * of its place in both halves after the other. from[0] is no bound. */
static inline vf vf_entry(vf x, const float *from, const float *values)
{
    const vf low = vf_load(from), high = vf_load(from + 8);
    const __m256i four = _mm256_set1_epi32(4), two = _mm256_set1_epi32(2), one = _mm256_set1_epi32(1);
    vf upper = _mm256_cmp_ps(x, vf_set(from[8]), _CMP_GE_OQ);
    vf next = _mm256_blendv_ps(vf_set(from[4]), vf_set(from[12]), upper);
    __m256i at = _mm256_and_si256(_mm256_castps_si256(_mm256_cmp_ps(x, next, _CMP_GE_OQ)), four);
    __m256i probe = _mm256_or_si256(at, two);
    next = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, probe), _mm256_permutevar8x32_ps(high, probe), upper);
    at = _mm256_or_si256(at, _mm256_and_si256(_mm256_castps_si256(_mm256_cmp_ps(x, next, _CMP_GE_OQ)), two));
    probe = _mm256_or_si256(at, one);
    next = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, probe), _mm256_permutevar8x32_ps(high, probe), upper);
    at = _mm256_or_si256(at, _mm256_and_si256(_mm256_castps_si256(_mm256_cmp_ps(x, next, _CMP_GE_OQ)), one));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(vf_load(values), at),
                            _mm256_permutevar8x32_ps(vf_load(values + 8), at), upper);
}

#define ENCODE_NAME encode_avx2
#include "kernels/cpu/encode_simd.h"
