/*
 * Hugging Face classes and tensor names.
 * Owner: none; const tables. Lifetime: static.
 */
#include <stdio.h>
#include <string.h>

#include "loaders/safetensors.h"

/* Defaults as in transformers' configuration_*.py. */
static const hf_class classes[] = {
    {.class_name = "LlamaForCausalLM",
     .model_type = "llama",
     .arch = "llama",
     .n_ctx = 2048,
     .rope_theta = 1e4,
     .activation_key = "hidden_act",
     .activation = "silu"},
    {.class_name = "MistralForCausalLM",
     .model_type = "mistral",
     .arch = "llama",
     .n_head_kv = 8,
     .n_ctx = 131072,
     .window = 4096,
     .rope_theta = 1e4,
     .activation_key = "hidden_act",
     .activation = "silu"},
    {.class_name = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .arch = "qwen2",
     .n_head_kv = 32,
     .n_ctx = 32768,
     .window = 4096,
     .windows_are_optional = true,
     .rope_theta = 1e4,
     .activation_key = "hidden_act",
     .activation = "silu"},
    {.class_name = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .arch = "qwen3",
     .n_head_kv = 32,
     .head_dim = 128,
     .n_ctx = 32768,
     .window = 4096,
     .windows_are_optional = true,
     .rope_theta = 1e4,
     .activation_key = "hidden_act",
     .activation = "silu"},
    {.class_name = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .arch = "gemma3",
     .n_head_kv = 4,
     .head_dim = 256,
     .n_ctx = 131072,
     .window = 4096,
     .tied = true,
     .rope_theta = 1e6,
     .rope_theta_local = 1e4,
     .query_scalar = 256,
     .activation_key = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .four_norms = true},
};

#define N_CLASSES (sizeof classes / sizeof *classes)

const hf_class *hf_class_find(const char *class_name)
{
    for (size_t i = 0; i < N_CLASSES; i++) {
        if (strcmp(classes[i].class_name, class_name) == 0) {
            return &classes[i];
        }
    }
    return NULL;
}

const hf_class *hf_class_find_type(const char *model_type)
{
    for (size_t i = 0; i < N_CLASSES; i++) {
        if (strcmp(classes[i].model_type, model_type) == 0) {
            return &classes[i];
        }
    }
    return NULL;
}

/* Stems; ".weight" and ".bias" follow. */
typedef struct stem {
    const char *theirs, *ours;
    bool norm;
} stem;

static const stem layer_stems[] = {
    {"input_layernorm", "attn_norm", true},     {"self_attn.q_proj", "attn_q", false},
    {"self_attn.k_proj", "attn_k", false},      {"self_attn.v_proj", "attn_v", false},
    {"self_attn.o_proj", "attn_output", false}, {"self_attn.q_norm", "attn_q_norm", true},
    {"self_attn.k_norm", "attn_k_norm", true},  {"mlp.gate_proj", "ffn_gate", false},
    {"mlp.up_proj", "ffn_up", false},           {"mlp.down_proj", "ffn_down", false},
};
/* The same word stands for the norm before the MLP, and in Gemma for the one after attention. */
static const stem two_norms[] = {{"post_attention_layernorm", "ffn_norm", true}};
static const stem four_norms[] = {
    {"post_attention_layernorm", "post_attention_norm", true},
    {"pre_feedforward_layernorm", "ffn_norm", true},
    {"post_feedforward_layernorm", "post_ffw_norm", true},
};
static const stem global_stems[] = {
    {"model.embed_tokens", "token_embd", false},
    {"model.norm", "output_norm", true},
    {"lm_head", "output", false},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const stem *find_stem(const stem *stems, size_t n_stems, const char *name, size_t n)
{
    for (size_t i = 0; i < n_stems; i++) {
        if (strlen(stems[i].theirs) == n && memcmp(stems[i].theirs, name, n) == 0) {
            return &stems[i];
        }
    }
    return NULL;
}

/* "model.layers.12." → 12 and what follows; NULL if it is not that. At most six digits, as `blk.12.` could say it. */
static const char *skip_layer(const char *name, unsigned *layer)
{
    static const char prefix[] = "model.layers.";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
        return NULL;
    }
    const char *digits = name + sizeof prefix - 1;
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
    size_t n = strlen(name);
    for (size_t i = 0; i < COUNT(ends); i++) {
        size_t n_end = strlen(ends[i]);
        if (n > n_end && strcmp(name + n - n_end, ends[i]) == 0) {
            return n - n_end;
        }
    }
    return 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + (n - n_end), end) == 0;
}

hf_fate hf_tensor_name(const hf_class *class, bool tied, const char *name, char *out, size_t cap, bool *plus_one)
{
    unsigned layer = 0;
    *plus_one = false;
    snprintf(out, cap, "%s", name);
    if (!class) {
        return HF_KEEP;
    }
    if ((tied && strcmp(name, "lm_head.weight") == 0) || ends_with(name, ".rotary_emb.inv_freq")) {
        return HF_SKIP;
    }
    const char *rest = skip_layer(name, &layer);
    size_t n = stem_length(rest ? rest : name);
    const stem *found = NULL;
    if (rest) {
        found = find_stem(layer_stems, COUNT(layer_stems), rest, n);
        if (!found) {
            found = class->four_norms ? find_stem(four_norms, COUNT(four_norms), rest, n)
                                      : find_stem(two_norms, COUNT(two_norms), rest, n);
        }
    } else {
        found = find_stem(global_stems, COUNT(global_stems), name, n);
    }
    if (!found) {
        return HF_KEEP;
    }
    if (rest) {
        snprintf(out, cap, "blk.%u.%s%s", layer, found->ours, rest + n);
    } else {
        snprintf(out, cap, "%s%s", found->ours, name + n);
    }
    *plus_one = found->norm && class->four_norms;
    return HF_KEEP;
}
