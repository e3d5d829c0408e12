/*
 * Parts of the safetensors reader: config.json → GGUF's metadata keys, Hugging Face tensor names → GGUF's.
 * Owner: the model_file being filled. Lifetime: its own.
 *
 * Metadata made (ARCH is general.architecture; a key is absent where config.json says nothing and there is no default):
 *   general.architecture, .name, tokenizer.chat_template
 *   ARCH.block_count, .context_length, .embedding_length, .feed_forward_length, .vocab_size
 *   ARCH.attention.head_count, .head_count_kv, .key_length, .value_length, .layer_norm_rms_epsilon
 *   ARCH.attention.scale                  1/√query_pre_attn_scalar
 *   ARCH.attention.sliding_window         with .sliding_window_pattern, an array of one bool a layer, where layers
 *                                         differ
 *   ARCH.attn_logit_softcapping, .final_logit_softcapping, .embedding_scale, .residual_scale, .logit_scale
 *   ARCH.attention.temperature_scale, .temperature_length, .qk_norm, .hidden_activation, .interleave_moe_layer_step
 *   ARCH.attention.causal, .pooling_type, .classifier.pooling_type of encoders (.pooling_type by 1_Pooling)
 *   ARCH.attention.q_lora_rank, .kv_lora_rank of latent attention
 *   ARCH.headless                         1: it has no output matrix, and ties none
 *   ARCH.rope.freq_base, .freq_base_swa, .dimension_count, .dimension_sections (of m-RoPE)
 *   ARCH.rope.layers                      one number a layer, 0: it does not turn
 *   ARCH.rope.scaling.type                as config.json has it
 *   ARCH.rope.scaling.factor, .original_context_length
 *   ARCH.rope.scaling.attn_factor         YaRN: what multiplies cos and sin, where config.json fixes it
 *   ARCH.rope.scaling.yarn_beta_fast, .yarn_beta_slow, .yarn_truncate, .low_freq_factor, .high_freq_factor
 * Tensors of LongRoPE: rope_factors_long.weight and rope_factors_short.weight.
 *   tokenizer.ggml.bos_token_id, .eos_token_id, and .eos_token_ids (int32s) where there are several
 */
#ifndef MLXR_LOADERS_SAFETENSORS_H
#define MLXR_LOADERS_SAFETENSORS_H

#include <jansson.h>

#include "loaders/readers.h"
#include "loaders/safetensors_packed.h"

/* The texts beside the weights; {0} where absent. They outlive the model_file. */
typedef struct safetensors_texts {
    text_view config, generation_config, tokenizer_config, tokenizer_json, tokenizer_model, chat_template;
    text_view pooling;        /* sentence-transformers' 1_Pooling/config.json */
    const char *pooling_name; /* what that file is called; NULL: so */
    const char *name;         /* general.name, or NULL */
} safetensors_texts;

/* Which layers have windows. */
typedef enum hf_windows {
    HF_WINDOWS_NONE,     /* the class knows of none */
    HF_WINDOWS_ALL,      /* every layer, where sliding_window is a number */
    HF_WINDOWS_SOME,     /* layer_types, or the family's pattern */
    HF_WINDOWS_OPTIONAL, /* as use_sliding_window and max_window_layers decide */
    HF_WINDOWS_LATE,     /* layer_types, or from layer max_window_layers on, wherever sliding_window is a number */
    HF_WINDOWS_LISTED,   /* layer_types, or none */
    HF_WINDOWS_CHUNKS,   /* chunks: layer_types, or in layers that turn, wherever attention_chunk_size is a number */
} hf_windows;

/* Which words a class has for its tensors. */
typedef enum hf_words {
    HF_WORDS_LLAMA,
    HF_WORDS_BERT,
    HF_WORDS_NOMIC,
    HF_WORDS_MODERN,
    HF_WORDS_NEMOTRON,
    HF_WORDS_EXAONE,
    HF_WORDS_GPT2,
    HF_WORDS_NEOX
} hf_words;

/* What a class has in layers without attention, and so which words config.json has for it. Metadata made:
 *   ARCH.attention.recurrent_layers       an array of one bool a layer, of DeltaNet's models; .head_count_kv and
 *                                         .feed_forward_length of the others are arrays, 0: it has none
 *   ARCH.shortconv.l_cache, .ssm.conv_kernel, .ssm.state_size, .ssm.group_count, .ssm.time_step_rank, .ssm.inner_size
 *   ARCH.rope.scaling.finetuned           of Granite 4, 0: no layer turns
 *   ARCH.multipliers, .ssm.norm_before_gate of Falcon-H1: hparams.h */
typedef enum hf_mixer {
    HF_MIXER_NONE,
    HF_MIXER_CONV,    /* conv_… (LFM2) */
    HF_MIXER_DELTA,   /* linear_… (Qwen3-Next) */
    HF_MIXER_MAMBA,   /* mamba_… (Granite 4) */
    HF_MIXER_BESIDE,  /* the same in every layer, beside attention (Falcon-H1) */
    HF_MIXER_NEMOTRON /* Mamba's, the same with other words, and layers that are nothing but an MLP */
} hf_mixer;

