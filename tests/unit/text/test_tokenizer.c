/*
 * Tokenizers from GGUF vocabularies, long words, damaged text, streaming detokenisation.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/token_ids.h"

#include <time.h>

#include "text/pretokenize.h"
#include "text/tokenizer.h"

static mlxr_error error;

#define N_MAX 400

/* A vocabulary that grows; texts are literals or live in `room`. */
typedef struct vocabulary {
    token_text tokens[N_MAX], merges[32];
    int32_t types[N_MAX];
    float scores[N_MAX];
    char room[256][4];
    tokenizer_source source;
} vocabulary;

static void add(vocabulary *v, const char *text, int32_t type)
{
    uint32_t n = v->source.n_tokens++;
    v->tokens[n] = (token_text){text, strlen(text)};
    v->types[n] = type;
    v->scores[n] = -(float)n;
}

static void add_merge(vocabulary *v, const char *text)
{
    v->merges[v->source.n_merges++] = (token_text){text, strlen(text)};
}

static vocabulary *start(tokenizer_kind kind)
{
    static vocabulary v;
    memset(&v, 0, sizeof v);
    v.source = (tokenizer_source){.kind = kind,
                                  .tokens = v.tokens,
                                  .types = v.types,
                                  .scores = v.scores,
                                  .merges = v.merges,
                                  .bos = -1,
                                  .eos = -1,
                                  .eot = -1,
                                  .unk = -1,
                                  .pad = -1,
                                  .sep = -1,
                                  .cls = -1,
                                  .mask = -1};
    return &v;
}

/* Bytes 0 … 255 as ids 0 … 255 in GPT-2's alphabet, then th 256, the 257, aa 258, aaaa 259, <|a|> 260, "x y" 261. */
static vocabulary *byte_level(const char *pre)
{
    vocabulary *v = start(TOKENIZER_BPE);
    unsigned next = 256;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool prints = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
        unsigned code = prints ? byte : next++;
        if (code < 0x80) {
            snprintf(v->room[byte], 4, "%c", (int)code);
        } else {
            snprintf(v->room[byte], 4, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 0x3f)));
        }
        add(v, v->room[byte], TOKEN_NORMAL);
    }
    static const char *const words[] = {"th", "the", "aa", "aaaa"};
    for (size_t i = 0; i < 4; i++) {
        add(v, words[i], TOKEN_NORMAL);
    }
    add(v, "<|a|>", TOKEN_CONTROL);
    add(v, "x y", TOKEN_USER_DEFINED);
    add_merge(v, "t h");
    add_merge(v, "th e");
    add_merge(v, "a a");
    add_merge(v, "aa aa");
    v->source.pre = pre;
    return v;
}

static tokenizer *open_ok(const vocabulary *v)
{
    tokenizer *t = NULL;
    assert_ok(tokenizer_open(&t, &v->source, &error), &error);
    return t;
}

static token_list encode(const tokenizer *t, const char *text, size_t n, unsigned flags)
{
    token_list list = {0};
    assert_ok(tokenizer_encode(t, text, n, flags, &list, &error), &error);
    return list;
}

#define EXPECT(t, text, flags, ...) expect_token_ids(t, text, flags, IDS(__VA_ARGS__))

static void byte_level_merges_by_rank(void **state)
{
    (void)state;
    tokenizer *t = open_ok(byte_level(NULL));
    EXPECT(t, "the th", 0, 257, ' ', 256);
    EXPECT(t, "aaaaaaa", 0, 259, 258, 'a');
    tokenizer_close(&t);
    assert_null(t);
    tokenizer_close(&t);
}

static void special_text_is_text_unless_asked_for(void **state)
{
    (void)state;
    tokenizer *t = open_ok(byte_level("gpt-2"));
    EXPECT(t, "<|a|>x y", MLXR_TOKENIZE_PARSE_SPECIAL, 260, 261);
    EXPECT(t, "<|a|>x y", 0, '<', '|', 'a', '|', '>', 261);
    assert_true(tokenizer_is_special(t, 260));
    assert_false(tokenizer_is_special(t, 261));
    tokenizer_close(&t);
}

