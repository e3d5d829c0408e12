/*
 * Mixtures of experts from safetensors to GGUF: each layer's experts are one tensor with its rows in their order, gate
 * and up apart, and an importance matrix says the same of them whether it was measured on the folder or on the file.
 * Owner: the test program. Lifetime: the process.
 */
#include "convert/write.h"
#include "mlxr_convert.h"
#include "mlxr_importance.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { N_TOKENS = 60, N_PARTS = 3 };

static const char *const parts[N_PARTS] = {"gate", "up", "down"};

typedef struct moe {
    const char *family;
    uint32_t first_layer, n_layers, n_expert, n_embd, n_ff;
    bool both; /* the folder has gate and up in one */
} moe;

static void write_both(const char *family, char in[512], char out[528])
{
    mlxr_error error;
    snprintf(in, 512, "%s/experts-%s", test_temp_dir(), family);
    snprintf(out, 528, "%s.gguf", in);
    family_model_write(family, in);
    assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.n_threads = 2}, NULL, &error), &error);
}

/* The folder's rows of an expert. */
static const uint8_t *rows_of(const model_file *folder, const moe *m, uint32_t layer, uint32_t part, uint32_t expert)
{
    char name[96];
    snprintf(name, sizeof name, "blk.%u.ffn_%s.%u.weight", layer, parts[part], expert);
    const tensor *t = model_file_tensor(folder, name);
    if (t) {
        return t->data;
    }
    snprintf(name, sizeof name, "blk.%u.ffn_%s_exps.weight", layer, part < 2 && m->both ? "gate_up" : parts[part]);
    t = model_file_tensor(folder, name);
    assert_non_null(t);
    uint64_t row = part < 2 ? (2 * (uint64_t)expert + part) * m->n_ff : (uint64_t)expert * m->n_embd;
    return (const uint8_t *)t->data + row * t->row_bytes;
}

static void check_layer(const moe *m, const model_file *folder, const model_file *file, uint32_t layer)
{
    for (uint32_t part = 0; part < N_PARTS; part++) {
        char name[96];
        snprintf(name, sizeof name, "blk.%u.ffn_%s_exps.weight", layer, parts[part]);
        const tensor *t = model_file_tensor(file, name);
        if (!t) {
            fail_msg("%s: no tensor '%s'", m->family, name);
        }
        assert_int_equal(t->n_dims, 3);
        assert_int_equal(t->shape[0], part < 2 ? m->n_embd : m->n_ff);
        assert_int_equal(t->shape[1], part < 2 ? m->n_ff : m->n_embd);
        assert_int_equal(t->shape[2], m->n_expert);
        size_t n = (size_t)t->shape[1] * t->row_bytes;
        for (uint32_t expert = 0; expert < m->n_expert; expert++) {
            if (memcmp((const uint8_t *)t->data + expert * n, rows_of(folder, m, layer, part, expert), n) != 0) {
                fail_msg("%s: '%s': expert %u has other weights", m->family, name, expert);
            }
        }
    }
}

