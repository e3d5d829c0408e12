/*
 * Speculation where it helps and where it does not: tokens per second with and without, in turn, and what was accepted.
 * Owner: the program. Lifetime: its main. One thread.
 *
 * Texts. "sampled": real text goes on at temperature 1, which repeats nothing; "greedy": at temperature 0, where small
 * models soon repeat themselves; "repeat": greedy, behind a passage that the prompt holds several times. Drafts: prompt
 * lookup, a draft model (--draft), the model's own head (--mtp 1; "mtp idle": with its keys and without drafts). With a
 * seed the tokens must be the same with and without.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define TURN ((size_t)8) /* tokens */

typedef struct settings {
    float temperature;
    double n_prompt, n_generate, n_runs, n_streams, n_max;
} settings;

typedef enum drafting { DRAFT_NONE, DRAFT_NGRAM, DRAFT_MODEL, DRAFT_MTP, DRAFT_IDLE } drafting;

/* n_streams sequences that decode together. */
typedef struct group {
    mlxr_engine *engine;
    const settings *set;
    mlxr_sequence **sequences; /* [n_streams] */
    mlxr_slice *slices;        /* [n_streams] */
    size_t *n_done;            /* [n_streams] tokens generated */
    int32_t *ids;              /* [n_streams][n_generate] */
    double ms;                 /* decoding; prompts are not timed */
} group;

static void group_open(group *g, mlxr_engine *engine, mlxr_model *model, mlxr_model *draft, drafting kind,
                       const int32_t *ids, size_t n_prompt, const settings *set)
{
    size_t n = (size_t)set->n_streams;
    mlxr_error error;
    *g = (group){.engine = engine, .set = set};
    g->sequences = calloc(n, sizeof *g->sequences);
    g->slices = calloc(n, sizeof *g->slices);
    g->n_done = calloc(n, sizeof *g->n_done);
    g->ids = calloc(n * (size_t)set->n_generate, sizeof *g->ids);
    if (!g->sequences || !g->slices || !g->n_done || !g->ids) {
        exit(1);
    }
    mlxr_sampling sampling = mlxr_sampling_default();
    sampling.temperature = set->temperature;
    sampling.top_k = 0;
    sampling.top_p = 1;
    for (size_t i = 0; i < n; i++) {
        mlxr_sequence **s = &g->sequences[i];
        sampling.seed = 1 + i;
        bench_check(mlxr_sequence_open(s, model, &sampling, &error), &error);
        if (kind == DRAFT_MTP) {
            bench_check(mlxr_sequence_draft_mtp(*s, (uint32_t)set->n_max, &error), &error);
        } else if (kind == DRAFT_NGRAM || kind == DRAFT_MODEL) {
            bench_check(mlxr_sequence_draft(*s, kind == DRAFT_MODEL ? draft : NULL, (uint32_t)set->n_max, &error),
                        &error);
        }
        bench_check(mlxr_sequence_append(*s, ids + i * 16, n_prompt, &error), &error);
        while (mlxr_sequence_pending(*s) > 1) {
            size_t pending = mlxr_sequence_pending(*s) - 1, most = mlxr_step_tokens_max(engine);
            mlxr_slice chunk = {.sequence = *s, .n_compute = (uint32_t)(pending < most ? pending : most)};
            bench_check(mlxr_step(engine, &chunk, 1, &error), &error);
        }
    }
}

/* Goes on until every stream has n tokens. */
static void group_run(group *g, size_t n)
{
    size_t n_generate = (size_t)g->set->n_generate;
    mlxr_error error;
    double begin_ms = bench_now_ms();
    for (;;) {
        size_t n_slices = 0, of[64];
        for (size_t i = 0; i < (size_t)g->set->n_streams; i++) {
            if (g->n_done[i] < n) {
                of[n_slices] = i;
                g->slices[n_slices++] = (mlxr_slice){.sequence = g->sequences[i], .n_compute = 1};
            }
        }
        if (n_slices == 0) {
            break;
        }
        bench_check(mlxr_step(g->engine, g->slices, n_slices, &error), &error);
        for (size_t j = 0; j < n_slices; j++) {
            for (uint32_t k = 0; k < g->slices[j].n_sampled && g->n_done[of[j]] < n_generate; k++) {
                g->ids[of[j] * n_generate + g->n_done[of[j]]++] = g->slices[j].sampled[k].id;
            }
        }
    }
    g->ms += bench_now_ms() - begin_ms;
}

