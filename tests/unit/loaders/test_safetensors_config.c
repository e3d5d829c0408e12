/*
 * Safetensors reader: config.json and its companions as metadata, and one clear line for every kind of bad one.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "loaders/safetensors_writer.h"
#include "safetensors_text.h"

static mlxr_status open_config(model_file **file, const char *config, const char *generation, const char *tokenizer,
                               mlxr_error *error)
{
    static uint8_t empty[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    const safetensors_texts texts = {
        .config = view(config), .generation_config = view(generation), .tokenizer_config = view(tokenizer)};
    return safetensors_open_memory(file, &texts, empty, sizeof empty, error);
}

typedef struct expected {
    const char *key;
    double value; /* NAN: absent */
} expected;

static void check_values(const char *config, const expected *values)
{
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_ok(open_config(&file, config, NULL, NULL, &error), &error);
    for (; values->key; values++) {
        const meta_value *found = model_file_meta(file, values->key);
        double number = !found ? NAN : found->type == META_U32 ? (double)found->u : found->f;
        if (isnan(values->value) ? found != NULL : !(fabs(number - values->value) <= 1e-6 * fabs(values->value))) {
            fail_msg("%s: %s is %g, expected %g", config, values->key, number, values->value);
        }
    }
    model_file_close(&file);
}

static void defaults_are_those_of_transformers(void **state)
{
    (void)state;
    check_values(LLAMA(""), (const expected[]){{"llama.block_count", 2},
                                               {"llama.embedding_length", 8},
                                               {"llama.feed_forward_length", 16},
                                               {"llama.attention.head_count", 2},
                                               {"llama.attention.head_count_kv", 2},
                                               {"llama.attention.key_length", 4},
                                               {"llama.attention.value_length", 4},
                                               {"llama.rope.dimension_count", 4},
                                               {"llama.attention.layer_norm_rms_epsilon", 1e-6},
                                               {"llama.rope.freq_base", 1e4},
                                               {"llama.context_length", 2048},
                                               {"llama.attention.sliding_window", NAN},
                                               {"llama.vocab_size", NAN},
                                               {"llama.rope.scaling.type", NAN},
                                               {"llama.rope.freq_base_swa", NAN},
                                               {"llama.attention.scale", NAN},
                                               {0}});
    check_values(CLASS("MistralForCausalLM", ""), (const expected[]){{"llama.attention.head_count_kv", 8},
                                                                     {"llama.attention.sliding_window", 4096},
                                                                     {"llama.context_length", 131072},
                                                                     {0}});
    check_values(CLASS("Qwen2ForCausalLM", ""), (const expected[]){{"qwen2.attention.head_count_kv", 32},
                                                                   {"qwen2.attention.key_length", 4},
                                                                   {"qwen2.attention.sliding_window", NAN},
                                                                   {"qwen2.context_length", 32768},
                                                                   {0}});
    check_values(CLASS("Qwen3ForCausalLM", ""), (const expected[]){{"qwen3.attention.key_length", 128}, {0}});
    check_values(CLASS("Gemma3ForCausalLM", ""), (const expected[]){{"gemma3.attention.head_count_kv", 4},
                                                                    {"gemma3.attention.key_length", 256},
                                                                    {"gemma3.rope.freq_base", 1e6},
                                                                    {"gemma3.rope.freq_base_swa", 1e4},
                                                                    {"gemma3.attention.scale", 1.0 / 16},
                                                                    {"gemma3.attention.sliding_window", 4096},
                                                                    {"gemma3.attention.sliding_window_pattern", NAN},
                                                                    {0}});
}

static void values_given_replace_the_defaults(void **state)
{
    (void)state;
    check_values(LLAMA(", \"num_key_value_heads\": 1, \"head_dim\": 16, \"rms_norm_eps\": 1e-5, \"rope_theta\": 500000,"
                       " \"max_position_embeddings\": 4096, \"vocab_size\": 100, \"partial_rotary_factor\": 0.5, "
                       "\"hidden_act\": \"silu\""),
                 (const expected[]){{"llama.attention.head_count_kv", 1},
                                    {"llama.attention.key_length", 16},
                                    {"llama.rope.dimension_count", 8},
                                    {"llama.attention.layer_norm_rms_epsilon", 1e-5},
                                    {"llama.rope.freq_base", 500000},
                                    {"llama.context_length", 4096},
                                    {"llama.vocab_size", 100},
                                    {0}});
    check_values(
        CLASS("MistralForCausalLM", ", \"num_key_value_heads\": null, \"sliding_window\": null, \"head_dim\": null"),
        (const expected[]){{"llama.attention.head_count_kv", 2},
                           {"llama.attention.sliding_window", NAN},
                           {"llama.attention.key_length", 4},
                           {0}});
    check_values(LLAMA(", \"sliding_window\": 100"), (const expected[]){{"llama.attention.sliding_window", NAN}, {0}});
    check_values(
        CLASS("Gemma3ForCausalLM",
              ", \"query_pre_attn_scalar\": 64, \"final_logit_softcapping\": 30, \"attn_logit_softcapping\": 50.5,"
              " \"sliding_window\": 512, \"sliding_window_pattern\": 3, \"rope_local_base_freq\": 5000"),
        (const expected[]){{"gemma3.attention.scale", 0.125},
                           {"gemma3.final_logit_softcapping", 30},
                           {"gemma3.attn_logit_softcapping", 50.5},
                           {"gemma3.attention.sliding_window", 512},
                           {"gemma3.attention.sliding_window_pattern", 3},
                           {"gemma3.rope.freq_base_swa", 5000},
                           {0}});
    check_values("{\"model_type\": \"qwen3\", \"hidden_size\": 8, \"intermediate_size\": 16, \"num_hidden_layers\": 2,"
                 " \"num_attention_heads\": 2, \"tie_word_embeddings\": true}",
                 (const expected[]){{"qwen3.block_count", 2}, {0}});
}

