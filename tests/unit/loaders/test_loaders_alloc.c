/*
 * Every allocation of the loaders fails once: the call says so, changes nothing and loses no memory (under LSan).
 * Owner: the test program. Lifetime: the process.
 */
#include <jansson.h>
#include <sys/stat.h>

#include "byte_script.h"
#include "loaders/adapter_file.h"
#include "loaders/readers.h"
#include "safetensors_text.h"
#include "support/fail_alloc.h"
#include "support/region_malloc.inc"
#include "support/test.h"
#include "support/tiny_model.h"

/* What adapters are read for. */
static const adapter_model llama = {.arch = "llama", .n_layers = 4, .n_expert = 3, .n_expert_in = 8, .n_ff_expert = 4};

/* jansson's allocations go through this program's malloc, so that they can be made to fail too. jansson 2.14 calls lack
 * of memory a syntax error, or loses the character it had no room for and goes on: only survival is asked for then. */
static bool json_fails;

void *__real_malloc(size_t n);

static void *json_malloc(size_t n)
{
    return json_fails ? malloc(n) : __real_malloc(n);
}

static void json_free(void *memory)
{
    free(memory);
}

typedef struct input {
    const char *path; /* NULL: the bytes */
    const uint8_t *bytes;
    size_t n;
} input;

static mlxr_status open_input(const input *in, model_file **file, mlxr_error *error)
{
    return in->path ? model_file_open(file, in->path, error) : gguf_open_memory(file, in->bytes, in->n, error);
}

static void fail_each(const input *in)
{
    for (long n = 1;; n++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        fail_alloc_at(n);
        mlxr_status status = open_input(in, &file, &error);
        if (!fail_alloc_stop()) {
            assert_ok(status, &error);
            model_file_close(&file);
            assert_true(n > 3);
            return;
        }
        if (json_fails) {
            assert_true((status == MLXR_OK) == (file != NULL));
            model_file_close(&file);
        } else if (status != MLXR_NOMEM || error.status != status || file || !strstr(error.text, "memory")) {
            fail_msg("allocation %ld: status %d: %s", n, status, error.text);
        }
    }
}

static void gguf_reports_each_failing_allocation(void **state)
{
    (void)state;
    size_t n;
    uint8_t *bytes = byte_script(
        "=GGUF 4:3 8:2 8:3 'words 4:9 4:8 8:2 'one 'two 'a 4:4 4:1 'b 4:8 'text 'v 4:1 8:32 4:0 8:0 "
        "'w 4:1 8:32 4:0 8:128 |32 0*256",
        &n);
    fail_each(&(input){.bytes = bytes, .n = n});
    free(bytes);
}

static void split_gguf_reports_each_failing_allocation(void **state)
{
    (void)state;
    static const char *const scripts[] = {
        "=GGUF 4:3 8:1 8:2 'split.no 4:2 2:1 'split.count 4:2 2:2 'w 4:1 8:32 4:0 8:0 |32 0*128",
        "=GGUF 4:3 8:1 8:1 'split.count 4:2 2:2 'v 4:1 8:32 4:0 8:0 |32 0*128"};
    static const char *const names[] = {"s-00002-of-00002.gguf", "s-00001-of-00002.gguf"};
    const char *path = NULL;
    for (int i = 0; i < 2; i++) {
        size_t n;
        uint8_t *bytes = byte_script(scripts[i], &n);
        path = test_write_file(names[i], bytes, n);
        free(bytes);
    }
    fail_each(&(input){.path = path});
}

static void safetensors_report_each_failing_allocation(void **state)
{
    (void)state;
    const tiny_options options = {.type = DTYPE_BF16, .shards = 2};
    static const char *const names[] = {"gemma3", "qwen2"};
    for (int i = 0; i < 2; i++) {
        char folder[600];
        snprintf(folder, sizeof folder, "%s/%s", test_temp_dir(), names[i]);
        tiny_model_write_safetensors(tiny_model_find(names[i]), &options, folder);
        fail_each(&(input){.path = folder});
    }
}

static void json_that_finds_no_memory_crashes_nothing(void **state)
{
    json_fails = true;
    safetensors_report_each_failing_allocation(state);
    json_fails = false;
}

