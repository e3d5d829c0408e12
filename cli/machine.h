/*
 * What this machine reaches at best, measured beside a benchmark: reading memory by size, and multiplying.
 * Owner: the verb. Lifetime: the call.
 */
#ifndef MLXR_CLI_MACHINE_H
#define MLXR_CLI_MACHINE_H

#include <jansson.h>

#include "options.h"

#define MACHINE_SIZES_MAX 8u

typedef struct machine {
    unsigned n_sizes; /* 0: the backend cannot tell */
    double sizes[MACHINE_SIZES_MAX], read_bytes_per_s[MACHINE_SIZES_MAX];
    double int8_per_s, bf16_per_s, f32_per_s; /* operations; 0: no such instructions */
} machine;

/* Measures with the engine options o in a process of its own, so that its memory does not count as the benchmark's;
 * call it before there are threads. Reads up to about n_bytes. What cannot be measured is left 0. */
void machine_measure(machine *m, const options *o, uint64_t n_bytes);

/* Bytes a second over n bytes: between the sizes measured, on a straight line over their logarithms. */
double machine_read_rate(const machine *m, double n_bytes);
/* The peak that products of these weights could reach: int8 for quantised ones, else BF16 or F32. */
double machine_peak(const machine *m, const char *weight_types);

json_t *machine_json(const machine *m);

#endif
