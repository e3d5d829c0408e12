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

static inline void pack_block(const float *src, uint8_t *to, uint8_t *words, size_t word)
{
    float32x4_t x[8];
    uint32x4_t most = vdupq_n_u32(0); /* magnitudes as integers: NaN is above infinity */
    for (int i = 0; i < 8; i++) {
        x[i] = vld1q_f32(src + 4 * i);
        most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(x[i]), vdupq_n_u32(0x7fffffffu)));
    }
    uint32_t largest = vmaxvq_u32(most);
    float max = float_from_bits(largest);
    bool tiny = max < Q16_TINY, finite = largest < 0x7f800000u;
    float unit = tiny ? 0.0f : max * (1.0f / Q16_MOST);
    float inverse = tiny || !finite ? 0.0f : Q16_MOST / max;
    int32_t minus[2];
    for (int h = 0; h < 2; h++) {
        int16x8_t q[2], r[2];
        int32_t sum = 0;
        for (int i = 0; i < 2; i++) {
            int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(x[4 * h + 2 * i], inverse));
            int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(x[4 * h + 2 * i + 1], inverse));
            int16x8_t values = finite ? vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)) : vdupq_n_s16(256);
            q[i] = vshrq_n_s16(vaddq_s16(values, vdupq_n_s16(128)), 8);
            int16x8_t high = vshlq_n_s16(q[i], 8);
            r[i] = vmaxq_s16(vsubq_s16(values, high), vdupq_n_s16(-127));
            sum += vaddlvq_s16(vaddq_s16(high, r[i]));
        }
        vst1q_s8((int8_t *)to + 16 * h, vcombine_s8(vmovn_s16(q[0]), vmovn_s16(q[1])));
        vst1q_s8((int8_t *)to + Q16_BLOCK + 16 * h, vcombine_s8(vmovn_s16(r[0]), vmovn_s16(r[1])));
        minus[h] = -sum;
    }
    int32_t minus_low = minus[0], minus_high = minus[1];
    put_float(words + Q16_UNIT * word, unit);
    put_float(words + Q16_SCALED_SUM * word, unit * (float)-(minus_low + minus_high));
    put(words + Q16_MINUS_SUM * word, minus_low + minus_high);
    put(words + Q16_MINUS_LOW * word, minus_low);
    put(words + Q16_MINUS_HIGH * word, minus_high);
}

static void quantize_act_q16_neon(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                  size_t stride)
{
    q16_place at = q16_find(input, token);
    for (uint32_t b = 0; b < input->n_in / Q16_BLOCK; b++) {
        for (uint32_t i = 0; i < n; i++) {
            pack_block(src + i * stride, at.q + i * Q16_DIGITS, at.words + i * sizeof(float), at.word);
        }
        src += Q16_BLOCK;
        at.q += at.record;
        at.words += at.record;
    }
}

void linear_table_pack_neon(linear_kernels *kernels)
{
    kernels->pack[LINEAR_Q16] = quantize_act_q16_neon;
}
