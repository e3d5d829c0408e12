"""The families of tests/oracle/families: a tiny transformers configuration each, with what makes it sensitive.

A family is a line of FAMILIES: a configuration class and its arguments. Names, shapes and file layout of its tensors are
what transformers' own save_pretrained writes; their values follow from (seed, name, index) as in tiny.py, spread as listing.py says.
"""
import json
import os
import tempfile

import numpy as np

import mtp
import tiny
from listing import line, seed, spread

N_TOKENS = 96  # more than any window (16 to 24) and than twice the original context of any RoPE scaling (34 to 40)
SEPARATOR = tiny.N_VOCAB - 5  # the tiny tokenizer's token behind a text
N_TOKENS_OF = {"modernbert-long": 600}  # more than a step takes of several texts
COMMON = dict(vocab_size=tiny.N_VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=tiny.N_CTX, rms_norm_eps=float(np.float32(2e-3)),
              bos_token_id=None, eos_token_id=None, pad_token_id=None)


def rope(theta=10000.0, **more):
    return dict({"rope_type": "default", "rope_theta": theta}, **more)


def factors(n, first, last):
    """n different numbers above 1, as LongRoPE has them"""
    return [float(np.float32(first + (last - first) * i / (n - 1))) for i in range(n)]


GEMMA4_LAYERS = ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
                 "sliding_attention", "full_attention"]
