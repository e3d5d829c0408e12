/*
 * Integer linear layers for ARM64 Advanced SIMD without dot products: panels of 4 rows.
 * Owner: const tables. Lifetime: static.
 *
 * Two signed products fit in 16 bits: 2 × 128 × 127 is just below 32,768.
 */
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_neon.h"

#define LINEAR_SUFFIX linear_table_neon
#define LINEAR_PANELS linear_panels_neon
#define LINEAR_ISA "neon"
#define PASS_TOKENS 8
#define GROUP_TOKENS 2
#define TURN_WORDS 1
#define MAKE_UNSIGNED false

INLINE vint dot(int bits, vint start, const vint *w, const uint8_t *q, int n)
{
    (void)bits;
    UNROLL
    for (int i = 0; i < n; i++) {
        int8x16_t weights = vreinterpretq_s8_s32(w[i]), a = vreinterpretq_s8_s32(v_words(word_at(q + 4 * i)));
        int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(a)), high = vmull_high_s8(weights, a);
        start = vpadalq_s16(start, vpaddq_s16(low, high));
    }
    return start;
}

#include "kernels/cpu/linear_blocks.h"
