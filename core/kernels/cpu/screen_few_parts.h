/*
 * What the files of screening few rows share: what is kept of the matrix of logits (screen_few_parts.c), the bound of
 * what its upper half leaves out (screen_few_bound.c), and a pass's memory. The search itself is screen_few.c.
 * Owner: the program; a pass's memory is the pass's. Lifetime: theirs.
 */
#ifndef MLXR_KERNELS_CPU_SCREEN_FEW_PARTS_H
#define MLXR_KERNELS_CPU_SCREEN_FEW_PARTS_H

#include "kernels/cpu/program.h"

struct screen_few {
    bool off;    /* it cannot be, or nobody may have it any more */
    bool embeds; /* inputs' tokens are rows of the matrix */
    halves_kernels kernels;
    uint32_t n_learnt;     /* inputs */
    double *sums;          /* [n_in] of their squares */
    float *squares;        /* [n_in] d² */
    size_t room;           /* bytes that all parts take */
    uint8_t *memory;       /* [room], of the following */
    size_t n_gathered[2];  /* bytes of the upper and of the lower parts that are in large pages, if there are any */
    float *lengths;        /* [n_out] × reach: how far a product may be from the logit; 0 where none is made */
    uint8_t *upper;        /* [n_out] rows */
    uint8_t *lower;        /* likewise */
    uint32_t n_made;       /* the first rows of the matrix: they are in two parts */
    double most;           /* the greatest of their sizes; see few_length */
    uint32_t debt;         /* screened passes that must come before one more is computed whole after all */
    uint32_t pause;        /* passes left of one: nothing is screened meanwhile */
    uint32_t n_lone;       /* passes that could use it, with none between of so many rows that a copy serves them */
    uint32_t wait;         /* so many of those let the copy go (screen_copy.c) */
    uint64_t n_paid;       /* passes that were screened since there was none */
    _Atomic bool unwanted; /* by few_refuse */
    few_counts counts;
};

#define FEW_READS_MOST 128u /* logits of a row: where somebody reads more, all are computed */

/* The greatest logit of a row that was computed. */
typedef struct best {
    float logit;
    int32_t id; /* the first that has it */
} best;

/* A pass's memory. */
typedef struct few_work {
    uint8_t *inputs; /* [n_rows][input_bytes]: as Q8_0 has them, then as halves have them */
    size_t packed_bytes, input_bytes;
    float *reach;         /* [n_rows] of few_reach */
    float *floor;         /* [n_rows] no logit below it is read */
    halves_input *halves; /* [n_rows] */
    float *upper;         /* [n_rows][n_blocks] the most that a block's logits may be */
    float *greatest;      /* [n_rows][n_blocks] of a block's products */
    uint64_t *left;       /* [n_rows][n_blocks] its rows that may have a logit that is read: a bit each */
    uint32_t n_blocks;
    uint8_t *members; /* [n_threads][member_bytes] */
    size_t member_bytes;
} few_work;

/* What a member found. */
typedef struct few_member {
    best found[LINEAR_DIRECT];
    uint64_t n_left, n_computed; /* rows of weights that may have something greater; that were computed */
    double most;
} few_member;

few_work few_place(const exec *e, uint8_t *memory, uint64_t *n_bytes);

static inline few_member *few_member_of(const few_work *work, uint32_t index)
{
    return (few_member *)(void *)(work->members + index * work->member_bytes);
}

static inline const node *few_node(const program *prog)
{
    return &prog->nodes[prog->n_nodes - 1];
}

static inline const linear_weight *few_weight(const program *prog)
{
    return &few_node(prog)->products[0].weight;
}

/* Of each row, so many of the greatest logits are read at least; 0: all. */
static inline uint32_t few_reads(const exec *e)
{
    return e->s.greatest ? 1 : e->s.reads.n;
}

/* Is more left than it pays to compute one by one? Behind a barrier, the same for all members and on every run. */
bool few_leaves_much(const exec *e, const few_work *work);

/* ---- the bound ---- */

/* A row of weights [n_in] is far from its upper part at most by what this × the input's reach is: no number, or too
 * large a one, is +infinity. `size`: of both parts. `l` was measured with `squares` [n_in] d². */
float few_length(halves_lengths l, uint32_t n_in, double *size);
/* |x / d| of an input (LINEAR_Q16, one token), rounded up; NaN: not known. `most`: of any row's size. */
float few_reach(const linear_input *input, const float *squares, double most);
/* d² of what was learned: sums[n_in] of inputs' squares. */
void few_squares(const double *sums, uint32_t n_in, float *squares);

#endif
