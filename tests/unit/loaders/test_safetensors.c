/*
 * Safetensors reader: weight files, config.json, indexes, and one clear line for every kind of bad one.
 * Owner: the test program. Lifetime: the process.
 */
#include <inttypes.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loaders/safetensors.h"
#include "support/test.h"
#include "support/tiny_model.h"

/* config.json with what a Llama must say, and more members. */
#define LLAMA(more)                                                                                                    \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 8, \"intermediate_size\": 16, "                      \
    "\"num_hidden_layers\": 2,"                                                                                        \
    " \"num_attention_heads\": 2, \"tie_word_embeddings\": true" more "}"
#define CLASS(class, more)                                                                                             \
    "{\"architectures\": [\"" class "\"], \"hidden_size\": 8, \"intermediate_size\": 16, \"num_hidden_layers\": 2,"    \
                                    " \"num_attention_heads\": 2, \"tie_word_embeddings\": true" more "}"
/* A header entry. */
#define E(name, dtype, shape, begin, end)                                                                              \
    "\"" name "\": {\"dtype\": \"" dtype "\", \"shape\": " shape ", \"data_offsets\": [" #begin ", " #end "]}"

static text_view view(const char *text)
{
    return text ? (text_view){text, strlen(text)} : (text_view){0};
}

/* A weight file: header length, header, n_data bytes that count 0, 1, 2…; malloc'd exactly. */
static uint8_t *weights(const char *header, size_t n_data, size_t *n)
{
    size_t n_header = strlen(header);
    uint8_t *bytes = malloc(8 + n_header + n_data);
    for (size_t i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)((uint64_t)n_header >> 8 * i);
    }
    memcpy(bytes + 8, header, n_header);
    for (size_t i = 0; i < n_data; i++) {
        bytes[8 + n_header + i] = (uint8_t)i;
    }
    *n = 8 + n_header + n_data;
    return bytes;
}

static mlxr_status open_texts(model_file **file, const safetensors_texts *texts, const char *header, size_t n_data,
                              uint8_t **bytes, mlxr_error *error)
{
    size_t n;
    *bytes = weights(header, n_data, &n);
    return safetensors_open_memory(file, texts, *bytes, n, error);
}

/* ---- weight files ---------------------------------------------------------------------------------------------- */

static void tensors_have_ggufs_names_and_order_of_dimensions(void **state)
{
    (void)state;
    model_file *file = NULL;
    mlxr_error error = {0};
    uint8_t *bytes;
    const safetensors_texts texts = {.config = view(LLAMA("")), .name = "a name"};
    assert_ok(open_texts(&file, &texts,
                         "{\"__metadata__\": {\"format\": \"pt\"}, " E(
                             "model.layers.1.mlp.up_proj.weight", "BF16", "[3, 2]", 8,
                             20) ", " E("model.embed_tokens.weight", "F32", "[1, 2]", 0,
                                        8) ", " E("lm_head.weight", "F32", "[1]", 20,
                                                  24) ", " E("model.layers.0.self_attn.rotary_emb.inv_freq", "I64",
                                                             "[1]", 24, 32) "}  ",
                         32, &bytes, &error),
              &error);
    assert_int_equal(file->format, MODEL_SAFETENSORS);
    assert_true(file->rope_halves);
    assert_int_equal(file->n_tensors, 2); /* the tied output and a buffer are skipped */
    const tensor *up = model_file_tensor(file, "blk.1.ffn_up.weight");
    assert_int_equal(up->type, DTYPE_BF16);
    assert_int_equal(up->n_dims, 2);
    assert_int_equal(up->shape[0], 2);
    assert_int_equal(up->shape[1], 3);
    assert_int_equal(up->row_bytes, 4);
    assert_int_equal(up->n_bytes, 12);
    assert_int_equal(*(const uint8_t *)up->data, 8);
    assert_non_null(model_file_tensor(file, "token_embd.weight"));
    assert_memory_equal(model_file_meta(file, "general.name")->s.data, "a name", 6);
    model_file_close(&file);
    free(bytes);
}

