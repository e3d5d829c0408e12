/*
 * Limits with AVX-512 BF16: products of 32 pairs.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include <immintrin.h>

#include "kernels/cpu/limits.h"

enum { N_SUMS = 16 };

static uint32_t run_bf16(uint32_t n_rounds)
{
    __m512 sum[N_SUMS];
    __m512i one = _mm512_set1_epi16(0x3f80);
#pragma GCC unroll 16
    for (int i = 0; i < N_SUMS; i++) {
        sum[i] = _mm512_set1_ps((float)i);
    }
    for (uint32_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < N_SUMS; i++) {
            sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)one, (__m512bh)one);
        }
        __asm__ volatile("" : "+v"(one));
    }
#pragma GCC unroll 16
    for (int i = 1; i < N_SUMS; i++) {
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    }
    return (uint32_t)_mm512_reduce_add_epi32(_mm512_castps_si512(sum[0]));
}

void limits_table_avx512bf16(limits_loops *loops)
{
    loops->bf16 = (limits_loop){run_bf16, N_SUMS * 32 * 2, "avx512-bf16"};
}
