/*
 * What a step reads: bytes of weights, of experts, of what is drafted with.
 * Owner: graph_build. Lifetime: the call; what is made lies in the graph's region.
 */
#include <stdio.h>

#include "graph/bind_latent.h"
#include "graph/plan_builder.h"

/* Weights that a row of the plan reads. */
static uint64_t bytes_read(const plan *p)
{
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        n_bytes += o->kind == OP_LINEAR ? o->weight->n_bytes : 0;
        for (uint32_t x = 0; o->kind == OP_EXPERTS && x < o->experts->n_used; x++) {
            n_bytes += o->experts->gate ? o->experts->gate[x].n_bytes : 0;
            n_bytes += o->experts->up[x].n_bytes + o->experts->down[x].n_bytes;
        }
        for (uint32_t x = 0; o->kind == OP_HEADS && x < o->heads->n_heads; x++) {
            n_bytes += o->heads->weights[x].n_bytes;
        }
    }
    return n_bytes;
}

/* Layers behind the last one are read by nobody who does not predict ahead; who does reads what their keys need. */
static uint64_t bytes_ahead(const graph *g, const model_file *file, uint64_t *unread)
{
    uint64_t n_bytes = 0;
    unsigned layer;
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        if (sscanf(file->tensors[i].name, "blk.%u.", &layer) == 1 && layer >= g->h.n_layers) {
            n_bytes += file->tensors[i].n_bytes;
        }
    }
    *unread = n_bytes;
    for (uint32_t i = 0; i < g->plan.n_ops; i++) {
        const op *o = &g->plan.ops[i];
        *unread -= o->kind == OP_LINEAR && o->layer == g->h.n_layers ? o->weight->n_bytes : 0;
    }
    return n_bytes;
}

/* Of those that are bound: one that predicts ahead is used only where it was asked for. */
uint32_t graph_layers_used(const graph *g)
{
    return g->ahead_plan.n_ops ? hparams_layers_bound(&g->h) : g->h.n_layers;
}

void graph_count_bytes(graph *g, const model_file *file)
{
    uint64_t unused; /* experts that a token does not go through, rows that there is a copy of, layers ahead */
    g->ahead_bytes = bytes_ahead(g, file, &unused);
    g->ahead_bytes_per_token = bytes_read(&g->ahead_plan);
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i];
        g->weight_bytes += t->n_bytes;
        g->n_params += t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
    }
    for (uint32_t i = 0; i < g->plan.n_ops; i++) {
        const op *o = &g->plan.ops[i];
        for (uint32_t x = o->kind == OP_EXPERTS ? o->experts->n_used : UINT32_MAX; x < g->h.n_expert; x++) {
            unused += o->experts->gate ? o->experts->gate[x].n_bytes : 0;
            unused += o->experts->up[x].n_bytes + o->experts->down[x].n_bytes;
        }
    }
    for (uint32_t i = 0; i < graph_layers_used(g); i++) {
        const layer_weights *w = &g->weights.layers[i];
        uint64_t n_bytes = latent_keys_bytes(w, &g->h);
        bool is_read = i < g->h.n_layers;
        g->weight_bytes += n_bytes;
        unused += !n_bytes ? 0 : is_read ? (uint64_t)g->h.n_head * g->h.n_nope * w->kv_up->row_bytes : n_bytes;
    }
    g->bytes_per_token = g->weight_bytes - unused;
    if (g->weights.output != g->weights.embedding) {
        g->bytes_per_token -= g->weights.embedding->n_bytes - g->weights.embedding->row_bytes;
    }
    if (g->weights.layer_embedding) {
        g->bytes_per_token -= g->weights.layer_embedding->n_bytes - g->weights.layer_embedding->row_bytes;
    }
}
