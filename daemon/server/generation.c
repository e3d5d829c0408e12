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
 *   finish ─────────────────▶ remember ─▶ release
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

#define STORE_BYTES ((size_t)64 << 20)
#define RESPONSES_MAX 4096u
#define RESPONSES_BYTES ((size_t)256 << 20)
#define JSON_FLAGS (JSON_REJECT_DUPLICATES)

enum { LEASE_WAITING, LEASE_READY, LEASE_AWAITED }; /* generation.lease */

typedef struct known_format { /* a model's format, found out once */
    struct known_format *next;
    const mlxr_model *model; /* compared, never followed */
    uint64_t key;
    output_format format;
} known_format;

/* ---- what went wrong --------------------------------------------------------------------------------------------- */

static void fail(generation *g, int status, const char *code, const char *param, unsigned retry_s, const char *format,
                 ...) __attribute__((format(printf, 6, 7)));

static void fail(generation *g, int status, const char *code, const char *param, unsigned retry_s, const char *format,
                 ...)
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

static void fail_no_memory(generation *g)
{
    fail(g, 503, "out_of_memory", NULL, 5, "the daemon is out of memory");
}

/* What a reader of fields said. */
static void fail_fields(generation *g)
{
    const request_fields *f = &g->r.f;
    bool long_prompt = f->error.status == MLXR_LIMIT;
    fail(g, 400, long_prompt ? "context_length_exceeded" : "invalid_value", f->field, 0, "%s", f->error.text);
}

