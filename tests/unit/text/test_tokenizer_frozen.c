/*
 * Token ids of small vocabularies against the reference's, on 1,500 frozen strings each.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/test.h"

#include "support/frozen_ids.inc"

static void check_json(const char *name)
{
    char path[256], *json;
    size_t n;
    mlxr_error error = {0};
    tokenizer *t = NULL;
    snprintf(path, sizeof path, "tests/data/tokenizers/%s.json", name);
    assert_ok(file_read(path, 1 << 20, &json, &n, &error), &error);
    assert_ok(tokenizer_open_json(&t, json, n, NULL, 0, &error), &error);
    free(json);
    check_frozen_ids(t, name, MLXR_TOKENIZE_PARSE_SPECIAL | MLXR_TOKENIZE_ADD_SPECIAL);
    tokenizer_close(&t);
}

static void check_model(const char *name)
{
    char path[256], *bytes;
    size_t n;
    mlxr_error error = {0};
    tokenizer *t = NULL;
    snprintf(path, sizeof path, "tests/data/tokenizers/%s.model", name);
    assert_ok(file_read(path, 1 << 20, &bytes, &n, &error), &error);
    assert_ok(tokenizer_open_spm(&t, bytes, n, &error), &error);
    free(bytes);
    check_frozen_ids(t, name, 0);
    tokenizer_close(&t);
}

#define JSON_TEST(function, name)                                                                                      \
    static void function(void **state)                                                                                 \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        check_json(name);                                                                                              \
    }
#define MODEL_TEST(function, name)                                                                                     \
    static void function(void **state)                                                                                 \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        check_model(name);                                                                                             \
    }

JSON_TEST(gpt2_gives_the_ids_of_the_reference, "gpt2")
JSON_TEST(roberta_with_added_tokens_gives_the_ids_of_the_reference, "roberta")
JSON_TEST(llama3_gives_the_ids_of_the_reference, "llama3")
JSON_TEST(qwen2_with_nfc_gives_the_ids_of_the_reference, "qwen2")
JSON_TEST(qwen35_gives_the_ids_of_the_reference, "qwen35")
JSON_TEST(o200k_gives_the_ids_of_the_reference, "o200k")
JSON_TEST(tekken_gives_the_ids_of_the_reference, "tekken")
JSON_TEST(bloom_by_regular_expression_gives_the_ids_of_the_reference, "bloom")
JSON_TEST(deepseek3_gives_the_ids_of_the_reference, "deepseek3")
JSON_TEST(falcon_with_steps_after_byte_level_gives_the_ids_of_the_reference, "falcon")
JSON_TEST(llama2_with_byte_fallback_gives_the_ids_of_the_reference, "llama2")
JSON_TEST(mistral_with_metaspace_gives_the_ids_of_the_reference, "mistral")
JSON_TEST(gemma_with_added_tokens_gives_the_ids_of_the_reference, "gemma")
JSON_TEST(clip_with_word_suffixes_gives_the_ids_of_the_reference, "clip")
JSON_TEST(bert_gives_the_ids_of_the_reference, "bert-uncased")
JSON_TEST(unigram_gives_the_ids_of_the_reference, "unigram")
JSON_TEST(unigram_with_added_tokens_gives_the_ids_of_the_reference, "unigram-added")
MODEL_TEST(sentencepiece_bpe_gives_the_ids_of_the_reference, "spm-bpe")
MODEL_TEST(sentencepiece_bpe_with_unused_pieces_gives_the_ids_of_the_reference, "spm-bpe-unused")
MODEL_TEST(sentencepiece_bpe_with_a_normalisation_map_gives_the_ids_of_the_reference, "spm-bpe-nmt")
MODEL_TEST(sentencepiece_unigram_gives_the_ids_of_the_reference, "spm-unigram")
MODEL_TEST(sentencepiece_unigram_with_bytes_gives_the_ids_of_the_reference, "spm-unigram-bytes")
MODEL_TEST(sentencepiece_with_spaces_behind_words_gives_the_ids_of_the_reference, "spm-suffix")

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_gives_the_ids_of_the_reference),
        cmocka_unit_test(roberta_with_added_tokens_gives_the_ids_of_the_reference),
        cmocka_unit_test(llama3_gives_the_ids_of_the_reference),
        cmocka_unit_test(qwen2_with_nfc_gives_the_ids_of_the_reference),
        cmocka_unit_test(qwen35_gives_the_ids_of_the_reference),
        cmocka_unit_test(o200k_gives_the_ids_of_the_reference),
        cmocka_unit_test(tekken_gives_the_ids_of_the_reference),
        cmocka_unit_test(bloom_by_regular_expression_gives_the_ids_of_the_reference),
        cmocka_unit_test(deepseek3_gives_the_ids_of_the_reference),
        cmocka_unit_test(falcon_with_steps_after_byte_level_gives_the_ids_of_the_reference),
        cmocka_unit_test(llama2_with_byte_fallback_gives_the_ids_of_the_reference),
        cmocka_unit_test(mistral_with_metaspace_gives_the_ids_of_the_reference),
        cmocka_unit_test(gemma_with_added_tokens_gives_the_ids_of_the_reference),
        cmocka_unit_test(clip_with_word_suffixes_gives_the_ids_of_the_reference),
        cmocka_unit_test(bert_gives_the_ids_of_the_reference),
        cmocka_unit_test(unigram_gives_the_ids_of_the_reference),
        cmocka_unit_test(unigram_with_added_tokens_gives_the_ids_of_the_reference),
        cmocka_unit_test(sentencepiece_bpe_gives_the_ids_of_the_reference),
        cmocka_unit_test(sentencepiece_bpe_with_unused_pieces_gives_the_ids_of_the_reference),
        cmocka_unit_test(sentencepiece_bpe_with_a_normalisation_map_gives_the_ids_of_the_reference),
        cmocka_unit_test(sentencepiece_unigram_gives_the_ids_of_the_reference),
        cmocka_unit_test(sentencepiece_unigram_with_bytes_gives_the_ids_of_the_reference),
        cmocka_unit_test(sentencepiece_with_spaces_behind_words_gives_the_ids_of_the_reference),
    };
    return cmocka_run_group_tests_name("tokenizers against the reference", tests, NULL, NULL);
}
