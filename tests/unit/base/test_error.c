/*
 * Tests of core/base/error: what a caller's mlxr_error holds after each call.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/error.h"

#include "base/utf8.h"
#include "support/test.h"

static void every_status_has_words(void **state)
{
    (void)state;
    for (int i = MLXR_OK; i <= MLXR_DEVICE; i++) {
        assert_true(strlen(mlxr_status_text((mlxr_status)i)) > 1);
        assert_string_not_equal(mlxr_status_text((mlxr_status)i), "unknown status");
    }
    assert_string_equal(mlxr_status_text((mlxr_status)1000), "unknown status");
    assert_string_equal(mlxr_status_text((mlxr_status)-1), "unknown status");
}

static void setting_fills_text_and_returns_the_status(void **state)
{
    (void)state;
    mlxr_error error;
    assert_int_equal(error_set(&error, MLXR_FORMAT, "tensor %s: %d of %u", "blk.0", -3, 7u), MLXR_FORMAT);
    assert_int_equal(error.status, MLXR_FORMAT);
    assert_string_equal(error.text, "tensor blk.0: -3 of 7");
}

static void a_null_error_is_accepted_everywhere(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, MLXR_IO, "%s", "x"), MLXR_IO);
    assert_int_equal(error_prefix(NULL, MLXR_ARG, "%s", "x"), MLXR_ARG);
    assert_int_equal(error_nomem(NULL, "x", 1), MLXR_NOMEM);
}

static void prefixing_puts_the_context_in_front(void **state)
{
    (void)state;
    mlxr_error error;
    error_set(&error, MLXR_FORMAT, "key 7 is cut off");
    assert_int_equal(error_prefix(&error, MLXR_FORMAT, "%s", "/tmp/model.gguf"), MLXR_FORMAT);
    assert_string_equal(error.text, "/tmp/model.gguf: key 7 is cut off");
    assert_int_equal(error.status, MLXR_FORMAT);
}

static void long_texts_are_cut_and_stay_terminated(void **state)
{
    (void)state;
    char text[2000];
    mlxr_error error;
    for (size_t n = 480; n < 530; n++) {
        memset(text, 'a', n);
        text[n] = 0;
        error_set(&error, MLXR_IO, "%s", text);
        assert_int_equal(strlen(error.text), n < sizeof error.text ? n : sizeof error.text - 1);
        error_set(&error, MLXR_IO, "inner text");
        error_prefix(&error, MLXR_IO, "%s", text);
        assert_true(strlen(error.text) < sizeof error.text);
        assert_memory_equal(error.text, text, n < 503 ? n : 503);
        memset(error.text, 'b', sizeof error.text - 1);
        error.text[sizeof error.text - 1] = 0;
        error_prefix(&error, MLXR_IO, "context");
        assert_int_equal(strlen(error.text), sizeof error.text - 1);
        assert_memory_equal(error.text, "context: bbb", 12);
    }
}

static bool printable(const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        uint32_t code;
        size_t used = utf8_decode(text + i, n - i, &code);
        if (used == 0 || code < 0x20 || code == 0x7f || (code >= 0x80 && code < 0xa0)) {
            return false;
        }
        i += used;
    }
    return true;
}

static void bytes_from_files_cannot_reach_a_terminal(void **state)
{
    (void)state;
    mlxr_error error;
    error_set(&error, MLXR_FORMAT, "name '%s'",
              "a\x1b[2Jb\r\n\x7f\xc2\x9b"
              "c\xff\xc3");
    assert_string_equal(error.text, "name 'a?[2Jb?"
                                    "?"
                                    "?"
                                    "?"
                                    "?c?"
                                    "?'");
    error_set(&error, MLXR_FORMAT, "%s", "größer 模型 😀");
    assert_string_equal(error.text, "größer 模型 😀");

    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        char text[64];
        size_t n = test_random(&seed) % sizeof text;
        for (size_t i = 0; i < n; i++) {
            text[i] = (char)(1 + test_random(&seed) % 255);
        }
        text[n] = 0;
        error_set(&error, MLXR_FORMAT, "%s", text);
        assert_true(printable(error.text));
        error_prefix(&error, MLXR_FORMAT, "%s", text);
        assert_true(printable(error.text));
    }
}

static void cutting_never_leaves_half_a_character(void **state)
{
    (void)state;
    char text[600 * 4 + 1];
    mlxr_error error;
    for (size_t shift = 0; shift < 4; shift++) {
        size_t n = 0;
        while (n < shift) {
            text[n++] = 'x';
        }
        while (n + 4 < sizeof text) {
            memcpy(text + n, "😀", 4);
            n += 4;
        }
        text[n] = 0;
        error_set(&error, MLXR_FORMAT, "%s", text);
        assert_true(printable(error.text));
        error_prefix(&error, MLXR_FORMAT, "x");
        assert_true(printable(error.text));
    }
}

static void out_of_memory_names_what_and_how_much(void **state)
{
    (void)state;
    mlxr_error error;
    assert_int_equal(error_nomem(&error, "KV arena", 12345), MLXR_NOMEM);
    assert_non_null(strstr(error.text, "KV arena"));
    assert_non_null(strstr(error.text, "12345"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_words),
        cmocka_unit_test(setting_fills_text_and_returns_the_status),
        cmocka_unit_test(a_null_error_is_accepted_everywhere),
        cmocka_unit_test(prefixing_puts_the_context_in_front),
        cmocka_unit_test(long_texts_are_cut_and_stay_terminated),
        cmocka_unit_test(bytes_from_files_cannot_reach_a_terminal),
        cmocka_unit_test(cutting_never_leaves_half_a_character),
        cmocka_unit_test(out_of_memory_names_what_and_how_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
