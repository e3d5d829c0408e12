/*
 * Access log: one line and some counts for each answer. Never the path or the query as they were asked, which may hold
 * anything: only the pattern of the route.
 * Owner: the server. Lifetime: the call.
 */
#ifndef MLXR_TELEMETRY_ACCESS_LOG_H
#define MLXR_TELEMETRY_ACCESS_LOG_H

#include "telemetry/logger.h"
#include "telemetry/metrics.h"

typedef struct access_entry {
    const char *method;
    const char *route;      /* its pattern: "/v1/models/{id}"; NULL: none took it */
    const char *request_id; /* NULL: none */
    const char *key;        /* the id of the API key, not the key; NULL: none */
    const char *model;      /* NULL: none */
    int status;             /* 0: the client left before there was one */
    uint64_t duration_us;
    uint64_t bytes_out;
    size_t n_prompt, n_cached, n_generated; /* tokens; written where there is a model */
    bool gone;                              /* the client left before it had everything */
    bool quiet;                             /* asked again and again by machines (health, metrics): debug only */
} access_entry;

/* Any of the two may be NULL; the metrics are those of metric_table. Any thread. */
void access_log(logger *l, metrics *m, const access_entry *e);

#endif
