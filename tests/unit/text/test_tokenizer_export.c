/*
 * Tokenizers as GGUF embeds them: what is written gives texts the same tokens as the file it came from, or is refused.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/mapping.h"
#include "support/test.h"
#include "text/tokenizer_export.h"

static const struct {
    const char *file, *model;
} cases[] = {
    {"bert-uncased.json", "bert"}, {"gpt2.json", "gpt2"},      {"llama3.json", "gpt2"},
    {"spm-unigram.model", "t5"},   {"spm-bpe.model", "llama"},
};

/* BERT's own limit of words, instead of the one that tests of it have. */
static void raise_word_limit(char **bytes, size_t *n)
{
    static const char from[] = "\"max_input_chars_per_word\":20", to[] = "\"max_input_chars_per_word\":100";
    char *at = memmem(*bytes, *n, from, sizeof from - 1), *made = malloc(*n + 2);
    assert_non_null(at);
    size_t n_before = (size_t)(at - *bytes);
    memcpy(made, *bytes, n_before);
    memcpy(made + n_before, to, sizeof to - 1);
    memcpy(made + n_before + sizeof to - 1, at + sizeof from - 1, *n - n_before - (sizeof from - 1));
    free(*bytes);
    *bytes = made;
    *n += 1;
}

static tokenizer *open_file(const char *name, bool bert)
{
    char path[256];
    char *bytes = NULL;
    size_t n = 0;
    tokenizer *t = NULL;
    mlxr_error error = {0};
    snprintf(path, sizeof path, "tests/data/tokenizers/%s", name);
    assert_ok(file_read(path, 1 << 26, &bytes, &n, &error), &error);
    bool json = strstr(name, ".json") != NULL;
    if (bert) {
        raise_word_limit(&bytes, &n);
    }
    assert_ok(json ? tokenizer_open_json(&t, bytes, n, NULL, 0, &error) : tokenizer_open_spm(&t, bytes, n, &error),
              &error);
    free(bytes);
    return t;
}

static void what_is_written_gives_the_same_tokens(void **state)
{
    char *text = NULL;
    size_t n_text = 0;
    mlxr_error error = {0};
    (void)state;
    assert_ok(file_read("tests/data/text/languages-and-code.text", 1 << 20, &text, &n_text, &error), &error);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        region memory = {0};
        tokenizer_export e;
        tokenizer *t = open_file(cases[i].file, strcmp(cases[i].model, "bert") == 0), *again = NULL;
        mlxr_status status = tokenizer_export_make(&e, t, &memory, &error);
        if (status != MLXR_OK) {
            fail_msg("%s: %s", cases[i].file, error.text);
        }
        assert_string_equal(e.model, cases[i].model);
        assert_ok(tokenizer_open(&again, &e.source, &error), &error);
        for (unsigned flags = 0; flags < 4; flags++) {
            token_list a = {0}, b = {0};
            assert_ok(tokenizer_encode(t, text, n_text, flags, &a, &error), &error);
            assert_ok(tokenizer_encode(again, text, n_text, flags, &b, &error), &error);
            if (a.n != b.n || memcmp(a.ids, b.ids, a.n * sizeof *a.ids) != 0) {
                fail_msg("%s: other tokens (%zu, %zu)", cases[i].file, a.n, b.n);
            }
            token_list_close(&a);
            token_list_close(&b);
        }
        tokenizer_close(&again);
        tokenizer_close(&t);
        region_close(&memory);
    }
    free(text);
}

static void what_gguf_cannot_say_is_refused(void **state)
{
    static const struct {
        const char *file, *error;
    } refused[] = {
        {"bert-uncased.json", "tokenizer: words of more than 20 characters are unknown to it; GGUF means 100"},
        {"unigram.json", "tokenizer: GGUF's form of it would give other tokens than this one"}, /* normalises by NFKC */
        {"spm-unigram-bytes.model", "tokenizer: GGUF's form of it would give other tokens than this one"},
        {"unigram-added.json", "tokenizer: GGUF's form of it would give other tokens than this one"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        region memory = {0};
        tokenizer_export e;
        mlxr_error error = {0};
        tokenizer *t = open_file(refused[i].file, false);
        assert_int_equal(tokenizer_export_make(&e, t, &memory, &error), MLXR_UNSUPPORTED);
        assert_string_equal(error.text, refused[i].error);
        tokenizer_close(&t);
        region_close(&memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_gives_the_same_tokens),
        cmocka_unit_test(what_gguf_cannot_say_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
