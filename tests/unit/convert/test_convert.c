/*
 * Safetensors to GGUF: every tiny model's folder becomes what the writer of GGUF files makes of the same model. What
 * adapters and packed weights make of it, and what they may not.
 * Owner: the test program. Lifetime: the process; files lie in a folder of its own.
 */
#include <jansson.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mapping.h"
#include "convert/write.h"
#include "graph/rope.h"
#include "graph/vocabulary.h"
#include "mlxr_convert.h"
#include "quant/codec.h"
#include "support/test.h"
#include "support/tiny_model.h"

static char folder[64], in[96], out[96], expected[96];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/mlxr-convert-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(in, sizeof in, "%s/in", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    snprintf(expected, sizeof expected, "%s/expected.gguf", folder);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void remove_input(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", in);
    assert_int_equal(system(command), 0);
}

static void compare_tensors(const char *model, dtype type, const model_file *a, const model_file *b)
{
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < b->n_tensors; i++) {
        const tensor *y = &b->tensors[i], *x = model_file_tensor(a, y->name);
        if (!x || x->type != y->type || memcmp(x->shape, y->shape, sizeof x->shape) != 0) {
            fail_msg("%s: tensor '%s' is absent or of another type or shape", model, y->name);
        }
        bool rounded = y->n_dims == 1 && (type != DTYPE_F32 || strcmp(y->name, "rope_freqs.weight") == 0);
        if (!rounded && memcmp(x->data, y->data, x->n_bytes) != 0) {
            fail_msg("%s: tensor '%s' has other weights", model, y->name);
        }
        for (size_t k = 0; rounded && k < x->shape[0]; k++) { /* safetensors keep vectors in the matrices' type */
            float p, q;
            memcpy(&p, (const char *)x->data + 4 * k, 4);
            memcpy(&q, (const char *)y->data + 4 * k, 4);
            assert_true(fabsf(p - q) <= (type == DTYPE_F32 ? 1e-5f : 1e-2f) * fabsf(q) + 1e-3f);
        }
    }
}

/* The same tokens, with every way to read the text. */
static void compare_texts(const tokenizer *x, const tokenizer *y, const char *text)
{
    token_list p = {0}, q = {0};
    mlxr_error error = {0};
    for (unsigned flags = 0; flags < 4; flags++) {
        p.n = q.n = 0;
        assert_ok(tokenizer_encode(x, text, strlen(text), flags, &p, &error), &error);
        assert_ok(tokenizer_encode(y, text, strlen(text), flags, &q, &error), &error);
        assert_int_equal(p.n, q.n);
        assert_memory_equal(p.ids, q.ids, p.n * sizeof *p.ids);
    }
    token_list_close(&p);
    token_list_close(&q);
}

static void compare_tokens(const char *model, const model_file *a, const model_file *b)
{
    tokenizer *x = NULL, *y = NULL;
    mlxr_error error = {0};
    assert_ok(vocabulary_open(&x, a, &error), &error);
    assert_ok(vocabulary_open(&y, b, &error), &error);
    assert_int_equal(tokenizer_size(x), tokenizer_size(y));
    assert_int_equal(tokenizer_adds_bos(x), tokenizer_adds_bos(y));
    assert_int_equal(tokenizer_bos(x), tokenizer_bos(y));
    assert_int_equal(tokenizer_eos(x), tokenizer_eos(y));
    for (int32_t id = 0; id < (int32_t)tokenizer_size(x); id++) {
        token_text s = tokenizer_piece(x, id), t = tokenizer_piece(y, id);
        if (s.n != t.n || memcmp(s.data, t.data, s.n) != 0 ||
            tokenizer_is_special(x, id) != tokenizer_is_special(y, id) ||
            tokenizer_is_end(x, id) != tokenizer_is_end(y, id)) {
            fail_msg("%s: token %d differs", model, id);
        }
    }
    compare_texts(x, y, "Hello there, zqxkvjw 123  and <|im_start|>user\nnaïve ünïcode 你好 \t end");
    tokenizer_close(&x);
    tokenizer_close(&y);
}

