/*
 * What a sampler reads of a row of logits is all that its choice depends on.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "runtime/sampler.h"
#include "support/test.h"

#define VOCAB 700u

static uint64_t seed = 3;

static float uniform(void)
{
    return (float)(test_random(&seed) >> 40) * 0x1p-24f;
}

static bool one_in(unsigned n)
{
    return test_random(&seed) % n == 0;
}

static sampler *open_sampler(const mlxr_sampling *p)
{
    sampler *s = NULL;
    mlxr_error error;
    const sampler_vocab vocab = {.n_vocab = VOCAB};
    assert_ok(sampler_open(&s, p, &vocab, &error), &error);
    return s;
}

/* Every filter, one by one and together. */
static mlxr_sampling random_params(void)
{
    mlxr_sampling p = mlxr_sampling_default();
    p.seed = test_random(&seed) | 1;
    p.temperature = one_in(6) ? 0 : 0.2f + 2 * uniform();
    p.top_k = one_in(2) ? (int32_t)(1 + test_random(&seed) % 60) : 0;
    p.top_p = one_in(2) ? 1 : uniform();
    p.min_p = one_in(3) ? 0 : uniform() * uniform();
    p.typical_p = one_in(3) ? uniform() : 1;
    p.xtc_probability = one_in(3) ? uniform() : 0;
    p.mirostat = one_in(6) ? 2 : 0;
    p.logprobs = one_in(6);
    return p;
}

/* Some equal ones among them, since ties are cut by ids. */
static void random_logits(float row[VOCAB], float scale)
{
    for (uint32_t i = 0; i < VOCAB; i++) {
        float sum = 0;
        for (int j = 0; j < 6; j++) {
            sum += uniform() - 0.5f;
        }
        row[i] = one_in(4) ? roundf(scale * sum) : scale * sum;
    }
}

static void leave(const float row[VOCAB], sampler_reads reads, float left[VOCAB])
{
    float most = -INFINITY;
    for (uint32_t i = 0; i < VOCAB; i++) {
        most = row[i] > most ? row[i] : most;
    }
    for (uint32_t i = 0; i < VOCAB; i++) {
        uint32_t before = 0;
        for (uint32_t j = 0; j < VOCAB; j++) {
            before += row[j] > row[i] || (row[j] == row[i] && j < i);
        }
        left[i] = before < reads.n || row[i] >= most - reads.near ? row[i] : -INFINITY;
    }
}

static void what_is_not_read_changes_no_choice(void **state)
{
    (void)state;
    static float row[VOCAB], left[VOCAB];
    unsigned n_some = 0;
    for (unsigned round = 0; round < 1500; round++) {
        mlxr_sampling p = random_params();
        sampler *s = open_sampler(&p);
        sampler_reads reads = sampler_reads_of(s);
        assert_true(reads.n == 0 || (!p.logprobs && (!p.mirostat || p.temperature == 0)));
        assert_true(p.temperature > 0 || p.logprobs || reads.n == 1);
        n_some += reads.n > 0;
        for (unsigned step = 0; reads.n && step < 4; step++) {
            mlxr_error error;
            sampler_result whole, some;
            random_logits(row, 1 + 20 * uniform());
            leave(row, reads, left);
            assert_ok(sampler_sample(s, row, NULL, &whole, &error), &error);
            assert_ok(sampler_sample(s, left, NULL, &some, &error), &error);
            assert_int_equal(whole.id, some.id);
            assert_ok(sampler_accept(s, whole.id, &error), &error);
        }
        sampler_close(&s);
    }
    assert_true(n_some > 500 && n_some < 1400);
}

/* What changes logits or tells of them needs all of them, and so do shares of all. */
static void other_choices_read_all(void **state)
{
    (void)state;
    mlxr_logit_bias bias = {.id = 3, .bias = 1};
    mlxr_sampling p[7];
    for (int i = 0; i < 7; i++) {
        p[i] = mlxr_sampling_default();
        p[i].seed = 1;
    }
    p[1].logit_bias = &bias;
    p[1].n_logit_bias = 1;
    p[2].repeat_penalty = 1.1f;
    p[3].n_logprobs = 2;
    p[4].mirostat = 1;
    p[5].top_k = 0;                  /* top_p is of all */
    p[6].top_k = (int32_t)VOCAB + 1; /* the same */
    for (int i = 0; i < 7; i++) {
        sampler *s = open_sampler(&p[i]);
        assert_int_equal(sampler_reads_of(s).n, i == 0 ? 40 : 0);
        sampler_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_read_changes_no_choice),
        cmocka_unit_test(other_choices_read_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
