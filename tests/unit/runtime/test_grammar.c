/*
 * Grammars: GBNF and JSON Schema accept what they should and nothing else; masks are what trying every token gives.
 * Owner: the test program. Lifetime: the process.
 */
#include "runtime/grammar/grammar.h"

#include <inttypes.h>
#include <jansson.h>
#include <time.h>

#include "support/test.h"

/* Every byte as a token (SentencePiece's byte tokens), some longer texts, one end token. */
enum { N_LONG = 24, N_TOKENS = 256 + N_LONG + 1 };

static const char *const long_texts[N_LONG] = {"\":", "\", \"", "{\"", "true",         "false", "null", "},",  "12",
                                               "1.5", "name",   "\"}", "\xe2\x82\xac", "é",     "[[",   "]]",  " ",
                                               "\n",  "aa",     "aab", "ab",           "\\n",   "\\\"", "yes", "-1"};

static tokenizer *open_tokenizer(void)
{
    static char byte_names[256][8];
    token_text tokens[N_TOKENS];
    int32_t types[N_TOKENS];
    float scores[N_TOKENS] = {0};
    mlxr_error error;
    tokenizer *t = NULL;
    for (int i = 0; i < 256; i++) {
        snprintf(byte_names[i], sizeof byte_names[i], "<0x%02X>", i);
        tokens[i] = (token_text){byte_names[i], 6};
        types[i] = TOKEN_BYTE;
    }
    for (int i = 0; i < N_LONG; i++) {
        tokens[256 + i] = (token_text){long_texts[i], strlen(long_texts[i])};
        types[256 + i] = TOKEN_USER_DEFINED;
    }
    tokens[N_TOKENS - 1] = (token_text){"</s>", 4};
    types[N_TOKENS - 1] = TOKEN_CONTROL;
    tokenizer_source source = {.kind = TOKENIZER_SPM,
                               .n_tokens = N_TOKENS,
                               .tokens = tokens,
                               .scores = scores,
                               .types = types,
                               .bos = -1,
                               .eos = N_TOKENS - 1,
                               .eot = -1,
                               .unk = -1,
                               .pad = -1,
                               .sep = -1,
                               .cls = -1,
                               .mask = -1};
    assert_ok(tokenizer_open(&t, &source, &error), &error);
    return t;
}

static tokenizer *vocabulary;
static token_trie *trie;

static int set_up(void **state)
{
    (void)state;
    mlxr_error error;
    vocabulary = open_tokenizer();
    assert_ok(token_trie_open(&trie, vocabulary, N_TOKENS, &error), &error);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    token_trie_close(&trie);
    tokenizer_close(&vocabulary);
    return 0;
}

static grammar *gbnf(const char *text)
{
    grammar *g = NULL;
    mlxr_error error;
    assert_ok(grammar_open_gbnf(&g, text, strlen(text), trie, &error), &error);
    return g;
}

static grammar *from_schema(const char *text)
{
    grammar *g = NULL;
    mlxr_error error;
    assert_ok(grammar_open_schema(&g, text, strlen(text), trie, &error), &error);
    return g;
}

static bool accepts(grammar *g, const char *text)
{
    uint32_t state = grammar_advance_bytes(g, GRAMMAR_START, text, strlen(text));
    return state != GRAMMAR_DEAD && grammar_may_end(g, state);
}

/* Checks texts against a grammar and closes it: those behind NULL must be refused. */
static void check(grammar *g, const char *const *texts)
{
    bool expected = true;
    for (int n_null = 0; n_null < 2; texts++) {
        if (!*texts) {
            expected = false;
            n_null++;
        } else if (accepts(g, *texts) != expected) {
            fail_msg("'%s' should be %s", *texts, expected ? "accepted" : "refused");
        }
    }
    grammar_unref(&g);
}

#define CHECK(grammar_of, ...) check(grammar_of, (const char *const[]){__VA_ARGS__, NULL})

