/*
 * What the files of the bridge share: the structs behind its opaque types, and how exceptions become errors.
 * Owner, lifetime: as bridge.h says.
 */
#ifndef MLXR_KERNELS_MLX_BRIDGE_HPP
#define MLXR_KERNELS_MLX_BRIDGE_HPP

#include <deque>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include <mlx/mlx.h>

#include "kernels/mlx/bridge.h"

namespace mx = mlx::core;

struct mlx_value {
    mx::array a;
};

struct mlx_arena {
    std::deque<mlx_value> values; /* a deque: pointers to elements stay valid as it grows */
    bool failed = false;
    mlxr_status status = MLXR_OK;
    char text[200] = "";
};

void bridge_fail(mlx_arena *arena, mlxr_status status, const char *text) noexcept;
mx::Dtype bridge_dtype(mlx_type type);

/* Runs fn() and puts the array it returns into the arena. */
template <class F> mlx_value *bridge_make(mlx_arena *arena, F &&fn) noexcept
{
    if (arena->failed) {
        return nullptr;
    }
    try {
        arena->values.push_back(mlx_value{fn()});
        return &arena->values.back();
    } catch (const std::bad_alloc &) {
        bridge_fail(arena, MLXR_NOMEM, "MLX has no memory");
    } catch (const std::exception &e) {
        bridge_fail(arena, MLXR_DEVICE, e.what());
    } catch (...) {
        bridge_fail(arena, MLXR_DEVICE, "MLX failed without a reason");
    }
    return nullptr;
}

/* Operands of a call: NULL where an arena they came from had failed unnoticed. */
inline const mx::array &bridge_at(const mlx_value *x)
{
    if (!x) {
        throw std::invalid_argument("an operand of an MLX operation is missing");
    }
    return x->a;
}

#endif
