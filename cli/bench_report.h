/*
 * What `mlxr bench` prints: JSON Lines, CSV, Markdown or columns for people.
 * Owner: the verb. Lifetime: the call.
 */
#ifndef MLXR_CLI_BENCH_REPORT_H
#define MLXR_CLI_BENCH_REPORT_H

#include "machine.h"
#include "session.h"

typedef struct bench_row {
    const char *kind;              /* "pp", "tg", "batch" */
    uint32_t n, depth;             /* tokens, or sequences of a batch; tokens before them */
    uint32_t n_prompt, n_generate; /* of a batch */
    double *rates;                 /* [n_rates] tokens a second, sorted by bench_report */
    uint32_t n_rates;
    bool decodes;
    mlxr_logits_stats logits; /* all repetitions' */
    mlxr_draft_stats drafts;
} bench_row;

typedef struct bench_report {
    const options *o;
    const session *s;
    machine m;
    unsigned n_rows;
} bench_report;

void bench_report_begin(bench_report *r);
/* Prints a test's row; returns an exit code. */
int bench_report_row(bench_report *r, bench_row *row);

#endif
