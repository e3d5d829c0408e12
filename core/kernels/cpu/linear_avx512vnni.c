/*
 * Integer linear layers for AVX-512 with VNNI: panels of 16 rows.
 * Owner: const tables. Lifetime: static.
 *
 * Weights are unsigned in the vector operand and activations signed in the broadcast one, as vpdpbusd wants them;
 * signed formats carry an offset that is taken back by starting the sum at −offset × Σq.
 */
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_avx512.h"

#define LINEAR_SUFFIX linear_table_avx512vnni
#define LINEAR_PANELS linear_panels_avx512vnni
#define LINEAR_ISA "avx512-vnni"
#define PASS_TOKENS 8
#define GROUP_TOKENS 4
#define TURN_WORDS 1
#define WORDS_PANELS 2
#define WORDS_TOKENS 8
#define MAKE_UNSIGNED true

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

#define LOWER_BY_DOT
#define NIBBLE_PAIRS

#include "kernels/cpu/linear_blocks.h"