static void experts_of_a_layer_become_one_tensor(void **state)
{
    static const moe cases[] = {
        {"mixtral", 0, 4, 6, 64, 96, false},      {"qwen3moe", 0, 4, 7, 64, 48, false},
        {"olmoe", 0, 4, 6, 64, 96, false},        {"glm4moe", 1, 4, 8, 64, 40, false},
        {"qwen3next", 0, 4, 6, 64, 40, false},    {"granitemoe", 0, 4, 5, 64, 96, true},
        {"granitehybrid", 0, 4, 5, 64, 96, true}, {"gpt-oss", 0, 4, 5, 64, 96, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const moe *m = &cases[i];
        char in[512], out[528];
        mlxr_error error;
        model_file *folder = NULL, *file = NULL;
        write_both(m->family, in, out);
        assert_ok(model_file_open(&folder, in, &error), &error);
        assert_ok(model_file_unpack(folder, UINT32_MAX, &error), &error);
        assert_ok(model_file_open(&file, out, &error), &error);
        uint32_t n_stacks = 0;
        for (uint64_t k = 0; k < file->n_tensors; k++) {
            const char *name = file->tensors[k].name;
            assert_null(strstr(name, "gate_up"));
            assert_null(strstr(name, "ffn_up.0"));
            n_stacks += strstr(name, "_exps.weight") != NULL;
        }
        for (uint32_t layer = m->first_layer; layer < m->n_layers; layer++) {
            check_layer(m, folder, file, layer);
        }
        assert_int_equal(n_stacks, N_PARTS * (m->n_layers - m->first_layer));
        model_file_close(&folder);
        model_file_close(&file);
    }
}

/* Elements of gate come first in each expert's row of the folder, up's behind them. */
static void biases_of_gate_and_up_come_apart_too(void **state)
{
    char in[512], out[528];
    mlxr_error error;
    model_file *folder = NULL, *file = NULL;
    (void)state;
    write_both("gpt-oss", in, out);
    assert_ok(model_file_open(&folder, in, &error), &error);
    assert_ok(model_file_open(&file, out, &error), &error);
    const tensor *both = model_file_tensor(folder, "blk.2.ffn_gate_up_exps.bias");
    const tensor *gate = model_file_tensor(file, "blk.2.ffn_gate_exps.bias");
    const tensor *up = model_file_tensor(file, "blk.2.ffn_up_exps.bias");
    assert_non_null(gate);
    assert_non_null(up);
    assert_int_equal(gate->n_dims, 2);
    assert_int_equal(gate->shape[0], 96);
    assert_int_equal(gate->shape[1], 5);
    for (size_t expert = 0; expert < 5; expert++) {
        const uint8_t *row = (const uint8_t *)both->data + expert * both->row_bytes;
        assert_memory_equal((const uint8_t *)gate->data + expert * gate->row_bytes, row, gate->row_bytes);
        assert_memory_equal((const uint8_t *)up->data + expert * up->row_bytes, row + gate->row_bytes, up->row_bytes);
    }
    model_file_close(&folder);
    model_file_close(&file);
}

/* Programs read these of the file and do not guess: how wide an expert is, and a truth value that is one. */
static void metadata_says_what_the_experts_are(void **state)
{
    static const char *const families[] = {"qwen3moe", "gpt-oss"};
    static const uint32_t widths[] = {48, 96};
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        char in[512], out[528], key[96];
        mlxr_error error;
        model_file *file = NULL;
        uint32_t width = 0;
        write_both(families[f], in, out);
        assert_ok(model_file_open(&file, out, &error), &error);
        snprintf(key, sizeof key, "%s.expert_feed_forward_length", families[f]);
        assert_ok(model_file_u32(file, key, &width, &error), &error);
        assert_int_equal(width, widths[f]);
        snprintf(key, sizeof key, "%s.expert_weights_norm", families[f]);
        const meta_value *norm = model_file_meta(file, key);
        assert_non_null(norm);
        assert_int_equal(norm->type, META_BOOL);
        model_file_close(&file);
    }
}

/* A GGUF file as they once were, a tensor an expert; one of them has another type than the others. */
static void write_old_file(const model_file *folder, const char *path)
{
    mlxr_error error;
    write_result written;
    gguf_out header = gguf_out_make();
    out_tensor *tensors = calloc((size_t)folder->n_tensors, sizeof *tensors);
    const write_options options = {.n_threads = 1};
    assert_non_null(tensors);
    for (uint64_t i = 0; i < folder->n_tensors; i++) {
        const tensor *t = &folder->tensors[i];
        dtype type = strcmp(t->name, "blk.0.ffn_up.3.weight") == 0 ? DTYPE_F16 : t->type;
        tensors[i] = (out_tensor){.in = t, .type = type};
    }
    gguf_out_text(&header, "general.architecture", "qwen3moe", 8);
    gguf_out_u32(&header, "qwen3moe.expert_count", 7);
    assert_ok(write_model(path, &header, tensors, (size_t)folder->n_tensors, &options, &written, &error), &error);
    gguf_out_close(&header);
    free(tensors);
}

