/*
 * What sampling costs: steps of many sequences that sample beside steps that only compute the same rows, in turn.
 * Owner: the program. Lifetime: its main. One thread and the engine's team.
 *
 * The difference of the two medians, divided by the sequences, is what one row's sampling adds to a step. A model that
 * is little more than its vocabulary shows it best: bench/synth TinyLlama-1.1B,layers=1,width=64,heads=1,kv_heads=1,
 * ffn=64,vocab=262144 Q8_0 OUT.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

typedef struct bench {
    mlxr_engine *engine;
    mlxr_model *model;
    mlxr_sequence **sequences; /* [n] */
    mlxr_slice *slices;        /* [n] */
    size_t n;
} bench;

/* One step with the newest token of every sequence pending. */
static double step_ms(bench *b, unsigned flags)
{
    mlxr_error error;
    for (size_t i = 0; i < b->n; i++) {
        b->slices[i] = (mlxr_slice){.sequence = b->sequences[i], .n_compute = 1, .flags = flags};
    }
    double begin_ms = bench_now_ms();
    bench_check(mlxr_step(b->engine, b->slices, b->n, &error), &error);
    return bench_now_ms() - begin_ms;
}

/* The step's token is computed; makes it pending again. */
static void take_back(bench *b)
{
    mlxr_error error;
    for (size_t i = 0; i < b->n; i++) {
        mlxr_sequence *s = b->sequences[i];
        size_t length = mlxr_sequence_length(s);
        int32_t id = mlxr_sequence_tokens(s)[length - 1];
        bench_check(mlxr_sequence_truncate(s, length - 1, &error), &error);
        bench_check(mlxr_sequence_append(s, &id, 1, &error), &error);
    }
}

static void open_sequences(bench *b, const mlxr_sampling *sampling, const bench_text *text, size_t n_prompt)
{
    mlxr_error error;
    for (size_t i = 0; i < b->n; i++) {
        mlxr_sampling own = *sampling;
        own.seed = i + 1;
        bench_check(mlxr_sequence_open(&b->sequences[i], b->model, &own, &error), &error);
        bench_check(mlxr_sequence_append(b->sequences[i], text->ids + i, n_prompt, &error), &error);
        mlxr_slice slice = {.sequence = b->sequences[i], .n_compute = (uint32_t)n_prompt};
        bench_check(mlxr_step(b->engine, &slice, 1, &error), &error);
    }
}

static void measure(bench *b, const char *name, const mlxr_sampling *sampling, const bench_text *text, size_t n_prompt,
                    size_t n_steps)
{
    double *plain_ms = calloc(n_steps, sizeof *plain_ms), *sampled_ms = calloc(n_steps, sizeof *sampled_ms);
    if (!plain_ms || !sampled_ms) {
        exit(1);
    }
    open_sequences(b, sampling, text, n_prompt);
    for (size_t i = 0; i < n_steps; i++) {
        plain_ms[i] = step_ms(b, MLXR_SLICE_NO_SAMPLE);
        take_back(b);
        sampled_ms[i] = step_ms(b, 0);
    }
    double plain = quantile_of(plain_ms, n_steps, 0.5), sampled = quantile_of(sampled_ms, n_steps, 0.5);
    const mlxr_model_info *info = mlxr_model_info_get(b->model);
    printf("{\"test\":\"sampling\",\"model\":\"%s\",\"n_vocab\":%u,\"sampler\":\"%s\",\"sequences\":%zu,\"threads\":%u,"
           "\"step_ms\":%.3f,\"step_ms_without\":%.3f,\"us_per_row\":%.1f,\"part_of_step\":%.4f}\n",
           info->name, info->n_vocab, name, b->n, mlxr_engine_info_get(b->engine)->n_threads, sampled, plain,
           (sampled - plain) * 1e3 / (double)b->n, (sampled - plain) / sampled);
    fflush(stdout);
    for (size_t i = 0; i < b->n; i++) {
        mlxr_sequence_close(&b->sequences[i]);
    }
    free(plain_ms);
    free(sampled_ms);
}

static void run_threads(const char *path, const char *text_path, uint32_t n_threads, size_t n, size_t n_steps)
{
    enum { PROMPT = 16 };
    mlxr_error error;
    bench b = {.n = n};
    mlxr_engine_options options = {.n_threads = n_threads, .no_prefix_cache = true};
    b.sequences = calloc(n, sizeof(mlxr_sequence *));
    b.slices = calloc(n, sizeof(mlxr_slice));
    if (!b.sequences || !b.slices) {
        exit(1);
    }
    bench_check(mlxr_engine_open(&b.engine, &options, &error), &error);
    bench_check(mlxr_model_load(&b.model, b.engine, path, NULL, &error), &error);
    bench_text text = bench_text_open(b.model, text_path, PROMPT + n);
    mlxr_sampling greedy = mlxr_sampling_default(), usual = greedy, all = greedy, penalised = greedy;
    greedy.temperature = 0;
    all.top_k = 0; /* the whole vocabulary stays in */
    all.top_p = 1;
    all.min_p = 0;
    all.temperature = 1;
    penalised.repeat_penalty = 1.1f;
    penalised.dry_multiplier = 0.8f;
    mlxr_sampling nucleus = all;
    nucleus.top_p = 0.95f;
    measure(&b, "greedy", &greedy, &text, PROMPT, n_steps);
    measure(&b, "default: top-k 40, top-p, min-p", &usual, &text, PROMPT, n_steps);
    measure(&b, "the same with penalties", &penalised, &text, PROMPT, n_steps);
    measure(&b, "top-p alone", &nucleus, &text, PROMPT, n_steps);
    measure(&b, "temperature alone", &all, &text, PROMPT, n_steps);
    bench_text_close(&text);
    mlxr_model_unref(&b.model);
    mlxr_engine_close(&b.engine);
    free(b.sequences);
    free(b.slices);
}

int main(int argc, char **argv)
{
    double n = 32, n_steps = 100, n_threads = 0;
    const char *text = BENCH_TEXT;
    const bench_option options[] = {{"streams", &n, NULL, "sequences of a step"},
                                    {"steps", &n_steps, NULL, "pairs of steps of each sampler"},
                                    {"threads", &n_threads, NULL, "beside one thread; 0: two"},
                                    {"text", NULL, &text, "where the prompts come from"},
                                    {0}};
    const char *model = bench_arguments(argc, argv, options);
    if (n < 1 || n > 512 || n_steps < 1) {
        fprintf(stderr, "1 to 512 streams, 1 step at least\n");
        return 2;
    }
    run_threads(model, text, 1, (size_t)n, (size_t)n_steps);
    run_threads(model, text, n_threads >= 2 ? (uint32_t)n_threads : 2, (size_t)n, (size_t)n_steps);
    return 0;
}
