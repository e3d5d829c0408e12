/*
 * tokenizer.json: what it means, and hostile files.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/token_ids.h"

#include "support/tokenizer_json_file.inc"

static mlxr_error error;

static mlxr_status open_text(tokenizer **t, const char *json, const char *config)
{
    error = (mlxr_error){0};
    *t = NULL;
    /* Exactly as long as the text, so that reading past it is seen. */
    size_t n = strlen(json);
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, json, n);
    mlxr_status status = tokenizer_open_json(t, copy, n, config, config ? strlen(config) : 0, &error);
    free(copy);
    return status;
}

static void expect_ids(const json_case *c, const char *text, unsigned flags, size_t n, const int32_t *ids)
{
    tokenizer *t;
    assert_ok(open_text(&t, json_file(c), NULL), &error);
    expect_token_ids(t, text, flags, n, ids);
    tokenizer_close(&t);
}

#define EXPECT(c, text, flags, ...) expect_ids(c, text, flags, IDS(__VA_ARGS__))

static void merges_come_as_texts_and_as_pairs(void **state)
{
    (void)state;
    EXPECT(&(json_case){0}, "hellohel", 0, 10, 7, 5);
    EXPECT(&(json_case){.merges = "[\"#version: 0.2\",\"h e\"]"}, "hel", 0, 7, 5);
}

static void unknown_characters_are_dropped_or_unknown_or_fused(void **state)
{
    (void)state;
    EXPECT(&(json_case){0}, "h??o", 0, 3, 6);
    EXPECT(&(json_case){.settings = "\"unk_token\":\"<unk>\","}, "h??o", 0, 3, 0, 0, 6);
    EXPECT(&(json_case){.settings = "\"unk_token\":\"<unk>\",\"fuse_unk\":true,"}, "h??o", 0, 3, 0, 6);
    EXPECT(&(json_case){.settings = "\"unk_token\":\"<unk>\",\"byte_fallback\":true,"}, "hA?", 0, 3, 15, 0);
}

static void special_tokens_are_text_unless_asked_for(void **state)
{
    (void)state;
    json_case c = {
        .added = "[{\"id\":1,\"content\":\"<s>\",\"special\":true,\"lstrip\":true,\"rstrip\":true,"
                 "\"normalized\":false,\"single_word\":false},{\"id\":18,\"content\":\"o w\",\"special\":false,"
                 "\"normalized\":true}]"};
    EXPECT(&c, "h <s> o", MLXR_TOKENIZE_PARSE_SPECIAL, 3, 1, 6);
    EXPECT(&c, "h<s>o", 0, 3, 6);
    EXPECT(&c, "ho wo", 0, 3, 18, 6);
}

static void single_words_match_only_alone(void **state)
{
    (void)state;
    json_case c = {
        .added = "[{\"id\":18,\"content\":\"he\",\"special\":false,\"single_word\":true,\"normalized\":false}]",
        .vocab = "{\"h\":0,\"e\":1,\" \":2}",
        .merges = "[]"};
    EXPECT(&c, "he", 0, 18);
    EXPECT(&c, "he he", 0, 18, 2, 18);
    EXPECT(&c, "hehe", 0, 0, 1, 0, 1);
    EXPECT(&c, "h\xe2\x80\x8dhe", 0, 0, 0, 1); /* a joiner is a word character */
}

static void templates_add_tokens_around_the_text(void **state)
{
    (void)state;
    json_case c = {
        .post_processor =
            "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\","
            "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\"}},"
            "{\"SpecialToken\":{\"id\":\"</s>\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":"
            "{\"id\":\"<s>\",\"ids\":[1,3],\"tokens\":[]},\"</s>\":{\"ids\":[2]}}},"
            "{\"type\":\"RobertaProcessing\",\"cls\":[\"<s>\",4],\"sep\":[\"</s>\",5]}]}"};
    EXPECT(&c, "o", MLXR_TOKENIZE_ADD_SPECIAL, 4, 1, 3, 6, 2, 5);
    EXPECT(&c, "o", 0, 6);
}

static void the_configuration_names_and_adds_bos_and_eos(void **state)
{
    (void)state;
    tokenizer *t;
    json_case c = {0};
    assert_ok(open_text(&t, json_file(&c),
                        "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},"
                        "\"add_bos_token\":true,\"add_eos_token\":true}"),
              &error);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_adds_bos(t));
    assert_true(tokenizer_is_end(t, 2));
    assert_false(tokenizer_is_end(t, 1));
    assert_false(tokenizer_is_end(t, -1));
    token_list list = {0};
    assert_ok(tokenizer_encode(t, "o", 1, MLXR_TOKENIZE_ADD_SPECIAL, &list, &error), &error);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.ids[0], 1);
    assert_int_equal(list.ids[2], 2);
    token_list_close(&list);
    tokenizer_close(&t);

    c.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"<s>\",1],\"sep\":[\"</s>\",2]}";
    assert_ok(open_text(&t, json_file(&c),
                        "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"bos_token\":\"<s>\","
                        "\"eos_token\":\"</s>\",\"add_bos_token\":false,\"add_eos_token\":false}"),
              &error);
    assert_false(tokenizer_adds_bos(t));
    assert_ok(tokenizer_encode(t, "o", 1, MLXR_TOKENIZE_ADD_SPECIAL, &list, &error), &error);
    assert_int_equal(list.n, 1);
    token_list_close(&list);
    tokenizer_close(&t);

    assert_ok(open_text(&t, json_file(&c), "{}"), &error);
    assert_int_equal(tokenizer_bos(t), 1); /* what stands in front */
    tokenizer_close(&t);
}

