/*
 * `mlxr bench`: tokens per second of a prompt, of generation, and of many sequences together.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench_batch.h"
#include "output.h"
#include "session.h"
#include "verbs.h"

/* Prompt tokens unless -p says otherwise: alone, and of each sequence of a batch. */
#define PROMPT_TOKENS 512u
#define BATCH_PROMPT_TOKENS 128u

typedef struct benchmark {
    session s;
    options *o;
    double *rates; /* [n_repeat], tokens/s */
    int32_t *prompt;
    uint32_t n_prompt, n_batch_prompt; /* of -p, or the defaults */
    bench_batch batch;
} benchmark;

/* Empties the sequence and gives it n tokens of the prompt. */
static bool restart(benchmark *b, size_t n)
{
    mlxr_error error;
    if (mlxr_sequence_truncate(b->s.sequence, 0, &error) == MLXR_OK &&
        mlxr_sequence_append(b->s.sequence, b->prompt, n, &error) == MLXR_OK) {
        return true;
    }
    print_error("%s", error.text);
    return false;
}

/* Computes all pending tokens; the last chunk samples, as a prompt's does. *n_sampled: how many tokens came out. */
static bool compute_pending(benchmark *b, uint32_t *n_sampled)
{
    mlxr_error error;
    uint32_t max = mlxr_step_tokens_max(b->s.engine);
    for (bool done = false; !done;) {
        size_t pending = mlxr_sequence_pending(b->s.sequence);
        done = pending <= max;
        mlxr_slice slice = {.sequence = b->s.sequence, .n_compute = done ? (uint32_t)pending : max};
        if (mlxr_step(b->s.engine, &slice, 1, &error) != MLXR_OK) {
            print_error("%s", error.text);
            return false;
        }
        *n_sampled = slice.n_sampled;
    }
    return true;
}

static bool run_prompt(benchmark *b, uint32_t n, double *rate)
{
    uint32_t ignored;
    if (!restart(b, n)) {
        return false;
    }
    double started = now_seconds();
    if (!compute_pending(b, &ignored)) {
        return false;
    }
    *rate = n / (now_seconds() - started);
    return true;
}

/* From a context of one token, as llama-bench does. */
static bool run_generation(benchmark *b, uint32_t n, double *rate)
{
    uint32_t n_sampled;
    if (!restart(b, 1) || !compute_pending(b, &n_sampled)) {
        return false;
    }
    double started = now_seconds();
    for (uint32_t done = 0; done < n; done += n_sampled) {
        if (!compute_pending(b, &n_sampled)) {
            return false;
        }
    }
    *rate = n / (now_seconds() - started);
    return true;
}

