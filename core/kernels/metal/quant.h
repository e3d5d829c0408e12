/*
 * Weights in GGUF's formats, sixteen at a time, and the product of some rows of them with some rows of activations.
 * Metal, not C: included by the .metal files beside it. core/quant/codec_layout.c has the same layouts in a table.
 * Owner: none. Lifetime: the dispatch.
 *
 * A weight is scale × q − min. A format has
 *   BLOCK, BYTES   weights and bytes of a block
 *   split(b, t)    unit t of 16 weights whose bits share bytes, so that a lane uses all it loads: for products whose
 *                  lanes walk along a row. place(t, j) says which weights its j-th four are.
 *   run(b, u)      weights 16u … 16u + 15: for tiles
 */
#pragma once
#include "common.h"

namespace mlxr
{

/* Four times four weights, with scale and min of each four. */
struct weights16 {
    float4 q[4];
    float4 scale, min;
};

/* Bytes at a multiple of four, or of two. */
inline uint word_at(const device uchar *p)
{
    return *(const device uint *)p;
}
inline uint word_at_2(const device uchar *p)
{
    const device ushort *halves = (const device ushort *)p;
    return halves[0] | uint(halves[1]) << 16;
}
inline float half_at(const device uchar *p)
{
    return float(*(const device half *)p);
}

/* Of each byte of a word, the bits that `mask` leaves after a shift. */
inline float4 fields(uint word, uint shift, uint mask)
{
    return float4(as_type<uchar4>(word >> shift & mask * 0x01010101u));
}
inline float4 signed_bytes(uint word)
{
    return float4(as_type<char4>(word));
}

/* GGUF's type ids, as in core/quant/dtype.h. */
enum weight_type {
    WEIGHT_F32 = 0,
    WEIGHT_F16 = 1,
    WEIGHT_Q4_0 = 2,
    WEIGHT_Q4_1 = 3,
    WEIGHT_Q8_0 = 8,
    WEIGHT_Q2_K = 10,
    WEIGHT_Q3_K = 11,
    WEIGHT_Q4_K = 12,
    WEIGHT_Q5_K = 13,
    WEIGHT_Q6_K = 14,
    WEIGHT_Q8_K = 15,
    WEIGHT_BF16 = 30
};

template <int TYPE> struct weight_format;

/* Sixteen in a row, whatever the form. */
template <typename T> struct float_weights {
    enum { BLOCK = 16, BYTES = 16 * int(sizeof(T)) };
    static uint place(uint, uint j)
    {
        return 4 * j;
    }
    static weights16 run(const device uchar *b, uint)
    {
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            w.q[j] = load4((const device T *)b + 4 * j);
        }
        w.scale = float4(1.0f);
        w.min = float4(0.0f);
        return w;
    }
    static weights16 split(const device uchar *b, uint t)
    {
        return run(b, t);
    }
};
template <> struct weight_format<WEIGHT_F32> : float_weights<float> {
};
template <> struct weight_format<WEIGHT_F16> : float_weights<half> {
};
template <> struct weight_format<WEIGHT_BF16> : float_weights<bfloat> {
};

/* Q4_0: d, 16 bytes: weights 0 … 15 in low nibbles, 16 … 31 in high ones. Q4_1: d and what is added, then the same. */
template <bool ADDED> struct nibble_weights {
    enum { BLOCK = 32, BYTES = ADDED ? 20 : 18, BITS = ADDED ? 4 : 2 };
    static uint place(uint t, uint j)
    {
        return 8 * t + 16 * (j / 2) + 4 * (j % 2);
    }
    static float4 q(uint word, uint shift)
    {
        float4 f = fields(word, shift, 15);
        return ADDED ? f : f - 8.0f;
    }
    static void factors(const device uchar *b, thread weights16 &w)
    {
        w.scale = float4(half_at(b));
        w.min = float4(ADDED ? -half_at(b + 2) : 0.0f);
    }
    static weights16 split(const device uchar *b, uint t)
    {
        weights16 w;
        factors(b, w);
        uint one = word_at_2(b + BITS + 8 * t), other = word_at_2(b + BITS + 8 * t + 4);
        w.q[0] = q(one, 0);
        w.q[1] = q(other, 0);
        w.q[2] = q(one, 4);
        w.q[3] = q(other, 4);
        return w;
    }
    static weights16 run(const device uchar *b, uint u)
    {
        weights16 w;
        factors(b, w);
        for (uint j = 0; j < 4; j++) {
            w.q[j] = q(word_at_2(b + BITS + 4 * j), 4 * u);
        }
        return w;
    }
};
template <> struct weight_format<WEIGHT_Q4_0> : nibble_weights<false> {
};
template <> struct weight_format<WEIGHT_Q4_1> : nibble_weights<true> {
};

