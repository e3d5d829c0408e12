/*
 * Embeddings: pooled hidden states of whole texts, through the model's own layers behind pooling, normalised.
 * Owner: none. Lifetime: the call.
 */
#include "mlxr_embed.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "runtime/engine.h"
#include "runtime/head.h"
#include "runtime/pool.h"

static const text_head no_head;

/* What makes a vector of the pooled state; a head that ranks does not. */
static const text_head *vector_head(const mlxr_model *model)
{
    return model->graph->h.ranks ? &no_head : &model->graph->head;
}

mlxr_embed_info mlxr_embed_info_get(const mlxr_model *model)
{
    const hparams *h = &model->graph->h;
    return (mlxr_embed_info){.pooling = pool_kind(h),
                             .intended = h->pooling != 0 && !h->ranks,
                             .encoder = model->graph->plan.both_ways,
                             .n_dims = head_width(vector_head(model), h->n_embd),
                             .n_tokens_max = model->n_ctx};
}

static void normalise(const double *values, uint32_t n, float *out)
{
    double squares = 0;
    for (uint32_t k = 0; k < n; k++) {
        squares += values[k] * values[k];
    }
    double factor = squares > 0 ? 1 / sqrt(squares) : 0;
    for (uint32_t k = 0; k < n; k++) {
        out[k] = (float)(values[k] * factor);
    }
}

static mlxr_status check_dims(const mlxr_model *model, uint32_t *n_dims, mlxr_error *error)
{
    uint32_t most = mlxr_embed_info_get(model).n_dims;
    if (*n_dims > most) {
        return error_set(error, MLXR_ARG, "%u dimensions were asked for; this model gives %u", *n_dims, most);
    }
    *n_dims = *n_dims ? *n_dims : most;
    return MLXR_OK;
}

mlxr_status mlxr_embed_vector(const mlxr_model *model, const double *pooled, uint32_t n_dims, float *vector,
                              mlxr_error *error)
{
    const text_head *head = vector_head(model);
    double *made = NULL;
    mlxr_status status = check_dims(model, &n_dims, error);
    if (status == MLXR_OK && head->n_layers) {
        status = head_apply(&made, head, pooled, model->graph->h.n_embd, error);
    }
    if (status == MLXR_OK) {
        normalise(made ? made : pooled, n_dims, vector);
    }
    free(made);
    return status;
}

typedef struct vectors {
    const mlxr_model *model;
    uint32_t n_dims;
    float *out; /* [n_inputs][n_dims] */
} vectors;

static mlxr_status take_vector(void *user, size_t index, const double *pooled, mlxr_error *error)
{
    const vectors *v = user;
    return mlxr_embed_vector(v->model, pooled, v->n_dims, v->out + index * v->n_dims, error);
}

mlxr_status mlxr_embed(mlxr_engine *engine, mlxr_model *model, const mlxr_embed_input *inputs, size_t n_inputs,
                       uint32_t n_dims, float *out, mlxr_error *error)
{
    vectors v = {.model = model, .n_dims = n_dims, .out = out};
    mlxr_status status = check_dims(model, &v.n_dims, error);
    if (status != MLXR_OK) {
        return status;
    }
    return pool_texts(engine, model, inputs, n_inputs, mlxr_embed_info_get(model).pooling, NULL, take_vector, &v,
                      error);
}