static void texts_of_safetensors_report_each_failing_allocation(void **state)
{
    (void)state;
    static const char config[] = "{\"architectures\": [\"Gemma3ForCausalLM\"], \"hidden_size\": 8, "
                                 "\"intermediate_size\": 16, \"num_hidden_layers\": 2, "
                                 "\"num_attention_heads\": 2, \"layer_types\": [\"full_attention\", "
                                 "\"sliding_attention\"], \"eos_token_id\": [1, 2]}";
    static const char qwen[] =
        "{\"architectures\": [\"Qwen2ForCausalLM\"], \"hidden_size\": 8, \"intermediate_size\": 16, "
        "\"num_hidden_layers\": 2, "
        "\"num_attention_heads\": 2, \"use_sliding_window\": true, \"tie_word_embeddings\": true}";
    static const char mixed[] = LLAMA(
        ", \"quantization\": {\"bits\": 4, \"group_size\": 64, \"a.b\": {\"bits\": 8, \"mode\": \"affine\"}}");
    static const text_view configs[] = {
        {config, sizeof config - 1}, {qwen, sizeof qwen - 1}, {mixed, sizeof mixed - 1}};
    static const char tokenizer[] = "{\"chat_template\": \"{{ x }}\"}";
    static uint8_t empty[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    for (size_t i = 0; i < 6; i++) {
        const text_view template = {"{{ y }}", i % 2 ? 7 : 0};
        const safetensors_texts texts = {.config = configs[i / 2],
                                         .tokenizer_config = {tokenizer, sizeof tokenizer - 1},
                                         .generation_config = {"{}", 2},
                                         .chat_template = template,
                                         .name = "name"};
        for (long n = 1;; n++) {
            model_file *file = NULL;
            mlxr_error error = {0};
            fail_alloc_at(n);
            mlxr_status status = safetensors_open_memory(&file, &texts, empty, sizeof empty, &error);
            if (!fail_alloc_stop()) {
                assert_ok(status, &error);
                model_file_close(&file);
                break;
            }
            if (status != MLXR_NOMEM || file) {
                fail_msg("allocation %ld: status %d: %s", n, status, error.text);
            }
        }
    }
}

#define LAYERS(a, b) ", \"layer_types\": [\"" a "\", \"" b "\"]"

/* Lists of a number a layer, factors of RoPE, and tensors that are made of others. */
static void lists_and_changed_tensors_report_each_failing_allocation(void **state)
{
    static const struct {
        const char *config, *header;
        size_t n_data;
    } cases[] = {
        {CLASS("Exaone4ForCausalLM", ", \"sliding_window_pattern\": \"LG\""), "{}", 0},
        {CLASS("ModernBertModel", ""), "{}", 0},
        {CLASS("SmolLM3ForCausalLM", ", \"no_rope_layer_interval\": 2"), "{}", 0},
        {CLASS("Gemma4ForCausalLM", ", \"head_dim\": 32, \"num_key_value_heads\": 2, \"attention_k_eq_v\": true, "
                                    "\"num_global_key_value_heads\": 1" LAYERS("sliding_attention", "full_attention")),
         "{}", 0},
        {LLAMA(", \"rope_scaling\": {\"type\": \"su\", \"factor\": 2, \"long_factor\": [1], \"short_factor\": [1]}"),
         "{}", 0},
        {CLASS("Qwen3NextForCausalLM",
               ", \"linear_conv_kernel_dim\": 4, \"linear_key_head_dim\": 4, \"linear_num_key_heads\": 1, "
               "\"linear_num_value_heads\": 2, \"linear_value_head_dim\": 4, \"num_experts\": 4, "
               "\"num_experts_per_tok\": 2"),
         "{" E("model.layers.0.linear_attn.A_log", "BF16", "[2]", 0, 4) "}", 4},
        {CLASS("Lfm2ForCausalLM", ", \"conv_L_cache\": 3" LAYERS("conv", "full_attention")),
         "{" E("model.layers.0.conv.conv.weight", "BF16", "[2, 1, 3]", 0, 12) "}", 12},
        {CLASS("GraniteMoeHybridForCausalLM",
               ", \"mamba_n_heads\": 4, \"mamba_n_groups\": 1, \"mamba_d_conv\": 4, \"mamba_d_state\": 4, "
               "\"num_local_experts\": 0, \"shared_intermediate_size\": 8" LAYERS("mamba", "attention")),
         "{" E("model.layers.0.shared_mlp.input_linear.weight", "BF16", "[2, 1]", 0, 4) "}", 4},
        {CLASS("GptOssForCausalLM", ", \"num_local_experts\": 2, \"num_experts_per_tok\": 1"),
         "{" E("model.layers.0.mlp.experts.gate_up_proj", "BF16", "[2, 1, 2]", 0,
               8) ", " E("model.layers.0.mlp.experts.gate_up_proj_bias", "BF16", "[2, 2]", 8, 16) "}",
         16},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const safetensors_texts texts = {.config = view(cases[i].config)};
        for (long n = 1;; n++) {
            size_t n_bytes;
            uint8_t *bytes = weights(cases[i].header, cases[i].n_data, &n_bytes);
            model_file *file = NULL;
            mlxr_error error = {0};
            fail_alloc_at(n);
            mlxr_status status = safetensors_open_memory(&file, &texts, bytes, n_bytes, &error);
            bool failed = fail_alloc_stop();
            if (failed ? status != MLXR_NOMEM || file : status != MLXR_OK) {
                fail_msg("%s: allocation %ld: status %d: %s", cases[i].config, n, status, error.text);
            }
            model_file_close(&file);
            free(bytes);
            if (!failed) {
                break;
            }
        }
    }
}

/* One of each kind of quantisation, and what rewriting their weights takes. */
static void quantised_safetensors_report_each_failing_allocation(void **state)
{
    static const char *const names[] = {"gptq-ordered", "mlx-4-float16", "bnb-nf4-nested", "fp8-blocks",
                                        "gpt-oss-mxfp4"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/data/checkpoints/%s", names[i]);
        fail_each(&(input){.path = path});
        for (long n = 1;; n++) {
            model_file *file = NULL;
            mlxr_error error = {0};
            assert_ok(model_file_open(&file, path, &error), &error);
            fail_alloc_at(n);
            mlxr_status status = model_file_unpack(file, UINT32_MAX, &error);
            bool failed = fail_alloc_stop();
            assert_int_equal(status, failed ? MLXR_NOMEM : MLXR_OK);
            model_file_close(&file);
            if (!failed) {
                assert_true(n > 1);
                break;
            }
        }
    }
}

#define LORA_A "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
#define LORA_B "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"

static void adapters_report_each_failing_allocation(void **state)
{
    static const char config[] = "{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"alpha_pattern\": {\"q_proj\": 3}}";
    (void)state;
    for (int peft = 0; peft < 2; peft++) {
        size_t n_bytes;
        uint8_t *bytes = peft ? weights(
                                    "{" E(LORA_A, "F32", "[1, 8]", 0, 32) ", " E(LORA_B, "F32", "[8, 1]", 32, 64) "}",
                                    64, &n_bytes)
                              : byte_script("=GGUF 4:3 8:2 8:3 'general.type 4:8 'adapter 'adapter.type 4:8 'lora "
                                            "'general.architecture 4:8 'llama 'w.lora_a 4:2 8:8 8:1 4:0 8:0 "
                                            "'w.lora_b 4:2 8:1 8:8 4:0 8:32 |32 0*64",
                                            &n_bytes);
        for (long n = 1;; n++) {
            adapter_file *file = NULL;
            mlxr_error error = {0};
            fail_alloc_at(n);
            mlxr_status status = adapter_file_open_memory(&file, view(peft ? config : NULL), bytes, n_bytes, &llama,
                                                          &error);
            bool failed = fail_alloc_stop();
            if (status != (failed ? MLXR_NOMEM : MLXR_OK) || failed != !file) {
                fail_msg("allocation %ld: status %d: %s", n, status, error.text);
            }
            adapter_file_close(&file);
            if (!failed) {
                assert_true(n > 3);
                break;
            }
        }
        free(bytes);
    }
}

static void open_with_each_failing_allocation(const char *path)
{
    for (long n = 1;; n++) {
        adapter_file *file = NULL;
        mlxr_error error = {0};
        fail_alloc_at(n);
        mlxr_status status = adapter_file_open(&file, path, &llama, &error);
        bool failed = fail_alloc_stop();
        if (status != (failed ? MLXR_NOMEM : MLXR_OK) || failed != !file) {
            fail_msg("%s: allocation %ld: status %d: %s", path, n, status, error.text);
        }
        adapter_file_close(&file);
        if (!failed) {
            assert_true(n > 3);
            break;
        }
    }
}

/* By its path: room for the names of two files, too. */
static void adapters_in_folders_report_each_failing_allocation(void **state)
{
    static const char config[] = "{\"peft_type\": \"LORA\", \"lora_alpha\": 6}";
    size_t n_bytes;
    uint8_t *bytes = weights("{" E(LORA_A, "F32", "[1, 8]", 0, 32) ", " E(LORA_B, "F32", "[8, 1]", 32, 64) "}", 64,
                             &n_bytes);
    (void)state;
    test_write_file("adapter_config.json", config, sizeof config - 1);
    test_write_file("adapter_model.safetensors", bytes, n_bytes);
    free(bytes);
    open_with_each_failing_allocation(test_temp_dir());
}

/* A text in the header of the weights is copied. */
static void adapters_in_one_file_report_each_failing_allocation(void **state)
{
    size_t n_bytes;
    uint8_t *bytes = weights(
        "{\"__metadata__\": {\"mlxr.adapter_config\": \"{\\\"peft_type\\\": \\\"LORA\\\", "
        "\\\"lora_alpha\\\": 6}\"}, " E(LORA_A, "F32", "[1, 8]", 0, 32) ", " E(LORA_B, "F32", "[8, 1]", 32, 64) "}",
        64, &n_bytes);
    (void)state;
    const char *path = test_write_file("one", bytes, n_bytes);
    free(bytes);
    open_with_each_failing_allocation(path);
}

/* Of one file: it is no GGUF, whatever was missing to find that out. Only up to the first allocation for JSON: where
 * jansson 2.14 finds no memory within a text it damages the heap. */
static void an_adapter_whose_header_finds_no_memory_is_not_taken_for_another_format(void **state)
{
    size_t n_bytes;
    uint8_t *bytes = weights("{\"__metadata__\": {\"mlxr.adapter_config\": \"7\"}}", 0, &n_bytes);
    (void)state;
    const char *path = test_write_file("one-json", bytes, n_bytes);
    bool said = false;
    json_fails = true;
    for (long n = 1; !said; n++) {
        adapter_file *file = NULL;
        mlxr_error error = {0};
        fail_alloc_at(n);
        mlxr_status status = adapter_file_open(&file, path, &llama, &error);
        assert_true(fail_alloc_stop());
        said = strstr(error.text, "header: out of memory for ") != NULL;
        if (status != MLXR_NOMEM || file) {
            fail_msg("allocation %ld: status %d: %s", n, status, error.text);
        }
    }
    json_fails = false;
    free(bytes);
}

int main(void)
{
    json_set_alloc_funcs(json_malloc, json_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_reports_each_failing_allocation),
        cmocka_unit_test(split_gguf_reports_each_failing_allocation),
        cmocka_unit_test(safetensors_report_each_failing_allocation),
        cmocka_unit_test(json_that_finds_no_memory_crashes_nothing),
        cmocka_unit_test(texts_of_safetensors_report_each_failing_allocation),
        cmocka_unit_test(lists_and_changed_tensors_report_each_failing_allocation),
        cmocka_unit_test(quantised_safetensors_report_each_failing_allocation),
        cmocka_unit_test(adapters_report_each_failing_allocation),
        cmocka_unit_test(adapters_in_folders_report_each_failing_allocation),
        cmocka_unit_test(adapters_in_one_file_report_each_failing_allocation),
        cmocka_unit_test(an_adapter_whose_header_finds_no_memory_is_not_taken_for_another_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
