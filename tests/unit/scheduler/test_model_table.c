/*
 * Model table on tiny models: loaded once, shared, kept, unloaded for time or room, waited for, found again; whatever
 * comes and goes, each request gets the tokens of a lone run.
 * Owner: the test program. Lifetime: the process.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "scheduler/model_table.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { MODELS = 4, PROMPT = 100, ANSWER = 24 };

static const char *const names[MODELS] = {"llama", "gemma3", "qwen2", "qwen3"};
static char paths[MODELS][512];
static uint64_t weight_bytes[MODELS], kv_page_bytes[MODELS];
/* What each model is asked, and answers alone; made once, before there are threads. */
static int32_t prompts[MODELS][PROMPT], expected[MODELS][ANSWER];
static _Atomic uint64_t clock_us = 1000000;

static uint64_t fake_now(void *user)
{
    (void)user;
    return atomic_load(&clock_us);
}

/* Writes the models and learns what each answers alone. */
static int make_models(void **unused)
{
    (void)unused;
    mlxr_error error;
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    for (size_t i = 0; i < MODELS; i++) {
        mlxr_engine *engine = NULL;
        mlxr_model *model = NULL;
        mlxr_sequence *sequence = NULL;
        uint64_t seed = i + 3;
        for (size_t j = 0; j < PROMPT; j++) {
            prompts[i][j] = (int32_t)(test_random(&seed) % 250 + 1);
        }
        snprintf(paths[i], sizeof paths[i], "%s/%s.gguf", test_temp_dir(), names[i]);
        tiny_model_write_gguf(tiny_model_find(names[i]), &(tiny_options){.type = DTYPE_Q8_0}, paths[i]);
        assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1, .kv_bytes = 8 << 20}, &error),
                  &error);
        assert_ok(mlxr_model_load(&model, engine, paths[i], NULL, &error), &error);
        weight_bytes[i] = mlxr_model_info_get(model)->resident_bytes; /* what a table counts */
        kv_page_bytes[i] = mlxr_model_kv_bytes(model, 0, 1);
        assert_ok(mlxr_sequence_open(&sequence, model, &greedy, &error), &error);
        assert_ok(mlxr_sequence_append(sequence, prompts[i], PROMPT, &error), &error);
        for (size_t j = 0; j < ANSWER; j++) {
            mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)mlxr_sequence_pending(sequence)};
            assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
            expected[i][j] = slice.token;
        }
        mlxr_sequence_close(&sequence);
        mlxr_model_unref(&model);
        mlxr_engine_close(&engine);
    }
    return 0;
}

typedef struct setup {
    mlxr_engine *engine;
    worker *worker;
    model_table *table;
} setup;

static void open_with(setup *s, const mlxr_engine_options *engine, const model_table_options *table, bool real_clock)
{
    mlxr_error error;
    mlxr_engine_options options = *engine;
    options.n_threads = 1;
    options.kv_bytes = options.kv_bytes ? options.kv_bytes : 8 << 20;
    *s = (setup){0};
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    assert_ok(worker_start(&s->worker, s->engine,
                           &(scheduler_options){.now_us = real_clock ? NULL : fake_now, .lanes_max = 8, .lookahead = 8},
                           &error),
              &error);
    assert_ok(model_table_open(&s->table, s->worker, table, &error), &error);
}

static void open_table(setup *s, const model_table_options *table)
{
    open_with(s, &(mlxr_engine_options){0}, table, false);
}

static void close_table(setup *s)
{
    model_table_close(&s->table);
    assert_null(s->table);
    worker_stop(&s->worker, true);
    mlxr_kv_stats stats = mlxr_kv_stats_get(s->engine);
    assert_int_equal(stats.bytes_used, 0);
    mlxr_engine_close(&s->engine); /* asserts that no model is left */
}

