/*
 * Family: what a model architecture does differently from Llama. A family is a const row; zero means "as Llama"
 * (RMS norm before each block, grouped-query attention, gated SiLU, no biases, untied or tied output by the tensors
 * present).
 * Owner: none; const table. Lifetime: static.
 */
#ifndef MLXR_GRAPH_FAMILY_H
#define MLXR_GRAPH_FAMILY_H

#include "kernels/plan.h"

/* Where a block has its norms: on its input, on its output before that joins X, or both; or on X when it has joined. */
typedef enum norm_place { NORMS_BEFORE, NORMS_AROUND, NORMS_AFTER, NORMS_OF_SUM } norm_place;

/* What layers without attention have in its place. */
typedef enum mixer_kind {
    MIXER_NONE,
    MIXER_CONV,  /* a gated short convolution (LFM2) */
    MIXER_DELTA, /* gated DeltaNet */
    MIXER_SSM,   /* Mamba-2 */
} mixer_kind;

/* What a head that predicts the token behind the next reads of the model, and hands on when it goes on by itself. */
typedef enum ahead_kind {
    AHEAD_NONE,   /* the family has no such head, or none is known here */
    AHEAD_RAW,    /* what the last layer leaves (DeepSeek-AI 2024b, section 2.2) */
    AHEAD_NORMED, /* its last norm, which logits are made of */
} ahead_kind;

/* A norm of queries and keys: none, of each head, of all heads together; of each head without a weight, in layers that
 * turn, unless the file says that there is none. */
typedef enum qk_norm_kind { QK_NORM_NONE, QK_NORM_HEADS, QK_NORM_ALL, QK_NORM_BARE } qk_norm_kind;

typedef struct family {
    const char *name;            /* general.architecture */
    rope_kind gguf_rope;         /* the order of Q/K rows in GGUF files; safetensors keep halves … */
    bool safetensors_keep_pairs; /* … but for those whose own code turns pairs */
    norm_kind norm;
    bool norm_bias; /* norms carry a bias */
    norm_place norms;
    bool parallel;       /* attention and MLP read the same norm of X … */
    bool parallel_norms; /* … or norms of their own, unless the file says that they come one after the other */
    bool bare_norms;     /* norms have no weights, and no tensors */
    bool qkv_bias;       /* Q, K and V carry a bias (elsewhere it is optional) */
    qk_norm_kind qk_norm;
    bool qk_norm_optional;
    bool qk_norm_turned;      /* … behind RoPE */
    bool fused_gate_up;       /* "ffn_up" holds the rows of gate and up */
    bool ungated;             /* the MLP is down(act(up(x))) */
    bool xielu;               /* … with xIELU, which has numbers of its own in each layer */
    bool clamps_qkv;          /* Q, K and V may be kept within limits, which the file says */
    routing_kind routing;     /* of a mixture of experts, where the file does not say */
    bool normalise_experts;   /* the weights of the chosen ones sum to 1, likewise */
    bool experts_weigh_input; /* they are of what an expert reads, not of what it gives; no bias chooses */
    uint32_t n_shared;        /* experts that all tokens share, where the file does not say */
    bool ffn_norm_after;      /* GGUF calls the norm before the MLP post_attention_norm */
    bool latent;              /* keys and values are made of a few numbers that all heads share (DeepSeek's MLA) */
    bool latent_whole;        /* … by one matrix in GGUF, too, which other programs cut in two of other families */
    bool minicpm_scales;      /* MiniCPM 3's scales on embedding, residual and logits, where the file does not say */
    ahead_kind ahead;         /* of a head for multi-token prediction */
    mixer_kind mixer;         /* of layers without attention */
    bool mixer_beside;        /* … or of all, beside attention, with multipliers */
    bool gguf_heads_in_turn;  /* GGUF has the mixer's value heads in another order: first one of each key head … */
    bool one_block;           /* a layer is attention, a mixer or an MLP, behind one norm */
    bool gated_attention;     /* a gate beside each query: of attention's output … */
    bool gate_apart;          /* … which a matrix of its own gives */
    bool qkv_by_heads;        /* safetensors have Q, K and V of a head side by side; GGUF all of Q first */
    bool gated_shared;        /* a number a row weighs the experts that all tokens share */
    bool output_bias;         /* logits carry one */
    bool ffn_norm_short;      /* GGUF calls the norm before the MLP ffn_norm, without ".weight" */
    bool output_norm_embd;    /* GGUF calls the last norm token_embd_norm */
    bool encoder;             /* a token sees later ones, too; the model gives hidden states and no logits */
    bool positions;           /* a table of positions (and kinds of tokens) is added to the embedding */
    bool token_types;         /* a table of kinds of tokens alone */
    bool embedding_norm;      /* a norm follows it */
    bool sinks;               /* a logit a head that joins the softmax without a value */
    activation act;           /* of the gate, or of what has none */
    bool scale_embedding;     /* × √n_embd */
    bool logit_scale_divides; /* logits are divided by the file's scale, not multiplied */
    uint32_t full_every;      /* with a window: every n-th layer attends to all (Gemma 3: 6); 0: every layer has it */
    bool full_first;          /* … the first of every n */
    uint32_t chunk;           /* windows are chunks, so long where the file does not say; 0: they are none */
    float still_temperature;  /* attention's in layers that do not turn, where the file does not say; 0: it is in those
                                 that turn, of files that have one */
    bool first_unnormed;      /* the first layer's attention reads X itself */
    bool gelu_head;           /* of what ranks texts; else tanh, and no norm */
    bool dense_heads;         /* there may be layers behind pooling */
    bool unscaled_attention;  /* q·k as it is */
    bool value_norm;          /* values are normed, head by head, without a weight */
    bool keys_as_values;      /* a layer without V has K, before its norm, for values */
    bool layer_embeddings;    /* each layer may have an embedding of its own, which its output is gated with */
    bool layer_scale;         /* a layer's output may be multiplied by a number */
    bool experts_beside;      /* a layer of experts has a dense MLP beside them, each with norms of its own */
    uint32_t unturned_every;  /* every n-th layer does not turn Q and K; 0: all do */
    bool full_is_unturned;    /* in a model with windows the layers that have none do not turn */
    float local_rope_theta;   /* of window layers where the file says nothing; 0: the same as the others */
    bool yarn_untruncated;    /* YaRN's ramp does not end at whole pairs */
    bool local_rope_unscaled; /* a scaling of RoPE is of the full layers alone */
    uint32_t wide_head_scale_layers; /* a model of so many layers scales q·k by n_embd/n_head, not by head_dim */
} family;

/* NULL if the name is not in the table. */
const family *family_find(const char *name, size_t n);
/* Rows in order; NULL past the end. */
const family *family_at(size_t index);

#endif
