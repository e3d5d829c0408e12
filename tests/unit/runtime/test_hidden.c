/*
 * Hidden states of a step: what the output matrix makes of them are the logits, however the tokens are cut.
 * Owner: each test. Lifetime: the test.
 */
#include <math.h>
#include <unistd.h>

#include "runtime/engine.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { PROMPT = 70 };

typedef struct setup {
    mlxr_engine *engine;
    mlxr_model *model;
    int32_t tokens[PROMPT];
    uint32_t n_embd, n_vocab;
} setup;

static void open_model(setup *s, const tiny_model *tiny)
{
    mlxr_error error;
    char path[512];
    const mlxr_engine_options options = {.n_threads = 2, .kv_bytes = 64 << 20};
    snprintf(path, sizeof path, "%s/%s.gguf", test_temp_dir(), tiny->name);
    if (access(path, F_OK) != 0) {
        tiny_model_write_gguf(tiny, NULL, path);
    }
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&s->model, s->engine, path, NULL, &error), &error);
    tiny_model_tokens(tiny, s->tokens, PROMPT);
    s->n_embd = mlxr_model_info_get(s->model)->n_embd;
    s->n_vocab = mlxr_model_info_get(s->model)->n_vocab;
}

static void close_model(setup *s)
{
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
}

/* All rows of a sequence computed in chunks, with this flag; malloc'ed [PROMPT][width]. */
static float *rows_of(setup *s, unsigned flag, uint32_t chunk)
{
    mlxr_error error;
    mlxr_sequence *sequence;
    uint32_t width = flag == MLXR_SLICE_HIDDEN ? s->n_embd : s->n_vocab;
    float *rows = malloc(PROMPT * (size_t)width * sizeof *rows);
    assert_ok(mlxr_sequence_open(&sequence, s->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, s->tokens, PROMPT, &error), &error);
    mlxr_sequence_release(sequence);
    for (uint32_t at = 0; at < PROMPT;) {
        uint32_t n = PROMPT - at < chunk ? PROMPT - at : chunk;
        mlxr_slice slice = {.sequence = sequence, .n_compute = n, .flags = flag | MLXR_SLICE_NO_SAMPLE};
        assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
        const float *from = flag == MLXR_SLICE_HIDDEN ? slice.hidden : slice.logits;
        assert_int_equal(flag == MLXR_SLICE_HIDDEN ? slice.n_hidden : slice.n_logits, n);
        memcpy(rows + (size_t)at * width, from, (size_t)n * width * sizeof *rows);
        assert_int_equal(slice.n_sampled, 0);
        at += n;
    }
    assert_int_equal(mlxr_sequence_length(sequence), PROMPT);
    mlxr_sequence_close(&sequence);
    return rows;
}

static void the_output_matrix_makes_logits_of_hidden_states(void **state)
{
    (void)state;
    for (size_t i = 0; tiny_model_at(i); i++) {
        setup s;
        open_model(&s, tiny_model_at(i));
        float *hidden = rows_of(&s, MLXR_SLICE_HIDDEN, PROMPT), *logits = rows_of(&s, MLXR_SLICE_LOGITS_ALL, PROMPT);
        const float *weight = s.model->graph->weights.output->data;
        for (uint32_t r = 0; r < PROMPT; r++) {
            for (uint32_t v = 0; v < s.n_vocab; v++) {
                double sum = 0, size = 0;
                for (uint32_t k = 0; k < s.n_embd; k++) {
                    double product = (double)hidden[r * s.n_embd + k] * (double)weight[v * s.n_embd + k];
                    sum += product;
                    size += fabs(product);
                }
                assert_true(fabs(sum - (double)logits[r * s.n_vocab + v]) <= 1e-5 * size + 1e-6);
            }
        }
        free(hidden);
        free(logits);
        close_model(&s);
    }
}

static void hidden_states_do_not_depend_on_the_cut(void **state)
{
    (void)state;
    setup s;
    open_model(&s, tiny_model_find("qwen2"));
    float *whole = rows_of(&s, MLXR_SLICE_HIDDEN, PROMPT);
    for (uint32_t chunk = 1; chunk < PROMPT; chunk += 13) {
        float *cut = rows_of(&s, MLXR_SLICE_HIDDEN, chunk);
        assert_memory_equal(cut, whole, PROMPT * (size_t)s.n_embd * sizeof *cut);
        free(cut);
    }
    free(whole);
    close_model(&s);
}

static void a_step_gives_hidden_states_or_logits(void **state)
{
    (void)state;
    mlxr_error error;
    setup s;
    mlxr_sequence *two[2];
    mlxr_slice slices[2];
    open_model(&s, tiny_model_find("llama"));
    for (size_t i = 0; i < 2; i++) {
        assert_ok(mlxr_sequence_open(&two[i], s.model, NULL, &error), &error);
        assert_ok(mlxr_sequence_append(two[i], s.tokens, 5, &error), &error);
        slices[i] = (mlxr_slice){.sequence = two[i], .n_compute = 5, .flags = i ? MLXR_SLICE_HIDDEN : 0};
    }
    assert_int_equal(mlxr_step(s.engine, slices, 2, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "hidden states, or none"));
    assert_int_equal(mlxr_sequence_pending(two[0]), 5);
    for (size_t i = 0; i < 2; i++) {
        mlxr_sequence_close(&two[i]);
    }
    close_model(&s);
}

static void samplings_are_checked_without_a_sequence(void **state)
{
    (void)state;
    mlxr_error error;
    setup s;
    open_model(&s, tiny_model_find("llama"));
    mlxr_sampling sampling = mlxr_sampling_default();
    mlxr_logit_bias bias = {.id = (int32_t)s.n_vocab};
    assert_ok(mlxr_sampling_check(s.model, &sampling, &error), &error);
    sampling.logit_bias = &bias;
    sampling.n_logit_bias = 1;
    assert_int_equal(mlxr_sampling_check(s.model, &sampling, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "logit_bias[0]"));
    close_model(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_output_matrix_makes_logits_of_hidden_states),
        cmocka_unit_test(hidden_states_do_not_depend_on_the_cut),
        cmocka_unit_test(a_step_gives_hidden_states_or_logits),
        cmocka_unit_test(samplings_are_checked_without_a_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
