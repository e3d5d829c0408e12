/*
 * Our Metal kernels inside the MLX backend, run by the emulator: an answer of a tiny model from prompt to last token,
 * with each kernel counted, against the CPU's. Owner: the test program. Lifetime: the process.
 */
#include "mlx/backend_emulated.h"
#include "support/test.h"
#include "support/tiny_model.h"
#include "unit/runtime/recurrent.h"

enum { PROMPT = 40, ANSWER = 6, STREAMS = 3 };

static const char *const kernels[] = {"rms_norm",
                                      "rope_apply",
                                      "q_gemm_vector",
                                      "q_gemm_matrix",
                                      "swiglu_mlp_fused",
                                      "attention_decode_fused",
                                      "attention_prefill_fused"};
enum { N_KERNELS = sizeof kernels / sizeof *kernels };

typedef struct answers {
    int32_t ids[STREAMS][ANSWER];
    float logits[STREAMS][ANSWER][TINY_N_VOCAB];
} answers;

static void open_model(mlxr_engine **engine, mlxr_model **model, const char *device, const char *kv_type,
                       const char *path)
{
    mlxr_error error;
    mlxr_engine_options options = {
        .backend = device, .kv_type = kv_type, .n_threads = 1, .kv_bytes = 8u << 20, .no_prefix_cache = true};
    assert_ok(mlxr_engine_open(engine, &options, &error), &error);
    assert_ok(mlxr_model_load(model, *engine, path, NULL, &error), &error);
}

/* Every layer but the first reads the first one's keys, though it makes some. */
static void share_keys(mlxr_model *m)
{
    plan *p = &m->graph->plan;
    op *ops = region_array(&m->graph->memory, p->n_ops, sizeof *ops);
    assert_non_null(ops);
    recurrent_displace(m);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != OP_KV_WRITE || p->ops[i].layer == 0) {
            ops[n++] = p->ops[i];
        }
        if (p->ops[i].kind == OP_ATTEND) {
            ops[n - 1].attend.kv_layer = 0;
        }
    }
    p->ops = ops;
    p->n_ops = n;
    recurrent_place(m);
}

/* Greedy answers to prompts of different lengths, each prompt in two parts, then all together. */
static void answer(const tiny_model *tiny, const char *device, const char *kv_type, const char *path, bool share,
                   answers *out)
{
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_sequence *sequences[STREAMS] = {NULL};
    int32_t ids[PROMPT];
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    open_model(&engine, &model, device, kv_type, path);
    if (share) {
        share_keys(model);
    }
    tiny_model_tokens(tiny, ids, PROMPT);
    for (int i = 0; i < STREAMS; i++) {
        assert_ok(mlxr_sequence_open(&sequences[i], model, &greedy, &error), &error);
        assert_ok(mlxr_sequence_append(sequences[i], ids + i, PROMPT - 5 * (size_t)i, &error), &error);
        mlxr_slice part = {.sequence = sequences[i], .n_compute = 13};
        assert_ok(mlxr_step(engine, &part, 1, &error), &error);
    }
    for (int n = 0; n < ANSWER; n++) {
        mlxr_slice slices[STREAMS] = {{0}};
        for (int i = 0; i < STREAMS; i++) {
            slices[i] = (mlxr_slice){.sequence = sequences[i],
                                     .n_compute = (uint32_t)mlxr_sequence_pending(sequences[i])};
        }
        assert_ok(mlxr_step(engine, slices, STREAMS, &error), &error);
        for (int i = 0; i < STREAMS; i++) {
            out->ids[i][n] = slices[i].token;
            memcpy(out->logits[i][n], slices[i].logits, sizeof out->logits[i][n]);
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        mlxr_sequence_close(&sequences[i]);
    }
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

static const char *model_path(const tiny_model *tiny, dtype type)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s-%s.gguf", test_temp_dir(), tiny->name, dtype_name(type));
    tiny_model_write_gguf(tiny, &(tiny_options){.type = type}, path);
    return path;
}

static double nmse(const answers *found, const answers *expected)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < STREAMS * ANSWER * TINY_N_VOCAB; i++) {
        double e = (double)(&expected->logits[0][0][0])[i], d = (double)(&found->logits[0][0][0])[i] - e;
        wrong += d * d;
        all += e * e;
    }
    return wrong / all;
}