static void every_name_of_every_class_is_translated(void **state)
{
    (void)state;
    static const struct {
        const char *class, *theirs, *ours;
        unsigned change;
    } cases[] = {
        {"LlamaForCausalLM", "model.embed_tokens.weight", "token_embd.weight", 0},
        {"LlamaForCausalLM", "model.norm.weight", "output_norm.weight", 0},
        {"LlamaForCausalLM", "lm_head.weight", "output.weight", 0},
        {"LlamaForCausalLM", "model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight", 0},
        {"LlamaForCausalLM", "model.layers.12.post_attention_layernorm.weight", "blk.12.ffn_norm.weight", 0},
        {"LlamaForCausalLM", "model.layers.999999.self_attn.q_proj.weight", "blk.999999.attn_q.weight", 0},
        {"MistralForCausalLM", "model.layers.3.self_attn.k_proj.weight", "blk.3.attn_k.weight", 0},
        {"Qwen2ForCausalLM", "model.layers.3.self_attn.v_proj.bias", "blk.3.attn_v.bias", 0},
        {"Qwen3ForCausalLM", "model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight", 0},
        {"Qwen3ForCausalLM", "model.layers.3.self_attn.k_norm.weight", "blk.3.attn_k_norm.weight", 0},
        {"LlamaForCausalLM", "model.layers.3.self_attn.o_proj.bias", "blk.3.attn_output.bias", 0},
        {"LlamaForCausalLM", "model.layers.3.mlp.gate_proj.weight", "blk.3.ffn_gate.weight", 0},
        {"LlamaForCausalLM", "model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight", 0},
        {"Gemma3ForCausalLM", "model.norm.weight", "output_norm.weight", HF_PLUS_ONE},
        {"Gemma3ForCausalLM", "model.layers.0.post_attention_layernorm.weight", "blk.0.post_attention_norm.weight",
         HF_PLUS_ONE},
        {"Gemma3ForCausalLM", "model.layers.0.pre_feedforward_layernorm.weight", "blk.0.ffn_norm.weight", HF_PLUS_ONE},
        {"Gemma3ForCausalLM", "model.layers.0.post_feedforward_layernorm.weight", "blk.0.post_ffw_norm.weight",
         HF_PLUS_ONE},
        {"Gemma3ForCausalLM", "model.layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight", HF_PLUS_ONE},
        {"Gemma3ForCausalLM", "model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight", 0},
        {"Qwen3MoeForCausalLM", "model.layers.1.mlp.experts.17.up_proj.weight", "blk.1.ffn_up.17.weight", 0},
        {"MixtralForCausalLM", "model.layers.1.block_sparse_moe.experts.0.w2.weight", "blk.1.ffn_down.0.weight", 0},
        {"Glm4MoeForCausalLM", "model.layers.0.mlp.gate.e_score_correction_bias", "blk.0.exp_probs_b.bias", 0},
        {"GptOssForCausalLM", "model.layers.0.self_attn.sinks", "blk.0.attn_sinks.weight", 0},
        {"GptOssForCausalLM", "model.layers.0.mlp.experts.gate_up_proj", "blk.0.ffn_gate_up_exps.weight",
         HF_TRANSPOSED | HF_ZIPPED},
        {"Lfm2ForCausalLM", "model.embedding_norm.weight", "token_embd_norm.weight", 0},
        {"Lfm2ForCausalLM", "model.layers.0.conv.conv.weight", "blk.0.shortconv.conv.weight", HF_SQUEEZED},
        {"Lfm2ForCausalLM", "model.layers.0.conv.conv.bias", "blk.0.shortconv.conv.bias", 0},
        {"Lfm2ForCausalLM", "model.layers.0.feed_forward.w2.weight", "blk.0.ffn_down.weight", 0},
        {"Qwen3NextForCausalLM", "model.layers.0.linear_attn.A_log", "blk.0.ssm_a", HF_MINUS_EXP},
        {"Qwen3NextForCausalLM", "model.layers.0.linear_attn.norm.weight", "blk.0.ssm_norm.weight", 0},
        {"Qwen3NextForCausalLM", "model.layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight", HF_PLUS_ONE},
        {"GraniteMoeHybridForCausalLM", "model.layers.0.mamba.A_log", "blk.0.ssm_a", HF_MINUS_EXP | HF_COLUMN},
        {"GraniteMoeHybridForCausalLM", "model.layers.0.mamba.norm.weight", "blk.0.ssm_norm.weight", HF_GROUPS},
        {"GraniteMoeHybridForCausalLM", "model.layers.0.shared_mlp.input_linear.weight", "blk.0.ffn_gate_shexp.weight",
         HF_HALVES},
        {"NemotronHForCausalLM", "backbone.layers.3.norm.weight", "blk.3.attn_norm.weight", 0},
        {"NemotronHForCausalLM", "backbone.layers.3.mixer.D", "blk.3.ssm_d", HF_COLUMN},
        /* what is unknown keeps its name */
        {"Qwen3MoeForCausalLM", "model.layers.1.mlp.experts.12345.up_proj.weight",
         "model.layers.1.mlp.experts.12345.up_proj.weight", 0},
        {"Qwen3MoeForCausalLM", "model.layers.1.mlp.experts.1.up_proj.scale",
         "model.layers.1.mlp.experts.1.up_proj.scale", 0},
        {"Qwen3MoeForCausalLM", "model.layers.1.mlp.experts.1x.up_proj.weight",
         "model.layers.1.mlp.experts.1x.up_proj.weight", 0},
        {"LlamaForCausalLM", "model.layers.0.pre_feedforward_layernorm.weight",
         "model.layers.0.pre_feedforward_layernorm.weight", 0},
        {"LlamaForCausalLM", "model.layers.01.mlp.up_proj.weight", "model.layers.01.mlp.up_proj.weight", 0},
        {"LlamaForCausalLM", "model.layers.1234567.mlp.up_proj.weight", "model.layers.1234567.mlp.up_proj.weight", 0},
        {"LlamaForCausalLM", "model.layers..mlp.up_proj.weight", "model.layers..mlp.up_proj.weight", 0},
        {"LlamaForCausalLM", "model.layers.1", "model.layers.1", 0},
        {"LlamaForCausalLM", "model.layers.1.mlp.up_proj", "model.layers.1.mlp.up_proj", 0},
        {"LlamaForCausalLM", ".weight", ".weight", 0},
        {"Qwen3Model", "layers.2.mlp.up_proj.weight", "blk.2.ffn_up.weight", 0},
        {"Qwen3Model", "embed_tokens.weight", "token_embd.weight", 0},
        {"Qwen3Model", "norm.weight", "output_norm.weight", 0},
        {"Qwen3ForSequenceClassification", "score.weight", "cls.output.weight", 0},
        {"XLMRobertaForSequenceClassification", "roberta.encoder.layer.1.output.dense.weight", "blk.1.ffn_down.weight",
         0},
        {"XLMRobertaForSequenceClassification", "classifier.dense.bias", "cls.bias", 0},
        {"XLMRobertaForSequenceClassification", "classifier.out_proj.weight", "cls.output.weight", 0},
        {"BertForSequenceClassification", "classifier.weight", "classifier.weight", 0},
        {"NoSuchClass", "model.norm.weight", "model.norm.weight", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char ours[256];
        unsigned change;
        hf_config config = {.n_layers = 4};
        config.class = hf_class_find(cases[i].class, &config);
        assert_int_equal(hf_tensor_name(&config, cases[i].theirs, ours, sizeof ours, &change), HF_KEEP);
        assert_string_equal(ours, cases[i].ours);
        assert_int_equal(change, cases[i].change);
    }
}

static void norms_and_biases_become_float32_and_gemmas_norms_grow_by_one(void **state)
{
    (void)state;
    static const char header[] = "{" E("model.norm.weight", "BF16", "[2]", 0, 4) ", " E(
        "model.layers.0.self_attn.q_proj.bias", "F16", "[2]", 4,
        8) ", " E("model.layers.0.input_layernorm.weight", "F32", "[1]", 8,
                  12) ", " E("model.layers.0.self_attn.k_proj.bias", "F32", "[1]", 12, 16) "}";
    for (int gemma = 0; gemma < 2; gemma++) {
        const safetensors_texts texts = {.config = view(gemma ? CLASS("Gemma3ForCausalLM", "") : LLAMA(""))};
        model_file *file = NULL;
        mlxr_error error = {0};
        size_t n;
        uint8_t *bytes = weights(header, 16, &n);
        memcpy(bytes + n - 16,
               "\x80\x3f\x00\xc0"
               "\x00\x3c\x00\xc0"
               "\x00\x00\x00\x3f"
               "\x00\x00\x80\x40",
               16); /* 1 −2, 1 −2, 0.5, 4 */
        assert_ok(safetensors_open_memory(&file, &texts, bytes, n, &error), &error);
        const tensor *norm = model_file_tensor(file, "output_norm.weight"),
                     *bias = model_file_tensor(file, "blk.0.attn_q.bias");
        const tensor *plain = model_file_tensor(file, "blk.0.attn_norm.weight"),
                     *view32 = model_file_tensor(file, "blk.0.attn_k.bias");
        const float *values = norm->data, *biases = bias->data;
        assert_int_equal(norm->type, DTYPE_F32);
        assert_int_equal(norm->n_bytes, 8);
        assert_int_equal(norm->row_bytes, 8);
        assert_true(values[0] == (gemma ? 2.0f : 1.0f) && values[1] == (gemma ? -1.0f : -2.0f));
        assert_int_equal(bias->type, DTYPE_F32);
        assert_true(biases[0] == 1.0f && biases[1] == -2.0f);
        float first;
        memcpy(&first, plain->data, sizeof first); /* the Llama one lies in the file, unaligned */
        assert_true(first == (gemma ? 1.5f : 0.5f));
        assert_ptr_equal(view32->data, bytes + n - 4);
        model_file_close(&file);
        free(bytes);
    }
}

#define W "model.layers.0.mlp.up_proj.weight"

/* Each row: a header, the bytes of data behind it, and what the error line must say. */
static const struct {
    const char *header;
    size_t n_data;
    const char *error;
} hostile_weights[] = {
    {"", 0, "memory: header: line 1"},
    {"[]", 0, "memory: header: not a JSON object"},
    {"{", 0, "memory: header: line 1"},
    {"{} x", 0, "memory: header: line 1"},
    {"{\"a\\u0000b\": 1}", 0, "memory: header: line 1"},
    {"{\"\xff\": 1}", 0, "memory: header: line 1"},
    {"{\"a\": 1e999}", 0, "memory: header: line 1"},
    {"{\"a\": 99999999999999999999}", 0, "memory: header: line 1"},
    {"{" E(W, "F32", "[1]", 0, 4) ", " E(W, "F32", "[1]", 4, 8) "}", 8, "duplicate object key"},
    {"{\"a\": 1}", 0, "'a' in the header is no object"},
    {"{\"__metadata__\": 1}", 0, "'__metadata__' in the header is no object"},
    {"{\"\": {}}", 0, "a tensor name of 0 bytes"},
    {"{\"" W "\": {}}", 0, "'data_offsets' is no pair"},
    {"{\"" W "\": {\"data_offsets\": [0]}}", 0, "'data_offsets' is no pair"},
    {"{\"" W "\": {\"data_offsets\": [0, 4, 8]}}", 8, "'data_offsets' is no pair"},
    {"{\"" W "\": {\"data_offsets\": [0, 4.0]}}", 4, "'data_offsets' is no pair"},
    {"{\"" W "\": {\"data_offsets\": [\"0\", 4]}}", 4, "'data_offsets' is no pair"},
    {"{\"" W "\": {\"data_offsets\": {}}}", 4, "'data_offsets' is no pair"},
    {"{" E(W, "F32", "[1]", 4, 0) "}", 4, "data_offsets [4, 0] go backwards"},
    {"{" E(W, "F32", "[1]", -4, 0) "}", 4, "data_offsets [-4, 0] go backwards"},
    {"{" E(W, "F32", "[1]", 0, 9223372036854775807) "}", 4, "is truncated, download it again"},
    {"{" E(W, "F32", "[2]", 0, 8) "}", 7, "data ends at byte 109, but the file has 108; the file is truncated"},
    {"{\"" W "\": {\"data_offsets\": [0, 4], \"shape\": [1]}}", 4, "no 'dtype'"},
    {"{\"" W "\": {\"data_offsets\": [0, 4], \"shape\": [1], \"dtype\": 1}}", 4, "no 'dtype'"},
    {"{" E(W, "F64", "[1]", 0, 8) "}", 8, "has dtype 'F64'; F32, F16 and BF16 are supported"},
    {"{" E(W, "F8_E4M3", "[4]", 0, 4) "}", 4, "has dtype 'F8_E4M3'"},
    {"{" E(W, "I32", "[1]", 0, 4) "}", 4, "has dtype 'I32'"},
    {"{" E(W, "f32", "[1]", 0, 4) "}", 4, "has dtype 'f32'"},
    {"{" E(W, "", "[1]", 0, 4) "}", 4, "has dtype ''"},
    {"{" E(W, "Q4_0", "[32]", 0, 18) "}", 18, "has dtype 'Q4_0'"},
    {"{\"" W "\": {\"data_offsets\": [0, 4], \"dtype\": \"F32\"}}", 4, "'shape' is no array"},
    {"{" E(W, "F32", "1", 0, 4) "}", 4, "'shape' is no array"},
    {"{" E(W, "F32", "[1, 1, 1, 1, 1]", 0, 4) "}", 4, "'shape' is no array of up to 4 numbers"},
    {"{" E(W, "F32", "[1, 0]", 0, 0) "}", 0, "dimension 1 is no number above 0"},
    {"{" E(W, "F32", "[-1]", 0, 4) "}", 4, "dimension 0 is no number above 0"},
    {"{" E(W, "F32", "[1.0]", 0, 4) "}", 4, "dimension 0 is no number above 0"},
    {"{" E(W, "F32", "[\"1\"]", 0, 4) "}", 4, "dimension 0 is no number above 0"},
    {"{" E(W, "F32", "[null]", 0, 4) "}", 4, "dimension 0 is no number above 0"},
    {"{" E(W, "F32", "[4611686018427387904, 4]", 0, 4) "}", 4, "its shape overflows"},
    {"{" E(W, "F16", "[4294967296, 4294967296]", 0, 4) "}", 4, "its shape overflows"},
    {"{" E(W, "F32", "[2]", 0, 4) "}", 4, "its shape needs 8 bytes, data_offsets give 4"},
    {"{" E(W, "BF16", "[2, 3]", 0, 16) "}", 16, "its shape needs 12 bytes, data_offsets give 16"},
    {"{" E(W, "F32", "[]", 0, 8) "}", 8, "its shape needs 4 bytes"},
    {"{" E(W, "F32", "[1]", 4, 8) "}", 8, "begins at data byte 4, the one before ends at 0"},
    {"{" E(W, "F32", "[1]", 0, 4) "}", 8, "tensors end at data byte 4, but the file has 8 bytes of data"},
    {"{}", 1, "tensors end at data byte 0, but the file has 1"},
    {"{" E("a", "F32", "[1]", 0, 4) ", " E("b", "F32", "[1]", 8, 12) "}", 12,
     "'b' begins at data byte 8, the one before ends at 4"},
    {"{" E("a", "F32", "[2]", 0, 8) ", " E("b", "F32", "[1]", 4, 8) "}", 8,
     "'b' begins at data byte 4, the one before ends at 8"},
    {"{" E("a", "F32", "[1]", 0, 4) ", " E("b", "F32", "[1]", 0, 4) "}", 4,
     "begins at data byte 0, the one before ends at 4"},
    {"{" E("model.norm.weight", "F32", "[1]", 0, 4) ", " E("output_norm.weight", "F32", "[1]", 4, 8) "}", 8,
     "tensor 'output_norm.weight' appears twice"},
};

static void every_hostile_weight_file_gets_one_clear_line(void **state)
{
    (void)state;
    assert_true(sizeof hostile_weights / sizeof *hostile_weights >= 50);
    const safetensors_texts texts = {.config = view(LLAMA(""))};
    for (size_t i = 0; i < sizeof hostile_weights / sizeof *hostile_weights; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        uint8_t *bytes;
        mlxr_status status = open_texts(&file, &texts, hostile_weights[i].header, hostile_weights[i].n_data, &bytes,
                                        &error);
        if (status == MLXR_OK || status != error.status || file || !strstr(error.text, hostile_weights[i].error) ||
            strchr(error.text, '\n')) {
            fail_msg("%s\n  gave status %d: %s\n  expected: %s", hostile_weights[i].header, status, error.text,
                     hostile_weights[i].error);
        }
        free(bytes);
    }
}

static void lengths_of_headers_are_checked(void **state)
{
    (void)state;
    static const struct {
        uint64_t header;
        size_t n;
        const char *error;
    } cases[] = {{0, 0, "it has only 0 bytes"},
                 {0, 7, "it has only 7 bytes"},
                 {1, 8, "the header needs 1 bytes, but the file has 8; it is truncated"},
                 {100, 50, "the header needs 100 bytes"},
                 {UINT64_MAX, 50, "a header of 18446744073709551615 bytes; at most 33554432"},
                 {((uint64_t)32 << 20) + 1, 50, "a header of 33554433 bytes"},
                 {0, 8, "header: line 1"}};
    const safetensors_texts texts = {.config = view(LLAMA(""))};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t *bytes = calloc(1, cases[i].n ? cases[i].n : 1);
        model_file *file = NULL;
        mlxr_error error = {0};
        memcpy(bytes, &cases[i].header, cases[i].n < 8 ? cases[i].n : 8);
        assert_int_not_equal(safetensors_open_memory(&file, &texts, bytes, cases[i].n, &error), MLXR_OK);
        if (!strstr(error.text, cases[i].error)) {
            fail_msg("%s", error.text);
        }
        free(bytes);
    }
}

