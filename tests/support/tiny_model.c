/*
 * Tiny random models: the table, the tensors and their values.
 * Owner: see tiny_model.h. Lifetime: the table is static.
 */
#include "support/tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHATML                                                                                                         \
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"       \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
#define GEMMA_TURNS                                                                                                    \
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"                                                      \
    "{{ 'model' if message.role == 'assistant' else message.role }}\n{{ message.content | trim }}<end_of_turn>\n"      \
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"

/* The epsilons are larger than in life, so that a wrong one shows. */
static const tiny_model models[] = {
    {.name = "llama",
     .arch = "llama",
     .model_type = "llama",
     .class_name = "LlamaForCausalLM",
     .seed = 101,
     .n_layers = 4,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 16,
     .n_ff = 160,
     .eps = 1e-2f,
     .theta = 10000,
     .vocab = TINY_VOCAB_BPE,
     .chat_template = CHATML},
    {.name = "llama-wide",
     .arch = "llama",
     .model_type = "llama",
     .class_name = "LlamaForCausalLM",
     .seed = 102,
     .n_layers = 2,
     .n_embd = 256,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 64,
     .n_ff = 512,
     .eps = 1e-3f,
     .theta = 10000,
     .tied = true,
     .vocab = TINY_VOCAB_BPE},
    {.name = "llama-linear",
     .arch = "llama",
     .model_type = "llama",
     .class_name = "LlamaForCausalLM",
     .seed = 103,
     .n_layers = 3,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 4,
     .head_dim = 16,
     .n_ff = 96,
     .eps = 2e-3f,
     .theta = 10000,
     .scaling = TINY_SCALING_LINEAR,
     .factor = 4,
     .qkv_bias = true,
     .other_bias = true,
     .vocab = TINY_VOCAB_BPE},
    {.name = "llama3",
     .arch = "llama",
     .model_type = "llama",
     .class_name = "LlamaForCausalLM",
     .seed = 104,
     .n_layers = 3,
     .n_embd = 96,
     .n_head = 3,
     .n_head_kv = 1,
     .head_dim = 32,
     .n_ff = 192,
     .eps = 1e-3f,
     .theta = 5000,
     .scaling = TINY_SCALING_LLAMA3,
     .factor = 8,
     .low_freq = 1,
     .high_freq = 4,
     .n_ctx_orig = 64,
     .tied = true,
     .vocab = TINY_VOCAB_BPE},
    {.name = "llama-yarn",
     .arch = "llama",
     .model_type = "llama",
     .class_name = "LlamaForCausalLM",
     .seed = 105,
     .n_layers = 3,
     .n_embd = 64,
     .n_head = 2,
     .n_head_kv = 1,
     .head_dim = 32,
     .n_ff = 128,
     .eps = 1e-3f,
     .theta = 10000,
     .scaling = TINY_SCALING_YARN,
     .factor = 4,
     .n_ctx_orig = 48,
     .beta_fast = 2,
     .beta_slow = 0.7f,
     .attn_factor = 1.25f,
     .new_config = true,
     .vocab = TINY_VOCAB_BPE},
    {.name = "mistral",
     .arch = "llama",
     .model_type = "mistral",
     .class_name = "MistralForCausalLM",
     .seed = 106,
     .n_layers = 4,
     .n_embd = 96,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 32,
     .n_ff = 160,
     .eps = 1e-3f,
     .theta = 10000,
     .window = 24,
     .vocab = TINY_VOCAB_SPM},
    {.name = "qwen2",
     .arch = "qwen2",
     .model_type = "qwen2",
     .class_name = "Qwen2ForCausalLM",
     .seed = 107,
     .n_layers = 4,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 16,
     .n_ff = 176,
     .eps = 3e-3f,
     .theta = 1000000,
     .tied = true,
     .qkv_bias = true,
     .vocab = TINY_VOCAB_BPE,
     .chat_template = CHATML},
    {.name = "qwen2-yarn",
     .arch = "qwen2",
     .model_type = "qwen2",
     .class_name = "Qwen2ForCausalLM",
     .seed = 108,
     .n_layers = 3,
     .n_embd = 64,
     .n_head = 2,
     .n_head_kv = 2,
     .head_dim = 32,
     .n_ff = 128,
     .eps = 1e-3f,
     .theta = 1000000,
     .scaling = TINY_SCALING_YARN,
     .factor = 4,
     .n_ctx_orig = 34,
     .qkv_bias = true,
     .vocab = TINY_VOCAB_BPE},
    {.name = "qwen3",
     .arch = "qwen3",
     .model_type = "qwen3",
     .class_name = "Qwen3ForCausalLM",
     .seed = 109,
     .n_layers = 4,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 32,
     .n_ff = 160,
     .eps = 2e-3f,
     .theta = 1000000,
     .qk_norm = true,
     .vocab = TINY_VOCAB_BPE},
    {.name = "gemma3",
     .arch = "gemma3",
     .model_type = "gemma3_text",
     .class_name = "Gemma3ForCausalLM",
     .seed = 110,
     .n_layers = 8,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 1,
     .head_dim = 32,
     .n_ff = 128,
     .eps = 5e-3f,
     .theta = 1000000,
     .theta_local = 10000,
     .window = 16,
     .window_every = 6,
     .scaling = TINY_SCALING_LINEAR,
     .factor = 8,
     .tied = true,
     .qk_norm = true,
     .post_norms = true,
     .vocab = TINY_VOCAB_GEMMA,
     .chat_template = GEMMA_TURNS},
    {.name = "gemma3-pattern",
     .arch = "gemma3",
     .model_type = "gemma3_text",
     .class_name = "Gemma3ForCausalLM",
     .seed = 111,
     .n_layers = 6,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 32,
     .n_ff = 96,
     .eps = 1e-3f,
     .theta = 100000,
     .theta_local = 2000,
     .window = 20,
     .window_every = 3,
     .query_scalar = 24,
     .tied = true,
     .qk_norm = true,
     .post_norms = true,
     .new_config = true,
     .vocab = TINY_VOCAB_GEMMA},
};

