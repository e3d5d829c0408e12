/*
 * Batcher, its orderings and the cost model: pure functions, so every rule is checked over pairwise and random states.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "scheduler/decode_queue.h"
#include "support/test.h"

enum { ITEMS = 64 };

typedef struct state { /* one input of the batcher */
    cost_model cost;
    batch_limits limits;
    batch_item decodes[ITEMS], prefills[ITEMS];
    uint32_t n_decodes, n_prefills;
    batch_slice slices[2 * ITEMS];
    batch out;
} state;

static uint64_t below(uint64_t *seed, uint64_t n)
{
    return test_random(seed) % n;
}

static const batch_item *item_at(const state *s, uint32_t i)
{
    return i < s->n_decodes ? &s->decodes[i] : &s->prefills[i - s->n_decodes];
}

static void fill(state *s)
{
    s->out = batcher_fill(&s->cost, &s->limits, s->decodes, s->n_decodes, s->prefills, s->n_prefills, s->slices);
}

static cost_model cost_of(double fixed, double row, double row_depth)
{
    cost_model cost;
    cost_model_init(&cost, NULL);
    cost.us[COST_FIXED] = fixed;
    cost.us[COST_ROW] = row;
    cost.us[COST_ROW_DEPTH] = row_depth;
    cost.us[COST_LOGITS] = 0;
    return cost;
}

static void random_state(state *s, uint64_t *seed)
{
    static const double budgets[] = {0, 10, 500, 5000, 1e9};
    static const uint64_t pages[] = {0, 1, 7, 100, UINT64_MAX};
    static const uint32_t rows[] = {1, 2, 64, 512}, depths[] = {0, 1, 31, 32, 1000, 16000, 100000};
    memset(s, 0, sizeof *s);
    s->cost = cost_of((double)below(seed, 3) * 100, (double)below(seed, 50), (double)below(seed, 4) * 0.01);
    s->limits = (batch_limits){.budget_us = budgets[below(seed, 5)] * (double)(1 + below(seed, 4)),
                               .rows_max = rows[below(seed, 4)],
                               .pages_free = pages[below(seed, 5)],
                               .page_tokens = below(seed, 2) ? 32 : 1};
    s->cost.us[COST_LOGITS] = (double)below(seed, 3) * 10;
    s->limits.decode_us = s->limits.budget_us * (1 - 0.25 * (double)below(seed, 3));
    s->n_decodes = (uint32_t)below(seed, below(seed, 2) ? 4 : ITEMS);
    s->n_prefills = (uint32_t)below(seed, below(seed, 2) ? 4 : ITEMS);
    for (uint32_t i = 0; i < s->n_decodes; i++) {
        s->decodes[i] = (batch_item){.depth = depths[below(seed, 7)],
                                     .pending = 1,
                                     .n_draft = (uint32_t)(below(seed, 3) ? 0 : below(seed, 8)),
                                     .waited = (uint32_t)below(seed, below(seed, 4) ? 4 : 40)};
    }
    for (uint32_t i = 0; i < s->n_prefills; i++) {
        s->prefills[i] = (batch_item){.depth = depths[below(seed, 7)],
                                      .pending = (uint32_t)(2 + below(seed, below(seed, 2) ? 10 : 20000)),
                                      .waited = (uint32_t)below(seed, below(seed, 4) ? 4 : 40)};
    }
}

static uint64_t pages_of(const state *s, const batch_item *item, uint32_t n)
{
    uint64_t size = s->limits.page_tokens;
    return (item->depth + n + size - 1) / size - (item->depth + size - 1) / size;
}

