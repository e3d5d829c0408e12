/*
 * /api/blobs/{digest}: files that models are made of, brought by clients.
 * Owner: a call belongs to its exchange and the pool's work together. Lifetime: until both have ended.
 */
#include <stdlib.h>
#include <string.h>

#include "server/blob_upload.h"
#include "server/errors.h"
#include "server/ollama_parts.h"

static bool read_digest(http_exchange *x, char digest[REGISTRY_DIGEST_MAX])
{
    if (!registry_digest_parse(http_path_param(x, "digest"), digest)) {
        error_respond(x, 400, "invalid_value", "a digest is sha256: and 64 hexadecimal digits", "digest");
        return false;
    }
    return true;
}

static void answer(void *user, http_exchange *x, const blob_upload_result *result)
{
    (void)user;
    if (result->status == MLXR_OK) {
        http_respond(x, result->there ? 200 : 201, NULL, "", 0);
    } else {
        error_respond(x, error_status_of(result->status), NULL, result->message, "digest");
    }
}

void ollama_blob_put(void *service, http_exchange *x)
{
    char digest[REGISTRY_DIGEST_MAX];
    if (read_digest(x, digest)) {
        blob_upload_begin(service, x, &(blob_upload_plan){.digest = digest, .answer = answer});
    }
}

/* ---- HEAD -------------------------------------------------------------------------------------------------------- */

typedef struct blob_search {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    char digest[REGISTRY_DIGEST_MAX];
    bool there;
    mlxr_status status;
    mlxr_error error;
} blob_search;

static void look(void *user)
{
    blob_search *s = user;
    s->status = registry_blob_renew(s->d->registry, s->digest, &s->there, NULL, &s->error);
}

static void looked(void *user)
{
    blob_search *s = user;
    if (s->x && s->there) {
        http_respond(s->x, 200, NULL, "", 0);
    } else if (s->x && s->status != MLXR_OK) {
        error_respond(s->x, error_status_of(s->status), NULL, s->error.text, "digest");
    } else if (s->x) {
        error_respond(s->x, 404, "blob_not_found", "there is no such blob", "digest");
    }
    if (s->x) {
        http_on_gone(s->x, NULL, NULL);
    }
    free(s);
}

void ollama_blob_head(void *service, http_exchange *x)
{
    char digest[REGISTRY_DIGEST_MAX];
    if (!read_digest(x, digest)) {
        return;
    }
    blob_search *s = calloc(1, sizeof *s);
    if (s) {
        *s = (blob_search){.d = service, .x = x};
        memcpy(s->digest, digest, sizeof digest);
        http_on_gone_forget(&s->x);
    }
    if (!s || http_work(s->d->http, look, looked, s) != 0) {
        http_on_gone(x, NULL, NULL);
        free(s);
        error_respond(x, 503, NULL, "out of memory", NULL);
    }
}
