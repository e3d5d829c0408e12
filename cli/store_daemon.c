/*
 * The store of models, of a daemon.
 * Owner: the verb. Lifetime: store_open to store_close.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "store.h"

static mlxr_status no_memory(mlxr_error *error)
{
    *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
    return MLXR_NOMEM;
}

static json_t *text(const char *t)
{
    return t ? json_text(t, strlen(t)) : json_null();
}

/* "/ui-api/models/NAME", and what follows. */
static bool path_of(const char *name, const char *before, const char *after, char *out, size_t cap)
{
    char escaped[3 * REGISTRY_NAME_MAX + 1];
    return client_escape(name, escaped, sizeof escaped) &&
           snprintf(out, cap, "%s%s%s", before, escaped, after) < (int)cap;
}

static mlxr_status daemon_list(store *s, json_t **out, mlxr_error *error)
{
    json_t *answer = NULL;
    mlxr_status status = client_ask(s->client, "GET", "/ui-api/models", NULL, &answer, error);
    *out = status == MLXR_OK ? json_incref(json_object_get(answer, "models")) : NULL;
    json_decref(answer);
    return status;
}

static mlxr_status daemon_show(store *s, const char *name, bool details, json_t **out, mlxr_error *error)
{
    char path[1024];
    return path_of(name, "/ui-api/models/", details ? "?details=true" : "", path, sizeof path)
               ? client_ask(s->client, "GET", path, NULL, out, error)
               : no_memory(error);
}

static mlxr_status daemon_remove(store *s, const char *name, mlxr_error *error)
{
    char path[1024];
    return path_of(name, "/ui-api/models/", "", path, sizeof path)
               ? client_ask(s->client, "DELETE", path, NULL, NULL, error)
               : no_memory(error);
}

static mlxr_status daemon_copy(store *s, const char *from, const char *to, bool alias, mlxr_error *error)
{
    json_t *body = json_pack("{s:o, s:o, s:b}", "from", text(from), "to", text(to), "alias", alias);
    return client_ask(s->client, "POST", "/ui-api/models/copy", body, NULL, error);
}

static json_t *pairs_json(const registry_pairs *pairs, const char *name, const char *value)
{
    json_t *list = json_array();
    for (size_t i = 0; i < pairs->n; i++) {
        json_array_append_new(
            list, json_pack("{s:o, s:o}", name, text(pairs->items[i].name), value, text(pairs->items[i].value)));
    }
    return list;
}

/* ---- jobs -------------------------------------------------------------------------------------------------------- */

typedef struct job {                      /* a job of the daemon's, watched */
    const registry_pull_options *options; /* NULL: nobody wants to know how far it is */
    char *name;                           /* REGISTRY_NAME_MAX + 1 bytes, or NULL */
    mlxr_error *error;
    bool ended, cancelled;
} job;

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static bool take_progress(job *j, const json_t *event)
{
    const char *what = json_string_value(json_object_get(event, "what"));
    registry_pull_progress p = {.what = what ? what : "",
                                .done = number(event, "done"),
                                .total = number(event, "total"),
                                .file_done = number(event, "file_done"),
                                .file_total = number(event, "file_total"),
                                .file = (uint32_t)number(event, "file"),
                                .n_files = (uint32_t)number(event, "n_files")};
    j->cancelled = j->options && j->options->progress && !j->options->progress(j->options->user, &p);
    return !j->cancelled;
}

static bool on_event(void *user, const client_event *event)
{
    job *j = user;
    if (strcmp(event->name, "progress") == 0) {
        return take_progress(j, event->json);
    }
    if (strcmp(event->name, "end") != 0) {
        return true; /* the job's number */
    }
    const char *name = json_string_value(json_object_get(event->json, "name"));
    const char *failed = json_string_value(json_object_get(json_object_get(event->json, "error"), "message"));
    j->ended = true;
    if (failed) {
        *j->error = (mlxr_error){.status = MLXR_IO};
        snprintf(j->error->text, sizeof j->error->text, "%s", failed);
    } else if (j->name && name) {
        snprintf(j->name, REGISTRY_NAME_MAX + 1, "%s", name);
    }
    return false;
}

