/*
 * Follows tokens through the KV cache and measures it: kv_cache_test MODEL.gguf [PROMPT_TOKENS] [DECODE_TOKENS] [DIR]
 * Owner: the process. Lifetime: the process.
 *
 * Five engines, one after the other, show what happens to work that has been done once:
 *
 *   paging      a table grows by a page at a time; latency and throughput of prefill and decode
 *   sharing     a second sequence with the same prompt finds its pages
 *   fork        copies share all pages; who writes gets a copy of one
 *   eviction    more prompts than fit: pages go to DIR and come back
 *   restart     a new engine finds them there; one with another KV type does not; damaged files are misses
 *
 * Each claim is checked, "ok" or "WRONG"; exits with 1 if one is wrong. Without DIR a temporary one is made and
 * removed.
 */
#define _XOPEN_SOURCE 700 /* clock_gettime, mkdtemp, nftw */
#define _DARWIN_C_SOURCE  /* on macOS, mkdtemp too */

#include <ftw.h>
#include <mlxr.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DECODE_MAX 4096u
#define N_FORKS 4u
#define OTHERS_MAX 64u /* prompts that drive the first one out */

typedef struct test {
    const char *path, *dir;
    mlxr_engine *engine;
    mlxr_model *model;
    mlxr_error error;
    int32_t *prompt, *other;   /* [n_prompt] */
    int32_t first[DECODE_MAX]; /* what the prompt led to, computed in full */
    int32_t again[DECODE_MAX];
    double ms[DECODE_MAX]; /* how long each token took */
    double cold_ms;        /* to the first token, with nothing cached */
    uint32_t n_prompt, n_decode;
    int n_failed;
} test;

typedef struct answer { /* of a prompt, how it began */
    size_t n_cached;
    const char *miss;
    double first_ms;
} answer;

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

/* ---- engines, prompts, answers ------------------------------------------------------------------------------------
 */

static void close_engine(test *t)
{
    mlxr_model_unref(&t->model);
    mlxr_engine_close(&t->engine);
}

static mlxr_status open_engine(test *t, const mlxr_engine_options *options)
{
    mlxr_status status = mlxr_engine_open(&t->engine, options, &t->error);
    return status == MLXR_OK ? mlxr_model_load(&t->model, t->engine, t->path, NULL, &t->error) : status;
}

static mlxr_status open_sequence(test *t, mlxr_sequence **out)
{
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    return mlxr_sequence_open(out, t->model, &greedy, &t->error);
}

