/*
 * Stacks of matrices, which experts and heads are, against the scalar backend over the decoded weights: in every
 * format, together in memory or apart, for few rows and for many; and that a step of few rows touches only what was
 * chosen. Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "base/region.h"
#include "kernels/backend.h"
#include "kernels/mlx/weights.h"
#include "quant/codec.h"
#include "support/test.h"

#define NMSE_LIMIT 1e-9 /* seen: 4e-13 */

enum { WIDTH = 256, N_EXPERT = 6, N_USED = 2, N_VOCAB = 64, N_HEADS = 4, HEAD_OUT = 32, HEAD_FIRST = 8, ROWS_MAX = 70 };
enum { HEAD_APART = HEAD_FIRST + HEAD_OUT, OPS_MAX = 10 };

/* Where the matrices of a stack lie. */
typedef enum placing { TOGETHER, APART, MIXED /* … and every other one is Q8_0 */ } placing;

typedef struct model {
    region memory;
    uint64_t seed;
    plan plan;
    op ops[OPS_MAX];
    op_experts experts;
    op_heads heads;
} model;

static float *numbers(model *m, size_t n, float scale)
{
    float *x = region_array(&m->memory, n, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        x[i] = scale * ((float)(test_random(&m->seed) >> 40) * 0x1p-23f - 1.0f);
    }
    return x;
}

/* A tensor of a type whose bytes are at `data`. */
static tensor tensor_of(dtype type, uint32_t n_in, uint32_t n_out, const void *data)
{
    size_t row = dtype_row_bytes(type, n_in);
    return (tensor){.name = "made",
                    .type = type,
                    .n_dims = 2,
                    .shape = {n_in, n_out, 1, 1},
                    .row_bytes = row,
                    .n_bytes = n_out * row,
                    .data = data};
}

static const tensor *matrix(model *m, uint32_t n_in, uint32_t n_out)
{
    tensor *t = region_array(&m->memory, 1, sizeof *t);
    assert_non_null(t);
    *t = tensor_of(DTYPE_F32, n_in, n_out, numbers(m, (size_t)n_in * n_out, 2.0f / sqrtf((float)n_in)));
    return t;
}

/* n matrices as the file would have them. */
static const tensor *stack(model *m, dtype type, placing how, uint32_t n, uint32_t n_out)
{
    tensor *parts = region_array(&m->memory, n, sizeof *parts);
    size_t n_weights = (size_t)WIDTH * n_out;
    uint8_t *all = region_array(&m->memory, n, 2 * n_weights * sizeof(float));
    assert_non_null(parts);
    assert_non_null(all);
    for (uint32_t i = 0; i < n; i++) {
        dtype own = how == MIXED && i % 2 ? DTYPE_Q8_0 : type;
        tensor t = tensor_of(own, WIDTH, n_out,
                             all + i * (how == TOGETHER ? 1 : 2) * n_out * dtype_row_bytes(own, WIDTH));
        if (how == MIXED) {
            t.data = all + i * 2 * n_weights * sizeof(float);
        }
        codec_encode(own, numbers(m, n_weights, 1.5f / sqrtf((float)WIDTH)), (void *)(uintptr_t)t.data, n_weights,
                     NULL);
        parts[i] = t;
    }
    return parts;
}

/* The same weights as F32; NULL of NULL. */
static const tensor *decoded(model *m, const tensor *from, uint32_t n)
{
    tensor *parts = from ? region_array(&m->memory, n, sizeof *parts) : NULL;
    for (uint32_t i = 0; from && i < n; i++) {
        size_t n_weights = WIDTH * (size_t)from[i].shape[1];
        float *values = region_array(&m->memory, n_weights, sizeof *values);
        assert_non_null(values);
        codec_decode(from[i].type, from[i].data, values, n_weights);
        parts[i] = tensor_of(DTYPE_F32, WIDTH, (uint32_t)from[i].shape[1], values);
    }
    return parts;
}

