/*
 * Tests of mlxr_stream: every way of cutting a text into tokens gives the same text and the same stop.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/utf8.h"
#include "runtime/engine.h"
#include "support/test.h"

#define TEXT_MAX 16u
#define VOCAB_MAX (256u + TEXT_MAX * (TEXT_MAX + 1) / 2)

/* A byte-level vocabulary: each byte, and each piece of `text`. */
typedef struct fixture {
    mlxr_model model;
    const char *text;
    size_t n;
    int32_t piece[TEXT_MAX][TEXT_MAX + 1]; /* the token for text[begin..end) */
    char spelled[VOCAB_MAX][4 * TEXT_MAX];
} fixture;

/* Bytes as GPT-2's printable alphabet writes them. */
static size_t spell(const char *bytes, size_t n, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t code = 256, byte = (uint8_t)bytes[i];
        for (uint32_t b = 0; b < byte; b++) {
            code += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
        }
        bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        used += utf8_encode(plain ? byte : code, out + used);
    }
    return used;
}

static void open_fixture(fixture *f, const char *text, size_t n)
{
    static token_text tokens[VOCAB_MAX];
    uint32_t n_tokens = 0;
    mlxr_error error;
    memset(f, 0, sizeof *f);
    f->text = text;
    f->n = n;
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        tokens[n_tokens] = (token_text){f->spelled[n_tokens], spell(&byte, 1, f->spelled[n_tokens])};
        n_tokens++;
    }
    for (size_t begin = 0; begin < n; begin++) {
        for (size_t end = begin + 1; end <= n; end++) {
            f->piece[begin][end] = (int32_t)n_tokens;
            tokens[n_tokens] = (token_text){f->spelled[n_tokens],
                                            spell(text + begin, end - begin, f->spelled[n_tokens])};
            n_tokens++;
        }
    }
    tokenizer_source source = {.kind = TOKENIZER_BPE, .n_tokens = n_tokens, .tokens = tokens};
    source.bos = source.eos = source.eot = source.unk = source.pad = source.sep = source.cls = source.mask = -1;
    assert_ok(tokenizer_open(&f->model.tokenizer, &source, &error), &error);
}

static void close_fixture(fixture *f)
{
    tokenizer_close(&f->model.tokenizer);
}

static mlxr_stream *open_stream(const fixture *f, const char *const *stops, size_t n_stops)
{
    mlxr_error error;
    mlxr_stream *s = NULL;
    assert_ok(mlxr_stream_open(&s, &f->model, stops, n_stops, &error), &error);
    return s;
}

/* Where the first stop string to be completed begins; n if none is. */
static size_t reference_stop(const char *text, size_t n, const char *const *stops, size_t n_stops, bool *stopped)
{
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_stops; i++) {
            size_t length = strlen(stops[i]);
            if (length <= end && memcmp(text + end - length, stops[i], length) == 0) {
                longest = length > longest ? length : longest;
            }
        }
        if (longest > 0) {
            *stopped = true;
            return end - longest;
        }
    }
    *stopped = false;
    return n;
}

/* The longest end of text[0..n) that begins a stop string. */
static size_t reference_held(const char *text, size_t n, const char *const *stops, size_t n_stops)
{
    for (size_t held = n; held > 0; held--) {
        for (size_t i = 0; i < n_stops; i++) {
            if (strlen(stops[i]) > held && memcmp(text + n - held, stops[i], held) == 0) {
                return held;
            }
        }
    }
    return 0;
}

/* Streams the text cut after the bytes whose bit is set in `cuts`. */
static void check_split(const fixture *f, unsigned cuts, const char *const *stops, size_t n_stops)
{
    char got[3 * TEXT_MAX];
    size_t n_got = 0, n_bytes, begin = 0;
    const char *text;
    bool expect_stop, stopped = false;
    mlxr_error error;
    size_t expected = reference_stop(f->text, f->n, stops, n_stops, &expect_stop);
    mlxr_stream *s = open_stream(f, stops, n_stops);
    for (size_t end = 1; end <= f->n; end++) {
        if (end < f->n && !(cuts >> (end - 1) & 1)) {
            continue;
        }
        assert_ok(mlxr_stream_push(s, f->piece[begin][end], &text, &n_bytes, &stopped, &error), &error);
        memcpy(got + n_got, text, n_bytes);
        n_got += n_bytes;
        size_t whole = end - utf8_incomplete_tail(f->text, end);
        bool now;
        size_t given = reference_stop(f->text, whole, stops, n_stops, &now);
        assert_int_equal(stopped, now);
        assert_int_equal(n_got, now ? given : whole - reference_held(f->text, whole, stops, n_stops));
        begin = end;
    }
    assert_ok(mlxr_stream_finish(s, &text, &n_bytes, &error), &error);
    memcpy(got + n_got, text, n_bytes);
    n_got += n_bytes;
    assert_int_equal(stopped, expect_stop);
    assert_int_equal(n_got, expected);
    assert_memory_equal(got, f->text, n_got);
    mlxr_stream_close(&s);
    assert_null(s);
}

static void every_split_gives_the_same_text_and_stop(void **unused)
{
    (void)unused;
    static const char *const sets[][4] = {
        {NULL},
        {"z"},
        {"b"},
        {"abab"},
        {"aabab"},
        {"ab\xc3\xa9"},
        {"\xc3\xa9"},
        {"abé<", "b"},
        {"babx", "é<"},
        {"abab", "ba"},
        {"é<|e|>", "|"},
        {"aababé<|e|", "babé<|e|>x"},
        {"|>", "e|>", "<|e|>"},
        {"\xe2\x82\xac", "\xc3\xa8"},
        {"aabac", "abac", "abé>", "é<|f"},
    };
    static fixture f;
    const char text[] = "aabab\xc3\xa9<|e|>";
    open_fixture(&f, text, sizeof text - 1);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        size_t n_stops = 0;
        while (n_stops < 4 && sets[i][n_stops]) {
            n_stops++;
        }
        for (unsigned cuts = 0; cuts < 1u << (f.n - 1); cuts++) {
            check_split(&f, cuts, sets[i], n_stops);
        }
    }
    close_fixture(&f);
}

