/*
 * Tests of core/base with each allocation failing in turn: an error, nothing leaked, nothing changed.
 * Owner: the test program. Lifetime: the process.
 */
#include <stdatomic.h>

#include "base/buffer.h"
#include "base/mapping.h"
#include "base/region.h"
#include "base/team.h"
#include "support/fail_alloc.h"
#include "support/test.h"

static void a_region_without_memory_returns_null_and_stays_usable(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        region r = {0};
        char *first = region_strndup(&r, "first", 5);
        size_t used = r.bytes_used;
        fail_alloc_at(n);
        void *second = region_alloc(&r, 100000);
        void *third = second ? region_array(&r, 100000, 3) : NULL;
        bool failed = fail_alloc_stop();
        assert_true(failed == (second == NULL || third == NULL));
        if (!second) {
            assert_int_equal(r.bytes_used, used);
        }
        assert_non_null(region_alloc(&r, 10));
        assert_string_equal(first, "first");
        region_close(&r);
        if (!failed) {
            assert_true(n > 2);
            break;
        }
    }
}

static void a_buffer_without_memory_fails_and_keeps_its_bytes(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        buffer b = buffer_make(1 << 20);
        fail_alloc_at(n);
        size_t written = 0;
        while (written < 1000 && buffer_append(&b, "0123456789", 10)) {
            written += 10;
        }
        bool failed = fail_alloc_stop();
        assert_true(b.failed == failed);
        assert_int_equal(b.n, written);
        if (b.data) {
            assert_int_equal(strlen(b.data), written);
        }
        buffer_close(&b);
        if (!failed) {
            break;
        }
    }
    buffer b = buffer_make(100);
    fail_alloc_at(1);
    assert_null(buffer_take(&b));
    assert_true(fail_alloc_stop());
}

static void touch(void *context, const team_member *member)
{
    (void)member;
    atomic_fetch_add((atomic_uint *)context, 1);
}

static void a_team_that_cannot_be_made_leaves_no_thread(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        team *t = NULL;
        mlxr_error error = {0};
        fail_alloc_at(n);
        mlxr_status status = team_open(&t, 4, &error);
        if (!fail_alloc_stop()) {
            assert_ok(status, &error);
            atomic_uint count = 0;
            team_run(t, touch, &count);
            assert_int_equal(count, 4);
            team_close(&t);
            assert_true(n > 2);
            break;
        }
        assert_int_equal(status, MLXR_NOMEM);
        assert_int_equal(error.status, MLXR_NOMEM);
        assert_null(t);
    }
}

static void a_file_that_finds_no_memory_is_an_error(void **state)
{
    (void)state;
    const char *path = test_write_file("file", "0123456789", 10);
    char *data = NULL;
    size_t n = 7;
    mlxr_error error = {0};
    fail_alloc_at(1);
    mlxr_status status = file_read(path, 100, &data, &n, &error);
    assert_true(fail_alloc_stop());
    assert_int_equal(status, MLXR_NOMEM);
    assert_null(data);
    assert_int_equal(n, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_region_without_memory_returns_null_and_stays_usable),
        cmocka_unit_test(a_buffer_without_memory_fails_and_keeps_its_bytes),
        cmocka_unit_test(a_team_that_cannot_be_made_leaves_no_thread),
        cmocka_unit_test(a_file_that_finds_no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
