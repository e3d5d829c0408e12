/*
 * What the router needs of an exchange beyond http.h.
 * Owner: the exchange. Lifetime: the exchange's.
 */
#ifndef MLXR_SERVER_HTTP_ROUTING_H
#define MLXR_SERVER_HTTP_ROUTING_H

#include "server/http.h"

const char *http_local_address(const http_exchange *x); /* what the client connected to: "127.0.0.1", "unix" */
const char *http_marked_path(const http_exchange *x);   /* encoded slashes as HTTP_ENCODED_SLASH */
bool http_has_body(const http_exchange *x);             /* the head announces one */
void *http_context(const http_exchange *x);
/* `end`, with the exchange, before `gone` is told. */
void http_set_context(http_exchange *x, void *context, void (*end)(void *context));
/* The value is copied, encoded slashes decoded. False: no memory, or too many. */
bool http_param_set(http_exchange *x, const char *name, size_t n_name, const char *value, size_t n_value);
void http_params_clear(http_exchange *x);

#endif
