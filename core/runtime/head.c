/*
 * Heads: what a model makes of a text's pooled hidden state.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/head.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "quant/codec.h"

uint32_t head_width(const text_head *head, uint32_t n_in)
{
    return head->n_layers ? (uint32_t)head->layers[head->n_layers - 1].weight->shape[1] : n_in;
}

/* LayerNorm of x[n_out], in place. */
static void apply_norm(const head_layer *layer, double *x)
{
    size_t n = (size_t)layer->weight->shape[1];
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        mean += x[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        square += (x[i] - mean) * (x[i] - mean) / (double)n;
    }
    double factor = 1 / sqrt(square + (double)layer->eps);
    for (size_t i = 0; i < n; i++) {
        double bias = layer->norm_bias ? (double)((const float *)layer->norm_bias->data)[i] : 0;
        x[i] = (x[i] - mean) * factor * (double)((const float *)layer->norm->data)[i] + bias;
    }
}

/* out[n_out] = norm(activation(weight · in + bias)); row has room for one of the weight's rows. */
static void apply_layer(const head_layer *layer, const double *in, float *row, double *out)
{
    const tensor *w = layer->weight, *b = layer->bias;
    for (uint64_t i = 0; i < w->shape[1]; i++) {
        float bias = 0;
        if (b) {
            codec_decode(b->type, (const float *)b->data + i, &bias, 1);
        }
        double sum = (double)bias;
        codec_decode(w->type, (const uint8_t *)w->data + i * w->row_bytes, row, w->shape[0]);
        for (uint64_t k = 0; k < w->shape[0]; k++) {
            sum += (double)row[k] * in[k];
        }
        out[i] = layer->act == HEAD_TANH   ? tanh(sum)
                 : layer->act == HEAD_GELU ? sum * (1 + erf(sum * M_SQRT1_2)) / 2
                                           : sum;
    }
    if (layer->norm) {
        apply_norm(layer, out);
    }
}

mlxr_status head_apply(double **out, const text_head *head, const double *in, uint32_t n_in, mlxr_error *error)
{
    size_t widest = n_in;
    for (uint32_t i = 0; i < head->n_layers; i++) {
        widest = head->layers[i].weight->shape[1] > widest ? (size_t)head->layers[i].weight->shape[1] : widest;
    }
    double *values = malloc(widest * sizeof *values), *next = malloc(widest * sizeof *next);
    float *row = malloc(widest * sizeof *row);
    mlxr_status status = MLXR_OK;
    if (!values || !next || !row) {
        status = error_nomem(error, "a text's vector", 3 * widest * sizeof *values);
        goto done;
    }
    memcpy(values, in, n_in * sizeof *values);
    for (uint32_t i = 0; i < head->n_layers; i++) {
        apply_layer(&head->layers[i], values, row, next);
        memcpy(values, next, (size_t)head->layers[i].weight->shape[1] * sizeof *values);
    }
    *out = values;
    values = NULL;
done:
    free(values);
    free(next);
    free(row);
    return status;
}
