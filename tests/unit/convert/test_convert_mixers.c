/*
 * Families with layers without attention, and with experts, from safetensors to GGUF: the file gives the same logits
 * as the folder.
 * Owner: the test program. Lifetime: the process.
 */
#include <string.h>

#include "loaders/model_file.h"
#include "logits_of.inc"
#include "mlxr_convert.h"
#include "quant/codec.h"
#include "support/family_model.h"
#include "support/test.h"

/* Mean square of what is between them ÷ that of what is expected. */
static double nmse(const float *found, const float *expected)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < (size_t)N_TOKENS * TINY_N_VOCAB; i++) {
        double d = (double)found[i] - (double)expected[i];
        wrong += d * d;
        all += (double)expected[i] * (double)expected[i];
    }
    return wrong / all;
}

static void a_converted_file_gives_the_folders_logits(void **state)
{
    (void)state;
    static const char *const families[] = {"lfm2",
                                           "qwen3next",
                                           "granitehybrid",
                                           "granitehybrid-dense",
                                           "nemotron-h",
                                           "mixtral",
                                           "qwen3moe",
                                           "olmoe",
                                           "granitemoe",
                                           "glm4moe",
                                           "gpt-oss",
                                           "lfm2moe",
                                           "gemma4",
                                           "gemma4-31b",
                                           "gemma4-moe",
                                           "nemotron-h-moe",
                                           "nemotron-h-latent",
                                           "qwen3next-mtp",
                                           "glm4moe-mtp",
                                           "deepseek3-mtp",
                                           "qwen35",
                                           "qwen35moe",
                                           "qwen2moe",
                                           "qwen2vl",
                                           "qwen3vl",
                                           "qwen3vlmoe",
                                           "gemma",
                                           "chatglm",
                                           "phi2",
                                           "command-r",
                                           "exaone",
                                           "internlm3",
                                           "nemotron",
                                           "stablelm",
                                           "hunyuan-dense",
                                           "hunyuan-moe",
                                           "ernie4_5-moe",
                                           "mellum",
                                           "dots1",
                                           "minimax-m2",
                                           "glm4-moe-lite",
                                           "youtu",
                                           "solar-open",
                                           "gpt2",
                                           "starcoder",
                                           "ministral3",
                                           "llama4",
                                           "llama4-dense",
                                           "llama4-sees",
                                           "ernie4_5-moe-every",
                                           "afmoe",
                                           "gptneox",
                                           "gptneox-in-turn",
                                           "olmo",
                                           "minicpm3",
                                           "falcon-h1",
                                           "falcon-h1-normed",
                                           "falcon-h1-plain",
                                           "apertus",
                                           "phi3-longrope"};
    static float expected[N_TOKENS * TINY_N_VOCAB], found[N_TOKENS * TINY_N_VOCAB];
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {.backend = "cpu-scalar", .n_threads = 1, .kv_type = "f32", .kv_bytes = 16 << 20};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        char in[512], out[520];
        snprintf(in, sizeof in, "%s/%s", test_temp_dir(), families[f]);
        snprintf(out, sizeof out, "%s.gguf", in);
        family_model_write(families[f], in);
        assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error),
                  &error);
        logits_of(engine, in, expected);
        logits_of(engine, out, found);
        double far = nmse(found, expected);
        if (!(far < 1e-11)) { /* not the same bits: GGUF has what RoPE turns of Granite's heads in another order */
            fail_msg("%s: NMSE %.2e", families[f], far);
        }
    }
    mlxr_engine_close(&engine);
}

/* bigcode/starcoder says "gelu", which is the exact one; its smaller kin say the one by tanh. */
static void starcoders_word_for_gelu_is_followed_and_converted(void **state)
{
    static const char *const families[] = {"starcoder", "gpt2"};
    static const char *const words[][2] = {{"\"gelu_pytorch_tanh\"", "\"gelu\"             "},
                                           {"\"gelu_new\"", "\"gelu\"    "}};
    static float by_tanh[N_TOKENS * TINY_N_VOCAB], exact[N_TOKENS * TINY_N_VOCAB], converted[N_TOKENS * TINY_N_VOCAB];
    (void)state;
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {.backend = "cpu-scalar", .n_threads = 1, .kv_type = "f32", .kv_bytes = 16 << 20};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        char in[512], out[520], config[540];
        snprintf(in, sizeof in, "%s/%s-gelu", test_temp_dir(), families[f]);
        snprintf(out, sizeof out, "%s.gguf", in);
        snprintf(config, sizeof config, "%s/config.json", in);
        family_model_write(families[f], in);
        logits_of(engine, in, by_tanh);
        family_model_exchange(config, words[f][0], words[f][1]);
        logits_of(engine, in, exact);
        assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error),
                  &error);
        logits_of(engine, out, converted);
        double far = nmse(exact, by_tanh);
        assert_true(far > 1e-11 && far < 1e-5);
        assert_true(nmse(converted, exact) < 1e-11);
    }
    mlxr_engine_close(&engine);
}

