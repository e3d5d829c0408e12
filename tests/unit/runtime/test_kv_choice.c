/*
 * Which models keep their keys and values as words where nobody named a type.
 * Owner: the test program. Lifetime: the process.
 */
#include "runtime/kv_choice.h"

#include <math.h>
#include <string.h>

#include "runtime/engine.h"
#include "support/test.h"
#include "support/tiny_model.h"

#define DIM 128u

typedef struct made { /* a model of two layers, of which the first keeps keys and values */
    float weights[DIM];
    tensor norm;
    layer_weights layers[2];
    graph g;
} made;

static void make(made *m, const char *name)
{
    *m = (made){.norm = {.type = DTYPE_F32, .n_dims = 1, .shape = {DIM, 1, 1, 1}, .data = m->weights}};
    for (uint32_t i = 0; i < DIM; i++) {
        m->weights[i] = i % 2 ? 1.0f : -1.0f; /* whichever their sign */
    }
    m->layers[0].k_norm = &m->norm;
    const family *fam = family_find(name, strlen(name));
    assert_non_null(fam);
    m->g.h = (hparams){.fam = fam, .n_layers = 1, .head_dim = DIM, .head_dim_window = DIM};
    m->g.weights.layers = m->layers;
    m->g.plan.kv_groups[0] = (kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = DIM};
    m->g.plan.n_kv_groups = 1;
}

static const backend_ops pays = {.keeps_words = true, .words_pay = true};

static void even_keys_are_words(void **state)
{
    made m;
    (void)state;
    make(&m, "qwen3");
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_I16);
    m.weights[5] = 16.0f;
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_I16);
}

static void keys_of_which_one_channel_is_far_above_the_others_are_not(void **state)
{
    made m;
    (void)state;
    make(&m, "qwen3");
    m.weights[5] = 16.5f;
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_F16);
    m.weights[5] = -16.5f;
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_F16);
    m.weights[5] = NAN;
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_F16);
}

static void keys_that_are_not_normalised_by_head_are_not(void **state)
{
    made m;
    (void)state;
    make(&m, "llama");
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_F16);
    make(&m, "qwen3");
    m.layers[0].k_norm = NULL;
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_F16);
    make(&m, "qwen3");
    m.norm.shape[0] = 2 * DIM;
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_F16);
}

static void narrow_heads_and_such_as_words_cannot_hold_are_not(void **state)
{
    made m;
    (void)state;
    make(&m, "qwen3");
    m.g.plan.kv_groups[0].head_dim = 64;
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_F16);
    make(&m, "qwen3");
    m.g.plan.kv_groups[0].one_row = true;
    assert_int_equal(kv_type_choose(&m.g, &pays), DTYPE_F16);
}

static void a_backend_that_gains_nothing_keeps_floats(void **state)
{
    made m;
    (void)state;
    make(&m, "qwen3");
    assert_int_equal(kv_type_choose(&m.g, &(backend_ops){.keeps_words = true}), DTYPE_F16);
}

/* Of a model that is loaded, and what its options say. */
static void a_model_tells_its_type(void **state)
{
    static const char *const asked[] = {NULL, "auto", "i16", "f16"}, *const told[] = {"f16", "f16", "i16", "f16"};
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s/qwen3.gguf", test_temp_dir()); /* its heads are narrow */
    tiny_model_write_gguf(tiny_model_find("qwen3"), &(tiny_options){.type = DTYPE_Q8_0}, path);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        mlxr_engine_options options = {.backend = "cpu", .n_threads = 1, .kv_type = asked[i]};
        mlxr_engine *engine;
        mlxr_model *model;
        mlxr_error error;
        assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
        assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
        assert_string_equal(mlxr_model_info_get(model)->kv_type, told[i]);
        mlxr_model_unref(&model);
        mlxr_engine_close(&engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(even_keys_are_words),
        cmocka_unit_test(keys_of_which_one_channel_is_far_above_the_others_are_not),
        cmocka_unit_test(keys_that_are_not_normalised_by_head_are_not),
        cmocka_unit_test(narrow_heads_and_such_as_words_cannot_hold_are_not),
        cmocka_unit_test(a_backend_that_gains_nothing_keeps_floats),
        cmocka_unit_test(a_model_tells_its_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
