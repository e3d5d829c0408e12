/*
 * Short names for what graphs of MLX arrays are written in.
 * Owner, lifetime: as bridge.h says.
 */
#ifndef MLXR_KERNELS_MLX_VALUES_H
#define MLXR_KERNELS_MLX_VALUES_H

#include <stdarg.h>

#include "kernels/mlx/bridge.h"

#define VALUE_DIMS_MAX 6u

static inline mlx_value *value_add(mlx_arena *a, const mlx_value *x, const mlx_value *y)
{
    return bridge_two(a, BRIDGE_ADD, x, y);
}

static inline mlx_value *value_sub(mlx_arena *a, const mlx_value *x, const mlx_value *y)
{
    return bridge_two(a, BRIDGE_SUBTRACT, x, y);
}

static inline mlx_value *value_mul(mlx_arena *a, const mlx_value *x, const mlx_value *y)
{
    return bridge_two(a, BRIDGE_MULTIPLY, x, y);
}

static inline mlx_value *value_div(mlx_arena *a, const mlx_value *x, const mlx_value *y)
{
    return bridge_two(a, BRIDGE_DIVIDE, x, y);
}

static inline mlx_value *value_scale(mlx_arena *a, const mlx_value *x, float factor)
{
    return factor == 1.0f ? bridge_keep(a, x) : value_mul(a, x, bridge_scalar(a, factor));
}

static inline mlx_value *value_clip(mlx_arena *a, const mlx_value *x, float low, float high)
{
    x = bridge_two(a, BRIDGE_MAXIMUM, x, bridge_scalar(a, low));
    return bridge_two(a, BRIDGE_MINIMUM, x, bridge_scalar(a, high));
}

/* Sizes as int32_t, row-major. */
static inline mlx_value *value_reshape(mlx_arena *a, const mlx_value *x, size_t n_dims, ...)
{
    int32_t shape[VALUE_DIMS_MAX];
    va_list sizes;
    va_start(sizes, n_dims);
    for (size_t i = 0; i < n_dims && i < VALUE_DIMS_MAX; i++) {
        shape[i] = va_arg(sizes, int32_t);
    }
    va_end(sizes);
    return bridge_reshape(a, x, n_dims, shape);
}

#endif
