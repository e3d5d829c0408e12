/*
 * Errors as each dialect writes them.
 * Owner: whoever answers. Lifetime: the call.
 *
 *   OpenAI     {"error":{"message","type","param","code"}}
 *   Ollama     {"error":"message"}
 *   Anthropic  {"type":"error","error":{"type","message"},"request_id"}
 *   plain      {"error":{"message","code","param"}}
 */
#ifndef MLXR_SERVER_ERRORS_H
#define MLXR_SERVER_ERRORS_H

#include "server/request_fields.h"
#include "server/routes.h"

/* Answers with an error in the shape of the request's route. `code`: a short word such as "model_not_found"; NULL: the
 * status's own ("not_found", "rate_limit_exceeded", …). `param`: the field that is wrong, or NULL. Statuses 429 and 503
 * get a Retry-After of 1 s; error_respond_retry gives another. */
void error_respond(http_exchange *x, int status, const char *code, const char *message, const char *param);
void error_respondf(http_exchange *x, int status, const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* What a reader of fields said. */
void error_respond_fields(http_exchange *x, const request_fields *f);
/* That a body is none: request_body_read's error. */
void error_respond_body(http_exchange *x, const mlxr_error *error);
/* With Retry-After: retry_s seconds (1 … 3,600). */
void error_respond_retry(http_exchange *x, int status, const char *code, const char *message, unsigned retry_s);
/* The same body, for the middle of a stream (an SSE event, an NDJSON line). */
json_t *error_json(route_dialect dialect, int status, const char *code, const char *message, const char *param,
                   const char *request_id);
/* What is said of a model that is not there: no folders of this machine, and names of others only to who may use all.
 * `why`: the registry's words. out: cap bytes. */
void error_model_text(const auth_identity *who, const char *name, const char *why, char *out, size_t cap);
/* The HTTP status that tells a client what a library call said: ARG and LIMIT 400, UNSUPPORTED 400, NOMEM 503, … */
int error_status_of(mlxr_status status);

#endif
