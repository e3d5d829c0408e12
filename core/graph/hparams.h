/*
 * Hyper-parameters of one model: the numbers its file gives, checked and completed by its family's rules.
 * Owner: the model's graph. Lifetime: the model's. Immutable after reading.
 */
#ifndef MLXR_GRAPH_HPARAMS_H
#define MLXR_GRAPH_HPARAMS_H

#include "graph/family.h"
#include "loaders/model_file.h"

#define HPARAMS_LAYERS_MAX 1024u

typedef enum rope_scaling_kind {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_YARN,
    ROPE_SCALING_LLAMA3,
    ROPE_SCALING_LONGROPE,
    ROPE_SCALING_NTK
} rope_scaling_kind;

/* See graph/rope.h for what the fields do. 0 in attn_factor: the kind's own default. */
typedef struct rope_scaling {
    rope_scaling_kind kind;
    float factor;
    float attn_factor;
    float beta_fast, beta_slow;              /* YaRN */
    float low_freq_factor, high_freq_factor; /* Llama 3 */
    bool untruncated;                        /* YaRN: the ramp's ends are no whole pairs */
    uint32_t n_ctx_orig;
} rope_scaling;

typedef enum layer_kind { LAYER_ATTENTION, LAYER_MIXER, LAYER_MLP /* of families with one block a layer */ } layer_kind;

/* xIELU's numbers of each layer, as GGUF's metadata have them; of safetensors they are tensors. */
enum { XIELU_FALL, XIELU_RISE, XIELU_SLOPE, XIELU_LIMIT, XIELU_NUMBERS };

/* Falcon-H1's multipliers, in the order in which the file lists them: of what attention reads, its keys, what it gives;
 * of what the mixer reads, of its gate, values, keys, queries and steps, what it gives; of the MLP's gate, what it
 * gives.
 */
enum {
    TIMES_ATTN_IN,
    TIMES_KEY,
    TIMES_ATTN_OUT,
    TIMES_MIXER_IN,
    TIMES_Z,
    TIMES_V,
    TIMES_K,
    TIMES_Q,
    TIMES_STEP,
    TIMES_MIXER_OUT,
    TIMES_GATE,
    TIMES_DOWN,
    TIMES_COUNT
};

typedef struct hparams {
    const family *fam;
    uint32_t n_layers, n_embd, n_head, n_head_kv, head_dim, n_ff, n_vocab, n_ctx_train;
    uint32_t n_rot;
    uint32_t n_head_kv_window, head_dim_window, n_rot_window; /* of window layers */
    bool fused_qkv;            /* one tensor holds the rows of Q, K and V, as it may in any family … */
    bool qkv_by_heads;         /* … head by head */
    bool parallel;             /* attention and MLP read the same X */
    uint32_t n_layers_reading; /* the last ones, which read what the last of their kind before them wrote */
    uint32_t n_embd_layer;     /* elements of the embedding that each layer has of its own; 0: there are none */
    uint32_t n_vocab_said;     /* rows of the embedding that config.json says there are; 0: it says nothing */
    uint32_t n_token_types;    /* rows of token_types; 0: the file does not say */
    bool needs_token_types;    /* it has them: other programs write 1 for an encoder without any */
    activation act;            /* of MLPs: the family's, or what the file says */
    float norm_eps;
    float attn_scale;
    float attn_softcap, final_softcap; /* 0: none */
    float embedding_scale, residual_scale, logit_scale;
    float qkv_limit;                        /* Q, K and V are kept within it; 0: none */
    const meta_value *xielu[XIELU_NUMBERS]; /* [n_layers] numbers, or one of all; NULL: none */
    float attn_temperature;                 /* of far queries; 0: none */
    uint32_t temperature_span;              /* by so many positions */
    uint32_t window;                        /* of window layers; 0: there are none */
    bool qk_norm_bare;                      /* there is one of each head without a weight */
    /* A mixture of experts; n_expert 0: there is none. */
    uint32_t n_expert, n_expert_used, n_ff_expert, n_ff_shared;
    uint32_t n_layers_dense;  /* the first layers, and … */
    uint32_t expert_step;     /* … of every so many all but the last are dense */
    uint32_t n_expert_latent; /* of what experts read and give instead of X; 0: X itself */
    uint32_t n_expert_groups, n_expert_groups_used;
    bool groups_by_best; /* of these experts */
    /* Latent attention: head_dim is n_nope + n_rot, as keys have it; n_latent_q 0: queries are made at once. */
    uint32_t n_latent_q, n_latent_kv, n_nope, head_v;
    uint32_t n_layers_ahead; /* behind the last layer: they predict further tokens; the first of them is used */
    bool predicts_ahead;     /* there is one, the family is known to have it, and a tensor of the first is in the
                              * file; binding names what is missing */
    routing_kind routing;
    bool normalise_experts;
    uint32_t pooling; /* GGUF's pooling_type: 1 mean, 2 first token, 3 last token; 0: the file says nothing */
    bool headless;    /* no output matrix: it gives hidden states alone */
    bool cls_biased;  /* its first layer has a bias, as the file says */
    bool ranks;       /* … 4: a head makes one number of what is pooled so */
    float expert_scale;
    /* Mixers: a convolution over conv_rows rows of conv_width channels, and a state of mixer_heads heads
     * [head_k][head_v] of which n_mixer_heads_k have keys and queries of their own; 0 heads: the convolution is all. */
    bool mixer_norm_first;    /* before its gate, not behind it */
    float times[TIMES_COUNT]; /* 1: none */
    uint32_t conv_rows, conv_width, n_mixer_heads, n_mixer_heads_k, mixer_head_k, mixer_head_v;
    uint32_t layer_ff[HPARAMS_LAYERS_MAX];   /* of its dense MLP; n_ff is the widest */
    uint8_t layer_kinds[HPARAMS_LAYERS_MAX]; /* layer_kind */
    bool layer_has_window[HPARAMS_LAYERS_MAX];
    bool layer_is_unturned[HPARAMS_LAYERS_MAX]; /* no RoPE */
    float rope_theta, rope_theta_local;
    bool rope_is_long;         /* LongRoPE: the context is longer than the original one */
    float yarn_log_multiplier; /* as the file has it; 0: none */
    /* What options made of it (graph/rope_extend.h). */
    uint32_t n_ctx;         /* of sequences: n_ctx_train, less where less was asked for, more where RoPE is stretched */
    uint32_t n_ctx_from;    /* what the model reads without the options, or without what they took away */
    bool n_ctx_from_named;  /* by the options */
    bool rope_changed;      /* frequencies or magnitudes are not those of the file */
    bool rope_slower;       /* the base is above the file's */
    bool rope_factored;     /* the file has factors for pairs that turn … */
    bool rope_unfactored;   /* … or had: they are left out */
    uint32_t n_pairs_still; /* proportional RoPE: pairs of the file's factors that do not turn */
    float rope_stretch;     /* every frequency is divided by it, whatever its scaling gave; 1: by nothing more */
    const char *rope_lost;  /* the file's own scaling that options took away; NULL: none */
    float rope_lost_factor;
    rope_scaling scaling; /* of full-attention layers (of all where there is no local theta) */
} hparams;

