/*
 * Bits of quantised blocks.
 * Owner: none; const tables. Lifetime: static.
 */
#include "quant/codec_layout.h"

#include "base/checked.h"

static const codec_layout layouts[] = {
    [DTYPE_Q4_0] = {.n = 32, .group = 32, .zero = 8, .top = 15, .low = {2, 4, 16}},
    [DTYPE_Q4_1] = {.n = 32, .group = 32, .top = 15, .low = {4, 4, 16}, .dmin = 2},
    [DTYPE_Q5_0] = {.n = 32, .group = 32, .zero = 16, .top = 31, .low = {6, 4, 16}, .high = {2, 1, 1}},
    [DTYPE_Q5_1] = {.n = 32, .group = 32, .top = 31, .low = {8, 4, 16}, .high = {4, 1, 1}, .dmin = 2},
    [DTYPE_Q2_K] = {.n = 256, .group = 16, .top = 3, .low = {16, 2, 32}, .d = 80, .dmin = 82, .scale_top = 15},
    [DTYPE_Q3_K] = {.n = 256,
                    .group = 16,
                    .zero = 4,
                    .top = 7,
                    .low = {32, 2, 32},
                    .high = {0, 1, 32},
                    .d = 108,
                    .scales = 96,
                    .scale_top = 31},
    [DTYPE_Q4_K] = {.n = 256, .group = 32, .top = 15, .low = {16, 4, 32}, .dmin = 2, .scales = 4, .scale_top = 63},
    [DTYPE_Q5_K] = {.n = 256,
                    .group = 32,
                    .top = 31,
                    .low = {48, 4, 32},
                    .high = {16, 1, 32},
                    .dmin = 2,
                    .scales = 4,
                    .scale_top = 63},
    [DTYPE_Q6_K] = {.n = 256,
                    .group = 16,
                    .zero = 32,
                    .top = 63,
                    .low = {0, 4, 64},
                    .high = {128, 2, 32},
                    .d = 208,
                    .scales = 192,
                    .scale_top = 127},
    [DTYPE_FP8_E5M2] = {0}, /* the highest id, so that every known type may index the table */
};

const codec_layout *codec_layout_of(dtype type)
{
    return &layouts[type];
}

