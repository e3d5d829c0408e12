/*
 * Speculation: drafts for the sequences of a step, from prompt lookup, a draft model or the model's own head.
 * Owner: a sequence. Lifetime: from mlxr_sequence_draft to the sequence's close. One thread at a time.
 *
 *   speculation_propose   before a step: every decoding sequence gets up to SPEC_DRAFT_MAX tokens to try
 *   step                  computes them as further rows of the sequence
 *   speculation_verify    the sequence's own sampler draws from each row in turn, as it would have without a draft,
 *                         and goes on as long as it drew what was drafted
 *
 * Drawing from the target and comparing keeps the target's distribution exactly, whatever the sampler does, and for a
 * given seed even the same tokens: a draft of one certain token is accepted with that token's own probability, which is
 * the rule of Leviathan et al. (2023) for such a draft.
 */
#ifndef MLXR_RUNTIME_SPEC_SPECULATION_H
#define MLXR_RUNTIME_SPEC_SPECULATION_H

#include "mlxr.h"
#include "runtime/grammar/constraint.h"
#include "runtime/sampler.h"
#include "runtime/spec/acceptance_tracker.h"

typedef enum speculation_kind {
    SPECULATION_NONE,
    SPECULATION_NGRAM,
    SPECULATION_MODEL,
    SPECULATION_HEAD /* of the sequence's own model */
} speculation_kind;

typedef struct speculation {
    speculation_kind kind;
    acceptance_tracker tracker;
    mlxr_sequence *draft;           /* of the draft model; follows the target's tokens */
    sampler *greedy;                /* of a head: what it proposes, but for what the target's bias forbids … */
    constraint rule;                /* … and its grammar */
    int32_t tokens[SPEC_DRAFT_MAX]; /* drafted for the step under way */
    uint32_t n_tokens;
} speculation;

/* Does a draft cost a step? */
static inline bool speculation_computes(const speculation *s)
{
    return s->kind == SPECULATION_MODEL || s->kind == SPECULATION_HEAD;
}

void speculation_close(speculation *s);

/* Fills spec.tokens of each slice's sequence; n_rows_left bounds how many rows the drafts may add to the step. Drafting
 * that fails drafts nothing: it can never fail a step. */
void speculation_propose(mlxr_engine *engine, const mlxr_slice *slices, size_t n_slices, uint32_t n_rows_left);

/* Samples from logits [1 + spec.n_tokens][n_vocab] into sequence->sampled; tells how many. `greatest`: of each row the
 * greatest one's number, or −1 where it is not known; or NULL. The sampler has accepted
 * them; the sequence has not got them yet. */
mlxr_status speculation_verify(mlxr_sequence *sequence, const float *logits, const int32_t *greatest, uint32_t n_vocab,
                               uint32_t *n_sampled, mlxr_error *error);

#endif