static void random_texts_and_stops_agree_with_the_reference(void **unused)
{
    (void)unused;
    uint64_t state = 5;
    static fixture f;
    for (unsigned round = 0; round < 60; round++) {
        char text[TEXT_MAX], stops[3][6];
        const char *list[3];
        size_t n = 1 + test_random(&state) % 12;
        for (size_t i = 0; i < n; i++) {
            text[i] = (char)('a' + test_random(&state) % 2);
        }
        open_fixture(&f, text, n);
        for (unsigned variant = 0; variant < 20; variant++) {
            size_t n_stops = 1 + test_random(&state) % 3;
            for (size_t i = 0; i < n_stops; i++) {
                size_t length = 1 + test_random(&state) % 5;
                for (size_t j = 0; j < length; j++) {
                    stops[i][j] = (char)('a' + test_random(&state) % 2);
                }
                stops[i][length] = '\0';
                list[i] = stops[i];
            }
            for (unsigned i = 0; i < 20; i++) {
                check_split(&f, (unsigned)test_random(&state), list, n_stops);
            }
        }
        close_fixture(&f);
    }
}

static void half_characters_wait_and_end_as_replacement(void **unused)
{
    (void)unused;
    static fixture f;
    mlxr_error error;
    const char *text, *stops[] = {"\xef\xbf\xbd"};
    size_t n;
    bool stopped;
    open_fixture(&f, "x\xf0\x9f\x98\x80", 5);
    mlxr_stream *s = open_stream(&f, NULL, 0);
    for (size_t i = 1; i < 4; i++) {
        assert_ok(mlxr_stream_push(s, f.piece[i][i + 1], &text, &n, &stopped, &error), &error);
        assert_int_equal(n, 0);
    }
    assert_ok(mlxr_stream_finish(s, &text, &n, &error), &error);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "\xef\xbf\xbd", 3);
    assert_ok(mlxr_stream_finish(s, &text, &n, &error), &error); /* once is enough */
    assert_int_equal(n, 0);
    assert_ok(mlxr_stream_push(s, f.piece[0][1], &text, &n, &stopped, &error), &error);
    assert_int_equal(n, 0);
    mlxr_stream_close(&s);

    s = open_stream(&f, stops, 1);
    assert_ok(mlxr_stream_push(s, f.piece[0][2], &text, &n, &stopped, &error), &error);
    assert_int_equal(n, 1);
    assert_ok(mlxr_stream_finish(s, &text, &n, &error), &error);
    assert_int_equal(n, 0);
    mlxr_stream_close(&s);
    close_fixture(&f);
}

static void after_a_stop_nothing_more_comes(void **unused)
{
    (void)unused;
    static fixture f;
    mlxr_error error;
    const char *text, *stops[] = {"b"};
    size_t n;
    bool stopped;
    open_fixture(&f, "abc", 3);
    mlxr_stream *s = open_stream(&f, stops, 1);
    assert_ok(mlxr_stream_push(s, f.piece[0][3], &text, &n, &stopped, &error), &error);
    assert_true(stopped && n == 1 && *text == 'a');
    assert_ok(mlxr_stream_push(s, f.piece[2][3], &text, &n, &stopped, &error), &error);
    assert_true(stopped && n == 0);
    assert_ok(mlxr_stream_finish(s, &text, &n, &error), &error);
    assert_int_equal(n, 0);
    mlxr_stream_close(&s);
    close_fixture(&f);
}

static void stop_strings_that_cannot_work_are_refused(void **unused)
{
    (void)unused;
    static fixture f;
    static const char *const lists[][2] = {{"ok", ""}, {"ok", NULL}, {"ok", "\xa9"}, {"ok", "\xc3"}};
    open_fixture(&f, "abc", 3);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        mlxr_error error = {0};
        mlxr_stream *s = NULL;
        assert_int_equal(mlxr_stream_open(&s, &f.model, lists[i], 2, &error), MLXR_ARG);
        assert_non_null(strstr(error.text, "2 of 2"));
        assert_null(s);
    }
    close_fixture(&f);
}

static void tokens_outside_the_vocabulary_are_refused(void **unused)
{
    (void)unused;
    static fixture f;
    static const int32_t wrong[] = {-1, INT32_MIN, INT32_MAX, VOCAB_MAX};
    mlxr_error error;
    const char *text = "before";
    size_t n = 6;
    bool stopped = false;
    open_fixture(&f, "abc", 3);
    mlxr_stream *s = open_stream(&f, NULL, 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(mlxr_stream_push(s, wrong[i], &text, &n, &stopped, &error), MLXR_ARG);
        assert_string_equal(text, "before");
    }
    mlxr_stream_close(&s);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_gives_the_same_text_and_stop),
        cmocka_unit_test(random_texts_and_stops_agree_with_the_reference),
        cmocka_unit_test(half_characters_wait_and_end_as_replacement),
        cmocka_unit_test(after_a_stop_nothing_more_comes),
        cmocka_unit_test(stop_strings_that_cannot_work_are_refused),
        cmocka_unit_test(tokens_outside_the_vocabulary_are_refused),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