static void check_invariants(const state *s)
{
    bool seen[2 * ITEMS] = {false};
    cost_load load = {0};
    uint64_t prefill_pages = 0, decode_pages = 0;
    for (uint32_t i = 0; i < s->out.n_slices; i++) {
        uint32_t index = s->slices[i].item;
        assert_true(index < s->n_decodes + s->n_prefills);
        const batch_item *item = item_at(s, index);
        assert_false(seen[index]);
        seen[index] = true;
        assert_in_range(s->slices[i].n, 1, item->pending);
        uint32_t n = s->slices[i].n + item->n_draft;
        cost_load_add(&load, item->depth, n, s->slices[i].n == item->pending ? 1 + item->n_draft : 0);
        *(index < s->n_decodes ? &decode_pages : &prefill_pages) += pages_of(s, item, n);
    }
    assert_true(load.rows == s->out.load.rows && load.row_depths == s->out.load.row_depths);
    assert_true(load.logits == s->out.load.logits);
    if (s->out.n_slices > 1) {
        assert_true(cost_model_step_us(&s->cost, &load) <= s->limits.budget_us);
        assert_true(load.rows <= s->limits.rows_max);
    } else if (s->out.n_slices == 1 && s->slices[0].n > 1) {
        assert_true(cost_model_step_us(&s->cost, &load) <= s->limits.budget_us);
    }
    assert_true(prefill_pages <= s->limits.pages_free);
    if (s->out.n_slices == 0 && s->n_decodes + s->n_prefills) {
        assert_true(s->n_decodes == 0 && s->out.pages_short);
    }
}

static void random_states_keep_every_invariant(void **unused)
{
    (void)unused;
    state s;
    for (uint64_t round = 0; round < 60000; round++) {
        uint64_t seed = round;
        random_state(&s, &seed);
        fill(&s);
        check_invariants(&s);
    }
}

static void the_order_given_decides_who_is_in_and_late_ones_come_first(void **unused)
{
    (void)unused;
    state s;
    for (uint64_t round = 0; round < 20000; round++) {
        uint64_t seed = round + 1000000;
        random_state(&s, &seed);
        s.limits.pages_free = UINT64_MAX;
        fill(&s);
        uint32_t last_late_wait = UINT32_MAX;
        bool after_late = false;
        uint32_t last_decode = 0, last_prefill = 0;
        for (uint32_t i = 0; i < s.out.n_slices; i++) {
            uint32_t index = s.slices[i].item;
            const batch_item *item = item_at(&s, index);
            if (item->waited >= BATCH_WAIT_MAX) {
                assert_false(after_late);
                assert_true(item->waited <= last_late_wait);
                last_late_wait = item->waited;
                continue;
            }
            after_late = true;
            uint32_t *last = index < s.n_decodes ? &last_decode : &last_prefill;
            uint32_t place = index < s.n_decodes ? index : index - s.n_decodes;
            for (uint32_t j = *last; j < place; j++) { /* none on time has been passed over */
                assert_true((index < s.n_decodes ? s.decodes : s.prefills)[j].waited >= BATCH_WAIT_MAX);
            }
            *last = place + 1;
        }
    }
}

/* Everything pairwise: so many decodes, so many prompts, so tight a budget; played until each had its turn. */
static void nobody_starves(void **unused)
{
    (void)unused;
    static const double budgets[] = {1, 150, 400, 2000};
    static const uint32_t counts[] = {0, 1, 5, 40};
    for (size_t b = 0; b < 4; b++) {
        for (size_t d = 0; d < 4; d++) {
            for (size_t p = 0; p < 4; p++) {
                state s = {.cost = cost_of(100, 10, 0.001),
                           .limits = {budgets[b], 0.75 * budgets[b], 512, UINT64_MAX, 32},
                           .n_decodes = counts[d],
                           .n_prefills = counts[p]};
                for (uint32_t i = 0; i < ITEMS; i++) {
                    s.decodes[i] = (batch_item){.depth = 100, .pending = 1};
                    s.prefills[i] = (batch_item){.depth = 0, .pending = 1000000};
                }
                for (uint32_t step = 0; step < 1000; step++) {
                    fill(&s);
                    check_invariants(&s);
                    uint32_t n = s.n_decodes + s.n_prefills;
                    for (uint32_t i = 0; i < n; i++) {
                        batch_item *item = i < s.n_decodes ? &s.decodes[i] : &s.prefills[i - s.n_decodes];
                        item->waited++;
                        assert_true(item->waited <= BATCH_WAIT_MAX + n);
                    }
                    for (uint32_t i = 0; i < s.out.n_slices; i++) {
                        uint32_t index = s.slices[i].item;
                        (index < s.n_decodes ? &s.decodes[index] : &s.prefills[index - s.n_decodes])->waited = 0;
                    }
                }
            }
        }
    }
}

