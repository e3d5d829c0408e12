/*
 * Safetensors reader: what config.json says of mixers, experts, windows, RoPE and pooling, folders of several files and
 * modules, and stacks that lie the other way round, each broken in one place: one clear line for each.
 * Owner: the test program. Lifetime: the process.
 */
#include <sys/stat.h>

#include "loaders/safetensors_writer.h"
#include "safetensors_text.h"

typedef struct hostile {
    const char *config, *error; /* error NULL: it is taken */
} hostile;

static const uint8_t no_tensors[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};

static void check_configs(const hostile *cases, size_t n, const char *pooling)
{
    for (size_t i = 0; i < n; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        const safetensors_texts texts = {.config = view(cases[i].config), .pooling = view(pooling)};
        mlxr_status status = safetensors_open_memory(&file, &texts, no_tensors, sizeof no_tensors, &error);
        bool as_wanted = cases[i].error ? status != MLXR_OK && status == error.status && !file &&
                                              !strchr(error.text, '\n') && strstr(error.text, cases[i].error)
                                        : status == MLXR_OK;
        if (!as_wanted) {
            fail_msg("%s\n  gave status %d: %s\n  expected: %s", cases[i].config, status, error.text,
                     cases[i].error ? cases[i].error : "(success)");
        }
        model_file_close(&file);
    }
}

#define BAD_FIRST ", \"vocab_size\": []" /* an error that came first stays */
#define LFM2(more) CLASS("Lfm2ForCausalLM", ", \"conv_L_cache\": 3" more)
#define TWO_LAYERS ", \"layer_types\": [\"conv\", \"full_attention\"]"
#define NEMOTRON(more)                                                                                                 \
    CLASS("NemotronHForCausalLM",                                                                                      \
          ", \"mamba_num_heads\": 2, \"n_groups\": 1, \"mamba_head_dim\": 4, \"conv_kernel\": 4, "                     \
          "\"ssm_state_size\": 4, \"mlp_hidden_act\": \"relu2\"" more)
#define NEXT(more)                                                                                                     \
    CLASS("Qwen3NextForCausalLM",                                                                                      \
          ", \"linear_conv_kernel_dim\": 4, \"linear_key_head_dim\": 4, \"linear_num_key_heads\": 1, "                 \
          "\"linear_num_value_heads\": 2, \"linear_value_head_dim\": 4, \"num_experts\": 4, "                          \
          "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 8, \"shared_expert_intermediate_size\": 8" more)
#define QWEN35(more)                                                                                                   \
    CLASS("Qwen3_5ForCausalLM", ", \"linear_conv_kernel_dim\": 4, \"linear_key_head_dim\": 4, "                        \
                                "\"linear_num_key_heads\": 1, \"linear_num_value_heads\": 2, "                         \
                                "\"linear_value_head_dim\": 4" more)
#define SECTIONS(list) QWEN35(", \"rope_parameters\": {\"rope_type\": \"default\", \"mrope_section\": " list "}")
#define GRANITE_HYBRID(more)                                                                                           \
    CLASS("GraniteMoeHybridForCausalLM",                                                                               \
          ", \"mamba_n_heads\": 4, \"mamba_n_groups\": 1, \"mamba_d_conv\": 4, \"mamba_d_state\": 4, "                 \
          "\"num_local_experts\": 4, \"num_experts_per_tok\": 2, \"shared_intermediate_size\": 8, "                    \
          "\"layer_types\": [\"mamba\", \"attention\"]" more)
#define MINICPM3(more)                                                                                                 \
    CLASS("MiniCPM3ForCausalLM", ", \"qk_rope_head_dim\": 4, \"qk_nope_head_dim\": 4, \"kv_lora_rank\": 4" more)
#define FALCON_H1(more)                                                                                                \
    CLASS("FalconH1ForCausalLM",                                                                                       \
          ", \"mamba_n_heads\": 4, \"mamba_n_groups\": 1, \"mamba_d_conv\": 4, \"mamba_d_state\": 4" more)
#define LLAMA4(more)                                                                                                   \
    CLASS("Llama4ForCausalLM",                                                                                         \
          ", \"intermediate_size_mlp\": 24, \"num_local_experts\": 4, \"num_experts_per_tok\": 1" more)
#define DEEPSEEK(more)                                                                                                 \
    CLASS("DeepseekV2ForCausalLM",                                                                                     \
          ", \"qk_rope_head_dim\": 4, \"qk_nope_head_dim\": 4, \"kv_lora_rank\": 4, \"v_head_dim\": 4, "               \
          "\"n_routed_experts\": 4, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 8, "                        \
          "\"first_k_dense_replace\": 1, \"n_shared_experts\": 1" more)
#define GEMMA4(more)                                                                                                   \
    CLASS("Gemma4ForCausalLM", ", \"head_dim\": 32, \"num_key_value_heads\": 2, \"layer_types\": "                     \
                               "[\"sliding_attention\", \"full_attention\"]" more)
#define FULL4(rope) GEMMA4(", \"rope_parameters\": {\"full_attention\": " rope "}")

