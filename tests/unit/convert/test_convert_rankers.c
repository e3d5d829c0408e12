/*
 * Rankers that read a query and a document together: which of the two a token is of, and the same scores from GGUF.
 * Owner: the test program. Lifetime: the process.
 */
#include <string.h>

#include "mlxr_convert.h"
#include "mlxr_embed.h"
#include "mlxr_rerank.h"
#include "support/family_model.h"
#include "support/ranker.h"
#include "support/test.h"
#include "support/tiny_model.h"

static void open_named(ranker *w, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    family_model_write(name, path);
    ranker_open(w, "cpu-scalar", path);
}

enum { PAIR = 24, QUERY = 9, VECTOR_MAX = 256 };

/* Scores of QUERY tokens and an end, alone and with a document behind them. */
static void scores_of(const ranker *w, float *alone, float *paired)
{
    mlxr_error error;
    int32_t ids[PAIR];
    float scores[2];
    for (int32_t i = 0; i < PAIR; i++) {
        ids[i] = 3 + 7 * i;
    }
    ids[QUERY] = ids[PAIR - 1] = TINY_N_VOCAB - 5;
    const mlxr_embed_input inputs[] = {{.ids = ids, .n_ids = QUERY + 1}, {.ids = ids, .n_ids = PAIR}};
    assert_ok(mlxr_rerank(w->engine, w->model, inputs, 2, scores, &error), &error);
    *alone = scores[0];
    *paired = scores[1];
}

/* Another row for tokens of the second kind. */
static void change_second_kind(const char *name, float *values, size_t n)
{
    for (size_t i = n / 2; strstr(name, "token_type_embeddings") && i < n; i++) {
        values[i] += 0.5f;
    }
}

/* The vector of the same tokens as one text. */
static void vector_of(const ranker *w, float *vector)
{
    mlxr_error error;
    int32_t ids[PAIR];
    for (int32_t i = 0; i < PAIR; i++) {
        ids[i] = 3 + 7 * i;
    }
    ids[QUERY] = ids[PAIR - 1] = TINY_N_VOCAB - 5;
    const mlxr_embed_input input = {.ids = ids, .n_ids = PAIR};
    assert_ok(mlxr_embed(w->engine, w->model, &input, 1, 0, vector, &error), &error);
}

/* What ranks can embed, too. Ids from outside may hold the end of a text; they are one text all the same. */
static void a_text_that_a_ranker_embeds_is_of_the_first_kind(void **state)
{
    (void)state;
    static float plain_vector[VECTOR_MAX], changed_vector[VECTOR_MAX];
    ranker plain, changed;
    char path[512];
    open_named(&plain, "bert-reranker");
    snprintf(path, sizeof path, "%s/second-kind-embedded", test_temp_dir());
    family_model_write_changed("bert-reranker", path, change_second_kind);
    ranker_open(&changed, "cpu-scalar", path);
    uint32_t n = mlxr_embed_info_get(plain.model).n_dims;
    assert_in_range(n, 2, VECTOR_MAX);
    vector_of(&plain, plain_vector);
    vector_of(&changed, changed_vector);
    assert_memory_equal(plain_vector, changed_vector, n * sizeof *plain_vector);
    ranker_close(&plain);
    ranker_close(&changed);
}

static void a_document_behind_its_query_is_of_the_second_kind(void **state)
{
    (void)state;
    ranker plain, changed;
    char path[512];
    float alone[2], paired[2];
    open_named(&plain, "bert-reranker");
    assert_int_equal(mlxr_rerank_info_get(plain.model).pooling, MLXR_POOLING_FIRST);
    scores_of(&plain, &alone[0], &paired[0]);
    snprintf(path, sizeof path, "%s/bert-other-kind", test_temp_dir());
    family_model_write_changed("bert-reranker", path, change_second_kind);
    ranker_open(&changed, "cpu-scalar", path);
    scores_of(&changed, &alone[1], &paired[1]);
    assert_true(alone[0] == alone[1]);
    assert_true(paired[0] != paired[1]);
    ranker_close(&plain);
    ranker_close(&changed);
}

static void a_converted_ranker_gives_the_same_scores(void **state)
{
    static const struct {
        const char *name, *key;
        mlxr_pooling pooling;
    } models[] = {{"bert-reranker", "bert.pooling_type", MLXR_POOLING_FIRST},
                  {"modernbert-reranker", "modern-bert.pooling_type", MLXR_POOLING_MEAN},
                  {"modernbert-reranker-cls", "modern-bert.pooling_type", MLXR_POOLING_FIRST},
                  {"xlm-roberta-reranker", "bert.pooling_type", MLXR_POOLING_FIRST}};
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        ranker folder, file, bare;
        mlxr_error error;
        char in[512], out[520], other[64];
        float alone[3], paired[3];
        open_named(&folder, models[i].name);
        snprintf(in, sizeof in, "%s/%s", test_temp_dir(), models[i].name);
        snprintf(out, sizeof out, "%s.gguf", in);
        assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error),
                  &error);
        ranker_open(&file, "cpu-scalar", out);
        assert_int_equal(mlxr_rerank_info_get(file.model).pooling, models[i].pooling);
        scores_of(&folder, &alone[0], &paired[0]);
        scores_of(&file, &alone[1], &paired[1]);
        assert_true(alone[0] == alone[1] && paired[0] == paired[1]);
        ranker_close(&file);
        /* as llama.cpp's converter leaves them: the head alone says what they are for */
        snprintf(other, sizeof other, "%s", models[i].key);
        other[strlen(other) - 1] = 'x';
        family_model_exchange(out, models[i].key, other);
        ranker_open(&bare, "cpu-scalar", out);
        scores_of(&bare, &alone[2], &paired[2]);
        assert_true(mlxr_rerank_info_get(bare.model).intended && paired[2] == paired[0]);
        ranker_close(&bare);
        ranker_close(&folder);
    }
}

