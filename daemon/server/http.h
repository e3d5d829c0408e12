/*
 * HTTP/1.1 server: one loop thread with listeners, connections, timers; requests in, answers out, whole or streamed.
 * Owner: the daemon (daemon.c); handlers of routes use it. Lifetime: http_open to http_close; an exchange's until its
 * `gone`.
 *
 *   bytes ─▶ head complete ─▶ on_head ──▶ body ──▶ on_request ─▶ http_respond ──────────────────────▶ sent ─▶ gone
 *                               │ refuses            │           http_stream_begin, _write …, _end ─▶ sent ─▶ gone
 *                               └─ http_respond      └─ the client leaves, stalls, or http_abort ───────────▶ gone
 *
 * Threads. Everything is the loop thread's, unless it says "any thread". No function here calls `gone`, `drain` or
 * another handler before it returns: these come from the loop. After http_respond, http_stream_end or http_abort an
 * exchange may not be used, but `gone` still comes.
 */
#ifndef MLXR_SERVER_HTTP_H
#define MLXR_SERVER_HTTP_H

#include <jansson.h>

#include "mlxr.h"

typedef struct http_server http_server;
typedef struct http_exchange http_exchange; /* one request and its answer */

#define HTTP_BUFFER_MAX (256u * 1024u)      /* buffered output from which on a producer waits for `drain` */
#define HTTP_BODY_MAX (16u * 1024u * 1024u) /* of a request, unless its route says otherwise */
#define HTTP_PARAMS_MAX 4u

typedef struct http_request { /* borrowed, for the exchange's life */
    const char *method;       /* "GET"; HEAD stays HEAD, its answer's body is left out by itself */
    const char *path;         /* percent-decoded UTF-8, no "//", no dot segments, without the query */
    const char *query;        /* raw, "" if none */
    const char *body;         /* [n_body], NUL-terminated behind it; "" if none */
    size_t n_body;
    const char *request_id; /* X-Request-Id if harmless, else made up; the answer carries it, too */
    const char *peer;       /* "127.0.0.1", "::1", "unix" */
    bool loopback;          /* the peer is this machine: 127.0.0.0/8, ::1, a Unix socket */
    bool tls;
} http_request;

const http_request *http_request_of(const http_exchange *x);
/* The body of a request for work behind the exchange's life, [*n] and a NUL behind it; NULL: no memory. The caller
 * frees it. */
char *http_body_copy(const http_exchange *x, size_t *n);
/* The value of a header, NULL if there is none. Of headers given twice the first: see http_header_count. */
const char *http_header_get(const http_exchange *x, const char *lower_case_name);
unsigned http_header_count(const http_exchange *x, const char *lower_case_name);
/* Of the route's pattern "/v1/models/{id}"; NULL if it has no such parameter. */
const char *http_path_param(const http_exchange *x, const char *name);
typedef enum http_query_state { HTTP_QUERY_NONE, HTTP_QUERY_GIVEN, HTTP_QUERY_BAD } http_query_state;
/* A decoded parameter of the query, into `out`, NUL-terminated. BAD: there is one, and it does not fit, or its escapes
 * are none; what `out` holds then is of no use. NONE leaves it as it is. */
http_query_state http_query_read(const http_exchange *x, const char *name, char *out, size_t cap);
http_server *http_server_of(const http_exchange *x);

typedef struct http_outcome { /* of an exchange so far */
    int status;               /* 0: not decided */
    uint64_t n_bytes;         /* of the answer, its head and chunks included */
    uint64_t duration_us;     /* since the head of the request was there */
    bool left;                /* the client was gone, or dropped, before it had the whole answer */
} http_outcome;
http_outcome http_outcome_of(const http_exchange *x);

/* ---- answers ----------------------------------------------------------------------------------------------------- */

/* Before the head is sent. `name` and `value` are copied; a value with control characters is dropped. */
void http_header_add(http_exchange *x, const char *name, const char *value);
/* A whole answer; the body is copied. */
void http_respond(http_exchange *x, int status, const char *content_type, const void *body, size_t n);
void http_respond_json(http_exchange *x, int status, json_t *body); /* takes the reference */
/* Chunked (to HTTP/1.0: until the connection closes). */
void http_stream_begin(http_exchange *x, int status, const char *content_type);
/* False: the client is gone; `gone` has come or will. */
bool http_stream_write(http_exchange *x, const void *data, size_t n);
/* Bytes not yet taken by the system. From HTTP_BUFFER_MAX on: stop producing until `drain`; who stays there for 30 s is
 * dropped, and so is one that is written more than 16 × that. */
