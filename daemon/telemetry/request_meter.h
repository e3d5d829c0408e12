/*
 * Request meter: what the metrics say of one request, from its arrival to its end.
 * Owner: who serves the request; one thread at a time. Lifetime: the request's, inside the metrics'.
 *
 *     request_meter_begin ─▶ request_meter_prompt ─▶ request_meter_tokens … ─▶ request_meter_choice_end, for each
 * choice ─▶ request_meter_end Times are microseconds on any one monotonic clock.
 */
#ifndef MLXR_TELEMETRY_REQUEST_METER_H
#define MLXR_TELEMETRY_REQUEST_METER_H

#include "telemetry/metrics.h"

typedef struct choice_meter { /* {0} before its first token */
    uint64_t first_us, last_us;
    uint64_t n_tokens;
} choice_meter;

typedef struct request_meter {
    metrics *m; /* of metric_table; NULL: nothing is measured */
    const char *model_name;
    metric_series *between, *generated; /* counted often, so looked up once */
    uint64_t arrived_us, admitted_us, first_us;
    uint64_t n_generated;
} request_meter;

/* `model_name` is borrowed until the end. */
void request_meter_begin(request_meter *r, metrics *m, const char *model_name, uint64_t now_us);
/* The scheduler computes it now, after waiting so long; may be told with the first tokens. */
void request_meter_prompt(request_meter *r, size_t n_prompt, size_t n_cached, uint64_t admitted_us);
/* n tokens of a choice came, together. */
void request_meter_tokens(request_meter *r, choice_meter *c, uint32_t n, uint64_t now_us);
/* `reason` as finished_reason: "stop", "length", "abort", "error", "context", "deadline". */
void request_meter_choice_end(request_meter *r, const choice_meter *c, const char *reason);
/* All choices have ended. */
void request_meter_end(request_meter *r, uint64_t now_us);

#endif
