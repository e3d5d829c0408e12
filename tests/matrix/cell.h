/*
 * One cell of the matrix: runs its combination and compares every choice with the request alone.
 * Owner: none; all a cell opens it closes. Lifetime: the call. Any difference ends the test and names the cell.
 */
#ifndef MLXR_TEST_CELL_H
#define MLXR_TEST_CELL_H

#include "matrix/alone.h"

typedef struct matrix_totals { /* what the cells did, to show that they did it */
    uint32_t n_green, n_refused, n_choices;
    difference differences; /* of backends that do not promise bits */
    uint64_t n_tokens, n_hit_memory, n_hit_disk, n_evicted_bytes, n_preempted, n_forked;
    uint64_t n_drafted[N_DRAFTS], n_accepted[N_DRAFTS]; /* by matrix_draft */
    uint32_t n_sentences[3];                            /* ended, by matrix_rule */
} matrix_totals;

/* It must be green. */
void cell_run(const matrix_values *v, matrix_totals *totals);
/* Its family cannot have its KV type: it must be refused, in words that name both sides. */
void cell_refused(const matrix_values *v, matrix_totals *totals);

#endif