static void digits_stand_alone_where_the_model_says_so(void **state)
{
    (void)state;
    vocabulary *v = byte_level("smollm");
    add(v, "12", TOKEN_NORMAL);
    add_merge(v, "1 2");
    tokenizer *t = open_ok(v);
    EXPECT(t, "12", 0, '1', '2');
    tokenizer_close(&t);
    v->source.pre = "qwen2";
    t = open_ok(v);
    EXPECT(t, "12", 0, '1', '2');
    tokenizer_close(&t);
    v->source.pre = "llama-bpe";
    t = open_ok(v);
    EXPECT(t, "12", 0, 262);
    tokenizer_close(&t);
    v->source.pre = "default";
    t = open_ok(v);
    EXPECT(t, "12", 0, 262);
    tokenizer_close(&t);
}

static void unknown_pre_tokenizers_are_refused_by_name(void **state)
{
    (void)state;
    tokenizer *t = NULL;
    assert_int_equal(tokenizer_open(&t, &byte_level("mystery")->source, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "\"mystery\""));
    assert_non_null(strstr(error.text, "llama-bpe"));
    assert_null(t);
}

static void every_known_pre_tokenizer_opens_and_keeps_every_byte(void **state)
{
    (void)state;
    char names[4096];
    pre_recipe_names(names, sizeof names);
    uint64_t seed = 3;
    unsigned count = 0;
    for (char *name = strtok(names, ", "); name; name = strtok(NULL, ", "), count++) {
        if (strcmp(name, "gemma4") == 0) { /* not byte-level */
            continue;
        }
        tokenizer *t = open_ok(byte_level(name));
        for (int round = 0; round < 40; round++) {
            char text[64];
            size_t n = test_random(&seed) % sizeof text;
            for (size_t i = 0; i < n; i++) {
                static const char likely[] = "athe 1\r\n'sS.!?\xc3\xa9\xe2\x80\x83";
                uint64_t r = test_random(&seed);
                text[i] = r & 1 ? likely[r / 2 % (sizeof likely - 1)] : (char)(r >> 8);
            }
            token_list list = encode(t, text, n, 0);
            size_t at = 0;
            for (size_t i = 0; i < list.n; i++) {
                token_text piece = tokenizer_piece(t, list.ids[i]);
                assert_true(piece.n <= n - at && memcmp(piece.data, text + at, piece.n) == 0);
                at += piece.n;
            }
            assert_int_equal(at, n);
            token_list_close(&list);
        }
        tokenizer_close(&t);
    }
    assert_true(count > 40);
}

static void merges_to_control_tokens_are_not_made(void **state)
{
    (void)state;
    vocabulary *v = byte_level(NULL);
    add(v, "ab", TOKEN_CONTROL);
    add_merge(v, "a b");
    tokenizer *t = open_ok(v);
    EXPECT(t, "ab", 0, 'a', 'b');
    EXPECT(t, "ab", MLXR_TOKENIZE_PARSE_SPECIAL, 262);
    tokenizer_close(&t);
}

