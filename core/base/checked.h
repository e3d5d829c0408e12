/*
 * Overflow-checked size arithmetic and little-endian reads for untrusted bytes.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_BASE_CHECKED_H
#define MLXR_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Each returns false, and leaves *out alone, where the true result does not fit. */
static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Rounds up to a power-of-two alignment. */
static inline bool checked_align(uint64_t value, uint64_t alignment, uint64_t *out)
{
    uint64_t sum;
    if (!checked_add(value, alignment - 1, &sum)) {
        return false;
    }
    *out = sum & ~(alignment - 1);
    return true;
}

/* offset + size ≤ limit, without wrapping. */
static inline bool checked_range(uint64_t offset, uint64_t size, uint64_t limit)
{
    return offset <= limit && size <= limit - offset;
}

static inline uint16_t load_u16le(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t load_u32le(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline void store_u16le(void *p, uint16_t value)
{
    uint8_t *b = p;
    b[0] = (uint8_t)value;
    b[1] = (uint8_t)(value >> 8);
}

static inline uint64_t load_u64le(const void *p)
{
    return (uint64_t)load_u32le(p) | (uint64_t)load_u32le((const uint8_t *)p + 4) << 32;
}

#endif
