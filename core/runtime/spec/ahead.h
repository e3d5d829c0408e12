/*
 * Drafts of a model's own head for multi-token prediction (graph/ahead.c).
 * Owner: none. Lifetime: the call. One thread at a time.
 */
#ifndef MLXR_RUNTIME_SPEC_AHEAD_H
#define MLXR_RUNTIME_SPEC_AHEAD_H

#include "mlxr.h"

/* Fills spec.tokens of the slices whose sequences draft with the head: up to wants[i] tokens, all sequences together, a
 * row of each for every token. The head reads the hidden state that the sequence's pages keep of the newest computed
 * token, then what it gave itself. Its keys go into pages behind the computed position, where the step that verifies
 * the draft writes them again. Fails by drafting less. */
void ahead_propose(mlxr_engine *engine, const mlxr_slice *slices, size_t n_slices, const uint32_t *wants);

#endif
