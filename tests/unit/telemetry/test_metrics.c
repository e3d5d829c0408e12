/*
 * Metrics: what is counted is shown, from any number of threads, and labels from outside stay bounded.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "support/test.h"
#include "telemetry/metric_table.h"
#include "telemetry/request_meter.h"

enum { REQUESTS, LEVEL, LATENCY, ROUTES };
static const double bounds[] = {0.1, 1, 10};
static const metric table[] = {
    [REQUESTS] = {.name = "requests_total",
                  .kind = METRIC_COUNTER,
                  .help = "Requests.",
                  .labels = {"model_name", "reason"},
                  .series_max = 8},
    [LEVEL] = {.name = "level", .kind = METRIC_GAUGE, .help = "A level."},
    [LATENCY] = {.name = "latency_seconds",
                 .kind = METRIC_HISTOGRAM,
                 .help = "Latency.",
                 .labels = {"model_name"},
                 .bounds = bounds,
                 .n_bounds = 3},
    [ROUTES] = {.name = "routes",
                .kind = METRIC_GAUGE,
                .help = "Back\\slash and\nline.",
                .labels = {"route"},
                .series_max = 2},
};

static metrics *open_table(void)
{
    metrics *m = NULL;
    mlxr_error error;
    assert_ok(metrics_open(&m, table, sizeof table / sizeof *table, &error), &error);
    return m;
}

/* The text, in a static buffer. */
static const char *render(metrics *m)
{
    static char copy[65536];
    char *text;
    size_t n;
    mlxr_error error;
    assert_ok(metrics_render(m, &text, &n, &error), &error);
    assert_int_equal(strlen(text), n);
    assert_true(n < sizeof copy);
    memcpy(copy, text, n + 1);
    free(text);
    return copy;
}

static void assert_shown(metrics *m, const char *line)
{
    const char *text = render(m);
    if (!strstr(text, line)) {
        fail_msg("%s is not in\n%s", line, text);
    }
}

static metric_series *reason(metrics *m, const char *model, const char *why)
{
    return metrics_series(m, REQUESTS, (const char *const[]){model, why});
}

static void counters_and_gauges_show_what_was_counted(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    metric_add(reason(m, "a", "stop"), 1);
    metric_add(reason(m, "a", "stop"), 2);
    metric_add(reason(m, "a", "length"), 1);
    metric_set(metrics_series(m, LEVEL, NULL), 0.25);
    metric_add(metrics_series(m, LEVEL, NULL), -0.5);
    assert_string_equal(render(m), "# HELP mlxr_requests_total Requests.\n"
                                   "# TYPE mlxr_requests_total counter\n"
                                   "mlxr_requests_total{model_name=\"a\",reason=\"length\"} 1\n"
                                   "mlxr_requests_total{model_name=\"a\",reason=\"stop\"} 3\n"
                                   "# HELP mlxr_level A level.\n"
                                   "# TYPE mlxr_level gauge\n"
                                   "mlxr_level -0.25\n");
    metrics_close(&m);
    assert_null(m);
}

static void histograms_count_into_the_bucket_whose_end_is_not_below(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    metric_series *s = metrics_series(m, LATENCY, (const char *const[]){"a"});
    metric_observe(s, 0.1); /* le: less or equal */
    metric_observe(s, 0.5);
    metric_observe_many(s, 10.5, 3);
    metric_observe(s, -1);
    assert_shown(m, "mlxr_latency_seconds_bucket{model_name=\"a\",le=\"0.1\"} 2\n"
                    "mlxr_latency_seconds_bucket{model_name=\"a\",le=\"1\"} 3\n"
                    "mlxr_latency_seconds_bucket{model_name=\"a\",le=\"10\"} 3\n"
                    "mlxr_latency_seconds_bucket{model_name=\"a\",le=\"+Inf\"} 6\n"
                    "mlxr_latency_seconds_sum{model_name=\"a\"} 31.1\n"
                    "mlxr_latency_seconds_count{model_name=\"a\"} 6\n");
    assert_true(metric_value(s) == 6);
    metrics_close(&m);
}

