/*
 * Logits of heads for multi-token prediction against their equations (tools/oracle/mtp.py): behind each token of a
 * prompt that came at once, token by token, in chunks, out of the prefix cache and from pages on disk; and those that
 * the head gives when it goes on from what it gave.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>
#include <stdlib.h>

#include "oracle/reference_logits.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/head_row.h"

/* Σ(found − expected)² ÷ Σ expected². MLXR promises 1e-6; seen: 3e-11. */
#define NMSE_LIMIT 1e-9

enum { FAMILIES_MAX = 160 };

static const char *backends[] = {"cpu-scalar", "cpu"};
static size_t n_backends = sizeof backends / sizeof *backends;

typedef struct setup {
    mlxr_engine *engine;
    mlxr_model *model;
    reference first, again; /* behind a token; behind that and the next, without the model */
    error_sum sum;
    uint32_t n_rows; /* compared */
} setup;

static void open_reference(reference *r, const char *name, const char *end)
{
    char file[FAMILY_NAME_MAX + 16];
    snprintf(file, sizeof file, "%s%s", name, end);
    reference_open_file(r, "families", file);
}

static void open_setup(setup *s, const char *on, const char *name, const char *kv_dir)
{
    mlxr_error error;
    char path[512];
    mlxr_engine_options options = {
        .backend = on, .kv_type = "f32", .kv_bytes = 32u << 20, .kv_dir = kv_dir, .n_threads = 1};
    *s = (setup){0};
    open_reference(&s->first, name, ".ahead");
    open_reference(&s->again, name, ".again");
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&s->model, s->engine, path, &(mlxr_model_options){.mtp = MLXR_MTP_NEEDED}, &error),
              &error);
    assert_true(mlxr_model_info_get(s->model)->mtp);
}

static double close_setup(setup *s)
{
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
    mapping_close(&s->first.file);
    mapping_close(&s->again.file);
    return s->sum.all > 0 ? s->sum.wrong / s->sum.all : 0;
}

static void run_head(const setup *s, mlxr_sequence *sequence, int32_t token, uint32_t at, float *hidden, float *logits)
{
    mlxr_error error;
    assert_ok(pager_reserve_ahead(&sequence->pages, at, at + 1, &error), &error);
    head_row(s->engine, s->model, sequence, token, at, hidden, logits);
}

static bool is_there(const reference *r, uint32_t position)
{
    uint32_t n = r->n_vocab / r->stride;
    return r->logits[(size_t)position * n] != 0;
}

/* The head behind the token that has been appended and not been computed. */
static void compare(setup *s, mlxr_sequence *sequence)
{
    uint32_t at = (uint32_t)sequence->n_computed, group = s->model->graph->group_ahead;
    uint32_t page = pager_state(&sequence->pages, group), n_embd = s->model->graph->h.n_embd;
    const kv_pool *pool = s->model->pools[group];
    float hidden[256], logits[512];
    assert_true(n_embd <= 256 && s->first.n_vocab <= 512 && page != KV_PAGE_NONE);
    memcpy(hidden, (const char *)pool->memory + page * pool->layout.page_bytes, n_embd * sizeof *hidden);
    run_head(s, sequence, s->first.ids[at], at, hidden, logits);
    add_position(&s->sum, &s->first, at, logits);
    s->n_rows++;
    if (at + 1 < s->first.n_tokens && is_there(&s->again, at)) {
        run_head(s, sequence, s->first.ids[at + 1], at + 1, hidden, logits);
        add_position(&s->sum, &s->again, at, logits);
        s->n_rows++;
    }
}

static mlxr_sequence *start(const setup *s, uint32_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, s->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, s->first.ids, n, &error), &error);
    return sequence;
}

/* Computes all but the last of its tokens. */
static void run_until_last(const setup *s, mlxr_sequence *sequence, uint32_t chunk)
{
    mlxr_error error;
    for (uint32_t left; (left = (uint32_t)mlxr_sequence_pending(sequence)) > 1;) {
        mlxr_slice slice = {
            .sequence = sequence, .n_compute = chunk < left - 1 ? chunk : left - 1, .flags = MLXR_SLICE_NO_SAMPLE};
        assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
    }
}

/* Each prompt from nothing. */
static double check_prompts(const char *on, const char *name, uint32_t chunk)
{
    setup s;
    open_setup(&s, on, name, NULL);
    s.model->cache.off = true;
    for (uint32_t n = 2; n <= s.first.n_tokens; n += 9) {
        mlxr_sequence *sequence = start(&s, n);
        run_until_last(&s, sequence, chunk);
        compare(&s, sequence);
        mlxr_sequence_close(&sequence);
    }
    return close_setup(&s);
}

static double check_at_once(const char *on, const char *name)
{
    return check_prompts(on, name, 512);
}