static void gemma4_merges_characters_with_marked_spaces(void **state)
{
    (void)state;
    vocabulary *v = start(TOKENIZER_BPE);
    add(v, "<unk>", TOKEN_UNKNOWN);
    add(v, "<bos>", TOKEN_CONTROL);
    add(v, "\xe2\x96\x81", TOKEN_NORMAL);
    add(v, "a", TOKEN_NORMAL);
    add(v,
        "\xe2\x96\x81"
        "a",
        TOKEN_NORMAL);
    add(v, "<0x41>", TOKEN_BYTE);
    add(v, "\n\n", TOKEN_USER_DEFINED);
    add_merge(v, "\xe2\x96\x81 a");
    v->source.pre = "gemma4";
    v->source.unk = 0;
    tokenizer *t = open_ok(v);
    EXPECT(t, "a a\n\nA?<bos>", MLXR_TOKENIZE_PARSE_SPECIAL, 3, 4, 6, 5, 0, 1);
    token_text piece = tokenizer_piece(t, 4);
    assert_int_equal(piece.n, 2);
    assert_memory_equal(piece.data, " a", 2);
    assert_int_equal(tokenizer_piece(t, 5).n, 1);
    assert_int_equal(tokenizer_piece(t, 1).n, 5);
    tokenizer_close(&t);
}

static void broken_sources_are_refused(void **state)
{
    (void)state;
    tokenizer *t = NULL;
    vocabulary *v = byte_level(NULL);
    v->source.bos = 9999;
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = byte_level(NULL);
    v->source.add_bos = true;
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = byte_level(NULL);
    v->source.add_eos = true;
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = byte_level(NULL);
    v->types[5] = 7;
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = byte_level(NULL);
    const int32_t end = 300;
    v->source.end_ids = &end;
    v->source.n_end_ids = 1;
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = byte_level(NULL);
    add_merge(v, "nospace");
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = byte_level(NULL);
    add_merge(v, "a q\xc4\x80q");
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = start(TOKENIZER_BPE);
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = start(TOKENIZER_SPM);
    add(v, "a", TOKEN_NORMAL);
    v->source.scores = NULL;
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = start(TOKENIZER_SPM);
    add(v, "a", TOKEN_BYTE);
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_FORMAT);
    v = start((tokenizer_kind)9);
    add(v, "a", TOKEN_NORMAL);
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_ARG);
    static char long_text[2000];
    memset(long_text, 'x', sizeof long_text - 1);
    v = byte_level(NULL);
    add(v, long_text, TOKEN_CONTROL);
    assert_int_equal(tokenizer_open(&t, &v->source, &error), MLXR_LIMIT);
    assert_null(t);
}

static void eot_and_listed_tokens_end_a_generation(void **state)
{
    (void)state;
    vocabulary *v = byte_level(NULL);
    static const int32_t ends[] = {3, -1};
    v->source.eos = 1;
    v->source.eot = 2;
    v->source.end_ids = ends;
    v->source.n_end_ids = 2;
    v->source.add_eos = true;
    add(v, "<|im_end|>", TOKEN_CONTROL);
    tokenizer *t = open_ok(v);
    assert_true(tokenizer_is_end(t, 1) && tokenizer_is_end(t, 2) && tokenizer_is_end(t, 3) && tokenizer_is_end(t, 262));
    assert_false(tokenizer_is_end(t, 4));
    EXPECT(t, "a", MLXR_TOKENIZE_ADD_SPECIAL, 'a', 1);
    tokenizer_close(&t);
}

/* <unk> 0, <s> 1, space 2, a 3, aa 4, aaaa 5, b 6, "ab" unused 7, <x> user-defined 8. */
static vocabulary *spm(bool prefix)
{
    vocabulary *v = start(TOKENIZER_SPM);
    add(v, "<unk>", TOKEN_UNKNOWN);
    add(v, "<s>", TOKEN_CONTROL);
    add(v, "\xe2\x96\x81", TOKEN_NORMAL);
    add(v, "a", TOKEN_NORMAL);
    add(v, "aa", TOKEN_NORMAL);
    add(v, "aaaa", TOKEN_NORMAL);
    add(v, "b", TOKEN_NORMAL);
    add(v, "ab", TOKEN_UNUSED);
    add(v, "<x>", TOKEN_USER_DEFINED);
    v->source.unk = 0;
    v->source.bos = 1;
    v->source.add_bos = true;
    v->source.add_space_prefix = prefix;
    return v;
}

