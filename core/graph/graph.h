/*
 * Graph: family row + hyper-parameters + tensors → the plan that backends run.
 * Owner: the model. Lifetime: graph_build to graph_close; the model file must outlive it. Immutable; any thread.
 */
#ifndef MLXR_GRAPH_GRAPH_H
#define MLXR_GRAPH_GRAPH_H

#include "graph/bind.h"

typedef struct graph {
    hparams h;
    model_weights weights;
    plan plan;
    uint64_t n_params;
    uint64_t weight_bytes;
    uint64_t
        bytes_per_token; /* weights read to decode one token: everything but an untied embedding, of which one row */
    region memory;
} graph;

/* n_ctx: the longest context asked for (0: the model's own), which decides between LongRoPE's factors. */
mlxr_status graph_build(graph **out, const model_file *file, uint32_t n_ctx, mlxr_error *error);
void graph_close(graph **g);

#endif
