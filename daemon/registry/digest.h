/*
 * SHA-256 of what comes in pieces (OpenSSL).
 * Owner: the caller. Lifetime: digest_begin to digest_end.
 */
#ifndef MLXR_REGISTRY_DIGEST_H
#define MLXR_REGISTRY_DIGEST_H

#include "mlxr.h"

typedef struct digest_state digest_state;

digest_state *digest_begin(void); /* NULL: no memory */
bool digest_add(digest_state *d, const void *data, size_t n);
/* Frees the state. text: REGISTRY_DIGEST_MAX bytes for "sha256:…", or NULL. False if anything failed before. */
bool digest_end(digest_state **d, char *text);
/* Of one text; out: 32 bytes. */
bool digest_raw(const void *data, size_t n, uint8_t out[32]);
/* Git's name for a file of these bytes: SHA-1 of "blob N\0" and the bytes, 40 hexadecimal digits and a NUL. */
bool digest_git_blob(const void *data, size_t n, char out[41]);
void digest_hex(const uint8_t *bytes, size_t n, char *out);
/* n bytes nobody can guess. */
bool digest_random(uint8_t *out, size_t n);
/* Whether n bytes are the same, in a time that does not depend on where they differ. */
bool digest_same(const void *a, const void *b, size_t n);

#endif
