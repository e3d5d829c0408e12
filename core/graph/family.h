/*
 * Family: what a model architecture does differently from Llama. A family is a const row; zero means "as Llama"
 * (RMS norm before each block, grouped-query attention, gated SiLU, no biases, untied or tied output by the tensors
 * present).
 * Owner: none; const table. Lifetime: static.
 */
#ifndef MLXR_GRAPH_FAMILY_H
#define MLXR_GRAPH_FAMILY_H

#include "kernels/plan.h"

typedef struct family {
    const char *name;       /* general.architecture */
    rope_kind gguf_rope;    /* the order of Q/K rows in GGUF files; safetensors always keep halves */
    bool qkv_bias;          /* Q, K and V carry a bias (elsewhere it is optional) */
    bool qk_norm;           /* RMS norm of each query and key head */
    bool post_norms;        /* a second norm on the output of attention and of the MLP, before it joins X */
    bool scale_embedding;   /* × √n_embd */
    activation act;         /* of the gate */
    uint32_t full_every;    /* with a window: every n-th layer attends to all (Gemma 3: 6); 0: every layer has it */
    float local_rope_theta; /* of window layers where the file says nothing; 0: the same as the others */
    uint32_t wide_head_scale_layers; /* a model of so many layers scales q·k by n_embd/n_head, not by head_dim */
} family;

/* NULL if the name is not in the table. */
const family *family_find(const char *name, size_t n);
/* Rows in order; NULL past the end. */
const family *family_at(size_t index);

#endif
