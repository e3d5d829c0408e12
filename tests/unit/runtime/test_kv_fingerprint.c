/*
 * Which blocks on disk a model may take for its own: those of the same bytes, computed in the same way, and no others.
 * One test a dimension; each runs a model that fills the directory, then another on it, and compares the other's logits
 * with a cold run bit for bit.
 * Owner: the test program. Lifetime: the process.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "base/mapping.h"
#include "runtime/engine.h"
#include "runtime/fingerprint.h"
#include "runtime/kv/store_file.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { TOKENS = 100, BLOCKS = 3, LOGITS = 2 };

typedef struct answer {
    float logits[LOGITS][TINY_N_VOCAB];
} answer;

typedef struct computer { /* what a run is made with */
    const char *path;
    mlxr_engine_options engine;
    uint32_t n_ctx_max;
    mlxr_rope_options rope;
} computer;

/* Runs the prompt in `dir` (NULL: cold); returns the blocks found on disk. */
static uint64_t run(const computer *c, const char *dir, answer *out)
{
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_sequence *s = NULL;
    mlxr_engine_options options = c->engine;
    mlxr_sampling greedy = mlxr_sampling_default();
    int32_t ids[TOKENS];
    options.kv_dir = dir;
    options.kv_bytes = 64 << 20;
    greedy.temperature = 0;
    tiny_model_tokens(tiny_model_find("llama"), ids, TOKENS);
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    mlxr_model_options how = {.n_ctx_max = c->n_ctx_max, .rope = c->rope};
    assert_ok(mlxr_model_load(&model, engine, c->path, &how, &error), &error);
    assert_ok(mlxr_sequence_open(&s, model, &greedy, &error), &error);
    assert_ok(mlxr_sequence_append(s, ids, TOKENS, &error), &error);
    for (int i = 0; i < LOGITS; i++) {
        mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)mlxr_sequence_pending(s)};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        memcpy(out->logits[i], slice.logits, sizeof out->logits[i]);
    }
    uint64_t n_hits = mlxr_kv_stats_get(engine).disk_hits;
    mlxr_sequence_close(&s);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return n_hits;
}

static const char *fresh_dir(void)
{
    static char dir[512];
    static int n;
    snprintf(dir, sizeof dir, "%s/kv-%d", test_temp_dir(), n++);
    return dir;
}

/* `second`, run where `first` left its blocks, finds n_hits of them and answers as if there were none. */
static void assert_takes(const computer *first, const computer *second, uint64_t n_hits, const char *what)
{
    static answer filled, cold, warm;
    const char *dir = fresh_dir();
    run(first, dir, &filled);
    run(second, NULL, &cold);
    uint64_t n = run(second, dir, &warm);
    if (n != n_hits) {
        fail_msg("%s: %llu blocks found on disk, not %llu", what, (unsigned long long)n, (unsigned long long)n_hits);
    }
    if (memcmp(&cold, &warm, sizeof cold) != 0) {
        fail_msg("%s: other logits than a cold run", what);
    }
}

static const char *gguf(const char *name, const tiny_model *tiny, dtype type)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s.gguf", test_temp_dir(), name);
    tiny_model_write_gguf(tiny, &(tiny_options){.type = type}, path);
    return path;
}

static const char *safetensors(const char *name, const tiny_model *tiny)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_temp_dir(), name);
    tiny_model_write_safetensors(tiny, &(tiny_options){.type = DTYPE_F16}, path);
    return path;
}

static void the_same_model_finds_its_blocks_wherever_its_file_lies(void **state)
{
    (void)state;
    const tiny_model *tiny = tiny_model_find("llama");
    computer a = {.path = gguf("here", tiny, DTYPE_Q8_0)}, b = {.path = gguf("there", tiny, DTYPE_Q8_0)};
    assert_takes(&a, &a, BLOCKS, "the same file");
    assert_takes(&a, &b, BLOCKS, "a copy of it");
}

