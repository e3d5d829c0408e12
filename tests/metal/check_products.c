/*
 * q_gemm_dequant.metal and swiglu_mlp_fused.metal against the scalar codecs and sums in double: every format, random,
 * zero, lowest, highest and sparse blocks, odd numbers of rows and outputs, rows apart.
 * Owner: none. Lifetime: the case.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/ops.h"
#include "kernels/weights.h"
#include "metal_check.h"
#include "quant/codec.h"

static const dtype formats[] = {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q8_0, DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K,
                                DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_Q8_K, DTYPE_F32,  DTYPE_F16,  DTYPE_BF16};
#define N_QUANTISED 9u
#define N_FORMATS 12u

/* A matrix of weights with a bound on every term of its formula. */
typedef struct matrix {
    dtype type;
    uint32_t n_in, n_out;
    uint8_t *bytes;
    size_t n_bytes;
    float *weights, *magnitude; /* [n_out][n_in] */
} matrix;

static matrix matrix_make(metal_check *c, dtype type, uint32_t n_in, uint32_t n_out, weights_kind kind)
{
    size_t n = (size_t)n_in * n_out;
    matrix m = {.type = type, .n_in = n_in, .n_out = n_out, .n_bytes = dtype_row_bytes(type, n)};
    m.bytes = metal_get(m.n_bytes);
    m.weights = metal_get(n * sizeof *m.weights);
    m.magnitude = metal_get(n * sizeof *m.magnitude);
    weights_fill(&c->base, type, kind, m.bytes, n);
    codec_decode(type, m.bytes, m.weights, n);
    weights_magnitude(type, m.bytes, m.magnitude, n);
    return m;
}

static void matrix_free(matrix *m)
{
    free(m->bytes);
    free(m->weights);
    free(m->magnitude);
}

/* One element of a product, and how far off it may be. */
typedef struct element {
    double value, bound;
} element;

static element product(const matrix *m, const float *x, uint32_t output, double relative)
{
    element e = {0};
    for (uint32_t k = 0; k < m->n_in; k++) {
        size_t at = (size_t)output * m->n_in + k;
        e.value += (double)m->weights[at] * (double)x[k];
        e.bound += (double)m->magnitude[at] * fabs((double)x[k]);
    }
    e.bound *= relative;
    return e;
}

/* n_in of a case: one to three of the largest blocks, or some small ones. */
static uint32_t inputs_of(metal_check *c, dtype type)
{
    uint32_t block = dtype_find(type)->block_size;
    return block == 256 ? 256 * (1 + c->index % 3) : 32 * (1 + check_below(&c->base, 20));
}

static void run_q_gemm(metal_check *c)
{
    uint32_t i = c->index;
    bool tiles = i / 27 % 2;
    dtype type = metal_pick_type(i), format = formats[i / 3 % N_QUANTISED];
    metal_q_gemm g = {.n_rows = tiles ? 1 + check_below(&c->base, 70) : 1 + i % 2 * check_below(&c->base, 7),
                      .n_in = inputs_of(c, format),
                      .n_out = 1 + check_below(&c->base, tiles ? 90 : 40),
                      .type = format,
                      .biased = i % 4 == 1,
                      .threads = metal_pick_threads(i / 3)};
    g.x_stride = g.n_in + (i % 5 == 2 ? 12 : 0);
    matrix w = matrix_make(c, format, g.n_in, g.n_out, (weights_kind)(i / 5 % WEIGHTS_KIND_COUNT));
    values x = values_make(c, type, (size_t)g.n_rows * g.x_stride, i % 7 == 3 ? VALUES_SMALL : VALUES_NORMAL);
    values bias = values_make(c, DTYPE_F32, g.n_out < 8 ? 8 : g.n_out, VALUES_NORMAL);
    values y = values_output(type, (size_t)g.n_rows * g.n_out);
    char name[64];
    snprintf(name, sizeof name, tiles ? "q_gemm_matrix_%s_%s" : "q_gemm_vector_%s_%s_%u", metal_type_name(type),
             metal_type_name(format), metal_rows_shared(g.n_rows));
    metal_dispatch dispatch = tiles ? metal_q_gemm_matrix_dispatch(&g) : metal_q_gemm_vector_dispatch(&g);
    /* tiles of half hold rounded weights */
    double relative = (24 + g.n_in / 16.0) * 0x1p-23 + (tiles && type == DTYPE_F16 ? 0x1p-11 : 0);
    for (uint32_t s = 0; s < c->n_seeds; s++) {
        values_poison(&y);
        metal_emulator_argument arguments[] = {
            values_argument(&x), METAL_BYTES(w.bytes, w.n_bytes), values_argument(&bias), {0}, values_argument(&y)};
        if (!metal_run(c, name, arguments, 5, 3, &dispatch, c->seeds[s])) {
            continue;
        }
        values_read(&y);
        for (uint32_t r = 0; r < g.n_rows; r++) {
            for (uint32_t o = 0; o < g.n_out; o++) {
                element e = product(&w, x.f + (size_t)r * g.x_stride, o, relative);
                double b = g.biased ? (double)bias.f[o] : 0;
                metal_compare(c, type, y.f[r * g.n_out + o], e.value + b, e.bound + 0x1p-23 * fabs(b), r * g.n_out + o);
            }
        }
    }
    matrix_free(&w);
    values_free(&x);
    values_free(&bias);
    values_free(&y);
}

const metal_suite metal_q_gemm_suite = {"q_gemm_dequant", 216, run_q_gemm};

