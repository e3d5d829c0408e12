/*
 * Weight blocks of 16 rows → interleaved vectors, AVX-512: one function a format. Included by AVX-512 files only.
 * Owner: none. Lifetime: the call.
 *
 * Everything is inlined into loops with constant arguments, so that a block stays in registers.
 */
#ifndef MLXR_KERNELS_CPU_UNPACK_AVX512_H
#define MLXR_KERNELS_CPU_UNPACK_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/linear_panels.h"

#define INLINE static inline __attribute__((always_inline))

/* 32 k of 16 rows. */
typedef struct block512 {
    __m512i w[8];    /* u8: k = 4i … 4i + 3 of row r in word r */
    __m512 scale[2]; /* [1]: of the second 16 k (PANEL_HALVES) */
    __m512 min[2];
} block512;

/* What is decoded once for a super-block of 256 k. */
typedef struct super512 {
    __m512 scale[16], min[16];
    __m512i raw[24];
} super512;

/* Four 16-byte pieces' words, one piece a row: word i of all rows in out[i]. */
INLINE void transpose512(const uint8_t *p, size_t stride, __m512i out[4])
{
    __m512i r[4];
    for (int i = 0; i < 4; i++) { /* lane l holds row 4l + i */
        const uint8_t *q = p + i * stride;
        r[i] = _mm512_castsi128_si512(_mm_loadu_si128((const void *)q));
        r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const void *)(q + 4 * stride)), 1);
        r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const void *)(q + 8 * stride)), 2);
        r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const void *)(q + 12 * stride)), 3);
    }
    __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
    __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

INLINE int32_t word_at(const uint8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* One 4-byte word a row. */
INLINE __m512i words512(const uint8_t *p, size_t stride)
{
    __m128i part[4];
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *q = p + 4 * i * stride;
        part[i] = _mm_setr_epi32(word_at(q), word_at(q + stride), word_at(q + 2 * stride), word_at(q + 3 * stride));
    }
    __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part[0]), part[1], 1);
    __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part[2]), part[3], 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* The halves in the low and the high 16 bits of each word. */
INLINE __m512 low_half512(__m512i words)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
}

INLINE __m512 high_half512(__m512i words)
{
    return low_half512(_mm512_srli_epi32(words, 16));
}

INLINE __m512i nibbles_low(__m512i x)
{
    return _mm512_and_si512(x, _mm512_set1_epi8(15));
}

INLINE __m512i nibbles_high(__m512i x)
{
    return nibbles_low(_mm512_srli_epi16(x, 4));
}

INLINE void nibbles512(const uint8_t *p, size_t stride, __m512i w[8])
{
    __m512i raw[4];
    transpose512(p, stride, raw);
    for (int i = 0; i < 4; i++) {
        w[i] = nibbles_low(raw[i]);
        w[4 + i] = nibbles_high(raw[i]);
    }
}

/* Bit k of a row's 32-bit word becomes bit 4 of its k-th byte. */
INLINE void fifth_bits512(__m512i bits, __m512i w[8])
{
    const __m512i sixteen = _mm512_set1_epi8(16);
    for (int i = 0; i < 4; i++) { /* byte i of the word into all four bytes: bits 8i … 8i + 7 */
        const __m512i pick = _mm512_set4_epi32(0x0c0c0c0c + 0x01010101 * i, 0x08080808 + 0x01010101 * i,
                                               0x04040404 + 0x01010101 * i, 0x01010101 * i);
        __m512i spread = _mm512_shuffle_epi8(bits, pick);
        __mmask64 low = _mm512_test_epi8_mask(spread, _mm512_set1_epi32(0x08040201));
        __mmask64 high = _mm512_test_epi8_mask(spread, _mm512_set1_epi32((int)0x80402010));
        w[2 * i] = _mm512_mask_add_epi8(w[2 * i], low, w[2 * i], sixteen);
        w[2 * i + 1] = _mm512_mask_add_epi8(w[2 * i + 1], high, w[2 * i + 1], sixteen);
    }
}

/* Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: one block of 32 is one block of the file. */
INLINE void block_legacy512(dtype type, const uint8_t *p, size_t stride, block512 *v)
{
    __m512i head = words512(p, stride);
    v->scale[0] = low_half512(head);
    switch ((int)type) {
    case DTYPE_Q4_0:
        nibbles512(p + 2, stride, v->w);
        break;
    case DTYPE_Q4_1:
        v->min[0] = high_half512(head);
        nibbles512(p + 4, stride, v->w);
        break;
    case DTYPE_Q5_0:
        nibbles512(p + 6, stride, v->w);
        fifth_bits512(words512(p + 2, stride), v->w);
        break;
    case DTYPE_Q5_1:
        v->min[0] = high_half512(head);
        nibbles512(p + 8, stride, v->w);
        fifth_bits512(words512(p + 4, stride), v->w);
        break;
    case DTYPE_Q8_0:
        transpose512(p + 2, stride, v->w);
        transpose512(p + 18, stride, v->w + 4);
        for (int i = 0; i < 8; i++) {
            v->w[i] = _mm512_xor_si512(v->w[i], _mm512_set1_epi8((char)0x80));
        }
        break;
    }
}