static void mixers_that_cannot_be_are_named(void **state)
{
    static const hostile cases[] = {
        {LFM2(TWO_LAYERS), NULL},
        {LFM2(TWO_LAYERS ", \"block_ff_dim\": 16"), NULL},
        {LFM2(TWO_LAYERS ", \"block_auto_adjust_ff_dim\": false"), NULL},
        {LFM2(TWO_LAYERS ", \"block_multiple_of\": 0"), NULL},
        {LFM2(TWO_LAYERS ", \"block_ffn_dim_multiplier\": 0"), NULL},
        {LFM2(TWO_LAYERS ", \"block_ffn_dim_multiplier\": 1000"), NULL},
        {LFM2(TWO_LAYERS ", \"block_ffn_dim_multiplier\": \"1\""), "'block_ffn_dim_multiplier' is no number"},
        {LFM2(TWO_LAYERS ", \"block_ff_dim\": 4294967295, \"block_ffn_dim_multiplier\": 900"), NULL},
        {CLASS("Lfm2ForCausalLM", TWO_LAYERS), "'conv_L_cache' is missing"},
        {LFM2(TWO_LAYERS BAD_FIRST), "'vocab_size' is no whole number"},
        {LFM2(", \"layer_types\": [\"conv\", \"mlp\"]"), "layer 1 is of an unknown type"},
        {LFM2(", \"layer_types\": [\"moe\", \"conv\"]"), "layer 0 is of an unknown type"},
        {LFM2(", \"layer_types\": [\"conv\", 7]"), "layer 1 is of an unknown type"},
        {LFM2(", \"layer_types\": [\"conv\"]"), "config.json"},
        {LFM2(""), "config.json"},
        {LFM2(", \"layer_types\": {}"), "config.json"},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\""), NULL},
        {NEMOTRON(", \"layers_block_type\": [\"mamba\", \"mlp\", \"attention\"]"), NULL},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*X\""), "layer 2 is of an unknown type"},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*E\""), "config.json"},
        {NEMOTRON(", \"hybrid_override_pattern\": \"\""), "config.json"},
        {NEMOTRON(", \"hybrid_override_pattern\": 5"), "config.json"},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\", \"time_step_limit\": [0, 1]"), "'time_step_limit' other"},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\", \"time_step_limit\": [0.1]"), "'time_step_limit' other"},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\", \"time_step_limit\": [0, \"inf\"]"), NULL},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\", \"time_step_limit\": [0, 1.5]" BAD_FIRST),
         "'vocab_size' is no"},
        {CLASS("NemotronHForCausalLM", ", \"hybrid_override_pattern\": \"M*-\", \"mamba_num_heads\": 2"), "is missing"},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\", \"moe_latent_size\": 0"), NULL},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\", \"moe_latent_size\": 4"),
         "'moe_latent_size' is 4, but the model has no experts"},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\", \"moe_latent_size\": 4" BAD_FIRST), "'vocab_size' is no"},
        {MINICPM3(""), NULL},
        {MINICPM3(", \"scale_depth\": null, \"dim_model_base\": null, \"v_head_dim\": 4"), NULL},
        {MINICPM3(", \"scale_depth\": \"1\""), "'scale_depth' is no number"},
        {MINICPM3(", \"scale_emb\": []"), "'scale_emb' is no number"},
        {MINICPM3(", \"v_head_dim\": 4097"), "'v_head_dim' is 4097"},
        {FALCON_H1(""), NULL},
        {FALCON_H1(", \"mamba_d_ssm\": 16"), NULL},
        {FALCON_H1(", \"mamba_d_ssm\": \"16\""), "'mamba_d_ssm' is no whole number"},
        {FALCON_H1(", \"ssm_multipliers\": [1, 2, 3, 4, 5], \"mlp_multipliers\": [1, 2]"), NULL},
        {FALCON_H1(", \"ssm_multipliers\": [1, 2, 3, 4]"), "'ssm_multipliers' is no list of numbers"},
        {FALCON_H1(", \"ssm_multipliers\": 2"), "'ssm_multipliers' is no list of numbers"},
        {FALCON_H1(", \"mlp_multipliers\": [1, \"2\"]"), "'mlp_multipliers' is no list of numbers"},
        {FALCON_H1(", \"key_multiplier\": \"1\""), "'key_multiplier' is no number"},
        {FALCON_H1(", \"mamba_norm_before_gate\": 1"), "'mamba_norm_before_gate' is no true or false"},
        {FALCON_H1(", \"key_multiplier\": []" BAD_FIRST), "'vocab_size' is no whole number"},
        {GRANITE_HYBRID(""), NULL},
        {GRANITE_HYBRID(", \"mamba_d_head\": \"auto\", \"position_embedding_type\": \"rope\""), NULL},
        {GRANITE_HYBRID(", \"mamba_d_head\": 70000"), NULL} /* the graph refuses a width of 0 */,
        {GRANITE_HYBRID(", \"mamba_d_head\": 2.5"), "'mamba_d_head' is no whole number"},
        {GRANITE_HYBRID(", \"mamba_expand\": -1"), "'mamba_expand' is no whole number"},
        {GRANITE_HYBRID(", \"time_step_limit\": [0.5, 2]"), "'time_step_limit' other"},
        {NEXT(""), NULL},
        {NEXT(", \"full_attention_interval\": 0"), NULL},
        {NEXT(", \"full_attention_interval\": \"4\""), "'full_attention_interval' is no whole number"},
        {NEXT(", \"layer_types\": [\"linear_attention\", \"full_attention\"]"), NULL},
        {NEXT(", \"layer_types\": [\"linear_attention\", \"sliding_attention\"]"), "'layer_types' is no array of"},
        {NEXT(", \"layer_types\": [\"linear_attention\"]"), "config.json"},
        {NEXT(", \"layer_types\": [\"linear_attention\", \"full_attention\"]" BAD_FIRST),
         "'vocab_size' is no whole number"},
    };
    (void)state;
    check_configs(cases, sizeof cases / sizeof *cases, NULL);
}

