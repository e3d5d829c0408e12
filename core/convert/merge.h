/*
 * Adapters merged into weights: W + scale · B · A.
 * Owner: the caller closes it. Lifetime: the call that writes.
 */
#ifndef MLXR_CONVERT_MERGE_H
#define MLXR_CONVERT_MERGE_H

#include "base/region.h"
#include "convert/source.h"

/* What is added to a matrix; several where several adapters change it. */
struct merge_part {
    uint32_t rank, n_in;
    const float *a; /* [rank][n_in] */
    const float *b; /* [rows of the file][rank], with the scale */
    const merge_part *next;
};

/* Notes in the source's tensors what the adapters add. `scales` NULL: 1 each. One that changes something the source has
 * not, or in another shape, names it. */
mlxr_status merge_adapters(source *s, const char *const *paths, const float *scales, size_t n, mlxr_error *error);

/* Adds to row `row` of the file, decoded to x[n_in]. */
void merge_row(const merge_part *part, uint64_t row, float *x);

#endif
