/*
 * Limits with AVX-VNNI: int8 products of 32 pairs.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include <immintrin.h>

#include "kernels/cpu/limits.h"

enum { N_SUMS = 12 };

static uint32_t run_int8(uint32_t n_rounds)
{
    __m256i sum[N_SUMS], u = _mm256_set1_epi8(3), s = _mm256_set1_epi8(5);
#pragma GCC unroll 16
    for (int i = 0; i < N_SUMS; i++) {
        sum[i] = _mm256_set1_epi32(i);
    }
    for (uint32_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < N_SUMS; i++) {
            sum[i] = _mm256_dpbusd_avx_epi32(sum[i], u, s);
        }
        __asm__ volatile("" : "+x"(u), "+x"(s));
    }
#pragma GCC unroll 16
    for (int i = 1; i < N_SUMS; i++) {
        sum[0] = _mm256_add_epi32(sum[0], sum[i]);
    }
    return (uint32_t)_mm256_extract_epi32(sum[0], 0);
}

void limits_table_avxvnni(limits_loops *loops)
{
    loops->int8 = (limits_loop){run_int8, N_SUMS * 32 * 2, "avx-vnni"};
}
