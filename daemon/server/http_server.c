/*
 * The loop: listeners, timers, tasks from other threads, work for the pool.
 * Owner: the daemon. Lifetime: http_open to http_close.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "telemetry/daemon_error.h"

#include "server/http_internal.h"

#define INPUT_BYTES 65536u
#define BACKLOG 1024

typedef struct server_timer {
    uv_timer_t timer;
    uint64_t id;
    http_server *server;
    struct server_timer *next;
    void (*fn)(void *user);
    void *user;
} server_timer;

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

typedef struct own_task { /* of http_post */
    http_task task;
    void (*fn)(void *user);
    void *user;
} own_task;

static void run_own_task(void *user)
{
    own_task *own = user, copy = *own;
    free(own);
    copy.fn(copy.user);
}

static bool add_task(http_server *s, http_task *task)
{
    task->next = NULL;
    pthread_mutex_lock(&s->lock);
    bool taken = !s->ended;
    if (taken) {
        *s->last_task = task;
        s->last_task = &task->next;
        uv_async_send(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    return taken;
}

bool http_post_task(http_server *s, http_task *task)
{
    return add_task(s, task);
}

bool http_post(http_server *s, void (*fn)(void *user), void *user)
{
    own_task *own = malloc(sizeof *own);
    if (!own) {
        return false;
    }
    *own = (own_task){.task = {.fn = run_own_task, .user = own}, .fn = fn, .user = user};
    if (!add_task(s, &own->task)) {
        free(own);
        return false;
    }
    return true;
}

/* Those that are there now: what they post comes next time, so that sockets have their turn. */
static void run_tasks(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    http_task *task = s->tasks;
    s->tasks = NULL;
    s->last_task = &s->tasks;
    pthread_mutex_unlock(&s->lock);
    while (task) {
        http_task *next = task->next;
        task->fn(task->user);
        task = next;
    }
}

typedef struct pool_work {
    uv_work_t request;
    http_server *server;
    struct pool_work *next; /* in its lane, while it waits there */
    int lane;               /* http_lane; -1: none */
    void (*work)(void *user);
    void (*done)(void *user);
    void *user;
} pool_work;

/* Two for the engine: one computes while another's text is read. The chats have one connection to their database. */
static const unsigned lane_widths[N_HTTP_LANES] = {[HTTP_LANE_ENGINE] = 2, [HTTP_LANE_CHATS] = 1};

static void on_work(uv_work_t *request)
{
    pool_work *w = request->data;
    w->work(w->user);
}

static void on_work_done(uv_work_t *request, int status);

static void start_work(pool_work *w)
{
    w->request.data = w;
    uv_queue_work(&w->server->loop, &w->request, on_work, on_work_done); /* fails without on_work only */
}

/* A job of the lane has ended: the next one's turn. */
static void advance(http_server *s, int lane)
{
    struct work_lane *l = &s->lanes[lane];
    pool_work *w = l->first;
    l->n_running--;
    if (w) {
        l->first = w->next;
        l->n_running++;
        start_work(w);
    }
}

static void on_work_done(uv_work_t *request, int status)
{
    pool_work copy = *(pool_work *)request->data;
    (void)status; /* nothing is ever cancelled */
    free(request->data);
    if (copy.lane >= 0) {
        advance(copy.server, copy.lane);
    }
    copy.done(copy.user);
}

static pool_work *new_work(http_server *s, int lane, void (*work)(void *user), void (*done)(void *user), void *user)
{
    pool_work *w = calloc(1, sizeof *w);
    if (w) {
        *w = (pool_work){.server = s, .lane = lane, .work = work, .done = done, .user = user};
    }
    return w;
}

int http_work(http_server *s, void (*work)(void *user), void (*done)(void *user), void *user)
{
    pool_work *w = new_work(s, -1, work, done, user);
    if (!w) {
        return -1;
    }
    start_work(w);
    return 0;
}

int http_work_in(http_server *s, http_lane lane, void (*work)(void *user), void (*done)(void *user), void *user)
{
    struct work_lane *l = &s->lanes[lane];
    pool_work *w = new_work(s, (int)lane, work, done, user);
    if (!w) {
        return -1;
    }
    if (l->n_running < lane_widths[lane]) {
        l->n_running++;
        start_work(w);
        return 0;
    }
    *(l->first ? &l->last->next : &l->first) = w;
    l->last = w;
    return 0;
}

/* ---- timers ------------------------------------------------------------------------------------------------------ */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void end_timer(server_timer *t)
{
    server_timer **link = &t->server->timers;
    while (*link != t) {
        link = &(*link)->next;
    }
    *link = t->next;
    uv_close((uv_handle_t *)&t->timer, on_timer_closed);
}

static void on_timer(uv_timer_t *timer)
{
    server_timer *t = timer->data;
    void (*fn)(void *user) = t->fn;
    void *user = t->user;
    end_timer(t);
    fn(user);
}

uint64_t http_timer(http_server *s, uint64_t in_ms, void (*fn)(void *user), void *user)
{
    server_timer *t = s->stopping ? NULL : calloc(1, sizeof *t);
    if (!t) {
        return 0;
    }
    *t = (server_timer){.id = ++s->n_timer_ids, .server = s, .next = s->timers, .fn = fn, .user = user};
    uv_timer_init(&s->loop, &t->timer);
    t->timer.data = t;
    s->timers = t;
    uv_timer_start(&t->timer, on_timer, in_ms, 0);
    return t->id;
}

void http_timer_cancel(http_server *s, uint64_t id)
{
    for (server_timer *t = s->timers; t; t = t->next) {
        if (t->id == id) {
            end_timer(t);
            return;
        }
    }
}

uint64_t http_now_ms(const http_server *s)
{
    return uv_now(&s->loop);
}

/* ---- listeners --------------------------------------------------------------------------------------------------- */

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

#define ASLEEP_MS 2000u

/* The process was stopped, or the machine slept: in that time nobody could have been heard. */
static void forgive_sleep(http_server *s, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms - s->swept_ms, period_ms = uv_timer_get_repeat(&s->sweep);
    for (http_conn *c = s->conns; passed_ms > period_ms + ASLEEP_MS && c; c = c->next) {
        conn_forgive(c, passed_ms - period_ms, now_ms);
    }
    s->swept_ms = now_ms;
}

static void on_sweep(uv_timer_t *timer)
{
    http_server *s = timer->data;
    forgive_sleep(s, uv_now(&s->loop));
    for (http_conn *c = s->conns, *next; c; c = next) {
        next = c->next;
        conn_sweep(c, uv_now(&s->loop));
    }
    if (!s->conns) {
        uv_timer_stop(&s->sweep); /* idle: nothing wakes */
    }
}

static void on_connection(uv_stream_t *stream, int status)
{
    http_listener *l = stream->data;
    http_server *s = l->server;
    if (status < 0 || s->stopping) {
        return;
    }
    conn_accept(l);
    if (!uv_is_active((uv_handle_t *)&s->sweep)) {
        const http_options *o = &s->options;
        uint32_t least = o->head_ms < o->stall_ms ? o->head_ms : o->stall_ms;
        least = o->body_idle_ms < least ? o->body_idle_ms : least;
        uint64_t period_ms = least / 16 < 10 ? 10 : least / 16 > 500 ? 500 : least / 16;
        uv_timer_start(&s->sweep, on_sweep, period_ms, period_ms);
        s->swept_ms = uv_now(&s->loop);
    }
}

static http_listener *listener_open(http_server *s, bool is_unix, mlxr_error *error)
{
    http_listener *l = calloc(1, sizeof *l);
    int failed = !l ? UV_ENOMEM : is_unix ? uv_pipe_init(&s->loop, &l->uv.pipe, 0) : uv_tcp_init(&s->loop, &l->uv.tcp);
    if (failed) {
        free(l);
        daemon_error(error, MLXR_NOMEM, "no memory for a listener");
        return NULL;
    }
    l->uv.handle.data = l;
    l->server = s;
    l->is_unix = is_unix;
    return l;
}

/* Listens, or gives the listener up. */
static mlxr_status listener_start(http_listener *l, int bound, const char *what, mlxr_error *error)
{
    http_server *s = l->server;
    bound = bound ? bound : uv_listen(&l->uv.stream, BACKLOG, on_connection);
    if (bound) {
        uv_close(&l->uv.handle, on_listener_closed);
        mlxr_status status = bound == UV_EADDRINUSE ? MLXR_LIMIT : bound == UV_EADDRNOTAVAIL ? MLXR_ARG : MLXR_IO;
        return daemon_error(error, status, "cannot listen on %s: %s", what, uv_strerror(bound));
    }
    l->next = s->listeners;
    s->listeners = l;
    return MLXR_OK;
}

mlxr_status http_listen_tcp(http_server *s, const char *host, uint16_t port, uint16_t *bound, mlxr_error *error)
{
    struct sockaddr_storage address;
    char what[160];
    bool six = uv_ip6_addr(host, port, (struct sockaddr_in6 *)&address) == 0;
    if (!six && uv_ip4_addr(host, port, (struct sockaddr_in *)&address) != 0) {
        return daemon_error(error, MLXR_ARG, "%s is not an IP address", host);
    }
    http_listener *l = listener_open(s, false, error);
    if (!l) {
        return MLXR_NOMEM;
    }
    snprintf(what, sizeof what, six ? "[%s]:%u" : "%s:%u", host, port);
    int failed = uv_tcp_bind(&l->uv.tcp, (struct sockaddr *)&address, 0);
    mlxr_status status = listener_start(l, failed, what, error);
    int n = sizeof address;
    if (status == MLXR_OK && bound && uv_tcp_getsockname(&l->uv.tcp, (struct sockaddr *)&address, &n) == 0) {
        *bound = ntohs(six ? ((struct sockaddr_in6 *)&address)->sin6_port : ((struct sockaddr_in *)&address)->sin_port);
    }
    return status;
}

/* A socket that nobody listens on any more is left from a daemon that was killed. */
static void remove_stale(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat info;
    if (lstat(path, &info) != 0 || !S_ISSOCK(info.st_mode)) {
        return;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* open for a moment, before anything could start a program */
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED) {
        unlink(path);
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* libuv tells of it as if it were forbidden. */
static bool lacks_folder(const char *path)
{
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    struct stat info;
    if (!slash || slash == path) {
        return false;
    }
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    return stat(folder, &info) != 0 && errno == ENOENT;
}

mlxr_status http_listen_unix(http_server *s, const char *path, mlxr_error *error)
{
    struct sockaddr_un limit;
    if (strlen(path) >= sizeof limit.sun_path) {
        return daemon_error(error, MLXR_ARG, "%s: a socket's path may have %zu bytes", path, sizeof limit.sun_path - 1);
    }
    http_listener *l = listener_open(s, true, error);
    if (!l) {
        return MLXR_NOMEM;
    }
    remove_stale(path);
    mode_t mask = umask(0177); /* 0600 from its first moment */
    int failed = uv_pipe_bind(&l->uv.pipe, path);
    umask(mask);
    return listener_start(l, failed == UV_EACCES && lacks_folder(path) ? UV_ENOENT : failed, path, error);
}

mlxr_status http_listen_fd(http_server *s, int fd, mlxr_error *error)
{
    struct sockaddr_storage address;
    socklen_t n = sizeof address;
    char what[48];
    snprintf(what, sizeof what, "file descriptor %d", fd);
    if (getsockname(fd, (struct sockaddr *)&address, &n) != 0) {
        return daemon_error(error, MLXR_ARG, "%s is not a socket", what);
    }
    bool is_unix = address.ss_family == AF_UNIX;
    http_listener *l = listener_open(s, is_unix, error);
    if (!l) {
        return MLXR_NOMEM;
    }
    return listener_start(l, is_unix ? uv_pipe_open(&l->uv.pipe, fd) : uv_tcp_open(&l->uv.tcp, fd), what, error);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void stop_now(http_server *s)
{
    s->stopping = true;
    while (s->listeners) {
        http_listener *l = s->listeners;
        s->listeners = l->next;
        uv_close(&l->uv.handle, on_listener_closed); /* libuv unlinks a Unix socket it has bound */
    }
    for (http_conn *c = s->conns; c; c = c->next) {
        conn_close(c);
    }
    while (s->timers) {
        end_timer(s->timers);
    }
    uv_close((uv_handle_t *)&s->sweep, NULL);
    uv_close((uv_handle_t *)&s->flush, NULL);
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_mutex_unlock(&s->lock);
    uv_close((uv_handle_t *)&s->wake, NULL);
    run_tasks(s); /* whoever posted one may count on it */
}

static void on_wake(uv_async_t *async)
{
    http_server *s = async->data;
    run_tasks(s);
    pthread_mutex_lock(&s->lock);
    bool stop = s->stop && !s->ended;
    if (s->tasks) {
        uv_async_send(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (stop) {
        stop_now(s);
    }
}

static void on_flush(uv_prepare_t *prepare)
{
    http_server *s = prepare->data;
    while (s->dirty) {
        http_conn *c = s->dirty;
        s->dirty = c->next_dirty;
        s->last_dirty = s->dirty ? s->last_dirty : &s->dirty;
        conn_flush(c);
    }
}

static void fill_defaults(http_options *o)
{
    o->connections_max = o->connections_max ? o->connections_max : 1024;
    o->head_ms = o->head_ms ? o->head_ms : 10000;
    o->body_idle_ms = o->body_idle_ms ? o->body_idle_ms : 30000;
    o->keep_alive_ms = o->keep_alive_ms ? o->keep_alive_ms : 75000;
    o->stall_ms = o->stall_ms ? o->stall_ms : 30000;
}

mlxr_status http_open(http_server **out, const http_options *options, mlxr_error *error)
{
    http_server *s = calloc(1, sizeof *s);
    if (!s || !(s->input = malloc(INPUT_BYTES)) || pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s ? s->input : NULL);
        free(s);
        return daemon_error(error, MLXR_NOMEM, "no memory for a server");
    }
    s->options = *options;
    fill_defaults(&s->options);
    s->last_dirty = &s->dirty;
    s->last_task = &s->tasks;
    mlxr_status status = MLXR_OK;
    if (options->tls_cert) {
        status = tls_context_open(&s->tls, options->tls_cert, options->tls_key, error);
    }
    if (status == MLXR_OK && uv_loop_init(&s->loop) != 0) {
        status = daemon_error(error, MLXR_LIMIT, "the system has no event loop for a server");
    }
    if (status != MLXR_OK) {
        goto fail;
    }
    if (uv_async_init(&s->loop, &s->wake, on_wake) != 0) {
        uv_loop_close(&s->loop);
        status = daemon_error(error, MLXR_LIMIT, "the system has no event loop for a server");
        goto fail;
    }
    uv_prepare_init(&s->loop, &s->flush);
    uv_timer_init(&s->loop, &s->sweep);
    s->wake.data = s->flush.data = s->sweep.data = s;
    uv_prepare_start(&s->flush, on_flush);
    uv_random(NULL, NULL, &s->id_salt, sizeof s->id_salt, 0, NULL);
    *out = s;
    return MLXR_OK;
fail:
    tls_context_close(&s->tls);
    pthread_mutex_destroy(&s->lock);
    free(s->input);
    free(s);
    return status;
}

/* A write to a connection that was reset raises SIGPIPE in the thread that writes; blocked, it is an error like others.
 */
static void run_loop(http_server *s)
{
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
}

void http_run(http_server *s)
{
    run_loop(s);
}

void http_stop(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    if (!s->ended) {
        uv_async_send(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
}

void http_close(http_server **pointer)
{
    http_server *s = *pointer;
    if (!s) {
        return;
    }
    if (!s->ended) { /* it never ran, or ran without being stopped */
        stop_now(s);
    }
    run_loop(s);
    uv_loop_close(&s->loop);
    tls_context_close(&s->tls);
    pthread_mutex_destroy(&s->lock);
    free(s->input);
    free(s);
    *pointer = NULL;
}

http_stats http_stats_get(const http_server *s)
{
    return s->stats;
}