template <> struct weight_format<WEIGHT_Q8_0> {
    enum { BLOCK = 32, BYTES = 34 };
    static uint place(uint t, uint j)
    {
        return 16 * t + 4 * j;
    }
    static weights16 run(const device uchar *b, uint u)
    {
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            w.q[j] = signed_bytes(word_at_2(b + 2 + 16 * u + 4 * j));
        }
        w.scale = float4(half_at(b));
        w.min = float4(0.0f);
        return w;
    }
    static weights16 split(const device uchar *b, uint t)
    {
        return run(b, t);
    }
};

/* Q8_K: d in float, 256 bytes, sums that only products of integers need. */
template <> struct weight_format<WEIGHT_Q8_K> {
    enum { BLOCK = 256, BYTES = 292 };
    static uint place(uint t, uint j)
    {
        return 16 * t + 4 * j;
    }
    static weights16 run(const device uchar *b, uint u)
    {
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            w.q[j] = signed_bytes(word_at(b + 4 + 16 * u + 4 * j));
        }
        w.scale = float4(*(const device float *)b);
        w.min = float4(0.0f);
        return w;
    }
    static weights16 split(const device uchar *b, uint t)
    {
        return run(b, t);
    }
};

/* Q2_K and Q3_K: two bits of weights 128h + 32s + i in byte 32h + i, shifted by 2s. A unit is one word of them: four
 * weights of each of four s. */
struct two_bits {
    static uint place(uint t, uint j)
    {
        return 128 * (t / 8) + 32 * j + 4 * (t % 8);
    }
};

template <> struct weight_format<WEIGHT_Q2_K> : two_bits {
    enum { BLOCK = 256, BYTES = 84 };
    static weights16 split(const device uchar *b, uint t)
    {
        float d = half_at(b + 80), dmin = half_at(b + 82);
        uint word = word_at(b + 16 + 32 * (t / 8) + 4 * (t % 8));
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            uint packed = b[place(t, j) / 16];
            w.q[j] = fields(word, 2 * j, 3);
            w.scale[j] = d * float(packed & 15);
            w.min[j] = dmin * float(packed >> 4);
        }
        return w;
    }
    static weights16 run(const device uchar *b, uint u)
    {
        const device uchar *bits = b + 16 + 32 * (u / 8) + 16 * (u % 2);
        uint packed = b[u];
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            w.q[j] = fields(word_at(bits + 4 * j), u % 8 / 2 * 2, 3);
        }
        w.scale = float4(half_at(b + 80) * float(packed & 15));
        w.min = float4(half_at(b + 82) * float(packed >> 4));
        return w;
    }
};

template <> struct weight_format<WEIGHT_Q3_K> : two_bits {
    enum { BLOCK = 256, BYTES = 110 };
    /* six bits: low nibbles in eight bytes, two high bits in four; 32 stands for 0 */
    static float scale(const device uchar *b, uint group)
    {
        uint low = uint(b[96 + group % 8]) >> group / 8 * 4 & 15, high = uint(b[104 + group % 4]) >> group / 4 * 2 & 3;
        return half_at(b + 108) * (float(low | high << 4) - 32.0f);
    }
    static float4 q(uint low, uint low_shift, uint high, uint high_bit)
    {
        return fields(low, low_shift, 3) + fields(high, high_bit, 1) * 4.0f - 4.0f;
    }
    static weights16 split(const device uchar *b, uint t)
    {
        uint low = word_at_2(b + 32 + 32 * (t / 8) + 4 * (t % 8)), high = word_at_2(b + 4 * (t % 8));
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            w.q[j] = q(low, 2 * j, high, 4 * (t / 8) + j);
            w.scale[j] = scale(b, place(t, j) / 16);
        }
        w.min = float4(0.0f);
        return w;
    }
    static weights16 run(const device uchar *b, uint u)
    {
        const device uchar *low = b + 32 + 32 * (u / 8) + 16 * (u % 2), *high = b + 16 * (u % 2);
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            w.q[j] = q(word_at_2(low + 4 * j), u % 8 / 2 * 2, word_at_2(high + 4 * j), u / 2);
        }
        w.scale = float4(scale(b, u));
        w.min = float4(0.0f);
        return w;
    }
};

