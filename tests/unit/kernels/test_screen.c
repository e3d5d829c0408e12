/*
 * Rows of logits of which only the greatest is wanted: which one that is does not depend on how it was found.
 * Owner: the test program. Lifetime: the process.
 */
#include "kernels/cpu/program.h"

#include "tiny_plan.h"

#define N_ROWS 40u
#define STEPS 3u /* more than it takes to learn the lengths of these matrices' rows */

static const tiny_options plain = {.n_layers = 1,
                                   .n_embd = 256,
                                   .n_head = 4,
                                   .n_head_kv = 2,
                                   .head_dim = 64,
                                   .n_ff = 256,
                                   .n_vocab = 1003,
                                   .weights = DTYPE_Q8_0};

static cpu_features without_avx512(void)
{
    return cpu_detect() & ~(cpu_features)(CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16);
}

/* Can these kernels round inputs of such weights to one digit, and meet a single one as it is? */
static bool screens(dtype type, cpu_features features)
{
    linear_kernels k;
    linear_init(&k, features);
    return k.rounded[type] == LINEAR_Q8 && linear_format_for(&k, type, 1) == LINEAR_Q16;
}

/* Steps that want the greatest name the one that whole rows have, which stands where they have it and is the greatest
 * there, too, or leave whole rows; returns how many of the last step they name. */
static uint32_t check(tiny *t, uint32_t n_rows, uint32_t n_threads, cpu_features features)
{
    uint32_t n_named = 0;
    logits_pair p = logits_pair_open(t, n_rows, n_rows, n_threads, features);
    logits_pair_expect(&p, p.tokens, n_rows);
    for (uint32_t at = 0; at < STEPS; at++) {
        n_named = logits_pair_check(&p, p.tokens, n_rows, false);
        for (uint32_t i = 0; i < n_rows; i++) {
            const float *row = p.whole + (size_t)i * p.n_vocab, *found = p.got + (size_t)i * p.n_vocab;
            int32_t most = greatest_of(row, p.n_vocab);
            assert_int_equal(greatest_of(found, p.n_vocab), most);
            assert_true(most < 0 || memcmp(found + most, row + most, sizeof *row) == 0);
        }
    }
    logits_pair_close(&p);
    return n_named;
}

static void check_all_ways(tiny *t, bool named)
{
    const cpu_features features[] = {0, without_avx512(), cpu_detect()};
    for (uint32_t i = 0; i < 3; i++) {
        bool can = named && screens(t->o.weights, features[i]);
        for (uint32_t threads = 1; threads < 4; threads++) {
            assert_int_equal(check(t, N_ROWS, threads, features[i]), can ? N_ROWS : 0);
        }
    }
}

static void the_greatest_is_that_of_whole_rows_in_every_format(void **state)
{
    (void)state;
    static const struct {
        dtype type;
        bool named; /* its values are a scale times an integer */
    } formats[] = {{DTYPE_Q8_0, true},  {DTYPE_Q4_0, true},  {DTYPE_Q5_0, true}, {DTYPE_Q6_K, true},
                   {DTYPE_Q4_1, false}, {DTYPE_Q4_K, false}, {DTYPE_F16, false}, {DTYPE_F32, false}};
    for (uint32_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        tiny_options o = plain;
        o.weights = formats[i].type;
        tiny t;
        tiny_open(&t, &o);
        check_all_ways(&t, formats[i].named);
        tiny_close(&t);
    }
}

static void vocabularies_need_not_be_whole_blocks(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1536, 2049};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tiny_options o = plain;
        o.n_vocab = sizes[i];
        tiny t;
        tiny_open(&t, &o);
        check_all_ways(&t, true);
        tiny_close(&t);
    }
}

enum { OUT = 48, IN_MOST = 8192 };

