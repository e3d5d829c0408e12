/*
 * Hugging Face tensor names.
 * Owner: none; const tables. Lifetime: static.
 */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "loaders/safetensors.h"

/* Stems; ".weight" and ".bias" follow. */
typedef struct stem {
    const char *theirs, *ours;
    bool norm;
} stem;

static const stem layer_stems[] = {
    {"input_layernorm", "attn_norm", true},
    {"attention_layernorm", "attn_norm", true}, /* Apertus */
    {"feedforward_layernorm", "ffn_norm", true},
    {"self_attn.q_proj", "attn_q", false},
    {"self_attn.k_proj", "attn_k", false},
    {"self_attn.v_proj", "attn_v", false},
    {"self_attn.o_proj", "attn_output", false},
    {"self_attn.q_norm", "attn_q_norm", true},
    {"self_attn.k_norm", "attn_k_norm", true},
    {"mlp.gate_proj", "ffn_gate", false},
    {"mlp.up_proj", "ffn_up", false},
    {"mlp.down_proj", "ffn_down", false},
    {"self_attn.qkv_proj", "attn_qkv", false},
    {"mlp.gate_up_proj", "ffn_up", false},
    {"mlp.gate", "ffn_gate_inp", false},
    {"mlp.router", "ffn_gate_inp", false},
    {"mlp.router.gate", "ffn_gate_inp", false},
    {"self_attn.gate_proj", "attn_gate", false},
    {"block_sparse_moe.gate", "ffn_gate_inp", false},
    {"block_sparse_moe.router.layer", "ffn_gate_inp", false},
    {"block_sparse_moe.input_linear", "ffn_gate_up_exps", false},
    {"block_sparse_moe.output_linear", "ffn_down_exps", false},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp", false},
    {"mlp.shared_experts.up_proj", "ffn_up_shexp", false},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp", false},
    {"operator_norm", "attn_norm", true},
    {"ffn_norm", "ffn_norm", true},
    {"self_attn.q_layernorm", "attn_q_norm", true},
    {"self_attn.k_layernorm", "attn_k_norm", true},
    {"self_attn.out_proj", "attn_output", false},
    {"feed_forward.w1", "ffn_gate", false},
    {"feed_forward.w3", "ffn_up", false},
    {"feed_forward.w2", "ffn_down", false},
    {"feed_forward.gate", "ffn_gate_inp", false},
    {"feed_forward.router", "ffn_gate_inp", false},
    {"feed_forward.gate_proj", "ffn_gate", false},
    {"feed_forward.up_proj", "ffn_up", false},
    {"feed_forward.down_proj", "ffn_down", false},
    {"feed_forward.shared_expert.gate_proj", "ffn_gate_shexp", false},
    {"feed_forward.shared_expert.up_proj", "ffn_up_shexp", false},
    {"feed_forward.shared_expert.down_proj", "ffn_down_shexp", false},
    {"conv.in_proj", "shortconv.in_proj", false},
    {"conv.conv", "shortconv.conv", false},
    {"conv.out_proj", "shortconv.out_proj", false},
    {"linear_attn.in_proj_qkvz", "ssm_in", false},
    {"linear_attn.in_proj_qkv", "attn_qkv", false},
    {"linear_attn.in_proj_z", "attn_gate", false},
    {"linear_attn.in_proj_ba", "ssm_ba", false},
    {"linear_attn.in_proj_b", "ssm_beta", false},
    {"linear_attn.in_proj_a", "ssm_alpha", false},
    {"linear_attn.conv1d", "ssm_conv1d", false},
    {"linear_attn.norm", "ssm_norm", false}, /* holds w, where the others hold w − 1 */
    {"linear_attn.out_proj", "ssm_out", false},
    {"mlp.shared_expert.gate_proj", "ffn_gate_shexp", false},
    {"mlp.shared_expert.up_proj", "ffn_up_shexp", false},
    {"mlp.shared_expert.down_proj", "ffn_down_shexp", false},
    {"mlp.shared_expert_gate", "ffn_gate_inp_shexp", false},
    {"mamba.in_proj", "ssm_in", false},
    {"mamba.conv1d", "ssm_conv1d", false},
    {"mamba.norm", "ssm_norm", false},
    {"mamba.out_proj", "ssm_out", false},
    {"shared_mlp.input_linear", "ffn_gate_shexp", false},
    {"shared_mlp.output_linear", "ffn_down_shexp", false},
    {"self_attn.q_a_proj", "attn_q_a", false},
    {"self_attn.q_a_layernorm", "attn_q_a_norm", true},
    {"self_attn.q_b_proj", "attn_q_b", false},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", false},
    {"self_attn.kv_a_layernorm", "attn_kv_a_norm", true},
    {"self_attn.kv_b_proj", "attn_kv_b", false},
    {"router.proj", "ffn_gate_inp", false},
    {"pre_feedforward_layernorm_2", "pre_ffw_norm_2", true},
    {"post_feedforward_layernorm_1", "post_ffw_norm_1", true},
    {"post_feedforward_layernorm_2", "post_ffw_norm_2", true},
    {"per_layer_input_gate", "inp_gate", false},
    {"per_layer_projection", "proj", false},
    {"post_per_layer_input_norm", "post_norm", true},
    {"self_attn.query_layernorm", "attn_q_norm", true},
    {"self_attn.key_layernorm", "attn_k_norm", true},
    {"mlp.gate.wg", "ffn_gate_inp", false},
    {"mlp.shared_mlp.gate_proj", "ffn_gate_shexp", false},
    {"mlp.shared_mlp.up_proj", "ffn_up_shexp", false},
    {"mlp.shared_mlp.down_proj", "ffn_down_shexp", false},
    {"self_attn.dense", "attn_output", false},
    {"mlp.fc1", "ffn_up", false},
    {"mlp.fc2", "ffn_down", false},
    {"mlp.c_fc", "ffn_up", false},
    {"mlp.c_proj", "ffn_down", false},
    {"eh_proj", "nextn.eh_proj", false}, /* of a layer that predicts ahead */
    {"enorm", "nextn.enorm", true},
    {"hnorm", "nextn.hnorm", true},
    {"shared_head.norm", "nextn.shared_head_norm", true},
    {"shared_head.head", "nextn.shared_head_head", false},
    {"embed_tokens", "nextn.embed_tokens", false},
};
/* Qwen's head that predicts ahead, beside its layer. */
static const stem mtp_stems[] = {
    {"fc", "eh_proj", false},           {"pre_fc_norm_embedding", "enorm", true}, {"pre_fc_norm_hidden", "hnorm", true},
    {"norm", "shared_head_norm", true}, {"embed_tokens", "embed_tokens", false},
};
/* The same word stands for the norm before the MLP, and in others for the one after attention. */
static const stem two_norms[] = {{"post_attention_layernorm", "ffn_norm", true}};
static const stem post_norms[] = {{"post_attention_layernorm", "post_attention_norm", true}};
static const stem four_norms[] = {
    {"post_attention_layernorm", "post_attention_norm", true},
    {"pre_feedforward_layernorm", "ffn_norm", true},
    {"post_feedforward_layernorm", "post_ffw_norm", true},
};
static const stem glm_norms[] = {
    {"post_self_attn_layernorm", "post_attention_norm", true},
    {"post_attention_layernorm", "ffn_norm", true},
    {"post_mlp_layernorm", "post_ffw_norm", true},
};
static const stem mlp_norms[] = {
    {"post_attention_layernorm", "post_attention_norm", true},
    {"pre_mlp_layernorm", "ffn_norm", true},
    {"post_mlp_layernorm", "post_ffw_norm", true},
};
static const stem global_stems[] = {
    {"model.embed_tokens", "token_embd", false},
    {"model.norm", "output_norm", true},
    {"model.final_layernorm", "output_norm", true},
    {"model.embedding_norm", "token_embd_norm", true}, /* LFM2's last norm */
    {"model.embed_tokens_per_layer", "per_layer_token_embd", false},
    {"model.per_layer_model_projection", "per_layer_model_proj", false},
    {"model.per_layer_projection_norm", "per_layer_proj_norm", true},
    {"lm_head", "output", false},
    {"score", "cls.output", false},
};