static void a_file_with_a_tensor_an_expert_is_stacked_too(void **state)
{
    static const moe m = {"qwen3moe", 1, 4, 7, 64, 48, false};
    char in[512], out[528], old[544];
    mlxr_error error;
    model_file *folder = NULL, *file = NULL;
    (void)state;
    write_both(m.family, in, out);
    snprintf(old, sizeof old, "%s-old.gguf", in);
    assert_ok(model_file_open(&folder, in, &error), &error);
    write_old_file(folder, old);
    assert_ok(mlxr_quantize(old, out, &(mlxr_quantize_options){.n_threads = 2}, NULL, &error), &error);
    assert_ok(model_file_open(&file, out, &error), &error);
    for (uint32_t layer = 1; layer < m.n_layers; layer++) {
        check_layer(&m, folder, file, layer);
    }
    const tensor *t = model_file_tensor(file, "blk.0.ffn_up_exps.weight");
    assert_non_null(t);
    assert_int_equal(t->type, DTYPE_F32);
    const float *values = t->data, *before = (const void *)rows_of(folder, &m, 0, 1, 3);
    size_t n = (size_t)m.n_ff * m.n_embd;
    for (size_t i = 0; i < n; i++) {
        float d = values[3 * n + i] - before[i];
        assert_true(d < 1e-3f && d > -1e-3f);
    }
    assert_memory_equal(values + 4 * n, rows_of(folder, &m, 0, 1, 4), n * sizeof *values);
    model_file_close(&folder);
    model_file_close(&file);
}

static void measure(const char *model_path, const char *matrix)
{
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_sequence *sequence = NULL;
    mlxr_importance *measured = NULL;
    mlxr_error error;
    int32_t ids[N_TOKENS];
    for (int32_t i = 0; i < N_TOKENS; i++) {
        ids[i] = (i * 53 + 7) % (int32_t)TINY_N_VOCAB;
    }
    mlxr_engine_options o = {.backend = "cpu-scalar", .n_threads = 1, .kv_bytes = 16 << 20};
    assert_ok(mlxr_engine_open(&engine, &o, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, model_path, NULL, &error), &error);
    assert_ok(mlxr_importance_begin(&measured, engine, model, &error), &error);
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, N_TOKENS, &error), &error);
    mlxr_slice slice = {
        .sequence = sequence, .n_compute = N_TOKENS, .flags = MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_LOGITS_ALL};
    assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
    assert_ok(mlxr_importance_write(measured, matrix, "text", 1, N_TOKENS, &error), &error);
    mlxr_importance_end(&measured);
    mlxr_sequence_close(&sequence);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