/* Both files' hyper-parameters must lead to the same angles, whether metadata or a tensor says them. */
static void compare_frequencies(const char *model, const model_file *a, const model_file *b)
{
    static hparams x, y;
    float p[512], q[512], magnitude[2];
    mlxr_error error = {0};
    assert_ok(hparams_read(&x, a, &error), &error);
    assert_ok(hparams_read(&y, b, &error), &error);
    assert_int_equal(x.n_rot, y.n_rot);
    rope_frequencies(x.n_rot, x.rope_theta, &x.scaling, NULL, p, &magnitude[0]);
    rope_frequencies(y.n_rot, y.rope_theta, &y.scaling, NULL, q, &magnitude[1]);
    for (uint32_t i = 0; i < x.n_rot / 2; i++) {
        if (fabsf(p[i] - q[i]) > 1e-6f * q[i] || magnitude[0] != magnitude[1]) {
            fail_msg("%s: frequency %u is %g, not %g", model, i, (double)p[i], (double)q[i]);
        }
    }
}

static void a_folder_becomes_the_gguf_file_of_the_same_model(void **state)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    (void)state;
    for (size_t i = 0; tiny_model_at(i); i++) {
        const tiny_model *model = tiny_model_at(i);
        tiny_options o = {.type = types[i % 3], .shards = i % 2 ? 3 : 1};
        mlxr_error error = {0};
        model_file *a = NULL, *b = NULL;
        tiny_model_write_safetensors(model, &o, in);
        tiny_model_write_gguf(model, &o, expected);
        mlxr_status status = mlxr_quantize(in, out, &(mlxr_quantize_options){.n_threads = 2}, NULL, &error);
        if (status != MLXR_OK) {
            fail_msg("%s: %s", model->name, error.text);
        }
        assert_ok(model_file_open(&a, out, &error), &error);
        assert_ok(model_file_open(&b, expected, &error), &error);
        compare_tensors(model->name, o.type, a, b);
        compare_tokens(model->name, a, b);
        compare_frequencies(model->name, a, b);
        model_file_close(&a);
        model_file_close(&b);
        remove_input();
        unlink(out);
        unlink(expected);
    }
}

/* ---- adapters and packed weights ---- */

typedef struct raw { /* a tensor of a folder */
    const char *name, *type, *shape;
    const void *data;
    size_t n_bytes;
} raw;

static void write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = tiny_open(path);
    fwrite(text, 1, n, f);
    tiny_close(f, path);
}

/* A folder of a configuration and weights. */
static void write_folder(const char *dir, const char *config_name, const char *config, const char *weights_name,
                         const raw *tensors, size_t n)
{
    char *file = NULL;
    size_t n_file = 0, offset = 0;
    uint64_t n_header = 0;
    FILE *f = open_memstream(&file, &n_file);
    assert_non_null(f);
    fwrite(&n_header, sizeof n_header, 1, f);
    for (size_t i = 0; i < n; offset += tensors[i++].n_bytes) {
        fprintf(f, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", i ? "," : "{",
                tensors[i].name, tensors[i].type, tensors[i].shape, offset, offset + tensors[i].n_bytes);
    }
    for (fputc('}', f); ftell(f) % 8; fputc(' ', f)) {
    }
    n_header = (uint64_t)ftell(f) - sizeof n_header;
    for (size_t i = 0; i < n; i++) {
        fwrite(tensors[i].data, 1, tensors[i].n_bytes, f);
    }
    assert_int_equal(fclose(f), 0);
    memcpy(file, &n_header, sizeof n_header);
    assert_int_equal(mkdir(dir, 0777), 0);
    write_text(dir, config_name, config, strlen(config));
    write_text(dir, weights_name, file, n_file);
    free(file);
}

/* A PEFT adapter of rank 1 for a matrix: a[n_in], b[n_out]. */
static void write_adapter(const char *dir, const char *module, const float *a, size_t n_in, const float *b,
                          size_t n_out)
{
    char names[2][128], shapes[2][32];
    for (int i = 0; i < 2; i++) {
        snprintf(names[i], sizeof names[i], "base_model.model.model.layers.0.%s.lora_%c.weight", module, "AB"[i]);
    }
    snprintf(shapes[0], sizeof shapes[0], "1,%zu", n_in);
    snprintf(shapes[1], sizeof shapes[1], "%zu,1", n_out);
    const raw tensors[] = {{names[0], "F32", shapes[0], a, n_in * sizeof *a},
                           {names[1], "F32", shapes[1], b, n_out * sizeof *b}};
    write_folder(dir, "adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":1}",
                 "adapter_model.safetensors", tensors, 2);
}

