/*
 * The routes, and the line and counts of each answer.
 * Owner: the daemon. Lifetime: the process.
 */
#include "server/telemetry_routes.h"

#include "server/daemon_private.h"
#include "telemetry/access_log.h"

const route telemetry_routes[N_TELEMETRY_ROUTES] = {
    {"GET", "/metrics", ROUTE_READ, ROUTE_PLAIN, ROUTE_WHEN_CLOSING, 0, metrics_answer},
    {"GET", "/ui-api/logs", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_WHEN_CLOSING, 0, log_answer},
    {"POST", "/ui-api/profile", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, 0, profile_answer},
};

void telemetry_answered(void *service, const http_exchange *x, const route *row, const auth_identity *who,
                        const route_usage *usage)
{
    const struct daemon *d = service;
    const http_request *q = http_request_of(x);
    http_outcome o = http_outcome_of(x);
    access_log(d->options->logger, d->metrics,
               &(access_entry){.method = q->method,
                               .route = row ? row->pattern : NULL,
                               .request_id = q->request_id,
                               .key = *who->id ? who->id : NULL,
                               .model = *usage->model ? usage->model : NULL,
                               .status = o.status,
                               .duration_us = o.duration_us,
                               .bytes_out = o.n_bytes,
                               .n_prompt = usage->n_prompt,
                               .n_cached = usage->n_cached,
                               .n_generated = usage->n_generated,
                               .gone = o.left,
                               .quiet = row && (row->flags & ROUTE_WHEN_CLOSING)});
}
