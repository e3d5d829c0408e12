/*
 * Scalar packers of linear inputs: the definition the vector packers must match bit for bit.
 * Owner: none; the memory is the caller's linear_input. Lifetime: the call.
 */
#include "kernels/cpu/quantize_act.h"

#include <math.h>
#include <string.h>

#include "quant/half.h"

static void pack_f32(const linear_input *input, uint32_t token, const float *src)
{
    float *dst = (float *)input->data + token * input->stride;
    if (dst != src) {
        memcpy(dst, src, input->n_in * sizeof *dst);
    }
}

static void pack_bf16(const linear_input *input, uint32_t token, const float *src)
{
    uint16_t *dst = (uint16_t *)input->data + token * input->stride;
    for (uint32_t i = 0; i < input->n_in; i++) {
        dst[i] = bf16_from_float(src[i]);
    }
}

static void put_i32(uint8_t *p, int32_t value)
{
    memcpy(p, &value, sizeof value);
}

static void put_f32(uint8_t *p, float value)
{
    memcpy(p, &value, sizeof value);
}

/* Magnitudes are compared as bits: infinity and, above it, NaN win and end up in the scale. */
static uint32_t largest_magnitude(const float *src)
{
    uint32_t largest = 0;
    for (unsigned i = 0; i < Q16_BLOCK; i++) {
        uint32_t magnitude = float_to_bits(src[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

static void put_word(uint8_t *to, unsigned i, int32_t value)
{
    static const unsigned place[4] = {0, 2, 1, 3};
    int16_t word = (int16_t)value;
    memcpy(to + 2 * (i / 4 * 4 + place[i % 4]), &word, sizeof word);
}

static void put_digits(uint8_t *to, unsigned i, int32_t high, int32_t low, linear_format format)
{
    if (format == LINEAR_Q8) {
        to[i] = (uint8_t)low;
    } else if (format == LINEAR_W16 || format == LINEAR_C16) {
        put_word(to, i, 256 * high + low);
    } else {
        to[i] = (uint8_t)high;
        to[Q16_BLOCK + i] = (uint8_t)low;
    }
}

/* most: Q16_MOST, or Q8_MOST where values are rounded to 8 bits */
static void quantize(const linear_input *input, uint32_t token, const float *src, float most)
{
    q16_place at = q16_find(input, token);
    for (uint32_t b = 0; b < input->n_in / Q16_BLOCK; b++, src += Q16_BLOCK) {
        uint32_t largest = largest_magnitude(src);
        float max = float_from_bits(largest);
        bool tiny = max < Q16_TINY;
        bool finite = largest < 0x7f800000u;
        float unit = tiny ? 0.0f : max * (1.0f / most);
        float inverse = tiny || !finite ? 0.0f : most / max;
        int32_t sums[2] = {0, 0}, before = 0;
        uint32_t pairs[2] = {0, 0};
        for (unsigned i = 0; i < Q16_BLOCK; i++) {
            int32_t value = finite ? (int32_t)lrintf(src[i] * inverse) : (int32_t)(most / 127.0f);
            int32_t high = (value + 128 + 32768) / 256 - 128, low = value - 256 * high; /* rounded down */
            low = low < -127 ? -127 : low; /* −128 has no negative, which AVX2's products need */
            put_digits(at.q + b * at.record, i, high, low, input->format);
            sums[i / 16] += 256 * high + low;
            pairs[i / 16] += i % 2 && i % 16 < 12 ? (uint32_t)(before * (256 * high + low)) : 0;
            before = 256 * high + low;
        }
        uint8_t *of = at.words + b * at.record;
        put_f32(of + Q16_UNIT * at.word, unit);
        put_f32(of + Q16_SCALED_SUM * at.word, unit * (float)(sums[0] + sums[1]));
        put_i32(of + Q16_MINUS_SUM * at.word, -(sums[0] + sums[1]));
        put_i32(of + Q16_MINUS_LOW * at.word, -sums[0]);
        put_i32(of + Q16_MINUS_HIGH * at.word, -sums[1]);
        if (input->format == LINEAR_C16) {
            put_i32(of + Q16_MINUS_PAIRS * at.word, (int32_t)(0 - pairs[0] - pairs[1]));
            put_i32(of + Q16_MINUS_PAIRS_LOW * at.word, (int32_t)(0 - pairs[0]));
            put_i32(of + Q16_MINUS_PAIRS_HIGH * at.word, (int32_t)(0 - pairs[1]));
        }
    }
}

static void pack_w15(const linear_input *input, uint32_t token, const float *src)
{
    q16_place at = q16_find(input, token);
    for (uint32_t b = 0; b < input->n_in / Q16_BLOCK; b++, src += Q16_BLOCK) {
        uint32_t largest = largest_magnitude(src);
        float max = float_from_bits(largest);
        bool tiny = max < Q16_TINY, finite = largest < 0x7f800000u;
        float inverse = tiny || !finite ? 0.0f : W15_MOST / max;
        for (unsigned i = 0; i < Q16_BLOCK; i++) {
            put_word(at.q + b * at.record, i, finite ? (int32_t)lrintf(src[i] * inverse) : 1);
        }
        put_f32(at.words + b * at.record + Q16_UNIT * at.word, tiny ? 0.0f : max * (1.0f / W15_MOST));
    }
}

/* `row`: of one token, one after the other. */
#define ROWS(name, row)                                                                                                \
    void name(const linear_input *input, uint32_t token, uint32_t n, const float *src, size_t stride)                  \
    {                                                                                                                  \
        for (uint32_t i = 0; i < n; i++) {                                                                             \
            row(input, token + i, src + i * stride);                                                                   \
        }                                                                                                              \
    }

static void pack_16(const linear_input *input, uint32_t token, const float *src)
{
    quantize(input, token, src, Q16_MOST);
}

static void pack_rounded(const linear_input *input, uint32_t token, const float *src)
{
    quantize(input, token, src, Q8_MOST);
}

ROWS(quantize_act_f32, pack_f32)
ROWS(quantize_act_bf16_scalar, pack_bf16)
ROWS(quantize_act_q16_scalar, pack_16)
ROWS(quantize_act_w16_scalar, pack_16)
ROWS(quantize_act_rounded_scalar, pack_rounded)
ROWS(quantize_act_w15_scalar, pack_w15)
