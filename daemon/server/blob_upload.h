/*
 * Files that clients bring, as blobs of the registry: a body in pieces, written on the pool while more of it comes.
 * Owner: an upload belongs to its exchange and the pool's work together. Lifetime: until both have ended.
 *
 *   body's pieces ─▶ queue ─▶ pool: `check`, begin, write, at the end commit, `stored` ─▶ loop: more, or `answer`
 *                      └─ above 1 MiB the client waits
 */
#ifndef MLXR_SERVER_BLOB_UPLOAD_H
#define MLXR_SERVER_BLOB_UPLOAD_H

#include "server/daemon_parts.h"

typedef struct blob_upload_result {
    mlxr_status status;
    const char *message; /* of an error */
    bool there;          /* the store had it already; then nothing was written */
} blob_upload_result;

typedef struct blob_upload_plan {
    const char *digest; /* what it must have; NULL: any */
    /* Pool, before anything is written: whether it may be. NULL: yes. */
    mlxr_status (*check)(void *user, mlxr_error *error);
    /* Pool: it is there, under this digest. NULL: nothing else is done with it; an error: it is removed, unless a model
     * has it, or somebody else has brought the same bytes. */
    mlxr_status (*stored)(void *user, const char *digest, mlxr_error *error);
    void (*answer)(void *user, http_exchange *x, const blob_upload_result *result); /* loop; once at most */
    void (*end)(void *user); /* loop, or the pool where memory is short: `user` is not used any more. NULL: nothing */
    void *user;
} blob_upload_plan;

/* From a handler of a route with ROUTE_BODY_STREAM. No memory is answered; `end` comes in any case. */
void blob_upload_begin(struct daemon *d, http_exchange *x, const blob_upload_plan *plan);

#endif