/* ---- swiglu ---- */

static double activated(activation act, double x)
{
    float gate = (float)x, up = 1.0f;
    ops_table_scalar().gated(act, &gate, &up, 1);
    return (double)gate;
}

static void run_fused(metal_check *c)
{
    uint32_t i = c->index;
    dtype type = metal_pick_type(i), format = formats[i / 3 % N_FORMATS];
    metal_swiglu m = {.n_rows = i % 2 ? 1 + check_below(&c->base, 6) : 1,
                      .n_in = inputs_of(c, format),
                      .n_out = 1 + check_below(&c->base, 30),
                      .type = format,
                      .act = i / 2 % 2 ? ACT_GELU_TANH : ACT_SILU,
                      .threads = metal_pick_threads(i / 3)};
    m.x_stride = m.n_in + (i % 5 == 2 ? 8 : 0);
    weights_kind kind = (weights_kind)(i / 5 % WEIGHTS_KIND_COUNT);
    matrix gate = matrix_make(c, format, m.n_in, m.n_out, kind), up = matrix_make(c, format, m.n_in, m.n_out, kind);
    values x = values_make(c, type, (size_t)m.n_rows * m.x_stride, i % 7 == 3 ? VALUES_SMALL : VALUES_NORMAL);
    values y = values_output(type, (size_t)m.n_rows * m.n_out);
    char name[64];
    snprintf(name, sizeof name, "swiglu_mlp_fused_%s_%s_%u", metal_type_name(type), metal_type_name(format),
             metal_rows_shared(m.n_rows));
    metal_dispatch dispatch = metal_swiglu_dispatch(&m);
    for (uint32_t s = 0; s < c->n_seeds; s++) {
        values_poison(&y);
        metal_emulator_argument arguments[] = {values_argument(&x),
                                               METAL_BYTES(gate.bytes, gate.n_bytes),
                                               METAL_BYTES(up.bytes, up.n_bytes),
                                               {0},
                                               values_argument(&y)};
        if (!metal_run(c, name, arguments, 5, 3, &dispatch, c->seeds[s])) {
            continue;
        }
        values_read(&y);
        for (uint32_t r = 0; r < m.n_rows; r++) {
            for (uint32_t o = 0; o < m.n_out; o++) {
                double relative = (24 + m.n_in / 16.0) * 0x1p-23;
                element g = product(&gate, x.f + (size_t)r * m.x_stride, o, relative);
                element u = product(&up, x.f + (size_t)r * m.x_stride, o, relative);
                double a = activated(m.act, g.value); /* its slope is below 1.13; GELU's digits: see ops.h */
                double error = 1.13 * g.bound + 60 * 0x1p-23 * fabs(a);
                metal_compare(c, type, y.f[r * m.n_out + o], a * u.value,
                              error * (fabs(u.value) + u.bound) + fabs(a) * u.bound, r * m.n_out + o);
            }
        }
    }
    matrix_free(&gate);
    matrix_free(&up);
    values_free(&x);
    values_free(&y);
}

/* gated_apply: any width, rows apart, numbers whose exponentials overflow. */
static void run_gated(metal_check *c)
{
    uint32_t i = c->index, n_rows = 1 + i % 4, width = 1 + check_below(&c->base, 700);
    dtype type = metal_pick_type(i);
    activation act = i / 2 % 2 ? ACT_GELU_TANH : ACT_SILU;
    uint32_t gate_stride = width + i % 3, up_stride = width + i % 5;
    values gate = values_make(c, type, (size_t)n_rows * gate_stride, VALUES_NORMAL);
    values up = values_make(c, type, (size_t)n_rows * up_stride, VALUES_NORMAL);
    values y = values_output(type, (size_t)n_rows * width);
    if (i % 2) { /* up to 200 in size */
        values large = values_make(c, type, (size_t)n_rows * gate_stride, VALUES_LARGE);
        for (size_t k = 0; k < large.n; k += 3) {
            memcpy((uint8_t *)gate.data + k * dtype_row_bytes(type, 1),
                   (uint8_t *)large.data + k * dtype_row_bytes(type, 1), dtype_row_bytes(type, 1));
        }
        values_free(&large);
        values_read(&gate);
    }
    metal_dispatch dispatch = metal_gated_dispatch(n_rows, width, gate_stride, up_stride, act);
    char name[32];
    snprintf(name, sizeof name, "gated_apply_%s", metal_type_name(type));
    for (uint32_t s = 0; s < c->n_seeds; s++) {
        values_poison(&y);
        metal_emulator_argument arguments[] = {values_argument(&gate), values_argument(&up), {0}, values_argument(&y)};
        if (!metal_run(c, name, arguments, 4, 2, &dispatch, c->seeds[s])) {
            continue;
        }
        values_read(&y);
        for (uint32_t r = 0; r < n_rows; r++) {
            for (uint32_t k = 0; k < width; k++) {
                double expected = activated(act, (double)gate.f[r * gate_stride + k]) * (double)up.f[r * up_stride + k];
                metal_compare(c, type, y.f[r * width + k], expected, 60 * 0x1p-23 * fabs(expected) + 1e-30,
                              r * width + k);
            }
        }
    }
    values_free(&gate);
    values_free(&up);
    values_free(&y);
}

static void run_swiglu(metal_check *c)
{
    if (c->index % 5 == 4) {
        run_gated(c);
    } else {
        run_fused(c);
    }
}

const metal_suite metal_swiglu_suite = {"swiglu_mlp", 180, run_swiglu};
