/*
 * The bridge to MLX by itself: errors, memory, and what lazy strides do to those who read or multiply
 * (docs/GQA_RESHAPE_FIX.md).
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "kernels/mlx/bridge_kernel.h"
#include "kernels/mlx/values.h"
#include "support/test.h"

static mlx_arena *open_arena(void)
{
    mlxr_error error;
    bridge_device device;
    assert_ok(bridge_open(&device, &error), &error);
    mlx_arena *a = bridge_arena_open();
    assert_non_null(a);
    return a;
}

static float *numbers(uint64_t seed, size_t n)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(test_random(&seed) >> 40) * 0x1p-23f - 1.0f;
    }
    return x;
}

static void the_first_error_sticks_until_the_arena_is_emptied(void **state)
{
    (void)state;
    mlxr_error error;
    const int32_t two[] = {2, 3}, four[] = {4, 5};
    float zeros[20] = {0};
    mlx_arena *a = open_arena();
    mlx_value *x = bridge_copy(a, MLX_F32, 2, two, zeros), *y = bridge_copy(a, MLX_F32, 2, four, zeros);
    assert_non_null(x);
    assert_null(bridge_two(a, BRIDGE_MATMUL, x, y));
    assert_null(value_add(a, x, x)); /* nothing wrong with it */
    assert_null(bridge_data(a, x));
    assert_int_equal(bridge_status(a, &error), MLXR_DEVICE);
    assert_non_null(strstr(error.text, "matmul"));
    bridge_arena_empty(a);
    assert_int_equal(bridge_status(a, &error), MLXR_OK);
    x = bridge_copy(a, MLX_F32, 2, two, zeros);
    assert_null(value_add(a, x, NULL)); /* an operand whose arena failed unnoticed */
    assert_int_equal(bridge_status(a, &error), MLXR_DEVICE);
    bridge_arena_close(&a);
    assert_null(a);
}

static void kept_arrays_outlive_the_arena_they_were_made_in(void **state)
{
    (void)state;
    const int32_t n = 3;
    const float values[] = {1, 2, 3};
    mlx_arena *a = open_arena(), *b = bridge_arena_open();
    mlx_value *sum = bridge_copy(a, MLX_F32, 1, &n, values);
    sum = bridge_keep(b, value_add(a, sum, sum));
    bridge_arena_close(&a);
    bridge_submit(b, (const mlx_value *const[]){sum}, 1);
    const float *found = bridge_data(b, sum);
    assert_non_null(found);
    assert_true(found[0] == 2 && found[1] == 4 && found[2] == 6);
    bridge_arena_close(&b);
}

static void wrapped_memory_may_begin_anywhere_in_a_page(void **state)
{
    (void)state;
    enum { N = 5000 };
    mlx_arena *a = open_arena();
    uint8_t *memory = malloc(N * sizeof(float) + 64);
    assert_non_null(memory);
    for (size_t offset = 0; offset < 48; offset += 4) {
        float *values = (float *)(void *)(memory + offset);
        for (int i = 0; i < N; i++) {
            values[i] = (float)(i + (int)offset);
        }
        const int32_t shape[] = {N / 4, 4};
        const float *found = bridge_data(a, bridge_wrap(a, MLX_F32, 2, shape, values));
        assert_non_null(found);
        assert_memory_equal(found, values, N * sizeof *values);
        bridge_arena_empty(a);
    }
    free(memory);
    bridge_arena_close(&a);
}

/* What lies in memory after these is not in the order of the shape; what is read back is. */
static void results_are_read_in_the_order_of_their_shape(void **state)
{
    (void)state;
    enum { A = 3, B = 4, C = 5 };
    const int32_t shape[] = {A, B, C};
    static const int turned[] = {2, 0, 1};
    float *x = numbers(1, A * B * C);
    mlx_arena *a = open_arena();
    mlx_value *v = bridge_transpose(a, bridge_copy(a, MLX_F32, 3, shape, x), 3, turned);
    const float *found = bridge_data(a, v);
    assert_non_null(found);
    for (int c = 0; c < C; c++) {
        for (int i = 0; i < A * B; i++) {
            assert_true(found[c * A * B + i] == x[i * C + c]);
        }
    }
    found = bridge_data(a, bridge_slice(a, v, 2, 1, 3)); /* [C, A, 2] of [C, A, B] */
    for (int c = 0; c < C; c++) {
        for (int i = 0; i < A; i++) {
            assert_true(found[(c * A + i) * 2] == x[(i * B + 1) * C + c]);
        }
    }
    free(x);
    bridge_arena_close(&a);
}

