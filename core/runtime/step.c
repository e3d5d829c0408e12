/*
 * Step: computes pending tokens of some sequences in one pass over the weights, and samples.
 * Owner: the engine. Lifetime: the call; results in the slices until the next step.
 *
 *   check_slices → reserve_pages → lay_out → backend run → sample → commit
 *
 * Everything up to `commit` can fail and leaves the sequences as they were: pages reserved for a failed step stay
 * mapped past n_computed, where the next step overwrites them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runtime/engine.h"

static mlxr_status grow(void **array, size_t n, size_t size, mlxr_error *error)
{
    void *grown = realloc(*array, n * size);
    if (!grown) {
        return error_nomem(error, "step", n * size);
    }
    *array = grown;
    return MLXR_OK;
}

static mlxr_status reserve_rows(step_scratch *s, uint32_t n_rows, mlxr_error *error)
{
    if (n_rows <= s->cap_rows) {
        return MLXR_OK;
    }
    mlxr_status status = grow((void **)&s->tokens, n_rows, sizeof *s->tokens, error);
    if (status == MLXR_OK) {
        status = grow((void **)&s->positions, n_rows, sizeof *s->positions, error);
    }
    if (status == MLXR_OK) {
        status = grow((void **)&s->wanted, n_rows, sizeof *s->wanted, error);
    }
    if (status == MLXR_OK) {
        s->cap_rows = n_rows;
    }
    return status;
}

static mlxr_status reserve_slices(step_scratch *s, size_t n_slices, mlxr_error *error)
{
    if (n_slices <= s->cap_slices) {
        return MLXR_OK;
    }
    mlxr_status status = grow((void **)&s->slices, n_slices, sizeof *s->slices, error);
    if (status == MLXR_OK) {
        status = grow((void **)&s->samples, n_slices, sizeof *s->samples, error);
    }
    if (status == MLXR_OK) {
        status = grow((void **)&s->errors, n_slices, sizeof *s->errors, error);
    }
    if (status == MLXR_OK) {
        s->cap_slices = (uint32_t)n_slices;
    }
    return status;
}

static mlxr_status check_slices(const mlxr_engine *e, const mlxr_slice *slices, size_t n_slices, mlxr_error *error)
{
    size_t n_rows = 0;
    for (size_t i = 0; i < n_slices; i++) {
        const mlxr_sequence *s = slices[i].sequence;
        if (!s || s->model->engine != e) {
            return error_set(error, MLXR_ARG, "slice %zu: its sequence does not belong to this engine", i);
        }
        if (s->model != slices[0].sequence->model) {
            return error_set(error, MLXR_UNSUPPORTED, "slice %zu: a step computes sequences of one model", i);
        }
        for (size_t j = 0; j < i; j++) {
            if (slices[j].sequence == s) {
                return error_set(error, MLXR_ARG, "slices %zu and %zu: the same sequence twice in a step", j, i);
            }
        }
        size_t pending = mlxr_sequence_pending(s);
        if (slices[i].n_compute == 0 || slices[i].n_compute > pending) {
            return error_set(error, MLXR_ARG, "slice %zu: %u tokens to compute, %zu pending", i, slices[i].n_compute, pending);
        }
        n_rows += slices[i].n_compute;
    }
    if (n_slices == 0 || n_rows > ENGINE_STEP_TOKENS_MAX) {
        return error_set(error, MLXR_LIMIT, "a step takes 1 to %u tokens, not %zu", ENGINE_STEP_TOKENS_MAX, n_rows);
    }
    return MLXR_OK;
}

static mlxr_status reserve_pages(const mlxr_slice *slices, size_t n_slices, mlxr_error *error)
{
    for (size_t i = 0; i < n_slices; i++) {
        mlxr_sequence *s = slices[i].sequence;
        mlxr_status status = pager_reserve(&s->pages, (uint32_t)s->n_computed,
                                            (uint32_t)s->n_computed + slices[i].n_compute, error);
        if (status != MLXR_OK) {
            while (i-- > 0) { /* pages taken for a step that will not happen would starve others */
                mlxr_sequence *earlier = slices[i].sequence;
                pager_truncate(&earlier->pages, (uint32_t)earlier->n_computed);
            }
            return status;
        }
    }
    return MLXR_OK;
}

/* Fills tokens, positions, slices and the wanted rows; returns how many rows of logits are wanted. */
static uint32_t lay_out(step_scratch *scratch, const mlxr_slice *slices, size_t n_slices, step *out)
{
    uint32_t row = 0, n_wanted = 0;
    for (size_t i = 0; i < n_slices; i++) {
        const mlxr_sequence *s = slices[i].sequence;
        uint32_t n = slices[i].n_compute;
        bool all = slices[i].flags & MLXR_SLICE_LOGITS_ALL;
        bool last = n == mlxr_sequence_pending(s);
        step_slice *laid = &scratch->slices[i];
        *laid = (step_slice){.first_row = row, .n_rows = n, .start = (uint32_t)s->n_computed};
        for (uint32_t g = 0; g < s->pages.n_tables; g++) {
            laid->pages[g] = s->pages.tables[g].pages;
        }
        for (uint32_t j = 0; j < n; j++, row++) {
            scratch->tokens[row] = s->tokens[s->n_computed + j];
            scratch->positions[row] = (int32_t)(s->n_computed + j);
            if (all || (last && j + 1 == n)) {
                scratch->wanted[n_wanted++] = row;
            }
        }
    }
    *out = (step){.n_rows = row,
                  .tokens = scratch->tokens,
                  .positions = scratch->positions,
                  .slices = scratch->slices,
                  .n_slices = (uint32_t)n_slices,
                  .wanted = scratch->wanted,
                  .n_wanted = n_wanted};
    return n_wanted;
}

