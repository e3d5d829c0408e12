/*
 * Tensor: a view of typed data somewhere else.
 * Owner: nobody; it owns nothing. Lifetime: that of the data it points into.
 */
#ifndef MLXR_QUANT_TENSOR_H
#define MLXR_QUANT_TENSOR_H

#include "quant/dtype.h"

#define TENSOR_DIMS_MAX 4

typedef struct tensor {
    const char *name;
    dtype type;
    uint32_t n_dims;
    uint64_t shape[TENSOR_DIMS_MAX]; /* innermost first, as in GGUF: a matrix is [n_in, n_out]; unused dims are 1 */
    const void *data;                /* rows of shape[0] elements, contiguous; not necessarily aligned */
    size_t row_bytes;                /* of one row of shape[0] elements */
    size_t n_bytes;
} tensor;

/* A vector of n floats, which stay the caller's, as does the name. */
static inline tensor tensor_of_floats(const char *name, const float *values, size_t n)
{
    return (tensor){.name = name,
                    .type = DTYPE_F32,
                    .n_dims = 1,
                    .shape = {n, 1, 1, 1},
                    .data = values, /* in the order above: C++ includes this, too */
                    .row_bytes = n * sizeof *values,
                    .n_bytes = n * sizeof *values};
}

#endif