/* Q4_K, Q5_K: 6-bit scales and minima of eight blocks. In words 1 … 3 of the head:
 *     word 1: scales 0 … 3, their top 2 bits belong to scales 4 … 7; word 2: minima, the same;
 *     word 3: low 4 bits of scale 4 … 7 and, above, of minimum 4 … 7 */
INLINE void super_k45(const uint8_t *p, size_t stride, super512 *s)
{
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), two = _mm512_set1_epi8(0x30);
    __m512i head[4];
    transpose512(p, stride, head);
    __m512 d = low_half512(head[0]), dmin = _mm512_sub_ps(_mm512_setzero_ps(), high_half512(head[0]));
    __m512i scales[2] = {_mm512_and_si512(head[1], six)}, mins[2] = {_mm512_and_si512(head[2], six)};
    scales[1] = _mm512_or_si512(_mm512_and_si512(head[3], four), _mm512_and_si512(_mm512_srli_epi16(head[1], 2), two));
    mins[1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(head[3], 4), four),
                              _mm512_and_si512(_mm512_srli_epi16(head[2], 2), two));
    const __m512i byte = _mm512_set1_epi32(255);
    for (int i = 0; i < 8; i++) {
        __m512i scale = _mm512_and_si512(_mm512_srli_epi32(scales[i / 4], 8 * (i % 4)), byte);
        __m512i min = _mm512_and_si512(_mm512_srli_epi32(mins[i / 4], 8 * (i % 4)), byte);
        s->scale[i] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale));
        s->min[i] = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(min));
    }
}

/* Q6_K: signed 8-bit scales of sixteen halves. */
INLINE void super_k6(const uint8_t *p, size_t stride, super512 *s)
{
    __m512i scales[4];
    transpose512(p + 192, stride, scales);
    __m512 d = high_half512(words512(p + 206, stride));
    for (int i = 0; i < 16; i++) {
        __m512i scale = _mm512_srai_epi32(_mm512_slli_epi32(scales[i / 4], 24 - 8 * (i % 4)), 24);
        s->scale[i] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale));
    }
}

INLINE void block_k4(const uint8_t *p, size_t stride, int i, super512 *s, block512 *v)
{
    if (i % 2 == 0) {
        transpose512(p + 16 + 16 * i, stride, s->raw);
        transpose512(p + 32 + 16 * i, stride, s->raw + 4);
    }
    for (int j = 0; j < 8; j++) {
        v->w[j] = i % 2 ? nibbles_high(s->raw[j]) : nibbles_low(s->raw[j]);
    }
    v->scale[0] = s->scale[i];
    v->min[0] = s->min[i];
}

INLINE void block_k5(const uint8_t *p, size_t stride, int i, super512 *s, block512 *v)
{
    if (i == 0) {
        transpose512(p + 16, stride, s->raw + 8);
        transpose512(p + 32, stride, s->raw + 12);
    }
    block_k4(p + 32, stride, i, s, v);
    for (int j = 0; j < 8; j++) {
        __mmask64 set = _mm512_test_epi8_mask(s->raw[8 + j], _mm512_set1_epi8((char)(1 << i)));
        v->w[j] = _mm512_mask_add_epi8(v->w[j], set, v->w[j], _mm512_set1_epi8(16));
    }
}

/* 128 k share 64 bytes of low nibbles and 32 bytes of high bit pairs. */
INLINE void block_k6(const uint8_t *p, size_t stride, int i, super512 *s, block512 *v)
{
    const int half = i / 4, b = i % 4;
    if (b == 0) {
        for (size_t j = 0; j < 4; j++) {
            transpose512(p + 64 * half + 16 * j, stride, s->raw + 4 * j);
        }
        transpose512(p + 128 + 32 * half, stride, s->raw + 16);
        transpose512(p + 144 + 32 * half, stride, s->raw + 20);
    }
    for (int j = 0; j < 8; j++) {
        __m512i low = s->raw[8 * (b % 2) + j], pairs = s->raw[16 + j];
        low = b < 2 ? nibbles_low(low) : nibbles_high(low);
        pairs = b == 0   ? _mm512_slli_epi16(pairs, 4)
                : b == 1 ? _mm512_slli_epi16(pairs, 2)
                : b == 3 ? _mm512_srli_epi16(pairs, 2)
                         : pairs;
        v->w[j] = _mm512_or_si512(low, _mm512_and_si512(pairs, _mm512_set1_epi8(0x30)));
    }
    v->scale[0] = s->scale[2 * i];
    v->scale[1] = s->scale[2 * i + 1];
}

#endif