static void sentencepiece_adds_a_space_in_front_and_after_control_tokens(void **state)
{
    (void)state;
    tokenizer *t = open_ok(spm(true));
    EXPECT(t, "a<s>a", MLXR_TOKENIZE_PARSE_SPECIAL | MLXR_TOKENIZE_ADD_SPECIAL, 1, 2, 3, 1, 2, 3);
    EXPECT(t, "a<x>b", 0, 2, 3, 8, 6);
    expect_token_ids(t, "", 0, 0, NULL);
    tokenizer_close(&t);
    t = open_ok(spm(false));
    EXPECT(t, "a<s>a", MLXR_TOKENIZE_PARSE_SPECIAL, 3, 1, 3);
    EXPECT(t, "\xe2\x96\x81 a", 0, 2, 2, 3);
    tokenizer_close(&t);
}

static void unused_pieces_are_steps_but_not_results(void **state)
{
    (void)state;
    tokenizer *t = open_ok(spm(false));
    EXPECT(t, "ab", 0, 3, 6);
    tokenizer_close(&t);
}

static void types_may_be_missing(void **state)
{
    (void)state;
    vocabulary *v = start(TOKENIZER_SPM);
    add(v, "a", TOKEN_NORMAL);
    for (unsigned byte = 0; byte < 256; byte++) {
        static char names[256][8];
        snprintf(names[byte], sizeof names[byte], "<0x%02X>", byte);
        add(v, names[byte], TOKEN_NORMAL);
    }
    v->source.types = NULL;
    tokenizer *t = open_ok(v);
    EXPECT(t, "ab\xff", 0, 0, 1 + 'b', 1 + 0xff);
    tokenizer_close(&t);
}

static void wordpiece_splits_words_and_marks_what_goes_on(void **state)
{
    (void)state;
    vocabulary *v = start(TOKENIZER_WORDPIECE);
    add(v, "[UNK]", TOKEN_CONTROL);
    add(v, "[CLS]", TOKEN_CONTROL);
    add(v, "[SEP]", TOKEN_CONTROL);
    add(v, "\xe2\x96\x81hel", TOKEN_NORMAL);
    add(v, "lo", TOKEN_NORMAL);
    add(v, "\xe2\x96\x81,", TOKEN_NORMAL);
    add(v,
        "\xe2\x96\x81"
        "e",
        TOKEN_NORMAL);
    v->source.unk = 0;
    v->source.bos = 1;
    v->source.eos = 2;
    v->source.add_bos = v->source.add_eos = true;
    tokenizer *t = open_ok(v);
    EXPECT(t, "Hello,\xc3\x89 what", MLXR_TOKENIZE_ADD_SPECIAL, 1, 3, 4, 5, 6, 0, 2);
    detokenizer d = {0};
    char out[64];
    assert_int_equal(detokenizer_push(&d, t, 3, false, out, sizeof out), 3);
    assert_int_equal(detokenizer_push(&d, t, 4, false, out, sizeof out), 2);
    assert_int_equal(detokenizer_push(&d, t, 6, false, out, sizeof out), 2);
    assert_memory_equal(out, " e", 2);
    tokenizer_close(&t);
    add(v, "\xe2\x96\x81H", TOKEN_NORMAL); /* a cased model */
    t = open_ok(v);
    EXPECT(t, "hello H E", 0, 3, 4, 7, 0);
    tokenizer_close(&t);
}

static void a_megabyte_without_spaces_takes_no_quadratic_time(void **state)
{
    (void)state;
    size_t n = 1 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    tokenizer *both[2] = {open_ok(byte_level(NULL)), NULL};
    both[1] = open_ok(spm(false));
    for (int i = 0; i < 2; i++) {
        clock_t begin = clock();
        token_list list = encode(both[i], text, n, 0);
        assert_int_equal(list.n, n / 4);
        double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        if (seconds > 20) { /* far above the half second it takes with all checks on; far below n² */
            fail_msg("%.1f s for %zu bytes", seconds, n);
        }
        token_list_close(&list);
        tokenizer_close(&both[i]);
    }
    free(text);
}

