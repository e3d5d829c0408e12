/*
 * Request queue: bounds, priorities, fairness between clients and deadlines, on a clock of its own.
 * Owner: the test program. Lifetime: the process.
 */
#include "scheduler/request_queue.h"
#include "support/test.h"

enum { AGING = 1000000 };

static request *make(uint64_t id, uint64_t client, int32_t priority, uint64_t deadline_us, uint64_t arrived_us)
{
    request *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->id = id;
    r->arrived_us = arrived_us;
    r->work = 100;
    r->ask = (scheduler_request){.client = client, .priority = priority, .deadline_us = deadline_us};
    return r;
}

static void open_queue(request_queue *q, uint32_t n_max, uint32_t client_max)
{
    mlxr_error error;
    assert_ok(request_queue_open(q, n_max, client_max, AGING, &error), &error);
}

static uint64_t pop(request_queue *q, uint64_t now_us)
{
    request *r = request_queue_first(q, now_us);
    if (!r) {
        return 0;
    }
    uint64_t id = r->id;
    request_queue_remove(q, r, true, now_us);
    free(r);
    return id;
}

static void push(request_queue *q, request *r)
{
    assert_int_equal(request_queue_push(q, r), SCHEDULER_TAKEN);
}

static void equal_requests_come_out_as_they_went_in(void **unused)
{
    (void)unused;
    request_queue q;
    open_queue(&q, 8, 8);
    for (uint64_t i = 1; i <= 8; i++) {
        push(&q, make(i, 1, 0, 0, i));
    }
    for (uint64_t i = 1; i <= 8; i++) {
        assert_int_equal(pop(&q, 10), i);
    }
    assert_int_equal(pop(&q, 10), 0);
    request_queue_close(&q);
}

static void both_bounds_refuse_by_name(void **unused)
{
    (void)unused;
    request_queue q;
    open_queue(&q, 4, 2);
    push(&q, make(1, 1, 0, 0, 0));
    push(&q, make(2, 1, 0, 0, 0));
    request *more = make(3, 1, 0, 0, 0), *other = make(4, 3, 0, 0, 0);
    assert_int_equal(request_queue_push(&q, more), SCHEDULER_CLIENT_FULL);
    push(&q, make(5, 2, 0, 0, 0));
    push(&q, make(6, 2, 0, 0, 0));
    assert_int_equal(request_queue_push(&q, other), SCHEDULER_QUEUE_FULL);
    free(more);
    free(other);
    while (pop(&q, 0)) {
    }
    request_queue_close(&q);
}

static void higher_priority_first_but_aging_lets_no_one_starve(void **unused)
{
    (void)unused;
    request_queue q;
    open_queue(&q, 64, 64);
    push(&q, make(1000, 1, 0, 0, 0));
    uint64_t now = 0, id = 1, low_at = 0;
    for (int i = 0; i < 100 && !low_at; i++) { /* a stream of priority 5 that is never empty */
        now += AGING / 4;
        push(&q, make(id, 2, 5, 0, now));
        push(&q, make(id + 1, 2, 5, 0, now));
        id += 2;
        uint64_t first = pop(&q, now);
        low_at = first == 1000 ? now : 0;
        if (i == 0) {
            assert_int_equal(first, 1);
        }
        pop(&q, now);
    }
    assert_in_range(low_at, 4 * AGING, 7 * AGING);
    while (pop(&q, now)) {
    }
    request_queue_close(&q);
}

static void clients_share_by_work_however_much_one_of_them_queues(void **unused)
{
    (void)unused;
    request_queue q;
    open_queue(&q, 256, 256);
    for (uint64_t i = 1; i <= 200; i++) {
        push(&q, make(i, 1, 0, 0, 0));
    }
    for (uint64_t i = 0; i < 50; i++) { /* served alone: no debt of a fair kind arises from that */
        assert_int_equal(pop(&q, 100 * AGING), i + 1);
    }
    for (uint64_t i = 1; i <= 10; i++) {
        request *r = make(1000 + i, 2, 0, 0, 100 * AGING);
        r->work = 200; /* twice the size: half as often */
        push(&q, r);
    }
    int of_two = 0;
    for (int i = 0; i < 30; i++) {
        of_two += pop(&q, 101 * AGING) > 1000;
    }
    assert_in_range(of_two, 9, 10);
    while (pop(&q, 0)) {
    }
    request_queue_close(&q);
}

static void not_asking_earns_nothing(void **unused)
{
    (void)unused;
    request_queue q;
    open_queue(&q, 256, 256);
    push(&q, make(1, 2, 0, 0, 0));
    assert_int_equal(pop(&q, 0), 1); /* client 2 is known, and then away for long */
    for (uint64_t i = 0; i < 100; i++) {
        push(&q, make(10 + i, 1, 0, 0, 0));
    }
    for (int i = 0; i < 60; i++) {
        pop(&q, 0);
    }
    for (uint64_t i = 0; i < 20; i++) {
        push(&q, make(1000 + i, 2, 0, 0, 0));
    }
    int of_two = 0;
    for (int i = 0; i < 20; i++) {
        of_two += pop(&q, 0) >= 1000;
    }
    assert_in_range(of_two, 9, 11);
    while (pop(&q, 0)) {
    }
    request_queue_close(&q);
}

static void a_client_s_earliest_deadline_goes_first_and_the_past_is_found(void **unused)
{
    (void)unused;
    request_queue q;
    open_queue(&q, 8, 8);
    push(&q, make(1, 1, 0, 0, 0));
    push(&q, make(2, 1, 0, 900, 0));
    push(&q, make(3, 1, 0, 500, 0));
    assert_int_equal(request_queue_deadline(&q), 500);
    assert_null(request_queue_ended(&q, 499));
    assert_int_equal(request_queue_ended(&q, 500)->id, 3);
    assert_int_equal(pop(&q, 100), 3);
    assert_int_equal(pop(&q, 100), 2);
    assert_int_equal(request_queue_deadline(&q), UINT64_MAX);
    atomic_store(&request_queue_first(&q, 0)->cancelled, true);
    assert_int_equal(request_queue_ended(&q, 0)->id, 1);
    assert_int_equal(pop(&q, 100), 1);
    request_queue_close(&q);
}

static void more_clients_than_slots_are_forgotten_in_turn(void **unused)
{
    (void)unused;
    request_queue q;
    open_queue(&q, 4, 4);
    uint64_t n = 0;
    for (uint64_t i = 1; i <= 1000; i++) {
        push(&q, make(i, i, 0, 0, i));
        if (q.n == 4) {
            assert_true(pop(&q, i) > 0);
            n++;
        }
        assert_true(q.n_clients <= 8);
    }
    while (pop(&q, 0)) {
        n++;
    }
    assert_int_equal(n, 1000);
    request_queue_close(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_requests_come_out_as_they_went_in),
        cmocka_unit_test(both_bounds_refuse_by_name),
        cmocka_unit_test(higher_priority_first_but_aging_lets_no_one_starve),
        cmocka_unit_test(clients_share_by_work_however_much_one_of_them_queues),
        cmocka_unit_test(not_asking_earns_nothing),
        cmocka_unit_test(a_client_s_earliest_deadline_goes_first_and_the_past_is_found),
        cmocka_unit_test(more_clients_than_slots_are_forgotten_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
