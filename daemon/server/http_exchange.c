/*
 * Exchanges: what handlers see of a request, and how they answer.
 * Owner: their connection. Lifetime: from a complete head to `gone`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/http_internal.h"
#include "server/http_target.h"

#define BUFFER_HARD_MAX (16u * HTTP_BUFFER_MAX)

/* ---- the request ------------------------------------------------------------------------------------------------- */

static bool harmless_id(const char *id)
{
    size_t n = id ? strlen(id) : 0;
    return n > 0 && n <= 64 && strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") == n;
}

http_exchange *exchange_open(http_conn *c)
{
    http_exchange *x = calloc(1, sizeof *x);
    if (!x) {
        return NULL;
    }
    const http_head *head = &c->parser.head;
    const char *id = http_head_field(head, "x-request-id");
    if (harmless_id(id)) {
        snprintf(x->id, sizeof x->id, "%s", id);
    } else {
        snprintf(x->id, sizeof x->id, "req-%08llx%08llx", (unsigned long long)(c->server->id_salt & 0xffffffff),
                 (unsigned long long)++c->server->n_request_ids);
    }
    x->conn = c;
    x->opened_us = uv_hrtime() / 1000;
    x->request = (http_request){
        .method = head->method ? head->method : "",
        .path = head->path ? head->path : "",
        .query = head->query ? head->query : "",
        .body = "",
        .request_id = x->id,
        .peer = c->peer,
        .loopback = c->loopback,
        .tls = c->tls != NULL,
    };
    x->head_only = strcmp(x->request.method, "HEAD") == 0;
    c->server->stats.n_requests++;
    c->server->stats.n_exchanges++;
    return x;
}

void exchange_close(http_exchange *x)
{
    void (*gone)(void *user) = x->on_gone;
    void *user = x->gone_user;
    x->conn->x = NULL;
    x->conn->server->stats.n_exchanges--;
    byte_queue_free(&x->body);
    byte_queue_free(&x->headers);
    http_params_clear(x);
    if (x->context) {
        x->context_end(x->context);
    }
    free(x);
    if (gone) {
        gone(user);
    }
}

const http_request *http_request_of(const http_exchange *x)
{
    return &x->request;
}

char *http_body_copy(const http_exchange *x, size_t *n)
{
    const http_request *q = http_request_of(x);
    char *copy = malloc(q->n_body + 1);
    *n = q->n_body;
    return copy ? memcpy(copy, q->body, q->n_body + 1) : NULL;
}

http_server *http_server_of(const http_exchange *x)
{
    return x->conn->server;
}

http_outcome http_outcome_of(const http_exchange *x)
{
    return (http_outcome){.status = x->status,
                          .n_bytes = x->n_out,
                          .duration_us = uv_hrtime() / 1000 - x->opened_us,
                          .left = x->left || !x->ended || x->aborted};
}

const char *http_header_get(const http_exchange *x, const char *lower_case_name)
{
    return http_head_field(&x->conn->parser.head, lower_case_name);
}

unsigned http_header_count(const http_exchange *x, const char *lower_case_name)
{
    const http_head *head = &x->conn->parser.head;
    unsigned n = 0;
    for (size_t i = 0; i < head->n_fields; i++) {
        n += strcmp(head->fields[i].name, lower_case_name) == 0;
    }
    return n;
}

const char *http_path_param(const http_exchange *x, const char *name)
{
    for (unsigned i = 0; i < x->n_params; i++) {
        if (strlen(name) == x->n_param_names[i] && memcmp(name, x->param_names[i], x->n_param_names[i]) == 0) {
            return x->param_values[i];
        }
    }
    return NULL;
}

/* Its value as it stands there, [*n_value]; NULL: there is none of this name. */
static const char *find_query(const http_exchange *x, const char *name, size_t *n_value)
{
    for (const char *at = x->request.query; *at;) {
        size_t n = strcspn(at, "&"), n_name = strcspn(at, "=&");
        if (n_name == strlen(name) && memcmp(at, name, n_name) == 0) {
            *n_value = n > n_name ? n - n_name - 1 : 0;
            return at + (n > n_name ? n_name + 1 : n);
        }
        at += n + (at[n] == '&');
    }
    return NULL;
}

