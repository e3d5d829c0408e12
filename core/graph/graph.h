/*
 * Graph: family row + hyper-parameters + tensors → the plan that backends run.
 * Owner: the model. Lifetime: graph_build to graph_close; the model file must outlive it. Immutable; any thread.
 */
#ifndef MLXR_GRAPH_GRAPH_H
#define MLXR_GRAPH_GRAPH_H

#include "graph/bind.h"

#define HEAD_LAYERS_MAX 4

typedef enum head_act { HEAD_PLAIN, HEAD_TANH, HEAD_GELU } head_act;

/* What is made of a text's pooled hidden state: layer behind layer, each norm(activation(weight · x + bias)). */
typedef struct head_layer {
    const tensor *weight, *bias; /* [n_in, n_out]; bias or NULL */
    head_act act;
    const tensor *norm, *norm_bias; /* [n_out] of a LayerNorm, or NULL */
    float eps;
} head_layer;

typedef struct text_head {
    head_layer layers[HEAD_LAYERS_MAX];
    uint32_t n_layers; /* 0: the state itself */
} text_head;

typedef struct graph {
    hparams h;
    model_weights weights;
    plan plan;
    plan ahead_plan; /* of the head that predicts ahead, over the same pages; no operations: it was not asked for */
    text_head head;
    uint64_t n_params;
    uint64_t weight_bytes;
    uint64_t
        bytes_per_token;   /* weights read to decode one token: everything but an untied embedding, of which one row */
    uint16_t group_ahead;  /* KV group whose state is what that head reads first */
    const char *rope_name; /* mlxr_model_info's rope_scaling */
    uint64_t ahead_bytes;  /* of weight_bytes: layers that predict ahead */
    uint64_t ahead_bytes_per_token; /* weights read to draft one token with them */
    region memory;
} graph;

/* options: the context asked for, which decides between LongRoPE's factors and may stretch RoPE; NULL: the model's own.
 * ahead: with the head that predicts ahead (whatever the options say), whose keys the plan then computes, too;
 * MLXR_UNSUPPORTED says why there is none. */
mlxr_status graph_build(graph **out, const model_file *file, const mlxr_model_options *options, bool ahead,
                        mlxr_error *error);
/* Copies what kernels read in another order than the file has it in: before a backend prepares the plan. */
mlxr_status graph_make_weights(graph *g, mlxr_error *error);
void graph_close(graph **g);

#endif
