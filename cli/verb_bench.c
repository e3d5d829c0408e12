/*
 * `mlxr bench`: tokens per second of a prompt, of generation, and of many sequences together.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench_batch.h"
#include "bench_profile.h"
#include "bench_report.h"
#include "inputs.h"
#include "models.h"
#include "output.h"
#include "prompt.h"
#include "session.h"
#include "verbs.h"

/* Prompt tokens unless -p says otherwise: alone, and of each sequence of a batch. */
#define PROMPT_TOKENS 512u
#define BATCH_PROMPT_TOKENS 128u
/* At most so many are decoded to warm up. */
#define WARM_TOKENS 2048u

typedef struct benchmark {
    session s;
    options *o;
    double *rates;                     /* [n_repeat], tokens/s */
    int32_t *prompt;                   /* [depth_max + n_prompt], at least 1 */
    uint32_t n_prompt, n_batch_prompt; /* of -p, or the defaults */
    uint32_t depth;                    /* tokens before those that are measured */
    uint32_t depth_max;
    bench_text text;
    bench_batch batch;
    bench_report report;
    bench_profile profile;
} benchmark;

static bool failed(const mlxr_error *error)
{
    print_error("%s", error->text);
    return false;
}

/* Computes all pending tokens; the last chunk samples, as a prompt's does. *n_sampled: how many tokens came out. */
static bool compute_pending(benchmark *b, unsigned flags, uint32_t *n_sampled)
{
    mlxr_error error;
    uint32_t max = mlxr_step_tokens_max(b->s.engine);
    for (bool done = false; !done;) {
        size_t pending = mlxr_sequence_pending(b->s.sequence);
        done = pending <= max;
        mlxr_slice slice = {
            .sequence = b->s.sequence, .n_compute = done ? (uint32_t)pending : max, .flags = done ? flags : 0};
        slice.flags |= b->o->logits ? 0 : MLXR_SLICE_NO_LOGITS;
        if (mlxr_step(b->s.engine, &slice, 1, &error) != MLXR_OK) {
            return failed(&error);
        }
        *n_sampled = slice.n_sampled;
    }
    return true;
}

/* Brings the sequence to the test's depth, all of it computed, and appends n more tokens. What an earlier test has
 * computed of the depth is kept: every depth is a beginning of the same tokens. */
