/*
 * Importance matrices: both formats read, and the errors that broken files give.
 * Owner: the test program. Lifetime: the process.
 */
#include "convert/importance.h"

#include <math.h>

#include "../loaders/byte_script.h"
#include "loaders/readers.h"
#include "support/test.h"

/* Two entries of the older format: 2 values of 4 calls, 1 of 2; then 7 chunks and a text. */
#define LEGACY "4:2 4:1 =a 4:4 4:2 4:0x40800000 4:0x41000000 4:2 =bc 4:2 4:1 4:0x3f800000"

static const struct {
    const char *script, *error;
} legacy_errors[] = {
    {"", "x: it ends at byte 0, before the number of entries"},
    {"2:1", "x: it ends at byte 2, before the number of entries"},
    {"4:0", "x: an importance matrix without entries"},
    {"4:0 0*100", "x: an importance matrix without entries"},
    {"4:1", "x: byte 0: the number of entries is 1; 0 to 0 are possible"},
    {"4:0xffffffff 0*64", "x: byte 0: the number of entries is -1; 0 to 4 are possible"},
    {"4:0x7fffffff 0*64", "x: byte 0: the number of entries is 2147483647; 0 to 4 are possible"},
    {"4:1 4:0 0*16", "x: byte 8: a name that is none"},
    {"4:1 4:256 0*16", "x: byte 4: the length of a name is 256; 0 to 255 are possible"},
    {"4:1 4:0xffffffff 0*16", "x: byte 4: the length of a name is -1; 0 to 255 are possible"},
    {"4:1 4:0x80000000 0*16", "x: byte 4: the length of a name is -2147483648; 0 to 255 are possible"},
    {"4:1 4:200 0*16", "x: it ends at byte 24, in a name of 200 bytes"},
    {"4:1 4:17 0*16", "x: it ends at byte 24, in a name of 17 bytes"},
    {"4:1 4:16 =abcdefghijklmnop", "x: it ends at byte 24, before a number of calls"},
    {"4:1 4:14 =abcdefghijklmn 2:0", "x: it ends at byte 24, before a number of calls"},
    {"4:1 4:2 x:6100 0*16", "x: byte 8: a name that is none"},
    {"4:1 4:1 x:00 0*16", "x: byte 8: a name that is none"},
    {"4:1 4:8 =abcdefgh 4:1", "x: it ends at byte 20, before a number of values"},
    {"4:1 4:8 =abcdefgh 4:1 2:1", "x: it ends at byte 22, before a number of values"},
    {"4:1 4:8 =abcdefgh 4:1 4:0", "x: importance of 'abcdefgh': 0 values, 0 bytes are left"},
    {"4:1 4:8 =abcdefgh 4:1 4:1", "x: importance of 'abcdefgh': 1 values, 0 bytes are left"},
    {"4:1 4:8 =abcdefgh 4:1 4:1 2:0", "x: importance of 'abcdefgh': 1 values, 2 bytes are left"},
    {"4:1 4:1 =a 4:1 4:2 4:0", "x: importance of 'a': 2 values, 4 bytes are left"},
    {"4:1 4:1 =a 4:1 4:3 4:0", "x: importance of 'a': 3 values, 4 bytes are left"},
    {"4:1 4:1 =a 4:1 4:0xffffffff 4:0", "x: byte 13: a number of values is -1; 0 to 2147483647 are possible"},
    {"4:1 4:1 =a 4:0xffffffff 4:1 4:0", "x: byte 9: a number of calls is -1; 0 to 2147483647 are possible"},
    {"4:1 4:1 =a 4:0x80000000 4:1 4:0", "x: byte 9: a number of calls is -2147483648; 0 to 2147483647 are possible"},
    {"4:1 4:1 =a 4:1 4:1 4:0x7fc00000", "x: importance of 'a': value 0 is no number of 0 and more"},
    {"4:1 4:1 =a 4:1 4:1 4:0x7f800000", "x: importance of 'a': value 0 is no number of 0 and more"},
    {"4:1 4:1 =a 4:1 4:1 4:0xff800000", "x: importance of 'a': value 0 is no number of 0 and more"},
    {"4:1 4:1 =a 4:1 4:1 4:0xbf800000", "x: importance of 'a': value 0 is no number of 0 and more"},
    {"4:1 4:1 =a 4:1 4:2 4:0 4:0xbf800000", "x: importance of 'a': value 1 is no number of 0 and more"},
    {"4:2 4:1 =a 4:1 4:1 4:0 0*11", "x: byte 25: a name that is none"},
    {"4:2 4:1 =a 4:1 4:1 4:0 4:1 =a 4:1 4:1 4:0", "metadata"},
    {LEGACY " 2:1", "x: it ends at byte 45, before the number of chunks"},
    {LEGACY " 4:0xffffffff", "x: byte 43: the number of chunks is -1; 0 to 2147483647 are possible"},
    {LEGACY " 4:7 2:1", "x: it ends at byte 49, before the length of the text's name"},
    {LEGACY " 4:7 4:1", "x: byte 47: the length of the text's name is 1; 0 to 0 are possible"},
    {LEGACY " 4:7 4:0xffffffff", "x: byte 47: the length of the text's name is -1; 0 to 0 are possible"},
    {LEGACY " 4:7 4:3 =ab", "x: byte 47: the length of the text's name is 3; 0 to 2 are possible"},
    {LEGACY " 4:7 4:1 =ab", "x: 1 bytes behind its end"},
    {LEGACY " 4:7 4:0 =ab", "x: 2 bytes behind its end"},
    {LEGACY " 1:0", "x: it ends at byte 44, before the number of chunks"},
    {LEGACY " 4:0x80000000 4:0", "the number of chunks is -2147483648"},
    {LEGACY " 4:7 4:5 =abcdef", "x: 1 bytes behind its end"},
    {"4:1 4:1 =a 4:1 4:1 4:0xff7fffff", "x: importance of 'a': value 0 is no number of 0 and more"},
    {"4:1 4:1 =a 4:1 4:3 4:0 4:0 4:0x7fc00000", "x: importance of 'a': value 2 is no number of 0 and more"},
    {"4:2 4:1 =a 4:1 4:1 4:0 4:1 =b 4:1 4:2 4:0", "x: importance of 'b': 2 values, 4 bytes are left"},
    {"4:2 4:1 =a 4:1 4:1 4:0 4:1 =b 4:1 4:0 4:0", "x: importance of 'b': 0 values, 4 bytes are left"},
    {"4:3 4:1 =a 4:1 4:1 4:0 4:1 =b 4:1 4:1 4:0 4:0 0*7", "x: byte 42: a name that is none"},
    {"4:0x10000000 0*64", "the number of entries is 268435456; 0 to 4 are possible"},
};