/* Weights and inputs of one size; the largest part of what the bound allows that a logit changed by. */
static double check_bound(const linear_kernels *k, dtype type, uint32_t n_in, const float *x, const uint8_t *weights)
{
    static float decoded[IN_MOST], rough[N_ROWS][OUT], exact[OUT], lengths[OUT];
    linear_weight w = {
        .data = weights, .row_bytes = dtype_row_bytes(type, n_in), .type = type, .n_in = n_in, .n_out = OUT};
    linear_output out = {.dst = rough[0], .stride = OUT};
    uint8_t *memory[3];
    const size_t sizes[] = {linear_input_bytes(LINEAR_Q8, N_ROWS, n_in), linear_input_bytes(LINEAR_Q16, 1, n_in),
                            linear_scratch_bytes(n_in)};
    for (uint32_t i = 0; i < 3; i++) {
        memory[i] = aligned_alloc(LINEAR_ALIGN, (sizes[i] + LINEAR_ALIGN - 1) / LINEAR_ALIGN * LINEAR_ALIGN);
        assert_non_null(memory[i]);
    }
    linear_input all = linear_input_make(LINEAR_Q8, N_ROWS, n_in, memory[0]);
    linear_input one = linear_input_make(LINEAR_Q16, 1, n_in, memory[1]);
    float most = 0;
    for (uint32_t i = 0; i < OUT; i++) {
        lengths[i] = program_screen_length(&w, i, decoded);
        most = fmaxf(most, lengths[i]);
    }
    for (uint32_t row = 0; row < N_ROWS; row++) {
        linear_pack(k, &all, row, x + (size_t)row * n_in);
    }
    linear_rows(k, &w, &all, &out, 0, OUT, memory[2]);
    out.dst = exact;
    double worst = 0;
    for (uint32_t row = 0; row < N_ROWS; row++) {
        linear_pack(k, &one, 0, x + (size_t)row * n_in);
        linear_rows(k, &w, &one, &out, 0, OUT, memory[2]);
        double reach = (double)program_screen_reach(&all, row, &one, most);
        for (uint32_t i = 0; i < OUT && !isnan(reach); i++) {
            double apart = fabs((double)rough[row][i] - (double)exact[i]), bound = reach * (double)lengths[i];
            assert_true(apart <= bound);
            worst = bound > 0 ? fmax(worst, apart / bound) : worst;
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        free(memory[i]);
    }
    return worst;
}

static const dtype screened_types[] = {DTYPE_Q6_K, DTYPE_Q5_0, DTYPE_Q4_0, DTYPE_Q8_0};

/* What a value of a block of 32 loses in 8 bits, in units of the last one. */
static float lost(const float *block, uint32_t at)
{
    float most = 0;
    for (uint32_t i = 0; i < 32; i++) {
        most = fmaxf(most, fabsf(block[i]));
    }
    float whole = block[at] / most * 127.0f;
    return whole - rintf(whole);
}

/* Inputs with `spikes` have one value in a block that takes all the digits, and so rounds the others away. Weights with
 * `along` are as what the inputs lose, which no other weights of their length would sum up to more. */
static double check_bounds(uint32_t n_in, bool spikes, float size, float weight_size, bool along)
{
    uint64_t seed = 5;
    double worst = 0;
    static float x[N_ROWS * IN_MOST], row[IN_MOST];
    static uint8_t weights[OUT * IN_MOST * 2];
    for (uint32_t i = 0; i < N_ROWS * n_in; i++) {
        x[i] = size * tiny_uniform(&seed) * (spikes && i % 32 == i / 32 % 32 ? 500.0f : 1.0f);
    }
    for (uint32_t t = 0; t < 4; t++) {
        dtype type = screened_types[t];
        for (uint32_t i = 0; i < OUT; i++) {
            for (uint32_t j = 0; j < n_in; j++) {
                const float *input = x + (size_t)(i % N_ROWS) * n_in;
                row[j] = weight_size * (along ? lost(input + j / 32 * 32, j % 32) : tiny_uniform(&seed));
            }
            codec_encode(type, row, weights + i * dtype_row_bytes(type, n_in), n_in, NULL);
        }
        const cpu_features features[] = {without_avx512(), cpu_detect()};
        for (uint32_t i = 0; i < 2; i++) {
            linear_kernels k;
            linear_init(&k, features[i]);
            worst = screens(type, features[i]) ? fmax(worst, check_bound(&k, type, n_in, x, weights)) : worst;
        }
    }
    return worst;
}

static void what_rounding_changes_is_within_the_bound(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {256, 2048, 8192};
    bool any = screens(DTYPE_Q4_0, cpu_detect());
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t spikes = 0; spikes < 2; spikes++) {
            for (uint32_t along = 0; along < 2; along++) {
                double worst = check_bounds(sizes[i], spikes, 1.0f, 0.05f, along);
                assert_true(!any || worst > (along ? 0.7 : 0.01)); /* nor is it more than it has to be */
            }
        }
    }
}

