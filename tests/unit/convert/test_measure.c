/*
 * Importance as it is measured: the first layer's against a plain computation of what its matrices meet, all layers' by
 * the fast kernels against the oracle's, experts' by their routes, and the file as quantize reads it.
 * Owner: the test program. Lifetime: the process; files lie in a folder of its own.
 */
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "convert/importance.h"
#include "mlxr_convert.h"
#include "mlxr_importance.h"
#include "quant/codec.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

#define N_TOKENS 60

static char folder[64], in[96], out[96];
static int32_t ids[N_TOKENS];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/mlxr-measure-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(in, sizeof in, "%s/in.gguf", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, in);
    tiny_model_tokens(tiny_model_find("llama"), ids, N_TOKENS);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* Computes the tokens in steps of `chunk` and reads what was written. */
static void measure(const char *model_path, const char *backend, uint32_t n_threads, uint32_t chunk, importance *result)
{
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_sequence *sequence = NULL;
    mlxr_importance *measured = NULL, *second = NULL;
    mlxr_error error = {0};
    mlxr_engine_options o = {.backend = backend, .n_threads = n_threads};
    assert_ok(mlxr_engine_open(&engine, &o, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, model_path, NULL, &error), &error);
    assert_ok(mlxr_importance_begin(&measured, engine, model, &error), &error);
    assert_int_equal(mlxr_importance_count(measured), 0);
    assert_int_equal(mlxr_importance_write(measured, out, "text", 0, 1, &error), MLXR_ARG);
    assert_int_equal(mlxr_importance_begin(&second, engine, model, &error), MLXR_ARG);
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, N_TOKENS, &error), &error);
    for (uint32_t at = 0; at < N_TOKENS;) {
        mlxr_slice slice = {.sequence = sequence,
                            .n_compute = N_TOKENS - at < chunk ? N_TOKENS - at : chunk,
                            .flags = MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_LOGITS_ALL};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        at += slice.n_compute;
    }
    assert_ok(mlxr_importance_write(measured, out, "text", 3, N_TOKENS, &error), &error);
    uint32_t n = mlxr_importance_count(measured);
    mlxr_importance_end(&measured);
    assert_null(measured);
    mlxr_sequence_close(&sequence);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    assert_ok(importance_open(result, out, &error), &error);
    assert_int_equal(result->n, n);
    assert_int_equal(result->n_chunks, 3);
    assert_string_equal(result->dataset, "text");
}