/* Q4_K and Q5_K: nibbles of weights 64j + i (low) and 64j + 32 + i (high) in byte 32j + i; Q5_K's fifth bit of group g
 * is bit g of byte i of a plane of its own. Scales and mins of eight groups have six bits in twelve bytes. */
template <bool FIFTH> struct nibble_groups {
    enum { BLOCK = 256, BYTES = FIFTH ? 176 : 144, BITS = FIFTH ? 48 : 16 };
    static uint place(uint t, uint j)
    {
        return 64 * (t / 4) + 8 * (t % 4) + 32 * (j / 2) + 4 * (j % 2);
    }
    static float2 factors(const device uchar *b, uint group)
    {
        const device uchar *packed = b + 4;
        uint scale, min;
        if (group < 4) {
            scale = packed[group] & 63;
            min = packed[4 + group] & 63;
        } else {
            scale = (packed[4 + group] & 15) | uint(packed[group - 4]) >> 6 << 4;
            min = uint(packed[4 + group]) >> 4 | uint(packed[group]) >> 6 << 4;
        }
        return float2(half_at(b) * float(scale), half_at(b + 2) * float(min));
    }
    /* the four weights of one word of nibbles; `at` is where its bytes lie in their run of 32 */
    static float4 q(const device uchar *b, uint word, uint at, uint group)
    {
        float4 f = fields(word, 4 * (group % 2), 15);
        return FIFTH ? f + fields(word_at(b + 16 + at), group, 1) * 16.0f : f;
    }
    static weights16 split(const device uchar *b, uint t)
    {
        uint pair = t / 4, at = 8 * (t % 4);
        uint one = word_at(b + BITS + 32 * pair + at), other = word_at(b + BITS + 32 * pair + at + 4);
        float2 low = factors(b, 2 * pair), high = factors(b, 2 * pair + 1);
        weights16 w;
        w.q[0] = q(b, one, at, 2 * pair);
        w.q[1] = q(b, other, at + 4, 2 * pair);
        w.q[2] = q(b, one, at, 2 * pair + 1);
        w.q[3] = q(b, other, at + 4, 2 * pair + 1);
        w.scale = float4(low.x, low.x, high.x, high.x);
        w.min = float4(low.y, low.y, high.y, high.y);
        return w;
    }
    static weights16 run(const device uchar *b, uint u)
    {
        uint group = u / 2, at = 16 * (u % 2);
        float2 f = factors(b, group);
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            w.q[j] = q(b, word_at(b + BITS + 32 * (group / 2) + at + 4 * j), at + 4 * j, group);
        }
        w.scale = float4(f.x);
        w.min = float4(f.y);
        return w;
    }
};
template <> struct weight_format<WEIGHT_Q4_K> : nibble_groups<false> {
};
template <> struct weight_format<WEIGHT_Q5_K> : nibble_groups<true> {
};

/* Nibbles of weights 128h + i (low) and 128h + 64 + i (high) in byte 64h + i, two more bits of 128h + 32s + i in byte
 * 128 + 32h + i, shifted by 2s; sixteen signed scales. */
