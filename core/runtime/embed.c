/*
 * Embeddings: hidden states of whole texts, pooled and normalised.
 * Owner: none. Lifetime: the call.
 */
#include "mlxr_embed.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "runtime/engine.h"

#define SLICES_MAX 128u /* texts a step computes, or begins */

/* A text of which some tokens may still be missing. */
typedef struct part {
    mlxr_sequence *sequence;
    size_t index; /* of the input */
} part;

typedef struct embedding {
    mlxr_engine *engine;
    mlxr_model *model;
    const mlxr_embed_input *inputs;
    size_t n_inputs, next;
    mlxr_embed_info info;
    double *sums; /* [SLICES_MAX][n_embd] by part */
    part parts[SLICES_MAX];
    size_t n_parts;
} embedding;

mlxr_embed_info mlxr_embed_info_get(const mlxr_model *model)
{
    static const mlxr_pooling kinds[] = {MLXR_POOLING_MEAN, MLXR_POOLING_MEAN, MLXR_POOLING_FIRST, MLXR_POOLING_LAST};
    const hparams *h = &model->graph->h;
    return (mlxr_embed_info){.pooling = kinds[h->pooling],
                             .intended = h->pooling != 0,
                             .encoder = model->graph->plan.both_ways,
                             .n_dims = h->n_embd,
                             .n_tokens_max = model->n_ctx};
}

static mlxr_status check_inputs(const embedding *e, uint32_t n_dims, mlxr_error *error)
{
    if (n_dims > e->info.n_dims) {
        return error_set(error, MLXR_ARG, "%u dimensions were asked for; this model gives %u", n_dims, e->info.n_dims);
    }
    for (size_t i = 0; i < e->n_inputs; i++) {
        if (e->inputs[i].n_ids == 0 || e->inputs[i].n_ids > e->info.n_tokens_max) {
            return error_set(error, MLXR_LIMIT, "text %zu has %zu tokens; 1 to %u can be read", i, e->inputs[i].n_ids,
                             e->info.n_tokens_max);
        }
    }
    return MLXR_OK;
}

static mlxr_status begin(embedding *e, mlxr_error *error)
{
    part *p = &e->parts[e->n_parts];
    const mlxr_embed_input *in = &e->inputs[e->next];
    *p = (part){.index = e->next};
    mlxr_status status = mlxr_sequence_open(&p->sequence, e->model, NULL, error);
    if (status == MLXR_OK) {
        e->n_parts++;
        e->next++;
        status = mlxr_sequence_append(p->sequence, in->ids, in->n_ids, error);
    }
    if (status == MLXR_OK) {
        mlxr_sequence_release(p->sequence); /* what the cache has of it has no hidden states */
    }
    return status;
}

/* Fills a step: texts that are under way, then new ones; of encoders whole ones only. */
static mlxr_status lay_out(embedding *e, mlxr_slice *slices, size_t *n_slices, mlxr_error *error)
{
    size_t rows = 0;
    *n_slices = 0;
    for (size_t i = 0; i < SLICES_MAX && rows < ENGINE_STEP_TOKENS_MAX; i++) {
        size_t room = ENGINE_STEP_TOKENS_MAX - rows;
        if (i == e->n_parts) {
            if (e->next == e->n_inputs || (e->info.encoder && e->inputs[e->next].n_ids > room)) {
                break;
            }
            mlxr_status status = begin(e, error);
            if (status != MLXR_OK) {
                return status;
            }
        }
        size_t n = mlxr_sequence_pending(e->parts[i].sequence);
        n = n < room ? n : room;
        slices[(*n_slices)++] = (mlxr_slice){
            .sequence = e->parts[i].sequence, .n_compute = (uint32_t)n, .flags = MLXR_SLICE_HIDDEN};
        rows += n;
    }
    return MLXR_OK;
}

