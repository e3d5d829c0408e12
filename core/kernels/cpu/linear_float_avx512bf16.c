/*
 * BF16 weights for AVX-512 with BF16 products: inputs are rounded to bfloat16 as well.
 * Owner: const tables. Lifetime: static.
 *
 * vdpbf16ps rounds to nearest even, takes subnormals as zero and adds two products a step.
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define DOTS_STEP 32
#define DOTS_TOKENS 6

typedef __m512 vdot;
typedef __m512i vdot_w, vdot_x;
typedef uint16_t dots_element;

#include "kernels/cpu/linear_table.h"

INLINE vdot dots_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE vdot_w dots_w(dtype type, const uint8_t *p)
{
    (void)type;
    return _mm512_loadu_si512(p);
}

INLINE vdot_x dots_x(const uint16_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE vdot dots_fma(vdot_w w, vdot_x x, vdot sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
}

#include "kernels/cpu/linear_dots_avx512.h"

#include "kernels/cpu/linear_dots.h"

DOTS(bf16, DTYPE_BF16)

void linear_table_float_avx512bf16(linear_kernels *kernels)
{
    kernels->few[DTYPE_BF16] = kernels->many[DTYPE_BF16] = LINEAR_BF16;
    kernels->rows[DTYPE_BF16] = rows_bf16;
    kernels->isa[DTYPE_BF16] = "avx512-bf16";
}