static void gbnf_means_what_it_says(void **state)
{
    (void)state;
    CHECK(gbnf("root ::= \"a\" | \"b\" \"c\""), "a", "bc", NULL, "", "b", "ac", "abc");
    CHECK(gbnf("root ::= [a-c]+ [^0-9]? \"\\n\""), "a\n", "abc!\n", "ccé\n", NULL, "\n", "a", "a1\n", "d\n");
    CHECK(gbnf("root ::= ( \"x\" | \"yz\" )* \"!\" # a comment"), "!", "x!", "xyzx!", NULL, "xy!", "x");
    CHECK(gbnf("root ::= \"a\"{2} \"b\"{1,3} \"c\"{2,}"), "aabcc", "aabbbcccc", NULL, "abcc", "aabbbbcc", "aabc");
    CHECK(gbnf("root ::= list\nlist ::= item (\",\" item)*\nitem ::= [0-9]+ | \"(\" list \")\""), "1", "1,(2,(3)),4",
          NULL, "1,", "(1", "()");
    CHECK(gbnf("root ::=\n  \"a\" |\n  \"b\"\n\n"), "a", "b", NULL, "c");
    CHECK(gbnf("root ::= \"\\x41\\u00e9\\U0001F600\\\"\\\\\\t\""), "Aé\xf0\x9f\x98\x80\"\\\t", NULL, "A");
    CHECK(gbnf("root ::= [\\u0000-\\u007f] [\\u0080-\\uffff] [\\U00010000-\\U0010ffff]"),
          "a\xe2\x82\xac\xf0\x90\x80\x80", NULL, "ab", "\xe2\x82\xac");
    CHECK(gbnf("root ::= . ."), "ab", "é\xe2\x82\xac", NULL, "a", "abc", "\xff\xff");
    CHECK(gbnf("root ::= (\"\")* \"a\""), "a", NULL, "", "aa");
    CHECK(gbnf("root ::= \"\" | \"a\" root"), "", "a", "aaaaaaaa", NULL, "b");
    CHECK(gbnf("root ::= ([a-b]? [b-c]?)+ \"d\""), "d", "abcd", "bbbbd", NULL, "e", "ad d");
}

static void every_class_of_characters_is_exact(void **state)
{
    (void)state;
    static const code_range ranges[] = {{0x7e, 0x81},      {0x7ff, 0x802},       {0xd7fe, 0xe001},
                                        {0xfffe, 0x10001}, {0x10fffe, 0x10ffff}, {0x3ff, 0x47f}};
    for (int negated = 0; negated < 2; negated++) {
        rules r = {0};
        grammar *g = NULL;
        mlxr_error error;
        uint32_t root = rules_class(&r, ranges, sizeof ranges / sizeof *ranges, negated);
        assert_ok(grammar_open(&g, &r, root, trie, &error), &error);
        for (uint32_t code = 0; code < 0x110000; code++) {
            char text[5] = {0};
            size_t n = 0;
            if (code < 0x80) {
                text[n++] = (char)code;
            } else if (code < 0x800) {
                text[n++] = (char)(0xc0 | code >> 6);
            } else if (code < 0x10000) {
                text[n++] = (char)(0xe0 | code >> 12);
                text[n++] = (char)(0x80 | (code >> 6 & 0x3f));
            } else {
                text[n++] = (char)(0xf0 | code >> 18);
                text[n++] = (char)(0x80 | (code >> 12 & 0x3f));
                text[n++] = (char)(0x80 | (code >> 6 & 0x3f));
            }
            if (code >= 0x80) {
                text[n++] = (char)(0x80 | (code & 0x3f));
            }
            bool in = false;
            for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
                in = in || (ranges[i].low <= code && code <= ranges[i].high);
            }
            bool expected = (code < 0xd800 || code > 0xdfff) && in != negated;
            uint32_t after = grammar_advance_bytes(g, GRAMMAR_START, text, n);
            if ((after != GRAMMAR_DEAD && grammar_may_end(g, after)) != expected) {
                fail_msg("U+%04X, negated %d", code, negated);
            }
        }
        grammar_unref(&g);
    }
}