static void what_does_not_change_a_bit_does_not_cost_a_block(void **state)
{
    (void)state;
    computer a = {.path = gguf("options", tiny_model_find("llama"), DTYPE_Q8_0), .engine = {.n_threads = 1}}, b = a;
    b.engine.n_threads = 3;
    b.n_ctx_max = 128;
    b.engine.kv_working_set_ms = 1;
    assert_takes(&a, &b, BLOCKS, "threads, context limit, eviction");
}

static void other_weights_never_match(void **state)
{
    (void)state;
    tiny_model tiny = *tiny_model_find("llama");
    computer a = {.path = gguf("weights", &tiny, DTYPE_Q8_0)}, b = a;
    tiny.seed++;
    b.path = gguf("weights-other", &tiny, DTYPE_Q8_0);
    assert_takes(&a, &b, 0, "other weights");
}

/* The last bit of the last weight. */
static void one_changed_bit_of_the_file_never_matches(void **state)
{
    (void)state;
    computer a = {.path = gguf("bit", tiny_model_find("llama"), DTYPE_Q8_0)}, b = a;
    b.path = gguf("bit-other", tiny_model_find("llama"), DTYPE_Q8_0);
    FILE *file = fopen(b.path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    fputc(byte ^ 1, file);
    assert_int_equal(fclose(file), 0);
    assert_takes(&a, &b, 0, "one bit");
}

static void another_quantisation_never_matches(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F16, DTYPE_Q4_0, DTYPE_Q8_0, DTYPE_BF16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        computer a = {.path = gguf("type", tiny_model_find("llama"), DTYPE_F32)}, b = a;
        b.path = gguf("type-other", tiny_model_find("llama"), types[i]);
        assert_takes(&a, &b, 0, dtype_name(types[i]));
    }
}

/* config.json lies beside the weights: what it says of RoPE changes every key. */
static void another_rope_or_norm_never_matches(void **state)
{
    (void)state;
    tiny_model tiny = *tiny_model_find("llama");
    computer a = {.path = safetensors("rope", &tiny)}, b = a;
    b.path = safetensors("rope-copy", &tiny);
    assert_takes(&a, &b, BLOCKS, "a copy of the folder");
    tiny.theta *= 2;
    b.path = safetensors("rope-theta", &tiny);
    assert_takes(&a, &b, 0, "RoPE theta");
    tiny = *tiny_model_find("llama");
    tiny.scaling = TINY_SCALING_LINEAR;
    tiny.factor = 4;
    b.path = safetensors("rope-factor", &tiny);
    assert_takes(&a, &b, 0, "context extension");
    tiny = *tiny_model_find("llama");
    tiny.eps *= 3;
    b.path = safetensors("norm-eps", &tiny);
    assert_takes(&a, &b, 0, "epsilon of the norms");
}

/* Options change keys as the file's metadata does: kind, factor, original context, base and YaRN's numbers, each by
 * itself. */
static void another_stretch_of_rope_never_matches(void **state)
{
    (void)state;
    static const mlxr_rope_options all[] = {{.scaling = MLXR_ROPE_OF_FILE},
                                            {.scaling = MLXR_ROPE_LINEAR, .scale = 2},
                                            {.scaling = MLXR_ROPE_NTK, .scale = 2},
                                            {.scaling = MLXR_ROPE_YARN, .scale = 2},
                                            {.scaling = MLXR_ROPE_YARN, .scale = 3},
                                            {.scaling = MLXR_ROPE_YARN, .scale = 2, .n_original = 80},
                                            {.scaling = MLXR_ROPE_YARN, .scale = 2, .n_original = 90},
                                            {.scaling = MLXR_ROPE_YARN, .scale = 2, .base = 20000},
                                            {.scaling = MLXR_ROPE_YARN, .scale = 2, .yarn_beta_fast = 4},
                                            {.scaling = MLXR_ROPE_YARN, .scale = 2, .yarn_beta_slow = 2},
                                            {.scaling = MLXR_ROPE_YARN, .scale = 2, .yarn_attn_factor = 1.5f},
                                            {.base = 20000},
                                            {.base = 30000}};
    enum { N = sizeof all / sizeof *all };
    computer a = {.path = gguf("stretch", tiny_model_find("llama"), DTYPE_Q8_0), .engine = {.n_threads = 1}}, b = a;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = i; k < N; k++) {
            char what[64];
            a.rope = all[i];
            b.rope = all[k];
            snprintf(what, sizeof what, "options %zu and %zu", i, k);
            assert_takes(&a, &b, i == k ? BLOCKS : 0, what);
        }
    }
}