/* The text that a list of ids decodes to. */
static const char *decoded(const json_case *c, size_t n, const int32_t *ids)
{
    static char out[256];
    tokenizer *t;
    assert_ok(open_text(&t, json_file(c), NULL), &error);
    detokenizer state = {0};
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        used += detokenizer_push(&state, t, ids[i], false, out + used, sizeof out - used - 4);
    }
    used += detokenizer_finish(&state, out + used, sizeof out - used - 1);
    out[used] = 0;
    tokenizer_close(&t);
    return out;
}

#define DECODED(c, ...) decoded(c, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (int32_t[]){__VA_ARGS__})

static void decoders_say_what_tokens_are_as_text(void **state)
{
    (void)state;
    json_case c = {0};
    assert_string_equal(DECODED(&c, 10, 6), "hello o");
    c.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"always\"}";
    assert_string_equal(DECODED(&c, 12, 10, 12, 6), "hello o");
    c.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"add_prefix_space\":false}";
    assert_string_equal(DECODED(&c, 12, 10), " hello");
    c.decoder =
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},"
        "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \","
        "\"start\":1,\"stop\":0}]}";
    assert_string_equal(DECODED(&c, 12, 15, 12, 6), "A o");
    c.decoder = "{\"type\":\"WordPiece\",\"prefix\":\"h\",\"cleanup\":true}";
    assert_string_equal(DECODED(&c, 6, 10, 6), "oello o");
    c.decoder = "{\"type\":\"BPEDecoder\",\"suffix\":\"o\"}";
    assert_string_equal(DECODED(&c, 10, 3), "hell h");
    c.decoder = "{\"type\":\"ByteLevel\"}";
    c.pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}";
    assert_string_equal(DECODED(&c, 11, 10, 16, 1), " hello\xef\xbf\xbd<s>");
}

static void added_tokens_outside_the_vocabulary_extend_it(void **state)
{
    (void)state;
    json_case c = {.added = "[{\"id\":25,\"content\":\"<|im_end|>\",\"special\":true}]"};
    tokenizer *t;
    assert_ok(open_text(&t, json_file(&c), NULL), &error);
    assert_int_equal(tokenizer_size(t), 26);
    assert_true(tokenizer_is_special(t, 25));
    assert_true(tokenizer_is_end(t, 25)); /* by its name */
    assert_false(tokenizer_is_special(t, 26));
    assert_int_equal(tokenizer_piece(t, 20).n, 0);
    assert_int_equal(tokenizer_kind_of(t), TOKENIZER_BPE);
    tokenizer_close(&t);
}

static void control_tokens_cannot_be_merged_from_text(void **state)
{
    (void)state;
    json_case c = {.added = "[{\"id\":10,\"content\":\"hello\",\"special\":true,\"normalized\":false}]"};
    tokenizer *t;
    mlxr_status status = open_text(&t, json_file(&c), NULL);
    assert_int_equal(status, MLXR_FORMAT); /* a merge leads to it */
    assert_non_null(strstr(error.text, "product"));
}

static void old_files_need_no_model_type(void **state)
{
    (void)state;
    tokenizer *t;
    const char *wordpiece = "{\"model\":{\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
                            "\"max_input_chars_per_word\":3,\"vocab\":{\"[UNK]\":0,\"a\":1,\"##b\":2}}}";
    assert_ok(open_text(&t, wordpiece, NULL), &error);
    assert_int_equal(tokenizer_kind_of(t), TOKENIZER_WORDPIECE);
    token_list list = {0};
    assert_ok(tokenizer_encode(t, "abb", 3, 0, &list, &error), &error);
    assert_int_equal(list.n, 3);
    assert_ok(tokenizer_encode(t, "abbb", 4, 0, &list, &error), &error);
    assert_int_equal(list.ids[list.n - 1], 0); /* too long */
    tokenizer_close(&t);
    list.n = 0;
    assert_ok(open_text(&t,
                        "\xef\xbb\xbf{\"model\":{\"vocab\":[[\"<unk>\",0],[\"a\",-1.5e0],[\"aa\",-2]],\"unk_id\":0}}",
                        NULL),
              &error);
    assert_int_equal(tokenizer_kind_of(t), TOKENIZER_UNIGRAM);
    assert_ok(tokenizer_encode(t, "aaa?", 4, 0, &list, &error), &error);
    assert_int_equal(list.n, 3);
    token_list_close(&list);
    tokenizer_close(&t);
}

static void words_without_an_unknown_token_are_refused_when_met(void **state)
{
    (void)state;
    tokenizer *t;
    token_list list = {0};
    assert_ok(open_text(&t,
                        "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"max_input_chars_per_word\":"
                        "99999999999,\"vocab\":{\"a\":1}}}",
                        NULL),
              &error);
    assert_int_equal(tokenizer_encode(t, "ab", 2, 0, &list, &error), MLXR_UNSUPPORTED);
    assert_int_equal(list.n, 0);
    tokenizer_close(&t);
    assert_ok(open_text(&t, "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}}", NULL), &error);
    assert_int_equal(tokenizer_encode(t, "ab", 2, 0, &list, &error), MLXR_UNSUPPORTED);
    tokenizer_close(&t);
    token_list_close(&list);
}

