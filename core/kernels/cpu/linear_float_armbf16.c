/*
 * BF16 weights for ARM64 with bf16 products (BFDOT): inputs are rounded to bfloat16 as well.
 * Owner: const tables. Lifetime: static.
 *
 * BFDOT adds two products a step, with subnormals as zero. Executed only under qemu-user so far
 * (tools/check-arm): its speed is not known.
 */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define DOTS_STEP 8
#define DOTS_TOKENS 6

typedef float32x4_t vdot;
typedef bfloat16x8_t vdot_w, vdot_x;
typedef uint16_t dots_element;

#include "kernels/cpu/linear_table.h"

INLINE vdot dots_zero(void)
{
    return vdupq_n_f32(0.0f);
}

INLINE vdot_w dots_w(dtype type, const uint8_t *p)
{
    (void)type;
    return vreinterpretq_bf16_u8(vld1q_u8(p));
}

INLINE vdot_x dots_x(const uint16_t *p)
{
    return vreinterpretq_bf16_u16(vld1q_u16(p));
}

INLINE vdot dots_fma(vdot_w w, vdot_x x, vdot sum)
{
    return vbfdotq_f32(sum, w, x);
}

INLINE void dots_sum(const vdot sum[4], float out[4])
{
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(sum[0], sum[1]), vpaddq_f32(sum[2], sum[3])));
}

#include "kernels/cpu/linear_dots.h"

DOTS(bf16, DTYPE_BF16)

void linear_table_float_armbf16(linear_kernels *kernels)
{
    kernels->few[DTYPE_BF16] = kernels->many[DTYPE_BF16] = LINEAR_BF16;
    kernels->rows[DTYPE_BF16] = rows_bf16;
    kernels->isa[DTYPE_BF16] = "bf16";
}