/* Vectors of two texts, one after the other. */
static void vectors_of(const ranker *w, float *out)
{
    mlxr_error error;
    int32_t ids[PAIR];
    for (int32_t i = 0; i < PAIR; i++) {
        ids[i] = 3 + 7 * i;
    }
    const mlxr_embed_input inputs[] = {{.ids = ids, .n_ids = QUERY}, {.ids = ids, .n_ids = PAIR}};
    assert_ok(mlxr_embed(w->engine, w->model, inputs, 2, 0, out, &error), &error);
}

static void a_converted_encoder_gives_the_same_vectors(void **state)
{
    enum { MOST = 512 };
    static const char *const names[] = {"eurobert", "bert", "xlm-roberta", "nomic-bert", "modernbert"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ranker folder, file;
        mlxr_error error;
        char in[512], out[520];
        float vectors[2][2 * MOST] = {0};
        open_named(&folder, names[i]);
        snprintf(in, sizeof in, "%s/%s", test_temp_dir(), names[i]);
        snprintf(out, sizeof out, "%s.gguf", in);
        assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error),
                  &error);
        ranker_open(&file, "cpu-scalar", out);
        uint32_t n = mlxr_embed_info_get(folder.model).n_dims;
        assert_true(n > 0 && n <= MOST && mlxr_embed_info_get(file.model).n_dims == n);
        vectors_of(&folder, vectors[0]);
        vectors_of(&file, vectors[1]);
        for (size_t j = 0; j < 2 * (size_t)n; j++) {
            float d = vectors[0][j] - vectors[1][j];
            if (!(d < 1e-5f && d > -1e-5f)) { /* not the same bits: RoPE's pairs may stand in another order */
                fail_msg("%s: element %zu is %g, not %g", names[i], j, (double)vectors[1][j], (double)vectors[0][j]);
            }
        }
        ranker_close(&file);
        ranker_close(&folder);
    }
}

/* Counts the warnings that name a lost layer. */
static void count_lost(void *user, mlxr_log_level level, const char *line)
{
    *(int *)user += level == MLXR_LOG_WARN && strstr(line, "cls.weight") != NULL;
}

/* llama.cpp's converter leaves BERT's pooler out and keeps what stood behind it. */
static void a_file_that_lost_its_poolers_layer_ranks_and_says_so(void **state)
{
    static const char *const names[] = {"bert-reranker", "modernbert-reranker"};
    static const char *const lost[] = {"pooler", "head.", NULL};
    static const char *const lost_bias[] = {"pooler.dense.bias", "head.norm", NULL};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        bool gelu = i % 2, half = i / 2;
        char in[512], out[520];
        mlxr_error error;
        int n_warnings = 0;
        mlxr_engine *engine;
        mlxr_model *model = NULL;
        snprintf(in, sizeof in, "%s/lost-%zu", test_temp_dir(), i);
        snprintf(out, sizeof out, "%s.gguf", in);
        family_model_write_without(names[i % 2], in, half ? lost_bias : lost);
        assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error),
                  &error);
        mlxr_engine_options options = {
            .n_threads = 1, .kv_bytes = 16 << 20, .backend = "cpu-scalar", .log = count_lost, .log_user = &n_warnings};
        assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
        assert_int_equal(mlxr_model_load(&model, engine, in, NULL, &error), MLXR_FORMAT);
        mlxr_status status = mlxr_model_load(&model, engine, out, NULL, &error);
        if (gelu || half) { /* of what no converter drops, or of one half of it */
            assert_int_equal(status, MLXR_FORMAT);
            assert_non_null(strstr(error.text, half && !gelu ? "tensor 'cls.bias' is missing" : "tensor 'cls."));
            assert_int_equal(n_warnings, 0);
        } else {
            float alone, paired;
            assert_ok(status, &error);
            assert_int_equal(n_warnings, 1);
            scores_of(&(ranker){engine, model}, &alone, &paired);
            assert_true(alone != paired);
        }
        mlxr_model_unref(&model);
        mlxr_engine_close(&engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document_behind_its_query_is_of_the_second_kind),
        cmocka_unit_test(a_text_that_a_ranker_embeds_is_of_the_first_kind),
        cmocka_unit_test(a_converted_ranker_gives_the_same_scores),
        cmocka_unit_test(a_converted_encoder_gives_the_same_vectors),
        cmocka_unit_test(a_file_that_lost_its_poolers_layer_ranks_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
