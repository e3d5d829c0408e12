/*
 * What the daemon's own files share and handlers do not see.
 * Owner: the daemon. Lifetime: daemon_start to daemon_stop.
 */
#ifndef MLXR_SERVER_DAEMON_PRIVATE_H
#define MLXR_SERVER_DAEMON_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/auth_own.h"
#include "server/auth_registry.h"
#include "server/daemon_parts.h"
#include "server/router.h"
#include "server/usage_save.h"
#include "telemetry/logger.h"

struct daemon_private {
    struct daemon *d;
    daemon_options options;
    log_part engine_log;
    router *router;
    auth_registry *keys;
    auth_own own_key;
    uint16_t port;
    uint64_t started_s;
    _Atomic int state;         /* daemon_state */
    _Atomic uint64_t asked_ms; /* since when the watchdog waits for an answer of the engine's thread; 0: it does not */
    _Atomic bool failed;       /* it ends because something went wrong */
    _Atomic bool again;        /* it ends to begin again */
    _Atomic int draft;         /* daemon_options.draft and drain_ms, as they are now */
    _Atomic uint32_t drain_ms;
    bool taken_over;             /* the loop's: the file was changed meanwhile */
    uint32_t taken_from;         /* bits of config_options that it has, of those that apply at once */
    mlxr_error failure;          /* of loading; read once `failed` is seen */
    pthread_mutex_t config_lock; /* of the file of options */
    pthread_t loop, watch, load, closing;
    bool has_loop, has_watch, has_load, has_closing;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool stop, loaded, loop_ended, closed;
    mlxr_expert_stats experts;
    mlxr_kv_stats kv;    /* as of the last answer to the watchdog */
    mlxr_model **leases; /* [n_leases] of the models loaded at start */
    size_t n_leases;
    /* the loop's */
    bool draining, aborted;
    bool profiling;
    usage_save usage;
    uint64_t drain_until_ms;
};

/* A close that hangs (a driver that never returns) must not go on for ever; saving a large cache may take long. */
#define DAEMON_HANGS_MS 120000u

uint64_t daemon_clock_ms(void); /* monotonic */
/* daemon_watch.c: asks the engine's thread for a sign of life now and then. */
mlxr_status watch_start(struct daemon_private *p, mlxr_error *error);
/* While the daemon closes, which writes its KV cache: the service manager hears of it all the same. */
void watch_closing(struct daemon_private *p);
void watch_closed(struct daemon_private *p);
/* daemon_load.c: loads the models of the options, then the daemon is ready. */
mlxr_status load_start(struct daemon_private *p, mlxr_error *error);
/* daemon_sandbox.c: confines this process to what a daemon with these options needs; *what is in force.
 * MLXR_UNSUPPORTED: there is no sandbox here. */
mlxr_status daemon_confine(const daemon_options *o, const char **what, mlxr_error *error);
/* telemetry_routes.c: opens d->metrics, with what fills them when they are asked for. */
mlxr_status telemetry_open(struct daemon_private *p, mlxr_error *error);
/* The router's `ended`. */
void telemetry_answered(void *service, const http_exchange *x, const route *row, const auth_identity *who,
                        const route_usage *usage);
/* Sleeps; false: the daemon stops. */
bool daemon_sleep(struct daemon_private *p, uint64_t ms);
/* The same until another flag under p->lock is set. */
bool daemon_wait(struct daemon_private *p, const bool *end, uint64_t ms);

extern const route_table daemon_tables[];
extern const size_t n_daemon_tables;

#endif
