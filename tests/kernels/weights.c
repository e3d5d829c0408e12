/*
 * Random weights in every file format, without going through an encoder.
 * Owner: none. Lifetime: the call.
 */
#include "weights.h"

#include <math.h>
#include <string.h>

#include "quant/codec.h"
#include "quant/half.h"

/* Where a block's halves (scales and minima) are, and which of its other bytes are small integer scales. */
typedef struct block_fields {
    int half[2];          /* offset, −1: none */
    int scales, n_scales; /* bytes */
} block_fields;

static block_fields fields_of(dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_Q5_0:
    case DTYPE_Q8_0:
    case DTYPE_IQ1_S:
    case DTYPE_IQ2_XXS:
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
    case DTYPE_IQ3_XXS:
    case DTYPE_IQ3_S:
    case DTYPE_IQ4_NL:
    case DTYPE_IQ4_XS:
        return (block_fields){{0, -1}, 0, 0};
    case DTYPE_TQ1_0:
        return (block_fields){{52, -1}, 0, 0};
    case DTYPE_TQ2_0:
        return (block_fields){{64, -1}, 0, 0};
    case DTYPE_Q4_1:
    case DTYPE_Q5_1:
        return (block_fields){{0, 2}, 0, 0};
    case DTYPE_Q2_K:
        return (block_fields){{80, 82}, 0, 16};
    case DTYPE_Q3_K:
        return (block_fields){{108, -1}, 96, 12};
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        return (block_fields){{0, 2}, 4, 12};
    case DTYPE_Q6_K:
        return (block_fields){{208, -1}, 192, 16};
    default:
        return (block_fields){{-1, -1}, 0, 0};
    }
}

static float usual_scale(check *c)
{
    return check_uniform(c, -0.02f, 0.02f);
}

static void fill_float(check *c, dtype type, weights_kind kind, uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float f = check_normal(c) * 0.05f;
        if (kind == WEIGHTS_ZERO || (kind == WEIGHTS_SPARSE && check_below(c, 8))) {
            f = 0.0f;
        } else if (kind == WEIGHTS_LOWEST) {
            f *= 0x1p-20f; /* among them subnormal halves */
        } else if (kind == WEIGHTS_HIGHEST) {
            f = f > 0.0f ? 65504.0f : -65504.0f;
        }
        uint16_t h = type == DTYPE_F16 ? half_from_float(f) : bf16_from_float(f);
        memcpy(dst + i * dtype_row_bytes(type, 1), type == DTYPE_F32 ? (void *)&f : (void *)&h,
               dtype_row_bytes(type, 1));
    }
}

/* The scale of a block of quant/codec_checkpoint.h, and its bias or zero point. */
static void fill_checkpoint_scales(check *c, dtype type, uint8_t *block)
{
    float d[2] = {usual_scale(c), usual_scale(c)};
    uint16_t h[2] = {bf16_from_float(d[0]), bf16_from_float(d[1])};
    if (type == DTYPE_ZERO4) {
        h[0] = half_from_float(d[0]);
        h[1] = (uint16_t)check_below(c, 17);
    }
    if (type == DTYPE_AFFINE4 || type == DTYPE_ZERO4) {
        memcpy(block, h, sizeof h);
    } else {
        memcpy(block, d, type == DTYPE_AFFINE8 ? 8 : 4);
    }
    for (int i = 4; type == DTYPE_FP8_E4M3 && i < 36; i++) { /* no NaN, and nothing infinite below */
        block[i] = (block[i] & 0x7f) == 0x7f ? 0x7e : block[i];
    }
    for (int i = 4; type == DTYPE_FP8_E5M2 && i < 36; i++) {
        block[i] = (block[i] & 0x7f) >= 0x7c ? 0x7b : block[i];
    }
}