static op *add(model *m, op_kind kind, slot dst, slot src, uint32_t width)
{
    op *o = &m->ops[m->plan.n_ops++];
    assert_true(m->plan.n_ops <= OPS_MAX);
    *o = (op){.kind = kind, .dst = dst, .src = src, .width = width, .scale = 1};
    m->plan.slot_width[dst] = width > m->plan.slot_width[dst] ? width : m->plan.slot_width[dst];
    return o;
}

/* Tokens → experts → heads of which the first elements are picked → logits. */
static void make_model(model *m, dtype type, placing how, bool gated)
{
    *m = (model){.seed = 5, .plan = {.ops = m->ops, .n_vocab = N_VOCAB, .n_embd = WIDTH, .n_layers = 1}};
    add(m, OP_EMBED, SLOT_X, SLOT_NONE, WIDTH)->weight = matrix(m, WIDTH, N_VOCAB);
    add(m, OP_NORM, SLOT_X, SLOT_X, WIDTH)->norm = (op_norm){.width = WIDTH, .eps = 1e-6f};
    add(m, OP_LINEAR, SLOT_R, SLOT_X, N_EXPERT)->weight = matrix(m, WIDTH, N_EXPERT);
    m->experts = (op_experts){.n_expert = N_EXPERT,
                              .n_used = N_USED,
                              .n_in = WIDTH,
                              .n_ff = WIDTH,
                              .normalise = gated,
                              .scale = 1.5f,
                              .act = gated ? ACT_SILU : ACT_RELU_SQUARED,
                              .expert_scales = gated ? numbers(m, N_EXPERT, 1) : NULL,
                              .gate = gated ? stack(m, type, how, N_EXPERT, WIDTH) : NULL,
                              .up = stack(m, type, how, N_EXPERT, WIDTH),
                              .down = stack(m, type, how, N_EXPERT, WIDTH),
                              .gate_bias = gated ? numbers(m, N_EXPERT * WIDTH, 0.3f) : NULL,
                              .up_bias = numbers(m, N_EXPERT * WIDTH, 0.3f),
                              .down_bias = numbers(m, N_EXPERT * WIDTH, 0.3f)};
    add(m, OP_EXPERTS, SLOT_O, SLOT_X, WIDTH)->experts = &m->experts;
    add(m, OP_LINEAR, SLOT_W, SLOT_O, N_HEADS * WIDTH)->weight = matrix(m, WIDTH, N_HEADS * WIDTH);
    m->heads = (op_heads){.n_heads = N_HEADS,
                          .n_in = WIDTH,
                          .n_out = HEAD_OUT,
                          .from_apart = WIDTH,
                          .to = HEAD_FIRST,
                          .to_apart = HEAD_APART,
                          .weights = stack(m, type, how, N_HEADS, HEAD_OUT)};
    add(m, OP_HEADS, SLOT_A, SLOT_W, N_HEADS * HEAD_APART)->heads = &m->heads;
    add(m, OP_PICK, SLOT_A, SLOT_W, N_HEADS * HEAD_APART)->pick = (op_pick){
        .n_groups = N_HEADS, .group = WIDTH, .from = 3, .n = HEAD_FIRST, .apart = HEAD_APART};
    add(m, OP_TAKE_ROWS, SLOT_A, SLOT_A, N_HEADS * HEAD_APART);
    add(m, OP_LINEAR, SLOT_LOGITS, SLOT_A, N_VOCAB)->weight = matrix(m, N_HEADS * HEAD_APART, N_VOCAB);
}

static void decode_model(model *m)
{
    m->experts.gate = decoded(m, m->experts.gate, N_EXPERT);
    m->experts.up = decoded(m, m->experts.up, N_EXPERT);
    m->experts.down = decoded(m, m->experts.down, N_EXPERT);
    m->heads.weights = decoded(m, m->heads.weights, N_HEADS);
}

