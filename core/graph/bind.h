/*
 * Binding: which tensor of the file is which weight of which layer. Each tensor is listed once here; a missing, extra
 * or wrongly shaped one names itself.
 * Owner: the model's graph (memory from its region). Lifetime: the model's. Tensors point into the model file.
 */
#ifndef MLXR_GRAPH_BIND_H
#define MLXR_GRAPH_BIND_H

#include "graph/hparams.h"

typedef struct layer_weights {                /* NULL: the model has none; shapes innermost first */
    const tensor *attn_norm, *attn_norm_bias; /* [n_embd] */
    const tensor *q, *k, *v, *attn_out;       /* [n_embd, n_head·head_dim] … [n_head·head_dim, n_embd] */
    const tensor *q_bias, *k_bias, *v_bias, *attn_out_bias;
    const tensor *attn_gate;                      /* [n_embd, n_head·head_dim] */
    const tensor *q_norm, *k_norm;                /* [head_dim], or of all heads */
    const tensor *post_attn_norm, *post_ffn_norm; /* [n_embd] */
    const tensor *post_attn_norm_bias, *post_ffn_norm_bias;
    const tensor *ffn_norm, *ffn_norm_bias; /* [n_embd] */
    const tensor *gate, *up, *down;         /* [n_embd, n_ff], [n_ff, n_embd] */
    const tensor *gate_bias, *up_bias, *down_bias;
    const tensor *xielu[XIELU_NUMBERS];        /* [1] or none at all, of safetensors */
    op_curve xielu_curve;                      /* of them, or of the metadata's numbers */
    const tensor *q_down, *q_down_norm, *q_up; /* latent attention: [n_embd, n_latent_q], … [n_latent_q, queries] */
    const tensor *kv_down, *kv_down_norm;      /* [n_embd, n_latent_kv + n_rot], of which the parts are */
    const tensor *kv_latent, *k_shared;        /* [n_embd, n_latent_kv], [n_embd, n_rot] */
    const tensor *kv_up; /* [n_latent_kv, n_head·(n_nope + head_v)] keys and values of a head; NULL: they are apart */
    tensor *k_up, *v_up; /* [n_head] matrices [n_nope, n_latent_kv] and [n_latent_kv, head_v] */
    const tensor *sinks; /* [n_head] */
    const tensor *router, *router_bias; /* [n_embd, n_expert] */
    const tensor *router_scale;         /* [n_embd] of what the router reads, beside a dense MLP */
    const tensor *expert_scales;        /* [n_expert] */
    const tensor *experts_norm, *post_experts_norm, *post_dense_norm; /* [n_embd], beside a dense MLP */
    const tensor *layer_gate, *layer_proj, *post_layer_norm;          /* [n_embd, n_embd_layer] and back, [n_embd] */
    const tensor *layer_scale;                                        /* [1] */
    const tensor *choice_bias;                                        /* [n_expert] */
    const tensor *shared_gate, *shared_up, *shared_down;
    const tensor *latent_down, *latent_up;                                /* [n_embd, n_expert_latent] and back */
    const tensor *gate_experts, *up_experts, *down_experts;               /* [n_expert] matrices */
    const float *gate_experts_bias, *up_experts_bias, *down_experts_bias; /* [n_expert][n_ff or n_embd], or NULL */
    /* of a mixer; GGUF has "in" whole, or in parts */
    const tensor *mixer_in, *mixer_in_bias;                    /* [n_embd, all it reads] */
    const tensor *mixer_qkv, *mixer_gate;                      /* [n_embd, conv_width], [n_embd, its width] */
    const tensor *mixer_beta_alpha, *mixer_beta, *mixer_alpha; /* [n_embd, 2 n or n heads] */
    const tensor *mixer_conv, *mixer_conv_bias;                /* [conv_rows, conv_width] */
    const tensor *mixer_fade, *mixer_skip, *mixer_step_bias;   /* [n_mixer_heads] */
    const tensor *mixer_norm, *mixer_out, *mixer_out_bias;     /* [head_v] or [its width], [its width, n_embd] */
    const tensor *mixer_first, *mixer_second, *mixer_third;    /* parts of "in" and of its bias, in order */
    const tensor *mixer_first_bias, *mixer_second_bias, *mixer_third_bias;
    const tensor *shared_weight;                           /* [n_embd, 1] */
    const tensor *qkv, *qkv_bias, *gate_up, *gate_up_bias; /* fused in the file: the others are parts of them */
} layer_weights;

/* What a head that predicts ahead has beside its layer, which is the one behind the model's. */
typedef struct ahead_weights {
    const tensor *embd_norm, *hidden_norm; /* [n_embd] of the next token's embedding, of the hidden state */
    const tensor *joined;                  /* [2 × n_embd, n_embd] of both, in this order */
    const tensor *output_norm;             /* [n_embd]; the model's where the head has none */
    const tensor *embedding, *output;      /* [n_embd, n_vocab]; the model's likewise */
} ahead_weights;

typedef struct model_weights {
    const tensor *embedding;                        /* [n_embd, n_vocab] */
    const tensor *output_norm, *output_norm_bias;   /* [n_embd] */
    const tensor *positions;                        /* [n_embd, n_positions] */
    const tensor *token_types;                      /* [n_embd, n]: the first, and of pairs of texts the second */
    const tensor *embd_norm, *embd_norm_bias;       /* [n_embd] */
    const tensor *output;                           /* [n_embd, n_vocab]; the embedding where the model ties them */
    const tensor *output_bias;                      /* [n_vocab] or NULL */
    const tensor *rope_freqs;                       /* [n_rot/2] or NULL */
    const tensor *rope_long, *rope_short;           /* [n_rot/2] LongRoPE's factors, or NULL */
    const tensor *dense[2];                         /* layers behind pooling, or NULL */
    const tensor *cls, *cls_bias;                   /* [n_embd, n_embd], of what ranks texts; or NULL */
    const tensor *cls_norm, *cls_norm_bias;         /* [n_embd] */
    const tensor *cls_out, *cls_out_bias;           /* [n_embd, 1 or 2] */
    const tensor *layer_embedding;                  /* [n_layers × n_embd_layer, n_vocab] */
    const tensor *layer_inputs, *layer_inputs_norm; /* [n_embd, n_layers × n_embd_layer], [n_embd_layer] */
    layer_weights *layers;                          /* [hparams_layers_bound] */
    ahead_weights ahead;                            /* where the model predicts ahead */
} model_weights;

/* Also sets h->n_vocab from the embedding. */
mlxr_status bind_weights(model_weights *out, hparams *h, const model_file *file, region *memory, mlxr_error *error);

#endif
