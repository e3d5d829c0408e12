/*
 * `mlxr bench`: tokens per second of a prompt and of generation, one sequence.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "output.h"
#include "session.h"
#include "verbs.h"

typedef struct benchmark {
    session s;
    options *o;
    double *rates; /* [n_repeat], tokens/s */
    int32_t *prompt;
    size_t n_prompt;
} benchmark;

/* Ids all over the vocabulary, the same on every run. Control tokens are left out: some would be odd to compute. */
static void fill_prompt(const session *s, int32_t *ids, size_t n)
{
    uint32_t n_vocab = mlxr_model_info_get(s->model)->n_vocab;
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++) {
        for (unsigned attempt = 0; attempt < 16; attempt++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            ids[i] = (int32_t)((state >> 33) % n_vocab);
            if (!mlxr_token_is_special(s->model, ids[i])) {
                break;
            }
        }
    }
}

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

/* Computes all pending tokens; the last chunk samples, as a prompt's does. */
static bool compute_pending(benchmark *b)
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
    }
    return true;
}

static bool run_prompt(benchmark *b, uint32_t n, double *rate)
{
    if (!restart(b, n)) {
        return false;
    }
    double started = now_seconds();
    if (!compute_pending(b)) {
        return false;
    }
    *rate = n / (now_seconds() - started);
    return true;
}

/* From a context of one token, as llama-bench does. */
static bool run_generation(benchmark *b, uint32_t n, double *rate)
{
    if (!restart(b, 1) || !compute_pending(b)) {
        return false;
    }
    double started = now_seconds();
    for (uint32_t i = 0; i < n; i++) {
        if (!compute_pending(b)) {
            return false;
        }
    }
    *rate = n / (now_seconds() - started);
    return true;
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

static int report(const benchmark *b, const char *test)
{
    uint32_t n = b->o->n_repeat;
    double median = n % 2 ? b->rates[n / 2] : (b->rates[n / 2 - 1] + b->rates[n / 2]) / 2;
    double min = b->rates[0], max = b->rates[n - 1];
    const mlxr_model_info *info = mlxr_model_info_get(b->s.model);
    if (!b->o->json) {
        printf("%-8s %12.2f %12.2f %12.2f\n", test, median, min, max);
        return finish_output(EXIT_OK);
    }
    return print_json(json_pack("{s:s, s:f, s:f, s:f, s:I, s:I, s:I}", "test", test, "tokens_per_s", median, "min", min,
                                "max", max, "model_bytes", (json_int_t)info->file_bytes, "bytes_per_token",
                                (json_int_t)info->bytes_per_token, "peak_rss_bytes", (json_int_t)peak_rss()));
}

/* Runs a test once to warm up, then as often as asked. */
static int run_test(benchmark *b, const char *kind, uint32_t n, bool (*run)(benchmark *, uint32_t, double *))
{
    char test[32], label[64];
    double ignored;
    snprintf(test, sizeof test, "%s%u", kind, n);
    snprintf(label, sizeof label, "%s", test);
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
    return report(b, test);
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
    if (o->n_prompt > 0) {
        code = run_test(b, "pp", o->n_prompt, run_prompt);
    }
    if (code == EXIT_OK && o->n_generate > 0) {
        code = run_test(b, "tg", o->n_generate, run_generation);
    }
    return code;
}

int verb_bench(options *o)
{
    benchmark b = {.o = o};
    if (o->n_repeat == 0 || (o->n_prompt == 0 && o->n_generate == 0)) {
        print_error("nothing to measure: -r, and -p or -n, must be above 0");
        return EXIT_USAGE;
    }
    o->sampling.temperature = 0;
    int code = session_open(&b.s, o, o->args[0], true);
    code = code == EXIT_OK ? session_sequence(&b.s, o) : code;
    if (code == EXIT_OK) {
        b.n_prompt = o->n_prompt > 0 ? o->n_prompt : 1;
        uint32_t n_ctx = mlxr_model_info_get(b.s.model)->n_ctx_train;
        if (b.n_prompt > n_ctx || o->n_generate >= n_ctx) {
            print_error("-p %zu -n %u: the model's context has %u tokens", b.n_prompt, o->n_generate, n_ctx);
            code = EXIT_USAGE;
        }
    }
    if (code == EXIT_OK) {
        b.rates = calloc(o->n_repeat, sizeof *b.rates);
        b.prompt = calloc(b.n_prompt, sizeof *b.prompt);
        if (b.rates && b.prompt) {
            fill_prompt(&b.s, b.prompt, b.n_prompt);
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