#define GGUF(n_tensors, n_meta) "=GGUF 4:3 8:" #n_tensors " 8:" #n_meta " "
#define SUMS "'a.in_sum2 4:2 8:2 8:1 4:0 8:0 "
#define COUNTS "'a.counts 4:2 8:1 8:1 4:0 8:32 "
#define DATA "|32 4:0x40800000 4:0x41000000 |32 4:0x40000000 |32"

static const struct {
    const char *script, *error;
} gguf_errors[] = {
    {GGUF(0, 0), "x: no tensor '*.in_sum2': this is no importance matrix"},
    {GGUF(1, 0) "'a.counts 4:1 8:1 4:0 8:0 |32 4:0", "x: no tensor '*.in_sum2': this is no importance matrix"},
    {GGUF(1, 0) SUMS "|32 8:0", "x: tensor 'a.in_sum2' needs a tensor 'a.counts' of 1 numbers beside it, both F32"},
    {GGUF(2, 0) SUMS "'b.counts 4:1 8:1 4:0 8:32 " DATA,
     "x: tensor 'a.in_sum2' needs a tensor 'a.counts' of 1 numbers beside it, both F32"},
    {GGUF(2, 0) SUMS "'a.counts 4:1 8:2 4:0 8:32 " DATA,
     "x: tensor 'a.in_sum2' needs a tensor 'a.counts' of 1 numbers beside it, both F32"},
    {GGUF(2, 0) SUMS "'a.counts 4:1 8:2 4:1 8:32 " DATA,
     "x: tensor 'a.in_sum2' needs a tensor 'a.counts' of 1 numbers beside it, both F32"},
    {GGUF(2, 0) "'a.in_sum2 4:2 8:4 8:1 4:1 8:0 " COUNTS DATA,
     "x: tensor 'a.in_sum2' needs a tensor 'a.counts' of 1 numbers beside it, both F32"},
    {GGUF(2, 0) "'a.in_sum2 4:2 8:1 8:2 4:0 8:0 " COUNTS DATA,
     "x: tensor 'a.in_sum2' needs a tensor 'a.counts' of 2 numbers beside it, both F32"},
    {GGUF(2, 0) "'.in_sum2 4:2 8:2 8:1 4:0 8:0 '.counts 4:2 8:1 8:1 4:0 8:32 " DATA,
     "x: tensor '.in_sum2' names nothing"},
    {GGUF(2, 0) SUMS COUNTS "|32 4:0x7fc00000 4:0 |32 4:0x40000000 |32",
     "x: importance of 'a': value 0 is no number of 0 and more"},
    {GGUF(2, 0) SUMS COUNTS "|32 4:0 4:0xbf800000 |32 4:0x40000000 |32",
     "x: importance of 'a': value 1 is no number of 0 and more"},
    {GGUF(2, 0) SUMS COUNTS "|32 4:0 4:0 |32 4:0xc0000000 |32",
     "x: importance of 'a': value 0 is no number of 0 and more"},
    {GGUF(2, 0) SUMS COUNTS "|32 4:0 4:0 |32 4:0x7f800000 |32",
     "x: importance of 'a': value 0 is no number of 0 and more"},
    {GGUF(2, 1) "'imatrix.chunk_count 4:8 'x " SUMS COUNTS DATA, "imatrix.chunk_count"},
};