/* jansson ends a text at a NUL byte: what stands behind it would be read by others and not by us. */
static void nothing_hides_behind_a_nul_byte(void **state)
{
    (void)state;
    static const char *const headers[] = {"{}\0", "{}\0{}", "\0{}", "{\0}"};
    static const size_t sizes[] = {3, 5, 3, 3};
    safetensors_texts texts = {.config = view(LLAMA(""))};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t bytes[16] = {(uint8_t)sizes[i]};
        model_file *file = NULL;
        mlxr_error error = {0};
        memcpy(bytes + 8, headers[i], sizes[i]);
        assert_int_equal(safetensors_open_memory(&file, &texts, bytes, 8 + sizes[i], &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, "header: a NUL byte is not JSON"));
    }
    uint8_t empty[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    static const char config[] = LLAMA("") "\0";
    texts.config = (text_view){config, sizeof config - 1};
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_int_equal(safetensors_open_memory(&file, &texts, empty, sizeof empty, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "config.json: a NUL byte is not JSON"));
}

static void names_and_vectors_too_long_are_refused(void **state)
{
    (void)state;
    const safetensors_texts texts = {.config = view(LLAMA(""))};
    char name[300], header[512];
    model_file *file = NULL;
    mlxr_error error = {0};
    uint8_t *bytes;
    memset(name, 'n', 256);
    name[256] = 0;
    snprintf(header, sizeof header, "{\"%s\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}", name);
    assert_int_equal(open_texts(&file, &texts, header, 4, &bytes, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "a tensor name of 256 bytes; it must have 1 to 255"));
    free(bytes);
    const size_t n = ((size_t)1 << 24) + 1;
    snprintf(header, sizeof header,
             "{\"model.norm.weight\": {\"dtype\": \"F16\", \"shape\": [%zu], \"data_offsets\": [0, %zu]}}", n, 2 * n);
    assert_int_equal(open_texts(&file, &texts, header, 2 * n, &bytes, &error), MLXR_LIMIT);
    assert_non_null(strstr(error.text, "a vector of 16777217 elements"));
    free(bytes);
}

