/*
 * Where the time of a step goes, as a backend notes it.
 * Owner: the engine, which makes room and reads it behind the step. Lifetime: the engine's profile.
 */
#ifndef MLXR_KERNELS_STEP_PROFILE_H
#define MLXR_KERNELS_STEP_PROFILE_H

#include <stdint.h>
#include <time.h>

#define STEP_NO_LAYER UINT16_MAX /* op.layer before the first layer and behind the last */

/* A run of plan operations that the device does as one. */
typedef struct step_span {
    const char *label;                  /* "norm+q+k+v"; lives as long as the program */
    uint16_t layer;                     /* or STEP_NO_LAYER */
    uint64_t begin_ns, done_ns, end_ns; /* done: the noting thread's own share; then it waits for the others */
} step_span;

typedef struct step_profile {
    step_span *spans; /* [n] of room for cap */
    uint32_t n, cap;
    uint32_t n_lost; /* there was no room */
} step_profile;

/* Of a clock that never goes back. */
static inline uint64_t step_profile_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Notes a span that ends now; returns when that is. */
static inline uint64_t step_profile_note(step_profile *p, const char *label, uint16_t layer, uint64_t begin_ns,
                                         uint64_t done_ns)
{
    uint64_t now = step_profile_now_ns();
    if (p->n < p->cap) {
        p->spans[p->n++] = (step_span){label, layer, begin_ns, done_ns, now};
    } else {
        p->n_lost++;
    }
    return now;
}

#endif
