/*
 * Which experts are kept, against the rule as its header states it, computed from all uses anew each time.
 * Owner: each test. Lifetime: the test.
 */
#include <math.h>

#include "runtime/expert_policy.h"
#include "support/test.h"

enum { ITEMS = 40, PASSES = 600, PER_PASS = 4, HALF_LIFE = 50 };

/* The rule, with all uses kept. */
typedef struct reference {
    double times[ITEMS][PASSES];
    uint32_t n_times[ITEMS];
    bool kept[ITEMS];
    uint64_t n_bytes[ITEMS], n_bytes_kept, n_hits, n_misses;
} reference;

static double value_of(const reference *r, uint32_t item, double now)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->n_times[item]; i++) {
        sum += pow(0.5, (now - r->times[item][i]) / HALF_LIFE);
    }
    return sum;
}

static void reference_use(reference *r, double now, const uint32_t *used, uint64_t budget)
{
    bool is_used[ITEMS] = {false};
    for (uint32_t i = 0; i < PER_PASS; i++) {
        uint32_t item = used[i];
        is_used[item] = true;
        r->times[item][r->n_times[item]++] = now;
        r->n_hits += r->kept[item];
        r->n_misses += !r->kept[item];
        r->n_bytes_kept += r->kept[item] ? 0 : r->n_bytes[item];
        r->kept[item] = true;
    }
    while (r->n_bytes_kept > budget) {
        uint32_t least = ITEMS;
        for (uint32_t i = 0; i < ITEMS; i++) {
            if (r->kept[i] && !is_used[i] && (least == ITEMS || value_of(r, i, now) < value_of(r, least, now))) {
                least = i;
            }
        }
        if (least == ITEMS) {
            break;
        }
        r->kept[least] = false;
        r->n_bytes_kept -= r->n_bytes[least];
    }
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Different items, small numbers far more often; what is often changes half-way. */
static void draw(uint64_t *state, uint32_t pass, uint32_t used[PER_PASS])
{
    for (uint32_t i = 0; i < PER_PASS;) {
        double u = next_random(state) / 2147483648.0;
        uint32_t item = (uint32_t)(ITEMS * u * u * u), j = 0;
        item = pass < PASSES / 2 ? item : ITEMS - 1 - item;
        while (j < i && used[j] != item) {
            j++;
        }
        if (j == i) {
            used[i++] = item;
        }
    }
}

static void hits_and_what_is_kept_are_those_of_the_rule(void **state)
{
    static reference r;
    uint64_t random = 11, budget = 900;
    expert_policy p;
    (void)state;
    memset(&r, 0, sizeof r);
    assert_true(expert_policy_open(&p, ITEMS, budget, HALF_LIFE));
    for (uint32_t i = 0; i < ITEMS; i++) {
        p.items[i].n_bytes = r.n_bytes[i] = 50 + next_random(&random) % 50;
    }
    double now = 0;
    for (uint32_t pass = 0; pass < PASSES; pass++) {
        uint32_t used[PER_PASS];
        uint64_t n_pass_bytes = 0, n_given = p.n_given_up, n_misses = p.n_misses;
        now += 0.1 + next_random(&random) / 2147483648.0; /* no two sums come out alike by chance */
        draw(&random, pass, used);
        expert_policy_use(&p, now, used, PER_PASS);
        reference_use(&r, now, used, budget);
        for (uint32_t i = 0; i < PER_PASS; i++) {
            n_pass_bytes += p.items[used[i]].n_bytes;
            assert_true(p.items[used[i]].kept);
        }
        for (uint32_t i = 0; i < ITEMS; i++) {
            assert_int_equal(p.items[i].kept, r.kept[i]);
        }
        assert_int_equal(p.n_bytes_kept, r.n_bytes_kept);
        assert_true(p.n_bytes_kept <= (budget > n_pass_bytes ? budget : n_pass_bytes));
        assert_int_equal(p.n_given_up - n_given, p.n_given);
        assert_int_equal(p.n_misses - n_misses, p.n_missed);
    }
    assert_int_equal(p.n_hits, r.n_hits);
    assert_int_equal(p.n_misses, r.n_misses);
    assert_int_equal(p.n_hits + p.n_misses, PASSES * PER_PASS);
    assert_true(p.n_hits > PASSES * PER_PASS / 2); /* skewed uses are mostly found */
    expert_policy_close(&p);
}

static void a_pass_that_exceeds_the_budget_keeps_all_it_uses_until_the_next(void **state)
{
    expert_policy p;
    (void)state;
    assert_true(expert_policy_open(&p, 6, 10, HALF_LIFE));
    for (uint32_t i = 0; i < 6; i++) {
        p.items[i].n_bytes = 8;
    }
    expert_policy_use(&p, 0, (const uint32_t[]){0, 1, 2}, 3);
    assert_int_equal(p.n_bytes_kept, 24);
    expert_policy_use(&p, 1, (const uint32_t[]){5}, 1);
    assert_int_equal(p.n_bytes_kept, 8);
    assert_int_equal(p.n_given, 3);
    assert_int_equal(p.given_up[0], 0); /* of equals the first */
    expert_policy_close(&p);
}

static void old_uses_fade_and_a_change_of_unit_changes_no_order(void **state)
{
    expert_policy p;
    (void)state;
    assert_true(expert_policy_open(&p, 4, 2, 1));
    for (uint32_t i = 0; i < 4; i++) {
        p.items[i].n_bytes = 1;
    }
    for (uint32_t i = 0; i < 100; i++) {
        expert_policy_use(&p, i, (const uint32_t[]){0}, 1);
    }
    expert_policy_use(&p, 102, (const uint32_t[]){1}, 1);
    expert_policy_use(&p, 340, (const uint32_t[]){2}, 1); /* 256 half-lives later: a new unit */
    assert_false(p.items[0].kept);                        /* a quarter, half, … of 2: less than 1 */
    assert_true(p.items[1].kept && p.items[2].kept);
    assert_true(p.items[1].value > 0 && p.items[1].value < p.items[2].value);
    expert_policy_use(&p, 1e6, (const uint32_t[]){3}, 1);
    assert_true(p.items[2].kept && p.items[3].kept && !p.items[1].kept);
    assert_true(isfinite(p.items[3].value));
    expert_policy_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_and_what_is_kept_are_those_of_the_rule),
        cmocka_unit_test(a_pass_that_exceeds_the_budget_keeps_all_it_uses_until_the_next),
        cmocka_unit_test(old_uses_fade_and_a_change_of_unit_changes_no_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
