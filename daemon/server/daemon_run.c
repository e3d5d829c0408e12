/*
 * The daemon as a process: signals, the service manager, the end.
 * Owner: the process. Lifetime: daemon_run.
 *
 *   SIGTERM, SIGINT ─▶ drain ─▶ saved ─▶ exit 0
 *     a second one  ─▶ what runs is ended now; after 1.8 s the process ends whatever it is doing
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "registry/disk.h"
#include "server/daemon_private.h"
#include "server/launchd.h"
#include "server/notify.h"

#define LAST_MS 1800u
#define POLL_MS 50u

typedef struct ending {
    sigset_t signals;
    uint64_t drain_ms;    /* as of the signal */
    pthread_mutex_t lock; /* of what follows */
    struct daemon *d;     /* NULL once it is being closed */
    bool over;            /* it is closed */
    bool asked;           /* by a signal: then it does not begin again */
} ending;

static void sleep_ms(uint64_t ms)
{
    struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static void drain(ending *e, bool now)
{
    pthread_mutex_lock(&e->lock);
    if (e->d) {
        e->drain_ms = atomic_load(&e->d->own->drain_ms);
        daemon_drain(e->d, now);
    }
    pthread_mutex_unlock(&e->lock);
}

static bool over(ending *e)
{
    pthread_mutex_lock(&e->lock);
    bool yes = e->over;
    pthread_mutex_unlock(&e->lock);
    return yes;
}

/* macOS has no sigtimedwait; this is asked only while the process ends. */
static bool wait_second(ending *e)
{
    sigset_t pending;
    int signal_number;
    for (uint64_t waited = 0; waited < e->drain_ms + DAEMON_HANGS_MS && !over(e); waited += POLL_MS) {
        sigpending(&pending);
        if (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1) {
            return sigwait(&e->signals, &signal_number) == 0 && !over(e);
        }
        sleep_ms(POLL_MS);
    }
    return false;
}

/* Whether the signal that was taken came from elsewhere: end_signals' own one, sent under the lock, waits otherwise. */
static bool note_signal(ending *e)
{
    sigset_t pending;
    pthread_mutex_lock(&e->lock);
    bool last = e->over;
    sigpending(&pending);
    e->asked = !last || sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
    pthread_mutex_unlock(&e->lock);
    return !last;
}

/* Ends when `over` is set and a last signal has woken it. */
static void *take_signals(void *user)
{
    ending *e = user;
    int signal_number;
    while (sigwait(&e->signals, &signal_number) != 0) {
    }
    if (note_signal(e)) {
        notify_send("STOPPING=1");
        drain(e, false);
    }
    if (wait_second(e)) {
        drain(e, true);
        for (unsigned waited = 0; waited < LAST_MS && !over(e); waited += POLL_MS) {
            sleep_ms(POLL_MS);
        }
    }
    if (!over(e)) {
        _exit(1);
    }
    return NULL;
}

static void tell_address(const struct daemon *d)
{
    const daemon_options *o = d->options;
    if (o->n_sockets) {
        daemon_log(d, MLXR_LOG_INFO, "listening on %u inherited sockets", o->n_sockets);
    } else if (!o->no_tcp) {
        daemon_log(d, MLXR_LOG_INFO, "listening on %s://%s:%u", o->tls_cert ? "https" : "http", o->host,
                   daemon_port(d));
    }
    if (o->socket_path) {
        daemon_log(d, MLXR_LOG_INFO, "listening on %s", o->socket_path);
    }
}

/* Until the loop has ended: by a signal, or because the daemon gave up. */
static void wait_end(struct daemon *d)
{
    struct daemon_private *p = d->own;
    bool told = false;
    pthread_mutex_lock(&p->lock);
    while (!p->loop_ended) {
        if (!told && p->loaded && daemon_state_of(d) == DAEMON_READY) {
            daemon_log(d, MLXR_LOG_INFO, "ready");
            notify_send("READY=1");
            told = true;
        }
        pthread_cond_wait(&p->changed, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

static void tell(const daemon_options *o, mlxr_log_level level, const char *line)
{
    if (o->log) {
        o->log(o->log_user, level, line);
    }
}

/* A system that has no sandbox is told of, and no reason not to serve. */
static mlxr_status confine(const daemon_options *o, mlxr_error *error)
{
    const char *what = "none";
    char line[128];
    mlxr_status status = daemon_confine(o, &what, error);
    if (status == MLXR_UNSUPPORTED) {
        tell(o, MLXR_LOG_WARN, error->text);
        return MLXR_OK;
    }
    if (status == MLXR_OK) {
        snprintf(line, sizeof line, "sandbox: %s", what);
        tell(o, MLXR_LOG_DEBUG, line);
    }
    return status;
}

typedef struct confined_start {
    struct daemon **out;
    const daemon_options *options;
    mlxr_status status;
    mlxr_error *error;
} confined_start;

static void *start_confined(void *user)
{
    confined_start *s = user;
    s->status = confine(s->options, s->error);
    s->status = s->status == MLXR_OK ? daemon_start(s->out, s->options, s->error) : s->status;
    return NULL;
}

mlxr_status daemon_start_confined(struct daemon **out, const daemon_options *options, mlxr_error *error)
{
    pthread_t thread;
    confined_start s = {.out = out, .options = options, .error = error};
    if (options->no_sandbox) {
        return daemon_start(out, options, error);
    }
    if (pthread_create(&thread, NULL, start_confined, &s) != 0) {
        *error = (mlxr_error){.status = MLXR_LIMIT, .text = "the system has no thread for a daemon"};
        return MLXR_LIMIT;
    }
    pthread_join(thread, NULL);
    return s.status;
}

/* Sockets of whoever has started this process, if it has; those of before are closed where it begins again. */
static void inherit(daemon_options *o, int **sockets)
{
    if (o->again && o->again->confined) {
        return;
    }
    o->n_sockets = notify_sockets();
    if (o->n_sockets == 0) {
        o->n_sockets = launchd_sockets(sockets);
        o->sockets = *sockets;
    }
}

/* The daemon is closed. From here on nobody but this thread has `e`; a signal that came meanwhile is in `asked`. */
static void end_signals(ending *e, pthread_t signals)
{
    pthread_mutex_lock(&e->lock);
    e->over = true;
    pthread_kill(signals, SIGTERM);
    pthread_mutex_unlock(&e->lock);
    pthread_join(signals, NULL);
}

/* Where it begins again the process is in the sandbox of its first start: in another folder for the cache the store
 * would read only, and nobody would notice. */
static mlxr_status check_kv_dir(const daemon_options *o, mlxr_error *error)
{
    const char *folder = o->engine.kv_dir;
    if (!folder || strcmp(folder, o->again->kv_dir) == 0) {
        return MLXR_OK;
    }
    mkdir(folder, 0700); /* as at the first start; what is wrong with it opening the file tells */
    if (!disk_takes_files(folder)) {
        *error = (mlxr_error){.status = MLXR_ARG};
        snprintf(error->text, sizeof error->text,
                 "kv_dir %.250s: nothing can be written there (%s): this process confined itself before to the folders "
                 "of its start; stop it and start it anew",
                 folder, strerror(errno));
        return MLXR_ARG;
    }
    return MLXR_OK;
}

/* Waits for the end of a daemon that has started; an exit code. */
static int run(ending *e)
{
    struct daemon *d = e->d;
    daemon_again *again = d->options->again;
    pthread_t signals;
    tell_address(d);
    bool listening = pthread_create(&signals, NULL, take_signals, e) == 0;
    if (!listening) {
        daemon_log(d, MLXR_LOG_ERROR, "the system has no thread for signals");
        daemon_drain(d, true);
    }
    wait_end(d);
    bool failed = atomic_load(&d->own->failed), wanted = atomic_load(&d->own->again);
    uint16_t port = daemon_port(d);
    mlxr_error failure = {.text = ""};
    if (failed) {
        failure = d->own->failure;
    }
    pthread_mutex_lock(&e->lock);
    e->d = NULL;
    pthread_mutex_unlock(&e->lock);
    daemon_stop(&d);
    if (listening) {
        end_signals(e, signals);
    }
    if (again) {
        again->wanted = wanted && listening && !failed && !e->asked;
        again->port = port;
        again->failure = failure;
        again->failure.text[0] = e->asked ? '\0' : failure.text[0]; /* nothing to begin again for */
    }
    return failed || !listening ? 1 : 0;
}

int daemon_run(const daemon_options *options, mlxr_error *error)
{
    daemon_options o = *options;
    ending e = {.lock = PTHREAD_MUTEX_INITIALIZER};
    int *sockets = NULL;
    error->text[0] = '\0';
    sigemptyset(&e.signals);
    sigaddset(&e.signals, SIGTERM);
    sigaddset(&e.signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &e.signals, NULL); /* before there are threads: they inherit it */
    signal(SIGPIPE, SIG_IGN);
    inherit(&o, &sockets);
    bool again = o.again && o.again->confined;
    mlxr_status status = o.no_sandbox || again ? MLXR_OK : confine(&o, error);
    if (again) {
        o.again->wanted = false;
        o.again->failure.text[0] = '\0';
        status = o.no_sandbox ? MLXR_OK : check_kv_dir(&o, error);
    } else if (o.again) {
        *o.again = (daemon_again){.confined = status == MLXR_OK, .port = o.again->port};
        snprintf(o.again->kv_dir, sizeof o.again->kv_dir, "%s", o.engine.kv_dir ? o.engine.kv_dir : "");
    }
    if (status == MLXR_OK) {
        status = daemon_start(&e.d, &o, error);
    }
    free(sockets);
    if (status != MLXR_OK) {
        return status == MLXR_ARG ? 2 : 1;
    }
    int code = run(&e);
    tell(&o, MLXR_LOG_INFO, o.again && o.again->wanted ? "ended, to begin again" : "ended");
    return code;
}
