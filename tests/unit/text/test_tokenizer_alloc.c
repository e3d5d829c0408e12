/*
 * Every allocation of opening and running a tokenizer made to fail in turn: a clear error, nothing leaked, nothing
 * changed.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/test.h"

#include "base/mapping.h"
#include "support/fail_alloc.h"
#include "support/sentencepiece_file.inc"

static mlxr_error error;

typedef struct input {
    const char *json, *config; /* or: */
    const void *model;
    size_t n;
} input;

static mlxr_status open_input(const input *in, tokenizer **t)
{
    if (in->model) {
        return tokenizer_open_spm(t, in->model, in->n, &error);
    }
    return tokenizer_open_json(t, in->json, in->n, in->config, in->config ? strlen(in->config) : 0, &error);
}

static const char *const texts[] = {
    "Hello hello \xe2\x96\x81 12 <s></s> \xc3\xa9\xef\xac\x81 e\xcc\x81 don't",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  b",
    "x\xff\xe4\xbd\xa0 hellohellohellohellohellohello",
};

static void fail_each(const input *in)
{
    tokenizer *t = NULL;
    for (long n = 1;; n++) {
        fail_alloc_at(n);
        mlxr_status status = open_input(in, &t);
        if (!fail_alloc_stop()) {
            assert_ok(status, &error);
            break;
        }
        if (status == MLXR_OK) { /* PCRE2 goes without just-in-time code; that is allowed */
            tokenizer_close(&t);
            continue;
        }
        assert_int_equal(status, MLXR_NOMEM);
        assert_null(t);
    }
    for (size_t i = 0; i < 2 * sizeof texts / sizeof *texts; i++) { /* the second time round with marks */
        const char *text = texts[i % (sizeof texts / sizeof *texts)];
        unsigned flags = i < sizeof texts / sizeof *texts ? 3u : 3u | MLXR_TOKENIZE_MARKED;
        for (long n = 1;; n++) {
            token_list list = {0};
            fail_alloc_at(n);
            mlxr_status status = tokenizer_encode(t, text, strlen(text), flags, &list, &error);
            bool failed = fail_alloc_stop();
            if (failed && status != MLXR_OK) {
                assert_int_equal(status, MLXR_NOMEM);
                assert_int_equal(list.n, 0);
            } else {
                assert_ok(status, &error); /* the word cache is a luxury */
            }
            token_list_close(&list);
            if (!failed) {
                break;
            }
        }
    }
    tokenizer_close(&t);
}

static void fail_each_file(const char *path, bool model)
{
    char *bytes;
    size_t n;
    assert_ok(file_read(path, 1 << 20, &bytes, &n, &error), &error);
    input in = {.json = bytes, .config = "{\"bos_token\":\"<s>\"}", .model = model ? bytes : NULL, .n = n};
    fail_each(&in);
    free(bytes);
}

static void no_allocation_of_tokenizer_json_is_unchecked(void **state)
{
    (void)state;
    static const char *const names[] = {"byte_level",  "split",     "regex",   "metaspace",
                                        "normalizers", "wordpiece", "unigram", "charsmap"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/fuzz/corpus/tokenizer_json/%s.json", names[i]);
        fail_each_file(path, false);
    }
}

/* Regions give small pieces out of large blocks: only a file with large parts of every kind makes each of their
 * allocations a real one. */
static void no_allocation_of_a_large_tokenizer_json_is_unchecked(void **state)
{
    (void)state;
    enum { N = 17000, LONG = 100000 };
    static const char *const kinds[] = {"BPE", "Unigram", "WordPiece"};
    char *filler = malloc(LONG + 1), *json = malloc((size_t)N * 40 + 8 * LONG);
    assert_true(filler && json);
    memset(filler, 'A', LONG);
    filler[LONG] = 0;
    for (int kind = 0; kind < 3; kind++) {
        for (int variant = 0; variant < (kind ? 1 : 4); variant++) { /* parts of the file are read alike for all */
            int used = sprintf(json, "{\"model\":{\"type\":\"%s\",\"unk_token\":\"t0\",\"unk_id\":0,\"vocab\":%c",
                               kinds[kind], kind == 1 ? '[' : '{');
            for (int i = 0; i < N; i++) {
                used += sprintf(json + used, kind == 1 ? "%s[\"t%d\",-%d]" : "%s\"t%d\":%d", i ? "," : "", i, i);
            }
            used += sprintf(json + used, "%c,\"merges\":[],\"%s\":\"%s\"}", kind == 1 ? ']' : '}',
                            variant == 1   ? "continuing_subword_prefix"
                            : variant == 2 ? "end_of_word_suffix"
                                           : "other",
                            filler);
            if (variant == 0) {
                used += sprintf(json + used, ",\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"%s\"}", filler);
            } else if (variant == 1) {
                used += sprintf(json + used,
                                ",\"pre_tokenizer\":{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"%s\"}", filler);
            } else if (variant == 2) {
                used += sprintf(json + used,
                                ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAA%s\"}",
                                filler);
            } else {
                used += sprintf(json + used,
                                ",\"decoder\":{\"type\":\"BPEDecoder\",\"suffix\":\"%s\"},\"added_tokens\":[{\"id\":%d,"
                                "\"content\":\"%.600s\",\"normalized\":true}]",
                                filler, N, filler);
            }
            used += sprintf(json + used, "}");
            fail_each(&(input){.json = json, .n = (size_t)used});
        }
    }
    free(filler);
    free(json);
}

