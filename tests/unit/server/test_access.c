/*
 * Host, Origin, Content-Type, keys and quotas, as pure functions.
 * Owner: the test program. Lifetime: the process.
 */
#include "server/access.h"
#include "server/auth.h"
#include "support/test.h"

static const char *const hosts[] = {"llm.example", "10.0.0.7"};
static const char *const origins[] = {"https://chat.example", "app://notes"};
static const access_rules rules = {{hosts, 2}, {origins, 2}};

static int host_status(const char *host, const char *local)
{
    access_request r = {.host = host, .n_hosts = host ? 1 : 0, .local = local};
    return access_check_host(&rules, &r).status;
}

static void only_names_that_are_ours_pass_as_hosts(void **state)
{
    static const char *const good[] = {"localhost",   "localhost:11435", "LocalHost",   "127.0.0.1",
                                       "127.0.0.1:1", "[::1]",           "[::1]:65535", "llm.example",
                                       "10.0.0.7",    "LLM.example:80",  "192.168.1.9", "192.168.1.9:443"};
    static const char *const bad[] = {"",
                                      "evil.example",
                                      "localhost.evil.example",
                                      "evil-localhost",
                                      "localhost.",
                                      ".localhost",
                                      "localhost:",
                                      "localhost:0",
                                      "localhost:65536",
                                      "localhost:80:80",
                                      "localhost:x",
                                      "localhost:-1",
                                      "user@localhost",
                                      "localhost@evil",
                                      "localhost/",
                                      "localhost#",
                                      "localhost?",
                                      "localhost evil",
                                      "localhost,evil",
                                      "127.1",
                                      "127.0.0.2",
                                      "2130706433",
                                      "0x7f000001",
                                      "0177.0.0.1",
                                      "0.0.0.0",
                                      "[::]",
                                      "[::ffff:127.0.0.1]",
                                      "::1",
                                      "[::1",
                                      "[::1]x",
                                      "[::1]:",
                                      "192.168.1.8",
                                      "10.0.0.70",
                                      "xllm.example",
                                      "llm.example.",
                                      "localhost\xe3\x80\x82",
                                      "llm.example.evil",
                                      "unix",
                                      "http://localhost",
                                      "localhost:00000080"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (host_status(good[i], "192.168.1.9") != 0) {
            fail_msg("refused: %s", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (host_status(bad[i], "192.168.1.9") != 403 || host_status(bad[i], "unix") != 403) {
            fail_msg("passed: %s", bad[i]);
        }
    }
    assert_int_equal(host_status("[fe80::5]:80", "fe80::5"), 0);
    assert_int_equal(host_status("fe80::5", "fe80::5"), 403);
    assert_int_equal(host_status(NULL, "127.0.0.1"), 400);
    access_request twice = {.host = "localhost", .n_hosts = 2, .local = "127.0.0.1"};
    assert_int_equal(access_check_host(&rules, &twice).status, 400);
}

static int origin_status(const char *origin, const char *host, bool tls, bool *cross)
{
    access_request r = {.host = host, .n_hosts = 1, .origin = origin, .n_origins = origin ? 1 : 0, .tls = tls};
    return access_check_origin(&rules, &r, cross).status;
}

static void pages_of_other_origins_are_refused_unless_named(void **state)
{
    static const char *const bad[] = {"null",
                                      "",
                                      "http://evil.example",
                                      "http://localhost",
                                      "http://localhost:3000",
                                      "https://localhost:11435",
                                      "http://localhost:11435.evil.example",
                                      "http://localhost:11435/",
                                      "http://127.0.0.1:11435",
                                      "https://chat.example.evil.example",
                                      "https://chat.example:8443",
                                      "http://chat.example",
                                      "https://evil.example?https://chat.example",
                                      "app://notes2",
                                      "*"};
    bool cross;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (origin_status(bad[i], "localhost:11435", false, &cross) != 403) {
            fail_msg("passed: %s", bad[i]);
        }
    }
    assert_int_equal(origin_status(NULL, "localhost:11435", false, &cross), 0);
    assert_false(cross);
    assert_int_equal(origin_status("http://localhost:11435", "localhost:11435", false, &cross), 0);
    assert_false(cross);
    assert_int_equal(origin_status("https://localhost:11435", "localhost:11435", true, &cross), 0);
    assert_int_equal(origin_status("https://chat.example", "localhost:11435", false, &cross), 0);
    assert_true(cross);
    assert_int_equal(origin_status("app://notes", "localhost:11435", false, &cross), 0);
    access_request twice = {.host = "localhost", .origin = "http://localhost", .n_origins = 2};
    assert_int_equal(access_check_origin(&rules, &twice, NULL).status, 403);
}

static void what_browsers_say_of_themselves_counts_without_an_origin(void **state)
{
    access_request r = {.host = "localhost", .n_hosts = 1, .fetch_site = "cross-site", .is_get = true};
    (void)state;
    assert_int_equal(access_check_origin(&rules, &r, NULL).status, 403);
    r.fetch_mode = "navigate";
    assert_int_equal(access_check_origin(&rules, &r, NULL).status, 403);
    r.is_public = true; /* a link to the page may be followed */
    assert_int_equal(access_check_origin(&rules, &r, NULL).status, 0);
    r.is_get = false;
    assert_int_equal(access_check_origin(&rules, &r, NULL).status, 403);
    r = (access_request){.host = "localhost", .n_hosts = 1, .fetch_site = "same-origin"};
    assert_int_equal(access_check_origin(&rules, &r, NULL).status, 0);
    r.fetch_site = "same-site";
    assert_int_equal(access_check_origin(&rules, &r, NULL).status, 403);
    r.fetch_site = "none";
    assert_int_equal(access_check_origin(&rules, &r, NULL).status, 0);
}

static int json_status(const char *type, bool has_body)
{
    access_request r = {.content_type = type, .n_content_types = type ? 1 : 0, .has_body = has_body};
    return access_check_json(&r).status;
}

static void a_body_must_say_that_it_is_json(void **state)
{
    static const char *const bad[] = {"text/plain",
                                      "application/x-www-form-urlencoded",
                                      "multipart/form-data; boundary=x",
                                      "application/json; charset=latin1",
                                      "application/json, text/plain",
                                      "application/jsonp",
                                      "text/plain; application/json",
                                      "application /json",
                                      "",
                                      "application/json x"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(json_status(bad[i], true), 415);
        assert_int_equal(json_status(bad[i], false), 415);
    }
    assert_int_equal(json_status("application/json", true), 0);
    assert_int_equal(json_status("Application/JSON; charset=UTF-8", true), 0);
    assert_int_equal(json_status("application/json;charset=\"utf-8\"", true), 0);
    assert_int_equal(json_status(NULL, false), 0);
    assert_int_equal(json_status(NULL, true), 415);
    access_request twice = {.content_type = "application/json", .n_content_types = 2, .has_body = true};
    assert_int_equal(access_check_json(&twice).status, 415);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

typedef struct keys {
    bool any;
    unsigned n_asked;
} keys;

static bool any_key(void *user)
{
    return ((keys *)user)->any;
}

static bool verify(void *user, const char *text, size_t n, auth_identity *out)
{
    ((keys *)user)->n_asked++;
    *out = (auth_identity){.key_id = (unsigned char)text[n - 1],
                           .scopes = text[0] == 'a' ? AUTH_ADMIN : AUTH_INFERENCE};
    return strncmp(text, "good-", 5) == 0 || strncmp(text, "admin-", 6) == 0;
}

static auth *open_auth(keys *k)
{
    auth *a;
    mlxr_error error;
    auth_source source = {.user = k, .any = any_key, .verify = verify};
    assert_ok(auth_open(&a, &source, &error), &error);
    return a;
}

static void keys_are_asked_for_once_there_is_one(void **state)
{
    keys k = {0};
    auth *a = open_auth(&k);
    auth_identity who;
    (void)state;
    assert_true(auth_identify(a, NULL, NULL, &who)); /* no keys: clients send anything, or nothing */
    assert_true(auth_identify(a, "Bearer ollama", NULL, &who));
    assert_int_equal(who.scopes, AUTH_ALL);
    assert_int_equal(who.key_id, 0);
    k.any = true;
    static const struct {
        const char *authorization, *x_api_key;
        bool passes;
    } cases[] = {
        {NULL, NULL, false},
        {"Bearer good-1", NULL, true},
        {"bearer  good-1", NULL, true},
        {NULL, "good-1", true},
        {"Bearer good-1", "good-1", true},
        {"Bearer good-1", "good-2", false}, /* two keys of two people */
        {"Bearer good-1", "bad-1", false},
        {"Bearer bad-1", "good-1", false}, /* one header must not hide the other */
        {"Bearer", "good-1", false},
        {"Bearer ", NULL, false},
        {"Basic good-1", NULL, false},
        {"Basic x", "good-1", false},
        {"good-1", NULL, false},
        {"Bearergood-1", NULL, false},
        {NULL, "", false},
        {NULL, "Bearer good-1", false},
        {"", NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (auth_identify(a, cases[i].authorization, cases[i].x_api_key, &who) != cases[i].passes) {
            fail_msg("case %zu", i);
        }
        assert_true(cases[i].passes || (who.scopes == 0 && who.key_id == 0));
    }
    char longer[2000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    k.n_asked = 0;
    assert_false(auth_identify(a, NULL, longer, &who));
    assert_int_equal(k.n_asked, 0);
    assert_true(auth_identify(a, NULL, "admin-1", &who));
    assert_int_equal(who.scopes, AUTH_ALL);
    auth_close(&a);
}

static void quotas_fill_steadily_and_debts_are_waited_for(void **state)
{
    keys k = {.any = true};
    auth *a = open_auth(&k);
    auth_identity who = {.key_id = 1, .requests_per_minute = 3}, free_one = {.key_id = 2};
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(auth_admit(a, &who, 1000), 0);
    }
    unsigned wait = auth_admit(a, &who, 1000);
    assert_in_range(wait, 20, 21); /* one in 20 seconds */
    assert_int_equal(auth_admit(a, &who, 1000 + 20100), 0);
    assert_true(auth_admit(a, &who, 1000 + 20200) > 0);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(auth_admit(a, &free_one, 1000), 0);
    }
    auth_identity tokens = {.key_id = 3, .tokens_per_minute = 600, .tokens_per_day = 86400};
    assert_int_equal(auth_admit(a, &tokens, 1000), 0);
    auth_spend(a, 3, 1200); /* 600 more than there were */
    wait = auth_admit(a, &tokens, 1000);
    assert_in_range(wait, 60, 61);
    assert_int_equal(auth_admit(a, &tokens, 1000 + 61000), 0);
    auth_spend(a, 3, 200000);
    assert_true(auth_admit(a, &tokens, 1000 + 61000) > 3600);
    auth_spend(a, 99, 1); /* nobody */
    auth_close(&a);
}

static void a_key_may_be_bound_to_models(void **state)
{
    auth_identity all = {0}, some = {.models = "llama,team/*,qwen:7b"};
    (void)state;
    assert_true(auth_allows_model(&all, "anything"));
    static const char *const yes[] = {"llama", "team/x", "team/", "qwen:7b"};
    static const char *const no[] = {"llama2", "lla", "team", "qwen", "", "x,llama", "*"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        assert_true(auth_allows_model(&some, yes[i]));
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        assert_false(auth_allows_model(&some, no[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_names_that_are_ours_pass_as_hosts),
        cmocka_unit_test(pages_of_other_origins_are_refused_unless_named),
        cmocka_unit_test(what_browsers_say_of_themselves_counts_without_an_origin),
        cmocka_unit_test(a_body_must_say_that_it_is_json),
        cmocka_unit_test(keys_are_asked_for_once_there_is_one),
        cmocka_unit_test(quotas_fill_steadily_and_debts_are_waited_for),
        cmocka_unit_test(a_key_may_be_bound_to_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
