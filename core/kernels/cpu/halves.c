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
    UPPER_MOST = 119,        /* 16 × 7 + 7: more is not in reach of four bits below */
    SIXTEEN = 4 << 10,       /* a factor of 16 in the exponent of a half */
    PLACES_END = 0xffff,
};

#define ROUNDED_UP (1 + 0x1p-14) /* above 32 + n_in / 32 roundings of floats */

static uint16_t read_half(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return h;
}

/* 16 times a scale ≥ 0; false: there is no such half. */
static bool times_sixteen(uint16_t scale, uint16_t *out)
{
    float times = 16 * half_to_float(scale);
    *out = half_from_float(times);
    return scale < 0x7c00 && *out < 0x7c00; /* exact: what is too small to be normal has bits to spare */
}

static uint16_t sixteenth(uint16_t scale)
{
    return scale >= SIXTEEN + 0x400 ? (uint16_t)(scale - SIXTEEN) : half_from_float(half_to_float(scale) / 16);
}

/* Integers that four bits below do not reach, with either sign. */
static bool turns(const int8_t *q)
{
    int above = 0, below = 0;
    for (int i = 0; i < BLOCK; i++) {
        above += q[i] > UPPER_MOST;
        below += q[i] < -UPPER_MOST;
    }
    return above > below;
}

bool halves_split(const uint8_t *row, uint32_t n_in, uint8_t *upper, uint8_t *lower)
{
    uint16_t places[HALVES_ODD];
    uint32_t n = 0;
    uint8_t *scales = upper + n_in / 2;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += WHOLE_BYTES, upper += HALF, lower += HALF) {
        const int8_t *q = (const int8_t *)row + 2;
        uint8_t up[BLOCK], low[BLOCK];
        uint16_t scale;
        bool turned = turns(q), whole = times_sixteen(read_half(row), &scale);
        int most = 0;
        for (int i = 0; i < BLOCK; i++) {
            int value = turned ? -q[i] : q[i], u = (value + 8) >> 4;
            u = u > 7 ? 7 : u;
            up[i] = (uint8_t)(u + 8);
            low[i] = (uint8_t)(value - 16 * u + 8);
            most = low[i] > most ? low[i] : most;
            whole = whole && q[i] != -128;
        }
        for (int i = 0; i < BLOCK && most > 15; i++) {
            if (low[i] > 15) {
                if (n == HALVES_ODD) {
                    return false;
                }
                places[n++] = (uint16_t)(b * BLOCK + (uint32_t)i);
            }
        }
        if (!whole) {
            return false;
        }
        scale = turned ? (uint16_t)(scale | 0x8000) : scale;
        memcpy(scales + b * sizeof scale, &scale, sizeof scale);
        for (int i = 0; i < HALF; i++) {
            upper[i] = (uint8_t)(up[i] | up[i + HALF] << 4);
            lower[i] = (uint8_t)((low[i] & 15) | (low[i + HALF] & 15) << 4);
        }
    }
    for (; n < HALVES_ODD; n++) {
        places[n] = PLACES_END;
    }
    memcpy(lower, places, sizeof places);
    return true;
}

void halves_join(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint8_t *row)
{
    uint8_t *begin = row;
    const uint8_t *scales = upper + n_in / 2;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += WHOLE_BYTES, upper += HALF, lower += HALF) {
        uint16_t scale = read_half(scales + b * sizeof scale), whole = sixteenth(scale & 0x7fff);
        uint8_t turned = scale & 0x8000 ? 0xff : 0, *q = row + 2;
        memcpy(row, &whole, sizeof whole);
        for (int i = 0; i < HALF; i++) { /* modulo 256: 16 (u − 8) + (l − 8) */
            uint8_t u = upper[i], l = lower[i];
            uint8_t near = (uint8_t)((uint8_t)(u << 4 | (l & 15)) + 120);
            uint8_t far = (uint8_t)((uint8_t)((u & 0xf0) | l >> 4) + 120);
            q[i] = (uint8_t)((near ^ turned) - turned);
            q[i + HALF] = (uint8_t)((far ^ turned) - turned);
        }
    }
    for (uint32_t i = 0; i < HALVES_ODD; i++) {
        uint16_t place = read_half(lower + i * sizeof place);
        if (place == PLACES_END) {
            break;
        }
        uint32_t b = place / BLOCK;
        bool turned = read_half(scales + b * sizeof place) & 0x8000;
        uint8_t *at = begin + (size_t)b * WHOLE_BYTES + 2 + place % BLOCK;
        *at = (uint8_t)(*at + (turned ? -16 : 16));
    }
}