const tiny_model *tiny_model_at(size_t index)
{
    return index < sizeof models / sizeof *models ? &models[index] : NULL;
}

const tiny_model *tiny_model_find(const char *name)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (strcmp(models[i].name, name) == 0) {
            return &models[i];
        }
    }
    fprintf(stderr, "no tiny model is called %s\n", name);
    abort();
}

/* ---- the generator ---------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t stream_key(uint64_t seed, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++) {
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    }
    return mix(seed ^ hash);
}

static uint64_t stream_bits(uint64_t key, uint64_t index)
{
    return mix(key + (index + 1) * 0x9e3779b97f4a7c15u);
}

void tiny_model_tokens(const tiny_model *model, int32_t *ids, size_t n)
{
    uint64_t key = stream_key(model->seed, "tokens");
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(stream_bits(key, i) % TINY_N_VOCAB);
    }
}

/* What each RoPE pair's frequency is divided by under Llama 3's scaling (in single precision where the published
 * conversion is). */
static void llama3_divisors(const tiny_model *m, float *out)
{
    for (uint32_t i = 0; i < m->head_dim / 2; i++) {
        double wavelength = 2 * 3.14159265358979323846 * pow(m->theta, 2.0 * i / m->head_dim);
        double low = (double)m->n_ctx_orig / (double)m->low_freq, high = (double)m->n_ctx_orig / (double)m->high_freq;
        double smooth = (m->n_ctx_orig / wavelength - (double)m->low_freq) /
                        ((double)m->high_freq - (double)m->low_freq);
        double divisor = wavelength < high  ? 1
                         : wavelength > low ? (double)m->factor
                                            : 1 / ((1 - smooth) / (double)m->factor + smooth);
        out[i] = (float)divisor;
    }
}

void tiny_random_fill(uint64_t seed, const char *name, float base, float scale, float *values, size_t n)
{
    uint64_t key = stream_key(seed, name);
    for (size_t i = 0; i < n; i++) {
        float u = (float)(stream_bits(key, i) >> 40) * 0x1p-23f - 1.0f;
        float spread = scale * u;
        values[i] = base + spread;
    }
}

