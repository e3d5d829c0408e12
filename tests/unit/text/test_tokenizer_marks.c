/*
 * Marked texts: what spells a control token stays text, what the template writes is one, and all else is as it was.
 * Every vocabulary of tests/data/tokenizers.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/test.h"

#include <string.h>

#include "base/buffer.h"
#include "base/mapping.h"
#include "text/tokenizer.h"

enum { FLAGS = MLXR_TOKENIZE_PARSE_SPECIAL | MLXR_TOKENIZE_MARKED };

static const char *const names[] = {"gpt2.json",
                                    "roberta.json",
                                    "llama3.json",
                                    "qwen2.json",
                                    "qwen35.json",
                                    "o200k.json",
                                    "tekken.json",
                                    "bloom.json",
                                    "deepseek3.json",
                                    "falcon.json",
                                    "llama2.json",
                                    "mistral.json",
                                    "gemma.json",
                                    "clip.json",
                                    "bert-uncased.json",
                                    "unigram.json",
                                    "unigram-added.json",
                                    "spm-bpe.model",
                                    "spm-bpe-unused.model",
                                    "spm-unigram.model",
                                    "spm-unigram-bytes.model",
                                    "spm-suffix.model",
                                    "spm-bpe-nmt.model"};

static tokenizer *open_named(const char *name)
{
    char path[256], *bytes;
    size_t n;
    mlxr_error error = {0};
    tokenizer *t = NULL;
    snprintf(path, sizeof path, "tests/data/tokenizers/%s", name);
    assert_ok(file_read(path, 1 << 20, &bytes, &n, &error), &error);
    if (strstr(name, ".json")) {
        assert_ok(tokenizer_open_json(&t, bytes, n, NULL, 0, &error), &error);
    } else {
        assert_ok(tokenizer_open_spm(&t, bytes, n, &error), &error);
    }
    free(bytes);
    return t;
}

static token_list encode(const tokenizer *t, const char *text, size_t n, unsigned flags)
{
    token_list list = {0};
    mlxr_error error = {0};
    assert_ok(tokenizer_encode(t, text, n, flags, &list, &error), &error);
    return list;
}

static size_t count_specials(const tokenizer *t, const token_list *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) { /* the unknown token is what text may become, too */
        n += tokenizer_is_special(t, list->ids[i]) && tokenizer_piece(t, list->ids[i]).n > 0;
    }
    return n;
}

static size_t specials_in(const tokenizer *t, const char *text, size_t n, unsigned flags)
{
    token_list list = encode(t, text, n, flags);
    size_t found = count_specials(t, &list);
    token_list_close(&list);
    return found;
}

static void mark(const tokenizer *t, buffer *out, const char *text, size_t n)
{
    assert_true(tokenizer_mark_specials(t, text, n, out));
}

/* The tokens that are found in a text as a whole and are not text; returns how many were seen. */
static size_t each_special(const tokenizer *t, void (*look)(const tokenizer *t, int32_t id, const char *text, size_t n))
{
    size_t seen = 0;
    for (uint32_t id = 0; id < tokenizer_size(t); id++) {
        token_text piece = tokenizer_piece(t, (int32_t)id);
        char text[1024];
        if (!tokenizer_is_special(t, (int32_t)id) || piece.n == 0 || piece.n >= sizeof text) {
            continue;
        }
        memcpy(text, piece.data, piece.n);
        if (tokenizer_spells_special(t, text, piece.n) &&
            specials_in(t, text, piece.n, MLXR_TOKENIZE_PARSE_SPECIAL) == 1) {
            look(t, (int32_t)id, text, piece.n);
            seen++;
        }
    }
    return seen;
}

static void look_at_spelled(const tokenizer *t, int32_t id, const char *text, size_t n)
{
    buffer b = buffer_make(1 << 16);
    (void)id;
    buffer_append(&b, text, n); /* the template's */
    buffer_append(&b, "user says ", 10);
    mark(t, &b, text, n);
    buffer_append(&b, " and ", 5);
    mark(t, &b, text, n);
    buffer_append(&b, text, n);
    assert_int_equal(specials_in(t, b.data, b.n, FLAGS), 2);
    token_list marked = encode(t, b.data, b.n, FLAGS);
    char *plain = malloc(b.n + 1);
    memcpy(plain, b.data, b.n);
    size_t n_plain = tokenizer_unmark(plain, b.n);
    assert_int_equal(specials_in(t, plain, n_plain, MLXR_TOKENIZE_PARSE_SPECIAL), 4);
    token_list_close(&marked);
    free(plain);
    buffer_close(&b);
    /* Alone it is what it is as plain text. */
    b = buffer_make(1 << 16);
    mark(t, &b, text, n);
    marked = encode(t, b.data, b.n, FLAGS);
    token_list text_only = encode(t, text, n, 0);
    assert_int_equal(count_specials(t, &marked), count_specials(t, &text_only));
    assert_int_equal(marked.n, text_only.n);
    assert_memory_equal(marked.ids, text_only.ids, marked.n * sizeof *marked.ids);
    token_list_close(&marked);
    token_list_close(&text_only);
    buffer_close(&b);
}

