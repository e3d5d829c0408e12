/*
 * /api/pull, /api/create, /api/push: jobs of models told as lines, or by their end only.
 * Owner: a telling belongs to its exchange. Lifetime: until that is gone; the job goes on while somebody watches it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/errors.h"
#include "server/model_jobs.h"
#include "server/ollama_parts.h"

typedef struct telling {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    model_job_kind kind;
    model_watch *watch; /* NULL: not begun, or ended */
    bool stream, begun, answered, working;
    char *text; /* [n_text] the body */
    size_t n_text;
    request_fields f;
    json_t *body;
    ollama_options o;
    registry_recipe recipe;
} telling;

static void free_telling(telling *t)
{
    if (t->x || t->working) {
        return;
    }
    request_fields_close(&t->f);
    registry_recipe_close(&t->recipe);
    json_decref(t->body);
    free(t->text);
    free(t);
}

static void on_gone(void *user)
{
    telling *t = user;
    t->x = NULL;
    if (t->watch) {
        model_watch *w = t->watch;
        t->watch = NULL;
        model_watch_leave(w);
    }
    free_telling(t);
}

/* ---- what the job tells ------------------------------------------------------------------------------------------ */

static void line(telling *t, json_t *what)
{
    if (!t->begun) {
        t->begun = true;
        ollama_stream_begin(t->x);
    }
    ollama_line(t->x, what);
}

/* Steps under the names that Ollama's clients show. */
static json_t *event_json(const telling *t, const model_job_event *e)
{
    bool file = e->file_total > 0 || e->digest[0], push = t->kind == MODEL_JOB_PUSH;
    if (!file) {
        const char *status = strcmp(e->what, "manifest") == 0  ? (push ? "pushing manifest" : "pulling manifest")
                             : strcmp(e->what, "storing") == 0 ? "writing manifest"
                                                               : e->what;
        return json_pack("{s:s}", "status", status);
    }
    char status[256];
    const char *which = strncmp(e->digest, "sha256:", 7) == 0 ? e->digest + 7 : e->what;
    snprintf(status, sizeof status, "%s %.*s", push ? "pushing" : "pulling", e->digest[0] ? 12 : 200, which);
    json_t *made = json_pack("{s:s, s:I, s:I}", "status", status, "total", (json_int_t)e->file_total, "completed",
                             (json_int_t)e->file_done);
    if (made && e->digest[0]) {
        json_object_set_new(made, "digest", json_string(e->digest));
    }
    return made;
}

static void on_event(void *user, const model_job_event *e)
{
    telling *t = user;
    /* Who does not read is not told every step: the next one has later numbers. */
    if (t->stream && t->x && http_stream_buffered(t->x) < HTTP_BUFFER_MAX / 2) {
        line(t, event_json(t, e));
    }
}

static json_t *success(const telling *t)
{
    json_t *made = json_pack("{s:s}", "status", "success");
    if (json_array_size(t->f.warnings) > 0) {
        json_object_set(made, "warnings", t->f.warnings);
    }
    return made;
}

static void on_end(void *user, const model_job_end *end)
{
    telling *t = user;
    t->watch = NULL;
    t->answered = true;
    if (!t->x) {
        return;
    }
    int status = end->cancelled ? 503 : error_status_of(end->status);
    if (end->status == MLXR_OK && !t->stream) {
        http_respond_json(t->x, 200, success(t));
    } else if (end->status == MLXR_OK) {
        line(t, success(t));
        http_stream_end(t->x);
    } else if (t->begun) {
        line(t, error_json(ROUTE_OLLAMA, status, NULL, end->message, NULL, http_request_of(t->x)->request_id));
        http_stream_end(t->x);
    } else {
        error_respond(t->x, status, NULL, end->message, NULL);
    }
}

static void started(telling *t, mlxr_status status, const mlxr_error *error)
{
    if (status != MLXR_OK) {
        t->answered = true;
        error_respond(t->x, status == MLXR_LIMIT ? 429 : error_status_of(status), NULL, error->text, NULL);
    }
}

/* ---- a create's body --------------------------------------------------------------------------------------------- */

