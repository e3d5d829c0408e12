/*
 * What is done for a generation before the scheduler has it: the model found and leased, the request read, the prompt
 * made of it. On the pool, but for the wait for a lease.
 * Owner: the generation. Lifetime: from generation_start to `generation_composed`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "server/adapters.h"
#include "server/errors.h"
#include "server/generation_parts.h"
#include "server/model_jobs.h"

/* ---- what is wrong with it --------------------------------------------------------------------------------------- */

/* What a reader of fields said. */
static void fail_fields(generation *g)
{
    const request_fields *f = &g->r.f;
    bool long_prompt = f->error.status == MLXR_LIMIT;
    if (f->error.status == MLXR_NOMEM) {
        generation_fail_no_memory(g);
        return;
    }
    generation_fail(g, 400, long_prompt ? "context_length_exceeded" : "invalid_value", f->field, 0, "%s",
                    f->error.text);
}

/* Of their files; with the words that embeddings have for the same. */
static void fail_adapters(generation *g, const mlxr_error *error)
{
    int status = error_status_of(error->status);
    if (error->status == MLXR_NOMEM) {
        generation_fail_no_memory(g);
        return;
    }
    generation_fail(g, status, status == 400 ? "invalid_value" : "internal_error", "lora", 0, "%s", error->text);
}

static void fail_refused(generation *g, scheduler_refusal refusal, const mlxr_error *error)
{
    switch (refusal) {
    case SCHEDULER_QUEUE_FULL:
    case SCHEDULER_CLIENT_FULL:
        generation_fail(g, 429, "queue_full", NULL, 1, "too many requests are waiting; try again");
        break;
    case SCHEDULER_TOO_LONG:
        generation_fail(g, 400, "context_length_exceeded", NULL, 0, "%s", error->text);
        break;
    case SCHEDULER_NEVER_FITS:
        generation_fail(g, 400, "memory_exceeded", NULL, 0, "%s", error->text);
        break;
    case SCHEDULER_TOO_LATE:
        generation_fail(g, 504, "deadline_exceeded", NULL, 0, "%s", error->text);
        break;
    case SCHEDULER_CLOSING:
        generation_fail(g, 503, "shutting_down", NULL, 10, "the daemon is shutting down");
        break;
    case SCHEDULER_NO_MEMORY:
        generation_fail_no_memory(g);
        break;
    default:
        generation_fail(g, 400, "invalid_value", NULL, 0, "%s", error->text);
    }
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
    mlxr_error error;
    if (g->job.json) {
        json_t *taken = g->job.json;
        g->job.json = NULL;
        return taken;
    }
    json_t *made = request_body_read(g->body, g->n_body, &error);
    free(g->body);
    g->body = NULL;
    if (!made && error.status == MLXR_NOMEM) {
        generation_fail_no_memory(g);
    } else if (!made) {
        generation_fail(g, 400, "invalid_json", NULL, 0, "%s", error.text);
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
        generation_fail(g, 400, "invalid_value", "model", 0, "model must be a name");
        return NULL;
    }
    if (g->job.default_model && *g->d->default_model) {
        return g->d->default_model;
    }
    generation_fail(g, 400, "missing_field", "model", 0,
                    "model is missing: the name of one of the models of /v1/models");
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
        generation_fail(g, 403, "model_not_allowed", "model", 0, "this key may not use the model '%.100s'", name);
        return false;
    }
    mlxr_status status = registry_resolve(g->d->registry, name, &g->entry, &error);
    if (status != MLXR_OK) {
        char text[sizeof error.text];
        error_model_text(&g->job.identity, name, error.text, text, sizeof text);
        bool unknown = status == MLXR_ARG;
        generation_fail(g, unknown ? 404 : 500, unknown ? "model_not_found" : "registry_failed", "model", 0, "%s",
                        unknown ? text : error.text);
        return false;
    }
    g->entry_open = true;
    if (!auth_allows_model(&g->job.identity, g->entry.name)) {
        generation_fail(g, 403, "model_not_allowed", "model", 0, "this key may not use the model '%.100s'",
                        g->entry.name);
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

/* A head is there only where the model was loaded with it: who asks for it is told, the daemon's own wish is none then.
 */
static bool choose_draft(generation *g, daemon_draft *out)
{
    const mlxr_model_info *info = mlxr_model_info_get(g->model);
    *out = daemon_drafts(g->d, g->r.draft);
    if (*out != DAEMON_DRAFT_MTP || info->mtp) {
        return true;
    }
    *out = DAEMON_DRAFT_NONE;
    if (g->r.draft) {
        generation_fail(g, 400, "invalid_value", "draft", 0, "%s",
                        !info->has_mtp ? "this model has no multi-token-prediction head"
                        : daemon_loads_heads(g->d)
                            ? "this daemon's backend cannot run this model's multi-token-prediction head"
                            : "this model was loaded without its multi-token-prediction head; a daemon started with "
                              "--draft mtp loads it");
        return false;
    }
    return true;
}

static void submit(generation *g)
{
    mlxr_error error;
    mlxr_adapter_path adapters[MLXR_ADAPTERS_MAX];
    size_t n_adapters;
    if (!adapters_choose(&g->r.f, g->d->options, &g->entry, g->r.lora, adapters, &n_adapters)) {
        fail_fields(g);
        return;
    }
    mlxr_status status = mlxr_model_read_adapters(g->model, adapters, n_adapters, &error); /* here: others go on */
    if (status != MLXR_OK) {
        fail_adapters(g, &error);
        return;
    }
    daemon_draft draft;
    if (!choose_draft(g, &draft)) {
        return;
    }
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
                             .adapters = adapters,
                             .n_adapters = n_adapters,
                             .draft = draft != DAEMON_DRAFT_NONE,
                             .draft_mtp = draft == DAEMON_DRAFT_MTP,
                             .priority = r->f.priority,
                             .client = r->f.client,
                             .deadline_us = r->deadline_ms ? g->time.start_us + r->deadline_ms * UINT64_C(1000) : 0,
                             .name = g->entry.name,
                             .received_us = g->time.start_us,
                             .on_event = generation_on_event,
                             .user = g};
    if (r->f.max_tokens == 0 || r->f.max_tokens > left) { /* no bound of its own: what there is memory for */
        uint32_t fits = scheduler_answer_max(s, &ask);
        ask.max_tokens = fits ? fits : ask.max_tokens; /* 0: it is refused, with the numbers */
    }
    atomic_fetch_add(&g->refs, 1); /* of the submitted request; before events can come */
    if (scheduler_submit(s, &ask, &g->id, &refusal, &error) != MLXR_OK) {
        atomic_fetch_sub(&g->refs, 1);
        fail_refused(g, refusal, &error);
        return;
    }
    pthread_mutex_lock(&g->lock);
    g->submitted = true;
    if (g->paused) {
        generation_tell_paused(g);
    }
    bool cancelled = atomic_load(&g->cancelled);
    pthread_mutex_unlock(&g->lock);
    if (cancelled) {
        scheduler_cancel(s, g->id);
    }
}