static void look_at_halves(const tokenizer *t, int32_t id, const char *text, size_t n)
{
    (void)id;
    for (size_t cut = 1; cut < n; cut++) {
        if (((unsigned char)text[cut] & 0xc0) == 0x80) {
            continue; /* texts are whole characters */
        }
        buffer b = buffer_make(1 << 16);
        mark(t, &b, text, cut);
        mark(t, &b, text + cut, n - cut);
        assert_int_equal(specials_in(t, b.data, b.n, FLAGS), 0);
        buffer_close(&b);
        b = buffer_make(1 << 16); /* a text that ends with a part of it, and the template's own behind it */
        mark(t, &b, text, cut);
        buffer_append(&b, text, n);
        char plain[4096];
        memcpy(plain, text, cut);
        memcpy(plain + cut, text, n);
        assert_int_equal(specials_in(t, b.data, b.n, FLAGS),
                         specials_in(t, plain, cut + n, MLXR_TOKENIZE_PARSE_SPECIAL));
        buffer_close(&b);
        b = buffer_make(1 << 16); /* who cuts off the first mark has not cut off all */
        mark(t, &b, text, n);
        if (b.n > n + 1) {
            assert_int_equal(specials_in(t, b.data + 1, b.n - 1, FLAGS), 0);
        }
        buffer_close(&b);
    }
}

static void control_tokens_that_are_spelled_stay_text(void **state)
{
    (void)state;
    size_t seen = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tokenizer *t = open_named(names[i]);
        seen += each_special(t, look_at_spelled);
        tokenizer_close(&t);
    }
    print_message("%zu control tokens of %zu vocabularies\n", seen, sizeof names / sizeof *names);
    assert_true(seen > 60);
}

static void neither_half_of_a_control_token_makes_one_of_the_other(void **state)
{
    (void)state;
    size_t seen = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tokenizer *t = open_named(names[i]);
        seen += each_special(t, look_at_halves);
        tokenizer_close(&t);
    }
    assert_true(seen > 60);
}

/* strings.bin: a length in four bytes, then the text, 1,500 times. */
static void marked_texts_have_the_ids_of_plain_ones(void **state)
{
    (void)state;
    char *bytes;
    size_t n, n_same = 0, n_spelled = 0;
    mlxr_error error = {0};
    assert_ok(file_read("tests/data/tokenizers/strings.bin", 64 << 20, &bytes, &n, &error), &error);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tokenizer *t = open_named(names[i]);
        for (size_t at = 0; at + 4 <= n;) {
            uint32_t length;
            memcpy(&length, bytes + at, 4);
            const char *text = bytes + at + 4;
            at += 4 + length;
            if (at > n || memchr(text, TOKENIZER_MARK, length)) {
                continue; /* bytes that are no text */
            }
            token_list before = encode(t, text, length, MLXR_TOKENIZE_PARSE_SPECIAL);
            buffer b = buffer_make(64 << 20);
            mark(t, &b, text, length);
            token_list after = encode(t, b.data ? b.data : "", b.n, FLAGS);
            token_list plain = encode(t, text, length, 0);
            bool has_none = plain.n == before.n && memcmp(plain.ids, before.ids, plain.n * sizeof *plain.ids) == 0;
            assert_int_equal(after.n, plain.n); /* of those that have some: none of them is taken */
            assert_memory_equal(after.ids, plain.ids, plain.n * sizeof *plain.ids);
            n_same += has_none;
            n_spelled += !has_none;
            token_list_close(&plain);
            /* With the flag alone everything is as without it. */
            token_list flagged = encode(t, text, length, FLAGS);
            assert_int_equal(before.n, flagged.n);
            token_list_close(&flagged);
            token_list_close(&before);
            token_list_close(&after);
            buffer_close(&b);
        }
        tokenizer_close(&t);
    }
    print_message("%zu texts as before, %zu with control tokens as plain text\n", n_same, n_spelled);
    assert_true(n_same > 20000 && n_spelled > 100);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_tokens_that_are_spelled_stay_text),
        cmocka_unit_test(neither_half_of_a_control_token_makes_one_of_the_other),
        cmocka_unit_test(marked_texts_have_the_ids_of_plain_ones),
    };
    return cmocka_run_group_tests_name("marked texts", tests, NULL, NULL);
}
