/*
 * Responses that are kept: found again by another process, by their owner only, bounded, the newest version of each.
 * Owner: each test. Lifetime: the test.
 */
#include "support/test.h"

#include <jansson.h>
#include <string.h>

#include "server/response_store.h"

static mlxr_error error;

static response_store *open_store(const char *folder, size_t n_max, size_t bytes_max)
{
    static char path[512];
    response_store *s = NULL;
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), folder ? folder : "");
    assert_ok(response_store_open(&s, folder ? path : NULL, n_max, bytes_max, &error), &error);
    return s;
}

static void put(response_store *s, const char *id, uint64_t owner, int64_t version, const char *status,
                const char *text)
{
    json_t *response = json_pack("{s:s, s:s}", "id", id, "status", status);
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", text), *input = json_pack("[s]", text);
    const kept_response kept = {id, owner, version, response, messages, input};
    assert_ok(response_store_put(s, &kept, &error), &error);
    json_decref(response);
    json_decref(messages);
    json_decref(input);
}

/* The status that is kept, "" if nothing is. */
static const char *status_of(response_store *s, const char *id, uint64_t owner)
{
    static char text[64];
    json_t *found = NULL;
    assert_ok(response_store_get(s, id, owner, RESPONSE_WHOLE, &found, &error), &error);
    const char *status = json_string_value(json_object_get(found, "status"));
    snprintf(text, sizeof text, "%s", status ? status : "");
    json_decref(found);
    return text;
}

static void what_was_put_is_found_by_the_next_process(void **state)
{
    (void)state;
    json_t *found;
    response_store *s = open_store("next", 10, 1 << 20);
    assert_string_equal(status_of(s, "a", 0), ""); /* nothing is made by looking */
    put(s, "a", 7, 1, "completed", "hello");
    response_store_close(&s);
    s = open_store("next", 10, 1 << 20);
    assert_string_equal(status_of(s, "a", 7), "completed");
    assert_string_equal(status_of(s, "a", 8), "");
    assert_ok(response_store_get(s, "a", 7, RESPONSE_MESSAGES, &found, &error), &error);
    assert_string_equal(json_string_value(json_object_get(json_array_get(found, 0), "content")), "hello");
    json_decref(found);
    assert_ok(response_store_get(s, "a", 7, RESPONSE_INPUT, &found, &error), &error);
    assert_string_equal(json_string_value(json_array_get(found, 0)), "hello");
    json_decref(found);
    response_store_close(&s);
}

static void an_answer_may_hold_any_character(void **state)
{
    (void)state;
    response_store *s = open_store("characters", 10, 1 << 20);
    json_t *response = json_pack("{s:s, s:s%}", "id", "a", "text", "x\0y", (size_t)3), *list = json_array(), *found;
    const kept_response kept = {"a", 7, 1, response, list, list};
    assert_ok(response_store_put(s, &kept, &error), &error);
    assert_ok(response_store_get(s, "a", 7, RESPONSE_WHOLE, &found, &error), &error);
    assert_true(json_equal(found, response));
    json_decref(found);
    json_decref(response);
    json_decref(list);
    response_store_close(&s);
}

static void an_older_version_does_not_replace_a_newer_one(void **state)
{
    (void)state;
    response_store *s = open_store(NULL, 10, 1 << 20);
    put(s, "a", 1, 2, "completed", "x");
    put(s, "a", 1, 1, "in_progress", "x");
    assert_string_equal(status_of(s, "a", 1), "completed");
    put(s, "a", 2, 3, "stolen", "x"); /* another owner's is not touched */
    assert_string_equal(status_of(s, "a", 1), "completed");
    assert_string_equal(status_of(s, "a", 2), "");
    put(s, "a", 1, 3, "cancelled", "x");
    assert_string_equal(status_of(s, "a", 1), "cancelled");
    response_store_close(&s);
}

static void what_is_removed_is_gone_for_its_owner_only(void **state)
{
    (void)state;
    bool removed;
    response_store *s = open_store("removed", 10, 1 << 20);
    put(s, "a", 1, 1, "completed", "x");
    assert_ok(response_store_remove(s, "a", 2, &removed, &error), &error);
    assert_false(removed);
    assert_ok(response_store_remove(s, "a", 1, &removed, &error), &error);
    assert_true(removed);
    assert_ok(response_store_remove(s, "a", 1, &removed, &error), &error);
    assert_false(removed);
    assert_string_equal(status_of(s, "a", 1), "");
    response_store_close(&s);
}

static void the_oldest_go_where_there_are_too_many(void **state)
{
    (void)state;
    char id[16], big[40000];
    response_store *s = open_store("bounded", 5, 100000);
    for (int i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "r%d", i);
        put(s, id, 0, 1, "completed", "x");
    }
    assert_string_equal(status_of(s, "r6", 0), "");
    assert_string_equal(status_of(s, "r7", 0), "completed");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    put(s, "big", 0, 1, "completed", big); /* 80,000 bytes: messages and input */
    assert_string_equal(status_of(s, "r11", 0), "completed");
    put(s, "big2", 0, 1, "completed", big);
    assert_string_equal(status_of(s, "big", 0), "");
    assert_string_equal(status_of(s, "big2", 0), "completed"); /* the newest stays, however large */
    response_store_close(&s);
}

static void one_that_was_left_unfinished_has_failed(void **state)
{
    (void)state;
    response_store *s = open_store("left", 10, 1 << 20);
    put(s, "a", 0, 1, "in_progress", "x");
    put(s, "b", 0, 1, "completed", "x");
    assert_string_equal(status_of(s, "a", 0), "in_progress");
    response_store *second = open_store("left", 10, 1 << 20); /* while the first lives, it may still be made */
    assert_string_equal(status_of(second, "a", 0), "in_progress");
    response_store_close(&second);
    response_store_close(&s);
    s = open_store("left", 10, 1 << 20);
    assert_string_equal(status_of(s, "a", 0), "failed");
    assert_string_equal(status_of(s, "b", 0), "completed");
    response_store_close(&s);
}

static void what_is_no_database_is_an_error_each_time(void **state)
{
    (void)state;
    char path[600];
    json_t *found;
    response_store *s = open_store("broken", 10, 1 << 20);
    put(s, "a", 0, 1, "completed", "x");
    response_store_close(&s);
    snprintf(path, sizeof path, "%s/broken/responses.db", test_temp_dir());
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < 5000; i++) {
        fputs("nonsense", file);
    }
    fclose(file);
    s = open_store("broken", 10, 1 << 20);
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(response_store_get(s, "a", 0, RESPONSE_WHOLE, &found, &error), MLXR_OK);
        assert_null(found);
        assert_null(strstr(error.text, test_temp_dir())); /* clients read it */
    }
    response_store_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_found_by_the_next_process),
        cmocka_unit_test(an_answer_may_hold_any_character),
        cmocka_unit_test(an_older_version_does_not_replace_a_newer_one),
        cmocka_unit_test(what_is_removed_is_gone_for_its_owner_only),
        cmocka_unit_test(the_oldest_go_where_there_are_too_many),
        cmocka_unit_test(one_that_was_left_unfinished_has_failed),
        cmocka_unit_test(what_is_no_database_is_an_error_each_time),
    };
    return cmocka_run_group_tests_name("kept responses", tests, NULL, NULL);
}
