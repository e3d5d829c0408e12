/*
 * Rows of Q8_0 in two parts; see halves.h.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/halves.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/quantize_act.h"
#include "quant/half.h"

enum {
    BLOCK = 32,
    HALF = 16,               /* bytes of a block's integers in either part */
    WHOLE_BYTES = 2 + BLOCK, /* of a block of the row */
    LANE = 4,                /* bytes */
    SIGN = 0x80,             /* q + 128 modulo 256 is q with this bit turned */
};

void halves_split(const uint8_t *row, uint32_t n_in, uint8_t *upper, uint8_t *lower)
{
    uint8_t *scales = upper + n_in / 2;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += WHOLE_BYTES, upper += HALF, lower += HALF) {
        const uint8_t *first = row + 2, *last = first + HALF;
        memcpy(scales + 2 * b, row, 2);
        for (int i = 0; i < HALF; i++) {
            uint8_t near = first[i] ^ SIGN, far = last[i] ^ SIGN;
            upper[i] = (uint8_t)(near >> 4 | (far & 0xf0));
            lower[i] = (uint8_t)((near & 15) | far << 4);
        }
    }
}

void halves_join(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint8_t *row)
{
    const uint8_t *scales = upper + n_in / 2;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += WHOLE_BYTES, upper += HALF, lower += HALF) {
        memcpy(row, scales + 2 * b, 2);
        for (int i = 0; i < HALF; i++) {
            row[2 + i] = (uint8_t)(upper[i] << 4 | (lower[i] & 15)) ^ SIGN;
            row[2 + HALF + i] = (uint8_t)((upper[i] & 0xf0) | lower[i] >> 4) ^ SIGN;
        }
    }
}

halves_lengths halves_measure(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, const float *squares)
{
    const uint8_t *scales = upper + n_in / 2;
    double rest = 0, whole = 0, part = 0;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, upper += HALF, lower += HALF, squares += BLOCK) {
        uint16_t scale;
        memcpy(&scale, scales + 2 * b, sizeof scale);
        double d = half_to_float(scale);
        int wholes = 0, parts = 0;
        float weighted = 0;
        for (int i = 0; i < HALF; i++) {
            int near = (lower[i] & 15) - 8, far = (lower[i] >> 4) - 8;
            int up = 16 * (upper[i] & 15) - 120, higher = 16 * (upper[i] >> 4) - 120;
            weighted += (float)(near * near) * squares[i] + (float)(far * far) * squares[i + HALF];
            parts += up * up + higher * higher;
            wholes += (up + near) * (up + near) + (higher + far) * (higher + far);
        }
        rest += d * d * (double)weighted;
        whole += d * d * wholes;
        part += d * d * parts;
    }
    return (halves_lengths){.rest = (float)(sqrt(rest) * HALVES_ROUNDED_UP),
                            .parts = (float)((sqrt(whole) + sqrt(part)) * HALVES_ROUNDED_UP)};
}

static uint32_t padded_blocks(uint32_t n_in)
{
    return (n_in / BLOCK + HALVES_STEP - 1) / HALVES_STEP * HALVES_STEP;
}

size_t halves_input_bytes(uint32_t n_in)
{
    return padded_blocks(n_in) * (4 * HALF + 3 * 4 * sizeof(int32_t) + 4 * sizeof(float));
}

halves_input halves_input_make(const linear_input *packed, void *memory)
{
    uint32_t n = padded_blocks(packed->n_in);
    halves_input in = {.n_blocks = n, .digits = memory};
    in.minus = (int32_t *)(void *)(in.digits + (size_t)n * 4 * HALF);
    in.minus_upper = in.minus + (size_t)n * 4;
    in.minus_whole = in.minus_upper + (size_t)n * 4;
    in.units = (float *)(void *)(in.minus_whole + (size_t)n * 4);
    memset(memory, 0, halves_input_bytes(packed->n_in));
    q16_place at = q16_find(packed, 0);
    for (uint32_t b = 0; b < packed->n_in / BLOCK; b++) {
        const int8_t *digits = (const int8_t *)at.q + b * at.record;
        float unit;
        memcpy(&unit, at.words + b * at.record + Q16_UNIT * at.word, sizeof unit);
        for (uint32_t i = 0; i < 4; i++) {
            memcpy(in.digits + (i * n + b) * HALF, digits + i * HALF, HALF);
            in.units[4 * b + i] = unit;
        }
        int32_t *minus = in.minus + 4 * b;
        for (uint32_t k = 0; k < BLOCK; k++) {
            minus[k % HALF / LANE] -= 256 * digits[k] + digits[BLOCK + k];
        }
        for (uint32_t i = 0; i < 4; i++) {
            in.minus_upper[4 * b + i] = 120 * (minus[0] + minus[1] + minus[2] + minus[3]);
            in.minus_whole[4 * b + i] = 128 * (minus[0] + minus[1] + minus[2] + minus[3]);
        }
    }
    return in;
}

halves_kernels halves_kernels_for(cpu_features features)
{
#if defined(__x86_64__)
    if (features & CPU_HALVES && features & CPU_AVX512_VNNI) { /* and so AVX2 */
        halves_kernels k = halves_kernels_avx512vnni;
        k.split = halves_kernels_avx2.split; /* memory is what they wait for */
        k.join = halves_kernels_avx2.join;
        return k;
    }
    if (features & CPU_HALVES && features & CPU_AVX2) {
        return halves_kernels_avx2;
    }
#else
    (void)features;
#endif
    return (halves_kernels){0};
}