/* Number i of a tensor of a file or a folder. */
static float number_of(const model_file *file, const tensor *t, size_t i)
{
    float value;
    (void)file;
    codec_decode(t->type, (const uint8_t *)t->data + i * dtype_row_bytes(t->type, 1), &value, 1);
    return value;
}

/* Of two key heads with three value heads each GGUF has 0, 3, 1, 4, 2, 5: [key][value of it] becomes [value][key]. */
static void value_heads_are_written_in_ggufs_order(void **state)
{
    enum { KEYS = 2, EACH = 3, HEADS = KEYS * EACH };
    static const struct {
        const char *name;
        uint32_t of_keys, size; /* size 0: a whole head */
        bool columns;
    } parts[] = {
        {"attn_qkv.weight", 1, 0, false}, {"ssm_conv1d.weight", 1, 0, false}, {"attn_gate.weight", 0, 0, false},
        {"ssm_beta.weight", 0, 1, false}, {"ssm_alpha.weight", 0, 1, false},  {"ssm_a", 0, 1, true},
        {"ssm_dt.bias", 0, 1, true},      {"ssm_out.weight", 0, 0, true},     {"ssm_norm.weight", 0, 0, true},
    };
    (void)state;
    mlxr_error error;
    char in[512], out[520];
    model_file *folder = NULL, *file = NULL;
    snprintf(in, sizeof in, "%s/qwen35-order", test_temp_dir());
    snprintf(out, sizeof out, "%s.gguf", in);
    family_model_write("qwen35", in);
    assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.n_threads = 2}, NULL, &error), &error);
    assert_ok(model_file_open(&folder, in, &error), &error);
    assert_ok(model_file_open(&file, out, &error), &error);
    uint32_t head_k = 0, head_v = 0;
    assert_ok(model_file_u32(folder, "qwen35.ssm.state_size", &head_k, &error), &error);
    assert_ok(model_file_u32(folder, "qwen35.ssm.inner_size", &head_v, &error), &error);
    head_v /= HEADS;
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        char name[64];
        snprintf(name, sizeof name, "blk.0.%s", parts[p].name);
        const tensor *a = model_file_tensor(folder, name), *b = model_file_tensor(file, name);
        assert_non_null(a);
        assert_non_null(b);
        size_t size = parts[p].size ? parts[p].size : head_v, first = parts[p].of_keys ? 2 * KEYS * head_k : 0;
        size_t n_in = (size_t)a->shape[0], n = n_in * (size_t)a->shape[1];
        bool same_order = strcmp(parts[p].name, "ssm_norm.weight") == 0;
        for (size_t i = 0; i < n; i++) {
            size_t at = parts[p].columns ? i % n_in : i / n_in, from = at;
            if (at >= first && !same_order) {
                size_t head = (at - first) / size;
                from = first + (head % KEYS * EACH + head / KEYS) * size + (at - first) % size;
            }
            size_t j = parts[p].columns ? i - at + from : from * n_in + i % n_in;
            if (number_of(file, b, i) != number_of(folder, a, j)) {
                fail_msg("%s: number %zu is not the folder's %zu", name, i, j);
            }
        }
    }
    model_file_close(&folder);
    model_file_close(&file);
}

/* Whether rows are encoded on the way makes no difference to where they go. */
static void check_encoded_on_the_way(const char *family)
{
    mlxr_error error;
    char in[512], paths[3][540];
    model_file *one = NULL, *other = NULL;
    snprintf(in, sizeof in, "%s/%s-encoded", test_temp_dir(), family);
    family_model_write(family, in);
    for (int i = 0; i < 3; i++) { /* at once; kept, and from that */
        snprintf(paths[i], sizeof paths[i], "%s-%d.gguf", in, i);
        const mlxr_quantize_options options = {.type = i == 1 ? NULL : "Q8_0", .n_threads = 2};
        assert_ok(mlxr_quantize(i < 2 ? in : paths[1], paths[i], &options, NULL, &error), &error);
    }
    assert_ok(model_file_open(&one, paths[0], &error), &error);
    assert_ok(model_file_open(&other, paths[2], &error), &error);
    assert_int_equal(one->n_tensors, other->n_tensors);
    for (uint64_t i = 0; i < one->n_tensors; i++) {
        const tensor *t = model_file_tensor(other, one->tensors[i].name);
        assert_true(t && t->type == one->tensors[i].type && t->n_bytes == one->tensors[i].n_bytes);
        assert_memory_equal(t->data, one->tensors[i].data, t->n_bytes);
    }
    model_file_close(&one);
    model_file_close(&other);
}

static void value_heads_are_encoded_in_ggufs_order(void **state)
{
    (void)state;
    check_encoded_on_the_way("qwen35");
}

static void matrices_with_their_inputs_outermost_are_encoded_as_rows(void **state)
{
    (void)state;
    check_encoded_on_the_way("gpt2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_converted_file_gives_the_folders_logits),
        cmocka_unit_test(starcoders_word_for_gelu_is_followed_and_converted),
        cmocka_unit_test(value_heads_are_written_in_ggufs_order),
        cmocka_unit_test(value_heads_are_encoded_in_ggufs_order),
        cmocka_unit_test(matrices_with_their_inputs_outermost_are_encoded_as_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