http_query_state http_query_read(const http_exchange *x, const char *name, char *out, size_t cap)
{
    size_t n_value;
    const char *value = find_query(x, name, &n_value);
    if (!value) {
        return HTTP_QUERY_NONE;
    }
    if (n_value >= cap) {
        return HTTP_QUERY_BAD;
    }
    memcpy(out, value, n_value);
    out[n_value] = '\0';
    return http_query_decode(out) ? HTTP_QUERY_GIVEN : HTTP_QUERY_BAD;
}

const char *http_local_address(const http_exchange *x)
{
    return x->conn->local;
}

const char *http_marked_path(const http_exchange *x)
{
    const char *path = x->conn->parser.head.marked_path;
    return path ? path : "";
}

bool http_has_body(const http_exchange *x)
{
    const http_head *head = &x->conn->parser.head;
    return head->chunked || head->content_length > 0;
}

void http_set_context(http_exchange *x, void *context, void (*end)(void *context))
{
    x->context = context;
    x->context_end = end;
}

void *http_context(const http_exchange *x)
{
    return x->context;
}

bool http_param_set(http_exchange *x, const char *name, size_t n_name, const char *value, size_t n_value)
{
    char *copy = x->n_params < HTTP_PARAMS_MAX ? malloc(n_value + 1) : NULL;
    if (!copy) {
        return false;
    }
    for (size_t i = 0; i < n_value; i++) {
        copy[i] = value[i] == HTTP_ENCODED_SLASH ? '/' : value[i];
    }
    copy[n_value] = '\0';
    x->param_names[x->n_params] = name;
    x->n_param_names[x->n_params] = n_name;
    x->param_values[x->n_params++] = copy;
    return true;
}

void http_params_clear(http_exchange *x)
{
    while (x->n_params) {
        free(x->param_values[--x->n_params]);
    }
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {{200, "OK"},
                 {201, "Created"},
                 {202, "Accepted"},
                 {204, "No Content"},
                 {206, "Partial Content"},
                 {304, "Not Modified"},
                 {307, "Temporary Redirect"},
                 {308, "Permanent Redirect"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {415, "Unsupported Media Type"},
                 {422, "Unprocessable Content"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i].status == status) {
            return texts[i].text;
        }
    }
    return status < 400 ? "OK" : "Error";
}

/* No memory for a part of the answer: a torn one must not look whole. */
static void append(http_exchange *x, const void *data, size_t n)
{
    if (!x->aborted && !byte_queue_add(&x->conn->out, data, n)) {
        x->aborted = true;
    }
    x->n_out += n;
    conn_mark(x->conn);
}

static void append_text(http_exchange *x, const char *text)
{
    append(x, text, strlen(text));
}

static bool plain_text(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f) {
            return false;
        }
    }
    return true;
}

void http_header_add(http_exchange *x, const char *name, const char *value)
{
    if (x->began || !plain_text(name) || !plain_text(value)) {
        return;
    }
    bool ok = byte_queue_add_text(&x->headers, name) && byte_queue_add_text(&x->headers, ": ") &&
              byte_queue_add_text(&x->headers, value) && byte_queue_add_text(&x->headers, "\r\n");
    if (!ok) { /* it may be one that protects somebody */
        x->aborted = true;
        conn_mark(x->conn);
    }
}

static void append_head(http_exchange *x, int status, const char *content_type, const char *length)
{
    char line[160], date[64];
    time_t now = time(NULL);
    struct tm parts;
    http_conn *c = x->conn;
    x->began = true;
    x->status = status;
    c->end_after |= !x->body_done || !c->parser.head.keep_alive || c->server->stopping;
    strftime(date, sizeof date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime_r(&now, &parts));
    snprintf(line, sizeof line, "HTTP/1.1 %d %s\r\n", status, status_text(status));
    append_text(x, line);
    append_text(x, date);
    if (content_type && *content_type) {
        append_text(x, "Content-Type: ");
        append_text(x, content_type);
        append_text(x, "\r\n");
    }
    append_text(x, length);
    append_text(x, "X-Request-Id: ");
    append_text(x, x->id);
    append_text(x, "\r\nX-Content-Type-Options: nosniff\r\n");
    append(x, x->headers.data, x->headers.n);
    if (c->end_after) {
        append_text(x, "Connection: close\r\n");
    } else if (c->parser.head.minor == 0) {
        append_text(x, "Connection: keep-alive\r\n");
    }
    append_text(x, "\r\n");
}