/* More context was asked for than there is: it is not the request that can have it. */
static void warn_of_context(chat_request *r, const mlxr_model_info *info)
{
    if (r->n_ctx > info->n_ctx) {
        request_fields_warn(&r->f, "n_ctx (num_ctx) %u: this model's context is %u; %s", r->n_ctx, info->n_ctx,
                            info->n_ctx < info->n_ctx_train ? "a longer --ctx of mlxr serve allows more"
                                                            : "--rope-scaling of mlxr serve reads further");
    }
}

/* The model is there. */
static void compose(generation *g)
{
    mlxr_error error;
    g->time.ready_us = scheduler_now_us(worker_scheduler(g->d->worker));
    if (!g->model) {
        bool limit = g->lease_error.status == MLXR_LIMIT || g->lease_error.status == MLXR_NOMEM;
        generation_fail(g, limit ? 503 : 500, limit ? "no_room_for_model" : "model_failed", "model", limit ? 5 : 0,
                        "%s", g->lease_error.text);
        return;
    }
    if (atomic_load(&g->cancelled)) {
        generation_fail(g, 499, "cancelled", NULL, 0, "cancelled");
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
    warn_of_context(r, mlxr_model_info_get(g->model));
    mlxr_status status = mlxr_sampling_check(g->model, &g->r.f.sampling, &error);
    if (status != MLXR_OK && !(status == MLXR_UNSUPPORTED && g->job.prompt_only)) { /* tokens may be counted */
        const char *field = status == MLXR_UNSUPPORTED ? "model" : NULL;
        generation_fail(g, 400, "invalid_value", field, 0, "%s", error.text);
    } else if (!chat_prompt_make(&g->prompt, &g->source, &g->r)) {
        fail_fields(g);
    } else if (g->job.prompt_only) {
        return;
    } else if (generation_choices_open(g, &error) != MLXR_OK) {
        generation_fail(g, error.status == MLXR_NOMEM ? 503 : 400, "invalid_value", "stop", 0, "%s", error.text);
    } else {
        submit(g);
    }
}

static void compose_later(void *user)
{
    compose(user);
}

void generation_lease_ready(void *user)
{
    generation *g = user;
    if (http_work(g->d->http, compose_later, generation_composed, g) != 0) {
        generation_fail_no_memory(g);
        generation_composed(g);
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
        generation_fail(g, busy ? 429 : 503, busy ? "queue_full" : "model_failed", "model", 1, "%s", error.text);
        return true;
    }
    if (atomic_exchange(&g->lease, LEASE_AWAITED) != LEASE_READY) {
        return false;
    }
    atomic_fetch_sub(&g->refs, 1);
    compose(g);
    return true;
}

void generation_prepare(void *user)
{
    generation *g = user;
    if (prepare_now(g)) {
        g->composed = true;
    }
}