static void every_kernel_runs_in_an_answer_that_is_the_cpus(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_Q4_0, DTYPE_Q6_K, DTYPE_Q8_0};
    static const struct {
        const char *type;
        double nmse; /* F16, BF16: an element that is rounded the other way */
    } caches[] = {{"f32", 1e-9}, {"f16", 1e-5}, {"bf16", 1e-4}};
    const tiny_model *tiny = tiny_model_find("llama-wide");
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        static answers expected, found;
        const char *path = model_path(tiny, types[t]);
        size_t before[N_KERNELS];
        for (size_t k = 0; k < N_KERNELS; k++) {
            before[k] = emulated_runs(kernels[k]);
        }
        answer(tiny, "mlx", caches[t].type, path, false, &expected);
        answer(tiny, "mlx-emulated", caches[t].type, path, false, &found);
        printf("%s weights, %s cache:", dtype_name(types[t]), caches[t].type);
        for (size_t k = 0; k < N_KERNELS; k++) {
            printf(" %s %zu", kernels[k], emulated_runs(kernels[k]) - before[k]);
            assert_true(emulated_runs(kernels[k]) > before[k]);
        }
        double error = nmse(&found, &expected);
        printf("; NMSE %.1e\n", error);
        assert_true(error <= caches[t].nmse);
        assert_memory_equal(expected.ids, found.ids, sizeof found.ids);
    }
}

/* Our attention stores the keys that it sees, so that it is for the layer that has some; the others see the same. */
static void layers_that_read_keys_of_another_see_what_our_attention_stored(void **state)
{
    (void)state;
    static const char *const backends[] = {"mlx", "mlx-emulated"};
    const tiny_model *tiny = tiny_model_find("llama-wide");
    static answers expected, found, apart;
    const char *path = model_path(tiny, DTYPE_F32);
    answer(tiny, "cpu-scalar", "f32", path, true, &expected);
    answer(tiny, "cpu-scalar", "f32", path, false, &apart);
    assert_true(nmse(&apart, &expected) > 1e-3);
    for (size_t i = 0; i < 2; i++) {
        size_t before[] = {emulated_runs("attention_decode_fused"), emulated_runs("attention_prefill_fused")};
        answer(tiny, backends[i], "f32", path, true, &found);
        bool more = emulated_runs("attention_decode_fused") > before[0] &&
                    emulated_runs("attention_prefill_fused") > before[1];
        assert_int_equal(more, i == 1);
        printf("%s: NMSE %.1e\n", backends[i], nmse(&found, &expected));
        assert_true(nmse(&found, &expected) < 1e-9);
    }
}

/* What a kernel says when it fails is the step's error, and the sequence can go on. */
static void a_failed_kernel_is_a_failed_step(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_sequence *sequence = NULL;
    const tiny_model *tiny = tiny_model_find("llama-wide");
    int32_t ids[4];
    tiny_model_tokens(tiny, ids, 4);
    open_model(&engine, &model, "mlx-emulated", "f16", model_path(tiny, DTYPE_Q4_0));
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, 4, &error), &error);
    mlxr_slice slice = {.sequence = sequence, .n_compute = 4};
    emulated_fail("rms_norm_f32");
    assert_int_equal(mlxr_step(engine, &slice, 1, &error), MLXR_DEVICE);
    assert_non_null(strstr(error.text, "rms_norm_f32: as the test wants it"));
    assert_int_equal(mlxr_sequence_computed(sequence), 0);
    emulated_fail(NULL);
    assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
    mlxr_sequence_close(&sequence);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

/* Without Metal and without a runner the kernels are refused, by name. */
static void kernels_without_metal_are_refused(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {.backend = "mlx-metal"};
    if (mlxr_engine_open(&engine, &options, &error) == MLXR_OK) { /* on a Mac */
        mlxr_engine_close(&engine);
        return;
    }
    assert_int_equal(error.status, MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "need Metal"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_runs_in_an_answer_that_is_the_cpus),
        cmocka_unit_test(a_failed_kernel_is_a_failed_step),
        cmocka_unit_test(layers_that_read_keys_of_another_see_what_our_attention_stored),
        cmocka_unit_test(kernels_without_metal_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