static bool restart(benchmark *b, size_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = b->s.sequence;
    size_t length = mlxr_sequence_length(sequence);
    uint32_t ignored;
    if (length < b->depth || b->depth == 0) {
        length = 0;
    }
    if (mlxr_sequence_truncate(sequence, length ? b->depth : 0, &error) != MLXR_OK) {
        return failed(&error);
    }
    if (b->depth) {
        size_t have = mlxr_sequence_length(sequence);
        if (mlxr_sequence_append(sequence, b->prompt + have, b->depth - have, &error) != MLXR_OK) {
            return failed(&error);
        }
        if (mlxr_sequence_pending(sequence) && !compute_pending(b, MLXR_SLICE_NO_SAMPLE, &ignored)) {
            return false;
        }
    }
    if (mlxr_sequence_append(sequence, b->prompt + b->depth, n, &error) != MLXR_OK) {
        return failed(&error);
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
    if (!compute_pending(b, 0, &ignored)) {
        return false;
    }
    *rate = n / (now_seconds() - started);
    return true;
}

/* From a context of one token more than the depth, as llama-bench does. */
static bool run_generation(benchmark *b, uint32_t n, double *rate)
{
    uint32_t n_sampled;
    if (!restart(b, 1) || !compute_pending(b, 0, &n_sampled)) {
        return false;
    }
    double started = now_seconds();
    for (uint32_t done = 0; done < n; done += n_sampled) {
        if (!compute_pending(b, 0, &n_sampled)) {
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

/* Once more, outside of what was timed. */
static bool profile_test(benchmark *b, const char *label, uint32_t n, bool (*run)(benchmark *, uint32_t, double *))
{
    char name[64];
    double ignored;
    snprintf(name, sizeof name, b->depth ? "%s behind %u" : "%s", label, b->depth);
    return bench_profile_begin(b->s.engine) && run(b, n, &ignored) &&
           bench_profile_take(&b->profile, b->s.engine, name);
}

/* Does decoding still make what makes it faster? Where all logits are wanted, the halves of their matrix are not made.
 */
static bool prepares(const benchmark *b)
{
    mlxr_logits_stats x = mlxr_logits_stats_get(b->s.model);
    return x.lays || (x.prepares && !b->o->logits);
}

/* Runs a test until what decoding makes of the weights is made: each token makes a part. */
static bool warm_up(benchmark *b, uint32_t n, bool (*run)(benchmark *, uint32_t, double *))
{
    double ignored;
    bool ok = run(b, n, &ignored);
    for (uint32_t done = n; ok && run == run_generation && done < WARM_TOKENS && prepares(b); done += n) {
        ok = run(b, n, &ignored);
    }
    return ok;
}

/* Runs a test to warm up, then as often as asked. */
static int run_test(benchmark *b, const char *kind, uint32_t n, bool (*run)(benchmark *, uint32_t, double *))
{
    char label[32];
    snprintf(label, sizeof label, "%s%u", kind, n);
    progress bar = progress_begin(label);
    bool ok = warm_up(b, n, run);
    mlxr_logits_stats before = mlxr_logits_stats_get(b->s.model);
    for (uint32_t i = 0; ok && i < b->o->n_repeat; i++) {
        progress_show(&bar, i + 1, b->o->n_repeat + 1, NULL);
        ok = run(b, n, &b->rates[i]);
    }
    progress_end(&bar);
    mlxr_logits_stats after = mlxr_logits_stats_get(b->s.model);
    if (!ok || ((b->o->profile || b->o->trace) && !profile_test(b, label, n, run))) {
        return EXIT_FAILED;
    }
    if (b->o->verbose) {
        session_expert_note(b->s.engine);
        session_logits_note(b->s.model);
    }
    bool batch = strcmp(kind, "batch") == 0;
    bench_row row = {
        .kind = kind,
        .n = n,
        .depth = batch ? 0 : b->depth,
        .n_prompt = b->batch.n_prompt,
        .n_generate = b->batch.n_generate,
        .rates = b->rates,
        .n_rates = b->o->n_repeat,
        .decodes = run != run_prompt,
        .logits = {.n_steps = after.n_steps - before.n_steps, .bytes_saved = after.bytes_saved - before.bytes_saved},
        .drafts = mlxr_draft_stats_get(batch ? b->batch.sequences[0] : b->s.sequence),
    };
    return bench_report_row(&b->report, &row);
}

static int run_at_depth(benchmark *b, uint32_t depth)
{
    int code = EXIT_OK;
    b->depth = depth;
    if (b->n_prompt > 0) {
        code = run_test(b, "pp", b->n_prompt, run_prompt);
    }
    if (code == EXIT_OK && b->o->n_generate > 0) {
        code = run_test(b, "tg", b->o->n_generate, run_generation);
    }
    return code;
}

static int run_tests(benchmark *b)
{
    options *o = b->o;
    bench_report_begin(&b->report);
    int code = run_at_depth(b, 0);
    for (uint32_t i = 0; code == EXIT_OK && i < o->depths.n; i++) {
        if (o->depths.items[i] > 0) { /* 0 is there already */
            code = run_at_depth(b, o->depths.items[i]);
        }
    }
    for (uint32_t i = 0; code == EXIT_OK && i < o->batches.n; i++) {
        uint32_t n = o->batches.items[i];
        code = bench_batch_open(&b->batch, &b->s, o, &b->text, n, b->n_batch_prompt, o->n_generate);
        code = code == EXIT_OK ? run_test(b, "batch", n, run_batch) : code;
        bench_batch_close(&b->batch);
    }
    return code;
}

/* What is asked for makes sense, and fits the model's context. */
static bool check_sizes(benchmark *b)
{
    const options *o = b->o;
    uint32_t n_ctx = mlxr_model_info_get(b->s.model)->n_ctx;
    bool given = o->n_prompt != UINT32_MAX;
    if (!given && n_ctx < PROMPT_TOKENS) { /* the defaults suit any model */
        b->n_prompt = n_ctx;
    }
    for (uint32_t i = 0; i < o->depths.n; i++) {
        uint32_t n = b->n_prompt > o->n_generate + 1 ? b->n_prompt : o->n_generate + 1, depth = o->depths.items[i];
        b->depth_max = depth > b->depth_max ? depth : b->depth_max;
        if (depth > 0 && (uint64_t)depth + n > n_ctx) {
            print_error("--depth %u and %u tokens behind it: the model's context has %u", depth, n, n_ctx);
            return false;
        }
    }
    uint64_t n_batch = o->batches.n ? (uint64_t)b->n_batch_prompt + o->n_generate : 0;
    if (b->n_prompt > n_ctx || o->n_generate >= n_ctx || n_batch >= n_ctx) {
        print_error("-p %u -n %u: the model's context has %u tokens", n_batch ? b->n_batch_prompt : b->n_prompt,
                    o->n_generate, n_ctx);
        return false;
    }
    return true;
}

/* The tokens of the text, of which the tests need some: a beginning of it, or a part for each sequence of a batch. */
static bool read_text(benchmark *b, const char *bytes, size_t n_bytes)
{
    mlxr_error error;
    size_t n_most = 0, n_needed = (size_t)b->depth_max + (b->n_prompt ? b->n_prompt : 1);
    if (prompt_tokenize(b->s.model, bytes, n_bytes, MLXR_TOKENIZE_ADD_SPECIAL, &b->text.ids, &b->text.n, &error) !=
        MLXR_OK) {
        return failed(&error);
    }
    for (uint32_t i = 0; i < b->o->batches.n; i++) {
        n_most = b->o->batches.items[i] > n_most ? b->o->batches.items[i] : n_most;
    }
    n_needed = n_most * b->n_batch_prompt > n_needed ? n_most * b->n_batch_prompt : n_needed;
    if (b->text.n < n_needed) {
        print_error("%s has %zu tokens; these tests need %zu", b->o->file, b->text.n, n_needed);
        return false;
    }
    return true;
}

/* Before the engine's threads: it is done by a process of its own. */
static bool measure_machine(benchmark *b)
{
    char path[MODEL_PATH_MAX];
    struct stat status;
    if (!models_find(b->o->args[0], path, sizeof path)) {
        return false;
    }
    bool file = stat(path, &status) == 0 && S_ISREG(status.st_mode);
    machine_measure(&b->report.m, b->o, file ? (uint64_t)status.st_size : UINT64_MAX);
    return true;
}

/* Profiles are written while the model is mapped. */
static bool loses_input(const benchmark *b)
{
    const options *o = b->o;
    inputs in = {0};
    inputs_add(&in, o->file);
    inputs_add_loaded(&in, &b->s.entry, o);
    bool loses = (o->profile && inputs_lose(&in, o->profile)) || (o->trace && inputs_lose(&in, o->trace));
    inputs_close(&in);
    return loses;
}

/* All that comes before the first test and needs the model. Returns an exit code. */
static int prepare(benchmark *b, const char *bytes, size_t n_bytes)
{
    options *o = b->o;
    int code = session_open(&b->s, o, o->args[0], true);
    code = code == EXIT_OK ? session_sequence(&b->s, o) : code;
    if (code == EXIT_OK && (loses_input(b) || !check_sizes(b))) {
        code = EXIT_USAGE;
    }
    if (code == EXIT_OK && bytes && !read_text(b, bytes, n_bytes)) {
        code = EXIT_FAILED;
    }
    size_t n = (size_t)b->depth_max + (b->n_prompt ? b->n_prompt : 1);
    b->rates = calloc(o->n_repeat, sizeof *b->rates);
    b->prompt = calloc(n, sizeof *b->prompt);
    if (code == EXIT_OK && (!b->rates || !b->prompt)) {
        print_error("out of memory");
        code = EXIT_FAILED;
    }
    if (code == EXIT_OK) {
        bench_fill_prompt(&b->s, &b->text, 0, b->prompt, n);
    }
    return code;
}

int verb_bench(options *o)
{
    bool given = o->n_prompt != UINT32_MAX;
    benchmark b = {.o = o,
                   .report = {.o = o, .s = &b.s},
                   .n_prompt = given ? o->n_prompt : PROMPT_TOKENS,
                   .n_batch_prompt = !given        ? BATCH_PROMPT_TOKENS
                                     : o->n_prompt ? o->n_prompt
                                                   : 1};
    if (b.n_prompt == 0 && o->n_generate == 0) {
        print_error("nothing to measure: -p or -n must be above 0");
        return EXIT_USAGE;
    }
    if (o->batches.n && o->n_generate == 0) {
        print_error("--batch measures generation: -n must be above 0");
        return EXIT_USAGE;
    }
    o->sampling.temperature = 0;
    if (o->json + o->csv + o->md > 1) {
        print_error("--json, --csv and --md exclude each other");
        return EXIT_USAGE;
    }
    if (o->profile && o->trace && outputs_meet(o->profile, o->trace)) {
        return EXIT_USAGE;
    }
    size_t n_bytes = 0;
    char *bytes = o->file ? read_all(o->file, &n_bytes) : NULL;
    if ((o->file && !bytes) || !measure_machine(&b)) {
        free(bytes);
        return EXIT_FAILED;
    }
    int code = prepare(&b, bytes, n_bytes);
    code = code == EXIT_OK ? run_tests(&b) : code;
    code = code == EXIT_OK && (o->profile || o->trace) ? bench_profile_write(&b.profile, o) : code;
    session_close(&b.s);
    bench_profile_close(&b.profile);
    free(b.rates);
    free(b.prompt);
    free(b.text.ids);
    free(bytes);
    return code;
}
