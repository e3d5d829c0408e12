/*
 * Decoding of blocks that came from quantised safetensors.
 * Owner: none; const tables. Lifetime: the call. Any thread.
 */
#include "quant/codec_checkpoint.h"

#include <math.h>

#include "base/checked.h"
#include "quant/half.h"

const float codec_nf4_values[16] = {
    -1.0f,
    -0.69619280099868774f,
    -0.52507305145263672f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.0795802995563f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.4407098293304f,
    0.56261700391769409f,
    0.72295683622360229f,
    1.0f,
};

float codec_e4m3_value(uint8_t bits)
{
    unsigned exponent = bits >> 3 & 15, fraction = bits & 7;
    float value;
    if ((bits & 0x7f) == 0x7f) {
        value = NAN;
    } else if (exponent == 0) {
        value = (float)fraction * 0x1p-9f;
    } else {
        value = (float)(8 + fraction) * float_from_bits((exponent + 127 - 10) << 23);
    }
    return bits & 0x80 ? -value : value;
}

float codec_e5m2_value(uint8_t bits)
{
    return half_to_float((uint16_t)(bits << 8));
}

static float load_float(const uint8_t *at)
{
    return float_from_bits(load_u32le(at));
}

void codec_checkpoint_decode(dtype type, const uint8_t *block, float *dst)
{
    const unsigned n = dtype_find((uint32_t)type)->block_size;
    const bool small = type == DTYPE_AFFINE4 || type == DTYPE_ZERO4, affine8 = type == DTYPE_AFFINE8;
    const uint8_t *bytes = block + (affine8 ? 8 : 4);
    float scale, bias = 0;
    if (small) {
        scale = type == DTYPE_ZERO4 ? half_to_float(load_u16le(block)) : bf16_to_float(load_u16le(block));
        bias = type == DTYPE_ZERO4 ? 0.0f : bf16_to_float(load_u16le(block + 2));
    } else {
        scale = load_float(block);
        bias = affine8 ? load_float(block + 4) : 0.0f;
    }
    const int zero = type == DTYPE_ZERO4 ? load_u16le(block + 2) : 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned nibble = bytes[i % (n / 2)] >> (i < n / 2 ? 0 : 4) & 15;
        switch ((int)type) {
        case DTYPE_AFFINE4:
            dst[i] = scale * (float)nibble + bias;
            break;
        case DTYPE_ZERO4:
            dst[i] = scale * (float)((int)nibble - zero);
            break;
        case DTYPE_AFFINE8:
            dst[i] = scale * (float)bytes[i] + bias;
            break;
        case DTYPE_NF4:
            dst[i] = codec_nf4_values[nibble] * scale;
            break;
        case DTYPE_FP8_E4M3:
            dst[i] = codec_e4m3_value(bytes[i]) * scale;
            break;
        default: /* FP8_E5M2 */
            dst[i] = codec_e5m2_value(bytes[i]) * scale;
            break;
        }
    }
}
