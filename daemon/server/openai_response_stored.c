/*
 * /v1/responses/{id}: what is kept is shown, removed, or told that it cannot be cancelled.
 * Owner: a job belongs to its exchange and the pool together. Lifetime: until both have ended.
 */
#include <stdlib.h>
#include <string.h>

#include "server/errors.h"
#include "server/openai_response.h"

static void not_found(http_exchange *x, const char *id)
{
    error_respondf(x, 404, "response_not_found", "response_id", "there is no response '%.80s'", id);
}

typedef struct stored_job {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    bool worked, removes, removed;
    response_part part;
    char *id;
    uint64_t owner;
    json_t *found;
    void (*tell)(struct stored_job *j);
    mlxr_status status;
    mlxr_error error;
} stored_job;

static void free_stored(stored_job *j)
{
    if (!j->x && j->worked) {
        json_decref(j->found);
        free(j->id);
        free(j);
    }
}

static void stored_gone(void *user)
{
    stored_job *j = user;
    j->x = NULL;
    free_stored(j);
}

static void stored_work(void *user)
{
    stored_job *j = user;
    response_store *s = generation_responses(j->d);
    j->status = j->removes ? response_store_remove(s, j->id, j->owner, &j->removed, &j->error)
                           : response_store_get(s, j->id, j->owner, j->part, &j->found, &j->error);
}

static void stored_done(void *user)
{
    stored_job *j = user;
    j->worked = true;
    if (!j->x) {
        free_stored(j);
    } else if (j->status != MLXR_OK) {
        error_respond(j->x, j->status == MLXR_NOMEM ? 503 : 500, "store_failed", j->error.text, NULL);
    } else if (!j->found && !j->removed) {
        not_found(j->x, j->id);
    } else {
        j->tell(j);
    }
}

static void stored_start(struct daemon *d, http_exchange *x, const stored_job *what)
{
    stored_job *j = calloc(1, sizeof *j);
    char *id = strdup(http_path_param(x, "id"));
    if (j && id) {
        *j = *what;
        j->d = d;
        j->x = x;
        j->id = id;
        j->owner = route_identity(x)->key_id;
        if (http_work(d->http, stored_work, stored_done, j) == 0) {
            http_on_gone(x, stored_gone, j);
            return;
        }
    }
    free(id);
    free(j);
    error_respond(x, 503, NULL, "out of memory", NULL);
}

/* One that is being made in the background, or whose last version is on its way to the store; NULL: none. */
static response_answer *find_background(struct daemon *d, http_exchange *x)
{
    const char *id = http_path_param(x, "id");
    response_answer *a = d->generations->background;
    while (a && (a->deleted || a->owner != route_identity(x)->key_id || strcmp(a->id, id) != 0)) {
        a = a->next;
    }
    return a;
}

static void tell_found(stored_job *j)
{
    http_respond_json(j->x, 200, json_incref(j->found));
}

static void tell_input(stored_job *j)
{
    http_respond_json(j->x, 200, json_pack("{s:s, s:O, s:b}", "object", "list", "data", j->found, "has_more", 0));
}

static void tell_removed(stored_job *j)
{
    http_respond_json(j->x, 200, json_pack("{s:s, s:s, s:b}", "id", j->id, "object", "response", "deleted", 1));
}

/* What is done stays as it is. */
static void tell_uncancelled(stored_job *j)
{
    if (json_is_true(json_object_get(j->found, "background"))) {
        tell_found(j);
    } else {
        error_respond(j->x, 400, "not_cancellable", "only a response that is made in the background can be cancelled",
                      "response_id");
    }
}

void openai_responses_get(void *service, http_exchange *x)
{
    stored_start(service, x, &(stored_job){.part = RESPONSE_WHOLE, .tell = tell_found});
}

void openai_responses_input(void *service, http_exchange *x)
{
    stored_start(service, x, &(stored_job){.part = RESPONSE_INPUT, .tell = tell_input});
}

void openai_responses_delete(void *service, http_exchange *x)
{
    response_answer *a = find_background(service, x);
    if (a) { /* what was kept of it goes behind what is on its way */
        a->deleted = true;
        if (a->g) {
            response_cancel(a);
        }
    }
    stored_start(service, x, &(stored_job){.removes = true, .tell = tell_removed});
}

static void canceller_gone(void *user)
{
    canceller *c = user;
    c->x = NULL;
    if (c->done) {
        free(c);
    }
}

void openai_responses_cancel(void *service, http_exchange *x)
{
    response_answer *a = find_background(service, x);
    a = a && a->told ? NULL : a; /* then the store has what there is to tell */
    canceller *by = a ? calloc(1, sizeof *by) : NULL;
    if (!a) {
        stored_start(service, x, &(stored_job){.part = RESPONSE_WHOLE, .tell = tell_uncancelled});
    } else if (!by) {
        error_respond(x, 503, NULL, "out of memory", NULL);
    } else {
        by->x = x;
        by->next = a->cancellers;
        a->cancellers = by;
        http_on_gone(x, canceller_gone, by);
        if (a->g) {
            response_cancel(a);
        }
    }
}
