/*
 * Limits as a thread team reaches them: the best of some short runs, because other programs only ever take away.
 * Owner: none. Lifetime: the call. From the team's opening thread.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "kernels/cpu/limits.h"
#include "kernels/cpu/limits_team.h"

/* A run is far above what starting a team takes, yet so short that some are left alone by a host that takes cores away
 * for milliseconds, again and again, while all are busy: runs of 4 ms found half of the peak there, or a third. The
 * best of at most so many, and of three at least. */
#define RUN_S 0.5e-3
#define N_RUNS 100u
#define ALL_RUNS_S 0.12

typedef struct work {
    limits_loops loops;
    const limits_loop *loop; /* NULL: read */
    uint8_t *bytes;          /* [n_bytes] */
    size_t n_bytes;
    uint32_t n_rounds; /* of the loop, or passes over each member's bytes */
    bool fill;
    _Atomic uint32_t sink;
} work;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Each member always reads the bytes that it has filled: its part of a weight matrix. */
static void run_member(void *context, const team_member *member)
{
    work *w = context;
    uint32_t begin, end, sum = 0;
    if (w->loop) {
        w->sink += w->loop->run(w->n_rounds);
        return;
    }
    team_share(member, (uint32_t)(w->n_bytes / LIMITS_READ_GRAIN), 1, &begin, &end);
    uint8_t *bytes = w->bytes + (size_t)begin * LIMITS_READ_GRAIN;
    size_t n = (size_t)(end - begin) * LIMITS_READ_GRAIN;
    if (w->fill) {
        memset(bytes, (int)member->index + 1, n);
        return;
    }
    for (uint32_t i = 0; i < w->n_rounds; i++) {
        sum += w->loops.read(bytes, n);
    }
    w->sink += sum;
}

/* Seconds of a round, once it has been run as often as fills RUN_S. */
static double best_round(work *w, team *t)
{
    double best = 0, begin = now();
    w->n_rounds = 1;
    for (unsigned i = 0; i < 3 || (i < N_RUNS && now() - begin < ALL_RUNS_S);) {
        double start = now();
        team_run(t, run_member, w);
        double seconds = now() - start;
        if (seconds < RUN_S && w->n_rounds <= UINT32_MAX / 4) {
            w->n_rounds *= seconds < RUN_S / 4 ? 4 : 2; /* still finding out how many */
            best = 0;
            i = 0;
            continue;
        }
        double round = seconds / w->n_rounds;
        best = best > 0 && best < round ? best : round;
        i++;
    }
    return best;
}

mlxr_status limits_read_rate(team *t, cpu_features features, size_t n_bytes, double *bytes_per_s, mlxr_error *error)
{
    work w = {.loop = NULL};
    limits_init(&w.loops, features);
    size_t grain = (size_t)LIMITS_READ_GRAIN * team_size(t);
    if (n_bytes > (size_t)UINT32_MAX) { /* counts of grains stay small, and no cache is that large */
        n_bytes = (size_t)UINT32_MAX;
    }
    w.n_bytes = n_bytes < grain ? grain : n_bytes / grain * grain;
    w.bytes = aligned_alloc(4096, (w.n_bytes + 4095) / 4096 * 4096);
    if (!w.bytes) {
        return error_nomem(error, "memory to read", w.n_bytes);
    }
    w.fill = true;
    team_run(t, run_member, &w);
    w.fill = false;
    *bytes_per_s = (double)w.n_bytes / best_round(&w, t);
    free(w.bytes);
    return MLXR_OK;
}

mlxr_status limits_peak_rate(team *t, cpu_features features, const char *number, double *ops_per_s, mlxr_error *error)
{
    work w = {.n_bytes = 0};
    limits_init(&w.loops, features);
    w.loop = strcmp(number, "int8") == 0   ? &w.loops.int8
             : strcmp(number, "bf16") == 0 ? &w.loops.bf16
             : strcmp(number, "f32") == 0  ? &w.loops.f32
                                           : NULL;
    if (!w.loop) {
        return error_set(error, MLXR_ARG, "the peak of '%s' is not known; there are int8, bf16 and f32", number);
    }
    *ops_per_s = 0;
    if (w.loop->ops_per_round) {
        *ops_per_s = (double)w.loop->ops_per_round * team_size(t) / best_round(&w, t);
    }
    return MLXR_OK;
}
