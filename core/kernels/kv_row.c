/*
 * Rows of a quantised KV cache, by definition.
 * Owner: none. Lifetime: the call. Any thread.
 */
#include "kernels/kv_row.h"

#include <math.h>
#include <string.h>

#include "quant/codec.h"

void kv_turn_scalar(float *x, uint32_t n, uint32_t length, float factor)
{
    for (uint32_t half = 1; half < length; half *= 2) {
        for (uint32_t i = 0; i < n; i += 2 * half) {
            for (uint32_t j = i; j < i + half; j++) {
                float a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        x[i] *= factor;
    }
}

/* The largest magnitude in x[KV_BLOCK]; false if it has a NaN or an infinity. */
static bool block_top(const float *x, float *top)
{
    float bad = 0;
    *top = 0;
    for (uint32_t i = 0; i < KV_BLOCK; i++) {
        *top = fabsf(x[i]) > *top ? fabsf(x[i]) : *top;
        bad += x[i] - x[i];
    }
    return bad == 0;
}

static float nearest(float x, float lowest, float highest)
{
    float q = rintf(x);
    q = q < lowest ? lowest : q;
    return q > highest ? highest : q;
}

static void encode_q8(const float *x, uint8_t *block)
{
    float top;
    if (!block_top(x, &top)) {
        kv_block_nan(block, 34);
        return;
    }
    float inverse = kv_block_scale(block, top / 127.0f);
    for (uint32_t i = 0; i < KV_BLOCK; i++) {
        block[2 + i] = (uint8_t)(int8_t)nearest(x[i] * inverse, -127.0f, 127.0f);
    }
}

/* The scale that comes near the smallest squared error. With whole numbers q the best one is Σ xq / Σ q², and what it
 * leaves is Σ x² − (Σ xq)² / Σ q²; the q of each try are judged by that. */
static float fit_q4(const float *x, float top)
{
    float fine[KV_BLOCK], high = 0, low = 0, best = 0, scale = 0;
    for (uint32_t i = 0; i < KV_BLOCK; i++) {
        fine[i] = rintf(x[i] * (KV_FINE_TOP / top));
        high = fine[i] > high ? fine[i] : high;
        low = fine[i] < low ? fine[i] : low;
    }
    float side = high > -low ? -1.0f : 1.0f; /* of the scale: the largest shall be negative, there is one q more */
    for (uint32_t t = 0; t < KV_Q4_TRIES; t++) {
        float steps = side * (kv_q4_levels[t] / KV_FINE_TOP), xq = 0, qq = 0;
        for (uint32_t i = 0; i < KV_BLOCK; i++) {
            float q = nearest(fine[i] * steps, -8.0f, 7.0f);
            xq += fine[i] * q;
            qq += q * q;
        }
        float merit = xq * xq / qq;
        if (merit > best) {
            best = merit;
            scale = xq / qq;
        }
    }
    return scale * (top / KV_FINE_TOP);
}

static void encode_q4(const float *x, uint8_t *block)
{
    float top;
    uint8_t q[KV_BLOCK];
    if (!block_top(x, &top)) {
        kv_block_nan(block, 18);
        return;
    }
    float inverse = kv_block_scale(block, top < KV_LEAST ? 0 : fit_q4(x, top));
    for (uint32_t i = 0; i < KV_BLOCK; i++) {
        q[i] = (uint8_t)(int)(nearest(x[i] * inverse, -8.0f, 7.0f) + 8.0f);
    }
    for (uint32_t i = 0; i < KV_BLOCK / 2; i++) {
        block[2 + i] = (uint8_t)(q[i] | q[i + KV_BLOCK / 2] << 4);
    }
}

void kv_row_encode_scalar(dtype type, const float *src, uint8_t *dst, uint32_t n)
{
    float x[KV_TURN_MAX];
    uint32_t length = kv_turn_length(type, n);
    for (uint32_t at = 0; at < n; at += length) {
        memcpy(x, src + at, length * sizeof *x);
        kv_turn_scalar(x, length, length, kv_turn_factor(length));
        for (uint32_t i = 0; i < length; i += KV_BLOCK, dst += dtype_row_bytes(type, KV_BLOCK)) {
            if (type == DTYPE_Q8_0) {
                encode_q8(x + i, dst);
            } else {
                encode_q4(x + i, dst);
            }
        }
    }
}

void kv_row_decode(dtype type, const uint8_t *src, float *dst, uint32_t n)
{
    codec_decode(type, src, dst, n);
    uint32_t length = kv_turn_length(type, n);
    for (uint32_t at = 0; length && at < n; at += length) {
        double x[KV_TURN_MAX], sums[KV_TURN_MAX];
        for (uint32_t i = 0; i < length; i++) {
            x[i] = dst[at + i];
        }
        for (uint32_t half = 1; half < length; half *= 2) {
            for (uint32_t i = 0; i < length; i++) {
                sums[i] = i & half ? x[i - half] - x[i] : x[i] + x[i + half];
            }
            memcpy(x, sums, length * sizeof *x);
        }
        for (uint32_t i = 0; i < length; i++) {
            dst[at + i] = (float)(x[i] * kv_turn_back_factor(length));
        }
    }
}