static mlxr_model *lease(setup *s, size_t which)
{
    mlxr_error error;
    mlxr_model *model = NULL;
    assert_ok(model_table_wait(s->table, paths[which], 0, &model, &error), &error);
    return model;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static void wait_for_loaded(setup *s, uint32_t n)
{
    for (int i = 0; model_table_stats_get(s->table).n_loaded != n; i++) {
        assert_true(i < 50000);
        nap();
    }
}

static void move_clock(setup *s, uint64_t us)
{
    atomic_fetch_add(&clock_us, us);
    model_table_poke(s->table);
}

typedef struct found {
    const char *name;
    bool loaded;
    uint32_t n_uses;
} found;

static void look(void *user, const model_table_item *item)
{
    found *f = user;
    if (strstr(item->path, f->name) && item->info) {
        f->loaded = true;
        f->n_uses = item->n_uses;
    }
}

static bool is_loaded(setup *s, size_t which)
{
    found f = {.name = paths[which]};
    model_table_each(s->table, look, &f);
    return f.loaded;
}

static void a_model_is_loaded_once_and_shared(void **unused)
{
    (void)unused;
    setup s;
    mlxr_error error;
    char other_name[600];
    mlxr_model *same = NULL;
    open_table(&s, NULL);
    mlxr_model *a = lease(&s, 0), *again = lease(&s, 0), *b = lease(&s, 1);
    snprintf(other_name, sizeof other_name, "%s/./llama.gguf", test_temp_dir());
    assert_ok(model_table_wait(s.table, other_name, 0, &same, &error), &error);
    assert_ptr_equal(a, again);
    assert_ptr_equal(a, same);
    assert_ptr_not_equal(a, b);
    found f = {.name = "llama"};
    model_table_each(s.table, look, &f);
    assert_int_equal(f.n_uses, 3);
    model_table_stats stats = model_table_stats_get(s.table);
    assert_int_equal(stats.n_loads, 2);
    assert_int_equal(stats.n_granted, 4);
    assert_int_equal(stats.n_at_once, 2);
    assert_int_equal(stats.weight_bytes, weight_bytes[0] + weight_bytes[1]);
    for (int i = 0; i < 3; i++) {
        model_table_release(s.table, a, MODEL_KEEP_DEFAULT);
    }
    model_table_release(s.table, b, MODEL_KEEP_DEFAULT);
    close_table(&s);
}

static void keep_alive_decides_how_long_an_idle_model_stays(void **unused)
{
    (void)unused;
    setup s;
    open_table(&s, &(model_table_options){.keep_alive_ms = 2000});
    model_table_release(s.table, lease(&s, 0), 1000);
    move_clock(&s, 999999);
    nap();
    assert_true(is_loaded(&s, 0));
    move_clock(&s, 1);
    wait_for_loaded(&s, 0);
    model_table_release(s.table, lease(&s, 0), 0); /* at once */
    wait_for_loaded(&s, 0);
    model_table_release(s.table, lease(&s, 0), MODEL_KEEP_DEFAULT);
    move_clock(&s, 1999999);
    nap();
    assert_true(is_loaded(&s, 0));
    move_clock(&s, 1);
    wait_for_loaded(&s, 0);
    mlxr_model *used = lease(&s, 0);
    move_clock(&s, UINT64_C(1) << 50); /* in use: no time is too long */
    nap();
    assert_true(is_loaded(&s, 0));
    model_table_release(s.table, used, MODEL_KEEP_FOR_EVER);
    move_clock(&s, UINT64_C(1) << 50);
    nap();
    assert_true(is_loaded(&s, 0));
    model_table_stats stats = model_table_stats_get(s.table);
    assert_int_equal(stats.n_expired, 3);
    assert_int_equal(stats.n_loads, 4);
    assert_int_equal(stats.n_reloads, 3);
    close_table(&s);
}

static uint64_t memory_for(const size_t *which, size_t n, uint64_t kv_bytes)
{
    uint64_t sum = kv_bytes;
    for (size_t i = 0; i < n; i++) {
        sum += weight_bytes[which[i]];
    }
    return sum;
}

static void room_comes_from_the_idle_model_used_longest_ago(void **unused)
{
    (void)unused;
    setup s;
    mlxr_error error;
    open_table(&s, &(model_table_options){.memory_bytes = memory_for((size_t[]){0, 1, 2}, 3, 2 << 20),
                                          .kv_least_bytes = 2 << 20});
    for (size_t i = 0; i < 3; i++) {
        model_table_release(s.table, lease(&s, i), MODEL_KEEP_FOR_EVER);
        move_clock(&s, 1000);
    }
    assert_int_equal(model_table_stats_get(s.table).n_loaded, 3);
    assert_ok(model_table_pin(s.table, paths[0], true, &error), &error);
    model_table_release(s.table, lease(&s, 3), MODEL_KEEP_FOR_EVER);
    assert_true(is_loaded(&s, 0) && !is_loaded(&s, 1) && is_loaded(&s, 3)); /* 0 is pinned, 1 was next */
    assert_true(model_table_stats_get(s.table).n_for_room >= 1);
    assert_ok(model_table_pin(s.table, paths[0], false, &error), &error);
    assert_ok(model_table_unload(s.table, paths[0], NULL, NULL, NULL, &error), &error);
    while (model_table_stats_get(s.table).n_dismissed == 0) {
        nap();
    }
    assert_false(is_loaded(&s, 0));
    assert_int_equal(model_table_unload(s.table, paths[0], NULL, NULL, NULL, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "not loaded"));
    close_table(&s);
}

typedef struct leaving_note {
    setup *s;
    atomic_int n_gone, n_kept;
    uint32_t n_loaded; /* when it was told */
} leaving_note;

static void note_gone(void *user, bool gone)
{
    leaving_note *n = user;
    n->n_loaded = model_table_stats_get(n->s->table).n_loaded;
    atomic_fetch_add(gone ? &n->n_gone : &n->n_kept, 1);
}

static void count_change(void *user)
{
    atomic_fetch_add((atomic_int *)user, 1);
}

static void who_unloads_a_model_is_told_when_its_memory_is_free(void **unused)
{
    (void)unused;
    setup s;
    mlxr_error error;
    model_leaving how;
    atomic_int changes = 0;
    leaving_note note = {.s = &s};
    open_table(&s, &(model_table_options){0});
    model_table_on_change(s.table, count_change, &changes);
    mlxr_model *m = lease(&s, 0);
    assert_int_equal(atomic_load(&changes), 2); /* loading, loaded */
    assert_ok(model_table_unload(s.table, paths[0], note_gone, &note, &how, &error), &error);
    assert_int_equal(how, MODEL_LEAVES_WHEN_IDLE);
    model_table_release(s.table, m, MODEL_KEEP_FOR_EVER);
    wait_for_loaded(&s, 0);
    assert_ok(model_table_load(s.table, paths[0], MODEL_KEEP_FOR_EVER, &error), &error);
    assert_ok(model_table_pin(s.table, paths[0], true, &error), &error);
    assert_ok(model_table_unload(s.table, paths[0], note_gone, &note, &how, &error), &error);
    assert_int_equal(how, MODEL_STAYS);
    assert_ok(model_table_pin(s.table, paths[0], false, &error), &error);
    assert_int_equal(atomic_load(&note.n_gone) + atomic_load(&note.n_kept), 0); /* neither was waited for */
    for (int i = 1; i <= 30; i++) {
        assert_ok(model_table_load(s.table, paths[0], MODEL_KEEP_FOR_EVER, &error), &error);
        assert_ok(model_table_unload(s.table, paths[0], note_gone, &note, &how, &error), &error);
        assert_int_equal(how, MODEL_LEAVES_NOW);
        if (i % 3 == 0) { /* who asks for it meanwhile has it, before or after it has gone */
            model_table_release(s.table, lease(&s, 0), MODEL_KEEP_FOR_EVER);
        }
        while (atomic_load(&note.n_gone) + atomic_load(&note.n_kept) < i) {
            nap();
        }
        assert_true(i % 3 == 0 || (note.n_loaded == 0 && atomic_load(&note.n_gone) >= i - i / 3));
    }
    model_table_on_change(s.table, NULL, NULL);
    int before = atomic_load(&changes);
    assert_ok(model_table_load(s.table, paths[0], MODEL_KEEP_FOR_EVER, &error), &error);
    assert_ok(model_table_unload(s.table, paths[0], note_gone, &note, &how, &error), &error);
    close_table(&s); /* who waits is told in any case */
    assert_int_equal(atomic_load(&note.n_gone) + atomic_load(&note.n_kept), 31);
    assert_int_equal(atomic_load(&changes), before);
}

static void what_can_never_fit_or_be_read_is_refused_with_its_reason(void **unused)
{
    (void)unused;
    setup s;
    mlxr_error error;
    mlxr_model *model = NULL;
    char number[32];
    open_table(&s, &(model_table_options){.memory_bytes = weight_bytes[0] + (1 << 20) - 1, .kv_least_bytes = 1 << 20});
    assert_int_equal(model_table_wait(s.table, paths[0], 0, &model, &error), MLXR_LIMIT);
    snprintf(number, sizeof number, "%llu bytes of weights", (unsigned long long)weight_bytes[0]);
    assert_non_null(strstr(error.text, number));
    assert_non_null(strstr(error.text, "raise the budget"));
    assert_int_equal(model_table_wait(s.table, "/nowhere/x.gguf", 0, &model, &error), MLXR_IO);
    assert_non_null(strstr(error.text, "/nowhere/x.gguf"));
    assert_int_equal(model_table_wait(s.table, paths[1], 1, &model, &error), MLXR_LIMIT);
    assert_non_null(strstr(error.text, "deadline"));
    model_table_stats stats = model_table_stats_get(s.table);
    assert_int_equal(stats.n_never_fits, 1);
    assert_int_equal(stats.n_failed, 2);
    assert_int_equal(stats.n_loads, 0);
    close_table(&s);
}

typedef struct answer {
    _Atomic(mlxr_model *) model;
    atomic_int n_calls;
    mlxr_error error;
} answer;

static void on_ready(void *user, mlxr_model *model, const mlxr_error *error)
{
    answer *a = user;
    if (error) {
        a->error = *error;
    }
    atomic_store(&a->model, model);
    atomic_fetch_add(&a->n_calls, 1);
}

static void ask(setup *s, size_t which, uint64_t deadline_us, answer *a)
{
    mlxr_error error;
    *a = (answer){0};
    assert_ok(model_table_acquire(s->table, paths[which], deadline_us, on_ready, a, &error), &error);
}

static void wait_for(const answer *a)
{
    for (int i = 0; atomic_load(&a->n_calls) == 0; i++) {
        assert_true(i < 50000);
        nap();
    }
}

static model_table_options one_at_a_time(void)
{
    return (model_table_options){.models_max = 1, .patience_ms = 1000};
}

static void a_load_waits_for_models_in_use_and_gets_its_turn(void **unused)
{
    (void)unused;
    setup s;
    answer other, late, more, last;
    model_table_options options = one_at_a_time();
    open_table(&s, &options);
    mlxr_model *a = lease(&s, 0);
    ask(&s, 1, 0, &other);
    ask(&s, 2, fake_now(NULL) + 500000, &late);
    while (model_table_stats_get(s.table).n_held == 0) {
        nap();
    }
    ask(&s, 0, 0, &more); /* it is there, and nobody has waited long for its place */
    assert_int_equal(atomic_load(&more.n_calls), 1);
    move_clock(&s, 500000);
    wait_for(&late);
    assert_null(atomic_load(&late.model));
    assert_non_null(strstr(late.error.text, "deadline"));
    move_clock(&s, 500000);
    ask(&s, 0, 0, &last); /* now the other one has waited long enough */
    nap();
    assert_int_equal(atomic_load(&last.n_calls), 0);
    assert_int_equal(atomic_load(&other.n_calls), 0);
    model_table_release(s.table, a, MODEL_KEEP_FOR_EVER);
    model_table_release(s.table, a, MODEL_KEEP_FOR_EVER);
    wait_for(&other);
    assert_non_null(atomic_load(&other.model));
    model_table_release(s.table, atomic_load(&other.model), MODEL_KEEP_FOR_EVER);
    wait_for(&last);
    assert_non_null(atomic_load(&last.model));
    model_table_release(s.table, atomic_load(&last.model), MODEL_KEEP_FOR_EVER);
    model_table_stats stats = model_table_stats_get(s.table);
    assert_int_equal(stats.n_late, 1);
    assert_int_equal(stats.n_loads, 3);
    close_table(&s);
}

static void who_waits_when_the_table_closes_is_told(void **unused)
{
    (void)unused;
    setup s;
    answer waiting[3];
    mlxr_error error;
    model_table_options options = one_at_a_time();
    options.waiting_max = 3;
    open_table(&s, &options);
    mlxr_model *a = lease(&s, 0);
    for (size_t i = 0; i < 3; i++) {
        ask(&s, 1 + i, 0, &waiting[i]);
    }
    assert_int_equal(model_table_acquire(s.table, paths[1], 0, on_ready, NULL, &error), MLXR_LIMIT);
    assert_non_null(strstr(error.text, "3 requests wait"));
    model_table_release(s.table, a, MODEL_KEEP_FOR_EVER);
    wait_for(&waiting[0]);
    model_table_release(s.table, atomic_load(&waiting[0].model), MODEL_KEEP_FOR_EVER);
    close_table(&s);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&waiting[i].n_calls), 1);
        if (i > 0 && atomic_load(&waiting[i].model)) { /* it had its turn before the end */
            continue;
        }
        assert_true(i == 0 || strstr(waiting[i].error.text, "clos") || strstr(waiting[i].error.text, "nobody"));
    }
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

