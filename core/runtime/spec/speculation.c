/*
 * Speculation: drafts for the sequences of a step.
 * Owner: a sequence. Lifetime: the sequence's.
 */
#include "runtime/spec/speculation.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runtime/engine.h"
#include "runtime/spec/ahead.h"
#include "runtime/spec/ngram.h"

#define BIAS_FORBIDS (-100.0f) /* what OpenAI's interface calls a ban: a draft of such a token is as good as lost */
#define BIASES_SEEN 1024u      /* of a longer list only these: looking must cost less than a wrong draft does */

/* Tokens of a draft sequence that agree with the target's. */
static size_t common_prefix(const mlxr_sequence *draft, const mlxr_sequence *target)
{
    size_t n = draft->n_tokens < target->n_tokens ? draft->n_tokens : target->n_tokens, i = 0;
    while (i < n && draft->tokens[i] == target->tokens[i]) {
        i++;
    }
    return i;
}

/* The draft model proposes what the grammar lets the target say. A vocabulary with more rows of logits than the
 * target's has no mask for them: then it drafts freely. */
static bool follow_grammar(mlxr_sequence *draft, const mlxr_sequence *target)
{
    uint32_t n_vocab = target->model->graph->h.n_vocab;
    if (draft->model->graph->h.n_vocab > n_vocab) {
        return true;
    }
    return constraint_follow(&draft->rule, &target->rule, target->n_tokens, n_vocab, NULL) == MLXR_OK;
}

/* Brings the draft sequence to the target's tokens; computes all but the newest. */
static bool follow(mlxr_engine *e, mlxr_sequence *draft, const mlxr_sequence *target)
{
    size_t common = common_prefix(draft, target);
    if (mlxr_sequence_truncate(draft, common, NULL) != MLXR_OK ||
        mlxr_sequence_append(draft, target->tokens + common, target->n_tokens - common, NULL) != MLXR_OK) {
        return false;
    }
    if (mlxr_sequence_pending(draft) == 0) { /* the token to draft from must be computed in the drafting step */
        if (mlxr_sequence_truncate(draft, draft->n_tokens - 1, NULL) != MLXR_OK ||
            mlxr_sequence_append(draft, target->tokens + target->n_tokens - 1, 1, NULL) != MLXR_OK) {
            return false;
        }
    }
    while (mlxr_sequence_pending(draft) > 1) {
        size_t n = mlxr_sequence_pending(draft) - 1;
        mlxr_slice slice = {.sequence = draft,
                            .n_compute = (uint32_t)(n < ENGINE_STEP_TOKENS_MAX ? n : ENGINE_STEP_TOKENS_MAX),
                            .flags = MLXR_SLICE_NO_SAMPLE};
        if (mlxr_step(e, &slice, 1, NULL) != MLXR_OK) {
            return false;
        }
    }
    return follow_grammar(draft, target);
}

/* Drafts with draft models, all sequences together: one step a token. wants[i] is slice i's length. */
static void propose_by_model(mlxr_engine *e, const mlxr_slice *slices, size_t n_slices, const uint32_t *wants)
{
    mlxr_slice *steps = calloc(n_slices, sizeof *steps);
    mlxr_sequence **targets = calloc(n_slices, sizeof *targets);
    uint32_t *left = calloc(n_slices, sizeof *left);
    size_t n = 0;
    for (size_t i = 0; steps && targets && left && i < n_slices; i++) {
        mlxr_sequence *s = slices[i].sequence;
        if (wants[i] > 0 && s->spec.kind == SPECULATION_MODEL && follow(e, s->spec.draft, s)) {
            targets[n] = s;
            left[n++] = wants[i];
        }
    }
    while (n > 0) {
        for (size_t i = 0; i < n; i++) {
            steps[i] = (mlxr_slice){.sequence = targets[i]->spec.draft, .n_compute = 1};
        }
        if (mlxr_step(e, steps, n, NULL) != MLXR_OK) {
            break;
        }
        size_t kept = 0;
        for (size_t i = 0; i < n; i++) {
            speculation *spec = &targets[i]->spec;
            bool has_place = mlxr_sequence_pending(spec->draft) == 1;
            spec->tokens[spec->n_tokens++] = steps[i].token;
            if (spec->n_tokens < left[i] && has_place && !mlxr_token_is_end(spec->draft->model, steps[i].token)) {
                targets[kept] = targets[i];
                left[kept++] = left[i];
            }
        }
        n = kept;
    }
    free(steps);
    free(targets);
    free(left);
}

static bool forbidden(const mlxr_logit_bias *bias, size_t n, int32_t token)
{
    for (size_t i = 0; i < n && i < BIASES_SEEN; i++) {
        if (bias[i].id == token) {
            return bias[i].bias <= BIAS_FORBIDS;
        }
    }
    return false;
}