size_t http_stream_buffered(const http_exchange *x);
void http_stream_end(http_exchange *x);
bool http_began(const http_exchange *x); /* its status is decided: http_respond or http_stream_begin was called */
/* Closes the connection without a proper end. */
void http_abort(http_exchange *x);
/* Exactly once, when the client has left, was dropped, or the answer is completely sent; then `x` is no more. */
void http_on_gone(http_exchange *x, void (*fn)(void *user), void *user);
/* The same for who only has to know: *x becomes NULL then. */
void http_on_gone_forget(http_exchange **x);
/* Whenever the buffer falls below half of HTTP_BUFFER_MAX after it had reached it. */
void http_on_drain(http_exchange *x, void (*fn)(void *user), void *user);

/* ---- bodies in pieces (routes with ROUTE_BODY_STREAM) ------------------------------------------------------------ */

/* From the handler, which runs before the body has come. The last call has `last`; data is borrowed for the call. A
 * client that leaves before shows as `gone` without `last`. */
void http_on_body(http_exchange *x, void (*fn)(void *user, const void *data, size_t n, bool last), void *user);
void http_body_pause(
    http_exchange *x); /* at most what was already read still comes; a departure is seen after resume */
void http_body_resume(http_exchange *x);

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

/* Any thread: fn(user) on the loop thread, in the order of posting. False: no memory, or the server has ended. */
bool http_post(http_server *s, void (*fn)(void *user), void *user);
/* The same without an allocation: the task is the caller's, and not touched again once fn runs. False: the server has
 * ended, fn will not run. */
typedef struct http_task {
    void (*fn)(void *user);
    void *user;
    struct http_task *next; /* the server's */
} http_task;
bool http_post_task(http_server *s, http_task *task);
/* Runs work(user) on a pool of four threads, then done(user) on the loop thread. For milliseconds, not for minutes:
 * parsing big bodies, tokenising, SQLite. Nonzero: no memory, neither will run. */
int http_work(http_server *s, void (*work)(void *user), void (*done)(void *user), void *user);
/* What jobs wait for that have it one by one anyway: so many of them are on the pool at once, in their order, and the
 * other threads are everybody's. */
typedef enum http_lane { HTTP_LANE_ENGINE, HTTP_LANE_CHATS, N_HTTP_LANES } http_lane;
int http_work_in(http_server *s, http_lane lane, void (*work)(void *user), void (*done)(void *user), void *user);
/* One-shot; 0: no memory. */
uint64_t http_timer(http_server *s, uint64_t in_ms, void (*fn)(void *user), void *user);
void http_timer_cancel(http_server *s, uint64_t id); /* one that has fired, or 0, is ignored */
uint64_t http_now_ms(const http_server *s);          /* the loop's clock: monotonic, of this iteration */

/* ---- the server -------------------------------------------------------------------------------------------------- */

typedef struct http_body_plan {
    bool stream;        /* call on_request at once; the body comes through http_on_body */
    uint64_t bytes_max; /* more is answered 413 */
} http_body_plan;

typedef struct http_app { /* who answers: router.h */
    void *user;
    /* The head is there. Answers by itself (then the body is not read), or says how the body is to be taken. */
    http_body_plan (*on_head)(void *user, http_exchange *x);
    void (*on_request)(void *user, http_exchange *x);
    /* Writes an error before or instead of the two above (bad syntax, 413, 408, …) with http_respond. */
    void (*on_error)(void *user, http_exchange *x, int status, const char *message);
} http_app;

typedef struct http_options { /* {0} is a valid default */
    http_app app;
    uint32_t connections_max; /* 0: 1,024; beyond: 503 with Retry-After */
    uint32_t head_ms;         /* for a whole head; 0: 10,000 */
    uint32_t body_idle_ms;    /* between bytes of a body; 0: 30,000 */
    uint32_t keep_alive_ms;   /* between requests; 0: 75,000 */
    uint32_t stall_ms; /* a reader that takes nothing, or, once at HTTP_BUFFER_MAX, not below half of it; 0: 30,000 */
    const char *tls_cert, *tls_key; /* PEM files; NULL: no TLS on TCP */
} http_options;

typedef struct http_stats {
    uint64_t n_accepted, n_refused, n_requests, n_bad, n_gone, n_stalled; /* gone: left before the answer was sent */
    uint64_t bytes_in, bytes_out;
    uint32_t n_connections, n_exchanges; /* now */
} http_stats;

mlxr_status http_open(http_server **out, const http_options *options, mlxr_error *error);
/* All of these before http_run, or from the loop. `port` 0: any; *bound (may be NULL) is the one taken. MLXR_LIMIT:
 * somebody else listens there. */
mlxr_status http_listen_tcp(http_server *s, const char *host, uint16_t port, uint16_t *bound, mlxr_error *error);
mlxr_status http_listen_unix(http_server *s, const char *path, mlxr_error *error); /* mode 0600; removed at close */
mlxr_status http_listen_fd(http_server *s, int fd, mlxr_error *error);             /* socket activation */
void http_run(http_server *s);                                                     /* until http_stop */
void http_stop(http_server *s); /* any thread: ends what is running, each with `gone`, and then http_run */
void http_close(http_server **s);
http_stats http_stats_get(const http_server *s);

#endif
