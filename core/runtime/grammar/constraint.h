/*
 * Constraint: one sequence's place in a grammar.
 * Owner: a sequence. Lifetime: constraint_set to constraint_clear. One thread at a time; sequences sharing a grammar
 * may run on different threads.
 */
#ifndef MLXR_RUNTIME_GRAMMAR_CONSTRAINT_H
#define MLXR_RUNTIME_GRAMMAR_CONSTRAINT_H

#include "runtime/grammar/grammar.h"

typedef struct constraint { /* {0}: none */
    grammar *g;
    size_t from;      /* tokens of the sequence before the first constrained one */
    uint32_t *states; /* [n + 1]: after 0 … n constrained tokens */
    size_t n, cap;
    uint32_t *mask; /* [(n_vocab + 31) / 32] */
} constraint;

/* Constrains what is sampled from token `from` on; takes a reference. */
mlxr_status constraint_set(constraint *c, grammar *g, size_t from, uint32_t n_vocab, mlxr_error *error);
void constraint_clear(constraint *c);
mlxr_status constraint_copy(constraint *out, const constraint *c, uint32_t n_vocab, mlxr_error *error);

/* *out stands where *c does now, as a constraint of a sequence of n_tokens; it cannot go back from there. */
mlxr_status constraint_follow(constraint *out, const constraint *c, size_t n_tokens, uint32_t n_vocab,
                              mlxr_error *error);

/* The tokens allowed next; *mask is NULL where nothing is constrained. Borrowed until the next call. */
mlxr_status constraint_mask(constraint *c, const uint32_t **mask, mlxr_error *error);
/* One more token was sampled. */
mlxr_status constraint_accept(constraint *c, int32_t token, mlxr_error *error);
/* The sequence has n_tokens from now on: what was sampled beyond is forgotten. */
void constraint_truncate(constraint *c, size_t n_tokens);

#endif
