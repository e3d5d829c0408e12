/*
 * Where fetching goes on while a tile of rows is multiplied.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_AHEAD_H
#define MLXR_KERNELS_CPU_LINEAR_AHEAD_H

#include "kernels/cpu/linear.h"

/* For fetching in the order in which rows lie: what a tile of n_bytes that ends before row `next` fetches, as many
 * bytes as it has. They lie `far` bytes behind it, where that is within the rows up to `end`; else they are the last
 * ones of these, the end of which nothing else would fetch, and behind the last tile the rows that come soon, if they
 * are as many bytes. Where nothing is said to come soon it goes straight on, up to the matrix' end. Of a matrix that
 * has fewer bytes than a tile its begin is told, whatever the tile has. */
static inline const uint8_t *linear_ahead(const linear_weight *weight, uint32_t next, uint32_t end, size_t n_bytes,
                                          size_t far)
{
    const uint8_t *rows = weight->data;
    const size_t at = next * weight->row_bytes + far;
    const size_t whole = (weight->soon.rows ? end : weight->n_out) * weight->row_bytes;
    const bool soon_fits = weight->soon.rows && n_bytes <= weight->soon.n_rows * weight->soon.row_bytes;
    if (at + n_bytes <= whole) {
        return rows + at;
    }
    if (soon_fits && (next >= end || whole < n_bytes)) {
        return weight->soon.rows;
    }
    return whole < n_bytes ? rows : rows + (whole - n_bytes);
}

#endif
