/*
 * The life of a generation, on the loop and on the pool.
 * Owner: itself. Lifetime: see generation.h.
 *
 *   loop                      pool                        elsewhere
 *   generation_start ───────▶ prepare ─▶ lease there? ──no──▶ on_ready (loader, worker, pool)
 *                                │ yes                            │
 *                                ▼                                │
 *                             compose ◀── lease_ready (loop) ◀────┘
 *                                │ scheduler_submit ───────────▶ generation_on_event (worker) ─▶ wake, last_task
 *   prepared, composed ◀─────────┘                                                              │
 *   drain, finish ◀─────────────────────────────────────────────────────────────────────────────┘
 *   finish ─────────────────▶ remember ─▶ remembered: on_done, release
 *
 * References: the pool's job, the wait for a lease, the submitted request, the job that remembers; each is passed on or
 * dropped on the loop. What fails before the scheduler has taken the request is kept in the generation and told by the
 * loop.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "server/errors.h"
#include "server/generation_parts.h"
#include "server/model_jobs.h"
#include "server/usage_save.h"

#define STORE_BYTES ((size_t)64 << 20)
#define RESPONSES_MAX 4096u
#define RESPONSES_BYTES ((size_t)256 << 20)

/* ---- what went wrong --------------------------------------------------------------------------------------------- */

void generation_fail(generation *g, int status, const char *code, const char *param, unsigned retry_s,
                     const char *format, ...)
{
    va_list args;
    if (g->failed) {
        return;
    }
    va_start(args, format);
    vsnprintf(g->message, sizeof g->message, format, args);
    va_end(args);
    text_trim_cut(g->message);
    g->failed = true;
    g->status = status;
    g->retry_s = retry_s;
    snprintf(g->code, sizeof g->code, "%s", code);
    snprintf(g->param, sizeof g->param, "%s", param ? param : "");
}

void generation_fail_no_memory(generation *g)
{
    generation_fail(g, 503, "out_of_memory", NULL, 5, "the daemon is out of memory");
}

/* ---- ending ------------------------------------------------------------------------------------------------------ */

/* It takes no place among those that are answered any more. */
static void uncount(generation *g)
{
    if (g->counted) {
        g->counted = false;
        g->gs->n_active--;
        g->gs->n_paused -= g->paused;
    }
}

static void release_model(generation *g)
{
    if (g->model) {
        model_table_release(g->d->models, g->model, g->r.keep_alive_ms);
        g->model = NULL;
    }
}

/* Loop: it waits no more for its turn to be drained. The list of those that do holds no reference. */
static void take_out(generation *g)
{
    struct generations *gs = g->gs;
    pthread_mutex_lock(&gs->lock);
    for (generation **at = &gs->ready; g->queued && *at; at = &(*at)->next_ready) {
        if (*at == g) {
            *at = g->next_ready;
            break;
        }
    }
    g->queued = false;
    pthread_mutex_unlock(&gs->lock);
}

static void release(generation *g)
{
    void (*released)(void *user) = g->job.on_released;
    void *user = g->job.user;
    struct generations *gs = g->gs;
    take_out(g); /* a client that reads on wakes it, also behind its last event */
    release_model(g);
    uncount(g);
    *(g->previous ? &g->previous->next : &gs->all) = g->next;
    if (g->next) {
        g->next->previous = g->previous;
    }
    generation_choices_close(g);
    chat_prompt_close(&g->prompt);
    chat_request_close(&g->r);
    free(g->default_stops.items);
    if (g->entry_open) {
        registry_model_close(&g->entry);
    }
    json_decref(g->job.json);
    pthread_mutex_destroy(&g->lock);
    free(g->ring.data);
    free(g->body);
    free(g);
    if (released) {
        released(user);
    }
}

/* Loop only. */
static void unref(generation *g)
{
    if (atomic_fetch_sub(&g->refs, 1) == 1) {
        release(g);
    }
}

static void tell_error(generation *g)
{
    if (!g->over) {
        g->over = true;
        g->job.callbacks->on_error(g->job.user, g->status, g->code, g->message, *g->param ? g->param : NULL,
                                   g->retry_s);
    }
}

static void tell_start(generation *g)
{
    if (!g->started && !g->over) {
        g->started = true;
        generation_info info = {.model = g->entry.name,
                                .engine = mlxr_model_info_get(g->model),
                                .n_prompt = g->prompt.n_ids,
                                .n_dropped = g->prompt.n_dropped,
                                .warnings = g->r.f.warnings};
        if (g->job.callbacks->on_start) {
            g->job.callbacks->on_start(g->job.user, &info);
        }
    }
}