/* What the names of norms mean: the same word stands for different ones. */
typedef enum hf_norms {
    HF_NORMS_TWO,
    HF_NORMS_POST /* GGUF calls both the same */,
    HF_NORMS_FOUR,
    HF_NORMS_AFTER,
    HF_NORMS_GLM,
    HF_NORMS_MLP
} hf_norms;

/* A class of config.json's "architectures" and the defaults its configuration has in transformers. Metadata made where
 * layers with windows have other heads than those without (Gemma 4):
 *   ARCH.attention.key_length_swa, .value_length_swa, ARCH.rope.dimension_count_swa; .head_count_kv is an array then
 *   ARCH.attention.shared_kv_layers, .embedding_length_per_layer_input; .feed_forward_length is an array where some
 *                                         layers' MLP is twice as wide
 * Proportional RoPE is the tensor rope_freqs.weight, which divides the frequency of a pair that does not turn by 1e30.
 */
typedef struct hf_class {
    const char *class_name, *model_type;
    const char *arch;       /* GGUF's */
    uint32_t n_head_kv;     /* 0: as many as query heads */
    uint32_t head_dim;      /* 0: hidden_size / heads */
    uint32_t head_dim_full; /* of layers without windows, which may have KV heads of their own, too; 0: the same */
    uint32_t n_embd_layer;  /* of the embedding that each layer has of its own; 0: none */
    uint32_t n_ctx;
    uint32_t window; /* of a model that says nothing; 0: none */
    hf_windows windows;
    bool tied;
    hf_norms norms;
    bool plus_one; /* norms store w where GGUF stores 1 + w */
    hf_words words;
    const char *folder;  /* around an encoder's tensors, in some checkpoints; NULL: none */
    bool both_ways;      /* config.json must say use_bidirectional_attention */
    uint32_t full_every; /* the first of every n layers has no window, where config.json lists none; 0: no rule */
    hf_mixer mixer;
    bool encoder;            /* no logits; `pooling` is GGUF's number for what makes a vector of a text by default */
    bool ranker;             /* with a head of one number it ranks texts (…ForSequenceClassification) */
    uint32_t first_position; /* rows of the table of positions that no token has */
    uint32_t pooling;
    bool layer_norm;                                 /* not RMS */
    const char *eps_key;                             /* NULL: rms_norm_eps */
    double eps;                                      /* 0: 1e-6 */
    double rotary_share;                             /* of a head; 0: all of it */
    bool attn_multiplier;                            /* attention_multiplier is the scale on q·k */
    double logit_scale, attn_softcap, final_softcap; /* of a model that says nothing */
    const char *ff_key;                              /* the width of dense MLPs; NULL: intermediate_size */
    bool experts;                                    /* a mixture of experts */
    bool experts_listed;                             /* … in the layers that moe_layers lists, or by a step */
    uint32_t n_dense;                                /* … behind so many layers of a model that says nothing */
    bool unmixed_weights;      /* of it: the weights of the chosen ones sum to 1 only where config.json says so */
    bool sigmoid_experts;      /* chosen by each number's own probability */
    bool columns;              /* matrices of layers have their inputs outermost */
    bool stacks_turned;        /* its stacks of experts have their inputs outermost, as first published, or innermost */
    bool shared_as_wide;       /* experts, and the MLP beside them that all share, are intermediate_size wide */
    bool parallel;             /* use_parallel_residual, which is true where config.json says nothing */
    bool clamps_qkv;           /* config.json may say how far Q, K and V go: clip_qkv */
    bool mup;                  /* embeddings are scaled by the root of their length only where mup_enabled says so */
    bool yarn_by_log;          /* GGUF has YaRN's mscale_all_dim instead of what cos and sin are multiplied with */
    bool latent;               /* keys and values are made of kv_lora_rank numbers */
    bool minicpm_scales;       /* scale_emb, scale_depth, dim_model_base */
    bool mtp;                  /* a head that predicts further tokens stands apart from the layers */
    bool mtp_left_out;         /* it has one ("mtp."), which its class does not look at */
    bool multi_query;          /* one KV head; config.json may say otherwise, which is another order of Q, K and V */
    bool rotary_dim;           /* config.json may say how many of a head turn */
    bool alpha;                /* RoPE's scaling "dynamic" may have an alpha, which makes another base */
    uint32_t no_rope_interval; /* 0: the class knows of no layers without RoPE */
    uint8_t rope_sections[4];  /* of m-RoPE, pairs; 0s: it has none */
    double rope_theta, rope_theta_local; /* local 0: the same everywhere */
    bool one_rope_theta;                 /* layers with windows have rope_theta, too, and only its scaling not */
    double query_scalar;                 /* 0: head_dim */
    const char *activation_key;          /* NULL: hidden_act */
    const char *activation;              /* of a model that says nothing; NULL: silu */
    const char *activation_too;          /* another one that config.json may ask for; NULL: none */
} hf_class;