static mlxr_draft_stats group_close(group *g)
{
    mlxr_draft_stats stats = mlxr_draft_stats_get(g->sequences[0]);
    for (size_t i = 0; i < (size_t)g->set->n_streams; i++) {
        mlxr_sequence_close(&g->sequences[i]);
    }
    free(g->sequences);
    free(g->slices);
    free(g->n_done);
    free(g->ids);
    return stats;
}

static void report(const mlxr_model *model, const char *text, const char *draft, const settings *set, double *plain_ms,
                   double *drafted_ms, double *ratios, const mlxr_draft_stats *d, bool same)
{
    size_t n = (size_t)set->n_runs;
    double tokens = set->n_generate * set->n_streams * 1e3;
    printf("{\"test\":\"speculation\",\"model\":\"%s\",\"text\":\"%s\",\"draft\":\"%s\",\"streams\":%.0f,"
           "\"plain_tokens_per_s\":%.1f,\"tokens_per_s\":%.1f,\"ratio\":%.3f,\"ratio_least\":%.3f,\"same_tokens\":%s,"
           "\"steps\":%llu,\"drafting_steps\":%llu,\"drafted\":%llu,\"accepted\":%llu,\"acceptance\":%.3f,"
           "\"row_cost\":%.3f,\"draft_cost\":%.3f}\n",
           mlxr_model_info_get(model)->name, text, draft, set->n_streams, tokens / quantile_of(plain_ms, n, 0.5),
           tokens / quantile_of(drafted_ms, n, 0.5), quantile_of(ratios, n, 0.5), quantile_of(ratios, n, 0),
           same ? "true" : "false", (unsigned long long)d->n_steps, (unsigned long long)d->n_drafting_steps,
           (unsigned long long)d->n_drafted, (unsigned long long)d->n_accepted,
           d->n_drafted ? (double)d->n_accepted / (double)d->n_drafted : 0, d->row_cost, d->draft_cost);
    fflush(stdout);
}

/* Plain and drafted take turns, TURN tokens at a time, so that a machine whose speed changes favours neither. */
static void compare(mlxr_engine *engine, mlxr_model *model, mlxr_model *draft, drafting kind, const char *name,
                    const char *text, const int32_t *ids, size_t n_prompt, const settings *set)
{
    size_t n = (size_t)set->n_runs, n_generate = (size_t)set->n_generate;
    double *plain = calloc(n, sizeof *plain), *drafted = calloc(n, sizeof *drafted),
           *ratios = calloc(n, sizeof *ratios);
    if (!plain || !drafted || !ratios) {
        exit(1);
    }
    mlxr_draft_stats stats = {0};
    bool same = true;
    for (size_t i = 0; i < n; i++) {
        group a, b;
        group_open(&a, engine, model, NULL, DRAFT_NONE, ids, n_prompt, set);
        group_open(&b, engine, kind >= DRAFT_MTP ? draft : model, draft, kind, ids, n_prompt, set);
        for (size_t done = 0; done < n_generate;) {
            done = done + TURN < n_generate ? done + TURN : n_generate;
            bool plain_first = (i + done / TURN) % 2 == 0;
            group_run(plain_first ? &a : &b, done);
            group_run(plain_first ? &b : &a, done);
        }
        plain[i] = a.ms;
        drafted[i] = b.ms;
        ratios[i] = a.ms / b.ms;
        same = same && memcmp(a.ids, b.ids, n_generate * (size_t)set->n_streams * sizeof *a.ids) == 0;
        group_close(&a);
        stats = group_close(&b);
    }
    report(model, text, name, set, plain, drafted, ratios, &stats, same);
    free(plain);
    free(drafted);
    free(ratios);
}