static void rope_scaling_of_old_and_new_configs_is_read(void **state)
{
    (void)state;
    check_values(LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}, \"max_position_embeddings\": 64"),
                 (const expected[]){{"llama.rope.scaling.factor", 2.5},
                                    {"llama.rope.scaling.original_context_length", 64},
                                    {"llama.rope.scaling.attn_factor", NAN},
                                    {0}});
    check_values(LLAMA(", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 32, \"low_freq_factor\": 1, "
                       "\"high_freq_factor\": 4,"
                       " \"original_max_position_embeddings\": 8192}"),
                 (const expected[]){{"llama.rope.scaling.factor", 32},
                                    {"llama.rope.scaling.low_freq_factor", 1},
                                    {"llama.rope.scaling.high_freq_factor", 4},
                                    {"llama.rope.scaling.original_context_length", 8192},
                                    {0}});
    check_values(LLAMA(", \"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 77, \"factor\": 4, "
                       "\"beta_fast\": 16, \"beta_slow\": 2,"
                       " \"attention_factor\": 1.25, \"truncate\": true, \"original_max_position_embeddings\": 48}"),
                 (const expected[]){{"llama.rope.freq_base", 77},
                                    {"llama.rope.scaling.factor", 4},
                                    {"llama.rope.scaling.yarn_beta_fast", 16},
                                    {"llama.rope.scaling.yarn_beta_slow", 2},
                                    {"llama.rope.scaling.attn_factor", 1.25},
                                    {"llama.rope.scaling.original_context_length", 48},
                                    {0}});
    check_values(
        LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": 1, \"mscale_all_dim\": 0.5}"),
        (const expected[]){{"llama.rope.scaling.attn_factor", (0.1 * log(4) + 1) / (0.05 * log(4) + 1)}, {0}});
    check_values(LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": 1}"),
                 (const expected[]){{"llama.rope.scaling.attn_factor", NAN}, {0}});
    check_values(
        LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 0.5, \"mscale\": 1, \"mscale_all_dim\": 0.5}"),
        (const expected[]){{"llama.rope.scaling.attn_factor", NAN}, {0}});
    check_values(
        LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": null}, \"original_max_position_embeddings\": 512"),
        (const expected[]){{"llama.rope.scaling.factor", 4}, {"llama.rope.scaling.original_context_length", 512}, {0}});
    check_values(LLAMA(", \"rope_scaling\": {\"rope_type\": \"default\"}"),
                 (const expected[]){{"llama.rope.scaling.factor", NAN}, {0}});
    check_values(
        CLASS("Gemma3ForCausalLM", ", \"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", "
                                   "\"factor\": 8, \"rope_theta\": 99},"
                                   " \"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 33}}"),
        (const expected[]){
            {"gemma3.rope.freq_base", 99}, {"gemma3.rope.freq_base_swa", 33}, {"gemma3.rope.scaling.factor", 8}, {0}});
    check_values(CLASS("Gemma3ForCausalLM", ", \"rope_parameters\": {\"sliding_attention\": {\"rope_theta\": 33}}"),
                 (const expected[]){{"gemma3.rope.freq_base", 1e6}, {"gemma3.rope.freq_base_swa", 33}, {0}});
    check_values(CLASS("Gemma3ForCausalLM", ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 44}"),
                 (const expected[]){{"gemma3.rope.freq_base", 44}, {0}});
    /* Layers with windows turn by the same base in OLMo 3, whatever that is, and by one of their own in others. */
    check_values(
        CLASS("Olmo3ForCausalLM", ", \"rope_theta\": 77, \"rope_scaling\": {\"rope_type\": \"yarn\", "
                                  "\"factor\": 8}, \"layer_types\": [\"sliding_attention\", "
                                  "\"full_attention\"]"),
        (const expected[]){
            {"olmo2.rope.freq_base", 77}, {"olmo2.rope.freq_base_swa", 77}, {"olmo2.rope.scaling.factor", 8}, {0}});
    check_values(CLASS("MellumForCausalLM", ", \"num_local_experts\": 4, \"num_experts_per_tok\": 2, "
                                            "\"moe_intermediate_size\": 8, \"num_key_value_heads\": 1, "
                                            "\"layer_types\": [\"sliding_attention\", \"full_attention\"]"),
                 (const expected[]){{"mellum.rope.freq_base", 5e5}, {"mellum.rope.freq_base_swa", 1e4}, {0}});
}

