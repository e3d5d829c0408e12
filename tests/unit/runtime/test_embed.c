/*
 * Embeddings: vectors of many texts together are those of each alone, are what hidden states give, and have length 1.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "mlxr_embed.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { TEXTS = 40, TOKENS = 90, DIMS = 96 };

typedef struct world {
    mlxr_engine *engine;
    mlxr_model *model;
    mlxr_embed_info info;
    int32_t ids[TEXTS][TOKENS];
    mlxr_embed_input inputs[TEXTS];
} world;

static void open_world(world *w, const char *name)
{
    mlxr_error error;
    char path[512];
    uint64_t seed = 5;
    memset(w, 0, sizeof *w);
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    if (strncmp(name, "bert", 4) == 0) {
        family_model_write(name, path);
    } else {
        tiny_model_write_gguf(tiny_model_find(name), NULL, path);
    }
    mlxr_engine_options options = {.n_threads = 2, .kv_bytes = 64 << 20, .backend = "cpu", .kv_type = "f32"};
    assert_ok(mlxr_engine_open(&w->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&w->model, w->engine, path, NULL, &error), &error);
    w->info = mlxr_embed_info_get(w->model);
    for (size_t i = 0; i < TEXTS; i++) {
        w->inputs[i] = (mlxr_embed_input){.ids = w->ids[i], .n_ids = 1 + i * 13 % TOKENS};
        for (size_t j = 0; j < TOKENS; j++) {
            w->ids[i][j] = (int32_t)(test_random(&seed) % TINY_N_VOCAB);
        }
    }
}

static void close_world(world *w)
{
    assert_int_equal(mlxr_kv_stats_get(w->engine).bytes_used, mlxr_kv_stats_get(w->engine).bytes_cached);
    mlxr_model_unref(&w->model);
    mlxr_engine_close(&w->engine);
}

static void many_texts_together_are_each_alone(void **state)
{
    static const char *const names[] = {"bert", "bert-blocks", "llama"}; /* one with inputs of whole blocks */
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        world w;
        mlxr_error error;
        float all[TEXTS][DIMS], one[DIMS];
        open_world(&w, names[m]);
        uint32_t n = w.info.n_dims;
        assert_true(n <= DIMS && w.info.encoder == (m < 2) && w.info.intended == (m < 2));
        assert_ok(mlxr_embed(w.engine, w.model, w.inputs, TEXTS, 0, &all[0][0], &error), &error);
        for (size_t i = 0; i < TEXTS; i++) {
            double length = 0;
            const float *vector = &all[0][0] + i * n;
            assert_ok(mlxr_embed(w.engine, w.model, &w.inputs[i], 1, 0, one, &error), &error);
            assert_memory_equal(vector, one, n * sizeof *one);
            for (uint32_t k = 0; k < n; k++) {
                length += (double)vector[k] * (double)vector[k];
            }
            assert_true(fabs(length - 1) < 1e-6);
        }
        close_world(&w);
    }
}

static void a_vector_is_the_mean_of_hidden_states(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    float found[DIMS];
    double mean[DIMS] = {0}, squares = 0;
    open_world(&w, "bert");
    const mlxr_embed_input *in = &w.inputs[7];
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, w.model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, in->ids, in->n_ids, &error), &error);
    mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)in->n_ids, .flags = MLXR_SLICE_HIDDEN};
    assert_ok(mlxr_step(w.engine, &slice, 1, &error), &error);
    for (size_t i = 0; i < (size_t)slice.n_hidden * w.info.n_dims; i++) {
        mean[i % w.info.n_dims] += (double)slice.hidden[i];
    }
    mlxr_sequence_close(&sequence);
    uint32_t n_dims = 16; /* the first, made of length 1 again */
    assert_ok(mlxr_embed(w.engine, w.model, in, 1, n_dims, found, &error), &error);
    for (uint32_t k = 0; k < n_dims; k++) {
        squares += mean[k] * mean[k];
    }
    for (uint32_t k = 0; k < n_dims; k++) {
        assert_true(fabs((double)found[k] - mean[k] / sqrt(squares)) < 1e-6);
    }
    close_world(&w);
}

static void what_an_encoder_cannot_do_is_refused(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    float vector[DIMS];
    open_world(&w, "bert");
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, w.model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, w.ids[0], 20, &error), &error);
    mlxr_slice slice = {.sequence = sequence, .n_compute = 20};
    assert_int_equal(mlxr_step(w.engine, &slice, 1, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "this model is an encoder"));
    slice = (mlxr_slice){.sequence = sequence, .n_compute = 10, .flags = MLXR_SLICE_HIDDEN};
    assert_int_equal(mlxr_step(w.engine, &slice, 1, &error), MLXR_UNSUPPORTED);
    assert_int_equal(mlxr_sequence_pending(sequence), 20);
    mlxr_sequence_close(&sequence);
    assert_int_equal(mlxr_embed(w.engine, w.model, w.inputs, 1, w.info.n_dims + 1, vector, &error), MLXR_ARG);
    w.inputs[0].n_ids = 0;
    assert_int_equal(mlxr_embed(w.engine, w.model, w.inputs, 1, 0, vector, &error), MLXR_LIMIT);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_texts_together_are_each_alone),
        cmocka_unit_test(a_vector_is_the_mean_of_hidden_states),
        cmocka_unit_test(what_an_encoder_cannot_do_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
