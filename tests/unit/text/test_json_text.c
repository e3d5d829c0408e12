/*
 * Reading JSON from outside: limits, duplicate keys, and errors that say where.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/test.h"
#include "text/json_text.h"

static void refuse(const char *text, size_t n, size_t bytes_max, mlxr_status status, const char *part)
{
    mlxr_error error = {0};
    json_t *json = NULL;
    mlxr_status got = json_text_parse(&json, text, n, bytes_max, &error);
    if (got != status || error.status != status || !strstr(error.text, part)) {
        fail_msg("%.100s: status %d, \"%s\"; wanted %d, \"…%s…\"", text, (int)got, error.text, (int)status, part);
    }
    assert_null(json);
}

static void refuse_text(const char *text, const char *part)
{
    refuse(text, strlen(text), 0, MLXR_FORMAT, part);
}

static void accept(const char *text)
{
    mlxr_error error = {0};
    json_t *json = NULL;
    assert_ok(json_text_parse(&json, text, strlen(text), 0, &error), &error);
    assert_non_null(json);
    json_decref(json);
}

static void values_of_every_kind_are_read(void **state)
{
    (void)state;
    accept("{\"a\": [1, -2.5e3, true, false, null, \"\\u00e9\\ud83d\\ude00\"], \"b\": {}}");
    accept(" 5 ");
    accept("\"x\"");
    accept("null");
    accept("\"[[[[ not brackets: \\\" [[[[ \"");
    accept("9223372036854775807");
}

static void keys_keep_their_order(void **state)
{
    (void)state;
    const char *text = "{\"z\": 1, \"a\": 2, \"m\": 3}";
    json_t *json = NULL;
    mlxr_error error = {0};
    assert_ok(json_text_parse(&json, text, strlen(text), 0, &error), &error);
    const char *key, *wanted[] = {"z", "a", "m"};
    json_t *value;
    size_t i = 0;
    json_object_foreach(json, key, value)
    {
        assert_string_equal(key, wanted[i++]);
    }
    json_decref(json);
}

static void errors_say_line_and_column(void **state)
{
    (void)state;
    refuse_text("", "line 1, column 1: the text ends in the middle");
    refuse_text("{\n  \"a\": 1,\n  \"a\": 2\n}", "line 3, column 5: an object has the same key twice");
    refuse_text("[1, 2", "the text ends in the middle");
    refuse_text("[1, 2] x", "there is text behind the value");
    refuse_text("{\"é\": x}", "line 1, column 7: this is not JSON");
    refuse_text("[1,]", "this is not JSON");
    refuse_text("{a: 1}", "this is not JSON");
    refuse_text("\"\xff\"", "not UTF-8");
    refuse_text("\"\xed\xa0\x80\"", "not UTF-8");
    refuse_text("\"\\ud800\"", "this is not JSON");
    refuse_text("99999999999999999999", "a number is too large");
    refuse_text("1e999", "a number is too large");
    refuse_text("01", "this is not JSON");
    refuse_text("{\"a\\u0000b\": 1}", "a key holds a NUL character");
    refuse_text("\"open", "the text ends in the middle");
    refuse_text("\"line\nbreak\"", "this is not JSON");
    refuse_text("nul", "this is not JSON");
    refuse_text("-", "this is not JSON");
    refuse_text("[}", "this is not JSON");
    refuse_text("\x01", "this is not JSON");
}

/* What a careless reader would take, misread, or choke on. */
static void hostile_texts_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } rows[] = {
        {" ", "the text ends in the middle"},
        {"{", "the text ends in the middle"},
        {"[", "the text ends in the middle"},
        {"{\"a\"", "the text ends in the middle"},
        {"{\"a\":", "the text ends in the middle"},
        {"{\"a\": 1,", "the text ends in the middle"},
        {"[1,", "the text ends in the middle"},
        {"\"a\\", "this is not JSON"},
        {"\"\\u12", "this is not JSON"},
        {"\"a\\\"", "the text ends in the middle"},
        {"{\"a\" 1}", "this is not JSON"},
        {"{\"a\": 1 \"b\": 2}", "this is not JSON"},
        {"{\"a\": 1,}", "this is not JSON"},
        {"{1: 2}", "this is not JSON"},
        {"{null: 2}", "this is not JSON"},
        {"{'a': 2}", "this is not JSON"},
        {"{,}", "this is not JSON"},
        {"[,]", "this is not JSON"},
        {"[1 2]", "this is not JSON"},
        {"{]", "this is not JSON"},
        {"[1}", "this is not JSON"},
        {"]", "this is not JSON"},
        {":", "this is not JSON"},
        {"True", "this is not JSON"},
        {"TRUE", "this is not JSON"},
        {"nullx", "this is not JSON"},
        {"undefined", "this is not JSON"},
        {"NaN", "this is not JSON"},
        {"Infinity", "this is not JSON"},
        {"-Infinity", "this is not JSON"},
        {"+1", "this is not JSON"},
        {".5", "this is not JSON"},
        {"1.", "this is not JSON"},
        {"1.e5", "this is not JSON"},
        {"1e", "this is not JSON"},
        {"1e+", "this is not JSON"},
        {"-01", "this is not JSON"},
        {"0x10", "there is text behind the value"},
        {"1_000", "there is text behind the value"},
        {"1,2", "there is text behind the value"},
        {"{}{}", "there is text behind the value"},
        {"[] []", "there is text behind the value"},
        {"1 // one", "there is text behind the value"},
        {"/* one */ 1", "this is not JSON"},
        {"9223372036854775808", "a number is too large"},
        {"-9223372036854775809", "a number is too large"},
        {"-1e999", "a number is too large"},
        {"{\"a\": 1, \"b\": {}, \"a\": 2}", "an object has the same key twice"},
        {"[{\"\": 1, \"\": 2}]", "an object has the same key twice"},
        {"{\"a\": 1, \"\\u0061\": 2}", "an object has the same key twice"},
        {"{\"\\u0000\": 1}", "a key holds a NUL character"},
        {"\"\\x41\"", "this is not JSON"},
        {"\"\\'\"", "this is not JSON"},
        {"\"\\u00g0\"", "this is not JSON"},
        {"\"\\udc00\"", "this is not JSON"},
        {"\"\\ud800\\ud800\"", "this is not JSON"},
        {"\"\\ud800x\"", "this is not JSON"},
        {"\"\t\"", "this is not JSON"},
        {"\"\x7f\xc0\x80\"", "not UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "not UTF-8"},
        {"\"\xe2\x82\"", "not UTF-8"},
        {"\"\x80\"", "not UTF-8"},
        {"\xef\xbb\xbf{}", "this is not JSON"},
        {"\xff\xfe{}", "not UTF-8"},
    };
    assert_true(sizeof rows / sizeof *rows >= 50);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        refuse_text(rows[i].text, rows[i].part);
    }
    refuse("1\0", 2, 0, MLXR_FORMAT, "line 1, column 2: a NUL byte is not JSON");
    refuse("{}\0 {", 5, 0, MLXR_FORMAT, "line 1, column 3: a NUL byte is not JSON");
    refuse("[1\0]", 4, 0, MLXR_FORMAT, "a NUL byte is not JSON");
    refuse("\"a\0b\"", 5, 0, MLXR_FORMAT, "a NUL byte is not JSON");
    refuse("\0", 1, 0, MLXR_FORMAT, "line 1, column 1: a NUL byte is not JSON");
}