static void windows_of_layers_become_a_pattern(void **state)
{
    (void)state;
    static const struct {
        const char *config, *arch;
        int pattern[2];
    } cases[] = {
        {CLASS("Qwen2ForCausalLM", ", \"use_sliding_window\": true, \"sliding_window\": 32, \"max_window_layers\": 1"),
         "qwen2",
         {0, 1}},
        {CLASS("Qwen3ForCausalLM",
               ", \"use_sliding_window\": true, \"layer_types\": [\"sliding_attention\", \"full_attention\"]"),
         "qwen3",
         {1, 0}},
        {CLASS("Gemma3ForCausalLM", ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]"),
         "gemma3",
         {0, 1}},
        {CLASS("Exaone4ForCausalLM", ", \"sliding_window_pattern\": \"LG\""), "exaone4", {1, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        char key[96];
        assert_ok(open_config(&file, cases[i].config, NULL, NULL, &error), &error);
        snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", cases[i].arch);
        const meta_value *value = model_file_meta(file, key);
        assert_int_equal(value->array.n, 2);
        assert_true(meta_array_number(&value->array, 0) == cases[i].pattern[0] &&
                    meta_array_number(&value->array, 1) == cases[i].pattern[1]);
        model_file_close(&file);
    }
    check_values(CLASS("MistralForCausalLM", ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]"),
                 (const expected[]){{"llama.attention.sliding_window_pattern", NAN}, {0}});
}

#define GEMMA4(more)                                                                                                   \
    CLASS("Gemma4ForCausalLM", ", \"head_dim\": 32, \"num_key_value_heads\": 2, \"layer_types\": "                     \
                               "[\"sliding_attention\", \"full_attention\"]" more)

/* transformers 5 writes numbers of layers without windows layer by layer, and published models as they were called. */
static void gemma_4s_two_kinds_of_layers_are_read_in_old_words_and_new(void **state)
{
    (void)state;
    static const char *const configs[] = {
        GEMMA4(", \"attention_k_eq_v\": true, \"global_head_dim\": 64, \"num_global_key_value_heads\": 1"),
        GEMMA4(", \"attention_k_eq_v\": true, \"per_layer_config\": {\"1\": {\"head_dim\": 64, "
               "\"num_key_value_heads\": 1}}"),
        GEMMA4(", \"attention_k_eq_v\": true, \"global_head_dim\": 64, \"num_global_key_value_heads\": 1, "
               "\"rope_parameters\": {\"full_attention\": {\"type\": \"proportional\", \"rope_theta\": 1e6, "
               "\"partial_rotary_factor\": 0.25}}")};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        model_file *file = NULL;
        mlxr_error error;
        assert_ok(open_config(&file, configs[i], NULL, NULL, &error), &error);
        const meta_value *heads = model_file_meta(file, "gemma4.attention.head_count_kv");
        assert_true(heads && heads->type == META_ARRAY && heads->array.n == 2);
        assert_true(meta_array_number(&heads->array, 0) == 2 && meta_array_number(&heads->array, 1) == 1);
        const tensor *factors = model_file_tensor(file, "rope_freqs.weight");
        assert_true(factors && factors->shape[0] == 32);
        const float *values = factors->data;
        for (uint32_t j = 0; j < 32; j++) { /* a quarter of the head turns, where nothing is said of it */
            assert_true(values[j] == (j < 8 ? 1.0f : ROPE_FACTOR_STILL));
        }
        model_file_close(&file);
        check_values(configs[i], (const expected[]){{"gemma4.attention.key_length", 64},
                                                    {"gemma4.attention.key_length_swa", 32},
                                                    {"gemma4.rope.dimension_count", 64},
                                                    {"gemma4.rope.dimension_count_swa", 32},
                                                    {"gemma4.rope.freq_base", 1e6},
                                                    {"gemma4.rope.freq_base_swa", 1e4},
                                                    {"gemma4.attention.sliding_window", 512},
                                                    {"gemma4.embedding_length_per_layer_input", 256},
                                                    {"gemma4.expert_count", NAN},
                                                    {"gemma4.rope.scaling.type", NAN},
                                                    {0}});
    }
    /* one of two numbers for all layers where values have weights of their own */
    check_values(GEMMA4(", \"num_global_key_value_heads\": 1, \"use_bidirectional_attention\": \"vision\""),
                 (const expected[]){{"gemma4.attention.head_count_kv", 2}, {"gemma4.attention.key_length", 512}, {0}});
}

#define OLD_WORDS(class, more)                                                                                         \
    "{\"architectures\": [\"" class "\"], \"n_embd\": 8, \"n_head\": 2, \"n_layer\": 2, \"tie_word_embeddings\": "     \
                                    "true" more "}"

static void gpt_2s_words_are_read_and_starcoders_default_is_one_kv_head(void **state)
{
    (void)state;
    check_values(OLD_WORDS("GPTBigCodeForCausalLM", ", \"n_positions\": 64, \"scale_attn_weights\": true"),
                 (const expected[]){{"starcoder.attention.head_count_kv", 1},
                                    {"starcoder.feed_forward_length", 32},
                                    {"starcoder.context_length", 64},
                                    {"starcoder.hidden_activation", NAN},
                                    {0}});
    check_values(
        OLD_WORDS("GPTBigCodeForCausalLM", ", \"multi_query\": true, \"activation_function\": \"gelu_new\""),
        (const expected[]){{"starcoder.attention.head_count_kv", 1}, {"starcoder.hidden_activation", NAN}, {0}});
    check_values(OLD_WORDS("GPT2LMHeadModel", ", \"n_inner\": 24, \"activation_function\": \"gelu_fast\""),
                 (const expected[]){
                     {"gpt2.feed_forward_length", 24}, {"gpt2.hidden_activation", NAN}, {"gpt2.block_count", 2}, {0}});
    check_values(LLAMA(", \"multi_query\": true, \"scale_attn_weights\": false"),
                 (const expected[]){{"llama.attention.head_count_kv", 2}, {0}});
}

static void check_text(const char *config, const char *key, const char *text)
{
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_ok(open_config(&file, config, NULL, NULL, &error), &error);
    const meta_value *word = model_file_meta(file, key);
    assert_true(word && word->type == META_STRING && word->s.n == strlen(text));
    assert_memory_equal(word->s.data, text, word->s.n);
    model_file_close(&file);
}

#define MODERN_BERT(word) CLASS("ModernBertModel", ", \"hidden_activation\": \"" word "\"")

/* The exact GELU is what "gelu" means; other words of it are GELU by tanh. */
static void the_word_gelu_is_written_where_the_class_follows_it(void **state)
{
    (void)state;
    static const char *const configs[] = {OLD_WORDS("GPTBigCodeForCausalLM", ", \"activation_function\": \"gelu\""),
                                          OLD_WORDS("GPT2LMHeadModel", ", \"activation_function\": \"gelu\"")};
    static const char *const keys[] = {"starcoder.hidden_activation", "gpt2.hidden_activation"};
    for (size_t i = 0; i < 2; i++) {
        check_text(configs[i], keys[i], "gelu");
    }
}

static void a_class_with_two_activations_writes_the_one_that_is_not_its_default(void **state)
{
    (void)state;
    check_values(MODERN_BERT("gelu"), (const expected[]){{"modern-bert.hidden_activation", NAN}, {0}});
    check_text(MODERN_BERT("silu"), "modern-bert.hidden_activation", "silu");
    check_text(CLASS("ModernBertModel", ", \"hidden_act\": \"silu\""), "modern-bert.hidden_activation", "silu");
    for (size_t i = 0; i < 3; i++) { /* what files of the first Gemma say, and what is meant */
        const char *of_gemma[] = {CLASS("GemmaForCausalLM", ", \"hidden_act\": \"gelu\", \"hidden_activation\": null"),
                                  CLASS("GemmaForCausalLM", ", \"hidden_act\": \"gelu_pytorch_tanh\""),
                                  CLASS("GemmaForCausalLM", "")};
        check_values(of_gemma[i], (const expected[]){{"gemma.block_count", 2}, {"gemma.hidden_activation", NAN}, {0}});
    }
}

static void gelu_by_tanh_has_several_names_in_every_class(void **state)
{
    (void)state;
    check_values(CLASS("Starcoder2ForCausalLM", ", \"hidden_act\": \"gelu_new\""),
                 (const expected[]){{"starcoder2.block_count", 2}, {"starcoder2.hidden_activation", NAN}, {0}});
    /* GPT-NeoX-20B, whose class has the exact one by default */
    check_text(CLASS("GPTNeoXForCausalLM", ", \"hidden_act\": \"gelu_fast\""), "gptneox.hidden_activation",
               "gelu_pytorch_tanh");
    check_text(CLASS("GPTNeoXForCausalLM", ", \"hidden_act\": \"gelu_new\""), "gptneox.hidden_activation",
               "gelu_pytorch_tanh");
    check_values(CLASS("GPTNeoXForCausalLM", ", \"hidden_act\": \"gelu\""),
                 (const expected[]){{"gptneox.hidden_activation", NAN}, {0}});
}

static void falcons_mixers_have_1024_elements_where_nothing_is_said_of_them(void **state)
{
    (void)state;
#define FALCON(more)                                                                                                   \
    CLASS("FalconH1ForCausalLM",                                                                                       \
          ", \"mamba_n_heads\": 4, \"mamba_n_groups\": 1, \"mamba_d_conv\": 4, \"mamba_d_state\": 4" more)
    check_values(FALCON(""), (const expected[]){{"falcon-h1.ssm.inner_size", 1024}, {0}});
    check_values(FALCON(", \"mamba_d_ssm\": null"), (const expected[]){{"falcon-h1.ssm.inner_size", 16}, {0}});
    check_values(FALCON(", \"mamba_d_ssm\": null, \"mamba_expand\": 3"),
                 (const expected[]){{"falcon-h1.ssm.inner_size", 24}, {0}});
    check_values(FALCON(", \"mamba_d_ssm\": 32, \"mamba_d_head\": \"auto\""),
                 (const expected[]){{"falcon-h1.ssm.inner_size", 32}, {0}});
}

static void keys_of_one_class_are_not_read_for_another(void **state)
{
    (void)state;
    check_values(LLAMA(", \"rotary_dim\": 2, \"max_trained_positions\": 64"),
                 (const expected[]){{"llama.rope.dimension_count", 4}, {"llama.context_length", 2048}, {0}});
    check_values(CLASS("MiniMaxM2ForCausalLM", ", \"rotary_dim\": 64, \"num_local_experts\": 4, "
                                               "\"num_experts_per_tok\": 2"),
                 (const expected[]){{"minimax-m2.rope.dimension_count", 64}, {0}});
    check_values(CLASS("NomicBertModel", ", \"max_trained_positions\": 64"),
                 (const expected[]){{"nomic-bert.context_length", 64}, {0}});
}

#define ALPHA(text)                                                                                                    \
    CLASS("HunYuanDenseV1ForCausalLM",                                                                                 \
          ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 1, \"alpha\": " text "}")

static void an_alpha_of_0_is_none(void **state)
{
    (void)state;
    check_values(ALPHA("0"), (const expected[]){
                                 {"hunyuan-dense.rope.freq_base", 1e4}, {"hunyuan-dense.rope.scaling.factor", 1}, {0}});
    check_values(
        ALPHA("10"),
        (const expected[]){{"hunyuan-dense.rope.freq_base", 1e6}, {"hunyuan-dense.rope.scaling.factor", NAN}, {0}});
}

#define MIXTURE(class, more)                                                                                           \
    CLASS(class, ", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"sliding_window\": 16" more)

/* Number i of an array; −1: there is none. */
static double number_of(const char *config, const char *key, uint64_t i)
{
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_ok(open_config(&file, config, NULL, NULL, &error), &error);
    const meta_value *found = model_file_meta(file, key);
    double number = found ? (double)meta_array_number(&found->array, i) : -1;
    model_file_close(&file);
    return number;
}

static void windows_that_no_list_names_are_those_of_the_class(void **state)
{
    (void)state;
    static const char pattern[] = "dots1.attention.sliding_window_pattern";
    check_values(MIXTURE("MellumForCausalLM", ""), (const expected[]){{"mellum.attention.sliding_window", NAN}, {0}});
    check_values(MIXTURE("MellumForCausalLM", ", \"layer_types\": [\"sliding_attention\", \"full_attention\"]"),
                 (const expected[]){{"mellum.attention.sliding_window", 16},
                                    {"mellum.rope.freq_base", 5e5},
                                    {"mellum.rope.freq_base_swa", 1e4},
                                    {0}});
    check_values(MIXTURE("Dots1ForCausalLM", ""), (const expected[]){{"dots1.attention.sliding_window", NAN}, {0}});
    check_values(MIXTURE("Dots1ForCausalLM", ", \"max_window_layers\": 1"),
                 (const expected[]){{"dots1.attention.sliding_window", 16}, {0}});
    assert_true(number_of(MIXTURE("Dots1ForCausalLM", ", \"max_window_layers\": 1"), pattern, 0) == 0);
    assert_true(number_of(MIXTURE("Dots1ForCausalLM", ", \"max_window_layers\": 1"), pattern, 1) == 1);
}

#define LLAMA4(more)                                                                                                   \
    CLASS("Llama4ForCausalLM",                                                                                         \
          ", \"intermediate_size_mlp\": 24, \"num_local_experts\": 4, \"num_experts_per_tok\": 1" more)

static void llama_4s_chunks_experts_and_temperature_have_keys(void **state)
{
    (void)state;
    static const char pattern[] = "llama4.attention.sliding_window_pattern", turned[] = "llama4.rope.layers";
    check_values(LLAMA4(""), (const expected[]){{"llama4.attention.sliding_window", 8192},
                                                {"llama4.attention.temperature_scale", (float)0.1},
                                                {"llama4.attention.temperature_length", 8192},
                                                {"llama4.interleave_moe_layer_step", 1},
                                                {"llama4.feed_forward_length", 24},
                                                {"llama4.expert_feed_forward_length", 16},
                                                {"llama4.expert_shared_feed_forward_length", 16},
                                                {"llama4.rope.freq_base", 5e5},
                                                {0}});
    check_values(LLAMA4(", \"attention_chunk_size\": null, \"attn_temperature_tuning\": false, \"moe_layers\": [1]"),
                 (const expected[]){{"llama4.attention.sliding_window", 0},
                                    {"llama4.attention.temperature_scale", 0},
                                    {"llama4.interleave_moe_layer_step", 2},
                                    {0}});
    /* no layer is chunked: other programs take a length of 0 for that, and none for 8,192 */
    check_values(LLAMA4(", \"layer_types\": [\"full_attention\", \"full_attention\"], \"moe_layers\": []"),
                 (const expected[]){{"llama4.attention.sliding_window", 0}, {"llama4.expert_count", NAN}, {0}});
    assert_true(number_of(LLAMA4(", \"no_rope_layers\": [0, 1]"), pattern, 0) == 0);
    assert_true(number_of(LLAMA4(", \"no_rope_layers\": [0, 1]"), pattern, 1) == 1);
    assert_true(number_of(LLAMA4(", \"no_rope_layers\": [0, 1]"), turned, 0) == 0);
    assert_true(number_of(LLAMA4(", \"no_rope_layer_interval\": 2"), pattern, 1) == 0);
    assert_true(number_of(LLAMA4(", \"no_rope_layer_interval\": 2, \"layer_types\": [\"full_attention\", "
                                 "\"chunked_attention\"]"),
                          pattern, 1) == 1);
}

static void gpt_neox_and_trinity_say_what_their_classes_do_by_default(void **state)
{
    (void)state;
    check_values(CLASS("GPTNeoXForCausalLM", ""),
                 (const expected[]){
                     {"gptneox.rope.dimension_count", 1}, {"gptneox.attention.layer_norm_epsilon", (float)1e-5}, {0}});
    check_values(CLASS("GPTNeoXForCausalLM", ", \"use_parallel_residual\": false, \"rotary_pct\": 0.5, "
                                             "\"rotary_emb_base\": 77"),
                 (const expected[]){{"gptneox.rope.dimension_count", 2}, {"gptneox.rope.freq_base", 77}, {0}});
    check_values(
        CLASS("OlmoForCausalLM", ", \"clip_qkv\": 8"),
        (const expected[]){{"olmo.attention.clamp_kqv", 8}, {"olmo.attention.layer_norm_epsilon", (float)1e-5}, {0}});
    check_values(CLASS("OlmoForCausalLM", ", \"clip_qkv\": null"),
                 (const expected[]){{"olmo.attention.clamp_kqv", NAN}, {0}});
    check_values(MIXTURE("AfmoeForCausalLM", ", \"route_scale\": 1.5, \"num_shared_experts\": 2"),
                 (const expected[]){{"afmoe.embedding_scale", 1},
                                    {"afmoe.leading_dense_block_count", 1},
                                    {"afmoe.expert_gating_func", 2},
                                    {"afmoe.expert_weights_scale", 1.5},
                                    {"afmoe.expert_shared_count", 2},
                                    {"afmoe.attention.sliding_window", 16},
                                    {0}});
    check_values(MIXTURE("AfmoeForCausalLM", ", \"mup_enabled\": true, \"global_attn_every_n_layers\": 2"),
                 (const expected[]){{"afmoe.embedding_scale", (float)2.8284271247461903},
                                    {"afmoe.attention.sliding_window_pattern", 2},
                                    {0}});
}

/* As its configuration class has it: the first layer is dense where the file says nothing. */
static void ernies_first_layer_is_dense_unless_it_says_otherwise(void **state)
{
    (void)state;
    check_values(MIXTURE("Ernie4_5_MoeForCausalLM", ""),
                 (const expected[]){{"ernie4_5-moe.leading_dense_block_count", 1}, {0}});
    check_values(MIXTURE("Ernie4_5_MoeForCausalLM", ", \"moe_layer_start_index\": 0, \"moe_layer_interval\": 2"),
                 (const expected[]){{"ernie4_5-moe.leading_dense_block_count", 0},
                                    {"ernie4_5-moe.interleave_moe_layer_step", 2},
                                    {0}});
}

static void ernies_last_layer_of_experts_may_be_minus_1(void **state)
{
    (void)state;
    check_values(MIXTURE("Ernie4_5_MoeForCausalLM", ", \"moe_layer_start_index\": 1, \"moe_layer_end_index\": -1"),
                 (const expected[]){{"ernie4_5-moe.leading_dense_block_count", 1}, {0}});
}

/* Each row: config.json, generation_config.json, tokenizer_config.json, and what the error line must say. */
static const struct {
    const char *config, *generation, *tokenizer, *error;
} hostile_texts[] = {
    {"", NULL, NULL, "config.json: line 1"},
    {"null", NULL, NULL, "config.json: line 1"},
    {"[]", NULL, NULL, "config.json: not a JSON object"},
    {"{\"a\": 1, \"a\": 2}", NULL, NULL, "duplicate object key"},
    {"{}", NULL, NULL, "neither 'architectures' nor 'model_type'"},
    {"{\"architectures\": []}", NULL, NULL, "'architectures' is no list of class names"},
    {"{\"architectures\": [1]}", NULL, NULL, "'architectures' is no list of class names"},
    {"{\"model_type\": 1}", NULL, NULL, "'model_type' is no string"},
    {"{\"architectures\": [\"LlamaForCausalLM\"]}", NULL, NULL, "'hidden_size' is missing"},
    {"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 0}", NULL, NULL,
     "'hidden_size' is 0; it must be 1 to"},
    {"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": \"8\"}", NULL, NULL,
     "'hidden_size' is no whole number"},
    {"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 8.5}", NULL, NULL,
     "'hidden_size' is no whole number"},
    {"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": -8}", NULL, NULL,
     "'hidden_size' is no whole number"},
    {"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 4294967296}", NULL, NULL,
     "'hidden_size' is no whole number"},
    {"{\"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 8, \"num_attention_heads\": 2, "
     "\"num_hidden_layers\": 65537}",
     NULL, NULL, "'num_hidden_layers' is 65537; it must be 1 to 65536"},
    {LLAMA(", \"rms_norm_eps\": \"small\""), NULL, NULL, "'rms_norm_eps' is no number"},
    {LLAMA(", \"num_key_value_heads\": true"), NULL, NULL, "'num_key_value_heads' is no whole number"},
    {LLAMA(", \"hidden_act\": \"gelu\""), NULL, NULL, "activation 'gelu'; llama models are supported with 'silu'"},
    {LLAMA(", \"hidden_act\": 3"), NULL, NULL, "'hidden_act' is no string"},
    {CLASS("Gemma3ForCausalLM", ", \"hidden_activation\": \"silu\""), NULL, NULL, "activation 'silu'"},
    {CLASS("GemmaForCausalLM", ", \"hidden_act\": \"silu\""), NULL, NULL,
     "activation 'silu'; gemma models are supported with 'gelu_pytorch_tanh'"},
    {CLASS("ExaoneForCausalLM", ", \"hidden_act\": \"gelu\""), NULL, NULL, "activation 'gelu'; exaone models"},
    {CLASS("GPTBigCodeForCausalLM", ", \"multi_query\": false"), NULL, NULL,
     "'multi_query' false is not supported in starcoder models"},
    {CLASS("GPTBigCodeForCausalLM", ", \"multi_query\": 1"), NULL, NULL, "'multi_query' is no true or false"},
    {CLASS("GPT2LMHeadModel", ", \"scale_attn_weights\": false"), NULL, NULL,
     "'scale_attn_weights' false is not supported in gpt2 models"},
    {CLASS("GPT2LMHeadModel", ", \"activation_function\": \"relu\""), NULL, NULL,
     "activation 'relu'; gpt2 models are supported with 'gelu_new' and 'gelu'"},
    {CLASS("HunYuanDenseV1ForCausalLM", ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 1, \"alpha\": -1}"),
     NULL, NULL, "'alpha' of RoPE scaling 'dynamic' is -1; it must not be below 0"},
    {CLASS("Ernie4_5_MoeForCausalLM", ", \"moe_num_experts\": 4, \"moe_k\": 2, \"moe_layer_end_index\": -2"), NULL,
     NULL, "'moe_layer_end_index' is no whole number"},
    {"{\"architectures\": [\"GPT2LMHeadModel\"], \"n_embd\": -8}", NULL, NULL, "'n_embd' is no whole number"},
    {LLAMA(", \"use_bidirectional_attention\": true"), NULL, NULL, "'use_bidirectional_attention' is not supported"},
    {LLAMA(", \"use_bidirectional_attention\": 1"), NULL, NULL, "'use_bidirectional_attention' is no true or false"},
    {GEMMA4(", \"use_bidirectional_attention\": \"all\""), NULL, NULL,
     "'use_bidirectional_attention' is not supported"},
    {GEMMA4(", \"num_kv_shared_layers\": 2"), NULL, NULL, "'num_kv_shared_layers' is 2 of 2"},
    {GEMMA4(", \"global_head_dim\": 4294967295"), NULL, NULL, "'global_head_dim' is no number from 2 to 4096"},
    {GEMMA4(", \"per_layer_config\": {\"1\": {\"head_dim\": \"64\"}}"), NULL, NULL, "'head_dim' is no whole number"},
    {GEMMA4(", \"enable_moe_block\": true"), NULL, NULL, "'num_local_experts' is missing"},
    {CLASS("Gemma4ForCausalLM", ""), NULL, NULL, "'layer_types' is no list of one word a layer"},
    {LLAMA(", \"quantization_config\": {}"), NULL, NULL, "quantised safetensors: quant_method '(none)'"},
    {LLAMA(", \"rope_scaling\": 4"), NULL, NULL, "'rope_scaling' is no object"},
    {LLAMA(", \"rope_parameters\": []"), NULL, NULL, "'rope_parameters' is no object"},
    {LLAMA(", \"rope_scaling\": {\"type\": 4}"), NULL, NULL, "'type' is no string"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"linear\"}"), NULL, NULL, "RoPE scaling 'linear' without 'factor'"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"original_max_position_embeddings\": 0}"), NULL, NULL,
     "RoPE scaling 'yarn' without 'factor'"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": \"2\"}"), NULL, NULL, "'factor' is no number"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"truncate\": 0}"), NULL, NULL,
     "'truncate' is no true or false"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"longrope\", \"factor\": 2}"), NULL, NULL,
     "'long_factor' is no list of 1 to 4096 numbers"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"su\", \"factor\": 2, \"long_factor\": [1, 0]}"), NULL, NULL,
     "'long_factor' is no list of numbers above 0"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"su\", \"factor\": 2, \"long_factor\": [1], \"short_factor\": 1}"), NULL,
     NULL, "'short_factor' is no list of 1 to 4096 numbers"},
    {CLASS("SmolLM3ForCausalLM", ", \"no_rope_layers\": [1]"), NULL, NULL,
     "'no_rope_layers' is no list with one number a layer"},
    {CLASS("Exaone4ForCausalLM", ", \"sliding_window_pattern\": \"LLX\""), NULL, NULL,
     "'sliding_window_pattern' is no number, or word of the letters L and G"},
    {CLASS("MixtralForCausalLM", ""), NULL, NULL, "'num_local_experts' is missing"},
    {CLASS("MixtralForCausalLM", ", \"num_local_experts\": 4"), NULL, NULL, "'num_experts_per_tok' is missing"},
    {CLASS("Qwen3MoeForCausalLM", ", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"mlp_only_layers\": [1]"), NULL,
     NULL, "dense layers among sparse ones is not supported in qwen3moe models"},
    {CLASS("OlmoeForCausalLM", ", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"clip_qkv\": 8"), NULL, NULL,
     "'clip_qkv' is not supported"},
    {CLASS("GptOssForCausalLM", ", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"swiglu_limit\": 5"), NULL, NULL,
     "another clamped SwiGLU than 7 and 1.702 is not supported"},
    {CLASS("Cohere2ForCausalLM", ", \"logit_scale\": \"1\""), NULL, NULL, "'logit_scale' is no number"},
    {CLASS("Starcoder2ForCausalLM", ", \"norm_epsilon\": []"), NULL, NULL, "'norm_epsilon' is no number"},
    {LLAMA(", \"partial_rotary_factor\": 0"), NULL, NULL, "'partial_rotary_factor' is no number above 0 and up to 1"},
    {LLAMA(", \"partial_rotary_factor\": 1.5"), NULL, NULL, "'partial_rotary_factor' is no number above 0 and up to 1"},
    {CLASS("Gemma3ForCausalLM", ", \"rope_parameters\": {\"sliding_attention\": {\"rope_type\": \"yarn\"}}"), NULL,
     NULL, "RoPE scaling 'yarn' of window layers is not supported"},
    {CLASS("Gemma3ForCausalLM", ", \"rope_parameters\": {\"sliding_attention\": 5}"), NULL, NULL,
     "'sliding_attention' is no object"},
    {CLASS("Gemma3ForCausalLM", ", \"query_pre_attn_scalar\": 0"), NULL, NULL,
     "'query_pre_attn_scalar' is no number above 0"},
    {CLASS("Gemma3ForCausalLM", ", \"layer_types\": \"all\""), NULL, NULL, "'layer_types' is no array"},
    {CLASS("Gemma3ForCausalLM", ", \"layer_types\": [\"full_attention\"]"), NULL, NULL,
     "'layer_types' is no array with one string a layer"},
    {CLASS("Gemma3ForCausalLM", ", \"layer_types\": [\"full_attention\", \"chunked_attention\"]"), NULL, NULL,
     "'layer_types' is no array of"},
    {CLASS("Gemma3ForCausalLM", ", \"layer_types\": [\"full_attention\", 1]"), NULL, NULL,
     "'layer_types' is no array of"},
    {CLASS("Gemma3ForCausalLM", ", \"tie_word_embeddings\": 1"), NULL, NULL, "duplicate object key"},
    {"{\"model_type\": \"llama\", \"tie_word_embeddings\": 1, \"hidden_size\": 8}", NULL, NULL,
     "'tie_word_embeddings' is no true or false"},
    {LLAMA(", \"eos_token_id\": \"</s>\""), NULL, NULL, "'eos_token_id' is no token id or list of them"},
    {LLAMA(", \"eos_token_id\": []"), NULL, NULL, "'eos_token_id' is no token id or list of them"},
    {LLAMA(", \"eos_token_id\": [1, -2]"), NULL, NULL, "'eos_token_id' is no token id or list of them"},
    {LLAMA(", \"bos_token_id\": 2147483648"), NULL, NULL, "'bos_token_id' is no token id or list of them"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"original_max_position_embeddings\": \"x\", \"truncate\": false, "
           "\"factor\": \"y\"}"),
     NULL, NULL, "'original_max_position_embeddings' is no whole number"},
    {CLASS("Gemma3ForCausalLM",
           ", \"rope_parameters\": {\"sliding_attention\": {\"rope_theta\": \"x\", \"rope_type\": \"yarn\"}}"),
     NULL, NULL, "'rope_theta' is no number"},
    {CLASS("Gemma3ForCausalLM", ", \"rms_norm_eps\": [], \"layer_types\": []"), "{}", "{}",
     "'rms_norm_eps' is no number"},
    {CLASS("Qwen2ForCausalLM", ", \"rms_norm_eps\": [], \"use_sliding_window\": true, \"eos_token_id\": [1]"), "{}",
     "{}", "'rms_norm_eps' is no number"},
    {CLASS("Gemma3ForCausalLM", ", \"rms_norm_eps\": [], \"layer_types\": [\"full_attention\", \"full_attention\"]"),
     "{}", "{}", "'rms_norm_eps' is no number"},
    {LLAMA(""), "{", NULL, "generation_config.json: line 1"},
    {LLAMA(""), "[]", NULL, "generation_config.json: not a JSON object"},
    {LLAMA(""), "{\"eos_token_id\": {}}", NULL, "'eos_token_id' is no token id"},
    {LLAMA(""), NULL, "nonsense", "tokenizer_config.json: line 1"},
    {LLAMA(""), NULL, "\"text\"", "tokenizer_config.json: line 1"},
    {"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 8, \"intermediate_size\": 16, "
     "\"num_hidden_layers\": 2, \"num_attention_heads\": 2}",
     NULL, NULL, "tensor 'lm_head.weight' is missing, and config.json does not tie it"},
};

