/*
 * What the benchmarks share: arguments, a clock, an engine with a model, and the tokens of a text.
 * Owner: the program. Lifetime: its main. One thread.
 *
 * Results are JSON Lines on standard output; whatever fails ends the program with its reason on standard error.
 */
#ifndef MLXR_BENCH_BENCH_H
#define MLXR_BENCH_BENCH_H

#include "scheduler/quantile.h"
#include "scheduler/scheduler.h"

/* The real text that prompts are cut from, seen from the repository's root. */
#define BENCH_TEXT "tests/data/text/languages-and-code.text"

typedef struct bench_option { /* --name VALUE; the list ends with {0} */
    const char *name;
    double *number;    /* or … */
    const char **text; /* … this */
    const char *help;
} bench_option;

/* Fills in the options given and returns the one positional argument, the model's path. */
const char *bench_arguments(int argc, char **argv, const bench_option *options);

double bench_now_ms(void);
/* Ends the program where a call failed. */
void bench_check(mlxr_status status, const mlxr_error *error);

typedef struct bench_text {
    int32_t *ids; /* [n] */
    size_t n;
} bench_text;

/* The tokens of a file; fewer than n_least are an error that says so. */
bench_text bench_text_open(const mlxr_model *model, const char *path, size_t n_least);
void bench_text_close(bench_text *text);

#endif