static void attention_and_rope_that_cannot_be_are_named(void **state)
{
    static const hostile cases[] = {
        {DEEPSEEK(""), NULL},
        {DEEPSEEK(", \"q_lora_rank\": 4"), NULL},
        {DEEPSEEK(", \"q_lora_rank\": null"), NULL},
        {DEEPSEEK(", \"q_lora_rank\": \"4\""), "'q_lora_rank' is no whole number"},
        {DEEPSEEK(", \"rope_interleave\": false"), "'rope_interleave' false is not supported"},
        {DEEPSEEK(", \"rope_interleave\": false" BAD_FIRST), "'vocab_size' is no whole number"},
        {DEEPSEEK(", \"rope_interleave\": 1"), "'rope_interleave' is no true or false"},
        {DEEPSEEK(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": 1, \"mscale_all_dim\": 1}"),
         NULL},
        {DEEPSEEK(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": 0.5, \"mscale_all_dim\": 1}"),
         NULL},
        {DEEPSEEK(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 0.5, \"mscale\": 1, \"mscale_all_dim\": 1}"),
         NULL},
        {DEEPSEEK(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": \"1\"}"),
         "'mscale' is no number"},
        {CLASS("DeepseekV2ForCausalLM", ", \"qk_rope_head_dim\": 4"), "is missing"},
        {CLASS("DeepseekV2ForCausalLM", ", \"qk_rope_head_dim\": 4097"), "'qk_rope_head_dim' is 4097"},
        {LLAMA4(""), NULL},
        {LLAMA4(", \"attention_chunk_size\": null"), NULL},
        {LLAMA4(", \"attention_chunk_size\": \"8\""), "'attention_chunk_size' is no whole number"},
        {LLAMA4(", \"no_rope_layers\": [1, 0]"), NULL},
        {LLAMA4(", \"no_rope_layers\": []"), NULL},
        {LLAMA4(", \"no_rope_layers\": [1]"), "'no_rope_layers' is no list"},
        {LLAMA4(", \"no_rope_layer_interval\": \"4\""), "'no_rope_layer_interval' is no whole number"},
        {LLAMA4(", \"layer_types\": [\"chunked_attention\", \"full_attention\"]"), NULL},
        {LLAMA4(", \"layer_types\": [\"chunked_attention\"]"), "'layer_types' is no array with one string a layer"},
        {LLAMA4(", \"layer_types\": [\"chunked_attention\", \"sliding_attention\"]"),
         "'layer_types' is no array of 'chunked_attention' and 'full_attention'"},
        {LLAMA4(", \"moe_layers\": [0, 1]"), NULL},
        {LLAMA4(", \"moe_layers\": [1]"), NULL},
        {LLAMA4(", \"moe_layers\": []"), NULL},
        {LLAMA4(", \"moe_layers\": [0]"), "'moe_layers' is no list of every n-th layer"},
        {LLAMA4(", \"moe_layers\": [1, 0]"), "'moe_layers' is no list of every n-th layer"},
        {LLAMA4(", \"moe_layers\": {}"), "'moe_layers' is no list of every n-th layer"},
        {LLAMA4(", \"moe_layers\": [-1]"), "'moe_layers' is no list of every n-th layer"},
        {LLAMA4(", \"interleave_moe_layer_step\": 0"), "'interleave_moe_layer_step' is no number from 1 to"},
        {LLAMA4(", \"interleave_moe_layer_step\": 3"), "'interleave_moe_layer_step' is no number from 1 to"},
        {LLAMA4(", \"floor_scale\": 0.5"), "'floor_scale' is no whole number"},
        {LLAMA4(", \"attn_temperature_tuning\": 4"), "'attn_temperature_tuning' is no true or false"},
        {LLAMA4(BAD_FIRST), "'vocab_size' is no whole number"},
        {LLAMA4(", \"moe_layers\": [0]" BAD_FIRST), "'vocab_size' is no whole number"},
        {GEMMA4(", \"per_layer_config\": {\"0\": {}, \"1\": {\"head_dim\": 64}}"), NULL},
        {GEMMA4(", \"per_layer_config\": {\"1\": 64}"), NULL},
        {GEMMA4(", \"num_kv_shared_layers\": 1, \"use_double_wide_mlp\": true"), NULL},
        {GEMMA4(", \"num_kv_shared_layers\": 1, \"use_double_wide_mlp\": true" BAD_FIRST), "'vocab_size' is no"},
        {GEMMA4(", \"hidden_size_per_layer_input\": null"), NULL},
        {GEMMA4(", \"hidden_size_per_layer_input\": \"8\""), "'hidden_size_per_layer_input' is no whole number"},
        {GEMMA4(", \"num_kv_shared_layers\": 9" BAD_FIRST), "'vocab_size' is no whole number"},
        {"{\"architectures\": [\"Gemma4ForCausalLM\"], \"hidden_size\": 8, \"intermediate_size\": 4294967295, "
         "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"layer_types\": [\"full_attention\", 1]}",
         "config.json"},
        {GEMMA4(", \"global_head_dim\": 1"), "'global_head_dim' is no number from 2 to 4096"},
        {FULL4("{\"rope_type\": \"default\"}"), NULL},
        {FULL4("{\"rope_type\": \"proportional\", \"factor\": 1}"), NULL},
        {FULL4("{\"rope_type\": \"proportional\", \"factor\": 8}"), NULL},
        {FULL4("{\"rope_type\": \"proportional\", \"factor\": []}"), "'factor' is no number"},
        {FULL4("{\"rope_type\": \"proportional\", \"partial_rotary_factor\": -1}"), "'partial_rotary_factor' is no"},
        {FULL4("{\"rope_theta\": 1000}"), NULL},
        {GEMMA4(", \"rope_parameters\": {\"sliding_attention\": {\"partial_rotary_factor\": 0}}"),
         "'partial_rotary_factor' is no"},
        {GEMMA4(", \"rope_parameters\": {\"sliding_attention\": {\"partial_rotary_factor\": 2}}"),
         "'partial_rotary_factor' is no"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"mrope\"}"), NULL},
        {LLAMA(", \"rope_scaling\": {\"type\": \"su\", \"factor\": 2, \"long_factor\": [\"1\"]}"),
         "'long_factor' is no list of numbers above 0"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"su\", \"factor\": 2, \"long_factor\": [1e300]}"),
         "'long_factor' is no list of numbers above 0"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"su\", \"factor\": 2, \"long_factor\": [1], \"short_factor\": [1]}"),
         NULL},
        {LLAMA(", \"rope_scaling\": {\"type\": \"longrope\"}, \"original_max_position_embeddings\": 0"),
         "RoPE scaling 'longrope' without 'factor'"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"linear\"}" BAD_FIRST), "'vocab_size' is no whole number"},
        {CLASS("SmolLM3ForCausalLM", ", \"no_rope_layers\": [1, 0]"), NULL},
        {CLASS("SmolLM3ForCausalLM", ", \"no_rope_layers\": {}"), "'no_rope_layers' is no list"},
        {CLASS("SmolLM3ForCausalLM", ", \"no_rope_layer_interval\": 0"), NULL},
        {CLASS("SmolLM3ForCausalLM", ", \"no_rope_layer_interval\": 2"), NULL},
        {CLASS("SmolLM3ForCausalLM", ", \"no_rope_layer_interval\": 2" BAD_FIRST), "'vocab_size' is no whole number"},
        {CLASS("Exaone4ForCausalLM", ", \"sliding_window_pattern\": \"\""), "'sliding_window_pattern' is no number"},
        {CLASS("Exaone4ForCausalLM", ", \"sliding_window_pattern\": \"LG\"" BAD_FIRST),
         "'vocab_size' is no whole number"},
        {CLASS("ModernBertModel", ", \"global_attn_every_n_layers\": 0"), NULL},
        {CLASS("ModernBertModel", ", \"global_attn_every_n_layers\": []"), "'global_attn_every_n_layers' is no whole"},
        {CLASS("ModernBertModel", ", \"local_attention\": 0"), NULL},
        {CLASS("NomicBertModel", ", \"prenorm\": true"), "'prenorm' is not supported"},
        {CLASS("NomicBertModel", ", \"prenorm\": 1"), "'prenorm' is no true or false"},
        {CLASS("NomicBertModel", ", \"rotary_emb_interleaved\": true"), "'rotary_emb_interleaved' is not supported"},
        {CLASS("BertModel", ", \"position_embedding_type\": \"relative_key\""),
         "position_embedding_type 'relative_key'"},
        {CLASS("BertModel", ", \"position_embedding_type\": \"absolute\""), NULL},
        {CLASS("BertModel", ", \"position_embedding_type\": 1"), "'position_embedding_type' is no string"},
        {CLASS("BertModel", ", \"position_embedding_type\": \"relative_key\", \"layer_norm_eps\": []"),
         "'layer_norm_eps' is no number"},
        {QWEN35(""), NULL},
        {SECTIONS("[24, 20, 20]"), NULL},
        {SECTIONS("null"), NULL},
        {SECTIONS("[]"), "'mrope_section' is no list of 1 to 4 numbers of pairs"},
        {SECTIONS("{}"), "'mrope_section' is no list of 1 to 4 numbers of pairs"},
        {SECTIONS("[1, 1, 1, 1, 1]"), "'mrope_section' is no list of 1 to 4 numbers of pairs"},
        {SECTIONS("[1, -1]"), "'mrope_section' is no list of 1 to 4 numbers of pairs"},
        {SECTIONS("[1, 256]"), "'mrope_section' is no list of 1 to 4 numbers of pairs"},
        {SECTIONS("[1, \"1\"]"), "'mrope_section' is no list of 1 to 4 numbers of pairs"},
        {QWEN35(BAD_FIRST), "'vocab_size' is no whole number"},
        {LLAMA(", \"bos_token_id\": -1"), "'bos_token_id' is no token id"},
        {LLAMA(", \"bos_token_id\": 1.5"), "'bos_token_id' is no token id"},
    };
    (void)state;
    check_configs(cases, sizeof cases / sizeof *cases, NULL);
}

