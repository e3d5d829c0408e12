/*
 * Streams with each allocation failing in turn: an error, nothing leaked, the same text when the call is repeated.
 * Owner: the test program. Lifetime: the process.
 */
#include "runtime/engine.h"
#include "support/fail_alloc.h"
#include "support/test.h"

#define N_TOKENS 27u

/* Tokens "a" to "z", and a long one. */
static void open_model(mlxr_model *model)
{
    static char texts[N_TOKENS][400];
    static token_text tokens[N_TOKENS];
    mlxr_error error;
    for (unsigned i = 0; i < N_TOKENS; i++) {
        size_t n = i < 26 ? 1 : sizeof texts[i];
        memset(texts[i], (int)('a' + i % 26), n);
        tokens[i] = (token_text){texts[i], n};
    }
    tokenizer_source source = {.kind = TOKENIZER_BPE, .n_tokens = N_TOKENS, .tokens = tokens};
    source.bos = source.eos = source.eot = source.unk = source.pad = source.sep = source.cls = source.mask = -1;
    *model = (mlxr_model){0};
    assert_ok(tokenizer_open(&model->tokenizer, &source, &error), &error);
}

static void opening_without_memory_fails_cleanly(void **state)
{
    (void)state;
    mlxr_model model;
    const char *stops[] = {"stop", "here"};
    open_model(&model);
    for (long n = 1;; n++) {
        mlxr_error error = {0};
        mlxr_stream *stream = NULL;
        fail_alloc_at(n);
        mlxr_status status = mlxr_stream_open(&stream, &model, stops, 2, &error);
        if (!fail_alloc_stop()) {
            assert_int_equal(status, MLXR_OK);
            mlxr_stream_close(&stream);
            assert_int_equal(n, 3);
            break;
        }
        assert_int_equal(status, MLXR_NOMEM);
        assert_int_equal(error.status, MLXR_NOMEM);
        assert_null(stream);
    }
    tokenizer_close(&model.tokenizer);
}

static void a_failed_push_can_be_repeated(void **state)
{
    (void)state;
    static const int32_t ids[] = {0, 1, 26, 2, 26, 3};
    mlxr_model model;
    const char *stops[] = {"bx"};
    open_model(&model);
    long n = 1;
    for (bool failed = true; failed; n++) {
        char got[1000];
        size_t n_got = 0, n_bytes = 0;
        const char *text = NULL;
        bool stopped = false;
        mlxr_error error;
        mlxr_stream *stream = NULL;
        assert_ok(mlxr_stream_open(&stream, &model, stops, 1, &error), &error);
        fail_alloc_at(n);
        for (size_t i = 0; i <= sizeof ids / sizeof *ids; i++) {
            mlxr_status status = MLXR_NOMEM;
            for (unsigned attempt = 0; attempt < 2 && status != MLXR_OK; attempt++) {
                status = i < sizeof ids / sizeof *ids
                             ? mlxr_stream_push(stream, ids[i], &text, &n_bytes, &stopped, &error)
                             : mlxr_stream_finish(stream, &text, &n_bytes, &error);
            }
            assert_int_equal(status, MLXR_OK);
            memcpy(got + n_got, text, n_bytes);
            n_got += n_bytes;
        }
        failed = fail_alloc_stop();
        mlxr_stream_close(&stream);
        assert_int_equal(n_got, 804);
        assert_memory_equal(got, "abaaaa", 6);
        assert_memory_equal(got + 401, "acaa", 4);
        assert_int_equal(got[803], 'd');
    }
    assert_true(n > 2);
    tokenizer_close(&model.tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_without_memory_fails_cleanly),
        cmocka_unit_test(a_failed_push_can_be_repeated),
    };
    return cmocka_run_group_tests_name("streams without memory", tests, NULL, NULL);
}
