/*
 * Metrics without memory: opening and rendering say so, counting goes on in the series of all others.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/fail_alloc.h"
#include "support/test.h"
#include "telemetry/metrics.h"

static const double bounds[] = {1, 2};
static const metric table[] = {
    {.name = "requests_total", .kind = METRIC_COUNTER, .help = "Requests.", .labels = {"model_name"}},
    {.name = "level", .kind = METRIC_GAUGE, .help = "A level."},
    {.name = "seconds", .kind = METRIC_HISTOGRAM, .help = "Time.", .bounds = bounds, .n_bounds = 2},
};

static void opening_says_that_there_is_no_memory(void **unused)
{
    (void)unused;
    for (long n = 1;; n++) {
        metrics *m = NULL;
        mlxr_error error = {0};
        fail_alloc_at(n);
        mlxr_status status = metrics_open(&m, table, 3, &error);
        if (!fail_alloc_stop()) {
            assert_ok(status, &error);
            metrics_close(&m);
            assert_true(n > 5);
            break;
        }
        assert_int_equal(status, MLXR_NOMEM);
        assert_null(m);
        assert_true(error.text[0] != '\0');
    }
}

static void rendering_says_that_there_is_no_memory(void **unused)
{
    (void)unused;
    metrics *m = NULL;
    mlxr_error error;
    char *text = NULL;
    size_t n_bytes;
    assert_ok(metrics_open(&m, table, 3, &error), &error);
    metric_add(metrics_series(m, 0, (const char *const[]){"a"}), 1);
    for (long n = 1;; n++) {
        fail_alloc_at(n);
        mlxr_status status = metrics_render(m, &text, &n_bytes, &error);
        if (!fail_alloc_stop()) {
            assert_ok(status, &error);
            break;
        }
        assert_int_equal(status, MLXR_NOMEM);
    }
    assert_non_null(strstr(text, "mlxr_requests_total{model_name=\"a\"} 1\n"));
    free(text);
    metrics_close(&m);
}

static void counting_goes_on_in_the_series_of_all_others(void **unused)
{
    (void)unused;
    metrics *m = NULL;
    mlxr_error error;
    assert_ok(metrics_open(&m, table, 3, &error), &error);
    fail_alloc_from(1);
    for (unsigned i = 0; i < 200; i++) { /* its reservation comes back each time */
        metric_add(metrics_series(m, 0, (const char *const[]){"a"}), 1);
    }
    assert_true(fail_alloc_stop());
    assert_true(metric_value(metrics_series(m, 0, (const char *const[]){METRIC_OTHER})) == 200);
    metric_add(metrics_series(m, 0, (const char *const[]){"a"}), 1);
    assert_true(metric_value(metrics_series(m, 0, (const char *const[]){"a"})) == 1);
    metrics_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_says_that_there_is_no_memory),
        cmocka_unit_test(rendering_says_that_there_is_no_memory),
        cmocka_unit_test(counting_goes_on_in_the_series_of_all_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
