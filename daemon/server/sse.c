/*
 * Server-sent events.
 * Owner: the handler. Lifetime: that of its exchange.
 */
#include "server/sse.h"

#include <stdlib.h>
#include <string.h>

#include "telemetry/text_buffer.h"

void sse_begin(http_exchange *x)
{
    http_header_add(x, "Cache-Control", "no-cache");
    http_header_add(x, "X-Accel-Buffering", "no");
    http_stream_begin(x, 200, "text/event-stream; charset=utf-8");
}

/* A name of an event is one line of ours, never text from outside. The event goes as one piece: of HTTP's chunks, which
 * each cost their reader a wake-up and their sender eight bytes. */
bool sse_write_numbered(http_exchange *x, const char *id, const char *event, const char *data, size_t n)
{
    text_buffer text = {0};
    if (id) {
        text_print(&text, "id: %s\n", id);
    }
    if (event) {
        text_print(&text, "event: %s\n", event);
    }
    /* A carriage return ends a line for clients, too: no data may make a line that is not "data:". */
    for (size_t at = 0; at <= n;) {
        size_t end = at;
        while (end < n && data[end] != '\n' && data[end] != '\r') {
            end++;
        }
        text_add(&text, "data: ", 6);
        text_add(&text, data + at, end - at);
        text_add(&text, "\n", 1);
        at = end + 1 + (end + 1 < n && data[end] == '\r' && data[end + 1] == '\n');
    }
    text_add(&text, "\n", 1);
    bool ok = !text.failed && http_stream_write(x, text.data, text.n);
    if (text.failed) {
        http_abort(x); /* an event that cannot be written is no reason to go on as if it had been */
    }
    text_buffer_close(&text);
    return ok;
}

bool sse_write(http_exchange *x, const char *event, const char *data, size_t n)
{
    return sse_write_numbered(x, NULL, event, data, n);
}

bool sse_write_json(http_exchange *x, const char *event, json_t *data)
{
    char *text = data ? json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(data);
    if (!text) {
        http_abort(x); /* as above */
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
