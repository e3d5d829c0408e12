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
    uint32_t adapter;       /* which one of those that are merged */
    uint64_t first, n_rows; /* of the file's, that it changes: experts may be in one matrix */
    const float *a;         /* [rank][n_in] */
    const float *b;         /* [n_rows][rank], with the scale */
    const merge_part *next;
};

/* Notes in the source's tensors what the adapters add. `scales` NULL: 1 each. One that changes something the source has
 * not, or in another shape, names it. An output matrix that is the embedding becomes one of its own where an adapter
 * changes one of the two, as training saw it. */
mlxr_status merge_adapters(source *s, const char *const *paths, const float *scales, size_t n, mlxr_error *error);

/* Adds to row `row` of the file, decoded to x[n_in]. */
void merge_row(const merge_part *part, uint64_t row, float *x);

#endif
