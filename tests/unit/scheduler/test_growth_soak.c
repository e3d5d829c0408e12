/*
 * Requests of random sizes without end: memory does not grow, and when nothing runs every page is free or cached and
 * every reference gone. 1,200 requests in the short form, 100,000 with MLXR_SOAK.
 * Owner: the test program. Lifetime: the process.
 */
#include <stdlib.h>
#include <unistd.h>

#include "scheduler/scheduler.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { PROMPT_MAX = 120, ANSWER_MAX = 24, AT_ONCE = 24 };

typedef struct load {
    uint64_t random, n_submitted, n_ended, n_failed;
    size_t n_open;
} load;

static bool on_event(void *user, const scheduler_event *event)
{
    load *l = user;
    l->n_failed += event->finish == SCHEDULER_FAILED;
    l->n_ended += event->last;
    l->n_open -= event->last;
    return test_random(&l->random) % 400 != 0; /* some are stopped by their callers */
}

static uint64_t rss_bytes(void)
{
    unsigned long long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) {
        return 0;
    }
    int n = fscanf(file, "%llu %llu", &all, &resident);
    fclose(file);
    return n == 2 ? (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* A request of random size, sampler, number of choices, and everything else that holds memory. */
static void submit(scheduler *s, mlxr_model *model, load *l)
{
    mlxr_error error;
    mlxr_sampling sampling = mlxr_sampling_default();
    int32_t prompt[PROMPT_MAX];
    uint64_t id = 0, seed = test_random(&l->random) % 64; /* some prompts come again: prefixes are found */
    size_t n = 1 + test_random(&l->random) % PROMPT_MAX;
    for (size_t i = 0; i < n; i++) {
        prompt[i] = (int32_t)(test_random(&seed) % 250 + 1);
    }
    sampling.seed = 1 + test_random(&l->random) % 1000;
    sampling.n_logprobs = (uint32_t)(test_random(&l->random) % 3);
    uint64_t kind = test_random(&l->random) % 16;
    scheduler_request ask = {.model = model,
                             .tokens = prompt,
                             .n_tokens = n,
                             .sampling = &sampling,
                             .n_choices = kind == 1 ? 3 : 1,
                             .max_tokens = 1 + (uint32_t)(test_random(&l->random) % ANSWER_MAX),
                             .ignore_end = true,
                             .grammar = kind == 2 ? "root ::= [ -~]*" : NULL,
                             .draft = kind == 3,
                             .priority = (int32_t)(test_random(&l->random) % 5),
                             .client = test_random(&l->random) % 50,
                             .on_event = on_event,
                             .user = l};
    assert_ok(scheduler_submit(s, &ask, &id, NULL, &error), &error);
    l->n_submitted++;
    l->n_open++;
    if (kind == 4) {
        scheduler_cancel(s, id);
    }
}

static void run(scheduler *s, mlxr_model *model, load *l, uint64_t n)
{
    for (uint64_t i = 0; i < n;) {
        while (l->n_open < AT_ONCE && i < n) {
            submit(s, model, l);
            i++;
        }
        scheduler_step(s);
    }
    while (scheduler_step(s).worked) {
    }
}

static void memory_does_not_grow_over_requests_of_random_sizes(void **unused)
{
    (void)unused;
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    scheduler *s = NULL;
    char path[512];
    const uint64_t n_parts = 10, n_each = getenv("MLXR_SOAK") ? 10000 : 120;
    load l = {.random = 42};
    uint64_t rss[16], n_pages = 0;
    snprintf(path, sizeof path, "%s/gemma3.gguf", test_temp_dir());
    tiny_model_write_gguf(tiny_model_find("gemma3"), &(tiny_options){.type = DTYPE_Q8_0}, path);
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1, .kv_bytes = 1 << 20}, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    assert_ok(scheduler_open(&s, engine, &(scheduler_options){.lanes_max = 16, .lookahead = 4}, &error), &error);
    for (uint64_t part = 0; part < n_parts; part++) {
        run(s, model, &l, n_each);
        rss[part] = rss_bytes();
        mlxr_kv_stats kv = mlxr_kv_stats_get(engine);
        assert_true(scheduler_idle(s));
        assert_int_equal(l.n_open, 0);
        assert_int_equal(l.n_ended, l.n_submitted);
        assert_int_equal(scheduler_uses(s, model), 0);
        assert_int_equal(kv.bytes_used, kv.bytes_cached); /* only the cache holds pages, one reference each */
        mlxr_kv_budget_set(engine, 0);                    /* … and lets go of all of them */
        kv = mlxr_kv_stats_get(engine);
        assert_int_equal(kv.bytes_used, 0);
        assert_int_equal(kv.n_blocks_cached, 0);
        mlxr_kv_budget_set(engine, 1 << 20);
        kv = mlxr_kv_stats_get(engine);
        assert_true(n_pages == 0 || kv.n_pages == n_pages);
        n_pages = kv.n_pages;
    }
    scheduler_stats stats = scheduler_stats_get(s);
    assert_int_equal(l.n_failed, 0);
    assert_true(stats.n_preempted > 0 && stats.n_cached_tokens > 0);
    print_message("%d requests, %d tokens, %d pre-empted; resident after each tenth, KiB:", (int)l.n_submitted,
                  (int)stats.n_sampled, (int)stats.n_preempted);
    for (uint64_t part = 0; part < n_parts; part++) {
        print_message(" %d", (int)(rss[part] >> 10));
    }
    print_message("\n");
    assert_true(TEST_SLOW_BUILD || rss[n_parts - 1] <= rss[2] + (1 << 20));
    /* sanitizers keep what was freed */ /* what a heap rounds to, not what 70,000 requests leak */
    scheduler_close(&s);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_does_not_grow_over_requests_of_random_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
