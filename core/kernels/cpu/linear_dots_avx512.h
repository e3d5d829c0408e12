/*
 * The totals of four vectors of 16 partial sums.
 * Owner: none. Lifetime: the call. Included by AVX-512 files only.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_DOTS_AVX512_H
#define MLXR_KERNELS_CPU_LINEAR_DOTS_AVX512_H

#include <immintrin.h>

static inline __attribute__((always_inline)) __m256 dots_fold(__m512 x)
{
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
}

static inline __attribute__((always_inline)) void dots_sum(const __m512 sum[4], float out[4])
{
    __m256 low = _mm256_hadd_ps(dots_fold(sum[0]), dots_fold(sum[1]));
    __m256 high = _mm256_hadd_ps(dots_fold(sum[2]), dots_fold(sum[3]));
    __m256 pairs = _mm256_hadd_ps(low, high);
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

#endif