static void a_value_that_is_no_number_counts_beyond_every_bound(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    metric_observe(metrics_series(m, LATENCY, (const char *const[]){"a"}), NAN);
    assert_shown(m, "le=\"10\"} 0\n");
    assert_shown(m, "le=\"+Inf\"} 1\n");
    assert_shown(m, "_sum{model_name=\"a\"} NaN\n");
    metrics_close(&m);
}

static void labels_are_escaped_and_cut_and_made_utf8(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    char longest[400];
    memset(longest, 'x', sizeof longest);
    memcpy(longest + 127, "\xc3\xa9", 2); /* straddles the bound */
    longest[sizeof longest - 1] = '\0';
    metric_set(metrics_series(m, ROUTES, (const char *const[]){"a\"b\\c\nd\xff"}), 1);
    metric_set(metrics_series(m, ROUTES, (const char *const[]){longest}), 2);
    assert_shown(m, "# HELP mlxr_routes Back\\\\slash and\\nline.\n");
    assert_shown(m, "mlxr_routes{route=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 1\n");
    longest[127] = '\0';
    char line[512];
    snprintf(line, sizeof line, "mlxr_routes{route=\"%s\"} 2\n", longest);
    assert_shown(m, line);
    metrics_close(&m);
}

static void labels_beyond_the_bound_share_one_series(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof name, "model-%d", i);
        metric_add(reason(m, name, "stop"), 1);
    }
    metric_add(reason(m, METRIC_OTHER, METRIC_OTHER), 1); /* what is called so is among them */
    const char *text = render(m);
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, "mlxr_requests_total{")); at++) {
        n++;
    }
    assert_int_equal(n, 9);
    assert_shown(m, "mlxr_requests_total{model_name=\"other\",reason=\"other\"} 993\n");
    assert_ptr_equal(reason(m, "model-3", "stop"), reason(m, "model-3", "stop"));
    assert_ptr_equal(reason(m, "model-900", "stop"), reason(m, "x", "y"));
    assert_ptr_equal(metrics_series(m, REQUESTS, NULL), reason(m, "", NULL)); /* nothing said is an empty value */
    metrics_close(&m);
}

static void borders_between_labels_are_part_of_them(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    assert_ptr_not_equal(reason(m, "ab", "c"), reason(m, "a", "bc"));
    metrics_close(&m);
}

static void a_hidden_metric_shows_only_what_is_set_again(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    metric_set(metrics_series(m, ROUTES, (const char *const[]){"gone"}), 1);
    metric_set(metrics_series(m, ROUTES, (const char *const[]){"here"}), 1);
    metrics_hide(m, ROUTES);
    metric_set(metrics_series(m, ROUTES, (const char *const[]){"here"}), 2);
    assert_shown(m, "mlxr_routes{route=\"here\"} 2\n");
    assert_null(strstr(render(m), "gone"));
    metrics_close(&m);
}

static void collect(void *user, metrics *m)
{
    metric_set(metrics_series(m, LEVEL, NULL), ++*(int *)user);
}

static void collectors_are_asked_before_each_rendering(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    mlxr_error error;
    int n = 0;
    assert_ok(metrics_on_scrape(m, collect, &n, &error), &error);
    assert_shown(m, "mlxr_level 1\n");
    assert_shown(m, "mlxr_level 2\n");
    for (int i = 1; i < 16; i++) {
        assert_ok(metrics_on_scrape(m, collect, &n, &error), &error);
    }
    assert_int_equal(metrics_on_scrape(m, collect, &n, &error), MLXR_LIMIT);
    metrics_close(&m);
}

static void a_table_that_makes_no_sense_is_refused(void **unused)
{
    (void)unused;
    static const double falling[] = {2, 1};
    const metric bad[] = {{.name = "a", .kind = METRIC_HISTOGRAM, .help = "a", .bounds = falling, .n_bounds = 2}};
    const metric none[] = {{.name = "b", .kind = METRIC_HISTOGRAM, .help = "b"}};
    metrics *m = NULL;
    mlxr_error error;
    assert_int_equal(metrics_open(&m, bad, 1, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "metric a"));
    assert_int_equal(metrics_open(&m, none, 1, &error), MLXR_ARG);
    assert_null(m);
}