/* Means of the squares of RMS-normed embeddings: what the first layer's Q, K and V meet. */
static void the_first_layer_is_what_its_definition_says(void **state)
{
    importance imp;
    model_file *file = NULL;
    mlxr_error error = {0};
    (void)state;
    measure(in, "cpu", 2, N_TOKENS, &imp);
    assert_ok(model_file_open(&file, in, &error), &error);
    const tensor *embed = model_file_tensor(file, "token_embd.weight");
    const float *norm = model_file_tensor(file, "blk.0.attn_norm.weight")->data;
    size_t n = (size_t)embed->shape[0];
    double *sums = calloc(n, sizeof *sums), eps = tiny_model_find("llama")->eps;
    for (size_t i = 0; i < N_TOKENS; i++) {
        const float *x = (const float *)embed->data + (size_t)ids[i] * n;
        double squares = 0;
        for (size_t k = 0; k < n; k++) {
            squares += (double)x[k] * (double)x[k];
        }
        for (size_t k = 0; k < n; k++) {
            double y = (double)x[k] / sqrt(squares / (double)n + eps) * (double)norm[k];
            sums[k] += y * y;
        }
    }
    static const char *const names[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"};
    for (size_t i = 0; i < 3; i++) {
        const importance_entry *e = importance_find(&imp, names[i]);
        assert_non_null(e);
        assert_int_equal(e->n, n);
        for (size_t k = 0; k < n; k++) {
            assert_true(fabs((double)e->values[k] - sums[k] / N_TOKENS) <= 1e-4 * sums[k] / N_TOKENS);
        }
    }
    assert_null(importance_find(&imp, "token_embd.weight"));
    assert_null(importance_find(&imp, "output.weight"));
    assert_int_equal(imp.n, 7 * tiny_model_find("llama")->n_layers);
    free(sums);
    model_file_close(&file);
    importance_close(&imp);
}

static void compare(const importance *a, const importance *b, double limit)
{
    assert_int_equal(a->n, b->n);
    for (uint64_t i = 0; i < a->n; i++) {
        const importance_entry *x = &a->entries[i], *y = importance_find(b, x->name);
        double most = 0;
        assert_non_null(y);
        assert_int_equal(x->n, y->n);
        for (uint64_t k = 0; k < x->n; k++) {
            most = fmax(most, (double)x->values[k]);
        }
        for (uint64_t k = 0; k < x->n; k++) {
            if (fabs((double)x->values[k] - (double)y->values[k]) > limit * most) {
                fail_msg("%s: %g, not %g", x->name, (double)x->values[k], (double)y->values[k]);
            }
        }
    }
}

static void fast_kernels_threads_and_steps_show_the_same_as_the_oracle(void **state)
{
    importance oracle, fast;
    (void)state;
    measure(in, "cpu-scalar", 1, N_TOKENS, &oracle);
    static const uint32_t chunks[] = {N_TOKENS, 7, 1};
    for (uint32_t i = 0; i < 3; i++) {
        measure(in, "cpu", i + 1, chunks[i], &fast);
        compare(&oracle, &fast, 1e-3);
        importance_close(&fast);
    }
    importance_close(&oracle);
}

/* Every token goes to as many experts as the model uses, and each expert's inputs count for itself. */
static void experts_count_the_rows_that_came_to_them(void **state)
{
    char moe[96];
    importance oracle, fast;
    model_file *file = NULL;
    mlxr_error error = {0};
    (void)state;
    snprintf(moe, sizeof moe, "%s/moe", folder);
    family_model_write("gpt-oss", moe);
    measure(moe, "cpu-scalar", 1, N_TOKENS, &oracle);
    measure(moe, "cpu", 2, 16, &fast);
    compare(&oracle, &fast, 1e-3);
    assert_ok(model_file_open(&file, out, &error), &error);
    const tensor *counts = model_file_tensor(file, "blk.0.ffn_down_exps.weight.counts");
    const tensor *up = model_file_tensor(file, "blk.0.ffn_up_exps.weight.counts");
    assert_non_null(counts);
    assert_non_null(up);
    assert_memory_equal(counts->data, up->data, up->n_bytes);
    double total = 0;
    for (size_t i = 0; i < counts->shape[1]; i++) {
        total += (double)((const float *)counts->data)[i];
    }
    assert_true(total == 2.0 * N_TOKENS || total == 4.0 * N_TOKENS);
    assert_int_equal(importance_find(&fast, "blk.0.ffn_down_exps.weight")->n_matrices, counts->shape[1]);
    model_file_close(&file);
    importance_close(&oracle);
    importance_close(&fast);
}

/* Nothing is multiplied with the matrix as the file has it: it shows what it would meet. */
static void the_matrix_of_latent_keys_and_values_shows_the_latent_numbers(void **state)
{
    char latent[96];
    importance oracle, fast;
    (void)state;
    snprintf(latent, sizeof latent, "%s/latent", folder);
    family_model_write("deepseek2", latent);
    measure(latent, "cpu-scalar", 1, N_TOKENS, &oracle);
    measure(latent, "cpu", 2, 16, &fast);
    compare(&oracle, &fast, 1e-3);
    for (int layer = 0; layer < 4; layer++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.attn_kv_b.weight", layer);
        const importance_entry *e = importance_find(&fast, name);
        assert_non_null(e);
        assert_int_equal(e->n, 24);
        assert_int_equal(e->n_matrices, 1);
        double mean = 0; /* of squares behind an RMS norm whose weights are about 1 */
        for (size_t i = 0; i < 24; i++) {
            mean += (double)e->values[i] / 24;
        }
        assert_true(mean > 0.3 && mean < 3);
    }
    importance_close(&oracle);
    importance_close(&fast);
}

/* Value heads come in another order in GGUF: so do the columns of what takes their results, and their importance. */
static void the_importance_of_a_folder_is_that_of_its_gguf(void **state)
{
    char path[96], converted[112];
    importance of_folder, of_file;
    mlxr_error error = {0};
    (void)state;
    snprintf(path, sizeof path, "%s/qwen35", folder);
    snprintf(converted, sizeof converted, "%s.gguf", path);
    family_model_write("qwen35", path);
    assert_ok(mlxr_quantize(path, converted, &(mlxr_quantize_options){.n_threads = 1}, NULL, &error), &error);
    measure(path, "cpu-scalar", 1, N_TOKENS, &of_folder);
    measure(converted, "cpu-scalar", 1, N_TOKENS, &of_file);
    assert_non_null(importance_find(&of_folder, "blk.0.ssm_out.weight"));
    compare(&of_folder, &of_file, 1e-5);
    importance_close(&of_folder);
    importance_close(&of_file);
}

static void quantize_takes_what_was_measured(void **state)
{
    importance imp;
    char quantised[96];
    mlxr_error error = {0};
    mlxr_quantize_report report;
    (void)state;
    snprintf(quantised, sizeof quantised, "%s/q.gguf", folder);
    measure(in, "cpu", 2, N_TOKENS, &imp);
    mlxr_quantize_options o = {.type = "Q4_0", .imatrix = out};
    assert_ok(mlxr_quantize(in, quantised, &o, &report, &error), &error);
    assert_int_equal(report.n_weighted, imp.n);
    importance_close(&imp);
}

static void a_place_that_cannot_be_written_is_told(void **state)
{
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_importance *measured = NULL;
    mlxr_error error = {0};
    (void)state;
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.backend = "cpu"}, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, in, NULL, &error), &error);
    assert_ok(mlxr_importance_begin(&measured, engine, model, &error), &error);
    assert_int_equal(mlxr_importance_write(measured, "/absent/x", "text", 1, 1, &error), MLXR_ARG);
    assert_string_equal(error.text, "nothing was measured");
    mlxr_importance_end(&measured);
    mlxr_importance_end(&measured);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_layer_is_what_its_definition_says),
        cmocka_unit_test(fast_kernels_threads_and_steps_show_the_same_as_the_oracle),
        cmocka_unit_test(experts_count_the_rows_that_came_to_them),
        cmocka_unit_test(the_matrix_of_latent_keys_and_values_shows_the_latent_numbers),
        cmocka_unit_test(the_importance_of_a_folder_is_that_of_its_gguf),
        cmocka_unit_test(quantize_takes_what_was_measured),
        cmocka_unit_test(a_place_that_cannot_be_written_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
