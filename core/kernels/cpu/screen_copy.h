/*
 * Greatest logits by a copy of the matrix with one scale a row (coarse.h): its products tell which logits
 * may be the greatest.
 * Owner: the program. Lifetime: the program's.
 */
#ifndef MLXR_KERNELS_CPU_SCREEN_COPY_H
#define MLXR_KERNELS_CPU_SCREEN_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/team.h"
#include "kernels/cpu/linear.h"

typedef struct program program;
typedef struct exec exec;
typedef struct screen_copy screen_copy;

/* What a pass does about it. */
typedef struct copy_pass {
    bool screens; /* its logits meet the copy */
    bool makes;   /* it makes the copy */
} copy_pass;

/* Sets prog->copy where it may pay. False: out of memory. */
bool copy_open(program *prog);
void copy_close(program *prog);
/* None from its next pass on: others read the matrix, too, and both would be in memory. Any thread. */
void copy_refuse(program *prog);
/* Does memory hold it now? Then there are no halves (screen_few.h), and vice versa. */
bool copy_holds(const program *prog);
/* What a pass does; called once for each, by one thread. */
copy_pass copy_choose(exec *e);
uint64_t copy_bytes(const exec *e);
/* The program's last node, if e->copy.screens. */
void copy_run(const exec *e, uint32_t index, const team_member *member);
/* Behind the nodes, by all members, if e->copy.makes. */
void copy_fill(const exec *e, const team_member *member);
/* Behind the pass, by one thread. */
void copy_done(const exec *e);

/* What it takes at most beside the weights as they are counted anyway; 0 where there never is one. */
uint64_t copy_kept_bytes(const program *prog);

/* Passes so far that were screened by it, and those of them whose logits were computed whole after all. */
typedef struct copy_counts {
    uint64_t n_screened, n_whole;
    uint64_t n_bytes_kept; /* memory of it, now */
} copy_counts;

copy_counts copy_count(const program *prog);

/* How far a product of the copy may be from the logit: |w| × length + |w − w'| × rest. NaN: not known. */
typedef struct copy_reach {
    float length, rest;
} copy_reach;

/* That of an input that became unit × integers [n_in] and is `exact` (LINEAR_Q16, one token); `most` is the greatest
 * |w|. */
copy_reach copy_reach_of(float unit, const int32_t *integers, const linear_input *exact, float most);

#endif
