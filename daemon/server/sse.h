/*
 * Server-sent events over a streamed answer.
 * Owner: the handler. Lifetime: that of its exchange.
 */
#ifndef MLXR_SERVER_SSE_H
#define MLXR_SERVER_SSE_H

#include "server/http.h"

/* 200, text/event-stream, no caching or buffering by proxies. */
void sse_begin(http_exchange *x);
/* "event: NAME" (unless NULL), then one "data:" line for each line of the text, then a blank line. */
bool sse_write(http_exchange *x, const char *event, const char *data, size_t n);
/* The same behind "id: …", which a browser sends as Last-Event-ID when it comes back. */
bool sse_write_numbered(http_exchange *x, const char *id, const char *event, const char *data, size_t n);
bool sse_write_json(http_exchange *x, const char *event, json_t *data); /* takes the reference */
/* A comment line, which clients ignore: keeps proxies from closing a silent stream. */
bool sse_ping(http_exchange *x);

#endif
