/*
 * Row and attention kernels for ARM64 Advanced SIMD.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_neon.h"

#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/ops_simd.h"

#define VI_KEY_Q 2
#define VI_VALUE_Q 2
#define VI_VALUE_COLUMNS 1

static inline vi vi_dot(vi sums, vi a, vi b)
{
    int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    return vaddq_s32(sums, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
}

#include "kernels/cpu/attention_words.h"

void ops_table_neon(ops_table *table)
{
    ops_simd_fill(table);
    simd_attend_fill(&table->attend);
    words_fill(table);
}