/* A choice failed after the request was taken. */
static void fail_late(generation *g)
{
    char text[sizeof g->message];
    memcpy(text, g->message, sizeof text);
    /* A grammar is compiled when its request starts: failing before any token, it is the request that is wrong. */
    bool grammar = (g->r.f.grammar || g->prompt.grammar) && g->n_answer == 0;
    if (g->failure == SCHEDULER_FAILED && grammar) {
        generation_fail(g, 400, "invalid_schema", g->prompt.forced ? "tools" : "response_format", 0, "%s", text);
    } else if (g->failure == SCHEDULER_DEADLINE) {
        generation_fail(g, 504, "deadline_exceeded", NULL, 0, "the request's deadline has passed");
    } else if (g->failure == SCHEDULER_SHUTDOWN) {
        generation_fail(g, 503, "shutting_down", NULL, 10, "the daemon is shutting down");
    } else if (g->failure == SCHEDULER_CANCELLED) {
        generation_fail(g, 503, "cancelled", NULL, 1, "the request was cancelled");
    } else {
        generation_fail(g, 500, "generation_failed", NULL, 0, "%s", *text ? text : "generation failed");
    }
}

static generation_usage usage_of(const generation *g)
{
    const generation_timing *t = &g->time;
    uint64_t first = t->first_us ? t->first_us : t->end_us;
    return (generation_usage){.n_prompt = g->prompt.n_ids,
                              .n_cached = g->n_cached < g->prompt.n_ids ? g->n_cached : g->prompt.n_ids,
                              .n_answer = g->n_answer,
                              .n_reasoning = g->n_reasoning,
                              .miss = g->miss,
                              .load_us = t->ready_us - t->start_us,
                              .prompt_us = first - t->ready_us,
                              .answer_us = t->end_us - first,
                              .total_us = t->end_us - t->start_us,
                              .warnings = g->r.f.warnings,
                              .model = g->entry.name};
}

void generation_note_usage(http_exchange *x, const generation_usage *usage)
{
    route_usage note = {.n_prompt = usage->n_prompt, .n_cached = usage->n_cached, .n_generated = usage->n_answer};
    snprintf(note.model, sizeof note.model, "%s", usage->model ? usage->model : "");
    route_usage_set(x, &note);
}

/* The prompt's tokens, if reading it was begun: before that it cost nothing. */
static size_t prompt_used(const generation *g)
{
    return *g->miss ? g->prompt.n_ids : 0;
}

/* Pool: what the answer was made of, and who used how much. Before the client hears of the end: whatever it asks next
 * is to find its answer's tokens, and them counted. */
static void remember(void *user)
{
    generation *g = user;
    const generation_choice *c = &g->choices[0];
    registry_usage used = {
        .n_requests = 1, .prompt_tokens = prompt_used(g), .cached_tokens = g->n_cached, .answer_tokens = g->n_answer};
    char key[17] = "";
    if (g->job.identity.key_id) {
        snprintf(key, sizeof key, "%016llx", (unsigned long long)g->job.identity.key_id);
    }
    if (g->d->registry) {
        registry_usage_add(g->d->registry, key, g->entry.name, &used, NULL);
    }
    if (g->r.f.n_choices != 1 || g->choice_failed || c->n_ids == 0 || c->stop) {
        return; /* of several answers, or of one that was cut, nobody knows what will be sent back */
    }
    json_t *answer = json_pack("{s:s, s:s%}", "role", "assistant", "content", c->text.data ? c->text.data : "",
                               c->text.n);
    if (answer && c->reasoning.n) {
        json_object_set_new(answer, "reasoning_content", json_stringn(c->reasoning.data, c->reasoning.n));
    }
    if (answer && c->calls) {
        json_object_set(answer, "tool_calls", c->calls);
    }
    chat_prompt_remember(&g->prompt, &g->source, &g->r, c->ids, c->n_ids, answer);
    json_decref(answer);
}

/* Loop: all there is of it is known to whoever asks next. The model's lease goes in the same turn of the loop as
 * on_done comes: a client that has its answer finds the model unused, although the pool may not have turned from `g`
 * yet. */
static void remembered(void *user)
{
    generation *g = user;
    uncount(g);
    usage_save_soon(g->d);
    if (!g->over) {
        generation_usage usage = usage_of(g);
        g->over = true;
        g->job.callbacks->on_done(g->job.user, &usage);
    }
    release_model(g);
    unref(g);
}

/* Loop: the last event has come, and all before it was handed out. */
static void finish(generation *g)
{
    if (g->job.identity.key_id) { /* who leaves before the end has used what was computed until then */
        auth_spend(g->d->auth, g->job.identity.key_id, prompt_used(g) + g->n_answer);
    }
    if (g->choice_failed && !g->over) {
        fail_late(g);
        tell_error(g);
    }
    if (g->over) { /* nobody waits for its end: it takes no place any more */
        uncount(g);
    }
    if (http_work(g->d->http, remember, remembered, g) != 0) {
        remembered(g);
    }
}

