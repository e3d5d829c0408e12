/*
 * Integer linear layers for AVX2: panels of 8 rows.
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_avx2.h"

#define LINEAR_SUFFIX linear_table_avx2
#define LINEAR_PANELS linear_panels_avx2
#define LINEAR_ISA "avx2"
#define MAKE_UNSIGNED false
#define AHEAD_IN_ORDER
#define FLOATS_BEHIND true
#define OWN_SUM_DIGITS

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
