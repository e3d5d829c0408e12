/*
 * The sampler with each allocation failing in turn: an error, nothing leaked, the same tokens afterwards.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "runtime/sampler.h"
#include "support/fail_alloc.h"
#include "support/test.h"

#define N_VOCAB 1000u

static const char *piece(const void *user, int32_t id, size_t *n)
{
    (void)user;
    *n = 1;
    return id % 10 ? "a" : "\n";
}

static mlxr_sampling everything(int32_t mirostat)
{
    static const mlxr_logit_bias bias = {5, 1};
    mlxr_sampling p = mlxr_sampling_default();
    p.seed = 3;
    p.top_k = 0;
    p.temperature = 1;
    p.mirostat = mirostat;
    p.repeat_penalty = 1.1f;
    p.dry_multiplier = 0.3f;
    p.logit_bias = &bias;
    p.n_logit_bias = 1;
    p.n_logprobs = 4;
    return p;
}

static float logit(uint32_t i)
{
    return (float)((i * 2654435769u) >> 20) / 512.0f;
}

static void opening_without_memory_fails_cleanly(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        mlxr_error error = {0};
        mlxr_sampling p = everything(0);
        sampler *s = NULL;
        sampler_vocab vocab = {.n_vocab = N_VOCAB, .piece = piece};
        fail_alloc_at(n);
        mlxr_status status = sampler_open(&s, &p, &vocab, &error);
        if (!fail_alloc_stop()) {
            assert_int_equal(status, MLXR_OK);
            sampler_close(&s);
            break;
        }
        assert_int_equal(status, MLXR_NOMEM);
        assert_int_equal(error.status, MLXR_NOMEM);
        assert_null(s);
    }
}

/* Twenty tokens, the n-th allocation failing once and the call then repeated; ids to out[20]. True if one failed. */
static bool generate(const mlxr_sampling *p, long n, int32_t *out)
{
    static float logits[N_VOCAB];
    mlxr_error error = {0};
    sampler *s = NULL, *copy = NULL;
    sampler_vocab vocab = {.n_vocab = N_VOCAB, .piece = piece};
    for (uint32_t i = 0; i < N_VOCAB; i++) {
        logits[i] = logit(i);
    }
    assert_int_equal(sampler_open(&s, p, &vocab, &error), MLXR_OK);
    fail_alloc_at(n);
    mlxr_status status;
    for (unsigned i = 0; i < 20; i++) {
        sampler_result result = {.id = -7};
        while ((status = sampler_sample(s, logits, NULL, &result, &error)) != MLXR_OK) {
            assert_int_equal(status, MLXR_NOMEM);
            assert_int_equal(result.id, -7);
        }
        out[i] = result.id;
        while ((status = sampler_accept(s, out[i], &error)) != MLXR_OK) {
            assert_int_equal(status, MLXR_NOMEM);
        }
        if (i == 10) {
            while ((status = sampler_clone(&copy, s, &error)) != MLXR_OK) {
                assert_int_equal(status, MLXR_NOMEM);
                assert_null(copy);
            }
            sampler_close(&s);
            s = copy;
        }
    }
    bool failed = fail_alloc_stop();
    sampler_close(&s);
    return failed;
}

static void a_failed_call_changes_nothing(void **state)
{
    (void)state;
    for (int32_t mirostat = 0; mirostat < 3; mirostat++) {
        mlxr_sampling p = everything(mirostat);
        int32_t undisturbed[20], ids[20];
        assert_false(generate(&p, 1000000, undisturbed));
        long n = 1;
        for (; generate(&p, n, ids); n++) {
            assert_memory_equal(ids, undisturbed, sizeof ids);
        }
        assert_true(n > 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_without_memory_fails_cleanly),
        cmocka_unit_test(a_failed_call_changes_nothing),
    };
    return cmocka_run_group_tests_name("sampler without memory", tests, NULL, NULL);
}