template <> struct weight_format<WEIGHT_Q6_K> {
    enum { BLOCK = 256, BYTES = 210 };
    static uint place(uint t, uint j)
    {
        return 128 * (t / 8) + 8 * (t % 8) + 64 * (j / 2) + 4 * (j % 2);
    }
    static float scale(const device uchar *b, uint group)
    {
        return half_at(b + 208) * float(as_type<char>(b[192 + group]));
    }
    static float4 q(uint low, uint low_shift, uint high, uint high_shift)
    {
        return fields(low, low_shift, 15) + fields(high, high_shift, 3) * 16.0f - 32.0f;
    }
    static weights16 split(const device uchar *b, uint t)
    {
        uint h = t / 8, i = 8 * (t % 8), shift = i / 32 * 2;
        const device uchar *low = b + 64 * h + i, *high = b + 128 + 32 * h + i % 32;
        uint one = word_at_2(low), other = word_at_2(low + 4), top = word_at_2(high), next = word_at_2(high + 4);
        float first = scale(b, 8 * h + i / 16), second = scale(b, 8 * h + 4 + i / 16);
        weights16 w;
        w.q[0] = q(one, 0, top, shift);
        w.q[1] = q(other, 0, next, shift);
        w.q[2] = q(one, 4, top, shift + 4);
        w.q[3] = q(other, 4, next, shift + 4);
        w.scale = float4(first, first, second, second);
        w.min = float4(0.0f);
        return w;
    }
    static weights16 run(const device uchar *b, uint u)
    {
        uint h = u / 8, r = u % 8;
        const device uchar *low = b + 64 * h + 16 * (r % 4), *high = b + 128 + 32 * h + 16 * (r % 2);
        weights16 w;
        for (uint j = 0; j < 4; j++) {
            w.q[j] = q(word_at_2(low + 4 * j), r / 4 * 4, word_at_2(high + 4 * j), r / 2 * 2);
        }
        w.scale = float4(scale(b, u));
        w.min = float4(0.0f);
        return w;
    }
};

struct product_params {
    uint n_rows, n_in, n_out, x_stride, row_bytes, last;
};

/* params: 6 words in this order */
template <typename Words> inline product_params product_read(Words params)
{
    product_params p;
    p.n_rows = params[0];
    p.n_in = params[1];
    p.n_out = params[2];
    p.x_stride = params[3];
    p.row_bytes = params[4];
    p.last = params[5];
    return p;
}

/* The products of four rows of weights with ROWS rows of x, a simdgroup's: lanes walk along the rows, a unit each, and
 * add up in the end. sums[o][r] is the same in all lanes. */
template <int ROWS> struct products4 {
    float sums[4][ROWS];
};

template <typename T, int TYPE, int ROWS>
inline products4<ROWS> multiply_rows(const device T *x, const device uchar *w0, const device uchar *w1,
                                     const device uchar *w2, const device uchar *w3, product_params p, uint first_row,
                                     uint lane)
{
    typedef weight_format<TYPE> format;
    const uint units = format::BLOCK / 16;
    products4<ROWS> all;
    for (uint o = 0; o < 4; o++) {
        for (uint r = 0; r < uint(ROWS); r++) {
            all.sums[o][r] = 0.0f;
        }
    }
    for (uint u = lane; u < p.n_in / 16; u += SIMD_WIDTH) {
        uint block = u / units, t = u % units;
        float4 inputs[ROWS][4], totals[ROWS];
        for (uint r = 0; r < uint(ROWS); r++) {
            const device T *from = x + ulong(min(first_row + r, p.n_rows - 1)) * p.x_stride + block * format::BLOCK;
            for (uint j = 0; j < 4; j++) {
                inputs[r][j] = load4(from + format::place(t, j));
                totals[r][j] = dot(inputs[r][j], float4(1.0f));
            }
        }
        for (uint o = 0; o < 4; o++) {
            const device uchar *row = o == 0 ? w0 : o == 1 ? w1 : o == 2 ? w2 : w3;
            weights16 w = format::split(row + ulong(block) * format::BYTES, t);
            for (uint r = 0; r < uint(ROWS); r++) {
                float sum = -dot(w.min, totals[r]);
                for (uint j = 0; j < 4; j++) {
                    sum += w.scale[j] * dot(w.q[j], inputs[r][j]);
                }
                all.sums[o][r] += sum;
            }
        }
    }
    for (uint o = 0; o < 4; o++) {
        for (uint r = 0; r < uint(ROWS); r++) {
            all.sums[o][r] = simd_sum(all.sums[o][r]);
        }
    }
    return all;
}

} // namespace mlxr
