/*
 * A request as a cell makes it, what each of its choices gave, and the same computed alone: one sequence at a time on
 * one thread, its prompt in one piece, without cache, drafts, forks or scheduler. Owner: the cell. Lifetime: the
 * cell's.
 */
#ifndef MLXR_TEST_ALONE_H
#define MLXR_TEST_ALONE_H

#include "matrix/axes.h"

enum { PROMPT_MAX = 224, ANSWER_MAX = 40, CHOICES_MAX = 4, TOP = 2 };

typedef struct answer { /* of one choice */
    mlxr_token_logprob token[ANSWER_MAX], top[ANSWER_MAX][TOP];
    size_t n;
    bool ended; /* by an end token */
} answer;

typedef struct matrix_request {
    int32_t prompt[PROMPT_MAX];
    size_t n_prompt;
    mlxr_sampling sampling; /* of choice 0; choice i has seed + i */
    uint32_t n_choices, n_answer;
    const char *rule; /* NULL: none */
    bool rule_is_schema;
    answer expected[CHOICES_MAX], got[CHOICES_MAX];
    uint32_t n_finishes[CHOICES_MAX];
    size_t n_cached;
    char failure[512]; /* "": none */
} matrix_request;

/* What request `which` of a cell asks: other tokens and another length than its neighbours, but for a beginning that it
 * shares with every fifth. Each `variant` goes on otherwise behind that. */
void matrix_request_make(matrix_request *r, const matrix_values *v, uint32_t which, uint32_t variant);

/* Adds what a step sampled; false when there is no room for more. */
bool answer_add(answer *a, const mlxr_model *model, const mlxr_sampled *sampled, uint32_t n);

/* Fills r->expected. */
void alone_run(matrix_request *r, mlxr_engine *engine, mlxr_model *model);

typedef struct difference { /* where bits are not promised */
    uint32_t n_parted;      /* answers that went another way from some token on */
    double worst;           /* of log-probabilities that were compared */
} difference;

/* Is `got` what was expected, in tokens, log-probabilities and end? If not, `why` says where. With a tolerance above 0
 * tokens may differ from a place on where the two best were closer than that, or where a draw fell on their border. */
bool answer_same(const answer *expected, const answer *got, double tolerance, bool greedy, difference *d, char *why,
                 size_t cap);

#endif
