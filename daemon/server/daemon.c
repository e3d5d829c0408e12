/*
 * The daemon: parts opened in order, closed in the reverse one.
 * Owner: the caller. Lifetime: daemon_start to daemon_stop.
 *
 * The end. Draining: routes answer 503, what runs goes on. When nothing runs, or the time is over, the scheduler ends
 * its requests (each with an event, so that streams end with an error they can read), then the loop stops: every
 * exchange that is left is gone. Behind it nobody submits or cancels any more, and the parts are closed; the model
 * table writes what it has of the KV cache to disk.
 */
#include "server/daemon.h"

#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "registry/registry.h"
#include "server/daemon_private.h"
#include "server/generation.h"
#include "server/model_jobs.h"
#include "server/notify.h"
#include "server/openai_routes.h"
#include "server/ui.h"
#include "telemetry/daemon_error.h"
#include "telemetry/metrics.h"
#include "telemetry/text_buffer.h"

#define POLL_MS 20u
#define ABORTED_MS 1500u /* for the last events after the scheduler has ended all */

void daemon_log(const struct daemon *d, mlxr_log_level level, const char *format, ...)
{
    const daemon_options *o = d->options;
    char line[1024];
    va_list arguments;
    if (!o->log) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    o->log(o->log_user, level, line);
}

daemon_state daemon_state_of(const struct daemon *d)
{
    return (daemon_state)atomic_load(&d->own->state);
}

static const char *const draft_names[] = {
    [DAEMON_DRAFT_NONE] = "none", [DAEMON_DRAFT_NGRAM] = "ngram", [DAEMON_DRAFT_MTP] = "mtp"};

bool daemon_draft_find(const char *name, daemon_draft *out)
{
    for (size_t i = 0; i < sizeof draft_names / sizeof *draft_names; i++) {
        if (strcmp(name, draft_names[i]) == 0) {
            *out = (daemon_draft)i;
            return true;
        }
    }
    return false;
}

const char *daemon_draft_name(daemon_draft draft)
{
    return draft_names[draft];
}

daemon_draft daemon_drafts(const struct daemon *d, const char *said)
{
    daemon_draft draft = (daemon_draft)atomic_load(&d->own->draft);
    if (said) {
        daemon_draft_find(said, &draft);
    }
    return draft;
}

bool daemon_loads_heads(const struct daemon *d)
{
    return d->options->draft == DAEMON_DRAFT_MTP || d->options->model.mtp != MLXR_MTP_OFF;
}

uint64_t daemon_started_s(const struct daemon *d)
{
    return d->own->started_s;
}

uint16_t daemon_port(const struct daemon *d)
{
    return d->own->port;
}

bool daemon_wait(struct daemon_private *p, const bool *end, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&p->lock);
    while (!*end && pthread_cond_timedwait(&p->changed, &p->lock, &until) == 0) {
    }
    bool go_on = !*end;
    pthread_mutex_unlock(&p->lock);
    return go_on;
}

bool daemon_sleep(struct daemon_private *p, uint64_t ms)
{
    return daemon_wait(p, &p->stop, ms);
}