/* Rows of both families are in the folder's order in GGUF, too: the two measure the same numbers. */
static void importance_measured_on_the_folder_weighs_each_expert(void **state)
{
    static const char *const families[] = {"qwen3moe", "gpt-oss"};
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        char in[512], out[528], matrix[2][544], quantised[5][544];
        mlxr_error error;
        mlxr_quantize_report reports[5];
        model_file *files[5] = {0};
        write_both(families[f], in, out);
        for (uint32_t i = 0; i < 5; i++) { /* the folder's matrix and the file's, of both; none */
            snprintf(quantised[i], sizeof quantised[i], "%s-%u.gguf", in, i);
            if (i < 2) {
                snprintf(matrix[i], sizeof matrix[i], "%s-%u.imatrix", in, i);
                measure(i == 0 ? in : out, matrix[i]);
            }
            mlxr_quantize_options o = {.type = "Q4_1", .imatrix = i < 4 ? matrix[i % 2] : NULL, .n_threads = 1};
            assert_ok(mlxr_quantize(i < 2 ? in : out, quantised[i], &o, &reports[i], &error), &error);
            assert_ok(model_file_open(&files[i], quantised[i], &error), &error);
            assert_int_equal(reports[i].n_weighted, i < 4 ? reports[0].n_weighted : 0);
        }
        uint32_t n_changed = 0;
        for (uint64_t k = 0; k < files[0]->n_tensors; k++) {
            const tensor *t = &files[0]->tensors[k];
            for (uint32_t i = 1; i < 4; i++) {
                assert_memory_equal(t->data, model_file_tensor(files[i], t->name)->data, t->n_bytes);
            }
            bool changed = memcmp(t->data, model_file_tensor(files[4], t->name)->data, t->n_bytes) != 0;
            n_changed += changed && strstr(t->name, "_exps.weight");
        }
        assert_int_equal(n_changed, f == 0 ? 8 : 12); /* Qwen's rows of 48 are not whole blocks of 32 */
        for (uint32_t i = 0; i < 5; i++) {
            model_file_close(&files[i]);
        }
    }
}

/* Other programs look for these. */
static void importance_of_a_folder_has_the_names_of_its_file(void **state)
{
    static const char *const families[] = {"qwen3moe", "gpt-oss", "granitemoe"};
    (void)state;
    for (size_t f = 0; f < 3; f++) {
        char in[512], out[528], matrix[2][544];
        mlxr_error error;
        model_file *files[2] = {0};
        write_both(families[f], in, out);
        for (uint32_t i = 0; i < 2; i++) {
            snprintf(matrix[i], sizeof matrix[i], "%s-%u.imatrix", in, i);
            measure(i == 0 ? in : out, matrix[i]);
            assert_ok(model_file_open(&files[i], matrix[i], &error), &error);
        }
        assert_int_equal(files[0]->n_tensors, files[1]->n_tensors);
        for (uint64_t k = 0; k < files[0]->n_tensors; k++) {
            const tensor *t = &files[0]->tensors[k], *other = model_file_tensor(files[1], t->name);
            assert_non_null(other);
            assert_memory_equal(t->shape, other->shape, sizeof t->shape);
        }
        model_file_close(&files[0]);
        model_file_close(&files[1]);
    }
}

/* Writes config.json anew with another number of experts. */
static void say_experts(const char *folder, char digit)
{
    static const char key[] = "\"num_local_experts\": ";
    char path[600], text[8192] = {0};
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    char *at = strstr(text, key);
    assert_non_null(at);
    at[sizeof key - 1] = digit;
    rewind(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

static void experts_too_few_or_too_many_are_named(void **state)
{
    char in[512], out[528];
    mlxr_error error;
    const mlxr_quantize_options o = {.n_threads = 1};
    (void)state;
    write_both("qwen3moe", in, out);
    assert_int_equal(remove(out), 0);
    say_experts(in, '8');
    assert_int_equal(mlxr_quantize(in, out, &o, NULL, &error), MLXR_FORMAT);
    assert_string_equal(error.text, "tensor 'blk.0.ffn_down.7.weight' is missing: the model has 8 experts");
    say_experts(in, '6');
    assert_int_equal(mlxr_quantize(in, out, &o, NULL, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "tensor 'blk.0.ffn_down.6.weight' cannot be: the model has 6 experts"));
    assert_int_not_equal(remove(out), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_of_a_layer_become_one_tensor),
        cmocka_unit_test(biases_of_gate_and_up_come_apart_too),
        cmocka_unit_test(metadata_says_what_the_experts_are),
        cmocka_unit_test(a_file_with_a_tensor_an_expert_is_stacked_too),
        cmocka_unit_test(importance_measured_on_the_folder_weighs_each_expert),
        cmocka_unit_test(importance_of_a_folder_has_the_names_of_its_file),
        cmocka_unit_test(experts_too_few_or_too_many_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
