/*
 * A long prompt arriving among decoding streams: how much their gaps grow, and how much longer it takes than alone.
 * Owner: the program. Lifetime: its main. One thread.
 *
 * Each gap lies between two deliveries of one stream. Before: the streams alone. During: from the prompt's submission
 * to its first token. The prefix cache is off, so that every prompt is computed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum { GAPS_MAX = 1 << 20, STEPS_MAX = 1 << 16 };

typedef struct stream {
    double last_ms;
    uint32_t n_tokens;
    bool prompt; /* the long one: its first token ends the measurement */
} stream;

typedef struct gaps {
    double ms[GAPS_MAX];
    size_t n;
    bool wanted;
} gaps;

static gaps all;

static bool on_event(void *user, const scheduler_event *event)
{
    stream *s = user;
    if (event->n_sampled) {
        double now_ms = bench_now_ms();
        if (all.wanted && s->n_tokens && !s->prompt && all.n < GAPS_MAX) {
            all.ms[all.n++] = now_ms - s->last_ms;
        }
        s->last_ms = now_ms;
        s->n_tokens += event->n_sampled;
    }
    if (event->error) {
        fprintf(stderr, "%s\n", event->error);
        exit(1);
    }
    return true;
}

static uint64_t submit(scheduler *s, mlxr_model *model, const int32_t *ids, size_t n, uint32_t max_tokens, stream *to)
{
    mlxr_error error;
    mlxr_sampling greedy = mlxr_sampling_default();
    uint64_t id = 0;
    greedy.temperature = 0;
    bench_check(scheduler_submit(s,
                                 &(scheduler_request){.model = model,
                                                      .tokens = ids,
                                                      .n_tokens = n,
                                                      .sampling = &greedy,
                                                      .max_tokens = max_tokens,
                                                      .ignore_end = true,
                                                      .on_event = on_event,
                                                      .user = to},
                                 &id, NULL, &error),
                &error);
    return id;
}

typedef struct spread { /* steps over what was predicted for them */
    double ratios[STEPS_MAX];
    size_t n;
} spread;

static spread steps;
static FILE *trace;

static void step_once(scheduler *s)
{
    scheduler_stats before = scheduler_stats_get(s);
    scheduler_step(s);
    scheduler_stats after = scheduler_stats_get(s);
    double us = (double)(after.step_us - before.step_us), predicted_us = after.predicted_us - before.predicted_us;
    if (predicted_us > 0 && steps.n < STEPS_MAX) {
        steps.ratios[steps.n++] = us / predicted_us;
    }
    if (trace) {
        fprintf(trace, "%.3f %.3f %.0f\n", us / 1e3, predicted_us / 1e3, (double)(after.n_rows - before.n_rows));
    }
}

/* Milliseconds from submission to the first token. */
static double run_prompt(scheduler *s, mlxr_model *model, const bench_text *text, size_t n)
{
    stream prompt = {.prompt = true};
    double begin_ms = bench_now_ms();
    submit(s, model, text->ids, n, 1, &prompt);
    while (prompt.n_tokens == 0) {
        step_once(s);
    }
    return prompt.last_ms - begin_ms;
}

static void decode_steps(scheduler *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        step_once(s);
    }
}

typedef struct window { /* statistics of the scheduler over some steps */
    scheduler_stats begin, end;
    double over[3]; /* quantiles of step over prediction: 0.5, 0.9, 0.99 */
} window;

static void window_begin(scheduler *s, window *w)
{
    w->begin = scheduler_stats_get(s);
    steps.n = 0;
}

static void window_end(scheduler *s, window *w)
{
    const double at[3] = {0.5, 0.9, 0.99};
    w->end = scheduler_stats_get(s);
    for (int i = 0; i < 3; i++) {
        w->over[i] = steps.n ? quantile_of(steps.ratios, steps.n, at[i]) : 0;
    }
}

static void print_window(const char *name, const window *w)
{
    double n = (double)(w->end.n_steps - w->begin.n_steps), step_us = (double)(w->end.step_us - w->begin.step_us);
    printf(",\"%s\":{\"steps\":%.0f,\"rows_per_step\":%.1f,\"step_ms\":%.2f,\"scheduler_us_per_step\":%.1f,"
           "\"prediction_error\":%.3f,\"step_over_predicted\":[%.3f,%.3f,%.3f]}",
           name, n, (double)(w->end.n_rows - w->begin.n_rows) / n, step_us / n / 1e3,
           (double)(w->end.own_us - w->begin.own_us) / n, (w->end.error_us - w->begin.error_us) / step_us, w->over[0],
           w->over[1], w->over[2]);
}