static void every_hostile_config_gets_one_clear_line(void **state)
{
    (void)state;
    assert_true(sizeof hostile_texts / sizeof *hostile_texts >= 50);
    for (size_t i = 0; i < sizeof hostile_texts / sizeof *hostile_texts; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        mlxr_status status = open_config(&file, hostile_texts[i].config, hostile_texts[i].generation,
                                         hostile_texts[i].tokenizer, &error);
        if (status == MLXR_OK || status != error.status || file || !strstr(error.text, hostile_texts[i].error) ||
            strchr(error.text, '\n')) {
            fail_msg("%s\n  gave status %d: %s\n  expected: %s", hostile_texts[i].config, status, error.text,
                     hostile_texts[i].error);
        }
    }
}

static void an_unknown_class_keeps_its_name_for_show(void **state)
{
    (void)state;
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_ok(open_config(&file, "{\"architectures\": [\"NeverHeardForCausalLM\"], \"model_type\": \"neverheard\"}",
                          NULL, NULL, &error),
              &error);
    assert_memory_equal(model_file_meta(file, "general.architecture")->s.data, "NeverHeardForCausalLM", 22);
    model_file_close(&file);
    assert_ok(open_config(&file, "{\"model_type\": \"neverheard\"}", NULL, NULL, &error), &error);
    assert_memory_equal(model_file_meta(file, "general.architecture")->s.data, "neverheard", 11);
    model_file_close(&file);
}