/* Softmax attention of one query head in double: q row, keys and values of its key head. */
static void attend_plainly(const float *q, const float *kv, uint32_t n_keys, uint32_t stride, uint32_t d, double *out)
{
    double scores[64], total = 0, top = -1e30;
    for (uint32_t j = 0; j < n_keys; j++) {
        scores[j] = 0;
        for (uint32_t i = 0; i < d; i++) {
            scores[j] += (double)q[i] * kv[j * stride + i];
        }
        top = fmax(top, scores[j]);
    }
    memset(out, 0, d * sizeof *out);
    for (uint32_t j = 0; j < n_keys; j++) {
        double weight = exp(scores[j] - top);
        total += weight;
        for (uint32_t i = 0; i < d; i++) {
            out[i] += weight * kv[j * stride + d + i];
        }
    }
    for (uint32_t i = 0; i < d; i++) {
        out[i] /= total;
    }
}

/* Queries come as [rows, heads × d], keys and values as slices of one array [keys, key heads, (k, v) × d]: both are
 * turned and cut lazily, and key heads are shared. */
static void grouped_query_heads_meet_their_own_keys(void **state)
{
    (void)state;
    enum { ROWS = 3, KEYS = 11, D = 16 };
    static const int heads_first[] = {0, 2, 1, 3};
    static const int32_t groups[][2] = {{1, 1}, {4, 4}, {4, 2}, {6, 2}, {8, 1}}; /* heads, key heads */
    mlx_arena *a = open_arena();
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        const int32_t n_head = groups[g][0], n_kv = groups[g][1], shared = n_head / n_kv;
        float *q = numbers(g, (size_t)(ROWS * n_head * D)), *kv = numbers(g + 9, (size_t)(KEYS * n_kv * 2 * D));
        const int32_t kv_shape[] = {1, KEYS, n_kv, 2 * D}, q_shape[] = {ROWS, n_head * D};
        mlx_value *both = bridge_transpose(a, bridge_copy(a, MLX_F32, 4, kv_shape, kv), 4, heads_first);
        mlx_value *k = bridge_slice(a, both, 3, 0, D), *v = bridge_slice(a, both, 3, D, 2 * D);
        mlx_value *queries = value_reshape(a, bridge_copy(a, MLX_F32, 2, q_shape, q), 4, 1, ROWS, n_head, D);
        queries = bridge_transpose(a, queries, 4, heads_first);
        mlx_value *y = bridge_attention(a, queries, k, v, 1.0f, false, NULL, NULL);
        const float *found = bridge_data(a, bridge_transpose(a, y, 4, heads_first)); /* [1, ROWS, n_head, D] */
        assert_non_null(found);
        for (int32_t r = 0; r < ROWS; r++) {
            for (int32_t h = 0; h < n_head; h++) {
                double expected[D];
                attend_plainly(q + (r * n_head + h) * D, kv + h / shared * 2 * D, KEYS, (uint32_t)(n_kv * 2 * D), D,
                               expected);
                for (int i = 0; i < D; i++) {
                    assert_true(fabs((double)found[(r * n_head + h) * D + i] - expected[i]) < 1e-6);
                }
            }
        }
        bridge_arena_empty(a);
        free(q);
        free(kv);
    }
    bridge_arena_close(&a);
}

/* Every width that files are packed to: the two ways of multiplying by them that the backend chooses from. */
static void packed_weights_give_what_they_hold(void **state)
{
    (void)state;
    enum { ROWS = 20, IN = 96, OUT = 24, GROUP = 32, WORD = 32 };
    static const int widths[] = {4, 5, 8}, turned[] = {1, 0};
    static const int32_t x_shape[] = {ROWS, IN}, group_shape[] = {OUT, IN / GROUP};
    float *x = numbers(5, ROWS * IN), *scales = numbers(6, OUT * IN / GROUP), *biases = numbers(7, OUT * IN / GROUP);
    mlx_arena *a = open_arena();
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const int32_t bits = widths[i], n_words = IN / WORD * bits, shape[] = {OUT, n_words};
        uint32_t words[OUT * IN / WORD * 8];
        uint64_t seed = 8 + i;
        for (int32_t j = 0; j < OUT * n_words; j++) {
            words[j] = (uint32_t)test_random(&seed);
        }
        mlx_value *w = bridge_copy(a, MLX_U32, 2, shape, words), *rows = bridge_copy(a, MLX_F32, 2, x_shape, x);
        mlx_value *s = bridge_copy(a, MLX_F32, 2, group_shape, scales),
                  *b = bridge_copy(a, MLX_F32, 2, group_shape, biases);
        mlx_value *dense = bridge_dequantize(a, w, s, b, GROUP, bits);
        const float *held = bridge_data(a, dense);
        const float *one = bridge_data(a, bridge_quantized_matmul(a, rows, w, s, b, GROUP, bits));
        const float *other = bridge_data(a, bridge_two(a, BRIDGE_MATMUL, rows, bridge_transpose(a, dense, 2, turned)));
        assert_non_null(held);
        assert_non_null(one);
        assert_non_null(other);
        for (int32_t o = 0; o < OUT; o++) {
            for (int32_t r = 0; r < ROWS; r++) {
                double expected = 0, size = 0;
                for (int32_t j = 0; j < IN; j++) {
                    int32_t at = j * bits % WORD, word = o * n_words + j * bits / WORD;
                    uint64_t two = words[word] | (uint64_t)(at + bits > WORD ? words[word + 1] : 0) << WORD;
                    double q = (double)(two >> at & ((1u << bits) - 1)), group = (double)scales[(o * IN + j) / GROUP];
                    double value = q * group + (double)biases[(o * IN + j) / GROUP];
                    assert_true(fabs((double)held[o * IN + j] - value) <= 1e-6 * (fabs(q * group) + 1));
                    expected += (double)x[r * IN + j] * value;
                    size += fabs((double)x[r * IN + j]) * (fabs(q * group) + 1);
                }
                assert_true(fabs((double)one[r * OUT + o] - expected) < 1e-6 * size);
                assert_true(fabs((double)other[r * OUT + o] - expected) < 1e-6 * size);
            }
        }
        bridge_arena_empty(a);
    }
    free(x);
    free(scales);
    free(biases);
    bridge_arena_close(&a);
}