static void broken_files_of_the_older_format_are_refused(void **state)
{
    (void)state;
    assert_true(sizeof legacy_errors / sizeof *legacy_errors >= 50);
    for (size_t i = 0; i < sizeof legacy_errors / sizeof *legacy_errors; i++) {
        importance imp;
        mlxr_error error = {0};
        size_t n;
        uint8_t *bytes = byte_script(legacy_errors[i].script, &n);
        mlxr_status status = importance_read_legacy(&imp, bytes, n, "x", &error);
        if (status == MLXR_OK ||
            !strstr(error.text, strcmp(legacy_errors[i].error, "metadata") ? legacy_errors[i].error : "'a'")) {
            fail_msg("%s: '%s' instead of '%s'", legacy_errors[i].script, error.text, legacy_errors[i].error);
        }
        assert_null(imp.entries);
        free(bytes);
    }
}

static void broken_gguf_files_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof gguf_errors / sizeof *gguf_errors; i++) {
        importance imp;
        model_file *file = NULL;
        mlxr_error error = {0};
        size_t n;
        uint8_t *bytes = byte_script(gguf_errors[i].script, &n);
        assert_ok(gguf_open_memory(&file, bytes, n, &error), &error);
        mlxr_status status = importance_read_gguf(&imp, file, "x", &error);
        if (status == MLXR_OK || !strstr(error.text, gguf_errors[i].error)) {
            fail_msg("%s: '%s' instead of '%s'", gguf_errors[i].script, error.text, gguf_errors[i].error);
        }
        model_file_close(&file);
        free(bytes);
    }
}

/* Sums and counts of every small shape and some types: read where they fit each other, else the sums name themselves.
 */
static void sums_and_counts_that_do_not_fit_are_named(void **state)
{
    static const unsigned types[] = {0, 1, 30, 24}; /* F32, F16, BF16, I8 */
    size_t n_refused = 0, n_taken = 0;
    (void)state;
    for (unsigned n_in = 1; n_in <= 2; n_in++) {
        for (unsigned n_matrices = 1; n_matrices <= 3; n_matrices++) {
            for (unsigned n_counts = 1; n_counts <= 3; n_counts++) {
                for (unsigned t = 0; t < 16; t++) {
                    char script[512];
                    importance imp;
                    model_file *file = NULL;
                    mlxr_error error = {0};
                    size_t n;
                    snprintf(script, sizeof script,
                             GGUF(2, 0) "'a.in_sum2 4:2 8:%u 8:%u 4:%u 8:0 'a.counts 4:2 8:1 8:%u 4:%u 8:32 |32 0*64",
                             n_in, n_matrices, types[t % 4], n_counts, types[t / 4]);
                    uint8_t *bytes = byte_script(script, &n);
                    if (gguf_open_memory(&file, bytes, n, &error) == MLXR_OK) {
                        bool fits = t == 0 && n_counts == n_matrices;
                        bool taken = importance_read_gguf(&imp, file, "x", &error) == MLXR_OK;
                        assert_int_equal(taken, fits);
                        assert_true(taken || strstr(error.text, "tensor 'a.in_sum2' needs a tensor 'a.counts' of "));
                        importance_close(&imp);
                        n_taken += taken;
                        n_refused += !taken;
                    }
                    model_file_close(&file);
                    free(bytes);
                }
            }
        }
    }
    assert_true(n_taken == 6 && n_refused >= 50);
}

