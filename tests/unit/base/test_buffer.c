/*
 * Tests of core/base/buffer.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/buffer.h"

#include "support/test.h"

static void appended_bytes_come_out_in_order(void **state)
{
    (void)state;
    buffer b = buffer_make(1 << 20);
    assert_true(buffer_append_text(&b, "abc"));
    assert_true(buffer_append(&b, "d\0e", 3));
    assert_true(buffer_append(&b, NULL, 0));
    assert_true(buffer_printf(&b, "%d-%s", 42, "x"));
    assert_int_equal(b.n, 10);
    assert_memory_equal(b.data, "abcd\0e42-x", 11);
    for (int i = 0; i < 10000; i++) {
        assert_true(buffer_printf(&b, "%04d", i));
    }
    assert_int_equal(b.n, 40010);
    assert_memory_equal(b.data + 40006, "9999", 5);
    buffer_close(&b);
    assert_null(b.data);
    assert_int_equal(b.limit, 1 << 20);
}

static void the_limit_is_exact_and_failure_sticks(void **state)
{
    (void)state;
    buffer b = buffer_make(10);
    assert_true(buffer_append(&b, "0123456789", 10));
    assert_false(buffer_append(&b, "x", 1));
    assert_true(b.failed);
    assert_int_equal(b.n, 10);
    assert_string_equal(b.data, "0123456789");
    assert_false(buffer_append(&b, "", 0));
    assert_false(buffer_append_text(&b, ""));
    assert_false(buffer_printf(&b, "%s", ""));
    buffer_clear(&b);
    assert_false(b.failed);
    assert_int_equal(b.n, 0);
    assert_true(buffer_printf(&b, "%s", "0123456789"));
    assert_false(buffer_printf(&b, "%d", 1));
    assert_null(buffer_take(&b));
    assert_null(b.data);
    buffer_close(&b);
}

static void one_append_beyond_the_limit_leaves_what_was_there(void **state)
{
    (void)state;
    buffer b = buffer_make(100);
    buffer_append_text(&b, "kept");
    assert_false(buffer_append(&b, "y", SIZE_MAX));
    assert_false(buffer_append(&b, "y", SIZE_MAX - 4));
    assert_string_equal(b.data, "kept");
    buffer_close(&b);
    b = buffer_make(0);
    assert_true(buffer_append(&b, "", 0));
    assert_string_equal(b.data, "");
    assert_false(buffer_append(&b, "y", 1));
    buffer_close(&b);
}

static void taking_hands_the_bytes_over(void **state)
{
    (void)state;
    buffer b = buffer_make(100);
    buffer_append_text(&b, "mine");
    char *text = buffer_take(&b);
    assert_string_equal(text, "mine");
    assert_null(b.data);
    assert_int_equal(b.n, 0);
    free(text);
    text = buffer_take(&b); /* an empty buffer gives an empty string, not NULL */
    assert_string_equal(text, "");
    free(text);
    assert_true(buffer_append_text(&b, "again"));
    buffer_close(&b);
}

static void clearing_keeps_the_memory(void **state)
{
    (void)state;
    buffer b = buffer_make(1000);
    buffer_clear(&b);
    assert_null(b.data);
    buffer_append(&b, "0123456789012345678901234567890123456789012345678901234567890123456789", 70);
    size_t cap = b.cap;
    char *data = b.data;
    buffer_clear(&b);
    assert_ptr_equal(b.data, data);
    assert_int_equal(b.cap, cap);
    assert_string_equal(b.data, "");
    buffer_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_bytes_come_out_in_order),
        cmocka_unit_test(the_limit_is_exact_and_failure_sticks),
        cmocka_unit_test(one_append_beyond_the_limit_leaves_what_was_there),
        cmocka_unit_test(taking_hands_the_bytes_over),
        cmocka_unit_test(clearing_keeps_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