static const stem nemotron_layer_stems[] = {
    {"norm", "attn_norm", true},
    {"mixer.q_proj", "attn_q", false},
    {"mixer.k_proj", "attn_k", false},
    {"mixer.v_proj", "attn_v", false},
    {"mixer.o_proj", "attn_output", false},
    {"mixer.in_proj", "ssm_in", false},
    {"mixer.conv1d", "ssm_conv1d", false},
    {"mixer.norm", "ssm_norm", false},
    {"mixer.out_proj", "ssm_out", false},
    {"mixer.up_proj", "ffn_up", false},
    {"mixer.down_proj", "ffn_down", false},
    {"mixer.gate", "ffn_gate_inp", false},
    {"mixer.shared_experts.up_proj", "ffn_up_shexp", false},
    {"mixer.shared_experts.down_proj", "ffn_down_shexp", false},
    {"mixer.fc1_latent_proj", "ffn_latent_down", false},
    {"mixer.fc2_latent_proj", "ffn_latent_up", false},
};
static const stem nemotron_global_stems[] = {
    {"backbone.embeddings", "token_embd", false},
    {"backbone.norm_f", "output_norm", true},
    {"lm_head", "output", false},
};

static const stem bert_layer_stems[] = {
    {"attention.self.query", "attn_q", false},
    {"attention.self.key", "attn_k", false},
    {"attention.self.value", "attn_v", false},
    {"attention.output.dense", "attn_output", false},
    {"attention.output.LayerNorm", "attn_output_norm", true},
    {"intermediate.dense", "ffn_up", false},
    {"output.dense", "ffn_down", false},
    {"output.LayerNorm", "layer_output_norm", true},
};
static const stem bert_global_stems[] = {
    {"embeddings.word_embeddings", "token_embd", false},
    {"embeddings.position_embeddings", "position_embd", false},
    {"embeddings.token_type_embeddings", "token_types", false},
    {"embeddings.LayerNorm", "token_embd_norm", true},
    {"classifier.dense", "cls", false},
    {"classifier.out_proj", "cls.output", false},
    {"pooler.dense", "cls", false},
    {"classifier", "cls.output", false},
};

