/*
 * Profiles: each step and each operation of the plan has its time, and computing under a profile changes nothing.
 * Owner: the test program. Lifetime: the process.
 */
#include "mlxr_profile.h"
#include "runtime/engine.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { PROMPT = 40, TOKENS = 6 };

typedef struct world {
    mlxr_engine *engine;
    mlxr_model *model;
    int32_t prompt[PROMPT];
} world;

static void open_world(world *w, const char *name, uint32_t n_threads)
{
    mlxr_error error;
    const tiny_model *tiny = tiny_model_find("llama");
    const mlxr_engine_options options = {.backend = name, .n_threads = n_threads, .kv_bytes = 64 << 20};
    char path[600];
    snprintf(path, sizeof path, "%s/profile.gguf", test_temp_dir());
    tiny_model_write_gguf(tiny, NULL, path);
    tiny_model_tokens(tiny, w->prompt, PROMPT);
    assert_ok(mlxr_engine_open(&w->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&w->model, w->engine, path, NULL, &error), &error);
}

static void close_world(world *w)
{
    mlxr_model_unref(&w->model);
    mlxr_engine_close(&w->engine);
}

static mlxr_sequence *open_sequence(world *w)
{
    mlxr_error error;
    mlxr_sampling sampling = mlxr_sampling_default();
    mlxr_sequence *sequence = NULL;
    sampling.temperature = 0;
    assert_ok(mlxr_sequence_open(&sequence, w->model, &sampling, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, w->prompt, PROMPT, &error), &error);
    return sequence;
}

static int32_t step_once(world *w, mlxr_sequence *sequence)
{
    mlxr_error error;
    mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)mlxr_sequence_pending(sequence)};
    assert_ok(mlxr_step(w->engine, &slice, 1, &error), &error);
    return slice.token;
}

/* A prompt and some tokens more; the tokens. */
static void generate(world *w, int32_t ids[TOKENS])
{
    mlxr_sequence *sequence = open_sequence(w);
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = step_once(w, sequence);
    }
    mlxr_sequence_close(&sequence);
}

static mlxr_profile *profile_of(world *w, uint32_t n_steps_max, int32_t ids[TOKENS])
{
    mlxr_error error;
    mlxr_profile *p = NULL;
    assert_ok(mlxr_profile_begin(w->engine, n_steps_max, &error), &error);
    generate(w, ids);
    assert_ok(mlxr_profile_take(w->engine, &p, &error), &error);
    return p;
}

/* Spans follow each other without overlap, inside of the time in which the plan ran. */
static void check_spans(const mlxr_profile *p, const mlxr_profile_step *s)
{
    uint64_t now = s->run_ns;
    assert_true(s->begin_ns <= s->run_ns && s->ran_ns <= s->end_ns && s->end_ns <= p->duration_ns);
    for (uint32_t i = 0; i < s->n_spans; i++) {
        const mlxr_profile_span *span = &p->spans[s->first_span + i];
        assert_true(span->begin_ns >= now && span->end_ns >= span->begin_ns);
        assert_true(span->wait_ns <= span->end_ns - span->begin_ns);
        assert_true(span->operation < p->n_operations);
        now = span->end_ns;
    }
    assert_true(now <= s->ran_ns);
}

static unsigned count_spans(const mlxr_profile *p, const mlxr_profile_step *s, const char *name, int32_t layer)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < s->n_spans; i++) {
        const mlxr_profile_span *span = &p->spans[s->first_span + i];
        n += span->layer == layer && strcmp(p->operations[span->operation], name) == 0;
    }
    return n;
}

static void each_operation_of_each_layer_has_its_time(void **unused)
{
    (void)unused;
    world w;
    int32_t ids[TOKENS];
    open_world(&w, "cpu", 2);
    mlxr_profile *p = profile_of(&w, 100, ids);
    int32_t n_layers = (int32_t)mlxr_model_info_get(w.model)->n_layers;
    assert_int_equal(p->n_steps, TOKENS);
    assert_int_equal(p->n_lost, 0);
    assert_int_equal(p->n_threads, 2);
    assert_string_equal(p->backend, "cpu");
    assert_true(p->steps[0].n_rows > p->steps[1].n_rows && p->steps[1].n_rows == 1);
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const mlxr_profile_step *s = &p->steps[i];
        check_spans(p, s);
        assert_int_equal(s->n_logits, 1);
        assert_false(s->drafting);
        for (int32_t layer = 0; layer < n_layers; layer++) {
            assert_int_equal(count_spans(p, s, "attend", layer), 1);
            assert_int_equal(count_spans(p, s, "norm+gate+up+gated", layer), 1);
        }
        assert_int_equal(count_spans(p, s, "norm+logits", -1), 1);
        assert_int_equal(count_spans(p, s, "rope angles", -1), 1);
        assert_true(i == 0 || s->begin_ns >= p->steps[i - 1].end_ns);
    }
    mlxr_profile_free(&p);
    assert_null(p);
    close_world(&w);
}