/* Text around the model computes nothing. */
static void another_chat_template_matches(void **state)
{
    (void)state;
    tiny_model tiny = *tiny_model_find("llama");
    computer a = {.path = safetensors("template", &tiny)}, b = a;
    tiny.chat_template = "{{ messages[0].content }}!";
    b.path = safetensors("template-other", &tiny);
    assert_takes(&a, &b, BLOCKS, "chat template");
}

static void another_kv_type_never_matches(void **state)
{
    (void)state;
    static const char *const types[] = {"f16", "f32", "bf16", "i16"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            computer a = {.path = gguf("kv", tiny_model_find("gemma3"), DTYPE_Q8_0), .engine = {.kv_type = types[i]}};
            computer b = {.path = a.path, .engine = {.kv_type = types[k]}};
            assert_takes(&a, &b, i == k ? BLOCKS : 0, types[k]);
        }
    }
}

static void another_number_of_activation_bits_never_matches(void **state)
{
    (void)state;
    static const char *const bits[] = {"16", "8"};
    for (size_t i = 0; i < 4; i++) {
        computer a = {.path = gguf("bits", tiny_model_find("llama"), DTYPE_Q8_0),
                      .engine = {.activations = bits[i / 2]}};
        computer b = {.path = a.path, .engine = {.activations = bits[i % 2]}};
        assert_takes(&a, &b, i / 2 == i % 2 ? BLOCKS : 0, bits[i % 2]);
    }
}

/* The order of summation differs from one instruction set to the next, and the pages with it: a block computed with one
 * is not taken by another, or "evicted and reloaded" would differ from "never evicted" on another machine. */
static void another_backend_or_instruction_set_never_matches(void **state)
{
    (void)state;
    static const char *const masks[] = {"-avx512,-amx", "-avx2,-avx512,-amx"};
    computer a = {.path = gguf("isa", tiny_model_find("llama"), DTYPE_Q8_0)}, b = a;
    b.engine.backend = "cpu-scalar";
    assert_takes(&a, &b, 0, "cpu-scalar");
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        cpu_features all = cpu_detect(), some = all;
        assert_int_equal(cpu_mask(&some, masks[i], NULL), MLXR_OK);
        b = a;
        b.engine.cpu_features = masks[i];
        assert_takes(&a, &b, memcmp(&all, &some, sizeof all) == 0 ? BLOCKS : 0, masks[i]);
    }
}

/* The fingerprint of a GPTQ folder with this in its quantization_config; the weights' bytes are always the same. */
static kv_hash gptq_with(const char *name, const char *setting)
{
    char dir[512], path[600], *weights = NULL;
    size_t n_weights = 0;
    mlxr_error error;
    model_file *file = NULL;
    kv_hash hash = {0};
    const backend_options device = {.n_threads = 1};
    const fingerprint_options options = {.backend = "cpu", .device = &device, .kv_type = DTYPE_F16, .page_tokens = 32};
    snprintf(dir, sizeof dir, "%s/%s", test_temp_dir(), name);
    assert_int_equal(mkdir(dir, 0777), 0);
    assert_ok(file_read("tests/data/checkpoints/gptq/model.safetensors", 1 << 24, &weights, &n_weights, &error),
              &error);
    snprintf(path, sizeof path, "%s/model.safetensors", name);
    test_write_file(path, weights, n_weights);
    free(weights);
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *config = tiny_open(path);
    fprintf(config,
            "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":192,"
            "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"tie_word_embeddings\":true,"
            "\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":64%s}}",
            setting);
    tiny_close(config, path);
    assert_ok(model_file_open(&file, dir, &error), &error);
    assert_true(fingerprint_make(file, &options, &hash));
    model_file_close(&file);
    return hash;
}

