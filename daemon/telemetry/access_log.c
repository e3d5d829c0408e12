/*
 * One answer, told to the log and to the metrics.
 * Owner: the server. Lifetime: the call.
 */
#include "telemetry/access_log.h"

#include <stdio.h>
#include <string.h>

#include "telemetry/metric_table.h"

/* A client may send any method; only these are kept apart. */
static const char *known_method(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i], method) == 0) {
            return known[i];
        }
    }
    return METRIC_OTHER;
}

static void count(metrics *m, const access_entry *e)
{
    char status[16];
    const char *route = e->route ? e->route : "none", *method = known_method(e->method);
    snprintf(status, sizeof status, "%d", e->status);
    metric_add(metrics_series(m, METRIC_HTTP_REQUESTS, (const char *const[]){method, route, status}), 1);
    metric_observe(metrics_series(m, METRIC_HTTP_SECONDS, &route), (double)e->duration_us / 1e6);
}

void access_log(logger *l, metrics *m, const access_entry *e)
{
    if (m) {
        count(m, e);
    }
    bool failed = e->status >= 500;
    mlxr_log_level level = failed ? MLXR_LOG_WARN : e->quiet ? MLXR_LOG_DEBUG : MLXR_LOG_INFO;
    if (!l || !logger_wants(l, level)) {
        return;
    }
    log_field fields[11];
    size_t n = 0;
    fields[n++] = log_text("request", e->request_id);
    fields[n++] = log_text("method", known_method(e->method));
    fields[n++] = log_text("route", e->route ? e->route : "none");
    fields[n++] = log_integer("status", e->status);
    fields[n++] = log_real("ms", (double)e->duration_us / 1e3);
    fields[n++] = log_integer("bytes", (int64_t)e->bytes_out);
    fields[n++] = log_text("key", e->key);
    if (e->model) {
        fields[n++] = log_text("model", e->model);
        fields[n++] = log_integer("prompt_tokens", (int64_t)e->n_prompt);
        fields[n++] = log_integer("cached_tokens", (int64_t)e->n_cached);
        fields[n++] = log_integer("generated_tokens", (int64_t)e->n_generated);
    }
    logger_write(l, level, "http", fields, n, "%s", e->gone ? "client left" : "answered");
}
