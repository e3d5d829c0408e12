/*
 * Scalar packers of linear inputs: the definition the vector packers must match bit for bit.
 * Owner: none; the memory is the caller's linear_input. Lifetime: the call.
 */
#include "kernels/cpu/quantize_act.h"

#include <math.h>
#include <string.h>

#include "quant/half.h"

void quantize_act_f32(const linear_input *input, uint32_t token, const float *src)
{
    float *dst = (float *)input->data + token * input->stride;
    if (dst != src) {
        memcpy(dst, src, input->n_in * sizeof *dst);
    }
}

void quantize_act_bf16_scalar(const linear_input *input, uint32_t token, const float *src)
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

void quantize_act_q8_scalar(const linear_input *input, uint32_t token, const float *src)
{
    q8_place at = q8_find(input, token);
    for (uint32_t b = 0; b < input->n_in / Q8_BLOCK; b++, src += Q8_BLOCK) {
        /* Magnitudes are compared as bits: infinity and, above it, NaN win and end up in the scale. */
        uint32_t largest = 0;
        for (unsigned i = 0; i < Q8_BLOCK; i++) {
            uint32_t magnitude = float_to_bits(src[i]) & 0x7fffffffu;
            largest = magnitude > largest ? magnitude : largest;
        }
        float max = float_from_bits(largest);
        bool tiny = max < Q8_TINY;
        bool finite = largest < 0x7f800000u;
        float scale = tiny ? 0.0f : max * (1.0f / 127.0f);
        float inverse = tiny || !finite ? 0.0f : 127.0f / max;
        int32_t sums[2] = {0, 0};
        int8_t *q = (int8_t *)(at.q + b * at.record);
        for (unsigned i = 0; i < Q8_BLOCK; i++) {
            q[i] = finite ? (int8_t)lrintf(src[i] * inverse) : (int8_t)1;
            sums[i / 16] += q[i];
        }
        uint8_t *words = at.words + b * at.record;
        put_f32(words + Q8_SCALE * at.word, scale);
        put_f32(words + Q8_SCALED_SUM * at.word, scale * (float)(sums[0] + sums[1]));
        put_i32(words + Q8_MINUS_SUM * at.word, -(sums[0] + sums[1]));
        put_i32(words + Q8_MINUS_LOW * at.word, -sums[0]);
        put_i32(words + Q8_MINUS_HIGH * at.word, -sums[1]);
    }
}

void quantize_act_q8_rest(const linear_input *input, uint32_t token, const float *src, float *rest)
{
    q8_place at = q8_find(input, token);
    for (uint32_t b = 0; b < input->n_in / Q8_BLOCK; b++, src += Q8_BLOCK, rest += Q8_BLOCK) {
        const int8_t *q = (const int8_t *)(at.q + b * at.record);
        float scale;
        memcpy(&scale, at.words + b * at.record + Q8_SCALE * at.word, sizeof scale);
        bool finite = (float_to_bits(scale) & 0x7fffffffu) < 0x7f800000u;
        for (unsigned i = 0; i < Q8_BLOCK; i++) {
            rest[i] = finite ? src[i] - scale * (float)q[i] : 0;
        }
    }
}
