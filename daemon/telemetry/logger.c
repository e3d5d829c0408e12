/*
 * The logger: a ring of the newest lines, a queue to the writer's thread, and that thread.
 * Owner: the caller. Lifetime: logger_open to logger_close.
 *
 * Invariants
 *   1. `lock` is never held while anything is written, allocated or called back.
 *   2. A record has one reference of the ring and one of the queue; the queue's is dropped after `written` has passed
 * it.
 *   3. Lines are numbered without gaps in the order they are in the ring; the queue has the same order, with gaps where
 *      it was full.
 */
#include "telemetry/logger.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "telemetry/daemon_error.h"
#include "telemetry/logger_inside.h"
#include "telemetry/text_buffer.h"

#define CLOSE_MS 2000u

/* ---- the writer ---- */

/* Shows lines of the queue in the batch; returns their bytes. The queue keeps them until they are written. */
static size_t fill_batch(logger *l)
{
    uint64_t first = atomic_load(&l->written), end = atomic_load(&l->queued);
    uint64_t most = l->file.path && l->file.regular ? l->file.rotate_bytes : UINT64_MAX;
    uint64_t room = l->file.n_bytes < most ? most - l->file.n_bytes : 0;
    size_t n = 0;
    for (l->n_lines = 0; first + l->n_lines < end && l->n_lines < LOGGER_BATCH_LINES; l->n_lines++) {
        log_record *r = atomic_load(&l->queue[(first + l->n_lines) % LOGGER_QUEUE_LINES]);
        if (n + LOG_LINE_BYTES_MAX > LOGGER_BATCH_BYTES) {
            break;
        }
        size_t more = log_record_show(r, l->format, l->batch + n, LOG_LINE_BYTES_MAX);
        if (n > 0 && n + more > room) {
            break; /* a new file begins with this line */
        }
        l->lines[l->n_lines] = r;
        n += more;
    }
    return n;
}

/* The lines of the batch are done with, written or lost. */
static void leave_queue(logger *l, bool ok)
{
    size_t n_bytes = 0;
    for (uint32_t i = 0; i < l->n_lines; i++) {
        n_bytes += l->lines[i]->n;
    }
    pthread_mutex_lock(&l->lock);
    l->stats.queued_bytes -= n_bytes;
    l->stats.n_write_errors += ok ? 0 : l->n_lines;
    l->stats.n_rotations = l->file.n_rotations;
    atomic_store(&l->written, atomic_load(&l->written) + l->n_lines);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    for (uint32_t i = 0; i < l->n_lines; i++) {
        log_record_unref(l->lines[i]);
    }
}

/* Tells of lines that were lost, once there is room to tell it. */
static void tell_losses(logger *l)
{
    pthread_mutex_lock(&l->lock);
    bool room = l->stats.queued_bytes < l->queue_bytes_max / 2; /* else there will be more to tell */
    uint64_t lost = l->stats.n_dropped + l->stats.n_write_errors, n = room ? lost - l->n_dropped_told : 0;
    int problem = l->file.problem;
    l->n_dropped_told += n;
    l->file.problem = 0;
    pthread_mutex_unlock(&l->lock);
    if (n > 0 || problem) {
        const log_field fields[] = {log_integer("dropped", (int64_t)n), log_text("problem", strerror(problem))};
        logger_write(l, MLXR_LOG_WARN, "log", fields, problem ? 2 : 1,
                     n ? "lines could not be written to the log" : "the log file could not be rotated");
    }
}

static void *writer_main(void *user)
{
    logger *l = user;
    for (;;) {
        pthread_mutex_lock(&l->lock);
        while (!l->stop && !l->reopen && atomic_load(&l->queued) == atomic_load(&l->written)) {
            pthread_cond_wait(&l->changed, &l->lock);
        }
        bool reopen = l->reopen, empty = atomic_load(&l->queued) == atomic_load(&l->written);
        l->reopen = false;
        pthread_mutex_unlock(&l->lock);
        if (reopen) {
            log_file_reopen(&l->file);
        } else if (empty) {
            return NULL; /* stopped */
        }
        size_t n = fill_batch(l);
        bool ok = log_file_write(&l->file, l->batch, n, &l->give_up);
        leave_queue(l, ok);
        if (ok) {
            tell_losses(l);
        }
    }
}

