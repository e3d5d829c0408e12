/*
 * Connections: bytes in through the parser, bytes out when the loop is about to wait.
 * Owner: the server. Lifetime: conn_accept until the handle has closed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/http_internal.h"

#define INPUT_BYTES 65536u
#define REFUSED_MAX 64u /* connections beyond connections_max that are told why; more are just closed */
#define PLAIN_BYTES 16384u
#define UNSENT_BYTES 65536

static uint64_t now_ms(const http_conn *c)
{
    return uv_now(&c->server->loop);
}

size_t conn_buffered(const http_conn *c)
{
    return c->out.n + (c->writing ? uv_stream_get_write_queue_size(&c->uv.stream) : 0);
}

void conn_mark(http_conn *c)
{
    http_server *s = c->server;
    if (!c->dirty && !c->closing) {
        c->dirty = true;
        c->next_dirty = NULL;
        *s->last_dirty = c;
        s->last_dirty = &c->next_dirty;
    }
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static void unmark(http_conn *c)
{
    http_server *s = c->server;
    for (http_conn **link = &s->dirty; c->dirty && *link; link = &(*link)->next_dirty) {
        if (*link == c) {
            *link = c->next_dirty;
            s->last_dirty = *link ? s->last_dirty : link;
            c->dirty = false;
            break;
        }
    }
}

static void on_closed(uv_handle_t *handle)
{
    http_conn *c = handle->data;
    http_server *s = c->server;
    unmark(c);
    *(c->previous ? &c->previous->next : &s->conns) = c->next;
    if (c->next) {
        c->next->previous = c->previous;
    }
    s->stats.n_connections--;
    tls_stream_close(&c->tls);
    http_parser_free(&c->parser);
    byte_queue_free(&c->waiting);
    byte_queue_free(&c->out);
    byte_queue_free(&c->flying);
    free(c);
}

void conn_close(http_conn *c)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    if (c->x) {
        c->x->left = !c->x->ended || c->out.n > 0 || c->writing;
        c->server->stats.n_gone += c->x->left;
        exchange_close(c->x);
    }
    uv_close(&c->uv.handle, on_closed);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    http_conn *c = request->data;
    if (status < 0 || c->eof) {
        conn_close(c);
    }
}

/* The last answer is sent: tells the peer so, and waits for its end, since closing at once would throw away what it has
 * not read yet if it is still sending. */
static void conn_end(http_conn *c)
{
    if (c->ending || c->closing) {
        return;
    }
    c->ending = true;
    c->since_ms = now_ms(c);
    c->shutdown.data = c;
    if (uv_shutdown(&c->shutdown, &c->uv.stream, on_shutdown) != 0) {
        conn_close(c);
    }
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

static void conn_take(http_conn *c, const char *data, size_t n);
static void conn_read(http_conn *c, bool on);

/* Is there nothing to do with input but keep it? */
static bool conn_busy(const http_conn *c)
{
    return c->x && (c->x->body_done || c->x->body_paused || c->x->ended);
}

static void take_head(http_conn *c)
{
    http_server *s = c->server;
    http_exchange *x = exchange_open(c);
    if (!x) {
        conn_close(c);
        return;
    }
    c->x = x;
    c->since_ms = c->body_ms = now_ms(c);
    x->body_done = !http_has_body(x);
    x->plan = s->options.app.on_head(s->options.app.user, x);
    if (x->began) {
        x->body_done = true; /* whatever comes of it is not for us */
        return;
    }
    if (c->parser.head.content_length > x->plan.bytes_max) {
        exchange_fail(x, 413, "the body is larger than this route takes");
        return;
    }
    x->body_done = false;
    if (c->parser.head.expects_continue && http_has_body(x)) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        if (!byte_queue_add(&c->out, go_on, sizeof go_on - 1)) {
            http_abort(x);
        }
        conn_mark(c);
    }
    if (x->plan.stream) {
        x->handed = true;
        s->options.app.on_request(s->options.app.user, x);
    }
}

static void take_body(http_conn *c, const char *piece, size_t n)
{
    http_exchange *x = c->x;
    c->since_ms = now_ms(c);
    x->n_body += n;
    if (x->n_body > x->plan.bytes_max) {
        exchange_fail(x, 413, "the body is larger than this route takes");
    } else if (x->plan.stream) {
        if (x->on_body) {
            x->on_body(x->body_user, piece, n, false);
        }
    } else if (!byte_queue_reserve(&x->body, n + 1) || !byte_queue_add(&x->body, piece, n)) {
        exchange_fail(x, 503, "out of memory");
    }
}

