/*
 * The vectors of unpack_blocks.h for AVX-512 (F, BW): 16 rows.
 * Owner: none. Lifetime: the call. Included by AVX-512 files only.
 */
#ifndef MLXR_KERNELS_CPU_UNPACK_AVX512_H
#define MLXR_KERNELS_CPU_UNPACK_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16") /* arrays of vectors become registers only so */
#define ROWS 16

typedef __m512i vint; /* a word of 32 bits a row */
typedef __m512 vflt;

INLINE vint v_and(vint a, vint b)
{
    return _mm512_and_si512(a, b);
}

INLINE vint v_or(vint a, vint b)
{
    return _mm512_or_si512(a, b);
}

INLINE vint v_xor(vint a, vint b)
{
    return _mm512_xor_si512(a, b);
}

INLINE vint v_bytes(int byte)
{
    return _mm512_set1_epi8((char)byte);
}

INLINE vint v_words(int32_t word)
{
    return _mm512_set1_epi32(word);
}

/* Shifts of 16-bit and 32-bit parts. */
INLINE vint v_left16(vint a, int n)
{
    return _mm512_slli_epi16(a, (unsigned)n);
}

INLINE vint v_right16(vint a, int n)
{
    return _mm512_srli_epi16(a, (unsigned)n);
}

INLINE vint v_sub8(vint a, vint b)
{
    return _mm512_sub_epi8(a, b);
}

INLINE vint v_sub16(vint a, vint b)
{
    return _mm512_sub_epi16(a, b);
}

INLINE vint v_add16(vint a, vint b)
{
    return _mm512_add_epi16(a, b);
}

INLINE vint v_add32(vint a, vint b)
{
    return _mm512_add_epi32(a, b);
}

INLINE vint v_sub32(vint a, vint b)
{
    return _mm512_sub_epi32(a, b);
}

INLINE vint v_left32(vint a, int n)
{
    return _mm512_slli_epi32(a, (unsigned)n);
}

INLINE vint v_right32(vint a, int n)
{
    return _mm512_srli_epi32(a, (unsigned)n);
}

INLINE vint v_right32_signed(vint a, int n)
{
    return _mm512_srai_epi32(a, (unsigned)n);
}

/* Byte i of each word. */
INLINE vint v_byte(vint a, int i)
{
    const int none = (int)0x80808000;
    return _mm512_shuffle_epi8(a, _mm512_set4_epi32(none + 12 + i, none + 8 + i, none + 4 + i, none + i));
}

/* Byte i of each word as its top byte, above zeros. */
INLINE vint v_top_byte(vint a, int i)
{
    const int first = 0x00808080 + 0x01000000 * i, step = 0x04000000;
    return _mm512_shuffle_epi8(a, _mm512_set4_epi32(first + 3 * step, first + 2 * step, first + step, first));
}

/* Byte i of each word in all four bytes of it. */
INLINE vint v_spread(vint a, int i)
{
    const vint pick = _mm512_set4_epi32(0x0c0c0c0c + 0x01010101 * i, 0x08080808 + 0x01010101 * i,
                                        0x04040404 + 0x01010101 * i, 0x01010101 * i);
    return _mm512_shuffle_epi8(a, pick);
}

/* a with 1 << to added in the bytes where `bits` has the bit of `mask` (one a byte). */
INLINE vint v_add_where(vint a, vint bits, vint mask, int to)
{
    return _mm512_mask_add_epi8(a, _mm512_test_epi8_mask(bits, mask), a, v_bytes(1 << to));
}

/* a with bit `to` set in the bytes where `bits` has bit `from`: it was clear. */
INLINE vint v_with_bit(vint a, vint bits, int from, int to)
{
    return v_add_where(a, bits, v_bytes(1 << from), to);
}

/* a with bit 4 set in byte j of each word where that of `bits` has bit j, or with `high` bit j + 4. */
INLINE vint v_with_fifth(vint a, vint bits, bool high)
{
    return v_add_where(a, bits, v_words(high ? (int32_t)0x80402010 : 0x08040201), 4);
}

/* Entries of a table of 16 bytes for the numbers 0 … 15 in the bytes of a. */
INLINE vint v_lookup(const int8_t table[16], vint a)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table)), a);
}

/* a without the bytes that are `byte`: these become 0. */
INLINE vint v_without(vint a, int byte)
{
    return _mm512_maskz_mov_epi8(_mm512_cmpneq_epi8_mask(a, v_bytes(byte)), a);
}

