/*
 * /api/blobs/{digest}: files that models are made of, brought by clients.
 * Owner: an upload belongs to its exchange and the pool's work together. Lifetime: until both have ended.
 *
 *   body's pieces ─▶ queue ─▶ pool: begin, write, at the end commit ─▶ loop: more, or the answer
 *                      └─ above 1 MiB the client waits
 */
#include <stdlib.h>
#include <string.h>

#include "server/byte_queue.h"
#include "server/errors.h"
#include "server/ollama_parts.h"

#define QUEUE_MAX ((size_t)1 << 20)

typedef struct upload {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    bool working, paused, all, answered;
    byte_queue queue; /* of the loop */
    byte_queue batch; /* of the pool's work, or empty */
    /* the pool's */
    bool looked, there, last, stored;
    registry_blob *blob;
    char digest[REGISTRY_DIGEST_MAX];
    mlxr_status status;
    mlxr_error error;
} upload;

static void work(void *user)
{
    upload *u = user;
    if (!u->looked) {
        u->looked = true;
        u->there = registry_blob_exists(u->d->registry, u->digest, NULL);
        if (!u->there) {
            u->status = registry_blob_begin(&u->blob, u->d->registry, u->digest, UINT64_MAX, &u->error);
        }
    }
    if (u->blob && u->status == MLXR_OK && u->batch.n) {
        u->status = registry_blob_write(u->blob, u->batch.data, u->batch.n, &u->error);
    }
    if (u->blob && u->status == MLXR_OK && u->last) {
        u->status = registry_blob_commit(&u->blob, NULL, &u->error);
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
    if (u->status == MLXR_OK) {
        http_respond(u->x, u->there ? 200 : 201, NULL, "", 0);
    } else {
        error_respond(u->x, error_status_of(u->status), NULL, u->error.text, "digest");
    }
}

static void go_on(upload *u);

static void worked(void *user)
{
    upload *u = user;
    u->working = false;
    byte_queue_clear(&u->batch);
    if (!u->x) {
        end(u);
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
        u->status = MLXR_NOMEM;
        strcpy(u->error.text, "out of memory");
        answer(u);
    }
}

static void on_body(void *user, const void *data, size_t n, bool last)
{
    upload *u = user;
    if (u->answered) {
        return;
    }
    if (n && !byte_queue_add(&u->queue, data, n)) {
        u->status = MLXR_NOMEM;
        strcpy(u->error.text, "out of memory");
        if (!u->working) {
            answer(u);
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

static upload *new_upload(struct daemon *d, http_exchange *x)
{
    char digest[REGISTRY_DIGEST_MAX];
    if (!registry_digest_parse(http_path_param(x, "digest"), digest)) {
        error_respond(x, 400, "invalid_value", "a digest is sha256: and 64 hexadecimal digits", "digest");
        return NULL;
    }
    upload *u = calloc(1, sizeof *u);
    if (!u) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        return NULL;
    }
    u->d = d;
    u->x = x;
    memcpy(u->digest, digest, sizeof digest);
    http_on_gone(x, on_gone, u);
    return u;
}

void ollama_blob_put(void *service, http_exchange *x)
{
    upload *u = new_upload(service, x);
    if (u) {
        http_on_body(x, on_body, u);
    }
}

/* ---- HEAD -------------------------------------------------------------------------------------------------------- */

static void look(void *user)
{
    upload *u = user;
    u->there = registry_blob_exists(u->d->registry, u->digest, NULL);
}

static void looked(void *user)
{
    upload *u = user;
    u->working = false;
    if (!u->x) {
        end(u);
    } else if (u->there) {
        http_respond(u->x, 200, NULL, "", 0);
    } else {
        error_respond(u->x, 404, "blob_not_found", "there is no such blob", "digest");
    }
}

void ollama_blob_head(void *service, http_exchange *x)
{
    upload *u = new_upload(service, x);
    if (u) {
        u->working = http_work(u->d->http, look, looked, u) == 0;
        if (!u->working) {
            error_respond(x, 503, NULL, "out of memory", NULL);
        }
    }
}