static void what_makes_a_vector_of_a_text_must_be_one_thing(void **state)
{
    static const struct {
        const char *pooling, *error;
    } cases[] = {
        {"{\"pooling_mode_mean_tokens\": true}", NULL},
        {"{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": false}", NULL},
        {"{\"pooling_mode_lasttoken\": true}", NULL},
        {"{}", "exactly one of mean, first and last token"},
        {"{\"pooling_mode_mean_tokens\": true, \"pooling_mode_cls_token\": true}", "exactly one of mean"},
        {"{\"pooling_mode_max_tokens\": true}", "exactly one of mean, first and last token"},
        {"{\"pooling_mode_mean_tokens\": \"yes\"}", "'pooling_mode_mean_tokens' is no true or false"},
        {"[]", "1_Pooling/config.json: not a JSON object"},
        {"{\"pooling_mode_mean_tokens\": true", "1_Pooling/config.json: line 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_configs(&(hostile){CLASS("BertModel", ""), cases[i].error}, 1, cases[i].pooling);
    }
    check_configs(&(hostile){LLAMA(BAD_FIRST), "'vocab_size' is no whole number"}, 1, "{}");
}

static void m_ropes_sections_are_what_config_json_says(void **state)
{
    static const struct {
        const char *config;
        int sections[4];
    } cases[] = {
        {QWEN35(""), {11, 11, 10, 0}}, {SECTIONS("[24, 20, 20]"), {24, 20, 20, 0}}, {SECTIONS("[4]"), {4, 0, 0, 0}}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        const safetensors_texts texts = {.config = view(cases[i].config)};
        assert_ok(safetensors_open_memory(&file, &texts, no_tensors, sizeof no_tensors, &error), &error);
        const meta_value *found = model_file_meta(file, "qwen35.rope.dimension_sections");
        assert_true(found && found->type == META_ARRAY && found->array.n == 4);
        for (uint64_t k = 0; k < 4; k++) {
            assert_true(meta_array_number(&found->array, k) == cases[i].sections[k]);
        }
        model_file_close(&file);
    }
}

/* ---- tensors ---- */

#define GPT_OSS CLASS("GptOssForCausalLM", ", \"head_dim\": 4, \"num_local_experts\": 2, \"num_experts_per_tok\": 1")
#define VL_MOE CLASS("Qwen3VLMoeTextModel", ", \"num_experts\": 1, \"num_experts_per_tok\": 1")
#define UP "model.layers.0.mlp.experts.gate_up_proj"
#define DOWN "model.layers.0.mlp.experts.down_proj"

/* Qwen3-VL's stacks of experts were published with inputs outermost; transformers saves them with inputs innermost. */
static void stacks_that_lie_either_way_round_are_told_by_their_shape(void **state)
{
    static const struct {
        const char *up, *down;
        bool turned;
    } ways[] = {{"[1, 8, 4]", "[1, 2, 8]", true}, {"[1, 4, 8]", "[1, 8, 2]", false}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        char header[400];
        size_t n;
        snprintf(header, sizeof header,
                 "{\"" UP "\": {\"dtype\": \"F32\", \"shape\": %s, \"data_offsets\": [0, 128]}, \"" DOWN
                 "\": {\"dtype\": \"F32\", \"shape\": %s, \"data_offsets\": [128, 192]}}",
                 ways[i].up, ways[i].down);
        uint8_t *bytes = weights(header, 192, &n);
        const safetensors_texts texts = {.config = view(VL_MOE)};
        assert_ok(safetensors_open_memory(&file, &texts, bytes, n, &error), &error);
        const tensor *up = model_file_tensor(file, "blk.0.ffn_gate_up_exps.weight");
        const tensor *down = model_file_tensor(file, "blk.0.ffn_down_exps.weight");
        assert_true(up && up->shape[0] == 8 && up->shape[1] == 4 && down && down->shape[0] == 2 && down->shape[1] == 8);
        assert_int_equal(model_file_packed(file, up) != NULL, ways[i].turned);
        assert_int_equal(model_file_packed(file, down) != NULL, ways[i].turned);
        model_file_close(&file);
        free(bytes);
    }
}

static void stacks_that_cannot_be_turned_are_named(void **state)
{
    static const struct {
        const char *config, *header;
        size_t n_data;
        const char *error;
    } cases[] = {
        {GPT_OSS, "{" E(UP, "F32", "[2, 2]", 0, 16) "}", 16, "has 2 dimensions; a stack of matrices has 3"},
        {GPT_OSS, "{" E(UP, "F32", "[1, 2, 1, 2]", 0, 16) "}", 16, "has 4 dimensions; a stack of matrices has 3"},
        {GPT_OSS, "{" E(UP, "F32", "[1, 2, 3]", 0, 24) "}", 24, "holds pairs of gate and up, but has 3"},
        {GPT_OSS, "{" E(UP "_bias", "F32", "[1, 3]", 0, 12) "}", 12, "holds pairs of gate and up, but has 3"},
        {GPT_OSS, "{" E(UP "_bias", "F32", "[1, 1, 4]", 0, 16) "}", 16, "has 3 dimensions and 16 bytes"},
        {GPT_OSS, "{" E(UP "_bias", "F32", "[4]", 0, 16) "}", 16, "has 1 dimensions and 16 bytes"},
        {GPT_OSS, "{" E(DOWN, "F32", "[4]", 0, 16) "}", 16, "has 1 dimensions; a stack of matrices has 3"},
        {CLASS("GPT2LMHeadModel", ""), "{" E("transformer.h.0.mlp.c_fc.weight", "F32", "[1, 2, 2]", 0, 16) "}", 16,
         "has 3 dimensions; a matrix has 2"},
        {VL_MOE, "{" E(UP, "F32", "[4]", 0, 16) "}", 16, "has 1 dimensions; a stack of matrices has 3"},
        {CLASS("XLMRobertaModel", ""), "{" E("embeddings.position_embeddings.weight", "F32", "[2, 1]", 0, 8) "}", 8,
         "has no position but the 2 of padding"},
        {CLASS("XLMRobertaModel", ""), "{" E("embeddings.position_embeddings.weight", "F32", "[4]", 0, 16) "}", 16,
         "has no position but the 2 of padding"},
        {NEXT(""), "{" E("model.layers.0.linear_attn.A_log", "I64", "[1]", 0, 8) "}", 8, "has dtype 'I64'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        uint8_t *bytes = NULL;
        const safetensors_texts texts = {.config = view(cases[i].config)};
        mlxr_status status = open_texts(&file, &texts, cases[i].header, cases[i].n_data, &bytes, &error);
        if (status == MLXR_OK || file || !strstr(error.text, cases[i].error)) {
            fail_msg("%s\n  gave status %d: %s\n  expected: %s", cases[i].header, status, error.text, cases[i].error);
        }
        free(bytes);
    }
}

/* Stacks of two matrices [3 inputs][4 rows], gate and up in turn; every way to ask for rows gives the same. */
static void rows_of_turned_stacks_are_where_they_belong(void **state)
{
    static const char header[] = "{" E(UP, "BF16", "[2, 3, 4]", 0, 48) ", " E(
        DOWN, "F32", "[2, 3, 40]", 48, 1008) ", " E("model.embed_tokens.weight", "F32", "[1, 1]", 1008, 1012) "}";
    const safetensors_texts texts = {.config = view(GPT_OSS)};
    mlxr_error error;
    model_file *file = NULL;
    uint8_t *bytes = NULL;
    (void)state;
    assert_ok(open_texts(&file, &texts, header, 1012, &bytes, &error), &error);
    const uint8_t *data = bytes + 8 + strlen(header);
    const tensor *up = model_file_tensor(file, "blk.0.ffn_gate_up_exps.weight");
    const tensor *down = model_file_tensor(file, "blk.0.ffn_down_exps.weight");
    const packed_weight *p = model_file_packed(file, up);
    assert_true(up->shape[0] == 3 && up->shape[1] == 4 && up->shape[2] == 2 && up->n_dims == 3 && !up->data);
    assert_true(down->shape[0] == 3 && down->shape[1] == 40 && down->shape[2] == 2 && down->row_bytes == 12);
    uint16_t rows[8][3], some[8][3];
    packed_rows(p, 0, 8, rows);
    for (size_t row = 0; row < 8; row++) {
        size_t at = row % 4, column = at < 2 ? 2 * at : 2 * (at - 2) + 1;
        for (size_t k = 0; k < 3; k++) {
            assert_memory_equal(&rows[row][k], data + 2 * (row / 4 * 12 + k * 4 + column), 2);
        }
        for (size_t n = 1; row + n <= 8; n++) {
            packed_rows(p, row, n, some);
            assert_memory_equal(some, rows[row], n * sizeof *rows);
        }
    }
    assert_ok(model_file_unpack(file, UINT32_MAX, &error), &error);
    assert_memory_equal(up->data, rows, sizeof rows);
    for (size_t row = 0; row < 80; row++) {
        for (size_t k = 0; k < 3; k++) {
            const uint8_t *found = (const uint8_t *)down->data + row * 12 + 4 * k;
            assert_memory_equal(found, data + 48 + 4 * (row / 40 * 120 + k * 40 + row % 40), 4);
        }
    }
    model_file_close(&file);
    free(bytes);
}

/* Pages that are given back come again from the file, whatever rows they were of. */
static void rows_are_the_same_after_their_pages_were_given_back(void **state)
{
    enum { MATRICES = 5, IN = 64, ROWS = 96, ALL = MATRICES * ROWS };
    static uint8_t q[2 * MATRICES * IN * ROWS];
    static uint16_t before[ALL][IN], after[ALL][IN];
    (void)state;
    for (size_t i = 0; i < sizeof q; i++) {
        q[i] = (uint8_t)(i * 31 + i / 251);
    }
    mapping file = {0};
    mlxr_error error;
    assert_ok(mapping_open(&file, test_write_file("turned", q, sizeof q), &error), &error);
    for (uint64_t zip = 0; zip <= ROWS; zip += ROWS) {
        const packed_weight p = {.layout = PACKED_TURNED,
                                 .type = DTYPE_BF16,
                                 .n_in = IN,
                                 .n_rows = ROWS,
                                 .n_out = ALL,
                                 .n_zip = zip,
                                 .q = file.data,
                                 .sources = {file.data},
                                 .source_bytes = {file.n_bytes},
                                 .n_sources = 1};
        packed_rows(&p, 0, ALL, before);
        for (uint64_t first = 0, n = 0; first < ALL; first += n) {
            n = ALL - first < 70 ? ALL - first : 70;
            packed_rows(&p, first, n, after[first]);
            packed_forget_rows(&p, first, n);
        }
        assert_memory_equal(before, after, sizeof before);
        packed_forget(&p);
    }
    mapping_close(&file);
}

/* The same of every kind of quantisation, gate and up in turn among them. */
static void rows_of_checkpoints_are_the_same_after_their_pages_were_given_back(void **state)
{
    static const char *const names[] = {"gptq-ordered",   "awq",        "mlx-4-float16", "mlx-3-bfloat16",
                                        "bnb-nf4-nested", "fp8-blocks", "gpt-oss-mxfp4"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        mlxr_error error;
        model_file *file = NULL;
        uint32_t n_packed = 0;
        snprintf(path, sizeof path, "tests/data/checkpoints/%s", names[i]);
        assert_ok(model_file_open(&file, path, &error), &error);
        for (uint64_t k = 0; k < file->n_tensors; k++) {
            const tensor *t = &file->tensors[k];
            const packed_weight *p = model_file_packed(file, t);
            if (!p) {
                continue;
            }
            uint8_t *before = malloc(t->n_bytes), *after = malloc(t->n_bytes);
            packed_rows(p, 0, p->n_out, before);
            for (uint64_t first = 0, n = 0; first < p->n_out; first += n) {
                n = p->n_out - first < 7 ? p->n_out - first : 7;
                packed_rows(p, first, n, after + first * t->row_bytes);
                packed_forget_rows(p, first, n);
            }
            assert_memory_equal(before, after, t->n_bytes);
            free(before);
            free(after);
            n_packed++;
        }
        assert_true(n_packed > 0);
        model_file_close(&file);
    }
}

#define SEES(class)                                                                                                    \
    "{\"architectures\": [\"" class "\"], \"text_config\": {\"model_type\": \"gemma4_text\", "                         \
                                    "\"hidden_size\": 8, \"intermediate_size\": 16, \"num_hidden_layers\": 2, "        \
                                    "\"num_attention_heads\": 2, \"layer_types\": [\"sliding_attention\", "            \
                                    "\"full_attention\"]}}"

static void names_around_a_language_model_are_taken_off_or_left_out(void **state)
{
    static const struct {
        const char *config, *theirs, *ours; /* NULL: it is left out */
    } cases[] = {
        {SEES("Gemma4ForConditionalGeneration"), "model.language_model.norm.weight", "output_norm.weight"},
        {SEES("Gemma4ForConditionalGeneration"), "language_model.model.norm.weight", "output_norm.weight"},
        {SEES("Gemma4ForConditionalGeneration"), "language_model.unknown.weight", "language_model.unknown.weight"},
        {SEES("Gemma4ForConditionalGeneration"), "other.weight", "other.weight"},
        {SEES("Gemma4ForConditionalGeneration"), "model.vision_tower.x.weight", NULL},
        {SEES("Gemma4ForConditionalGeneration"), "multi_modal_projector.x", NULL},
        {SEES("Gemma4ForConditionalGeneration"), "lm_head.weight", NULL},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\""), "mtp.layers.0.x.weight", NULL},
        {NEMOTRON(", \"hybrid_override_pattern\": \"M*-\""), "mt", "mt"},
        {CLASS("BertModel", ""), "embeddings.position_ids", NULL},
        {CLASS("BertModel", ""), "pooler.dense.weight", NULL},
        {CLASS("BertModel", ""), "encoder.layer.0.unknown.weight", "encoder.layer.0.unknown.weight"},
        {DEEPSEEK(""), "model.layers.0.mlp.experts.12345.up_proj.weight",
         "model.layers.0.mlp.experts.12345.up_proj.weight"},
        {DEEPSEEK(""), "model.layers.0.mlp.experts.1.up_proj.bias", "model.layers.0.mlp.experts.1.up_proj.bias"},
        {DEEPSEEK(""), "model.layers.0.mlp.experts.x.up_proj.weight", "model.layers.0.mlp.experts.x.up_proj.weight"},
        {DEEPSEEK(""), "model.layers.2.enorm.weight", "blk.2.nextn.enorm.weight"},
        {CLASS("Glm4MoeForCausalLM", ", \"n_routed_experts\": 4, \"num_experts_per_tok\": 2, "
                                     "\"moe_intermediate_size\": 8, \"first_k_dense_replace\": 1"),
         "model.layers.2.enorm.weight", "blk.2.nextn.enorm.weight"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[256];
        mlxr_error error = {0};
        model_file *file = NULL;
        uint8_t *bytes = NULL;
        const safetensors_texts texts = {.config = view(cases[i].config)};
        snprintf(header, sizeof header, "{\"%s\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
                 cases[i].theirs);
        mlxr_status status = open_texts(&file, &texts, header, 4, &bytes, &error);
        uint64_t n = status == MLXR_OK ? file->n_tensors : 99;
        if (n > 90 || (cases[i].ours ? !model_file_tensor(file, cases[i].ours)
                                     : model_file_tensor(file, cases[i].theirs) != NULL)) {
            fail_msg("%s of %s: %s\n  expected: %s", cases[i].theirs, cases[i].config, error.text,
                     cases[i].ours ? cases[i].ours : "(left out)");
        }
        model_file_close(&file);
        free(bytes);
    }
}

/* ---- folders ---- */

static const char *make_folder(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    mkdir(path, 0777);
    return path;
}

/* Opens the folder: it is refused with these words, or taken (NULL). */
static void check_folder(const char *folder, const char *what, const char *wanted)
{
    model_file *file = NULL;
    mlxr_error error = {0};
    mlxr_status status = model_file_open(&file, folder, &error);
    bool right = wanted ? status != MLXR_OK && !file && strstr(error.text, wanted) && !strchr(error.text, '\n')
                        : status == MLXR_OK;
    if (!right) {
        fail_msg("%s: %s\n  expected: %s", what, error.text, wanted ? wanted : "(success)");
    }
    model_file_close(&file);
}

/* A folder of its own for case i. */
static const char *make_case(const char *kind, size_t i)
{
    char name[64];
    snprintf(name, sizeof name, "%s%zu", kind, i);
    return make_folder(name);
}

/* With config.json, an index, and one shard. */
static const char *make_shard(const char *kind, size_t i, const char *config, const char *index, const char *header,
                              size_t n_data)
{
    const char *folder = make_case(kind, i);
    write_bytes(folder, "config.json", config, strlen(config));
    write_bytes(folder, "model.safetensors.index.json", index, strlen(index));
    write_weights(folder, "s.safetensors", header, n_data);
    return folder;
}

#define GEMMA_EMBED CLASS("Gemma3TextModel", ", \"use_bidirectional_attention\": true")
#define NORM "{" E("model.norm.weight", "F32", "[1]", 0, 4) "}"
#define DENSE "{" E("linear.weight", "F32", "[1, 1]", 0, 4) "}"

static void modules_behind_pooling_must_be_what_is_computed(void **state)
{
    static const struct {
        const char *config, *header;
        size_t n_data;
        const char *error; /* NULL: it is taken */
    } cases[] = {
        {"{\"activation_function\": \"torch.nn.modules.linear.Identity\"}", DENSE, 4, NULL},
        {"{\"activation_function\": \"torch.nn.modules.linear.Identity\"}", "{" E("b", "F32", "[1, 1]", 0, 4) "}", 4,
         NULL},
        {"{\"activation_function\": \"torch.nn.modules.activation.Tanh\"}", DENSE, 4,
         "2_Dense/config.json: activation 'torch.nn.modules.activation.Tanh'; torch's Identity"},
        {"{\"activation_function\": \"Identity\"}", DENSE, 4, "2_Dense/config.json: activation 'Identity'"},
        {"{\"activation_function\": 1}", DENSE, 4, "2_Dense/config.json: activation ''"},
        {"{}", DENSE, 4, "2_Dense/config.json: activation ''"},
        {"[]", DENSE, 4, "2_Dense/config.json: not a JSON object"},
        {"", DENSE, 4, "2_Dense/config.json: line 1"},
        {NULL, DENSE, 4, "2_Dense/config.json: cannot open"},
        {"{\"activation_function\": \".Identity\"}", "{", 0, "header: line 1"},
        {"{\"activation_function\": \".Identity\"}", DENSE, 3, "is truncated, download it again"},
        {"{\"activation_function\": \".Identity\"}", "{" E("linear.weight", "F64", "[1]", 0, 8) "}", 8,
         "has dtype 'F64'"},
        {"{\"activation_function\": \".Identity\"}", NULL, 0, "2_Dense/model.safetensors"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = make_case("modules", i);
        char path[700];
        snprintf(path, sizeof path, "%s/2_Dense", folder);
        mkdir(path, 0777);
        write_bytes(folder, "config.json", GEMMA_EMBED, strlen(GEMMA_EMBED));
        write_weights(folder, "model.safetensors", NORM, 4);
        if (cases[i].config) {
            write_bytes(folder, "2_Dense/config.json", cases[i].config, strlen(cases[i].config));
        }
        if (cases[i].header) {
            write_weights(folder, "2_Dense/model.safetensors", cases[i].header, cases[i].n_data);
        } else {
            snprintf(path, sizeof path, "%s/2_Dense/model.safetensors", folder);
            mkdir(path, 0777);
        }
        check_folder(folder, cases[i].header ? cases[i].header : "(none)", cases[i].error);
    }
}

#define FP8(map) "{\"weight_map\": {" map "}}"
#define Q_PROJ "model.layers.0.self_attn.q_proj"

/* What an index says of the pieces of quantised weights: each stands for the whole. */
static void an_index_of_quantised_weights_is_held_to_them(void **state)
{
    static const struct {
        const char *quant, *index, *header;
        size_t n_data;
        const char *error;
    } cases[] = {
        {"\"quant_method\": \"fp8\", \"activation_scheme\": \"dynamic\"",
         FP8("\"" Q_PROJ ".weight\": \"s.safetensors\", \"" Q_PROJ ".weight_scale_inv\": \"s.safetensors\", \"" Q_PROJ
             ".input_scale\": \"s.safetensors\""),
         "{" E(Q_PROJ ".weight", "F8_E4M3", "[1, 32]", 0, 32) ", " E(Q_PROJ ".weight_scale_inv", "F32", "[1]", 32,
                                                                     36) "}",
         36, NULL},
        {"\"quant_method\": \"fp8\", \"activation_scheme\": \"dynamic\"",
         FP8("\"" Q_PROJ ".weight\": \"s.safetensors\", \"model.layers.1.self_attn.q_proj.weight_scale_inv\": "
             "\"s.safetensors\""),
         "{" E(Q_PROJ ".weight", "F8_E4M3", "[1, 32]", 0, 32) ", " E(Q_PROJ ".weight_scale_inv", "F32", "[1]", 32,
                                                                     36) "}",
         36, "tensor 'model.layers.1.self_attn.q_proj.weight_scale_inv' is missing"},
        {"\"quant_method\": \"fp8\"", FP8("\"" Q_PROJ ".weight\": \"s.safetensors\""),
         "{" E(Q_PROJ ".weight_scale_inv", "F32", "[1]", 0, 4) "}", 4, "packed weights missing"},
        {"\"quant_method\": \"fp8\"", FP8("\"" Q_PROJ ".weight\": \"s.safetensors\""),
         "{" E(Q_PROJ ".weight", "F8_E4M3", "[1, 32]", 0, 32) "}", 32, "scales missing"},
        {"\"quant_method\": \"fp8\"", FP8("\"" Q_PROJ ".weight\": \"s.safetensors\""),
         "{" E(Q_PROJ ".weight", "F8_E4M3", "[1, 32]", 0, 32) ", " E(Q_PROJ ".weight_scale_inv", "C64", "[1]", 32,
                                                                     40) "}",
         40, "of a quantised weight has dtype 'C64'"},
        {"\"quant_method\": \"fp8\"", FP8("\"" Q_PROJ ".weight\": \"s.safetensors\""),
         "{\"" Q_PROJ ".weight_scale_inv\": {\"shape\": [1], \"data_offsets\": [0, 4]}}", 4, "has dtype '(none)'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char config[512];
        snprintf(config, sizeof config, LLAMA(", \"quantization_config\": {%s}"), cases[i].quant);
        const char *folder = make_shard("index", i, config, cases[i].index, cases[i].header, cases[i].n_data);
        check_folder(folder, cases[i].header ? cases[i].header : "(none)", cases[i].error);
    }
}

/* A folder of one shard, "s.safetensors", and an index that does not fit it, or a shard that does not fit the index. */
static void an_index_that_cannot_be_is_named(void **state)
{
    static const struct {
        const char *index, *header;
        size_t n_data;
        const char *error;
    } cases[] = {
        {"null", NORM, 4, "model.safetensors.index.json: line 1"},
        {"{\"weight_map\": null}", NORM, 4, "no 'weight_map'"},
        {"{\"weight_map\": \"s.safetensors\"}", NORM, 4, "no 'weight_map'"},
        {"{\"weight_map\": 1}", NORM, 4, "no 'weight_map'"},
        {"{\"weight_map\": {\"a\": null}}", NORM, 4, "lies in '(not a string)'"},
        {"{\"weight_map\": {\"a\": [\"s.safetensors\"]}}", NORM, 4, "lies in '(not a string)'"},
        {"{\"weight_map\": {\"a\": \"s.safetensors/\"}}", NORM, 4, "which is no name"},
        {"{\"weight_map\": {\"a\": \"s.SAFETENSORS\"}}", NORM, 4, "which is no name"},
        {"{\"weight_map\": {\"a\": \"s.safetensors \"}}", NORM, 4, "which is no name"},
        {"{\"weight_map\": {\"a\": \"s.safetensors\", \"a\": \"s.safetensors\"}}", NORM, 4, "duplicate object key"},
        {"{\"weight_map\": {\"a\": \"s.safe\\u0000tensors\"}}", NORM, 4, "line 1"},
        {"{\"weight_map\": {\"model.norm.weight\": \"s.safetensors\"}}", NORM, 3, "s.safetensors: tensor"},
        {"{\"weight_map\": {\"model.norm.weight\": \"s.safetensors\"}}", NORM, 5, "the file has 5 bytes of data"},
        {"{\"weight_map\": {\"model.norm.weight\": \"s.safetensors\"}}", "", 0, "s.safetensors: header: line 1"},
        {"{\"weight_map\": {\"model.norm.weight\": \"s.safetensors\"}}", "{}", 0,
         "s.safetensors: tensor 'model.norm.weight' is missing, which model.safetensors.index.json says is there"},
        {"{\"weight_map\": {\"model.norm.weight\": \"s.safetensors\", \"lm_head.weight\": \"s.safetensors\"}}", NORM, 4,
         NULL}, /* tied: nobody looks for it */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = make_shard("shard", i, LLAMA(""), cases[i].index, cases[i].header, cases[i].n_data);
        check_folder(folder, cases[i].index, cases[i].error);
    }
}

static const char *const values[] = {"null", "true", "false",  "0",   "1",     "-1",   "1.5",   "1e300", "\"\"",
                                     "[]",   "{}",   "[true]", "[1]", "\"x\"", "[{}]", "\"1\"", "[[]]"};

/* Every name that is no file of the folder's own, and every value that is no name. */
static void no_entry_of_an_index_leads_out_of_its_folder(void **state)
{
    static const char *const names[] = {"../s.safetensors",
                                        "./s.safetensors",
                                        "/s.safetensors",
                                        "a/../s.safetensors",
                                        "a\\\\s.safetensors",
                                        "..\\\\s.safetensors",
                                        "c:s.safetensors",
                                        ".s.safetensors",
                                        "~/s.safetensors",
                                        "s.safetensors/..",
                                        "s.safetensors.bak",
                                        "s.gguf",
                                        "s",
                                        ".safetensors",
                                        "..safetensors",
                                        "s.safetensors\\n",
                                        "s.safetensor",
                                        "file:///s.safetensors",
                                        "//s.safetensors",
                                        "a/b/c.safetensors",
                                        "model.safetensors/",
                                        "s.safetensors#",
                                        "s.safetensors?",
                                        "s.safetensors ",
                                        "S.Safetensors",
                                        "/etc/passwd",
                                        "../../etc/passwd",
                                        "/dev/zero",
                                        "proc/self/mem",
                                        "s.bin",
                                        "pytorch_model.bin",
                                        "consolidated.pth",
                                        "x.safetensors.index.json"};
    enum { N_NAMES = sizeof names / sizeof *names, N_VALUES = sizeof values / sizeof *values };
    (void)state;
    _Static_assert(N_NAMES + N_VALUES >= 50, "hostile entries of an index");
    for (size_t i = 0; i < N_NAMES + N_VALUES; i++) {
        char index[256];
        const char *quote = i < N_NAMES ? "\"" : "";
        snprintf(index, sizeof index, "{\"weight_map\": {\"model.norm.weight\": %s%s%s}}", quote,
                 i < N_NAMES ? names[i] : values[i - N_NAMES], quote);
        check_folder(make_shard("entry", i, LLAMA(""), index, NORM, 4), index, "which is no name");
    }
}

/* Every other value of every word of 1_Pooling/config.json. */
static void pooling_that_is_no_true_or_false_is_named(void **state)
{
    static const char *const words[] = {"pooling_mode_mean_tokens", "pooling_mode_cls_token", "pooling_mode_lasttoken"};
    size_t n_refused = 0;
    (void)state;
    for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            char text[256], wanted[96];
            const char *error = strcmp(values[v], "true") == 0 ? NULL : wanted;
            bool is_bool = !error || strcmp(values[v], "false") == 0 || strcmp(values[v], "null") == 0;
            snprintf(text, sizeof text, "{\"%s\": %s}", words[w], values[v]);
            snprintf(wanted, sizeof wanted,
                     is_bool ? "exactly one of mean, first and last" : "'%s' is no true or false", words[w]);
            check_configs(&(hostile){CLASS("BertModel", ""), error}, 1, text);
            n_refused += error != NULL;
        }
    }
    assert_true(n_refused + 6 >= 50); /* and those above */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixers_that_cannot_be_are_named),
        cmocka_unit_test(attention_and_rope_that_cannot_be_are_named),
        cmocka_unit_test(what_makes_a_vector_of_a_text_must_be_one_thing),
        cmocka_unit_test(m_ropes_sections_are_what_config_json_says),
        cmocka_unit_test(stacks_that_lie_either_way_round_are_told_by_their_shape),
        cmocka_unit_test(stacks_that_cannot_be_turned_are_named),
        cmocka_unit_test(rows_of_turned_stacks_are_where_they_belong),
        cmocka_unit_test(rows_are_the_same_after_their_pages_were_given_back),
        cmocka_unit_test(rows_of_checkpoints_are_the_same_after_their_pages_were_given_back),
        cmocka_unit_test(names_around_a_language_model_are_taken_off_or_left_out),
        cmocka_unit_test(modules_behind_pooling_must_be_what_is_computed),
        cmocka_unit_test(an_index_that_cannot_be_is_named),
        cmocka_unit_test(an_index_of_quantised_weights_is_held_to_them),
        cmocka_unit_test(no_entry_of_an_index_leads_out_of_its_folder),
        cmocka_unit_test(pooling_that_is_no_true_or_false_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
