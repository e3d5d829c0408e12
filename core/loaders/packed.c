/*
 * Packed weights of quantised safetensors → rows of blocks.
 * Owner: none. Lifetime: the call. Any thread.
 *
 * Numbers of 32 inputs (64 of NF4) of up to ROWS rows are taken out first, then put into blocks: GPTQ and AWQ keep
 * outputs side by side, so that one row of them alone would touch as much memory as many.
 */
#include "loaders/packed.h"

#include <string.h>

#include "base/checked.h"
#include "base/mapping.h"
#include "quant/codec.h"
#include "quant/codec_layout.h"
#include "quant/half.h"

#define ROWS 32
#define WIDTH 64 /* weights of the widest block here */

static void store_float(uint8_t *at, float value)
{
    memcpy(at, &value, sizeof value); /* little-endian machines only, as everything here */
}

/* Number i of a row of floats of any plain type. */
static float number_at(dtype type, const uint8_t *values, uint64_t i)
{
    float value;
    codec_decode(type, values + i * dtype_row_bytes(type, 1), &value, 1);
    return value;
}

/* ---- numbers ---- */

static void take_gptq(const packed_weight *p, uint64_t k, uint64_t row, uint64_t n, uint8_t q[ROWS][WIDTH])
{
    for (unsigned word = 0; word < 4; word++) {
        const uint8_t *at = p->q + 4 * ((k / 8 + word) * p->n_out + row);
        for (uint64_t r = 0; r < n; r++) {
            uint32_t bits = load_u32le(at + 4 * r);
            for (unsigned i = 0; i < 8; i++) {
                q[r][8 * word + i] = bits >> 4 * i & 15;
            }
        }
    }
}

/* Where in a word output i of eight lies. */
static const uint8_t awq_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

static unsigned awq_nibble(const uint8_t *words, uint64_t n_out, uint64_t line, uint64_t row)
{
    return load_u32le(words + 4 * (line * (n_out / 8) + row / 8)) >> 4 * awq_place[row % 8] & 15;
}

static void take_awq(const packed_weight *p, uint64_t k, uint64_t row, uint64_t n, uint8_t q[ROWS][WIDTH])
{
    for (unsigned i = 0; i < 32; i++) {
        for (uint64_t r = 0; r < n; r++) {
            q[r][i] = (uint8_t)awq_nibble(p->q, p->n_out, k + i, row + r);
        }
    }
}

/* 32 numbers of `bits` bits, the lowest first, without gaps. */
static void take_bits(const uint8_t *at, unsigned bits, uint8_t *q)
{
    uint32_t window = 0;
    unsigned n_window = 0;
    for (unsigned i = 0; i < 32; i++) {
        while (n_window < bits) {
            window |= (uint32_t)*at++ << n_window;
            n_window += 8;
        }
        q[i] = (uint8_t)(window & ((1u << bits) - 1));
        window >>= bits;
        n_window -= bits;
    }
}

/* Bytes of two numbers: `first` 0 where the low nibble comes first, else 4. */
static void take_nibbles(const uint8_t *at, unsigned first, unsigned n, uint8_t *q)
{
    for (unsigned i = 0; i < n; i++) {
        q[i] = at[i / 2] >> (i % 2 * 4 ^ first) & 15;
    }
}

static void take(const packed_weight *p, uint64_t k, uint64_t row, uint64_t n, uint8_t q[ROWS][WIDTH])
{
    for (uint64_t r = 0; r < n; r++) {
        uint64_t at = (row + r) * p->n_in + k;
        switch (p->layout) {
        case PACKED_GPTQ:
            take_gptq(p, k, row, n, q);
            return;
        case PACKED_AWQ:
            take_awq(p, k, row, n, q);
            return;
        case PACKED_AFFINE:
            take_bits(p->q + at / 8 * p->bits, p->bits, q[r]);
            break;
        case PACKED_MXFP4:
            take_nibbles(p->q + at / 2, 0, 32, q[r]);
            break;
        case PACKED_NF4:
            take_nibbles(p->q + at / 2, 4, 64, q[r]);
            break;
        case PACKED_FP8:
            memcpy(q[r], p->q + at, 32);
            break;
        case PACKED_TURNED: /* see put_turned */
            break;
        }
    }
}

/* ---- scales ---- */

/* The zero point of a group and output. Of GPTQ, 1 is added to all nibbles of a word as to one number: that undoes what
 * its writers do, even where a zero point of 0 became 15 and took from its neighbour. */
static unsigned zero_of(const packed_weight *p, uint64_t group, uint64_t row)
{
    if (p->layout == PACKED_AWQ) {
        return awq_nibble(p->zeros, p->n_out, group, row);
    }
    uint32_t word = load_u32le(p->zeros + 4 * (group * (p->n_out / 8) + row / 8));
    return (word + (p->zero_less_one ? 0x11111111u : 0)) >> 4 * (row % 8) & 15;
}

