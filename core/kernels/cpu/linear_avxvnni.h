/*
 * What linear_blocks.h asks for, of AVX-VNNI (256-bit, without AVX-512). Included by files of that set, which add what
 * they are. Owner: none. Lifetime: the call.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_AVXVNNI_H
#define MLXR_KERNELS_CPU_LINEAR_AVXVNNI_H

#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_avx2.h"

#define PASS_TOKENS 4
#define GROUP_TOKENS 2
#define TURN_WORDS 1
#define WORDS_PANELS 2
#define WORDS_TOKENS 4
#define MAKE_UNSIGNED true
#define LOWER_BY_DOT

INLINE vint dot(int bits, vint start, const vint *w, const uint8_t *q, int n)
{
    (void)bits;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        start = _mm256_dpbusd_avx_epi32(start, w[i], _mm256_set1_epi32(word_at(q + 4 * i)));
    }
    return start;
}

INLINE vint dot_words(vint start, vint w, vint x)
{
    return _mm256_dpwssd_avx_epi32(start, w, x);
}

#endif