static void strings_may_be_escaped(void **state)
{
    (void)state;
    json_case c = {
        .vocab = "{\"\\u0041\":0,\"\\ud83d\\ude00\":1,\"\\\"\\\\\\/\":2,\"\\b\\f\\n\\r\\t\":3,\"\\u00E9\":4}",
        .merges = "[]"};
    EXPECT(&c, "A\xf0\x9f\x98\x80\xc3\xa9", 0, 0, 1, 4);
}

static void every_setting_may_be_left_out_or_null(void **state)
{
    (void)state;
    /* h 3, e 4, l 5, o 6, he 7, ll 8, hell 9, hello 10, space 14, x 17 */
    EXPECT(
        &(json_case){.normalizer = "{\"type\":\"BertNormalizer\",\"clean_text\":false,\"handle_chinese_chars\":false,"
                                   "\"strip_accents\":null,\"lowercase\":true}"},
        "HE", 0, 7);
    EXPECT(&(json_case){.normalizer = "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"strip_accents\":true,"
                                      "\"lowercase\":false}"},
           "h\t\xc3\xa9", 0, 3, 14, 4);
    EXPECT(&(json_case){.normalizer = "{\"type\":\"Strip\",\"strip_left\":false}"}, " h ", 0, 14, 3);
    EXPECT(&(json_case){.normalizer = "{\"type\":\"Strip\",\"strip_right\":false,\"strip_left\":null}"}, " h ", 0, 3,
           14);
    EXPECT(&(json_case){.pre_tokenizer = "{\"type\":\"Punctuation\"}"}, "h,e", 0, 3, 4);
    EXPECT(&(json_case){.pre_tokenizer = "{\"type\":\"FixedLength\"}"}, "helloh", 0, 10, 3);
    EXPECT(&(json_case){.pre_tokenizer = "{\"type\":\"FixedLength\",\"length\":2}"}, "hello", 0, 7, 8, 6);
    EXPECT(&(json_case){.pre_tokenizer = "{\"type\":\"Digits\"}"}, "h12e", 0, 3, 4);
    EXPECT(&(json_case){.pre_tokenizer = "{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"x\"}"}, "hxe", 0, 3, 4);
    EXPECT(&(json_case){.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"}, "he", 0, 7);
    json_case c = {.added = "null",
                   .merges = "[\"h e\",\"hell o\",\"he ll\",\"l l\",\"<unk> <unk>\"]",
                   .vocab = "{\"h\":0,\"e\":1,\"l\":2,\"o\":3,\"he\":4,\"hell\":5,\"ll\":6,\"hello\":7,\"<unk>\":8,"
                            "\"<unk><unk>\":9}"};
    EXPECT(&c, "hello", 0, 7);
    EXPECT(&(json_case){.added = "[{\"id\":3,\"content\":\"h\"},{\"id\":30,\"content\":\"\"}]"}, "he", 0, 3, 4);
    EXPECT(&(json_case){.settings = "\"a_key_that_is_far_longer_than_any_we_know\":[{}],\"unk_id\":\"7\","}, "he", 0,
           7);
    c = (json_case){.normalizer = "{\"type\":\"ByteLevel\"}", .vocab = "{\"h\":0,\"\xc4\xa0\":1}", .merges = "[]"};
    EXPECT(&c, "h h", 0, 0, 1, 0);
    EXPECT(&(json_case){.pre_tokenizer = "{\"type\":\"ByteLevel\",\"use_regex\":false}"}, "he", 0, 11, 7);
    EXPECT(&(json_case){.decoder = "{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":0}"}, "he", 0, 7);
    EXPECT(&(json_case){.decoder = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"}"}, "he", 0,
           7);
    EXPECT(&(json_case){.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"\"}"}, "he", 0, 7);
}

#define SPLIT(pattern) "{\"type\":\"Split\",\"pattern\":" pattern ",\"behavior\":\"Isolated\",\"invert\":false}"

/* Splits "h e" style texts by an expression; the pieces' ids tell where. */
static void expect_split(const char *regex, const char *text, size_t n, const int32_t *ids)
{
    char step[512];
    snprintf(step, sizeof step, SPLIT("{\"Regex\":\"%s\"}"), regex);
    json_case c = {.pre_tokenizer = step};
    expect_ids(&c, text, 0, n, ids);
}

static void expressions_mean_what_the_reference_means(void **state)
{
    (void)state;
    /* he 7, hell 9, hello 10, space 14, x 17, é 16 */
    expect_split("\\\\d", "he", IDS(7));
    expect_split("\\\\D", "he", IDS(3, 4));
    expect_split("[\\\\D]", "he", IDS(3, 4));
    expect_split("\\\\h", "hello", IDS(3, 4, 8, 6)); /* a hexadecimal digit, not a space */
    expect_split("[\\\\h]", "hello", IDS(3, 4, 8, 6));
    expect_split("\\\\W", "he o", IDS(7, 14, 6));
    expect_split("[\\\\w]", "he", IDS(3, 4));
    expect_split("\\\\u0065", "hello", IDS(3, 4, 8, 6));
    expect_split("(?mi:.)", "he", IDS(3, 4));
    expect_split("(?-m)\\\\P{L}", "he o", IDS(7, 14, 6));
    expect_split("[^\\\\p{Han}]", "he", IDS(3, 4));
    expect_split("\\\\P{Han}", "he", IDS(3, 4));
    expect_split("\\\\p{Han}", "he", IDS(7));
    expect_split("[\\\\P{Han}]", "he", IDS(3, 4));
    expect_split("\\\\p{^L}|\\\\P{Greek}", "he", IDS(3, 4));
    expect_split("[\\\\p{Latin}\\\\S\\\\-]", "he", IDS(3, 4));
    expect_split("(?<=e)", "hello", IDS(7, 8, 6));
    expect_split("\\\\b", "he o", IDS(7, 14, 6));
    expect_split("\\\\B", "he o", IDS(3, 4, 14, 6));
    expect_split("^h|o$", "hello", IDS(3, 4, 8, 6));
    expect_split("\\\\p{N}", "he", IDS(7));
    expect_split("\\\\p{N}+", "he", IDS(7));
    json_case c = {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(?=e)|l*\"},\"content\":\"x\"}"};
    EXPECT(&c, "ehl", 0, 17, 4, 17, 3, 17);
}

static void numbers_are_read_as_the_reference_reads_them(void **state)
{
    (void)state;
    tokenizer *t;
    /* b + b beats bb, c + c does not beat cc: by digits that only just count. */
    assert_ok(
        open_text(&t,
                  "{ \"model\" :\t{\r\n\"vocab\":[[\"?\",0],[\"b\",-1.00000000000000000000001e+0],[\"bb\",-2.0001],"
                  "[\"c\",-100E-2],[\"cc\",-1999900000000000000000000e-24],[\"d\",-1e-400],[\"e\",-0]],"
                  "\"unk_id\":0}}",
                  NULL),
        &error);
    token_list list = {0};
    assert_ok(tokenizer_encode(t, "bbcc", 4, 0, &list, &error), &error);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.ids[2], 4);
    token_list_close(&list);
    tokenizer_close(&t);
}

static void configurations_may_say_little_or_nonsense(void **state)
{
    (void)state;
    static const char *const configs[] = {
        "{\"bos_token\":7,\"eos_token\":{\"content\":7},\"add_bos_token\":true,\"add_eos_token\":true}",
        "{\"tokenizer_class\":\"GemmaTokenizer\",\"bos_token\":\"</s>\",\"eos_token\":\"<s>\",\"add_bos_token\":false,"
        "\"add_eos_token\":false}",
        "{\"tokenizer_class\":\"Other\",\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":false,"
        "\"add_eos_token\":false}",
        "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":true,\"add_eos_token\":true}",
        "{\"bos_token\":\"not there\"}",
        "[]",
    };
    json_case c = {.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"<s>\",1],\"sep\":[\"</s>\",2]}"};
    for (size_t i = 0; i < 2 * sizeof configs / sizeof *configs; i++) {
        tokenizer *t;
        token_list list = {0};
        c.post_processor = i % 2 ? NULL : c.post_processor;
        assert_ok(open_text(&t, json_file(&c), configs[i / 2]), &error);
        assert_ok(tokenizer_encode(t, "o", 1, MLXR_TOKENIZE_ADD_SPECIAL, &list, &error), &error);
        assert_true(list.n >= 1 && list.n <= 3);
        token_list_close(&list);
        tokenizer_close(&t);
        c.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"<s>\",1],\"sep\":[\"</s>\",2]}";
    }
}

static void unigram_models_may_have_bytes_and_added_tokens(void **state)
{
    (void)state;
    tokenizer *t;
    assert_ok(open_text(&t,
                        "{\"added_tokens\":[{\"id\":3,\"content\":\"xy\",\"normalized\":true},{\"id\":2,"
                        "\"content\":\"b\"}],\"model\":{\"byte_fallback\":true,\"unk_id\":0,\"vocab\":[[\"<unk>\",0],"
                        "[\"<0x41>\",-1],[\"b\",-1]]}}",
                        NULL),
              &error);
    token_list list = {0};
    assert_ok(tokenizer_encode(t, "Abxy?", 5, 0, &list, &error), &error);
    const int32_t ids[] = {1, 2, 3, 0};
    assert_int_equal(list.n, 4);
    assert_memory_equal(list.ids, ids, sizeof ids);
    token_list_close(&list);
    tokenizer_close(&t);
}

static void members_of_unreasonable_size_are_refused(void **state)
{
    (void)state;
    size_t n = (size_t)65 << 20;
    char *json = malloc(n);
    assert_non_null(json);
    memset(json, ' ', n);
    const char *head = "{\"normalizer\":[", *tail = "],\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}";
    memcpy(json, head, strlen(head));
    memcpy(json + n - strlen(tail), tail, strlen(tail));
    tokenizer *t = NULL;
    assert_int_equal(tokenizer_open_json(&t, json, n, NULL, 0, &error), MLXR_LIMIT);
    free(json);
}

/* ---- hostile files ---- */

typedef struct hostile {
    const char *says; /* part of the error */
    mlxr_status status;
    json_case c; /* if text is NULL */
    const char *text;
} hostile;

#define DEEP8 "{\"type\":\"Sequence\",\"normalizers\":["
#define DEEP64 "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["

static const hostile cases[] = {
    {"expected '{'", MLXR_FORMAT, .text = ""},
    {"expected '{'", MLXR_FORMAT, .text = "[]"},
    {"expected '\"'", MLXR_FORMAT, .text = "{"},
    {"no model", MLXR_FORMAT, .text = "{}"},
    {"no model", MLXR_FORMAT, .text = "{\"model\":{}}"},
    {"expected '{'", MLXR_FORMAT, .text = "{\"model\":null}"},
    {"expected ':'", MLXR_FORMAT, .text = "{\"model\"}"},
    {"expected ','", MLXR_FORMAT, .text = "{\"a\":1 \"b\":2}"},
    {"expected '\"'", MLXR_FORMAT, .text = "{\"a\":1,}"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":[1,]}"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":}"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":-}"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":1.}"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":1e}"},
    {"expected '\"'", MLXR_FORMAT, .text = "{\"a\":{1:2}}"},
    {"not a value", MLXR_FORMAT, .text = "{\"a\":nul}"},
    {"not a value", MLXR_FORMAT, .text = "{\"a\":tru"},
    {"not a value", MLXR_FORMAT, .text = "{\"a\":fals"},
    {"unfinished string", MLXR_FORMAT, .text = "{\"a"},
    {"control character", MLXR_FORMAT, .text = "{\"a\n\":1}"},
    {"invalid UTF-8", MLXR_FORMAT, .text = "{\"\xff\":1}"},
    {"invalid UTF-8", MLXR_FORMAT, .text = "{\"\xc3"},
    {"unknown escape", MLXR_FORMAT, .text = "{\"\\q\":1}"},
    {"unknown escape", MLXR_FORMAT, .text = "{\"\\"},
    {"bad \\u escape", MLXR_FORMAT, .text = "{\"\\u12g4\":1}"},
    {"bad \\u escape", MLXR_FORMAT, .text = "{\"\\u12"},
    {"bad \\u escape", MLXR_FORMAT, .text = "{\"\\ud800\\u12"},
    {"surrogate", MLXR_FORMAT, .text = "{\"\\ud800\":1}"},
    {"surrogate", MLXR_FORMAT, .text = "{\"\\ud800\\u0041\":1}"},
    {"surrogate", MLXR_FORMAT, .text = "{\"\\ud800\\ue000\":1}"},
    {"surrogate", MLXR_FORMAT, .text = "{\"\\udc00\":1}"},
    {"surrogate", MLXR_FORMAT, .text = "{\"\\ud800\\"},
    {"nested deeper", MLXR_LIMIT, .text = "{\"a\":" DEEP64 "[1"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":" DEEP64},
    {"something follows", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}} x"},
    {"expected", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":7}}"},
    {"expected", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":[7]}}"},
    {"expected", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":[[\"a\"]]}}"},
    {"expected", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":[[\"a\",1,2]]}}"},
    {"not a number", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{\"a\":\"b\"}}}"},
    {"is no token id", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{\"a\":-1}}}"},
    {"is no token id", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{\"a\":1.5}}}"},
    {"is no token id", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{\"a\":1e300}}}"},
    {"is no token id", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{\"a\":123456789012345678901234567890}}}"},
    {"is no token score", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":[[\"a\",1e999]]}}"},
    {"ids up to", MLXR_LIMIT, .text = "{\"model\":{\"vocab\":{\"a\":2000000000},\"merges\":[]}}"},
    {"the vocabulary is empty", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{},\"merges\":[]}}"},
    {"two tokens with id 1", MLXR_FORMAT, .c = {.vocab = "{\"a\":1,\"b\":1}"}},
    {"without merges", MLXR_FORMAT, .text = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}"},
    {"vocab is a list", MLXR_FORMAT, .text = "{\"model\":{\"type\":\"BPE\",\"vocab\":[[\"a\",0]],\"merges\":[]}}"},
    {"vocab is a list", MLXR_FORMAT, .text = "{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}"},
    {"\"WordLevel\" is not supported", MLXR_UNSUPPORTED,
     .text = "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}"},
    {"dropout", MLXR_UNSUPPORTED, .c = {.settings = "\"dropout\":0.1,"}},
    {"unk_token", MLXR_FORMAT, .c = {.settings = "\"unk_token\":\"[U]\","}},
    {"unk_id", MLXR_FORMAT, .text = "{\"model\":{\"unk_id\":5,\"vocab\":[[\"a\",0]]}}"},
    {"unk_id", MLXR_FORMAT, .text = "{\"model\":{\"unk_id\":-5,\"vocab\":[[\"a\",0]]}}"},
    {"left side", MLXR_FORMAT, .c = {.merges = "[\"q h\"]"}},
    {"right side", MLXR_FORMAT, .c = {.merges = "[\"h q\"]"}},
    {"product", MLXR_FORMAT, .c = {.merges = "[\"h h\"]"}},
    {"two texts", MLXR_FORMAT, .c = {.merges = "[\"hello\"]"}},
    {"two texts", MLXR_FORMAT, .c = {.merges = "[\"h e l\"]"}},
    {"two texts", MLXR_FORMAT, .c = {.merges = "[\"\"]"}},
    {"expected", MLXR_FORMAT, .c = {.merges = "[[\"h\"]]"}},
    {"expected", MLXR_FORMAT, .c = {.merges = "[[\"h\",\"e\",\"l\"]]"}},
    {"expected", MLXR_FORMAT, .c = {.merges = "[7]"}},
    {"expected", MLXR_FORMAT, .c = {.merges = "null"}},
    {"unfinished string", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a"},
    {"added_tokens is not a list", MLXR_FORMAT, .c = {.added = "{}"}},
    {"no content", MLXR_FORMAT, .c = {.added = "[7]"}},
    {"no content or no id", MLXR_FORMAT, .c = {.added = "[{\"id\":1}]"}},
    {"no content or no id", MLXR_FORMAT, .c = {.added = "[{\"content\":\"a\"}]"}},
    {"no content or no id", MLXR_FORMAT, .c = {.added = "[{\"id\":-1,\"content\":\"a\"}]"}},
    {"no content or no id", MLXR_FORMAT, .c = {.added = "[{\"id\":9999999999,\"content\":\"a\"}]"}},
    {"of another token", MLXR_FORMAT, .c = {.added = "[{\"id\":3,\"content\":\"q\"}]"}},
    {"ids up to", MLXR_LIMIT, .c = {.added = "[{\"id\":99999999,\"content\":\"q\"}]"}},
    {"without a type", MLXR_UNSUPPORTED, .c = {.normalizer = "7"}},
    {"normalizer \"Magic\"", MLXR_UNSUPPORTED, .c = {.normalizer = "{\"type\":\"Magic\"}"}},
    {"\"prepend\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"Prepend\"}"}},
    {"\"content\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}"}},
    {"\"pattern\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"Replace\",\"content\":\"\"}"}},
    {"\"pattern\"", MLXR_FORMAT,
     .c = {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}"}},
    {"\"strip_left\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"Strip\",\"strip_left\":7}"}},
    {"\"strip_right\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"Strip\",\"strip_right\":\"\"}"}},
    {"\"clean_text\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"BertNormalizer\",\"clean_text\":1}"}},
    {"\"handle_chinese_chars\"", MLXR_FORMAT,
     .c = {.normalizer = "{\"type\":\"BertNormalizer\",\"handle_chinese_chars\":1}"}},
    {"\"lowercase\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"BertNormalizer\",\"lowercase\":1}"}},
    {"\"strip_accents\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"BertNormalizer\",\"strip_accents\":1}"}},
    {"\"normalizers\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"Sequence\"}"}},
    {"nested deeper", MLXR_LIMIT,
     .c = {.normalizer = DEEP8 DEEP8 DEEP8 DEEP8 DEEP8 DEEP8 DEEP8 DEEP8 DEEP8 "]}]}]}]}]}]}]}]}]}"}},
    {"\"precompiled_charsmap\"", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"Precompiled\"}"}},
    {"not base64", MLXR_FORMAT, .c = {.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AA?A\"}"}},
    {"normalisation map", MLXR_FORMAT,
     .c = {.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA=\"}"}},
    {"normalisation map", MLXR_FORMAT,
     .c = {.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}"}},
    {"two Precompiled", MLXR_UNSUPPORTED,
     .c = {.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Precompiled\",\"precompiled_charsmap\":"
                         "\"BAAAAAAAAAA=\"},{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAA=\"}]}"}},
    {"pre_tokenizer \"UnicodeScripts\"", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = "{\"type\":\"UnicodeScripts\"}"}},
    {"\"pretokenizers\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":{}}"}},
    {"\"pattern\"", MLXR_FORMAT, .c = {.pre_tokenizer = SPLIT("7")}},
    {"\"pattern\"", MLXR_FORMAT, .c = {.pre_tokenizer = SPLIT("{\"Regex\":7}")}},
    {"regular expression", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"(\"}")}},
    {"regular expression", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"a\\\\\"}")}},
    {"&&", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"[a&&b]\"}")}},
    {"negated set", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"[a[^b]]\"}")}},
    {"POSIX", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"[[:alpha:]]\"}")}},
    {"begins with ]", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"[]a]\"}")}},
    {"\\b in a set", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"[\\\\b]\"}")}},
    {"\\W in a set", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"[\\\\W]\"}")}},
    {"\\K", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"a\\\\Kb\"}")}},
    {"\\u without", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"\\\\u12\"}")}},
    {"a property", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"\\\\pL\"}")}},
    {"a property", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"\\\\p{L\"}")}},
    {"regular expression", MLXR_UNSUPPORTED, .c = {.pre_tokenizer = SPLIT("{\"Regex\":\"\\\\p{Nonsense}\"}")}},
    {"\"behavior\"", MLXR_FORMAT,
     .c = {.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Odd\"}"}},
    {"\"behavior\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"Punctuation\",\"behavior\":7}"}},
    {"\"invert\"", MLXR_FORMAT,
     .c = {.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Removed\","
                            "\"invert\":7}"}},
    {"\"add_prefix_space\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":7}"}},
    {"\"use_regex\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"ByteLevel\",\"use_regex\":7}"}},
    {"more than one ByteLevel", MLXR_UNSUPPORTED,
     .c = {.pre_tokenizer =
               "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"ByteLevel\"}]}"}},
    {"more than one ByteLevel", MLXR_UNSUPPORTED,
     .c = {.normalizer = "{\"type\":\"ByteLevel\"}", .pre_tokenizer = "{\"type\":\"ByteLevel\"}"}},
    {"\"prepend_scheme\"", MLXR_FORMAT,
     .c = {.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"odd\"}"}},
    {"\"add_prefix_space\"", MLXR_FORMAT,
     .c = {.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":1}"}},
    {"\"split\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"split\":1}"}},
    {"\"replacement\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"Metaspace\"}"}},
    {"\"replacement\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"\"}"}},
    {"\"individual_digits\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"Digits\",\"individual_digits\":7}"}},
    {"\"delimiter\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"CharDelimiterSplit\"}"}},
    {"\"delimiter\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"Delimiter\",\"delimiter\":\"\"}"}},
    {"\"length\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"FixedLength\",\"length\":0}"}},
    {"\"length\"", MLXR_FORMAT, .c = {.pre_tokenizer = "{\"type\":\"FixedLength\",\"length\":99999999999}"}},
    {"decoder \"CTC\"", MLXR_UNSUPPORTED, .c = {.decoder = "{\"type\":\"CTC\"}"}},
    {"\"decoders\"", MLXR_FORMAT, .c = {.decoder = "{\"type\":\"Sequence\"}"}},
    {"regular expression", MLXR_UNSUPPORTED,
     .c = {.decoder = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}"}},
    {"\"pattern\"", MLXR_FORMAT,
     .c = {.decoder = "{\"type\":\"Replace\",\"pattern\":{\"String\":7},\"content\":\"\"}"}},
    {"\"content\"", MLXR_FORMAT, .c = {.decoder = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}"}},
    {"\"replacement\"", MLXR_FORMAT, .c = {.decoder = "{\"type\":\"Metaspace\"}"}},
    {"\"prepend_scheme\"", MLXR_FORMAT, .c = {.decoder = "{\"type\":\"Metaspace\",\"prepend_scheme\":7}"}},
    {"decoder Strip", MLXR_UNSUPPORTED,
     .c = {.decoder = "{\"type\":\"Strip\",\"content\":\"x\",\"start\":1,\"stop\":0}"}},
    {"decoder Strip", MLXR_UNSUPPORTED,
     .c = {.decoder = "{\"type\":\"Strip\",\"content\":\" \",\"start\":2,\"stop\":0}"}},
    {"decoder Strip", MLXR_UNSUPPORTED,
     .c = {.decoder = "{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":1}"}},
    {"decoder Strip", MLXR_UNSUPPORTED, .c = {.decoder = "{\"type\":\"Strip\"}"}},
    {"\"prefix\"", MLXR_FORMAT, .c = {.decoder = "{\"type\":\"WordPiece\"}"}},
    {"\"suffix\"", MLXR_FORMAT, .c = {.decoder = "{\"type\":\"BPEDecoder\"}"}},
    {"post_processor \"Magic\"", MLXR_UNSUPPORTED, .c = {.post_processor = "{\"type\":\"Magic\"}"}},
    {"\"processors\"", MLXR_FORMAT, .c = {.post_processor = "{\"type\":\"Sequence\"}"}},
    {"\"single\"", MLXR_FORMAT, .c = {.post_processor = "{\"type\":\"TemplateProcessing\"}"}},
    {"\"Sequence\"", MLXR_FORMAT, .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[]}"}},
    {"text twice", MLXR_UNSUPPORTED,
     .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{}},{\"Sequence\":{}}]}"}},
    {"\"special_tokens\"", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}"}},
    {"\"special_tokens\"", MLXR_FORMAT, .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[7]}"}},
    {"\"ids\"", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
                             "\"special_tokens\":{\"x\":{\"ids\":[\"a\"]}}}"}},
    {"\"ids\"", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
                             "\"special_tokens\":{\"x\":{\"ids\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}}"}},
    {"outside the vocabulary", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
                             "\"special_tokens\":{\"x\":{\"ids\":[-1]}}}"}},
    {"\"cls\"", MLXR_FORMAT, .c = {.post_processor = "{\"type\":\"BertProcessing\",\"sep\":[\"a\",1]}"}},
    {"\"sep\"", MLXR_FORMAT, .c = {.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"a\",1]}"}},
    {"\"sep\"", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"a\",1],\"sep\":[\"b\",\"c\"]}"}},
    {"\"cls\"", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"a\",\"b\"],\"sep\":[\"b\",1]}"}},
    {"\"single\"", MLXR_FORMAT, .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":{}}"}},
    {"\"special_tokens\"", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
                             "\"special_tokens\":{\"x\":{\"ids\":7}}}"}},
    {"more than 16 tokens", MLXR_LIMIT,
     .c = {.post_processor = "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"TemplateProcessing\",\"single\":["
                             "{\"Sequence\":{}},{\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":"
                             "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}},{\"type\":\"BertProcessing\",\"cls\":[\"a\",1],"
                             "\"sep\":[\"b\",1]}]}"}},
    {"not base64", MLXR_FORMAT,
     .c = {.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A\\u0000==\"}"}},
    {"no content or no id", MLXR_FORMAT, .c = {.added = "[{\"id\":1.5,\"content\":\"a\"}]"}},
    {"no content or no id", MLXR_FORMAT, .c = {.added = "[{\"id\":1,\"content\":7}]"}},
    {"added_tokens", MLXR_FORMAT, .c = {.added = "1e999"}},
    {"normalizer", MLXR_FORMAT, .c = {.normalizer = "1e999"}},
    {"pre_tokenizer", MLXR_FORMAT, .c = {.pre_tokenizer = "1e999"}},
    {"post_processor", MLXR_FORMAT, .c = {.post_processor = "1e999"}},
    {"decoder", MLXR_FORMAT, .c = {.decoder = "1e999"}},
    {"model", MLXR_FORMAT, .c = {.settings = "\"unk_token\":1e999,"}},
    {"surrogate", MLXR_FORMAT, .text = "{\"\\ud800x\":1}"},
    {"surrogate", MLXR_FORMAT, .text = "{\"\\ud800\\n\":1}"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":1e"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":1e+"},
    {"not a number", MLXR_FORMAT, .text = "{\"a\":"},
    {"expected", MLXR_FORMAT, .text = "{\"a\":1e5"},
    {"expected", MLXR_FORMAT, .text = "{\"a\":1.5"},
    {"is no token id", MLXR_FORMAT, .text = "{\"model\":{\"vocab\":{\"a\":1e99999999}}}"},
    {"outside the vocabulary", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"a\",99],\"sep\":[\"b\",1]}"}},
    {"outside the vocabulary", MLXR_FORMAT,
     .c = {.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"a\",1],\"sep\":[\"b\",99]}"}},
    {"ByteLevel with a model", MLXR_UNSUPPORTED,
     .text = "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"vocab\":[[\"a\",0]]}}"},
};

