/*
 * GET /metrics: the daemon's parts are asked when somebody asks; what only the engine's thread knows is as old as the
 * watchdog's last beat, so that nobody waits for a step.
 * Owner: the daemon. Lifetime: the daemon's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "server/daemon_private.h"
#include "server/errors.h"
#include "server/telemetry_routes.h"
#include "telemetry/logger.h"
#include "telemetry/metric_table.h"

static void set(metrics *m, metric_id id, double value)
{
    metric_set(metrics_series(m, id, NULL), value);
}

static void set_of(metrics *m, metric_id id, const char *label, double value)
{
    metric_set(metrics_series(m, id, &label), value);
}

/* ---- the scheduler ---- */

static void collect_drafts(metrics *m, const mlxr_draft_stats *d)
{
    set(m, METRIC_SPEC_DRAFTS, (double)d->n_drafting_steps);
    set(m, METRIC_SPEC_DRAFT_TOKENS, (double)d->n_drafted);
    set(m, METRIC_SPEC_ACCEPTED_TOKENS, (double)d->n_accepted);
    for (size_t i = 0; i < sizeof d->drafted_at / sizeof *d->drafted_at; i++) {
        char position[16];
        snprintf(position, sizeof position, "%zu", i);
        set_of(m, METRIC_SPEC_DRAFT_TOKENS_PER_POS, position, (double)d->drafted_at[i]);
        set_of(m, METRIC_SPEC_ACCEPTED_TOKENS_PER_POS, position, (double)d->accepted_at[i]);
    }
}

static void collect_scheduler(metrics *m, scheduler *s)
{
    scheduler_stats t = scheduler_stats_get(s);
    set(m, METRIC_REQUESTS_RUNNING, t.n_running);
    set(m, METRIC_REQUESTS_WAITING, t.n_queued);
    set(m, METRIC_REQUESTS_PAUSED, t.n_paused);
    set(m, METRIC_REQUESTS_STALLED, t.n_stalled);
    set(m, METRIC_PREEMPTIONS, (double)t.n_preempted);
    set(m, METRIC_STEPS, (double)t.n_steps);
    set(m, METRIC_STEPS_FAILED, (double)t.n_steps_failed);
    set(m, METRIC_STEP_ROWS, (double)t.n_rows);
    set(m, METRIC_STEP_SECONDS, (double)t.step_us / 1e6);
    set(m, METRIC_STEP_CPU_SECONDS, (double)t.step_cpu_us / 1e6);
    set(m, METRIC_STEP_SECONDS_MAX, (double)t.step_max_us / 1e6);
    set(m, METRIC_SCHEDULER_SECONDS, (double)t.own_us / 1e6);
    set(m, METRIC_STEP_ERROR_SECONDS, t.error_us / 1e6);
    set_of(m, METRIC_ADMISSION_HELD, "lanes", (double)t.n_held_lanes);
    set_of(m, METRIC_ADMISSION_HELD, "memory", (double)t.n_held_memory);
    set_of(m, METRIC_ADMISSION_HELD, "paused", (double)t.n_held_paused);
    set_of(m, METRIC_GRAMMARS, "found", (double)t.n_grammars_found);
    set_of(m, METRIC_GRAMMARS, "compiled", (double)(t.n_grammars - t.n_grammars_found));
    for (uint32_t i = SCHEDULER_TAKEN + 1; i < SCHEDULER_N_REFUSALS; i++) {
        set_of(m, METRIC_REQUEST_REFUSED, scheduler_refusal_name((scheduler_refusal)i), (double)t.n_refused[i]);
    }
    for (uint32_t i = 0; i < SCHEDULER_N_MISSES; i++) {
        set_of(m, METRIC_PREFIX_MISSES, scheduler_miss_name(i), (double)t.n_misses[i]);
    }
    collect_drafts(m, &t.drafts);
}

/* ---- the KV cache ---- */

