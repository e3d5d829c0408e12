/*
 * What linear_blocks.h asks for, of AVX2. Included by files of that set, which add what they are.
 * Owner: none. Lifetime: the call.
 *
 * vpmaddubsw adds two products in 16 bits. Small weights leave room for more of them before they are widened:
 * 8 × 2 × 15 × 127 and 4 × 2 × 31 × 127 and 2 × 2 × 63 × 127 are below 32,768. Weights of 8 bits stay signed and give
 * their sign to the activation: 2 × 128 × 127 is just below.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_AVX2_H
#define MLXR_KERNELS_CPU_LINEAR_AVX2_H

#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_avx2.h"

#define GROUP_TOKENS 1
#define TURN_WORDS 8
#define WORDS_PANELS 2
#define WORDS_ALWAYS
#define WORDS_TOKENS 4

INLINE vint products(int bits, vint w, const uint8_t *q)
{
    vint a = _mm256_set1_epi32(word_at(q));
    if (bits == 8) {
        return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
    }
    return _mm256_maddubs_epi16(w, a);
}

INLINE vint two(int bits, const vint *w, const uint8_t *q)
{
    return _mm256_add_epi16(products(bits, w[0], q), products(bits, w[1], q + 4));
}

INLINE vint four(int bits, const vint *w, const uint8_t *q)
{
    return _mm256_add_epi16(two(bits, w, q), two(bits, w + 2, q + 8));
}

INLINE vint widen(vint start, vint sums)
{
    return _mm256_add_epi32(start, _mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
}

INLINE vint dot(int bits, vint start, const vint *w, const uint8_t *q, int n)
{
    if (bits == 4 && n == 8) {
        return widen(start, _mm256_add_epi16(four(bits, w, q), four(bits, w + 4, q + 16)));
    }
#pragma GCC unroll 2
    for (int i = 0; i < n; i += 4) {
        if (bits <= 5) {
            start = widen(start, four(bits, w + i, q + 4 * i));
        } else if (bits == 6) {
            start = widen(start, two(bits, w + i, q + 4 * i));
            start = widen(start, two(bits, w + i + 2, q + 4 * i + 8));
        } else {
            start = widen(start, products(bits, w[i], q + 4 * i));
            start = widen(start, products(bits, w[i + 1], q + 4 * i + 4));
            start = widen(start, products(bits, w[i + 2], q + 4 * i + 8));
            start = widen(start, products(bits, w[i + 3], q + 4 * i + 12));
        }
    }
    return start;
}

/* An empty asm statement, through which a sum has to go: compilers cannot add a block's products up in a tree, which
 * takes all of them at once, and so memory for those that registers have no room for (half of the speed, see
 * bench/history/2026-11-29-avx2-words.json). What isa.cmake switches off besides is of GCC, for whole loops. */
INLINE vint in_order(vint sum)
{
    __asm__("" : "+x"(sum));
    return sum;
}

INLINE vint dot_words(vint start, vint w, vint x)
{
    return in_order(_mm256_add_epi32(start, _mm256_madd_epi16(w, x)));
}

#define LOWER_TURN(bits) ((bits) == 4 ? 1 : 2)
#define LOWER_NARROW(bits) ((bits) == 4)

/* Weights of 4 bits fill 16 bits with a whole block; two of 5 or 6 bits are added before they are widened. */
INLINE vint lower_turn(int bits, vint sum, const vint *w, const uint8_t *q)
{
    return in_order(bits == 4 ? _mm256_add_epi16(sum, products(bits, w[0], q)) : widen(sum, two(bits, w, q)));
}

INLINE vint lower_widen(vint start, vint sum)
{
    return widen(start, sum);
}

#endif
