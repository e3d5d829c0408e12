/*
 * What of the Ollama dialect is asked and answered at once: /, version, tags, ps, show, copy, delete.
 * Owner: an ask belongs to its exchange and to the service for models together. Lifetime: until both have ended.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/errors.h"
#include "server/model_contexts.h"
#include "server/model_jobs.h"
#include "server/ollama_parts.h"

#define FOR_EVER_US INT64_C(4102444800000000) /* 2100: clients want a date */

typedef struct ask {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    bool answered;
    void (*respond)(struct ask *a, const model_answer *found);
    request_fields f;
    json_t *body;
    ollama_options o;
} ask;

static void free_ask(ask *a)
{
    if (!a->x && a->answered) {
        request_fields_close(&a->f);
        json_decref(a->body);
        free(a);
    }
}

static void on_gone(void *user)
{
    ask *a = user;
    a->x = NULL;
    free_ask(a);
}

static void done(void *user, const model_answer *found)
{
    ask *a = user;
    a->answered = true;
    if (a->x && found->status != 200) {
        error_respond(a->x, found->status, found->code, found->message, NULL);
    } else if (a->x) {
        a->respond(a, found);
    }
    free_ask(a);
}

/* NULL: it was answered already. Bodies of these routes are small: they are read here. */
static ask *begin(struct daemon *d, http_exchange *x, const char *pattern,
                  void (*respond)(ask *a, const model_answer *found))
{
    const http_request *q = http_request_of(x);
    mlxr_error error;
    ask *a = calloc(1, sizeof *a);
    if (!a) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        return NULL;
    }
    *a = (ask){.d = d, .x = x, .respond = respond};
    request_fields_open(&a->f, NULL);
    if (pattern) {
        bool fits = q->n_body <= 65536;
        a->body = fits ? request_body_read(q->body, q->n_body, &error) : NULL;
        bool ok = a->body ||
                  (fits ? request_fields_fail(&a->f, error.status, NULL, "%s", error.text)
                        : request_fields_bad(&a->f, NULL, "the body must be a JSON object of at most 64 KiB"));
        if (!ok || !ollama_parse(&a->f, pattern, a->body, &a->o)) {
            error_respond_fields(x, &a->f);
            a->x = NULL;
            a->answered = true;
            free_ask(a);
            return NULL;
        }
    }
    http_on_gone(x, on_gone, a);
    return a;
}

/* After the service was asked. */
static void asked(ask *a, bool ok)
{
    if (!ok) {
        a->answered = true;
        error_respond(a->x, 503, NULL, "out of memory", NULL);
    }
}

static model_asker asker_of(ask *a)
{
    return (model_asker){.done = done, .user = a, .identity = *route_identity(a->x)};
}

static void refuse(ask *a, const char *field, const char *message)
{
    a->answered = true;
    error_respond(a->x, 400, "missing_field", message, field);
}

/* ---- what needs no models ---------------------------------------------------------------------------------------- */

void ollama_version(void *service, http_exchange *x)
{
    (void)service;
    http_respond_json(x, 200, json_pack("{s:s, s:s}", "version", OLLAMA_VERSION, "server", "mlxr/" MLXR_VERSION));
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static int by_date(const void *a, const void *b)
{
    const registry_model *x = *(const registry_model *const *)a, *y = *(const registry_model *const *)b;
    return x->modified_us > y->modified_us ? -1 : x->modified_us < y->modified_us;
}

static json_t *listed(const registry_model *m, uint32_t n_ctx)
{
    char name[REGISTRY_NAME_MAX + 8], when[OLLAMA_TIME_MAX];
    ollama_name(m->name, name);
    ollama_time(m->modified_us, when);
    json_t *details = ollama_details(m->family, m->quant, m->n_params);
    if (n_ctx) {
        json_object_set_new(details, "context_length", json_integer(n_ctx));
    }
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "name", name, "model", name, "modified_at", when, "size",
                     (json_int_t)m->n_bytes, "digest", m->id, "details", details);
}

