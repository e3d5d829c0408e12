/*
 * /v1/responses: a version of a response on its way to the disk.
 * Owner: the job, of copies that the loop does not change meanwhile. Lifetime: until it is kept and told.
 */
#include <stdlib.h>

#include "server/openai_response.h"
#include "telemetry/daemon_error.h"

typedef struct keep_job { /* all JSON is its own */
    response_answer *a;
    json_t *response, *messages, *input;
    int64_t version;
    bool last;
    kept_then *then;
    mlxr_status status;
    mlxr_error error;
} keep_job;

static void remove_kept(void *user)
{
    keep_job *job = user;
    bool removed;
    response_store_remove(generation_responses(job->a->d), job->a->id, job->a->owner, &removed, &job->error);
}

/* Not while an older version is on its way: it may be overtaken, and a removal in between has to know of it. */
static void unlist_if_over(response_answer *a)
{
    if (a->told && a->n_keeps == 0) {
        response_unlist(a);
    }
}

static void end_keep(void *user)
{
    keep_job *job = user;
    response_answer *a = job->a;
    json_decref(job->response);
    json_decref(job->messages);
    json_decref(job->input);
    free(job);
    a->n_keeps--;
    unlist_if_over(a);
    response_answer_free(a);
}

static void put_kept(void *user)
{
    keep_job *job = user;
    const kept_response kept = {.id = job->a->id,
                                .owner = job->a->owner,
                                .version = job->version,
                                .response = job->response,
                                .messages = job->messages,
                                .input = job->input};
    job->status = response_store_put(generation_responses(job->a->d), &kept, &job->error);
}

static void answer_cancellers(response_answer *a, json_t *response)
{
    while (a->cancellers) {
        canceller *c = a->cancellers;
        a->cancellers = c->next;
        c->done = true;
        if (c->x) { /* which frees it at its end */
            http_respond_json(c->x, 200, json_incref(response));
        } else {
            free(c);
        }
    }
}

static void tell_kept(keep_job *job)
{
    response_answer *a = job->a;
    if (job->status != MLXR_OK) {
        json_t *list = json_object_get(job->response, "warnings");
        list = list ? json_copy(list) : json_array();
        json_array_append_new(list, json_sprintf("store: the response could not be kept: %.200s", job->error.text));
        json_object_set_new(job->response, "warnings", list);
    }
    if (job->then) {
        job->then(a, job->response);
    }
    if (job->last) {
        a->told = true;
        answer_cancellers(a, job->response);
    }
}

static void put_done(void *user)
{
    keep_job *job = user;
    response_answer *a = job->a;
    tell_kept(job);
    if (!a->deleted || http_work(a->d->http, remove_kept, end_keep, job) != 0) {
        end_keep(job);
    }
}

void response_keep(response_answer *a, json_t *response, bool last, kept_then *then)
{
    keep_job *job = calloc(1, sizeof *job);
    a->n_keeps++;
    keep_job made = {.a = a, .response = response, .last = last, .then = then, .version = ++a->version};
    if (!job) {
        made.status = daemon_error(&made.error, MLXR_NOMEM, "out of memory");
        tell_kept(&made);
        json_decref(made.response);
        a->n_keeps--;
        unlist_if_over(a);
        return;
    }
    *job = made;
    if (a->o.store && !a->deleted) {
        /* The pool reads, the loop goes on: they must not share what changes. */
        job->messages = last ? json_incref(a->conversation) : json_deep_copy(a->conversation);
        job->input = last ? json_incref(a->input) : json_deep_copy(a->input);
        if (!last) {
            job->response = json_deep_copy(response);
            json_decref(response);
        }
        if (http_work(a->d->http, put_kept, put_done, job) == 0) {
            return;
        }
        job->status = daemon_error(&job->error, MLXR_NOMEM, "out of memory");
    }
    tell_kept(job);
    end_keep(job);
}
