/*
 * The machine's limits by a clock of the test's: what a host that takes cores away leaves alone is found.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/cpu.h"
#include "base/team.h"
#include "kernels/cpu/limits_team.h"
#include "support/test.h"

#define MS 1000000000ll /* in picoseconds */

/* A core that the host takes for 8 ms of every 12, at first behind 4 ms from `begin`, which is 0 or less, on. */
typedef struct core {
    int64_t now, begin, round; /* picoseconds */
} core;

static double core_now(void *user)
{
    return (double)((core *)user)->now * 1e-12;
}

static void core_run(void *context, uint32_t n_rounds)
{
    core *c = context;
    for (int64_t left = n_rounds * c->round; left > 0;) {
        int64_t phase = (c->now - c->begin) % (12 * MS);
        if (phase >= 4 * MS) {
            c->now += 12 * MS - phase;
            continue;
        }
        int64_t step = left < 4 * MS - phase ? left : 4 * MS - phase;
        c->now += step;
        left -= step;
    }
}

static void a_core_that_is_taken_away_most_of_the_time_has_its_whole_peak(void **unused)
{
    (void)unused;
    static const int64_t rounds[] = {10000, 3000000, 400000000};
    for (size_t r = 0; r < 3; r++) {
        for (int begin = 0; begin < 12; begin++) {
            core c = {.begin = -begin * MS, .round = rounds[r]};
            double right = (double)rounds[r] * 1e-12;
            double found = limits_best_round(&(limits_clock){core_now, &c}, core_run, &c);
            if (!(found > 0.999 * right && found < 1.001 * right)) {
                fail_msg("rounds of %g s, begun at %d ms: %g", right, begin, found);
            }
        }
    }
}

/* Each has the host's 4 ms while the others have none: at no moment do two run. */
static void cores_that_never_run_at_once_have_the_peak_of_all(void **unused)
{
    (void)unused;
    double rate = 0;
    for (int i = 0; i < 3; i++) {
        core c = {.begin = (i - 2) * 4 * MS, .round = 1000000};
        rate += 1 / limits_best_round(&(limits_clock){core_now, &c}, core_run, &c);
    }
    assert_true(rate > 2.99e6 && rate < 3.01e6);
}

static void a_team_has_a_peak_and_a_number_that_is_not_known_none(void **unused)
{
    (void)unused;
    mlxr_error error;
    team *t = NULL;
    double one = 0;
    assert_ok(team_open(&t, 2, &error), &error);
    assert_ok(limits_peak_rate(t, cpu_detect(), "f32", &one, &error), &error);
    assert_true(one > 0);
    assert_int_equal(limits_peak_rate(t, cpu_detect(), "f64", &one, &error), MLXR_ARG);
    assert_ok(limits_read_rate(t, cpu_detect(), 1 << 20, &one, &error), &error);
    assert_true(one > 0);
    team_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_core_that_is_taken_away_most_of_the_time_has_its_whole_peak),
        cmocka_unit_test(cores_that_never_run_at_once_have_the_peak_of_all),
        cmocka_unit_test(a_team_has_a_peak_and_a_number_that_is_not_known_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
