/*
 * The table of model families.
 * Owner: none; const table. Lifetime: static.
 */
#include "graph/family.h"

#include <string.h>

static const family families[] = {
    /* Llama 1–3, Mistral (a window on every layer), Mixtral, SmolLM, TinyLlama. Touvron et al. 2023; Jiang et al. 2023.
     */
    {.name = "llama", .gguf_rope = ROPE_PAIRS, .normalise_experts = true},
    /* Meta 2025: chunks on three of four layers; the others do not turn, and sharpen far queries. */
    {.name = "llama4",
     .gguf_rope = ROPE_PAIRS,
     .safetensors_keep_pairs = true,
     .qk_norm = QK_NORM_BARE,
     .qk_norm_turned = true,
     .routing = ROUTE_SIGMOID,
     .experts_weigh_input = true,
     .n_shared = 1,
     .full_every = 4,
     .full_is_unturned = true,
     .chunk = 8192,
     .still_temperature = 0.1f},
    /* Yang et al. 2024 */
    {.name = "qwen2", .qkv_bias = true},
    {.name = "qwen2moe", .gated_shared = true},
    /* Wang et al. 2024; Bai et al. 2025: their language models, as those of Qwen3-VL below. Positions of texts are the
     * same in all parts of m-RoPE. */
    {.name = "qwen2vl", .qkv_bias = true},
    {.name = "qwen3vl", .qk_norm = QK_NORM_HEADS},
    {.name = "qwen3vlmoe", .qk_norm = QK_NORM_HEADS, .normalise_experts = true},
    /* Yang et al. 2025 */
    {.name = "qwen3", .qk_norm = QK_NORM_HEADS},
    {.name = "qwen3moe", .qk_norm = QK_NORM_HEADS, .normalise_experts = true},
    /* OpenAI 2025 */
    {.name = "gpt-oss",
     .sinks = true,
     .qkv_bias = true,
     .act = ACT_SWIGLU_CLAMPED,
     .routing = ROUTE_TOP_SOFTMAX,
     .full_every = 2,
     .yarn_untruncated = true,
     .ffn_norm_after = true},
    /* Gemma Team 2024: the first */
    {.name = "gemma", .scale_embedding = true, .act = ACT_GELU_TANH},
    /* Gemma Team 2024: a window on every other layer, two caps. */
    {.name = "gemma2",
     .norms = NORMS_AROUND,
     .scale_embedding = true,
     .act = ACT_GELU_TANH,
     .full_every = 2,
     .wide_head_scale_layers = 46},
    /* Gemma Team 2025: five window layers to one full; the 27B scales by the width of a query head of the residual. */
    {.name = "gemma3",
     .qk_norm = QK_NORM_HEADS,
     .norms = NORMS_AROUND,
     .scale_embedding = true,
     .act = ACT_GELU_TANH,
     .full_every = 6,
     .local_rope_theta = 10000.0f,
     .local_rope_unscaled = true,
     .wide_head_scale_layers = 62},
    /* Gemma Team 2026: heads and KV heads of window layers differ from the others', the last layers read the keys and
     * values of earlier ones. */
    {.name = "gemma4",
     .qk_norm = QK_NORM_HEADS,
     .norms = NORMS_AROUND,
     .scale_embedding = true,
     .unscaled_attention = true,
     .value_norm = true,
     .keys_as_values = true,
     .layer_embeddings = true,
     .layer_scale = true,
     .experts_beside = true,
     .normalise_experts = true,
     .act = ACT_GELU_TANH,
     .full_every = 6,
     .local_rope_theta = 10000.0f,
     .local_rope_unscaled = true},
    /* Abdin et al. 2024: Phi-3, Phi-3.5, Phi-4, Phi-4-mini. */
    {.name = "phi3", .fused_gate_up = true},
    /* Bakouch et al. 2025 */
    {.name = "smollm3", .gguf_rope = ROPE_PAIRS, .unturned_every = 4},
    /* OLMo Team 2024, 2025 (OLMo 3 is the same with windows). */
    {.name = "olmo2", .qk_norm = QK_NORM_ALL, .norms = NORMS_AFTER, .full_every = 4, .local_rope_unscaled = true},
    /* Granite Team 2024: scales on embedding, residual, attention and logits. */
    {.name = "granite", .gguf_rope = ROPE_PAIRS, .logit_scale_divides = true},
    {.name = "granitemoe", .gguf_rope = ROPE_PAIRS, .logit_scale_divides = true, .routing = ROUTE_TOP_SOFTMAX},
    /* GLM Team 2025: GLM-4.5 to 4.7 */
    {.name = "glm4moe",
     .ahead = AHEAD_RAW,
     .qk_norm = QK_NORM_HEADS,
     .qk_norm_optional = true,
     .routing = ROUTE_SIGMOID,
     .normalise_experts = true,
     .ffn_norm_after = true},
    /* Muennighoff et al. 2024 */
    {.name = "olmoe", .qk_norm = QK_NORM_ALL},
    /* Devlin et al. 2018; Conneau et al. 2019 (XLM-R): MiniLM, BGE, E5. */
    {.name = "bert",
     .encoder = true,
     .positions = true,
     .embedding_norm = true,
     .norm = NORM_LAYER,
     .norm_bias = true,
     .norms = NORMS_OF_SUM,
     .ungated = true,
     .act = ACT_GELU_ERF},
    /* Nussbaum et al. 2024: BERT with RoPE and a gated MLP. */
    {.name = "nomic-bert",
     .encoder = true,
     .token_types = true,
     .embedding_norm = true,
     .norm = NORM_LAYER,
     .norm_bias = true,
     .norms = NORMS_OF_SUM},
    /* Warner et al. 2024: a window on two of three layers, norms on inputs. */
    {.name = "modern-bert",
     .encoder = true,
     .embedding_norm = true,
     .norm = NORM_LAYER,
     .first_unnormed = true,
     .fused_gate_up = true,
     .act = ACT_GELU_ERF,
     .full_every = 3,
     .full_first = true,
     .gelu_head = true},
    /* Gemma Team 2025: Gemma 3 that sees both ways. */
    {.name = "gemma-embedding",
     .encoder = true,
     .qk_norm = QK_NORM_HEADS,
     .norms = NORMS_AROUND,
     .scale_embedding = true,
     .act = ACT_GELU_TANH,
     .full_every = 6,
     .local_rope_theta = 10000.0f,
     .local_rope_unscaled = true,
     .dense_heads = true},
    /* GLM Team 2025 (GLM-4-0414) */
    {.name = "glm4",
     .gguf_rope = ROPE_PAIRS,
     .safetensors_keep_pairs = true,
     .norms = NORMS_AROUND,
     .fused_gate_up = true},
    /* GLM Team 2024: GLM-4-9B and its predecessors. */
    {.name = "chatglm", .gguf_rope = ROPE_PAIRS, .safetensors_keep_pairs = true, .fused_gate_up = true},
    /* Lozhkov et al. 2024 */
    {.name = "starcoder2", .norm = NORM_LAYER, .norm_bias = true, .ungated = true, .act = ACT_GELU_TANH},
    /* Cohere 2024: Command R, Aya. */
    {.name = "command-r",
     .gguf_rope = ROPE_PAIRS,
     .safetensors_keep_pairs = true,
     .norm = NORM_LAYER,
     .parallel = true},
    /* Cohere Team 2025: Command R7B, Command A. */
    {.name = "cohere2",
     .gguf_rope = ROPE_PAIRS,
     .safetensors_keep_pairs = true,
     .norm = NORM_LAYER,
     .parallel = true,
     .full_every = 4,
     .full_is_unturned = true},
    /* Liquid AI 2025 */
    {.name = "lfm2", .qk_norm = QK_NORM_HEADS, .mixer = MIXER_CONV, .output_norm_embd = true},
    {.name = "lfm2moe",
     .qk_norm = QK_NORM_HEADS,
     .mixer = MIXER_CONV,
     .output_norm_embd = true,
     .routing = ROUTE_SIGMOID,
     .normalise_experts = true},
    /* Qwen Team 2025, 2026: three layers of gated DeltaNet to one of attention. */
    {.name = "qwen3next",
     .ahead = AHEAD_NORMED,
     .qk_norm = QK_NORM_HEADS,
     .mixer = MIXER_DELTA,
     .gated_attention = true,
     .gated_shared = true,
     .normalise_experts = true,
     .ffn_norm_after = true},
    {.name = "qwen35",
     .ahead = AHEAD_NORMED,
     .qk_norm = QK_NORM_HEADS,
     .mixer = MIXER_DELTA,
     .gguf_heads_in_turn = true,
     .gated_attention = true,
     .ffn_norm_after = true},
    {.name = "qwen35moe",
     .ahead = AHEAD_NORMED,
     .qk_norm = QK_NORM_HEADS,
     .mixer = MIXER_DELTA,
     .gguf_heads_in_turn = true,
     .gated_attention = true,
     .gated_shared = true,
     .normalise_experts = true,
     .ffn_norm_after = true},
    /* Granite Team 2025: Granite 4 */
    {.name = "granitehybrid",
     .gguf_rope = ROPE_PAIRS,
     .logit_scale_divides = true,
     .routing = ROUTE_TOP_SOFTMAX,
     .mixer = MIXER_SSM},
    /* TII 2025: Falcon-H1. Attention and Mamba-2 read the same norm of X. */
    {.name = "falcon-h1", .mixer = MIXER_SSM, .mixer_beside = true, .ffn_norm_short = true},
    /* NVIDIA 2025: Nemotron-H, Nemotron Nano 2 */
    {.name = "nemotron_h",
     .mixer = MIXER_SSM,
     .one_block = true,
     .ungated = true,
     .act = ACT_RELU_SQUARED,
     .unturned_every = 1},
    /* NVIDIA 2025: Nemotron 3 Nano, Super */
    {.name = "nemotron_h_moe",
     .mixer = MIXER_SSM,
     .one_block = true,
     .ungated = true,
     .act = ACT_RELU_SQUARED,
     .routing = ROUTE_SIGMOID,
     .normalise_experts = true,
     .unturned_every = 1},
    /* LG AI Research 2024: EXAONE 3, 3.5, Deep */
    {.name = "exaone"},
    /* LG AI Research 2025 */
    {.name = "exaone4", .qk_norm = QK_NORM_HEADS, .norms = NORMS_AFTER, .full_every = 4, .full_is_unturned = true},
    /* DeepSeek-AI 2024: V2, V3, R1 and what has their shape (Kimi K2). */
    {.name = "deepseek2", .ahead = AHEAD_RAW, .gguf_rope = ROPE_PAIRS, .safetensors_keep_pairs = true, .latent = true},
    /* Hu et al. 2024: MiniCPM 3. */
    {.name = "minicpm3", .latent = true, .latent_whole = true, .minicpm_scales = true},
    /* Arcee AI 2025: AFM. */
    {.name = "arcee", .gguf_rope = ROPE_PAIRS, .ungated = true, .act = ACT_RELU_SQUARED},
    /* ByteDance Seed 2025 */
    {.name = "seed_oss", .ffn_norm_after = true},
    /* Baidu 2025: the dense ones. */
    {.name = "ernie4_5", .gguf_rope = ROPE_PAIRS, .safetensors_keep_pairs = true},
    {.name = "ernie4_5-moe", .gguf_rope = ROPE_PAIRS, .safetensors_keep_pairs = true, .normalise_experts = true},
    /* Parmar et al. 2024: Nemotron-4, Minitron. */
    {.name = "nemotron", .norm = NORM_LAYER, .norm_bias = true, .ungated = true, .act = ACT_RELU_SQUARED},
    /* Bellagente et al. 2024: StableLM 2 1.6B, Zephyr 3B, Stable Code. */
    {.name = "stablelm", .norm = NORM_LAYER, .norm_bias = true},
    /* Javaheripi et al. 2023 */
    {.name = "phi2",
     .norm = NORM_LAYER,
     .norm_bias = true,
     .parallel = true,
     .qkv_bias = true,
     .ungated = true,
     .output_bias = true,
     .act = ACT_GELU_TANH},
    /* Radford et al. 2019 */
    {.name = "gpt2", .positions = true, .norm = NORM_LAYER, .norm_bias = true, .ungated = true, .act = ACT_GELU_TANH},
    /* Li et al. 2023: GPT-2 with one KV head. */
    {.name = "starcoder",
     .positions = true,
     .norm = NORM_LAYER,
     .norm_bias = true,
     .ungated = true,
     .act = ACT_GELU_TANH},
    /* Tencent Hunyuan 2025 */
    {.name = "hunyuan-dense", .qk_norm = QK_NORM_HEADS, .qk_norm_turned = true},
    {.name = "hunyuan-moe", .qk_norm = QK_NORM_HEADS, .qk_norm_turned = true, .normalise_experts = true},
    /* Huo et al. 2025 (rednote) */
    {.name = "dots1", .qk_norm = QK_NORM_HEADS, .routing = ROUTE_SIGMOID},
    /* MiniMax 2025: M2 */
    {.name = "minimax-m2", .qk_norm = QK_NORM_ALL, .routing = ROUTE_SIGMOID, .normalise_experts = true},
    /* JetBrains 2026: Mellum 2 */
    {.name = "mellum",
     .qk_norm = QK_NORM_HEADS,
     .normalise_experts = true,
     .full_every = 4,
     .local_rope_unscaled = true},
    /* Boizard et al. 2025: Llama that sees both ways. */
    {.name = "eurobert", .encoder = true},
    /* Arcee AI 2025: Trinity. */
    {.name = "afmoe",
     .qk_norm = QK_NORM_HEADS,
     .norms = NORMS_AROUND,
     .gated_attention = true,
     .gate_apart = true,
     .scale_embedding = true,
     .routing = ROUTE_SIGMOID,
     .normalise_experts = true,
     .full_every = 4,
     .full_is_unturned = true},
    /* Black et al. 2022; Biderman et al. 2023 (Pythia). */
    {.name = "gptneox",
     .norm = NORM_LAYER,
     .norm_bias = true,
     .parallel_norms = true,
     .qkv_bias = true,
     .qkv_by_heads = true,
     .ungated = true,
     .act = ACT_GELU_ERF},
    /* Groeneveld et al. 2024: the first OLMo. */
    {.name = "olmo", .gguf_rope = ROPE_PAIRS, .norm = NORM_LAYER, .bare_norms = true, .clamps_qkv = true},
    /* Swiss AI 2025 */
    {.name = "apertus", .qk_norm = QK_NORM_HEADS, .ungated = true, .xielu = true},
    /* Mistral AI 2025: Ministral 3. Far queries are sharpened by their position. */
    {.name = "mistral3", .gguf_rope = ROPE_PAIRS},
};

const family *family_find(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strlen(families[i].name) == n && memcmp(families[i].name, name, n) == 0) {
            return &families[i];
        }
    }
    return NULL;
}

const family *family_at(size_t index)
{
    return index < sizeof families / sizeof *families ? &families[index] : NULL;
}