/* Logits of n_rows tokens in one step. */
static void run(const char *name, const model *m, uint32_t n_rows, float *logits)
{
    mlxr_error error;
    backend *b = NULL;
    program *prog = NULL;
    int32_t tokens[ROWS_MAX], positions[ROWS_MAX];
    uint32_t wanted[ROWS_MAX];
    const backend_ops *ops = backend_find(name);
    assert_non_null(ops);
    for (uint32_t i = 0; i < n_rows; i++) {
        tokens[i] = (int32_t)(i * 13 % N_VOCAB);
        positions[i] = (int32_t)i;
        wanted[i] = i;
    }
    step_slice slice = {.n_rows = n_rows};
    step s = {.n_rows = n_rows,
              .tokens = tokens,
              .positions = positions,
              .slices = &slice,
              .n_slices = 1,
              .wanted = wanted,
              .n_wanted = n_rows,
              .logits = logits};
    assert_ok(ops->open(&b, &(backend_options){.n_threads = 1}, &error), &error);
    assert_ok(ops->prepare(b, &m->plan, &prog, &error), &error);
    assert_ok(ops->run(b, prog, &s, &error), &error);
    ops->release(b, &prog);
    ops->close(&b);
}

static double nmse(const float *found, const float *expected, size_t n)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)found[i] - (double)expected[i];
        wrong += difference * difference;
        all += (double)expected[i] * (double)expected[i];
    }
    return wrong / all;
}

static double compare(dtype type, placing how, bool gated)
{
    /* few pairs of rows and experts, more of them than experts, and so many that they are sorted */
    static const uint32_t rows[] = {1, 8, ROWS_MAX};
    enum { N = sizeof rows / sizeof *rows };
    static float expected[ROWS_MAX * N_VOCAB], found[N][ROWS_MAX * N_VOCAB];
    model m;
    double worst = 0;
    make_model(&m, type, how, gated);
    for (size_t i = 0; i < N; i++) {
        run("mlx", &m, rows[i], found[i]);
    }
    decode_model(&m);
    run("cpu-scalar", &m, ROWS_MAX, expected); /* rows do not see each other */
    for (size_t i = 0; i < N; i++) {
        double error = nmse(found[i], expected, (size_t)rows[i] * N_VOCAB);
        worst = error > worst || isnan(error) ? error : worst;
    }
    region_close(&m.memory);
    return worst;
}

static void experts_and_heads_of_every_format_equal_the_scalar_backend(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        placing how;
        bool gated, every; /* with every format, not with one of each kind only */
    } cases[] = {{"gated", TOGETHER, true, true},
                 {"ungated", TOGETHER, false, false},
                 {"apart", APART, true, false},
                 {"mixed", MIXED, true, false}};
    for (uint32_t type = 0; type < 64; type++) {
        if (!dtype_find(type) || !codec_encodes((dtype)type) || WIDTH % dtype_find(type)->block_size != 0) {
            continue;
        }
        printf("%-8s", dtype_name((dtype)type));
        bool of_each_kind = type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_Q4_0 || type == DTYPE_Q6_K;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            if (!cases[i].every && !of_each_kind) {
                continue;
            }
            double error = compare((dtype)type, cases[i].how, cases[i].gated);
            printf("  %s %.1e", cases[i].name, error);
            if (!(error < NMSE_LIMIT)) {
                fail_msg("%s %s: NMSE %.2e, limit %.0e", dtype_name((dtype)type), cases[i].name, error, NMSE_LIMIT);
            }
        }
        printf("\n");
    }
}

/* Those that no row chooses hold no numbers: multiplied by 0 they would still be none. */
static void few_rows_touch_only_the_experts_that_they_chose(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q6_K};
    static const float choice[N_EXPERT] = {0, 9, 0, 0, 9, 0};
    static float expected[2 * N_VOCAB], found[2 * N_VOCAB];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        model m;
        make_model(&m, types[i], TOGETHER, true);
        m.experts.choice_bias = choice;
        run("mlx", &m, 2, expected);
        const tensor *const all[] = {m.experts.gate, m.experts.up, m.experts.down};
        for (size_t j = 0; j < 3 * N_EXPERT; j++) {
            const tensor *t = &all[j / N_EXPERT][j % N_EXPERT];
            if (choice[j % N_EXPERT] == 0) {
                memset((void *)(uintptr_t)t->data, 0xff, t->n_bytes); /* a NaN in all of these formats */
            }
        }
        run("mlx", &m, 2, found);
        assert_memory_equal(found, expected, sizeof found);
        region_close(&m.memory);
    }
}