static void bad_gbnf_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no rule named 'root'"},
        {"a ::= \"x\"", "no rule named 'root'"},
        {"root ::= \"x", "line 1"},
        {"root ::= [a", "closed by ]"},
        {"root ::= (\"a\"", "closed by )"},
        {"root ::= \"a\"\nroot ::= \"b\"", "line 2"},
        {"root ::= missing", "line 1, column 10: rule 'missing' is used but not defined"},
        {"root ::= \"a\"\n  b ::= root | nil\n", "line 2, column 16: rule 'nil' is used but not defined"},
        {"root ::= root \"a\" | \"b\"", "line 1, column 1: rule 'root' is left-recursive"},
        {"root ::= a\na ::= [b]? a", "can never be finished"},
        {"root ::= \"x\"? root \"a\" | \"b\"", "left-recursive"},
        {"root ::= \"a\"{3,2}", "backwards"},
        {"root ::= \"a\"{2001}", "2000"},
        {"root ::= \"a\"{", "number"},
        {"root ::= [z-a]", "backwards"},
        {"root ::= \"\\q\"", "escape"},
        {"root ::= \"\\u12\"", "hexadecimal"},
        {"root ::= \"\\ud800\"", "not a character"},
        {"root = \"a\"", "::="},
        {"root ::= \"a\" )", "unexpected"},
        {"root ::= *", "expected"},
        {"?", "rule name"},
        {"root ::= \"\xff\"", "UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        grammar *g = NULL;
        mlxr_error error = {0};
        if (grammar_open_gbnf(&g, cases[i].text, strlen(cases[i].text), trie, &error) == MLXR_OK ||
            !strstr(error.text, cases[i].says)) {
            fail_msg("case %zu '%.40s': '%s' should say '%s'", i, cases[i].text, error.text, cases[i].says);
        }
    }
    char deep[400] = "root ::= ";
    for (int i = 0; i < 100; i++) {
        strcat(deep, "(");
    }
    grammar *g = NULL;
    mlxr_error error;
    assert_int_equal(grammar_open_gbnf(&g, deep, strlen(deep), trie, &error), MLXR_FORMAT);
}

static void schemas_accept_their_instances_only(void **state)
{
    (void)state;
    CHECK(from_schema("{}"), "1", "-0.5e+3", "\"a\\u00e9\\n\"", "[1, [], {\"a\":null}]", "{}", "true", NULL, "", "01",
          "{a:1}", "[1,]", "\"\n\"", "+1", "\"\\ud800\"");
    CHECK(from_schema("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"}},"
                      "\"required\":[\"a\"]}"),
          "{\"a\":1}", "{\"a\": 1, \"b\":\"x\"}", NULL, "{}", "{\"b\":\"x\"}", "{\"a\":1.5}", "{\"a\":1,\"c\":2}",
          "{\"b\":\"x\",\"a\":1}");
    CHECK(from_schema("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"additionalProperties\":{"
                      "\"type\":\"boolean\"}}"),
          "{}", "{\"a\":null}", "{\"a\":null,\"b\":true,\"ab\":false}", "{\"x\":true}", "{\"\":true}", NULL,
          "{\"a\":true}", "{\"b\":1}", "{\"b\":true,\"a\":false}");
    CHECK(from_schema("{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":3}"), "[true]",
          "[true,false, true]", NULL, "[]", "[true,true,true,true]", "[1]");
    CHECK(from_schema("{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"},{\"const\":7}],\"items\":false}"), "[]",
          "[null]", "[null,7]", NULL, "[7]", "[null,7,1]");
    CHECK(from_schema("{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":2},\"minItems\":2,"
                      "\"maxItems\":3}"),
          "[1,2]", "[1,2,2]", NULL, "[1]", "[1,2,2,2]");
    CHECK(from_schema("{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":3,"
                      "\"x-mlxr-items\":{\"between\":\"<a>\",\"behind\":\"</a>\"}}"),
          "true</a>", "true</a><a>false</a>", "true</a><a>true</a><a>true</a>", NULL, "[true]", "true", "true</a><a>",
          "true</a>true</a>", "true</a><a>true</a><a>true</a><a>true</a>", "");
    CHECK(from_schema("{\"enum\":[\"red\",2,null,{\"a\":[1]}]}"), "\"red\"", "2", "null", "{\"a\":[1]}", NULL,
          "\"blue\"", "22");
    CHECK(from_schema("{\"type\":[\"string\",\"null\"],\"maxLength\":2}"), "null", "\"\"", "\"é\\n\"", NULL, "\"abc\"",
          "1");
    CHECK(from_schema("{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"minLength\":3}]}"), "12", "\"abc\"",
          NULL, "\"ab\"", "true");
    CHECK(from_schema(
              "{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"const\":1},\"next\":{\"anyOf\":[{\"$"
              "ref\":\"#/$defs/n\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}},\"$ref\":\"#/$defs/n\"}"),
          "{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":1,\"next\":null}}", NULL, "{\"v\":1}", "null");
    CHECK(from_schema("{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1}},\"required\":[\"a\"]},{"
                      "\"properties\":{\"b\":{\"const\":2}},\"required\":[\"b\"]}]}"),
          "{\"a\":1,\"b\":2}", NULL, "{\"a\":1}");
    CHECK(from_schema("{\"oneOf\":[{\"properties\":{\"k\":{\"const\":\"a\"},\"x\":{\"type\":\"null\"}},\"required\":["
                      "\"k\"]},{\"properties\":{\"k\":{\"const\":\"b\"}},\"required\":[\"k\"]}]}"),
          "{\"k\":\"a\"}", "{\"k\":\"a\",\"x\":null}", "{\"k\":\"b\"}", NULL, "{\"k\":\"c\"}",
          "{\"k\":\"b\",\"x\":null}");
    CHECK(from_schema("{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-\\\\d+(?:x|yy)?$\"}"), "\"AB-12\"", "\"AB-1yy\"",
          NULL, "\"A-1\"", "\"AB-\"", "\"AB-1y\"");
    CHECK(from_schema("{\"type\":\"string\",\"pattern\":\"b\\\"\"}"), "\"abb\\\"c\"", "\"b\\\"\"", NULL, "\"ab\"");
    CHECK(from_schema("{\"type\":\"string\",\"format\":\"date-time\"}"), "\"2024-02-29T23:59:59Z\"",
          "\"2024-12-01T00:00:00.123+02:00\"", NULL, "\"2024-13-01T00:00:00Z\"", "\"2024-12-01\"");
    CHECK(from_schema("{\"type\":\"string\",\"format\":\"date\"}"), "\"2024-02-29\"", "\"2000-02-29\"",
          "\"2023-02-28\"", "\"0004-02-29\"", "\"2023-04-30\"", "\"2023-12-31\"", NULL, "\"2023-02-29\"",
          "\"1900-02-29\"", "\"2024-02-30\"", "\"2023-04-31\"", "\"2023-11-31\"", "\"0000-01-01\"", "\"2023-00-10\"");
    CHECK(from_schema("{\"type\":\"string\",\"format\":\"uuid\"}"), "\"123e4567-e89b-12d3-a456-426614174000\"", NULL,
          "\"123\"");
    CHECK(from_schema("{\"type\":\"string\",\"format\":\"ipv4\"}"), "\"0.10.199.255\"", NULL, "\"256.1.1.1\"",
          "\"1.1.1\"", "\"01.1.1.1\"");
    CHECK(from_schema("{\"type\":\"integer\",\"nullable\":true}"), "5", "null", NULL, "x");
}