static void take_end(http_conn *c)
{
    http_server *s = c->server;
    http_exchange *x = c->x;
    x->body_done = true;
    if (x->plan.stream) {
        if (x->on_body) {
            x->on_body(x->body_user, "", 0, true);
        }
        return;
    }
    if (x->body.n) {
        x->body.data[x->body.n] = '\0'; /* take_body reserved it */
        x->request.body = x->body.data;
        x->request.n_body = x->body.n;
    }
    x->handed = true;
    s->options.app.on_request(s->options.app.user, x);
}

static void take_bad(http_conn *c)
{
    if (!c->x && !(c->x = exchange_open(c))) {
        conn_close(c);
        return;
    }
    exchange_fail(c->x, c->parser.status, c->parser.reason);
}

/* Feeds the parser until it wants more, or a request is complete and waits for its answer. */
static void conn_parse(http_conn *c, const char *data, size_t n)
{
    const char *piece;
    size_t used, n_piece;
    if (n > 0 && !c->x && !http_parser_began(&c->parser)) {
        c->since_ms = now_ms(c);
    }
    while (!c->closing && !conn_busy(c) && !c->end_after) {
        http_parse_event event = http_parse_next(&c->parser, data, n, &used, &piece, &n_piece);
        data += used;
        n -= used;
        switch (event) {
        case HTTP_PARSE_MORE:
            return;
        case HTTP_PARSE_HEAD:
            take_head(c);
            break;
        case HTTP_PARSE_BODY:
            take_body(c, piece, n_piece);
            break;
        case HTTP_PARSE_END:
            take_end(c);
            break;
        case HTTP_PARSE_BAD:
            take_bad(c);
            return;
        }
    }
    if (!c->closing && !c->end_after && n > 0) {
        conn_take(c, data, n);
    }
}

static void conn_take(http_conn *c, const char *data, size_t n)
{
    if (c->ending || c->end_after) {
        return; /* it was told, or will be, that this connection ends */
    }
    if (c->x && c->x->body_paused) {
        conn_read(c, false); /* now: libuv reads many times before the loop goes on */
    }
    if (!conn_busy(c)) {
        conn_parse(c, data, n);
    } else if (c->waiting.n + n > PIPELINED_MAX + INPUT_BYTES || !byte_queue_add(&c->waiting, data, n)) {
        c->end_after = true; /* what it sent ahead is not answered, and it sees that */
        byte_queue_free(&c->waiting);
    }
}

/* What had to wait: pipelined requests, a paused body. */
static void conn_take_waiting(http_conn *c)
{
    byte_queue waiting = c->waiting;
    c->waiting = (byte_queue){0};
    conn_take(c, waiting.n ? waiting.data : "", waiting.n);
    byte_queue_free(&waiting);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    http_conn *c = handle->data;
    (void)suggested;
    *out = uv_buf_init(c->server->input, INPUT_BYTES);
}

static void take_encrypted(http_conn *c, const char *data, size_t n)
{
    char plain[PLAIN_BYTES];
    int got = 0;
    if (!tls_stream_feed(c->tls, data, n)) {
        conn_close(c);
        return;
    }
    while (!c->closing && (got = tls_stream_read(c->tls, plain, sizeof plain)) > 0) {
        conn_take(c, plain, (size_t)got);
    }
    if (got < 0 && !c->closing) {
        c->eof = true;
    }
    conn_mark(c); /* the handshake may have something to say */
}

/* The peer will send no more. Whoever waits for an answer keeps its connection open both ways; one that does not is
 * taken as gone, unless the answer is already on its way. */