/* Numbers of a damaged file: whatever the router then names is an expert, whether pairs are sorted or not. */
static void a_row_without_numbers_spoils_no_other(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_Q4_0, DTYPE_Q6_K};
    static const uint32_t rows[] = {2, ROWS_MAX};
    static const routing_kind routings[] = {ROUTE_TOP_SOFTMAX, ROUTE_SOFTMAX, ROUTE_SIGMOID};
    static float expected[ROWS_MAX * N_VOCAB], found[ROWS_MAX * N_VOCAB];
    for (size_t i = 0; i < 18; i++) {
        const uint32_t n = rows[i % 2], damaged = 13; /* the token of row 1 */
        model m;
        make_model(&m, types[i / 2 % 3], TOGETHER, true);
        m.experts.routing = routings[i / 6];
        run("mlx", &m, n, expected);
        float *embedding = (void *)(uintptr_t)((const float *)m.ops[0].weight->data + damaged * WIDTH);
        for (size_t k = 0; k < WIDTH; k++) {
            embedding[k] = NAN;
        }
        run("mlx", &m, n, found);
        for (uint32_t row = 0; row < n; row++) {
            const float *x = found + row * N_VOCAB;
            for (size_t k = 0; k < N_VOCAB && row * 13 % N_VOCAB == damaged; k++) {
                assert_true(isnan(x[k]));
            }
            if (row * 13 % N_VOCAB != damaged && nmse(x, expected + row * N_VOCAB, N_VOCAB) >= NMSE_LIMIT) {
                fail_msg("case %zu: row %u has changed", i, row);
            }
        }
        region_close(&m.memory);
    }
}

/* Of a large model in a format that is decoded first: 256 experts of 2048 × 7168. */
static void matrices_are_decoded_for_no_more_pairs_than_memory_has_room_for(void **state)
{
    (void)state;
    mlx_stack s = {.n = 256, .all = {.w = (void *)&s, .n_in = 7168, .n_out = 256 * 2048}};
    assert_true(mlx_stack_gathers(&s, 1, 8)); /* of one row: all of them would be more */
    assert_false(mlx_stack_gathers(&s, 2, 8));
    assert_true(mlx_stack_gathers(&s, 2, 2));
    assert_false(mlx_stack_gathers(&s, 31, 8)); /* 14 GiB */
    s.all.n_in = 64;
    assert_true(mlx_stack_gathers(&s, 31, 8));
    assert_false(mlx_stack_gathers(&s, 32, 8));
    s.all.n_in = 7168;
    s.all.packed = true; /* multiplied as it is */
    assert_true(mlx_stack_gathers(&s, 31, 8));
}

/* A plan that no family has. */
static void heads_that_overlap_are_refused_by_name(void **state)
{
    (void)state;
    mlxr_error error;
    backend *b = NULL;
    program *prog = NULL;
    model m;
    make_model(&m, DTYPE_F32, TOGETHER, true);
    m.heads.from_apart = WIDTH / 2;
    assert_ok(backend_mlx.open(&b, &(backend_options){.n_threads = 1}, &error), &error);
    assert_int_equal(backend_mlx.prepare(b, &m.plan, &prog, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "no graph for this model's 'heads' (plan operation 5)"));
    backend_mlx.close(&b);
    region_close(&m.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_and_heads_of_every_format_equal_the_scalar_backend),
        cmocka_unit_test(few_rows_touch_only_the_experts_that_they_chose),
        cmocka_unit_test(a_row_without_numbers_spoils_no_other),
        cmocka_unit_test(matrices_are_decoded_for_no_more_pairs_than_memory_has_room_for),
        cmocka_unit_test(heads_that_overlap_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
