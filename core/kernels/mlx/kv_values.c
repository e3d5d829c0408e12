/*
 * Rows of KV pages on the device: what rounding to a page's type makes of them, and what a page's bytes say. The host
 * stores rows by kernels/kv_row.c; this gives the same values, so that a step sees its own rows as later ones will.
 * Owner: the walk. Lifetime: the step's graph.
 */
#include "kernels/kv_row.h"
#include "kernels/mlx/walk.h"

static mlx_value *hadamard(walk *w, uint32_t length)
{
    mlx_value **made = &w->hadamard[__builtin_ctz(length)];
    if (!*made) {
        const int32_t shape[] = {(int32_t)length, (int32_t)length};
        float *h = region_array(w->memory, (size_t)length * length, sizeof *h);
        if (!h) {
            return NULL;
        }
        for (uint32_t i = 0; i < length; i++) {
            for (uint32_t j = 0; j < length; j++) {
                h[i * length + j] = __builtin_parity(i & j) ? -1.0f : 1.0f;
            }
        }
        *made = bridge_copy(w->a, MLX_F32, 2, shape, h);
    }
    return *made;
}

mlx_value *kv_values_turn(walk *w, dtype type, uint32_t head_dim, mlx_value *x, float factor)
{
    uint32_t length = kv_turn_length(type, head_dim);
    if (length == 0) {
        return x;
    }
    int32_t shape[4], n = 1;
    for (size_t i = 0; i < 4; i++) {
        shape[i] = bridge_dim(x, i);
        n *= shape[i];
    }
    x = value_reshape(w->a, x, 2, n / (int32_t)length, (int32_t)length);
    x = value_scale(w->a, bridge_two(w->a, BRIDGE_MATMUL, x, hadamard(w, length)), factor);
    return bridge_reshape(w->a, x, 4, shape);
}

/* d in half precision, kept from overflowing, and what is stored of it. */
static mlx_value *stored_scale(mlx_arena *a, mlx_value *d)
{
    return bridge_cast(a, bridge_cast(a, value_clip(a, d, -KV_HALF_TOP, KV_HALF_TOP), MLX_F16), MLX_F32);
}

/* x in whole steps of d, and back. Where d is 0, so is everything. */
static mlx_value *in_steps(mlx_arena *a, mlx_value *x, mlx_value *d, float low, float high)
{
    mlx_value *zero = bridge_scalar(a, 0), *none = bridge_two(a, BRIDGE_LESS_EQUAL, bridge_one(a, BRIDGE_ABS, d), zero);
    mlx_value *inverse = value_div(a, bridge_scalar(a, 1), bridge_where(a, none, bridge_scalar(a, 1), d));
    mlx_value *q = value_mul(a, x, bridge_where(a, none, zero, inverse));
    return value_mul(a, value_clip(a, bridge_one(a, BRIDGE_RINT, q), low, high), d);
}

/* kv_row.c's search for the scale of a block of Q4_0, for all blocks at once. */
static mlx_value *fit_q4(mlx_arena *a, mlx_value *x, mlx_value *top)
{
    mlx_value *none = bridge_two(a, BRIDGE_LESS, top, bridge_scalar(a, KV_LEAST)), *zero = bridge_scalar(a, 0);
    mlx_value *unit = value_div(a, bridge_scalar(a, KV_FINE_TOP), bridge_where(a, none, bridge_scalar(a, 1), top));
    mlx_value *fine = bridge_one(a, BRIDGE_RINT, value_mul(a, x, unit));
    mlx_value *high = bridge_reduce(a, BRIDGE_MAX, fine, 1);
    mlx_value *low = bridge_reduce(a, BRIDGE_MAX, bridge_one(a, BRIDGE_NEGATIVE, fine), 1);
    mlx_value *side = bridge_where(a, bridge_two(a, BRIDGE_LESS, low, high), bridge_scalar(a, -1), bridge_scalar(a, 1));
    mlx_value *best = zero, *scale = zero;
    for (uint32_t t = 0; t < KV_Q4_TRIES; t++) {
        mlx_value *steps = value_scale(a, side, kv_q4_levels[t] / KV_FINE_TOP);
        mlx_value *q = value_clip(a, bridge_one(a, BRIDGE_RINT, value_mul(a, fine, steps)), -8, 7);
        mlx_value *xq = bridge_reduce(a, BRIDGE_SUM, value_mul(a, fine, q), 1);
        mlx_value *qq = bridge_reduce(a, BRIDGE_SUM, value_mul(a, q, q), 1);
        qq = bridge_two(a, BRIDGE_MAXIMUM, qq, bridge_scalar(a, 1)); /* 0 only where all is 0 */
        mlx_value *merit = value_div(a, value_mul(a, xq, xq), qq);
        mlx_value *better = bridge_two(a, BRIDGE_LESS, best, merit);
        scale = bridge_where(a, better, value_div(a, xq, qq), scale);
        best = bridge_two(a, BRIDGE_MAXIMUM, best, merit);
    }
    return bridge_where(a, none, zero, value_mul(a, scale, value_scale(a, top, 1.0f / KV_FINE_TOP)));
}