/* GGUF has the rows of a head in another order than PEFT: those of 40 rows, of heads of 64, lie beyond the end. */
static void an_adapter_of_rows_that_are_no_whole_heads_is_refused(void **state)
{
    static const float zeros[64 * 40];
    static const char *const keys[] = {"embedding_length", "attention.key_length", "attention.value_length",
                                       "context_length", "feed_forward_length"};
    char adapter[128];
    const char *const adapters[] = {adapter};
    mlxr_error error = {0};
    write_result written;
    gguf_out header = gguf_out_make();
    const write_options options = {.n_threads = 1};
    const tensor t = {.name = "blk.0.attn_q.weight",
                      .type = DTYPE_F32,
                      .n_dims = 2,
                      .shape = {64, 40, 1, 1},
                      .data = zeros,
                      .row_bytes = 64 * sizeof *zeros,
                      .n_bytes = sizeof zeros};
    const out_tensor all = {.in = &t, .type = DTYPE_F32};
    (void)state;
    snprintf(adapter, sizeof adapter, "%s/adapter", folder);
    gguf_out_text(&header, "general.architecture", "llama", 5);
    gguf_out_u32(&header, "llama.block_count", 1);
    gguf_out_u32(&header, "llama.attention.head_count", 1);
    gguf_out_f32(&header, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[64];
        snprintf(key, sizeof key, "llama.%s", keys[i]);
        gguf_out_u32(&header, key, 64);
    }
    assert_ok(write_model(expected, &header, &all, 1, &options, &written, &error), &error);
    gguf_out_close(&header);
    write_adapter(adapter, "self_attn.q_proj", zeros, 64, zeros, 40);
    const mlxr_quantize_options o = {.adapters = adapters, .n_adapters = 1, .n_threads = 1};
    assert_int_equal(mlxr_quantize(expected, out, &o, NULL, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "'blk.0.attn_q.weight', whose 40 rows are no whole heads"));
    unlink(expected);
}

static void a_quantised_bias_is_refused(void **state)
{
    static const uint8_t zeros[8 * 64 * 4];
    static const char bias[] = "model.layers.0.self_attn.q_proj.bias";
    char blocks[64], scales[64];
    mlxr_error error = {0};
    (void)state;
    snprintf(blocks, sizeof blocks, "%s_blocks", bias);
    snprintf(scales, sizeof scales, "%s_scales", bias);
    const raw tensors[] = {{"model.embed_tokens.weight", "F32", "8,64", zeros, sizeof zeros},
                           {blocks, "U8", "1,1,2,16", zeros, 32},
                           {scales, "U8", "1,1,2", zeros, 2}};
    write_folder(in, "config.json",
                 "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":64,"
                 "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"vocab_size\":8,"
                 "\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,"
                 "\"quantization_config\":{\"quant_method\":\"mxfp4\"}}",
                 "model.safetensors", tensors, 3);
    assert_int_equal(mlxr_quantize(in, out, &(mlxr_quantize_options){.n_threads = 1}, NULL, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "bias 'blk.0.attn_q.bias' is quantised"));
    remove_input();
}

/* A checkpoint of tests/data with a tokenizer beside it. */
static void copy_checkpoint(const char *name)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    assert_int_equal(mkdir(in, 0777), 0);
    for (size_t i = 0; i < 2; i++) {
        char path[160], *bytes = NULL;
        size_t n = 0;
        mlxr_error error = {0};
        snprintf(path, sizeof path, "tests/data/checkpoints/%s/%s", name, files[i]);
        assert_ok(file_read(path, 1 << 24, &bytes, &n, &error), &error);
        write_text(in, files[i], bytes, n);
        free(bytes);
    }
    tiny_model_write_tokenizer(tiny_model_find("llama"), in);
}