INLINE vflt v_floats(float f)
{
    return _mm512_set1_ps(f);
}

INLINE vflt v_from_int(vint a)
{
    return _mm512_cvtepi32_ps(a);
}

INLINE vflt v_mul(vflt a, vflt b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vflt v_add(vflt a, vflt b)
{
    return _mm512_add_ps(a, b);
}

INLINE vflt v_sub(vflt a, vflt b)
{
    return _mm512_sub_ps(a, b);
}

INLINE vflt v_fma(vflt a, vflt b, vflt c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vflt v_as_float(vint bits)
{
    return _mm512_castsi512_ps(bits);
}

/* The IEEE halves in the low 16 bits of each word. */
INLINE vflt v_from_half(vint words)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
}

/* The IEEE halves in the low and in the high 16 bits of each word. */
INLINE void v_halves(vint words, vflt *low, vflt *high)
{
    const vint apart = _mm512_setr_epi32(0x020000, 0x060004, 0x0a0008, 0x0e000c, 0x120010, 0x160014, 0x1a0018, 0x1e001c,
                                         0x030001, 0x070005, 0x0b0009, 0x0f000d, 0x130011, 0x170015, 0x1b0019,
                                         0x1f001d);
    vint halves = _mm512_permutexvar_epi16(apart, words);
    *low = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    *high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
}

/* Aligned memory. */
INLINE vint v_get(const void *p)
{
    return _mm512_load_si512(p);
}

INLINE void v_put(void *p, vint a)
{
    _mm512_store_si512(p, a);
}

INLINE vflt v_get_floats(const void *p)
{
    return _mm512_load_ps(p);
}

INLINE void v_put_floats(void *p, vflt a)
{
    _mm512_store_ps(p, a);
}

#define LAID /* panels may be laid (linear_laid.h) */

/* At any address. */
INLINE vint v_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

INLINE void v_store(void *p, vint a)
{
    _mm512_storeu_si512(p, a);
}

/* A half a row. */
INLINE vflt v_load_halves(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

/* The first n floats at any address; the others are 0 or left alone. */
INLINE vflt v_load_some(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

INLINE void v_store_some(float *p, vflt a, uint32_t n)
{
    if (n == ROWS) {
        _mm512_storeu_ps(p, a);
    } else {
        _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
    }
}

/* Rows i, i + 1, i + 2, i + 3 in `a` of a 128-bit lane → words k and k + 4 of them in a lane each of out[k]. */
INLINE void transpose_lanes(const vint r[4], vint out[4])
{
    vint a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
    vint c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

/* 16 bytes of each row → its four words: word i of all rows in out[i]. */
INLINE void v_transpose(const uint8_t *p, size_t stride, vint out[4])
{
    vint r[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) { /* lane l holds row 4l + i */
        const uint8_t *q = p + i * stride;
        r[i] = _mm512_castsi128_si512(_mm_loadu_si128((const void *)q));
        r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const void *)(q + 4 * stride)), 1);
        r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const void *)(q + 8 * stride)), 2);
        r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const void *)(q + 12 * stride)), 3);
    }
    transpose_lanes(r, out);
}

/* 32 bytes of each row → its eight words. A load brings 32 bytes of a row: of loads, insertions and shuffles together
 * that takes a quarter less than 16 bytes at a time. */
INLINE void v_transpose_wide(const uint8_t *p, size_t stride, vint out[8])
{
    vint low[4], high[4];
    UNROLL
    for (int half = 0; half < 2; half++) {
        vint r[4];
        UNROLL
        for (size_t i = 0; i < 4; i++) { /* rows i and i + 4 of the half */
            const uint8_t *q = p + (i + 8 * (size_t)half) * stride;
            __m256i second = _mm256_loadu_si256((const void *)(q + 4 * stride));
            r[i] = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)q));
            r[i] = _mm512_inserti64x4(r[i], second, 1);
        }
        transpose_lanes(r, half ? high : low);
    }
    UNROLL
    for (int k = 0; k < 4; k++) {
        out[k] = _mm512_shuffle_i32x4(low[k], high[k], _MM_SHUFFLE(2, 0, 2, 0));
        out[k + 4] = _mm512_shuffle_i32x4(low[k], high[k], _MM_SHUFFLE(3, 1, 3, 1));
    }
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
    __m128i part[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        part[i] = gather_four(p + 4 * i * stride, stride);
    }
    __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part[0]), part[1], 1);
    __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part[2]), part[3], 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

#endif
