/*
 * Limits as a thread team reaches them: the best of some short runs, because other programs only ever take away.
 * Owner: none. Lifetime: the call. From the team's opening thread.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mapping.h"
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
    uint32_t n_rounds; /* passes over each member's bytes */
    bool fill;
    double *rounds; /* [members]: seconds of the best round of each */
    _Atomic uint32_t sink;
} work;

static double now(void *unused)
{
    (void)unused;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const limits_clock monotonic = {now, NULL};

double limits_best_round(const limits_clock *clock, void (*run)(void *context, uint32_t n_rounds), void *context)
{
    double best = 0, begin = clock->now(clock->user);
    uint32_t n_rounds = 1;
    for (unsigned i = 0; i < 3 || (i < N_RUNS && clock->now(clock->user) - begin < ALL_RUNS_S);) {
        double start = clock->now(clock->user);
        run(context, n_rounds);
        double seconds = clock->now(clock->user) - start;
        if (seconds < RUN_S && n_rounds <= UINT32_MAX / 4) {
            n_rounds *= seconds < RUN_S / 4 ? 4 : 2; /* still finding out how many */
            best = 0;
            i = 0;
            continue;
        }
        double round = seconds / n_rounds;
        best = best > 0 && best < round ? best : round;
        i++;
    }
    return best;
}

/* Each member always reads the bytes that it has filled: its part of a weight matrix. */
static void read_member(void *context, const team_member *member)
{
    work *w = context;
    uint32_t begin, end, sum = 0;
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

typedef struct team_work {
    team *t;
    work *w;
} team_work;

/* Memory is shared: only what all read at one moment tells what it gives. */
static void read_together(void *context, uint32_t n_rounds)
{
    team_work *both = context;
    both->w->n_rounds = n_rounds;
    team_run(both->t, read_member, both->w);
}

static void multiply(void *context, uint32_t n_rounds)
{
    work *w = context;
    w->sink += w->loop->run(n_rounds);
}

static void multiply_member(void *context, const team_member *member)
{
    work *w = context;
    w->rounds[member->index] = limits_best_round(&monotonic, multiply, w);
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
    memory_in_large_pages(w.bytes, w.n_bytes); /* as weights lie in at best */
    w.fill = true;
    team_run(t, read_member, &w);
    w.fill = false;
    *bytes_per_s = (double)w.n_bytes / limits_best_round(&monotonic, read_together, &(team_work){t, &w});
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
    if (w.loop->ops_per_round == 0) {
        return MLXR_OK;
    }
    w.rounds = calloc(team_size(t), sizeof *w.rounds);
    if (!w.rounds) {
        return error_nomem(error, "times of a peak", team_size(t) * sizeof *w.rounds);
    }
    team_run(t, multiply_member, &w);
    for (uint32_t i = 0; i < team_size(t); i++) {
        *ops_per_s += (double)w.loop->ops_per_round / w.rounds[i];
    }
    free(w.rounds);
    return MLXR_OK;
}
