/*
 * Model table without memory: whichever allocation fails, whoever waits is told once, and afterwards everything works.
 * Owner: the test program. Lifetime: the process.
 */
#include "scheduler/model_table.h"
#include "support/fail_alloc.h"
#include "support/test.h"
#include "support/tiny_model.h"

static void a_table_or_a_load_that_gets_no_memory_says_so(void **unused)
{
    (void)unused;
    mlxr_error error;
    mlxr_engine *engine = NULL;
    worker *w = NULL;
    model_table *t = NULL;
    char path[512];
    snprintf(path, sizeof path, "%s/llama.gguf", test_temp_dir());
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, path);
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1, .kv_bytes = 1 << 20}, &error), &error);
    assert_ok(worker_start(&w, engine, NULL, &error), &error);
    fail_alloc_at(1);
    assert_int_equal(model_table_open(&t, w, NULL, &error), MLXR_NOMEM);
    assert_true(fail_alloc_stop());
    assert_ok(model_table_open(&t, w, NULL, &error), &error);
    long n_failed = 0;
    for (long n = 1;; n += n > 60 ? 13 : 1) { /* reading models has tests of its own */
        mlxr_model *model = NULL;
        fail_alloc_at(n);
        mlxr_status status = model_table_wait(t, path, 0, &model, &error);
        bool failed = fail_alloc_stop();
        if (status == MLXR_OK) {
            assert_non_null(model);
            model_table_release(t, model, 0);
            while (model_table_stats_get(t).n_loaded) {
            }
        } else {
            assert_int_equal(status, MLXR_NOMEM);
            n_failed++;
        }
        assert_int_equal(model_table_stats_get(t).n_waiting, 0);
        if (!failed) {
            assert_int_equal(status, MLXR_OK);
            break;
        }
    }
    assert_true(n_failed > 10);
    model_table_close(&t);
    worker_stop(&w, true);
    mlxr_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_or_a_load_that_gets_no_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
