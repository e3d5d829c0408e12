/*
 * Name, lease, work, answer.
 * Owner: itself. Lifetime: the call's.
 *
 *   pool: prepare ─▶ registry ─▶ lease ─┬─ there: work ───────────────────────────────▶ loop: done
 *                                       └─ not yet: on_ready ─▶ loop ─▶ pool: work ─▶
 */
#include "server/model_call.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "server/errors.h"
#include "server/model_jobs.h"

enum { WAITING, READY, AWAITED };

typedef struct running {
    struct daemon *d;
    model_call call;
    registry_model entry;
    bool entry_open, again;
    atomic_int lease, refs;
    mlxr_model *model;
    int status;
    char code[40], message[520];
    http_task task;
} running;

static void fail(running *r, int status, const char *code, const char *message)
{
    r->status = status;
    snprintf(r->code, sizeof r->code, "%s", code);
    snprintf(r->message, sizeof r->message, "%s", message);
}

static void finish(running *r)
{
    if (r->model) {
        const int64_t *keep_ms = r->call.keep_alive_ms;
        model_table_release(r->d->models, r->model, keep_ms ? *keep_ms : MODEL_KEEP_DEFAULT);
    }
    r->call.done(r->call.user, r->status, r->code, r->message);
    if (r->entry_open) {
        registry_model_close(&r->entry);
    }
    free(r);
}

static void unref(running *r)
{
    if (atomic_fetch_sub(&r->refs, 1) == 1) {
        finish(r);
    }
}

static void work(void *user)
{
    running *r = user;
    r->again = r->model && r->call.work(r->call.user, r->model, &r->entry);
}

static int on_pool(running *r, void (*job)(void *user), void (*done)(void *user))
{
    http_server *http = r->d->http;
    return r->call.computes ? http_work_in(http, HTTP_LANE_ENGINE, job, done, r) : http_work(http, job, done, r);
}

static void worked(void *user)
{
    running *r = user;
    if (!r->again) {
        unref(r);
        return;
    }
    r->again = false;
    if (on_pool(r, work, worked) != 0) {
        fail(r, 503, "out_of_memory", "the daemon is out of memory");
        unref(r);
    }
}

static void lease_ready(void *user)
{
    running *r = user;
    if (on_pool(r, work, worked) != 0) {
        fail(r, 503, "out_of_memory", "the daemon is out of memory");
        unref(r);
    }
}

static void on_ready(void *user, mlxr_model *model, const mlxr_error *error)
{
    running *r = user;
    r->model = model;
    if (!model) {
        fail(r, 503, "model_failed", error->text);
    }
    if (atomic_exchange(&r->lease, READY) == AWAITED) {
        http_post_task(r->d->http, &r->task);
    }
}

/* False: the model has to be waited for, and nothing of `r` is touched any more. */
static bool prepare_now(running *r)
{
    mlxr_error error;
    const char *name = r->call.prepare(r->call.user);
    if (!name) {
        return true;
    }
    name = *name ? name : r->d->default_model;
    if (!*name) {
        fail(r, 400, "missing_field", "model is missing: the name of one of the models of /v1/models");
        return true;
    }
    mlxr_status status = registry_resolve(r->d->registry, name, &r->entry, &error);
    if (status != MLXR_OK) {
        char text[sizeof error.text];
        error_model_text(&r->call.identity, name, error.text, text, sizeof text);
        bool unknown = status == MLXR_ARG;
        fail(r, unknown ? 404 : 500, unknown ? "model_not_found" : "registry_failed", unknown ? text : error.text);
        return true;
    }
    r->entry_open = true;
    if (!auth_allows_model(&r->call.identity, name) || !auth_allows_model(&r->call.identity, r->entry.name)) {
        fail(r, 403, "model_not_allowed", "this key may not use this model");
        return true;
    }
    model_jobs_note_name(r->d->jobs, r->entry.path, r->entry.name);
    atomic_fetch_add(&r->refs, 1);
    if (model_table_acquire(r->d->models, r->entry.path, 0, on_ready, r, &error) != MLXR_OK) {
        atomic_fetch_sub(&r->refs, 1);
        fail(r, 503, "model_failed", error.text);
        return true;
    }
    if (atomic_exchange(&r->lease, AWAITED) != READY) {
        return false;
    }
    atomic_fetch_sub(&r->refs, 1);
    work(r);
    return true;
}

static void prepare(void *user)
{
    prepare_now(user);
}

/* Of the first job: while the model is waited for, `again` is another job's. */
static void prepared(void *user)
{
    running *r = user;
    if (atomic_load(&r->refs) == 1) {
        worked(r);
    } else {
        unref(r);
    }
}

bool model_call_start(struct daemon *d, const model_call *call)
{
    running *r = calloc(1, sizeof *r);
    if (!r) {
        return false;
    }
    r->d = d;
    r->call = *call;
    r->task = (http_task){.fn = lease_ready, .user = r};
    atomic_init(&r->refs, 1);
    atomic_init(&r->lease, WAITING);
    if (on_pool(r, prepare, prepared) != 0) {
        free(r);
        return false;
    }
    return true;
}

bool model_call_answer(http_exchange *x, int status, const char *code, const char *message, json_t *answer)
{
    if (status) {
        error_respond(x, status, code, message, status == 404 ? "model" : NULL);
    } else if (answer) {
        http_respond_json(x, 200, json_incref(answer));
    }
    return status || answer;
}
