/*
 * Few rows of logits of which only the greatest is wanted, from half of the matrix's bits: screen_few.c.
 * Owner: the program. Lifetime: the program's.
 */
#ifndef MLXR_KERNELS_CPU_SCREEN_FEW_H
#define MLXR_KERNELS_CPU_SCREEN_FEW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/team.h"

typedef struct program program;
typedef struct exec exec;
typedef struct screen_few screen_few;

/* What a pass does about it. */
typedef struct few_pass {
    bool screens;    /* its logits are screened */
    bool learns;     /* its inputs tell which of them are large */
    uint32_t n_make; /* weight rows that it makes of two parts */
} few_pass;

/* Sets prog->few where it may pay. False: out of memory. */
bool few_make(program *prog);
void few_close(program *prog);
/* What a pass does; called once for each, by one thread. */
few_pass few_choose(exec *e);
uint64_t few_bytes(const exec *e);
/* The program's last node, if e->few.screens. */
void few_run(const exec *e, uint32_t index, const team_member *member);
/* Behind the nodes, by all members. */
void few_learn(const exec *e, const team_member *member);
/* Behind the pass, by one thread. */
void few_done(const exec *e);

/* Passes so far: screened, those of them whose logits were computed whole after all, and others that were not even
 * tried because such ones came before. Of the screened ones, rows of weights that were read whole. */
typedef struct few_counts {
    uint64_t n_screened, n_whole, n_paused;
    uint64_t n_computed, n_exact;
    uint32_t n_made; /* weight rows in two parts */
} few_counts;

few_counts few_count(const program *prog);

#endif
