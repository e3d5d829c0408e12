/*
 * The logger without memory: opening says so, writing counts the line that it cannot make.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/fail_alloc.h"
#include "support/test.h"
#include "telemetry/logger.h"

static logger_options to_file(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/alloc.log", test_temp_dir());
    return (logger_options){.path = path};
}

static void opening_says_that_there_is_no_memory(void **unused)
{
    (void)unused;
    const logger_options o = to_file();
    for (long n = 1;; n++) {
        logger *l = NULL;
        mlxr_error error = {0};
        fail_alloc_at(n);
        mlxr_status status = logger_open(&l, &o, &error);
        if (!fail_alloc_stop()) {
            assert_ok(status, &error);
            logger_close(&l);
            assert_true(n > 3);
            break;
        }
        assert_int_equal(status, MLXR_NOMEM);
        assert_null(l);
        assert_true(error.text[0] != '\0');
    }
}

static void a_line_without_memory_is_counted_as_dropped(void **unused)
{
    (void)unused;
    logger *l = NULL;
    mlxr_error error;
    const logger_options o = to_file();
    assert_ok(logger_open(&l, &o, &error), &error);
    const log_field fields[] = {log_text("long",
                                         "a text that makes the line grow beyond what it begins with, which "
                                         "takes a second allocation, and with this much text a third one, as "
                                         "each doubles what there was, and there were 256 bytes to begin with")};
    uint64_t n_dropped = 0;
    for (long n = 1;; n++) {
        fail_alloc_at(n);
        logger_write(l, MLXR_LOG_INFO, "test", fields, 1, "n = %ld", n);
        bool failed = fail_alloc_stop();
        if (!failed) {
            assert_true(n > 2);
            break;
        }
        n_dropped++;
        assert_true(logger_stats_get(l).n_dropped >= n_dropped);
        assert_true(logger_flush(l, 5000));
    }
    fail_alloc_at(1);
    assert_int_equal(logger_secret_add(l, "a secret", &error), MLXR_NOMEM);
    assert_true(fail_alloc_stop());
    logger_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_says_that_there_is_no_memory),
        cmocka_unit_test(a_line_without_memory_is_counted_as_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