static bool take_text(telling *t, char **to, const char *text)
{
    if (!text) {
        return true;
    }
    free(*to);
    *to = strdup(text);
    return *to || request_fields_no_memory(&t->f);
}

/* A parameter's value as a Modelfile has it; of a list each. */
static bool add_parameter(telling *t, const char *name, const json_t *value)
{
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        if (json_is_array(json_array_get(value, i)) || !add_parameter(t, name, json_array_get(value, i))) {
            return request_fields_bad(&t->f, "parameters", "parameters: %.60s cannot be a list of lists", name);
        }
    }
    if (json_is_array(value) || json_is_null(value)) {
        return true;
    }
    mlxr_error error;
    char *text = json_is_string(value) ? strdup(json_string_value(value))
                                       : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    bool ok = text && registry_pairs_add(&t->recipe.parameters, name, text);
    ok = ok || request_fields_no_memory(&t->f);
    if (ok && registry_parameter_check(name, text, &error) != MLXR_OK) {
        ok = request_fields_fail(&t->f, error.status, "parameters", "parameters: %s", error.text);
    }
    free(text);
    return ok;
}

static bool take_parameters(telling *t)
{
    const char *name;
    json_t *value;
    json_object_foreach(t->o.parameters, name, value)
    {
        if (!add_parameter(t, name, value)) {
            return false;
        }
    }
    return true;
}

static bool take_messages(telling *t)
{
    for (size_t i = 0; i < json_array_size(t->o.messages); i++) {
        const json_t *one = json_array_get(t->o.messages, i);
        const char *role = json_string_value(json_object_get(one, "role"));
        const char *content = json_string_value(json_object_get(one, "content"));
        bool known = role && content &&
                     (strcmp(role, "system") == 0 || strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0);
        if (!known) {
            return request_fields_bad(&t->f, "messages",
                                      "messages[%zu] must have a content and the role system, user or assistant", i);
        }
        if (!registry_pairs_add(&t->recipe.messages, role, content)) {
            return request_fields_no_memory(&t->f);
        }
    }
    return true;
}

/* A text, or a list of them. */
static bool take_license(telling *t)
{
    const json_t *license = t->o.license;
    char *joined = NULL;
    size_t n = 0;
    if (!license || json_is_string(license)) {
        return take_text(t, &t->recipe.license, json_string_value(license));
    }
    FILE *out = json_is_array(license) ? open_memstream(&joined, &n) : NULL;
    if (!out) {
        return request_fields_bad(&t->f, "license", "license must be a text or a list of texts");
    }
    bool ok = true;
    for (size_t i = 0; i < json_array_size(license); i++) {
        const char *text = json_string_value(json_array_get(license, i));
        ok = ok && text;
        fprintf(out, "%s%s", i ? "\n\n" : "", text ? text : "");
    }
    fclose(out);
    ok = ok ? take_text(t, &t->recipe.license, joined)
            : request_fields_bad(&t->f, "license", "license must be a text or a list of texts");
    free(joined);
    return ok;
}

/* {"model.gguf": "sha256:…"}: blobs that were uploaded. */
static bool take_files(telling *t)
{
    const char *name;
    json_t *digest;
    char clean[REGISTRY_DIGEST_MAX];
    size_t n = json_object_size(t->o.files);
    if (n && t->recipe.from) {
        return request_fields_bad(&t->f, "files", "files and from: one of them is enough");
    }
    json_object_foreach(t->o.files, name, digest)
    {
        if (!json_is_string(digest) || !registry_digest_parse(json_string_value(digest), clean)) {
            return request_fields_bad(&t->f, "files", "files: '%.80s' must have a digest, sha256: and 64 digits", name);
        }
        if (n == 1) {
            return take_text(t, &t->recipe.from, clean);
        }
        if (!registry_pairs_add(&t->recipe.files, name, clean)) {
            return request_fields_no_memory(&t->f);
        }
    }
    return true;
}

