/*
 * What the daemon tells about itself while it runs: metrics, the log, profiles.
 * Owner: the daemon. Lifetime: the process.
 */
#ifndef MLXR_SERVER_TELEMETRY_ROUTES_H
#define MLXR_SERVER_TELEMETRY_ROUTES_H

#include "server/routes.h"

#define N_TELEMETRY_ROUTES 3
extern const route telemetry_routes[N_TELEMETRY_ROUTES];

/* GET /metrics: Prometheus. */
void metrics_answer(void *service, http_exchange *x);
/* GET /ui-api/logs: lines behind `after`, at most `limit` of them, of `level` and worse. As JSON, or for who accepts
 * text/event-stream as events that go on for as long as the client stays. */
void log_answer(void *service, http_exchange *x);
/* POST /ui-api/profile: profiles the next steps; waits for them. */
void profile_answer(void *service, http_exchange *x);

#endif
