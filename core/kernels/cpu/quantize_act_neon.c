/*
 * Packer of linear inputs for ARM64 Advanced SIMD: bit for bit what the scalar one gives.
 * Owner: none; the memory is the caller's linear_input. Lifetime: the call.
 */
#include <arm_neon.h>
#include <string.h>

#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/quantize_act.h"
#include "quant/half.h"

static inline void put(uint8_t *p, int32_t value)
{
    memcpy(p, &value, sizeof value);
}

static inline void put_float(uint8_t *p, float value)
{
    memcpy(p, &value, sizeof value);
}

static inline void pack_block(const float *src, uint8_t *q, uint8_t *words, size_t word)
{
    float32x4_t x[8];
    uint32x4_t most = vdupq_n_u32(0); /* magnitudes as integers: NaN is above infinity */
    for (int i = 0; i < 8; i++) {
        x[i] = vld1q_f32(src + 4 * i);
        most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(x[i]), vdupq_n_u32(0x7fffffffu)));
    }
    uint32_t largest = vmaxvq_u32(most);
    float max = float_from_bits(largest);
    bool tiny = max < Q8_TINY, finite = largest < 0x7f800000u;
    float scale = tiny ? 0.0f : max * (1.0f / 127.0f);
    float inverse = tiny || !finite ? 0.0f : 127.0f / max;
    int8x16_t bytes[2];
    for (int h = 0; h < 2; h++) {
        int16x8_t pairs[2];
        for (int i = 0; i < 2; i++) {
            int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(x[4 * h + 2 * i], inverse));
            int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(x[4 * h + 2 * i + 1], inverse));
            pairs[i] = vcombine_s16(vqmovn_s32(a), vqmovn_s32(b));
        }
        bytes[h] = vcombine_s8(vqmovn_s16(pairs[0]), vqmovn_s16(pairs[1]));
        bytes[h] = finite ? bytes[h] : vdupq_n_s8(1);
        vst1q_s8((int8_t *)q + 16 * h, bytes[h]);
    }
    int32_t minus_low = -vaddlvq_s8(bytes[0]), minus_high = -vaddlvq_s8(bytes[1]);
    put_float(words + Q8_SCALE * word, scale);
    put_float(words + Q8_SCALED_SUM * word, scale * (float)-(minus_low + minus_high));
    put(words + Q8_MINUS_SUM * word, minus_low + minus_high);
    put(words + Q8_MINUS_LOW * word, minus_low);
    put(words + Q8_MINUS_HIGH * word, minus_high);
}

static void quantize_act_q8_neon(const linear_input *input, uint32_t token, const float *src)
{
    q8_place at = q8_find(input, token);
    for (uint32_t b = 0; b < input->n_in / Q8_BLOCK; b++) {
        pack_block(src, at.q, at.words, at.word);
        src += Q8_BLOCK;
        at.q += at.record;
        at.words += at.record;
    }
}

void linear_table_pack_neon(linear_kernels *kernels)
{
    kernels->pack[LINEAR_Q8] = quantize_act_q8_neon;
}
