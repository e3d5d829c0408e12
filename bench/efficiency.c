/*
 * What decoding of many sequences together reaches of the prompt's rate, tokens a second over tokens a second.
 * Owner: the program. Lifetime: its main. One thread.
 *
 * Steps of both kinds take turns, one prompt after every few decoding steps: a machine whose speed changes from second
 * to second changes it for both. `batch_ratio` is of the sums; the quartiles are of rounds of ROUND_STEPS steps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "mlxr_profile.h"

enum { ROUND_STEPS = 4, ROUNDS_MAX = 4096, PROFILE_STEPS = 4096 };

typedef struct efficiency {
    mlxr_engine *engine;
    mlxr_sequence **sequences; /* [n], and one for the prompts that are timed */
    mlxr_slice *slices;
    const int32_t *ids;
    uint32_t n, n_prompt, n_generate;
    unsigned flags; /* of slices */
    double prompt_ms, decode_ms, n_prompt_tokens, n_decoded;
    double prompt_rates[ROUNDS_MAX], decode_rates[ROUNDS_MAX], ratios[ROUNDS_MAX];
    size_t n_rounds;
} efficiency;

static efficiency all;

/* Milliseconds to compute a prompt from nothing. */
static double run_prompt(mlxr_sequence *s, const int32_t *ids, uint32_t n)
{
    mlxr_error error;
    bench_check(mlxr_sequence_truncate(s, 0, &error), &error);
    bench_check(mlxr_sequence_append(s, ids, n, &error), &error);
    mlxr_slice slice = {.sequence = s, .n_compute = n, .flags = all.flags};
    double begin_ms = bench_now_ms();
    bench_check(mlxr_step(all.engine, &slice, 1, &error), &error);
    return bench_now_ms() - begin_ms;
}

static void run_round(void)
{
    mlxr_error error;
    double begin_ms = bench_now_ms();
    for (uint32_t i = 0; i < ROUND_STEPS; i++) {
        for (uint32_t k = 0; k < all.n; k++) {
            all.slices[k] = (mlxr_slice){.sequence = all.sequences[k], .n_compute = 1, .flags = all.flags};
        }
        bench_check(mlxr_step(all.engine, all.slices, all.n, &error), &error);
    }
    double decode_ms = bench_now_ms() - begin_ms, prompt_ms = run_prompt(all.sequences[all.n], all.ids, all.n_prompt);
    double n_decoded = (double)ROUND_STEPS * all.n;
    all.prompt_ms += prompt_ms;
    all.decode_ms += decode_ms;
    all.n_prompt_tokens += all.n_prompt;
    all.n_decoded += n_decoded;
    if (all.n_rounds < ROUNDS_MAX) {
        all.decode_rates[all.n_rounds] = n_decoded / decode_ms * 1e3;
        all.prompt_rates[all.n_rounds] = all.n_prompt / prompt_ms * 1e3;
        all.ratios[all.n_rounds] = all.decode_rates[all.n_rounds] / all.prompt_rates[all.n_rounds];
        all.n_rounds++;
    }
}

static void run(void)
{
    for (uint32_t i = 0; i < all.n; i++) { /* each goes its own way */
        run_prompt(all.sequences[i], all.ids + (size_t)(i + 1) * all.n_prompt, all.n_prompt);
    }
    for (uint32_t i = 0; i + ROUND_STEPS <= all.n_generate; i += ROUND_STEPS) {
        run_round();
    }
}

/* Prompts that are timed write to pages of the KV cache that were written before; so shall the steps that decode. A
 * page's first touch costs a virtual machine up to 5 ms for 2 MiB. */
static void warm_up(void)
{
    run();
    all.prompt_ms = all.decode_ms = all.n_prompt_tokens = all.n_decoded = 0;
    all.n_rounds = 0;
}

/* Median over the steps of `n_slices` sequences and n_rows rows of what `of` gives for them, µs a row. */
static double profile_median(const mlxr_profile *p, uint32_t n_slices, uint32_t n_rows, uint32_t operation,
                             double (*of)(const mlxr_profile *, const mlxr_profile_step *, uint32_t))
{
    static double values[PROFILE_STEPS];
    size_t n = 0;
    for (uint32_t i = 0; i < p->n_steps && n < PROFILE_STEPS; i++) {
        if (p->steps[i].n_slices == n_slices && p->steps[i].n_rows == n_rows) {
            values[n++] = of(p, &p->steps[i], operation) / 1e3 / n_rows;
        }
    }
    return n ? quantile_of(values, n, 0.5) : 0;
}

static double spans_ns(const mlxr_profile *p, const mlxr_profile_step *s, uint32_t operation)
{
    double sum = 0;
    for (uint64_t i = s->first_span; i < s->first_span + s->n_spans; i++) {
        sum += p->spans[i].operation == operation ? (double)(p->spans[i].end_ns - p->spans[i].begin_ns) : 0;
    }
    return sum;
}

static double waits_ns(const mlxr_profile *p, const mlxr_profile_step *s, uint32_t operation)
{
    double sum = 0;
    for (uint64_t i = s->first_span; i < s->first_span + s->n_spans; i++) {
        sum += p->spans[i].operation == operation ? (double)p->spans[i].wait_ns : 0;
    }
    return sum;
}

/* Preparing, sampling and committing. */
static double around_ns(const mlxr_profile *p, const mlxr_profile_step *s, uint32_t operation)
{
    (void)p;
    (void)operation;
    return (double)(s->end_ns - s->begin_ns - (s->ran_ns - s->run_ns));
}

