/*
 * mlxr_profile.h: where the time of an engine's steps goes. The rules of mlxr.h about errors, threads and ownership
 * hold here, too.
 */
#ifndef MLXR_PROFILE_H
#define MLXR_PROFILE_H

#include "mlxr.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mlxr_profile_span { /* operations of the plan that the backend does as one; times since the beginning */
    uint32_t operation;            /* its name: operations[operation] */
    int32_t layer;                 /* -1: of none */
    uint64_t begin_ns, end_ns;
    uint64_t wait_ns; /* of it, at its end: waiting for the other threads */
} mlxr_profile_span;

typedef struct mlxr_profile_step {
    uint64_t begin_ns;       /* drafts, pages and rows are prepared */
    uint64_t run_ns, ran_ns; /* the plan is run by the backend */
    uint64_t end_ns;         /* tokens are sampled and kept */
    uint32_t n_rows, n_slices, n_logits;
    bool drafting; /* of a draft model, inside of the step that comes next */
    uint64_t first_span;
    uint32_t n_spans; /* 0: the backend does not tell what happens inside of steps */
} mlxr_profile_step;

typedef struct mlxr_profile {
    const char *backend;
    uint32_t n_threads;
    uint64_t duration_ns;
    const char *const *operations; /* [n_operations] "norm+q+k+v", "attend", … */
    uint32_t n_operations;
    const mlxr_profile_step *steps; /* [n_steps] in the order in which they ended */
    uint32_t n_steps;
    const mlxr_profile_span *spans; /* [n_spans], step after step */
    uint64_t n_spans;
    uint64_t n_lost; /* steps and spans beyond what was asked for, or beyond memory */
} mlxr_profile;

/* From now on steps of this engine are profiled, n_steps_max of them at most. While that is off it costs nothing; while
 * it is on, two readings of the clock an operation and some KiB a step. Between steps only. */
MLXR_API mlxr_status mlxr_profile_begin(mlxr_engine *engine, uint32_t n_steps_max, mlxr_error *error);
/* Ends it; the caller frees *out with mlxr_profile_free, which may be after the engine's end. */
MLXR_API mlxr_status mlxr_profile_take(mlxr_engine *engine, mlxr_profile **out, mlxr_error *error);
MLXR_API void mlxr_profile_free(mlxr_profile **profile);

#ifdef __cplusplus
}
#endif
#endif