static void end_tokens_come_from_the_generation_config_first(void **state)
{
    (void)state;
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_ok(open_config(&file, LLAMA(", \"bos_token_id\": 1, \"eos_token_id\": 2"),
                          "{\"eos_token_id\": [128001, 128009]}", NULL, &error),
              &error);
    assert_int_equal(model_file_meta(file, "tokenizer.ggml.bos_token_id")->u, 1);
    assert_int_equal(model_file_meta(file, "tokenizer.ggml.eos_token_id")->u, 128001);
    const meta_array *ids = &model_file_meta(file, "tokenizer.ggml.eos_token_ids")->array;
    assert_int_equal(ids->n, 2);
    assert_true(meta_array_number(ids, 1) == 128009);
    model_file_close(&file);
}

static void lists_of_ids_are_bounded(void **state)
{
    (void)state;
    char *config = malloc(1 << 16),
         *at = config + sprintf(config, "{\"model_type\": \"other\", \"bos_token_id\": [7], \"eos_token_id\": [1");
    model_file *file = NULL;
    mlxr_error error = {0};
    for (int i = 1; i < 1024; i++) {
        at += sprintf(at, ", %d", i);
    }
    strcpy(at, "]}");
    assert_ok(open_config(&file, config, NULL, NULL, &error), &error);
    assert_int_equal(model_file_meta(file, "tokenizer.ggml.bos_token_id")->u, 7);
    assert_int_equal(model_file_meta(file, "tokenizer.ggml.eos_token_ids")->array.n, 1024);
    model_file_close(&file);
    strcpy(at, ", 1]}");
    assert_int_equal(open_config(&file, config, NULL, NULL, &error), MLXR_FORMAT);
    free(config);
}

