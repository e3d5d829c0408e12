/*
 * Reranking: what a model reads of a pair, cut documents, control tokens in texts, who can rank and who cannot.
 * Owner: the test program. Lifetime: the process.
 */
#include "mlxr_rerank.h"

#include <sys/stat.h>

#include "mlxr_adapter.h"
#include "support/family_model.h"
#include "support/ranker.h"
#include "support/test.h"
#include "support/tiny_model.h"

/* A family's, else a tiny model. */
static void open_named(ranker *w, const char *name, bool family)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    if (family) {
        family_model_write(name, path);
    } else {
        tiny_model_write_gguf(tiny_model_find(name), NULL, path);
    }
    ranker_open(w, "cpu", path);
}

static size_t tokens(const ranker *w, const char *text, int32_t *ids, size_t cap)
{
    mlxr_error error;
    size_t n = 0;
    assert_ok(mlxr_tokenize(w->model, text, strlen(text), 0, ids, cap, &n, &error), &error);
    assert_true(n <= cap);
    return n;
}

static mlxr_rerank_pair pair_of(const char *query, const char *document)
{
    return (mlxr_rerank_pair){
        .query = query, .n_query = strlen(query), .document = document, .n_document = strlen(document)};
}

static void an_encoder_reads_query_and_document_with_ends(void **state)
{
    (void)state;
    ranker w;
    mlxr_error error;
    int32_t query[64], document[64], end[1], *ids = NULL;
    size_t n_ids = 0;
    bool cut = true;
    open_named(&w, "xlm-roberta-reranker", true);
    mlxr_rerank_pair pair = pair_of("the inn", "<|im_end|> rain in the inn");
    size_t n_query = tokens(&w, pair.query, query, 64), n_document = tokens(&w, pair.document, document, 64);
    assert_ok(mlxr_rerank_tokenize(w.model, &pair, &ids, &n_ids, &cut, &error), &error);
    assert_false(cut);
    assert_int_equal(n_ids, n_query + n_document + 2);
    assert_memory_equal(ids, query, n_query * sizeof *ids);
    assert_memory_equal(ids + n_query + 1, document, n_document * sizeof *ids);
    end[0] = ids[n_query];
    assert_true(mlxr_token_is_special(w.model, end[0]) && ids[n_ids - 1] == end[0]);
    for (size_t i = 0; i < n_document; i++) { /* the text that spells a control token is none */
        assert_false(mlxr_token_is_special(w.model, ids[n_query + 1 + i]));
    }
    mlxr_free(ids);
    pair.document_tokens_most = 3;
    assert_ok(mlxr_rerank_tokenize(w.model, &pair, &ids, &n_ids, &cut, &error), &error);
    assert_true(cut);
    assert_int_equal(n_ids, n_query + 3 + 2);
    mlxr_free(ids);
    ranker_close(&w);
}

static void a_classifier_of_several_labels_is_refused_by_name(void **state)
{
    (void)state;
    char dir[512], path[600];
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1}, &error), &error);
    snprintf(dir, sizeof dir, "%s/two-labels", test_temp_dir());
    family_model_write("bert-reranker", dir);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    family_model_exchange(path, "\"classifier.weight\": {\"dtype\": \"F32\", \"shape\": [1, 80]",
                          "\"classifier.weight\": {\"dtype\": \"F32\", \"shape\": [2, 40]");
    assert_int_equal(mlxr_model_load(&model, engine, dir, NULL, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "cls.output.weight"));
    snprintf(dir, sizeof dir, "%s/other-activation", test_temp_dir());
    family_model_write("modernbert-reranker", dir);
    snprintf(path, sizeof path, "%s/config.json", dir);
    family_model_exchange(path, "\"classifier_activation\": \"gelu\"", "\"classifier_activation\": \"relu\"");
    assert_int_equal(mlxr_model_load(&model, engine, dir, NULL, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "'classifier_activation' is 'relu'"));
    family_model_exchange(path, "\"classifier_activation\": \"relu\"", "\"classifier_activation\": \"gelu\"");
    family_model_exchange(path, "\"classifier_pooling\": \"mean\"", "\"classifier_pooling\": \"most\"");
    assert_int_not_equal(mlxr_model_load(&model, engine, dir, NULL, &error), MLXR_OK);
    assert_non_null(strstr(error.text, "classifier_pooling"));
    mlxr_engine_close(&engine);
}