static void hostile_files_are_refused_in_words(void **state)
{
    (void)state;
    assert_true(sizeof cases / sizeof *cases >= 50);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tokenizer *t;
        const char *json = cases[i].text ? cases[i].text : json_file(&cases[i].c);
        mlxr_status status = open_text(&t, json, NULL);
        if (status != cases[i].status || !strstr(error.text, cases[i].says) || t) {
            fail_msg("case %zu, %.200s: status %d, \"%s\"; expected %d, \"%s\"", i, json, status, error.text,
                     cases[i].status, cases[i].says);
        }
        assert_null(strchr(error.text, '\n'));
    }
}

static void configurations_must_be_json(void **state)
{
    (void)state;
    tokenizer *t;
    assert_int_equal(open_text(&t, json_file(&(json_case){0}), "{"), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "tokenizer_config.json"));
}

/* A sequence of `n` copies of `step`. */
static const char *sequence_of(const char *list, const char *step, unsigned n)
{
    static char text[8192];
    int used = snprintf(text, sizeof text, "{\"type\":\"Sequence\",\"%s\":[", list);
    for (unsigned i = 0; i < n; i++) {
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%s", i ? "," : "", step);
    }
    snprintf(text + used, sizeof text - (size_t)used, "]}");
    return text;
}

static void too_many_steps_are_refused(void **state)
{
    (void)state;
    tokenizer *t;
    json_case c = {.normalizer = sequence_of("normalizers", "{\"type\":\"NFC\"}", 25)};
    assert_int_equal(open_text(&t, json_file(&c), NULL), MLXR_LIMIT);
    c = (json_case){.pre_tokenizer = sequence_of("pretokenizers", "{\"type\":\"Whitespace\"}", 25)};
    assert_int_equal(open_text(&t, json_file(&c), NULL), MLXR_LIMIT);
    c = (json_case){.pre_tokenizer = sequence_of("pretokenizers", "{\"type\":\"BertPreTokenizer\"}", 13)};
    assert_int_equal(open_text(&t, json_file(&c), NULL), MLXR_LIMIT);
    c = (json_case){.decoder = sequence_of("decoders",
                                           "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                                           "\"content\":\"b\"}",
                                           5)};
    assert_int_equal(open_text(&t, json_file(&c), NULL), MLXR_LIMIT);
    c = (json_case){.post_processor = sequence_of("processors",
                                                  "{\"type\":\"BertProcessing\",\"cls\":[\"a\",1],"
                                                  "\"sep\":[\"b\",1]}",
                                                  17)};
    assert_int_equal(open_text(&t, json_file(&c), NULL), MLXR_LIMIT);
}

