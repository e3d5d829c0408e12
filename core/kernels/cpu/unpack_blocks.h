/*
 * Weight blocks of a panel's rows → interleaved vectors, one function a format, for every instruction set: include its
 * unpack_<isa>.h first, which brings the vector types (a 32-bit word a row), the operations v_… and ROWS.
 * Owner: none. Lifetime: the call.
 *
 * All is inlined into loops with constant arguments, so that a block stays in registers. Layouts: ggml's blocks, as in
 * core/quant/codec.c.
 */
#ifndef MLXR_KERNELS_CPU_UNPACK_BLOCKS_H
#define MLXR_KERNELS_CPU_UNPACK_BLOCKS_H

#include <stdbool.h>

#include "quant/dtype.h"

#define LAID_ROWS 16 /* of a laid panel, whose vectors other sets of instructions take in parts */
#define LAID_PARTS (LAID_ROWS / ROWS)

/* Where the blocks of a panel's rows are. */
typedef struct source {
    const uint8_t *at; /* the first row's; of laid rows (linear_laid.h) what an offset times LAID_ROWS leads from */
    size_t stride;     /* bytes from row to row, where they are not laid */
    bool laid;
    const uint8_t *halves; /* of laid rows whose blocks are not whole words: what is left of them, a half a row */
} source;

/* 32 k of the panel's rows. */
typedef struct block {
    vint w[8];     /* bytes: k = 4i … 4i + 3 of a row in its word of w[i] */
    vflt scale[2]; /* [1]: of the second 16 k (PANEL_HALVES) */
    vflt min[2];
} block;

/* What is decoded once for a super-block of 256 k. */
typedef struct super_block {
    vflt scale[16], min[16];
    vflt d, dmin; /* Q4_K, Q5_K: what scales and minima are made of, for who makes them block by block */
    vint scales[2], mins[2];
    vint raw[24];
} super_block;

/* Rows as they lie in the file. */
INLINE source rows_at(const uint8_t *rows, size_t row_bytes)
{
    return (source){.at = rows, .stride = row_bytes, .laid = false, .halves = NULL};
}

/* The place n bytes further in each row. */
INLINE source further(source p, size_t n)
{
    p.at += p.laid ? n * LAID_ROWS : n;
    return p;
}

#ifdef LAID
/* Words i … i + n − 1 of laid rows from byte `at` of each. */
INLINE void laid_words(source p, size_t at, int n, vint out[])
{
    UNROLL
    for (int i = 0; i < n; i++) {
        out[i] = v_load(p.at + (at + 4 * (size_t)i) * LAID_ROWS);
    }
}
#else
INLINE void laid_words(source p, size_t at, int n, vint out[])
{
    (void)p;
    (void)at;
    (void)n;
    (void)out;
}
#endif

/* A word at byte `at` of each row, four and eight of them. */
INLINE vint word_of(source p, size_t at)
{
    if (!p.laid) {
        return v_gather(p.at + at, p.stride);
    }
    vint word[1] = {v_words(0)};
    laid_words(p, at, 1, word);
    return word[0];
}

INLINE void words_4(source p, size_t at, vint out[4])
{
    if (!p.laid) {
        v_transpose(p.at + at, p.stride, out);
    } else {
        laid_words(p, at, 4, out);
    }
}

INLINE void words_8(source p, size_t at, vint out[8])
{
    if (!p.laid) {
        v_transpose_wide(p.at + at, p.stride, out);
    } else {
        laid_words(p, at, 8, out);
    }
}

INLINE vint low_nibbles(vint x)
{
    return v_and(x, v_bytes(15));
}

INLINE vint high_nibbles(vint x)
{
    return low_nibbles(v_right16(x, 4));
}

INLINE vflt low_half(vint words)
{
    return v_from_half(words);
}

INLINE vflt high_half(vint words)
{
    return v_from_half(v_right32(words, 16));
}

/* The half at the beginning of each row's block, which is no part of a word there. */
INLINE vflt first_half(source p)
{
#ifdef LAID
    if (p.laid) {
        return v_load_halves(p.halves);
    }
#endif
    return low_half(word_of(p, 0));
}

/* The last one, which begins at byte `at`. */
INLINE vflt last_half(source p, size_t at)
{
#ifdef LAID
    if (p.laid) {
        return v_load_halves(p.halves);
    }
#endif
    return high_half(word_of(p, at - 2));
}

