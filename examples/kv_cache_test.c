/*
 * Follows tokens through the KV cache and measures it: kv_cache_test MODEL.gguf [PROMPT_TOKENS] [DECODE_TOKENS]
 * Owner: the process. Lifetime: the process.
 *
 * Prints latency and throughput of prefill and decode, and the memory of the cache, and checks on the way that tokens
 * appended, computed and cached add up, that going back gives the same tokens again, and that a second sequence with
 * the same prompt finds it in the cache. Exits with 1 if something does not add up.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include <mlxr.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DECODE_MAX 4096u

typedef struct test {
    mlxr_engine *engine;
    mlxr_model *model;
    mlxr_sequence *sequence;
    mlxr_error error;
    int32_t *prompt;           /* [n_prompt] */
    int32_t first[DECODE_MAX]; /* what the first round generated */
    double ms[DECODE_MAX];     /* how long each token took */
    uint32_t n_prompt, n_decode;
    int n_failed;
} test;

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static void check(test *t, bool ok, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("  %-6s ", ok ? "ok" : "WRONG");
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    t->n_failed += !ok;
}

/* Ordinary tokens of the vocabulary, the same on every run. */
static bool make_prompt(test *t)
{
    uint32_t n_vocab = mlxr_model_info_get(t->model)->n_vocab, state = 12345;
    t->prompt = malloc(t->n_prompt * sizeof *t->prompt);
    for (uint32_t i = 0; t->prompt && i < t->n_prompt; i++) {
        do {
            state = state * 1664525u + 1013904223u;
            t->prompt[i] = (int32_t)((state >> 8) % n_vocab);
        } while (mlxr_token_is_special(t->model, t->prompt[i]));
    }
    return t->prompt != NULL;
}

/* Computes up to `max` pending tokens and samples if none is left. */
static mlxr_status step(test *t, mlxr_sequence *sequence, uint32_t max, int32_t *token)
{
    size_t pending = mlxr_sequence_pending(sequence);
    mlxr_slice slice = {.sequence = sequence, .n_compute = pending < max ? (uint32_t)pending : max};
    mlxr_status status = mlxr_step(t->engine, &slice, 1, &t->error);
    *token = slice.token;
    return status;
}

/* Computes a prompt in chunks; *token is the first one generated. */
static mlxr_status prefill(test *t, mlxr_sequence *sequence, bool track, int32_t *token)
{
    mlxr_status status = MLXR_OK;
    uint32_t max = mlxr_step_tokens_max(t->engine);
    bool adds_up = true;
    for (*token = -1; status == MLXR_OK && *token < 0;) {
        size_t before = mlxr_sequence_computed(sequence), pending = mlxr_sequence_pending(sequence);
        status = step(t, sequence, max, token);
        size_t now = mlxr_sequence_computed(sequence);
        adds_up = adds_up && (status != MLXR_OK || now == before + (pending < max ? pending : max));
    }
    if (track && status == MLXR_OK) {
        check(t, adds_up, "each step computed as many tokens as it was given");
    }
    return status;
}

