/*
 * rms_norm.metal against the scalar norm: widths from 1 to some thousand, rows and heads at any strides, huge and tiny
 * numbers, with and without weights.
 * Owner: none. Lifetime: the case.
 */
#include <math.h>
#include <stdlib.h>

#include "kernels/cpu/ops.h"
#include "metal_check.h"

static const uint32_t widths[] = {1, 3, 32, 64, 80, 96, 100, 128, 256, 576, 640, 1000, 2048, 4100, 20000};
#define N_WIDTHS (sizeof widths / sizeof *widths)

enum layout { CONTIGUOUS, ROWS_APART, HEADS, HEADS_APART, ELEMENTS_APART, ODD_STRIDE, LAYOUTS };

static metal_rms_norm shape_of(metal_check *c)
{
    uint32_t i = c->index;
    metal_rms_norm n = {.n_rows = 1 + i % 3, .n_groups = 1, .width = widths[i / 3 % N_WIDTHS], .element_stride = 1};
    n.eps = i % 4 ? 1e-5f : 1e-6f;
    n.weighted = i % 5 != 0;
    n.threads = metal_pick_threads(i / 3);
    n.group_stride = n.width;
    switch ((enum layout)(i / 7 % LAYOUTS)) {
    case HEADS:
        n.n_groups = 3;
        break;
    case HEADS_APART:
        n.n_groups = 2;
        n.group_stride = n.width + 8;
        break;
    case ELEMENTS_APART:
        n.element_stride = 3;
        n.group_stride = 3 * n.width;
        break;
    default:
        break;
    }
    n.row_stride = n.n_groups * n.group_stride;
    if (i / 7 % LAYOUTS == ROWS_APART) {
        n.row_stride += 16;
    } else if (i / 7 % LAYOUTS == ODD_STRIDE) {
        n.row_stride += 5;
    }
    return n;
}

static void compare(metal_check *c, const metal_rms_norm *n, const values *x, const float *weight, values *y)
{
    ops_table ops = ops_table_scalar();
    float *src = metal_get(n->width * sizeof *src), *dst = metal_get(n->width * sizeof *dst);
    values_read(y);
    for (uint32_t g = 0; g < n->n_rows * n->n_groups; g++) {
        const float *from = x->f + g / n->n_groups * n->row_stride + g % n->n_groups * n->group_stride;
        for (uint32_t i = 0; i < n->width; i++) {
            src[i] = from[i * n->element_stride];
        }
        ops.norm(NORM_RMS, src, dst, n->weighted ? weight : NULL, NULL, n->width, n->eps);
        for (uint32_t i = 0; i < n->width; i++) {
            double bound = (8 + sqrt(n->width)) * 0x1p-23 * fabs((double)dst[i]);
            metal_compare(c, y->type, y->f[g * n->width + i], (double)dst[i], bound, g * n->width + i);
        }
    }
    free(src);
    free(dst);
}

static void run(metal_check *c)
{
    metal_rms_norm n = shape_of(c);
    dtype type = metal_pick_type(c->index);
    values x = values_make(c, type, (size_t)n.n_rows * n.row_stride, (values_kind)(c->index / 2 % 4));
    values weight = values_make(c, DTYPE_F32, n.width < 8 ? 8 : n.width, VALUES_NORMAL);
    values y = values_output(type, (size_t)n.n_rows * n.n_groups * n.width);
    metal_dispatch dispatch = metal_rms_norm_dispatch(&n);
    char name[32];
    snprintf(name, sizeof name, "rms_norm_%s", metal_type_name(type));
    for (uint32_t i = 0; i < c->n_seeds; i++) {
        values_poison(&y);
        metal_emulator_argument arguments[] = {values_argument(&x), values_argument(&weight), {0}, values_argument(&y)};
        if (metal_run(c, name, arguments, 4, 2, &dispatch, c->seeds[i])) {
            compare(c, &n, &x, weight.f, &y);
        }
    }
    values_free(&x);
    values_free(&weight);
    values_free(&y);
}

const metal_suite metal_rms_norm_suite = {"rms_norm", 135, run};