static int emulate(void *context, const char *kernel, const metal_emulator_argument *arguments, size_t n_arguments,
                   const metal_emulator_launch *launch, char *error, size_t error_bytes)
{
    (void)context;
    return metal_emulator_run(&metal_kernels_emulated, kernel, arguments, n_arguments, launch, NULL, error,
                              error_bytes);
}

/* A kernel sees rows side by side, whatever the view it was given was cut from. */
static void kernels_take_views_that_are_not_contiguous(void **state)
{
    (void)state;
    enum { ROWS = 5, WIDTH = 24 };
    static const int turned[] = {1, 0};
    static const int32_t shape[] = {2 * WIDTH, ROWS + 2}, ones_shape[] = {WIDTH};
    static const int values[] = {MLX_F32};
    float *x = numbers(3, 2 * WIDTH * (ROWS + 2)), ones[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
        ones[i] = 1;
    }
    const kernel_runner runner = {.run = emulate};
    kernel_failures *failures = bridge_failures_open(&runner);
    mlx_arena *a = open_arena();
    mlx_value *view = bridge_transpose(a, bridge_copy(a, MLX_F32, 2, shape, x), 2, turned), *y = NULL;
    view = bridge_slice(a, bridge_slice(a, view, 0, 1, ROWS + 1), 1, 7, WIDTH + 7);
    metal_dispatch d = metal_rms_norm_dispatch(&(metal_rms_norm){.n_rows = ROWS,
                                                                 .n_groups = 1,
                                                                 .width = WIDTH,
                                                                 .row_stride = WIDTH,
                                                                 .group_stride = WIDTH,
                                                                 .element_stride = 1,
                                                                 .eps = 1e-3f,
                                                                 .weighted = true});
    assert_true(bridge_kernel_call(a, failures,
                                   &(kernel_call){.source = "rms_norm",
                                                  .instance = "rms_norm_f32",
                                                  .template_values = values,
                                                  .inputs = {view, bridge_copy(a, MLX_F32, 1, ones_shape, ones)},
                                                  .n_inputs = 2,
                                                  .dispatch = &d,
                                                  .outputs = {{.type = MLX_F32, .n_dims = 2, .shape = {ROWS, WIDTH}}},
                                                  .n_outputs = 1},
                                   &y));
    const float *found = bridge_data(a, y);
    mlxr_error error;
    assert_ok(bridge_failures_take(failures, &error), &error);
    for (int r = 0; r < ROWS; r++) {
        double sum = 0;
        for (int i = 0; i < WIDTH; i++) {
            double v = (double)x[(i + 7) * (ROWS + 2) + r + 1];
            sum += v * v;
        }
        for (int i = 0; i < WIDTH; i++) {
            double expected = (double)x[(i + 7) * (ROWS + 2) + r + 1] / sqrt(sum / WIDTH + 1e-3);
            assert_true(fabs((double)found[r * WIDTH + i] - expected) < 1e-6);
        }
    }
    free(x);
    bridge_arena_close(&a);
    bridge_failures_close(&failures);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_error_sticks_until_the_arena_is_emptied),
        cmocka_unit_test(kept_arrays_outlive_the_arena_they_were_made_in),
        cmocka_unit_test(wrapped_memory_may_begin_anywhere_in_a_page),
        cmocka_unit_test(results_are_read_in_the_order_of_their_shape),
        cmocka_unit_test(grouped_query_heads_meet_their_own_keys),
        cmocka_unit_test(packed_weights_give_what_they_hold),
        cmocka_unit_test(kernels_take_views_that_are_not_contiguous),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
