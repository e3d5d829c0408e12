/*
 * Float linear layers for ARM64 Advanced SIMD.
 * Owner: const tables. Lifetime: static.
 */
#include <arm_neon.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define DOTS_STEP 4
#define DOTS_TOKENS 6

typedef float32x4_t vdot, vdot_w, vdot_x;
typedef float dots_element;

#include "kernels/cpu/linear_table.h"

INLINE vdot dots_zero(void)
{
    return vdupq_n_f32(0.0f);
}

INLINE vdot_w dots_w(dtype type, const uint8_t *p)
{
    if (type == DTYPE_F32) {
        return vreinterpretq_f32_u8(vld1q_u8(p));
    }
    uint16x4_t halves = vreinterpret_u16_u8(vld1_u8(p));
    if (type == DTYPE_F16) {
        return vcvt_f32_f16(vreinterpret_f16_u16(halves));
    }
    return vreinterpretq_f32_u32(vshll_n_u16(halves, 16));
}

INLINE vdot_x dots_x(const float *p)
{
    return vld1q_f32(p);
}

INLINE vdot dots_fma(vdot_w w, vdot_x x, vdot sum)
{
    return vfmaq_f32(sum, w, x);
}

INLINE void dots_sum(const vdot sum[4], float out[4])
{
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(sum[0], sum[1]), vpaddq_f32(sum[2], sum[3])));
}

#include "kernels/cpu/linear_dots.h"

DOTS(f32, DTYPE_F32)
DOTS(f16, DTYPE_F16)
DOTS(bf16, DTYPE_BF16)

void linear_table_float_neon(linear_kernels *kernels)
{
    kernels->rows[DTYPE_F32] = rows_f32;
    kernels->rows[DTYPE_F16] = rows_f16;
    kernels->rows[DTYPE_BF16] = rows_bf16;
    kernels->isa[DTYPE_F32] = kernels->isa[DTYPE_F16] = kernels->isa[DTYPE_BF16] = "neon";
}