float *tiny_tensor_values(const tiny_model *model, const tiny_tensor *t)
{
    size_t n = (size_t)t->n_in * (t->n_out ? t->n_out : 1);
    float *values = malloc(n * sizeof *values);
    if (!values) {
        abort();
    }
    if (t->gguf_only) {
        llama3_divisors(model, values);
        return values;
    }
    tiny_random_fill(model->seed, t->gguf_name, t->base, t->scale, values, n);
    return values;
}

/* ---- the tensors ------------------------------------------------------------------------------------------------ */

typedef struct tensor_list {
    const tiny_model *model;
    tiny_tensor *out;
    size_t n;
} tensor_list;

static tiny_tensor *push(tensor_list *list, uint32_t layer, const char *gguf, const char *hf, uint32_t n_in,
                         uint32_t n_out)
{
    if (list->n == TINY_TENSORS_MAX) {
        abort();
    }
    tiny_tensor *t = &list->out[list->n++];
    *t = (tiny_tensor){.n_in = n_in, .n_out = n_out};
    if (layer == UINT32_MAX) {
        snprintf(t->gguf_name, sizeof t->gguf_name, "%s", gguf);
        snprintf(t->hf_name, sizeof t->hf_name, "%s", hf);
    } else {
        snprintf(t->gguf_name, sizeof t->gguf_name, "blk.%u.%s", layer, gguf);
        snprintf(t->hf_name, sizeof t->hf_name, "model.layers.%u.%s", layer, hf);
    }
    return t;
}

/* A matrix whose outputs have about `gain` times the spread of its inputs: uniform weights of variance gain²/n_in. */
static tiny_tensor *push_matrix(tensor_list *list, uint32_t layer, const char *gguf, const char *hf, uint32_t n_in,
                                uint32_t n_out, float gain)
{
    tiny_tensor *t = push(list, layer, gguf, hf, n_in, n_out);
    t->scale = gain * sqrtf(3.0f / (float)n_in);
    return t;
}

static void push_norm(tensor_list *list, uint32_t layer, const char *gguf, const char *hf, uint32_t n, float base)
{
    bool gemma = list->model->post_norms;
    tiny_tensor *t = push(list, layer, gguf, hf, n, 0);
    t->base = gemma ? base - 1.0f : base;
    t->scale = 0.5f;
    t->plus_one = gemma;
}

static tiny_tensor *push_bias(tensor_list *list, uint32_t layer, const char *gguf, const char *hf, uint32_t n)
{
    tiny_tensor *t = push(list, layer, gguf, hf, n, 0);
    t->base = 0.125f;
    t->scale = 0.75f;
    return t;
}

static void push_attention(tensor_list *list, uint32_t layer)
{
    const tiny_model *m = list->model;
    bool pairs = strcmp(m->arch, "llama") == 0;
    uint32_t n_q = m->n_head * m->head_dim, n_kv = m->n_head_kv * m->head_dim;
    push_norm(list, layer, "attn_norm.weight", "input_layernorm.weight", m->n_embd, 1);
    /* 1.6² is the spread of the scores: some positions matter much more than others */
    tiny_tensor *q = push_matrix(list, layer, "attn_q.weight", "self_attn.q_proj.weight", m->n_embd, n_q, 1.6f);
    q->permute_heads = pairs ? m->n_head : 0;
    tiny_tensor *k = push_matrix(list, layer, "attn_k.weight", "self_attn.k_proj.weight", m->n_embd, n_kv, 1.6f);
    k->permute_heads = pairs ? m->n_head_kv : 0;
    push_matrix(list, layer, "attn_v.weight", "self_attn.v_proj.weight", m->n_embd, n_kv, 1);
    push_matrix(list, layer, "attn_output.weight", "self_attn.o_proj.weight", n_q, m->n_embd, 1.5f);
    if (m->qkv_bias) {
        q = push_bias(list, layer, "attn_q.bias", "self_attn.q_proj.bias", n_q);
        q->permute_heads = pairs ? m->n_head : 0;
        k = push_bias(list, layer, "attn_k.bias", "self_attn.k_proj.bias", n_kv);
        k->permute_heads = pairs ? m->n_head_kv : 0;
        push_bias(list, layer, "attn_v.bias", "self_attn.v_proj.bias", n_kv);
    }
    if (m->other_bias) {
        push_bias(list, layer, "attn_output.bias", "self_attn.o_proj.bias", m->n_embd);
    }
    if (m->qk_norm) {
        push_norm(list, layer, "attn_q_norm.weight", "self_attn.q_norm.weight", m->head_dim, 1.5f);
        push_norm(list, layer, "attn_k_norm.weight", "self_attn.k_norm.weight", m->head_dim, 1.5f);
    }
}

