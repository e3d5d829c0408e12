/*
 * Profile of an engine's steps while it is on: what mlxr_profile_take gives.
 * Owner: the engine. Lifetime: mlxr_profile_begin to mlxr_profile_take, or the engine's end.
 */
#ifndef MLXR_RUNTIME_PROFILE_H
#define MLXR_RUNTIME_PROFILE_H

#include "kernels/backend.h"
#include "mlxr_profile.h"

typedef struct engine_profile engine_profile;

/* A step under way. */
typedef struct profile_mark {
    uint64_t begin_ns, run_ns, ran_ns;
    uint32_t n_rows, n_slices, n_logits;
    bool kept; /* there is room for it */
} profile_mark;

void profile_close(engine_profile **profile);

void profile_step_begin(engine_profile *p, profile_mark *mark);
/* The plan runs now: where the backend notes its spans; NULL: there is no room. */
step_profile *profile_run_begin(engine_profile *p, profile_mark *mark, const plan *what, const step *s);
void profile_run_end(profile_mark *mark);
/* Keeps it, if it came about. */
void profile_step_end(engine_profile *p, const profile_mark *mark, bool ok);

#endif
