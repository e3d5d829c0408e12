/*
 * Thread team: a fixed set of threads that run one function together and meet at barriers.
 * Owner: one backend (one device). Lifetime: team_open to team_close; the caller's thread is member 0.
 */
#ifndef MLXR_BASE_TEAM_H
#define MLXR_BASE_TEAM_H

#include "mlxr.h"

typedef struct team team;

/* One member's view; passed to every function the team runs. */
typedef struct team_member {
    team *owner;
    uint32_t index; /* 0 … n_threads − 1 */
    uint32_t n_threads;
} team_member;

mlxr_status team_open(team **out, uint32_t n_threads, mlxr_error *error);
void team_close(team **t);
uint32_t team_size(const team *t);

/* Runs fn(context, member) on all members and returns when all have. Not re-entrant; from the opening thread only. */
void team_run(team *t, void (*fn)(void *context, const team_member *member), void *context);

/* Inside fn: waits for all members. Spins for some microseconds, then sleeps. A release/acquire point. */
void team_barrier(const team_member *member);

/* Inside fn: takes the next chunk number from a shared counter; see team_chunks_reset. For work of uneven size. */
uint32_t team_next_chunk(const team_member *member);
/* Inside fn, by every member, with a barrier included: starts a new chunk count at 0. */
void team_chunks_reset(const team_member *member);

/* The half-open share of `n` items (in multiples of `grain`) that falls to this member. */
void team_share(const team_member *member, uint32_t n, uint32_t grain, uint32_t *begin, uint32_t *end);

#endif