static float nf4_scale(const packed_weight *p, uint64_t i)
{
    if (!p->outer) {
        return number_at(p->scale_type, p->scales, i);
    }
    float inner = number_at(DTYPE_F32, p->map, p->scales[i]);
    return inner * number_at(DTYPE_F32, p->outer, i / p->outer_group) + p->offset;
}

/* Scale and bias (zero: in whole steps) of the block that begins at input k. */
static float scale_of(const packed_weight *p, uint64_t k, uint64_t row, float *bias, unsigned *zero)
{
    uint64_t group = k / p->group, n_groups = (p->n_in + p->group - 1) / p->group;
    switch (p->layout) {
    case PACKED_GPTQ:
    case PACKED_AWQ: {
        float scale = number_at(p->scale_type, p->scales, group * p->n_out + row);
        *zero = zero_of(p, group, row);
        *bias = -scale * (float)*zero;
        return scale;
    }
    case PACKED_AFFINE:
        *bias = number_at(p->scale_type, p->zeros, row * n_groups + group);
        return number_at(p->scale_type, p->scales, row * n_groups + group);
    case PACKED_NF4:
        return nf4_scale(p, (row * p->n_in + k) / p->group);
    case PACKED_FP8:
        return number_at(p->scale_type, p->scales, row / p->group_rows * n_groups + group);
    case PACKED_MXFP4:
    case PACKED_TURNED:
        break;
    }
    return 0;
}

/* ---- blocks ---- */

static void put_nibbles(const uint8_t *q, unsigned n, uint8_t *dst)
{
    for (unsigned i = 0; i < n / 2; i++) {
        dst[i] = (uint8_t)(q[i] | q[i + n / 2] << 4);
    }
}

/* Scales of 16 bits are stored as they were read: nothing is rounded. */
static void put_block(const packed_weight *p, uint64_t k, uint64_t row, const uint8_t *q, uint8_t *dst)
{
    float bias = 0;
    unsigned zero = 0;
    float scale = scale_of(p, k, row, &bias, &zero);
    switch ((int)p->type) {
    case DTYPE_Q4_0:
        store_u16le(dst, half_from_float(scale));
        put_nibbles(q, 32, dst + 2);
        break;
    case DTYPE_Q4_1:
        store_u16le(dst, half_from_float(scale));
        store_u16le(dst + 2, half_from_float(bias));
        put_nibbles(q, 32, dst + 4);
        break;
    case DTYPE_Q5_1:
        memset(dst, 0, dtype_row_bytes(DTYPE_Q5_1, 32));
        store_u16le(dst, half_from_float(scale));
        store_u16le(dst + 2, half_from_float(bias));
        codec_planes_put(codec_layout_of(DTYPE_Q5_1), dst, q);
        break;
    case DTYPE_AFFINE4:
        store_u16le(dst, bf16_from_float(scale));
        store_u16le(dst + 2, bf16_from_float(bias));
        put_nibbles(q, 32, dst + 4);
        break;
    case DTYPE_ZERO4:
        store_u16le(dst, half_from_float(scale));
        store_u16le(dst + 2, (uint16_t)zero);
        put_nibbles(q, 32, dst + 4);
        break;
    case DTYPE_AFFINE8:
        store_float(dst, scale);
        store_float(dst + 4, bias);
        memcpy(dst + 8, q, 32);
        break;
    case DTYPE_NF4:
        store_float(dst, scale);
        put_nibbles(q, 64, dst + 4);
        break;
    case DTYPE_MXFP4:
        dst[0] = p->scales[(row * p->n_in + k) / 32];
        put_nibbles(q, 32, dst + 1);
        break;
    default: /* FP8 */
        store_float(dst, scale);
        memcpy(dst + 4, q, 32);
        break;
    }
}

/* GPTQ whose inputs were ordered by their activation: each has the group that `order` says, and no block holds it. What
 * its own programs compute with, halves, are the weights. */
static void put_unordered(const packed_weight *p, uint64_t row, uint64_t n, uint8_t *dst)
{
    for (uint64_t r = 0; r < n; r++) {
        for (uint64_t k = 0; k < p->n_in; k++) {
            uint64_t group = load_u32le(p->order + 4 * k);
            unsigned q = load_u32le(p->q + 4 * (k / 8 * p->n_out + row + r)) >> 4 * (k % 8) & 15;
            float scale = number_at(p->scale_type, p->scales, group * p->n_out + row + r);
            float weight = scale * (float)((int)q - (int)zero_of(p, group, row + r));
            store_u16le(dst + 2 * (r * p->n_in + k), half_from_float(weight));
        }
    }
}

