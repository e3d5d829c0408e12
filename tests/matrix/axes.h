/*
 * The axes of the matrix and their values.
 * Owner: none; static tables. Lifetime: the process.
 */
#ifndef MLXR_TEST_AXES_H
#define MLXR_TEST_AXES_H

#include "matrix/pairwise.h"
#include "mlxr.h"
#include "support/tiny_model.h"

typedef enum matrix_axis {
    AXIS_BATCH,
    AXIS_DRAFT,
    AXIS_RULE,
    AXIS_SAMPLING,
    AXIS_CHOICES,
    AXIS_KV_TYPE,
    AXIS_PREFIX,
    AXIS_EVICTION,
    AXIS_FAMILY,
    AXIS_BACKEND,
    N_AXES
} matrix_axis;

typedef enum { DRAFT_OFF, DRAFT_NGRAM, DRAFT_MODEL, DRAFT_MTP, N_DRAFTS } matrix_draft;
typedef enum { RULE_OFF, RULE_GBNF, RULE_SCHEMA } matrix_rule;
typedef enum { SAMPLING_GREEDY, SAMPLING_SEEDED } matrix_sampling;
typedef enum { PREFIX_COLD, PREFIX_MEMORY, PREFIX_DISK } matrix_prefix; /* DISK: by an engine that was closed */
typedef enum { EVICTION_NONE, EVICTION_BUDGET, EVICTION_PREEMPT } matrix_eviction;

typedef struct matrix_family {
    const char *name;
    tiny_model tiny;           /* a copy, so that its name can differ */
    uint32_t recurrent_layers; /* a bit for each layer made recurrent (unit/runtime/recurrent.h); 0: none */
    bool folder;               /* one of tests/oracle/families */
} matrix_family;

typedef struct matrix_backend {
    const char *name; /* of mlxr_engine_options */
    bool exact;       /* the same bits as a lone run, whatever else a step computes */
    /* The only family and the most sequences at once that its price allows; NULL, 0: all. */
    const char *family;
    uint32_t n_batch_most;
} matrix_backend;

/* A cell in words. */
typedef struct matrix_values {
    uint32_t n_batch, n_choices; /* sequences at once, at least; choices of a request */
    matrix_draft draft;
    matrix_rule rule;
    matrix_sampling sampling;
    const char *kv_type;
    matrix_prefix prefix;
    matrix_eviction eviction;
    const matrix_family *family;
    const matrix_backend *backend;
    /* What a log-probability may differ by from the lone run's; 0: not by a bit. Where it is more, tokens may differ
     * from where the choice was that close. */
    double tolerance;
    char text[256];
} matrix_values;

/* Is this all of the program's cells, or does a backend's price leave some out? */
bool matrix_is_whole(void);
/* Can the cell's model draft with its own head, on its backend? */
bool matrix_has_head(const matrix_values *v);
/* After all cells: did what the backend was to run them with run? counts_none.c, or tests/mlx/matrix_counts.c. */
void matrix_check_backend(void);
void matrix_space(pairwise_space *out);
void matrix_values_of(const pairwise_cell *cell, matrix_values *out);

#endif