void weights_fill(check *c, dtype type, weights_kind kind, uint8_t *dst, size_t n)
{
    const dtype_info *info = dtype_find(type);
    if (info->block_size == 1) {
        fill_float(c, type, kind, dst, n);
        return;
    }
    block_fields fields = fields_of(type);
    for (size_t i = 0; i < n / info->block_size; i++, dst += info->block_bytes) {
        for (uint32_t j = 0; j < info->block_bytes; j++) {
            dst[j] = kind == WEIGHTS_LOWEST ? 0 : kind == WEIGHTS_HIGHEST ? 0xff : (uint8_t)check_random(c);
        }
        for (int j = 0; j < fields.n_scales; j++) {
            dst[fields.scales + j] = (uint8_t)check_random(c);
        }
        for (int j = 0; j < 2 && fields.half[j] >= 0; j++) {
            uint16_t h = half_from_float(usual_scale(c));
            memcpy(dst + fields.half[j], &h, sizeof h);
        }
        if (type >= DTYPE_OWN) {
            fill_checkpoint_scales(c, type, dst);
        } else if (type == DTYPE_MXFP4) { /* a power of two */
            dst[0] = (uint8_t)(112 + check_below(c, 10));
        } else if (type == DTYPE_IQ1_M) { /* a half in the top nibbles of four words */
            uint16_t h = half_from_float(usual_scale(c));
            for (int j = 0; j < 4; j++) {
                dst[49 + 2 * j] = (uint8_t)((dst[49 + 2 * j] & 15) | (h >> 4 * j & 15) << 4);
            }
        }
        if (type == DTYPE_Q8_K) { /* f32 scale, 256 bytes, 16 sums of 16 */
            float d = usual_scale(c);
            memcpy(dst, &d, sizeof d);
            for (int g = 0; g < 16; g++) {
                int16_t sum = 0;
                for (int j = 0; j < 16; j++) {
                    sum = (int16_t)(sum + (int8_t)dst[4 + 16 * g + j]);
                }
                memcpy(dst + 260 + 2 * g, &sum, sizeof sum);
            }
        }
        if (kind == WEIGHTS_ZERO || (kind == WEIGHTS_SPARSE && check_below(c, 4))) {
            memset(dst, 0, info->block_bytes);
        }
    }
}

void weights_magnitude(dtype type, const uint8_t *src, float *magnitude, size_t n)
{
    const dtype_info *info = dtype_find(type);
    codec_decode(type, src, magnitude, n);
    block_fields fields = fields_of(type);
    uint8_t block[512];
    float values[256];
    for (size_t i = 0; i < n; i++) {
        magnitude[i] = fabsf(magnitude[i]);
    }
    for (size_t i = 0; (type == DTYPE_AFFINE4 || type == DTYPE_ZERO4 || type == DTYPE_AFFINE8) && i < n; i++) {
        const uint8_t *at = src + i / info->block_size * info->block_bytes;
        uint16_t h[2];
        float d[2];
        memcpy(h, at, sizeof h);
        memcpy(d, at, sizeof d);
        if (type != DTYPE_AFFINE8) {
            d[0] = type == DTYPE_ZERO4 ? half_to_float(h[0]) : bf16_to_float(h[0]);
            d[1] = type == DTYPE_ZERO4 ? d[0] * h[1] : bf16_to_float(h[1]);
        }
        magnitude[i] = fabsf(d[0]) * (type == DTYPE_AFFINE8 ? 255.0f : 15.0f) + fabsf(d[1]);
    }
    for (size_t i = 0; fields.half[0] >= 0 && i < n; i += info->block_size, src += info->block_bytes) {
        float ends[2][256];
        for (int high = 0; high < 2; high++) {
            memset(block, high ? 0xff : 0, info->block_bytes);
            memcpy(block + fields.scales, src + fields.scales, (size_t)fields.n_scales);
            for (int j = 0; j < 2 && fields.half[j] >= 0; j++) {
                memcpy(block + fields.half[j], src + fields.half[j], 2);
            }
            codec_decode(type, block, values, info->block_size);
            memcpy(ends[high], values, sizeof values);
        }
        for (uint32_t j = 0; j < info->block_size; j++) {
            float reach = fmaxf(fabsf(ends[1][j] - ends[0][j]), fmaxf(fabsf(ends[0][j]), fabsf(ends[1][j])));
            magnitude[i + j] = fmaxf(magnitude[i + j], reach);
        }
    }
}
