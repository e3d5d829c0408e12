/*
 * Requests whose tokens nobody takes for a while: scheduler_pause and scheduler_resume.
 * Owner: the test program. Lifetime: the process.
 */
#include <pthread.h>
#include <time.h>

#include "scheduler_client.h"
#include "telemetry/metric_table.h"

static void step(scheduler *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        scheduler_step(s);
    }
}

static void a_paused_request_computes_nothing_and_others_go_on(void **unused)
{
    (void)unused;
    setup s;
    open_engine(&s, 8 << 20, 1);
    scheduler *sched = open_scheduler(&s, &(scheduler_options){.lanes_max = 4});
    client *slow = make(s.model, 1, 40, 30), *fast = make(s.model, 2, 50, 60);
    submit(sched, slow);
    submit(sched, fast);
    step(sched, 5);
    size_t before = slow->results[0].n;
    assert_true(before > 0 && before < 30);
    assert_true(scheduler_pause(sched, slow->id));
    play_until_last(sched, fast);
    scheduler_pulse pulse = scheduler_step(sched);
    assert_false(pulse.worked); /* the worker sleeps */
    assert_true(pulse.wake_at_us == UINT64_MAX);
    assert_int_equal(slow->results[0].n, before);
    scheduler_stats stats = scheduler_stats_get(sched);
    assert_int_equal(stats.n_stalled, 1);
    assert_int_equal(stats.n_running, 1); /* it keeps its pages */
    assert_int_equal(stats.n_preempted, 0);
    assert_false(scheduler_idle(sched));
    assert_true(scheduler_resume(sched, slow->id));
    play(sched);
    assert_int_equal(scheduler_stats_get(sched).n_stalled, 0);
    assert_false(scheduler_pause(sched, slow->id)); /* there is no such request any more */
    assert_false(scheduler_resume(sched, slow->id));
    check(slow, s.engine, SCHEDULER_LENGTH);
    check(fast, s.engine, SCHEDULER_LENGTH);
    scheduler_close(&sched);
    free(slow);
    free(fast);
    close_engine(&s);
}

/* Before it is admitted, while its prompt is read, before it is forked, while it decodes. */
static void a_request_can_be_paused_at_any_step(void **unused)
{
    (void)unused;
    setup s;
    open_engine(&s, 8 << 20, 1);
    scheduler *sched = open_scheduler(&s, &(scheduler_options){.lanes_max = 4, .rows_max = 16});
    for (uint32_t at = 0; at < 14; at++) {
        client *c = make(s.model, 100 + at, 60, 8);
        c->ask.n_choices = 3;
        submit(sched, c);
        step(sched, at);
        bool live = scheduler_pause(sched, c->id);
        step(sched, 3);
        size_t n = c->results[0].n + c->results[1].n + c->results[2].n;
        step(sched, 3);
        assert_int_equal(c->results[0].n + c->results[1].n + c->results[2].n, n);
        assert_int_equal(scheduler_resume(sched, c->id), live);
        play(sched);
        check(c, s.engine, SCHEDULER_LENGTH);
        free(c);
    }
    scheduler_close(&sched);
    close_engine(&s);
}

/* Memory for one of them: whoever is not read gives way, whatever its priority, and goes on where it was. */
static void a_paused_request_gives_its_pages_to_whoever_needs_them(void **unused)
{
    (void)unused;
    setup s;
    open_engine(&s, bytes_for(256), 1);
    scheduler *sched = open_scheduler(&s, &(scheduler_options){.lanes_max = 4, .lookahead = 1});
    client *slow = make(s.model, 1, 100, 60), *fast = make(s.model, 2, 120, 90);
    slow->ask.priority = 10;
    submit(sched, slow);
    step(sched, 8);
    size_t before = slow->results[0].n;
    assert_true(before > 0 && before < 60);
    scheduler_pause(sched, slow->id);
    step(sched, 1);
    submit(sched, fast);
    play_until_last(sched, fast);
    assert_int_equal(slow->results[0].n, before);
    scheduler_stats stats = scheduler_stats_get(sched);
    assert_int_equal(stats.n_preempted, 1);
    assert_int_equal(stats.n_paused, 1);
    assert_int_equal(stats.n_stalled, 1);
    assert_false(scheduler_step(sched).worked); /* there is room now, but nobody who reads */
    scheduler_resume(sched, slow->id);
    play(sched);
    check(slow, s.engine, SCHEDULER_LENGTH);
    check(fast, s.engine, SCHEDULER_LENGTH);
    scheduler_close(&sched);
    free(slow);
    free(fast);
    close_engine(&s);
}