/* The words of the model's first checkpoints, and of transformers. */
static const stem nomic_layer_stems[] = {
    {"attn.Wqkv", "attn_qkv", false},
    {"attn.out_proj", "attn_output", false},
    {"self_attn.o_proj", "attn_output", false},
    {"norm1", "attn_output_norm", true},
    {"post_attention_layernorm", "attn_output_norm", true},
    {"mlp.fc11", "ffn_up", false},
    {"mlp.up_proj", "ffn_up", false},
    {"mlp.fc12", "ffn_gate", false},
    {"mlp.gate_proj", "ffn_gate", false},
    {"mlp.fc2", "ffn_down", false},
    {"mlp.down_proj", "ffn_down", false},
    {"norm2", "layer_output_norm", true},
    {"post_mlp_layernorm", "layer_output_norm", true},
};
static const stem nomic_global_stems[] = {
    {"embeddings.word_embeddings", "token_embd", false},
    {"embeddings.token_type_embeddings", "token_types", false},
    {"emb_ln", "token_embd_norm", true},
    {"embeddings.LayerNorm", "token_embd_norm", true},
};

static const stem modern_layer_stems[] = {
    {"attn_norm", "attn_norm", true}, {"attn.Wqkv", "attn_qkv", false}, {"attn.Wo", "attn_output", false},
    {"mlp_norm", "ffn_norm", true},   {"mlp.Wi", "ffn_up", false},      {"mlp.Wo", "ffn_down", false},
};
static const stem modern_global_stems[] = {
    {"embeddings.tok_embeddings", "token_embd", false},
    {"embeddings.norm", "token_embd_norm", true},
    {"final_norm", "output_norm", true},
    {"head.dense", "cls", false},
    {"head.norm", "cls.norm", true},
    {"classifier", "cls.output", false},
};

