/*
 * Rows of a KV cache of type I16, by definition.
 * Owner: none. Lifetime: the call. Any thread.
 */
#include "kernels/kv_words.h"

#include <string.h>

float kv_words_encode_scalar(kv_words_kind kind, const float *src, uint32_t n, int16_t *words)
{
    float top = 0, bad = 0, factor, squares[KV_WORDS_LANES] = {0};
    for (uint32_t i = 0; i < n; i++) {
        top = fabsf(src[i]) > top ? fabsf(src[i]) : top;
        bad += src[i] - src[i];
    }
    memset(words, 0, n * sizeof *words);
    if (bad != 0) {
        return NAN;
    }
    if (top < KV_WORDS_LEAST) {
        return 0;
    }
    float inverse = 1.0f / top;
    for (uint32_t i = 0; i < n; i++) {
        float x = src[i] * inverse;
        squares[i % KV_WORDS_LANES] += x * x;
    }
    float scale = kv_words_scale(kind, top, squares, &factor);
    for (uint32_t i = 0; i < n; i++) {
        words[i] = (int16_t)rintf(src[i] * inverse * factor);
    }
    return scale;
}

void kv_words_put(kv_words_kind kind, const int16_t *words, float scale, uint8_t *part, uint32_t lane, uint32_t n)
{
    int16_t *to = (int16_t *)(void *)(part + lane / KV_HALF * kv_words_half(n));
    *kv_words_scale_at(part, n, lane) = scale;
    lane %= KV_HALF;
    if (kind == KV_WORDS_KEY) {
        for (uint32_t i = 0; i < n; i += 2) {
            memcpy(to + kv_words_at(kind, lane, i), words + i, 2 * sizeof *words);
        }
    } else {
        for (uint32_t i = 0; i < n; i++) {
            to[kv_words_at(kind, lane, i)] = words[i];
        }
    }
}

void kv_words_get(kv_words_kind kind, const uint8_t *part, uint32_t lane, float *dst, uint32_t n)
{
    const uint8_t *half = part + lane / KV_HALF * kv_words_half(n);
    const int16_t *from = (const int16_t *)(const void *)half;
    float scale;
    lane %= KV_HALF;
    memcpy(&scale, half + kv_words_bytes(n) + lane * sizeof scale, sizeof scale);
    for (uint32_t i = 0; i < n; i++) {
        dst[i] = scale * (float)from[kv_words_at(kind, lane, i)];
    }
}
