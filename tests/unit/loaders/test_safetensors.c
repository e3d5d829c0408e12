/*
 * Safetensors reader: weight files, folders, indexes, and one clear line for every kind of bad one.
 * Owner: the test program. Lifetime: the process.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "safetensors_text.h"
#include "support/tiny_model.h"

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
        {"BertForSequenceClassification", "bert.pooler.dense.weight", "cls.weight", 0},
        {"BertForSequenceClassification", "classifier.bias", "cls.output.bias", 0},
        {"ModernBertForSequenceClassification", "head.norm.weight", "cls.norm.weight", 0},
        {"ModernBertForSequenceClassification", "classifier.weight", "cls.output.weight", 0},
        {"XLMRobertaForSequenceClassification", "classifier.dense.bias", "cls.bias", 0},
        {"XLMRobertaForSequenceClassification", "classifier.out_proj.weight", "cls.output.weight", 0},
        {"NomicBertForSequenceClassification", "classifier.weight", "classifier.weight", 0},
        {"EuroBertForMaskedLM", "model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight", 0},
        {"BertForMaskedLM", "bert.encoder.layer.1.output.dense.weight", "blk.1.ffn_down.weight", 0},
        {"ModernBertForMaskedLM", "model.layers.1.mlp_norm.weight", "blk.1.ffn_norm.weight", 0},
        {"XLMRobertaForMaskedLM", "roberta.embeddings.word_embeddings.weight", "token_embd.weight", 0},
        {"RobertaForMaskedLM", "roberta.encoder.layer.1.output.dense.weight", "blk.1.ffn_down.weight", 0},
        {"RobertaForSequenceClassification", "classifier.dense.bias", "cls.bias", 0},
        {"NomicBertForMaskedLM", "nomic_bert.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight", 0},
        /* exact names, of a class's own head, where it has one */
        {"EuroBertForMaskedLM", "lm_head.dense.weight", "lm_head.dense.weight", 0},
        {"BertForMaskedLM", "cls.predictions.extra.weight", "cls.predictions.extra.weight", 0},
        {"ModernBertForMaskedLM", "decoder.dense.weight", "decoder.dense.weight", 0},
        {"BertModel", "cls.predictions.bias", "cls.predictions.bias", 0},
        {"LlamaForMaskedLM", "model.norm.weight", "model.norm.weight", 0},
        {"Gemma3TextForMaskedLM", "model.norm.weight", "model.norm.weight", 0},
        {"LlamaForCausalLM", "mtp.norm.weight", "mtp.norm.weight", 0},
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

static void heads_that_nobody_asks_are_left_out(void **state)
{
    (void)state;
    static const struct {
        const char *class, *name;
    } heads[] = {
        {"MellumForCausalLM", "mtp.layers.0.mlp.gate.weight"},
        {"NemotronHForCausalLM", "mtp.layers.0.norm.weight"},
        {"EuroBertForMaskedLM", "lm_head.weight"},
        {"EuroBertForMaskedLM", "lm_head.bias"},
        {"BertForMaskedLM", "cls.predictions.bias"},
        {"BertForMaskedLM", "cls.predictions.transform.dense.weight"},
        {"BertForMaskedLM", "cls.predictions.transform.LayerNorm.bias"},
        {"BertForMaskedLM", "cls.predictions.decoder.weight"},
        {"BertForMaskedLM", "cls.seq_relationship.weight"},
        {"BertForMaskedLM", "bert.pooler.dense.weight"},
        {"XLMRobertaForMaskedLM", "lm_head.layer_norm.weight"},
        {"XLMRobertaForMaskedLM", "lm_head.dense.bias"},
        {"XLMRobertaForMaskedLM", "lm_head.bias"},
        {"NomicBertForMaskedLM", "cls.predictions.transform.layer_norm.weight"},
        {"NomicBertForMaskedLM", "cls.predictions.decoder.bias"},
        {"ModernBertForMaskedLM", "head.dense.weight"},
        {"ModernBertForMaskedLM", "head.norm.weight"},
        {"ModernBertForMaskedLM", "decoder.bias"},
        /* tables of what a token does not see */
        {"GPT2LMHeadModel", "transformer.h.0.attn.bias"},
        {"GPT2LMHeadModel", "transformer.h.0.attn.masked_bias"},
        {"GPTNeoXForCausalLM", "gpt_neox.layers.0.attention.bias"},
        {"GPTNeoXForCausalLM", "gpt_neox.layers.0.attention.masked_bias"},
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        char ours[256];
        unsigned change;
        hf_config config = {.n_layers = 4};
        config.class = hf_class_find(heads[i].class, &config);
        assert_non_null(config.class);
        if (hf_tensor_name(&config, heads[i].name, ours, sizeof ours, &change) != HF_SKIP) {
            fail_msg("%s: '%s' is kept", heads[i].class, heads[i].name);
        }
    }
    static const char header[] = "{" E("lm_head.weight", "F32", "[1]", 0, 4) ", " E("model.norm.weight", "F32", "[1]",
                                                                                    4, 8) "}";
    const safetensors_texts texts = {.config = view(CLASS("EuroBertForMaskedLM", ""))};
    model_file *file = NULL;
    mlxr_error error = {0};
    uint8_t *bytes;
    assert_ok(open_texts(&file, &texts, header, 8, &bytes, &error), &error);
    assert_int_equal(file->n_tensors, 1);
    assert_string_equal(file->tensors[0].name, "output_norm.weight");
    model_file_close(&file);
    free(bytes);
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
        cmocka_unit_test(heads_that_nobody_asks_are_left_out),
        cmocka_unit_test(norms_and_biases_become_float32_and_gemmas_norms_grow_by_one),
        cmocka_unit_test(every_hostile_weight_file_gets_one_clear_line),
        cmocka_unit_test(lengths_of_headers_are_checked),
        cmocka_unit_test(nothing_hides_behind_a_nul_byte),
        cmocka_unit_test(names_and_vectors_too_long_are_refused),
        cmocka_unit_test(deep_json_is_refused_without_deep_recursion),
        cmocka_unit_test(a_weight_file_cut_anywhere_is_refused),
        cmocka_unit_test(every_tiny_model_is_the_same_as_its_gguf),
        cmocka_unit_test(a_folder_its_weights_and_its_index_are_the_same_model),
        cmocka_unit_test(relative_paths_work),
        cmocka_unit_test(broken_folders_say_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