static mlxr_status reserve_logits(step_scratch *s, uint32_t n_wanted, uint32_t n_vocab, mlxr_error *error)
{
    size_t n = (size_t)n_wanted * n_vocab;
    if (n > s->cap_logits) {
        free(s->logits); /* nothing in it needs to be kept, so do not let realloc copy */
        s->cap_logits = 0;
        s->logits = malloc(n * sizeof *s->logits);
        if (!s->logits) {
            return error_nomem(error, "logits", n * sizeof *s->logits);
        }
        s->cap_logits = n;
    }
    return MLXR_OK;
}

typedef struct sampling_job {
    mlxr_slice *slices;
    size_t n_slices;
    step_scratch *scratch;
    uint32_t n_vocab;
} sampling_job;

static bool wants_sample(const mlxr_slice *slice)
{
    return slice->n_compute == mlxr_sequence_pending(slice->sequence) && !(slice->flags & MLXR_SLICE_NO_SAMPLE);
}

/* Member `index` of n samples every n-th slice. */
static void sample_share(void *context, uint32_t index, uint32_t n)
{
    sampling_job *job = context;
    for (size_t i = index; i < job->n_slices; i += n) {
        mlxr_slice *slice = &job->slices[i];
        job->scratch->errors[i].status = MLXR_OK;
        if (wants_sample(slice)) {
            const float *row = slice->logits + (size_t)(slice->n_logits - 1) * job->n_vocab;
            job->scratch->errors[i].status = sampler_sample(slice->sequence->sampler, row, NULL, &job->scratch->samples[i],
                                                            &job->scratch->errors[i]);
        }
    }
}

static mlxr_status sample(mlxr_engine *e, mlxr_slice *slices, size_t n_slices, uint32_t n_vocab, mlxr_error *error)
{
    sampling_job job = {slices, n_slices, &e->scratch, n_vocab};
    if (n_slices > 1 && e->ops->parallel) {
        e->ops->parallel(e->device, sample_share, &job);
    } else {
        sample_share(&job, 0, 1);
    }
    for (size_t i = 0; i < n_slices; i++) {
        if (e->scratch.errors[i].status != MLXR_OK) {
            return error_set(error, e->scratch.errors[i].status, "slice %zu: %s", i, e->scratch.errors[i].text);
        }
    }
    return MLXR_OK;
}

/* The step happened: positions are computed, sampled tokens join their sequences. */
static mlxr_status commit(mlxr_engine *e, mlxr_slice *slices, size_t n_slices, mlxr_error *error)
{
    for (size_t i = 0; i < n_slices; i++) {
        mlxr_slice *slice = &slices[i];
        mlxr_sequence *s = slice->sequence;
        bool sampled = wants_sample(slice);
        s->n_computed += slice->n_compute;
        kv_cache_register(&s->model->cache, &s->pages, s->tokens, s->n_computed, &s->node, e->now_ms(e->now_user));
        pager_commit(&s->pages, (uint32_t)s->n_computed);
        slice->token = -1;
        slice->top = NULL;
        slice->n_top = 0;
        slice->logprob = 0;
        if (sampled) {
            const sampler_result *r = &e->scratch.samples[i];
            slice->token = r->id;
            slice->logprob = r->logprob;
            slice->top = r->top;
            slice->n_top = r->n_top;
            if (s->n_tokens < s->model->n_ctx) { /* in a full context the last token is told but has no place */
                mlxr_status status = mlxr_sequence_append(s, &r->id, 1, error);
                if (status != MLXR_OK) {
                    return status;
                }
            }
        }
    }
    return MLXR_OK;
}

mlxr_status mlxr_step(mlxr_engine *e, mlxr_slice *slices, size_t n_slices, mlxr_error *error)
{
    mlxr_status status = check_slices(e, slices, n_slices, error);
    if (status != MLXR_OK) {
        return status;
    }
    const mlxr_model *model = slices[0].sequence->model;
    uint32_t n_vocab = model->graph->h.n_vocab;
    status = reserve_rows(&e->scratch, ENGINE_STEP_TOKENS_MAX, error);
    if (status == MLXR_OK) {
        status = reserve_slices(&e->scratch, n_slices, error);
    }
    if (status == MLXR_OK) {
        status = reserve_pages(slices, n_slices, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    step laid;
    uint32_t n_wanted = lay_out(&e->scratch, slices, n_slices, &laid);
    status = reserve_logits(&e->scratch, n_wanted, n_vocab, error);
    if (status != MLXR_OK) {
        return status;
    }
    laid.logits = e->scratch.logits;
    for (uint32_t g = 0; g < model->graph->plan.n_kv_groups; g++) {
        laid.kv.base[g] = model->pools[g]->memory;
        laid.kv.layout[g] = model->pools[g]->layout;
    }
    status = e->ops->run(e->device, model->program, &laid, error);
    if (status != MLXR_OK) {
        return status;
    }
    const float *logits = e->scratch.logits;
    for (size_t i = 0; i < n_slices; i++) {
        bool all = slices[i].flags & MLXR_SLICE_LOGITS_ALL;
        bool last = slices[i].n_compute == mlxr_sequence_pending(slices[i].sequence);
        slices[i].n_logits = all ? slices[i].n_compute : last ? 1 : 0;
        slices[i].logits = slices[i].n_logits ? logits : NULL;
        logits += (size_t)slices[i].n_logits * n_vocab;
    }
    status = sample(e, slices, n_slices, n_vocab, error);
    if (status == MLXR_OK) {
        status = commit(e, slices, n_slices, error);
        engine_trim(e);
    }
    return status;
}
