/*
 * Row and attention kernels for AVX-512.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/ops_simd.h"

#define VI_KEY_Q 8
#define VI_VALUE_Q 4
#define VI_VALUE_COLUMNS 2

static inline vi vi_dot(vi sums, vi a, vi b)
{
    return _mm512_add_epi32(sums, _mm512_madd_epi16(a, b));
}

#include "kernels/cpu/attention_words.h"

void ops_table_avx512(ops_table *table)
{
    ops_simd_fill(table);
    simd_attend_fill(&table->attend);
    words_fill(table);
}
