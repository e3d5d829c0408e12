/*
 * Binding of one tensor: it is looked up by its name, and its shape and type are checked.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_GRAPH_BIND_TENSOR_H
#define MLXR_GRAPH_BIND_TENSOR_H

#include "base/error.h"
#include "loaders/model_file.h"

/* *out is NULL where a tensor that is not required is missing. n_out 0: a vector, which is read as it lies and must be
 * F32; any_shape: one that may also be written as a matrix of as many numbers. FORMAT or UNSUPPORTED, with both shapes
 * or types. */
mlxr_status bind_tensor(const tensor **out, const model_file *file, const char *name, uint64_t in, uint64_t n_out,
                        bool required, bool any_shape, mlxr_error *error);

#endif