static void deep_json_is_refused_without_deep_recursion(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    char *text = malloc(N + 16);
    memcpy(text, "{\"a\": ", 6);
    memset(text + 6, '[', N);
    text[6 + N] = 0;
    const safetensors_texts texts = {.config = {text, 6 + N}};
    model_file *file = NULL;
    mlxr_error error = {0};
    uint8_t *bytes;
    assert_int_equal(open_texts(&file, &texts, "{}", 0, &bytes, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "config.json: line 1"));
    assert_non_null(strstr(error.text, "depth"));
    free(bytes);
    free(text);
}

static void a_weight_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    const safetensors_texts texts = {.config = view(LLAMA(""))};
    size_t n;
    uint8_t *bytes = weights("{" E(W, "F32", "[2, 2]", 0, 16) ", " E("model.norm.weight", "BF16", "[2]", 16, 20) "}",
                             20, &n);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *shorter = malloc(cut ? cut : 1);
        memcpy(shorter, bytes, cut);
        model_file *file = NULL;
        mlxr_error error = {0};
        assert_int_not_equal(safetensors_open_memory(&file, &texts, shorter, cut, &error), MLXR_OK);
        assert_true(error.text[0] != 0);
        free(shorter);
    }
    free(bytes);
}

/* ---- config.json ----------------------------------------------------------------------------------------------- */

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
    {LLAMA(", \"use_bidirectional_attention\": true"), NULL, NULL, "'use_bidirectional_attention' is not supported"},
    {LLAMA(", \"use_bidirectional_attention\": 1"), NULL, NULL, "'use_bidirectional_attention' is no true or false"},
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

