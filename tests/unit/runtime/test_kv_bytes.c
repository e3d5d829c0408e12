/*
 * What a sequence takes of the KV budget: exactly the pages of the formula, for full attention and windows, at every
 * length, however the prompt is cut; and the budget may be lowered and raised.
 * Owner: the test program. Lifetime: the process.
 */
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { LENGTH = 250 };

typedef struct fixture {
    mlxr_engine *engine;
    mlxr_model *model;
} fixture;

static void open_model(fixture *f, const char *name, bool cached)
{
    mlxr_error error;
    char path[512];
    snprintf(path, sizeof path, "%s/%s.gguf", test_temp_dir(), name);
    tiny_model_write_gguf(tiny_model_find(name), &(tiny_options){.type = DTYPE_Q8_0}, path);
    mlxr_engine_options options = {.n_threads = 1, .kv_bytes = 4 << 20, .no_prefix_cache = !cached};
    assert_ok(mlxr_engine_open(&f->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&f->model, f->engine, path, NULL, &error), &error);
}

static void close_model(fixture *f)
{
    mlxr_model_unref(&f->model);
    mlxr_engine_close(&f->engine);
}

/* From the definition: position by position, is it mapped, and can the next query still see any of its page? */
static uint64_t bytes_by_definition(const mlxr_model *m, uint32_t n)
{
    uint64_t n_bytes = 0;
    for (uint32_t g = 0; g < m->graph->plan.n_kv_groups; g++) {
        const kv_group *group = &m->graph->plan.kv_groups[g];
        for (uint32_t page = 0; page * 32 < n; page++) {
            bool seen = false;
            for (uint32_t p = page * 32; p < (page + 1) * 32; p++) { /* the query at n sees (n − window, n] */
                seen = seen || group->window == 0 || p + group->window > n;
            }
            n_bytes += seen ? (uint64_t)group->n_layers * 2 * group->n_head_kv * group->head_dim * 2 * 32 : 0;
        }
    }
    return n_bytes;
}

static mlxr_sequence *open_prompt(fixture *f, size_t n)
{
    mlxr_error error;
    mlxr_sequence *s = NULL;
    int32_t ids[LENGTH];
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(1 + i * 7 % 200);
    }
    assert_ok(mlxr_sequence_open(&s, f->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(s, ids, n, &error), &error);
    return s;
}

static void compute(fixture *f, mlxr_sequence *s, uint32_t n)
{
    mlxr_error error;
    mlxr_slice slice = {.sequence = s, .n_compute = n, .flags = MLXR_SLICE_NO_SAMPLE};
    assert_ok(mlxr_step(f->engine, &slice, 1, &error), &error);
}

static void a_sequence_holds_the_bytes_of_the_formula_at_every_length(void **unused)
{
    (void)unused;
    static const char *const models[] = {"llama", "mistral", "gemma3"};
    for (size_t i = 0; i < 3; i++) {
        for (uint32_t chunk = 1; chunk <= 96; chunk = chunk * 5 + 1) {
            fixture f;
            open_model(&f, models[i], false);
            mlxr_sequence *s = open_prompt(&f, LENGTH);
            for (uint32_t done = 0; done < LENGTH;) {
                uint32_t n = chunk < LENGTH - done ? chunk : LENGTH - done;
                compute(&f, s, n);
                done += n;
                uint64_t held = mlxr_kv_stats_get(f.engine).bytes_used;
                assert_int_equal(held, mlxr_model_kv_bytes(f.model, done, 0));
                assert_int_equal(held, bytes_by_definition(f.model, done));
            }
            mlxr_sequence_close(&s);
            close_model(&f);
        }
    }
}

/* The budget is exactly what the formula says a step needs: one byte less and it fails. */
static void a_step_needs_exactly_the_bytes_of_the_formula(void **unused)
{
    (void)unused;
    static const char *const models[] = {"llama", "gemma3"};
    for (size_t i = 0; i < 2; i++) {
        for (uint32_t before = 0; before <= 160; before += 40) {
            for (uint32_t n = 1; n <= 64; n += 21) {
                fixture f;
                mlxr_error error;
                open_model(&f, models[i], false);
                mlxr_sequence *s = open_prompt(&f, before + n);
                if (before) {
                    compute(&f, s, before);
                }
                uint64_t need = mlxr_model_kv_bytes(f.model, before, n), held = mlxr_model_kv_bytes(f.model, before, 0);
                mlxr_slice slice = {.sequence = s, .n_compute = n};
                if (need > held) {
                    assert_int_equal(mlxr_kv_budget_set(f.engine, need - 1), need - 1);
                    assert_int_equal(mlxr_step(f.engine, &slice, 1, &error), MLXR_KV_FULL);
                }
                assert_int_equal(mlxr_kv_budget_set(f.engine, need), need);
                assert_ok(mlxr_step(f.engine, &slice, 1, &error), &error);
                mlxr_sequence_close(&s);
                close_model(&f);
            }
        }
    }
}