static void other_metadata_of_an_imatrix_is_read_or_refused(void **state)
{
    static const struct {
        const char *script;
        bool taken;
    } cases[] = {{GGUF(2, 1) "'imatrix.datasets 4:8 'x " SUMS COUNTS DATA, true},
                 {GGUF(2, 1) "'imatrix.datasets 4:9 4:4 8:1 4:0 " SUMS COUNTS DATA, true},
                 {GGUF(2, 1) "'imatrix.datasets 4:9 4:8 8:0 " SUMS COUNTS DATA, true},
                 {GGUF(2, 1) "'imatrix.chunk_count 4:5 4:0xffffffff " SUMS COUNTS DATA, false},
                 {GGUF(2, 1) "'imatrix.chunk_count 4:10 8:0x100000000 " SUMS COUNTS DATA, false}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        importance imp;
        model_file *file = NULL;
        mlxr_error error = {0};
        size_t n;
        uint8_t *bytes = byte_script(cases[i].script, &n);
        assert_ok(gguf_open_memory(&file, bytes, n, &error), &error);
        assert_int_equal(importance_read_gguf(&imp, file, "x", &error) == MLXR_OK, cases[i].taken);
        importance_close(&imp);
        model_file_close(&file);
        free(bytes);
    }
}

/* Every beginning of a good file is an error or, where the trailer begins, a good file. */
static void no_beginning_of_a_file_is_read_past_its_end(void **state)
{
    size_t n;
    uint8_t *bytes = byte_script(LEGACY " 4:7 4:3 =abc", &n);
    (void)state;
    for (size_t k = 0; k <= n; k++) {
        importance imp;
        uint8_t *part = malloc(k ? k : 1);
        memcpy(part, bytes, k);
        bool ok = importance_read_legacy(&imp, part, k, "x", NULL) == MLXR_OK;
        assert_int_equal(ok, k == 43 || k == 47 || k == n);
        importance_close(&imp);
        free(part);
    }
    free(bytes);
}

static void sums_become_means(void **state)
{
    importance imp;
    mlxr_error error = {0};
    size_t n;
    uint8_t *bytes = byte_script(LEGACY " 4:7 4:3 =txt", &n);
    (void)state;
    assert_ok(importance_read_legacy(&imp, bytes, n, "x", &error), &error);
    const importance_entry *a = importance_find(&imp, "a");
    assert_int_equal(imp.n, 2);
    assert_int_equal(imp.n_chunks, 7);
    assert_string_equal(imp.dataset, "txt");
    assert_int_equal(a->n, 2);
    assert_true(a->values[0] == 1.0f && a->values[1] == 2.0f);
    assert_true(importance_find(&imp, "bc")->values[0] == 0.5f);
    assert_null(importance_find(&imp, "b"));
    importance_close(&imp);
    free(bytes);
}

static void gguf_has_means_for_each_matrix(void **state)
{
    importance imp;
    model_file *file = NULL;
    mlxr_error error = {0};
    size_t n;
    /* two experts, the second of which no token met */
    uint8_t *bytes = byte_script(GGUF(2, 2) "'imatrix.chunk_count 4:4 4:9 'imatrix.datasets 4:9 4:8 8:2 'one 'two "
                                            "'a.in_sum2 4:2 8:2 8:2 4:0 8:0 'a.counts 4:2 8:1 8:2 4:0 8:32 "
                                            "|32 4:0x40800000 4:0x41000000 8:0 |32 4:0x40000000 4:0 |32",
                                 &n);
    (void)state;
    assert_ok(gguf_open_memory(&file, bytes, n, &error), &error);
    assert_ok(importance_read_gguf(&imp, file, "x", &error), &error);
    const importance_entry *a = importance_find(&imp, "a");
    assert_int_equal(imp.n_chunks, 9);
    assert_string_equal(imp.dataset, "two");
    assert_int_equal(a->n, 4);
    assert_int_equal(a->n_matrices, 2);
    assert_true(a->values[0] == 2.0f && a->values[1] == 4.0f && a->values[2] == 1.0f && a->values[3] == 1.0f);
    importance_close(&imp);
    model_file_close(&file);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_files_of_the_older_format_are_refused),
        cmocka_unit_test(broken_gguf_files_are_refused),
        cmocka_unit_test(sums_and_counts_that_do_not_fit_are_named),
        cmocka_unit_test(other_metadata_of_an_imatrix_is_read_or_refused),
        cmocka_unit_test(no_beginning_of_a_file_is_read_past_its_end),
        cmocka_unit_test(sums_become_means),
        cmocka_unit_test(gguf_has_means_for_each_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
