/*
 * GET /ui-api/logs: the newest lines, once or as they come.
 * Owner: the daemon. Lifetime: of a stream, its exchange's, or until the last task it posted has run.
 *
 *   any thread logs ─▶ on_line: posts a task, unless one is under way ─▶ loop: send_lines ─▶ events
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/daemon_private.h"
#include "server/errors.h"
#include "server/sse.h"
#include "server/telemetry_routes.h"
#include "telemetry/logger.h"
#include "telemetry/text_buffer.h"

#define LINES_DEFAULT 200u
#define LINES_MAX 2000u
#define PING_MS 15000u

typedef struct question {
    uint64_t after, limit;
    mlxr_log_level level;
} question;

/* ---- one answer ---- */

typedef struct list {
    text_buffer text;
    const question *q;
    uint64_t last;
    unsigned n;
} list;

static bool add_line(void *user, uint64_t seq, mlxr_log_level level, const char *json, size_t n)
{
    list *l = user;
    l->last = seq;
    if (level <= l->q->level) {
        text_add_string(&l->text, l->n++ ? "," : "");
        text_add(&l->text, json, n);
    }
    return l->n < l->q->limit;
}

static void answer_once(logger *log, const question *q, http_exchange *x)
{
    list l = {.q = q, .last = q->after};
    text_add_string(&l.text, "{\"lines\":[");
    uint64_t lost = logger_tail(log, q->after, SIZE_MAX, add_line, &l);
    text_print(&l.text, "],\"next\":%llu,\"lost\":%llu}", (unsigned long long)l.last, (unsigned long long)lost);
    if (l.text.failed) {
        error_respond(x, 503, NULL, "out of memory", NULL);
    } else {
        http_header_add(x, "Cache-Control", "no-store");
        http_respond(x, 200, "application/json", l.text.data, l.text.n);
    }
    text_buffer_close(&l.text);
}

/* ---- a stream ---- */

typedef struct log_stream {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    question q;
    uint64_t subscription, timer;
    http_task task;
    atomic_bool posted; /* the task is under way */
} log_stream;

static void free_if_done(log_stream *s)
{
    if (!s->x && !atomic_load(&s->posted)) {
        free(s);
    }
}

static bool send_line(void *user, uint64_t seq, mlxr_log_level level, const char *json, size_t n)
{
    log_stream *s = user;
    s->q.after = seq;
    if (level <= s->q.level) {
        sse_write(s->x, NULL, json, n);
    }
    return http_stream_buffered(s->x) < HTTP_BUFFER_MAX;
}

/* What there is, as far as the client takes it; what it does not take in time leaves the ring, which it is told. */
static void send_lines(log_stream *s)
{
    uint64_t lost = http_stream_buffered(s->x) < HTTP_BUFFER_MAX
                        ? logger_tail(s->d->options->logger, s->q.after, SIZE_MAX, send_line, s)
                        : 0;
    if (lost) {
        sse_write_json(s->x, "lost", json_pack("{s:I}", "lost", (json_int_t)lost));
    }
}

static void on_task(void *user)
{
    log_stream *s = user;
    atomic_store(&s->posted, false);
    if (s->x) {
        send_lines(s);
    }
    free_if_done(s);
}

static void on_line(void *user)
{
    log_stream *s = user;
    if (!atomic_exchange(&s->posted, true)) {
        http_post_task(s->d->http, &s->task);
    }
}

static void on_drain(void *user)
{
    send_lines(user);
}

static void on_ping(void *user)
{
    log_stream *s = user;
    sse_ping(s->x);
    s->timer = http_timer(s->d->http, PING_MS, on_ping, s);
}

static void on_gone(void *user)
{
    log_stream *s = user;
    logger_unsubscribe(s->d->options->logger, s->subscription);
    http_timer_cancel(s->d->http, s->timer);
    s->x = NULL;
    free_if_done(s);
}

static void answer_stream(struct daemon *d, const question *q, http_exchange *x)
{
    log_stream *s = calloc(1, sizeof *s);
    if (s) {
        *s = (log_stream){.d = d, .x = x, .q = *q, .task = {.fn = on_task, .user = s}};
        s->subscription = logger_subscribe(d->options->logger, on_line, s);
    }
    if (!s || !s->subscription) {
        free(s);
        error_respond(x, 503, NULL, "too many clients follow the log", NULL);
        return;
    }
    s->timer = http_timer(d->http, PING_MS, on_ping, s);
    http_on_gone(x, on_gone, s);
    http_on_drain(x, on_drain, s);
    sse_begin(x);
    send_lines(s);
}

/* ---- the route ---- */

/* False: it has been answered. */
static bool read_question(http_exchange *x, logger *log, question *q)
{
    char level[16];
    bool given;
    *q = (question){.limit = LINES_DEFAULT, .level = MLXR_LOG_DEBUG};
    if (!route_query_number(x, "after", 0, UINT64_MAX, &q->after) ||
        !route_query_number(x, "limit", 0, LINES_MAX, &q->limit) ||
        !route_query_text(x, "level", level, sizeof level, &given)) {
        return false;
    }
    if (given && !log_level_find(level, &q->level)) {
        error_respond(x, 400, NULL, "level: error, warn, info or debug is needed", "level");
        return false;
    }
    q->limit = q->limit ? q->limit : 1;
    q->after = q->after > logger_stats_get(log).newest ? 0 : q->after; /* a number of another run of the daemon */
    return true;
}

void log_answer(void *service, http_exchange *x)
{
    struct daemon *d = service;
    const char *accept = http_header_get(x, "accept");
    question q;
    if (!d->options->logger) {
        error_respond(x, 501, NULL, "this server keeps no log", NULL);
    } else if (!read_question(x, d->options->logger, &q)) {
        return;
    } else if (accept && strstr(accept, "text/event-stream")) {
        answer_stream(d, &q, x);
    } else {
        answer_once(d->options->logger, &q, x);
    }
}
