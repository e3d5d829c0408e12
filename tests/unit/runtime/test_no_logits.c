/*
 * Slices whose logits nobody reads: their tokens are those of slices whose logits are all computed.
 * Owner: each test. Lifetime: the test.
 */
#include "kernels/cpu/program.h"
#include "mlxr_profile.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { N = 12, PROMPT = 9, GENERATE = 30 };

static mlxr_engine *engine;
static mlxr_model *model;
static mlxr_grammar *third_rule; /* of the third sequence, or NULL */

static int set_up(void **state)
{
    (void)state;
    char path[512];
    mlxr_error error;
    snprintf(path, sizeof path, "%s/llama.gguf", test_temp_dir());
    tiny_model_write_gguf(tiny_model_find("llama"),
                          &(tiny_options){/* a type that AVX2 screens, too */ .type = DTYPE_Q4_0}, path);
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 2}, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return 0;
}

typedef struct answer {
    int32_t ids[GENERATE + 8];
    float logprobs[GENERATE + 8];
    uint32_t n;
} answer;

static void check_outputs(const mlxr_slice *slice, unsigned flags)
{
    if (flags & MLXR_SLICE_NO_LOGITS) {
        assert_null(slice->logits);
        assert_int_equal(slice->n_logits, 0);
    } else {
        assert_non_null(slice->logits);
    }
}

/* N sequences with the sampling of `of`, all in each step; of the first n_drafting n-grams draft. */
static void generate(mlxr_sampling (*of)(uint32_t i), uint32_t n_drafting, unsigned flags, answer out[N])
{
    mlxr_error error;
    mlxr_sequence *sequences[N];
    int32_t tokens[PROMPT + N];
    tiny_model_tokens(tiny_model_find("llama"), tokens, PROMPT + N);
    for (uint32_t i = 0; i < N; i++) {
        mlxr_sampling sampling = of(i);
        sampling.seed = 7 + i;
        out[i].n = 0;
        assert_ok(mlxr_sequence_open(&sequences[i], model, &sampling, &error), &error);
        assert_ok(mlxr_sequence_append(sequences[i], tokens + i, PROMPT, &error), &error);
        if (i < n_drafting) {
            assert_ok(mlxr_sequence_draft(sequences[i], NULL, 0, &error), &error);
        }
        if (i == 2 && third_rule) {
            assert_ok(mlxr_sequence_constrain(sequences[i], third_rule, &error), &error);
        }
    }
    for (uint32_t n = 0; n < GENERATE; n++) {
        mlxr_slice slices[N];
        for (uint32_t i = 0; i < N; i++) {
            slices[i] = (mlxr_slice){.sequence = sequences[i], .n_compute = n ? 1 : PROMPT, .flags = flags};
        }
        assert_ok(mlxr_step(engine, slices, N, &error), &error);
        for (uint32_t i = 0; i < N; i++) {
            check_outputs(&slices[i], flags);
            for (uint32_t j = 0; j < slices[i].n_sampled && out[i].n < GENERATE; j++) {
                out[i].logprobs[out[i].n] = slices[i].sampled[j].logprob;
                out[i].ids[out[i].n++] = slices[i].sampled[j].id;
            }
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        mlxr_sequence_close(&sequences[i]);
    }
}

static void check_equal(mlxr_sampling (*of)(uint32_t i), uint32_t n_drafting)
{
    static answer all[N], none[N];
    generate(of, n_drafting, 0, all);
    for (uint32_t again = 0; again < 2; again++) { /* lengths of weight rows may be known from the second step on */
        generate(of, n_drafting, MLXR_SLICE_NO_LOGITS, none);
        for (uint32_t i = 0; i < N; i++) {
            assert_int_equal(none[i].n, GENERATE);
            assert_memory_equal(none[i].ids, all[i].ids, sizeof all[i].ids[0] * GENERATE);
            assert_memory_equal(none[i].logprobs, all[i].logprobs, sizeof all[i].logprobs[0] * GENERATE);
        }
    }
}

/* Whether this machine can round inputs of the output matrix to one digit, and meet a single one as it is. */
static bool can_screen(void)
{
    linear_kernels k;
    linear_init(&k, cpu_detect());
    return k.rounded[DTYPE_Q4_0] == LINEAR_Q8 && linear_format_for(&k, DTYPE_Q4_0, 1) == LINEAR_Q16;
}

static uint64_t n_screened(void)
{
    return program_screen_counts(model->program).n_screened;
}

static mlxr_sampling greedy(uint32_t i)
{
    (void)i;
    mlxr_sampling s = mlxr_sampling_default();
    s.temperature = 0;
    return s;
}

static mlxr_sampling greedy_but_for_one(uint32_t i)
{
    mlxr_sampling s = greedy(i);
    s.temperature = i == 5 ? 0.9f : 0;
    return s;
}

static mlxr_sampling greedy_with_penalties(uint32_t i)
{
    mlxr_sampling s = greedy(i);
    s.repeat_penalty = 1.0f + 0.2f * (float)(i % 3);
    return s;
}

static mlxr_sampling greedy_with_logprobs(uint32_t i)
{
    mlxr_sampling s = greedy(i);
    s.logprobs = i == 11;
    return s;
}

static mlxr_sampling greedy_with_bias(uint32_t i)
{
    static const mlxr_logit_bias bias = {.id = 3, .bias = 9};
    mlxr_sampling s = greedy(i);
    s.logit_bias = &bias;
    s.n_logit_bias = i == 0;
    return s;
}

static void tokens_are_the_same(void **state)
{
    (void)state;
    check_equal(greedy, 0);
    uint64_t n = n_screened();
    assert_int_equal(n, can_screen() ? 2 * GENERATE - 1 : 0); /* all but the step that learns lengths */
    check_equal(greedy_but_for_one, 0);
    check_equal(greedy_with_penalties, 0);
    check_equal(greedy_with_logprobs, 0);
    check_equal(greedy_with_bias, 0);
    assert_int_equal(n_screened(), n);
}

static void a_grammar_still_sees_all_logits(void **state)
{
    (void)state;
    mlxr_error error;
    const char *text = "root ::= [a-z0-9 ]*";
    assert_ok(mlxr_grammar_open_gbnf(&third_rule, model, text, strlen(text), &error), &error);
    check_equal(greedy, 0);
    mlxr_grammar_close(&third_rule);
}

static void drafts_are_judged_the_same(void **state)
{
    (void)state;
    check_equal(greedy, N);
    check_equal(greedy_but_for_one, N / 2);
}

static void only_the_likeliest_token_is_greedy(void **state)
{
    (void)state;
    static mlxr_sampling (*const all[])(uint32_t) = {greedy, greedy_but_for_one, greedy_with_penalties,
                                                     greedy_with_logprobs, greedy_with_bias};
    static const uint32_t other[] = {UINT32_MAX, 5, 1, 11, 0}; /* the sequence that has what the name tells */
    sampler_vocab vocab = {.n_vocab = 32};
    for (uint32_t i = 0; i < 5; i++) {
        sampler *s = NULL;
        mlxr_error error;
        mlxr_sampling sampling = all[i](other[i] == UINT32_MAX ? 0 : other[i]);
        assert_ok(sampler_open(&s, &sampling, &vocab, &error), &error);
        assert_int_equal(sampler_is_greedy(s), i == 0);
        sampler_close(&s);
    }
}

static void all_logits_and_none_is_refused(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_sequence *sequence;
    int32_t token = 1;
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, &token, 1, &error), &error);
    mlxr_slice slice = {.sequence = sequence, .n_compute = 1, .flags = MLXR_SLICE_LOGITS_ALL | MLXR_SLICE_NO_LOGITS};
    assert_int_equal(mlxr_step(engine, &slice, 1, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "slice 0"));
    mlxr_sequence_close(&sequence);
}