/* How many tokens of a draft the target can say at all: those before the first that its grammar or its bias forbids. */
static uint32_t allowed_part(const mlxr_sequence *s, const int32_t *tokens, uint32_t n)
{
    size_t n_bias;
    const mlxr_logit_bias *bias = sampler_bias(s->sampler, &n_bias);
    uint32_t state = s->rule.g ? s->rule.states[s->rule.n] : GRAMMAR_DEAD, i = 0;
    for (; i < n && !forbidden(bias, n_bias, tokens[i]); i++) {
        if (s->rule.g && (state = grammar_advance(s->rule.g, state, tokens[i])) == GRAMMAR_DEAD) {
            break;
        }
    }
    return i;
}

void speculation_close(speculation *s)
{
    mlxr_sequence_close(&s->draft);
    sampler_close(&s->greedy);
    constraint_clear(&s->rule);
}

void speculation_propose(mlxr_engine *e, const mlxr_slice *slices, size_t n_slices, uint32_t n_rows_left)
{
    uint32_t *wants = NULL;
    bool any = false;
    for (size_t i = 0; i < n_slices; i++) {
        slices[i].sequence->spec.n_tokens = 0;
        any = any || slices[i].sequence->spec.kind != SPECULATION_NONE;
    }
    if (!any || n_rows_left == 0 || !(wants = calloc(n_slices, sizeof *wants))) {
        return;
    }
    bool by_model = false, by_head = false;
    for (size_t i = 0; i < n_slices; i++) {
        mlxr_sequence *s = slices[i].sequence;
        speculation *spec = &s->spec;
        bool decoding = mlxr_sequence_pending(s) == 1 &&
                        !(slices[i].flags & (MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_LOGITS_ALL));
        size_t room = s->model->n_ctx - s->n_tokens; /* a draft's rows need positions, the token behind it a place */
        bool blind = spec->kind == SPECULATION_HEAD && s->n_computed == 0; /* nothing is behind the first token */
        if (spec->kind == SPECULATION_NONE || !decoding || room < 2 || blind) {
            continue;
        }
        uint32_t k = acceptance_tracker_length(&spec->tracker);
        k = k < room - 1 ? k : (uint32_t)room - 1;
        k = k < n_rows_left ? k : n_rows_left;
        if (spec->kind == SPECULATION_NGRAM) {
            spec->n_tokens = allowed_part(s, spec->tokens, ngram_draft(s->tokens, s->n_tokens, k, spec->tokens));
            k = spec->n_tokens;
        } else {
            wants[i] = k;
            by_model = by_model || (k > 0 && spec->kind == SPECULATION_MODEL);
            by_head = by_head || (k > 0 && spec->kind == SPECULATION_HEAD);
        }
        n_rows_left -= k;
    }
    if (by_model) {
        propose_by_model(e, slices, n_slices, wants);
    }
    if (by_head) {
        ahead_propose(e, slices, n_slices, wants);
    }
    free(wants);
}

/* Copies one result into the sequence's own memory: the sampler's is good only until it samples again. */
static void keep(mlxr_sequence *s, uint32_t at, const sampler_result *r)
{
    mlxr_token_logprob *top = s->top + (size_t)at * s->n_top_max;
    uint32_t n_top = r->n_top < s->n_top_max ? r->n_top : s->n_top_max;
    if (n_top) {
        memcpy(top, r->top, n_top * sizeof *top);
    }
    s->sampled[at] = (mlxr_sampled){.id = r->id, .logprob = r->logprob, .top = n_top ? top : NULL, .n_top = n_top};
}

mlxr_status speculation_verify(mlxr_sequence *s, const float *logits, const int32_t *greatest, uint32_t n_vocab,
                               uint32_t *n_sampled, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    uint32_t n = 0;
    for (bool more = true; more;) {
        sampler_result r;
        const uint32_t *allowed = NULL;
        status = constraint_mask(&s->rule, &allowed, error);
        if (status == MLXR_OK && greatest && greatest[n] >= 0) {
            sampler_take(s->sampler, greatest[n], &r);
        } else if (status == MLXR_OK) {
            status = sampler_sample(s->sampler, logits + (size_t)n * n_vocab, allowed, &r, error);
        }
        if (status == MLXR_OK) {
            keep(s, n, &r);
            status = sampler_accept(s->sampler, r.id, error);
        }
        if (status == MLXR_OK) {
            status = constraint_accept(&s->rule, r.id, error);
        }
        if (status != MLXR_OK) {
            sampler_truncate(s->sampler, s->n_tokens);
            constraint_truncate(&s->rule, s->n_tokens);
            return status;
        }
        more = n < s->spec.n_tokens && r.id == s->spec.tokens[n] && !mlxr_token_is_end(s->model, r.id);
        n++;
    }
    *n_sampled = n;
    return MLXR_OK;
}