static void who_cannot_rank_says_so(void **state)
{
    static const char *const names[] = {"bert", "llama", "qwen3"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ranker w;
        mlxr_error error;
        int32_t *ids = NULL;
        size_t n_ids = 0;
        float score;
        open_named(&w, names[i], i == 0);
        assert_false(mlxr_rerank_info_get(w.model).possible);
        mlxr_rerank_pair pair = pair_of("x", "y");
        assert_int_equal(mlxr_rerank_tokenize(w.model, &pair, &ids, &n_ids, NULL, &error), MLXR_UNSUPPORTED);
        assert_non_null(strstr(error.text, "cannot rank"));
        const int32_t some[] = {5, 6, 7};
        mlxr_embed_input input = {.ids = some, .n_ids = 3};
        assert_int_equal(mlxr_rerank(w.engine, w.model, &input, 1, &score, &error), MLXR_UNSUPPORTED);
        ranker_close(&w);
    }
}

#define TOKEN_REST "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": "

/* Gives a model's folder the words "yes" and "no" as tokens, and a template. */
static void teach_yes_and_no(const char *dir)
{
    char path[600];
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    family_model_exchange(path, "\"<|user|>\", " TOKEN_REST "true}", "\"yes\",     " TOKEN_REST "false}");
    family_model_exchange(path, "\"<|tool|>\", " TOKEN_REST "true}", "\"no\",      " TOKEN_REST "false}");
    snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    FILE *template = tiny_open(path);
    fputs("{{ messages[0].content }}{{ messages[1].content }}", template);
    tiny_close(template, path);
}

