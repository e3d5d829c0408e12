/*
 * Requests to a scheduler on a tiny model, what came of them, and what each would have been alone: shared by the tests
 * of the scheduler. Owner: the test that makes them. Lifetime: the test's.
 */
#ifndef MLXR_TESTS_SCHEDULER_CLIENT_H
#define MLXR_TESTS_SCHEDULER_CLIENT_H

#include <stdatomic.h>
#include <unistd.h>

#include "scheduler/worker.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { TOKENS = 256, CHOICES = 8 };

typedef struct result { /* what one choice produced */
    int32_t ids[TOKENS];
    size_t n;
    scheduler_finish finish;
    uint32_t n_finishes;
} result;

typedef struct client { /* one request and all that came of it */
    int32_t prompt[TOKENS];
    mlxr_sampling sampling;
    scheduler_request ask;
    result results[CHOICES];
    uint64_t id;
    size_t stop_after; /* on_event returns false when so many tokens have come; 0: never */
    atomic_int n_last;
    size_t n_cached;
    char miss[16], error[512];
    uint32_t order; /* of its first token, among all */
} client;

typedef struct setup {
    mlxr_engine *engine;
    mlxr_model *model, *other;
} setup;

static uint32_t first_tokens; /* how many requests have had theirs; reset by each test that looks */
static _Atomic uint64_t clock_us = 1000000;

static inline uint64_t fake_now(void *user)
{
    (void)user;
    return atomic_load(&clock_us);
}

static inline bool on_event(void *user, const scheduler_event *event)
{
    client *c = user;
    result *r = &c->results[event->choice];
    if (r->n == 0 && event->n_sampled && event->choice == 0) {
        c->order = first_tokens++;
        c->n_cached = event->n_cached;
        snprintf(c->miss, sizeof c->miss, "%s", event->miss);
    }
    for (uint32_t i = 0; i < event->n_sampled && r->n < TOKENS; i++) {
        r->ids[r->n++] = event->sampled[i].id;
    }
    if (event->finish != SCHEDULER_RUNNING) {
        r->finish = event->finish;
        r->n_finishes++;
        snprintf(c->error, sizeof c->error, "%s", event->error ? event->error : "");
    }
    if (event->last) {
        atomic_fetch_add(&c->n_last, 1);
    }
    return !c->stop_after || r->n < c->stop_after;
}

static inline mlxr_model *load(mlxr_engine *engine, const char *name)
{
    char path[512];
    mlxr_error error;
    mlxr_model *model = NULL;
    snprintf(path, sizeof path, "%s/%s.gguf", test_temp_dir(), name);
    if (access(path, F_OK) != 0) {
        tiny_model_write_gguf(tiny_model_find(name), &(tiny_options){.type = DTYPE_Q8_0}, path);
    }
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    return model;
}

static inline void open_engine(setup *s, size_t kv_bytes, uint32_t n_threads)
{
    mlxr_error error;
    mlxr_engine_options options = {.n_threads = n_threads, .kv_bytes = kv_bytes};
    memset(s, 0, sizeof *s);
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    s->model = load(s->engine, "llama");
}

static inline void close_engine(setup *s)
{
    mlxr_kv_stats stats = mlxr_kv_stats_get(s->engine);
    assert_int_equal(stats.bytes_used, stats.bytes_cached); /* every sequence gave its pages back */
    mlxr_model_unref(&s->other);
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
}

static inline scheduler *open_scheduler(const setup *s, const scheduler_options *options)
{
    mlxr_error error;
    scheduler *made = NULL;
    assert_ok(scheduler_open(&made, s->engine, options, &error), &error);
    return made;
}

/* Request number `which`: its own prompt, length, sampler and answer. */
static inline client *make(mlxr_model *model, uint64_t which, size_t n_prompt, uint32_t n_answer)
{
    client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    uint64_t seed = which * 77 + 5;
    for (size_t i = 0; i < n_prompt; i++) {
        c->prompt[i] = (int32_t)(test_random(&seed) % 250 + 1);
    }
    c->sampling = mlxr_sampling_default();
    c->sampling.temperature = which % 3 ? 1.0f : 0.0f;
    c->sampling.seed = 1000 + which * 10;
    c->ask = (scheduler_request){.model = model,
                                 .tokens = c->prompt,
                                 .n_tokens = n_prompt,
                                 .sampling = &c->sampling,
                                 .max_tokens = n_answer,
                                 .ignore_end = true,
                                 .client = which % 3,
                                 .on_event = on_event,
                                 .user = c};
    return c;
}

static inline void submit(scheduler *s, client *c)
{
    mlxr_error error;
    assert_ok(scheduler_submit(s, &c->ask, &c->id, NULL, &error), &error);
}

/* Steps until nothing is left; counts the steps. */
static inline uint32_t play(scheduler *s)
{
    uint32_t n = 0;
    while (scheduler_step(s).worked) {
        assert_true(++n < 100000);
    }
    assert_true(scheduler_idle(s));
    return n;
}

/* Steps until a request has ended. */
static inline void play_until_last(scheduler *s, const client *c)
{
    for (uint32_t n = 0; atomic_load(&c->n_last) == 0; n++) {
        assert_true(n < 100000);
        assert_true(scheduler_step(s).worked);
    }
}

/* The tokens that choice i of a request has when it runs alone, without any scheduler. */
static inline void alone(const client *c, mlxr_engine *engine, uint32_t choice, result *out)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    mlxr_sampling sampling = c->sampling;
    sampling.seed += choice;
    out->n = 0;
    assert_ok(mlxr_sequence_open(&sequence, c->ask.model, &sampling, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, c->prompt, c->ask.n_tokens, &error), &error);
    while (out->n < c->ask.max_tokens) {
        mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)mlxr_sequence_pending(sequence)};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        out->ids[out->n++] = slice.token;
    }
    mlxr_sequence_close(&sequence);
}

/* Every choice has ended once, as expected, with the beginning (or the whole) of its lone run. */
static inline void check(const client *c, mlxr_engine *engine, scheduler_finish finish)
{
    static result expected;
    uint32_t n_choices = c->ask.n_choices ? c->ask.n_choices : 1;
    assert_int_equal(atomic_load(&c->n_last), 1);
    for (uint32_t i = 0; i < n_choices; i++) {
        const result *r = &c->results[i];
        if (r->finish != finish) {
            fail_msg("choice %u ended with %s, not %s: %s", i, scheduler_finish_name(r->finish),
                     scheduler_finish_name(finish), c->error);
        }
        assert_int_equal(r->n_finishes, 1);
        alone(c, engine, i, &expected);
        assert_true(finish == SCHEDULER_LENGTH ? r->n == expected.n : r->n <= expected.n);
        assert_memory_equal(r->ids, expected.ids, r->n * sizeof *r->ids);
    }
}

static inline uint64_t budget_for(mlxr_model *model, uint64_t n_tokens)
{
    return n_tokens * mlxr_model_info_get(model)->kv_bytes_per_token;
}

static inline size_t bytes_for(uint64_t n_tokens)
{
    setup s;
    open_engine(&s, 8 << 20, 1);
    size_t n = (size_t)budget_for(s.model, n_tokens);
    close_engine(&s);
    return n;
}

#endif