static void every_cut_of_a_file_is_refused(void **state)
{
    (void)state;
    json_case c = {.normalizer = "{\"type\":\"NFC\"}", .added = "[{\"id\":1,\"content\":\"<s>\",\"special\":true}]"};
    const char *json = json_file(&c);
    size_t n = strlen(json);
    for (size_t cut = 0; cut < n; cut++) {
        tokenizer *t = NULL;
        char *copy = malloc(cut ? cut : 1);
        assert_non_null(copy);
        memcpy(copy, json, cut);
        assert_int_not_equal(tokenizer_open_json(&t, copy, cut, NULL, 0, &error), MLXR_OK);
        assert_null(t);
        free(copy);
    }
}

static void expressions_that_take_too_long_are_stopped(void **state)
{
    (void)state;
    tokenizer *t;
    json_case c = {.pre_tokenizer = SPLIT("{\"Regex\":\"(h+h+)+[xy]\"}")};
    assert_ok(open_text(&t, json_file(&c), NULL), &error);
    char text[200];
    memset(text, 'h', sizeof text);
    token_list list = {0};
    assert_int_equal(tokenizer_encode(t, text, sizeof text, 0, &list, &error), MLXR_LIMIT);
    assert_int_equal(list.n, 0);
    tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_come_as_texts_and_as_pairs),
        cmocka_unit_test(unknown_characters_are_dropped_or_unknown_or_fused),
        cmocka_unit_test(special_tokens_are_text_unless_asked_for),
        cmocka_unit_test(single_words_match_only_alone),
        cmocka_unit_test(templates_add_tokens_around_the_text),
        cmocka_unit_test(the_configuration_names_and_adds_bos_and_eos),
        cmocka_unit_test(decoders_say_what_tokens_are_as_text),
        cmocka_unit_test(added_tokens_outside_the_vocabulary_extend_it),
        cmocka_unit_test(control_tokens_cannot_be_merged_from_text),
        cmocka_unit_test(old_files_need_no_model_type),
        cmocka_unit_test(words_without_an_unknown_token_are_refused_when_met),
        cmocka_unit_test(strings_may_be_escaped),
        cmocka_unit_test(every_setting_may_be_left_out_or_null),
        cmocka_unit_test(expressions_mean_what_the_reference_means),
        cmocka_unit_test(numbers_are_read_as_the_reference_reads_them),
        cmocka_unit_test(configurations_may_say_little_or_nonsense),
        cmocka_unit_test(unigram_models_may_have_bytes_and_added_tokens),
        cmocka_unit_test(members_of_unreasonable_size_are_refused),
        cmocka_unit_test(hostile_files_are_refused_in_words),
        cmocka_unit_test(configurations_must_be_json),
        cmocka_unit_test(too_many_steps_are_refused),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
        cmocka_unit_test(expressions_that_take_too_long_are_stopped),
    };
    return cmocka_run_group_tests_name("tokenizer.json", tests, NULL, NULL);
}