typedef struct call { /* one request */
    int32_t ids[ANSWER];
    size_t n, n_cached;
    scheduler_finish finish;
    atomic_int done;
} call;

static bool on_event(void *user, const scheduler_event *event)
{
    call *c = user;
    for (uint32_t i = 0; i < event->n_sampled && c->n < ANSWER; i++) {
        c->ids[c->n++] = event->sampled[i].id;
    }
    c->n_cached = event->n_cached;
    c->finish = event->finish;
    if (event->last) {
        atomic_store(&c->done, 1);
    }
    return true;
}

static void submit(setup *s, size_t which, mlxr_model *model, call *c)
{
    mlxr_error error;
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    memset(c, 0, sizeof *c);
    assert_ok(scheduler_submit(worker_scheduler(s->worker),
                               &(scheduler_request){.model = model,
                                                    .tokens = prompts[which],
                                                    .n_tokens = PROMPT,
                                                    .sampling = &greedy,
                                                    .max_tokens = ANSWER,
                                                    .ignore_end = true,
                                                    .on_event = on_event,
                                                    .user = c},
                               NULL, NULL, &error),
              &error);
}

static void finish(const call *c, size_t which)
{
    for (int i = 0; !atomic_load(&c->done); i++) {
        assert_true(i < 150000);
        nap();
    }
    assert_int_equal(c->finish, SCHEDULER_LENGTH);
    assert_memory_equal(c->ids, expected[which], sizeof c->ids);
}

