/*
 * Decoding of formats with tables. Layouts and tables are ggml's; decoding is bit-exact with PyPI `gguf`.
 * Owner: none. Lifetime: the call. Any thread.
 */
#include "quant/codec_table.h"

#include "base/checked.h"
#include "quant/codec_checkpoint.h"
#include "quant/codec_grids.h"
#include "quant/half.h"

/* IQ4: steps that widen with the distance from 0, as weights lie. */
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
/* E2M1, twice: sign, two bits of exponent, one of fraction (Open Compute's Microscaling Formats 1.0). */
static const int8_t e2m1_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const uint8_t iq2_values[4] = {8, 25, 43, 0};
static const uint8_t iq3_xxs_values[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const uint8_t iq3_s_values[8] = {1, 3, 5, 7, 9, 11, 13, 15};

static float load_half(const uint8_t *at)
{
    return half_to_float(load_u16le(at));
}

/* n weights from n / 2 bytes: the first half of them in the low nibbles. */
static void nibbles(float scale, const int8_t *values, const uint8_t *bytes, float *dst, unsigned n)
{
    for (unsigned i = 0; i < n / 2; i++) {
        dst[i] = scale * (float)values[bytes[i] & 15];
        dst[i + n / 2] = scale * (float)values[bytes[i] >> 4];
    }
}

/* Half of 2^(e − 127); the least two are subnormal. */
static float e8m0_half(uint8_t e)
{
    return float_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* Half of an E4M3 without a sign; 0x7f, NaN elsewhere, counts as 0 as in the reference. */
static float ue4m3_half(uint8_t x)
{
    unsigned exponent = x >> 3 & 15, fraction = x & 7;
    if (x == 0 || x == 0x7f) {
        return 0.0f;
    }
    return exponent == 0 ? (float)fraction * 0x1p-10f
                         : (float)(8 + fraction) * float_from_bits((exponent + 127 - 11) << 23);
}

static void decode_iq4_xs(const uint8_t *b, float *dst)
{
    float d = load_half(b);
    unsigned high = load_u16le(b + 2);
    for (unsigned g = 0; g < 8; g++) {
        unsigned low = b[4 + g / 2] >> g % 2 * 4 & 15, scale = low | (high >> 2 * g & 3) << 4;
        nibbles(d * (float)((int)scale - 32), iq4_values, b + 8 + 16 * g, dst + 32 * g, 32);
    }
}

static void decode_nvfp4(const uint8_t *b, float *dst)
{
    for (unsigned g = 0; g < 4; g++) {
        nibbles(ue4m3_half(b[g]), e2m1_values, b + 4 + 8 * g, dst + 16 * g, 16);
    }
}

/* ---- three values ---- */

/* n numbers of 0, 1, 2: `digits` of base 3 a byte, the most significant first, each n_run bytes' in turn. The byte is a
 * fraction of 256: times 3, what passes 256 is the digit. */
static void trits(float d, const uint8_t *bytes, unsigned n_run, unsigned digits, float *dst)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    for (unsigned k = 0; k < digits; k++) {
        for (unsigned i = 0; i < n_run; i++) {
            uint8_t rest = (uint8_t)(bytes[i] * powers[k]);
            dst[k * n_run + i] = d * (float)((int)(rest * 3u >> 8) - 1);
        }
    }
}

static void decode_tq1_0(const uint8_t *b, float *dst)
{
    float d = load_half(b + 52);
    trits(d, b, 32, 5, dst);
    trits(d, b + 32, 16, 5, dst + 160);
    trits(d, b + 48, 4, 4, dst + 240);
}

static void decode_tq2_0(const uint8_t *b, float *dst)
{
    float d = load_half(b + 64);
    for (unsigned i = 0; i < 256; i++) {
        unsigned q = b[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        dst[i] = d * (float)((int)q - 1);
    }
}

/* ---- grids ---- */

/* Bit i of the result: whether coordinate i is negative. Seven are stored; an even number of eight is. */
static unsigned even_signs(unsigned seven)
{
    return seven | (unsigned)(__builtin_popcount(seven) & 1) << 7;
}

static void point8(float scale, unsigned point, unsigned signs, float *dst)
{
    for (unsigned i = 0; i < 8; i++) {
        float value = scale * (float)iq2_values[point >> 2 * i & 3];
        dst[i] = signs >> i & 1 ? -value : value;
    }
}

static void point4(float scale, const uint8_t *values, unsigned point, unsigned signs, float *dst)
{
    for (unsigned i = 0; i < 4; i++) {
        float value = scale * (float)values[point >> 3 * i & 7];
        dst[i] = signs >> i & 1 ? -value : value;
    }
}

static void decode_iq2_xxs(const uint8_t *b, float *dst)
{
    float d = load_half(b);
    for (unsigned g = 0; g < 8; g++) {
        const uint8_t *at = b + 2 + 8 * g;
        uint32_t rest = load_u32le(at + 4);
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.25f;
        for (unsigned k = 0; k < 4; k++) {
            point8(scale, codec_grid_iq2_xxs[at[k]], even_signs(rest >> 7 * k & 127), dst + 32 * g + 8 * k);
        }
    }
}

static void decode_iq2_xs(const uint8_t *b, float *dst)
{
    float d = load_half(b);
    for (unsigned k = 0; k < 32; k++) {
        unsigned q = load_u16le(b + 2 + 2 * k), s = b[66 + k / 4] >> k / 2 % 2 * 4 & 15;
        point8(d * (0.5f + (float)s) * 0.25f, codec_grid_iq2_xs[q & 511], even_signs(q >> 9), dst + 8 * k);
    }
}

static void decode_iq2_s(const uint8_t *b, float *dst)
{
    float d = load_half(b);
    for (unsigned k = 0; k < 32; k++) {
        unsigned high = b[66 + k / 4] >> k % 4 * 2 & 3, s = b[74 + k / 4] >> k / 2 % 2 * 4 & 15;
        point8(d * (0.5f + (float)s) * 0.25f, codec_grid_iq2_s[b[2 + k] | high << 8], b[34 + k], dst + 8 * k);
    }
}

static void decode_iq3_xxs(const uint8_t *b, float *dst)
{
    float d = load_half(b);
    for (unsigned g = 0; g < 8; g++) {
        uint32_t rest = load_u32le(b + 66 + 4 * g);
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
        for (unsigned k = 0; k < 8; k++) {
            unsigned signs = even_signs(rest >> 7 * (k / 2) & 127) >> k % 2 * 4;
            point4(scale, iq3_xxs_values, codec_grid_iq3_xxs[b[2 + 8 * g + k]], signs, dst + 32 * g + 4 * k);
        }
    }
}

static void decode_iq3_s(const uint8_t *b, float *dst)
{
    float d = load_half(b);
    for (unsigned k = 0; k < 64; k++) {
        unsigned index = b[2 + k] | (b[66 + k / 8] >> k % 8 & 1) << 8, s = b[106 + k / 16] >> k / 8 % 2 * 4 & 15;
        point4(d * (float)(1 + 2 * s), iq3_s_values, codec_grid_iq3_s[index], b[74 + k / 2] >> k % 2 * 4, dst + 4 * k);
    }
}

/* Points of −1, 0, 1, all moved by an eighth up or down. */
static void point_iq1(float scale, unsigned point, float delta, float *dst)
{
    for (unsigned i = 0; i < 8; i++) {
        dst[i] = scale * ((float)((int)(point >> 2 * i & 3) - 1) + delta);
    }
}

static void decode_iq1_s(const uint8_t *b, float *dst)
{
    float d = load_half(b);
    for (unsigned g = 0; g < 8; g++) {
        unsigned high = load_u16le(b + 34 + 2 * g);
        float scale = d * (float)(2 * (high >> 12 & 7) + 1), delta = high & 0x8000 ? -0.125f : 0.125f;
        for (unsigned k = 0; k < 4; k++) {
            unsigned index = b[2 + 4 * g + k] | (high >> 3 * k & 7) << 8;
            point_iq1(scale, codec_grid_iq1_s[index], delta, dst + 32 * g + 8 * k);
        }
    }
}

/* The block's factor lies in the top nibbles of four words, above scales of three bits for 16 weights each. */
static void decode_iq1_m(const uint8_t *b, float *dst)
{
    const uint8_t *scales = b + 48;
    unsigned half = 0;
    for (unsigned i = 0; i < 4; i++) {
        half |= (load_u16le(scales + 2 * i) >> 12 & 15u) << 4 * i;
    }
    float d = half_to_float((uint16_t)half);
    for (unsigned k = 0; k < 32; k++) {
        unsigned high = b[32 + k / 2] >> k % 2 * 4 & 15, group = k / 2;
        unsigned s = load_u16le(scales + group / 4 * 2) >> group % 4 * 3 & 7;
        point_iq1(d * (float)(2 * s + 1), codec_grid_iq1_s[b[k] | (high & 7) << 8], high & 8 ? -0.125f : 0.125f,
                  dst + 8 * k);
    }
}

const int8_t *codec_table_values(dtype type)
{
    return type == DTYPE_IQ4_NL || type == DTYPE_IQ4_XS ? iq4_values : type == DTYPE_MXFP4 ? e2m1_values : NULL;
}

bool codec_table_has(dtype type)
{
    switch (type) {
    case DTYPE_IQ1_S:
    case DTYPE_IQ1_M:
    case DTYPE_IQ2_XXS:
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
    case DTYPE_IQ3_XXS:
    case DTYPE_IQ3_S:
    case DTYPE_IQ4_NL:
    case DTYPE_IQ4_XS:
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0:
    case DTYPE_MXFP4:
    case DTYPE_NVFP4:
        return true;
    default:
        return type >= DTYPE_OWN;
    }
}

void codec_table_decode(dtype type, const uint8_t *block, float *dst)
{
    switch (type) {
    case DTYPE_IQ1_S:
        decode_iq1_s(block, dst);
        break;
    case DTYPE_IQ1_M:
        decode_iq1_m(block, dst);
        break;
    case DTYPE_IQ2_XXS:
        decode_iq2_xxs(block, dst);
        break;
    case DTYPE_IQ2_XS:
        decode_iq2_xs(block, dst);
        break;
    case DTYPE_IQ2_S:
        decode_iq2_s(block, dst);
        break;
    case DTYPE_IQ3_XXS:
        decode_iq3_xxs(block, dst);
        break;
    case DTYPE_IQ3_S:
        decode_iq3_s(block, dst);
        break;
    case DTYPE_IQ4_NL:
        nibbles(load_half(block), iq4_values, block + 2, dst, 32);
        break;
    case DTYPE_IQ4_XS:
        decode_iq4_xs(block, dst);
        break;
    case DTYPE_TQ1_0:
        decode_tq1_0(block, dst);
        break;
    case DTYPE_TQ2_0:
        decode_tq2_0(block, dst);
        break;
    case DTYPE_MXFP4:
        nibbles(e8m0_half(block[0]), e2m1_values, block + 1, dst, 32);
        break;
    case DTYPE_NVFP4:
        decode_nvfp4(block, dst);
        break;
    default:
        codec_checkpoint_decode(type, block, dst);
        break;
    }
}