static void push_mlp(tensor_list *list, uint32_t layer)
{
    const tiny_model *m = list->model;
    if (m->post_norms) {
        push_norm(list, layer, "post_attention_norm.weight", "post_attention_layernorm.weight", m->n_embd, 1);
        push_norm(list, layer, "ffn_norm.weight", "pre_feedforward_layernorm.weight", m->n_embd, 1);
        push_norm(list, layer, "post_ffw_norm.weight", "post_feedforward_layernorm.weight", m->n_embd, 1);
    } else {
        push_norm(list, layer, "ffn_norm.weight", "post_attention_layernorm.weight", m->n_embd, 1);
    }
    push_matrix(list, layer, "ffn_gate.weight", "mlp.gate_proj.weight", m->n_embd, m->n_ff, 1.5f);
    push_matrix(list, layer, "ffn_up.weight", "mlp.up_proj.weight", m->n_embd, m->n_ff, 1);
    push_matrix(list, layer, "ffn_down.weight", "mlp.down_proj.weight", m->n_ff, m->n_embd, 1);
    if (m->other_bias) {
        push_bias(list, layer, "ffn_gate.bias", "mlp.gate_proj.bias", m->n_ff);
        push_bias(list, layer, "ffn_up.bias", "mlp.up_proj.bias", m->n_ff);
        push_bias(list, layer, "ffn_down.bias", "mlp.down_proj.bias", m->n_embd);
    }
}

size_t tiny_model_tensors(const tiny_model *model, tiny_tensor *out)
{
    tensor_list list = {.model = model, .out = out};
    tiny_tensor *embedding = push(&list, UINT32_MAX, "token_embd.weight", "model.embed_tokens.weight", model->n_embd,
                                  TINY_N_VOCAB);
    /* Gemma multiplies by √n_embd after the look-up */
    embedding->scale = model->post_norms ? 0.21875f : 0.5f;
    push_norm(&list, UINT32_MAX, "output_norm.weight", "model.norm.weight", model->n_embd, 1);
    if (!model->tied) {
        push_matrix(&list, UINT32_MAX, "output.weight", "lm_head.weight", model->n_embd, TINY_N_VOCAB, 2);
    }
    if (model->scaling == TINY_SCALING_LLAMA3) {
        push(&list, UINT32_MAX, "rope_freqs.weight", "", model->head_dim / 2, 0)->gguf_only = true;
    }
    for (uint32_t layer = 0; layer < model->n_layers; layer++) {
        push_attention(&list, layer);
        push_mlp(&list, layer);
    }
    return list.n;
}

dtype tiny_tensor_type(const tiny_tensor *t, const tiny_options *options)
{
    if (t->n_out == 0) {
        return DTYPE_F32;
    }
    if (t->n_in % dtype_find(options->type)->block_size == 0) {
        return options->type;
    }
    return t->n_in % 32 == 0 ? DTYPE_Q8_0 : DTYPE_F16;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

void *tiny_open(const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file) {
        fprintf(stderr, "cannot write %s\n", path);
        abort();
    }
    return file;
}

void tiny_close(void *file, const char *path)
{
    bool failed = ferror((FILE *)file) != 0;
    if (fclose(file) != 0 || failed) {
        fprintf(stderr, "cannot write %s\n", path);
        abort();
    }
}
