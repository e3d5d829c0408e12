/*
 * Acceptance tracker on simulated drafts: where they help the length grows, where they do not it costs next to nothing.
 * Owner: the test program. Lifetime: the process.
 */
#include "runtime/spec/acceptance_tracker.h"
#include "support/test.h"

typedef struct simulated {
    double tokens, cost; /* tokens got, and what they cost in plain steps */
    acceptance_tracker tracker;
} simulated;

/* n steps of a text of which a drafted token is right with probability p. */
static simulated simulate(double p, double row_cost, double draft_cost, uint32_t n, uint64_t seed)
{
    simulated s = {0};
    acceptance_tracker_init(&s.tracker, 8, 0, draft_cost);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = acceptance_tracker_length(&s.tracker), right = 0;
        assert_true(k <= 8);
        while (right < k && (double)(test_random(&seed) % 1000000) < p * 1e6) {
            right++;
        }
        s.tokens += 1 + right;
        s.cost += 1 + k * (row_cost + draft_cost);
        if (k) {
            acceptance_tracker_update(&s.tracker, k, right);
            acceptance_tracker_costs(&s.tracker, row_cost, draft_cost);
        }
    }
    return s;
}

static void a_useless_draft_costs_less_than_two_percent(void **unused)
{
    (void)unused;
    static const double rows[] = {0.1, 0.2, 0.3, 0.6, 1}, drafts[] = {0, 0.1, 0.2, 0.5};
    static const struct {
        uint32_t n_steps;
        double least;
    } lengths[] = {{64, 0.98}, {256, 0.985}, {2000, 0.99}};
    for (size_t r = 0; r < 5; r++) {
        for (size_t d = 0; d < 4; d++) {
            for (size_t l = 0; l < 3; l++) {
                double row = rows[r] * (1 - drafts[d]); /* both together at most one plain step */
                simulated s = simulate(0, row, drafts[d], lengths[l].n_steps, 1);
                if (!(s.tokens / s.cost >= lengths[l].least)) {
                    fail_msg("row %g, draft %g: %g tokens for %g", row, drafts[d], s.tokens, s.cost);
                }
            }
        }
    }
}

/* What drafts have gained buys no more than a few useless ones. */
static void a_text_that_ends_to_repeat_costs_little(void **unused)
{
    (void)unused;
    simulated s = simulate(1, 0.3, 0.1, 200, 1);
    double cost = 0;
    for (int i = 0; i < 64; i++) {
        uint32_t k = acceptance_tracker_length(&s.tracker);
        cost += k * 0.4;
        if (k) {
            acceptance_tracker_update(&s.tracker, k, 0);
            acceptance_tracker_costs(&s.tracker, 0.3, 0.1);
        }
    }
    assert_true(cost < 5);
}

static void a_seldom_right_draft_costs_little_and_a_long_text_less(void **unused)
{
    (void)unused;
    for (int percent = 5; percent <= 40; percent += 5) {
        double tokens = 0, cost = 0;
        for (uint64_t seed = 1; seed <= 50; seed++) {
            simulated s = simulate(percent / 100.0, 0.5, 0, 2000, seed);
            tokens += s.tokens;
            cost += s.cost;
        }
        if (!(tokens / cost >= 0.985)) {
            fail_msg("%d %%: %g tokens for %g", percent, tokens, cost);
        }
    }
}

static void a_good_draft_gains_what_it_can(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        simulated all = simulate(1, 0.3, 0, 200, seed), most = simulate(0.85, 0.2, 0.05, 400, seed);
        assert_true(all.tokens / all.cost >= 2.4);   /* 9 tokens for 3.4 at best: 2.65 */
        assert_true(most.tokens / most.cost >= 1.5); /* 4 drafted: 3.7 for 2: 1.85 */
    }
}

static void drafting_starts_again_where_the_text_begins_to_repeat(void **unused)
{
    (void)unused;
    simulated s = simulate(0, 0.4, 0, 1000, 1);
    uint32_t n_steps = 0, k = 0;
    while ((k = acceptance_tracker_length(&s.tracker)) < 4) { /* now every draft is right */
        if (k) {
            acceptance_tracker_update(&s.tracker, k, k);
            acceptance_tracker_costs(&s.tracker, 0.4, 0);
        }
        assert_true(++n_steps < 300); /* the longest pause and a few steps */
    }
}

static void one_disturbed_measurement_is_not_believed(void **unused)
{
    (void)unused;
    acceptance_tracker t;
    acceptance_tracker_init(&t, 8, 0.3, 0);
    acceptance_tracker_costs(&t, 50, 0);
    assert_true(t.row_cost < 0.5);
    for (int i = 0; i < 40; i++) {
        acceptance_tracker_costs(&t, 0.8, 0.2);
    }
    assert_true(t.row_cost > 0.75 && t.row_cost < 0.85);
    assert_true(t.draft_cost > 0.15 && t.draft_cost < 0.25);
    acceptance_tracker_costs(&t, -3, 0); /* faster than plain: nothing is less than free */
    assert_true(t.row_cost >= 0 && t.draft_cost > 0.15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_useless_draft_costs_less_than_two_percent),
        cmocka_unit_test(a_text_that_ends_to_repeat_costs_little),
        cmocka_unit_test(a_seldom_right_draft_costs_little_and_a_long_text_less),
        cmocka_unit_test(a_good_draft_gains_what_it_can),
        cmocka_unit_test(drafting_starts_again_where_the_text_begins_to_repeat),
        cmocka_unit_test(one_disturbed_measurement_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