const hf_class *hf_class_find_type(const char *model_type);

/* What to do with a tensor. */
typedef enum hf_fate { HF_KEEP, HF_SKIP } hf_fate;

/* How GGUF stores a tensor otherwise than the file does; any of them. */
enum {
    HF_PLUS_ONE = 1u << 0,   /* the file stores w, GGUF 1 + w */
    HF_TRANSPOSED = 1u << 1, /* a matrix, or each of a stack, has its inputs outermost */
    HF_POSITIONS = 1u << 3,  /* the first rows stand for padding, and GGUF has none */
    HF_ZIPPED = 1u << 2,     /* gate and up alternate, where GGUF has all of gate first */
    HF_MINUS_EXP = 1u << 4,  /* the file stores w, GGUF −eʷ */
    HF_COLUMN = 1u << 5,     /* a vector, where GGUF has a row an element */
    HF_SQUEEZED = 1u << 6,   /* [n, 1, m] is GGUF's [n, m] */
    HF_HALVES = 1u << 7,     /* the second half of the rows is a tensor of its own: "up" to what is called "gate" */
    HF_GROUPS = 1u << 8,     /* a vector, where GGUF has a row a group of Mamba's */
};

/* What config.json tells about names. Once the tensors are known, layers that predict further tokens count in
 * ARCH.block_count and in arrays of layers, and ARCH.nextn_predict_layers says how many they are. */
typedef struct hf_config {
    const hf_class *class; /* NULL: unknown, only general.architecture is filled */
    bool tied;
    bool masked;    /* it has a head that tells masked tokens (…ForMaskedLM), which is left out */
    bool ranks;     /* it has a head that makes one number of a text */
    bool headless;  /* no output matrix, where others of the class have one */
    uint32_t dense; /* the file is sentence-transformers' module of this number: layers behind pooling; 0: it is none */
    bool inner;     /* the language model of one that sees and hears, too, which is left out */
    bool no_experts; /* of a class with a mixture of experts: the model has none */
    uint32_t n_layers, n_embd;
    uint32_t n_groups; /* Mamba's */
    tensor extra[2];   /* made of config.json's numbers, in the region */
    uint32_t n_extra;
    hf_quant quant;
} hf_config;

/* NULL if the class is not known. Of one row are XForCausalLM, XModel and, where the row says so,
 * XForSequenceClassification; sets `ranks` and `headless`. */
const hf_class *hf_class_find(const char *class_name, hf_config *config);

/* A class whose tensors have this architecture's names; NULL: none. */
const hf_class *hf_class_of(const char *arch);

/* GGUF's name of a tensor, written to out[cap]; names we do not know stay, and all where the class is unknown. *change:
 * what has to be done to it. Skipped are tensors a model ignores: an output matrix where it is tied, buffers of old
 * checkpoints, heads that predict further tokens where none is known here. */
hf_fate hf_tensor_name(const hf_config *config, const char *name, char *out, size_t cap, unsigned *change);

/* What the class calls its output matrix. */
const char *hf_output_name(const hf_class *class);

/* Fills file->meta and *config from the texts. */
mlxr_status hf_config_read(model_file *file, const safetensors_texts *texts, hf_config *config, mlxr_error *error);

/* Parses a JSON object of at most JSON_TEXT_BYTES_MAX bytes; keys must not repeat. `name` begins error lines. The
 * caller ends it with json_decref. */
#define JSON_TEXT_BYTES_MAX ((size_t)32 << 20)
/* Any value; NULL after an error. */
mlxr_status safetensors_parse_any(json_t **out, text_view text, const char *name, mlxr_error *error);
mlxr_status safetensors_parse_json(json_t **out, text_view text, const char *name, mlxr_error *error);

/* The tensors of one weight file (region memory, data pointing into `bytes`), and the pieces of quantised ones. */
typedef struct tensor_list {
    tensor *tensors;
    const packed_weight **turned; /* [n]: how rows are made of those that are stored the other way round; else NULL */
    uint64_t n;
    packed_pieces packed;
} tensor_list;
mlxr_status safetensors_read_part(tensor_list *out, const mapping *bytes, const char *name, const hf_config *config,
                                  region *memory, mlxr_error *error);

/* A model of one weight file from memory, which must outlive the model_file. */
mlxr_status safetensors_open_memory(model_file **out, const safetensors_texts *texts, const void *weights,
                                    size_t n_bytes, mlxr_error *error);
/* The last steps of reading: texts, tensors and index of names. */
mlxr_status safetensors_finish(model_file *file, const safetensors_texts *texts, const hf_config *config,
                               const tensor_list *parts, uint32_t n_parts, mlxr_error *error);

#endif