/* Ordinary tokens of the vocabulary, the same on every run. */
static void fill_prompt(const test *t, uint32_t seed, int32_t *ids)
{
    uint32_t n_vocab = mlxr_model_info_get(t->model)->n_vocab, state = seed * 12345u;
    for (uint32_t i = 0; i < t->n_prompt; i++) {
        do {
            state = state * 1664525u + 1013904223u;
            ids[i] = (int32_t)((state >> 8) % n_vocab);
        } while (mlxr_token_is_special(t->model, ids[i]));
    }
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
static mlxr_status prefill(test *t, mlxr_sequence *sequence, int32_t *token)
{
    mlxr_status status = MLXR_OK;
    for (*token = -1; status == MLXR_OK && *token < 0;) {
        status = step(t, sequence, mlxr_step_tokens_max(t->engine), token);
    }
    return status;
}

/* Answers a prompt with n tokens and gives the sequence up; what it computed stays in the cache. */
static mlxr_status answer_prompt(test *t, const int32_t *prompt, int32_t *tokens, uint32_t n, answer *a)
{
    mlxr_sequence *sequence = NULL;
    mlxr_status status = open_sequence(t, &sequence);
    double started = now_ms();
    if (status == MLXR_OK) {
        status = mlxr_sequence_append(sequence, prompt, t->n_prompt, &t->error);
    }
    if (status == MLXR_OK) {
        a->n_cached = mlxr_sequence_cached(sequence);
        a->miss = mlxr_sequence_miss(sequence);
        status = prefill(t, sequence, &tokens[0]);
        a->first_ms = now_ms() - started;
    }
    for (uint32_t i = 1; status == MLXR_OK && i < n; i++) {
        status = step(t, sequence, 1, &tokens[i]);
    }
    mlxr_sequence_close(&sequence);
    return status;
}

/* Answers the prompt once more: the tokens must be those of the first time. */
static mlxr_status answer_again(test *t, answer *a, const char *how)
{
    mlxr_status status = answer_prompt(t, t->prompt, t->again, t->n_decode, a);
    if (status == MLXR_OK) {
        check(t, memcmp(t->again, t->first, t->n_decode * sizeof *t->first) == 0, "%s: the same %u tokens", how,
              t->n_decode);
    }
    return status;
}

/* Tokens of a prompt that the cache can have: whole pages, but for the token whose logits are wanted. */
static size_t cacheable(const test *t)
{
    uint32_t size = mlxr_kv_stats_get(t->engine).page_tokens;
    return (t->n_prompt - 1) / size * size;
}

static uint64_t pages_used(const test *t)
{
    mlxr_kv_stats kv = mlxr_kv_stats_get(t->engine);
    return kv.n_pages - kv.n_pages_free;
}

static double kib_used(const test *t)
{
    return (double)mlxr_kv_stats_get(t->engine).bytes_used / 1024;
}

/* ---- paging -------------------------------------------------------------------------------------------------------
 */

static void track(const test *t, const mlxr_sequence *s, const char *when)
{
    printf("  %-30s %8zu %9zu %8zu %7llu %10.1f\n", when, mlxr_sequence_length(s), mlxr_sequence_computed(s),
           mlxr_sequence_pending(s), (unsigned long long)pages_used(t), kib_used(t));
}

/* Prefill in chunks of a page: the table grows as tokens are computed, and no faster. */
static mlxr_status page_by_page(test *t, mlxr_sequence *s, int32_t *token)
{
    uint32_t size = mlxr_kv_stats_get(t->engine).page_tokens, n_steps = 0;
    uint64_t one_page = 0;
    mlxr_status status = MLXR_OK;
    bool adds_up = true, grows = true;
    for (*token = -1; status == MLXR_OK && *token < 0; n_steps++) {
        size_t before = mlxr_sequence_computed(s), pending = mlxr_sequence_pending(s);
        status = step(t, s, size, token);
        size_t n = mlxr_sequence_computed(s);
        adds_up = adds_up && n == before + (pending < size ? pending : size);
        one_page = n_steps == 0 ? pages_used(t) : one_page; /* of each group of layers one */
        grows = grows && pages_used(t) <= one_page * ((n + size - 1) / size);
        if (n_steps < 2) {
            track(t, s, n_steps ? "a page more computed" : "one page computed");
        }
    }
    if (status == MLXR_OK) {
        track(t, s, "prompt computed, one sampled");
        check(t, adds_up, "each step computed as many tokens as it was given");
        check(t, grows, "no more pages than the computed tokens need");
    }
    return status;
}

static mlxr_status show_paging(test *t, mlxr_sequence **out)
{
    int32_t token;
    const mlxr_model_info *info = mlxr_model_info_get(t->model);
    uint32_t size = mlxr_kv_stats_get(t->engine).page_tokens;
    printf("\npaging   pages of %u tokens, %.2f KiB a token, a budget of %.1f MiB\n\n  %-30s %8s %9s %8s %7s %10s\n",
           size, (double)info->kv_bytes_per_token / 1024, (double)mlxr_kv_stats_get(t->engine).bytes_budget / 1048576,
           "", "tokens", "computed", "pending", "pages", "KV KiB");
    mlxr_status status = open_sequence(t, out);
    if (status == MLXR_OK) {
        status = mlxr_sequence_append(*out, t->prompt, t->n_prompt, &t->error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    track(t, *out, "prompt appended");
    bool pending = mlxr_sequence_pending(*out) == t->n_prompt && pages_used(t) == 0;
    status = page_by_page(t, *out, &token);
    if (status == MLXR_OK) {
        uint64_t most = (uint64_t)(t->n_prompt + size - 1) / size * size * info->kv_bytes_per_token;
        check(t, pending, "%u tokens appended: all pending, no page taken", t->n_prompt);
        check(t, mlxr_kv_stats_get(t->engine).bytes_used <= most, "%.1f KiB in use, the formula allows %.1f",
              kib_used(t), (double)most / 1024);
    }
    return status;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* With nothing cached: what all else is compared with. */
static mlxr_status measure(test *t)
{
    mlxr_sequence *s = NULL;
    mlxr_status status = open_sequence(t, &s);
    double started = now_ms();
    if (status == MLXR_OK) {
        status = mlxr_sequence_append(s, t->prompt, t->n_prompt, &t->error);
    }
    if (status == MLXR_OK) {
        status = prefill(t, s, &t->first[0]);
    }
    t->cold_ms = now_ms() - started;
    started = now_ms();
    for (uint32_t i = 1; status == MLXR_OK && i < t->n_decode; i++) {
        double before = now_ms();
        status = step(t, s, 1, &t->first[i]);
        t->ms[i - 1] = now_ms() - before;
    }
    if (status == MLXR_OK) {
        uint32_t n = t->n_decode - 1;
        double took = now_ms() - started;
        const int32_t *tokens = mlxr_sequence_tokens(s);
        qsort(t->ms, n, sizeof *t->ms, by_value);
        printf("\nprefill  %u tokens in %.1f ms: %.1f tokens/s, first token after %.1f ms\n", t->n_prompt, t->cold_ms,
               t->n_prompt / t->cold_ms * 1e3, t->cold_ms);
        printf("decode   %u tokens in %.1f ms: %.1f tokens/s; a token takes %.2f ms (median), %.2f (99th), %.2f "
               "(worst)\n\n",
               n, took, n / took * 1e3, t->ms[n / 2], t->ms[n * 99 / 100], t->ms[n - 1]);
        check(t,
              mlxr_sequence_length(s) == t->n_prompt + t->n_decode &&
                  memcmp(tokens, t->prompt, t->n_prompt * sizeof *tokens) == 0 &&
                  memcmp(tokens + t->n_prompt, t->first, t->n_decode * sizeof *tokens) == 0,
              "the sequence holds the prompt and what was generated, in order");
    }
    mlxr_sequence_close(&s);
    return status;
}

/* Back to the middle of the prompt: what follows must come out again. */
static mlxr_status go_back(test *t, mlxr_sequence *s)
{
    uint32_t half = t->n_prompt / 2;
    int32_t token = -1;
    mlxr_status status = mlxr_sequence_truncate(s, half, &t->error);
    if (status == MLXR_OK) {
        check(t, mlxr_sequence_length(s) == half, "truncated to %u tokens", half);
        status = mlxr_sequence_append(s, t->prompt + half, t->n_prompt - half, &t->error);
    }
    if (status == MLXR_OK) {
        status = prefill(t, s, &token);
    }
    if (status == MLXR_OK) {
        check(t, token == t->first[0], "the same first token after going back: %d", token);
    }
    return status;
}

/* ---- sharing and forks --------------------------------------------------------------------------------------------
 */

static mlxr_status share_prefix(test *t)
{
    answer a;
    double before = kib_used(t);
    printf("\nsharing\n");
    mlxr_status status = answer_again(t, &a, "another sequence with this prompt");
    if (status == MLXR_OK) {
        check(t, a.n_cached == cacheable(t), "%zu of %u tokens found in the cache (%s)", a.n_cached, t->n_prompt,
              a.miss);
        printf("         first token after %.1f ms instead of %.1f: %.1f times sooner; %.1f KiB in use before, %.1f "
               "after\n",
               a.first_ms, t->cold_ms, t->cold_ms / a.first_ms, before, kib_used(t));
    }
    return status;
}

/* The copies go on together with the original, a token of each a step. */
static mlxr_status step_together(test *t, mlxr_sequence **s, size_t n, int32_t *tokens)
{
    mlxr_slice slices[N_FORKS + 1] = {{0}};
    for (size_t i = 0; i < n; i++) {
        slices[i] = (mlxr_slice){.sequence = s[i], .n_compute = (uint32_t)mlxr_sequence_pending(s[i])};
    }
    mlxr_status status = mlxr_step(t->engine, slices, n, &t->error);
    for (size_t i = 0; i < n; i++) {
        tokens[i] = slices[i].token;
    }
    return status;
}

/* s: the prompt computed, its first token pending. */
static mlxr_status show_forks(test *t, mlxr_sequence *s)
{
    mlxr_sequence *all[N_FORKS + 1] = {s};
    uint64_t before = pages_used(t);
    mlxr_status status = MLXR_OK;
    bool same = true;
    printf("\nfork\n");
    for (size_t i = 1; status == MLXR_OK && i <= N_FORKS; i++) {
        status = mlxr_sequence_fork(&all[i], s, NULL, &t->error);
    }
    uint64_t forked = pages_used(t), written = 0;
    for (uint32_t n = 1; status == MLXR_OK && n < t->n_decode; n++) {
        int32_t tokens[N_FORKS + 1];
        status = step_together(t, all, N_FORKS + 1, tokens);
        written = n == 1 ? pages_used(t) : written;
        for (size_t i = 0; i <= N_FORKS; i++) {
            same = same && tokens[i] == t->first[n];
        }
    }
    if (status == MLXR_OK) {
        uint32_t size = mlxr_kv_stats_get(t->engine).page_tokens;
        uint64_t n_blocks = (t->n_prompt + size - 1) / size, n_groups = (before + n_blocks - 1) / n_blocks;
        check(t, forked == before, "%u forks of %u tokens take no page: %llu before, %llu after", N_FORKS, t->n_prompt,
              (unsigned long long)before, (unsigned long long)forked);
        check(t, written > forked && written <= forked + (N_FORKS + 1) * n_groups,
              "to write a token each %s one page for each, not all %llu: %llu now",
              t->n_prompt % size ? "copies" : "adds", (unsigned long long)before, (unsigned long long)written);
        check(t, same, "original and copies go on with the same %u tokens", t->n_decode - 1);
    }
    for (size_t i = 1; i <= N_FORKS; i++) {
        mlxr_sequence_close(&all[i]);
    }
    return status;
}

/* ---- eviction, disk, restart --------------------------------------------------------------------------------------
 */

static void show_disk(const test *t, const char *when)
{
    mlxr_kv_stats kv = mlxr_kv_stats_get(t->engine);
    printf("  %-30s %.1f of %.1f KiB in use, %.1f evicted; on disk %llu files, %.1f KiB; %llu read back\n", when,
           (double)kv.bytes_used / 1024, (double)kv.bytes_budget / 1024, (double)kv.n_evicted_bytes / 1024,
           (unsigned long long)kv.disk_files, (double)kv.disk_bytes / 1024, (unsigned long long)kv.disk_hits);
}

/* Memory for about three prompts, and as many of them as make all of it change hands a few times. */
static mlxr_status show_eviction(test *t)
{
    answer a = {0};
    bool within = true;
    printf("\neviction to %s\n", t->dir);
    mlxr_status status = answer_again(t, &a, "computed with little memory");
    mlxr_kv_stats kv = mlxr_kv_stats_get(t->engine);
    uint32_t n = 0;
    for (; status == MLXR_OK && n < OTHERS_MAX && kv.n_evicted_bytes < 3 * kv.bytes_budget; n++) {
        fill_prompt(t, n + 2, t->other);
        status = answer_prompt(t, t->other, t->again, 2, &a);
        kv = mlxr_kv_stats_get(t->engine);
        within = within && kv.bytes_used <= kv.bytes_budget;
    }
    if (status != MLXR_OK) {
        return status;
    }
    printf("         %u other prompts\n", n);
    mlxr_kv_flush(t->engine);
    show_disk(t, "after the others");
    kv = mlxr_kv_stats_get(t->engine);
    check(t, within, "never more than the budget");
    check(t, kv.n_evicted_bytes > 0 && kv.disk_files > 0, "pages were evicted, and are on disk");
    status = answer_again(t, &a, "asked again");
    if (status == MLXR_OK) {
        show_disk(t, "after the first prompt again");
        check(t, a.n_cached == cacheable(t) && mlxr_kv_stats_get(t->engine).disk_hits > kv.disk_hits,
              "%zu of %u tokens came back from disk", a.n_cached, t->n_prompt);
        printf("         first token after %.1f ms instead of %.1f: %.1f times sooner\n", a.first_ms, t->cold_ms,
               t->cold_ms / a.first_ms);
    }
    return status;
}

static mlxr_status show_restart(test *t)
{
    answer a;
    printf("\nrestart\n");
    mlxr_status status = answer_again(t, &a, "a new engine");
    if (status == MLXR_OK) {
        show_disk(t, "");
        check(t, a.n_cached == cacheable(t), "%zu of %u tokens survived in %s", a.n_cached, t->n_prompt, t->dir);
        printf("         first token after %.1f ms instead of %.1f: %.1f times sooner\n", a.first_ms, t->cold_ms,
               t->cold_ms / a.first_ms);
    }
    return status;
}

static mlxr_status show_other_type(test *t)
{
    answer a;
    mlxr_status status = answer_prompt(t, t->prompt, t->again, 1, &a);
    if (status == MLXR_OK) {
        check(t, a.n_cached == 0, "with another KV type nothing of it is used (%s)", a.miss);
    }
    return status;
}

/* Changes a byte in the middle of a page file. */
static int damage(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)where;
    size_t n = strlen(path);
    FILE *file = kind == FTW_F && n > 3 && strcmp(path + n - 3, ".kv") == 0 ? fopen(path, "r+b") : NULL;
    if (file) {
        long middle = (long)(info->st_size / 2);
        int byte = fseek(file, middle, SEEK_SET) == 0 ? getc(file) : EOF;
        if (byte != EOF && fseek(file, middle, SEEK_SET) == 0) {
            putc(byte ^ 1, file);
        }
        fclose(file);
    }
    return 0;
}

static mlxr_status show_damage(test *t)
{
    answer a;
    mlxr_status status = answer_again(t, &a, "every file damaged");
    if (status == MLXR_OK) {
        check(t, a.n_cached == 0 && mlxr_kv_stats_get(t->engine).disk_rejected > 0,
              "damaged files are misses, not wrong answers (%s)", a.miss);
    }
    return status;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------
 */

static mlxr_status in_memory(test *t)
{
    mlxr_sequence *s = NULL;
    mlxr_status status = measure(t);
    if (status == MLXR_OK) {
        close_engine(t); /* a new one has nothing cached */
        status = open_engine(t, NULL);
    }
    status = status == MLXR_OK ? show_paging(t, &s) : status;
    status = status == MLXR_OK ? share_prefix(t) : status;
    status = status == MLXR_OK ? show_forks(t, s) : status;
    status = status == MLXR_OK ? go_back(t, s) : status;
    mlxr_sequence_close(&s);
    return status;
}

/* Runs one phase with an engine of its own. */
static mlxr_status with_engine(test *t, const mlxr_engine_options *options, mlxr_status (*phase)(test *t))
{
    close_engine(t);
    mlxr_status status = open_engine(t, options);
    return status == MLXR_OK ? phase(t) : status;
}

static mlxr_status run(test *t)
{
    mlxr_status status = open_engine(t, NULL);
    if (status != MLXR_OK) {
        return status;
    }
    const mlxr_model_info *info = mlxr_model_info_get(t->model);
    printf("%s: %s, %u layers, %u query and %u KV heads of %u\n", t->path, info->family, info->n_layers, info->n_head,
           info->n_head_kv, info->head_dim);
    t->prompt = malloc(t->n_prompt * sizeof *t->prompt);
    t->other = malloc(t->n_prompt * sizeof *t->other);
    if (!t->prompt || !t->other) {
        snprintf(t->error.text, sizeof t->error.text, "out of memory");
        return MLXR_NOMEM;
    }
    fill_prompt(t, 1, t->prompt);
    uint64_t n_bytes = info->kv_bytes_per_token * (t->n_prompt + t->n_decode + 64u);
    mlxr_engine_options small = {.kv_bytes = 3 * n_bytes, .kv_dir = t->dir}, usual = {.kv_dir = t->dir},
                        other = {.kv_dir = t->dir, .kv_type = "f32"};
    status = in_memory(t);
    status = status == MLXR_OK ? with_engine(t, &small, show_eviction) : status;
    status = status == MLXR_OK ? with_engine(t, &usual, show_restart) : status;
    status = status == MLXR_OK ? with_engine(t, &other, show_other_type) : status;
    close_engine(t);
    nftw(t->dir, damage, 8, FTW_PHYS);
    return status == MLXR_OK ? with_engine(t, &usual, show_damage) : status;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static uint32_t number(const char *text, uint32_t usual, uint32_t min, uint32_t max)
{
    unsigned long value = text ? strtoul(text, NULL, 10) : usual;
    return value < min ? min : value > max ? max : (uint32_t)value;
}

int main(int argc, char **argv)
{
    static test t;
    char temporary[] = "/tmp/kv_cache_test-XXXXXX";
    if (argc < 2) {
        fprintf(stderr, "usage: kv_cache_test MODEL.gguf [PROMPT_TOKENS] [DECODE_TOKENS] [DIR]\n");
        return 2;
    }
    t.path = argv[1];
    t.n_prompt = number(argc > 2 ? argv[2] : NULL, 500, 66,
                        1u << 20); /* two pages at least, to have something to find */
    t.n_decode = number(argc > 3 ? argv[3] : NULL, 64, 2, DECODE_MAX);
    t.dir = argc > 4 ? argv[4] : mkdtemp(temporary);
    if (!t.dir) {
        perror(temporary);
        return 1;
    }
    mlxr_status status = run(&t);
    if (status != MLXR_OK) {
        fprintf(stderr, "kv_cache_test: %s\n", t.error.text);
    } else if (t.n_failed) {
        printf("\n%d WRONG\n", t.n_failed);
    }
    close_engine(&t);
    if (argc <= 4) {
        nftw(t.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
    free(t.prompt);
    free(t.other);
    return status == MLXR_OK && t.n_failed == 0 ? 0 : 1;
}
