/*
 * The bridge to MLX: its lazy arrays behind a C interface. Only bridge*.cpp include MLX; no exception leaves them.
 * Owner: arrays belong to the arena they were made in. Lifetime: until the arena is emptied or closed; MLX itself keeps
 * what a graph under way still needs. One thread, the same for all calls.
 *
 * Errors stick: after a call that failed, calls on that arena do nothing and return NULL, and bridge_status says what
 * went wrong first. So a graph is built without a check at every operation. Operands may come from other arenas.
 *
 * Nothing is computed before bridge_submit or bridge_data asks for it.
 */
#ifndef MLXR_KERNELS_MLX_BRIDGE_H
#define MLXR_KERNELS_MLX_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mlxr.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mlx_arena mlx_arena;
typedef struct mlx_value mlx_value;

typedef enum mlx_type { MLX_F32, MLX_F16, MLX_BF16, MLX_I32, MLX_U32, MLX_U16, MLX_U8, MLX_I8, MLX_BOOL } mlx_type;

typedef struct bridge_device {
    char version[32]; /* of the MLX that is linked */
    char name[64];    /* of the device, "Apple M4" */
    bool gpu;         /* Metal; else MLX's own CPU code */
    bool wraps;       /* memory of ours becomes an array without a copy */
} bridge_device;

/* Chooses the device for all that follows in this process. */
mlxr_status bridge_open(bridge_device *out, mlxr_error *error);
/* Bounds what MLX keeps: freed buffers for reuse, and (Metal) memory that stays resident. Best effort. */
void bridge_limit(size_t cache_bytes, size_t wired_bytes);

mlx_arena *bridge_arena_open(void); /* NULL: no memory */
void bridge_arena_close(mlx_arena **arena);
/* Writes over the memory of an array that was made by bridge_copy, or by bridge_wrap where nothing wraps; n_bytes of
 * it. Before anything that needs it was submitted. */
void bridge_refill(mlx_arena *arena, mlx_value *x, const void *data, size_t n_bytes);
/* Drops all arrays and the error. */
void bridge_arena_empty(mlx_arena *arena);
/* Drops the error alone. */
void bridge_arena_recover(mlx_arena *arena);
mlxr_status bridge_status(const mlx_arena *arena, mlxr_error *error);
/* Bytes of memory that all arrays of this process take now. */
size_t bridge_bytes(void);

/* The same array in another arena, which keeps it alive. */
mlx_value *bridge_keep(mlx_arena *arena, const mlx_value *x);

/* ---- from memory and back ---- */

mlx_value *bridge_copy(mlx_arena *arena, mlx_type type, size_t n_dims, const int32_t *shape, const void *data);
mlx_value *bridge_scalar(mlx_arena *arena, float x);
/* Memory that stays where it is and unchanged while the array lives: no copy where the device wraps. */
mlx_value *bridge_wrap(mlx_arena *arena, mlx_type type, size_t n_dims, const int32_t *shape, const void *data);
/* Starts computing arrays, which go on while the caller does something else. */
void bridge_submit(mlx_arena *arena, const mlx_value *const *values, size_t n);
/* Waits for an array and returns its elements, row-major; valid as long as it is. NULL after an error. */
const void *bridge_data(mlx_arena *arena, mlx_value *x);
int32_t bridge_dim(const mlx_value *x, size_t axis);

/* ---- operations; what they mean is MLX's documentation ---- */

typedef enum bridge_unary {
    BRIDGE_ABS,
    BRIDGE_ERF,
    BRIDGE_EXP,
    BRIDGE_LOG1P,
    BRIDGE_NEGATIVE,
    BRIDGE_RINT,
    BRIDGE_SIGMOID,
    BRIDGE_SQUARE,
    BRIDGE_TANH,
    BRIDGE_CONTIGUOUS,
} bridge_unary;

typedef enum bridge_binary {
    BRIDGE_ADD,
    BRIDGE_SUBTRACT,
    BRIDGE_MULTIPLY,
    BRIDGE_DIVIDE,
    BRIDGE_MAXIMUM,
    BRIDGE_MINIMUM,
    BRIDGE_LESS,
    BRIDGE_LESS_EQUAL,
    BRIDGE_AND,        /* of truth values */
    BRIDGE_BITS,       /* bitwise and */
    BRIDGE_SHIFT_DOWN, /* of whole numbers */
    BRIDGE_MATMUL,
} bridge_binary;