/* Streams that grow into the pages of one that is paused are not pre-empted for it. */
static void a_paused_request_yields_before_streams_run_short(void **unused)
{
    (void)unused;
    setup s;
    client *clients[4];
    open_engine(&s, bytes_for(512), 1);
    scheduler *sched = open_scheduler(&s, &(scheduler_options){.lanes_max = 4, .lookahead = 1});
    for (uint32_t i = 0; i < 4; i++) {
        clients[i] = make(s.model, i, 60, i == 0 ? 60 : 90);
        submit(sched, clients[i]);
    }
    step(sched, 6);
    scheduler_pause(sched, clients[0]->id);
    for (uint32_t i = 1; i < 4; i++) {
        play_until_last(sched, clients[i]);
    }
    assert_int_equal(scheduler_stats_get(sched).n_preempted, 1);
    scheduler_resume(sched, clients[0]->id);
    play(sched);
    for (uint32_t i = 0; i < 4; i++) {
        check(clients[i], s.engine, SCHEDULER_LENGTH);
        free(clients[i]);
    }
    scheduler_close(&sched);
    close_engine(&s);
}

static void a_paused_request_can_be_cancelled_and_its_deadline_counts(void **unused)
{
    (void)unused;
    setup s;
    open_engine(&s, 8 << 20, 1);
    scheduler *sched = open_scheduler(&s, &(scheduler_options){.lanes_max = 4, .now_us = fake_now});
    client *left = make(s.model, 1, 30, 50), *late = make(s.model, 2, 30, 50), *aborted = make(s.model, 4, 30, 50);
    late->ask.deadline_us = fake_now(NULL) + 5000000;
    submit(sched, left);
    submit(sched, late);
    submit(sched, aborted);
    step(sched, 4);
    scheduler_pause(sched, left->id);
    scheduler_pause(sched, late->id);
    scheduler_pause(sched, aborted->id);
    scheduler_pulse pulse = scheduler_step(sched);
    assert_false(pulse.worked);
    assert_true(pulse.wake_at_us == late->ask.deadline_us);
    scheduler_cancel(sched, left->id);
    scheduler_step(sched);
    assert_int_equal(left->results[0].finish, SCHEDULER_CANCELLED);
    atomic_fetch_add(&clock_us, 5000001);
    pulse = scheduler_step(sched);
    assert_int_equal(late->results[0].finish, SCHEDULER_DEADLINE);
    scheduler_abort(sched);
    assert_int_equal(aborted->results[0].finish, SCHEDULER_SHUTDOWN);
    assert_true(scheduler_idle(sched));
    scheduler_close(&sched);
    free(left);
    free(late);
    free(aborted);
    close_engine(&s);
}

static void stall(scheduler *sched, client *c)
{
    submit(sched, c);
    step(sched, 4);
    assert_true(c->results[0].n > 0);
    scheduler_pause(sched, c->id);
    step(sched, 1);
}

