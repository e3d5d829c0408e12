/*
 * Metadata that llama.cpp asks for in the files of a family, and in the types it asks for: `mlxr convert` writes them.
 * Owner: the test program. Lifetime: the process.
 * Source: get_key of llama.cpp's src/models and src/llama-model.cpp, b11434.
 */
#include <math.h>
#include <string.h>

#include "loaders/model_file.h"
#include "mlxr_convert.h"
#include "support/family_model.h"
#include "support/test.h"

static void keys_that_llama_cpp_asks_for_are_written_as_it_reads_them(void **state)
{
    enum { ABSENT = -1 };
    static const struct {
        const char *family, *key;
        meta_type type;
        double value;
    } cases[] = {
        {"bert", "bert.attention.causal", META_BOOL, 0},
        {"xlm-roberta", "bert.attention.causal", META_BOOL, 0},
        {"nomic-bert", "nomic-bert.attention.causal", META_BOOL, 0},
        {"eurobert", "eurobert.attention.causal", META_BOOL, 0},
        {"modernbert", "modern-bert.attention.causal", META_BOOL, 0},
        {"embeddinggemma", "gemma-embedding.attention.causal", META_BOOL, 0},
        {"embeddinggemma", "gemma-embedding.dense_2_feat_in", META_U32, 80},
        {"embeddinggemma", "gemma-embedding.dense_2_feat_out", META_U32, 120},
        {"embeddinggemma", "gemma-embedding.dense_3_feat_in", META_U32, 120},
        {"embeddinggemma", "gemma-embedding.dense_3_feat_out", META_U32, 40},
        {"youtu", "deepseek2.expert_feed_forward_length", META_U32, 96},
        {"youtu", "deepseek2.expert_shared_count", META_U32, 0},
        {"youtu", "deepseek2.leading_dense_block_count", META_U32, 4},
        {"ernie4_5-moe", "ernie4_5-moe.interleave_moe_layer_step", META_U32, 1},
        {"ernie4_5-moe", "ernie4_5-moe.expert_shared_feed_forward_length", META_U32, 80},
        {"ministral3", "mistral3.rope.scaling.yarn_log_multiplier", META_F32, 1},
        {"ministral3", "mistral3.rope.scaling.attn_factor", META_F32, ABSENT},
        {"phi3-longrope", "phi3.rope.scaling.attn_factor", META_F32, 1.22606}, /* √(1 + ln 6.4 / ln 40) */
        {"phi3-longrope", "phi3.rope.scaling.factor", META_F32, ABSENT},
        {"gpt-oss", "gpt-oss.rope.scaling.yarn_truncate", META_U32, 0},
        {"mellum", "mellum.rope.scaling.yarn_truncate", META_U32, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_file *file = NULL;
        mlxr_error error;
        char in[512], out[520];
        snprintf(in, sizeof in, "%s/keys-%s", test_temp_dir(), cases[i].family);
        snprintf(out, sizeof out, "%s.gguf", in);
        if (i == 0 || strcmp(cases[i - 1].family, cases[i].family) != 0) {
            family_model_write(cases[i].family, in);
            assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error),
                      &error);
        }
        assert_ok(model_file_open(&file, out, &error), &error);
        const meta_value *value = model_file_meta(file, cases[i].key);
        if (cases[i].value == ABSENT ? value != NULL : !value || value->type != cases[i].type) {
            fail_msg("%s: '%s' is %s", cases[i].family, cases[i].key, value ? "of another type, or there" : "missing");
        }
        if (value) {
            double found = value->type == META_F32 ? value->f : (double)value->u;
            if (fabs(found - cases[i].value) > 1e-4) {
                fail_msg("%s: '%s' is %g, expected %g", cases[i].family, cases[i].key, found, cases[i].value);
            }
        }
        model_file_close(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_that_llama_cpp_asks_for_are_written_as_it_reads_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