typedef enum bridge_reduction { BRIDGE_SUM, BRIDGE_MAX } bridge_reduction;

mlx_value *bridge_one(mlx_arena *arena, bridge_unary op, const mlx_value *x);
mlx_value *bridge_two(mlx_arena *arena, bridge_binary op, const mlx_value *a, const mlx_value *b);
mlx_value *bridge_reduce(mlx_arena *arena, bridge_reduction op, const mlx_value *x,
                         int axis); /* the axis stays, as 1 */
mlx_value *bridge_cumsum(mlx_arena *arena, const mlx_value *x, int axis);
mlx_value *bridge_where(mlx_arena *arena, const mlx_value *condition, const mlx_value *a, const mlx_value *b);
mlx_value *bridge_cast(mlx_arena *arena, const mlx_value *x, mlx_type type);
mlx_value *bridge_view(mlx_arena *arena, const mlx_value *x, mlx_type type); /* the same bytes */
mlx_value *bridge_reshape(mlx_arena *arena, const mlx_value *x, size_t n_dims, const int32_t *shape);
mlx_value *bridge_broadcast(mlx_arena *arena, const mlx_value *x, size_t n_dims, const int32_t *shape);
mlx_value *bridge_transpose(mlx_arena *arena, const mlx_value *x, size_t n_dims, const int *axes);
mlx_value *bridge_slice(mlx_arena *arena, const mlx_value *x, size_t axis, int32_t begin, int32_t end);
mlx_value *bridge_join(mlx_arena *arena, const mlx_value *const *parts, size_t n, int axis);
mlx_value *bridge_take(mlx_arena *arena, const mlx_value *x, const mlx_value *indices, int axis);
/* Elements of each row, by indices that have x's other axes. */
mlx_value *bridge_take_along(mlx_arena *arena, const mlx_value *x, const mlx_value *indices, int axis);
/* Where the smallest element is, the next, …; in which order equal ones come is not said. */
mlx_value *bridge_sorting(mlx_arena *arena, const mlx_value *x, int axis);

/* x · wᵀ with w = scales × q + biases by groups: q packed as a stream of bits, [n_out, n_in × bits / 32]. */
mlx_value *bridge_quantized_matmul(mlx_arena *arena, const mlx_value *x, const mlx_value *w, const mlx_value *scales,
                                   const mlx_value *biases, int group, int bits);
/* That w as F32, [n_out, n_in]. */
mlx_value *bridge_dequantize(mlx_arena *arena, const mlx_value *w, const mlx_value *scales, const mlx_value *biases,
                             int group, int bits);
/* x [.., n_rows, n_in] by the matrices of w [n, n_in, n_out] that `chosen` names, whose axes and those of x before
 * n_rows are broadcast together. `sorted`: chosen is in ascending order. */
mlx_value *bridge_gather_matmul(mlx_arena *arena, const mlx_value *x, const mlx_value *w, const mlx_value *chosen,
                                bool sorted);
/* The same by packed ones, [n, n_out, n_in × bits / 32] as above. */
mlx_value *bridge_gather_quantized_matmul(mlx_arena *arena, const mlx_value *x, const mlx_value *w,
                                          const mlx_value *scales, const mlx_value *biases, const mlx_value *chosen,
                                          bool sorted, int group, int bits);
mlx_value *bridge_norm(mlx_arena *arena, bool layer_norm, const mlx_value *x, const mlx_value *weight,
                       const mlx_value *bias, float eps);
/* x [n, n_rows + k − 1, width] with its own taps [width, k, 1] for each channel → [n, n_rows, width] */
mlx_value *bridge_conv(mlx_arena *arena, const mlx_value *x, const mlx_value *taps);
/* q [n, n_head, n_rows, d], k and v [n, n_head_kv, n_keys, d]; mask [n, 1, n_rows, n_keys] of truth values, or NULL
 * (all, or with `causal` those up to the row's own); sinks [n_head] or NULL. Query heads share keys, nothing is
 * repeated. */
mlx_value *bridge_attention(mlx_arena *arena, const mlx_value *q, const mlx_value *k, const mlx_value *v, float scale,
                            bool causal, const mlx_value *mask, const mlx_value *sinks);

#ifdef __cplusplus
}
#endif

#endif