static void every_bound_of_integers_is_exact(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int round = 0; round < 150; round++) {
        long low = (long)(test_random(&seed) % 2400) - 1200,
             high = low + (long)(test_random(&seed) % (round % 2 ? 30 : 1500));
        bool has_low = test_random(&seed) % 8 != 0, has_high = test_random(&seed) % 8 != 0;
        bool open_low = test_random(&seed) % 2, open_high = test_random(&seed) % 2;
        if (high - low < 3) {
            high = low + 3;
        }
        char text[200] = "{\"type\":\"integer\"", part[64];
        if (has_low) {
            snprintf(part, sizeof part, ",\"%s\":%ld", open_low ? "exclusiveMinimum" : "minimum", low);
            strcat(text, part);
        }
        if (has_high) {
            snprintf(part, sizeof part, ",\"%s\":%ld", open_high ? "exclusiveMaximum" : "maximum", high);
            strcat(text, part);
        }
        strcat(text, "}");
        grammar *g = from_schema(text);
        for (long i = -3000; i <= 3000; i++) {
            bool in = (!has_low || (open_low ? i > low : i >= low)) &&
                      (!has_high || (open_high ? i < high : i <= high));
            snprintf(part, sizeof part, "%ld", i);
            if (accepts(g, part) != in) {
                fail_msg("%s: %ld should be %s", text, i, in ? "accepted" : "refused");
            }
        }
        assert_false(accepts(g, "007"));
        assert_false(accepts(g, "1.0"));
        grammar_unref(&g);
    }
}