/* With the first line: a process may confine itself before there are threads. The writer takes no signals, which are
 * for threads that handle them. Where there is no thread to be had, lines wait for logger_close. */
static void start_writer(logger *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool running = pthread_create(&l->writer, NULL, writer_main, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_lock(&l->lock);
    l->running = running;
    pthread_mutex_unlock(&l->lock);
}

/* ---- writing ---- */

/* Into the ring, whose oldest lines go. They are returned as a list for the caller to free: at most two a line, as
 * lines differ in length; else the ring shrinks over the next lines. */
static unsigned keep(logger *l, log_record *r, log_record *gone[2])
{
    unsigned n = 0;
    r->seq = ++l->stats.newest;
    while (l->n_tail > 0 && n < 2 && (l->n_tail == l->tail_lines || l->tail_bytes + r->n > l->tail_bytes_max)) {
        log_record *oldest = l->tail[(l->stats.newest - l->n_tail) % l->tail_lines];
        l->tail_bytes -= oldest->n;
        l->n_tail--;
        gone[n++] = oldest;
    }
    l->tail[l->stats.newest % l->tail_lines] = r;
    l->tail_bytes += r->n;
    l->n_tail++;
    return n;
}

static void hand_over(logger *l, log_record *r)
{
    uint64_t queued = atomic_load(&l->queued);
    if (queued - atomic_load(&l->written) == LOGGER_QUEUE_LINES || l->stats.queued_bytes + r->n > l->queue_bytes_max) {
        l->stats.n_dropped++;
        return;
    }
    atomic_fetch_add(&r->refs, 1);
    atomic_store(&l->queue[queued % LOGGER_QUEUE_LINES], r);
    l->stats.queued_bytes += r->n;
    atomic_store(&l->queued, queued + 1);
    pthread_cond_broadcast(&l->changed);
}

static void call_subscribers(logger *l)
{
    pthread_mutex_lock(&l->subscribers_lock);
    for (unsigned i = 0; i < LOGGER_SUBSCRIBERS_MAX; i++) {
        if (l->subscribers[i].id) {
            l->subscribers[i].fn(l->subscribers[i].user);
        }
    }
    pthread_mutex_unlock(&l->subscribers_lock);
}

void logger_write(logger *l, mlxr_log_level level, const char *part, const log_field *fields, size_t n_fields,
                  const char *format, ...)
{
    if (!l || !logger_wants(l, level)) {
        return;
    }
    va_list args;
    va_start(args, format);
    log_record *r = log_record_make(l->now_us(l->now_user), level, part, fields, n_fields, l->secrets,
                                    atomic_load_explicit(&l->n_secrets, memory_order_acquire), format, args);
    va_end(args);
    log_record *gone[2];
    unsigned n_gone = 0;
    pthread_mutex_lock(&l->lock);
    l->stats.n_lines[level <= MLXR_LOG_DEBUG ? level : MLXR_LOG_DEBUG]++;
    if (r) {
        n_gone = keep(l, r, gone);
        hand_over(l, r);
    } else {
        l->stats.n_dropped++;
    }
    pthread_mutex_unlock(&l->lock);
    while (n_gone > 0) {
        log_record_unref(gone[--n_gone]);
    }
    if (!atomic_exchange(&l->started, true)) {
        start_writer(l);
    }
    call_subscribers(l);
}

void log_part_line(void *user, mlxr_log_level level, const char *line)
{
    const log_part *p = user;
    logger_write(p->l, level, p->part, NULL, 0, "%s", line);
}

void logger_level_set(logger *l, mlxr_log_level level)
{
    atomic_store_explicit(&l->level, (int)level, memory_order_relaxed);
}

bool logger_wants(const logger *l, mlxr_log_level level)
{
    return (int)level <= atomic_load_explicit(&l->level, memory_order_relaxed);
}

mlxr_status logger_secret_add(logger *l, const char *text, mlxr_error *error)
{
    size_t n = strlen(text);
    char *copy = n >= 8 ? strdup(text) : NULL;
    if (!copy) {
        return n >= 8 ? daemon_error(error, MLXR_NOMEM, "no memory for a secret of %zu bytes", n)
                      : daemon_error(error, MLXR_ARG, "a secret of %zu bytes would hide half of the log", n);
    }
    pthread_mutex_lock(&l->secrets_lock);
    uint32_t count = atomic_load_explicit(&l->n_secrets, memory_order_relaxed);
    if (count < LOGGER_SECRETS_MAX) {
        l->secrets[count] = (redact_secret){copy, n};
        atomic_store_explicit(&l->n_secrets, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&l->secrets_lock);
    if (count == LOGGER_SECRETS_MAX) {
        free(copy);
        return daemon_error(error, MLXR_LIMIT, "a logger knows %u secrets at most", LOGGER_SECRETS_MAX);
    }
    return MLXR_OK;
}

/* ---- reading ---- */

uint64_t logger_tail(logger *l, uint64_t after, size_t max_lines, logger_seen seen, void *user)
{
    uint64_t lost = 0;
    bool more = true;
    char json[LOG_LINE_BYTES_MAX];
    for (size_t shown = 0; more && shown < max_lines; shown++) {
        pthread_mutex_lock(&l->lock);
        uint64_t oldest = l->stats.newest - l->n_tail + 1;
        if (after + 1 < oldest) {
            lost += oldest - after - 1;
            after = oldest - 1;
        }
        log_record *r = after < l->stats.newest ? l->tail[(after + 1) % l->tail_lines] : NULL;
        if (r) {
            atomic_fetch_add(&r->refs, 1);
        }
        pthread_mutex_unlock(&l->lock);
        if (!r) {
            break;
        }
        size_t n = log_record_show(r, LOG_FORMAT_JSON, json, sizeof json) - 1;
        json[n] = '\0';
        after = r->seq;
        more = seen(user, r->seq, r->level, json, n);
        log_record_unref(r);
    }
    return lost;
}

uint64_t logger_subscribe(logger *l, void (*fn)(void *user), void *user)
{
    uint64_t id = 0;
    pthread_mutex_lock(&l->subscribers_lock);
    for (unsigned i = 0; i < LOGGER_SUBSCRIBERS_MAX && !id; i++) {
        if (!l->subscribers[i].id) {
            id = ++l->n_subscribed;
            l->subscribers[i] = (subscriber){id, fn, user};
        }
    }
    pthread_mutex_unlock(&l->subscribers_lock);
    return id;
}

void logger_unsubscribe(logger *l, uint64_t id)
{
    pthread_mutex_lock(&l->subscribers_lock);
    for (unsigned i = 0; i < LOGGER_SUBSCRIBERS_MAX; i++) {
        if (id && l->subscribers[i].id == id) {
            l->subscribers[i].id = 0;
        }
    }
    pthread_mutex_unlock(&l->subscribers_lock);
}

logger_stats logger_stats_get(logger *l)
{
    pthread_mutex_lock(&l->lock);
    logger_stats stats = l->stats;
    pthread_mutex_unlock(&l->lock);
    return stats;
}

/* ---- flushing, opening, closing ---- */

static struct timespec in_ms(uint32_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

bool logger_flush(logger *l, uint32_t timeout_ms)
{
    struct timespec until = in_ms(timeout_ms);
    pthread_mutex_lock(&l->lock);
    uint64_t goal = atomic_load(&l->queued);
    int late = 0;
    while (atomic_load(&l->written) < goal && !late) {
        late = pthread_cond_timedwait(&l->changed, &l->lock, &until);
    }
    bool done = atomic_load(&l->written) >= goal;
    pthread_mutex_unlock(&l->lock);
    return done;
}

void logger_reopen(logger *l)
{
    pthread_mutex_lock(&l->lock);
    l->reopen = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static int64_t system_now_us(void *user)
{
    (void)user;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Does the journal read what is written there? systemd tells which file it gave as stderr. */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char *end = NULL;
    struct stat status;
    unsigned long long device = stream ? strtoull(stream, &end, 10) : 0;
    if (!stream || *end != ':' || fstat(fd, &status) != 0) {
        return false;
    }
    return device == (unsigned long long)status.st_dev && strtoull(end + 1, NULL, 10) == status.st_ino;
}

static log_format choose_format(const logger_options *o, int fd)
{
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    if (o->format != LOG_FORMAT_AUTO || o->path) {
        return o->format == LOG_FORMAT_AUTO ? LOG_FORMAT_JSON : o->format;
    }
    if (is_journal(fd)) {
        return LOG_FORMAT_JOURNAL;
    }
    bool plain = !isatty(fd) || (no_colour && *no_colour) || !terminal || strcmp(terminal, "dumb") == 0;
    return plain ? LOG_FORMAT_PRETTY : LOG_FORMAT_COLOUR;
}

static mlxr_status set_up(logger *l, const logger_options *o, mlxr_error *error)
{
    mlxr_log_level level = MLXR_LOG_INFO;
    if (o->level && !log_level_find(o->level, &level)) {
        return daemon_error(error, MLXR_ARG, "log level '%s' is unknown; there are error, warn, info, debug", o->level);
    }
    int fd = o->fd ? o->fd : STDERR_FILENO;
    atomic_init(&l->level, (int)level);
    l->format = choose_format(o, fd);
    l->now_us = o->now_us ? o->now_us : system_now_us;
    l->now_user = o->now_user;
    l->tail_lines = o->tail_lines ? o->tail_lines : 2000;
    l->tail_bytes_max = o->tail_bytes ? o->tail_bytes : (size_t)512 << 10;
    l->queue_bytes_max = o->queue_bytes ? o->queue_bytes : (size_t)1 << 20;
    l->tail = calloc(l->tail_lines, sizeof(log_record *));
    l->batch = malloc(LOGGER_BATCH_BYTES);
    if (!l->tail || !l->batch) {
        return daemon_error(error, MLXR_NOMEM, "no memory for a log of %u lines", l->tail_lines);
    }
    return log_file_open(&l->file, o->path, fd, o->rotate_bytes ? o->rotate_bytes : (uint64_t)64 << 20,
                         o->rotate_count ? o->rotate_count : 4, error);
}

mlxr_status logger_open(logger **out, const logger_options *options, mlxr_error *error)
{
    static const logger_options defaults = {0};
    logger *l = calloc(1, sizeof *l);
    if (!l) {
        return daemon_error(error, MLXR_NOMEM, "no memory for a logger");
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_mutex_init(&l->secrets_lock, NULL);
    pthread_mutex_init(&l->subscribers_lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    mlxr_status status = set_up(l, options ? options : &defaults, error);
    if (status != MLXR_OK) {
        logger_close(&l);
        return status;
    }
    *out = l;
    return MLXR_OK;
}

void logger_close(logger **pointer)
{
    logger *l = *pointer;
    if (!l) {
        return;
    }
    logger_unguard(l);
    pthread_mutex_lock(&l->lock);
    bool running = l->running;
    pthread_mutex_unlock(&l->lock);
    if (running) {
        logger_flush(l, CLOSE_MS);
    }
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    atomic_store(&l->give_up, true);
    if (running) {
        pthread_join(l->writer, NULL);
    } else if (l->batch) {
        writer_main(l); /* what waits, if it goes at once */
    }
    for (uint32_t i = 0; i < l->n_tail; i++) {
        log_record_unref(l->tail[(l->stats.newest - i) % l->tail_lines]);
    }
    log_file_close(&l->file);
    for (uint32_t i = 0; i < atomic_load(&l->n_secrets); i++) {
        free((char *)l->secrets[i].text);
    }
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    pthread_mutex_destroy(&l->secrets_lock);
    pthread_mutex_destroy(&l->subscribers_lock);
    free(l->tail);
    free(l->batch);
    free(l);
    *pointer = NULL;
}
