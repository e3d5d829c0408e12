/*
 * Bodies into the store of blobs.
 * Owner: see the header. Lifetime: see the header.
 */
#include "server/blob_upload.h"

#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "server/byte_queue.h"
#include "server/errors.h"

#define QUEUE_MAX ((size_t)1 << 20)

typedef struct upload {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    blob_upload_plan plan;
    bool working, paused, all, answered;
    bool lost;        /* a piece, for want of memory: what was written is not the body */
    byte_queue queue; /* of the loop */
    byte_queue batch; /* of the pool's work, or empty */
    /* the pool's */
    bool looked, there, last, stored;
    registry_blob *blob;
    char digest[REGISTRY_DIGEST_MAX]; /* "": not known before its end */
    mlxr_status status;
    mlxr_error error;
} upload;

static void work(void *user)
{
    upload *u = user;
    const char *digest = *u->digest ? u->digest : NULL;
    int64_t made_us = 0;
    mlxr_error ignored;
    if (!u->looked) {
        u->looked = true;
        u->status = u->plan.check ? u->plan.check(u->plan.user, &u->error) : MLXR_OK;
        if (u->status == MLXR_OK && digest) {
            u->status = registry_blob_renew(u->d->registry, digest, &u->there, NULL, &u->error);
        }
        if (u->status == MLXR_OK && !u->there) {
            u->status = registry_blob_begin(&u->blob, u->d->registry, digest, UINT64_MAX, &u->error);
        }
    }
    if (u->blob && u->status == MLXR_OK && u->batch.n) {
        u->status = registry_blob_write(u->blob, u->batch.data, u->batch.n, &u->error);
    }
    if (u->blob && u->status == MLXR_OK && u->last) {
        u->status = registry_blob_commit_marked(&u->blob, u->digest, &made_us, &u->error);
        if (u->status == MLXR_OK && u->plan.stored) {
            u->status = u->plan.stored(u->plan.user, u->digest, &u->error);
            if (u->status != MLXR_OK) { /* what cannot go now goes in a day */
                registry_blob_forget(u->d->registry, u->digest, made_us, &ignored);
            }
        }
        u->stored = u->status == MLXR_OK;
    }
}

static void give_up(void *user)
{
    upload *u = user;
    registry_blob_abort(&u->blob);
}

static void gave_up(void *user)
{
    upload *u = user;
    byte_queue_free(&u->queue);
    byte_queue_free(&u->batch);
    if (u->plan.end) {
        u->plan.end(u->plan.user);
    }
    free(u);
}

/* The exchange has ended and nothing works. */
static void end(upload *u)
{
    if (!u->blob || http_work(u->d->http, give_up, gave_up, u) != 0) {
        give_up(u);
        gave_up(u);
    }
}

static void answer(upload *u)
{
    u->answered = true;
    const blob_upload_result result = {u->status, u->error.text, u->there};
    u->plan.answer(u->plan.user, u->x, &result);
}

static void answer_no_memory(upload *u)
{
    u->status = MLXR_NOMEM;
    strcpy(u->error.text, "out of memory");
    answer(u);
}

static void go_on(upload *u);

static void worked(void *user)
{
    upload *u = user;
    u->working = false;
    byte_queue_clear(&u->batch);
    if (!u->x) {
        end(u);
    } else if (u->lost) {
        answer_no_memory(u);
    } else if (u->status != MLXR_OK || (u->last && (u->stored || u->there))) {
        answer(u);
    } else {
        go_on(u);
    }
}

static void go_on(upload *u)
{
    if (u->paused) {
        u->paused = false;
        http_body_resume(u->x);
    }
    if (u->queue.n == 0 && !u->all) {
        return;
    }
    byte_queue taken = u->queue;
    u->queue = u->batch;
    u->batch = taken;
    u->last = u->all;
    u->working = http_work(u->d->http, work, worked, u) == 0;
    if (!u->working) {
        answer_no_memory(u);
    }
}

static void on_body(void *user, const void *data, size_t n, bool last)
{
    upload *u = user;
    if (u->answered || u->lost) {
        return;
    }
    if (n && !byte_queue_add(&u->queue, data, n)) {
        u->lost = true;
        if (!u->working) { /* else `worked` does: status and error are the pool's until then */
            answer_no_memory(u);
        }
        return;
    }
    u->all = last;
    if (!u->working) {
        go_on(u);
    } else if (u->queue.n > QUEUE_MAX && !u->paused && !last) {
        u->paused = true;
        http_body_pause(u->x);
    }
}

static void on_gone(void *user)
{
    upload *u = user;
    u->x = NULL;
    if (!u->working) {
        end(u);
    }
}

void blob_upload_begin(struct daemon *d, http_exchange *x, const blob_upload_plan *plan)
{
    upload *u = calloc(1, sizeof *u);
    if (!u) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        if (plan->end) {
            plan->end(plan->user);
        }
        return;
    }
    *u = (upload){.d = d, .x = x, .plan = *plan};
    if (plan->digest) {
        memcpy(u->digest, plan->digest, sizeof u->digest);
    }
    u->plan.digest = NULL; /* borrowed for the call */
    http_on_gone(x, on_gone, u);
    http_on_body(x, on_body, u);
}
