/*
 * Weights as MLX wants them: loading, and the product with them.
 * Owner: the program. Lifetime: the program's.
 */
#include "kernels/mlx/weights.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/mlx/values.h"
#include "quant/codec.h"
#include "quant/codec_layout.h"
#include "quant/codec_table.h"

#define MLX_GROUP 32u /* the smallest group of MLX's quantised product */

/* MLX's code for CPUs unpacks a weight again for each row: 0.75 ns a row, against 3.7 ns to decode it once and 0.02 ns
 * a row for BLAS (AVX-512, OpenBLAS; 0.7 ns with the reference BLAS of MLX's wheel, which so loses nothing). */
#define CPU_ROWS_PACKED 15

static mlx_type plain_type(dtype type)
{
    return type == DTYPE_F32 ? MLX_F32 : type == DTYPE_F16 ? MLX_F16 : MLX_BF16;
}

/* Appends n numbers of `bits` bits to a stream whose lowest bits come first; whole bytes for 8 numbers. */
static uint8_t *pack_bits(uint8_t *out, const uint8_t *q, uint32_t n, uint32_t bits)
{
    uint32_t held = 0, n_held = 0;
    for (uint32_t i = 0; i < n; i++) {
        held |= (uint32_t)q[i] << n_held;
        for (n_held += bits; n_held >= 8; n_held -= 8, held >>= 8) {
            *out++ = (uint8_t)held;
        }
    }
    return out;
}

/* Every block's scales and biases, and with `packed` its whole numbers as a stream of bits. */
static void split_blocks(const tensor *t, size_t n_rows, uint8_t *packed, float *scales, float *biases)
{
    uint8_t q[CODEC_BLOCK_MAX];
    const dtype_info *info = dtype_find((uint32_t)t->type);
    uint32_t groups = info->block_size / codec_affine_group(t->type), bits = codec_affine_bits(t->type);
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *block = (const uint8_t *)t->data + r * t->row_bytes;
        for (uint64_t i = 0; i < t->shape[0]; i += info->block_size, block += info->block_bytes) {
            codec_affine(t->type, block, q, scales, biases);
            scales += groups;
            biases += groups;
            if (packed) {
                packed = pack_bits(packed, q, info->block_size, bits);
            }
        }
    }
}

static bool load_blocks(mlx_weight *w, mlx_arena *arena)
{
    const tensor *t = w->source;
    size_t n_rows = (size_t)w->n_out, n_groups = (size_t)w->n_in / (size_t)w->group;
    size_t packed_bytes = n_rows * (size_t)w->n_in / 8 * (size_t)w->bits;
    uint8_t *packed = w->packed ? malloc(packed_bytes) : NULL;
    float *scales = malloc(n_rows * n_groups * sizeof *scales), *biases = malloc(n_rows * n_groups * sizeof *biases);
    bool ok = scales && biases && (packed || !w->packed);
    if (ok) {
        const int32_t groups[] = {w->n_out, (int32_t)n_groups};
        split_blocks(t, n_rows, packed, scales, biases);
        if (w->packed) {
            const int32_t words[] = {w->n_out, w->n_in / 32 * w->bits};
            w->w = bridge_copy(arena, MLX_U32, 2, words, packed);
        } else {
            const int32_t bytes[] = {w->n_out, (int32_t)t->row_bytes};
            w->w = bridge_wrap(arena, MLX_U8, 2, bytes, t->data);
        }
        w->scales = bridge_copy(arena, MLX_F32, 2, groups, scales);
        w->biases = bridge_copy(arena, MLX_F32, 2, groups, biases);
    }
    free(packed);
    free(scales);
    free(biases);
    return ok;
}

static int32_t rows_of(const tensor *t)
{
    return (int32_t)(t->shape[1] * t->shape[2] * t->shape[3]);
}

/* A tensor as F32 [rows, columns] or [rows, columns, 1], whatever its type; NULL: no memory. */
static mlx_value *load_decoded(mlx_arena *arena, const tensor *t, size_t n_dims)
{
    const int32_t shape[] = {rows_of(t), (int32_t)t->shape[0], 1};
    size_t n_in = (size_t)t->shape[0], n_rows = (size_t)shape[0];
    float *values = malloc(n_rows * n_in * sizeof *values);
    if (!values) {
        return NULL;
    }
    for (size_t r = 0; r < n_rows; r++) {
        codec_decode(t->type, (const uint8_t *)t->data + r * t->row_bytes, values + r * n_in, n_in);
    }
    mlx_value *x = bridge_copy(arena, MLX_F32, n_dims, shape, values);
    free(values);
    return x;
}

mlx_value *mlx_taps_load(mlx_arena *arena, const tensor *t)
{
    return load_decoded(arena, t, 3);
}