static bool take_adapters(telling *t)
{
    const char *name;
    json_t *digest;
    char clean[REGISTRY_DIGEST_MAX];
    json_object_foreach(t->o.adapters, name, digest)
    {
        if (!json_is_string(digest) || !registry_digest_parse(json_string_value(digest), clean)) {
            return request_fields_bad(&t->f, "adapters", "adapters: '%.80s' must have a digest, sha256: and 64 digits",
                                      name);
        }
        if (!registry_pairs_add(&t->recipe.adapters, name, clean)) {
            return request_fields_no_memory(&t->f);
        }
    }
    return true;
}

static bool make_recipe(telling *t)
{
    mlxr_error error;
    const ollama_options *o = &t->o;
    if (o->modelfile && *o->modelfile &&
        registry_modelfile_parse(&t->recipe, o->modelfile, strlen(o->modelfile), &error) != MLXR_OK) {
        return request_fields_fail(&t->f, error.status, "modelfile", "%s", error.text);
    }
    bool ok = take_text(t, &t->recipe.from, o->from && *o->from ? o->from : NULL) && take_files(t) &&
              take_adapters(t) && take_text(t, &t->recipe.template_text, o->template_text) &&
              take_text(t, &t->recipe.system, o->system) && take_license(t) && take_parameters(t) && take_messages(t);
    return ok && (t->recipe.from || t->recipe.files.n ||
                  request_fields_bad(&t->f, "from", "from or files is required: what is it to be made of?"));
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

static void read_body(void *user)
{
    static const char *const patterns[] = {
        [MODEL_JOB_PULL] = "/api/pull", [MODEL_JOB_CREATE] = "/api/create", [MODEL_JOB_PUSH] = "/api/push"};
    telling *t = user;
    mlxr_error error;
    t->body = request_body_read(t->text, t->n_text, &error);
    if (!t->body) {
        request_fields_fail(&t->f, error.status, NULL, "%s", error.text);
    } else if (ollama_parse(&t->f, patterns[t->kind], t->body, &t->o)) {
        t->stream = t->o.stream;
        if (!*t->o.model) {
            request_fields_bad(&t->f, "model", "model is required");
        } else if (t->kind == MODEL_JOB_CREATE) {
            make_recipe(t);
        }
    }
}

static void was_read(void *user)
{
    telling *t = user;
    mlxr_error error;
    t->working = false;
    if (!t->x) {
        free_telling(t);
        return;
    }
    if (t->f.bad) {
        t->answered = true;
        error_respond_fields(t->x, &t->f);
        return;
    }
    model_watcher watcher = {on_event, on_end, t};
    mlxr_status status;
    if (t->kind == MODEL_JOB_PULL) { /* a client asks for it afterwards by the name it has pulled */
        const char *name = t->o.model;
        model_pull ask = {.source = name, .name = registry_name_valid(name) ? name : NULL};
        status = model_jobs_pull(t->d->jobs, &ask, &watcher, &t->watch, &error);
    } else if (t->kind == MODEL_JOB_PUSH) {
        model_push ask = {.name = t->o.model};
        status = model_jobs_push(t->d->jobs, &ask, &watcher, &t->watch, &error);
    } else {
        model_create ask = {.name = t->o.model, .recipe = t->recipe};
        t->recipe = (registry_recipe){0};
        status = model_jobs_create(t->d->jobs, &ask, &watcher, &t->watch, &error);
    }
    started(t, status, &error);
}

static void start(struct daemon *d, http_exchange *x, model_job_kind kind)
{
    telling *t = calloc(1, sizeof *t);
    size_t n_text;
    char *text = http_body_copy(x, &n_text);
    if (t && text) {
        *t = (telling){.d = d, .x = x, .kind = kind, .text = text, .n_text = n_text, .working = true};
        request_fields_open(&t->f, NULL);
        if (http_work(d->http, read_body, was_read, t) == 0) {
            http_on_gone(x, on_gone, t);
            return;
        }
    }
    free(t);
    free(text);
    error_respond(x, 503, NULL, "out of memory", NULL);
}

void ollama_pull(void *service, http_exchange *x)
{
    start(service, x, MODEL_JOB_PULL);
}

void ollama_create(void *service, http_exchange *x)
{
    start(service, x, MODEL_JOB_CREATE);
}

void ollama_push(void *service, http_exchange *x)
{
    start(service, x, MODEL_JOB_PUSH);
}