static void store_u64le(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

#define EACH_BYTE 0x0101010101010101u

/* Planes of one bit whose runs are single bytes: eight weights at a time. */
static void bits_get(const codec_plane *plane, const uint8_t *block, uint8_t *q, unsigned n, unsigned above)
{
    for (unsigned i = 0; i < n; i += 8) {
        /* the byte in each, its bit i kept in byte i and moved to the top by the addition */
        uint64_t kept = block[plane->offset + i / 8] * EACH_BYTE & 0x8040201008040201u;
        uint64_t ones = (kept + 0x00406070787c7e7fu) >> 7 & EACH_BYTE;
        store_u64le(q + i, load_u64le(q + i) | ones << above);
    }
}

static void bits_put(const codec_plane *plane, uint8_t *block, const uint8_t *q, unsigned n, unsigned above)
{
    for (unsigned i = 0; i < n; i += 8) {
        uint64_t ones = load_u64le(q + i) >> above & EACH_BYTE;
        block[plane->offset + i / 8] = (uint8_t)(ones * 0x0102040810204080u >> 56);
    }
}

/* Adds the plane's bits, shifted up by `above`, to q[0…n). Runs of 16 and more go eight weights at a time. */
static void plane_get(const codec_plane *plane, const uint8_t *block, uint8_t *q, unsigned n, unsigned above)
{
    unsigned per_byte = 8u / plane->bits;
    uint64_t mask = ((1u << plane->bits) - 1) * EACH_BYTE;
    if (plane->run == 1) {
        bits_get(plane, block, q, n, above);
        return;
    }
    for (unsigned first = 0; first < n; first += plane->run) {
        unsigned step = first / plane->run, shift = step % per_byte * plane->bits;
        const uint8_t *bytes = block + plane->offset + step / per_byte * plane->run;
        for (unsigned i = 0; i < plane->run; i += 8) {
            uint64_t bits = (load_u64le(bytes + i) >> shift & mask) << above;
            store_u64le(q + first + i, load_u64le(q + first + i) | bits);
        }
    }
}

static void plane_put(const codec_plane *plane, uint8_t *block, const uint8_t *q, unsigned n, unsigned above)
{
    unsigned per_byte = 8u / plane->bits;
    uint64_t mask = ((1u << plane->bits) - 1) * EACH_BYTE;
    if (plane->run == 1) {
        bits_put(plane, block, q, n, above);
        return;
    }
    for (unsigned first = 0; first < n; first += plane->run) {
        unsigned step = first / plane->run, shift = step % per_byte * plane->bits;
        uint8_t *bytes = block + plane->offset + step / per_byte * plane->run;
        for (unsigned i = 0; i < plane->run; i += 8) {
            uint64_t bits = (load_u64le(q + first + i) >> above & mask) << shift;
            store_u64le(bytes + i, load_u64le(bytes + i) | bits);
        }
    }
}

void codec_planes_get(const codec_layout *layout, const uint8_t *block, uint8_t *q)
{
    for (unsigned i = 0; i < layout->n; i++) {
        q[i] = 0;
    }
    plane_get(&layout->low, block, q, layout->n, 0);
    if (layout->high.bits) {
        plane_get(&layout->high, block, q, layout->n, layout->low.bits);
    }
}

void codec_planes_put(const codec_layout *layout, uint8_t *block, const uint8_t *q)
{
    plane_put(&layout->low, block, q, layout->n, 0);
    if (layout->high.bits) {
        plane_put(&layout->high, block, q, layout->n, layout->low.bits);
    }
}

/* Q4_K, Q5_K: eight 6-bit scales and mins in 12 bytes. The first four have a byte each, whose two top bits hold the top
 * bits of the last four, whose low nibbles share the last four bytes. */
static void pairs_get(const uint8_t *packed, int *scales, int *mins)
{
    for (int i = 0; i < 4; i++) {
        scales[i] = packed[i] & 63;
        mins[i] = packed[4 + i] & 63;
        scales[4 + i] = (packed[8 + i] & 15) | packed[i] >> 6 << 4;
        mins[4 + i] = packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4;
    }
}

static void pairs_put(uint8_t *packed, const int *scales, const int *mins)
{
    for (int i = 0; i < 4; i++) {
        packed[i] = (uint8_t)(scales[i] | scales[4 + i] >> 4 << 6);
        packed[4 + i] = (uint8_t)(mins[i] | mins[4 + i] >> 4 << 6);
        packed[8 + i] = (uint8_t)((scales[4 + i] & 15) | (mins[4 + i] & 15) << 4);
    }
}

/* Q3_K: sixteen 6-bit scales, 32 standing for 0: low nibbles in eight bytes, top bits in four. */
static void triples_get(const uint8_t *packed, int *scales)
{
    for (int i = 0; i < 16; i++) {
        int low = packed[i % 8] >> i / 8 * 4 & 15, high = packed[8 + i % 4] >> i / 4 * 2 & 3;
        scales[i] = (low | high << 4) - 32;
    }
}

static void triples_put(uint8_t *packed, const int *scales)
{
    for (int i = 0; i < 16; i++) {
        int value = scales[i] + 32;
        packed[i % 8] = (uint8_t)(packed[i % 8] | (value & 15) << i / 8 * 4);
        packed[8 + i % 4] = (uint8_t)(packed[8 + i % 4] | value >> 4 << i / 4 * 2);
    }
}

void codec_scales_get(dtype type, const uint8_t *block, int *scales, int *mins)
{
    const uint8_t *packed = block + layouts[type].scales;
    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K) {
        pairs_get(packed, scales, mins);
    } else if (type == DTYPE_Q3_K) {
        triples_get(packed, scales);
    } else {
        for (int i = 0; i < 16; i++) {
            scales[i] = type == DTYPE_Q2_K ? packed[i] & 15 : (int8_t)packed[i];
            mins[i] = packed[i] >> 4; /* Q6_K has none: the caller does not look */
        }
    }
}

void codec_scales_put(dtype type, uint8_t *block, const int *scales, const int *mins)
{
    uint8_t *packed = block + layouts[type].scales;
    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K) {
        pairs_put(packed, scales, mins);
    } else if (type == DTYPE_Q3_K) {
        triples_put(packed, scales);
    } else {
        for (int i = 0; i < 16; i++) {
            packed[i] = (uint8_t)(type == DTYPE_Q2_K ? scales[i] | mins[i] << 4 : scales[i]);
        }
    }
}
