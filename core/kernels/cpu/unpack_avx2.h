/*
 * The vectors of unpack_blocks.h for AVX2 (with FMA, F16C): 8 rows.
 * Owner: none. Lifetime: the call. Included by AVX2 and AVX-VNNI files only.
 */
#ifndef MLXR_KERNELS_CPU_UNPACK_AVX2_H
#define MLXR_KERNELS_CPU_UNPACK_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16") /* arrays of vectors become registers only so */
#define ROWS 8

typedef __m256i vint; /* a word of 32 bits a row */
typedef __m256 vflt;

INLINE vint v_and(vint a, vint b)
{
    return _mm256_and_si256(a, b);
}

INLINE vint v_or(vint a, vint b)
{
    return _mm256_or_si256(a, b);
}

INLINE vint v_xor(vint a, vint b)
{
    return _mm256_xor_si256(a, b);
}

INLINE vint v_bytes(int byte)
{
    return _mm256_set1_epi8((char)byte);
}

INLINE vint v_words(int32_t word)
{
    return _mm256_set1_epi32(word);
}

/* Shifts of 16-bit and 32-bit parts. */
INLINE vint v_left16(vint a, int n)
{
    return _mm256_slli_epi16(a, n);
}

INLINE vint v_right16(vint a, int n)
{
    return _mm256_srli_epi16(a, n);
}

INLINE vint v_right16_signed(vint a, int n)
{
    return _mm256_srai_epi16(a, n);
}

INLINE vint v_add16(vint a, vint b)
{
    return _mm256_add_epi16(a, b);
}

INLINE vint v_sub16(vint a, vint b)
{
    return _mm256_sub_epi16(a, b);
}

INLINE vint v_add32(vint a, vint b)
{
    return _mm256_add_epi32(a, b);
}

INLINE vint v_left32(vint a, int n)
{
    return _mm256_slli_epi32(a, n);
}

INLINE vint v_right32(vint a, int n)
{
    return _mm256_srli_epi32(a, n);
}

INLINE vint v_right32_signed(vint a, int n)
{
    return _mm256_srai_epi32(a, n);
}

/* Byte i of each word. */
INLINE vint v_byte(vint a, int i)
{
    const int none = (int)0x80808000;
    const vint pick = _mm256_setr_epi32(none + i, none + 4 + i, none + 8 + i, none + 12 + i, none + i, none + 4 + i,
                                        none + 8 + i, none + 12 + i);
    return _mm256_shuffle_epi8(a, pick);
}

/* Byte i of each word as its top byte, above zeros. */
INLINE vint v_top_byte(vint a, int i)
{
    const int first = 0x00808080 + 0x01000000 * i, step = 0x04000000;
    const vint pick = _mm256_setr_epi32(first, first + step, first + 2 * step, first + 3 * step, first, first + step,
                                        first + 2 * step, first + 3 * step);
    return _mm256_shuffle_epi8(a, pick);
}

/* Byte i of each word in all four bytes of it. */
INLINE vint v_spread(vint a, int i)
{
    const vint pick = _mm256_setr_epi32(0x01010101 * i, 0x04040404 + 0x01010101 * i, 0x08080808 + 0x01010101 * i,
                                        0x0c0c0c0c + 0x01010101 * i, 0x01010101 * i, 0x04040404 + 0x01010101 * i,
                                        0x08080808 + 0x01010101 * i, 0x0c0c0c0c + 0x01010101 * i);
    return _mm256_shuffle_epi8(a, pick);
}

/* a with bit `to` set in the bytes where `bits` has bit `from`: it was clear. */
INLINE vint v_with_bit(vint a, vint bits, int from, int to)
{
    vint there = from < to ? v_left16(bits, to - from) : from > to ? v_right16(bits, from - to) : bits;
    return v_or(a, v_and(there, v_bytes(1 << to)));
}

/* a with bit 4 set in byte j of each word where that of `bits` has bit j, or with `high` bit j + 4: a lone bit at or
 * above the fourth becomes 16 as the lesser of the two. */
INLINE vint v_with_fifth(vint a, vint bits, bool high)
{
    vint lone = high ? v_and(bits, v_words((int32_t)0x80402010)) : v_left16(v_and(bits, v_words(0x08040201)), 4);
    return v_or(a, _mm256_min_epu8(lone, v_bytes(16)));
}

/* Entries of a table of 16 bytes for the numbers 0 … 15 in the bytes of a. */
INLINE vint v_lookup(const int8_t table[16], vint a)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table)), a);
}

/* a without the bytes that are `byte`: these become 0. */
INLINE vint v_without(vint a, int byte)
{
    return _mm256_andnot_si256(_mm256_cmpeq_epi8(a, v_bytes(byte)), a);
}

INLINE vflt v_floats(float f)
{
    return _mm256_set1_ps(f);
}

INLINE vflt v_from_int(vint a)
{
    return _mm256_cvtepi32_ps(a);
}