/* The two halves of the first word. */
INLINE void two_halves(source p, vflt *first, vflt *second)
{
#ifdef LAID
    if (p.laid) {
        v_halves(word_of(p, 0), first, second);
        return;
    }
#endif
    vint head = word_of(p, 0);
    *first = low_half(head);
    *second = high_half(head);
}

/* Byte i of each word, unsigned. */
INLINE vint byte_of(vint words, int i)
{
    return i == 0 ? v_and(words, v_words(255)) : i == 3 ? v_right32(words, 24) : v_byte(words, i);
}

/* Byte i of each word, signed, 2²⁴ times as large: exact as a float, too. */
INLINE vint large_byte_of(vint words, int i)
{
    return i == 3 ? v_and(words, v_words((int32_t)0xff000000)) : v_top_byte(words, i);
}

/* Four words a row: low nibbles are k = 0 … 15, high ones 16 … 31. */
INLINE void nibbles_of(const vint raw[4], vint w[8])
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        w[i] = low_nibbles(raw[i]);
        w[4 + i] = high_nibbles(raw[i]);
    }
}

INLINE void nibbles(source p, size_t at, vint w[8])
{
    vint raw[4];
    words_4(p, at, raw);
    nibbles_of(raw, w);
}

/* Bit k of a row's word becomes bit 4 of weight k. */
INLINE void fifth_bits(vint bits, vint w[8])
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        vint spread = v_spread(bits, i); /* bits 8i … 8i + 7 */
        w[2 * i] = v_with_fifth(w[2 * i], spread, false);
        w[2 * i + 1] = v_with_fifth(w[2 * i + 1], spread, true);
    }
}

/* 32 bytes a row, signed and, of laid rows, with an offset of 128; made unsigned by that where the product wants it. */
INLINE void signed_bytes(source p, size_t at, bool make_unsigned, vint w[8])
{
    const bool flip = make_unsigned != p.laid;
    words_8(p, at, w);
    UNROLL
    for (int i = 0; flip && i < 8; i++) {
        w[i] = v_xor(w[i], v_bytes(0x80));
    }
}

/* ---- nibbles that stand for entries of a table ----
 * The tables are codec_table.c's with an offset of 0 or a power of two, as the products want them. */

INLINE void look_up(const int8_t table[16], vint w[8])
{
    UNROLL
    for (int i = 0; i < 8; i++) {
        w[i] = v_lookup(table, w[i]);
    }
}

