/*
 * Sequence: one timeline of tokens with its KV pages and sampler.
 * Owner: the caller. Lifetime: mlxr_sequence_open to mlxr_sequence_close; keeps its model alive.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "mlxr_grammar.h"
#include "runtime/engine.h"

static const char *piece_of(const void *user, int32_t id, size_t *n)
{
    token_text piece = tokenizer_piece(user, id);
    *n = piece.n;
    return piece.data;
}

mlxr_status mlxr_sampling_check(const mlxr_model *model, const mlxr_sampling *sampling, mlxr_error *error)
{
    const graph *g = model->graph;
    if (g->plan.both_ways || g->h.headless) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "this model writes and predicts no text: it is %s, for embeddings or ranking",
                         g->plan.both_ways ? "an encoder" : "a decoder without an output matrix");
    }
    return sampler_check(sampling, model->info.n_vocab, error);
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
    s->n_top_max = sampling ? sampling->n_logprobs : defaults.n_logprobs;
    s->top = calloc((size_t)(SPEC_DRAFT_MAX + 1) * (s->n_top_max ? s->n_top_max : 1), sizeof *s->top);
    if (!s->top) {
        size_t n_bytes = (size_t)(SPEC_DRAFT_MAX + 1) * s->n_top_max * sizeof *s->top;
        sampler_close(&s->sampler);
        free(s);
        return error_nomem(error, "log-probabilities", n_bytes);
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
    speculation_close(&s->spec);
    constraint_clear(&s->rule);
    mlxr_model_unref(&s->model);
    free(s->top);
    free(s->tokens);
    free(s);
    *pointer = NULL;
}

mlxr_status sequence_reserve(mlxr_sequence *s, size_t n, mlxr_error *error)
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
    if (n_ids > s->model->n_ctx && s->n_tokens == 0) {
        return error_set(error, MLXR_LIMIT,
                         "the input has %zu tokens, the context has room for %u; shorten it or raise the context",
                         n_ids, s->model->n_ctx);
    }
    if (n_ids > s->model->n_ctx - s->n_tokens) {
        return error_set(
            error, MLXR_LIMIT,
            "context of %u tokens is full: %zu tokens are in it and %zu more do not fit; shorten the input or "
            "raise the context",
            s->model->n_ctx, s->n_tokens, n_ids);
    }
    mlxr_status status = sequence_reserve(s, s->n_tokens + n_ids, error);
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
    if (s->rule.g) { /* behind what the caller wrote the grammar starts anew */
        s->rule.from = s->n_tokens;
        s->rule.n = 0;
    }
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
    static const char *const names[] = {
        [KV_MISS_NONE] = "none",         [KV_MISS_NEW] = "new",         [KV_MISS_EVICTED] = "evicted",
        [KV_MISS_REJECTED] = "rejected", [KV_MISS_NO_ROOM] = "no-room", [KV_MISS_OFF] = "off"};
    return names[s->miss];
}

static mlxr_status copy_sampling(mlxr_sequence *copy, const mlxr_sequence *s, mlxr_error *error)
{
    size_t n = (size_t)(SPEC_DRAFT_MAX + 1) * (s->n_top_max ? s->n_top_max : 1);
    mlxr_token_logprob *top = calloc(n, sizeof *top);
    if (!top) {
        return error_nomem(error, "log-probabilities", n * sizeof *top);
    }
    free(copy->top);
    copy->top = top;
    copy->n_top_max = s->n_top_max;
    sampler_close(&copy->sampler);
    return sampler_clone(&copy->sampler, s->sampler, error);
}

