/*
 * Weights of layers in the order in which kernels read them (linear_laid.h), in memory of the program instead of the
 * file's pages.
 * Owner: the program. Lifetime: the program's.
 *
 * Decoding passes lay some matrices each, behind the first ones. Laid rows take as many bytes as the file's, whose
 * pages this process gives back as they are laid. They are anonymous memory, which the system cannot drop as it can a
 * file's pages, and which processes do not share, so weights are laid only where twice their size is available. All
 * products have the bits they had, of prompts, too.
 *
 * Only programs that make logits lay weights, and of them only the model's own: what else reads them (hidden states, a
 * head for multi-token prediction) reads the file's pages. Beside adapters nothing is laid (laid_refuse).
 */
#ifndef MLXR_KERNELS_CPU_LAID_H
#define MLXR_KERNELS_CPU_LAID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/team.h"

typedef struct program program;
typedef struct exec exec;
typedef struct laid_weights laid_weights;

/* Sets prog->laid where there is something to lay. False: out of memory. */
bool laid_open(program *prog);
void laid_close(program *prog);
/* From the next pass on nothing is laid, and the file's rows are read. Any thread. */
void laid_refuse(program *prog);
/* Matrices that a pass lays behind its nodes; called once for each, by one thread, before it reads weights. */
uint32_t laid_choose(const exec *e);
/* By all members. */
void laid_fill(const exec *e, const team_member *member);
/* Behind the pass, by one thread. */
void laid_done(const exec *e);

typedef struct laid_counts {
    uint32_t n_laid, n_all; /* matrices */
    uint64_t n_bytes;       /* of those that are laid */
    bool prepares;          /* decoding passes still lay some */
} laid_counts;

laid_counts laid_count(const program *prog);

#endif