/* The two formats' zero points differ by one. */
static void another_format_of_packed_weights_never_matches(void **state)
{
    (void)state;
    kv_hash none = gptq_with("gptq", ""), one = gptq_with("gptq-1", ",\"checkpoint_format\":\"gptq\"");
    kv_hash two = gptq_with("gptq-2", ",\"checkpoint_format\":\"gptq_v2\"");
    assert_memory_equal(&none, &one, sizeof one);
    assert_memory_not_equal(&two, &one, sizeof one);
}

/* Whatever the fingerprint said: a file names everything that gives its bytes a meaning. */
static void a_file_matches_in_every_dimension_or_not_at_all(void **state)
{
    (void)state;
    static uint8_t file[65536], payload[4096];
    int32_t tokens[8] = {1, 2, 3, 4, 5, 6, 7, 8}, others[8] = {1, 2, 3, 4, 5, 6, 7, 9};
    kv_layout layout = kv_layout_make(&(kv_group){.n_layers = 2, .n_head_kv = 2, .head_dim = 8}, DTYPE_F16, 4);
    store_block b = {.fingerprint = {1, 2},
                     .hash = {3, 4},
                     .n_groups = 1,
                     .page_tokens = 4,
                     .layouts = {layout},
                     .present = {true},
                     .tokens = tokens,
                     .n_tokens = 8,
                     .payload = payload,
                     .n_payload = layout.page_bytes};
    size_t n_header = store_header_bytes(&b), n = n_header + layout.page_bytes;
    store_header_encode(&b, file);
    memcpy(file + n_header, payload, layout.page_bytes);
    store_block same = b;
    assert_true(store_file_check(file, n, &same));
    store_block other[14];
    for (size_t i = 0; i < 14; i++) {
        other[i] = b;
    }
    other[0].fingerprint.low++;
    other[1].fingerprint.high++;
    other[2].hash.low++;
    other[3].hash.high++;
    other[4].n_groups = 2;
    other[4].layouts[1] = layout;
    other[5].page_tokens = 8;
    other[6].n_tokens = 4;
    other[7].tokens = others;
    other[8].layouts[0].type = DTYPE_BF16;
    other[9].layouts[0].n_layers = 4;
    other[10].layouts[0].n_head_kv = 1;
    other[11].layouts[0].head_dim = 4;
    other[12].layouts[0].page_bytes /= 2;
    other[13].layouts[0].page_bytes *= 2;
    for (size_t i = 0; i < 14; i++) {
        if (store_file_check(file, n, &other[i])) {
            fail_msg("a file matches although it differs in dimension %zu", i);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_model_finds_its_blocks_wherever_its_file_lies),
        cmocka_unit_test(what_does_not_change_a_bit_does_not_cost_a_block),
        cmocka_unit_test(other_weights_never_match),
        cmocka_unit_test(one_changed_bit_of_the_file_never_matches),
        cmocka_unit_test(another_quantisation_never_matches),
        cmocka_unit_test(another_rope_or_norm_never_matches),
        cmocka_unit_test(another_stretch_of_rope_never_matches),
        cmocka_unit_test(another_format_of_packed_weights_never_matches),
        cmocka_unit_test(another_chat_template_matches),
        cmocka_unit_test(another_kv_type_never_matches),
        cmocka_unit_test(another_number_of_activation_bits_never_matches),
        cmocka_unit_test(another_backend_or_instruction_set_never_matches),
        cmocka_unit_test(a_file_matches_in_every_dimension_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