/* Where products leave the range of floats that keep all their digits. */
static void it_is_within_the_bound_or_the_bound_is_not_known_where_numbers_are_tiny(void **state)
{
    (void)state;
    for (int e = -20; e >= -120; e -= 4) {
        check_bounds(256, false, ldexpf(1, e), 1e-6f, false);
        check_bounds(256, true, ldexpf(1, e), 1e-6f, true);
    }
}

static void inputs_too_small_for_floats_have_no_bound(void **state)
{
    (void)state;
    linear_kernels k;
    linear_init(&k, cpu_detect());
    if (!screens(DTYPE_Q4_0, cpu_detect())) {
        skip();
    }
    static _Alignas(LINEAR_ALIGN) uint8_t a[4096], b[4096];
    linear_input all = linear_input_make(LINEAR_Q8, 1, 256, a), one = linear_input_make(LINEAR_Q16, 1, 256, b);
    static const struct {
        float value;
        bool known;
    } cases[] = {{1, true}, {0x1p-30f, true}, {0x1p-50f, false}, {0x1p-90f, false}, {0, true}};
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float x[256];
        for (uint32_t j = 0; j < 256; j++) {
            x[j] = j % 2 ? cases[i].value : -cases[i].value;
        }
        linear_pack(&k, &all, 0, x);
        linear_pack(&k, &one, 0, x);
        float reach = program_screen_reach(&all, 0, &one, 1);
        assert_int_equal(!isnan(reach), cases[i].known);
        assert_true(cases[i].value > 0 || reach == 0);
    }
}

static void few_rows_are_computed_whole(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    assert_int_equal(check(&t, LINEAR_DIRECT, 2, cpu_detect()), 0);
    tiny_close(&t);
}

static void the_first_of_equal_ones_is_named(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    size_t n_bytes = t.ops[t.p.n_ops - 1].weight->row_bytes;
    for (uint32_t i = 0; i < 200; i++) { /* each of them four times, in other blocks */
        for (uint32_t copy = 1; copy < 5; copy++) {
            memcpy(tiny_logits_row(&t, 200 * copy + (copy * 37 + i) % 200), tiny_logits_row(&t, i), n_bytes);
        }
    }
    check_all_ways(&t, true);
    tiny_close(&t);
}

/* Digits decide which is the greatest. */
static void rows_that_nearly_equal_each_other_are_told_apart(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    tiny_logits_alike(&t, 8 * LINEAR_ROW_GRAIN);
    check_all_ways(&t, true);
    tiny_close(&t);
}

/* One row at a time they would take as long as N_ROWS passes over the weights. */
static void logits_that_are_all_alike_are_computed_whole(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    tiny_logits_alike(&t, plain.n_vocab);
    check_all_ways(&t, false);
    memset(tiny_logits_row(&t, 0), 0, plain.n_vocab * t.ops[t.p.n_ops - 1].weight->row_bytes);
    check_all_ways(&t, false);
    tiny_close(&t);
}

static screen_counts counts_of(const tiny *t, const int32_t *tokens, uint32_t n_steps, uint32_t n_threads)
{
    rig r;
    int32_t greatest[N_ROWS];
    float *got = calloc(N_ROWS * (size_t)t->o.n_vocab, sizeof *got);
    assert_non_null(got);
    rig_open(&r, t, false, n_threads, cpu_detect(), DTYPE_F32, 64, 2);
    copy_refuse(r.prog); /* which would serve these passes from the 16th on */
    for (uint32_t i = 0; i < n_steps; i++) {
        rig_logits(&r, tokens, N_ROWS, greatest, got);
    }
    screen_counts counts = program_screen_counts(r.prog);
    rig_close(&r);
    free(got);
    return counts;
}

static void what_does_not_pay_is_left_for_a_while(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    int32_t *tokens = tiny_tokens(&t, N_ROWS);
    bool can = screens(plain.weights, cpu_detect());
    for (uint32_t threads = 1; threads < 4; threads++) {
        screen_counts counts = counts_of(&t, tokens, 17, threads); /* the first one learns lengths */
        assert_int_equal(counts.n_screened, can ? 16 : 0);
        assert_int_equal(counts.n_whole + counts.n_paused, 0);
    }
    tiny_logits_alike(&t, plain.n_vocab);
    for (uint32_t threads = 1; threads < 3 && can; threads++) {
        screen_counts counts = counts_of(&t, tokens, 1 + 3 + 64 + 1 + 1, threads);
        assert_int_equal(counts.n_screened, 4);
        assert_int_equal(counts.n_whole, 4);
        assert_int_equal(counts.n_paused, 65);
    }
    tiny_close(&t);
}

