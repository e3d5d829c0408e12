/*
 * Vocabularies out of GGUF metadata, good and bad.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/token_ids.h"

#include "graph/vocabulary.h"

static mlxr_error error;

/* A GGUF file without tensors; keys are written one by one. */
typedef struct gguf {
    unsigned char bytes[8192];
    size_t n;
    uint32_t n_keys;
} gguf;

static void put(gguf *g, const void *bytes, size_t n)
{
    assert_true(n <= sizeof g->bytes - g->n);
    memcpy(g->bytes + g->n, bytes, n);
    g->n += n;
}

static void put_u32(gguf *g, uint32_t value)
{
    put(g, &value, 4);
}

static void put_u64(gguf *g, uint64_t value)
{
    put(g, &value, 8);
}

static void put_text(gguf *g, const char *text)
{
    put_u64(g, strlen(text));
    put(g, text, strlen(text));
}

static void key(gguf *g, const char *name, meta_type type)
{
    char full[128];
    snprintf(full, sizeof full, "tokenizer.ggml.%s", name);
    put_text(g, full);
    put_u32(g, type);
    g->n_keys++;
}

static void key_text(gguf *g, const char *name, const char *text)
{
    key(g, name, META_STRING);
    put_text(g, text);
}

static void key_u32(gguf *g, const char *name, uint32_t value)
{
    key(g, name, META_U32);
    put_u32(g, value);
}

static void key_bool(gguf *g, const char *name, bool value)
{
    key(g, name, META_BOOL);
    put(g, &(unsigned char){value}, 1);
}

static void key_array(gguf *g, const char *name, meta_type type, uint64_t n)
{
    key(g, name, META_ARRAY);
    put_u32(g, type);
    put_u64(g, n);
}

static void key_texts(gguf *g, const char *name, uint64_t n, const char *const *texts)
{
    key_array(g, name, META_STRING, n);
    for (uint64_t i = 0; i < n; i++) {
        put_text(g, texts[i]);
    }
}

static gguf *start(void)
{
    static gguf g;
    memset(&g, 0, sizeof g);
    put(&g, "GGUF", 4);
    put_u32(&g, 3);
    put_u64(&g, 0);
    put_u64(&g, 0); /* the number of keys, later */
    return &g;
}

static mlxr_status open_vocabulary(gguf *g, tokenizer **t)
{
    uint64_t n = g->n_keys;
    memcpy(g->bytes + 16, &n, 8);
    model_file *file = NULL;
    *t = NULL;
    error = (mlxr_error){0};
    assert_ok(model_file_open(&file, test_write_file("vocabulary.gguf", g->bytes, g->n), &error), &error);
    mlxr_status status = vocabulary_open(t, file, &error);
    model_file_close(&file);
    return status;
}

static const char *const words[] = {"<unk>", "<s>", "</s>", "\xe2\x96\x81", "a", "aa", "<|im_end|>", "##b"};
static const int32_t types[] = {2, 3, 3, 1, 1, 1, 3, 1};
static const float scores[] = {0, 0, 0, -1, -2, -3, 0, -4};

static gguf *usual(const char *model)
{
    gguf *g = start();
    key_text(g, "model", model);
    key_texts(g, "tokens", 8, words);
    key_array(g, "token_type", META_I32, 8);
    put(g, types, sizeof types);
    key_array(g, "scores", META_F32, 8);
    put(g, scores, sizeof scores);
    key_texts(g, "merges", 1, (const char *const[]){"a a"});
    return g;
}

static void expect_ids(gguf *g, const char *text, size_t n, const int32_t *ids)
{
    tokenizer *t;
    assert_ok(open_vocabulary(g, &t), &error);
    expect_token_ids(t, text, MLXR_TOKENIZE_ADD_SPECIAL, n, ids);
    tokenizer_close(&t);
}

static void every_model_opens_with_its_defaults(void **state)
{
    (void)state;
    expect_ids(usual("gpt2"), "aaa", IDS(5, 4));
    expect_ids(usual("llama"), "aaa", IDS(1, 3, 5, 4)); /* BOS and a space in front */
    gguf *g = usual("t5");
    key_u32(g, "unknown_token_id", 0);
    key_u32(g, "eos_token_id", 2);
    expect_ids(g, "aa", IDS(3, 5, 2));
    g = usual("bert");
    key_u32(g, "cls_token_id", 1);
    key_u32(g, "seperator_token_id", 2);
    key_u32(g, "unknown_token_id", 0);
    key_u32(g, "padding_token_id", 0);
    key_u32(g, "mask_token_id", 0);
    expect_ids(g, "q", IDS(1, 0, 2));
    g = usual("gemma4");
    key_u32(g, "bos_token_id", 1);
    expect_ids(g, " aa", IDS(1, 3, 5));
}

