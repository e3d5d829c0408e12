/*
 * Tensors that are not what their place in the model needs.
 * Owner: the test program. Lifetime: the process.
 */
#include "mlxr.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { FILE_MOST = 8 << 20, F16 = 1 };

typedef struct bytes {
    uint8_t *at;
    size_t n;
} bytes;

static bytes read_tiny(const char *name, const char *path)
{
    tiny_model_write_gguf(tiny_model_find(name), &(tiny_options){0}, path);
    bytes b = {.at = malloc(FILE_MOST)};
    FILE *file = fopen(path, "rb");
    assert_non_null(b.at);
    assert_non_null(file);
    b.n = fread(b.at, 1, FILE_MOST / 2, file);
    assert_int_equal(fclose(file), 0);
    assert_true(b.n < FILE_MOST / 2);
    return b;
}

/* Where a vector's entry in the tensor table says how many dimensions it has; behind it the length, type and offset. */
static uint8_t *entry_of(const bytes *b, const char *name)
{
    uint8_t *at = memmem(b->at, b->n, name, strlen(name));
    assert_non_null(at);
    at += strlen(name);
    uint32_t n_dims;
    memcpy(&n_dims, at, 4);
    assert_int_equal(n_dims, 1);
    return at;
}

/* The same elements as a tensor of more dimensions, the others 1: the header gets 8 bytes longer for each. */
static void give_dimensions(bytes *b, const char *name, uint32_t n_dims)
{
    uint8_t *entry = entry_of(b, name), *behind = entry + 4 + 8;
    size_t more = (size_t)(n_dims - 1) * 8;
    memmove(behind + more, behind, b->n - (size_t)(behind - b->at));
    memcpy(entry, &n_dims, 4);
    for (uint64_t one = 1, i = 0; i < n_dims - 1; i++) {
        memcpy(behind + i * 8, &one, 8);
    }
    b->n += more;
}

static mlxr_status load(const bytes *b, const char *path, mlxr_error *error)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(b->at, 1, b->n, file), b->n);
    assert_int_equal(fclose(file), 0);
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_error opening;
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1}, &opening), &opening);
    mlxr_status status = mlxr_model_load(&model, engine, path, NULL, error);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return status;
}

/* They are read as they lie: 16-bit ones would be read beyond their end. */
static void a_vector_of_other_numbers_is_named_however_many_dimensions_it_has(void **state)
{
    (void)state;
    char path[512];
    mlxr_error error;
    snprintf(path, sizeof path, "%s/llama3.gguf", test_temp_dir());
    bytes b = read_tiny("llama3", path);
    give_dimensions(&b, "rope_freqs.weight", 4); /* with the 8 of the next line: the data stay aligned to 32 */
    give_dimensions(&b, "output_norm.weight", 2);
    assert_ok(load(&b, path, &error), &error);

    uint8_t *type = memmem(b.at, b.n, "rope_freqs.weight", 17);
    assert_non_null(type);
    memcpy(type + 17 + 4 + 4 * 8, &(uint32_t){F16}, 4);
    assert_int_equal(load(&b, path, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "tensor 'rope_freqs.weight' is F16"));
    free(b.at);
}

/* Phi 2's bias of the output was blamed for what stood behind it in the file. */
static void the_tensor_that_is_too_much_is_the_one_that_is_named(void **state)
{
    (void)state;
    char dir[512], path[540];
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    snprintf(dir, sizeof dir, "%s/phi2", test_temp_dir());
    snprintf(path, sizeof path, "%s/config.json", dir);
    family_model_write("phi2", dir);
    family_model_exchange(path, "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3");
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1}, &error), &error);
    assert_int_equal(mlxr_model_load(&model, engine, dir, NULL, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "tensor 'blk.3."));
    assert_non_null(strstr(error.text, "has no place in a phi2 model of 3 layers"));
    mlxr_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tensor_that_is_too_much_is_the_one_that_is_named),
        cmocka_unit_test(a_vector_of_other_numbers_is_named_however_many_dimensions_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
