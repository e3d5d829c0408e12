/*
 * rope_apply.metal against the scalar rotation, both layouts, parts of heads, rows and heads apart, positions up to a
 * million; and rope_table against the cosines and sines of the CPU backend.
 * Owner: none. Lifetime: the case.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/ops.h"
#include "kernels/rope_angles.h"
#include "metal_check.h"

static const uint32_t head_dims[] = {64, 80, 96, 128, 256, 2, 36};

static int32_t position_of(metal_check *c, uint32_t row)
{
    switch (c->index / 5 % 4) {
    case 0:
        return (int32_t)row;
    case 1:
        return (int32_t)check_below(&c->base, 5000);
    case 2:
        return 100000 + (int32_t)check_below(&c->base, 40000);
    default:
        return 1000000 - (int32_t)check_below(&c->base, 100000);
    }
}

static void compare(metal_check *c, const metal_rope *r, rope_kind kind, const float *inv_freq,
                    const int32_t *positions, const values *x, values *y)
{
    ops_table ops = ops_table_scalar();
    uint32_t half = r->n_rot / 2, n = r->n_heads * r->head_dim;
    op_rope rope = {
        .kind = kind, .head_dim = r->head_dim, .n_rot = r->n_rot, .inv_freq = inv_freq, .magnitude = r->magnitude};
    float *row = metal_get(n * sizeof *row), *turn = metal_get(2 * (half + 1) * sizeof *turn);
    values_read(y);
    for (uint32_t i = 0; i < r->n_rows; i++) {
        for (uint32_t h = 0; h < r->n_heads; h++) {
            memcpy(row + h * r->head_dim, x->f + i * r->row_stride + h * r->head_stride, r->head_dim * sizeof *row);
        }
        float largest = 0;
        for (uint32_t j = 0; j < n; j++) {
            largest = fmaxf(largest, fabsf(row[j]));
        }
        rope_angles_fill(&rope, positions[i], 0, half, turn, turn + half);
        ops.rope(kind, row, r->n_heads, r->head_dim, r->n_rot, turn, turn + half);
        for (uint32_t j = 0; j < n; j++) {
            double bound = j % r->head_dim < r->n_rot ? 2 * (double)largest * 6e-7 * (double)r->magnitude : 0;
            metal_compare(c, y->type, y->f[i * n + j], (double)row[j], bound, i * n + j);
        }
    }
    free(row);
    free(turn);
}

static void compare_table(metal_check *c, const metal_rope *r, const float *inv_freq, const int32_t *positions,
                          uint64_t seed)
{
    uint32_t half = r->n_rot / 2;
    op_rope rope = {.head_dim = r->head_dim, .n_rot = r->n_rot, .inv_freq = inv_freq, .magnitude = r->magnitude};
    values table = values_output(DTYPE_F32, (size_t)r->n_rows * r->n_rot);
    float *turn = metal_get(2 * (half + 1) * sizeof *turn);
    metal_dispatch dispatch = metal_rope_table_dispatch(r);
    metal_emulator_argument arguments[] = {METAL_BYTES((void *)positions, r->n_rows * sizeof *positions),
                                           METAL_BYTES((void *)inv_freq, half * sizeof *inv_freq),
                                           {0},
                                           values_argument(&table)};
    if (metal_run(c, "rope_table", arguments, 4, 2, &dispatch, seed)) {
        values_read(&table);
        for (uint32_t i = 0; i < r->n_rows; i++) {
            rope_angles_fill(&rope, positions[i], 0, half, turn, turn + half);
            for (uint32_t j = 0; j < half; j++) {
                for (uint32_t s = 0; s < 2; s++) {
                    metal_compare(c, DTYPE_F32, table.f[(i * half + j) * 2 + s], (double)turn[s * half + j],
                                  6e-7 * (double)r->magnitude, j);
                }
            }
        }
    }
    free(turn);
    values_free(&table);
}

static void run(metal_check *c)
{
    uint32_t i = c->index;
    rope_kind kind = i % 2 ? ROPE_PAIRS : ROPE_HALVES;
    dtype type = metal_pick_type(i / 2);
    metal_rope r = {.n_rows = 1 + i % 4, .n_heads = 1 + i % 9, .head_dim = head_dims[i % 7]};
    r.n_rot = i % 3 ? r.head_dim : r.head_dim / 4 * 2;
    r.n_rot = r.n_rot ? r.n_rot : 2;
    r.head_stride = r.head_dim + (i % 5 == 4 ? 7 : 0);
    r.row_stride = r.n_heads * r.head_stride + (i % 4 == 3 ? 9 : 0);
    r.magnitude = i % 6 == 5 ? 1.25f : 1.0f;
    r.threads = metal_pick_threads(i / 2);
    float *inv_freq = metal_get(r.n_rot / 2 * sizeof *inv_freq);
    int32_t *positions = metal_get(r.n_rows * sizeof *positions);
    for (uint32_t j = 0; j < r.n_rot / 2; j++) {
        inv_freq[j] = (float)pow(i % 2 ? 10000.0 : 1000000.0, -2.0 * j / r.n_rot);
    }
    for (uint32_t j = 0; j < r.n_rows; j++) {
        positions[j] = position_of(c, j);
    }
    values x = values_make(c, type, (size_t)r.n_rows * r.row_stride, VALUES_NORMAL);
    values y = values_output(type, (size_t)r.n_rows * r.n_heads * r.head_dim);
    metal_dispatch dispatch = metal_rope_dispatch(&r);
    char name[40];
    snprintf(name, sizeof name, "rope_apply_%s_%s", metal_type_name(type), kind == ROPE_PAIRS ? "pairs" : "halves");
    for (uint32_t s = 0; s < c->n_seeds; s++) {
        values_poison(&y);
        metal_emulator_argument arguments[] = {values_argument(&x),
                                               METAL_BYTES(positions, r.n_rows * sizeof *positions),
                                               METAL_BYTES(inv_freq, r.n_rot / 2 * sizeof *inv_freq),
                                               {0},
                                               values_argument(&y)};
        if (metal_run(c, name, arguments, 5, 3, &dispatch, c->seeds[s])) {
            compare(c, &r, kind, inv_freq, positions, &x, &y);
        }
        compare_table(c, &r, inv_freq, positions, c->seeds[s]);
    }
    values_free(&x);
    values_free(&y);
    free(inv_freq);
    free(positions);
}

const metal_suite metal_rope_suite = {"rope_apply", 126, run};