static void bounds_of_numbers_hold_for_fractions(void **state)
{
    (void)state;
    CHECK(from_schema("{\"type\":\"number\",\"minimum\":0,\"maximum\":1}"), "0", "0.5", "1", "1.0", "0.0001", NULL,
          "1.1", "-0.5", "2", "-1");
    CHECK(from_schema("{\"type\":\"number\",\"exclusiveMinimum\":-2,\"exclusiveMaximum\":2}"), "-1.9", "0", "1.99",
          "-0.5", NULL, "-2", "2", "2.0", "-2.1");
    CHECK(from_schema("{\"type\":\"number\",\"exclusiveMinimum\":1}"), "1.01", "2", "10.5", NULL, "1", "1.0", "0.9",
          "-3");
    CHECK(from_schema("{\"type\":\"number\",\"maximum\":-3}"), "-3", "-3.5", "-100", NULL, "-2.9", "0", "3");
}

static void what_is_not_supported_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"multipleOf\":2}", "multipleOf"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems"},
        {"{\"not\":{}}", "'not'"},
        {"{\"patternProperties\":{}}", "patternProperties"},
        {"{\"if\":{}}", "'if'"},
        {"{\"type\":\"foo\"}", "foo"},
        {"{\"type\":3}", "type"},
        {"[]", "object"},
        {"{\"a\":", "line 1"},
        {"{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"array\",\"contains\":1}}}", "#/properties/x"},
        {"{\n \"prefixItems\": [{}, {\"not\" :\n\t{}}]}", "line 3, column 2, at #/prefixItems/1/not: keyword 'not'"},
        {"{\"a\\\"]\":[{}],\"properties\":{\"y\":{\"type\":\n3}}}", "a\"]"},
        {"{\"description\":\"}]\\\"\",\"properties\":{\"y\":{},\n\"x\":{\"type\":3}}}",
         "line 2, column 5, at #/properties/x"},
        {"{\"$defs\":{\"a\":{\"items\":{\"if\":1}}},\n\"$ref\":\"#/$defs/a\"}",
         "line 1, column 30, at #/$defs/a/items/if"},
        {"{\"$ref\":\"http://x/y\"}", "http://x/y"},
        {"{\"$ref\":\"#/nowhere\"}", "nowhere"},
        {"{\"$ref\":\"#\"}", "never be finished"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "oneOf"},
        {"{\"required\":[\"a\"]}", "'a'"},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "look-around"},
        {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", "escape"},
        {"{\"type\":\"string\",\"pattern\":\"a+?\"}", "lazy"},
        {"{\"type\":\"string\",\"format\":\"iri\"}", "iri"},
        {"{\"type\":\"string\",\"pattern\":\"[a\"}", "closed by ]"},
        {"{\"type\":\"number\",\"minimum\":0.5}", "whole"},
        {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "no number"},
        {"{\"type\":\"string\",\"minLength\":-1}", "minLength"},
        {"{\"type\":\"array\",\"maxItems\":1e9}", "maxItems"},
        {"{\"enum\":[]}", "enum"},
        {"{\"anyOf\":[]}", "anyOf"},
        {"{\"type\":\"integer\",\"enum\":[\"a\"]}", "no integer"},
        {"false", "object or true"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        grammar *g = NULL;
        mlxr_error error = {0};
        if (grammar_open_schema(&g, cases[i].text, strlen(cases[i].text), trie, &error) == MLXR_OK ||
            !strstr(error.text, cases[i].says)) {
            fail_msg("case %zu %s: '%s' should say '%s'", i, cases[i].text, error.text, cases[i].says);
        }
    }
}

