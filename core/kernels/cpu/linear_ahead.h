/*
 * Where fetching goes on while a tile of rows is multiplied.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_AHEAD_H
#define MLXR_KERNELS_CPU_LINEAR_AHEAD_H

#include "kernels/cpu/linear.h"

/* For fetching in the order in which rows lie: what a tile of n_bytes that ends before row `next` fetches, as many
 * bytes as it has. They lie `far` bytes behind it, where that is within the rows up to `end`; else they are the last
 * ones of these, the end of which nothing else would fetch, and behind the last tile the rows that come soon. Without
 * such it goes straight on. */
static inline const uint8_t *linear_ahead(const linear_weight *weight, uint32_t next, uint32_t end, size_t n_bytes,
                                          size_t far)
{
    const size_t at = next * weight->row_bytes + far, whole = end * weight->row_bytes;
    if (!weight->soon.rows || at + n_bytes <= whole) {
        return (const uint8_t *)weight->data + at;
    }
    return next >= end || whole < n_bytes ? weight->soon.rows : (const uint8_t *)weight->data + (whole - n_bytes);
}

#endif