/* The newest first, as Ollama has them; what cannot be run here is not among them. */
static void respond_tags(ask *a, const model_answer *found)
{
    json_t *list = json_array();
    const registry_model **sorted = calloc(found->n_models + 1, sizeof *sorted);
    size_t n = 0;
    model_contexts contexts;
    model_contexts_open(&contexts, a->d);
    for (size_t i = 0; sorted && i < found->n_models; i++) {
        if (!*found->models[i].unusable) {
            sorted[n++] = &found->models[i];
        }
    }
    if (n) {
        qsort(sorted, n, sizeof *sorted, by_date);
    }
    for (size_t i = 0; i < n; i++) {
        json_t *one = listed(sorted[i], model_contexts_of(&contexts, sorted[i]));
        if (one) { /* a name that is no UTF-8 cannot be asked for */
            json_array_append_new(list, one);
        }
    }
    free(sorted);
    model_contexts_close(&contexts);
    http_respond_json(a->x, 200, json_pack("{s:o}", "models", list));
}

void ollama_tags(void *service, http_exchange *x)
{
    ask *a = begin(service, x, NULL, respond_tags);
    if (a) {
        model_asker asker = asker_of(a);
        asked(a, model_jobs_list(a->d->jobs, &asker));
    }
}

static json_t *loaded_json(const struct daemon *d, const model_loaded *m)
{
    char name[REGISTRY_NAME_MAX + 8], when[OLLAMA_TIME_MAX];
    int64_t most_ms = FOR_EVER_US / 1000, in_ms = m->expires_in_ms;
    int64_t expires_us = in_ms < 0 || in_ms > most_ms ? FOR_EVER_US : ollama_clock_us() + in_ms * 1000;
    const char *backend = mlxr_engine_info_get(d->engine)->backend;
    bool on_cpu = strncmp(backend, "cpu", 3) == 0;
    ollama_name(m->name, name);
    ollama_time(expires_us < FOR_EVER_US ? expires_us : FOR_EVER_US, when);
    return json_pack("{s:s, s:s, s:I, s:s, s:o, s:s, s:I, s:I}", "name", name, "model", name, "size",
                     (json_int_t)m->weight_bytes, "digest", m->id, "details",
                     ollama_details(m->family, m->quant, m->n_params), "expires_at", when, "size_vram",
                     on_cpu ? (json_int_t)0 : (json_int_t)m->weight_bytes, "context_length", (json_int_t)m->n_ctx);
}

static void respond_ps(ask *a, const model_answer *found)
{
    json_t *list = json_array();
    for (size_t i = 0; i < found->n_loaded; i++) {
        if (!found->loaded[i].loading) {
            json_array_append_new(list, loaded_json(a->d, &found->loaded[i]));
        }
    }
    http_respond_json(a->x, 200, json_pack("{s:o}", "models", list));
}

void ollama_ps(void *service, http_exchange *x)
{
    ask *a = begin(service, x, NULL, respond_ps);
    if (a) {
        model_asker asker = asker_of(a);
        asked(a, model_jobs_loaded(a->d->jobs, &asker));
    }
}

/* ---- show -------------------------------------------------------------------------------------------------------- */

/* Long lists stand as null, as Ollama has them, unless asked for: then as far as they are described. */
static json_t *info_of(const json_t *metadata, bool verbose, uint64_t n_params)
{
    json_t *made = json_object();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value)
    {
        bool list = json_is_object(value) && json_object_get(value, "first");
        if (strcmp(key, "tokenizer.chat_template") != 0) { /* it stands under "template" */
            json_object_set(made, key, !list ? value : verbose ? json_object_get(value, "first") : json_null());
        }
    }
    json_object_set_new(made, "general.parameter_count", json_integer((json_int_t)n_params));
    return made;
}

/* By what the template and the vocabulary know. */
static json_t *capabilities_of(const char *template_text, const json_t *metadata)
{
    json_t *list = json_pack("[s, s]", "completion", "embedding");
    const char *architecture = json_string_value(json_object_get(metadata, "general.architecture"));
    if (*template_text && (strstr(template_text, "tools") || strstr(template_text, ".Tools"))) {
        json_array_append_new(list, json_string("tools"));
    }
    if (strstr(template_text, "<think>") || strstr(template_text, "enable_thinking") ||
        strstr(template_text, "reasoning_content")) {
        json_array_append_new(list, json_string("thinking"));
    }
    if (json_object_get(metadata, "tokenizer.ggml.fim_pre_token_id") ||
        json_object_get(metadata, "tokenizer.ggml.prefix_token_id") ||
        (architecture && strcmp(architecture, "starcoder2") == 0)) {
        json_array_append_new(list, json_string("insert"));
    }
    return list;
}

