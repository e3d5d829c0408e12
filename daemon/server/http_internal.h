/*
 * What the files of the HTTP server share: connections, exchanges, the server.
 * Owner: the server. Lifetime: the server's; a connection's until its handle is closed.
 *
 *   accept ─▶ head ─▶ body ─▶ answer ─┬─▶ the next head (keep-alive)
 *                                     └─▶ FIN sent, rest of the input discarded (conn_end) ─▶ closed
 *   at any time: EOF, error, stall, http_abort ─▶ conn_close ─▶ gone ─▶ closed
 *
 * Output is appended to `out` and sent once an iteration of the loop, before it waits (server_flush): one write for a
 * connection however many pieces there were.
 */
#ifndef MLXR_SERVER_HTTP_INTERNAL_H
#define MLXR_SERVER_HTTP_INTERNAL_H

#include <pthread.h>
#include <uv.h>

#include "server/byte_queue.h"
#include "server/http.h"
#include "server/http_parse.h"
#include "server/http_routing.h"
#include "server/tls.h"

#define PIPELINED_MAX 65536u /* bytes behind a running request; who sends more has to send them again */
#define LINGER_MS 2000u
#define BODY_IDLE_TIMES 20u /* a body may take this many times body_idle_ms in all */
#define ADDRESS_MAX 64u

typedef struct http_conn http_conn;

typedef struct http_listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    http_server *server;
    struct http_listener *next;
    bool is_unix;
} http_listener;

struct http_exchange {
    http_conn *conn;
    http_request request;
    char id[80];
    byte_queue body, headers; /* headers: of the answer, as lines */
    http_body_plan plan;
    uint64_t n_body;
    unsigned n_params;
    const char *param_names[HTTP_PARAMS_MAX];
    size_t n_param_names[HTTP_PARAMS_MAX];
    char *param_values[HTTP_PARAMS_MAX];
    void *context; /* of the router */
    void (*context_end)(void *context);
    bool handed; /* on_request was called */
    bool body_done, body_paused;
    bool body_resumed; /* the end of the body may have been read already */
    bool began, streaming, chunked, head_only, ended, aborted;
    int status; /* of the answer, once it has begun */
    uint64_t n_out, opened_us;
    bool left; /* the connection was closed before everything was sent */
    bool over; /* has reached HTTP_BUFFER_MAX, and is not yet below half of it */
    uint64_t over_ms;
    void (*on_gone)(void *user);
    void *gone_user;
    void (*on_drain)(void *user);
    void *drain_user;
    void (*on_body)(void *user, const void *data, size_t n, bool last);
    void *body_user;
};

struct http_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    http_server *server;
    http_conn *next, *previous;
    http_conn *next_dirty;
    bool dirty;
    bool is_unix, loopback;
    char peer[ADDRESS_MAX], local[ADDRESS_MAX];
    tls_stream *tls;
    http_parser parser;
    http_exchange *x;   /* NULL: between requests */
    byte_queue waiting; /* bytes behind the request that runs */
    byte_queue out;     /* plain bytes not yet given to the system */
    byte_queue flying;  /* bytes the system has not taken yet */
    uv_write_t write;
    uv_shutdown_t shutdown;
    bool writing, reading, closing;
    bool end_after; /* no further request: ends when the answer is sent */
    bool ending;    /* FIN is sent or on its way: input is discarded */
    bool eof;
    bool answered;     /* at least one request */
    uint64_t since_ms; /* of what it is in: head, idle, body, ending */
    uint64_t body_ms;  /* when the body began */
    uint64_t moved_ms; /* output last made progress */
    size_t n_left;     /* output there was then */
};

struct http_server {
    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t flush;
    uv_timer_t sweep;
    uint64_t swept_ms; /* the last sweep, or its timer's start */
    http_options options;
    tls_context *tls;
    http_listener *listeners;
    http_conn *conns, *dirty, **last_dirty;
    struct server_timer *timers;
    uint64_t n_timer_ids, n_request_ids, id_salt;
    char *input; /* [INPUT_BYTES], shared by all reads */
    http_stats stats;
    struct work_lane { /* jobs that wait for each other, not for the pool */
        struct pool_work *first, *last;
        unsigned n_running;
    } lanes[N_HTTP_LANES];
    pthread_mutex_t lock; /* of what follows */
    http_task *tasks, **last_task;
    bool stop, ended;
    bool stopping; /* the loop's */
};

/* http_conn.c */
bool conn_accept(http_listener *l);
void conn_mark(http_conn *c); /* has output, or its state has changed: looked at before the loop waits */
void conn_flush(http_conn *c);
void conn_close(http_conn *c);
void conn_sweep(http_conn *c, uint64_t now_ms);
void conn_forgive(http_conn *c, uint64_t lost_ms, uint64_t now_ms); /* that much of the past does not count */
size_t conn_buffered(const http_conn *c);

/* http_exchange.c */
http_exchange *exchange_open(http_conn *c);
void exchange_close(http_exchange *x); /* with `gone` */
/* An error before or instead of a handler's answer; nothing if one has begun: then the connection is closed. */
void exchange_fail(http_exchange *x, int status, const char *message);

#endif