bool mlx_weight_load(mlx_weight *out, mlx_arena *arena, const bridge_device *device, const tensor *t, bool raw)
{
    *out = (mlx_weight){.source = t, .n_in = (int32_t)t->shape[0], .n_out = rows_of(t), .raw = raw};
    out->n_rows_packed = device->gpu ? INT32_MAX : CPU_ROWS_PACKED;
    if (raw) {
        const int32_t bytes[] = {out->n_out, (int32_t)t->row_bytes};
        out->w = bridge_wrap(arena, MLX_U8, 2, bytes, t->data);
        return true;
    }
    uint32_t group = codec_affine_group(t->type);
    if (group) {
        out->group = (int)group;
        out->bits = (int)codec_affine_bits(t->type);
        out->packed = group >= MLX_GROUP;
        return load_blocks(out, arena);
    }
    if (codec_table_has(t->type)) {
        out->w = load_decoded(arena, t, 2); /* MLX has nothing like them */
        out->f32 = true;
        return out->w != NULL;
    }
    const int32_t shape[] = {out->n_out, out->n_in};
    out->w = bridge_wrap(arena, plain_type(t->type), 2, shape, t->data);
    out->f32 = t->type == DTYPE_F32;
    return true;
}

mlx_value *mlx_vector_load(mlx_arena *arena, const tensor *t)
{
    const int32_t n = (int32_t)t->shape[0];
    float *values = malloc((size_t)n * sizeof *values);
    if (!values) {
        return NULL;
    }
    codec_decode(t->type, t->data, values, (size_t)n);
    mlx_value *v = bridge_copy(arena, MLX_F32, 1, &n, values);
    free(values);
    return v;
}

/* The bits of one plane of blocks [n, bytes] as numbers [n, weights a block]. */
static mlx_value *plane(mlx_arena *a, const mlx_value *blocks, const codec_plane *p, int32_t n_blocks, int32_t n)
{
    static const uint8_t shifts[] = {0, 1, 2, 3, 4, 5, 6, 7};
    uint8_t steps[8];
    int32_t per_byte = 8 / p->bits, run = p->run, n_runs = n / (run * per_byte);
    for (int32_t i = 0; i < per_byte; i++) {
        steps[i] = shifts[i * p->bits];
    }
    const int32_t steps_shape[] = {per_byte, 1};
    mlx_value *bytes = bridge_slice(a, blocks, 1, p->offset, p->offset + n_runs * run);
    bytes = value_reshape(a, bytes, 4, n_blocks, n_runs, 1, run);
    bytes = bridge_two(a, BRIDGE_SHIFT_DOWN, bytes, bridge_copy(a, MLX_U8, 2, steps_shape, steps));
    const uint8_t mask = (uint8_t)((1u << p->bits) - 1);
    bytes = bridge_two(a, BRIDGE_BITS, bytes, bridge_copy(a, MLX_U8, 0, NULL, &mask));
    return value_reshape(a, bytes, 2, n_blocks, n);
}

/* Blocks that MLX cannot multiply by, as F32 [n_out, n_in]. */
static mlx_value *decode(mlx_arena *a, const mlx_weight *w)
{
    const codec_layout *layout = codec_layout_of(w->source->type);
    const dtype_info *info = dtype_find((uint32_t)w->source->type);
    int32_t n = (int32_t)info->block_size, n_blocks = w->n_out * (w->n_in / n);
    mlx_value *blocks = value_reshape(a, w->w, 2, n_blocks, (int32_t)info->block_bytes);
    mlx_value *q = plane(a, blocks, &layout->low, n_blocks, n);
    q = bridge_cast(a, q, MLX_F32);
    if (layout->high.bits) {
        mlx_value *high = bridge_cast(a, plane(a, blocks, &layout->high, n_blocks, n), MLX_F32);
        q = value_add(a, q, value_scale(a, high, (float)(1u << layout->low.bits)));
    }
    q = value_reshape(a, q, 3, w->n_out, w->n_in / w->group, w->group);
    mlx_value *scales = value_reshape(a, w->scales, 3, w->n_out, w->n_in / w->group, 1);
    mlx_value *biases = value_reshape(a, w->biases, 3, w->n_out, w->n_in / w->group, 1);
    q = value_add(a, value_mul(a, q, scales), biases);
    return value_reshape(a, q, 2, w->n_out, w->n_in);
}

mlx_value *mlx_weight_dense(mlx_arena *a, const mlx_weight *w)
{
    if (w->packed) {
        return bridge_dequantize(a, w->w, w->scales, w->biases, w->group, w->bits);
    }
    return w->scales ? decode(a, w) : bridge_cast(a, w->w, MLX_F32);
}

mlx_value *mlx_weight_product(mlx_arena *a, const mlx_weight *w, const mlx_value *x)
{
    static const int turned[] = {1, 0};
    if (w->packed && bridge_dim(x, 0) <= w->n_rows_packed) {
        return bridge_quantized_matmul(a, x, w->w, w->scales, w->biases, w->group, w->bits);
    }
    return bridge_two(a, BRIDGE_MATMUL, x, bridge_transpose(a, mlx_weight_dense(a, w), 2, turned));
}
