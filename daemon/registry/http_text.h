/*
 * Texts in HTTP headers that servers send us, none of which is trusted.
 * Owner: the caller's buffers. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_HTTP_TEXT_H
#define MLXR_REGISTRY_HTTP_TEXT_H

#include "mlxr.h"

/* "bytes 0-99/1000": first, last, total (UINT64_MAX for "*"). False for anything else, and where they do not fit each
 * other. */
bool http_content_range(const char *value, uint64_t *first, uint64_t *last, uint64_t *total);
/* A number of decimal digits and nothing else. */
bool http_number(const char *value, uint64_t *out);

#define HTTP_CHALLENGE_MAX 512u

typedef struct http_challenge {
    char realm[HTTP_CHALLENGE_MAX], service[HTTP_CHALLENGE_MAX], scope[HTTP_CHALLENGE_MAX];
} http_challenge;
/* 'Bearer realm="…",service="…",scope="…"'. False if it is no such challenge, has no realm, or a text too long. */
bool http_bearer_challenge(const char *value, http_challenge *out);
/* The URL of '<…>; rel="next"' in a Link header. */
bool http_link_next(const char *value, char *out, size_t cap);
/* Seconds of a Retry-After header, at most `most`; `otherwise` for a date or nonsense. */
unsigned http_retry_after_s(const char *value, unsigned most, unsigned otherwise);

#endif