static void short_and_long_words_merge_alike(void **state)
{
    (void)state;
    tokenizer *t = open_ok(byte_level(NULL));
    uint64_t seed = 11;
    for (int round = 0; round < 300; round++) {
        char text[80];
        size_t n = 1 + test_random(&seed) % 40;
        for (size_t i = 0; i < n; i++) {
            text[i] = "athe"[test_random(&seed) % 4];
        }
        /* The same word behind a run that makes it long: 'z' merges with nothing. */
        token_list alone = encode(t, text, n, 0);
        memmove(text + 30, text, n);
        memset(text, 'z', 30);
        token_list longer = encode(t, text, n + 30, 0);
        assert_int_equal(longer.n, alone.n + 30);
        assert_memory_equal(longer.ids + 30, alone.ids, alone.n * sizeof *alone.ids);
        token_list_close(&alone);
        token_list_close(&longer);
    }
    tokenizer_close(&t);
}

static void the_word_cache_changes_nothing(void **state)
{
    (void)state;
    static char text[20000];
    tokenizer *both[2] = {open_ok(byte_level(NULL)), NULL};
    both[1] = open_ok(spm(false));
    for (int i = 0; i < 2; i++) {
        uint64_t seed = 17;
        size_t n = 0;
        token_list apart = {0};
        while (n < sizeof text - 40) { /* words one by one are too short for a cache, the whole text is not */
            size_t begin = n;
            text[n++] = ' ';
            for (uint64_t length = test_random(&seed) % 34; length; length--) {
                text[n++] = (i ? "aaab" : "theaz")[test_random(&seed) % 4];
            }
            assert_ok(tokenizer_encode(both[i], text + begin, n - begin, 0, &apart, &error), &error);
        }
        token_list whole = encode(both[i], text, n, 0);
        assert_int_equal(whole.n, apart.n);
        assert_memory_equal(whole.ids, apart.ids, whole.n * sizeof *whole.ids);
        token_list_close(&whole);
        token_list_close(&apart);
        tokenizer_close(&both[i]);
    }
}

static void a_long_s_counts_as_s_in_contractions(void **state)
{
    (void)state;
    vocabulary *v = byte_level("llama-bpe");
    add(v, "'\xc3\x85\xc2\xbf", TOKEN_NORMAL); /* U+017F behind an apostrophe, in GPT-2's alphabet */
    tokenizer *t = open_ok(v);
    EXPECT(t, "'\xc5\xbfz", 0, 262, 'z');
    tokenizer_close(&t);
}

static void failed_calls_leave_the_list_as_it_was(void **state)
{
    (void)state;
    tokenizer *t = open_ok(byte_level(NULL));
    token_list list = encode(t, "a", 1, 0);
    assert_int_equal(tokenizer_encode(t, "b", (size_t)1 << 31, 0, &list, &error), MLXR_LIMIT);
    assert_int_equal(list.n, 1);
    token_list_close(&list);
    token_list_close(&list);
    tokenizer_close(&t);
}

/* ---- detokenisation ---- */

static size_t push_bytes(detokenizer *d, const tokenizer *t, const char *bytes, size_t n, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        used += detokenizer_push(d, t, (unsigned char)bytes[i], false, out + used, 32);
    }
    return used;
}

static void characters_come_out_whole(void **state)
{
    (void)state;
    tokenizer *t = open_ok(byte_level(NULL));
    char out[256];
    detokenizer d = {0};
    assert_int_equal(push_bytes(&d, t, "\xf0\x9f\x98", 3, out), 0);
    assert_int_equal(push_bytes(&d, t, "\x80", 1, out), 4);
    assert_memory_equal(out, "\xf0\x9f\x98\x80", 4);
    assert_int_equal(detokenizer_finish(&d, out, sizeof out), 0);
    tokenizer_close(&t);
}