/* An embedding model with a template and the words "yes" and "no": its output matrix decides, which is tied or none. */
static void a_decoder_without_an_output_matrix_cannot_rank(void **state)
{
    (void)state;
    char dir[512], path[600];
    ranker w;
    mlxr_error error;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    snprintf(dir, sizeof dir, "%s/headless", test_temp_dir());
    family_model_write("qwen3-embedding", dir);
    teach_yes_and_no(dir);
    ranker_open(&w, "cpu", dir);
    assert_false(mlxr_rerank_info_get(w.model).possible);
    mlxr_rerank_pair pair = pair_of("x", "y");
    assert_int_equal(mlxr_rerank_tokenize(w.model, &pair, &ids, &n_ids, NULL, &error), MLXR_UNSUPPORTED);
    ranker_close(&w);
    snprintf(path, sizeof path, "%s/config.json", dir);
    family_model_exchange(path, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true ");
    ranker_open(&w, "cpu", dir);
    assert_true(mlxr_rerank_info_get(w.model).possible);
    ranker_close(&w);
}

/* A LoRA adapter of rank 1 for one matrix of the tiny model "llama". */
static void write_adapter(const char *dir, const char *matrix, size_t n_in, size_t n_out)
{
    char path[700], header[400];
    mkdir(dir, 0777);
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    FILE *f = tiny_open(path);
    fputs("{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 1, \"bias\": \"none\"}", f);
    tiny_close(f, path);
    int n = snprintf(header, sizeof header,
                     "{\"base_model.model.%s.lora_A.weight\": {\"dtype\": \"F32\", \"shape\": [1, %zu], "
                     "\"data_offsets\": [0, %zu]}, \"base_model.model.%s.lora_B.weight\": {\"dtype\": \"F32\", "
                     "\"shape\": [%zu, 1], \"data_offsets\": [%zu, %zu]}}",
                     matrix, n_in, 4 * n_in, matrix, n_out, 4 * n_in, 4 * (n_in + n_out));
    uint64_t length = ((uint64_t)n + 7) / 8 * 8;
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    f = tiny_open(path);
    fwrite(&length, sizeof length, 1, f);
    fprintf(f, "%-*s", (int)length, header);
    for (size_t i = 0; i < n_in + n_out; i++) {
        float value = 0.01f * (float)(i % 7);
        fwrite(&value, sizeof value, 1, f);
    }
    tiny_close(f, path);
}

/* Scores are made of the output matrix as it is in the file: with another one they would be silently wrong. */
static void an_adapter_of_the_output_matrix_cannot_rank(void **state)
{
    static const struct {
        const char *matrix;
        size_t n_out;
        bool possible;
    } cases[] = {{"model.layers.1.self_attn.o_proj", 64, true}, {"lm_head", TINY_N_VOCAB, false}};
    (void)state;
    char dir[512], path[600];
    ranker w;
    mlxr_error error;
    snprintf(dir, sizeof dir, "%s/answers", test_temp_dir());
    tiny_model_write_safetensors(tiny_model_find("llama"), NULL, dir);
    teach_yes_and_no(dir);
    ranker_open(&w, "cpu", dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mlxr_model *adapted = NULL;
        const int32_t some[] = {5, 6, 7};
        mlxr_embed_input input = {.ids = some, .n_ids = 3};
        float score, plain;
        snprintf(path, sizeof path, "%s/adapter-%zu", test_temp_dir(), i);
        write_adapter(path, cases[i].matrix, 64, cases[i].n_out);
        assert_ok(mlxr_model_with(&adapted, w.model, &(mlxr_adapter_path){path, 1}, 1, &error), &error);
        assert_true(mlxr_rerank_info_get(w.model).possible);
        assert_int_equal(mlxr_rerank_info_get(adapted).possible, cases[i].possible);
        assert_ok(mlxr_rerank(w.engine, w.model, &input, 1, &plain, &error), &error);
        mlxr_status status = mlxr_rerank(w.engine, adapted, &input, 1, &score, &error);
        if (cases[i].possible) {
            assert_ok(status, &error);
            assert_true(score != plain);
        } else {
            assert_int_equal(status, MLXR_UNSUPPORTED);
            assert_non_null(strstr(error.text, "changes its output matrix"));
        }
        mlxr_model_unref(&adapted);
    }
    ranker_close(&w);
}

static void a_model_with_a_head_writes_no_text(void **state)
{
    (void)state;
    ranker w;
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    const int32_t ids[] = {5, 6, 7};
    open_named(&w, "qwen3-reranker", true);
    assert_true(mlxr_rerank_info_get(w.model).intended);
    assert_int_equal(mlxr_rerank_info_get(w.model).pooling, MLXR_POOLING_LAST);
    assert_ok(mlxr_sequence_open(&sequence, w.model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, 3, &error), &error);
    mlxr_slice slice = {.sequence = sequence, .n_compute = 3};
    assert_int_equal(mlxr_step(w.engine, &slice, 1, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "no output matrix"));
    mlxr_sequence_close(&sequence);
    ranker_close(&w);
}

/* A query that documents share is computed once: the cache has the beginning, and the score is the same. */
static void a_shared_beginning_changes_no_score(void **state)
{
    (void)state;
    ranker w;
    mlxr_error error;
    int32_t ids[120];
    float cold[4], warm[4];
    mlxr_embed_input inputs[4];
    open_named(&w, "qwen3-reranker", true);
    for (size_t i = 0; i < 120; i++) {
        ids[i] = (int32_t)(3 + i * 7 % 200);
    }
    for (size_t i = 0; i < 4; i++) {
        inputs[i] = (mlxr_embed_input){.ids = ids, .n_ids = 120 - 11 * i};
    }
    assert_ok(mlxr_rerank(w.engine, w.model, inputs, 4, cold, &error), &error);
    uint64_t hits = mlxr_kv_stats_get(w.engine).tokens_hit;
    assert_ok(mlxr_rerank(w.engine, w.model, inputs, 4, warm, &error), &error);
    assert_true(mlxr_kv_stats_get(w.engine).tokens_hit > hits);
    assert_memory_equal(cold, warm, sizeof cold);
    ranker_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_encoder_reads_query_and_document_with_ends),
        cmocka_unit_test(a_classifier_of_several_labels_is_refused_by_name),
        cmocka_unit_test(who_cannot_rank_says_so),
        cmocka_unit_test(a_decoder_without_an_output_matrix_cannot_rank),
        cmocka_unit_test(an_adapter_of_the_output_matrix_cannot_rank),
        cmocka_unit_test(a_model_with_a_head_writes_no_text),
        cmocka_unit_test(a_shared_beginning_changes_no_score),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