/* What a slice gave joins its text's sum. */
static void take(const embedding *e, size_t index, const mlxr_slice *slice)
{
    uint32_t n = e->info.n_dims;
    double *sum = e->sums + index * n;
    bool first = mlxr_sequence_computed(slice->sequence) == slice->n_compute;
    bool last = mlxr_sequence_pending(slice->sequence) == 0;
    for (uint32_t k = 0; first && k < n; k++) {
        sum[k] = 0;
    }
    for (uint32_t r = 0; r < slice->n_hidden; r++) {
        bool counts = e->info.pooling == MLXR_POOLING_MEAN ||
                      (e->info.pooling == MLXR_POOLING_FIRST && first && r == 0) ||
                      (e->info.pooling == MLXR_POOLING_LAST && last && r + 1 == slice->n_hidden);
        const float *row = slice->hidden + (size_t)r * n;
        for (uint32_t k = 0; counts && k < n; k++) {
            sum[k] += (double)row[k];
        }
    }
}

static void normalise(const double *sum, uint32_t n, float *out)
{
    double squares = 0;
    for (uint32_t k = 0; k < n; k++) {
        squares += sum[k] * sum[k];
    }
    double factor = squares > 0 ? 1 / sqrt(squares) : 0;
    for (uint32_t k = 0; k < n; k++) {
        out[k] = (float)(sum[k] * factor);
    }
}

/* Finished texts leave; those behind them move up with their sums. */
static void finish(embedding *e, uint32_t n_dims, float *vectors)
{
    size_t kept = 0;
    uint32_t n = e->info.n_dims;
    for (size_t i = 0; i < e->n_parts; i++) {
        part *p = &e->parts[i];
        if (mlxr_sequence_pending(p->sequence) == 0) {
            normalise(e->sums + i * n, n_dims, vectors + p->index * n_dims);
            mlxr_sequence_close(&p->sequence);
            continue;
        }
        for (uint32_t k = 0; k < n; k++) {
            e->sums[kept * n + k] = e->sums[i * n + k];
        }
        e->parts[kept++] = *p;
    }
    e->n_parts = kept;
}

static mlxr_status run_step(embedding *e, uint32_t n_dims, float *vectors, mlxr_error *error)
{
    mlxr_slice slices[SLICES_MAX];
    size_t n_slices;
    mlxr_status status = lay_out(e, slices, &n_slices, error);
    if (status == MLXR_OK) {
        status = mlxr_step(e->engine, slices, n_slices, error);
    }
    for (size_t i = 0; status == MLXR_OK && i < n_slices; i++) {
        take(e, i, &slices[i]);
    }
    if (status == MLXR_OK) {
        finish(e, n_dims, vectors);
    }
    return status;
}

mlxr_status mlxr_embed(mlxr_engine *engine, mlxr_model *model, const mlxr_embed_input *inputs, size_t n_inputs,
                       uint32_t n_dims, float *vectors, mlxr_error *error)
{
    embedding *e = calloc(1, sizeof *e);
    if (!e) {
        return error_nomem(error, "embeddings", sizeof *e);
    }
    *e = (embedding){.engine = engine, .model = model, .inputs = inputs, .n_inputs = n_inputs};
    e->info = mlxr_embed_info_get(model);
    n_dims = n_dims ? n_dims : e->info.n_dims;
    mlxr_status status = check_inputs(e, n_dims, error);
    e->sums = calloc(SLICES_MAX * (size_t)e->info.n_dims, sizeof *e->sums);
    if (status == MLXR_OK && !e->sums) {
        status = error_nomem(error, "embeddings", SLICES_MAX * (size_t)e->info.n_dims * sizeof *e->sums);
    }
    while (status == MLXR_OK && (e->n_parts || e->next < n_inputs)) {
        status = run_step(e, n_dims, vectors, error);
    }
    for (size_t i = 0; i < e->n_parts; i++) {
        mlxr_sequence_close(&e->parts[i].sequence);
    }
    free(e->sums);
    free(e);
    return status;
}
