/*
 * Tests of daemon/scheduler/pace, with the cost model and the batcher: a long prompt among streams on machines that
 * are steady, jitter, or lose their cores again and again. Owner: the test program. Lifetime: the process.
 */
#include "scheduler/pace.h"

#include <math.h>

#include "scheduler/batcher.h"
#include "scheduler/quantile.h"
#include "support/test.h"

enum { STREAMS = 16, BEFORE = 100, STEPS_MAX = 8192 };

typedef struct machine { /* how its steps differ from what they cost */
    double jitter;       /* of a step, up to so much more or less */
    double burst;        /* cores are away: steps are so many times slower … */
    uint32_t every, for_steps;
    uint64_t seed;
    uint32_t n_steps;
} machine;

typedef struct outcome {
    double gap_ratio, prompt_ratio; /* p99 of the steps over the median before; the prompt's time over its time alone */
    bool left_out;                  /* a stream was, of a step */
} outcome;

static const cost_model truth = {.us = {3000, 750, 0.065, 1100}}; /* Gemma 3 270M on two cores */

static double take_us(machine *m, const cost_load *load)
{
    double part = (double)(test_random(&m->seed) % 2001) / 1000 - 1;
    bool away = m->every && m->n_steps % m->every >= m->every - m->for_steps;
    m->n_steps++;
    return cost_model_step_us(&truth, load) * (1 + m->jitter * part) * (away ? m->burst : 1);
}

typedef struct world {
    machine m;
    cost_model cost;
    pace pace;
    batch_item streams[STREAMS], prompt;
    batch_slice slices[STREAMS + 1];
    double stretch;
} world;

/* One step as the scheduler lays it out and learns from it; 0 prompt rows left: of the streams only. */
static double step(world *w, outcome *out)
{
    cost_load decodes = {0};
    for (uint32_t i = 0; i < STREAMS; i++) {
        batch_item_load(&w->streams[i], 1, &decodes);
    }
    uint32_t n_prefills = w->prompt.pending > 0;
    double ratio = pace_alone_ratio(&w->pace, &w->cost), now_us = cost_model_step_us(&w->cost, &decodes);
    double budget_us = pace_budget_us(&w->pace, now_us, ratio, w->stretch), decode_us = 0.75 * budget_us / ratio;
    batch_limits limits = {.budget_us = budget_us,
                           .decode_us = decode_us < budget_us ? decode_us : budget_us,
                           .rows_max = 512,
                           .pages_free = UINT64_MAX,
                           .page_tokens = 32};
    batch b = batcher_fill(&w->cost, &limits, w->streams, STREAMS, &w->prompt, n_prefills, w->slices);
    double us = take_us(&w->m, &b.load);
    cost_model_learn(&w->cost, &b.load, us);
    uint32_t n_streams = 0;
    for (uint32_t i = 0; i < b.n_slices; i++) {
        batch_item *item = w->slices[i].item < STREAMS ? &w->streams[w->slices[i].item] : &w->prompt;
        n_streams += item != &w->prompt;
        item->depth += w->slices[i].n;
        item->pending -= item == &w->prompt ? w->slices[i].n : 0;
    }
    if (n_streams == b.n_slices) {
        pace_alone(&w->pace, &b.load, us);
    } else {
        pace_shared(&w->pace, b.cost_us, us);
    }
    out->left_out |= n_streams < STREAMS;
    return us;
}

static outcome run(machine m, uint32_t n_prompt)
{
    static double us[STEPS_MAX];
    outcome out = {0};
    world w = {.m = m, .stretch = 2.5};
    cost_model_init(&w.cost, NULL);
    double solo_us = 0, prompt_us = 0;
    for (uint32_t at = 0; at < n_prompt; at += 128) { /* alone */
        cost_load load = {0};
        cost_load_add(&load, at, 128, 0);
        double took = take_us(&w.m, &load);
        cost_model_learn(&w.cost, &load, took);
        solo_us += took;
    }
    for (uint32_t i = 0; i < STREAMS; i++) {
        w.streams[i] = (batch_item){.depth = 64, .pending = 1};
    }
    for (uint32_t i = 0; i < 30 + BEFORE; i++) {
        us[i < 30 ? 0 : i - 30] = step(&w, &out);
    }
    double before_us = quantile_of(us, BEFORE, 0.5);
    w.prompt = (batch_item){.pending = n_prompt};
    size_t n = 0;
    while (w.prompt.pending && n < STEPS_MAX) {
        prompt_us += us[n++] = step(&w, &out);
    }
    assert_int_equal(w.prompt.pending, 0);
    out.gap_ratio = quantile_of(us, n, 0.99) / before_us;
    out.prompt_ratio = prompt_us / solo_us;
    return out;
}

