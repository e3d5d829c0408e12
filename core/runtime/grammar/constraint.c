/*
 * Constraint: one sequence's place in a grammar.
 * Owner: a sequence. Lifetime: constraint_set to constraint_clear.
 */
#include "runtime/grammar/constraint.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

mlxr_status constraint_set(constraint *c, grammar *g, size_t from, uint32_t n_vocab, mlxr_error *error)
{
    size_t n_words = (n_vocab + 31) / 32;
    constraint fresh = {.from = from, .cap = 64};
    fresh.states = malloc(fresh.cap * sizeof *fresh.states);
    fresh.mask = malloc(n_words * sizeof *fresh.mask);
    if (!fresh.states || !fresh.mask) {
        free(fresh.states);
        free(fresh.mask);
        return error_nomem(error, "grammar of a sequence", (fresh.cap + n_words) * sizeof *fresh.states);
    }
    fresh.g = grammar_ref(g);
    fresh.states[0] = GRAMMAR_START;
    constraint_clear(c);
    *c = fresh;
    return MLXR_OK;
}

void constraint_clear(constraint *c)
{
    if (c->g) {
        grammar_unref(&c->g);
        free(c->states);
        free(c->mask);
        *c = (constraint){0};
    }
}

static mlxr_status reserve(constraint *c, size_t n, mlxr_error *error)
{
    if (n > c->cap) {
        uint32_t *grown = realloc(c->states, 2 * n * sizeof *grown);
        if (!grown) {
            return error_nomem(error, "grammar states", 2 * n * sizeof *grown);
        }
        c->states = grown;
        c->cap = 2 * n;
    }
    return MLXR_OK;
}

mlxr_status constraint_copy(constraint *out, const constraint *c, uint32_t n_vocab, mlxr_error *error)
{
    if (!c->g) {
        constraint_clear(out);
        return MLXR_OK;
    }
    mlxr_status status = constraint_set(out, c->g, c->from, n_vocab, error);
    if (status == MLXR_OK) {
        status = reserve(out, c->n + 1, error);
    }
    if (status == MLXR_OK) {
        memcpy(out->states, c->states, (c->n + 1) * sizeof *c->states);
        out->n = c->n;
    }
    return status;
}

mlxr_status constraint_follow(constraint *out, const constraint *c, size_t n_tokens, uint32_t n_vocab,
                              mlxr_error *error)
{
    if (!c->g) {
        constraint_clear(out);
        return MLXR_OK;
    }
    mlxr_status status = out->g == c->g ? MLXR_OK : constraint_set(out, c->g, n_tokens, n_vocab, error);
    if (status == MLXR_OK) {
        out->from = n_tokens;
        out->n = 0;
        out->states[0] = c->states[c->n];
    }
    return status;
}

mlxr_status constraint_mask(constraint *c, const uint32_t **mask, mlxr_error *error)
{
    *mask = NULL;
    if (!c->g) {
        return MLXR_OK;
    }
    mlxr_status status = grammar_mask(c->g, c->states[c->n], c->mask, error);
    *mask = status == MLXR_OK ? c->mask : NULL;
    return status;
}

mlxr_status constraint_accept(constraint *c, int32_t token, mlxr_error *error)
{
    if (!c->g) {
        return MLXR_OK;
    }
    mlxr_status status = reserve(c, c->n + 2, error);
    if (status == MLXR_OK) {
        c->states[c->n + 1] = grammar_advance(c->g, c->states[c->n], token);
        c->n++;
    }
    return status;
}

void constraint_truncate(constraint *c, size_t n_tokens)
{
    size_t n = n_tokens > c->from ? n_tokens - c->from : 0;
    if (c->g) {
        c->from = n_tokens < c->from ? n_tokens : c->from;
        c->n = n < c->n ? n : c->n;
    }
}