/* Where row `row` lies in the checkpoint. */
static uint64_t source_row(const packed_weight *p, uint64_t row)
{
    if (!p->n_zip) {
        return row;
    }
    uint64_t at = row % p->n_zip, half = p->n_zip / 2;
    return row - at + (at < half ? 2 * at : 2 * (at - half) + 1);
}

/* Rows of one matrix whose columns lie together: LINE bytes of each at a time, as the memory has them. */
#define LINE 64
static void turn_rows(const packed_weight *p, const uint8_t *matrix, uint64_t row, uint64_t n, size_t step,
                      uint8_t *dst)
{
    size_t size = dtype_row_bytes(p->type, 1), row_bytes = size * (size_t)p->n_in, most = LINE / size;
    for (uint64_t done = 0; done < n; done += most) {
        size_t some = n - done < most ? (size_t)(n - done) : most;
        for (size_t k = 0; k < p->n_in; k++) {
            const uint8_t *from = matrix + (k * p->n_rows + row + done * step) * size;
            for (size_t r = 0; r < some; r++) {
                memcpy(dst + (done + r) * row_bytes + k * size, from + r * step * size, size);
            }
        }
    }
}

/* Bytes from one turned matrix to the next. */
static size_t step_bytes(const packed_weight *p)
{
    return (size_t)(p->step ? p->step : p->n_rows * p->n_in) * dtype_row_bytes(p->type, 1);
}

/* Where rows alternate, each half of a matrix has every second one. */
static void put_turned(const packed_weight *p, uint64_t first, uint64_t n, uint8_t *dst)
{
    size_t size = dtype_row_bytes(p->type, 1), row_bytes = size * (size_t)p->n_in;
    uint64_t together = p->n_zip ? p->n_rows / 2 : p->n_rows;
    for (uint64_t done = 0; done < n;) {
        uint64_t row = first + done, left = together - row % together, some = n - done < left ? n - done : left;
        const uint8_t *matrix = p->q + row / p->n_rows * step_bytes(p);
        turn_rows(p, matrix, source_row(p, row) % p->n_rows, some, p->n_zip ? 2 : 1, dst + done * row_bytes);
        done += some;
    }
}

void packed_rows(const packed_weight *p, uint64_t first, uint64_t n, void *dst)
{
    const dtype_info *info = dtype_find((uint32_t)p->type);
    size_t row_bytes = dtype_row_bytes(p->type, (size_t)p->n_in);
    uint8_t q[ROWS][WIDTH], *out = dst;
    if (p->order) {
        put_unordered(p, first, n, dst);
        return;
    }
    if (p->layout == PACKED_TURNED) {
        put_turned(p, first, n, dst);
        return;
    }
    for (uint64_t done = 0; done < n;) {
        uint64_t row = source_row(p, first + done);
        uint64_t some = p->n_zip ? 1 : n - done < ROWS ? n - done : ROWS;
        for (uint64_t k = 0; k < p->n_in; k += info->block_size) {
            take(p, k, row, some, q);
            for (uint64_t r = 0; r < some; r++) {
                put_block(p, k, row + r, q[r], out + (done + r) * row_bytes + k / info->block_size * info->block_bytes);
            }
        }
        done += some;
    }
}

void packed_forget(const packed_weight *p)
{
    for (uint32_t i = 0; i < p->n_sources; i++) {
        mapping_forget_part(p->sources[i], (size_t)p->source_bytes[i]);
    }
}

/* Bytes that rows [first, first + n) of q have, where rows lie one behind the other. */
static void forget_lines(const packed_weight *p, uint64_t first, uint64_t n)
{
    const uint8_t *lines = p->q + first * p->n_in * p->bits / 8;
    mapping_forget_part(lines, (size_t)(n * p->n_in * p->bits / 8));
}

/* Every row of a turned matrix is made of all of it: what is given back are the two before, where threads that were
 * slower may have looked at them again, and those that end here. Where rows alternate, a half's have the other
 * half's between them. */
void packed_forget_rows(const packed_weight *p, uint64_t first, uint64_t n)
{
    if (p->layout == PACKED_TURNED) {
        uint64_t matrix = first / p->n_rows, begin = matrix > 2 ? matrix - 2 : 0, end = (first + n) / p->n_rows;
        mapping_forget_part(p->q + begin * step_bytes(p), (size_t)(end - begin) * step_bytes(p));
    } else if (p->n_zip) {
        for (uint64_t done = 0, some; done < n; done += some) {
            uint64_t left = p->n_zip / 2 - (first + done) % (p->n_zip / 2);
            some = n - done < left ? n - done : left;
            forget_lines(p, source_row(p, first + done) / 2 * 2, 2 * some);
        }
    } else if (p->layout != PACKED_GPTQ && p->layout != PACKED_AWQ) {
        forget_lines(p, first, n);
    }
}