INLINE vflt v_mul(vflt a, vflt b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vflt v_add(vflt a, vflt b)
{
    return _mm256_add_ps(a, b);
}

INLINE vflt v_sub(vflt a, vflt b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vflt v_fma(vflt a, vflt b, vflt c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vflt v_as_float(vint bits)
{
    return _mm256_castsi256_ps(bits);
}

/* The IEEE halves in the low 16 bits of each word. */
INLINE vflt v_from_half(vint words)
{
    const vint pick = _mm256_setr_epi32(0x05040100, 0x0d0c0908, -1, -1, 0x05040100, 0x0d0c0908, -1, -1);
    vint halves = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(words, pick), _MM_SHUFFLE(3, 1, 2, 0));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
}

/* The IEEE halves in the low and in the high 16 bits of each word. */
INLINE void v_halves(vint words, vflt *low, vflt *high)
{
    const vint apart = _mm256_setr_epi32(0x05040100, 0x0d0c0908, 0x07060302, 0x0f0e0b0a, 0x05040100, 0x0d0c0908,
                                         0x07060302, 0x0f0e0b0a);
    vint halves = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(words, apart), _MM_SHUFFLE(3, 1, 2, 0));
    *low = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
    *high = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
}

/* Aligned memory. */
INLINE vint v_get(const void *p)
{
    return _mm256_load_si256(p);
}

INLINE void v_put(void *p, vint a)
{
    _mm256_store_si256(p, a);
}

INLINE vflt v_get_floats(const void *p)
{
    return _mm256_load_ps(p);
}

INLINE void v_put_floats(void *p, vflt a)
{
    _mm256_store_ps(p, a);
}

#define LAID /* panels may be laid (linear_laid.h) */

/* At any address. */
INLINE vint v_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

INLINE void v_store(void *p, vint a)
{
    _mm256_storeu_si256(p, a);
}

/* A half a row. */
INLINE vflt v_load_halves(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

INLINE __m256i v_first(uint32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n floats at any address; the others are 0 or left alone. */
INLINE vflt v_load_some(const float *p, uint32_t n)
{
    return _mm256_maskload_ps(p, v_first(n));
}

INLINE void v_store_some(float *p, vflt a, uint32_t n)
{
    if (n == ROWS) {
        _mm256_storeu_ps(p, a);
    } else {
        _mm256_maskstore_ps(p, v_first(n), a);
    }
}

/* 16 bytes of each row → its four words: word i of all rows in out[i]. */
INLINE void v_transpose(const uint8_t *p, size_t stride, vint out[4])
{
    vint r[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) { /* lane l holds row 4l + i */
        const uint8_t *q = p + i * stride;
        r[i] = _mm256_castsi128_si256(_mm_loadu_si128((const void *)q));
        r[i] = _mm256_inserti128_si256(r[i], _mm_loadu_si128((const void *)(q + 4 * stride)), 1);
    }
    vint a = _mm256_unpacklo_epi32(r[0], r[1]), b = _mm256_unpackhi_epi32(r[0], r[1]);
    vint c = _mm256_unpacklo_epi32(r[2], r[3]), d = _mm256_unpackhi_epi32(r[2], r[3]);
    out[0] = _mm256_unpacklo_epi64(a, c);
    out[1] = _mm256_unpackhi_epi64(a, c);
    out[2] = _mm256_unpacklo_epi64(b, d);
    out[3] = _mm256_unpackhi_epi64(b, d);
}

/* 32 bytes of each row → its eight words. */
INLINE void v_transpose_wide(const uint8_t *p, size_t stride, vint out[8])
{
    v_transpose(p, stride, out);
    v_transpose(p + 16, stride, out + 4);
}

INLINE int32_t word_at(const uint8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* 4 bytes of each of four rows, which are at least 16 bytes long. Each lies where it belongs in the 16 bytes that are
 * loaded, which begin in the row before: to blend takes any port, to insert a word one of two. */
INLINE __m128i gather_four(const uint8_t *p, size_t stride)
{
    __m128i words = _mm_cvtsi32_si128(word_at(p));
    words = _mm_blend_epi32(words, _mm_loadu_si128((const void *)(p + stride - 4)), 2);
    words = _mm_blend_epi32(words, _mm_loadu_si128((const void *)(p + 2 * stride - 8)), 4);
    return _mm_blend_epi32(words, _mm_loadu_si128((const void *)(p + 3 * stride - 12)), 8);
}

/* 4 bytes of each row. */
INLINE vint v_gather(const uint8_t *p, size_t stride)
{
    __m128i part[2];
    UNROLL
    for (size_t i = 0; i < 2; i++) {
        part[i] = gather_four(p + 4 * i * stride, stride);
    }
    return _mm256_inserti128_si256(_mm256_castsi128_si256(part[0]), part[1], 1);
}

#endif
