/*
 * Drafts of a model's own head.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/spec/ahead.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runtime/engine.h"

typedef struct drafter {
    mlxr_sequence *s;
    uint32_t want;
    bool more; /* it goes on behind the token drafted last */
} drafter;

typedef struct drafting {
    mlxr_engine *e;
    mlxr_model *model;
    drafter *all; /* [n], row for row */
    uint32_t n, n_vocab;
} drafting;

/* A head has no states: no row reads one, and nobody wants any. */
static const uint32_t no_states[2] = {KV_PAGE_NONE, KV_PAGE_NONE};

/* The hidden state behind the newest computed token. */
static void load_hidden(const mlxr_model *model, const mlxr_sequence *s, float *out)
{
    uint32_t group = model->graph->group_ahead, page = pager_state(&s->pages, group), n = model->graph->h.n_embd;
    const kv_pool *pool = model->pools[group];
    if (page == KV_PAGE_NONE) {
        memset(out, 0, n * sizeof *out);
    } else {
        memcpy(out, (const uint8_t *)pool->memory + page * pool->layout.page_bytes, n * sizeof *out);
    }
}

static bool begin(const drafting *d, mlxr_sequence *s, uint32_t want)
{
    uint32_t at = (uint32_t)s->n_computed;
    return pager_reserve_ahead(&s->pages, at, at + want, NULL) == MLXR_OK &&
           constraint_follow(&s->spec.rule, &s->rule, s->n_tokens, d->n_vocab, NULL) == MLXR_OK;
}

static mlxr_status reserve(drafting *d, mlxr_error *error)
{
    step_scratch *scratch = &d->e->scratch;
    size_t n = (size_t)d->n * d->model->graph->h.n_embd;
    mlxr_status status = step_reserve(scratch, d->n, d->n, error);
    if (status == MLXR_OK && n > scratch->cap_carried) {
        float *grown = realloc(scratch->carried, n * sizeof *grown);
        if (!grown) {
            return error_nomem(error, "hidden states", n * sizeof *grown);
        }
        scratch->carried = grown;
        scratch->cap_carried = n;
    }
    return status != MLXR_OK ? status : step_reserve_logits(scratch, d->n, d->n_vocab, error);
}

/* One row a sequence: its newest token, which has not been computed, or what was drafted last. */
static mlxr_status run(const drafting *d, mlxr_error *error)
{
    step_scratch *scratch = &d->e->scratch;
    for (uint32_t i = 0; i < d->n; i++) {
        const mlxr_sequence *s = d->all[i].s;
        uint32_t n_drafted = s->spec.n_tokens, at = (uint32_t)s->n_computed + n_drafted;
        step_slice *slice = &scratch->slices[i];
        *slice = (step_slice){.first_row = i, .n_rows = 1, .start = at};
        for (uint32_t g = 0; g < s->pages.n_tables; g++) {
            slice->pages[g] = s->pages.tables[g].recurrent ? no_states : pager_step_pages(&s->pages, g);
        }
        scratch->tokens[i] = n_drafted ? s->spec.tokens[n_drafted - 1] : s->tokens[s->n_computed];
        scratch->positions[i] = (int32_t)at;
        scratch->wanted[i] = i;
    }
    step laid = {.n_rows = d->n,
                 .tokens = scratch->tokens,
                 .positions = scratch->positions,
                 .slices = scratch->slices,
                 .n_slices = d->n,
                 .wanted = scratch->wanted,
                 .n_wanted = d->n,
                 .kv = model_kv_memory(d->model),
                 .experts = expert_cache_hook(d->model->experts),
                 .carried = scratch->carried,
                 .logits = scratch->logits};
    return d->e->ops->run(d->e->device, d->model->ahead, &laid, error);
}

/* Draws a token for each sequence: the likeliest of those that it may say. */
static void draw(void *context, uint32_t index, uint32_t n)
{
    const drafting *d = context;
    for (uint32_t i = index; i < d->n; i += n) {
        drafter *a = &d->all[i];
        speculation *spec = &a->s->spec;
        const float *logits = d->e->scratch.logits + (size_t)i * d->n_vocab;
        const uint32_t *allowed = NULL;
        sampler_result r;
        a->more = false;
        if (constraint_mask(&spec->rule, &allowed, NULL) != MLXR_OK ||
            sampler_sample(spec->greedy, logits, allowed, &r, NULL) != MLXR_OK) {
            continue;
        }
        spec->tokens[spec->n_tokens++] = r.id;
        a->more = spec->n_tokens < a->want && !mlxr_token_is_end(a->s->model, r.id) &&
                  constraint_accept(&spec->rule, r.id, NULL) == MLXR_OK;
    }
}

/* Those that go on move together, with what they carry. */
static void keep_going(drafting *d)
{
    uint32_t n = 0, n_embd = d->model->graph->h.n_embd;
    float *carried = d->e->scratch.carried;
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->all[i].more) {
            memmove(carried + (size_t)n * n_embd, carried + (size_t)i * n_embd, n_embd * sizeof *carried);
            d->all[n++] = d->all[i];
        }
    }
    d->n = n;
}

void ahead_propose(mlxr_engine *e, const mlxr_slice *slices, size_t n_slices, const uint32_t *wants)
{
    mlxr_model *model = model_base_of(slices[0].sequence->model);
    drafting d = {.e = e, .model = model, .n_vocab = model->graph->h.n_vocab};
    d.all = calloc(n_slices, sizeof *d.all);
    for (size_t i = 0; d.all && i < n_slices; i++) {
        mlxr_sequence *s = slices[i].sequence;
        if (wants[i] > 0 && s->spec.kind == SPECULATION_HEAD && begin(&d, s, wants[i])) {
            d.all[d.n++] = (drafter){.s = s, .want = wants[i]};
        }
    }
    bool ok = d.n > 0 && reserve(&d, NULL) == MLXR_OK;
    for (uint32_t i = 0; ok && i < d.n; i++) {
        load_hidden(model, d.all[i].s, e->scratch.carried + (size_t)i * model->graph->h.n_embd);
    }
    while (ok && d.n > 0 && run(&d, NULL) == MLXR_OK) {
        if (d.n > 1 && e->ops->parallel) {
            e->ops->parallel(e->device, draw, &d);
        } else {
            draw(&d, 0, 1);
        }
        keep_going(&d);
    }
    free(d.all);
}
