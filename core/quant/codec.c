/*
 * Decoding of every weight format to floats.
 * Owner: none. Lifetime: the call. Any thread.
 */
#include "quant/codec.h"

#include "base/checked.h"
#include "quant/codec_layout.h"
#include "quant/codec_table.h"
#include "quant/half.h"

static float load_half(const uint8_t *at)
{
    return half_to_float(load_u16le(at));
}

/* Scale and min of each group as floats; the multiplications are those of the reference, in its order. */
static void decode_scales(dtype type, const codec_layout *layout, const uint8_t *block, float *scale, float *min)
{
    float d = load_half(block + layout->d), dmin = layout->dmin ? load_half(block + layout->dmin) : 0.0f;
    if (!layout->scale_top) {
        scale[0] = d;
        min[0] = layout->dmin ? -dmin : 0.0f; /* Q4_1 and Q5_1 store what is added */
        return;
    }
    int scales[CODEC_GROUPS_MAX] = {0}, mins[CODEC_GROUPS_MAX] = {0};
    codec_scales_get(type, block, scales, mins);
    for (unsigned g = 0; g < layout->n / layout->group; g++) {
        scale[g] = d * (float)scales[g];
        min[g] = layout->dmin ? dmin * (float)mins[g] : 0.0f;
    }
}

static void decode_block(dtype type, const codec_layout *layout, const uint8_t *block, float *dst)
{
    uint8_t q[CODEC_BLOCK_MAX];
    float scale[CODEC_GROUPS_MAX], min[CODEC_GROUPS_MAX];
    decode_scales(type, layout, block, scale, min);
    codec_planes_get(layout, block, q);
    for (unsigned g = 0, i = 0; i < layout->n; g++) {
        for (unsigned end = i + layout->group; i < end; i++) {
            /* subtracting +0 changes no float, so formats without a min need no case of their own */
            dst[i] = scale[g] * (float)((int)q[i] - layout->zero) - min[g];
        }
    }
}

static void decode_bytes(float d, const uint8_t *q, float *dst, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        dst[i] = d * (float)(int8_t)q[i];
    }
}

/* Types of one weight a block. */
static void decode_plain(dtype type, const uint8_t *bytes, float *dst, size_t n)
{
    if (type == DTYPE_F32) {
        for (size_t i = 0; i < n; i++) {
            dst[i] = float_from_bits(load_u32le(bytes + 4 * i));
        }
    } else if (type == DTYPE_F16) {
        for (size_t i = 0; i < n; i++) {
            dst[i] = load_half(bytes + 2 * i);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            dst[i] = bf16_to_float(load_u16le(bytes + 2 * i));
        }
    }
}

void codec_decode(dtype type, const void *src, float *dst, size_t n)
{
    const uint8_t *bytes = src;
    const dtype_info *info = dtype_find(type);
    if (info->block_size == 1) {
        decode_plain(type, bytes, dst, n);
        return;
    }
    for (size_t i = 0; i < n; i += info->block_size, bytes += info->block_bytes) {
        switch (type) {
        case DTYPE_Q8_0:
            decode_bytes(load_half(bytes), bytes + 2, dst + i, 32);
            break;
        case DTYPE_Q8_K: /* 16 partial sums follow; they are for dot products */
            decode_bytes(float_from_bits(load_u32le(bytes)), bytes + 4, dst + i, 256);
            break;
        default:
            if (codec_table_has(type)) {
                codec_table_decode(type, bytes, dst + i);
                break;
            }
            decode_block(type, codec_layout_of(type), bytes, dst + i);
            break;
        }
    }
}

uint32_t codec_affine_group(dtype type)
{
    if (dtype_find((uint32_t)type)->block_size == 1 || codec_table_has(type)) {
        return 0;
    }
    const codec_layout *layout = codec_layout_of(type);
    return layout->n ? layout->group : 32; /* Q8_K has one scale for 256 weights; it is repeated */
}

uint32_t codec_affine_bits(dtype type)
{
    const codec_layout *layout = codec_layout_of(type);
    return layout->n ? (uint32_t)layout->low.bits + layout->high.bits : 8;
}

/* Bytes with a sign: 128 is added to each and taken off again by the bias. */
static void affine_bytes(float d, const uint8_t *bytes, unsigned n, uint8_t *q, float *scales, float *biases)
{
    for (unsigned i = 0; i < n; i++) {
        q[i] = bytes[i] ^ 0x80;
    }
    for (unsigned g = 0; g < n / 32; g++) {
        scales[g] = d;
        biases[g] = -128.0f * d;
    }
}

void codec_affine(dtype type, const void *block, uint8_t *q, float *scales, float *biases)
{
    const uint8_t *bytes = block;
    const codec_layout *layout = codec_layout_of(type);
    if (type == DTYPE_Q8_0) {
        affine_bytes(load_half(bytes), bytes + 2, 32, q, scales, biases);
    } else if (type == DTYPE_Q8_K) {
        affine_bytes(float_from_bits(load_u32le(bytes)), bytes + 4, 256, q, scales, biases);
    } else {
        float mins[CODEC_GROUPS_MAX];
        decode_scales(type, layout, bytes, scales, mins);
        codec_planes_get(layout, bytes, q);
        for (unsigned g = 0; g < layout->n / layout->group; g++) {
            biases[g] = scales[g] * (float)-layout->zero - mins[g];
        }
    }
}
