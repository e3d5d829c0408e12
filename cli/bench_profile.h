/*
 * Profiles of the tests of `mlxr bench`, gathered for its files.
 * Owner: the verb. Lifetime: {0} to bench_profile_close.
 */
#ifndef MLXR_CLI_BENCH_PROFILE_H
#define MLXR_CLI_BENCH_PROFILE_H

#include "options.h"
#include "telemetry/text_buffer.h"

typedef struct bench_profile {
    text_buffer json, trace;
    unsigned n_tests;
} bench_profile;

/* False after telling what went wrong. */
bool bench_profile_begin(mlxr_engine *engine);
/* What ran since then, as the test of this name. */
bool bench_profile_take(bench_profile *b, mlxr_engine *engine, const char *name);
/* Writes --profile and --trace; returns an exit code. */
int bench_profile_write(bench_profile *b, const options *o);
void bench_profile_close(bench_profile *b);

#endif
