/*
 * Float linear layers for AVX2 with FMA and F16C.
 * Owner: const tables. Lifetime: static.
 */
#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define DOTS_STEP 8
#define DOTS_TOKENS 3
#define DOTS_IN_ORDER

typedef __m256 vdot, vdot_w, vdot_x;
typedef float dots_element;

#include "kernels/cpu/linear_table.h"

INLINE vdot dots_zero(void)
{
    return _mm256_setzero_ps();
}

INLINE vdot_w dots_w(dtype type, const uint8_t *p)
{
    if (type == DTYPE_F32) {
        return _mm256_loadu_ps((const float *)(const void *)p);
    }
    __m128i halves = _mm_loadu_si128((const void *)p);
    if (type == DTYPE_F16) {
        return _mm256_cvtph_ps(halves);
    }
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

INLINE vdot_x dots_x(const float *p)
{
    return _mm256_loadu_ps(p);
}

INLINE vdot dots_fma(vdot_w w, vdot_x x, vdot sum)
{
    return _mm256_fmadd_ps(w, x, sum);
}

INLINE void dots_sum(const vdot sum[4], float out[4])
{
    __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(sum[0], sum[1]), _mm256_hadd_ps(sum[2], sum[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

#include "kernels/cpu/linear_dots.h"

DOTS(f32, DTYPE_F32)
DOTS(f16, DTYPE_F16)
DOTS(bf16, DTYPE_BF16)

void linear_table_float_avx2(linear_kernels *kernels)
{
    kernels->rows[DTYPE_F32] = rows_f32;
    kernels->rows[DTYPE_F16] = rows_f16;
    kernels->rows[DTYPE_BF16] = rows_bf16;
    kernels->isa[DTYPE_F32] = kernels->isa[DTYPE_F16] = kernels->isa[DTYPE_BF16] = "avx2";
}