enum { THREADS = 4, ROUNDS = 20000 };

typedef struct counting {
    metrics *m;
    unsigned index;
} counting;

static void *count(void *argument)
{
    const counting *c = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i % 12); /* more than fit */
        metric_add(reason(c->m, name, "stop"), 1);
        metric_observe(metrics_series(c->m, LATENCY, (const char *const[]){name}), 0.5);
        metric_add(metrics_series(c->m, LEVEL, NULL), c->index % 2 ? 1 : -1);
    }
    return NULL;
}

static void threads_that_count_while_others_render_lose_nothing(void **unused)
{
    (void)unused;
    metrics *m = open_table();
    pthread_t threads[THREADS];
    counting counts[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        counts[i] = (counting){m, i};
        assert_int_equal(pthread_create(&threads[i], NULL, count, &counts[i]), 0);
    }
    for (unsigned i = 0; i < 50; i++) {
        assert_non_null(strstr(render(m), "mlxr_level"));
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    double n = 0, observed = 0;
    for (unsigned i = 0; i < 12; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        metric_series *s = reason(m, name, "stop");
        n += s == reason(m, METRIC_OTHER, METRIC_OTHER) ? 0 : metric_value(s);
        observed += metric_value(metrics_series(m, LATENCY, (const char *const[]){name}));
    }
    n += metric_value(reason(m, METRIC_OTHER, METRIC_OTHER));
    assert_true(n == THREADS * ROUNDS);
    assert_true(observed == THREADS * ROUNDS);
    assert_true(metric_value(metrics_series(m, LEVEL, NULL)) == 0);
    metrics_close(&m);
}

/* ---- the daemon's own table ---- */

static void every_row_of_the_table_has_a_name_a_help_and_a_lawful_suffix(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const metric *row = &metric_table[i];
        assert_non_null(row->name);
        assert_non_null(row->help);
        size_t n = strlen(row->name);
        bool total = n > 6 && strcmp(row->name + n - 6, "_total") == 0;
        assert_int_equal(total, row->kind == METRIC_COUNTER);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(row->name, metric_table[j].name);
        }
    }
}

static metrics *open_own(void)
{
    metrics *m = NULL;
    mlxr_error error;
    assert_ok(metrics_open(&m, metric_table, METRIC_COUNT, &error), &error);
    return m;
}

static double of_model(metrics *m, metric_id id)
{
    return metric_value(metrics_series(m, id, (const char *const[]){"tiny"}));
}

