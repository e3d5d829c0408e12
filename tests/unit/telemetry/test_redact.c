/*
 * Redaction: what must not be in a log is not, and what may be is left alone.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/test.h"
#include "telemetry/redact.h"

static const char *redacted(const char *text)
{
    static char out[2048];
    size_t n = redact(text, strlen(text), NULL, 0, out, sizeof out);
    assert_int_equal(n, strlen(out));
    return out;
}

static void credentials_are_hidden_wherever_they_stand(void **unused)
{
    (void)unused;
    static const char *const cases[][2] = {
        {"Authorization: Bearer abcdefgh12345678", "Authorization: [redacted]"},
        {"header authorization=\"Basic dXNlcjpwYXNz\" refused", "header authorization=\"[redacted]\" refused"},
        {"sent Bearer abc.def-ghi_jkl to host", "sent Bearer [redacted] to host"},
        {"key sk-proj-0123456789abcdef!", "key [redacted]!"},
        {"hf_AbCdEfGhIjKlMnOpQr", "[redacted]"},
        {"use mlxr-0123456789abcdef-00112233445566778899aabbccddeeff now", "use [redacted] now"},
        {"(ghp_abcdefghijklmnop)", "([redacted])"},
        {"{\"api_key\":\"secret!!\",\"n\":1}", "{\"api_key\":\"[redacted]\",\"n\":1}"},
        {"{\"password\": \"correct horse\"}", "{\"password\": \"[redacted]\"}"},
        {"{\\\"token\\\":\\\"abcdef\\\"}", "{\\\"token\\\":\\\"[redacted]\\\"}"},
        {"GET /x?token=abcdef&n=1", "GET /x?token=[redacted]&n=1"},
        {"X-Amz-Signature=00ff00ff&X-Amz-Credential=AKIA123/eu",
         "X-Amz-Signature=[redacted]&X-Amz-Credential=[redacted]"},
        {"HF_TOKEN=abcdef mlxr pull", "HF_TOKEN=[redacted] mlxr pull"},
        {"x-api-key: 8f8f8f8f", "x-api-key: [redacted]"},
        {"Cookie: a=b; c=d", "Cookie: [redacted]"},
        {"pull https://user:pass@host/x", "pull https://[redacted]@host/x"},
        {"https://token@host/x", "https://[redacted]@host/x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(redacted(cases[i][0]), cases[i][1]);
    }
}

static void what_is_no_credential_is_left_alone(void **unused)
{
    (void)unused;
    static const char *const cases[] = {
        "",
        "token: 17 of 128",
        "tokens=1234567",
        "the tokenizer: bytelevel",
        "https://host/a@b?c=d",
        "basic idea, bearer of news",
        "model SmolLM2-135M-Instruct.Q4_1 loaded",
        "sk-short",
        "ask-me-about-anything-you-like",
        "sha256:0123456789abcdef0123456789abcdef",
        "secret: no",
        "caf\xc3\xa9 \xff",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(redacted(cases[i]), cases[i]);
    }
}

static void secrets_that_are_known_are_hidden_even_inside_of_words(void **unused)
{
    (void)unused;
    const redact_secret secrets[] = {{"open sesame", 11}, {"x\0y45678", 8}};
    char out[128];
    const char text[] = "say\"open sesame\"andx\0y45678.";
    size_t n = redact(text, sizeof text - 1, secrets, 2, out, sizeof out);
    assert_int_equal(n, strlen("say\"[redacted]\"and[redacted]."));
    assert_string_equal(out, "say\"[redacted]\"and[redacted].");
}

static void a_short_buffer_gets_a_beginning(void **unused)
{
    (void)unused;
    char out[12];
    assert_int_equal(redact("key sk-proj-0123456789abcdef", 28, NULL, 0, out, sizeof out), 11);
    assert_string_equal(out, "key [redact");
}

static void any_bytes_are_taken(void **unused)
{
    (void)unused;
    uint64_t seed = 7;
    static const char alphabet[] = "abo:=\"\\ @/-_Bearer token hf_sk-\xff\n";
    char text[300], out[4096];
    for (unsigned i = 0; i < 20000; i++) {
        size_t n = test_random(&seed) % sizeof text;
        for (size_t j = 0; j < n; j++) {
            text[j] = alphabet[test_random(&seed) % (sizeof alphabet - 1)];
        }
        assert_true(redact(text, n, NULL, 0, out, sizeof out) < sizeof out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(credentials_are_hidden_wherever_they_stand),
        cmocka_unit_test(what_is_no_credential_is_left_alone),
        cmocka_unit_test(secrets_that_are_known_are_hidden_even_inside_of_words),
        cmocka_unit_test(a_short_buffer_gets_a_beginning),
        cmocka_unit_test(any_bytes_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