static void no_allocation_of_tokenizer_model_is_unchecked(void **state)
{
    (void)state;
    static const char *const names[] = {"bpe", "unigram", "unigram_map", "bpe_bytes"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/fuzz/corpus/tokenizer_model/%s.model", names[i]);
        fail_each_file(path, true);
    }
    proto_file p = {.n = 0};
    put_usual_pieces(&p);
    put_trainer(&p, 2);
    fail_each(&(input){.model = p.bytes, .n = p.n});
}

/* A source for each kind, small. */
static void no_allocation_of_a_gguf_vocabulary_is_unchecked(void **state)
{
    (void)state;
    static const char *const words[] = {"[UNK]",
                                        "[CLS]",
                                        ("\xe2\x96\x81"
                                         "a"),
                                        "aa",
                                        "a",
                                        "b",
                                        "\xc4\xa0",
                                        "<x>"};
    static const int32_t types[] = {TOKEN_CONTROL, TOKEN_CONTROL, TOKEN_NORMAL, TOKEN_NORMAL,
                                    TOKEN_NORMAL,  TOKEN_NORMAL,  TOKEN_NORMAL, TOKEN_USER_DEFINED};
    static const float scores[8] = {0, 0, -1, -2, -3, -4, -5, 0};
    token_text tokens[8];
    const token_text merge = {"a a", 3};
    for (size_t i = 0; i < 8; i++) {
        tokens[i] = (token_text){words[i], strlen(words[i])};
    }
    for (int kind = TOKENIZER_BPE; kind <= TOKENIZER_WORDPIECE; kind++) {
        tokenizer_source source = {.kind = (tokenizer_kind)kind,
                                   .n_tokens = 8,
                                   .tokens = tokens,
                                   .types = types,
                                   .scores = scores,
                                   .n_merges = 1,
                                   .merges = &merge,
                                   .pre = "deepseek-v3",
                                   .bos = 1,
                                   .eos = -1,
                                   .eot = -1,
                                   .unk = 0,
                                   .pad = -1,
                                   .sep = -1,
                                   .cls = -1,
                                   .mask = -1,
                                   .add_bos = true,
                                   .add_space_prefix = true,
                                   .remove_extra_whitespaces = true};
        for (long n = 1;; n++) {
            tokenizer *t = NULL;
            token_list list = {0};
            fail_alloc_at(n);
            mlxr_status status = tokenizer_open(&t, &source, &error);
            if (status == MLXR_OK) {
                status = tokenizer_encode(t, "a aa<x>[CLS]b", 13, 3, &list, &error);
            }
            bool failed = fail_alloc_stop();
            if (status != (failed ? MLXR_NOMEM : MLXR_OK)) {
                fail_msg("kind %d, allocation %ld: status %d, %s", kind, n, status, error.text);
            }
            token_list_close(&list);
            if (t) {
                tokenizer_close(&t);
            }
            if (!failed) {
                break;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_allocation_of_tokenizer_json_is_unchecked),
        cmocka_unit_test(no_allocation_of_a_large_tokenizer_json_is_unchecked),
        cmocka_unit_test(no_allocation_of_tokenizer_model_is_unchecked),
        cmocka_unit_test(no_allocation_of_a_gguf_vocabulary_is_unchecked),
    };
    return cmocka_run_group_tests_name("tokenizer: failing allocations", tests, NULL, NULL);
}