/* A mask must be exactly the tokens after which the text can still be finished or has not died. */
static void masks_equal_trying_every_token(void **state)
{
    (void)state;
    static const char *const schemas[] = {
        "{}",
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":5},\"n\":{\"type\":"
        "\"integer\",\"minimum\":-5,\"maximum\":120}}}",
        "{\"type\":\"array\",\"items\":{\"enum\":[\"yes\",true,null,12]}}"};
    uint64_t seed = 99;
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        grammar *g = from_schema(schemas[i]);
        for (int round = 0; round < 40; round++) {
            uint32_t at = GRAMMAR_START;
            for (int step = 0; step < 60; step++) {
                uint32_t mask[(N_TOKENS + 31) / 32], allowed[N_TOKENS], n = 0;
                mlxr_error error;
                assert_ok(grammar_mask(g, at, mask, &error), &error);
                for (int32_t token = 0; token < N_TOKENS; token++) {
                    bool bit = mask[token / 32] >> token % 32 & 1;
                    token_text text = tokenizer_piece(vocabulary, token);
                    bool expected = token == N_TOKENS - 1
                                        ? grammar_may_end(g, at)
                                        : grammar_advance_bytes(g, at, text.data, text.n) != GRAMMAR_DEAD;
                    assert_int_equal(bit, expected);
                    if (bit) {
                        allowed[n++] = (uint32_t)token;
                    }
                }
                assert_true(n > 0); /* never a dead end */
                uint32_t token = allowed[test_random(&seed) % n];
                if (token == N_TOKENS - 1) {
                    break;
                }
                at = grammar_advance(g, at, (int32_t)token);
                assert_int_not_equal(at, GRAMMAR_DEAD);
            }
        }
        grammar_unref(&g);
    }
}

/* Random walks along the masks, steered towards an end, always give JSON that a parser takes. */
static void what_is_generated_is_json(void **state)
{
    (void)state;
    grammar *g = from_schema("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"items\":{\"type\":"
                             "\"number\"},\"maxItems\":4},\"b\":{\"type\":\"string\"},"
                             "\"c\":{\"type\":[\"boolean\",\"null\"]}},\"required\":[\"a\"],\"additionalProperties\":{"
                             "\"type\":\"integer\"}}");
    uint64_t seed = 5;
    int n_finished = 0;
    for (int round = 0; round < 400; round++) {
        char text[4096];
        size_t n = 0;
        uint32_t at = GRAMMAR_START;
        while (n < sizeof text - 64) {
            uint32_t mask[(N_TOKENS + 31) / 32];
            mlxr_error error;
            assert_ok(grammar_mask(g, at, mask, &error), &error);
            if (grammar_may_end(g, at) && test_random(&seed) % 2) {
                break;
            }
            int32_t token = -1, seen = 0;
            static const char closing[] = "\"}],:";
            for (int32_t i = 0; i < N_TOKENS - 1; i++) {
                token_text piece = tokenizer_piece(vocabulary, i);
                int weight = piece.n == 1 && memchr(closing, piece.data[0], 5) ? 40 : 1;
                if (mask[i / 32] >> i % 32 & 1) {
                    seen += weight;
                    token = test_random(&seed) % (uint64_t)seen < (uint64_t)weight ? i : token;
                }
            }
            if (token < 0) {
                break;
            }
            token_text piece = tokenizer_piece(vocabulary, token);
            memcpy(text + n, piece.data, piece.n);
            n += piece.n;
            at = grammar_advance(g, at, token);
        }
        if (grammar_may_end(g, at)) {
            json_error_t where;
            json_t *value = json_loadb(text, n, JSON_ALLOW_NUL, &where);
            if (!value) {
                fail_msg("'%.*s': %s", (int)n, text, where.text);
            }
            assert_true(json_is_array(json_object_get(value, "a")));
            json_decref(value);
            n_finished++;
        }
    }
    assert_true(n_finished > 100);
    grammar_unref(&g);
}

static void a_mask_costs_little_once_its_state_is_known(void **state)
{
    (void)state;
    grammar *g = from_schema("{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\"}},\"required\":[\"s\"]}");
    uint32_t at = grammar_advance_bytes(g, GRAMMAR_START, "{\"s\":\"abc", 9);
    uint32_t mask[(N_TOKENS + 31) / 32];
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(grammar_mask(g, at, mask, NULL), MLXR_OK);
        at = grammar_advance(g, at, 'x');
    }
    grammar_stats stats = grammar_stats_get(g);
    assert_in_range(stats.n_walks, 1, 2); /* a string's inside is one state */
    grammar_unref(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gbnf_means_what_it_says),
        cmocka_unit_test(every_class_of_characters_is_exact),
        cmocka_unit_test(bad_gbnf_is_refused_with_its_place),
        cmocka_unit_test(schemas_accept_their_instances_only),
        cmocka_unit_test(every_bound_of_integers_is_exact),
        cmocka_unit_test(bounds_of_numbers_hold_for_fractions),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(masks_equal_trying_every_token),
        cmocka_unit_test(what_is_generated_is_json),
        cmocka_unit_test(a_mask_costs_little_once_its_state_is_known),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
