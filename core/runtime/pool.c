/*
 * Pooling: hidden states of many texts, made one a text.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runtime/engine.h"

#define SLICES_MAX 128u /* texts a step computes, or begins */

mlxr_pooling pool_kind(const hparams *h)
{
    static const mlxr_pooling kinds[] = {MLXR_POOLING_MEAN, MLXR_POOLING_MEAN, MLXR_POOLING_FIRST, MLXR_POOLING_LAST};
    return kinds[h->pooling];
}

/* A text of which some tokens may still be missing. */
typedef struct part {
    mlxr_sequence *sequence;
    size_t index; /* of the input */
} part;

typedef struct pooling_run {
    mlxr_engine *engine;
    mlxr_model *model;
    const mlxr_embed_input *inputs;
    size_t n_inputs, next;
    mlxr_pooling pooling;
    bool whole; /* texts are not cut */
    uint32_t n_embd;
    double *sums; /* [SLICES_MAX][n_embd] by part */
    part parts[SLICES_MAX];
    size_t n_parts;
    void (*mark)(mlxr_sequence *); /* NULL: nothing */
    pool_taker *take;
    void *user;
} pooling_run;

static mlxr_status check_inputs(const pooling_run *p, mlxr_error *error)
{
    for (size_t i = 0; i < p->n_inputs; i++) {
        if (p->inputs[i].n_ids == 0 || p->inputs[i].n_ids > p->model->n_ctx) {
            return error_set(error, MLXR_LIMIT, "text %zu has %zu tokens; 1 to %u can be read", i, p->inputs[i].n_ids,
                             p->model->n_ctx);
        }
    }
    return MLXR_OK;
}

static mlxr_status begin(pooling_run *p, mlxr_error *error)
{
    part *new = &p->parts[p->n_parts];
    const mlxr_embed_input *in = &p->inputs[p->next];
    *new = (part){.index = p->next};
    mlxr_status status = mlxr_sequence_open(&new->sequence, p->model, NULL, error);
    if (status == MLXR_OK) {
        memset(p->sums + p->n_parts * p->n_embd, 0, p->n_embd * sizeof *p->sums);
        p->n_parts++;
        p->next++;
        status = mlxr_sequence_append(new->sequence, in->ids, in->n_ids, error);
    }
    if (status == MLXR_OK && p->mark) {
        p->mark(new->sequence);
    }
    if (status == MLXR_OK && p->pooling != MLXR_POOLING_LAST) {
        mlxr_sequence_release(new->sequence); /* what the cache has of it has no hidden states */
    }
    return status;
}

/* Fills a step: texts that are under way, then new ones; where they are not cut, whole ones only. */
static mlxr_status lay_out(pooling_run *p, mlxr_slice *slices, size_t *n_slices, mlxr_error *error)
{
    size_t rows = 0;
    *n_slices = 0;
    for (size_t i = 0; i < SLICES_MAX && rows < ENGINE_STEP_TOKENS_MAX; i++) {
        size_t room = ENGINE_STEP_TOKENS_MAX - rows;
        if (i == p->n_parts) {
            if (p->next == p->n_inputs || (p->whole && i > 0 && p->inputs[p->next].n_ids > room)) {
                break;
            }
            mlxr_status status = begin(p, error);
            if (status != MLXR_OK) {
                return status;
            }
        }
        size_t n = mlxr_sequence_pending(p->parts[i].sequence);
        n = n < room || p->whole ? n : room;
        slices[(*n_slices)++] = (mlxr_slice){
            .sequence = p->parts[i].sequence, .n_compute = (uint32_t)n, .flags = MLXR_SLICE_HIDDEN};
        rows += n;
    }
    return MLXR_OK;
}

void mlxr_embed_add(const mlxr_slice *slice, mlxr_pooling pooling, double *pooled)
{
    const mlxr_sequence *sequence = slice->sequence;
    uint32_t n_embd = sequence->model->graph->h.n_embd;
    size_t n = sequence->n_tokens, first = sequence->n_computed - slice->n_hidden;
    for (uint32_t r = 0; r < slice->n_hidden; r++) {
        bool counts = pooling == MLXR_POOLING_MEAN || (pooling == MLXR_POOLING_FIRST && first + r == 0) ||
                      (pooling == MLXR_POOLING_LAST && first + r + 1 == n);
        const float *row = slice->hidden + (size_t)r * n_embd;
        for (uint32_t k = 0; counts && k < n_embd; k++) {
            pooled[k] += (double)row[k];
        }
    }
    for (uint32_t k = 0; pooling == MLXR_POOLING_MEAN && sequence->n_computed == n && k < n_embd; k++) {
        pooled[k] /= (double)n;
    }
}

/* Finished texts leave; those behind them move up with their sums. */
static mlxr_status finish(pooling_run *p, mlxr_error *error)
{
    size_t kept = 0;
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < p->n_parts; i++) {
        part *done = &p->parts[i];
        double *sum = p->sums + i * p->n_embd;
        if (mlxr_sequence_pending(done->sequence) == 0) {
            status = status == MLXR_OK ? p->take(p->user, done->index, sum, error) : status;
            mlxr_sequence_close(&done->sequence);
            continue;
        }
        memmove(p->sums + kept * p->n_embd, sum, p->n_embd * sizeof *sum);
        p->parts[kept++] = *done;
    }
    p->n_parts = kept;
    return status;
}

static mlxr_status run_step(pooling_run *p, mlxr_error *error)
{
    mlxr_slice slices[SLICES_MAX];
    size_t n_slices;
    mlxr_status status = lay_out(p, slices, &n_slices, error);
    if (status == MLXR_OK) {
        status = mlxr_step(p->engine, slices, n_slices, error);
    }
    for (size_t i = 0; status == MLXR_OK && i < n_slices; i++) {
        mlxr_embed_add(&slices[i], p->pooling, p->sums + i * p->n_embd);
    }
    return status == MLXR_OK ? finish(p, error) : status;
}

mlxr_status pool_texts(mlxr_engine *engine, mlxr_model *model, const mlxr_embed_input *inputs, size_t n_inputs,
                       mlxr_pooling pooling, void (*mark)(mlxr_sequence *), pool_taker *take, void *user,
                       mlxr_error *error)
{
    pooling_run *p = calloc(1, sizeof *p);
    uint32_t n_embd = model->graph->h.n_embd;
    double *sums = calloc(SLICES_MAX * (size_t)n_embd, sizeof *sums);
    if (!p || !sums) {
        free(p);
        free(sums);
        return error_nomem(error, "hidden states", sizeof *p + SLICES_MAX * (size_t)n_embd * sizeof *sums);
    }
    *p = (pooling_run){.engine = engine,
                       .model = model,
                       .inputs = inputs,
                       .n_inputs = n_inputs,
                       .pooling = pooling,
                       .whole = model->graph->plan.both_ways,
                       .n_embd = n_embd,
                       .sums = sums,
                       .mark = mark,
                       .take = take,
                       .user = user};
    mlxr_status status = check_inputs(p, error);
    while (status == MLXR_OK && (p->n_parts || p->next < n_inputs)) {
        status = run_step(p, error);
    }
    for (size_t i = 0; i < p->n_parts; i++) {
        mlxr_sequence_close(&p->parts[i].sequence);
    }
    free(sums);
    free(p);
    return status;
}