static void a_request_is_measured_from_its_arrival_to_its_end(void **unused)
{
    (void)unused;
    metrics *m = open_own();
    request_meter r;
    choice_meter c[2] = {{0}, {0}};
    request_meter_begin(&r, m, "tiny", 1000000);
    request_meter_prompt(&r, 100, 64, 1500000);
    request_meter_tokens(&r, &c[0], 1, 2000000);
    request_meter_tokens(&r, &c[1], 1, 2000000);
    request_meter_tokens(&r, &c[0], 4, 2400000); /* a draft was accepted: 0.1 s each */
    request_meter_tokens(&r, &c[0], 0, 2500000);
    request_meter_choice_end(&r, &c[0], "stop");
    request_meter_choice_end(&r, &c[1], "cancelled");
    request_meter_end(&r, 3000000);
    const char *text = render(m);
    const char *const lines[] = {
        "time_to_first_token_seconds_sum{model_name=\"tiny\"} 1\n",
        "time_to_first_token_seconds_count{model_name=\"tiny\"} 1\n",
        "request_queue_time_seconds_sum{model_name=\"tiny\"} 0.5\n",
        "request_prefill_time_seconds_sum{model_name=\"tiny\"} 0.5\n",
        "request_decode_time_seconds_sum{model_name=\"tiny\"} 1\n",
        "request_inference_time_seconds_sum{model_name=\"tiny\"} 1.5\n",
        "e2e_request_latency_seconds_sum{model_name=\"tiny\"} 2\n",
        "inter_token_latency_seconds_bucket{model_name=\"tiny\",le=\"0.075\"} 0\n",
        "inter_token_latency_seconds_bucket{model_name=\"tiny\",le=\"0.1\"} 4\n",
        "request_time_per_output_token_seconds_sum{model_name=\"tiny\"} 0.1\n",
        "request_success_total{model_name=\"tiny\",finished_reason=\"stop\"} 1\n",
        "request_success_total{model_name=\"tiny\",finished_reason=\"cancelled\"} 1\n",
        "prompt_tokens_total{model_name=\"tiny\"} 100\n",
        "prompt_tokens_cached_total{model_name=\"tiny\"} 64\n",
        "generation_tokens_total{model_name=\"tiny\"} 6\n",
        "request_generation_tokens_sum{model_name=\"tiny\"} 6\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!strstr(text, lines[i])) {
            fail_msg("%s is not in\n%s", lines[i], text);
        }
    }
    metrics_close(&m);
}

static void a_request_that_never_ran_is_measured_by_its_end_only(void **unused)
{
    (void)unused;
    metrics *m = open_own();
    request_meter r;
    const choice_meter c = {0};
    request_meter_begin(&r, m, "tiny", 5);
    request_meter_choice_end(&r, &c, "deadline");
    request_meter_end(&r, 4); /* another thread's clock */
    assert_true(of_model(m, METRIC_E2E_LATENCY) == 1);
    assert_true(of_model(m, METRIC_TIME_TO_FIRST_TOKEN) == 0);
    assert_true(of_model(m, METRIC_DECODE_TIME) == 0);
    metrics_close(&m);
    request_meter_begin(&r, NULL, "tiny", 1); /* nobody wants to know */
    request_meter_prompt(&r, 1, 0, 2);
    request_meter_tokens(&r, &(choice_meter){0}, 2, 3);
    request_meter_choice_end(&r, &c, "stop");
    request_meter_end(&r, 4);
    assert_int_equal(r.n_generated, 2);
}

static void the_process_tells_its_cpu_time_and_memory(void **unused)
{
    (void)unused;
    metrics *m = open_own();
    mlxr_error error;
    assert_ok(metrics_on_scrape(m, metrics_collect_process, NULL, &error), &error);
    render(m);
    assert_true(metric_value(metrics_series(m, METRIC_PROCESS_CPU_SECONDS, NULL)) > 0);
    double resident = metric_value(metrics_series(m, METRIC_PROCESS_RESIDENT_BYTES, NULL));
    assert_true(resident == 0 || resident > 100000);
    metrics_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_and_gauges_show_what_was_counted),
        cmocka_unit_test(histograms_count_into_the_bucket_whose_end_is_not_below),
        cmocka_unit_test(a_value_that_is_no_number_counts_beyond_every_bound),
        cmocka_unit_test(labels_are_escaped_and_cut_and_made_utf8),
        cmocka_unit_test(labels_beyond_the_bound_share_one_series),
        cmocka_unit_test(borders_between_labels_are_part_of_them),
        cmocka_unit_test(a_hidden_metric_shows_only_what_is_set_again),
        cmocka_unit_test(collectors_are_asked_before_each_rendering),
        cmocka_unit_test(a_table_that_makes_no_sense_is_refused),
        cmocka_unit_test(threads_that_count_while_others_render_lose_nothing),
        cmocka_unit_test(every_row_of_the_table_has_a_name_a_help_and_a_lawful_suffix),
        cmocka_unit_test(a_request_is_measured_from_its_arrival_to_its_end),
        cmocka_unit_test(a_request_that_never_ran_is_measured_by_its_end_only),
        cmocka_unit_test(the_process_tells_its_cpu_time_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
