/*
 * One file from a URL into the store: pieces side by side, gone on with after an interruption, verified before it is a
 * blob. Owner: the pull. Lifetime: the call.
 *
 * The bytes lie in partial/NAME until all of them are there and their digest is right; partial/NAME.state tells which
 * pieces are. Where the digest is known from elsewhere, that is all it takes: a piece that was lost shows in the
 * digest, and everything is fetched anew. Where it is not, a piece is synced before it is noted, and the server must
 * show the same ETag.
 *
 *   partial file there? ─▶ its pieces count ─▶ probe: one piece ─▶ 206: the others, n at a time ─▶ digest ─▶ blob
 *                                                     └▶ 200: the server knows no ranges: all of it, in one go
 */
#ifndef MLXR_REGISTRY_DOWNLOAD_H
#define MLXR_REGISTRY_DOWNLOAD_H

#include "registry/inside.h"
#include "registry/transfer.h"

typedef struct download_request {
    const char *url, *bearer;
    const char *digest;   /* NULL: not known beforehand */
    uint64_t n_bytes;     /* UINT64_MAX: not known beforehand */
    uint64_t bytes_max;   /* more is refused, whatever the server says */
    const char *magic;    /* what the file must begin with, or NULL: looked at as soon as it is there */
    uint32_t n_parallel;  /* pieces at a time; 0: 4 */
    uint64_t piece_bytes; /* 0: 32 MiB */
    /* How far it is; may be NULL. */
    void (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
} download_request;

/* digest: REGISTRY_DIGEST_MAX bytes, what the blob is called; *n_bytes: its size. A blob that is there is not fetched.
 */
mlxr_status download_blob(registry *r, transfer *t, const download_request *request, char *digest, uint64_t *n_bytes,
                          mlxr_error *error);

#endif