static void fail_refused(generation *g, scheduler_refusal refusal, const mlxr_error *error)
{
    switch (refusal) {
    case SCHEDULER_QUEUE_FULL:
    case SCHEDULER_CLIENT_FULL:
        fail(g, 429, "queue_full", NULL, 1, "too many requests are waiting; try again");
        break;
    case SCHEDULER_TOO_LONG:
        fail(g, 400, "context_length_exceeded", NULL, 0, "%s", error->text);
        break;
    case SCHEDULER_NEVER_FITS:
        fail(g, 400, "memory_exceeded", NULL, 0, "%s", error->text);
        break;
    case SCHEDULER_TOO_LATE:
        fail(g, 504, "deadline_exceeded", NULL, 0, "%s", error->text);
        break;
    case SCHEDULER_CLOSING:
        fail(g, 503, "shutting_down", NULL, 10, "the daemon is shutting down");
        break;
    case SCHEDULER_NO_MEMORY:
        fail_no_memory(g);
        break;
    default:
        fail(g, 400, "invalid_value", NULL, 0, "%s", error->text);
    }
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

static void release(generation *g)
{
    void (*released)(void *user) = g->job.on_released;
    void *user = g->job.user;
    struct generations *gs = g->gs;
    if (g->model) {
        model_table_release(g->d->models, g->model, g->r.keep_alive_ms);
    }
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
        fail(g, 400, "invalid_schema", g->prompt.forced ? "tools" : "response_format", 0, "%s", text);
    } else if (g->failure == SCHEDULER_DEADLINE) {
        fail(g, 504, "deadline_exceeded", NULL, 0, "the request's deadline has passed");
    } else if (g->failure == SCHEDULER_SHUTDOWN) {
        fail(g, 503, "shutting_down", NULL, 10, "the daemon is shutting down");
    } else if (g->failure == SCHEDULER_CANCELLED) {
        fail(g, 503, "cancelled", NULL, 1, "the request was cancelled");
    } else {
        fail(g, 500, "generation_failed", NULL, 0, "%s", *text ? text : "generation failed");
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

/* Pool: what the answer was made of, and who used how much. */
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

static void remembered(void *user)
{
    unref(user);
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
    } else if (!g->over) {
        generation_usage usage = usage_of(g);
        g->over = true;
        g->job.callbacks->on_done(g->job.user, &usage);
    }
    uncount(g); /* what is remembered is nobody's load */
    if (http_work(g->d->http, remember, remembered, g) != 0) {
        unref(g);
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

static void take_out(struct generations *gs, const generation *g)
{
    for (generation **at = &gs->ready; *at; at = &(*at)->next_ready) {
        if (*at == g) {
            *at = g->next_ready;
            return;
        }
    }
}

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
    pthread_mutex_lock(&g->gs->lock);
    if (g->queued) {
        take_out(g->gs, g);
        g->queued = false;
    }
    pthread_mutex_unlock(&g->gs->lock);
    g->worker_done = true;
    drain(g);
}

/* Under the lock, so that what the scheduler hears last is what is so. */
static void tell_paused(generation *g)
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
    tell_paused(g);
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
        generation_wake(g);
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

const chat_request *generation_request(const generation *g)
{
    return &g->r;
}

/* ---- the pool: name, model, request ------------------------------------------------------------------------------ */

/* A parameter of the model's own as JSON: {"stop": […], "temperature": 0.6}. Names as Ollama has them. */
static json_t *own_parameters(const registry_pairs *pairs)
{
    json_t *made = json_object();
    for (size_t i = 0; made && i < pairs->n; i++) {
        const char *name = pairs->items[i].name, *text = pairs->items[i].value;
        bool stop = strcmp(name, "stop") == 0;
        json_t *value = stop ? NULL : json_loads(text, JSON_DECODE_ANY, NULL);
        value = value ? value : json_string(text);
        if (stop) {
            json_t *list = json_object_get(made, "stop");
            list = list ? list : (json_object_set_new(made, "stop", json_array()), json_object_get(made, "stop"));
            json_array_append_new(list, value);
        } else {
            json_object_set_new(made, strcmp(name, "num_predict") == 0 ? "max_tokens" : name, value);
        }
    }
    return made;
}

/* What the model's own parameters change of the defaults; those that are none of ours are left alone. */
static void apply_parameters(generation *g)
{
    json_t *own = own_parameters(&g->entry.parameters);
    const char *key;
    json_t *value;
    json_object_foreach(own, key, value)
    {
        request_fields trial = g->r.f;
        field_table table = {request_fields_common, n_request_fields_common, &trial};
        json_t *one = json_pack("{s:O}", key, value);
        if (strcmp(key, "stop") == 0) {
            for (size_t i = 0; i < json_array_size(value); i++) {
                const char *text = json_string_value(json_array_get(value, i));
                for (size_t k = 0; text && k < g->entry.parameters.n; k++) { /* a text that lives as long */
                    if (strcmp(g->entry.parameters.items[k].value, text) == 0) {
                        text_list_add(&g->default_stops, g->entry.parameters.items[k].value);
                        break;
                    }
                }
            }
        } else if (strcmp(key, "num_ctx") == 0) {
            g->r.n_ctx = json_integer_value(value) > 0 ? (uint32_t)json_integer_value(value) : 0;
        } else if (one && json_is_number(value) && request_fields_read(&trial, one, &table, 1)) {
            g->r.f.sampling = trial.sampling;
            g->r.f.max_tokens = trial.max_tokens;
        }
        json_decref(one);
    }
    g->r.f.stops = g->default_stops;
    json_decref(own);
}

static json_t *load_body(generation *g)
{
    json_error_t where;
    if (g->job.json) {
        json_t *taken = g->job.json;
        g->job.json = NULL;
        return taken;
    }
    json_t *made = json_loadb(g->body, g->n_body, JSON_FLAGS, &where);
    free(g->body);
    g->body = NULL;
    if (!made) {
        fail(g, 400, "invalid_json", NULL, 0, "the body is no JSON: line %d, column %d: %s", where.line, where.column,
             where.text);
    } else if (!json_is_object(made)) {
        fail(g, 400, "invalid_json", NULL, 0, "the body must be a JSON object");
        json_decref(made);
        made = NULL;
    }
    return made;
}

/* The name asked for, or the only model that the daemon was started with. */
static const char *name_of(generation *g, const json_t *body)
{
    const json_t *model = json_object_get(body, "model");
    const char *name = json_string_value(model);
    if (name && *name) {
        return name;
    }
    if (model && !json_is_null(model)) {
        fail(g, 400, "invalid_value", "model", 0, "model must be a name");
        return NULL;
    }
    if (g->job.default_model && *g->d->default_model) {
        return g->d->default_model;
    }
    fail(g, 400, "missing_field", "model", 0, "model is missing: the name of one of the models of /v1/models");
    return NULL;
}

static bool find_model(generation *g, const json_t *body)
{
    mlxr_error error;
    const char *name = name_of(g, body);
    if (!name) {
        return false;
    }
    if (!auth_allows_model(&g->job.identity, name)) {
        fail(g, 403, "model_not_allowed", "model", 0, "this key may not use the model '%.100s'", name);
        return false;
    }
    mlxr_status status = registry_resolve(g->d->registry, name, &g->entry, &error);
    if (status != MLXR_OK) {
        char text[sizeof error.text];
        error_model_text(&g->job.identity, name, error.text, text, sizeof text);
        bool unknown = status == MLXR_ARG;
        fail(g, unknown ? 404 : 500, unknown ? "model_not_found" : "registry_failed", "model", 0, "%s",
             unknown ? text : error.text);
        return false;
    }
    g->entry_open = true;
    if (!auth_allows_model(&g->job.identity, g->entry.name)) {
        fail(g, 403, "model_not_allowed", "model", 0, "this key may not use the model '%.100s'", g->entry.name);
        return false;
    }
    return true;
}

/* The same while the file is: tokens that were kept mean nothing to another one. */
static void name_source(generation *g)
{
    uint64_t size[2] = {g->entry.n_bytes, (uint64_t)g->entry.modified_us};
    XXH128_hash_t hash = XXH3_128bits_withSeed(g->entry.path, strlen(g->entry.path), XXH3_64bits(size, sizeof size));
    snprintf(g->r.source, sizeof g->r.source, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

static bool has_role(const json_t *messages, size_t i, const char *role)
{
    const char *own = json_string_value(json_object_get(json_array_get(messages, i), "role"));
    return own && strcmp(own, role) == 0;
}

/* The system message that the model was made with, unless there is one, and behind it the turns it was made with. */
static void add_own_messages(chat_request *r, const registry_model *m)
{
    size_t at = 0;
    if (!r->plain_system && m->system && *m->system && !has_role(r->messages, 0, "system")) {
        json_array_insert_new(r->messages, 0, json_pack("{s:s, s:s}", "role", "system", "content", m->system));
    }
    while (has_role(r->messages, at, "system")) {
        at++;
    }
    for (size_t i = 0; i < m->messages.n && r->n_before == 0; i++) {
        json_array_insert_new(
            r->messages, at + i,
            json_pack("{s:s, s:s}", "role", m->messages.items[i].name, "content", m->messages.items[i].value));
    }
}

static bool read_request(generation *g, json_t *body)
{
    if (!chat_request_open(&g->r, body, NULL)) { /* it owns the body from here on */
        fail_fields(g);
        return false;
    }
    apply_parameters(g);
    g->r.f.client = g->job.identity.client;
    g->r.any_length = g->job.prompt_only;
    g->r.model = g->entry.name;
    name_source(g);
    if (!g->job.parse(g->job.user, &g->r) || !chat_request_check(&g->r)) {
        fail_fields(g);
        return false;
    }
    if (g->r.messages) {
        add_own_messages(&g->r, &g->entry);
    }
    return true;
}

/* ---- the pool: prompt, scheduler --------------------------------------------------------------------------------- */

static output_format format_of(struct generations *gs, const mlxr_model *model, const char *template_text, uint64_t key)
{
    pthread_mutex_lock(&gs->formats_lock);
    known_format *k = gs->formats;
    while (k && (k->key != key || k->model != model)) {
        k = k->next;
    }
    output_format found = k ? k->format : (output_format){0};
    pthread_mutex_unlock(&gs->formats_lock);
    if (k) {
        return found;
    }
    found = output_format_choose(model, template_text);
    known_format *made = malloc(sizeof *made);
    if (made) {
        *made = (known_format){.model = model, .key = key, .format = found};
        pthread_mutex_lock(&gs->formats_lock);
        made->next = gs->formats;
        gs->formats = made;
        pthread_mutex_unlock(&gs->formats_lock);
    }
    return found;
}

static void submit(generation *g)
{
    mlxr_error error;
    scheduler *s = worker_scheduler(g->d->worker);
    scheduler_refusal refusal = SCHEDULER_TAKEN;
    chat_request *r = &g->r;
    size_t room = mlxr_model_info_get(g->model)->n_ctx;
    room = r->n_ctx && r->n_ctx < room ? r->n_ctx : room;
    size_t left = room - g->prompt.n_ids;
    scheduler_request ask = {.model = g->model,
                             .tokens = g->prompt.ids,
                             .n_tokens = g->prompt.n_ids,
                             .sampling = &r->f.sampling,
                             .n_choices = r->f.n_choices,
                             .max_tokens = r->f.max_tokens && r->f.max_tokens < left ? r->f.max_tokens : (uint32_t)left,
                             .grammar = g->prompt.grammar ? g->prompt.grammar : r->f.grammar,
                             .grammar_is_schema = g->prompt.grammar ? true : r->f.grammar_is_schema,
                             .n_given = r->n_answer,
                             .draft = r->draft && strcmp(r->draft, "ngram") == 0,
                             .priority = r->f.priority,
                             .client = r->f.client,
                             .deadline_us = r->deadline_ms ? g->time.start_us + r->deadline_ms * UINT64_C(1000) : 0,
                             .name = g->entry.name,
                             .received_us = g->time.start_us,
                             .on_event = generation_on_event,
                             .user = g};
    atomic_fetch_add(&g->refs, 1); /* of the submitted request; before events can come */
    if (scheduler_submit(s, &ask, &g->id, &refusal, &error) != MLXR_OK) {
        atomic_fetch_sub(&g->refs, 1);
        fail_refused(g, refusal, &error);
        return;
    }
    pthread_mutex_lock(&g->lock);
    g->submitted = true;
    if (g->paused) {
        tell_paused(g);
    }
    bool cancelled = atomic_load(&g->cancelled);
    pthread_mutex_unlock(&g->lock);
    if (cancelled) {
        scheduler_cancel(s, g->id);
    }
}

/* The model is there. */
static void compose(generation *g)
{
    mlxr_error error;
    g->time.ready_us = scheduler_now_us(worker_scheduler(g->d->worker));
    if (!g->model) {
        bool limit = g->lease_error.status == MLXR_LIMIT || g->lease_error.status == MLXR_NOMEM;
        fail(g, limit ? 503 : 500, limit ? "no_room_for_model" : "model_failed", "model", limit ? 5 : 0, "%s",
             g->lease_error.text);
        return;
    }
    if (atomic_load(&g->cancelled)) {
        fail(g, 499, "cancelled", NULL, 0, "cancelled");
        return;
    }
    chat_request *r = &g->r;
    const char *template_text = r->template_text ? r->template_text : g->entry.template_text;
    uint64_t key = XXH3_64bits(g->entry.path, strlen(g->entry.path));
    key = template_text ? XXH3_64bits_withSeed(template_text, strlen(template_text), key) : key;
    g->format = format_of(g->gs, g->model, template_text, key);
    g->source = (chat_model){
        .model = g->model, .template_text = template_text, .format = &g->format, .key = key, .store = g->gs->store};
    if (r->messages && r->prompt && !template_text && !mlxr_model_info_get(g->model)->has_chat_template) {
        request_fields_warn(&r->f, "this model has no chat template: it reads the prompt as it is%s",
                            json_array_size(r->messages) > 1 ? ", without the system message" : "");
        json_decref(r->messages);
        r->messages = NULL;
    }
    if (mlxr_sampling_check(g->model, &g->r.f.sampling, &error) != MLXR_OK) {
        fail(g, 400, "invalid_value", NULL, 0, "%s", error.text);
    } else if (!chat_prompt_make(&g->prompt, &g->source, &g->r)) {
        fail_fields(g);
    } else if (g->job.prompt_only) {
        return;
    } else if (generation_choices_open(g, &error) != MLXR_OK) {
        fail(g, error.status == MLXR_NOMEM ? 503 : 400, "invalid_value", "stop", 0, "%s", error.text);
    } else {
        submit(g);
    }
}

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

static void composed(void *user)
{
    generation *g = user;
    tell_composed(g);
    unref(g);
}

static void compose_later(void *user)
{
    compose(user);
}

/* Loop: a model that had to be waited for. */
static void lease_ready(void *user)
{
    generation *g = user;
    if (http_work(g->d->http, compose_later, composed, g) != 0) {
        fail_no_memory(g);
        composed(g);
    }
}

static void on_ready(void *user, mlxr_model *model, const mlxr_error *error)
{
    generation *g = user;
    g->model = model;
    if (!model) {
        g->lease_error = *error;
    }
    if (atomic_exchange(&g->lease, LEASE_READY) == LEASE_AWAITED && !atomic_load(&g->gs->closing)) {
        http_post_task(g->d->http, &g->lease_task);
    }
}

/* False: the model has to be waited for; then `g` may be another thread's already, and nothing of it is touched. */
static bool prepare_now(generation *g)
{
    mlxr_error error;
    json_t *body = load_body(g);
    if (!body) {
        return true;
    }
    if (!find_model(g, body)) {
        json_decref(body);
        return true;
    }
    if (!read_request(g, body)) {
        return true;
    }
    model_jobs_note_name(g->d->jobs, g->entry.path, g->entry.name);
    atomic_fetch_add(&g->refs, 1); /* of the wait; dropped here or by `composed` */
    if (model_table_acquire(g->d->models, g->entry.path, 0, on_ready, g, &error) != MLXR_OK) {
        atomic_fetch_sub(&g->refs, 1);
        bool busy = error.status == MLXR_LIMIT;
        fail(g, busy ? 429 : 503, busy ? "queue_full" : "model_failed", "model", 1, "%s", error.text);
        return true;
    }
    if (atomic_exchange(&g->lease, LEASE_AWAITED) != LEASE_READY) {
        return false;
    }
    atomic_fetch_sub(&g->refs, 1);
    compose(g);
    return true;
}

static void prepare(void *user)
{
    generation *g = user;
    if (prepare_now(g)) {
        g->composed = true;
    }
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
    g->lease_task = (http_task){.fn = lease_ready, .user = g};
    g->last_task = (http_task){.fn = last_event, .user = g};
    g->time.start_us = scheduler_now_us(worker_scheduler(d->worker));
    atomic_init(&g->refs, 1);
    atomic_init(&g->lease, LEASE_WAITING);
    pthread_mutex_init(&g->lock, NULL);
    if (http_work(d->http, prepare, prepared, g) != 0) {
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
