/*
 * Importance matrices read while memory runs out: each failing allocation is told, and nothing stays.
 * Owner: the test program. Lifetime: the process.
 */
#include "../loaders/byte_script.h"
#include "convert/importance.h"
#include "support/fail_alloc.h"
#include "support/test.h"

#define LEGACY "4:2 4:1 =a 4:4 4:2 4:0x40800000 4:0x41000000 4:2 =bc 4:2 4:1 4:0x3f800000 4:7 4:3 =txt"
#define GGUF                                                                                                           \
    "=GGUF 4:3 8:2 8:2 'imatrix.chunk_count 4:4 4:9 'imatrix.datasets 4:9 4:8 8:2 'one 'two "                          \
    "'a.in_sum2 4:2 8:2 8:2 4:0 8:0 'a.counts 4:2 8:1 8:2 4:0 8:32 |32 4:0x40800000 4:0x41000000 8:0 |32 "             \
    "4:0x40000000 4:0 |32"

/* What does not fit a region's block has an allocation of its own. */
#define LEGACY_LARGE "4:2 4:1 =a 4:4 4:70000 0*280000 4:1 =b 4:4 4:70000 0*280000 4:7 4:99999 0*99999"
#define GGUF_LARGE                                                                                                     \
    "=GGUF 4:3 8:2 8:0 'a.in_sum2 4:2 8:1 8:70000 4:0 8:0 'a.counts 4:2 8:1 8:70000 4:0 8:280000 |32 0*560000"

static void each_failing_allocation_is_told(void **state)
{
    static const char *const scripts[] = {LEGACY, GGUF, LEGACY_LARGE, GGUF_LARGE};
    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        size_t n_bytes;
        uint8_t *bytes = byte_script(scripts[i], &n_bytes);
        char path[600];
        snprintf(path, sizeof path, "%.500s", test_write_file("imatrix", bytes, n_bytes));
        for (long n = 1;; n++) {
            importance imp = {0};
            mlxr_error error = {0};
            fail_alloc_at(n);
            mlxr_status status = importance_open(&imp, path, &error);
            if (!fail_alloc_stop()) {
                assert_ok(status, &error);
                assert_true(n > 1);
                importance_close(&imp);
                break;
            }
            assert_int_equal(status, MLXR_NOMEM);
            assert_null(imp.entries);
        }
        free(bytes);
    }
}

static void a_path_that_is_no_file_is_told(void **state)
{
    importance imp = {0};
    mlxr_error error = {0};
    (void)state;
    assert_int_equal(importance_open(&imp, "/nowhere/imatrix", &error), MLXR_IO);
    assert_null(importance_find(&imp, "a"));
    assert_int_equal(importance_open(&imp, test_write_file("broken", "GGUF", 4), &error), MLXR_FORMAT);
    assert_int_equal(importance_open(&imp, test_write_file("short", "GGU", 3), &error), MLXR_FORMAT);
    assert_int_equal(importance_open(&imp, test_write_file("other", "abcdefgh", 8), &error), MLXR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failing_allocation_is_told),
        cmocka_unit_test(a_path_that_is_no_file_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