/* Scratch is a small part of the weights, and screening takes a quarter of that at most. */
static void rows_whose_screening_takes_too_much_memory_are_computed_whole(void **state)
{
    (void)state;
    tiny_options o = plain;
    o.n_embd = o.head_dim = o.n_ff = 32;
    o.n_head = o.n_head_kv = 1;
    o.n_vocab = 1u << 18;
    tiny t;
    tiny_open(&t, &o);
    int32_t *tokens = tiny_tokens(&t, N_ROWS);
    for (uint32_t n = 6; n <= N_ROWS; n += N_ROWS - 6) {
        rig r;
        int32_t greatest[N_ROWS];
        float *got = calloc(n * (size_t)o.n_vocab, sizeof *got);
        assert_non_null(got);
        rig_open(&r, &t, false, 1, cpu_detect(), DTYPE_F32, 64, 2);
        for (uint32_t i = 0; i < 10; i++) { /* 8 Mi weights, of which a step learns one */
            rig_logits(&r, tokens, n, greatest, got);
        }
        bool can = screens(o.weights, cpu_detect());
        assert_int_equal(program_screen_counts(r.prog).n_screened, can && n == 6 ? 2 : 0);
        assert_true(r.prog->scratch.n_bytes < t.ops[t.p.n_ops - 1].weight->n_bytes / PROGRAM_SCRATCH_PART);
        rig_close(&r);
        free(got);
    }
    tiny_close(&t);
}

static void weights_that_are_no_numbers_end_it(void **state)
{
    (void)state;
    static const uint16_t scales[] = {0x7e00, 0x7c00, 0xfc00}; /* NaN, ±infinity */
    for (uint32_t i = 0; i < 3; i++) {
        tiny t;
        tiny_open(&t, &plain);
        memcpy(tiny_logits_row(&t, 700), &scales[i], sizeof *scales);
        check_all_ways(&t, false);
        tiny_close(&t);
    }
}

/* Tokens behind one whose embedding is no number see it. */
static void inputs_that_are_no_numbers_leave_whole_rows(void **state)
{
    (void)state;
    tiny t;
    tiny_options o = plain;
    o.n_vocab = 64;
    tiny_open(&t, &o);
    uint16_t nan = 0x7e00;
    for (uint32_t i = 0; i < o.n_vocab; i += 8) {
        memcpy((uint8_t *)(uintptr_t)t.ops[0].weight->data + i * t.ops[0].weight->row_bytes, &nan, sizeof nan);
    }
    for (uint32_t threads = 1; threads < 3; threads++) {
        uint32_t n = check(&t, N_ROWS, threads, cpu_detect());
        assert_true(n < N_ROWS);
    }
    tiny_close(&t);
}

static void logits_that_are_changed_afterwards_are_computed_whole(void **state)
{
    (void)state;
    tiny_options o = plain;
    o.softcap = 5;
    tiny t;
    tiny_open(&t, &o);
    check_all_ways(&t, false);
    tiny_close(&t);
    o.softcap = 0;
    o.biases = true;
    tiny_open(&t, &o);
    check_all_ways(&t, false);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greatest_is_that_of_whole_rows_in_every_format),
        cmocka_unit_test(vocabularies_need_not_be_whole_blocks),
        cmocka_unit_test(what_rounding_changes_is_within_the_bound),
        cmocka_unit_test(it_is_within_the_bound_or_the_bound_is_not_known_where_numbers_are_tiny),
        cmocka_unit_test(inputs_too_small_for_floats_have_no_bound),
        cmocka_unit_test(few_rows_are_computed_whole),
        cmocka_unit_test(the_first_of_equal_ones_is_named),
        cmocka_unit_test(rows_that_nearly_equal_each_other_are_told_apart),
        cmocka_unit_test(logits_that_are_all_alike_are_computed_whole),
        cmocka_unit_test(what_does_not_pay_is_left_for_a_while),
        cmocka_unit_test(rows_whose_screening_takes_too_much_memory_are_computed_whole),
        cmocka_unit_test(weights_that_are_no_numbers_end_it),
        cmocka_unit_test(inputs_that_are_no_numbers_leave_whole_rows),
        cmocka_unit_test(logits_that_are_changed_afterwards_are_computed_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
