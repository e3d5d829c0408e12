/*
 * Events and who reads them.
 * Owner: see ui_log.h. Lifetime: see ui_log.h.
 *
 * A client that reads slowly holds up nobody: it has a place of its own in the list, and is written to when it takes
 * more. Who comes with the number of an event that is not there (a process died before it was saved) is told `reset`
 * and gets all from the beginning.
 */
#include "server/ui_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/sse.h"

#define PING_MS 15000u
/* What comes within this time goes out together: each piece that is sent wakes a browser's network, page and screen, on
 * the cores that the model computes on. */
#define GATHER_MS 50u

typedef struct logged {
    const char *type; /* static */
    char *json;
    size_t n;
} logged;

typedef struct client {
    struct client *previous, *next;
    ui_log *log;
    http_exchange *x;
    uint64_t at;    /* events sent */
    uint64_t saved; /* told to be on the disk */
    uint64_t timer;
    bool ended;
} client;

struct ui_log {
    http_server *http;
    logged *items; /* [n] */
    size_t n, cap;
    uint64_t shown, saved;
    uint64_t served_ms; /* when clients got what there was */
    uint64_t timer;     /* until they get more; 0: none */
    bool ended, released;
    client *clients; /* linked */
};

ui_log *ui_log_open(http_server *http)
{
    ui_log *log = calloc(1, sizeof *log);
    if (log) {
        log->http = http;
    }
    return log;
}

static void free_if_left(ui_log *log)
{
    if (!log->released || log->clients) {
        return;
    }
    http_timer_cancel(log->http, log->timer);
    for (size_t i = 0; i < log->n; i++) {
        free(log->items[i].json);
    }
    free(log->items);
    free(log);
}

void ui_log_release(ui_log *log)
{
    if (log) {
        log->released = true;
        free_if_left(log);
    }
}

/* The names of events are lines of ours, never text from outside. */
static const char *type_of(const json_t *event)
{
    static const char *const types[] = {"start", "text", "reasoning", "tool_call", "warning", "end"};
    const char *type = json_string_value(json_object_get(event, "type"));
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i], type) == 0) {
            return types[i];
        }
    }
    return "other";
}

bool ui_log_add(ui_log *log, json_t *event)
{
    if (log->n == log->cap) {
        size_t cap = log->cap ? log->cap * 2 : 64;
        logged *grown = realloc(log->items, cap * sizeof *grown);
        if (!grown) {
            json_decref(event);
            return false;
        }
        log->items = grown;
        log->cap = cap;
    }
    char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    if (text) {
        log->items[log->n++] = (logged){.type = type_of(event), .json = text, .n = strlen(text)};
    }
    json_decref(event);
    return text != NULL;
}

/* ---- clients ----------------------------------------------------------------------------------------------------- */

static void send_number(client *c, const char *event, const char *name, uint64_t n)
{
    char text[64];
    int length = snprintf(text, sizeof text, "{\"%s\":%llu}", name, (unsigned long long)n);
    sse_write(c->x, event, text, (size_t)length);
}

static bool has_room(const client *c)
{
    return http_stream_buffered(c->x) < HTTP_BUFFER_MAX;
}

static void serve(client *c)
{
    ui_log *log = c->log;
    char id[32];
    while (!c->ended && c->at < log->shown && has_room(c)) {
        const logged *e = &log->items[c->at++];
        snprintf(id, sizeof id, "%llu", (unsigned long long)c->at);
        sse_write_numbered(c->x, id, e->type, e->json, e->n);
    }
    uint64_t saved = log->saved < c->at ? log->saved : c->at;
    if (!c->ended && saved > c->saved && has_room(c)) {
        c->saved = saved;
        send_number(c, "saved", "n", saved);
    }
    if (!c->ended && log->ended && c->at == log->n) {
        c->ended = true;
        http_stream_end(c->x);
    }
}

static void serve_all(ui_log *log)
{
    log->served_ms = http_now_ms(log->http);
    for (client *c = log->clients; c; c = c->next) {
        serve(c);
    }
}

static void on_gathered(void *user)
{
    ui_log *log = user;
    log->timer = 0;
    serve_all(log);
}

/* At once where nothing went out for a while, else together with what comes meanwhile. */
static void serve_soon(ui_log *log)
{
    uint64_t since_ms = http_now_ms(log->http) - log->served_ms;
    if (log->timer) {
        return;
    }
    if (since_ms < GATHER_MS) {
        log->timer = http_timer(log->http, GATHER_MS - since_ms, on_gathered, log);
    }
    if (!log->timer) {
        serve_all(log);
    }
}

void ui_log_show(ui_log *log, uint64_t n)
{
    log->shown = n < log->n ? n : log->n;
    serve_soon(log);
}

void ui_log_saved(ui_log *log, uint64_t n)
{
    log->saved = n;
    serve_soon(log);
}

void ui_log_end(ui_log *log)
{
    log->ended = true;
    log->shown = log->n;
    serve_all(log);
}

static void on_drain(void *user)
{
    serve(user);
}

static void on_ping(void *user)
{
    client *c = user;
    c->timer = 0;
    if (!c->ended) {
        sse_ping(c->x);
        c->timer = http_timer(c->log->http, PING_MS, on_ping, c);
    }
}

static void on_gone(void *user)
{
    client *c = user;
    ui_log *log = c->log;
    http_timer_cancel(log->http, c->timer);
    *(c->previous ? &c->previous->next : &log->clients) = c->next;
    if (c->next) {
        c->next->previous = c->previous;
    }
    free(c);
    free_if_left(log);
}

void ui_log_attach(ui_log *log, http_exchange *x, uint64_t after)
{
    client *c = calloc(1, sizeof *c);
    if (!c) {
        http_abort(x);
        return;
    }
    bool known = after <= log->n;
    *c = (client){.log = log, .x = x, .at = known ? after : 0, .next = log->clients};
    if (c->next) {
        c->next->previous = c;
    }
    log->clients = c;
    http_on_gone(x, on_gone, c);
    http_on_drain(x, on_drain, c);
    sse_begin(x);
    if (!known) {
        send_number(c, "reset", "last", log->n);
    } else {
        sse_ping(x); /* so that a client sees at once that it is attached */
    }
    c->timer = http_timer(log->http, PING_MS, on_ping, c);
    serve(c);
}