mlx_value *kv_values_round(walk *w, dtype type, uint32_t head_dim, mlx_value *x)
{
    mlx_arena *a = w->a;
    if (type != DTYPE_Q8_0 && type != DTYPE_Q4_0) {
        return type == DTYPE_F32 ? x : bridge_cast(a, x, MLX_F32);
    }
    int32_t n_rows = bridge_dim(x, 0), width = bridge_dim(x, 1), block = (int32_t)KV_BLOCK;
    x = value_reshape(a, x, 4, 1, 1, n_rows * (width / (int32_t)head_dim), (int32_t)head_dim);
    x = kv_values_turn(w, type, head_dim, x, kv_turn_factor(kv_turn_length(type, head_dim)));
    x = value_reshape(a, x, 2, n_rows * (width / block), block);
    mlx_value *top = bridge_reduce(a, BRIDGE_MAX, bridge_one(a, BRIDGE_ABS, x), 1);
    if (type == DTYPE_Q8_0) {
        x = in_steps(a, x, stored_scale(a, value_div(a, top, bridge_scalar(a, 127))), -127, 127);
    } else {
        x = in_steps(a, x, stored_scale(a, fit_q4(a, x, top)), -8, 7);
    }
    return value_reshape(a, x, 2, n_rows, width);
}

mlx_value *kv_values_decode(walk *w, const kv_layout *l, mlx_value *rows, int32_t n_rows)
{
    mlx_arena *a = w->a;
    if (l->type != DTYPE_Q8_0 && l->type != DTYPE_Q4_0) {
        return l->type == DTYPE_F32 ? rows : bridge_cast(a, rows, MLX_F32);
    }
    int32_t block_bytes = (int32_t)dtype_row_bytes(l->type, KV_BLOCK);
    int32_t n = n_rows * (int32_t)(l->head_dim / KV_BLOCK);
    rows = bridge_one(a, BRIDGE_CONTIGUOUS, value_reshape(a, rows, 2, n, block_bytes));
    mlx_value *d = bridge_one(a, BRIDGE_CONTIGUOUS, bridge_slice(a, rows, 1, 0, 2));
    d = bridge_cast(a, bridge_view(a, d, MLX_F16), MLX_F32);
    mlx_value *q = bridge_slice(a, rows, 1, 2, block_bytes);
    if (l->type == DTYPE_Q8_0) {
        q = bridge_cast(a, bridge_view(a, bridge_one(a, BRIDGE_CONTIGUOUS, q), MLX_I8), MLX_F32);
    } else {
        const uint8_t mask = 15, four = 4;
        const mlx_value *halves[] = {bridge_two(a, BRIDGE_BITS, q, bridge_copy(a, MLX_U8, 0, NULL, &mask)),
                                     bridge_two(a, BRIDGE_SHIFT_DOWN, q, bridge_copy(a, MLX_U8, 0, NULL, &four))};
        q = value_sub(a, bridge_cast(a, bridge_join(a, halves, 2, 1), MLX_F32), bridge_scalar(a, 8));
    }
    return value_mul(a, q, d);
}