/* IQ4_NL's and IQ4_XS's, as signed_bytes has those of Q8_0. */
INLINE void look_up_iq4(bool make_unsigned, vint w[8])
{
    static const int8_t values[2][16] = {
        {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
        {1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15}, /* + 128 */
    };
    look_up(values[make_unsigned], w);
}

/* Half of 2^(e − 127), of the lowest byte of a word, as a product of two roots: the least are subnormal. */
INLINE vflt e8m0_half(vint words)
{
    vint e = byte_of(words, 0), half = v_right32(e, 1);
    vint rest = v_add32(e, v_xor(half, v_words(-1))); /* e − half − 1 */
    vflt low = v_as_float(v_left32(v_add32(half, v_words(63)), 23));
    return v_mul(low, v_as_float(v_left32(v_add32(rest, v_words(64)), 23)));
}

/* 17 bytes: a power of two, nibbles of E2M1, twice and 16 more. */
INLINE void unpack_mxfp4(source p, block *v)
{
    static const int8_t values[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};
    v->scale[0] = e8m0_half(word_of(p, 0));
    nibbles(p, 1, v->w);
    look_up(values, v->w);
}

/* 36 bytes for 64 weights: four scales (E4M3 without a sign), nibbles of 16 weights in 8 bytes; block i of the two.
 * E2M1 twice and 32 more, as Q6_K's numbers. */
INLINE void unpack_nvfp4(source p, int i, block *v)
{
    static const int8_t values[16] = {32, 33, 34, 35, 36, 38, 40, 44, 32, 31, 30, 29, 28, 26, 24, 20};
    vint scales = v_and(v_without(word_of(p, 0), 0x7f), v_bytes(0x7f)), raw[4];
    UNROLL
    for (int h = 0; h < 2; h++) { /* exponent and fraction where a float has them, off by 2¹¹⁹ */
        vint bits = v_left32(v_and(v_right32(scales, 8 * (2 * i + h)), v_words(127)), 20);
        v->scale[h] = v_mul(v_as_float(bits), v_floats(0x1p119f));
    }
    words_4(p, 4 + 16 * i, raw);
    UNROLL
    for (int j = 0; j < 4; j++) {
        v->w[j / 2 * 4 + j % 2] = low_nibbles(raw[j]);
        v->w[j / 2 * 4 + j % 2 + 2] = high_nibbles(raw[j]);
    }
    look_up(values, v->w);
}

/* Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4 and those of checkpoints: a block of 32 is a block of the file. */
INLINE void unpack_legacy(dtype type, bool make_unsigned, source p, block *v)
{
    if (type == DTYPE_MXFP4) {
        unpack_mxfp4(p, v);
        return;
    }
    if (type == DTYPE_Q4_1 || type == DTYPE_Q5_1) {
        two_halves(p, &v->scale[0], &v->min[0]);
    } else if (type != DTYPE_AFFINE4) {
        v->scale[0] = first_half(p);
    }
    vint head = v_words(0);
    switch ((int)type) {
    case DTYPE_IQ4_NL:
        nibbles(p, 2, v->w);
        look_up_iq4(make_unsigned, v->w);
        break;
    case DTYPE_AFFINE4:
        head = word_of(p, 0);
        v->scale[0] = v_as_float(v_left32(head, 16));
        v->min[0] = v_as_float(v_and(head, v_words((int32_t)0xffff0000)));
        nibbles(p, 4, v->w);
        break;
    case DTYPE_ZERO4: /* exact: 11 bits times 5 */
        head = word_of(p, 0);
        v->min[0] = v_mul(v_from_int(v_right32(head, 16)), v_sub(v_floats(0.0f), v->scale[0]));
        nibbles(p, 4, v->w);
        break;
    case DTYPE_Q4_0:
        nibbles(p, 2, v->w);
        break;
    case DTYPE_Q4_1:
        nibbles(p, 4, v->w);
        break;
    case DTYPE_Q5_0:
        nibbles(p, 6, v->w);
        fifth_bits(word_of(p, 2), v->w);
        break;
    case DTYPE_Q5_1:
        nibbles(p, 8, v->w);
        fifth_bits(word_of(p, 4), v->w);
        break;
    case DTYPE_Q8_0:
        signed_bytes(p, 2, make_unsigned, v->w);
        break;
    }
}

#define WORDS_BLOCKS 4 /* blocks that unpack_words is called for, one after the other */

/* Block i of four of Q4_1 (5 words each) or Q5_1 (6) that begin at p. All of their words are transposed, into `words`,
 * as far as a block needs them: to gather a head alone takes a load and a shuffle a row. */
INLINE void unpack_words(dtype type, source p, int i, vint words[24], block *v)
{
    const int n = type == DTYPE_Q4_1 ? 5 : 6;
    if (i < 2 || (i == 2 && n == 6)) {
        words_8(p, 32 * i, words + 8 * i);
    } else if (i == 3 && n == 5) {
        words_4(p, 64, words + 16);
    }
    const vint *w = words + i * n;
    v_halves(w[0], &v->scale[0], &v->min[0]);
    nibbles_of(w + n - 4, v->w);
    if (n == 6) {
        fifth_bits(w[1], v->w);
    }
}

/* 84 bytes: 16 scales (low nibble) and minima (high), 64 bytes of 2-bit weights, two halves. */
INLINE void super_q2_k(source p, super_block *s)
{
    vint bytes[4], head = word_of(p, 80);
    vflt d = low_half(head), dmin = high_half(head);
    words_4(p, 0, bytes);
    UNROLL
    for (int i = 0; i < 16; i++) {
        s->scale[i] = v_mul(d, v_from_int(byte_of(low_nibbles(bytes[i / 4]), i % 4)));
        s->min[i] = v_mul(dmin, v_from_int(byte_of(high_nibbles(bytes[i / 4]), i % 4)));
    }
}

INLINE void unpack_q2_k(source p, int i, super_block *s, block *v)
{
    if (i % 4 == 0) {
        words_8(p, 16 + 8 * i, s->raw);
    }
    UNROLL
    for (int j = 0; j < 8; j++) {
        v->w[j] = v_and(v_right16(s->raw[j], 2 * (i % 4)), v_bytes(3));
    }
}

/* 110 bytes: 32 of third bits, 64 of 2-bit weights, 16 scales of 6 bits less 32, a half. The scales' low nibbles are
 * the low, then the high nibbles of bytes 0 … 7, their top bits the pairs of bytes 8 … 11. */
INLINE void super_q3_k(source p, super_block *s)
{
    vint low[2] = {word_of(p, 96), word_of(p, 100)}, top = word_of(p, 104);
    vflt d = high_half(word_of(p, 106));
    UNROLL
    for (int g = 0; g < 4; g++) {
        vint nibble = g < 2 ? low_nibbles(low[g]) : high_nibbles(low[g - 2]);
        vint pair = v_and(v_right16(top, 2 * g), v_bytes(3));
        vint scales = v_or(nibble, v_left16(pair, 4));
        UNROLL
        for (int i = 0; i < 4; i++) {
            s->scale[4 * g + i] = v_mul(d, v_sub(v_from_int(byte_of(scales, i)), v_floats(32.0f)));
        }
    }
    words_8(p, 0, s->raw + 8);
}

INLINE void unpack_q3_k(source p, int i, super_block *s, block *v)
{
    unpack_q2_k(further(p, 16), i, s, v);
    UNROLL
    for (int j = 0; j < 8; j++) {
        v->w[j] = v_with_bit(v->w[j], s->raw[8 + j], i, 2);
    }
}

/* Q4_K, Q5_K begin with two halves and 6-bit scales and minima of eight blocks. In words 1 … 3 of the head:
 *     word 1: scales 0 … 3, their top 2 bits belong to scales 4 … 7; word 2: minima, the same;
 *     word 3: low 4 bits of scale 4 … 7 and, above, of minimum 4 … 7 */
INLINE void super_q45_k(source p, super_block *s)
{
    const vint six = v_bytes(63), top = v_bytes(0x30);
    vint head[4];
    words_4(p, 0, head);
    s->d = low_half(head[0]);
    s->dmin = v_sub(v_floats(0.0f), high_half(head[0]));
    s->scales[0] = v_and(head[1], six);
    s->scales[1] = v_or(low_nibbles(head[3]), v_and(v_right16(head[1], 2), top));
    s->mins[0] = v_and(head[2], six);
    s->mins[1] = v_or(high_nibbles(head[3]), v_and(v_right16(head[2], 2), top));
}

INLINE vflt scale_q45_k(const super_block *s, int i)
{
    return v_mul(s->d, v_from_int(byte_of(s->scales[i / 4], i % 4)));
}

INLINE vflt min_q45_k(const super_block *s, int i)
{
    return v_mul(s->dmin, v_from_int(byte_of(s->mins[i / 4], i % 4)));
}

INLINE void unpack_q4_k(source p, int i, super_block *s, block *v)
{
    if (i % 2 == 0) {
        words_8(p, 16 + 16 * i, s->raw);
    }
    UNROLL
    for (int j = 0; j < 8; j++) {
        v->w[j] = i % 2 ? high_nibbles(s->raw[j]) : low_nibbles(s->raw[j]);
    }
}

/* 32 bytes of fifth bits before the nibbles: bit i of byte k belongs to block i. */
INLINE void unpack_q5_k(source p, int i, super_block *s, block *v)
{
    if (i == 0) {
        words_8(p, 16, s->raw + 8);
    }
    unpack_q4_k(further(p, 32), i, s, v);
    UNROLL
    for (int j = 0; j < 8; j++) {
        v->w[j] = v_with_bit(v->w[j], s->raw[8 + j], i, 4);
    }
}

/* 210 bytes: 128 of low nibbles, 64 of top pairs, 16 signed scales, a half. */
INLINE void super_q6_k(source p, super_block *s)
{
    vint scales[4];
    words_4(p, 192, scales);
    vflt d = v_mul(last_half(p, 208), v_floats(0x1p-24f));
    UNROLL
    for (int i = 0; i < 16; i++) {
        s->scale[i] = v_mul(d, v_from_int(large_byte_of(scales[i / 4], i % 4)));
    }
}

/* 128 k share 64 bytes of nibbles (blocks 0 and 1 low, 2 and 3 high) and 32 bytes of pairs. */
INLINE void unpack_q6_k(source p, int i, super_block *s, block *v)
{
    const int half = i / 4, b = i % 4;
    if (b == 0) {
        words_8(p, 64 * half, s->raw);
        words_8(p, 64 * half + 32, s->raw + 8);
        words_8(p, 128 + 32 * half, s->raw + 16);
    }
    UNROLL
    for (int j = 0; j < 8; j++) {
        vint low = s->raw[8 * (b % 2) + j], pairs = s->raw[16 + j];
        low = b < 2 ? low_nibbles(low) : high_nibbles(low);
        pairs = b == 0 ? v_left16(pairs, 4) : b == 1 ? v_left16(pairs, 2) : b == 3 ? v_right16(pairs, 2) : pairs;
        v->w[j] = v_or(low, v_and(pairs, v_bytes(0x30)));
    }
}

/* 136 bytes: a half, 16 top pairs of bits and 8 nibbles of scales of 6 bits less 32, nibbles in eight times 16 bytes.
 */
INLINE void super_iq4_xs(source p, super_block *s)
{
    vint head = word_of(p, 0), low = word_of(p, 4);
    vflt d = low_half(head);
    UNROLL
    for (int i = 0; i < 8; i++) {
        vint nibble = v_and(v_right32(low, 4 * i), v_words(15));
        vint pair = v_and(v_right32(head, 16 + 2 * i), v_words(3));
        s->scale[i] = v_mul(d, v_sub(v_from_int(v_or(nibble, v_left32(pair, 4))), v_floats(32.0f)));
    }
}

/* A float scale, 256 bytes, sums that we do not need. */
INLINE void super_q8_k(source p, super_block *s)
{
    s->scale[0] = v_as_float(word_of(p, 0));
}

/* Scales, then block i of the super-block. Blocks must be unpacked in order: they share s->raw. */
INLINE void unpack_super(dtype type, source p, super_block *s)
{
    switch ((int)type) {
    case DTYPE_Q2_K:
        super_q2_k(p, s);
        break;
    case DTYPE_Q3_K:
        super_q3_k(p, s);
        break;
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        super_q45_k(p, s);
        UNROLL
        for (int i = 0; i < 8; i++) {
            s->scale[i] = scale_q45_k(s, i);
            s->min[i] = min_q45_k(s, i);
        }
        break;
    case DTYPE_Q6_K:
        super_q6_k(p, s);
        break;
    case DTYPE_Q8_K:
        super_q8_k(p, s);
        break;
    case DTYPE_IQ4_XS:
        super_iq4_xs(p, s);
        break;
    }
}

INLINE void unpack_super_block(dtype type, bool make_unsigned, source p, int i, super_block *s, block *v)
{
    bool halves = type == DTYPE_Q2_K || type == DTYPE_Q3_K || type == DTYPE_Q6_K;
    switch ((int)type) {
    case DTYPE_Q2_K:
        unpack_q2_k(p, i, s, v);
        break;
    case DTYPE_Q3_K:
        unpack_q3_k(p, i, s, v);
        break;
    case DTYPE_Q4_K:
        unpack_q4_k(p, i, s, v);
        break;
    case DTYPE_Q5_K:
        unpack_q5_k(p, i, s, v);
        break;
    case DTYPE_Q6_K:
        unpack_q6_k(p, i, s, v);
        break;
    case DTYPE_Q8_K:
        signed_bytes(p, 4 + 32 * i, make_unsigned, v->w);
        break;
    case DTYPE_IQ4_XS:
        nibbles(p, 8 + 16 * i, v->w);
        look_up_iq4(make_unsigned, v->w);
        break;
    }
    v->scale[0] = s->scale[type == DTYPE_Q8_K ? 0 : halves ? 2 * i : i];
    if (halves) {
        v->scale[1] = s->scale[2 * i + 1];
    }
    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K) {
        v->min[0] = s->min[i];
    }
    if (type == DTYPE_Q2_K) {
        v->min[0] = s->min[2 * i];
        v->min[1] = s->min[2 * i + 1];
    }
}

#endif
