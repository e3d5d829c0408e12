/*
 * Limits with AVX2 and FMA; int8 through 16-bit pairs, as kernels without VNNI have to.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include <immintrin.h>

#include "kernels/cpu/limits.h"

enum { N_SUMS = 12 };

static uint32_t sum_words(__m256i v)
{
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

static uint32_t run_f32(uint32_t n_rounds)
{
    __m256 sum[N_SUMS], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1.0f);
#pragma GCC unroll 16
    for (int i = 0; i < N_SUMS; i++) {
        sum[i] = _mm256_set1_ps((float)i);
    }
    for (uint32_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < N_SUMS; i++) {
            sum[i] = _mm256_fmadd_ps(sum[i], a, b);
        }
        __asm__ volatile("" : "+x"(a), "+x"(b));
    }
#pragma GCC unroll 16
    for (int i = 1; i < N_SUMS; i++) {
        sum[0] = _mm256_add_ps(sum[0], sum[i]);
    }
    return sum_words(_mm256_castps_si256(sum[0]));
}

static uint32_t run_int8(uint32_t n_rounds)
{
    __m256i sum[8], u = _mm256_set1_epi8(3), s = _mm256_set1_epi8(5), one = _mm256_set1_epi16(1);
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        sum[i] = _mm256_set1_epi32(i);
    }
    for (uint32_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < 8; i++) {
            __asm__ volatile("" : "+x"(u)); /* each product is computed, although all are alike */
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), one));
        }
    }
#pragma GCC unroll 16
    for (int i = 1; i < 8; i++) {
        sum[0] = _mm256_add_epi32(sum[0], sum[i]);
    }
    return sum_words(sum[0]);
}

static uint32_t read_bytes(const uint8_t *bytes, size_t n)
{
    __m256i sum[8];
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        sum[i] = _mm256_setzero_si256();
    }
    for (const uint8_t *end = bytes + n; bytes < end; bytes += sizeof sum) {
#pragma GCC unroll 16
        for (int i = 0; i < 8; i++) {
            sum[i] = _mm256_add_epi32(sum[i], _mm256_load_si256((const __m256i *)bytes + i));
        }
    }
#pragma GCC unroll 16
    for (int i = 1; i < 8; i++) {
        sum[0] = _mm256_add_epi32(sum[0], sum[i]);
    }
    return sum_words(sum[0]);
}

void limits_table_avx2(limits_loops *loops)
{
    loops->f32 = (limits_loop){run_f32, N_SUMS * 8 * 2, "avx2"};
    loops->int8 = (limits_loop){run_int8, 8 * 32 * 2, "avx2"};
    loops->read = read_bytes;
}