static void damaged_text_becomes_one_replacement_for_each_maximal_subpart(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        unsigned n_replacements;
    } all[] = {{"\xff", 1},
               {"\x80\x80", 2},
               {"\xe2\x96", 1},
               {"\xf0\x9f\x98", 1},
               {"\xe0\x80\x80", 3},
               {"\xed\xa0\x80", 3},
               {"\xf0\x80\x80\x80", 4},
               {"\xc0\xaf", 2},
               {"\xf4\x90\x80", 3},
               {"\xe1\x80\xe2\xf0\x91", 3}};
    tokenizer *t = open_ok(byte_level(NULL));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char text[16], out[256], wanted[64] = "";
        detokenizer d = {0};
        snprintf(text, sizeof text, "%s!", all[i].bytes);
        for (unsigned k = 0; k < all[i].n_replacements; k++) {
            strcat(wanted, "\xef\xbf\xbd");
        }
        strcat(wanted, "!");
        size_t used = push_bytes(&d, t, text, strlen(text), out);
        out[used] = 0;
        assert_string_equal(out, wanted);
        /* The same at the end of the text, where nothing follows. */
        d = (detokenizer){0};
        used = push_bytes(&d, t, all[i].bytes, strlen(all[i].bytes), out);
        used += detokenizer_finish(&d, out + used, 4);
        wanted[strlen(wanted) - 1] = 0;
        out[used] = 0;
        assert_string_equal(out, wanted);
    }
    tokenizer_close(&t);
}

static void ids_that_do_not_exist_give_nothing(void **state)
{
    (void)state;
    tokenizer *t = open_ok(byte_level(NULL));
    detokenizer d = {0};
    char out[16];
    assert_int_equal(detokenizer_push(&d, t, -1, true, out, sizeof out), 0);
    assert_int_equal(detokenizer_push(&d, t, INT32_MAX, true, out, sizeof out), 0);
    assert_int_equal(detokenizer_push(&d, t, 260, false, out, sizeof out), 0);
    assert_int_equal(detokenizer_push(&d, t, 260, true, out, sizeof out), 5);
    assert_int_equal(tokenizer_piece(t, -1).n, 0);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_eos(t), -1);
    assert_false(tokenizer_adds_bos(t));
    tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_merges_by_rank),
        cmocka_unit_test(special_text_is_text_unless_asked_for),
        cmocka_unit_test(digits_stand_alone_where_the_model_says_so),
        cmocka_unit_test(unknown_pre_tokenizers_are_refused_by_name),
        cmocka_unit_test(every_known_pre_tokenizer_opens_and_keeps_every_byte),
        cmocka_unit_test(merges_to_control_tokens_are_not_made),
        cmocka_unit_test(gemma4_merges_characters_with_marked_spaces),
        cmocka_unit_test(broken_sources_are_refused),
        cmocka_unit_test(eot_and_listed_tokens_end_a_generation),
        cmocka_unit_test(sentencepiece_adds_a_space_in_front_and_after_control_tokens),
        cmocka_unit_test(unused_pieces_are_steps_but_not_results),
        cmocka_unit_test(types_may_be_missing),
        cmocka_unit_test(wordpiece_splits_words_and_marks_what_goes_on),
        cmocka_unit_test(a_megabyte_without_spaces_takes_no_quadratic_time),
        cmocka_unit_test(short_and_long_words_merge_alike),
        cmocka_unit_test(the_word_cache_changes_nothing),
        cmocka_unit_test(a_long_s_counts_as_s_in_contractions),
        cmocka_unit_test(failed_calls_leave_the_list_as_it_was),
        cmocka_unit_test(characters_come_out_whole),
        cmocka_unit_test(damaged_text_becomes_one_replacement_for_each_maximal_subpart),
        cmocka_unit_test(ids_that_do_not_exist_give_nothing),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
