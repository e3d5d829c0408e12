/*
 * Tests of daemon/scheduler/quantile.
 * Owner: the test program. Lifetime: the process.
 */
#include "scheduler/quantile.h"

#include "support/test.h"

static bool same(double a, double b)
{
    return a <= b && a >= b;
}

static void the_median_is_in_the_middle(void **state)
{
    (void)state;
    double none[1] = {7}, one[] = {3}, two[] = {5, 2}, three[] = {9, 1, 4}, four[] = {8, 1, 2, 4};
    assert_true(same(median_of(none, 0), 0));
    assert_true(same(median_of(one, 1), 3));
    assert_true(same(median_of(two, 2), 3.5));
    assert_true(same(median_of(three, 3), 4));
    assert_true(same(median_of(four, 4), 3));
    for (int i = 0; i < 3; i++) {
        assert_true(four[i] <= four[i + 1]); /* the array is sorted */
    }
}

static void quantiles_are_the_values_of_the_nearest_rank(void **state)
{
    (void)state;
    double values[101];
    uint64_t seed = 3;
    for (size_t n = 1; n <= 101; n++) {
        for (size_t i = 0; i < n; i++) {
            values[i] = (double)(test_random(&seed) % 50);
        }
        const double parts[] = {0, 0.1, 0.5, 0.9, 0.99, 1};
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            double found = quantile_of(values, n, parts[p]);
            double rank = parts[p] * (double)(n - 1);
            size_t below = 0, at_most = 0; /* its ranks are below … at_most − 1 */
            for (size_t i = 0; i < n; i++) {
                below += values[i] < found;
                at_most += values[i] <= found;
            }
            assert_true(at_most > below);
            assert_true((double)below - 0.5 <= rank && rank <= (double)at_most - 0.5);
        }
        assert_true(same(quantile_of(values, n, 0), values[0]));
        assert_true(same(quantile_of(values, n, 1), values[n - 1]));
    }
    assert_true(same(quantile_of(values, 0, 0.5), 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_median_is_in_the_middle),
        cmocka_unit_test(quantiles_are_the_values_of_the_nearest_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
