/*
 * Profiles as text: sums by phase, operation and layer, and events for trace viewers.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/test.h"
#include "telemetry/profiler.h"

static const char *const operations[] = {"norm+q", "att\"end"};
static const mlxr_profile_span spans[] = {
    {.operation = 0, .layer = 0, .begin_ns = 2000, .end_ns = 5000, .wait_ns = 1000},
    {.operation = 1, .layer = -1, .begin_ns = 5000, .end_ns = 11000},
    {.operation = 1, .layer = 1, .begin_ns = 20000, .end_ns = 21000, .wait_ns = 500},
};
static const mlxr_profile_step steps[] = {
    {.begin_ns = 1000,
     .run_ns = 2000,
     .ran_ns = 12000,
     .end_ns = 14000,
     .n_rows = 8,
     .n_slices = 2,
     .n_logits = 1,
     .first_span = 0,
     .n_spans = 2},
    {.begin_ns = 15000,
     .run_ns = 16000,
     .ran_ns = 17000,
     .end_ns = 18000,
     .n_rows = 1,
     .n_slices = 1,
     .n_logits = 1,
     .drafting = true,
     .first_span = 2},
    {.begin_ns = 19000,
     .run_ns = 20000,
     .ran_ns = 22000,
     .end_ns = 23000,
     .n_rows = 2,
     .n_slices = 2,
     .n_logits = 2,
     .first_span = 2,
     .n_spans = 1},
};
static const mlxr_profile profile = {.backend = "cpu",
                                     .n_threads = 2,
                                     .duration_ns = 25000,
                                     .operations = operations,
                                     .n_operations = 2,
                                     .steps = steps,
                                     .n_steps = 3,
                                     .spans = spans,
                                     .n_spans = 3,
                                     .n_lost = 7};

static void sums_are_by_phase_operation_and_layer(void **unused)
{
    (void)unused;
    text_buffer t = {0};
    assert_true(profiler_json(&profile, false, &t));
    assert_string_equal(
        t.data,
        "{\"backend\":\"cpu\",\"threads\":2,\"duration_ms\":0.0250,\"lost\":7,\"operations\":[\"norm+q\","
        "\"att\\\"end\"],"
        "\"phases\":{\"prompt\":{\"steps\":1,\"rows\":8,\"ms\":0.0130,\"prepare_ms\":0.0010,\"run_ms\":0.0100,"
        "\"sample_ms\":0.0020,\"operations\":["
        "{\"operation\":\"att\\\"end\",\"count\":1,\"ms\":0.0060,\"wait_ms\":0.0000,\"share\":0.6000},"
        "{\"operation\":\"norm+q\",\"count\":1,\"ms\":0.0030,\"wait_ms\":0.0010,\"share\":0.3000}],\"layers\":["
        "{\"layer\":null,\"ms\":0.0060,\"wait_ms\":0.0000},{\"layer\":0,\"ms\":0.0030,\"wait_ms\":0.0010}]},"
        "\"decode\":{\"steps\":1,\"rows\":2,\"ms\":0.0040,\"prepare_ms\":0.0010,\"run_ms\":0.0020,\"sample_ms\":0.0010,"
        "\"operations\":[{\"operation\":\"att\\\"end\",\"count\":1,\"ms\":0.0010,\"wait_ms\":0.0005,\"share\":0.5000}],"
        "\"layers\":[{\"layer\":1,\"ms\":0.0010,\"wait_ms\":0.0005}]},"
        "\"draft\":{\"steps\":1,\"rows\":1,\"ms\":0.0030,\"prepare_ms\":0.0010,\"run_ms\":0.0010,\"sample_ms\":0.0010,"
        "\"operations\":[],\"layers\":[]}}}");
    text_buffer_close(&t);
}

static void steps_have_their_spans(void **unused)
{
    (void)unused;
    text_buffer t = {0};
    assert_true(profiler_json(&profile, true, &t));
    assert_non_null(strstr(t.data, "{\"phase\":\"prompt\",\"begin_ms\":0.0010,\"ms\":0.0130,\"prepare_ms\":0.0010,"
                                   "\"run_ms\":0.0100,\"sample_ms\":0.0020,\"rows\":8,\"sequences\":2,\"logits\":1,"
                                   "\"spans\":[[0,0,2.00,3.00,1.00],[1,-1,5.00,6.00,0.00]]}"));
    assert_non_null(strstr(t.data, "\"spans\":[]}"));
    text_buffer_close(&t);
}

static void traces_have_an_event_a_step_a_part_and_a_span(void **unused)
{
    (void)unused;
    text_buffer t = {0};
    profiler_trace_begin(&t);
    profiler_trace_add(&profile, "first", 1, &t);
    profiler_trace_add(&profile, "second", 2, &t);
    profiler_trace_end(&t);
    unsigned n = 0;
    for (const char *at = t.data; (at = strstr(at, "{\"ph\":\"X\"")); at++) {
        n++;
    }
    assert_int_equal(n, 2 * (3 * 4 + 3 + 2)); /* two of the spans waited */
    assert_non_null(strstr(t.data,
                           "{\"ph\":\"X\",\"name\":\"att\\\"end\",\"pid\":2,\"tid\":2,\"ts\":5.000,\"dur\":6.000,"
                           "\"args\":{\"layer\":-1}}"));
    assert_non_null(strstr(t.data, "{\"ph\":\"X\",\"name\":\"wait\",\"pid\":1,\"tid\":2,\"ts\":4.000,\"dur\":1.000}"));
    assert_non_null(strstr(t.data, "\"args\":{\"name\":\"second\"}"));
    assert_string_equal(t.data + t.n - 4, "\n]}\n");
    text_buffer_close(&t);
}

static void an_empty_profile_is_told_too(void **unused)
{
    (void)unused;
    const mlxr_profile empty = {.backend = "mlx", .n_threads = 1};
    text_buffer t = {0};
    assert_true(profiler_json(&empty, true, &t));
    assert_string_equal(t.data,
                        "{\"backend\":\"mlx\",\"threads\":1,\"duration_ms\":0.0000,\"lost\":0,\"operations\":[],"
                        "\"phases\":{},\"steps\":[]}");
    text_buffer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_by_phase_operation_and_layer),
        cmocka_unit_test(steps_have_their_spans),
        cmocka_unit_test(traces_have_an_event_a_step_a_part_and_a_span),
        cmocka_unit_test(an_empty_profile_is_told_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
