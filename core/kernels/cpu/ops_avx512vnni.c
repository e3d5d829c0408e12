/*
 * Attention over words for AVX-512 with VNNI.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_avx512.h"

#define VI_KEY_Q 8
#define VI_VALUE_Q 4
#define VI_VALUE_COLUMNS 2

static inline vi vi_dot(vi sums, vi a, vi b)
{
    return _mm512_dpwssd_epi32(sums, a, b);
}

#include "kernels/cpu/attention_words.h"

void ops_table_avx512vnni(ops_table *table)
{
    words_fill(table);
}