static json_t *messages_of(const registry_pairs *messages)
{
    json_t *list = json_array();
    for (size_t i = 0; i < messages->n; i++) {
        json_array_append_new(
            list, json_pack("{s:s, s:s}", "role", messages->items[i].name, "content", messages->items[i].value));
    }
    return list;
}

/* FROM with the name: where files lie is nobody's business. */
static char *modelfile_of(const registry_model *m)
{
    registry_model named = *m;
    named.path = m->name;
    return registry_modelfile_text(&named);
}

static json_t *tensors_of(const json_t *described)
{
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(described); i++) {
        const json_t *t = json_array_get(described, i);
        json_array_append_new(list, json_pack("{s:O, s:O, s:O}", "name", json_object_get(t, "name"), "type",
                                              json_object_get(t, "type"), "shape", json_object_get(t, "shape")));
    }
    return list;
}

static void respond_show(ask *a, const model_answer *found)
{
    const registry_model *m = &found->models[0];
    json_t *root = found->description ? json_loads(found->description, 0, NULL) : NULL;
    const json_t *metadata = json_object_get(root, "metadata");
    const char *own = json_string_value(json_object_get(metadata, "tokenizer.chat_template"));
    const char *template_text = m->template_text ? m->template_text : own ? own : "{{ .Prompt }}";
    template_text = a->o.template_text && *a->o.template_text ? a->o.template_text : template_text;
    const char *system = a->o.system && *a->o.system ? a->o.system : m->system;
    char *modelfile = modelfile_of(m), *parameters = ollama_parameters_text(&m->parameters);
    char when[OLLAMA_TIME_MAX];
    ollama_time(m->modified_us, when);
    json_t *details = ollama_details(m->family, m->quant, m->n_params);
    model_contexts contexts;
    model_contexts_open(&contexts, a->d);
    if (model_contexts_of(&contexts, m)) { /* model_info has that of the file */
        json_object_set_new(details, "context_length", json_integer(model_contexts_of(&contexts, m)));
    }
    model_contexts_close(&contexts);
    json_t *made = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:s}", "modelfile", modelfile ? modelfile : "",
                             "parameters", parameters ? parameters : "", "template", template_text, "details", details,
                             "model_info", info_of(metadata, a->o.verbose, m->n_params), "capabilities",
                             capabilities_of(template_text, metadata), "modified_at", when);
    if (made && m->license) {
        json_object_set_new(made, "license", json_string(m->license));
    }
    if (made && system) {
        json_object_set_new(made, "system", json_string(system));
    }
    if (made && m->messages.n) {
        json_object_set_new(made, "messages", messages_of(&m->messages));
    }
    if (made && a->o.verbose) {
        json_object_set_new(made, "tensors", tensors_of(json_object_get(root, "tensors")));
    }
    if (made && a->f.warnings) {
        json_object_set(made, "warnings", a->f.warnings);
    }
    json_decref(root);
    free(modelfile);
    free(parameters);
    if (made) {
        http_respond_json(a->x, 200, made);
    } else {
        error_respond(a->x, 500, NULL, "what is known of this model cannot be written as JSON", NULL);
    }
}

void ollama_show(void *service, http_exchange *x)
{
    ask *a = begin(service, x, "/api/show", respond_show);
    if (a && !*a->o.model) {
        refuse(a, "model", "model is required");
    } else if (a) {
        model_asker asker = asker_of(a);
        asked(a, model_jobs_show(a->d->jobs, a->o.model, true, &asker));
    }
}

/* ---- copy, delete ------------------------------------------------------------------------------------------------ */

static void respond_empty(ask *a, const model_answer *found)
{
    (void)found;
    http_respond(a->x, 200, NULL, "", 0);
}

void ollama_copy(void *service, http_exchange *x)
{
    ask *a = begin(service, x, "/api/copy", respond_empty);
    if (a && (!a->o.source || !*a->o.source || !a->o.destination || !*a->o.destination)) {
        refuse(a, "source", "source and destination are required");
    } else if (a) {
        model_asker asker = asker_of(a);
        asked(a, model_jobs_copy(a->d->jobs, a->o.source, a->o.destination, false, &asker));
    }
}

void ollama_delete(void *service, http_exchange *x)
{
    ask *a = begin(service, x, "/api/delete", respond_empty);
    if (a && !*a->o.model) {
        refuse(a, "model", "model is required");
    } else if (a) {
        model_asker asker = asker_of(a);
        asked(a, model_jobs_delete(a->d->jobs, a->o.model, 0, &asker));
    }
}
