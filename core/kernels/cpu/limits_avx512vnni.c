/*
 * Limits with AVX-512 VNNI: int8 products of 64 pairs.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include <immintrin.h>

#include "kernels/cpu/limits.h"

enum { N_SUMS = 16 };

static uint32_t run_int8(uint32_t n_rounds)
{
    __m512i sum[N_SUMS], u = _mm512_set1_epi8(3), s = _mm512_set1_epi8(5);
#pragma GCC unroll 16
    for (int i = 0; i < N_SUMS; i++) {
        sum[i] = _mm512_set1_epi32(i);
    }
    for (uint32_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < N_SUMS; i++) {
            sum[i] = _mm512_dpbusd_epi32(sum[i], u, s);
        }
        __asm__ volatile("" : "+v"(u), "+v"(s));
    }
#pragma GCC unroll 16
    for (int i = 1; i < N_SUMS; i++) {
        sum[0] = _mm512_add_epi32(sum[0], sum[i]);
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum[0]);
}

void limits_table_avx512vnni(limits_loops *loops)
{
    loops->int8 = (limits_loop){run_int8, N_SUMS * 64 * 2, "avx512-vnni"};
}
