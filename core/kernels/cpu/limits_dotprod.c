/*
 * Limits with ARM64's dot products.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include <arm_neon.h>

#include "kernels/cpu/limits.h"

enum { N_SUMS = 16 };

static uint32_t run_int8(uint32_t n_rounds)
{
    int32x4_t sum[N_SUMS];
    int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(5);
#pragma GCC unroll 16
    for (int i = 0; i < N_SUMS; i++) {
        sum[i] = vdupq_n_s32(i);
    }
    for (uint32_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < N_SUMS; i++) {
            sum[i] = vdotq_s32(sum[i], a, b);
        }
        __asm__ volatile("" : "+w"(a), "+w"(b));
    }
#pragma GCC unroll 16
    for (int i = 1; i < N_SUMS; i++) {
        sum[0] = vaddq_s32(sum[0], sum[i]);
    }
    return (uint32_t)vaddvq_s32(sum[0]);
}

void limits_table_dotprod(limits_loops *loops)
{
    loops->int8 = (limits_loop){run_int8, N_SUMS * 16 * 2, "dotprod"};
}