static void conn_eof(http_conn *c)
{
    c->eof = true;
    if (c->x && c->x->ended && !c->ending) {
        c->end_after = true;
        if (c->reading) {
            uv_read_stop(&c->uv.stream);
            c->reading = false;
        }
        conn_mark(c);
    } else {
        conn_close(c);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *in)
{
    http_conn *c = stream->data;
    if (n > 0) {
        c->server->stats.bytes_in += (uint64_t)n;
        if (c->tls) {
            take_encrypted(c, in->base, (size_t)n);
        } else {
            conn_take(c, in->base, (size_t)n);
        }
        if (c->eof && !c->closing) {
            conn_eof(c);
        }
    } else if (n == UV_EOF) {
        conn_eof(c);
    } else if (n < 0) {
        conn_close(c);
    }
}

static void conn_read(http_conn *c, bool on)
{
    if (on == c->reading || c->eof) {
        return;
    }
    c->reading = on;
    if (!on) {
        uv_read_stop(&c->uv.stream);
    } else if (uv_read_start(&c->uv.stream, on_alloc, on_read) != 0) {
        conn_close(c);
    }
}

/* ---- output ------------------------------------------------------------------------------------------------------ */

static void on_written(uv_write_t *request, int status)
{
    http_conn *c = request->data;
    c->writing = false;
    c->server->stats.bytes_out += status < 0 ? 0 : c->flying.n;
    byte_queue_clear(&c->flying);
    if (status < 0) {
        conn_close(c);
    } else {
        conn_mark(c);
    }
}

/* Moves what there is to send into `flying`. */
static bool take_output(http_conn *c)
{
    if (!c->tls) {
        byte_queue empty = c->flying;
        c->flying = c->out;
        c->out = empty;
        return true;
    }
    if (c->out.n && tls_stream_ready(c->tls)) {
        if (!tls_stream_write(c->tls, c->out.data, c->out.n)) {
            return false;
        }
        byte_queue_clear(&c->out);
    }
    return tls_stream_take(c->tls, &c->flying);
}

/* False: the connection is closed. */
static bool conn_send(http_conn *c)
{
    if (c->writing) {
        return true;
    }
    if (!take_output(c)) {
        conn_close(c);
        return false;
    }
    if (c->flying.n == 0) {
        return true;
    }
    uv_buf_t part = uv_buf_init(c->flying.data, (unsigned)c->flying.n);
    int n = uv_try_write(&c->uv.stream, &part, 1);
    if (n < 0 && n != UV_EAGAIN) {
        conn_close(c);
        return false;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    c->server->stats.bytes_out += sent;
    c->moved_ms = sent || !c->n_left ? now_ms(c) : c->moved_ms;
    if (sent == c->flying.n) {
        byte_queue_clear(&c->flying);
        c->n_left = 0;
        return true;
    }
    part = uv_buf_init(c->flying.data + sent, (unsigned)(c->flying.n - sent));
    c->write.data = c;
    c->writing = true;
    if (uv_write(&c->write, &c->uv.stream, &part, 1, on_written) != 0) {
        c->writing = false;
        conn_close(c);
        return false;
    }
    c->n_left = uv_stream_get_write_queue_size(&c->uv.stream);
    return true;
}

/* The answer is sent: what comes next on this connection? */
static void conn_answered(http_conn *c)
{
    exchange_close(c->x);
    c->answered = true;
    if (c->closing) {
        return;
    }
    if (c->end_after || c->eof) {
        if (c->tls) {
            tls_stream_end(c->tls);
            if (!conn_send(c)) {
                return;
            }
        }
        conn_end(c);
        return;
    }
    http_parser_reset(&c->parser);
    c->since_ms = now_ms(c);
    conn_read(c, true);
    if (c->waiting.n) {
        conn_take_waiting(c);
    }
}

void conn_flush(http_conn *c)
{
    c->dirty = false;
    http_exchange *x = c->x;
    if (c->closing) {
        return;
    }
    if (x && x->aborted) {
        conn_close(c);
        return;
    }
    if (!conn_send(c)) {
        return;
    }
    if (x && x->over && conn_buffered(c) < HTTP_BUFFER_MAX / 2) {
        x->over = false;
        if (x->on_drain) {
            x->on_drain(x->drain_user);
        }
    }
    if (c->x && c->x->ended && !c->writing && c->out.n == 0) {
        conn_answered(c);
    } else if (c->x && !c->x->ended) {
        conn_read(c, !c->x->body_paused);
        bool resumed = c->x && c->x->body_resumed;
        if (!conn_busy(c) && (c->waiting.n || resumed) && !c->closing) {
            c->x->body_resumed = false;
            conn_take_waiting(c);
        }
    }
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

/* Output that does not move, or does not get less. */
static bool conn_stalled(http_conn *c, uint64_t now)
{
    uint64_t stall_ms = c->server->options.stall_ms;
    if (c->writing) {
        size_t left = uv_stream_get_write_queue_size(&c->uv.stream);
        if (left < c->n_left) {
            c->moved_ms = now;
        }
        c->n_left = left;
        if (now - c->moved_ms > stall_ms) {
            return true;
        }
    }
    return c->x && c->x->over && now - c->x->over_ms > stall_ms;
}

static void later(uint64_t *at_ms, uint64_t lost_ms, uint64_t now_ms)
{
    *at_ms = *at_ms + lost_ms < now_ms ? *at_ms + lost_ms : now_ms;
}

void conn_forgive(http_conn *c, uint64_t lost_ms, uint64_t now_ms)
{
    later(&c->since_ms, lost_ms, now_ms);
    later(&c->body_ms, lost_ms, now_ms);
    later(&c->moved_ms, lost_ms, now_ms);
    if (c->x) {
        later(&c->x->over_ms, lost_ms, now_ms);
    }
}

void conn_sweep(http_conn *c, uint64_t now)
{
    const http_options *o = &c->server->options;
    http_exchange *x = c->x;
    uint64_t since = now - c->since_ms;
    if (c->closing) {
        return;
    }
    if (conn_stalled(c, now)) {
        c->server->stats.n_stalled++;
        conn_close(c);
    } else if (c->ending) {
        if (since > LINGER_MS) {
            conn_close(c);
        }
    } else if (x && !x->body_done && !x->began) {
        bool slow = !x->plan.stream && now - c->body_ms > (uint64_t)BODY_IDLE_TIMES * o->body_idle_ms;
        if (!x->body_paused && (since > o->body_idle_ms || slow)) {
            exchange_fail(x, 408, "the body did not come in time");
        }
    } else if (!x && http_parser_began(&c->parser)) {
        if (since > o->head_ms && (c->x = exchange_open(c))) {
            exchange_fail(c->x, 408, "the head did not come in time");
        }
    } else if (!x && since > (c->answered ? o->keep_alive_ms : o->head_ms)) {
        conn_close(c);
    }
}

/* ---- the beginning ----------------------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    }
    const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

static void write_address(const struct sockaddr_storage *address, char *out)
{
    if (address->ss_family == AF_INET) {
        uv_ip4_name((const struct sockaddr_in *)address, out, ADDRESS_MAX);
    } else {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        uv_ip6_name(six, out, ADDRESS_MAX);
        if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
            inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, out, ADDRESS_MAX);
        }
    }
}

/* The system would buffer megabytes for a client that does not read: then HTTP_BUFFER_MAX would bound little. It takes
 * more only when no more than this has yet to be sent. */
static void bound_system_buffer(const http_conn *c)
{
    uv_os_fd_t fd;
    int bytes = UNSENT_BYTES;
    if (uv_fileno(&c->uv.handle, &fd) == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes); /* where it cannot, it is as without */
    }
}

static bool read_addresses(http_conn *c)
{
    struct sockaddr_storage peer, local;
    int n_peer = sizeof peer, n_local = sizeof local;
    if (c->is_unix) {
        c->loopback = true;
        memcpy(c->peer, "unix", 5);
        memcpy(c->local, "unix", 5);
        return true;
    }
    if (uv_tcp_getpeername(&c->uv.tcp, (struct sockaddr *)&peer, &n_peer) != 0 ||
        uv_tcp_getsockname(&c->uv.tcp, (struct sockaddr *)&local, &n_local) != 0) {
        return false; /* it has left already */
    }
    c->loopback = is_loopback(&peer);
    write_address(&peer, c->peer);
    write_address(&local, c->local);
    uv_tcp_nodelay(&c->uv.tcp, 1);
    uv_tcp_keepalive(&c->uv.tcp, 1, 60);
    bound_system_buffer(c);
    return true;
}

/* More connections than may be: says so without reading a request. */
static void refuse(http_conn *c)
{
    static const char full[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
        "Connection: close\r\nContent-Length: 65\r\n\r\n"
        "{\"error\":{\"message\":\"too many connections\",\"code\":\"unavailable\"}}";
    http_server *s = c->server;
    s->stats.n_refused++;
    uv_buf_t part = uv_buf_init((char *)full, sizeof full - 1);
    c->end_after = true;
    if (c->tls || s->stats.n_connections > s->options.connections_max + REFUSED_MAX ||
        uv_try_write(&c->uv.stream, &part, 1) != (int)part.len) {
        conn_close(c);
        return;
    }
    conn_read(c, true);
    conn_end(c);
}

bool conn_accept(http_listener *l)
{
    http_server *s = l->server;
    http_conn *c = calloc(1, sizeof *c);
    if (!c) {
        return false;
    }
    c->server = s;
    c->is_unix = l->is_unix;
    int failed = l->is_unix ? uv_pipe_init(&s->loop, &c->uv.pipe, 0) : uv_tcp_init(&s->loop, &c->uv.tcp);
    if (failed) {
        free(c);
        return false;
    }
    c->uv.handle.data = c;
    c->next = s->conns;
    if (s->conns) {
        s->conns->previous = c;
    }
    s->conns = c;
    s->stats.n_connections++;
    s->stats.n_accepted++;
    c->since_ms = now_ms(c);
    if (uv_accept(&l->uv.stream, &c->uv.stream) != 0 || !read_addresses(c) ||
        (s->tls && !c->is_unix && !(c->tls = tls_stream_open(s->tls)))) {
        conn_close(c);
    } else if (s->stats.n_connections > s->options.connections_max) {
        refuse(c);
    } else {
        conn_read(c, true);
    }
    return true;
}