static void a_long_prompt_keeps_both_bounds_on_machines_of_all_kinds(void **unused)
{
    (void)unused;
    static const machine machines[] = {
        {.jitter = 0},                                                 /* ours alone */
        {.jitter = 0.1},                                               /* a usual one */
        {.jitter = 0.25},                                              /* shared */
        {.jitter = 0.08, .burst = 1.5, .every = 110, .for_steps = 12}, /* its cores go away for a second, often … */
        {.jitter = 0.08, .burst = 1.6, .every = 300, .for_steps = 25}  /* … or now and then */
    };
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        for (uint64_t seed = 1; seed <= 5; seed++) {
            for (uint32_t n_prompt = 4096; n_prompt <= 16384; n_prompt *= 2) {
                machine m = machines[i];
                m.seed = seed;
                outcome out = run(m, n_prompt);
                if (out.gap_ratio > 3 || out.prompt_ratio > 2.5 || out.left_out) {
                    fail_msg("machine %zu, seed %d, %u tokens: gap %.2f, prompt %.2f%s", i, (int)seed, n_prompt,
                             out.gap_ratio, out.prompt_ratio, out.left_out ? ", a stream was left out" : "");
                }
            }
        }
    }
}

static void a_steady_machine_gives_a_prompt_more_than_a_restless_one(void **unused)
{
    (void)unused;
    outcome steady = run((machine){.jitter = 0.02, .seed = 1}, 8192),
            restless = run((machine){.jitter = 0.3, .seed = 1}, 8192);
    assert_true(steady.prompt_ratio < restless.prompt_ratio - 0.15);
    assert_true(steady.gap_ratio > 2);
}

static void what_was_not_seen_is_guessed_and_what_was_seen_counts(void **unused)
{
    (void)unused;
    cost_model cost;
    pace p = {0};
    cost_model_init(&cost, NULL);
    assert_true(fabs(pace_alone_ratio(&p, &cost) - 1) < 1e-9);
    assert_true(fabs(pace_spread(&p) - 1.25) < 1e-9);
    assert_true(fabs(pace_budget_us(&p, 100, 1, 2.5) - 200) < 1e-9);
    cost_load load = {0};
    cost_load_add(&load, 100, 4, 4);
    for (int i = 0; i < 2 * PACE_ALONE_N; i++) {
        pace_alone(&p, &load, 2 * cost_model_step_us(&cost, &load));
    }
    assert_true(fabs(pace_alone_ratio(&p, &cost) - 2) < 1e-9);
    for (int i = 0; i < 2 * PACE_SHARED_N; i++) { /* as predicted, each time */
        pace_shared(&p, 100, 100);
    }
    assert_true(fabs(pace_spread(&p) - 1.05) < 1e-9);
    pace_shared(&p, 100, 150); /* one in thirty does not count, but the next step is expected to be as slow */
    assert_true(fabs(pace_spread(&p) - 1.05) < 1e-9);
    assert_true(fabs(pace_budget_us(&p, 100, 2, 3) - 100 * 2 * 3 / 1.05 / 1.5) < 1e-6);
    pace_shared(&p, 100, 150); /* as it was */
    assert_true(fabs(pace_spread(&p) - 1.05) < 1e-9);
    pace_shared(&p, 100, 1000);
    assert_true(fabs(pace_spread(&p) - 1.5) < 1e-9);
    assert_true(fabs(pace_budget_us(&p, 100, 1, 2.1) - 150) < 1e-9); /* never less than a prompt can live on */
    assert_true(fabs(pace_budget_us(&p, 100, 2, 2.1) - 300) < 1e-9);
    pace_alone(&p, &load, 10);
    assert_true(pace_budget_us(&p, 100, 2, 3) > 350); /* streams alone: a new beginning */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_prompt_keeps_both_bounds_on_machines_of_all_kinds),
        cmocka_unit_test(a_steady_machine_gives_a_prompt_more_than_a_restless_one),
        cmocka_unit_test(what_was_not_seen_is_guessed_and_what_was_seen_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