static bool run_batch(benchmark *b, uint32_t n, double *rate)
{
    (void)n;
    return bench_batch_run(&b->batch, rate);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t peak_rss(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

/* What all tests report; a batch says more. */
static json_t *figures(const benchmark *b, const char *test, double median, double min, double max)
{
    const mlxr_model_info *info = mlxr_model_info_get(b->s.model);
    return json_pack("{s:s, s:f, s:f, s:f, s:I, s:I, s:I, s:b}", "test", test, "tokens_per_s", median, "min", min,
                     "max", max, "model_bytes", (json_int_t)info->file_bytes, "bytes_per_token",
                     (json_int_t)info->bytes_per_token, "peak_rss_bytes", (json_int_t)peak_rss(), "batch_invariant",
                     b->o->batch_invariant);
}

static int report(const benchmark *b, const char *kind, uint32_t n)
{
    uint32_t n_rates = b->o->n_repeat;
    double median = n_rates % 2 ? b->rates[n_rates / 2] : (b->rates[n_rates / 2 - 1] + b->rates[n_rates / 2]) / 2;
    double min = b->rates[0], max = b->rates[n_rates - 1];
    bool batch = strcmp(kind, "batch") == 0, decodes = batch || strcmp(kind, "tg") == 0;
    mlxr_draft_stats stats = mlxr_draft_stats_get(batch ? b->batch.sequences[0] : b->s.sequence);
    char test[32];
    snprintf(test, sizeof test, "%s%u", kind, n);
    if (b->o->verbose && decodes) {
        session_draft_note(b->o, stats);
    }
    if (!b->o->json) {
        printf("%-8s %12.2f %12.2f %12.2f\n", test, median, min, max);
        return finish_output(EXIT_OK);
    }
    json_t *line = figures(b, batch ? kind : test, median, min, max);
    if (batch) {
        json_object_set_new(line, "batch", json_integer(n));
        json_object_set_new(line, "n_prompt", json_integer(b->batch.n_prompt));
        json_object_set_new(line, "n_generate", json_integer(b->batch.n_generate));
    }
    json_t *draft = decodes ? session_draft_json(b->o, stats) : NULL;
    if (draft) {
        json_object_set_new(line, "draft", draft);
    }
    return print_json(line);
}

/* Runs a test once to warm up, then as often as asked. */
static int run_test(benchmark *b, const char *kind, uint32_t n, bool (*run)(benchmark *, uint32_t, double *))
{
    char label[32];
    double ignored;
    snprintf(label, sizeof label, "%s%u", kind, n);
    progress bar = progress_begin(label);
    bool ok = run(b, n, &ignored);
    for (uint32_t i = 0; ok && i < b->o->n_repeat; i++) {
        progress_show(&bar, i + 1, b->o->n_repeat + 1, NULL);
        ok = run(b, n, &b->rates[i]);
    }
    progress_end(&bar);
    if (!ok) {
        return EXIT_FAILED;
    }
    qsort(b->rates, b->o->n_repeat, sizeof *b->rates, by_value);
    return report(b, kind, n);
}

static int run_tests(benchmark *b)
{
    const mlxr_model_info *info = mlxr_model_info_get(b->s.model);
    options *o = b->o;
    if (!o->json) {
        printf("%s (%s, %s parameters, %s, %s per token)\n%-8s %12s %12s %12s\n", *info->name ? info->name : info->path,
               info->weight_types, human_count(info->n_params), human_bytes(info->file_bytes),
               human_bytes(info->bytes_per_token), "test", "tokens/s", "min", "max");
        fflush(stdout);
    }
    int code = EXIT_OK;
    if (b->n_prompt > 0) {
        code = run_test(b, "pp", b->n_prompt, run_prompt);
    }
    if (code == EXIT_OK && o->n_generate > 0) {
        code = run_test(b, "tg", o->n_generate, run_generation);
    }
    for (uint32_t i = 0; code == EXIT_OK && i < o->batches.n; i++) {
        uint32_t n = o->batches.items[i];
        code = bench_batch_open(&b->batch, &b->s, o, n, b->n_batch_prompt, o->n_generate);
        code = code == EXIT_OK ? run_test(b, "batch", n, run_batch) : code;
        bench_batch_close(&b->batch);
    }
    return code;
}

/* What is asked for makes sense, and fits the model's context. */
static bool check_sizes(benchmark *b)
{
    const options *o = b->o;
    uint32_t n_ctx = mlxr_model_info_get(b->s.model)->n_ctx_train;
    bool given = o->n_prompt != UINT32_MAX;
    if (!given && n_ctx < PROMPT_TOKENS) { /* the defaults suit any model */
        b->n_prompt = n_ctx;
    }
    uint64_t n_batch = o->batches.n ? (uint64_t)b->n_batch_prompt + o->n_generate : 0;
    if (b->n_prompt > n_ctx || o->n_generate >= n_ctx || n_batch >= n_ctx) {
        print_error("-p %u -n %u: the model's context has %u tokens", n_batch ? b->n_batch_prompt : b->n_prompt,
                    o->n_generate, n_ctx);
        return false;
    }
    return true;
}

int verb_bench(options *o)
{
    bool given = o->n_prompt != UINT32_MAX;
    benchmark b = {.o = o,
                   .n_prompt = given ? o->n_prompt : PROMPT_TOKENS,
                   .n_batch_prompt = !given        ? BATCH_PROMPT_TOKENS
                                     : o->n_prompt ? o->n_prompt
                                                   : 1};
    if (o->n_repeat == 0 || (b.n_prompt == 0 && o->n_generate == 0)) {
        print_error("nothing to measure: -r, and -p or -n, must be above 0");
        return EXIT_USAGE;
    }
    if (o->batches.n && o->n_generate == 0) {
        print_error("--batch measures generation: -n must be above 0");
        return EXIT_USAGE;
    }
    o->sampling.temperature = 0;
    int code = session_open(&b.s, o, o->args[0], true);
    code = code == EXIT_OK ? session_sequence(&b.s, o) : code;
    if (code == EXIT_OK && !check_sizes(&b)) {
        code = EXIT_USAGE;
    }
    if (code == EXIT_OK) {
        size_t n = b.n_prompt ? b.n_prompt : 1;
        b.rates = calloc(o->n_repeat, sizeof *b.rates);
        b.prompt = calloc(n, sizeof *b.prompt);
        if (b.rates && b.prompt) {
            bench_fill_prompt(&b.s, 1, b.prompt, n);
            code = run_tests(&b);
        } else {
            print_error("out of memory");
            code = EXIT_FAILED;
        }
    }
    session_close(&b.s);
    free(b.rates);
    free(b.prompt);
    return code;
}
