/*
 * Families with layers without attention, and with experts, from safetensors to GGUF: the file gives the same logits
 * as the folder.
 * Owner: the test program. Lifetime: the process.
 */
#include "logits_of.inc"
#include "mlxr_convert.h"
#include "support/family_model.h"
#include "support/test.h"

static void a_converted_file_gives_the_folders_logits(void **state)
{
    (void)state;
    static const char *const families[] = {
        "lfm2",           "qwen3next",         "granitehybrid", "granitehybrid-dense", "nemotron-h",
        "mixtral",        "qwen3moe",          "olmoe",         "granitemoe",          "glm4moe",
        "gpt-oss",        "lfm2moe",           "gemma4",        "gemma4-31b",          "gemma4-moe",
        "nemotron-h-moe", "nemotron-h-latent", "qwen3next-mtp", "glm4moe-mtp",         "deepseek3-mtp"};
    static float expected[N_TOKENS * TINY_N_VOCAB], found[N_TOKENS * TINY_N_VOCAB];
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {.backend = "cpu-scalar", .n_threads = 1, .kv_type = "f32", .kv_bytes = 16 << 20};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        char in[512], out[520];
        double wrong = 0, all = 0;
        snprintf(in, sizeof in, "%s/%s", test_temp_dir(), families[f]);
        snprintf(out, sizeof out, "%s.gguf", in);
        family_model_write(families[f], in);
        assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error),
                  &error);
        logits_of(engine, in, expected);
        logits_of(engine, out, found);
        for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
            double d = (double)found[i] - (double)expected[i];
            wrong += d * d;
            all += (double)expected[i] * (double)expected[i];
        }
        if (!(wrong / all <
              1e-11)) { /* not the same bits: GGUF has what RoPE turns of Granite's heads in another order */
            fail_msg("%s: NMSE %.2e", families[f], wrong / all);
        }
    }
    mlxr_engine_close(&engine);
}

/* GGUF's order of the value heads is another one, and no reader could tell a file that has the wrong one. */
static void what_would_be_in_the_wrong_order_is_refused(void **state)
{
    (void)state;
    mlxr_error error;
    char in[512], out[520];
    snprintf(in, sizeof in, "%s/qwen35", test_temp_dir());
    snprintf(out, sizeof out, "%s.gguf", in);
    family_model_write("qwen35", in);
    assert_int_equal(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error),
                     MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "6 value heads of a mixer in another order"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_converted_file_gives_the_folders_logits),
        cmocka_unit_test(what_would_be_in_the_wrong_order_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