/* Of latent attention, what is cached of a token: the turned part of all heads' keys, then the latent numbers. */
static inline uint32_t hparams_latent_row(const hparams *h)
{
    return h->n_rot + h->n_latent_kv;
}

static inline bool hparams_is_sparse(const hparams *h, uint32_t layer)
{
    return h->n_expert > 0 && layer >= h->n_layers_dense && (layer + 1) % h->expert_step == 0;
}

/* Has a layer a dense MLP, alone or beside its experts? */
static inline bool hparams_is_dense(const hparams *h, uint32_t layer)
{
    return !hparams_is_sparse(h, layer) || h->fam->experts_beside;
}

static inline uint32_t hparams_expert_in(const hparams *h)
{
    return h->n_expert_latent ? h->n_expert_latent : h->n_embd;
}

static inline bool hparams_reads_kv(const hparams *h, uint32_t layer)
{
    return h->n_layers_reading > 0 && layer + h->n_layers_reading >= h->n_layers;
}

static inline uint32_t hparams_head_dim(const hparams *h, uint32_t layer)
{
    return h->layer_has_window[layer] ? h->head_dim_window : h->head_dim;
}

static inline uint32_t hparams_n_head_kv(const hparams *h, uint32_t layer)
{
    return h->layer_has_window[layer] ? h->n_head_kv_window : h->n_head_kv;
}

static inline bool hparams_has_mlp(const hparams *h, uint32_t layer)
{
    return !h->fam->one_block || h->layer_kinds[layer] == LAYER_MLP;
}

static inline bool hparams_mixes(const hparams *h, uint32_t layer)
{
    return h->layer_kinds[layer] == LAYER_MIXER || (h->fam->mixer_beside && h->layer_kinds[layer] == LAYER_ATTENTION);
}

/* Layers that are bound: those of the model, and the first that predicts ahead. */
static inline uint32_t hparams_layers_bound(const hparams *h)
{
    return h->n_layers + h->predicts_ahead;
}

/* Elements of a mixer's output, and of its keys. */
static inline uint32_t hparams_mixer_width(const hparams *h)
{
    return h->fam->mixer == MIXER_CONV ? h->n_embd : h->n_mixer_heads * h->mixer_head_v;
}
static inline uint32_t hparams_mixer_keys(const hparams *h)
{
    return h->n_mixer_heads_k * h->mixer_head_k;
}

/* Layers of the model itself, without those that predict ahead; UINT32_MAX: the file does not say. */
uint32_t hparams_layers_own(const model_file *file);

/* Reads and checks everything; errors name the key, the value and what would be right. */
mlxr_status hparams_read(hparams *out, const model_file *file, mlxr_error *error);

#endif
