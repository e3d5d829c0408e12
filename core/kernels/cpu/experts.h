/*
 * Mixtures of experts on the CPU: rows are grouped by the experts they go to, so that an expert's weights are read once
 * for all of them, and pieces of experts are shared out among the team. Owner: the program holds the sizes, a pass its
 * scratch. Lifetime: the program's, the pass's.
 *
 * A pair is a row and one of its experts. In the scratch pairs lie in the order of experts. A row's result is the
 * weighted sum over its experts in the order they were chosen in, whatever other rows there are: the batch changes no
 * bit of it.
 */
#ifndef MLXR_KERNELS_CPU_EXPERTS_H
#define MLXR_KERNELS_CPU_EXPERTS_H

#include "kernels/cpu/linear.h"
#include "kernels/plan.h"

/* The largest of what the experts of a plan need. */
typedef struct experts_size {
    uint32_t n_expert, n_used, n_in, n_ff, n_widest;
    uint32_t formats, middle_formats; /* bit per linear_format that inputs, and what lies between, are packed to */
} experts_size;

/* The pairs of one expert. */
typedef struct experts_group {
    const linear_kernels *kernels; /* of its products */
    uint32_t expert;
    uint32_t first, n;    /* pairs */
    size_t input, middle; /* offsets of its packed inputs */
} experts_group;

typedef struct experts_work {
    uint32_t *chosen;      /* [n_rows][n_used] experts */
    float *weights;        /* [n_rows][n_used] */
    uint32_t *place;       /* [n_rows][n_used] which pair that is in the order of experts */
    uint32_t *row;         /* [n_pairs] whose pair it is, in that order */
    experts_group *groups; /* [n] experts that have rows; the last one's n is 0 */
    uint8_t *input, *middle;
    float *gate, *up; /* [n_pairs][n_ff] */
    float *out;       /* [n_pairs][n_in] */
} experts_work;

void experts_size_add(experts_size *size, const op_experts *x, const linear_kernels *kernels);
/* Bytes for the packed inputs of so many pairs, however they are spread over experts. */
uint64_t experts_packed_bytes(const experts_size *size, uint64_t n_pairs, bool middle);
/* Scratch bytes that one more row takes. */
uint64_t experts_row_bytes(const experts_size *size);

/* Chooses: n_used experts and their weights from logits [n_expert]. */
void experts_route(const op_experts *x, const float *logits, uint32_t *chosen, float *weights);

#endif