void http_respond(http_exchange *x, int status, const char *content_type, const void *body, size_t n)
{
    char length[48];
    if (x->began) {
        http_abort(x);
        return;
    }
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", n);
    append_head(x, status, content_type, status == 204 || status == 304 ? "" : length);
    if (!x->head_only && status != 204 && status != 304) {
        append(x, body, n);
    }
    x->ended = true;
    conn_mark(x->conn);
}

void http_respond_json(http_exchange *x, int status, json_t *body)
{
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(body);
    if (!text) {
        static const char failed[] = "{\"error\":{\"message\":\"out of memory\",\"code\":\"internal_error\"}}";
        http_respond(x, 500, "application/json", failed, sizeof failed - 1);
        return;
    }
    http_respond(x, status, "application/json", text, strlen(text));
    free(text);
}

void http_stream_begin(http_exchange *x, int status, const char *content_type)
{
    if (x->began) {
        http_abort(x);
        return;
    }
    x->streaming = true;
    x->chunked = x->conn->parser.head.minor == 1;
    x->conn->end_after |= !x->chunked;
    append_head(x, status, content_type, x->chunked ? "Transfer-Encoding: chunked\r\n" : "");
}

bool http_stream_write(http_exchange *x, const void *data, size_t n)
{
    char size[24];
    if (!x->streaming || x->ended || x->aborted) {
        return false;
    }
    if (n == 0 || x->head_only) { /* a chunk of no bytes would end the answer */
        return true;
    }
    if (x->chunked) {
        append(x, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", n));
    }
    append(x, data, n);
    if (x->chunked) {
        append(x, "\r\n", 2);
    }
    size_t buffered = conn_buffered(x->conn);
    if (buffered >= HTTP_BUFFER_MAX && !x->over) {
        x->over = true;
        x->over_ms = uv_now(&x->conn->server->loop);
    }
    if (buffered > BUFFER_HARD_MAX) {
        x->conn->server->stats.n_stalled++;
        http_abort(x);
    }
    return !x->aborted;
}

size_t http_stream_buffered(const http_exchange *x)
{
    return conn_buffered(x->conn);
}

void http_stream_end(http_exchange *x)
{
    if (!x->streaming || x->ended) {
        return;
    }
    if (x->chunked && !x->head_only) {
        append_text(x, "0\r\n\r\n");
    }
    x->ended = true;
    conn_mark(x->conn);
}

bool http_began(const http_exchange *x)
{
    return x->began;
}

void http_abort(http_exchange *x)
{
    x->aborted = true;
    conn_mark(x->conn);
}

void http_on_gone(http_exchange *x, void (*fn)(void *user), void *user)
{
    x->on_gone = fn;
    x->gone_user = user;
}

static void forget(void *user)
{
    *(http_exchange **)user = NULL;
}

void http_on_gone_forget(http_exchange **x)
{
    http_on_gone(*x, forget, x);
}

void http_on_drain(http_exchange *x, void (*fn)(void *user), void *user)
{
    x->on_drain = fn;
    x->drain_user = user;
}

void http_on_body(http_exchange *x, void (*fn)(void *user, const void *data, size_t n, bool last), void *user)
{
    x->on_body = fn;
    x->body_user = user;
}

void http_body_pause(http_exchange *x)
{
    x->body_paused = true;
    conn_mark(x->conn);
}

void http_body_resume(http_exchange *x)
{
    x->body_paused = false;
    x->body_resumed = true;
    conn_mark(x->conn);
}

void exchange_fail(http_exchange *x, int status, const char *message)
{
    http_server *s = x->conn->server;
    x->conn->end_after = true;
    s->stats.n_bad++;
    if (x->began) {
        x->aborted = !x->ended;
        conn_mark(x->conn);
        return;
    }
    s->options.app.on_error(s->options.app.user, x, status, message);
    if (!x->began) {
        http_respond(x, status, "text/plain; charset=utf-8", message, strlen(message));
    }
}