static void drain(generation *g)
{
    if (!g->failed) {
        tell_start(g);
    }
    bool all = generation_drain(g);
    if (all && g->worker_done) {
        g->worker_done = false;
        finish(g);
    }
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

/* Those that have something, in the order in which they got it. */
static void drain_ready(void *user)
{
    struct generations *gs = user;
    generation *list = NULL, *next;
    pthread_mutex_lock(&gs->lock);
    for (generation *g = gs->ready; g; g = g->next_ready) {
        g->next_draining = list;
        list = g;
        g->queued = false;
        atomic_fetch_add(&g->refs, 1); /* a callback may end another one */
    }
    gs->ready = NULL;
    gs->posted = false;
    pthread_mutex_unlock(&gs->lock);
    for (generation *g = list; g; g = next) {
        next = g->next_draining;
        drain(g);
        unref(g);
    }
}

static void last_event(void *user)
{
    generation *g = user;
    take_out(g);
    g->worker_done = true;
    drain(g);
}

/* Under the lock, so that what the scheduler hears last is what is so. */
void generation_tell_paused(generation *g)
{
    scheduler *s = worker_scheduler(g->d->worker);
    if (g->submitted && g->paused) {
        scheduler_pause(s, g->id);
    } else if (g->submitted) {
        scheduler_resume(s, g->id);
    }
}

static void set_paused(generation *g, bool paused)
{
    g->gs->n_paused += g->counted ? paused - g->paused : 0;
    pthread_mutex_lock(&g->lock);
    g->paused = paused;
    generation_tell_paused(g);
    pthread_mutex_unlock(&g->lock);
}

void generation_pause(generation *g)
{
    if (!g->paused) {
        set_paused(g, true);
    }
}

void generation_resume(generation *g)
{
    if (g->paused) {
        set_paused(g, false);
        if (g->started) { /* else there is nothing of it yet, and the pool may be preparing it */
            generation_wake(g);
        }
    }
}

void generation_cancel(generation *g)
{
    pthread_mutex_lock(&g->lock);
    atomic_store(&g->cancelled, true);
    bool submitted = g->submitted;
    pthread_mutex_unlock(&g->lock);
    g->over = true;
    if (submitted) {
        scheduler_cancel(worker_scheduler(g->d->worker), g->id);
    }
    if (g->paused) { /* so that what was left goes, too */
        generation_resume(g);
    }
}

void generation_drop(generation **pointer)
{
    generation *g = *pointer;
    *pointer = NULL;
    if (g) {
        generation_cancel(g);
    }
}

const mlxr_model *generation_model(const generation *g)
{
    return g->model;
}

generation_lists generation_tokens(const generation *g)
{
    return (generation_lists){.prompt = g->prompt.ids,
                              .n_prompt = g->prompt.n_ids,
                              .answer = g->choices[0].ids,
                              .n_answer = g->choices[0].n_ids};
}

const int32_t *generation_prompt_ids(const generation *g, size_t *n)
{
    *n = g->prompt.n_ids - g->r.n_answer;
    return g->prompt.ids;
}

bool generation_answer_was_cut(const generation *g)
{
    return g->answer_cut;
}

const chat_request *generation_request(const generation *g)
{
    return &g->r;
}

/* ---- what the pool has prepared ---------------------------------------------------------------------------------- */

/* Loop: the request was taken, or it was not. */
static void tell_composed(generation *g)
{
    if (g->failed) {
        tell_error(g);
        return;
    }
    tell_start(g);
    if (g->job.prompt_only && !g->over) {
        g->time.end_us = scheduler_now_us(worker_scheduler(g->d->worker));
        generation_usage usage = usage_of(g);
        g->over = true;
        g->job.callbacks->on_done(g->job.user, &usage);
    }
}

void generation_composed(void *user)
{
    generation *g = user;
    tell_composed(g);
    unref(g);
}

static void prepared(void *user)
{
    generation *g = user;
    if (g->composed) {
        tell_composed(g);
    }
    unref(g);
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

generation *generation_start(struct daemon *d, generation_job *job)
{
    generation *g = calloc(1, sizeof *g);
    char *body = job->body ? malloc(job->n_body + 1) : NULL;
    if (!g || (job->body && !body)) {
        free(g);
        free(body);
        return NULL;
    }
    if (body) {
        memcpy(body, job->body, job->n_body);
        body[job->n_body] = 0;
    }
    g->d = d;
    g->gs = d->generations;
    g->body = body;
    g->n_body = job->n_body;
    g->job = *job;
    g->job.body = NULL;
    g->r.keep_alive_ms = MODEL_KEEP_DEFAULT;
    g->lease_task = (http_task){.fn = generation_lease_ready, .user = g};
    g->last_task = (http_task){.fn = last_event, .user = g};
    g->time.start_us = scheduler_now_us(worker_scheduler(d->worker));
    atomic_init(&g->refs, 1);
    atomic_init(&g->lease, LEASE_WAITING);
    pthread_mutex_init(&g->lock, NULL);
    if (http_work(d->http, generation_prepare, prepared, g) != 0) {
        pthread_mutex_destroy(&g->lock);
        free(body);
        free(g);
        return NULL;
    }
    g->counted = true;
    g->gs->n_active++;
    g->next = g->gs->all;
    if (g->next) {
        g->next->previous = g;
    }
    g->gs->all = g;
    return g;
}

struct response_store *generation_responses(struct daemon *d)
{
    return d->generations->responses;
}

json_t *generation_text_json(const text_buffer *text)
{
    return json_stringn(text->n ? text->data : "", text->n);
}

void generation_new_id(struct daemon *d, const char *prefix, char *out, size_t cap)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t parts[3] = {(uint64_t)now.tv_sec, (uint64_t)now.tv_nsec, atomic_fetch_add(&d->generations->n_ids, 1)};
    XXH128_hash_t hash = XXH3_128bits(parts, sizeof parts);
    snprintf(out, cap, "%s%016llx%08llx", prefix, (unsigned long long)hash.low64,
             (unsigned long long)(hash.high64 & 0xffffffffu));
}

bool generation_admit(struct daemon *d, http_exchange *x)
{
    const daemon_options *o = d->options;
    if (daemon_state_of(d) == DAEMON_DRAINING) {
        error_respond_retry(x, 503, "shutting_down", "the daemon is shutting down", 10);
        return false;
    }
    /* Who is not read takes no lane of the scheduler, for as many of them as there are lanes. */
    uint32_t n_paused = d->generations->n_paused < o->lanes_max ? d->generations->n_paused : o->lanes_max;
    if (d->generations->n_active - n_paused >= o->lanes_max + o->queue_max) {
        error_respond_retry(x, 429, "queue_full", "too many requests are waiting; try again", 1);
        return false;
    }
    return true;
}

uint32_t generation_count(const struct daemon *d)
{
    return d->generations->n_active;
}

/* Beside the registry's database. `directory`: the registry's; NULL: the usual one. */
static mlxr_status open_responses(struct generations *gs, const char *directory, mlxr_error *error)
{
    char usual[REGISTRY_PATH_MAX], path[REGISTRY_PATH_MAX + 8];
    directory = directory ? directory : registry_directory(usual, sizeof usual) ? usual : NULL;
    if (directory) {
        snprintf(path, sizeof path, "%s/.mlxr", directory);
    }
    return response_store_open(&gs->responses, directory ? path : NULL, RESPONSES_MAX, RESPONSES_BYTES, error);
}

mlxr_status generations_open(struct generations **out, struct daemon *d, mlxr_error *error)
{
    struct generations *gs = calloc(1, sizeof *gs);
    if (!gs) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return MLXR_NOMEM;
    }
    mlxr_status status = token_store_open(&gs->store, STORE_BYTES, error);
    if (status == MLXR_OK) {
        status = open_responses(gs, d->options->directory, error);
    }
    if (status != MLXR_OK) {
        token_store_close(&gs->store);
        free(gs);
        return status;
    }
    gs->d = d;
    gs->task = (http_task){.fn = drain_ready, .user = gs};
    pthread_mutex_init(&gs->lock, NULL);
    pthread_mutex_init(&gs->formats_lock, NULL);
    *out = gs;
    return MLXR_OK;
}

void generations_end(struct generations *gs)
{
    generation *next;
    if (!gs) {
        return;
    }
    atomic_store(&gs->closing, true);
    for (generation *g = gs->all; g; g = next) {
        next = g->next;
        g->over = true;
        if (g->model) {
            release(g);
        }
    }
}

void generations_close(struct generations **pointer)
{
    struct generations *gs = *pointer;
    if (!gs) {
        return;
    }
    while (gs->all) {
        gs->all->model = NULL; /* the table is closed: no lease is left */
        release(gs->all);
    }
    while (gs->formats) {
        known_format *k = gs->formats;
        gs->formats = k->next;
        free(k);
    }
    token_store_close(&gs->store);
    response_store_close(&gs->responses);
    pthread_mutex_destroy(&gs->lock);
    pthread_mutex_destroy(&gs->formats_lock);
    free(gs);
    *pointer = NULL;
}