static const char *closed(void *service, unsigned *retry_s)
{
    struct daemon *d = service;
    switch (daemon_state_of(d)) {
    case DAEMON_LOADING:
        *retry_s = 1;
        return "the server is loading its models";
    case DAEMON_DRAINING:
        *retry_s = 5;
        return "the server is shutting down";
    case DAEMON_READY:
        break;
    }
    return NULL;
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

static void fill_defaults(daemon_options *o)
{
    o->host = o->host ? o->host : "127.0.0.1";
    o->port = o->port ? o->port : 11435;
    o->lanes_max = o->lanes_max ? o->lanes_max : 256;
    o->queue_max = o->queue_max ? o->queue_max : 128;
    o->drain_ms = o->drain_ms ? o->drain_ms : 30000;
    o->connections_max = o->connections_max ? o->connections_max : 1024;
    o->keep_alive_ms = o->keep_alive_ms < 0 ? MODEL_KEEP_FOR_EVER : o->keep_alive_ms;
}

/* Somebody else listens there: what takes another place, and what tells whose it is. `server`: as --server has it. */
static mlxr_status tell_taken(const char *option, const char *server, mlxr_error *error)
{
    char said[sizeof error->text];
    memcpy(said, error->text, sizeof said);
    return daemon_error(error, MLXR_ARG,
                        "%.200s; %s takes another, and mlxr status --server %.120s tells whether a daemon is there",
                        said, option, server);
}

/* The addresses a name means; "localhost" and IP addresses are all that is usual. `option` chose the port. */
static mlxr_status listen_host(struct daemon_private *p, const char *option, uint16_t port, bool any_port,
                               uint16_t *bound, mlxr_error *error)
{
    const char *host = p->options.host;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    char address[64], server[80];
    mlxr_status status = MLXR_OK;
    int failed = getaddrinfo(host, NULL, &hints, &found);
    if (failed) {
        return daemon_error(error, MLXR_ARG, "--host %s: %s", host, gai_strerror(failed));
    }
    for (struct addrinfo *at = found; at && status == MLXR_OK; at = at->ai_next) {
        if (getnameinfo(at->ai_addr, at->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST) != 0) {
            continue;
        }
        if (!access_is_loopback(address) && !auth_has_keys(p->d->auth)) {
            status = daemon_error(
                error, MLXR_ARG,
                "--host %s can be reached from other machines, and there is no API key: make one with "
                "mlxr key create, or stay on 127.0.0.1",
                host);
        } else {
            status = http_listen_tcp(p->d->http, address, any_port ? 0 : port, bound, error);
            if (status == MLXR_LIMIT) {
                bool six = at->ai_family == AF_INET6;
                snprintf(server, sizeof server, six ? "[%s]:%u" : "%s:%u", address, port);
                status = tell_taken(option, server, error);
            }
        }
        any_port = false;
        port = bound && *bound ? *bound : port;
    }
    freeaddrinfo(found);
    return status;
}

static mlxr_status listen_all(struct daemon_private *p, mlxr_error *error)
{
    const daemon_options *o = &p->options;
    char server[128]; /* a socket's path is shorter */
    mlxr_status status = MLXR_OK;
    for (unsigned i = 0; i < o->n_sockets && status == MLXR_OK; i++) {
        status = http_listen_fd(p->d->http, o->sockets ? o->sockets[i] : NOTIFY_FIRST_FD + (int)i, error);
    }
    if (status == MLXR_OK && !o->no_tcp && !o->n_sockets) {
        status = listen_host(p, "--port N", o->port, o->any_port, &p->port, error);
        if (status == MLXR_OK && o->ollama_port) {
            status = listen_host(p, "--ollama-port N", o->ollama_port, false, NULL, error);
        }
    }
    if (status == MLXR_OK && o->socket_path) {
        status = http_listen_unix(p->d->http, o->socket_path, error);
        if (status == MLXR_LIMIT) {
            snprintf(server, sizeof server, "unix:%s", o->socket_path);
            status = tell_taken("--socket PATH", server, error);
        }
    }
    return status;
}

/* A connection each, and some for files. */
static void raise_files(uint32_t connections)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + 512;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || limit.rlim_max > wanted ? wanted : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static mlxr_status open_engine(struct daemon_private *p, mlxr_error *error)
{
    struct daemon *d = p->d;
    daemon_options *o = &p->options;
    o->engine.log = o->logger ? log_part_line : o->log;
    o->engine.log_user = o->logger ? &p->engine_log : o->log_user;
    p->engine_log = (log_part){o->logger, "engine"};
    o->engine.weight_memory = o->memory_bytes - o->memory_bytes / 8; /* the table leaves no less to the KV cache */
    /* generation_admit bounds both together; what comes while a step runs lies in the queue, even where lanes are free.
     */
    scheduler_options limits = {
        .lanes_max = o->lanes_max, .queue_max = o->lanes_max + o->queue_max, .metrics = d->metrics};
    model_table_options models = {.memory_bytes = o->memory_bytes,
                                  .models_max = o->models_max,
                                  .keep_alive_ms = o->keep_alive_ms,
                                  .model = o->model};
    models.model.mtp = o->draft == DAEMON_DRAFT_MTP ? MLXR_MTP_IF_ANY : o->model.mtp; /* daemon_loads_heads */
    mlxr_status status = mlxr_engine_open(&d->engine, &o->engine, error);
    status = status == MLXR_OK ? worker_start(&d->worker, d->engine, &limits, error) : status;
    status = status == MLXR_OK ? model_table_open(&d->models, d->worker, &models, error) : status;
    status = status == MLXR_OK ? model_jobs_open(&d->jobs, d, error) : status;
    status = status == MLXR_OK ? generations_open(&d->generations, d, error) : status;
    return status == MLXR_OK ? ui_open(&d->ui, d, error) : status;
}

static mlxr_status open_registry(struct daemon_private *p, mlxr_error *error)
{
    struct daemon *d = p->d;
    mlxr_status status = registry_open(&d->registry, p->options.directory, &(registry_options){.or_read_only = true},
                                       error);
    if (status == MLXR_OK && *registry_closed(d->registry)) {
        daemon_log(d, MLXR_LOG_WARN,
                   "%s: the models that are there are served; pull, create, cp, rm, keys and kept chats need a folder "
                   "that can be written (MLXR_MODELS)",
                   registry_closed(d->registry));
    }
    status = status == MLXR_OK ? auth_registry_open(&p->keys, d->registry, error) : status;
    if (status == MLXR_OK) {
        p->own_key = (auth_own){auth_registry_source(p->keys), p->options.own_key};
        auth_source source = auth_own_source(&p->own_key);
        status = auth_open(&d->auth, &source, error);
    }
    return status;
}

static mlxr_status open_http(struct daemon_private *p, mlxr_error *error)
{
    struct daemon *d = p->d;
    const daemon_options *o = &p->options;
    router_options routes = {
        .tables = daemon_tables,
        .n_tables = n_daemon_tables,
        .service = d,
        .access = {.hosts = {o->hosts.items, o->hosts.n}, .origins = {o->origins.items, o->origins.n}},
        .auth = d->auth,
        .closed = closed,
        .ended = telemetry_answered};
    if (!o->tls_cert != !o->tls_key) {
        return daemon_error(error, MLXR_ARG, "TLS takes both a certificate and a key");
    }
    mlxr_status status = router_open(&p->router, &routes, error);
    if (status != MLXR_OK) {
        return status;
    }
    http_options http = {.app = router_app(p->router),
                         .connections_max = o->connections_max,
                         .head_ms = o->head_ms,
                         .stall_ms = o->stall_ms,
                         .tls_cert = o->tls_cert,
                         .tls_key = o->tls_key};
    raise_files(o->connections_max);
    status = http_open(&d->http, &http, error);
    return status == MLXR_OK ? listen_all(p, error) : status;
}

static void *run_loop(void *user)
{
    struct daemon_private *p = user;
    http_run(p->d->http);
    pthread_mutex_lock(&p->lock);
    p->loop_ended = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void abort_all(mlxr_engine *engine, void *user)
{
    (void)engine;
    scheduler_abort(user);
}

/* In the reverse order of opening; parts that are not there are left out. */
static void close_all(struct daemon_private *p)
{
    struct daemon *d = p->d;
    watch_closing(p);
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (p->has_loop) {
        http_stop(d->http);
        pthread_join(p->loop, NULL);
    }
    if (p->has_load) {
        pthread_join(p->load, NULL);
    }
    if (p->has_watch) {
        pthread_join(p->watch, NULL);
    }
    if (d->worker) {
        worker_call(d->worker, abort_all, worker_scheduler(d->worker)); /* whatever is left tells its end now */
    }
    generations_end(d->generations);
    model_jobs_end(d->jobs);
    ui_end(d->ui);
    for (size_t i = 0; i < p->n_leases; i++) {
        model_table_release(d->models, p->leases[i], MODEL_KEEP_DEFAULT);
    }
    model_table_close(&d->models); /* who waits for a model is told so, and asks the loop whether it still runs */
    http_close(&d->http);
    generations_close(&d->generations);
    ui_close(&d->ui);
    model_jobs_close(&d->jobs);
    worker_stop(&d->worker, false);
    mlxr_engine_close(&d->engine);
    router_close(&p->router);
    auth_close(&d->auth);
    auth_registry_close(&p->keys);
    registry_close(&d->registry);
    metrics_close(&d->metrics);
    watch_closed(p);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->config_lock);
    free(p->leases);
    free(p);
    free(d);
}

static struct daemon *new_daemon(const daemon_options *options)
{
    struct daemon *d = calloc(1, sizeof *d);
    struct daemon_private *p = calloc(1, sizeof *p);
    if (!d || !p) {
        free(d);
        free(p);
        return NULL;
    }
    p->d = d;
    p->options = *options;
    fill_defaults(&p->options);
    p->started_s = (uint64_t)time(NULL);
    atomic_store(&p->draft, (int)p->options.draft);
    atomic_store(&p->drain_ms, p->options.drain_ms);
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->config_lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    d->own = p;
    d->options = &p->options;
    return d;
}

mlxr_status daemon_start(struct daemon **out, const daemon_options *options, mlxr_error *error)
{
    mlxr_error ignored;
    struct daemon *d = new_daemon(options);
    error = error ? error : &ignored;
    if (!d) {
        return daemon_error(error, MLXR_NOMEM, "no memory for a daemon");
    }
    struct daemon_private *p = d->own;
    mlxr_status status = telemetry_open(p, error);
    status = status == MLXR_OK ? open_registry(p, error) : status;
    status = status == MLXR_OK ? open_http(p, error) : status; /* first: a port that is taken is told at once */
    status = status == MLXR_OK ? open_engine(p, error) : status;
    status = status == MLXR_OK ? watch_start(p, error) : status;
    status = status == MLXR_OK ? load_start(p, error) : status;
    if (status == MLXR_OK) {
        p->has_loop = pthread_create(&p->loop, NULL, run_loop, p) == 0;
        status = p->has_loop ? MLXR_OK : daemon_error(error, MLXR_LIMIT, "the system has no thread for the server");
    }
    if (status != MLXR_OK) {
        close_all(p);
        return status;
    }
    *out = d;
    return MLXR_OK;
}

/* ---- ending ------------------------------------------------------------------------------------------------------ */

static void abort_work(void *user)
{
    struct daemon_private *p = user;
    worker_call(p->d->worker, abort_all, worker_scheduler(p->d->worker));
}

static void nothing(void *user)
{
    (void)user;
}

/* Requests, answers of chats and responses in the background that are under way, for the log; false: there are none.
 * Who follows a chat's answer has a request, too: both are told. */
static bool under_way(const struct daemon_private *p, char *out, size_t cap)
{
    unsigned n = router_using(p->router), n_chats = ui_answering(p->d->ui);
    unsigned n_background = openai_background_answering(p->d);
    int used = n ? snprintf(out, cap, "%u request%s", n, n == 1 ? "" : "s") : 0;
    if (n_chats) {
        used += snprintf(out + used, cap - (size_t)used, "%s%u answer%s of chats", n ? ", " : "", n_chats,
                         n_chats == 1 ? "" : "s");
    }
    if (n_background) {
        snprintf(out + used, cap - (size_t)used, "%s%u response%s in the background", used ? ", " : "", n_background,
                 n_background == 1 ? "" : "s");
    }
    return n || n_chats || n_background;
}

static bool is_idle(const struct daemon_private *p)
{
    return router_using(p->router) == 0 && ui_idle(p->d->ui) && openai_background_answering(p->d) == 0;
}

/* Until nothing runs any more, or the time is over. */
static void drain_on(void *user)
{
    struct daemon_private *p = user;
    http_server *http = p->d->http;
    uint64_t now = daemon_clock_ms();
    char what[128];
    if (is_idle(p) || (p->aborted && now >= p->drain_until_ms)) {
        http_stop(http);
        return;
    }
    if (now >= p->drain_until_ms) {
        if (under_way(p, what, sizeof what)) {
            daemon_log(p->d, MLXR_LOG_WARN, "ended unfinished: %s", what);
        }
        p->aborted = true;
        p->drain_until_ms = now + ABORTED_MS;
        http_work(http, abort_work, nothing, p);
    }
    if (http_timer(http, POLL_MS, drain_on, p) == 0) {
        http_stop(http);
    }
}

/* Nothing new is taken; what is under way has so much time. */
static void drain_for(struct daemon_private *p, uint64_t ms)
{
    char what[128];
    p->draining = true;
    atomic_store(&p->state, DAEMON_DRAINING);
    p->drain_until_ms = daemon_clock_ms() + ms;
    if (ms && under_way(p, what, sizeof what)) {
        daemon_log(p->d, MLXR_LOG_INFO, "ending: nothing new is taken; for %llu s at most there go on: %s",
                   (unsigned long long)(ms + 999) / 1000, what);
    }
    ui_drain(p->d->ui);
    drain_on(p);
}

static void drain_begin(void *user)
{
    struct daemon_private *p = user;
    if (!p->draining) {
        drain_for(p, atomic_load(&p->drain_ms));
    }
}

static void drain_now(void *user)
{
    struct daemon_private *p = user;
    if (!p->draining) {
        drain_for(p, 0);
    } else if (!p->aborted) {
        p->drain_until_ms = 0;
    }
}

void daemon_drain(struct daemon *d, bool now)
{
    http_post(d->http, now ? drain_now : drain_begin, d->own);
}

void daemon_stop(struct daemon **pointer)
{
    struct daemon *d = *pointer;
    if (!d) {
        return;
    }
    struct daemon_private *p = d->own;
    daemon_drain(d, false);
    pthread_mutex_lock(&p->lock);
    while (!p->loop_ended) {
        pthread_cond_wait(&p->changed, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    close_all(p);
    *pointer = NULL;
}
