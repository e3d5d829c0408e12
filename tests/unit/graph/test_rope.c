/*
 * RoPE frequencies against the formulas written out in doubles.
 * Owner: the test program. Lifetime: the process.
 */
#include "graph/rope.h"

#include <math.h>

#include "support/test.h"

#define N_ROT 64u

static void assert_close(double got, double expected)
{
    if (fabs(got - expected) > 1e-6 * fabs(expected)) {
        fail_msg("got %.9g, expected %.9g", got, expected);
    }
}

static void unscaled_frequencies_fall_geometrically(void **state)
{
    (void)state;
    float freq[N_ROT / 2], magnitude;
    rope_frequencies(N_ROT, 10000, &(rope_scaling){.kind = ROPE_SCALING_NONE}, NULL, freq, &magnitude);
    for (uint32_t i = 0; i < N_ROT / 2; i++) {
        assert_close(freq[i], pow(10000, -2.0 * i / N_ROT));
    }
    assert_close(magnitude, 1);
}

static void linear_scaling_divides_and_factors_divide_again(void **state)
{
    (void)state;
    float freq[N_ROT / 2], factors[N_ROT / 2], magnitude;
    for (uint32_t i = 0; i < N_ROT / 2; i++) {
        factors[i] = 1 + (float)i;
    }
    rope_frequencies(N_ROT, 500, &(rope_scaling){.kind = ROPE_SCALING_LINEAR, .factor = 4}, factors, freq, &magnitude);
    for (uint32_t i = 0; i < N_ROT / 2; i++) {
        assert_close(freq[i], pow(500, -2.0 * i / N_ROT) / 4 / (1 + i));
    }
}

/* A quarter of a head turns, as fast as if all of it did: frequencies of n_rot, not of the quarter. */
static void proportional_rope_turns_a_share_of_the_head_with_frequencies_of_all_of_it(void **state)
{
    (void)state;
    const uint32_t n_turned = N_ROT / 8;
    float freq[N_ROT / 2], factors[N_ROT / 2], magnitude;
    for (uint32_t i = 0; i < N_ROT / 2; i++) {
        factors[i] = i < n_turned ? 1 : ROPE_FACTOR_STILL;
    }
    for (int scaled = 0; scaled < 2; scaled++) {
        rope_scaling s = {.kind = scaled ? ROPE_SCALING_LINEAR : ROPE_SCALING_NONE, .factor = scaled ? 2 : 1};
        rope_frequencies(N_ROT, 1e6f, &s, factors, freq, &magnitude);
        for (uint32_t i = 0; i < N_ROT / 2; i++) {
            if (i < n_turned) {
                assert_close(freq[i], pow(1e6, -2.0 * i / N_ROT) / (1 + scaled));
            } else {
                assert_true(freq[i] == 0);
            }
        }
        assert_close(magnitude, 1);
    }
}

/* The base that makes the slowest pair `factor` times slower, and the fastest as it was. */
static void ntk_scaling_divides_the_slowest_pair_alone(void **state)
{
    (void)state;
    float freq[N_ROT / 2], magnitude;
    rope_frequencies(N_ROT, 10000, &(rope_scaling){.kind = ROPE_SCALING_NTK, .factor = 4}, NULL, freq, &magnitude);
    assert_close(freq[0], 1);
    assert_close(freq[N_ROT / 2 - 1], pow(10000, -2.0 * (N_ROT / 2 - 1) / N_ROT) / 4);
    for (uint32_t i = 0; i < N_ROT / 2; i++) {
        assert_close(freq[i], pow(10000 * pow(4, N_ROT / (N_ROT - 2.0)), -2.0 * i / N_ROT));
    }
    assert_close(magnitude, 1);
}

static void llama3_scaling_leaves_short_waves_and_divides_long_ones(void **state)
{
    (void)state;
    const double pi = 3.141592653589793;
    float freq[N_ROT / 2], magnitude;
    rope_scaling s = {
        .kind = ROPE_SCALING_LLAMA3, .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .n_ctx_orig = 8192};
    rope_frequencies(N_ROT, 500000, &s, NULL, freq, &magnitude);
    uint32_t n_short = 0, n_long = 0, n_between = 0;
    for (uint32_t i = 0; i < N_ROT / 2; i++) {
        double plain = pow(500000, -2.0 * i / N_ROT), wave = 2 * pi / plain;
        if (wave < 8192.0 / 4) {
            assert_close(freq[i], plain);
            n_short++;
        } else if (wave > 8192.0) {
            assert_close(freq[i], plain / 8);
            n_long++;
        } else {
            assert_true(freq[i] > plain / 8 && freq[i] < plain);
            n_between++;
        }
    }
    assert_true(n_short && n_long && n_between);
}

static void yarn_runs_from_untouched_to_interpolated_and_scales_attention(void **state)
{
    (void)state;
    float freq[N_ROT / 2], magnitude;
    rope_scaling s = {.kind = ROPE_SCALING_YARN, .factor = 4, .beta_fast = 32, .beta_slow = 1, .n_ctx_orig = 4096};
    rope_frequencies(N_ROT, 10000, &s, NULL, freq, &magnitude);
    assert_close(freq[0], 1);
    assert_close(freq[N_ROT / 2 - 1], pow(10000, -2.0 * (N_ROT / 2 - 1) / N_ROT) / 4);
    assert_close(magnitude, 0.1 * log(4) + 1);
    for (uint32_t i = 1; i < N_ROT / 2; i++) {
        double plain = pow(10000, -2.0 * i / N_ROT);
        assert_true(freq[i] <= plain * 1.000001 && freq[i] >= plain / 4 * 0.999999);
    }
    s.attn_factor = 1.25f;
    rope_frequencies(N_ROT, 10000, &s, NULL, freq, &magnitude);
    assert_close(magnitude, 1.25);
}

static void every_family_row_is_found_by_its_name_only(void **state)
{
    (void)state;
    size_t n = 0;
    for (; family_at(n); n++) {
        const char *name = family_at(n)->name;
        assert_ptr_equal(family_find(name, strlen(name)), family_at(n));
        /* one letter less is another family or none: qwen35 and qwen3 are both rows */
        const family *shorter = family_find(name, strlen(name) - 1);
        assert_true(!shorter || strlen(shorter->name) == strlen(name) - 1);
    }
    assert_true(n >= 4);
    assert_null(family_find("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unscaled_frequencies_fall_geometrically),
        cmocka_unit_test(linear_scaling_divides_and_factors_divide_again),
        cmocka_unit_test(proportional_rope_turns_a_share_of_the_head_with_frequencies_of_all_of_it),
        cmocka_unit_test(ntk_scaling_divides_the_slowest_pair_alone),
        cmocka_unit_test(llama3_scaling_leaves_short_waves_and_divides_long_ones),
        cmocka_unit_test(yarn_runs_from_untouched_to_interpolated_and_scales_attention),
        cmocka_unit_test(every_family_row_is_found_by_its_name_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