/* ---- folders --------------------------------------------------------------------------------------------------- */

static const char *make_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    mkdir(path, 0777);
    return path;
}

static void write_text(const char *folder, const char *name, const char *text)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(text, 1, strlen(text), f);
    fclose(f);
}

static void write_weights(const char *folder, const char *name, const char *header, size_t n_data)
{
    char path[1024];
    size_t n;
    uint8_t *bytes = weights(header, n_data, &n);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(bytes, 1, n, f);
    fclose(f);
    free(bytes);
}

/* A value of the GGUF writer's file and of the safetensors loader are the same. */
static bool same_value(const meta_value *a, const meta_value *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case META_F32:
        return a->f == b->f;
    case META_STRING:
        return a->s.n == b->s.n && memcmp(a->s.data, b->s.data, a->s.n) == 0;
    default:
        return a->u == b->u;
    }
}

static void compare_models(const tiny_model *model, const model_file *ours, const model_file *gguf)
{
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        const tensor *a = &gguf->tensors[i], *b = model_file_tensor(ours, a->name);
        bool permuted = strcmp(model->arch, "llama") == 0 && (strstr(a->name, "attn_q.") || strstr(a->name, "attn_k."));
        if (strcmp(a->name, "rope_freqs.weight") == 0) { /* computed by the writer from config values */
            continue;
        }
        if (!b || a->type != b->type || a->n_bytes != b->n_bytes || a->shape[0] != b->shape[0] ||
            a->shape[1] != b->shape[1] || (!permuted && memcmp(a->data, b->data, a->n_bytes) != 0)) {
            fail_msg("%s: tensor %s differs from the GGUF file's", model->name, a->name);
        }
    }
    for (uint64_t i = 0; i < ours->n_meta; i++) {
        const meta_value *b = &ours->meta[i], *a = model_file_meta(gguf, b->key);
        if (a && a->type != META_ARRAY && b->type != META_ARRAY && strcmp(b->key, "general.name") != 0 &&
            !same_value(a, b)) {
            fail_msg("%s: metadata %s differs from the GGUF file's", model->name, b->key);
        }
    }
}

