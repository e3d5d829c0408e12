/*
 * Limits as a thread team reaches them.
 * Owner: none. Lifetime: the call. From the team's opening thread.
 */
#ifndef MLXR_KERNELS_CPU_LIMITS_TEAM_H
#define MLXR_KERNELS_CPU_LIMITS_TEAM_H

#include "base/cpu.h"
#include "base/team.h"

/* Reading n bytes again and again, each member its share. */
mlxr_status limits_read_rate(team *t, cpu_features features, size_t n_bytes, double *bytes_per_s, mlxr_error *error);
/* Multiplying and adding "int8", "bf16" or "f32", two operations each; 0: the features have no such instructions. All
 * members multiply all the time, and the best moments of each are added up: they need not be the same moments. */
mlxr_status limits_peak_rate(team *t, cpu_features features, const char *number, double *ops_per_s, mlxr_error *error);

typedef struct limits_clock {
    double (*now)(void *user); /* seconds */
    void *user;
} limits_clock;

/* Seconds of one round in the best of some short runs of as many rounds as fill half a millisecond. Any thread. */
double limits_best_round(const limits_clock *clock, void (*run)(void *context, uint32_t n_rounds), void *context);

#endif
