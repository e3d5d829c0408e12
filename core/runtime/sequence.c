/*
 * Sequence: one timeline of tokens with its KV pages and sampler.
 * Owner: the caller. Lifetime: mlxr_sequence_open to mlxr_sequence_close; keeps its model alive.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runtime/engine.h"

static const char *piece_of(const void *user, int32_t id, size_t *n)
{
    token_text piece = tokenizer_piece(user, id);
    *n = piece.n;
    return piece.data;
}

mlxr_status mlxr_sequence_open(mlxr_sequence **out, mlxr_model *model, const mlxr_sampling *sampling, mlxr_error *error)
{
    mlxr_sampling defaults = mlxr_sampling_default();
    mlxr_sequence *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(error, "sequence", sizeof *s);
    }
    sampler_vocab vocab = {.n_vocab = model->graph->h.n_vocab, .piece = piece_of, .user = model->tokenizer};
    mlxr_status status = sampler_open(&s->sampler, sampling ? sampling : &defaults, &vocab, error);
    if (status != MLXR_OK) {
        free(s);
        return status;
    }
    s->model = mlxr_model_ref(model);
    pager_init(&s->pages, &model->graph->plan, model->pools);
    model->engine->n_sequences++;
    *out = s;
    return MLXR_OK;
}

void mlxr_sequence_close(mlxr_sequence **pointer)
{
    mlxr_sequence *s = *pointer;
    if (!s) {
        return;
    }
    s->model->engine->n_sequences--;
    kv_cache_release(&s->model->cache, &s->node, 0);
    pager_close(&s->pages);
    sampler_close(&s->sampler);
    mlxr_model_unref(&s->model);
    free(s->tokens);
    free(s);
    *pointer = NULL;
}

static mlxr_status reserve_tokens(mlxr_sequence *s, size_t n, mlxr_error *error)
{
    if (n <= s->cap_tokens) {
        return MLXR_OK;
    }
    size_t cap = s->cap_tokens ? s->cap_tokens : 256;
    while (cap < n) {
        cap *= 2;
    }
    int32_t *tokens = realloc(s->tokens, cap * sizeof *tokens);
    if (!tokens) {
        return error_nomem(error, "tokens of a sequence", cap * sizeof *tokens);
    }
    s->tokens = tokens;
    s->cap_tokens = cap;
    return MLXR_OK;
}

/* Continues from what the KV cache knows of the tokens that are not computed yet. */
static void attach_prefix(mlxr_sequence *s)
{
    mlxr_engine *e = s->model->engine;
    size_t reached = kv_cache_attach(&s->model->cache, &s->pages, s->tokens, s->n_tokens, s->n_computed, &s->node,
                                     e->now_ms(e->now_user), &s->miss);
    s->n_cached += reached - s->n_computed;
    e->tokens_hit += reached - s->n_computed;
    s->n_computed = reached;
}

mlxr_status mlxr_sequence_append(mlxr_sequence *s, const int32_t *ids, size_t n_ids, mlxr_error *error)
{
    uint32_t n_vocab = s->model->graph->h.n_vocab;
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab) {
            return error_set(error, MLXR_ARG, "token %zu of %zu has id %d; the vocabulary has 0 to %u", i + 1, n_ids,
                             ids[i], n_vocab - 1);
        }
    }
    if (n_ids > s->model->n_ctx - s->n_tokens) {
        return error_set(error, MLXR_LIMIT,
                         "context of %u tokens is full: %zu tokens are in it and %zu more do not fit; shorten the input or "
                         "raise the context",
                         s->model->n_ctx, s->n_tokens, n_ids);
    }
    mlxr_status status = reserve_tokens(s, s->n_tokens + n_ids, error);
    for (size_t i = 0; i < n_ids && status == MLXR_OK; i++) {
        status = sampler_accept(s->sampler, ids[i], error);
    }
    if (status != MLXR_OK) {
        sampler_truncate(s->sampler, s->n_tokens);
        return status;
    }
    if (n_ids) {
        memcpy(s->tokens + s->n_tokens, ids, n_ids * sizeof *ids);
    }
    s->n_tokens += n_ids;
    if (n_ids > 1) { /* a single sampled token completes no block that is not registered anyway */
        attach_prefix(s);
        s->model->engine->tokens_missed += s->n_tokens - s->n_computed;
    }
    return MLXR_OK;
}

size_t mlxr_sequence_cached(const mlxr_sequence *s)
{
    return s->n_cached;
}

const char *mlxr_sequence_miss(const mlxr_sequence *s)
{
    static const char *const names[] = {[KV_MISS_NONE] = "none",         [KV_MISS_NEW] = "new",
                                        [KV_MISS_EVICTED] = "evicted",   [KV_MISS_REJECTED] = "rejected",
                                        [KV_MISS_NO_ROOM] = "no-room",   [KV_MISS_OFF] = "off"};
    return names[s->miss];
}

mlxr_status mlxr_sequence_fork(mlxr_sequence **out, const mlxr_sequence *s, const mlxr_sampling *sampling, mlxr_error *error)
{
    mlxr_sequence *copy = NULL;
    mlxr_status status = mlxr_sequence_open(&copy, s->model, sampling, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = reserve_tokens(copy, s->n_tokens ? s->n_tokens : 1, error);
    for (size_t i = 0; i < s->n_tokens && status == MLXR_OK; i++) {
        copy->tokens[i] = s->tokens[i];
        status = sampling ? sampler_accept(copy->sampler, s->tokens[i], error) : MLXR_OK;
    }
    if (status == MLXR_OK && !sampling) {
        sampler_close(&copy->sampler);
        status = sampler_clone(&copy->sampler, s->sampler, error);
    }
    if (status == MLXR_OK) {
        status = pager_fork(&copy->pages, &s->pages, error);
    }
    if (status != MLXR_OK) {
        mlxr_sequence_close(&copy);
        return status;
    }
    copy->n_tokens = s->n_tokens;
    copy->n_computed = s->n_computed;
    copy->n_cached = s->n_cached;
    copy->miss = s->miss;
    copy->node = s->node;
    if (copy->node) {
        prefix_index_pin(copy->node);
    }
    *out = copy;
    return MLXR_OK;
}

void mlxr_sequence_release(mlxr_sequence *s)
{
    kv_cache_release(&s->model->cache, &s->node, 0);
    pager_truncate(&s->pages, 0);
    s->n_computed = 0;
    s->n_cached = 0;
}

void mlxr_sequence_resume(mlxr_sequence *s)
{
    attach_prefix(s);
}

size_t mlxr_sequence_pending(const mlxr_sequence *s)
{
    return s->n_tokens - s->n_computed;
}

size_t mlxr_sequence_length(const mlxr_sequence *s)
{
    return s->n_tokens;
}

size_t mlxr_sequence_computed(const mlxr_sequence *s)
{
    return s->n_computed;
}

const int32_t *mlxr_sequence_tokens(const mlxr_sequence *s)
{
    return s->tokens;
}

mlxr_status mlxr_sequence_truncate(mlxr_sequence *s, size_t length, mlxr_error *error)
{
    if (length > s->n_tokens) {
        return error_set(error, MLXR_ARG, "cannot truncate %zu tokens to %zu", s->n_tokens, length);
    }
    s->n_tokens = length;
    if (length < s->n_computed) {
        s->n_computed = pager_truncate(&s->pages, (uint32_t)length) ? length : 0;
        kv_cache_release(&s->model->cache, &s->node, s->n_computed);
        s->n_cached = s->n_cached < s->n_computed ? s->n_cached : s->n_computed;
    }
    sampler_truncate(s->sampler, length);
    return MLXR_OK;
}