static void every_tiny_model_is_the_same_as_its_gguf(void **state)
{
    (void)state;
    for (size_t i = 0; tiny_model_at(i); i++) {
        for (uint32_t shards = 1; shards <= 3; shards += 2) {
            const tiny_model *model = tiny_model_at(i);
            char folder[600], path[640];
            const tiny_options options = {.type = DTYPE_F32, .shards = shards};
            model_file *ours = NULL, *gguf = NULL;
            mlxr_error error = {0};
            snprintf(folder, sizeof folder, "%s/%s-%u", test_temp_dir(), model->name, shards);
            snprintf(path, sizeof path, "%s.gguf", folder);
            tiny_model_write_safetensors(model, &options, folder);
            tiny_model_write_gguf(model, &options, path);
            assert_ok(model_file_open(&ours, folder, &error), &error);
            assert_ok(model_file_open(&gguf, path, &error), &error);
            assert_int_equal(ours->n_parts, shards);
            assert_true(ours->tokenizer_json.n > 0 && ours->tokenizer_config.n > 0 && ours->tokenizer_model.n == 0);
            compare_models(model, ours, gguf);
            model_file_close(&ours);
            model_file_close(&gguf);
        }
    }
}

static void a_folder_its_weights_and_its_index_are_the_same_model(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", "/", "/model.safetensors.index.json", "/a.safetensors", "/b.safetensors", "/config.json"};
    const char *folder = make_folder("indexed");
    write_text(folder, "config.json", LLAMA(""));
    write_text(folder, "tokenizer.model", "bytes");
    write_text(folder, "model.safetensors.index.json",
               "{\"weight_map\": {\"model.norm.weight\": \"a.safetensors\", \"" W
               "\": \"b.safetensors\", \"lm_head.weight\": \"b.safetensors\"}}");
    write_weights(folder, "a.safetensors", "{" E("model.norm.weight", "F32", "[1]", 0, 4) "}", 4);
    write_weights(folder, "b.safetensors", "{" E(W, "F32", "[1, 1]", 0, 4) "}", 4);
    write_weights(folder, "other.safetensors", "{" E("model.norm.weight", "F32", "[1]", 0, 4) "}", 4);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        model_file *file = NULL;
        mlxr_error error = {0};
        snprintf(path, sizeof path, "%s%s", folder, names[i]);
        assert_ok(model_file_open(&file, path, &error), &error);
        assert_int_equal(file->n_parts, 2);
        assert_int_equal(file->n_tensors, 2);
        assert_int_equal(file->tokenizer_model.n, 5);
        assert_memory_equal(model_file_meta(file, "general.name")->s.data, "indexed", 8);
        model_file_close(&file);
    }
    char path[1024];
    model_file *file = NULL;
    mlxr_error error = {0};
    snprintf(path, sizeof path, "%s/other.safetensors", folder);
    assert_ok(model_file_open(&file, path, &error), &error);
    assert_int_equal(file->n_parts, 1); /* the index does not know it: it stands for itself */
    model_file_close(&file);
}