/* GGUF has no such types: what is packed becomes F16, with an adapter as without one. */
static void adapters_merge_into_packed_weights_without_a_type(void **state)
{
    enum { N_IN = 192, N_OUT = 64 };
    static const char *const names[] = {"gptq",    "awq",        "mlx-4-bfloat16", "mlx-8-float16",
                                        "bnb-nf4", "fp8-blocks", "fp8-e5m2"};
    static float a[N_IN], b[N_OUT], x[N_IN * N_OUT], y[N_IN * N_OUT];
    char adapter[128];
    const char *const adapters[] = {adapter};
    (void)state;
    for (size_t i = 0; i < N_IN; i++) {
        a[i] = (float)i / 64;
        b[i % N_OUT] = (float)(i % N_OUT) / 32;
    }
    snprintf(adapter, sizeof adapter, "%s/adapter-down", folder);
    write_adapter(adapter, "mlp.down_proj", a, N_IN, b, N_OUT);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        mlxr_error error = {0};
        model_file *plain = NULL, *merged = NULL;
        const mlxr_quantize_options o = {.adapters = adapters, .n_adapters = 1, .n_threads = 1};
        copy_checkpoint(names[k]);
        assert_ok(mlxr_quantize(in, expected, &(mlxr_quantize_options){.n_threads = 1}, NULL, &error), &error);
        assert_ok(mlxr_quantize(in, out, &o, NULL, &error), &error);
        assert_ok(model_file_open(&plain, expected, &error), &error);
        assert_ok(model_file_open(&merged, out, &error), &error);
        const tensor *before = model_file_tensor(plain, "blk.0.ffn_down.weight");
        const tensor *after = model_file_tensor(merged, "blk.0.ffn_down.weight");
        assert_int_equal(before->type, DTYPE_F16);
        assert_int_equal(after->type, DTYPE_F16);
        codec_decode(before->type, before->data, x, N_IN * N_OUT);
        codec_decode(after->type, after->data, y, N_IN * N_OUT);
        for (size_t i = 0; i < N_IN * N_OUT; i++) {
            float wanted = x[i] + a[i % N_IN] * b[i / N_IN];
            if (!(fabsf(y[i] - wanted) <= 1e-3f * (fabsf(x[i]) + fabsf(wanted)) + 1e-6f)) {
                fail_msg("%s: weight %zu is %g, not %g", names[k], i, (double)y[i], (double)wanted);
            }
        }
        model_file_close(&plain);
        model_file_close(&merged);
        remove_input();
        unlink(out);
        unlink(expected);
    }
}

/* Takes the last token out of a tokenizer.json: an added one, or one that a merge makes. */
static void take_last_token(const char *path)
{
    json_t *root = json_load_file(path, 0, NULL), *model = json_object_get(root, "model"), *id;
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    json_t *added = json_object_get(root, "added_tokens");
    const char *name;
    void *next;
    size_t n = 0;
    for (size_t k = json_array_size(added); k-- > 0;) {
        if (json_integer_value(json_object_get(json_array_get(added, k), "id")) == TINY_N_VOCAB - 1) {
            n += json_array_remove(added, k) == 0;
        }
    }
    json_object_foreach_safe(vocab, next, name, id)
    {
        if (json_integer_value(id) == TINY_N_VOCAB - 1) {
            n += json_object_del(vocab, name) == 0;
            json_array_remove(merges, json_array_size(merges) - 1);
        }
    }
    assert_int_equal(n, 1);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

/* The embedding keeps its rows; the file has a name for each, as other programs want it. */
static void rows_without_a_token_get_names_that_no_text_has(void **state)
{
    static const char *const models[] = {"llama", "gemma3"}; /* byte-level BPE, SentencePiece's */
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char path[160];
        mlxr_error error = {0};
        model_file *before = NULL, *after = NULL;
        tiny_model_write_safetensors(tiny_model_find(models[i]), NULL, in);
        snprintf(path, sizeof path, "%s/tokenizer.json", in);
        take_last_token(path);
        assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.n_threads = 1}, NULL, &error), &error);
        assert_ok(model_file_open(&before, in, &error), &error);
        assert_ok(model_file_open(&after, out, &error), &error);
        const meta_array *tokens = &model_file_meta(after, "tokenizer.ggml.tokens")->array;
        assert_int_equal(tokens->n, model_file_tensor(after, "token_embd.weight")->shape[1]);
        assert_int_equal(tokens->n, TINY_N_VOCAB);
        const text_view *name = &tokens->strings[TINY_N_VOCAB - 1];
        assert_int_equal(name->n, 8);
        assert_memory_equal(name->data, "[PAD319]", 8);
        assert_true(meta_array_number(&model_file_meta(after, "tokenizer.ggml.token_type")->array, TINY_N_VOCAB - 1) ==
                    TOKEN_UNUSED);
        tokenizer *x = NULL, *y = NULL;
        assert_ok(vocabulary_open(&x, before, &error), &error);
        assert_ok(vocabulary_open(&y, after, &error), &error);
        compare_texts(x, y, "a [PAD319] b[PAD319] and the rest");
        tokenizer_close(&x);
        tokenizer_close(&y);
        model_file_close(&before);
        model_file_close(&after);
        remove_input();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_becomes_the_gguf_file_of_the_same_model),
        cmocka_unit_test(rows_without_a_token_get_names_that_no_text_has),
        cmocka_unit_test(an_adapter_of_rows_that_are_no_whole_heads_is_refused),
        cmocka_unit_test(a_quantised_bias_is_refused),
        cmocka_unit_test(adapters_merge_into_packed_weights_without_a_type),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
