/*
 * What linear_blocks.h asks for, of AVX-512 with VNNI. Included by files of that set, which add what they are.
 * Owner: none. Lifetime: the call.
 *
 * Weights are unsigned in the vector operand and activations signed in the broadcast one, as vpdpbusd wants them;
 * signed formats carry an offset that is taken back by starting the sum at −offset × Σq.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_AVX512VNNI_H
#define MLXR_KERNELS_CPU_LINEAR_AVX512VNNI_H

#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_avx512.h"

#define PASS_TOKENS 8
#define GROUP_TOKENS 4
#define TURN_WORDS 1
#define WORDS_PANELS 2
#define WORDS_TOKENS 8
#define MAKE_UNSIGNED true
#define LOWER_BY_DOT
#define NIBBLE_PAIRS

INLINE vint dot(int bits, vint start, const vint *w, const uint8_t *q, int n)
{
    (void)bits;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        start = _mm512_dpbusd_epi32(start, w[i], _mm512_set1_epi32(word_at(q + 4 * i)));
    }
    return start;
}

INLINE vint dot_words(vint start, vint w, vint x)
{
    return _mm512_dpwssd_epi32(start, w, x);
}

#endif
