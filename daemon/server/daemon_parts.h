/*
 * What handlers of routes are given as `service`: the daemon's parts.
 * Owner: daemon.c. Lifetime: the daemon's; the pointers do not change while routes are answered.
 */
#ifndef MLXR_SERVER_DAEMON_PARTS_H
#define MLXR_SERVER_DAEMON_PARTS_H

#include "scheduler/model_table.h"
#include "server/auth.h"
#include "server/daemon.h"
#include "server/http.h"

struct registry;
struct generations;
struct metrics;
struct model_jobs;
struct ui;

typedef enum daemon_state { DAEMON_LOADING, DAEMON_READY, DAEMON_DRAINING } daemon_state;

struct daemon {
    const daemon_options *options; /* a copy, defaults filled in */
    http_server *http;
    struct registry *registry;
    auth *auth;
    mlxr_engine *engine; /* its calls are the worker's: worker_call */
    worker *worker;
    model_table *models;
    struct generations *generations; /* generation.h */
    struct model_jobs *jobs;         /* model_jobs.h */
    struct ui *ui;                   /* ui.h */
    char default_model[256];         /* who asks for none gets it: the one that was named at the start, or "" */
    struct metrics *metrics;         /* telemetry/metric_table.h */
    struct daemon_private *own;      /* daemon.c's */
};

/* Any thread. */
daemon_state daemon_state_of(const struct daemon *d);
uint64_t daemon_started_s(const struct daemon *d); /* Unix time */
/* Has the engine's thread answered a call within the last seconds? */
bool daemon_engine_alive(const struct daemon *d);
/* Any thread. How an answer guesses ahead whose request says this (a name, NULL: nothing). */
daemon_draft daemon_drafts(const struct daemon *d, const char *said);
/* Are models loaded with their multi-token-prediction heads? As it was at the start. */
bool daemon_loads_heads(const struct daemon *d);
void daemon_log(const struct daemon *d, mlxr_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