static void collect_kv(metrics *m, const mlxr_kv_stats *k)
{
    uint64_t running = k->bytes_used - k->bytes_cached;
    set(m, METRIC_KV_USAGE, k->bytes_budget ? (double)running / (double)k->bytes_budget : 0);
    set_of(m, METRIC_KV_BYTES, "running", (double)running);
    set_of(m, METRIC_KV_BYTES, "cached", (double)k->bytes_cached);
    set_of(m, METRIC_KV_BYTES, "free", (double)(k->bytes_budget - k->bytes_used));
    set(m, METRIC_KV_EVICTED_BYTES, (double)k->n_evicted_bytes);
    set(m, METRIC_PREFIX_QUERIES, (double)(k->tokens_hit + k->tokens_missed));
    set(m, METRIC_PREFIX_HITS, (double)k->tokens_hit);
    set(m, METRIC_KV_DISK_FILES, (double)k->disk_files);
    set(m, METRIC_KV_DISK_BYTES, (double)k->disk_bytes);
    set_of(m, METRIC_KV_DISK_BLOCKS, "hit", (double)k->disk_hits);
    set_of(m, METRIC_KV_DISK_BLOCKS, "rejected", (double)k->disk_rejected);
    set_of(m, METRIC_KV_DISK_BLOCKS, "write_error", (double)k->disk_write_errors);
    set_of(m, METRIC_KV_DISK_BLOCKS, "dropped", (double)k->disk_dropped);
}

static void collect_experts(metrics *m, const mlxr_expert_stats *x)
{
    set_of(m, METRIC_EXPERT_BYTES, "all", (double)x->bytes_all);
    set_of(m, METRIC_EXPERT_BYTES, "budget", (double)x->bytes_budget);
    set_of(m, METRIC_EXPERT_BYTES, "hot", (double)x->bytes_hot);
    set_of(m, METRIC_EXPERT_BYTES, "locked", (double)x->bytes_locked);
    set_of(m, METRIC_EXPERT_USES, "hit", (double)x->n_hits);
    set_of(m, METRIC_EXPERT_USES, "miss", (double)x->n_misses);
    set(m, METRIC_EXPERT_READ_BYTES, (double)x->bytes_read);
}

/* ---- models ---- */

typedef struct loaded_model {
    char path[REGISTRY_PATH_MAX], name[REGISTRY_NAME_MAX + 1];
    uint64_t weight_bytes, kv_bytes_per_token;
    uint32_t n_uses;
    bool pinned;
} loaded_model;

typedef struct loaded_models {
    loaded_model *items; /* [n] of room for 64 */
    size_t n;
} loaded_models;

#define LOADED_MAX 64u

static void note_model(void *user, const model_table_item *item)
{
    loaded_models *list = user;
    if (!item->info || list->n == LOADED_MAX) {
        return;
    }
    loaded_model *m = &list->items[list->n++];
    const char *slash = strrchr(item->path, '/');
    *m = (loaded_model){.weight_bytes = item->info->weight_bytes,
                        .kv_bytes_per_token = item->info->kv_bytes_per_token,
                        .n_uses = item->n_uses,
                        .pinned = item->pinned};
    snprintf(m->path, sizeof m->path, "%s", item->path);
    snprintf(m->name, sizeof m->name, "%.*s", (int)sizeof m->name - 1, slash ? slash + 1 : item->path);
}

/* What the registry calls the file. */
static mlxr_status name_model(void *user, const registry_model *known, mlxr_error *error)
{
    const loaded_models *list = user;
    (void)error;
    for (size_t i = 0; i < list->n && !known->alias_of; i++) {
        if (known->path && strcmp(list->items[i].path, known->path) == 0) {
            snprintf(list->items[i].name, sizeof list->items[i].name, "%s", known->name);
        }
    }
    return MLXR_OK;
}

static void collect_model_table(metrics *m, model_table *table)
{
    model_table_stats t = model_table_stats_get(table);
    set(m, METRIC_MODELS_LOADED, t.n_loaded);
    set(m, METRIC_MODELS_WAITING, t.n_waiting);
    set_of(m, METRIC_MODEL_LOADS, "no", (double)(t.n_loads - t.n_reloads));
    set_of(m, METRIC_MODEL_LOADS, "yes", (double)t.n_reloads);
    set_of(m, METRIC_MODEL_UNLOADS, "keep_alive", (double)t.n_expired);
    set_of(m, METRIC_MODEL_UNLOADS, "asked", (double)t.n_dismissed);
    set_of(m, METRIC_MODEL_UNLOADS, "room", (double)t.n_for_room);
    set_of(m, METRIC_MODEL_LOAD_FAILURES, "never_fits", (double)t.n_never_fits);
    set_of(m, METRIC_MODEL_LOAD_FAILURES, "late", (double)t.n_late);
    set_of(m, METRIC_MODEL_LOAD_FAILURES, "failed", (double)(t.n_failed - t.n_never_fits - t.n_late));
    set(m, METRIC_MODEL_LOAD_SECONDS, (double)t.load_us / 1e6);
}

