/*
 * Float linear layers for AVX-512.
 * Owner: const tables. Lifetime: static.
 */
#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define DOTS_STEP 16
#define DOTS_TOKENS 6
#define DOTS_WIDE 12
/* Loaded once for two products: the compiler would let each load it, and loads are what L1 has too few of. */
#define DOTS_KEEP(x) __asm__("" : "+v"(x))

typedef __m512 vdot, vdot_w, vdot_x;
typedef float dots_element;

#include "kernels/cpu/linear_table.h"

INLINE vdot dots_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE vdot_w dots_w(dtype type, const uint8_t *p)
{
    if (type == DTYPE_F32) {
        return _mm512_loadu_ps(p);
    }
    __m256i halves = _mm256_loadu_si256((const void *)p);
    if (type == DTYPE_F16) {
        return _mm512_cvtph_ps(halves);
    }
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

INLINE vdot_x dots_x(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE vdot dots_fma(vdot_w w, vdot_x x, vdot sum)
{
    return _mm512_fmadd_ps(w, x, sum);
}

#include "kernels/cpu/linear_dots_avx512.h"

#include "kernels/cpu/linear_dots.h"

DOTS(f32, DTYPE_F32)
DOTS(f16, DTYPE_F16)
DOTS(bf16, DTYPE_BF16)

void linear_table_float_avx512(linear_kernels *kernels)
{
    kernels->rows[DTYPE_F32] = rows_f32;
    kernels->rows[DTYPE_F16] = rows_f16;
    kernels->rows[DTYPE_BF16] = rows_bf16;
    kernels->isa[DTYPE_F32] = kernels->isa[DTYPE_F16] = kernels->isa[DTYPE_BF16] = "avx512";
}
