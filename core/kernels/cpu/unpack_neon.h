/*
 * The vectors of unpack_blocks.h for ARM64 Advanced SIMD: 4 rows.
 * Owner: none. Lifetime: the call. Included by ARM files only.
 */
#ifndef MLXR_KERNELS_CPU_UNPACK_NEON_H
#define MLXR_KERNELS_CPU_UNPACK_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16") /* arrays of vectors become registers only so */
#define ROWS 4

typedef int32x4_t vint; /* a word of 32 bits a row */
typedef float32x4_t vflt;

INLINE vint v_and(vint a, vint b)
{
    return vandq_s32(a, b);
}

INLINE vint v_or(vint a, vint b)
{
    return vorrq_s32(a, b);
}

INLINE vint v_xor(vint a, vint b)
{
    return veorq_s32(a, b);
}

INLINE vint v_bytes(int byte)
{
    return vreinterpretq_s32_u8(vdupq_n_u8((uint8_t)byte));
}

INLINE vint v_words(int32_t word)
{
    return vdupq_n_s32(word);
}

/* Shifts of 16-bit and 32-bit parts. */
INLINE vint v_left16(vint a, int n)
{
    return vreinterpretq_s32_u16(vshlq_u16(vreinterpretq_u16_s32(a), vdupq_n_s16((int16_t)n)));
}

INLINE vint v_right16(vint a, int n)
{
    return v_left16(a, -n);
}

INLINE vint v_add32(vint a, vint b)
{
    return vaddq_s32(a, b);
}

INLINE vint v_left32(vint a, int n)
{
    return vshlq_s32(a, vdupq_n_s32(n));
}

INLINE vint v_right32(vint a, int n)
{
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n)));
}

INLINE vint v_right32_signed(vint a, int n)
{
    return vshlq_s32(a, vdupq_n_s32(-n));
}

/* Byte i of each word. */
INLINE vint v_byte(vint a, int i)
{
    return v_and(v_right32(a, 8 * i), v_words(255));
}

/* Byte i of each word as its top byte, above zeros. */
INLINE vint v_top_byte(vint a, int i)
{
    return v_left32(v_right32(a, 8 * i), 24);
}

/* Byte i of each word in all four bytes of it. */
INLINE vint v_spread(vint a, int i)
{
    const uint32x4_t pick = {0x01010101u * (uint32_t)i, 0x04040404u + 0x01010101u * (uint32_t)i,
                             0x08080808u + 0x01010101u * (uint32_t)i, 0x0c0c0c0cu + 0x01010101u * (uint32_t)i};
    return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_u32(pick)));
}

/* a with 1 << to added in the bytes where `bits` has the bit of `mask` (one a byte). */
INLINE vint v_add_where(vint a, vint bits, vint mask, int to)
{
    uint8x16_t where = vtstq_u8(vreinterpretq_u8_s32(bits), vreinterpretq_u8_s32(mask));
    uint8x16_t add = vandq_u8(where, vdupq_n_u8((uint8_t)(1 << to)));
    return vreinterpretq_s32_u8(vaddq_u8(vreinterpretq_u8_s32(a), add));
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
    return vreinterpretq_s32_s8(vqtbl1q_s8(vld1q_s8(table), vreinterpretq_u8_s32(a)));
}

/* a without the bytes that are `byte`: these become 0. */
INLINE vint v_without(vint a, int byte)
{
    uint8x16_t bytes = vreinterpretq_u8_s32(a);
    return vreinterpretq_s32_u8(vbicq_u8(bytes, vceqq_u8(bytes, vdupq_n_u8((uint8_t)byte))));
}

INLINE vflt v_floats(float f)
{
    return vdupq_n_f32(f);
}

INLINE vflt v_from_int(vint a)
{
    return vcvtq_f32_s32(a);
}

INLINE vflt v_mul(vflt a, vflt b)
{
    return vmulq_f32(a, b);
}

INLINE vflt v_add(vflt a, vflt b)
{
    return vaddq_f32(a, b);
}

INLINE vflt v_sub(vflt a, vflt b)
{
    return vsubq_f32(a, b);
}

INLINE vflt v_fma(vflt a, vflt b, vflt c)
{
    return vfmaq_f32(c, a, b);
}

INLINE vflt v_as_float(vint bits)
{
    return vreinterpretq_f32_s32(bits);
}

/* The IEEE halves in the low 16 bits of each word. */
INLINE vflt v_from_half(vint words)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_s32(words))));
}

/* The IEEE halves in the low and in the high 16 bits of each word. */
INLINE void v_halves(vint words, vflt *low, vflt *high)
{
    *low = v_from_half(words);
    *high = v_from_half(v_right32(words, 16));
}

/* Aligned memory. */
INLINE vint v_get(const void *p)
{
    return vld1q_s32(p);
}

INLINE void v_put(void *p, vint a)
{
    vst1q_s32(p, a);
}

INLINE vflt v_get_floats(const void *p)
{
    return vld1q_f32(p);
}

INLINE void v_put_floats(void *p, vflt a)
{
    vst1q_f32(p, a);
}

/* The first n floats at any address; the others are 0 or left alone. */
INLINE vflt v_load_some(const float *p, uint32_t n)
{
    float lanes[ROWS] = {0};
    if (n == ROWS) {
        return vld1q_f32(p);
    }
    memcpy(lanes, p, n * sizeof *p);
    return vld1q_f32(lanes);
}

INLINE void v_store_some(float *p, vflt a, uint32_t n)
{
    float lanes[ROWS];
    if (n == ROWS) {
        vst1q_f32(p, a);
        return;
    }
    vst1q_f32(lanes, a);
    memcpy(p, lanes, n * sizeof *p);
}

INLINE vint v_low_pairs(vint a, vint b)
{
    return vreinterpretq_s32_s64(vtrn1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

INLINE vint v_high_pairs(vint a, vint b)
{
    return vreinterpretq_s32_s64(vtrn2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

/* 16 bytes of each row → its four words: word i of all rows in out[i]. */
INLINE void v_transpose(const uint8_t *p, size_t stride, vint out[4])
{
    vint r[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        r[i] = vreinterpretq_s32_u8(vld1q_u8(p + i * stride));
    }
    vint a = vtrn1q_s32(r[0], r[1]), b = vtrn2q_s32(r[0], r[1]);
    vint c = vtrn1q_s32(r[2], r[3]), d = vtrn2q_s32(r[2], r[3]);
    out[0] = v_low_pairs(a, c);
    out[1] = v_low_pairs(b, d);
    out[2] = v_high_pairs(a, c);
    out[3] = v_high_pairs(b, d);
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

/* 4 bytes of each row. */
INLINE vint v_gather(const uint8_t *p, size_t stride)
{
    int32x4_t words = {word_at(p), word_at(p + stride), word_at(p + 2 * stride), word_at(p + 3 * stride)};
    return words;
}

#endif
