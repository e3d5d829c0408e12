/*
 * /v1/models and /v1/models/{id}.
 * Owner: a job belongs to its exchange and the pool's work together. Lifetime: until both have ended.
 */
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "server/anthropic_parts.h"
#include "server/errors.h"
#include "server/model_contexts.h"
#include "server/openai_parts.h"

typedef struct models_job {
    struct daemon *d;
    http_exchange *x;       /* NULL: gone */
    bool worked, anthropic; /* in Anthropic's form: the request has its version's header */
    char *id;               /* NULL: all */
    auth_identity identity;
    model_contexts contexts; /* while it works */
    json_t *found;           /* a list, or one model */
    mlxr_error error;
    mlxr_status status;
} models_job;

static void free_job(models_job *j)
{
    if (!j->x && j->worked) {
        json_decref(j->found);
        free(j->id);
        free(j);
    }
}

static void on_gone(void *user)
{
    models_job *j = user;
    j->x = NULL;
    free_job(j);
}

static json_t *model_json(const models_job *j, const registry_model *m)
{
    uint32_t n_ctx = model_contexts_of(&j->contexts, m);
    if (j->anthropic) {
        return anthropic_model(m, n_ctx);
    }
    json_t *one = json_pack("{s:s, s:s, s:I, s:s}", "id", m->name, "object", "model", "created",
                            (json_int_t)(m->modified_us / 1000000), "owned_by", registry_source_name(m->source));
    if (n_ctx) {
        json_object_set_new(one, "context_length", json_integer(n_ctx));
    }
    return one;
}

static mlxr_status on_model(void *user, const registry_model *m, mlxr_error *error)
{
    models_job *j = user;
    (void)error;
    if (!*m->unusable && auth_allows_model(&j->identity, m->name)) {
        json_array_append_new(j->found, model_json(j, m));
    }
    return MLXR_OK;
}

static void find(models_job *j)
{
    registry_model m;
    if (!j->id) {
        j->found = json_array();
        j->status = registry_each(j->d->registry, on_model, j, &j->error);
        return;
    }
    j->status = registry_resolve(j->d->registry, j->id, &m, &j->error);
    if (j->status == MLXR_OK) {
        bool allowed = auth_allows_model(&j->identity, m.name);
        j->found = allowed ? model_json(j, &m) : NULL;
        registry_model_close(&m);
    }
}

static void work(void *user)
{
    models_job *j = user;
    model_contexts_open(&j->contexts, j->d);
    find(j);
    model_contexts_close(&j->contexts);
}

static void done(void *user)
{
    models_job *j = user;
    j->worked = true;
    if (!j->x) {
        free_job(j);
    } else if (j->status != MLXR_OK && !(j->id && j->status == MLXR_ARG)) {
        error_respond(j->x, 500, "registry_failed", j->error.text, NULL);
    } else if (j->status != MLXR_OK || !j->found) {
        char text[sizeof j->error.text];
        error_model_text(&j->identity, j->id, j->status != MLXR_OK ? j->error.text : "", text, sizeof text);
        error_respond(j->x, 404, "model_not_found", text, "model");
    } else if (j->id) {
        http_respond_json(j->x, 200, json_incref(j->found));
    } else if (j->anthropic) {
        anthropic_models_answer(j->x, j->found);
    } else {
        http_respond_json(j->x, 200, json_pack("{s:s, s:O}", "object", "list", "data", j->found));
    }
}

static void start(struct daemon *d, http_exchange *x, const char *id)
{
    models_job *j = calloc(1, sizeof *j);
    if (!j || (id && !(j->id = strdup(id)))) {
        free(j);
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    j->d = d;
    j->x = x;
    j->anthropic = route_dialect_of(x) == ROUTE_ANTHROPIC;
    j->identity = *route_identity(x);
    if (http_work(d->http, work, done, j) != 0) {
        free(j->id);
        free(j);
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    http_on_gone(x, on_gone, j);
}

void openai_models(void *service, http_exchange *x)
{
    start(service, x, NULL);
}

void openai_model(void *service, http_exchange *x)
{
    start(service, x, http_path_param(x, "id"));
}