/* A passage of the text, again and again; its last copy is cut in the middle. */
static void repeat_passage(const bench_text *text, int32_t *ids, size_t n)
{
    enum { PASSAGE = 96 };
    for (size_t i = 0; i < n; i++) {
        ids[i] = text->ids[i % PASSAGE];
    }
}

int main(int argc, char **argv)
{
    settings set = {.n_prompt = 256, .n_generate = 128, .n_runs = 8, .n_streams = 1};
    double n_threads = 0, mtp = 0, ngram = 1;
    const char *path = BENCH_TEXT, *draft_path = NULL;
    const bench_option options[] = {{"prompt", &set.n_prompt, NULL, "tokens of the prompt"},
                                    {"generate", &set.n_generate, NULL, "tokens generated"},
                                    {"runs", &set.n_runs, NULL, "pairs of runs"},
                                    {"streams", &set.n_streams, NULL, "sequences decoding together, at most 64"},
                                    {"n-max", &set.n_max, NULL, "longest draft; 0: the default"},
                                    {"threads", &n_threads, NULL, "0: one per core"},
                                    {"draft", NULL, &draft_path, "a draft model as well"},
                                    {"ngram", &ngram, NULL, "0: without prompt lookup"},
                                    {"mtp", &mtp, NULL, "1: the model's own head as well, loaded with it"},
                                    {"text", NULL, &path, "where the prompts come from"},
                                    {0}};
    const char *model_path = bench_arguments(argc, argv, options);
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL, *draft = NULL, *headed = NULL;
    bench_check(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = (uint32_t)n_threads}, &error), &error);
    bench_check(mlxr_model_load(&model, engine, model_path, NULL, &error), &error);
    if (mtp != 0) {
        mlxr_model_options with = {.mtp = MLXR_MTP_NEEDED};
        bench_check(mlxr_model_load(&headed, engine, model_path, &with, &error), &error);
    }
    if (draft_path) {
        bench_check(mlxr_model_load(&draft, engine, draft_path, NULL, &error), &error);
    }
    size_t n_prompt = (size_t)set.n_prompt, n_all = n_prompt + 16 * (size_t)set.n_streams;
    bench_text text = bench_text_open(model, path, n_all);
    int32_t *repeated = calloc(n_all, sizeof *repeated);
    if (!repeated || set.n_streams < 1 || set.n_streams > 64) {
        fprintf(stderr, "1 to 64 streams\n");
        return 1;
    }
    repeat_passage(&text, repeated, n_all);
    set.temperature = 1; /* how far two equal runs are apart on this machine */
    compare(engine, model, NULL, DRAFT_NONE, "none", "sampled", text.ids, n_prompt, &set);
    if (headed) { /* what a head costs that never drafts: its keys */
        compare(engine, model, headed, DRAFT_IDLE, "mtp idle", "sampled", text.ids, n_prompt, &set);
    }
    for (int kind = DRAFT_NGRAM; kind <= DRAFT_MTP; kind++) {
        mlxr_model *by = kind == DRAFT_MTP ? headed : draft;
        if (kind == DRAFT_NGRAM ? ngram == 0 : !by) {
            continue;
        }
        const char *name = kind == DRAFT_NGRAM ? "ngram" : kind == DRAFT_MTP ? "mtp" : mlxr_model_info_get(by)->name;
        set.temperature = 1;
        compare(engine, model, by, (drafting)kind, name, "sampled", text.ids, n_prompt, &set);
        set.temperature = 0;
        compare(engine, model, by, (drafting)kind, name, "greedy", text.ids, n_prompt, &set);
        compare(engine, model, by, (drafting)kind, name, "repeat", repeated, n_prompt, &set);
    }
    free(repeated);
    bench_text_close(&text);
    mlxr_model_unref(&headed);
    mlxr_model_unref(&draft);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return 0;
}