static void the_scalar_backend_tells_each_operation_alone(void **unused)
{
    (void)unused;
    world w;
    int32_t ids[TOKENS];
    open_world(&w, "cpu-scalar", 1);
    mlxr_profile *p = profile_of(&w, 1, ids);
    for (uint32_t i = 0; i < p->n_operations; i++) {
        assert_null(strchr(p->operations[i], '+'));
    }
    for (const char *const *name = (const char *const[]){"q", "k", "v", "o", "gate", "up", "down", "kv_write", NULL};
         *name; name++) {
        assert_int_equal(count_spans(p, &p->steps[0], *name, 1), 1);
    }
    assert_int_equal(count_spans(p, &p->steps[0], "embed", -1), 1);
    assert_int_equal(p->n_steps, 1);
    assert_int_equal(p->n_lost, TOKENS - 1); /* no room was asked for */
    mlxr_profile_free(&p);
    close_world(&w);
}

static void tokens_are_the_same_under_a_profile(void **unused)
{
    (void)unused;
    world w;
    int32_t plain[TOKENS], profiled[TOKENS];
    open_world(&w, "cpu", 2);
    generate(&w, plain);
    mlxr_profile *p = profile_of(&w, 100, profiled);
    assert_memory_equal(plain, profiled, sizeof plain);
    assert_true(p->steps[0].n_rows < PROMPT); /* what the cache had is not computed again */
    mlxr_profile_free(&p);
    close_world(&w);
}

static void a_profile_outlives_its_model_and_engine(void **unused)
{
    (void)unused;
    world w;
    int32_t ids[TOKENS];
    open_world(&w, "cpu", 1);
    mlxr_profile *p = profile_of(&w, 100, ids);
    close_world(&w);
    for (uint32_t i = 0; i < p->n_operations; i++) {
        assert_true(strlen(p->operations[i]) > 0);
    }
    mlxr_profile_free(&p);
    mlxr_profile_free(&p); /* nothing */
}

static void what_makes_no_sense_is_refused(void **unused)
{
    (void)unused;
    world w;
    mlxr_error error;
    mlxr_profile *p = NULL;
    open_world(&w, "cpu", 1);
    assert_int_equal(mlxr_profile_take(w.engine, &p, &error), MLXR_ARG);
    assert_int_equal(mlxr_profile_begin(w.engine, 0, &error), MLXR_ARG);
    assert_ok(mlxr_profile_begin(w.engine, 10, &error), &error);
    assert_int_equal(mlxr_profile_begin(w.engine, 10, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "already"));
    close_world(&w); /* a profile that nobody took goes with its engine */
}

static void a_step_that_fails_is_not_in_the_profile(void **unused)
{
    (void)unused;
    world w;
    mlxr_error error;
    mlxr_profile *p = NULL;
    open_world(&w, "cpu", 1);
    mlxr_sequence *sequence = open_sequence(&w);
    mlxr_slice slice = {.sequence = sequence, .n_compute = PROMPT + 1};
    assert_ok(mlxr_profile_begin(w.engine, 10, &error), &error);
    assert_int_equal(mlxr_step(w.engine, &slice, 1, &error), MLXR_ARG);
    step_once(&w, sequence);
    assert_ok(mlxr_profile_take(w.engine, &p, &error), &error);
    assert_int_equal(p->n_steps, 1);
    assert_int_equal(p->n_lost, 0);
    mlxr_profile_free(&p);
    mlxr_sequence_close(&sequence);
    close_world(&w);
}

static void steps_of_a_draft_model_are_told_apart(void **unused)
{
    (void)unused;
    world w;
    mlxr_error error;
    mlxr_profile *p = NULL;
    open_world(&w, "cpu", 1);
    mlxr_sequence *sequence = open_sequence(&w);
    assert_ok(mlxr_sequence_draft(sequence, w.model, 4, &error), &error);
    assert_ok(mlxr_profile_begin(w.engine, 100, &error), &error);
    for (int i = 0; i < TOKENS; i++) {
        sequence->spec.tracker.draft_cost = 0; /* or it may see that this does not pay */
        step_once(&w, sequence);
    }
    assert_ok(mlxr_profile_take(w.engine, &p, &error), &error);
    unsigned n_drafting = 0;
    for (uint32_t i = 0; i < p->n_steps; i++) {
        n_drafting += p->steps[i].drafting;
        check_spans(p, &p->steps[i]);
    }
    assert_int_equal(p->n_steps - n_drafting, TOKENS);
    assert_true(n_drafting > 0);
    assert_false(p->steps[p->n_steps - 1].drafting);
    mlxr_profile_free(&p);
    mlxr_sequence_close(&sequence);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_of_each_layer_has_its_time),
        cmocka_unit_test(the_scalar_backend_tells_each_operation_alone),
        cmocka_unit_test(tokens_are_the_same_under_a_profile),
        cmocka_unit_test(a_profile_outlives_its_model_and_engine),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_step_that_fails_is_not_in_the_profile),
        cmocka_unit_test(steps_of_a_draft_model_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