float halves_rest(const uint8_t *row, const uint8_t *upper, uint32_t n_in, const float *squares, float *length)
{
    const uint8_t *scales = upper + n_in / 2;
    double rest = 0, whole = 0;
    for (uint32_t b = 0; b < n_in / BLOCK; b++, row += WHOLE_BYTES, upper += HALF, squares += BLOCK) {
        const int8_t *q = (const int8_t *)row + 2;
        double d = half_to_float(read_half(row));
        int sign = read_half(scales + 2 * b) & 0x8000 ? -16 : 16, sum = 0;
        float weighted = 0;
        for (int i = 0; i < HALF; i++) {
            int low = q[i] - sign * ((upper[i] & 15) - 8), high = q[i + HALF] - sign * ((upper[i] >> 4) - 8);
            weighted += (float)(low * low) * squares[i] + (float)(high * high) * squares[i + HALF];
            sum += q[i] * q[i] + q[i + HALF] * q[i + HALF];
        }
        rest += d * d * (double)weighted;
        whole += d * d * sum;
    }
    *length = (float)(sqrt(whole) * ROUNDED_UP);
    return (float)(sqrt(rest) * ROUNDED_UP);
}

static uint32_t padded_blocks(uint32_t n_in)
{
    return (n_in / BLOCK + HALVES_STEP - 1) / HALVES_STEP * HALVES_STEP;
}

size_t halves_input_bytes(uint32_t n_in)
{
    return padded_blocks(n_in) * (4 * HALF + 4 * sizeof(int32_t) + 4 * sizeof(float));
}

halves_input halves_input_make(const linear_input *packed, void *memory)
{
    uint32_t n = padded_blocks(packed->n_in);
    halves_input in = {.n_blocks = n, .digits = memory};
    in.sums = (int32_t *)(void *)(in.digits + (size_t)n * 4 * HALF);
    in.units = (float *)(void *)(in.sums + (size_t)n * 4);
    memset(memory, 0, halves_input_bytes(packed->n_in));
    q16_place at = q16_find(packed, 0);
    for (uint32_t b = 0; b < packed->n_in / BLOCK; b++) {
        const uint8_t *digits = at.q + b * at.record, *words = at.words + b * at.record;
        int32_t sum;
        float unit;
        memcpy(&unit, words + Q16_UNIT * at.word, sizeof unit);
        memcpy(&sum, words + Q16_MINUS_SUM * at.word, sizeof sum);
        for (uint32_t i = 0; i < 4; i++) {
            memcpy(in.digits + (i * n + b) * HALF, digits + i * HALF, HALF);
            in.units[4 * b + i] = unit;
        }
        in.sums[4 * b] = 8 * sum;
    }
    return in;
}

float halves_odd(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, const halves_input *input)
{
    float sum = 0;
    for (uint32_t i = 0; i < HALVES_ODD; i++) {
        uint16_t place = read_half(lower + n_in / 2 + i * sizeof place);
        if (place == PLACES_END) {
            break;
        }
        uint32_t b = place / BLOCK, k = place % BLOCK;
        const int8_t *digit = input->digits + (k / HALF * input->n_blocks + b) * (size_t)HALF + k % HALF;
        int value = 256 * digit[0] + digit[2 * input->n_blocks * (size_t)HALF];
        float scale = half_to_float(read_half(upper + n_in / 2 + b * sizeof place));
        sum += scale * input->units[4 * b] * (float)value;
    }
    return sum;
}
