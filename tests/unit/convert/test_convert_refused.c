/*
 * Numbers of weights that are not finite, or are no longer where they meet others: no model is loaded, no file written.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "graph/graph.h"
#include "loaders/model_file.h"
#include "mlxr.h"
#include "mlxr_convert.h"
#include "support/family_model.h"
#include "support/test.h"

static const char *large; /* the tensor whose first number times 1.25 is more than a float holds */

static void make_large(const char *name, float *values, size_t n)
{
    (void)n;
    if (strcmp(name, large) == 0) {
        values[0] = 3e38f;
    }
}

static void weights_that_multipliers_make_infinite_are_refused(void **state)
{
    (void)state;
    static const char *const tensors[][2] = {
        {"model.layers.0.feed_forward.down_proj.bias", "tensor 'blk.0.ffn_down.bias': number 0, 3e+38, × its multiplier"
                                                       " 1.25 is no finite number"},
        {"model.layers.0.feed_forward.down_proj.weight", "tensor 'blk.0.ffn_down.weight': a weight in rows 0 to "},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        mlxr_error error = {0};
        char in[512], out[520];
        struct stat found;
        snprintf(in, sizeof in, "%s/falcon-h1-large-%zu", test_temp_dir(), i);
        snprintf(out, sizeof out, "%s.gguf", in);
        large = tensors[i][0];
        family_model_write_changed("falcon-h1", in, make_large);
        mlxr_status status = mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL,
                                           &error);
        if (status != MLXR_FORMAT || !strstr(error.text, tensors[i][1]) || !strstr(error.text, "multiplier")) {
            fail_msg("%s: %s", large, status == MLXR_OK ? "written" : error.text);
        }
        assert_int_not_equal(stat(out, &found), 0);
    }
}

static const char *odd; /* the tensor of one number, and what it is instead */
static float odd_number;

static void make_odd(const char *name, float *values, size_t n)
{
    if (strcmp(name, odd) == 0) {
        assert_int_equal(n, 1);
        values[0] = odd_number;
    }
}

static void numbers_of_xielu_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    static const char *const parts[] = {"alpha_n", "alpha_p", "beta", "eps"};
    static const float numbers[] = {NAN, INFINITY, -INFINITY};
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {.backend = "cpu-scalar", .n_threads = 1, .kv_bytes = 16 << 20};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    for (size_t i = 0; i < 12; i++) {
        char in[512], out[520], name[64], words[64];
        struct stat found;
        mlxr_model *model = NULL;
        snprintf(in, sizeof in, "%s/apertus-odd-%zu", test_temp_dir(), i);
        snprintf(out, sizeof out, "%s.gguf", in);
        snprintf(name, sizeof name, "model.layers.2.mlp.act_fn.%s", parts[i % 4]);
        snprintf(words, sizeof words, "tensor 'blk.2.ffn_act.%s' is ", parts[i % 4]);
        odd = name;
        odd_number = numbers[i / 4];
        family_model_write_changed("apertus", in, make_odd);
        assert_int_equal(mlxr_model_load(&model, engine, in, NULL, &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, words));
        assert_null(model);
        assert_int_equal(mlxr_quantize(in, out, &(mlxr_quantize_options){.n_threads = 1}, NULL, &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, words));
        assert_int_not_equal(stat(out, &found), 0);
    }
    mlxr_engine_close(&engine);
}

/* What xIELU's curve falls by is one number of the file and softplus of another. */
static void sums_of_xielu_that_no_float_holds_are_refused(void **state)
{
    (void)state;
    static const float most[] = {3e38f, 3e38f, 3e38f, 3e38f};
    static const char *const keys[] = {"xielu.alpha_n", "xielu.beta"};
    mlxr_error error;
    char in[512], out[520];
    model_file *file = NULL;
    graph *g = NULL;
    snprintf(in, sizeof in, "%s/apertus-sum", test_temp_dir());
    snprintf(out, sizeof out, "%s.gguf", in);
    family_model_write("apertus", in);
    assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.n_threads = 1}, NULL, &error), &error);
    assert_ok(model_file_open(&file, out, &error), &error);
    for (size_t i = 0; i < 2; i++) {
        meta_value *value = (meta_value *)(uintptr_t)model_file_meta(file, keys[i]);
        assert_true(value && value->type == META_ARRAY && value->array.n == 4);
        value->array.data = most;
        mlxr_status status = graph_build(&g, file, 0, false, &error);
        if (i == 0) {
            assert_ok(status, &error);
        } else {
            assert_int_equal(status, MLXR_FORMAT);
            assert_non_null(strstr(error.text, "layer 0: xIELU"));
        }
        graph_close(&g);
    }
    model_file_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_that_multipliers_make_infinite_are_refused),
        cmocka_unit_test(numbers_of_xielu_that_are_not_finite_are_refused),
        cmocka_unit_test(sums_of_xielu_that_no_float_holds_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
