/*
 * The token store: the longest kept beginning, its bounds, and models that do not mix.
 * Owner: each test. Lifetime: the test.
 */
#include "server/token_store.h"

#include "support/test.h"

static token_store *open_store(size_t bytes_max)
{
    mlxr_error error;
    token_store *s;
    assert_ok(token_store_open(&s, bytes_max, &error), &error);
    return s;
}

static void expect(token_store *s, uint64_t model, const char *text, size_t n_text, int32_t first)
{
    int32_t *ids;
    size_t n_ids;
    assert_int_equal(token_store_find(s, model, text, strlen(text), &ids, &n_ids), n_text);
    assert_int_equal(n_ids, n_text ? 2 : 0);
    if (n_text) {
        assert_int_equal(ids[0], first);
    }
    free(ids);
}

static void add(token_store *s, uint64_t model, const char *text, int32_t first)
{
    token_store_add(s, model, text, strlen(text), (int32_t[]){first, 0}, 2);
}

static void the_longest_beginning_is_found(void **state)
{
    (void)state;
    token_store *s = open_store(1 << 20);
    expect(s, 1, "anything", 0, 0);
    add(s, 1, "a conversation", 10);
    add(s, 1, "a conversation that went on", 20);
    add(s, 1, "another one", 30);
    expect(s, 1, "a conversation that went on, and on", 27, 20);
    expect(s, 1, "a conversation that went elsewhere", 14, 10);
    expect(s, 1, "a conversation", 14, 10);
    expect(s, 1, "a conversatio", 0, 0);
    expect(s, 2, "a conversation that went on", 0, 0);
    token_store_close(&s);
}

static void the_newer_tokens_of_a_text_count(void **state)
{
    (void)state;
    token_store *s = open_store(1 << 20);
    add(s, 1, "the same text", 1);
    add(s, 1, "the same text", 2);
    expect(s, 1, "the same text", 13, 2);
    assert_int_equal(token_store_stats_get(s).n_texts, 1);
    token_store_close(&s);
}

static void what_was_not_used_for_longest_goes(void **state)
{
    (void)state;
    token_store *s = open_store(4096);
    char text[64];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "conversation number %d", i);
        add(s, 1, text, i);
        expect(s, 1, "conversation number 0", 21, 0); /* in use */
    }
    token_store_stats stats = token_store_stats_get(s);
    assert_true(stats.n_bytes <= 4096 && stats.n_texts < 60 && stats.n_gone == 200 - stats.n_texts);
    expect(s, 1, "conversation number 199", 23, 199);
    token_store_close(&s);
}

static void a_text_beyond_the_bound_is_not_kept(void **state)
{
    (void)state;
    token_store *s = open_store(64);
    char text[200];
    memset(text, 'a', sizeof text);
    token_store_add(s, 1, text, sizeof text, (int32_t[]){1, 2}, 2);
    token_store_add(s, 1, "", 0, (int32_t[]){1, 2}, 2);
    assert_int_equal(token_store_stats_get(s).n_texts, 0);
    token_store_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_beginning_is_found),
        cmocka_unit_test(the_newer_tokens_of_a_text_count),
        cmocka_unit_test(what_was_not_used_for_longest_goes),
        cmocka_unit_test(a_text_beyond_the_bound_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