/* The job that this request begins, to its end. Who does not wait for it cancels it: the connection ends. */
static mlxr_status run_job(store *s, const char *path, json_t *body, client_on_event on_line, job *j, mlxr_error *error)
{
    *error = (mlxr_error){.status = MLXR_OK};
    j->error = error;
    mlxr_status status = client_stream(s->client, "POST", path, body, on_line, j, NULL, error);
    if (status == MLXR_OK && j->cancelled) {
        *error = (mlxr_error){.status = MLXR_IO, .text = "cancelled; the same again goes on from here"};
    } else if (status == MLXR_OK && !j->ended) {
        *error = (mlxr_error){.status = MLXR_IO};
        snprintf(error->text, sizeof error->text, "the daemon at %s broke its answer off", client_where(s->client));
    }
    return status == MLXR_OK ? error->status : status;
}

static mlxr_status daemon_create(store *s, const char *name, const registry_recipe *recipe, const char *directory,
                                 mlxr_error *error)
{
    job j = {.options = NULL};
    (void)directory; /* a recipe with a file of this machine does not come here */
    json_t *body = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", text(name), "from", text(recipe->from),
                             "template", text(recipe->template_text), "system", text(recipe->system), "license",
                             text(recipe->license), "parameters", pairs_json(&recipe->parameters, "name", "value"),
                             "messages", pairs_json(&recipe->messages, "role", "content"));
    return run_job(s, "/ui-api/models/create", body, on_event, &j, error);
}

static mlxr_status daemon_pull(store *s, const char *source, const registry_pull_options *how, char *name,
                               mlxr_error *error)
{
    job j = {.options = how, .name = name};
    json_t *body = json_pack("{s:o, s:o, s:o}", "source", text(source), "name", text(how->name), "digest",
                             text(how->digest));
    return run_job(s, "/ui-api/models/pull", body, on_event, &j, error);
}

/* A line of Ollama's API. */
static bool on_push_line(void *user, const client_event *event)
{
    job *j = user;
    const char *what = json_string_value(json_object_get(event->json, "status"));
    const char *failed = json_string_value(json_object_get(event->json, "error"));
    registry_pull_progress p = {.what = what ? what : "",
                                .file_done = number(event->json, "completed"),
                                .file_total = number(event->json, "total")};
    if (failed) {
        *j->error = (mlxr_error){.status = MLXR_IO};
        snprintf(j->error->text, sizeof j->error->text, "%s", failed);
    }
    j->ended = failed || (what && strcmp(what, "success") == 0);
    j->cancelled = !j->ended && !j->options->progress(j->options->user, &p);
    return !j->ended && !j->cancelled;
}

static mlxr_status daemon_push(store *s, const char *name, const registry_pull_options *how, mlxr_error *error)
{
    job j = {.options = how};
    return run_job(s, "/api/push", json_pack("{s:o, s:b}", "model", text(name), "stream", 1), on_push_line, &j, error);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static mlxr_status daemon_keys(store *s, json_t **out, mlxr_error *error)
{
    json_t *answer = NULL;
    mlxr_status status = client_ask(s->client, "GET", "/ui-api/keys", NULL, &answer, error);
    *out = status == MLXR_OK ? json_incref(json_object_get(answer, "keys")) : NULL;
    json_decref(answer);
    return status;
}

static mlxr_status daemon_key_create(store *s, const registry_key *key, json_t **out, mlxr_error *error)
{
    char scopes[64];
    registry_scopes_text(key->scopes, scopes, sizeof scopes);
    json_t *body = json_pack("{s:o, s:s, s:o, s:I, s:I, s:I}", "label", text(key->label), "scopes", scopes, "models",
                             text(key->models), "requests_per_minute", (json_int_t)key->requests_per_minute,
                             "tokens_per_day", (json_int_t)key->tokens_per_day, "expires_at",
                             (json_int_t)(key->expires_us / 1000000));
    return client_ask(s->client, "POST", "/ui-api/keys", body, out, error);
}

static mlxr_status daemon_key_revoke(store *s, const char *id, mlxr_error *error)
{
    char path[1024];
    return path_of(id, "/ui-api/keys/", "", path, sizeof path)
               ? client_ask(s->client, "DELETE", path, NULL, NULL, error)
               : no_memory(error);
}

static void daemon_close(store *s)
{
    client_close(&s->client);
}

void store_open_daemon(store *out, client *c)
{
    static const store_ops ops = {daemon_list,       daemon_show,       daemon_remove, daemon_copy,
                                  daemon_create,     daemon_pull,       daemon_push,   daemon_keys,
                                  daemon_key_create, daemon_key_revoke, daemon_close};
    *out = (store){.ops = &ops, .client = c};
}