/* Two lanes: as many requests again may wait for their readers; who is read again goes on before who waits. */
static void a_paused_request_keeps_no_lane(void **unused)
{
    (void)unused;
    setup s;
    client *slow[4], *fast[3];
    open_engine(&s, 8 << 20, 1);
    scheduler *sched = open_scheduler(&s, &(scheduler_options){.lanes_max = 2});
    for (uint32_t i = 0; i < 3; i++) {
        fast[i] = make(s.model, 10 + i, 40, 30);
    }
    for (uint32_t i = 0; i < 2; i++) {
        slow[i] = make(s.model, 1 + i, 40, 30);
        stall(sched, slow[i]);
    }
    submit(sched, fast[0]);
    play_until_last(sched, fast[0]); /* all lanes are those of who does not read: it is answered all the same */
    for (uint32_t i = 2; i < 4; i++) {
        slow[i] = make(s.model, 1 + i, 40, 30);
        stall(sched, slow[i]);
    }
    submit(sched, fast[1]);
    step(sched, 10); /* but there is an end to that */
    assert_int_equal(fast[1]->results[0].n, 0);
    assert_int_equal(scheduler_stats_get(sched).n_stalled, 4);
    for (uint32_t i = 0; i < 4; i++) {
        scheduler_resume(sched, slow[i]->id);
    }
    submit(sched, fast[2]);
    step(sched, 1);
    assert_int_equal(scheduler_stats_get(sched).n_stalled, 2); /* two have a lane, in the order of their beginning */
    play_until_last(sched, slow[3]);
    assert_int_equal(fast[2]->results[0].n, 0);
    play(sched);
    for (uint32_t i = 0; i < 4; i++) {
        check(slow[i], s.engine, SCHEDULER_LENGTH);
        free(slow[i]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        check(fast[i], s.engine, SCHEDULER_LENGTH);
        free(fast[i]);
    }
    scheduler_close(&sched);
    close_engine(&s);
}

/* Several choices, paused before they are forked: their lanes are kept for them only while they are read. */
static void lanes_for_choices_to_come_are_given_up_and_taken_again(void **unused)
{
    (void)unused;
    setup s;
    client *slow, *fast[6];
    open_engine(&s, 8 << 20, 1);
    scheduler *sched = open_scheduler(&s, &(scheduler_options){.lanes_max = 3, .rows_max = 16});
    slow = make(s.model, 1, 60, 20);
    slow->ask.n_choices = 3;
    submit(sched, slow);
    step(sched, 1);
    scheduler_pause(sched, slow->id);
    for (uint32_t i = 0; i < 6; i++) {
        fast[i] = make(s.model, 10 + i, 40, 20 + 5 * i);
        submit(sched, fast[i]);
    }
    play_until_last(sched, fast[0]);
    scheduler_resume(sched, slow->id);
    play_until_last(sched, slow); /* three lanes at once come to it, though others wait that want one each */
    play(sched);
    check(slow, s.engine, SCHEDULER_LENGTH);
    free(slow);
    for (uint32_t i = 0; i < 6; i++) {
        check(fast[i], s.engine, SCHEDULER_LENGTH);
        free(fast[i]);
    }
    scheduler_close(&sched);
    close_engine(&s);
}

static double seconds_between_tokens(metrics *m)
{
    char *text = NULL;
    size_t n;
    mlxr_error error;
    assert_ok(metrics_render(m, &text, &n, &error), &error);
    const char *line = strstr(text, "\nmlxr_inter_token_latency_seconds_sum{");
    assert_non_null(line);
    double value = strtod(strchr(line, '}') + 1, NULL);
    free(text);
    return value;
}

static void a_readers_pause_is_no_latency_between_tokens(void **unused)
{
    (void)unused;
    setup s;
    mlxr_error error;
    metrics *m = NULL;
    open_engine(&s, 8 << 20, 1);
    assert_ok(metrics_open(&m, metric_table, METRIC_COUNT, &error), &error);
    scheduler *sched = open_scheduler(&s, &(scheduler_options){.lanes_max = 2, .now_us = fake_now, .metrics = m});
    client *c = make(s.model, 1, 20, 30);
    submit(sched, c);
    step(sched, 5);
    scheduler_pause(sched, c->id);
    step(sched, 1);
    atomic_fetch_add(&clock_us, 100000000);
    scheduler_resume(sched, c->id);
    play(sched);
    assert_true(seconds_between_tokens(m) < 1); /* the clock stands still but for the pause */
    check(c, s.engine, SCHEDULER_LENGTH);
    scheduler_close(&sched);
    metrics_close(&m);
    free(c);
    close_engine(&s);
}

typedef struct toggler {
    scheduler *sched;
    client *c;
    uint64_t seed;
} toggler;

/* A reader that stalls and goes on until its answer is there. */
static void *toggle(void *user)
{
    toggler *t = user;
    while (atomic_load(&t->c->n_last) == 0) {
        scheduler_pause(t->sched, t->c->id);
        nanosleep(&(struct timespec){.tv_nsec = (long)(test_random(&t->seed) % 400000)}, NULL);
        scheduler_resume(t->sched, t->c->id);
        nanosleep(&(struct timespec){.tv_nsec = (long)(test_random(&t->seed) % 400000)}, NULL);
    }
    return NULL;
}

static void pauses_from_many_threads_change_no_token_and_lose_no_wake(void **unused)
{
    (void)unused;
    setup s;
    mlxr_error error;
    worker *w = NULL;
    toggler togglers[6];
    pthread_t threads[6];
    open_engine(&s, bytes_for(300), 1);
    assert_ok(worker_start(&w, s.engine, &(scheduler_options){.lanes_max = 6, .rows_max = 64, .lookahead = 8}, &error),
              &error);
    for (uint32_t i = 0; i < 6; i++) {
        togglers[i] = (toggler){.sched = worker_scheduler(w), .c = make(s.model, 40 + i, 30, 80), .seed = i + 1};
        togglers[i].c->ask.n_choices = 1 + i % 2;
        submit(worker_scheduler(w), togglers[i].c);
        assert_int_equal(pthread_create(&threads[i], NULL, toggle, &togglers[i]), 0);
    }
    for (uint32_t i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
    }
    worker_stop(&w, true);
    for (uint32_t i = 0; i < 6; i++) {
        check(togglers[i].c, s.engine, SCHEDULER_LENGTH);
        free(togglers[i].c);
    }
    close_engine(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_paused_request_computes_nothing_and_others_go_on),
        cmocka_unit_test(a_request_can_be_paused_at_any_step),
        cmocka_unit_test(a_paused_request_gives_its_pages_to_whoever_needs_them),
        cmocka_unit_test(a_paused_request_yields_before_streams_run_short),
        cmocka_unit_test(a_paused_request_can_be_cancelled_and_its_deadline_counts),
        cmocka_unit_test(a_paused_request_keeps_no_lane),
        cmocka_unit_test(lanes_for_choices_to_come_are_given_up_and_taken_again),
        cmocka_unit_test(a_readers_pause_is_no_latency_between_tokens),
        cmocka_unit_test(pauses_from_many_threads_change_no_token_and_lose_no_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
