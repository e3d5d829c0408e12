/*
 * Integer linear layers for AVX2: panels of 8 rows.
 * Owner: const tables. Lifetime: static.
 *
 * vpmaddubsw adds two products in 16 bits. Small weights leave room for more of them before they are widened:
 * 8 × 2 × 15 × 127 and 4 × 2 × 31 × 127 and 2 × 2 × 63 × 127 are below 32,768. Weights of 8 bits stay signed and give
 * their sign to the activation: 2 × 128 × 127 is just below.
 */
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_avx2.h"

#define LINEAR_SUFFIX linear_table_avx2
#define LINEAR_PANELS linear_panels_avx2
#define LINEAR_ISA "avx2"
#define GROUP_TOKENS 1
#define TURN_WORDS 8
#define WORDS_PANELS 2
#define WORDS_ALWAYS
#define WORDS_TOKENS 4
#define MAKE_UNSIGNED false
#define AHEAD_IN_ORDER
#define FLOATS_BEHIND true
#define OWN_SUM_DIGITS

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

/* Σ of n words of weights × one digit, in 16 bits: as many as fit. One after the other, for a tree takes registers. */
INLINE vint narrow(int bits, const vint *w, const uint8_t *q, int n)
{
    vint sum = products(bits, w[0], q);
#pragma GCC unroll 8
    for (int i = 1; i < n; i++) {
        sum = _mm256_add_epi16(sum, products(bits, w[i], q + 4 * i));
    }
    return sum;
}

/* As linear_blocks.h has it, of one token: widening multiplies the higher digit's sums by 256. */
INLINE void sum_digits(int bits, int shift, int n, const vint *w, int n_words, const uint8_t *q, const uint8_t *minus,
                       vint sum[])
{
    const int turn = bits == 8 ? 1 : bits == 6 ? 2 : bits == 5 ? 4 : n_words;
    const vint one = _mm256_set1_epi16(1), base = _mm256_set1_epi16(256);
    vint total = shift ? v_left32(v_words(word_at(minus)), shift) : v_words(0);
    (void)n;
#pragma GCC unroll 8
    for (int i = 0; i < n_words; i += turn) {
        vint high = _mm256_madd_epi16(narrow(bits, w + i, q + 4 * i, turn), base);
        vint low = _mm256_madd_epi16(narrow(bits, w + i, q + Q16_BLOCK + 4 * i, turn), one);
        total = _mm256_add_epi32(_mm256_add_epi32(total, high), low);
    }
    sum[0] = total;
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

#define ROWS_8BIT

/* 16 bytes as words. */
INLINE vint words_at(const uint8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p));
}

/* The words that two digits, or one, of 16 k stand for. */
INLINE vint token_words(int digits, const uint8_t *q)
{
    return digits == 1 ? words_at(q) : _mm256_add_epi16(v_left16(words_at(q), 8), words_at(q + Q16_BLOCK));
}

/* Sums of four rows and their neighbours: each pair of fours in a half → a half of four sums of two. */
INLINE vint halves_joined(vint low, vint high)
{
    vint first = _mm256_inserti128_si256(low, _mm256_castsi256_si128(high), 1);
    return _mm256_add_epi32(first, _mm256_permute2x128_si256(low, high, 0x31));
}

INLINE vint fours_joined(vint a, vint b)
{
    return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

INLINE vint twos_joined(vint a, vint b)
{
    return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* A row's bytes become words in order, and so do a token's digits: half the products of bytes × two digits, whose signs
 * would have to be moved too, and no transposing; a row's eight sums are added up instead. */
INLINE void sum_rows(int digits, int n, const uint8_t *rows, size_t row_bytes, const uint8_t *q, vint sum[])
{
    vint x[PANEL_DIRECT][2], part[PANEL_DIRECT][4];
    UNROLL
    for (int t = 0; t < n; t++) {
        x[t][0] = token_words(digits, q + t * digits * Q16_BLOCK);
        x[t][1] = token_words(digits, q + t * digits * Q16_BLOCK + 16);
    }
    UNROLL
    for (size_t r = 0; r < 4; r++) {
        const uint8_t *low = rows + r * row_bytes, *high = low + 4 * row_bytes;
        vint w[4] = {words_at(low), words_at(low + 16), words_at(high), words_at(high + 16)};
        UNROLL
        for (int t = 0; t < n; t++) {
            vint of_low = dot_words(_mm256_madd_epi16(w[0], x[t][0]), w[1], x[t][1]);
            vint of_high = dot_words(_mm256_madd_epi16(w[2], x[t][0]), w[3], x[t][1]);
            part[t][r] = halves_joined(of_low, of_high);
        }
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        sum[t] = twos_joined(fours_joined(part[t][0], part[t][1]), fours_joined(part[t][2], part[t][3]));
    }
}

#include "kernels/cpu/linear_blocks.h"
