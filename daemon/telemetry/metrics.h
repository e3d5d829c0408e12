/*
 * Metrics: counters, gauges and histograms with labels, described by a const table, counted from any thread without a
 * lock, and shown as Prometheus text.
 * Owner: whoever opened them. Lifetime: metrics_open to metrics_close; series live as long.
 *
 *     metric_series *s = metrics_series(m, METRIC_REQUEST_SUCCESS, (const char *[]){"smollm2", "stop"});
 *     metric_add(s, 1);                                 looked up once, counted often
 *
 * Labels come from outside (names of models, methods), so each metric keeps a bounded number of combinations apart; all
 * beyond share one series whose labels are "other". Counting never fails and never waits.
 */
#ifndef MLXR_TELEMETRY_METRICS_H
#define MLXR_TELEMETRY_METRICS_H

#include "mlxr.h"

#define METRICS_PREFIX "mlxr_"
#define METRIC_LABELS_MAX 3
#define METRIC_VALUE_BYTES_MAX 128 /* of a label's value; the rest is cut off */
#define METRIC_OTHER "other"

typedef struct metrics metrics;
typedef struct metric_series metric_series; /* one combination of labels */

typedef enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } metric_kind;

typedef struct metric {
    const char *name; /* without METRICS_PREFIX */
    metric_kind kind;
    const char *help;                      /* one line */
    const char *labels[METRIC_LABELS_MAX]; /* names; NULL: fewer */
    uint32_t series_max;                   /* combinations kept apart; 0: 64 */
    const double *bounds;                  /* HISTOGRAM: [n_bounds] ascending upper ends; +Inf follows by itself */
    uint32_t n_bounds;
} metric;

/* `table` is borrowed. Metrics without labels are there from the start, with 0. */
mlxr_status metrics_open(metrics **out, const metric *table, size_t n, mlxr_error *error);
void metrics_close(metrics **m);

/* Any thread. `index`: the row of the table; `values`: one for each of its labels, NULL as "". Never NULL: where there
 * are too many, or is no memory, it is the series of all others. */
metric_series *metrics_series(metrics *m, size_t index, const char *const *values);
/* COUNTER and GAUGE. Any thread. */
void metric_add(metric_series *s, double amount);
/* What somebody else has counted or measured. Any thread. */
void metric_set(metric_series *s, double value);
/* HISTOGRAM. Any thread. */
void metric_observe(metric_series *s, double value);
/* As metric_observe n times. */
void metric_observe_many(metric_series *s, double value, uint64_t n);
/* The value; of a histogram how much was observed. */
double metric_value(const metric_series *s);

/* Shows nothing of a metric until it is counted again: what a collector fills anew (models that are loaded). */
void metrics_hide(metrics *m, size_t index);
/* Calls fn before each rendering, from its thread and one at a time. Before the first rendering; at most 16. */
mlxr_status metrics_on_scrape(metrics *m, void (*fn)(void *user, metrics *m), void *user, mlxr_error *error);
/* The text of METRICS_CONTENT_TYPE; freed with free(). Any thread. */
mlxr_status metrics_render(metrics *m, char **text, size_t *n_bytes, mlxr_error *error);

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

#endif