static void relative_paths_work(void **state)
{
    (void)state;
    char before[1024];
    const char *folder = make_folder("relative");
    static const char *const paths[] = {".", "./", "model.safetensors", "./model.safetensors", "../relative", "x/.."};
    write_text(folder, "config.json", LLAMA(""));
    write_weights(folder, "model.safetensors", "{}", 0);
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(mkdir("x", 0777), 0);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        assert_ok(model_file_open(&file, paths[i], &error), &error);
        assert_int_equal(model_file_meta(file, "general.name") != NULL, i == 4);
        model_file_close(&file);
    }
    assert_int_equal(chdir(before), 0);
}

#define LONG "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"

static void broken_folders_say_what_is_missing(void **state)
{
    (void)state;
    static const struct {
        const char *config, *index;
        bool shard;
        const char *error;
    } cases[] = {
        {NULL, NULL, false, "no config.json"},
        {"", NULL, false, "no config.json"},
        {LLAMA(""), NULL, false, "model.safetensors: cannot open"},
        {LLAMA(""), "[]", false, "model.safetensors.index.json: not a JSON object"},
        {LLAMA(""), "{", false, "model.safetensors.index.json: line 1"},
        {LLAMA(""), "{}", false, "no 'weight_map'"},
        {LLAMA(""), "{\"weight_map\": {}}", false, "no 'weight_map'"},
        {LLAMA(""), "{\"weight_map\": []}", false, "no 'weight_map'"},
        {LLAMA(""), "{\"weight_map\": {\"a\": 1}}", false, "tensor 'a' lies in '(not a string)'"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"../x.safetensors\"}}", false,
         "lies in '../x.safetensors', which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"/etc/x.safetensors\"}}", false, "which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"sub/x.safetensors\"}}", false, "which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"c:\\\\x.safetensors\"}}", false, "which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \".safetensors\"}}", false, "which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"..x.safetensors\"}}", false, "which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"passwd\"}}", false, "which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"\"}}", false, "which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"" LONG LONG LONG LONG LONG ".safetensors\"}}", false,
         "which is no name"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"absent.safetensors\"}}", false, "absent.safetensors: cannot open"},
        {LLAMA(""), "{\"weight_map\": {\"a\": \"s.safetensors\"}}", true, "s.safetensors: tensor 'a' is missing"},
        {LLAMA(""), "{\"weight_map\": {\"model.norm.weight\": \"s.safetensors\", \"b\": \"t.safetensors\"}}", true,
         "t.safetensors: cannot open"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        model_file *file = NULL;
        mlxr_error error = {0};
        snprintf(name, sizeof name, "broken%zu", i);
        const char *folder = make_folder(name);
        if (cases[i].config) {
            write_text(folder, "config.json", cases[i].config);
        }
        if (cases[i].index) {
            write_text(folder, "model.safetensors.index.json", cases[i].index);
        }
        if (cases[i].shard) {
            write_weights(folder, "s.safetensors", "{" E("model.norm.weight", "F32", "[1]", 0, 4) "}", 4);
        }
        mlxr_status status = model_file_open(&file, folder, &error);
        if (status == MLXR_OK || file || !strstr(error.text, cases[i].error)) {
            fail_msg("%s: %s\n  expected: %s", cases[i].index, error.text, cases[i].error);
        }
    }
    char path[600];
    model_file *file = NULL;
    mlxr_error error = {0};
    const char *folder = make_folder("odd");
    snprintf(path, sizeof path, "%s/config.json", folder);
    mkdir(path, 0777);
    assert_int_equal(model_file_open(&file, folder, &error), MLXR_IO); /* a folder where a file should be */
    assert_int_equal(model_file_open(&file, "nowhere.safetensors", &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "current folder: no config.json"));
    assert_int_equal(model_file_open(&file, "/nowhere.safetensors", &error), MLXR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_have_ggufs_names_and_order_of_dimensions),
        cmocka_unit_test(every_name_of_every_class_is_translated),
        cmocka_unit_test(norms_and_biases_become_float32_and_gemmas_norms_grow_by_one),
        cmocka_unit_test(every_hostile_weight_file_gets_one_clear_line),
        cmocka_unit_test(lengths_of_headers_are_checked),
        cmocka_unit_test(nothing_hides_behind_a_nul_byte),
        cmocka_unit_test(names_and_vectors_too_long_are_refused),
        cmocka_unit_test(deep_json_is_refused_without_deep_recursion),
        cmocka_unit_test(a_weight_file_cut_anywhere_is_refused),
        cmocka_unit_test(defaults_are_those_of_transformers),
        cmocka_unit_test(values_given_replace_the_defaults),
        cmocka_unit_test(rope_scaling_of_old_and_new_configs_is_read),
        cmocka_unit_test(windows_of_layers_become_a_pattern),
        cmocka_unit_test(every_hostile_config_gets_one_clear_line),
        cmocka_unit_test(an_unknown_class_keeps_its_name_for_show),
        cmocka_unit_test(end_tokens_come_from_the_generation_config_first),
        cmocka_unit_test(lists_of_ids_are_bounded),
        cmocka_unit_test(texts_beyond_the_limit_are_not_even_looked_at),
        cmocka_unit_test(the_chat_template_is_found_in_every_place),
        cmocka_unit_test(every_tiny_model_is_the_same_as_its_gguf),
        cmocka_unit_test(a_folder_its_weights_and_its_index_are_the_same_model),
        cmocka_unit_test(relative_paths_work),
        cmocka_unit_test(broken_folders_say_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