static const stem gpt2_layer_stems[] = {
    {"ln_1", "attn_norm", true}, {"attn.c_attn", "attn_qkv", false}, {"attn.c_proj", "attn_output", false},
    {"ln_2", "ffn_norm", true},  {"mlp.c_fc", "ffn_up", false},      {"mlp.c_proj", "ffn_down", false},
};
static const stem gpt2_global_stems[] = {
    {"wte", "token_embd", false},
    {"wpe", "position_embd", false},
    {"ln_f", "output_norm", true},
    {"lm_head", "output", false},
};
static const stem neox_layer_stems[] = {
    {"input_layernorm", "attn_norm", true},    {"attention.query_key_value", "attn_qkv", false},
    {"attention.dense", "attn_output", false}, {"post_attention_layernorm", "ffn_norm", true},
    {"mlp.dense_h_to_4h", "ffn_up", false},    {"mlp.dense_4h_to_h", "ffn_down", false},
};
static const stem neox_global_stems[] = {
    {"embed_in", "token_embd", false},
    {"final_layer_norm", "output_norm", true},
    {"embed_out", "output", false},
};
/* EXAONE 3's, which are much like GPT-2's. */
static const stem exaone_layer_stems[] = {
    {"ln_1", "attn_norm", true},
    {"attn.attention.q_proj", "attn_q", false},
    {"attn.attention.k_proj", "attn_k", false},
    {"attn.attention.v_proj", "attn_v", false},
    {"attn.attention.out_proj", "attn_output", false},
    {"ln_2", "ffn_norm", true},
    {"mlp.c_fc_0", "ffn_gate", false},
    {"mlp.c_fc_1", "ffn_up", false},
    {"mlp.c_proj", "ffn_down", false},
};
static const stem exaone_global_stems[] = {
    {"transformer.wte", "token_embd", false},
    {"transformer.ln_f", "output_norm", true},
    {"lm_head", "output", false},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What a class's words are, and what stands before a layer's number. */
static const struct {
    const char *layers;
    const stem *layer, *global;
    size_t n_layer, n_global;
} vocabularies[] = {
    [HF_WORDS_LLAMA] = {"model.layers.", layer_stems, global_stems, COUNT(layer_stems), COUNT(global_stems)},
    [HF_WORDS_BERT] = {"encoder.layer.", bert_layer_stems, bert_global_stems, COUNT(bert_layer_stems),
                       COUNT(bert_global_stems)},
    [HF_WORDS_NOMIC] = {"layers.", nomic_layer_stems, nomic_global_stems, COUNT(nomic_layer_stems),
                        COUNT(nomic_global_stems)},
    [HF_WORDS_MODERN] = {"layers.", modern_layer_stems, modern_global_stems, COUNT(modern_layer_stems),
                         COUNT(modern_global_stems)},
    [HF_WORDS_GPT2] = {"h.", gpt2_layer_stems, gpt2_global_stems, COUNT(gpt2_layer_stems), COUNT(gpt2_global_stems)},
    [HF_WORDS_NEOX] = {"layers.", neox_layer_stems, neox_global_stems, COUNT(neox_layer_stems),
                       COUNT(neox_global_stems)},
    [HF_WORDS_EXAONE] = {"transformer.h.", exaone_layer_stems, exaone_global_stems, COUNT(exaone_layer_stems),
                         COUNT(exaone_global_stems)},
    [HF_WORDS_NEMOTRON] = {"backbone.layers.", nemotron_layer_stems, nemotron_global_stems, COUNT(nemotron_layer_stems),
                           COUNT(nemotron_global_stems)},
};

static const stem *find_stem(const stem *stems, size_t n_stems, const char *name, size_t n)
{
    for (size_t i = 0; i < n_stems; i++) {
        if (strlen(stems[i].theirs) == n && memcmp(stems[i].theirs, name, n) == 0) {
            return &stems[i];
        }
    }
    return NULL;
}

static const stem *find_norm(hf_norms kind, const char *name, size_t n)
{
    switch (kind) {
    case HF_NORMS_TWO:
        return find_stem(two_norms, COUNT(two_norms), name, n);
    case HF_NORMS_POST:
        return find_stem(post_norms, COUNT(post_norms), name, n);
    case HF_NORMS_GLM:
        return find_stem(glm_norms, COUNT(glm_norms), name, n);
    case HF_NORMS_MLP:
        return find_stem(mlp_norms, COUNT(mlp_norms), name, n);
    case HF_NORMS_FOUR:
    case HF_NORMS_AFTER: /* the same without those before a block */
        break;
    }
    return find_stem(four_norms, COUNT(four_norms), name, n);
}

/* prefix "model.layers.": "model.layers.12." → 12 and what follows; NULL if it is not that. At most six digits, as
 * `blk.12.` could say it. */
static const char *skip_layer(const char *prefix, const char *name, unsigned *layer)
{
    if (strncmp(name, prefix, strlen(prefix)) != 0) {
        return NULL;
    }
    const char *digits = name + strlen(prefix);
    size_t n = strspn(digits, "0123456789");
    if (n == 0 || n > 6 || (n > 1 && digits[0] == '0') || digits[n] != '.') {
        return NULL;
    }
    *layer = 0;
    for (size_t i = 0; i < n; i++) {
        *layer = *layer * 10 + (unsigned)(digits[i] - '0');
    }
    return digits + n + 1;
}

/* The bytes before ".weight" or ".bias"; 0 if there is neither. */
static size_t stem_length(const char *name)
{
    static const char *const ends[] = {".weight", ".bias"};
    for (size_t i = 0; i < COUNT(ends); i++) {
        if (text_ends_with(name, ends[i])) {
            return strlen(name) - strlen(ends[i]);
        }
    }
    return 0;
}

/* Names that do not end in ".weight" or ".bias". */
static const struct {
    const char *theirs, *ours;
    unsigned change;
} whole_names[] = {
    {"pre_ff_layernorm.weight", "ffn_norm", 0}, /* so GGUF calls Falcon-H1's */
    {"self_attn.sinks", "attn_sinks.weight", 0},
    {"linear_attn.A_log", "ssm_a", HF_MINUS_EXP},
    {"linear_attn.dt_bias", "ssm_dt.bias", 0},
    {"mamba.A_log", "ssm_a", HF_MINUS_EXP | HF_COLUMN},
    {"mamba.D", "ssm_d", HF_COLUMN},
    {"mamba.dt_bias", "ssm_dt.bias", 0},
    {"mixer.A_log", "ssm_a", HF_MINUS_EXP | HF_COLUMN},
    {"mixer.D", "ssm_d", HF_COLUMN},
    {"mixer.dt_bias", "ssm_dt.bias", 0},
    {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias", 0},
    {"mixer.gate.e_score_correction_bias", "exp_probs_b.bias", 0},
    {"mlp.moe_statics.e_score_correction_bias", "exp_probs_b.bias", 0},
    {"block_sparse_moe.e_score_correction_bias", "exp_probs_b.bias", 0},
    {"mixer.experts.up_proj", "ffn_up_exps.weight", 0},
    {"mixer.experts.down_proj", "ffn_down_exps.weight", 0},
    {"mlp.experts.gate_up_proj", "ffn_gate_up_exps.weight", HF_TRANSPOSED | HF_ZIPPED},
    {"mlp.experts.gate_up_proj_bias", "ffn_gate_up_exps.bias", HF_ZIPPED},
    {"mlp.experts.down_proj", "ffn_down_exps.weight", HF_TRANSPOSED},
    {"mlp.experts.down_proj_bias", "ffn_down_exps.bias", 0},
    {"feed_forward.expert_bias", "exp_probs_b.bias", 0},
    {"mlp.act_fn.alpha_n", "ffn_act.alpha_n", 0},
    {"mlp.act_fn.alpha_p", "ffn_act.alpha_p", 0},
    {"mlp.act_fn.beta", "ffn_act.beta", 0},
    {"mlp.act_fn.eps", "ffn_act.eps", 0},
    {"mlp.expert_bias", "exp_probs_b.bias", 0},
    {"feed_forward.experts.gate_up_proj", "ffn_gate_up_exps.weight", HF_TRANSPOSED},
    {"feed_forward.experts.down_proj", "ffn_down_exps.weight", HF_TRANSPOSED},
    {"experts.gate_up_proj", "ffn_gate_up_exps.weight", 0},
    {"experts.down_proj", "ffn_down_exps.weight", 0},
    {"router.scale", "ffn_gate_inp.scale", 0},
    {"router.per_expert_scale", "ffn_down_exps.scale", 0},
    {"layer_scalar", "layer_output_scale.weight", 0},
};

/* "mlp.experts.7.up_proj.weight" → "ffn_up.7.weight". */
static bool expert_name(const char *name, char *out, size_t cap)
{
    static const char *const folders[] = {"mlp.experts.", "block_sparse_moe.experts.", "feed_forward.experts.",
                                          "mixer.experts."};
    static const char *const theirs[] = {"gate_proj", "up_proj", "down_proj", "w1", "w3", "w2"};
    static const char *const ours[] = {"gate", "up", "down"};
    for (size_t i = 0; i < COUNT(folders); i++) {
        size_t n = strlen(folders[i]), n_digits = 0;
        if (strncmp(name, folders[i], n) != 0) {
            continue;
        }
        n_digits = strspn(name + n, "0123456789");
        const char *part = name + n + n_digits + 1;
        for (size_t j = 0; n_digits > 0 && n_digits < 5 && name[n + n_digits] == '.' && j < COUNT(theirs); j++) {
            size_t n_part = strlen(theirs[j]);
            if (strncmp(part, theirs[j], n_part) == 0 && strcmp(part + n_part, ".weight") == 0) {
                snprintf(out, cap, "ffn_%s.%.*s.weight", ours[j % COUNT(ours)], (int)n_digits, name + n);
                return true;
            }
        }
    }
    return false;
}

/* How GGUF has tensors of mixers otherwise, by GGUF's names; of Granite's MLP, which is called an expert that all
 * tokens share even where there are no others. */
static unsigned mixer_change(const hf_config *config, char *ours)
{
    bool mamba = config->class->mixer >= HF_MIXER_MAMBA;
    char *shared = config->class->mixer == HF_MIXER_MAMBA ? strstr(ours, "_shexp") : NULL;
    if (shared) {
        unsigned change = strncmp(ours, "ffn_gate", 8) == 0 ? HF_HALVES : 0;
        if (config->no_experts) {
            memmove(shared, shared + 6, strlen(shared + 6) + 1);
        }
        return change;
    }
    if (strcmp(ours, "ssm_conv1d.weight") == 0 || strcmp(ours, "shortconv.conv.weight") == 0) {
        return HF_SQUEEZED;
    }
    return mamba && strcmp(ours, "ssm_norm.weight") == 0 ? HF_GROUPS : 0;
}

/* GGUF's name of a layer's tensor, behind "blk.<i>."; false: not known. */
static bool layer_name(const hf_config *config, const char *rest, char *out, size_t cap, unsigned *change)
{
    const hf_class *class = config->class;
    for (size_t i = 0; i < COUNT(whole_names); i++) {
        if (strcmp(rest, whole_names[i].theirs) == 0) {
            snprintf(out, cap, "%s", whole_names[i].ours);
            *change = whole_names[i].change;
            return true;
        }
    }
    if (expert_name(rest, out, cap)) {
        return true;
    }
    size_t n = stem_length(rest);
    const stem *found = find_stem(vocabularies[class->words].layer, vocabularies[class->words].n_layer, rest, n);
    if (!found && class->words == HF_WORDS_LLAMA) {
        found = find_norm(class->norms, rest, n);
    }
    if (found) {
        snprintf(out, cap, "%s%s", found->ours, rest + n);
        *change = found->norm && class->plus_one && strcmp(rest + n, ".weight") == 0 ? HF_PLUS_ONE : 0;
        *change |= class->mixer ? mixer_change(config, out) : 0;
        bool matrix = !found->norm && strcmp(rest + n, ".weight") == 0;
        *change |= class->columns && matrix ? HF_TRANSPOSED : 0;
    }
    return found != NULL;
}

/* Models without a head are saved without the folder that the others have around them, and encoders with one have one.
 */
static const char *in_folder(const hf_class *class, const char *name, char *whole, size_t cap)
{
    if (class->words != HF_WORDS_LLAMA) {
        static const char nomic[] = "nomic_bert."; /* transformers', around what may be in the older folder */
        if (class->words == HF_WORDS_NOMIC && strncmp(name, nomic, sizeof nomic - 1) == 0) {
            name += sizeof nomic - 1;
        }
        size_t n = class->folder ? strlen(class->folder) : 0;
        return n && strncmp(name, class->folder, n) == 0 ? name + n : name;
    }
    if (strncmp(name, "layers.", 7) == 0 || strncmp(name, "embed_tokens.", 13) == 0 || strncmp(name, "norm.", 5) == 0) {
        snprintf(whole, cap, "model.%s", name);
        return whole;
    }
    return name;
}

/* The name of a language model's tensor inside a model that sees and hears, as it is called where it stands alone;
 * NULL: it is of another part. */
static const char *inner_name(const char *name, char *out, size_t cap)
{
    static const char *const others[] = {"vision", "audio", "visual", "embed_vision", "embed_audio", "multi_modal"};
    static const struct {
        const char *theirs, *ours;
    } folders[] = {{"model.language_model.", "model."}, {"language_model.model.", "model."}, {"language_model.", ""}};
    const char *part = strncmp(name, "model.", 6) == 0 ? name + 6 : name;
    for (size_t i = 0; i < COUNT(others); i++) {
        if (strncmp(part, others[i], strlen(others[i])) == 0) {
            return NULL;
        }
    }
    for (size_t i = 0; i < COUNT(folders); i++) {
        size_t n = strlen(folders[i].theirs);
        if (strncmp(name, folders[i].theirs, n) == 0) {
            snprintf(out, cap, "%s%s", folders[i].ours, name + n);
            return out;
        }
    }
    return name;
}

/* Tensors of a head that stand apart from the layers: "mtp.layers.0.…" is the layer behind the last one. */
static void mtp_name(const hf_config *config, const char *part, char *out, size_t cap, unsigned *change)
{
    char ours[96];
    unsigned layer = 0;
    const char *rest = skip_layer("layers.", part, &layer);
    if (rest) {
        if (layer_name(config, rest, ours, sizeof ours, change)) {
            snprintf(out, cap, "blk.%u.%s", config->n_layers + layer, ours);
        }
        return;
    }
    size_t n = stem_length(part);
    const stem *found = find_stem(mtp_stems, COUNT(mtp_stems), part, n);
    if (found) {
        snprintf(out, cap, "blk.%u.nextn.%s%s", config->n_layers, found->ours, part + n);
        *change = found->norm && config->class->plus_one ? HF_PLUS_ONE : 0;
    }
}

/* Of a head that tells masked tokens: EuroBERT's, XLM-R's, BERT's and NomicBERT's, ModernBERT's. */
static bool is_masked_head(const hf_class *class, const char *name)
{
    static const struct {
        hf_words words;
        const char *name;
    } heads[] = {
        {HF_WORDS_LLAMA, "lm_head.weight"},
        {HF_WORDS_LLAMA, "lm_head.bias"},
        {HF_WORDS_BERT, "lm_head.bias"},
        {HF_WORDS_BERT, "lm_head.dense.weight"},
        {HF_WORDS_BERT, "lm_head.dense.bias"},
        {HF_WORDS_BERT, "lm_head.layer_norm.weight"},
        {HF_WORDS_BERT, "lm_head.layer_norm.bias"},
        {HF_WORDS_BERT, "lm_head.decoder.weight"},
        {HF_WORDS_BERT, "lm_head.decoder.bias"},
        {HF_WORDS_BERT, "cls.predictions.bias"},
        {HF_WORDS_BERT, "cls.predictions.transform.dense.weight"},
        {HF_WORDS_BERT, "cls.predictions.transform.dense.bias"},
        {HF_WORDS_BERT, "cls.predictions.transform.LayerNorm.weight"},
        {HF_WORDS_BERT, "cls.predictions.transform.LayerNorm.bias"},
        {HF_WORDS_BERT, "cls.predictions.decoder.weight"},
        {HF_WORDS_BERT, "cls.predictions.decoder.bias"},
        {HF_WORDS_BERT, "cls.seq_relationship.weight"}, /* and whether one text follows another */
        {HF_WORDS_BERT, "cls.seq_relationship.bias"},
        {HF_WORDS_NOMIC, "cls.predictions.bias"},
        {HF_WORDS_NOMIC, "cls.predictions.transform.dense.weight"},
        {HF_WORDS_NOMIC, "cls.predictions.transform.dense.bias"},
        {HF_WORDS_NOMIC, "cls.predictions.transform.layer_norm.weight"},
        {HF_WORDS_NOMIC, "cls.predictions.transform.layer_norm.bias"},
        {HF_WORDS_NOMIC, "cls.predictions.decoder.weight"},
        {HF_WORDS_NOMIC, "cls.predictions.decoder.bias"},
        {HF_WORDS_MODERN, "head.dense.weight"},
        {HF_WORDS_MODERN, "head.dense.bias"},
        {HF_WORDS_MODERN, "head.norm.weight"},
        {HF_WORDS_MODERN, "head.norm.bias"},
        {HF_WORDS_MODERN, "decoder.weight"},
        {HF_WORDS_MODERN, "decoder.bias"},
    };
    for (size_t i = 0; i < COUNT(heads); i++) {
        if (heads[i].words == class->words && strcmp(heads[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

const char *hf_output_name(const hf_class *class)
{
    const stem *stems = vocabularies[class->words].global;
    for (size_t i = 0; i < vocabularies[class->words].n_global; i++) {
        if (strcmp(stems[i].ours, "output") == 0) {
            return stems[i].theirs;
        }
    }
    return "lm_head";
}

hf_fate hf_tensor_name(const hf_config *config, const char *name, char *out, size_t cap, unsigned *change)
{
    const hf_class *class = config->class;
    unsigned layer = 0;
    char ours[96], plain[256];
    *change = 0;
    snprintf(out, cap, "%s", name);
    if (!class) {
        return HF_KEEP;
    }
    name = config->inner ? inner_name(name, plain, sizeof plain) : name;
    if (!name) {
        return HF_SKIP;
    }
    if ((config->tied && strcmp(name, "lm_head.weight") == 0) || text_ends_with(name, ".rotary_emb.inv_freq")) {
        return HF_SKIP;
    }
    if (config->masked && is_masked_head(class, name)) {
        return HF_SKIP;
    }
    if (config->dense) {
        snprintf(out, cap, "dense_%u.%s", config->dense, strncmp(name, "linear.", 7) == 0 ? name + 7 : name);
        return HF_KEEP;
    }
    char whole[256];
    name = in_folder(class, name, whole, sizeof whole);
    if (strncmp(name, "model.mtp_", 10) == 0) {
        return HF_SKIP; /* ERNIE's do, too */
    }
    if (strncmp(name, "mtp.", 4) == 0 && (class->mtp_left_out || (config->inner && !class->mtp))) {
        return HF_SKIP; /* it predicts further tokens */
    }
    if (strncmp(name, "mtp.", 4) == 0 && class->mtp) {
        mtp_name(config, name + 4, out, cap, change);
        return HF_KEEP;
    }
    if (class->encoder &&
        (strcmp(name, "embeddings.position_ids") == 0 || (strncmp(name, "pooler.", 7) == 0 && !config->ranks))) {
        return HF_SKIP; /* without a classifier the pooler was of a task that nobody asks of it */
    }
    const char *rest = skip_layer(vocabularies[class->words].layers, name, &layer);
    bool gpt = class->words == HF_WORDS_GPT2 || class->words == HF_WORDS_NEOX;
    if (rest && gpt &&
        (strcmp(rest, "attn.bias") == 0 || strcmp(rest, "attn.masked_bias") == 0 ||
         strcmp(rest, "attention.bias") == 0 || strcmp(rest, "attention.masked_bias") == 0)) {
        return HF_SKIP; /* what a token does not see, as a table */
    }
    if (rest) {
        if (layer_name(config, rest, ours, sizeof ours, change)) {
            snprintf(out, cap, "blk.%u.%s", layer, ours);
        }
        return HF_KEEP;
    }
    size_t n = stem_length(name);
    const stem *found = find_stem(vocabularies[class->words].global, vocabularies[class->words].n_global, name, n);
    if (found) {
        snprintf(out, cap, "%s%s", found->ours, name + n);
        *change = found->norm && class->plus_one && strcmp(name + n, ".weight") == 0   ? HF_PLUS_ONE
                  : class->first_position && strcmp(found->ours, "position_embd") == 0 ? HF_POSITIONS
                                                                                       : 0;
    }
    return HF_KEEP;
}
