/*
 * What GGUF files of other programs do not say, as those programs take it.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "graph/hparams.h"
#include "loaders/readers.h"
#include "support/test.h"

enum { META_MAX = 32 };

typedef struct said {
    const char *key;
    double number;
} said;

/* Reads a model of which nothing is said but this; a key that begins with '.' gets the family before it. */
static hparams read(const char *arch, const said *list)
{
    static meta_value meta[META_MAX];
    static char keys[META_MAX][80];
    static hparams h;
    model_file *file = NULL;
    mlxr_error error = {0};
    uint64_t n = 0;
    assert_ok(model_file_make(&file, &error), &error);
    meta[n++] = (meta_value){.key = "general.architecture", .type = META_STRING, .s = {arch, strlen(arch)}};
    for (; list->key; list++, n++) {
        snprintf(keys[n], sizeof keys[n], "%s%s", list->key[0] == '.' ? arch : "", list->key);
        bool whole = list->number == floor(list->number);
        meta[n] = (meta_value){.key = keys[n], .type = whole ? META_U32 : META_F32};
        if (whole) {
            meta[n].u = (uint64_t)list->number;
        } else {
            meta[n].f = list->number;
        }
    }
    file->meta = meta;
    file->n_meta = n;
    assert_ok(model_file_index(file, &error), &error);
    assert_ok(hparams_read(&h, file, &error), &error);
    model_file_close(&file);
    return h;
}

#define SHAPE                                                                                                          \
    {".block_count", 8}, {".embedding_length", 512}, {".context_length", 32768}, {".attention.head_count", 8},         \
        {".feed_forward_length", 96}
#define EPSILON {".attention.layer_norm_rms_epsilon", 1e-5}

static void llama_4_has_chunks_of_8192_one_shared_expert_and_a_temperature(void **state)
{
    (void)state;
    const said experts[] = {SHAPE,
                            EPSILON,
                            {".expert_count", 16},
                            {".expert_used_count", 1},
                            {".expert_feed_forward_length", 40},
                            {".interleave_moe_layer_step", 2},
                            {0}};
    hparams h = read("llama4", experts);
    assert_int_equal(h.window, 8192);
    assert_int_equal(h.temperature_span, 8192);
    assert_float_equal(h.attn_temperature, 0.1f, 0);
    assert_true(h.qk_norm_bare);
    assert_int_equal(h.n_ff_shared, 40);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(h.layer_has_window[i], i % 4 != 3);
        assert_int_equal(h.layer_is_unturned[i], i % 4 == 3);
        assert_int_equal(hparams_is_sparse(&h, i), i % 2);
    }
}

/* The model of 128 experts has no norm of queries and keys; a length of 0 says that nothing is cut into chunks. */
static void llama_4_of_128_experts_and_one_without_chunks_differ(void **state)
{
    (void)state;
    const said many[] = {
        SHAPE, EPSILON, {".expert_count", 128}, {".expert_used_count", 1}, {".expert_feed_forward_length", 40}, {0}};
    const said whole[] = {SHAPE, EPSILON, {".attention.sliding_window", 0}, {0}};
    assert_false(read("llama4", many).qk_norm_bare);
    hparams h = read("llama4", whole);
    assert_int_equal(h.window, 0);
    assert_float_equal(h.attn_temperature, 0, 0);
    for (uint32_t i = 0; i < 8; i++) {
        assert_false(h.layer_is_unturned[i]);
    }
}

static void other_families_defaults_are_those_of_their_files(void **state)
{
    (void)state;
    const said plain[] = {SHAPE, EPSILON, {0}};
    const said neox[] = {SHAPE, {".attention.layer_norm_epsilon", 1e-5}, {0}};
    const said falcon[] = {SHAPE,
                           EPSILON,
                           {".ssm.conv_kernel", 4},
                           {".ssm.state_size", 16},
                           {".ssm.group_count", 1},
                           {".ssm.time_step_rank", 4},
                           {".ssm.inner_size", 64},
                           {0}};
    const said latent[] = {
        SHAPE, EPSILON, {".attention.kv_lora_rank", 24}, {".attention.key_length", 96}, {".rope.dimension_count", 32},
        {0}};
    assert_true(read("gptneox", neox).parallel);
    assert_float_equal(read("afmoe", plain).embedding_scale, sqrtf(512), 0);
    assert_float_equal(read("olmo", neox).qkv_limit, 0, 0);
    hparams h = read("falcon-h1", falcon);
    assert_false(h.mixer_norm_first);
    for (size_t i = 0; i < TIMES_COUNT; i++) {
        assert_float_equal(h.times[i], 1, 0);
    }
    h = read("minicpm3", latent);
    assert_int_equal(h.head_v, 64);
    assert_float_equal(h.embedding_scale, 12, 0);
    assert_float_equal(h.residual_scale, 1.4f / sqrtf(8), 0);
    assert_float_equal(h.logit_scale, 0.5f, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_4_has_chunks_of_8192_one_shared_expert_and_a_temperature),
        cmocka_unit_test(llama_4_of_128_experts_and_one_without_chunks_differ),
        cmocka_unit_test(other_families_defaults_are_those_of_their_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