static void flush(mlxr_engine *engine, void *user)
{
    (void)user;
    mlxr_kv_flush(engine);
}

static void a_reloaded_model_finds_its_prefixes_on_disk(void **unused)
{
    (void)unused;
    setup s;
    call c;
    char dir[512];
    snprintf(dir, sizeof dir, "%s/kv", test_temp_dir());
    open_with(&s, &(mlxr_engine_options){.kv_dir = dir}, NULL, true);
    for (int round = 0; round < 3; round++) {
        for (size_t which = 0; which < 2; which++) {
            mlxr_model *model = lease(&s, which);
            submit(&s, which, model, &c);
            finish(&c, which);
            assert_int_equal(c.n_cached, round == 0 ? 0 : 96);
            model_table_release(s.table, model, 0);
            wait_for_loaded(&s, 0);
            worker_call(s.worker, flush, NULL); /* written behind: until then a reload may come too early */
        }
    }
    model_table_stats stats = model_table_stats_get(s.table);
    assert_int_equal(stats.n_reloads, 4);
    close_table(&s);
}

static void budget_of(mlxr_engine *engine, void *user)
{
    *(mlxr_kv_stats *)user = mlxr_kv_stats_get(engine);
}

static void weights_and_pages_share_one_budget(void **unused)
{
    (void)unused;
    setup s;
    call calls[4];
    mlxr_kv_stats kv;
    /* With one model, pages for all four requests; with two, hardly for one. */
    uint64_t memory = weight_bytes[0] + weight_bytes[1] + 6 * kv_page_bytes[0];
    open_with(&s, &(mlxr_engine_options){.no_prefix_cache = true},
              &(model_table_options){.memory_bytes = memory, .kv_least_bytes = 5 * kv_page_bytes[0]}, true);
    mlxr_model *a = lease(&s, 0);
    worker_call(s.worker, budget_of, &kv);
    assert_int_equal(kv.bytes_budget, memory - weight_bytes[0]);
    for (size_t i = 0; i < 4; i++) {
        submit(&s, 0, a, &calls[i]);
    }
    mlxr_model *b = lease(&s, 1); /* takes from the pages while the requests run: some are pre-empted */
    worker_call(s.worker, budget_of, &kv);
    assert_int_equal(kv.bytes_budget, memory - weight_bytes[0] - weight_bytes[1]);
    assert_true(kv.bytes_used <= kv.bytes_budget);
    for (size_t i = 0; i < 4; i++) {
        finish(&calls[i], 0);
    }
    model_table_release(s.table, b, 0);
    wait_for_loaded(&s, 1);
    worker_call(s.worker, budget_of, &kv);
    assert_int_equal(kv.bytes_budget, memory - weight_bytes[0]);
    model_table_release(s.table, a, 0);
    close_table(&s);
}

