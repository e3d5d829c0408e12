/*
 * IEEE half and bfloat16 conversions in portable C: round to nearest even, NaN kept, subnormals exact.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_QUANT_HALF_H
#define MLXR_QUANT_HALF_H

#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t float_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = h >> 10 & 0x1f;
    uint32_t fraction = h & 0x3ff;
    if (exponent == 0) { /* zero and subnormals: fraction × 2⁻²⁴ is exact in a float */
        return float_from_bits(sign | float_to_bits((float)fraction * 0x1p-24f));
    }
    if (exponent == 31) {
        return float_from_bits(sign | 0x7f800000u | fraction << 13);
    }
    return float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline uint16_t half_from_float(float f)
{
    uint32_t bits = float_to_bits(f);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    }
    if (magnitude >= 0x477ff000u) { /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude < 0x38800000u) { /* subnormal result: adding 0.5 lets the FPU round at 2⁻²⁴ */
        uint32_t rounded = float_to_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | rounded);
    }
    uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfff + odd) >> 13);
}

static inline float bf16_to_float(uint16_t b)
{
    return float_from_bits((uint32_t)b << 16);
}

static inline uint16_t bf16_from_float(float f)
{
    uint32_t bits = float_to_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40);
    }
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