static void collect_models(metrics *m, const struct daemon *d)
{
    static const metric_id each[] = {METRIC_MODEL_WEIGHT_BYTES, METRIC_MODEL_KV_BYTES_PER_TOKEN, METRIC_MODEL_USES,
                                     METRIC_MODEL_PINNED};
    loaded_models list = {.items = calloc(LOADED_MAX, sizeof *list.items)};
    mlxr_error ignored;
    collect_model_table(m, d->models);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        metrics_hide(m, each[i]); /* models come and go */
    }
    if (list.items) {
        model_table_each(d->models, note_model, &list);
        registry_each(d->registry, name_model, &list, &ignored);
    }
    for (size_t i = 0; i < list.n; i++) {
        const loaded_model *l = &list.items[i];
        const double values[] = {(double)l->weight_bytes, (double)l->kv_bytes_per_token, l->n_uses, l->pinned};
        for (size_t j = 0; j < sizeof each / sizeof *each; j++) {
            set_of(m, each[j], l->name, values[j]);
        }
    }
    free(list.items);
}

/* ---- the rest ---- */

static void collect_log(metrics *m, logger *l)
{
    logger_stats t = logger_stats_get(l);
    for (unsigned i = 0; i < 4; i++) {
        set_of(m, METRIC_LOG_LINES, log_level_name((mlxr_log_level)i), (double)t.n_lines[i]);
    }
    set(m, METRIC_LOG_DROPPED, (double)(t.n_dropped + t.n_write_errors));
}

static void collect(void *user, metrics *m)
{
    struct daemon_private *p = user;
    const struct daemon *d = p->d;
    pthread_mutex_lock(&p->lock);
    mlxr_kv_stats kv = p->kv;
    mlxr_expert_stats experts = p->experts;
    pthread_mutex_unlock(&p->lock);
    collect_scheduler(m, worker_scheduler(d->worker));
    collect_kv(m, &kv);
    collect_experts(m, &experts);
    collect_models(m, d);
    if (d->options->logger) {
        collect_log(m, d->options->logger);
    }
    const mlxr_engine_info *info = mlxr_engine_info_get(d->engine);
    const char *const build[] = {mlxr_version(), info->backend, info->cpu_features};
    metric_set(metrics_series(m, METRIC_BUILD_INFO, build), 1);
    set(m, METRIC_PROCESS_START_TIME, (double)daemon_started_s(d));
}

mlxr_status telemetry_open(struct daemon_private *p, mlxr_error *error)
{
    mlxr_status status = metrics_open(&p->d->metrics, metric_table, METRIC_COUNT, error);
    status = status == MLXR_OK ? metrics_on_scrape(p->d->metrics, metrics_collect_process, NULL, error) : status;
    return status == MLXR_OK ? metrics_on_scrape(p->d->metrics, collect, p, error) : status;
}

/* ---- the route ---- */

typedef struct scrape {
    struct daemon *d;
    http_exchange *x; /* NULL: the client has left */
    char *text;
    size_t n;
} scrape;

static void scrape_work(void *user)
{
    scrape *s = user;
    mlxr_error ignored;
    if (metrics_render(s->d->metrics, &s->text, &s->n, &ignored) != MLXR_OK) {
        s->text = NULL;
    }
}

static void scrape_done(void *user)
{
    scrape *s = user;
    if (s->x) {
        http_on_gone(s->x, NULL, NULL);
        http_header_add(s->x, "Cache-Control", "no-store");
        if (s->text) {
            http_respond(s->x, 200, METRICS_CONTENT_TYPE, s->text, s->n);
        } else {
            error_respond(s->x, 503, NULL, "out of memory", NULL);
        }
    }
    free(s->text);
    free(s);
}

void metrics_answer(void *service, http_exchange *x)
{
    struct daemon *d = service;
    http_stats h = http_stats_get(d->http); /* the loop's own */
    set(d->metrics, METRIC_HTTP_CONNECTIONS, h.n_connections);
    set(d->metrics, METRIC_HTTP_EXCHANGES, h.n_exchanges);
    scrape *s = calloc(1, sizeof *s);
    if (s) {
        *s = (scrape){.d = d, .x = x};
        http_on_gone_forget(&s->x);
    }
    if (!s || http_work(d->http, scrape_work, scrape_done, s) != 0) {
        if (s) {
            http_on_gone(x, NULL, NULL);
        }
        free(s);
        error_respond(x, 503, NULL, "out of memory", NULL);
    }
}