mlxr_status mlxr_sequence_fork(mlxr_sequence **out, const mlxr_sequence *s, const mlxr_sampling *sampling,
                               mlxr_error *error)
{
    mlxr_sequence *copy = NULL;
    mlxr_status status = mlxr_sequence_open(&copy, s->model, sampling, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = sequence_reserve(copy, s->n_tokens ? s->n_tokens : 1, error);
    for (size_t i = 0; i < s->n_tokens && status == MLXR_OK; i++) {
        copy->tokens[i] = s->tokens[i];
        status = sampling ? sampler_accept(copy->sampler, s->tokens[i], error) : MLXR_OK;
    }
    if (status == MLXR_OK && !sampling) {
        status = copy_sampling(copy, s, error);
    }
    if (status == MLXR_OK) {
        status = pager_fork(&copy->pages, &s->pages, error);
    }
    if (status == MLXR_OK) {
        status = constraint_copy(&copy->rule, &s->rule, s->model->graph->h.n_vocab, error);
    }
    if (status != MLXR_OK) {
        mlxr_sequence_close(&copy);
        return status;
    }
    if (s->spec.kind != SPECULATION_NONE) {
        mlxr_model *draft_model = s->spec.draft ? s->spec.draft->model : NULL;
        status = s->spec.kind == SPECULATION_HEAD
                     ? mlxr_sequence_draft_mtp(copy, s->spec.tracker.n_max, error)
                     : mlxr_sequence_draft(copy, draft_model, s->spec.tracker.n_max, error);
        if (status != MLXR_OK) {
            mlxr_sequence_close(&copy);
            return status;
        }
    }
    copy->n_tokens = s->n_tokens;
    copy->n_computed = s->n_computed;
    copy->n_cached = s->n_cached;
    copy->second = s->second;
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
    s->second = length > s->second ? s->second : 0;
    if (length < s->n_computed) {
        s->n_computed = pager_truncate(&s->pages, (uint32_t)length);
        kv_cache_release(&s->model->cache, &s->node, s->n_computed);
        s->n_cached = s->n_cached < s->n_computed ? s->n_cached : s->n_computed;
        if (s->n_computed < length) { /* a window or a recurrent state had to go further back than asked */
            attach_prefix(s);
        }
    }
    sampler_truncate(s->sampler, length);
    constraint_truncate(&s->rule, length);
    return MLXR_OK;
}

/* A draft is only worth anything if its ids mean the same. */
static mlxr_status check_same_vocabulary(const mlxr_model *target, const mlxr_model *draft, mlxr_error *error)
{
    uint32_t n = tokenizer_size(target->tokenizer);
    if (tokenizer_size(draft->tokenizer) != n) {
        return error_set(error, MLXR_ARG, "draft model has a vocabulary of %u tokens, the model one of %u",
                         tokenizer_size(draft->tokenizer), n);
    }
    for (uint32_t i = 0; i < n; i++) {
        token_text a = tokenizer_piece(target->tokenizer, (int32_t)i),
                   b = tokenizer_piece(draft->tokenizer, (int32_t)i);
        if (a.n != b.n || (a.n && memcmp(a.data, b.data, a.n) != 0)) {
            return error_set(error, MLXR_ARG, "draft model: token %u is '%.*s', the model's is '%.*s'", i, (int)b.n,
                             b.data, (int)a.n, a.data);
        }
    }
    return MLXR_OK;
}

/* What drafts are drawn with: greedy, with the target's bias, so that nothing is proposed that it forbids. The bias is
 * copied, but for rows of logits that whoever drafts does not have; the caller frees it. */
static mlxr_status draft_sampling(mlxr_sampling *out, mlxr_logit_bias **copy, const mlxr_sequence *target,
                                  uint32_t n_vocab, mlxr_error *error)
{
    size_t n;
    const mlxr_logit_bias *bias = sampler_bias(target->sampler, &n);
    mlxr_logit_bias *known = n ? malloc(n * sizeof *known) : NULL;
    if (n && !known) {
        return error_nomem(error, "logit_bias of a draft", n * sizeof *known);
    }
    *out = mlxr_sampling_default();
    for (size_t i = 0; i < n; i++) {
        if ((uint32_t)bias[i].id < n_vocab) {
            known[out->n_logit_bias++] = bias[i];
        }
    }
    out->temperature = 0;
    out->logit_bias = *copy = known;
    return MLXR_OK;
}

/* A sequence of another model that drafts for this one. */
static mlxr_status open_draft(mlxr_sequence **out, const mlxr_sequence *target, mlxr_model *draft_model,
                              mlxr_error *error)
{
    mlxr_sampling greedy;
    mlxr_logit_bias *known = NULL;
    mlxr_status status = draft_sampling(&greedy, &known, target, draft_model->graph->h.n_vocab, error);
    if (status == MLXR_OK) {
        status = mlxr_sequence_open(out, draft_model, &greedy, error);
    }
    free(known);
    return status;
}

static mlxr_status check_draft_length(uint32_t n_max, mlxr_error *error)
{
    return n_max <= SPEC_DRAFT_MAX
               ? MLXR_OK
               : error_set(error, MLXR_ARG, "a draft has at most %u tokens, not %u", SPEC_DRAFT_MAX, n_max);
}

/* draft_bytes: read to draft a token; 0: none. */
static void begin_drafting(mlxr_sequence *s, speculation spec, uint32_t n_max, uint64_t draft_bytes)
{
    double draft_cost = (double)draft_bytes / (double)s->model->info.bytes_per_token;
    const step_times *times = &model_base(s->model)->times;
    acceptance_tracker_init(&spec.tracker, n_max ? n_max : 8, times->row_cost, draft_cost);
    if (spec.kind == SPECULATION_HEAD) {
        acceptance_tracker_inherit(&spec.tracker, times->head_loss);
    }
    speculation_close(&s->spec);
    s->spec = spec;
}

mlxr_status mlxr_sequence_draft(mlxr_sequence *s, mlxr_model *draft_model, uint32_t n_max, mlxr_error *error)
{
    speculation spec = {.kind = draft_model ? SPECULATION_MODEL : SPECULATION_NGRAM};
    mlxr_status status = check_draft_length(n_max, error);
    if (status == MLXR_OK && draft_model) {
        status = draft_model->engine == s->model->engine
                     ? check_same_vocabulary(s->model, draft_model, error)
                     : error_set(error, MLXR_ARG, "draft model belongs to another engine");
    }
    if (status == MLXR_OK && draft_model) {
        status = open_draft(&spec.draft, s, draft_model, error);
    }
    if (status == MLXR_OK) {
        begin_drafting(s, spec, n_max, draft_model ? draft_model->info.bytes_per_token : 0);
    }
    return status;
}

mlxr_status mlxr_sequence_draft_mtp(mlxr_sequence *s, uint32_t n_max, mlxr_error *error)
{
    speculation spec = {.kind = SPECULATION_HEAD};
    uint32_t n_vocab = s->model->graph->h.n_vocab;
    mlxr_sampling greedy;
    mlxr_logit_bias *known = NULL;
    mlxr_status status = check_draft_length(n_max, error);
    if (status == MLXR_OK && !model_base(s->model)->ahead) {
        status = error_set(error, MLXR_UNSUPPORTED, "the model was loaded without a multi-token-prediction head%s",
                           s->model->info.has_mtp ? ", but has one: load it with mlxr_model_options.mtp" : "");
    }
    if (status == MLXR_OK) {
        status = draft_sampling(&greedy, &known, s, n_vocab, error);
    }
    if (status == MLXR_OK) {
        sampler_vocab vocab = {.n_vocab = n_vocab, .piece = piece_of, .user = s->model->tokenizer};
        status = sampler_open(&spec.greedy, &greedy, &vocab, error);
    }
    if (status == MLXR_OK) {
        begin_drafting(s, spec, n_max, s->model->graph->ahead_bytes_per_token);
    }
    free(known);
    return status;
}

mlxr_draft_stats mlxr_draft_stats_get(const mlxr_sequence *s)
{
    const acceptance_tracker *t = &s->spec.tracker;
    mlxr_draft_stats stats = {.n_steps = t->n_steps,
                              .n_drafting_steps = t->n_drafting_steps,
                              .n_drafted = t->n_drafted,
                              .n_accepted = t->n_accepted,
                              .acceptance = t->acceptance,
                              .row_cost = t->row_cost,
                              .draft_cost = t->draft_cost};
    _Static_assert(sizeof stats.drafted_at == sizeof t->drafted_at, "positions of a draft");
    memcpy(stats.drafted_at, t->drafted_at, sizeof t->drafted_at);
    memcpy(stats.accepted_at, t->accepted_at, sizeof t->accepted_at);
    return stats;
}

static mlxr_status grammar_wrap(mlxr_grammar **out, mlxr_model *model, const char *text, size_t n, bool is_schema,
                                mlxr_error *error)
{
    mlxr_grammar *made = calloc(1, sizeof *made);
    if (!made) {
        return error_nomem(error, "grammar", sizeof *made);
    }
    mlxr_status status = MLXR_OK;
    model = model_base_of(model); /* adapters change no vocabulary */
    if (!model->trie) {
        status = token_trie_open(&model->trie, model->tokenizer, model->graph->h.n_vocab, error);
    }
    if (status == MLXR_OK && !(made->g = grammar_cache_find(&model->grammars, text, n, is_schema))) {
        status = is_schema ? grammar_open_schema(&made->g, text, n, model->trie, error)
                           : grammar_open_gbnf(&made->g, text, n, model->trie, error);
        if (status == MLXR_OK) {
            grammar_cache_keep(&model->grammars, text, n, is_schema, made->g);
        }
    }
    if (status != MLXR_OK) {
        free(made);
        return status;
    }
    made->model = mlxr_model_ref(model);
    *out = made;
    return MLXR_OK;
}

mlxr_status mlxr_grammar_open_gbnf(mlxr_grammar **out, mlxr_model *model, const char *text, size_t n_bytes,
                                   mlxr_error *error)
{
    return grammar_wrap(out, model, text, n_bytes, false, error);
}

mlxr_status mlxr_grammar_open_schema(mlxr_grammar **out, mlxr_model *model, const char *json, size_t n_bytes,
                                     mlxr_error *error)
{
    return grammar_wrap(out, model, json, n_bytes, true, error);
}

mlxr_grammar_stats mlxr_grammar_stats_get(const mlxr_model *model)
{
    const grammar_cache *c = &model_base(model)->grammars;
    return (mlxr_grammar_stats){.n_made = c->n_made,
                                .n_found = c->n_found,
                                .n_dropped = c->n_dropped,
                                .n_kept = c->n,
                                .bytes_kept = grammar_cache_bytes(c)};
}

void mlxr_grammar_close(mlxr_grammar **pointer)
{
    mlxr_grammar *made = *pointer;
    *pointer = NULL;
    if (made) {
        grammar_unref(&made->g);
        mlxr_model_unref(&made->model);
        free(made);
    }
}

mlxr_status mlxr_sequence_constrain(mlxr_sequence *s, const mlxr_grammar *made, mlxr_error *error)
{
    if (!made) {
        constraint_clear(&s->rule);
        return MLXR_OK;
    }
    return mlxr_sequence_constrain_behind(s, made, 0, error);
}

mlxr_status mlxr_sequence_constrain_behind(mlxr_sequence *s, const mlxr_grammar *made, size_t n_given,
                                           mlxr_error *error)
{
    constraint fresh = {.g = NULL};
    if (model_base(made->model) != model_base(s->model)) {
        return error_set(error, MLXR_ARG, "the grammar was made for another model");
    }
    if (n_given > s->n_tokens) {
        return error_set(error, MLXR_ARG, "%zu tokens cannot be in the grammar: there are %zu", n_given, s->n_tokens);
    }
    size_t n_before = s->n_tokens - n_given;
    mlxr_status status = constraint_set(&fresh, made->g, n_before, s->model->graph->h.n_vocab, error);
    for (size_t i = 0; i < n_given && status == MLXR_OK; i++) {
        status = constraint_accept(&fresh, s->tokens[n_before + i], error);
        if (status == MLXR_OK && fresh.states[fresh.n] == GRAMMAR_DEAD) {
            status = error_set(error, MLXR_ARG,
                               "the text so far is no beginning of what the grammar allows: token %zu of %zu", i + 1,
                               n_given);
        }
    }
    if (status != MLXR_OK) {
        constraint_clear(&fresh);
        return status;
    }
    constraint_clear(&s->rule);
    s->rule = fresh;
    return MLXR_OK;
}

bool mlxr_sequence_may_end(const mlxr_sequence *s)
{
    return !s->rule.g || grammar_may_end(s->rule.g, s->rule.states[s->rule.n]);
}
