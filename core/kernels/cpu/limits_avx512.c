/*
 * Limits with AVX-512.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include <immintrin.h>

#include "kernels/cpu/limits.h"

enum { N_SUMS = 16 };

static uint32_t run_f32(uint32_t n_rounds)
{
    __m512 sum[N_SUMS], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1.0f);
#pragma GCC unroll 16
    for (int i = 0; i < N_SUMS; i++) {
        sum[i] = _mm512_set1_ps((float)i);
    }
    for (uint32_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < N_SUMS; i++) {
            sum[i] = _mm512_fmadd_ps(sum[i], a, b);
        }
        __asm__ volatile("" : "+v"(a), "+v"(b));
    }
#pragma GCC unroll 16
    for (int i = 1; i < N_SUMS; i++) {
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    }
    return (uint32_t)_mm512_reduce_add_epi32(_mm512_castps_si512(sum[0]));
}

static uint32_t read_bytes(const uint8_t *bytes, size_t n)
{
    __m512i sum[8];
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        sum[i] = _mm512_setzero_si512();
    }
    for (const uint8_t *end = bytes + n; bytes < end; bytes += sizeof sum) {
#pragma GCC unroll 16
        for (int i = 0; i < 8; i++) {
            sum[i] = _mm512_add_epi32(sum[i], _mm512_load_si512(bytes + 64 * i));
        }
    }
#pragma GCC unroll 16
    for (int i = 1; i < 8; i++) {
        sum[0] = _mm512_add_epi32(sum[0], sum[i]);
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum[0]);
}

void limits_table_avx512(limits_loops *loops)
{
    loops->f32 = (limits_loop){run_f32, N_SUMS * 16 * 2, "avx512"};
    loops->read = read_bytes;
}