static void a_limit_that_is_met_is_kept(void **state)
{
    (void)state;
    mlxr_error error = {0};
    json_t *json = NULL;
    assert_ok(json_text_parse(&json, "[1, 2]", 6, 6, &error), &error);
    json_decref(json);
    assert_int_equal(json_text_parse(&json, "[1, 2]", 6, 5, NULL), MLXR_LIMIT);
}

static void size_and_depth_are_limited(void **state)
{
    (void)state;
    char deep[400];
    refuse("[1, 2, 3]", 9, 8, MLXR_LIMIT, "9 bytes; the limit is 8");
    memset(deep, '[', 200);
    memset(deep + 200, ']', 200);
    refuse(deep, 400, 0, MLXR_LIMIT, "line 1, column 65: nested more than 64 levels deep");
    mlxr_error error = {0};
    json_t *json = NULL;
    assert_ok(json_text_parse(&json, deep + 200 - JSON_TEXT_DEPTH_MAX, 2 * JSON_TEXT_DEPTH_MAX, 0, &error), &error);
    json_decref(json);
    refuse_text("]]]]", "this is not JSON");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_kind_are_read), cmocka_unit_test(keys_keep_their_order),
        cmocka_unit_test(errors_say_line_and_column),    cmocka_unit_test(hostile_texts_are_refused),
        cmocka_unit_test(a_limit_that_is_met_is_kept),   cmocka_unit_test(size_and_depth_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