static double whole_ns(const mlxr_profile *p, const mlxr_profile_step *s, uint32_t operation)
{
    (void)p;
    (void)operation;
    return (double)(s->end_ns - s->begin_ns);
}

static void print_profile(const mlxr_profile *p)
{
    struct {
        const char *name;
        double (*of)(const mlxr_profile *, const mlxr_profile_step *, uint32_t);
    } rest[] = {{"outside of the plan", around_ns}, {"step", whole_ns}};
    for (uint32_t i = 0; i < p->n_operations + 2; i++) {
        bool operation = i < p->n_operations;
        const char *name = operation ? p->operations[i] : rest[i - p->n_operations].name;
        double (*of)(const mlxr_profile *, const mlxr_profile_step *,
                     uint32_t) = operation ? spans_ns : rest[i - p->n_operations].of;
        double prompt_us = profile_median(p, 1, all.n_prompt, i, of),
               decode_us = profile_median(p, all.n, all.n, i, of);
        printf("{\"test\":\"efficiency_profile\",\"operation\":\"%s\",\"prompt_us\":%.2f,\"decode_us\":%.2f,"
               "\"more_us\":%.2f,\"prompt_wait_us\":%.2f,\"decode_wait_us\":%.2f}\n",
               name, prompt_us, decode_us, decode_us - prompt_us,
               operation ? profile_median(p, 1, all.n_prompt, i, waits_ns) : 0,
               operation ? profile_median(p, all.n, all.n, i, waits_ns) : 0);
    }
}

int main(int argc, char **argv)
{
    double n_prompt = 128, n_generate = 64, n_batch = 32, n_threads = 0, n_times = 3, profiled = 0, logits = 0;
    const char *path = BENCH_TEXT, *kv_type = NULL;
    const bench_option options[] = {{"prompt", &n_prompt, NULL, "tokens of a prompt"},
                                    {"generate", &n_generate, NULL, "tokens each sequence generates"},
                                    {"batch", &n_batch, NULL, "sequences that decode together"},
                                    {"times", &n_times, NULL, "all of it so many times"},
                                    {"threads", &n_threads, NULL, "0: one per core"},
                                    {"profile", &profiled, NULL, "1: where the time of both kinds of steps goes"},
                                    {"logits", &logits, NULL, "1: all logits are wanted, not only tokens"},
                                    {"kv-type", NULL, &kv_type, "type of the KV cache"},
                                    {"text", NULL, &path, "where the prompts come from"},
                                    {0}};
    const char *model_path = bench_arguments(argc, argv, options);
    mlxr_error error;
    mlxr_model *model = NULL;
    mlxr_engine_options engine_options = {
        .n_threads = (uint32_t)n_threads, .no_prefix_cache = true, .kv_type = kv_type};
    bench_check(mlxr_engine_open(&all.engine, &engine_options, &error), &error);
    bench_check(mlxr_model_load(&model, all.engine, model_path, NULL, &error), &error);
    all.n = (uint32_t)n_batch;
    all.n_prompt = (uint32_t)n_prompt;
    all.n_generate = (uint32_t)n_generate;
    all.flags = logits > 0 ? 0 : MLXR_SLICE_NO_LOGITS;
    bench_text text = bench_text_open(model, path, (size_t)all.n_prompt * (all.n + 1));
    all.ids = text.ids;
    all.sequences = calloc(all.n + 1, sizeof(mlxr_sequence *));
    all.slices = calloc(all.n, sizeof *all.slices);
    if (!all.sequences || !all.slices) {
        return 1;
    }
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    for (uint32_t i = 0; i <= all.n; i++) {
        bench_check(mlxr_sequence_open(&all.sequences[i], model, &greedy, &error), &error);
    }
    run_prompt(all.sequences[0], text.ids, all.n_prompt); /* reads the weights */
    warm_up();
    if (profiled > 0) {
        bench_check(mlxr_profile_begin(all.engine, PROFILE_STEPS, &error), &error);
    }
    for (uint32_t i = 0; i < (uint32_t)n_times; i++) {
        run();
    }
    double batch_ratio = all.n_decoded / all.decode_ms / (all.n_prompt_tokens / all.prompt_ms);
    printf("{\"test\":\"efficiency\",\"model\":\"%s\",\"batch\":%u,\"prompt_tokens_per_s\":%.1f,"
           "\"decode_tokens_per_s\":%.1f,\"decode_max\":%.1f,\"prompt_max\":%.1f,\"batch_ratio\":%.3f,"
           "\"ratio_quartiles\":[%.3f,%.3f,%.3f]}\n",
           mlxr_model_info_get(model)->name, all.n, all.n_prompt_tokens / all.prompt_ms * 1e3,
           all.n_decoded / all.decode_ms * 1e3, quantile_of(all.decode_rates, all.n_rounds, 1),
           quantile_of(all.prompt_rates, all.n_rounds, 1), batch_ratio, quantile_of(all.ratios, all.n_rounds, 0.25),
           quantile_of(all.ratios, all.n_rounds, 0.5), quantile_of(all.ratios, all.n_rounds, 0.75));
    if (profiled > 0) {
        mlxr_profile *profile = NULL;
        bench_check(mlxr_profile_take(all.engine, &profile, &error), &error);
        print_profile(profile);
        mlxr_profile_free(&profile);
    }
    for (uint32_t i = 0; i <= all.n; i++) {
        mlxr_sequence_close(&all.sequences[i]);
    }
    free(all.sequences);
    free(all.slices);
    bench_text_close(&text);
    mlxr_model_unref(&model);
    mlxr_engine_close(&all.engine);
    return 0;
}