/* Of each group the most that any step on the way needs, wherever it begins. */
static uint64_t most_by_search(const mlxr_model *m, uint64_t n_tokens, uint64_t n_rows)
{
    uint64_t n_bytes = 0;
    for (uint32_t g = 0; g < m->graph->plan.n_kv_groups; g++) {
        uint64_t most = 0;
        for (uint64_t begin = 0; begin < n_tokens; begin++) {
            uint64_t rows = n_tokens - begin < n_rows ? n_tokens - begin : n_rows;
            uint64_t n_pages = pager_pages_needed(&m->graph->plan.kv_groups[g], ENGINE_PAGE_TOKENS, begin, rows);
            most = n_pages > most ? n_pages : most;
        }
        n_bytes += most * m->pools[g]->layout.page_bytes;
    }
    return n_bytes;
}

static void check_most(const mlxr_model *m)
{
    static const uint64_t rows[] = {1, 2, 16, 32, 100, 400};
    for (uint64_t n = 0; n <= 3 * LENGTH; n++) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            assert_int_equal(mlxr_model_kv_bytes_most(m, n, rows[i]), most_by_search(m, n, rows[i]));
        }
    }
}

static void the_most_on_the_way_is_that_of_the_step_that_needs_most(void **unused)
{
    (void)unused;
    static const char *const models[] = {"llama", "mistral", "gemma3"};
    fixture f;
    mlxr_error error;
    char path[512];
    for (size_t i = 0; i < 3; i++) {
        open_model(&f, models[i], false);
        check_most(f.model);
        close_model(&f);
    }
    snprintf(path, sizeof path, "%s/llama4", test_temp_dir()); /* attention in chunks, and layers without */
    family_model_write("llama4", path);
    assert_ok(mlxr_engine_open(&f.engine, &(mlxr_engine_options){.n_threads = 1, .kv_bytes = 4 << 20}, &error), &error);
    assert_ok(mlxr_model_load(&f.model, f.engine, path, NULL, &error), &error);
    check_most(f.model);
    close_model(&f);
}

static void a_lowered_budget_evicts_what_is_cached_and_spares_what_is_held(void **unused)
{
    (void)unused;
    fixture f;
    open_model(&f, "llama", true);
    mlxr_sequence *s = open_prompt(&f, 128);
    compute(&f, s, 128);
    mlxr_sequence_close(&s);
    uint64_t page = mlxr_model_kv_bytes(f.model, 1, 0);
    assert_int_equal(mlxr_kv_stats_get(f.engine).bytes_cached, 4 * page);
    assert_int_equal(mlxr_kv_budget_set(f.engine, 2 * page), 2 * page);
    assert_true(mlxr_kv_stats_get(f.engine).bytes_used <= 2 * page);
    assert_int_equal(mlxr_kv_budget_set(f.engine, UINT64_MAX), 4 << 20); /* never above what it was opened with */
    s = open_prompt(&f, 128);
    compute(&f, s, (uint32_t)mlxr_sequence_pending(s));
    assert_int_equal(mlxr_kv_budget_set(f.engine, page), 4 * page); /* held */
    mlxr_sequence_close(&s);
    assert_int_equal(mlxr_kv_budget_set(f.engine, page), page);
    mlxr_kv_budget_set(f.engine, UINT64_MAX);
    mlxr_sequence *again = open_prompt(&f, 128); /* pages whose memory went back to the system serve again */
    compute(&f, again, (uint32_t)mlxr_sequence_pending(again));
    mlxr_sequence_close(&again);
    close_model(&f);
}

static void a_model_is_read_beside_and_attached_later(void **unused)
{
    (void)unused;
    fixture f;
    mlxr_error error;
    mlxr_model *other = NULL, *dropped = NULL;
    char path[512];
    open_model(&f, "llama", true);
    snprintf(path, sizeof path, "%s/llama.gguf", test_temp_dir());
    assert_ok(mlxr_model_read(&other, f.engine, path, &(mlxr_model_options){.n_ctx_max = 64}, &error), &error);
    assert_ok(mlxr_model_read(&dropped, f.engine, path, NULL, &error), &error);
    mlxr_model_unref(&dropped); /* never attached */
    int32_t ids[16];
    size_t n = 0;
    assert_ok(mlxr_tokenize(other, "ab", 2, 0, ids, 16, &n, &error), &error);
    assert_int_equal(mlxr_model_info_get(other)->n_ctx, 64);
    assert_int_equal(mlxr_model_info_get(f.model)->n_ctx, mlxr_model_info_get(f.model)->n_ctx_train);
    assert_ok(mlxr_model_attach(other, &error), &error);
    assert_int_equal(mlxr_model_attach(other, &error), MLXR_ARG);
    fixture second = {f.engine, other};
    mlxr_sequence *s = open_prompt(&second, 40);
    compute(&second, s, 40);
    mlxr_sequence_close(&s);
    mlxr_model_unref(&other);
    close_model(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sequence_holds_the_bytes_of_the_formula_at_every_length),
        cmocka_unit_test(a_step_needs_exactly_the_bytes_of_the_formula),
        cmocka_unit_test(the_most_on_the_way_is_that_of_the_step_that_needs_most),
        cmocka_unit_test(a_lowered_budget_evicts_what_is_cached_and_spares_what_is_held),
        cmocka_unit_test(a_model_is_read_beside_and_attached_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