typedef struct crowd {
    setup *s;
    uint64_t seed;
} crowd;

static void *use_models(void *context)
{
    crowd *c = context;
    uint64_t random = c->seed;
    for (int i = 0; i < 12; i++) {
        size_t which = test_random(&random) % MODELS;
        call one;
        mlxr_model *model = lease(c->s, which);
        submit(c->s, which, model, &one);
        finish(&one, which);
        model_table_release(c->s->table, model, test_random(&random) % 3 ? MODEL_KEEP_DEFAULT : 0);
    }
    return NULL;
}

static void many_threads_share_more_models_than_fit(void **unused)
{
    (void)unused;
    setup s;
    pthread_t threads[4];
    crowd crowds[4];
    uint64_t most = 0;
    for (size_t i = 0; i < MODELS; i++) {
        most = weight_bytes[i] > most ? weight_bytes[i] : most;
    }
    open_with(&s, &(mlxr_engine_options){0},
              &(model_table_options){.memory_bytes = 2 * most + (1 << 20), .kv_least_bytes = 1 << 20, .patience_ms = 5},
              true);
    for (size_t i = 0; i < 4; i++) {
        crowds[i] = (crowd){&s, i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, use_models, &crowds[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    model_table_stats stats = model_table_stats_get(s.table);
    assert_int_equal(stats.n_granted, 48);
    assert_int_equal(stats.n_waiting, 0);
    assert_true(stats.n_reloads > 0);
    print_message("48 leases of 4 models in room for 2: %d loads, %d held up, attach at most %d us, detach %d us\n",
                  (int)stats.n_loads, (int)stats.n_held, (int)stats.attach_max_us, (int)stats.detach_max_us);
    close_table(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_loaded_once_and_shared),
        cmocka_unit_test(keep_alive_decides_how_long_an_idle_model_stays),
        cmocka_unit_test(room_comes_from_the_idle_model_used_longest_ago),
        cmocka_unit_test(who_unloads_a_model_is_told_when_its_memory_is_free),
        cmocka_unit_test(what_can_never_fit_or_be_read_is_refused_with_its_reason),
        cmocka_unit_test(a_load_waits_for_models_in_use_and_gets_its_turn),
        cmocka_unit_test(who_waits_when_the_table_closes_is_told),
        cmocka_unit_test(a_reloaded_model_finds_its_prefixes_on_disk),
        cmocka_unit_test(weights_and_pages_share_one_budget),
        cmocka_unit_test(many_threads_share_more_models_than_fit),
    };
    return cmocka_run_group_tests(tests, make_models, NULL);
}
