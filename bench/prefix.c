/*
 * A prompt shared by requests: time to the first token cold, found in memory, and found on disk after a restart.
 * Owner: the program. Lifetime: its main; each phase is a process of its own. One thread.
 *
 * Every request is the shared prompt and a question of its own behind it; --question tokens are always computed.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

typedef struct settings {
    const char *model, *text, *dir;
    double n_prompt, n_question, n_threads, n_runs;
} settings;

typedef struct first {
    double begin_ms, ms; /* from submission to the first token */
    size_t n_cached;
    bool done;
} first;

typedef struct figures { /* what a phase tells the next */
    double cold_ms, memory_ms, disk_ms, open_ms;
    size_t n_cached;
} figures;

static bool on_event(void *user, const scheduler_event *event)
{
    first *f = user;
    if (event->error) {
        fprintf(stderr, "%s\n", event->error);
        exit(1);
    }
    if (!f->done) {
        f->ms = bench_now_ms() - f->begin_ms;
        f->n_cached = event->n_cached;
        f->done = true;
    }
    return true;
}

typedef struct opened {
    mlxr_engine *engine;
    mlxr_model *model;
    scheduler *scheduler;
    bench_text text;
} opened;

static opened open_all(const settings *set)
{
    opened o = {0};
    mlxr_error error;
    bench_check(mlxr_engine_open(&o.engine,
                                 &(mlxr_engine_options){.n_threads = (uint32_t)set->n_threads, .kv_dir = set->dir},
                                 &error),
                &error);
    bench_check(mlxr_model_load(&o.model, o.engine, set->model, NULL, &error), &error);
    bench_check(scheduler_open(&o.scheduler, o.engine, NULL, &error), &error);
    o.text = bench_text_open(o.model, set->text, (size_t)(set->n_prompt + (set->n_runs + 2) * set->n_question));
    return o;
}

static void close_all(opened *o)
{
    scheduler_close(&o->scheduler);
    bench_text_close(&o->text);
    mlxr_model_unref(&o->model);
    mlxr_engine_close(&o->engine);
}

/* Request number `which` has a question of its own. */
static first ask(const opened *o, const settings *set, size_t which)
{
    size_t n_prompt = (size_t)set->n_prompt, n_question = (size_t)set->n_question;
    int32_t *ids = malloc((n_prompt + n_question) * sizeof *ids);
    mlxr_sampling greedy = mlxr_sampling_default();
    mlxr_error error;
    if (!ids) {
        exit(1);
    }
    greedy.temperature = 0;
    memcpy(ids, o->text.ids, n_prompt * sizeof *ids);
    memcpy(ids + n_prompt, o->text.ids + n_prompt + which * n_question, n_question * sizeof *ids);
    first f = {.begin_ms = bench_now_ms()};
    bench_check(scheduler_submit(o->scheduler,
                                 &(scheduler_request){.model = o->model,
                                                      .tokens = ids,
                                                      .n_tokens = n_prompt + n_question,
                                                      .sampling = &greedy,
                                                      .max_tokens = 1,
                                                      .on_event = on_event,
                                                      .user = &f},
                                 NULL, NULL, &error),
                &error);
    while (scheduler_step(o->scheduler).worked) {
    }
    free(ids);
    return f;
}

static void first_life(const settings *set, figures *out)
{
    opened o = open_all(set);
    size_t n = (size_t)set->n_runs;
    double *ms = calloc(n, sizeof *ms);
    out->cold_ms = ask(&o, set, 0).ms;
    for (size_t i = 0; ms && i < n; i++) {
        first f = ask(&o, set, 1 + i);
        ms[i] = f.ms;
        out->n_cached = f.n_cached;
    }
    out->memory_ms = quantile_of(ms, n, 0.5);
    free(ms);
    close_all(&o);
}

static void second_life(const settings *set, figures *out)
{
    double begin_ms = bench_now_ms();
    opened o = open_all(set);
    out->open_ms = bench_now_ms() - begin_ms;
    first f = ask(&o, set, (size_t)set->n_runs + 1);
    out->disk_ms = f.ms;
    out->n_cached = f.n_cached < out->n_cached ? f.n_cached : out->n_cached;
    printf("{\"test\":\"prefix\",\"model\":\"%s\",\"prompt\":%.0f,\"question\":%.0f,\"cached\":%zu,\"cold_ms\":%.1f,"
           "\"memory_ms\":%.2f,\"memory_ratio\":%.1f,\"disk_ms\":%.2f,\"disk_ratio\":%.1f,\"restart_ms\":%.0f}\n",
           mlxr_model_info_get(o.model)->name, set->n_prompt, set->n_question, out->n_cached, out->cold_ms,
           out->memory_ms, out->cold_ms / out->memory_ms, out->disk_ms, out->cold_ms / out->disk_ms, out->open_ms);
    close_all(&o);
}

/* Runs one phase in a process of its own; the figures come back through a pipe. */
static void run_apart(void (*phase)(const settings *, figures *), const settings *set, figures *out)
{
    int ends[2], status = 1;
    pid_t child = pipe(ends) == 0 ? fork() : -1;
    if (child == 0) {
        phase(set, out);
        bool sent = write(ends[1], out, sizeof *out) == (ssize_t)sizeof *out;
        fflush(stdout);
        _exit(!sent);
    }
    bool got = child > 0 && read(ends[0], out, sizeof *out) == (ssize_t)sizeof *out;
    if (!got || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "a phase failed\n");
        exit(1);
    }
    close(ends[0]);
    close(ends[1]);
}

static void remove_dir(const char *path)
{
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        char name[1024];
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlink(name) != 0) {
            remove_dir(name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    rmdir(path);
}

int main(int argc, char **argv)
{
    char temporary[] = "/tmp/mlxr-prefix-XXXXXX";
    settings set = {.text = BENCH_TEXT, .n_prompt = 7168, .n_question = 24, .n_runs = 5};
    const bench_option options[] = {{"prompt", &set.n_prompt, NULL, "tokens shared"},
                                    {"question", &set.n_question, NULL, "tokens of each request behind them"},
                                    {"runs", &set.n_runs, NULL, "requests served from memory, of which the median"},
                                    {"threads", &set.n_threads, NULL, "0: one per core"},
                                    {"text", NULL, &set.text, "where the prompts come from"},
                                    {"kv-dir", NULL, &set.dir, "where pages are kept; none: a temporary directory"},
                                    {0}};
    set.model = bench_arguments(argc, argv, options);
    bool own_dir = !set.dir;
    if (own_dir && !(set.dir = mkdtemp(temporary))) {
        fprintf(stderr, "no temporary directory\n");
        return 1;
    }
    figures f = {0};
    run_apart(first_life, &set, &f);
    run_apart(second_life, &set, &f);
    if (own_dir) {
        remove_dir(set.dir);
    }
    return 0;
}
