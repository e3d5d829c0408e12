/*
 * Errors of the daemon's parts: safe to print, and never longer than their room.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/test.h"
#include "telemetry/daemon_error.h"

static void status_and_text_are_written_and_the_status_returned(void **unused)
{
    mlxr_error error;
    (void)unused;
    assert_int_equal(daemon_error(&error, MLXR_LIMIT, "%d of %d", 3, 2), MLXR_LIMIT);
    assert_int_equal(error.status, MLXR_LIMIT);
    assert_string_equal(error.text, "3 of 2");
    assert_int_equal(daemon_error(NULL, MLXR_IO, "nobody asks"), MLXR_IO);
}

static void control_characters_of_strangers_become_question_marks(void **unused)
{
    mlxr_error error;
    (void)unused;
    daemon_error(&error, MLXR_ARG, "there is no model '%s'", "a\x1b[2J\r\n\x7f\xc3\xa9");
    assert_string_equal(error.text, "there is no model 'a?[2J???\xc3\xa9'");
}

static void the_old_text_may_be_among_the_arguments(void **unused)
{
    mlxr_error error;
    (void)unused;
    daemon_error(&error, MLXR_IO, "disk full");
    daemon_error(&error, error.status, "cannot write %s: %s", "x.gguf", error.text);
    assert_string_equal(error.text, "cannot write x.gguf: disk full");
}

static void a_text_that_is_too_long_loses_its_end(void **unused)
{
    mlxr_error error;
    char text[2 * sizeof error.text];
    (void)unused;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    daemon_error(&error, MLXR_ARG, "%s", text);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_and_text_are_written_and_the_status_returned),
        cmocka_unit_test(control_characters_of_strangers_become_question_marks),
        cmocka_unit_test(the_old_text_may_be_among_the_arguments),
        cmocka_unit_test(a_text_that_is_too_long_loses_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
