/*
 * Typed reads of metadata, and the index of names.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "byte_script.h"
#include "loaders/readers.h"
#include "support/test.h"

static const char script[] =
    "=GGUF 4:3 8:0 8:20 'u8 4:0 1:200 'i8 4:1 1:0xfe 'u16 4:2 2:60000 'i16 4:3 2:7 'u32 4:4 4:4294967295 'i32 4:5 "
    "4:0xfffffffc "
    "'f32 4:6 4:0x3fc00000 'bool 4:7 1:1 'text 4:8 'word 'u64 4:10 8:0x100000000 'i64 4:11 8:9 'f64 4:12 "
    "8:0x3ff8000000000000 "
    "'words 4:9 4:8 8:1 'one 'huge 4:12 8:0x7fe0000000000000 'nan 4:6 4:0x7fc00000 'no 4:7 1:0 'inf 4:12 "
    "8:0x7ff0000000000000 "
    "'numbers 4:9 4:4 8:2 4:5 4:6 'negative 4:11 8:0xffffffffffffffff 'tenth 4:12 8:0x3fb999999999999a";

static uint8_t *bytes;
static model_file *file;

static int set_up(void **state)
{
    size_t n;
    mlxr_error error = {0};
    (void)state;
    bytes = byte_script(script, &n);
    return gguf_open_memory(&file, bytes, n, &error) == MLXR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    model_file_close(&file);
    free(bytes);
    return 0;
}

static void whole_numbers_are_read_from_any_integer_type(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t value;
    } cases[] = {{"u8", 200}, {"u16", 60000}, {"i16", 7}, {"u32", UINT32_MAX}, {"i64", 9}, {"absent", 42}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t value = 42;
        mlxr_error error = {0};
        assert_ok(model_file_u32(file, cases[i].key, &value, &error), &error);
        assert_int_equal(value, cases[i].value);
    }
}

static void what_is_no_such_number_is_named_with_what_was_found(void **state)
{
    (void)state;
    static const struct {
        const char *key, *error;
    } cases[] = {
        {"i8", "metadata 'i8' is -2; expected a whole number from 0 to 4294967295"},
        {"u64", "metadata 'u64' is 4294967296; expected a whole number"},
        {"f32", "metadata 'f32' is 1.5 (float32)"},
        {"f64", "metadata 'f64' is 1.5 (float64)"},
        {"bool", "metadata 'bool' is true"},
        {"no", "metadata 'no' is false"},
        {"text", "metadata 'text' is a string of 4 bytes"},
        {"words", "metadata 'words' is an array of 1 string"},
        {"numbers", "metadata 'numbers' is an array of 2 uint32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t value = 42;
        mlxr_error error = {0};
        assert_int_equal(model_file_u32(file, cases[i].key, &value, &error), MLXR_FORMAT);
        assert_int_equal(value, 42);
        if (!strstr(error.text, cases[i].error)) {
            fail_msg("%s: %s", cases[i].key, error.text);
        }
    }
}

static void numbers_are_read_as_floats_if_they_fit(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        float value;
    } cases[] = {{"f32", 1.5f},   {"f64", 1.5f},    {"u8", 200},       {"i8", -2},    {"i64", 9},
                 {"tenth", 0.1f}, {"u64", 0x1p32f}, {"inf", INFINITY}, {"absent", 42}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float value = 42;
        mlxr_error error = {0};
        assert_ok(model_file_f32(file, cases[i].key, &value, &error), &error);
        assert_true(value == cases[i].value);
    }
    float value = 0;
    mlxr_error error = {0};
    assert_ok(model_file_f32(file, "nan", &value, &error), &error);
    assert_true(isnan(value));
    assert_int_equal(model_file_f32(file, "huge", &value, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "expected a number that fits a float32"));
    assert_int_equal(model_file_f32(file, "text", &value, &error), MLXR_FORMAT);
    assert_int_equal(model_file_f32(file, "bool", &value, &error), MLXR_FORMAT);
    assert_int_equal(model_file_f32(file, "numbers", &value, &error), MLXR_FORMAT);
}

static void bools_and_texts_are_only_themselves(void **state)
{
    (void)state;
    bool yes = false;
    text_view text = {"before", 6};
    mlxr_error error = {0};
    assert_ok(model_file_bool(file, "bool", &yes, &error), &error);
    assert_true(yes);
    assert_ok(model_file_bool(file, "no", &yes, &error), &error);
    assert_false(yes);
    assert_ok(model_file_bool(file, "absent", &yes, &error), &error);
    assert_int_equal(model_file_bool(file, "u8", &yes, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "metadata 'u8' is 200; expected true or false"));
    assert_ok(model_file_text(file, "absent", &text, &error), &error);
    assert_int_equal(text.n, 6);
    assert_ok(model_file_text(file, "text", &text, &error), &error);
    assert_memory_equal(text.data, "word", 4);
    static const char *const others[] = {"u8",  "i8",   "u16", "i16", "u32", "i32",
                                         "f32", "bool", "u64", "i64", "f64", "words"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(model_file_text(file, others[i], &text, &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, "; expected a string"));
    }
}

static void array_elements_of_every_type_are_numbers(void **state)
{
    (void)state;
    const uint8_t ff[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0};
    const uint8_t half[8] = {0, 0, 0, 0, 0, 0, 0xe0, 0x3f}, single[4] = {0, 0, 0, 0x3f}, yes = 1;
    static const struct {
        meta_type type;
        double value;
    } cases[] = {{META_U8, 255},
                 {META_I8, -1},
                 {META_U16, 65535},
                 {META_I16, -1},
                 {META_U32, 4294967295.0},
                 {META_I32, -1},
                 {META_U64, 18446744073709551615.0},
                 {META_I64, -1},
                 {META_STRING, 0},
                 {META_ARRAY, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        meta_array array = {.type = cases[i].type, .n = 1, .data = ff};
        assert_true(meta_array_number(&array, 0) == cases[i].value);
    }
    assert_true(meta_array_number(&(meta_array){.type = META_U64, .n = 2, .data = ff}, 1) == 1);
    assert_true(meta_array_number(&(meta_array){.type = META_F64, .n = 1, .data = half}, 0) == 0.5);
    assert_true(meta_array_number(&(meta_array){.type = META_F32, .n = 1, .data = single}, 0) == 0.5);
    assert_true(meta_array_number(&(meta_array){.type = META_BOOL, .n = 1, .data = &yes}, 0) == 1);
}

static void an_index_finds_every_name_and_nothing_else(void **state)
{
    (void)state;
    enum { N = 5000 };
    region memory = {0};
    mlxr_error error = {0};
    name_index index = {0};
    char(*names)[16] = malloc(N * sizeof *names);
    const char **rows = malloc(N * sizeof *rows);
    assert_true(name_index_find(&index, "anything") == NAME_INDEX_NONE);
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "blk.%d.w", i);
        rows[i] = names[i];
    }
    assert_ok(name_index_open(&index, &memory, rows, sizeof *rows, N, "row", &error), &error);
    for (int i = 0; i < N; i++) {
        assert_int_equal(name_index_find(&index, names[i]), i);
    }
    assert_true(name_index_find(&index, "blk.5000.w") == NAME_INDEX_NONE);
    assert_true(name_index_find(&index, "") == NAME_INDEX_NONE);
    rows[N - 1] = names[17];
    assert_int_equal(name_index_open(&index, &memory, rows, sizeof *rows, N, "row", &error), MLXR_FORMAT);
    assert_string_equal(error.text, "row 'blk.17.w' appears twice");
    assert_int_equal(name_index_open(&index, &memory, rows, sizeof *rows, 1ull << 31, "row", &error), MLXR_LIMIT);
    region_close(&memory);
    free(names);
    free(rows);
}

/* FNV-1a, so that the test can choose names that fall on one place of a table of 1024. */
static uint64_t hash_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) {
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    }
    return hash ^ hash >> 32;
}

static void names_chosen_to_collide_are_refused(void **state)
{
    (void)state;
    enum { N = 300 };
    region memory = {0};
    mlxr_error error = {0};
    name_index index = {0};
    char(*names)[16] = malloc(N * sizeof *names);
    const char *rows[N];
    for (int found = 0, i = 0; found < N; i++) {
        snprintf(names[found], sizeof names[found], "%d", i);
        rows[found] = names[found];
        found += (hash_of(names[found]) & 1023) == 5;
    }
    assert_int_equal(name_index_open(&index, &memory, rows, sizeof *rows, N, "row", &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "chosen to collide"));
    region_close(&memory);
    free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_are_read_from_any_integer_type),
        cmocka_unit_test(what_is_no_such_number_is_named_with_what_was_found),
        cmocka_unit_test(numbers_are_read_as_floats_if_they_fit),
        cmocka_unit_test(bools_and_texts_are_only_themselves),
        cmocka_unit_test(array_elements_of_every_type_are_numbers),
        cmocka_unit_test(an_index_finds_every_name_and_nothing_else),
        cmocka_unit_test(names_chosen_to_collide_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