static double check_in_chunks(const char *on, const char *name)
{
    return check_prompts(on, name, 7);
}

/* One sequence that grows by a token; what the head writes behind the newest is overwritten by what is computed. */
static double check_token_by_token(const char *on, const char *name)
{
    setup s;
    mlxr_error error;
    open_setup(&s, on, name, NULL);
    mlxr_sequence *sequence = start(&s, 1);
    for (uint32_t at = 1; at < s.first.n_tokens; at++) {
        mlxr_slice slice = {.sequence = sequence, .n_compute = 1, .flags = MLXR_SLICE_NO_SAMPLE};
        assert_ok(mlxr_step(s.engine, &slice, 1, &error), &error);
        assert_ok(mlxr_sequence_append(sequence, &s.first.ids[at], 1, &error), &error);
        compare(&s, sequence);
    }
    mlxr_sequence_close(&sequence);
    assert_true(s.n_rows > s.first.n_tokens);
    return close_setup(&s);
}

/* Another sequence has computed the prompt's beginning; a copy goes on; what is given back is found again. */
static double check_cached(const char *on, const char *name)
{
    setup s;
    mlxr_error error;
    open_setup(&s, on, name, NULL);
    for (uint32_t n = 40; n <= s.first.n_tokens; n += 19) {
        mlxr_sequence *sequence = start(&s, n), *copy = NULL;
        run_until_last(&s, sequence, 32);
        compare(&s, sequence);
        assert_ok(mlxr_sequence_fork(&copy, sequence, NULL, &error), &error);
        mlxr_sequence_release(sequence);
        compare(&s, copy);
        mlxr_sequence_resume(sequence);
        assert_true(mlxr_sequence_cached(sequence) > 0);
        run_until_last(&s, sequence, 5);
        compare(&s, sequence);
        mlxr_sequence_close(&copy);
        mlxr_sequence_close(&sequence);
    }
    return close_setup(&s);
}

static double check_reloaded(const char *on, const char *name)
{
    setup s;
    char kv_dir[512];
    static unsigned n;
    snprintf(kv_dir, sizeof kv_dir, "%s/kv%u", test_temp_dir(), n++);
    open_setup(&s, on, name, kv_dir);
    mlxr_sequence *sequence = start(&s, s.first.n_tokens * 2 / 3);
    run_until_last(&s, sequence, 32);
    mlxr_sequence_close(&sequence);
    close_setup(&s);
    open_setup(&s, on, name, kv_dir);
    sequence = start(&s, s.first.n_tokens);
    assert_true(mlxr_sequence_cached(sequence) > 0 && mlxr_kv_stats_get(s.engine).disk_hits > 0);
    run_until_last(&s, sequence, 512);
    compare(&s, sequence);
    mlxr_sequence_close(&sequence);
    return close_setup(&s);
}

static const struct {
    const char *name;
    double (*run)(const char *on, const char *name);
} checks[] = {{"at once", check_at_once},
              {"token by token", check_token_by_token},
              {"in chunks", check_in_chunks},
              {"cached", check_cached},
              {"reloaded", check_reloaded}};

static void logits_of_the_head_equal_its_equations(void **state)
{
    const char *name = *state;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    family_model_write(name, path);
    for (size_t b = 0; b < n_backends; b++) {
        printf("%-16s %-10s", name, backends[b]);
        for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
            double nmse = checks[i].run(backends[b], name);
            printf("  %s %.1e", checks[i].name, nmse);
            if (!(nmse < NMSE_LIMIT)) {
                fail_msg("%s on %s, %s: NMSE %.2e, limit %.0e", name, backends[b], checks[i].name, nmse, NMSE_LIMIT);
            }
        }
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    static char names[FAMILIES_MAX][FAMILY_NAME_MAX], titles[FAMILIES_MAX][FAMILY_NAME_MAX + 48];
    static struct CMUnitTest tests[FAMILIES_MAX];
    size_t n_names = family_model_list(names, FAMILIES_MAX), n = 0;
    if (getenv("MLXR_TEST_BACKEND")) {
        backends[0] = getenv("MLXR_TEST_BACKEND");
        n_backends = 1;
    }
    for (size_t i = 0; i < n_names; i++) {
        const char *end = strstr(names[i], "-mtp");
        if (end && !end[4] && (argc == 1 || strcmp(argv[1], names[i]) == 0)) {
            snprintf(titles[n], sizeof titles[n], "%.*s: logits_of_the_head_equal_its_equations", FAMILY_NAME_MAX,
                     names[i]);
            tests[n] = (struct CMUnitTest){
                .name = titles[n], .test_func = logits_of_the_head_equal_its_equations, .initial_state = names[i]};
            n++;
        }
    }
    return n ? _cmocka_run_group_tests("heads", tests, n, NULL, NULL) : 2;
}
