/*
 * A client asks for a blob it will not bring, and the disk fails: it is told of the disk, never that the blob is not
 * there, and afterwards the blob is found.
 * Owner: the test program. Lifetime: the process.
 */
#include <string.h>

#include "registry/inside.h"
#include "support/fault_io.h"
#include "support/test.h"

static void a_disk_that_fails_is_no_absence(void **state)
{
    static const fault_mode modes[] = {FAULT_ENOSPC, FAULT_EIO, FAULT_SHORT};
    const registry_options options = {.no_foreign = true, .lock_timeout_ms = 2000};
    char store[600], digest[REGISTRY_DIGEST_MAX];
    registry *r = NULL;
    registry_blob *blob = NULL;
    mlxr_error error = {0};
    (void)state;
    snprintf(store, sizeof store, "%.500s/store", test_temp_dir());
    assert_ok(registry_open(&r, store, &options, &error), &error);
    assert_ok(registry_blob_begin(&blob, r, NULL, 5, &error), &error);
    assert_ok(registry_blob_write(blob, "hello", 5, &error), &error);
    assert_ok(registry_blob_commit(&blob, digest, &error), &error);
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        uint64_t n = 1, n_failed = 0;
        for (bool failed = true; failed; n++) {
            bool there = false;
            uint64_t n_bytes = 0;
            error = (mlxr_error){0};
            fault_at(n, modes[m]);
            mlxr_status status = registry_blob_renew(r, digest, &there, &n_bytes, &error);
            failed = fault_stop();
            if (status == MLXR_OK) {
                assert_true(there && n_bytes == 5);
            } else {
                n_failed++;
                assert_true(failed && status == MLXR_IO && !there);
                bool of_disk = strstr(error.text, "disk") || strstr(error.text, "No space");
                assert_true(of_disk || modes[m] != FAULT_ENOSPC);
            }
            assert_ok(registry_blob_renew(r, digest, &there, &n_bytes, &error), &error);
            assert_true(there && n_bytes == 5);
        }
        assert_true(n_failed > 2);
    }
    bool there = true;
    digest[10] = digest[10] == '0' ? '1' : '0';
    assert_ok(registry_blob_renew(r, digest, &there, NULL, &error), &error);
    assert_false(there);
    registry_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_that_fails_is_no_absence),
    };
    fault_set_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
