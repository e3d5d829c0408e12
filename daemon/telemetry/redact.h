/*
 * Redaction: keeps credentials out of what is logged, wherever in a text they stand.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_TELEMETRY_REDACT_H
#define MLXR_TELEMETRY_REDACT_H

#include <stdbool.h>
#include <stddef.h>

#define REDACTED "[redacted]"

typedef struct redact_secret {
    const char *text;
    size_t n;
} redact_secret;

/* Writes the text with credentials replaced by REDACTED to `out` (NUL-terminated) and returns its length; what does not
 * fit is left out. Found are: the given secrets; what follows Bearer and Basic; keys by their beginning (mlxr-, sk-,
 * hf_, …); values behind names such as authorization, api_key, token, password, in headers, JSON, queries and
 * environments; names and passwords in URLs. */
size_t redact(const char *text, size_t n, const redact_secret *secrets, size_t n_secrets, char *out, size_t cap);

/* Is the value of something called so a credential? */
bool redact_name(const char *name, size_t n);

#endif
