/*
 * The memory of a KV cache: a sequence of n tokens takes what the formula says, with every KV type.
 * Owner: the test program. Lifetime: the process.
 */
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

/* Bytes that 32 elements take: 4, 2, 2 each; 2 and a scale of 4 a head; a half-precision scale and
 * 8 or 4 bits each. */
static const struct {
    const char *name;
    uint64_t bytes_of_32, bytes_of_head;
} types[] = {{"f32", 128, 0}, {"f16", 64, 0}, {"bf16", 64, 0}, {"i16", 64, 4}, {"q8_0", 34, 0}, {"q4_0", 18, 0}};

/* Keys and values of one token in the layers that see everything, or in those that see a window. */
static uint64_t token_bytes(const tiny_model *m, size_t type, bool window)
{
    uint64_t n_layers = 0;
    for (uint32_t i = 0; i < m->n_layers; i++) {
        bool full = !m->window || (m->window_every && (i + 1) % m->window_every == 0);
        n_layers += full != window;
    }
    return 2 * n_layers * m->n_head_kv * (m->head_dim * types[type].bytes_of_32 / 32 + types[type].bytes_of_head);
}

/* Whole pages of 32 tokens; of a window only those that the next token sees. */
static uint64_t formula(const tiny_model *m, size_t type, uint64_t n)
{
    uint64_t n_pages = (n + 31) / 32, unseen = m->window && n + 1 > m->window ? (n + 1 - m->window) / 32 : 0;
    return 32 * (n_pages * token_bytes(m, type, false) + (n_pages - unseen) * token_bytes(m, type, true));
}

static void check_model(const tiny_model *m, const char *path, size_t type)
{
    static const uint32_t lengths[] = {1, 31, 32, 33, 64, 100, 200, 250};
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_engine_options options = {
        .n_threads = 1, .kv_bytes = 32 << 20, .kv_type = types[type].name, .no_prefix_cache = true};
    int32_t ids[TINY_N_CTX];
    tiny_model_tokens(m, ids, TINY_N_CTX);
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    assert_int_equal(mlxr_model_info_get(model)->kv_bytes_per_token,
                     token_bytes(m, type, false) + token_bytes(m, type, true));
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        mlxr_sequence *sequence = NULL;
        assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
        assert_ok(mlxr_sequence_append(sequence, ids, lengths[i], &error), &error);
        mlxr_slice slice = {.sequence = sequence, .n_compute = lengths[i], .flags = MLXR_SLICE_NO_SAMPLE};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        uint64_t used = mlxr_kv_stats_get(engine).bytes_used, expected = formula(m, type, lengths[i]);
        if (used < expected * 98 / 100 || used > expected * 102 / 100) {
            fail_msg("%s, %s, %u tokens: %llu bytes, by the formula %llu", m->name, types[type].name, lengths[i],
                     (unsigned long long)used, (unsigned long long)expected);
        }
        mlxr_sequence_close(&sequence);
        assert_int_equal(mlxr_kv_stats_get(engine).bytes_used, 0);
    }
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

static void a_sequence_takes_what_the_formula_says(void **state)
{
    (void)state;
    static const char *const names[] = {"llama-wide", "mistral", "gemma3", "gemma3-pattern", "qwen3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const tiny_model *m = tiny_model_find(names[i]);
        char path[512];
        snprintf(path, sizeof path, "%s/%s.gguf", test_temp_dir(), m->name);
        tiny_model_write_gguf(m, &(tiny_options){.type = DTYPE_Q8_0}, path);
        for (size_t type = 0; type < sizeof types / sizeof *types; type++) {
            check_model(m, path, type);
        }
    }
}

/* Latent attention keeps a row a token and layer: 52 latent numbers and the 12 turned elements that all heads share. Of
 * four heads with keys of 32 elements and values as long it would be 256. */
static void latent_attention_keeps_its_latent_numbers_alone(void **state)
{
    (void)state;
    enum { LAYERS = 4, ROW = 52 + 12 };
    char path[512];
    snprintf(path, sizeof path, "%s/deepseek3", test_temp_dir());
    family_model_write("deepseek3", path);
    for (size_t type = 0; type < sizeof types / sizeof *types; type++) {
        mlxr_error error;
        mlxr_engine *engine = NULL;
        mlxr_model *model = NULL;
        mlxr_engine_options options = {
            .n_threads = 1, .kv_bytes = 32 << 20, .kv_type = types[type].name, .no_prefix_cache = true};
        bool words = strcmp(types[type].name, "i16") == 0; /* keys and values lie differently there */
        uint64_t token = LAYERS * ROW * types[type].bytes_of_32 / 32;
        int32_t ids[TINY_N_CTX];
        tiny_model_tokens(tiny_model_find("llama"), ids, TINY_N_CTX);
        assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
        mlxr_status status = mlxr_model_load(&model, engine, path, NULL, &error);
        assert_int_equal(status, words ? MLXR_UNSUPPORTED : MLXR_OK);
        if (words) {
            assert_non_null(strstr(error.text, "KV type i16 stores keys and values in different orders"));
            mlxr_engine_close(&engine);
            continue;
        }
        assert_int_equal(mlxr_model_info_get(model)->kv_bytes_per_token, token);
        for (uint32_t n = 1; n < 250; n += 83) {
            mlxr_sequence *sequence = NULL;
            assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
            assert_ok(mlxr_sequence_append(sequence, ids, n, &error), &error);
            mlxr_slice slice = {.sequence = sequence, .n_compute = n, .flags = MLXR_SLICE_NO_SAMPLE};
            assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
            assert_int_equal(mlxr_kv_stats_get(engine).bytes_used, (n + 31) / 32 * 32 * token);
            mlxr_sequence_close(&sequence);
        }
        mlxr_model_unref(&model);
        mlxr_engine_close(&engine);
    }
}

static void an_unknown_type_is_refused_with_the_list(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {.n_threads = 1, .kv_type = "q5_1"};
    assert_int_equal(mlxr_engine_open(&engine, &options, &error), MLXR_ARG);
    assert_null(engine);
    assert_string_equal(error.text, "KV type 'q5_1' is unknown; use one of auto, f32, f16, bf16, i16, q8_0, q4_0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sequence_takes_what_the_formula_says),
        cmocka_unit_test(latent_attention_keeps_its_latent_numbers_alone),
        cmocka_unit_test(an_unknown_type_is_refused_with_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