static void a_long_prompt_gets_what_decoding_leaves_of_the_budget(void **unused)
{
    (void)unused;
    state s = {
        .cost = cost_of(100, 10, 0.01), .limits = {1000, 750, 512, UINT64_MAX, 32}, .n_decodes = 16, .n_prefills = 1};
    for (uint32_t i = 0; i < 16; i++) {
        s.decodes[i] = (batch_item){.depth = 200, .pending = 1};
    }
    uint32_t shallow, deep;
    s.prefills[0] = (batch_item){.depth = 0, .pending = 16000};
    fill(&s);
    shallow = s.slices[16].n;
    assert_int_equal(s.out.n_slices, 17);
    assert_true(s.out.cost_us <= 1000 && s.out.cost_us > 980);
    s.prefills[0].depth = 15000; /* a row at this depth costs 16 times as much */
    s.prefills[0].pending = 1000;
    fill(&s);
    deep = s.slices[16].n;
    assert_true(deep >= 1 && deep * 10 < shallow);
}

static void prompts_take_only_pages_that_decoding_leaves(void **unused)
{
    (void)unused;
    state s = {.cost = cost_of(0, 1, 0), .limits = {1e9, 1e9, 512, 3, 32}, .n_decodes = 2, .n_prefills = 1};
    s.decodes[0] = (batch_item){.depth = 64, .pending = 1}; /* begins a page */
    s.decodes[1] = (batch_item){.depth = 65, .pending = 1};
    s.prefills[0] = (batch_item){.depth = 10, .pending = 500};
    fill(&s);
    assert_int_equal(s.out.n_slices, 3);
    assert_int_equal(s.slices[2].n, 22 + 64);
    assert_true(s.out.pages_short);
}

static void prefills_go_by_finishing_time_and_priority(void **unused)
{
    (void)unused;
    cost_model cost = cost_of(0, 1000, 0);
    queue_entry entries[] = {
        {.item = {.pending = 16000}, .since_us = 1000, .lane = 0},                 /* long, first: done at 16.0 s */
        {.item = {.pending = 100}, .since_us = 5000000, .lane = 1},                /* short: 5.1 s */
        {.item = {.pending = 100}, .since_us = 5000000, .lane = 2, .priority = 1}, /* 4.1 s */
        {.item = {.pending = 100}, .since_us = 17000000, .lane = 3},               /* too late to overtake */
    };
    prefill_queue_order(entries, 4, &cost);
    static const uint32_t expected[] = {2, 1, 0, 3};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(entries[i].lane, expected[i]);
    }
}

static void decodes_go_by_priority_then_by_turn(void **unused)
{
    (void)unused;
    queue_entry entries[] = {{.since_us = 5, .lane = 0},
                             {.since_us = 3, .lane = 1},
                             {.since_us = 9, .priority = 2, .lane = 2},
                             {.since_us = 3, .lane = 3}};
    decode_queue_order(entries, 4);
    static const uint32_t expected[] = {2, 1, 3, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(entries[i].lane, expected[i]);
    }
}