static void what_is_neither_sampled_nor_read_is_not_computed(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_sequence *sequences[2];
    int32_t tokens[PROMPT];
    tiny_model_tokens(tiny_model_find("llama"), tokens, PROMPT);
    mlxr_slice slices[2];
    mlxr_profile *profile = NULL;
    for (uint32_t i = 0; i < 2; i++) {
        mlxr_sampling sampling = greedy(i);
        assert_ok(mlxr_sequence_open(&sequences[i], model, &sampling, &error), &error);
        assert_ok(mlxr_sequence_append(sequences[i], tokens, PROMPT, &error), &error);
        slices[i] = (mlxr_slice){.sequence = sequences[i], .n_compute = PROMPT};
    }
    slices[0].flags = MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_NO_LOGITS;
    assert_ok(mlxr_profile_begin(engine, 1, &error), &error);
    assert_ok(mlxr_step(engine, slices, 2, &error), &error);
    assert_ok(mlxr_profile_take(engine, &profile, &error), &error);
    assert_int_equal(profile->steps[0].n_logits, 1);
    mlxr_profile_free(&profile);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(slices[i].n_sampled, i);
        assert_int_equal(slices[i].n_logits, i);
        assert_int_equal(mlxr_sequence_pending(sequences[i]), i);
        mlxr_sequence_close(&sequences[i]);
    }
}

/* The first steps of a model decode weights; a profile says so. */
static void learning_is_seen_in_profiles(void **state)
{
    (void)state;
    static answer none[N];
    mlxr_error error;
    mlxr_profile *profile = NULL;
    bool seen = false;
    assert_int_equal(tear_down(NULL) + set_up(NULL), 0);
    assert_ok(mlxr_profile_begin(engine, 2, &error), &error);
    generate(greedy, 0, MLXR_SLICE_NO_LOGITS, none);
    assert_ok(mlxr_profile_take(engine, &profile, &error), &error);
    assert_int_equal(profile->n_steps, 2);
    for (uint64_t i = 0; i < profile->n_spans; i++) {
        bool learns = strcmp(profile->operations[profile->spans[i].operation], "lengths of logits' weights") == 0;
        seen = seen || learns;
        assert_true(!learns || i + 1 == profile->steps[0].n_spans); /* the first step's last */
    }
    assert_int_equal(seen, can_screen());
    mlxr_profile_free(&profile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_the_same),
        cmocka_unit_test(a_grammar_still_sees_all_logits),
        cmocka_unit_test(drafts_are_judged_the_same),
        cmocka_unit_test(only_the_likeliest_token_is_greedy),
        cmocka_unit_test(all_logits_and_none_is_refused),
        cmocka_unit_test(learning_is_seen_in_profiles),
        cmocka_unit_test(what_is_neither_sampled_nor_read_is_not_computed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
