/*
 * Inside of a logger: what its files share.
 * Owner: the logger. Lifetime: the logger's.
 */
#ifndef MLXR_TELEMETRY_LOGGER_INSIDE_H
#define MLXR_TELEMETRY_LOGGER_INSIDE_H

#include <pthread.h>

#include "telemetry/log_file.h"
#include "telemetry/log_line.h"

#define LOGGER_QUEUE_LINES 8192u /* a power of two */
#define LOGGER_SUBSCRIBERS_MAX 64u
#define LOGGER_SECRETS_MAX 32u
#define LOGGER_BATCH_BYTES (2 * LOG_LINE_BYTES_MAX)
#define LOGGER_BATCH_LINES 512u

typedef struct subscriber {
    uint64_t id; /* 0: free */
    void (*fn)(void *user);
    void *user;
} subscriber;

struct logger {
    _Atomic int level;
    log_format format;
    int64_t (*now_us)(void *user);
    void *now_user;
    redact_secret secrets[LOGGER_SECRETS_MAX];
    _Atomic uint32_t n_secrets; /* grows only; what is counted does not change any more */
    pthread_mutex_t secrets_lock;

    pthread_mutex_t lock; /* of what follows; held for copies only */
    pthread_cond_t changed;
    logger_stats stats;
    log_record **tail; /* ring [tail_lines]; the newest is at stats.newest % tail_lines */
    uint32_t tail_lines, n_tail;
    size_t tail_bytes_max, tail_bytes;
    size_t queue_bytes_max;
    uint64_t n_dropped_told;
    bool stop, reopen;

    /* Lines for the writer, numbered from 0: those from `written` to `queued` wait or are being written. Atomic for the
     * sake of a signal handler, which reads them where a crash left them. */
    _Atomic(log_record *) queue[LOGGER_QUEUE_LINES];
    _Atomic uint64_t queued, written;
    atomic_bool give_up;
    log_file file;                         /* the writer's, and the three that follow */
    char *batch;                           /* [LOGGER_BATCH_BYTES] */
    log_record *lines[LOGGER_BATCH_LINES]; /* [n_lines], those in the batch */
    uint32_t n_lines;
    atomic_bool started; /* or tried */
    pthread_t writer;
    bool running;

    pthread_mutex_t subscribers_lock;
    subscriber subscribers[LOGGER_SUBSCRIBERS_MAX];
    uint64_t n_subscribed;
};

/* Ends logger_guard_crashes for this logger. */
void logger_unguard(const logger *l);

#endif
