/*
 * Server-sent events.
 * Owner: the handler. Lifetime: that of its exchange.
 */
#include "server/sse.h"

#include <stdlib.h>
#include <string.h>

void sse_begin(http_exchange *x)
{
    http_header_add(x, "Cache-Control", "no-cache");
    http_header_add(x, "X-Accel-Buffering", "no");
    http_stream_begin(x, 200, "text/event-stream; charset=utf-8");
}

bool sse_id(http_exchange *x, const char *id)
{
    return http_stream_write(x, "id: ", 4) && http_stream_write(x, id, strlen(id)) && http_stream_write(x, "\n", 1);
}

/* A name of an event is one line of ours, never text from outside. */
bool sse_write(http_exchange *x, const char *event, const char *data, size_t n)
{
    bool ok = true;
    if (event) {
        ok = http_stream_write(x, "event: ", 7) && http_stream_write(x, event, strlen(event)) &&
             http_stream_write(x, "\n", 1);
    }
    /* A carriage return ends a line for clients, too: no data may make a line that is not "data:". */
    for (size_t at = 0; ok && at <= n;) {
        size_t end = at;
        while (end < n && data[end] != '\n' && data[end] != '\r') {
            end++;
        }
        ok = http_stream_write(x, "data: ", 6) && http_stream_write(x, data + at, end - at) &&
             http_stream_write(x, "\n", 1);
        at = end + 1 + (end + 1 < n && data[end] == '\r' && data[end + 1] == '\n');
    }
    return ok && http_stream_write(x, "\n", 1);
}

bool sse_write_json(http_exchange *x, const char *event, json_t *data)
{
    char *text = data ? json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(data);
    if (!text) {
        http_abort(x); /* an event that cannot be written is no reason to go on as if it had been */
        return false;
    }
    bool ok = sse_write(x, event, text, strlen(text));
    free(text);
    return ok;
}

bool sse_ping(http_exchange *x)
{
    return http_stream_write(x, ": ping\n\n", 8);
}