static mlxr_status measure_prefill(test *t, int32_t *token)
{
    mlxr_status status = mlxr_sequence_append(t->sequence, t->prompt, t->n_prompt, &t->error);
    if (status != MLXR_OK) {
        return status;
    }
    check(t, mlxr_sequence_length(t->sequence) == t->n_prompt && mlxr_sequence_pending(t->sequence) == t->n_prompt,
          "%u tokens appended, all pending", t->n_prompt);
    double started = now_ms();
    status = prefill(t, t->sequence, true, token);
    double took = now_ms() - started;
    if (status != MLXR_OK) {
        return status;
    }
    check(t,
          mlxr_sequence_computed(t->sequence) == t->n_prompt && mlxr_sequence_length(t->sequence) == t->n_prompt + 1u,
          "%u computed, one token sampled and pending", t->n_prompt);
    printf("\nprefill  %u tokens in %.1f ms: %.1f tokens/s, first token after %.1f ms\n", t->n_prompt, took,
           t->n_prompt / took * 1e3, took);
    return MLXR_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static mlxr_status measure_decode(test *t, int32_t token)
{
    double started = now_ms();
    t->first[0] = token;
    for (uint32_t i = 1; i < t->n_decode; i++) {
        double before = now_ms();
        mlxr_status status = step(t, t->sequence, 1, &t->first[i]);
        t->ms[i - 1] = now_ms() - before;
        if (status != MLXR_OK) {
            return status;
        }
    }
    uint32_t n = t->n_decode - 1;
    double took = now_ms() - started;
    qsort(t->ms, n, sizeof *t->ms, by_value);
    printf(
        "decode   %u tokens in %.1f ms: %.1f tokens/s; a token takes %.2f ms (median), %.2f (99th), %.2f (worst)\n\n",
        n, took, n / took * 1e3, t->ms[n / 2], t->ms[n * 99 / 100], t->ms[n - 1]);
    check(t, mlxr_sequence_length(t->sequence) == t->n_prompt + t->n_decode, "%zu tokens after decoding",
          mlxr_sequence_length(t->sequence));
    const int32_t *tokens = mlxr_sequence_tokens(t->sequence);
    check(t,
          memcmp(tokens, t->prompt, t->n_prompt * sizeof *tokens) == 0 &&
              memcmp(tokens + t->n_prompt, t->first, t->n_decode * sizeof *tokens) == 0,
          "the sequence holds the prompt and what was generated, in order");
    return MLXR_OK;
}

static void show_memory(const test *t, const char *when)
{
    mlxr_kv_stats kv = mlxr_kv_stats_get(t->engine);
    const mlxr_model_info *info = mlxr_model_info_get(t->model);
    printf("\nmemory   %s: %.1f KiB of %.1f MiB in use; %.2f KiB a token, pages of %u tokens\n", when,
           (double)kv.bytes_used / 1024, (double)kv.bytes_budget / 1048576, (double)info->kv_bytes_per_token / 1024,
           kv.page_tokens);
}

/* Back to the middle of the prompt: what follows must come out again. */
static mlxr_status go_back(test *t)
{
    uint32_t half = t->n_prompt / 2;
    int32_t token;
    mlxr_status status = mlxr_sequence_truncate(t->sequence, half, &t->error);
    if (status == MLXR_OK) {
        check(t, mlxr_sequence_length(t->sequence) == half, "truncated to %u tokens", half);
        status = mlxr_sequence_append(t->sequence, t->prompt + half, t->n_prompt - half, &t->error);
    }
    if (status == MLXR_OK) {
        status = prefill(t, t->sequence, false, &token);
    }
    if (status == MLXR_OK) {
        check(t, token == t->first[0], "the same first token after going back: %d", token);
    }
    return status;
}

/* Another sequence with the same prompt. */
static mlxr_status share_prefix(test *t, const mlxr_sampling *sampling)
{
    mlxr_sequence *other = NULL;
    int32_t token = -1;
    mlxr_status status = mlxr_sequence_open(&other, t->model, sampling, &t->error);
    if (status == MLXR_OK) {
        status = mlxr_sequence_append(other, t->prompt, t->n_prompt, &t->error);
    }
    if (status == MLXR_OK) {
        size_t cached = mlxr_sequence_cached(other);
        double started = now_ms();
        status = prefill(t, other, false, &token);
        if (status == MLXR_OK) {
            check(t, token == t->first[0],
                  "a second sequence with this prompt: the same token, %zu of %u tokens found in the "
                  "cache, first token after %.1f ms",
                  cached, t->n_prompt, now_ms() - started);
        }
    }
    mlxr_sequence_close(&other);
    return status;
}

static mlxr_status run(test *t, const char *path)
{
    mlxr_sampling greedy = mlxr_sampling_default();
    int32_t token = -1;
    greedy.temperature = 0;
    mlxr_status status = mlxr_engine_open(&t->engine, NULL, &t->error);
    if (status == MLXR_OK) {
        status = mlxr_model_load(&t->model, t->engine, path, NULL, &t->error);
    }
    if (status == MLXR_OK) {
        status = mlxr_sequence_open(&t->sequence, t->model, &greedy, &t->error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    const mlxr_model_info *info = mlxr_model_info_get(t->model);
    printf("%s: %s, %u layers, %u query and %u KV heads of %u\n\n", path, info->family, info->n_layers, info->n_head,
           info->n_head_kv, info->head_dim);
    if (!make_prompt(t)) {
        snprintf(t->error.text, sizeof t->error.text, "out of memory");
        return MLXR_NOMEM;
    }
    status = measure_prefill(t, &token);
    status = status == MLXR_OK ? measure_decode(t, token) : status;
    if (status == MLXR_OK) {
        show_memory(t, "with one sequence");
        putchar('\n');
    }
    status = status == MLXR_OK ? go_back(t) : status;
    status = status == MLXR_OK ? share_prefix(t, &greedy) : status;
    mlxr_sequence_close(&t->sequence);
    if (status == MLXR_OK) {
        show_memory(t, "with none (what is left is kept for prompts that begin the same)");
    }
    return status;
}

static uint32_t number(const char *text, uint32_t usual, uint32_t min, uint32_t max)
{
    unsigned long value = text ? strtoul(text, NULL, 10) : usual;
    return value < min ? min : value > max ? max : (uint32_t)value;
}

int main(int argc, char **argv)
{
    static test t;
    if (argc < 2) {
        fprintf(stderr, "usage: kv_cache_test MODEL.gguf [PROMPT_TOKENS] [DECODE_TOKENS]\n");
        return 2;
    }
    t.n_prompt = number(argc > 2 ? argv[2] : NULL, 256, 2, 1u << 20);
    t.n_decode = number(argc > 3 ? argv[3] : NULL, 64, 2, DECODE_MAX);
    mlxr_status status = run(&t, argv[1]);
    if (status != MLXR_OK) {
        fprintf(stderr, "kv_cache_test: %s\n", t.error.text);
    }
    mlxr_sequence_close(&t.sequence);
    mlxr_model_unref(&t.model);
    mlxr_engine_close(&t.engine);
    free(t.prompt);
    return status == MLXR_OK && t.n_failed == 0 ? 0 : 1;
}
