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

/* n more steps of a text of which a drafted token is right with probability p. */
static void go_on(simulated *s, double p, double row_cost, double draft_cost, uint32_t n, uint64_t seed)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = acceptance_tracker_length(&s->tracker), right = 0;
        assert_true(k <= 8);
        while (right < k && (double)(test_random(&seed) % 1000000) < p * 1e6) {
            right++;
        }
        s->tokens += 1 + right;
        s->cost += 1 + k * (row_cost + draft_cost);
        if (k) {
            acceptance_tracker_update(&s->tracker, k, right);
            acceptance_tracker_costs(&s->tracker, row_cost, draft_cost);
        }
    }
}

static simulated simulate(double p, double row_cost, double draft_cost, uint32_t n, uint64_t seed)
{
    simulated s = {0};
    acceptance_tracker_init(&s.tracker, 8, 0, draft_cost);
    go_on(&s, p, row_cost, draft_cost, n, seed);
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

/* The head's account is handed on; what it gained on one text is no allowance on the next. */
static void a_useless_sequence_behind_a_perfect_one_costs_less_than_two_percent(void **unused)
{
    (void)unused;
    static const double rows[] = {0.1, 0.3, 0.6}, drafts[] = {0, 0.1, 0.2};
    for (size_t r = 0; r < 3; r++) {
        for (size_t d = 0; d < 3; d++) {
            simulated before = simulate(1, rows[r], drafts[d], 200, 1), s = {0};
            acceptance_tracker_init(&s.tracker, 8, before.tracker.row_cost, drafts[d]);
            acceptance_tracker_inherit(&s.tracker, before.tracker.loss);
            go_on(&s, 0, rows[r], drafts[d], 64, 1);
            if (!(s.tokens / s.cost >= 0.98)) {
                fail_msg("row %g, draft %g: %g tokens for %g", rows[r], drafts[d], s.tokens, s.cost);
            }
        }
    }
}

static void a_sequence_behind_a_useless_one_begins_with_half_of_its_loss(void **unused)
{
    (void)unused;
    acceptance_tracker t;
    acceptance_tracker_init(&t, 8, 0.3, 0.1);
    acceptance_tracker_inherit(&t, 0.6);
    assert_true(t.loss == 0.3);
    acceptance_tracker_inherit(&t, -4);
    assert_true(t.loss == 0);
}

/* Dearer than a plain step they cannot pay: the first finds out, and costs whatever it does. */
static void useless_drafts_dearer_than_a_plain_step_lose_what_the_header_says(void **unused)
{
    (void)unused;
    static const double drafts[] = {0, 0.5, 1.2};
    static const uint32_t lengths[] = {64, 256, 2000};
    for (size_t d = 0; d < 3; d++) {
        for (size_t l = 0; l < 3; l++) {
            simulated s = simulate(0, 1.5 - drafts[d], drafts[d], lengths[l], 1);
            double lost = s.cost - s.tokens, most = 1.5 + 0.7 + 0.005 * lengths[l];
            print_message("row %g, draft %g: %g of %u steps\n", 1.5 - drafts[d], drafts[d], lost, lengths[l]);
            if (!(lost <= most)) {
                fail_msg("row %g, draft %g: %g of %u steps lost", 1.5 - drafts[d], drafts[d], lost, lengths[l]);
            }
        }
    }
}

/* As a prompt that repeats itself before a text that does not. */
static void what_a_repetitive_prefix_gained_is_all_that_is_lost_again(void **unused)
{
    (void)unused;
    static const double rows[] = {0.1, 0.3, 0.6, 1.5};
    static const uint32_t lengths[] = {64, 256, 2000};
    for (size_t r = 0; r < 4; r++) {
        for (size_t l = 0; l < 3; l++) {
            simulated s = simulate(1, rows[r], 0, 200, 1);
            double tokens = s.tokens, cost = s.cost;
            go_on(&s, 0, rows[r], 0, lengths[l], 1);
            double lost = s.cost - cost - (s.tokens - tokens), most = 4 + 0.7 + 0.005 * lengths[l];
            print_message("row %g: %g of %u steps\n", rows[r], lost, lengths[l]);
            if (!(lost <= most)) {
                fail_msg("row %g: %g of %u steps lost", rows[r], lost, lengths[l]);
            }
        }
    }
}

static void drafts_cheaper_than_was_believed_keep_no_more_than_the_most_gain(void **unused)
{
    (void)unused;
    acceptance_tracker t;
    acceptance_tracker_init(&t, 8, 0.4, 0);
    for (int i = 0; i < 8; i++) {
        acceptance_tracker_length(&t);
        acceptance_tracker_update(&t, 8, 8);
        assert_true(t.loss >= -4);
        acceptance_tracker_costs(&t, 0, 0);
        assert_true(t.loss >= -4);
    }
}

/* A step in which a prompt was computed, too, tells no costs. */
static void a_charge_that_was_never_trued_ends_with_its_step(void **unused)
{
    (void)unused;
    acceptance_tracker t;
    acceptance_tracker_init(&t, 8, 0.3, 0);
    acceptance_tracker_update(&t, 4, 0);
    acceptance_tracker_length(&t);
    double loss = t.loss;
    acceptance_tracker_costs(&t, 0.6, 0);
    assert_true(t.loss == loss);
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
        cmocka_unit_test(a_useless_sequence_behind_a_perfect_one_costs_less_than_two_percent),
        cmocka_unit_test(a_sequence_behind_a_useless_one_begins_with_half_of_its_loss),
        cmocka_unit_test(useless_drafts_dearer_than_a_plain_step_lose_what_the_header_says),
        cmocka_unit_test(what_a_repetitive_prefix_gained_is_all_that_is_lost_again),
        cmocka_unit_test(drafts_cheaper_than_was_believed_keep_no_more_than_the_most_gain),
        cmocka_unit_test(a_charge_that_was_never_trued_ends_with_its_step),
        cmocka_unit_test(a_text_that_ends_to_repeat_costs_little),
        cmocka_unit_test(a_seldom_right_draft_costs_little_and_a_long_text_less),
        cmocka_unit_test(a_good_draft_gains_what_it_can),
        cmocka_unit_test(drafting_starts_again_where_the_text_begins_to_repeat),
        cmocka_unit_test(one_disturbed_measurement_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