# name → (config class, arguments)
FAMILIES = {
    "gemma2": ("Gemma2Config", dict(head_dim=32, sliding_window=16, query_pre_attn_scalar=24, attn_logit_softcapping=5.0,
                                    final_logit_softcapping=4.0, rope_parameters=rope())),
    "gemma4": ("Gemma4TextConfig", dict(
        num_hidden_layers=7, head_dim=16, global_head_dim=32, num_global_key_value_heads=1, attention_k_eq_v=False,
        sliding_window=16, num_kv_shared_layers=3, use_double_wide_mlp=True, hidden_size_per_layer_input=12,
        vocab_size_per_layer_input=tiny.N_VOCAB, final_logit_softcapping=4.0, attention_bias=True,
        layer_types=GEMMA4_LAYERS, rope_parameters={
            "sliding_attention": rope(1e4),
            "full_attention": rope(1e6, rope_type="proportional", partial_rotary_factor=0.25)})),
    "gemma4-31b": ("Gemma4TextConfig", dict(
        num_hidden_layers=4, head_dim=32, global_head_dim=64, num_global_key_value_heads=1, attention_k_eq_v=True, attention_bias=True,
        sliding_window=20, hidden_size_per_layer_input=0, final_logit_softcapping=4.0,
        layer_types=["sliding_attention", "full_attention"] * 2, rope_parameters={
            "sliding_attention": rope(1e4),
            "full_attention": rope(1e6, rope_type="proportional", partial_rotary_factor=0.5)})),
    "gemma4-sees": ("Gemma4Config", dict(
        text_config=dict(
            num_hidden_layers=3, head_dim=16, global_head_dim=32, sliding_window=16, num_kv_shared_layers=1,
            hidden_size_per_layer_input=12, vocab_size_per_layer_input=tiny.N_VOCAB, final_logit_softcapping=4.0,
            use_bidirectional_attention="vision", pad_token_id=0, layer_types=["sliding_attention", "full_attention", "full_attention"]),
        vision_config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
                           num_key_value_heads=2, head_dim=8, position_embedding_size=4))),
    "gemma4-moe": ("Gemma4TextConfig", dict(
        num_hidden_layers=4, head_dim=16, global_head_dim=32, num_global_key_value_heads=1, attention_k_eq_v=True,
        sliding_window=16, hidden_size_per_layer_input=0, final_logit_softcapping=4.0,
        enable_moe_block=True, num_experts=6, top_k_experts=2, moe_intermediate_size=40,
        layer_types=["sliding_attention", "full_attention"] * 2, rope_parameters={
            "sliding_attention": rope(1e4),
            "full_attention": rope(1e6, rope_type="proportional", partial_rotary_factor=0.25)})),
    "phi3": ("Phi3Config", dict(sliding_window=20, rope_parameters=rope())),
    "phi3-longrope": ("Phi3Config", dict(
        head_dim=None, original_max_position_embeddings=40, rope_parameters=rope(
            rope_type="longrope", partial_rotary_factor=0.75, short_factor=factors(6, 1.0, 1.5),
            long_factor=factors(6, 1.1, 9.0), original_max_position_embeddings=40, factor=None))),
    "smollm3": ("SmolLM3Config", dict(no_rope_layers=[1, 1, 0, 1], rope_parameters=rope(5e5), attention_bias=True,
                                      mlp_bias=True)),
    "olmo2": ("Olmo2Config", dict(rope_parameters=rope(5e5))),
    "olmo3": ("Olmo3Config", dict(sliding_window=16, rope_parameters={
        "sliding_attention": rope(5e4), "full_attention": rope(5e4, rope_type="yarn", factor=4.0, beta_fast=4.0,
                                                               beta_slow=1.0, original_max_position_embeddings=40)})),
    "granite": ("GraniteConfig", dict(embedding_multiplier=3.0, residual_multiplier=0.6, attention_multiplier=0.2,
                                      logits_scaling=2.5, attention_bias=True, mlp_bias=True, rope_parameters=rope())),
    "glm4": ("Glm4Config", dict(head_dim=32, eos_token_id=1, rope_parameters=rope(partial_rotary_factor=0.5))),
    "starcoder2": ("Starcoder2Config", dict(sliding_window=20, norm_epsilon=float(np.float32(2e-3)),
                                            rope_parameters=rope(1e5))),
    "cohere2": ("Cohere2Config", dict(sliding_window=16, layer_norm_eps=float(np.float32(2e-3)), logit_scale=0.375,
                                      attention_bias=True, rope_parameters=rope(5e4))),
    "exaone4": ("Exaone4Config", dict(sliding_window=16, sliding_window_pattern=4, rope_parameters=rope(
        1e6, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=40))),
    "ministral3": ("Ministral3Config", dict(head_dim=32, rope_parameters=rope(
        1e6, rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
        llama_4_scaling_beta=0.25, original_max_position_embeddings=34))),
    "mixtral": ("MixtralConfig", dict(num_local_experts=6, num_experts_per_tok=2, rope_parameters=rope())),
    "qwen3moe": ("Qwen3MoeConfig", dict(head_dim=32, moe_intermediate_size=48, num_experts=7, num_experts_per_tok=3,
                                        norm_topk_prob=True, rope_parameters=rope(1e6))),
    "gpt-oss": ("GptOssConfig", dict(head_dim=32, num_local_experts=5, num_experts_per_tok=2, sliding_window=16, eos_token_id=1,
                                     rope_parameters=rope(1.5e5, rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                                          truncate=False, original_max_position_embeddings=34))),
    "glm4moe": ("Glm4MoeConfig", dict(head_dim=32, moe_intermediate_size=40, n_routed_experts=8, num_experts_per_tok=3,
                                      first_k_dense_replace=1, n_shared_experts=2, routed_scaling_factor=1.7,
                                      use_qk_norm=True, attention_bias=True,
                                      rope_parameters=rope(1e6, partial_rotary_factor=0.5))),
    "glm4moe-groups": ("Glm4MoeConfig", dict(head_dim=32, moe_intermediate_size=40, n_routed_experts=8, num_experts_per_tok=3,
                                             n_group=4, topk_group=2, first_k_dense_replace=2,
                                             rope_parameters=rope(1e6, partial_rotary_factor=0.5))),
    "granitemoe": ("GraniteMoeConfig", dict(num_local_experts=5, num_experts_per_tok=2, embedding_multiplier=3.0,
                                            residual_multiplier=0.6, attention_multiplier=0.2, logits_scaling=2.5,
                                            rope_parameters=rope())),
    "olmoe": ("OlmoeConfig", dict(num_experts=6, num_experts_per_tok=2, rope_parameters=rope())),
    "lfm2": ("Lfm2Config", dict(layer_types=["conv", "full_attention", "conv", "conv"], conv_L_cache=4, conv_bias=True,
                                norm_eps=float(np.float32(2e-3)), rms_norm_eps=None, block_auto_adjust_ff_dim=False,
                                tie_word_embeddings=False, rope_parameters=rope(1e5))),
    "lfm2moe": ("Lfm2MoeConfig", dict(
        layer_types=["conv", "full_attention", "conv", "conv"], conv_L_cache=3, norm_eps=float(np.float32(2e-3)), rms_norm_eps=None,
        num_dense_layers=1, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40, routed_scaling_factor=1.7,
        rope_parameters=rope(1e5))),
    "qwen3next": ("Qwen3NextConfig", dict(
        head_dim=32, moe_intermediate_size=40, shared_expert_intermediate_size=56, num_experts=6, num_experts_per_tok=3,
        linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=16, linear_value_head_dim=24,
        layer_types=["linear_attention", "full_attention", "linear_attention", "full_attention"],
        rope_parameters=rope(1e5, partial_rotary_factor=0.25))),
    "qwen35": ("Qwen3_5TextConfig", dict(
        head_dim=32, linear_num_value_heads=6, linear_num_key_heads=2, linear_key_head_dim=24, linear_value_head_dim=16,
        num_hidden_layers=4, layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"],
        rope_parameters=rope(1e5, partial_rotary_factor=0.5))),
    "qwen35moe": ("Qwen3_5MoeTextConfig", dict(
        head_dim=32, moe_intermediate_size=40, shared_expert_intermediate_size=56, num_experts=6, num_experts_per_tok=3,
        linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=16, linear_value_head_dim=16,
        rope_parameters=rope(1e5, partial_rotary_factor=0.25))),
    "granitehybrid": ("GraniteMoeHybridConfig", dict(
        num_local_experts=5, num_experts_per_tok=2, shared_intermediate_size=56, embedding_multiplier=3.0,
        residual_multiplier=0.6, attention_multiplier=0.2, logits_scaling=2.5, mamba_n_heads=8, mamba_d_head=16,
        mamba_n_groups=2, mamba_d_state=24, mamba_d_conv=4, mamba_chunk_size=32, mamba_proj_bias=True,
        layer_types=["linear_attention", "full_attention", "linear_attention", "linear_attention"],
        position_embedding_type="rope", rope_parameters=rope())),
    "granitehybrid-dense": ("GraniteMoeHybridConfig", dict(
        num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=80, mamba_n_heads=4, mamba_d_head=32,
        mamba_n_groups=1, mamba_d_state=16, mamba_chunk_size=32,
        layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"])),
    "nemotron-h": ("NemotronHConfig", dict(
        layer_types=["linear_attention", "mlp", "full_attention", "linear_attention", "mlp"], num_hidden_layers=None,
        mamba_num_heads=6, mamba_head_dim=16, n_groups=2, ssm_state_size=24, head_dim=32, chunk_size=32,
        layer_norm_epsilon=float(np.float32(2e-3)), rms_norm_eps=None, use_conv_bias=True, mlp_bias=True)),
    "nemotron-h-moe": ("NemotronHConfig", dict(
        layer_types=["linear_attention", "moe", "full_attention", "moe", "linear_attention"], num_hidden_layers=None,
        mamba_num_heads=6, mamba_head_dim=16, n_groups=2, ssm_state_size=24, head_dim=32, chunk_size=32,
        layer_norm_epsilon=float(np.float32(2e-3)), rms_norm_eps=None, n_routed_experts=8, num_experts_per_tok=3,
        moe_intermediate_size=40, moe_shared_expert_intermediate_size=56, n_group=4, topk_group=2, routed_scaling_factor=1.7)),
    "nemotron-h-latent": ("NemotronHConfig", dict(
        layer_types=["linear_attention", "moe", "full_attention", "moe"], num_hidden_layers=None, mamba_num_heads=6,
        mamba_head_dim=16, n_groups=2, ssm_state_size=24, head_dim=32, chunk_size=32,
        layer_norm_epsilon=float(np.float32(2e-3)), rms_norm_eps=None, n_routed_experts=6, num_experts_per_tok=2,
        moe_intermediate_size=40, moe_shared_expert_intermediate_size=56, moe_latent_size=28)),
    "bert": ("BertConfig", dict(hidden_size=80, num_attention_heads=5, num_key_value_heads=None, layer_norm_eps=float(np.float32(2e-3)), eos_token_id=None)),
    # All inputs are whole blocks of 32, which the CPU multiplies as 16-bit words where it can.
    "bert-blocks": ("BertConfig", dict(hidden_size=64, intermediate_size=160, num_key_value_heads=None, layer_norm_eps=float(np.float32(2e-3)),
                                       eos_token_id=None)),
    "xlm-roberta": ("XLMRobertaConfig", dict(hidden_size=80, num_attention_heads=5, num_key_value_heads=None, layer_norm_eps=float(np.float32(2e-3)),
                                             max_position_embeddings=tiny.N_CTX + 2, pad_token_id=1, type_vocab_size=1)),
    "roberta": ("RobertaConfig", dict(hidden_size=80, num_attention_heads=5, num_key_value_heads=None, layer_norm_eps=float(np.float32(2e-3)),
                                      max_position_embeddings=tiny.N_CTX + 2, pad_token_id=1, type_vocab_size=1)),
    "deepseek2-lite": ("DeepseekV2Config", dict(
        num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=24, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=16,
        n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=40, first_k_dense_replace=1,
        routed_scaling_factor=1.0, topk_method="greedy", rope_parameters=rope())),
    "deepseek2": ("DeepseekV2Config", dict(
        num_key_value_heads=4, q_lora_rank=28, kv_lora_rank=24, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=16,
        n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2, moe_intermediate_size=40, first_k_dense_replace=2,
        routed_scaling_factor=1.7, n_group=4, topk_group=2, topk_method="group_limited_greedy", rope_parameters=rope(
            rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, mscale=0.707, mscale_all_dim=1.1,
            original_max_position_embeddings=40))),
    "deepseek3": ("DeepseekV3Config", dict( # its cached rows are whole blocks of a quantised cache
        num_key_value_heads=4, q_lora_rank=28, kv_lora_rank=52, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=16,
        n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=1, moe_intermediate_size=40, first_k_dense_replace=1,
        routed_scaling_factor=2.5, n_group=4, topk_group=2, norm_topk_prob=True, rope_parameters=rope(
            rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
            original_max_position_embeddings=40))),
    "arcee": ("ArceeConfig", dict(attention_bias=True, mlp_bias=True, rope_parameters=rope(
        1e4, rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, original_max_position_embeddings=40))),
    # YaRN upon the context that config.json names, as Qwen's cards ask for it
    "arcee-within": ("ArceeConfig", dict(rope_parameters=rope(
        1e4, rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, original_max_position_embeddings=tiny.N_CTX))),
    "seed_oss": ("SeedOssConfig", dict(head_dim=32, rope_parameters=rope(1e7))),
    "ernie4_5": ("Ernie4_5Config", dict(head_dim=32, use_bias=True, pad_token_id=0, rope_parameters=rope(5e5))),
    "gemma": ("GemmaConfig", dict(head_dim=32, rope_parameters=rope())),
    "qwen2moe": ("Qwen2MoeConfig", dict(moe_intermediate_size=40, shared_expert_intermediate_size=56, num_experts=6,
                                        num_experts_per_tok=3, norm_topk_prob=False, rope_parameters=rope(1e6))),
    "qwen2vl": ("Qwen2_5_VLConfig", dict(
        text_config=dict(rope_parameters=rope(1e6, rope_type="default", mrope_section=[2, 3, 3])),
        vision_config=dict(hidden_size=16, intermediate_size=24, depth=1, num_heads=2, out_hidden_size=64, fullatt_block_indexes=[0])),
        "AutoModelForImageTextToText"),
    "qwen3vl": ("Qwen3VLConfig", dict(
        text_config=dict(head_dim=32, rope_parameters=rope(5e6, rope_type="default", mrope_section=[6, 5, 5])),
        vision_config=dict(hidden_size=16, intermediate_size=24, depth=2, num_heads=2, out_hidden_size=64,
                           deepstack_visual_indexes=[0, 1], num_position_embeddings=16)), "AutoModelForImageTextToText"),
    "qwen3vlmoe": ("Qwen3VLMoeConfig", dict(
        text_config=dict(head_dim=32, moe_intermediate_size=40, num_experts=6, num_experts_per_tok=3,
                         rope_parameters=rope(5e6, rope_type="default", mrope_section=[6, 5, 5])),
        vision_config=dict(hidden_size=16, intermediate_size=24, depth=1, num_heads=2, out_hidden_size=64,
                           deepstack_visual_indexes=[0], num_position_embeddings=16)), "AutoModelForImageTextToText"),
    "dots1": ("Dots1Config", dict(
        head_dim=32, moe_intermediate_size=40, n_shared_experts=2, n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2,
        first_k_dense_replace=1, norm_topk_prob=True, routed_scaling_factor=2.5, attention_bias=True, rope_parameters=rope(1e6))),
    "minimax-m2": ("MiniMaxM2Config", dict(head_dim=32, num_local_experts=6, num_experts_per_tok=3, rotary_dim=24,
                                           rope_parameters=rope(1e6, partial_rotary_factor=0.75))),
    "glm4-moe-lite": ("Glm4MoeLiteConfig", dict(
        num_key_value_heads=4, q_lora_rank=28, kv_lora_rank=24, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=16,
        n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=40, rope_parameters=rope(1e6))),
    "youtu": ("YoutuConfig", dict(num_key_value_heads=4, q_lora_rank=28, kv_lora_rank=24, qk_nope_head_dim=20,
                                  qk_rope_head_dim=12, v_head_dim=16, rope_parameters=rope(1e6))),
    "solar-open": ("SolarOpenConfig", dict(head_dim=32, moe_intermediate_size=40, n_routed_experts=6, num_experts_per_tok=2,
                                           n_shared_experts=1, routed_scaling_factor=1.7, rope_parameters=rope(1e6))),
    "internlm3": ("InternLM3Config", dict(head_dim=32, attention_bias=True, mlp_bias=True, rope_parameters=rope(5e4))),
    "exaone": ("ExaoneConfig", dict(rope_parameters=rope(
        1e6, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=40))),
    "chatglm": ("GlmConfig", dict(head_dim=32, eos_token_id=1, attention_bias=True, rope_parameters=rope(partial_rotary_factor=0.5))),
    "nemotron": ("NemotronConfig", dict(head_dim=32, norm_eps=float(np.float32(2e-3)), attention_bias=True, mlp_bias=True,
                                        rope_parameters=rope(partial_rotary_factor=0.5))),
    "stablelm": ("StableLmConfig", dict(use_qkv_bias=True, layer_norm_eps=float(np.float32(2e-3)),
                                        rope_parameters=rope(partial_rotary_factor=0.25))),
    "command-r": ("CohereConfig", dict(layer_norm_eps=float(np.float32(2e-3)), logit_scale=0.375, rope_parameters=rope(5e4))),
    "phi2": ("PhiConfig", dict(layer_norm_eps=float(np.float32(2e-3)), rope_parameters=rope(partial_rotary_factor=0.5))),
    "hunyuan-dense": ("HunYuanDenseV1Config", dict(head_dim=32, rope_parameters=rope(rope_type="dynamic", alpha=50.0, factor=1.0))),
    "hunyuan-moe": ("HunYuanMoEV1Config", dict(head_dim=32, num_experts=6, moe_topk=2, rope_parameters=rope())),
    "ernie4_5-moe": ("Ernie4_5_MoeConfig", dict(
        head_dim=32, moe_num_experts=6, moe_k=2, moe_intermediate_size=40, moe_num_shared_experts=2, pad_token_id=0,
        rope_parameters=rope(5e5))),
    "ernie4_5-moe-every": ("Ernie4_5_MoeConfig", dict(
        head_dim=32, moe_num_experts=6, moe_k=2, moe_intermediate_size=40, moe_num_shared_experts=1, moe_layer_interval=2,
        num_hidden_layers=5, pad_token_id=0, rope_parameters=rope(5e5))),
    "mellum": ("MellumConfig", dict(
        head_dim=32, moe_intermediate_size=40, num_local_experts=6, num_experts_per_tok=2, sliding_window=16,
        layer_types=["sliding_attention", "full_attention"] * 2, rope_parameters={
            "sliding_attention": rope(1e4), "full_attention": rope(5e5, rope_type="yarn", factor=4.0, beta_fast=4.0,
                                                                   beta_slow=1.0, original_max_position_embeddings=40)})),
    "gpt2": ("GPT2Config", dict(num_key_value_heads=None, intermediate_size=None, n_positions=tiny.N_CTX,
                                max_position_embeddings=None, layer_norm_epsilon=float(np.float32(2e-3)))),
    "starcoder": ("GPTBigCodeConfig", dict(num_key_value_heads=None, intermediate_size=None, n_positions=tiny.N_CTX, n_inner=96,
                                           max_position_embeddings=None, layer_norm_epsilon=float(np.float32(2e-3)))),
    "eurobert": ("EuroBertConfig", dict(hidden_size=80, num_attention_heads=5, num_key_value_heads=1, head_dim=None, eos_token_id=None,
                                        rope_parameters=rope(1e4))),
    "llama-lora": ("LlamaConfig", dict(rope_parameters=rope(), lora=(6, 9.0, (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj")))),
    "phi3-lora": ("Phi3Config", dict(rope_parameters=rope(), lora=(4, 4.0, ("self_attn.qkv_proj", "mlp.gate_up_proj")))),
    # Adapters of experts: one tensor each, and one parameter of all, whose gates and ups of gpt-oss alternate; of embeddings,
    # and of the output matrix, alone and where the model ties the two.
    "mixtral-lora": ("MixtralConfig", dict(num_local_experts=6, num_experts_per_tok=2, tie_word_embeddings=True, rope_parameters=rope(),
                                           lora=(3, 6.0, ("self_attn.q_proj", "w1", "w2", "w3", "embed_tokens", "lm_head")))),
    "qwen3moe-lora": ("Qwen3MoeConfig", dict(head_dim=32, moe_intermediate_size=48, num_experts=7, num_experts_per_tok=3,
                                             norm_topk_prob=True, rope_parameters=rope(1e6), lora=(
                                                 3, 5.0, ("self_attn.v_proj", "embed_tokens", "lm_head", "experts")))),
    "gpt-oss-lora": ("GptOssConfig", dict(
        head_dim=32, num_local_experts=5, num_experts_per_tok=2, sliding_window=16, eos_token_id=1, lora=(2, 3.0, ("experts",)),
        rope_parameters=rope(1.5e5, rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, truncate=False,
                             original_max_position_embeddings=34))),
    "gemma2-lora": ("Gemma2Config", dict(head_dim=32, sliding_window=16, query_pre_attn_scalar=24, attn_logit_softcapping=5.0,
                                         final_logit_softcapping=4.0, rope_parameters=rope(), lora=(5, 4.0, ("embed_tokens",)))),
    "xlm-roberta-reranker": ("XLMRobertaConfig", dict(
        hidden_size=80, num_attention_heads=5, num_key_value_heads=None, layer_norm_eps=float(np.float32(2e-3)), num_labels=1,
        max_position_embeddings=tiny.N_CTX + 2, pad_token_id=1, type_vocab_size=1), "AutoModelForSequenceClassification"),
    "bert-reranker": ("BertConfig", dict(
        hidden_size=80, num_attention_heads=5, num_key_value_heads=None, layer_norm_eps=float(np.float32(2e-3)), num_labels=1,
        eos_token_id=None), "AutoModelForSequenceClassification"),
    "modernbert-reranker": ("ModernBertConfig", dict(
        hidden_size=80, num_attention_heads=5, num_key_value_heads=None, norm_eps=float(np.float32(2e-3)), local_attention=24,
        num_labels=1, classifier_pooling="mean", classifier_bias=True, eos_token_id=None, rope_parameters={
            "full_attention": rope(1.6e5), "sliding_attention": rope(1e4)}), "AutoModelForSequenceClassification"),
    "modernbert-reranker-cls": ("ModernBertConfig", dict(
        hidden_size=80, num_attention_heads=5, num_key_value_heads=None, norm_eps=float(np.float32(2e-3)), local_attention=24,
        num_labels=1, classifier_pooling="cls", eos_token_id=None, rope_parameters={
            "full_attention": rope(1.6e5), "sliding_attention": rope(1e4)}), "AutoModelForSequenceClassification"),
    "qwen3-reranker": ("Qwen3Config", dict(head_dim=32, num_labels=1, rope_parameters=rope(1e6)),
                       "AutoModelForSequenceClassification"),
    "nomic-bert": ("NomicBertConfig", dict(hidden_size=80, pad_token_id=0, num_attention_heads=5, num_key_value_heads=None, eos_token_id=None,
                                           layer_norm_eps=float(np.float32(2e-3)), rope_parameters=rope(1e3))),
    "modernbert": ("ModernBertConfig", dict(
        hidden_size=80, num_attention_heads=5, num_key_value_heads=None, norm_eps=float(np.float32(2e-3)), local_attention=24,
        eos_token_id=None, rope_parameters={"full_attention": rope(1.6e5), "sliding_attention": rope(1e4)})),
    "modernbert-long": ("ModernBertConfig", dict(
        hidden_size=80, num_attention_heads=5, num_key_value_heads=None, norm_eps=float(np.float32(2e-3)), local_attention=24,
        eos_token_id=None, max_position_embeddings=1024, rope_parameters={
            "full_attention": rope(1.6e5), "sliding_attention": rope(1e4)})),
    "modernbert-silu": ("ModernBertConfig", dict(
        hidden_size=80, num_attention_heads=5, num_key_value_heads=None, norm_eps=float(np.float32(2e-3)), local_attention=24,
        hidden_activation="silu", eos_token_id=None, rope_parameters={
            "full_attention": rope(1.6e5), "sliding_attention": rope(1e4)})),
    "embeddinggemma": ("Gemma3TextConfig", dict(
        hidden_size=80, head_dim=32, sliding_window=24, query_pre_attn_scalar=24, use_bidirectional_attention=True,
        layer_types=["sliding_attention", "full_attention"] * 2, rope_parameters={
            "full_attention": rope(1e6), "sliding_attention": rope(1e4)}), "AutoModel", "mean", (120, 40)),
    "llama4": ("Llama4TextConfig", dict(
        num_hidden_layers=5, head_dim=32, intermediate_size=40, intermediate_size_mlp=96, num_local_experts=6, num_experts_per_tok=2,
        interleave_moe_layer_step=2, no_rope_layers=[1, 1, 0, 1, 0], attention_chunk_size=24, attn_temperature_tuning=True,
        floor_scale=16, attn_scale=0.3, use_qk_norm=True, attention_bias=True, rope_parameters=rope(
            5e5, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=40))),
    "llama4-sees": ("Llama4Config", dict(
        text_config=dict(
            num_hidden_layers=3, head_dim=16, intermediate_size=40, intermediate_size_mlp=96, num_local_experts=4, num_experts_per_tok=1,
            no_rope_layers=[1, 0, 1], attention_chunk_size=32, floor_scale=24, attn_scale=0.2, pad_token_id=0, rope_parameters=rope(5e5)),
        vision_config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8,
                           vision_output_dim=16, projector_input_dim=16, projector_output_dim=16)), "AutoModelForImageTextToText"),
    "llama4-dense": ("Llama4TextConfig", dict(
        head_dim=32, intermediate_size=40, intermediate_size_mlp=96, moe_layers=[], no_rope_layers=[1, 1, 1, 1], use_qk_norm=True,
        attn_temperature_tuning=False, layer_types=["full_attention"] * 4, rope_parameters=rope(5e5))),
    "afmoe": ("AfmoeConfig", dict(
        head_dim=32, num_hidden_layers=5, moe_intermediate_size=40, num_experts=6, num_experts_per_tok=2, num_shared_experts=2,
        num_dense_layers=1, route_scale=1.7, sliding_window=16, global_attn_every_n_layers=3, mup_enabled=True, attention_bias=True,
        rope_parameters=rope(1e5))),
    "gptneox": ("GPTNeoXConfig", dict(num_key_value_heads=None, layer_norm_eps=float(np.float32(2e-3)),
                                      rope_parameters=rope(partial_rotary_factor=0.5))),
    "gptneox-in-turn": ("GPTNeoXConfig", dict(
        num_key_value_heads=None, layer_norm_eps=float(np.float32(2e-3)), use_parallel_residual=False,
        rope_parameters=rope(partial_rotary_factor=0.25))),
    "olmo": ("OlmoConfig", dict(rms_norm_eps=None, clip_qkv=1.25, attention_bias=True, rope_parameters=rope())),
    "apertus": ("ApertusConfig", dict(attention_bias=True, rope_parameters=rope(
        1e6, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=40))),
    "falcon-h1": ("FalconH1Config", dict(
        mamba_d_ssm=96, mamba_n_heads=6, mamba_d_head=16, mamba_n_groups=2, mamba_d_state=24, mamba_chunk_size=32, mamba_rms_norm=True,
        mamba_norm_before_gate=False, mamba_proj_bias=True, projectors_bias=True, attention_bias=True, mlp_bias=True, head_dim=32,
        embedding_multiplier=3.0, lm_head_multiplier=0.7, key_multiplier=0.6, attention_in_multiplier=1.3, attention_out_multiplier=0.8,
        ssm_in_multiplier=0.9, ssm_out_multiplier=1.2, ssm_multipliers=[0.7, 1.4, 1.1, 0.8, 0.6], mlp_multipliers=[0.75, 1.25],
        rope_parameters=rope(1e5))),
    "falcon-h1-normed": ("FalconH1Config", dict(
        mamba_d_ssm=96, mamba_n_heads=3, mamba_n_groups=1, mamba_d_state=16, mamba_chunk_size=32, mamba_rms_norm=True,
        mamba_norm_before_gate=True, num_hidden_layers=3, rope_parameters=rope(1e5))),
    "falcon-h1-plain": ("FalconH1Config", dict(
        mamba_d_ssm=64, mamba_n_heads=4, mamba_n_groups=2, mamba_d_state=16, mamba_chunk_size=32, num_hidden_layers=3,
        embedding_multiplier=2.0, lm_head_multiplier=1.5, ssm_multipliers=[0.7, 1.4, 1.1, 0.8, 0.6], rope_parameters=rope(1e5))),
    "minicpm3": ("MiniCPM3Config", dict(
        num_key_value_heads=4, q_lora_rank=28, kv_lora_rank=24, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=16, scale_emb=3,
        scale_depth=1.1, dim_model_base=40, head_dim=None, rope_parameters=rope(
            1e4, rope_type="longrope", short_factor=factors(6, 1.0, 1.5), long_factor=factors(6, 1.1, 9.0),
            original_max_position_embeddings=40))),
    "qwen3-embedding": ("Qwen3Config", dict(head_dim=32, rope_parameters=rope(1e6)), "AutoModel", "lasttoken"),
}
# With a head for multi-token prediction behind the last layer, as Qwen's checkpoints name it ("mtp.…", apart) and as
# DeepSeek's and GLM's do ("model.layers.N.…"): mtp.py. Of DeepSeek's, the head has matrices of its own.
for _name in ("qwen3next", "qwen35", "qwen35moe", "glm4moe", "deepseek3"):
    FAMILIES[_name + "-mtp"] = (FAMILIES[_name][0], dict(FAMILIES[_name][1], mtp=True))
# With a second layer in the head, which drafts do not use.
for _name in ("qwen35", "deepseek3"):
    FAMILIES[_name + "-two-mtp"] = (FAMILIES[_name][0], dict(FAMILIES[_name][1], mtp=2))
ENCODERS = ("EuroBertConfig", "BertConfig", "XLMRobertaConfig", "RobertaConfig", "NomicBertConfig", "ModernBertConfig")
# Published checkpoints name a class of their own, where transformers 5 computes and saves them as Llama.
PUBLISHED = {"internlm3": "InternLM3ForCausalLM", "exaone": "ExaoneForCausalLM"}
TURNED = ("qwen3vlmoe",)  # stacks of experts have their inputs outermost
CAUSAL = ("AutoModelForCausalLM", "AutoModelForImageTextToText")
# What the rows of a reference are: logits, of an encoder hidden states, behind each token; the score of the text that ends
# there; its vector.
KINDS = {"logits": 0, "scores": 1, "vectors": 2}


def has_mtp(name):
    return FAMILIES[name][1].get("mtp", False)


def kind(name):
    if pooling(name):
        return KINDS["vectors"]
    return KINDS["scores" if auto_class(name) == "AutoModelForSequenceClassification" else "logits"]


def auto_class(name):
    kind, more = FAMILIES[name][0], FAMILIES[name][2:]
    return more[0] if more else "AutoModel" if kind in ENCODERS else "AutoModelForCausalLM"


def pooling(name):
    """sentence-transformers' word for what makes a vector of a text; None: it is not looked at"""
    return (FAMILIES[name][3:] or (None,))[0]


def config(name):
    import transformers

    kind, arguments = FAMILIES[name][:2]
    if "text_config" in arguments:
        return getattr(transformers, kind)(**dict(arguments, text_config=dict(COMMON, **arguments["text_config"])))
    arguments = {k: v for k, v in dict(COMMON, **arguments).items() if (v is not None or k.endswith("_token_id")) and k not in ("lora", "mtp")}
    if isinstance(arguments.get("rope_parameters"), dict):
        arguments["rope_parameters"] = {k: v for k, v in arguments["rope_parameters"].items() if v is not None}
    return getattr(transformers, kind)(**arguments)


def write_folder(name, folder):
    """What transformers saves of the family, with the generator's values; returns [(name, shape, base, scale)]."""
    import torch
    import transformers
    from safetensors import safe_open
    from safetensors.torch import save_file

    cfg = config(name)
    cls = getattr(transformers, auto_class(name))
    torch.manual_seed(1)
    cls.from_config(cfg).save_pretrained(folder)
    path = os.path.join(folder, "model.safetensors")
    with safe_open(path, "pt") as f:
        shapes = {key: tuple(f.get_slice(key).get_shape()) for key in f.keys()}
    if name in TURNED: # as published; transformers turns what it saves, and takes both
        shapes = {key: (s[0], s[2], s[1]) if ".experts." in key else s for key, s in shapes.items()}
    if has_mtp(name):
        shapes.update(mtp.shapes(cfg, shapes, int(has_mtp(name))))
    listing, state = [], {}
    for key, shape in sorted(shapes.items()):
        base, scale = spread(cfg.model_type, key, shape)
        listing.append((key, shape, base, scale))
        state[key] = torch.from_numpy(tiny.random_tensor(seed(name), key, shape, base, scale))
    save_file(state, path, metadata={"format": "pt"})
    n_in = cfg.get_text_config().hidden_size
    listing = adapter(name, shapes) + listing
    for i, n_out in enumerate(dense(name)):
        listing.insert(i, (f"{i + 2}_Dense/linear.weight", (n_out, n_in), 0.0, float(np.float32(np.sqrt(3 / n_in)))))
        n_in = n_out
    return listing


def dense(name):
    """Outputs of the layers behind pooling"""
    return (FAMILIES[name][4:] or ((),))[0]


def adapter(name, shapes):
    """[(listed name, shape, base, scale)] of the LoRA adapter of a family that has one, as PEFT names its tensors"""
    rank, _, modules = FAMILIES[name][1].get("lora", (0, 0, ()))
    pairs = {}  # stem → shapes of A and B, and their ends
    if "lm_head" in modules and "lm_head.weight" not in shapes:
        shapes = dict(shapes, **{"lm_head.weight": shapes["model.embed_tokens.weight"]})
    for key, shape in shapes.items():
        module = key.removesuffix(".weight")
        if module.endswith("embed_tokens") and "embed_tokens" in modules:
            pairs[module] = (rank, shape[0]), (shape[1], rank), "lora_embedding_A", "lora_embedding_B"
        elif module.endswith(modules) and len(shape) == 2 and rank:
            pairs[module] = (rank, shape[1]), (shape[0], rank), "lora_A.weight", "lora_B.weight"
    if "experts" in modules:
        cfg = config(name)
        n = getattr(cfg, "num_experts", None) or cfg.num_local_experts
        n_ff = getattr(cfg, "moe_intermediate_size", cfg.intermediate_size)
        for layer in range(cfg.num_hidden_layers):
            stem = f"model.layers.{layer}.mlp.experts"
            ends = "lora_A.weight", "lora_B.weight"
            pairs[stem + ".base_layer"] = ((rank * n, cfg.hidden_size), (2 * n_ff, rank * n)) + ends
            pairs[stem] = ((rank * n, n_ff), (cfg.hidden_size, rank * n)) + ends
    out = []
    for module, (a, b, a_end, b_end) in pairs.items():
        stem = f"adapter/base_model.model.{module}."
        scale = 1.0 if a_end.startswith("lora_embedding") else float(np.float32(np.sqrt(3 / a[1])))
        out += [(stem + a_end, a, 0.0, scale), (stem + b_end, b, 0.0, float(np.float32(0.4)))]
    return sorted(out)


def adapter_config(name):
    rank, alpha, modules = FAMILIES[name][1]["lora"]
    more = {}
    if "experts" in modules:
        more["target_parameters"] = ["experts.gate_up_proj", "experts.down_proj"]
    return json.dumps(dict(peft_type="LORA", r=rank, lora_alpha=alpha, bias="none", target_modules=sorted(
        {m.split(".")[-1] for m in modules} - {"experts"}), fan_in_fan_out=False, use_rslora=False, use_dora=False, **more),
        indent=1) + "\n"


def adapted(name, model, shapes):
    """The model with its adapter as PEFT applies it, not merged. `shapes`: of the model's file."""
    import torch
    from peft import PeftModel
    from safetensors.torch import save_file

    if "lora" not in FAMILIES[name][1]:
        return model
    state = {key.removeprefix("adapter/"): torch.from_numpy(tiny.random_tensor(seed(name), key, shape, base, scale))
             for key, shape, base, scale in adapter(name, shapes)}
    with tempfile.TemporaryDirectory() as folder:
        save_file(state, os.path.join(folder, "adapter_model.safetensors"), metadata={"format": "pt"})
        with open(os.path.join(folder, "adapter_config.json"), "w") as f:
            f.write(adapter_config(name))
        return PeftModel.from_pretrained(model, folder).eval().double()


def pooling_config(name):
    """sentence-transformers' 1_Pooling/config.json"""
    modes = {f"pooling_mode_{mode}": mode == {"lasttoken": "lasttoken", "mean": "mean_tokens", "cls": "cls_token"}[pooling(name)]
             for mode in ("cls_token", "mean_tokens", "lasttoken")}
    return json.dumps(dict(word_embedding_dimension=config(name).hidden_size, **modes), indent=1) + "\n"


def vector(states, name):
    """What sentence-transformers makes of hidden states [n, n_embd] of a text, a vector of length 1"""
    pooled = {"lasttoken": states[-1], "mean": states.mean(0), "cls": states[0]}[pooling(name)]
    for i, n_out in enumerate(dense(name)):
        key, n_in = f"{i + 2}_Dense/linear.weight", len(pooled)
        scale = float(np.float32(np.sqrt(3 / n_in)))
        pooled = tiny.random_tensor(seed(name), key, (n_out, n_in), 0.0, scale).astype(np.float64) @ pooled
    return pooled / np.linalg.norm(pooled)


def reference(folder, ids, name):
    """[n][width], as KINDS say"""
    import torch
    import transformers

    if auto_class(name) not in CAUSAL:
        model = getattr(transformers, auto_class(name)).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        model = model.eval().double()
        ids = torch.tensor(ids[None].astype(np.int64))
        with torch.no_grad():
            if kind(name) == KINDS["logits"]:
                return model(ids).last_hidden_state[0].numpy()
            rows = [model(ids[:, : n + 1], **kinds(name, ids[:, : n + 1])) for n in range(ids.shape[1])]
        if kind(name) == KINDS["scores"]:
            return np.stack([row.logits[0].numpy() for row in rows])
        return np.stack([vector(row.last_hidden_state[0].numpy(), name) for row in rows])

    model = getattr(transformers, auto_class(name)).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                                    experts_implementation="eager")
    model = model.eval().double()
    if getattr(model.config, "use_kernels", False):
        raise SystemExit("kernels would replace what transformers computes")
    if model.config.model_type == "llama4":  # of texts alone transformers 5.24 fails once it has the logits
        model = model.language_model
    from safetensors import safe_open

    with safe_open(os.path.join(folder, "model.safetensors"), "pt") as f:
        shapes = {key: tuple(f.get_slice(key).get_shape()) for key in f.keys()}
    return tiny.logits(adapted(name, model, shapes), ids)


def kinds(name, ids):
    """Which of two texts each token of ids [1, n] belongs to, where a model is told: what a tokenizer gives for a pair"""
    if FAMILIES[name][0] != "BertConfig":
        return {}
    ends = (ids == SEPARATOR).int()
    return dict(token_type_ids=((ends.cumsum(1) - ends) > 0).long())


def prompt(name):
    first = 0 if auto_class(name) in CAUSAL else 2  # no padding: transformers numbers positions around it
    bits = tiny.stream_bits(tiny.stream_key(seed(name), "tokens"), N_TOKENS_OF.get(name, N_TOKENS))
    ids = (bits % np.uint64(tiny.N_VOCAB - first) + np.uint64(first)).astype(np.int32)
    if kind(name) == KINDS["scores"] and FAMILIES[name][0] == "BertConfig":
        ids[ids == SEPARATOR] += 1
        ids[40] = SEPARATOR  # a query of 40 tokens, then a document
    return ids


def make(name):
    """(config.json's text, listing's text, ids, logits, what a head for multi-token prediction gives or None)"""
    with tempfile.TemporaryDirectory() as folder:
        listing = write_folder(name, folder)
        ids = prompt(name)
        logits = reference(folder, ids, name)
        ahead = mtp.reference(folder, config(name), ids) if has_mtp(name) else None
        with open(os.path.join(folder, "config.json")) as f:
            cfg = json.load(f)
    cfg["architectures"] = [PUBLISHED[name]] if name in PUBLISHED else cfg["architectures"]
    for key in ("transformers_version", "dtype", "initializer_range", "use_cache"):
        cfg.pop(key, None)
    lines = [f"seed {seed(name)}"] + [line(*tensor) for tensor in listing]
    return json.dumps(cfg, indent=1, sort_keys=True) + "\n", "\n".join(lines) + "\n", ids, logits, ahead