static void the_cost_model_learns_a_machine_from_its_steps(void **unused)
{
    (void)unused;
    cost_model m;
    uint64_t seed = 7;
    cost_model_init(&m, NULL);
    for (int i = 0; i < 400; i++) {
        double n = 1 + (double)below(&seed, 200), depths = n * (double)below(&seed, 8000);
        double noise = 0.95 + 0.1 * (double)below(&seed, 1000) / 1000;
        double logits = 1 + (double)below(&seed, (uint64_t)n);
        cost_model_learn(&m, &(cost_load){n, depths, logits}, (8000 + 300 * n + 0.05 * depths + 500 * logits) * noise);
    }
    double expected = 8000 + 300 * 64 + 0.05 * 64 * 4000 + 500 * 4;
    const cost_load wanted = {64, 64 * 4000, 4};
    assert_true(fabs(cost_model_step_us(&m, &wanted) - expected) < 0.05 * expected);
    cost_model_learn(&m, &(cost_load){1, 1, 1}, 1e9); /* the machine slept: no reason to stop prompts for good */
    assert_true(cost_model_step_us(&m, &wanted) < 1.5 * expected);
    cost_model_learn(&m, &(cost_load){1, 1, 1}, (double)NAN);
    cost_model_learn(&m, &(cost_load){1, 1, 1}, 0);
    for (int i = 0; i < COST_N; i++) {
        assert_true(m.us[i] >= 0 && isfinite(m.us[i]));
    }
}

static void a_cost_that_was_never_varied_stays_at_its_guess(void **unused)
{
    (void)unused;
    cost_model m;
    cost_model_init(&m, NULL);
    for (int i = 0; i < 100; i++) {
        cost_model_learn(&m, &(cost_load){1, 0, 0}, 5000);
    }
    assert_true(fabs(cost_model_step_us(&m, &(cost_load){1, 0, 0}) - 5000) < 50);
    assert_true(m.us[COST_ROW_DEPTH] > 0.005 && m.us[COST_ROW_DEPTH] < 0.02);
}

/* A long prompt among 16 streams: a thousand steps with about the same rows, which cost somewhat more than rows of
 * larger steps do. What was known of prompts alone and of decoding alone stays known. */
static void many_equal_steps_do_not_wash_out_what_others_told(void **unused)
{
    (void)unused;
    cost_model m;
    uint64_t seed = 11;
    cost_model_init(&m, NULL);
    for (int i = 0; i < 100; i++) { /* prompts */
        double n = 128 + (double)below(&seed, 300), depths = n * 150 * i;
        double noise = 0.8 + 0.4 * (double)below(&seed, 1000) / 1000;
        cost_model_learn(&m, &(cost_load){n, depths, 0}, (8000 + 600 * n + 0.08 * depths) * noise);
    }
    for (int i = 0; i < 130; i++) { /* streams */
        double noise = 0.8 + 0.4 * (double)below(&seed, 1000) / 1000;
        cost_model_learn(&m, &(cost_load){16, 16 * (60 + i), 16}, (8000 + 16 * 1700) * noise);
    }
    for (int i = 0; i < 1000; i++) { /* both */
        double n = 22 + (double)below(&seed, 8), depths = n * 16 * i;
        double noise = 0.8 + 0.4 * (double)below(&seed, 1000) / 1000;
        cost_load load = {16 + n, 16 * (190 + i) + depths, 16};
        double us = 8000 + 16 * 1700 + 900 * n + 0.08 * depths;
        if (i >= 100) {
            assert_true(fabs(cost_model_step_us(&m, &load) - us) < 0.25 * us);
        }
        cost_model_learn(&m, &load, us * noise);
        double alone_us = cost_model_step_us(&m, &(cost_load){16, 16 * (190 + i), 16});
        assert_true(alone_us > 0.75 * 35200 && alone_us < 1.3 * 35200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_states_keep_every_invariant),
        cmocka_unit_test(the_order_given_decides_who_is_in_and_late_ones_come_first),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(a_long_prompt_gets_what_decoding_leaves_of_the_budget),
        cmocka_unit_test(prompts_take_only_pages_that_decoding_leaves),
        cmocka_unit_test(prefills_go_by_finishing_time_and_priority),
        cmocka_unit_test(decodes_go_by_priority_then_by_turn),
        cmocka_unit_test(the_cost_model_learns_a_machine_from_its_steps),
        cmocka_unit_test(a_cost_that_was_never_varied_stays_at_its_guess),
        cmocka_unit_test(many_equal_steps_do_not_wash_out_what_others_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
