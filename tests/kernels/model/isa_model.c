/*
 * A software model of a few instructions: Intel SDM vol. 2 (VPDPBUSD, VPDPWSSD, VDPBF16PS, TDPBSSD, TDPBF16PS,
 * LDTILECFG). Owner: the calling thread's tiles. Lifetime: from the configuration to the release.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "isa_model.h"

typedef struct tile {
    uint32_t rows, row_bytes;
    uint8_t bytes[16][64];
} tile;

static _Thread_local tile tiles[8];
static _Thread_local bool configured;

static void fault(const char *what, int t)
{
    fprintf(stderr, "isa_model: %s, tile %d: the processor would have stopped here\n", what, t);
    abort();
}

static tile *tile_of(int t)
{
    if (!configured || t < 0 || t >= 8 || tiles[t].rows == 0) {
        fault("not configured", t);
    }
    return &tiles[t];
}

void model_tile_config(const void *config)
{
    uint8_t bytes[64];
    memcpy(bytes, config, sizeof bytes);
    for (int i = 2; i < 16; i++) {
        if (bytes[i]) {
            fault("a reserved byte is set", i);
        }
    }
    if (bytes[0] != 1 || bytes[1] != 0) {
        fault("not palette 1 from row 0", 0);
    }
    for (int t = 0; t < 16; t++) {
        uint16_t row_bytes;
        memcpy(&row_bytes, bytes + 16 + 2 * t, sizeof row_bytes);
        uint8_t rows = bytes[48 + t];
        if (row_bytes > 64 || rows > 16 || (row_bytes == 0) != (rows == 0) || (t >= 8 && rows)) {
            fault("a shape that does not exist", t);
        }
        if (t < 8) {
            tiles[t] = (tile){.rows = rows, .row_bytes = row_bytes};
        }
    }
    configured = true;
}

void model_tile_release(void)
{
    memset(tiles, 0, sizeof tiles);
    configured = false;
}

void model_tile_zero(int t)
{
    memset(tile_of(t)->bytes, 0, sizeof tiles[t].bytes);
}

void model_tile_load(int t, const void *base, size_t stride)
{
    tile *to = tile_of(t);
    memset(to->bytes, 0, sizeof to->bytes);
    for (uint32_t r = 0; r < to->rows; r++) {
        memcpy(to->bytes[r], (const uint8_t *)base + r * stride, to->row_bytes);
    }
}

void model_tile_store(int t, void *base, size_t stride)
{
    const tile *from = tile_of(t);
    for (uint32_t r = 0; r < from->rows; r++) {
        memcpy((uint8_t *)base + r * stride, from->bytes[r], from->row_bytes);
    }
}

/* sum[m][n] += Σ over k of words a[m][k] · b[k][n] */
static void check_shapes(const tile *sum, const tile *a, const tile *b, int t)
{
    if (sum == a || sum == b || a == b) {
        fault("a product of a tile with itself", t);
    }
    if (sum->rows != a->rows || sum->row_bytes != b->row_bytes || a->row_bytes != 4 * b->rows || sum->row_bytes % 4) {
        fault("shapes that do not fit", t);
    }
}

void model_tile_dpbssd(int s, int x, int y)
{
    tile *sum = tile_of(s);
    const tile *a = tile_of(x), *b = tile_of(y);
    check_shapes(sum, a, b, s);
    for (uint32_t m = 0; m < sum->rows; m++) {
        int32_t words[16];
        memcpy(words, sum->bytes[m], sizeof words);
        for (uint32_t k = 0; k < a->row_bytes; k++) {
            for (uint32_t n = 0; n < sum->row_bytes / 4; n++) {
                int32_t product = (int8_t)a->bytes[m][k] * (int8_t)b->bytes[k / 4][4 * n + k % 4];
                words[n] = (int32_t)((uint32_t)words[n] + (uint32_t)product);
            }
        }
        memcpy(sum->bytes[m], words, sizeof words);
    }
}

static float flushed(float f)
{
    return fabsf(f) < 0x1p-126f ? copysignf(0.0f, f) : f;
}

static float bf16_at(const uint8_t *p)
{
    uint16_t half;
    memcpy(&half, p, sizeof half);
    uint32_t bits = (uint32_t)half << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return flushed(f);
}

static float add_product(float sum, const uint8_t *a, const uint8_t *b)
{
    return flushed(fmaf(bf16_at(a), bf16_at(b), flushed(sum)));
}

/* The pseudocode adds the odd product first, both by fused multiply-adds. */
void model_tile_dpbf16ps(int s, int x, int y)
{
    tile *sum = tile_of(s);
    const tile *a = tile_of(x), *b = tile_of(y);
    check_shapes(sum, a, b, s);
    for (uint32_t m = 0; m < sum->rows; m++) {
        float words[16];
        memcpy(words, sum->bytes[m], sizeof words);
        for (uint32_t n = 0; n < sum->row_bytes / 4; n++) {
            float even = 0.0f, odd = 0.0f; /* summed apart, then together: SDM, TDPBF16PS */
            for (uint32_t k = 0; k < b->rows; k++) {
                even = add_product(even, a->bytes[m] + 4 * k, b->bytes[k] + 4 * n);
                odd = add_product(odd, a->bytes[m] + 4 * k + 2, b->bytes[k] + 4 * n + 2);
            }
            words[n] = flushed(flushed(words[n]) + flushed(even + odd));
        }
        memcpy(sum->bytes[m], words, sizeof words);
    }
}

void model_dpbusd(int32_t *sum, const void *a, const void *b, int n)
{
    const uint8_t *x = a, *y = b;
    for (int i = 0; i < n; i++) {
        for (int k = 4 * i; k < 4 * i + 4; k++) {
            sum[i] = (int32_t)((uint32_t)sum[i] + (uint32_t)((int32_t)x[k] * (int8_t)y[k]));
        }
    }
}

void model_dpwssd(int32_t *sum, const void *a, const void *b, int n)
{
    const uint8_t *x = a, *y = b;
    for (int i = 0; i < 2 * n; i++) {
        int16_t u, v;
        memcpy(&u, x + 2 * i, sizeof u);
        memcpy(&v, y + 2 * i, sizeof v);
        sum[i / 2] = (int32_t)((uint32_t)sum[i / 2] + (uint32_t)((int32_t)u * v));
    }
}

void model_dpbf16ps(float *sum, const void *a, const void *b, int n)
{
    const uint8_t *x = a, *y = b;
    for (int i = 0; i < n; i++) {
        float odd_first = add_product(sum[i], x + 4 * i + 2, y + 4 * i + 2);
        sum[i] = add_product(odd_first, x + 4 * i, y + 4 * i);
    }
}