static void texts_beyond_the_limit_are_not_even_looked_at(void **state)
{
    (void)state;
    const safetensors_texts texts = {.config = {"{}", JSON_TEXT_BYTES_MAX + 1}};
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_int_equal(safetensors_open_memory(&file, &texts, "", 0, &error), MLXR_LIMIT);
    assert_non_null(strstr(error.text, "config.json: 33554433 bytes of JSON; at most 33554432 are read"));
}

static void the_chat_template_is_found_in_every_place(void **state)
{
    (void)state;
    static const struct {
        const char *tokenizer, *jinja, *template;
    } cases[] = {
        {"{\"chat_template\": \"{{ x }}\"}", NULL, "{{ x }}"},
        {"{\"chat_template\": [{\"name\": \"tools\", \"template\": \"no\"}, {\"name\": \"default\", \"template\": "
         "\"yes\"}]}",
         NULL, "yes"},
        {"{\"chat_template\": \"old\"}", "new", "new"},
        {NULL, "new", "new"},
        {"{\"chat_template\": null}", NULL, NULL},
        {"{\"chat_template\": [1, {\"name\": \"tools\"}, {\"name\": 4}]}", NULL, NULL},
        {"{\"chat_template\": [{\"name\": \"default\"}]}", NULL, NULL},
        {"{\"chat_template\": {\"a\": 1}}", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const safetensors_texts texts = {.config = view(LLAMA("")),
                                         .tokenizer_config = view(cases[i].tokenizer),
                                         .chat_template = view(cases[i].jinja)};
        model_file *file = NULL;
        mlxr_error error = {0};
        uint8_t *bytes;
        text_view found = {0};
        assert_ok(open_texts(&file, &texts, "{}", 0, &bytes, &error), &error);
        assert_ok(model_file_text(file, "tokenizer.chat_template", &found, &error), &error);
        assert_int_equal(found.n, cases[i].template ? strlen(cases[i].template) : 0);
        if (cases[i].template) {
            assert_memory_equal(found.data, cases[i].template, found.n);
        }
        model_file_close(&file);
        free(bytes);
    }
}

static void metadata_ends_where_its_table_does(void **state)
{
    mlxr_error error = {0};
    region memory = {0};
    meta_value rows[META_MAX];
    hf_writer w = {.arch = "llama", .meta = rows, .memory = &memory, .error = &error};
    (void)state;
    for (uint32_t i = 0; i < META_MAX; i++) {
        hf_add_u32(&w, ".key", i);
        assert_int_equal(w.status, MLXR_OK);
        assert_int_equal(rows[i].u, i);
    }
    hf_add_u32(&w, ".one_more", 1);
    assert_int_equal(w.status, MLXR_LIMIT);
    assert_non_null(strstr(error.text, "'.one_more' is more than the 64 rows"));
    hf_add_u32(&w, ".another", 1);
    assert_int_equal(w.n_meta, META_MAX);
    region_close(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_transformers),
        cmocka_unit_test(values_given_replace_the_defaults),
        cmocka_unit_test(rope_scaling_of_old_and_new_configs_is_read),
        cmocka_unit_test(windows_of_layers_become_a_pattern),
        cmocka_unit_test(windows_that_no_list_names_are_those_of_the_class),
        cmocka_unit_test(gpt_neox_and_trinity_say_what_their_classes_do_by_default),
        cmocka_unit_test(llama_4s_chunks_experts_and_temperature_have_keys),
        cmocka_unit_test(ernies_first_layer_is_dense_unless_it_says_otherwise),
        cmocka_unit_test(gpt_2s_words_are_read_and_starcoders_default_is_one_kv_head),
        cmocka_unit_test(the_word_gelu_is_written_where_the_class_follows_it),
        cmocka_unit_test(a_class_with_two_activations_writes_the_one_that_is_not_its_default),
        cmocka_unit_test(gelu_by_tanh_has_several_names_in_every_class),
        cmocka_unit_test(falcons_mixers_have_1024_elements_where_nothing_is_said_of_them),
        cmocka_unit_test(keys_of_one_class_are_not_read_for_another),
        cmocka_unit_test(an_alpha_of_0_is_none),
        cmocka_unit_test(ernies_last_layer_of_experts_may_be_minus_1),
        cmocka_unit_test(gemma_4s_two_kinds_of_layers_are_read_in_old_words_and_new),
        cmocka_unit_test(every_hostile_config_gets_one_clear_line),
        cmocka_unit_test(an_unknown_class_keeps_its_name_for_show),
        cmocka_unit_test(end_tokens_come_from_the_generation_config_first),
        cmocka_unit_test(lists_of_ids_are_bounded),
        cmocka_unit_test(texts_beyond_the_limit_are_not_even_looked_at),
        cmocka_unit_test(the_chat_template_is_found_in_every_place),
        cmocka_unit_test(metadata_ends_where_its_table_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
