/*
 * Scheduler without memory: whichever allocation fails, in submission or in a step, a request is refused or ends once
 * with a reason, the others go on, and nothing leaks.
 * Owner: the test program. Lifetime: the process.
 */
#include "scheduler/worker.h"
#include "support/fail_alloc.h"
#include "support/test.h"
#include "support/tiny_model.h"

typedef struct seen {
    uint32_t n_tokens, n_finishes, n_last;
    scheduler_finish finish;
    bool told_why;
} seen;

static mlxr_engine *engine;
static mlxr_model *model;

static bool on_event(void *user, const scheduler_event *event)
{
    seen *s = user;
    s->n_tokens += event->n_sampled;
    if (event->finish != SCHEDULER_RUNNING) {
        s->n_finishes++;
        s->finish = event->finish;
        s->told_why = event->error && event->error[0];
    }
    s->n_last += event->last;
    return true;
}

static int open_all(void **unused)
{
    (void)unused;
    mlxr_error error;
    char path[512];
    snprintf(path, sizeof path, "%s/llama.gguf", test_temp_dir());
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, path);
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1, .kv_bytes = 8 << 20}, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    return 0;
}

static int close_all(void **unused)
{
    (void)unused;
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return 0;
}

static const int32_t prompt[] = {5, 6, 7, 8, 9, 10, 11, 12};

static scheduler_request request_for(seen *s)
{
    static const mlxr_logit_bias bias[] = {{3, 1.0f}};
    static const char *const breakers[] = {"a", "b"};
    static mlxr_sampling sampling;
    sampling = mlxr_sampling_default();
    sampling.seed = 3;
    sampling.logit_bias = bias;
    sampling.n_logit_bias = 1;
    sampling.dry_breakers = breakers;
    sampling.n_dry_breakers = 2;
    return (scheduler_request){.model = model,
                               .tokens = prompt,
                               .n_tokens = 8,
                               .sampling = &sampling,
                               .n_choices = 2,
                               .max_tokens = 4,
                               .ignore_end = true,
                               .grammar = "root ::= [ -~]*",
                               .on_event = on_event,
                               .user = s};
}

static void a_worker_or_a_request_that_gets_no_memory_says_so(void **unused)
{
    (void)unused;
    mlxr_error error;
    for (long n = 1;; n++) {
        worker *w = NULL;
        fail_alloc_at(n);
        mlxr_status status = worker_start(&w, engine, NULL, &error);
        bool failed = fail_alloc_stop();
        worker_stop(&w, true);
        if (!failed) {
            assert_int_equal(status, MLXR_OK);
            break;
        }
    }
    scheduler *s = NULL;
    assert_ok(scheduler_open(&s, engine, NULL, &error), &error);
    for (long n = 1;; n++) {
        seen seen_here = {0};
        scheduler_request ask = request_for(&seen_here);
        scheduler_refusal refusal;
        fail_alloc_at(n);
        mlxr_status status = scheduler_submit(s, &ask, NULL, &refusal, &error);
        bool failed = fail_alloc_stop();
        assert_int_equal(status, failed ? MLXR_NOMEM : MLXR_OK);
        assert_int_equal(refusal, failed ? SCHEDULER_NO_MEMORY : SCHEDULER_TAKEN);
        if (!failed) {
            while (scheduler_step(s).worked) {
            }
            assert_int_equal(seen_here.n_last, 1);
            break;
        }
        assert_true(scheduler_idle(s));
    }
    scheduler_close(&s);
}

static void a_step_without_memory_ends_only_whom_it_must(void **unused)
{
    (void)unused;
    mlxr_error error;
    long n_failed = 0;
    for (long n = 1;; n++) {
        scheduler *s = NULL;
        seen two[2] = {{0}};
        assert_ok(scheduler_open(&s, engine, NULL, &error), &error);
        for (int i = 0; i < 2; i++) {
            scheduler_request ask = request_for(&two[i]);
            assert_ok(scheduler_submit(s, &ask, NULL, NULL, &error), &error);
        }
        fail_alloc_at(n);
        int n_steps = 0;
        while (scheduler_step(s).worked && n_steps < 1000) {
            n_steps++;
        }
        bool failed = fail_alloc_stop();
        assert_true(n_steps < 1000 && scheduler_idle(s));
        for (int i = 0; i < 2; i++) {
            assert_int_equal(two[i].n_finishes, 2);
            assert_int_equal(two[i].n_last, 1);
            if (two[i].finish == SCHEDULER_FAILED) {
                assert_true(two[i].told_why);
                n_failed++;
            }
        }
        scheduler_close(&s);
        mlxr_kv_stats stats = mlxr_kv_stats_get(engine);
        assert_int_equal(stats.bytes_used, stats.bytes_cached);
        if (!failed) {
            break;
        }
        n += n > 200 ? 7 : 0; /* the grammar's many allocations have a test of their own */
    }
    assert_true(n_failed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_or_a_request_that_gets_no_memory_says_so),
        cmocka_unit_test(a_step_without_memory_ends_only_whom_it_must),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
