/*
 * Integer linear layers for ARM64 with dot products (SDOT by element): panels of 4 rows.
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_neon.h"

#define LINEAR_SUFFIX linear_table_dotprod
#define LINEAR_PANELS linear_panels_dotprod
#define LINEAR_ISA "dotprod"
#define PASS_TOKENS 8
#define GROUP_TOKENS 2
#define TURN_WORDS 4
#define MAKE_UNSIGNED false

INLINE vint dot(int bits, vint start, const vint *w, const uint8_t *q, int n)
{
    (void)bits;
    UNROLL
    for (int i = 0; i < n; i += 4) {
        int8x16_t a = vreinterpretq_s8_u8(vld1q_u8(q + 4 * i));
        start = vdotq_laneq_s32(start, vreinterpretq_s8_s32(w[i]), a, 0);
        start = vdotq_laneq_s32(start, vreinterpretq_s8_s32(w[i + 1]), a, 1);
        start = vdotq_laneq_s32(start, vreinterpretq_s8_s32(w[i + 2]), a, 2);
        start = vdotq_laneq_s32(start, vreinterpretq_s8_s32(w[i + 3]), a, 3);
    }
    return start;
}

#include "kernels/cpu/linear_blocks.h"