int main(int argc, char **argv)
{
    double n_prompt = 16384, n_streams = 16, n_before = 100, n_threads = 0, stretch = 0, step_us = 0;
    const char *path = BENCH_TEXT, *trace_path = NULL;
    const bench_option options[] = {{"prompt", &n_prompt, NULL, "tokens of the long prompt"},
                                    {"streams", &n_streams, NULL, "sequences decoding when it arrives"},
                                    {"before", &n_before, NULL, "steps measured before it"},
                                    {"stretch", &stretch, NULL, "scheduler_options.stretch; 0: its default"},
                                    {"step-us", &step_us, NULL, "scheduler_options.step_us; 0: its default"},
                                    {"threads", &n_threads, NULL, "0: one per core"},
                                    {"trace", NULL, &trace_path, "file for each step's ms, predicted ms and rows"},
                                    {"text", NULL, &path, "where the prompts come from"},
                                    {0}};
    const char *model_path = bench_arguments(argc, argv, options);
    if (trace_path && !(trace = fopen(trace_path, "w"))) {
        perror(trace_path);
        return 1;
    }
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    scheduler *s = NULL;
    bench_check(mlxr_engine_open(
                    &engine, &(mlxr_engine_options){.n_threads = (uint32_t)n_threads, .no_prefix_cache = true}, &error),
                &error);
    bench_check(mlxr_model_load(&model, engine, model_path, NULL, &error), &error);
    bench_check(scheduler_open(
                    &s, engine,
                    &(scheduler_options){.lanes_max = (uint32_t)n_streams + 1, .stretch = stretch, .step_us = step_us},
                    &error),
                &error);
    uint32_t n = (uint32_t)n_streams;
    bench_text text = bench_text_open(model, path, (size_t)n_prompt + 64 + 32 * n);
    stream *streams = calloc(n, sizeof *streams);
    uint64_t *ids = calloc(n, sizeof *ids);
    if (!streams || !ids) {
        return 1;
    }
    double solo_ms = run_prompt(s, model, &text, (size_t)n_prompt);
    for (uint32_t i = 0; i < n; i++) { /* each goes its own way */
        ids[i] = submit(s, model, text.ids + (size_t)n_prompt + 32 * i, 64, 0, &streams[i]);
    }
    decode_steps(s, 30);
    window before, during;
    window_begin(s, &before);
    all.wanted = true;
    decode_steps(s, (uint32_t)n_before);
    window_end(s, &before);
    double median_ms = quantile_of(all.ms, all.n, 0.5), before_p99_ms = quantile_of(all.ms, all.n, 0.99);
    all.n = 0;
    window_begin(s, &during);
    double prompt_ms = run_prompt(s, model, &text, (size_t)n_prompt);
    window_end(s, &during);
    double p50_ms = quantile_of(all.ms, all.n, 0.5), p99_ms = quantile_of(all.ms, all.n, 0.99);
    printf("{\"test\":\"streams\",\"model\":\"%s\",\"streams\":%u,\"prompt\":%.0f,\"gap_before_ms\":%.2f,"
           "\"gap_before_p99_ms\":%.2f,\"gap_during_ms\":%.2f,\"gap_during_p99_ms\":%.2f,\"gap_during_max_ms\":%.2f,"
           "\"gap_ratio\":%.2f,\"solo_ms\":%.0f,\"prompt_ms\":%.0f,\"prompt_ratio\":%.2f",
           mlxr_model_info_get(model)->name, n, n_prompt, median_ms, before_p99_ms, p50_ms, p99_ms,
           quantile_of(all.ms, all.n, 1), p99_ms / median_ms, solo_ms, prompt_ms, prompt_ms / solo_ms);
    print_window("before", &before);
    print_window("during", &during);
    printf("}\n");
    scheduler_abort(s);
    scheduler_close(&s);
    free(streams);
    free(ids);
    if (trace && fclose(trace)) {
        perror(trace_path);
        return 1;
    }
    bench_text_close(&text);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return 0;
}