static void switches_and_ids_of_the_file_count(void **state)
{
    (void)state;
    gguf *g = usual("llama");
    key_bool(g, "add_bos_token", false);
    key_bool(g, "add_eos_token", true);
    key_bool(g, "add_space_prefix", false);
    key_bool(g, "remove_extra_whitespaces", true);
    key_array(g, "precompiled_charsmap", META_U8, 0);
    expect_ids(g, "  aa  ", IDS(5, 2));
    tokenizer *t;
    g = usual("gpt2");
    key_u32(g, "bos_token_id", 1);
    key_u32(g, "eos_token_id", 2);
    key_u32(g, "eot_token_id", 5);
    key_text(g, "pre", "llama-bpe"); /* whose models begin with BOS */
    assert_ok(open_vocabulary(g, &t), &error);
    assert_true(tokenizer_adds_bos(t));
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_is_end(t, 2) && tokenizer_is_end(t, 5) && tokenizer_is_end(t, 6));
    assert_false(tokenizer_is_end(t, 1));
    tokenizer_close(&t);
}

static void expect_refusal(gguf *g, mlxr_status status, const char *says)
{
    tokenizer *t;
    mlxr_status got = open_vocabulary(g, &t);
    if (got != status || !strstr(error.text, says)) {
        fail_msg("%d, %s; expected %d, %s", got, error.text, status, says);
    }
    assert_null(t);
}

static void broken_metadata_is_refused_in_words(void **state)
{
    (void)state;
    expect_refusal(start(), MLXR_FORMAT, "no tokenizer");
    gguf *g = start();
    key_text(g, "model", "rwkv");
    expect_refusal(g, MLXR_UNSUPPORTED, "\"rwkv\" is not known");
    g = start();
    key_u32(g, "model", 7);
    expect_refusal(g, MLXR_FORMAT, "tokenizer.ggml.model");
    g = start();
    key_text(g, "model", "gpt2");
    expect_refusal(g, MLXR_FORMAT, "no tokens");
    key_u32(g, "tokens", 7);
    expect_refusal(g, MLXR_FORMAT, "not an array");
    g = start();
    key_text(g, "model", "gpt2");
    key_array(g, "tokens", META_U8, 1);
    put(g, "a", 1);
    expect_refusal(g, MLXR_FORMAT, "not an array");
    g = start();
    key_text(g, "model", "gpt2");
    key_texts(g, "tokens", 2, words);
    key_array(g, "token_type", META_I32, 1);
    put_u32(g, 1);
    expect_refusal(g, MLXR_FORMAT, "1 elements for 2 tokens");
    g = start();
    key_text(g, "model", "gpt2");
    key_texts(g, "tokens", 2, words);
    key_array(g, "scores", META_F64, 2);
    put_u64(g, 1);
    put_u64(g, 1);
    expect_refusal(g, MLXR_FORMAT, "scores");
    g = start();
    key_text(g, "model", "gpt2");
    key_texts(g, "tokens", 2, words);
    key_u32(g, "merges", 2);
    expect_refusal(g, MLXR_FORMAT, "merges");
    g = usual("gpt2");
    key_text(g, "pre", "mystery");
    expect_refusal(g, MLXR_UNSUPPORTED, "\"mystery\"");
    g = usual("gpt2");
    key_u32(g, "pre", 1);
    expect_refusal(g, MLXR_FORMAT, "pre");
    g = usual("gpt2");
    key_u32(g, "eos_token_id", 99);
    expect_refusal(g, MLXR_FORMAT, "outside the vocabulary");
    g = usual("gpt2");
    key_u32(g, "eos_token_id", 0x80000000u);
    expect_refusal(g, MLXR_FORMAT, "is no token");
    g = usual("gpt2");
    key_text(g, "eos_token_id", "x");
    expect_refusal(g, MLXR_FORMAT, "eos_token_id");
    g = usual("gpt2");
    key_text(g, "add_bos_token", "x");
    expect_refusal(g, MLXR_FORMAT, "add_bos_token");
    g = usual("llama");
    key_array(g, "precompiled_charsmap", META_U8, 3);
    put(g, "abc", 3);
    expect_refusal(g, MLXR_FORMAT, "normalisation map");
    g = usual("llama");
    key_array(g, "precompiled_charsmap", META_U32, 0);
    expect_refusal(g, MLXR_FORMAT, "precompiled_charsmap");
}

static void files_beside_the_weights_are_taken_first(void **state)
{
    (void)state;
    gguf *g = usual("gpt2");
    uint64_t n = g->n_keys;
    memcpy(g->bytes + 16, &n, 8);
    model_file *file = NULL;
    tokenizer *t = NULL;
    assert_ok(model_file_open(&file, test_write_file("beside.gguf", g->bytes, g->n), &error), &error);
    const char *json = "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}", *config = "{\"bos_token\":\"a\"}";
    file->tokenizer_json = (text_view){json, strlen(json)};
    file->tokenizer_config = (text_view){config, strlen(config)};
    assert_ok(vocabulary_open(&t, file, &error), &error);
    assert_int_equal(tokenizer_size(t), 1);
    assert_int_equal(tokenizer_bos(t), 0);
    tokenizer_close(&t);
    file->tokenizer_json.n = 0;
    file->tokenizer_model = (text_view){"\x80", 1};
    assert_int_equal(vocabulary_open(&t, file, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "tokenizer.model"));
    model_file_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_opens_with_its_defaults),
        cmocka_unit_test(switches_and_ids_of_the_file_count),
        cmocka_unit_test(broken_metadata_is_refused_in_words),
        cmocka_unit_test(files_beside_the_weights_are_taken_first),
    };
    return cmocka_run_group_tests_name("vocabulary", tests, NULL, NULL);
}
