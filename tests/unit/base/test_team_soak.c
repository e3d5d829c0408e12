/*
 * Tests of core/base/team: what members see of each other, for every size and over many lives of a team. With MLXR_SOAK
 * set the rounds are many times as many.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/team.h"

#include <stdatomic.h>
#include <unistd.h>

#include "support/test.h"

#define N_MAX 8

static unsigned rounds(unsigned n)
{
    return getenv("MLXR_SOAK") ? n * 200 : n;
}

static team *opened(uint32_t n)
{
    team *t = NULL;
    mlxr_error error;
    assert_ok(team_open(&t, n, &error), &error);
    assert_int_equal(team_size(t), n);
    return t;
}

typedef struct ring {
    unsigned long cells[2][N_MAX]; /* plain memory: the barriers alone order the accesses */
    unsigned n_rounds;
    atomic_uint n_wrong;
    atomic_uint seen; /* bit per member */
} ring;

/* Each round every member adds its neighbours' values of the round before: one early or stale read spoils the sums. */
static void run_ring(void *context, const team_member *member)
{
    ring *r = context;
    uint32_t n = member->n_threads, i = member->index;
    atomic_fetch_or(&r->seen, 1u << i);
    if (member->owner == NULL || i >= n) {
        atomic_fetch_add(&r->n_wrong, 1);
    }
    r->cells[0][i] = i + 1;
    team_barrier(member);
    for (unsigned round = 0; round < r->n_rounds; round++) {
        const unsigned long *from = r->cells[round & 1];
        r->cells[~round & 1][i] = (from[(i + 1) % n] + from[(i + n - 1) % n]) % 1000003;
        team_barrier(member);
    }
}

static void barriers_order_plain_memory_for_every_team_size(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= N_MAX; n++) {
        team *t = opened(n);
        for (unsigned again = 0; again < 3; again++) {
            ring r = {.n_rounds = rounds(30)};
            team_run(t, run_ring, &r);
            unsigned long want[2][N_MAX] = {{0}};
            for (uint32_t i = 0; i < n; i++) {
                want[0][i] = i + 1;
            }
            for (unsigned round = 0; round < r.n_rounds; round++) {
                for (uint32_t i = 0; i < n; i++) {
                    const unsigned long *from = want[round & 1];
                    want[~round & 1][i] = (from[(i + 1) % n] + from[(i + n - 1) % n]) % 1000003;
                }
            }
            assert_memory_equal(r.cells[r.n_rounds & 1], want[r.n_rounds & 1], n * sizeof want[0][0]);
            assert_int_equal(r.seen, (1u << n) - 1);
            assert_int_equal(r.n_wrong, 0);
        }
        team_close(&t);
        assert_null(t);
    }
}

typedef struct tally {
    unsigned char taken[4][1000];
    uint32_t n_chunks;
} tally;

static void run_tally(void *context, const team_member *member)
{
    tally *c = context;
    for (unsigned phase = 0; phase < 4; phase++) {
        if (phase > 0) {
            team_chunks_reset(member);
        }
        for (uint32_t i; (i = team_next_chunk(member)) < c->n_chunks;) {
            c->taken[phase][i]++;
        }
    }
}

static void every_chunk_is_taken_exactly_once_in_every_phase(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= N_MAX; n++) {
        team *t = opened(n);
        for (unsigned again = 0; again < rounds(2); again++) {
            tally c = {.n_chunks = again % 2 ? 1000 : 3};
            team_run(t, run_tally, &c);
            for (unsigned phase = 0; phase < 4; phase++) {
                for (uint32_t i = 0; i < 1000; i++) {
                    assert_int_equal(c.taken[phase][i], i < c.n_chunks);
                }
            }
        }
        team_close(&t);
    }
}

static void shares_cover_everything_once_in_whole_grains(void **state)
{
    (void)state;
    uint64_t seed = 5;
    for (int round = 0; round < 20000; round++) {
        uint64_t random = test_random(&seed);
        uint32_t n_threads = 1 + (uint32_t)(random % 70), grain = 1 + (uint32_t)((random >> 8) % 100);
        uint32_t n = (random >> 16) % 8 == 0 ? UINT32_MAX - (uint32_t)((random >> 32) % 5)
                                             : (uint32_t)(random >> 32) % 5000;
        uint32_t at = 0, least = UINT32_MAX, most = 0;
        for (uint32_t i = 0; i < n_threads; i++) {
            uint32_t begin = 1, end = 0;
            team_member member = {NULL, i, n_threads};
            team_share(&member, n, grain, &begin, &end);
            assert_int_equal(begin, at);
            assert_true(end >= begin && end <= n);
            assert_true(end == n || end % grain == 0);
            uint32_t n_grains = (uint32_t)(((uint64_t)end - begin + grain - 1) / grain);
            least = n_grains < least ? n_grains : least;
            most = n_grains > most ? n_grains : most;
            at = end;
        }
        assert_int_equal(at, n);
        assert_true(most - least <= 1); /* nobody has more than one grain over another */
    }
}

static void count_up(void *context, const team_member *member)
{
    (void)member;
    atomic_fetch_add((atomic_uint *)context, 1);
}

static void a_run_returns_when_all_members_have(void **state)
{
    (void)state;
    team *t = opened(4);
    atomic_uint count = 0;
    unsigned n = rounds(200);
    for (unsigned i = 1; i <= n; i++) {
        team_run(t, count_up, &count);
        assert_int_equal(count, 4 * i);
    }
    team_close(&t);
}

static void members_wake_after_a_long_sleep(void **state)
{
    (void)state;
    team *t = opened(3);
    atomic_uint count = 0;
    for (unsigned i = 1; i <= 5; i++) {
        usleep(20000); /* long past spinning */
        team_run(t, count_up, &count);
        assert_int_equal(count, 3 * i);
    }
    team_close(&t);
}

static void linger(void *context, const team_member *member)
{
    if (member->index == 1) {
        usleep(30000); /* the others go to sleep at the barrier */
    }
    team_barrier(member);
    count_up(context, member);
}

static void members_sleeping_at_a_barrier_are_woken(void **state)
{
    (void)state;
    team *t = opened(4);
    atomic_uint count = 0;
    for (unsigned i = 1; i <= 3; i++) {
        team_run(t, linger, &count);
        assert_int_equal(count, 4 * i);
    }
    team_close(&t);
}

static void teams_open_and_close_many_times(void **state)
{
    (void)state;
    for (unsigned round = 0; round < rounds(64); round++) {
        team *t = opened(1 + round % N_MAX);
        if (round % 3) { /* also closed without ever having run */
            atomic_uint count = 0;
            team_run(t, count_up, &count);
            assert_int_equal(count, 1 + round % N_MAX);
        }
        team_close(&t);
        team_close(&t);
    }
}

static void two_teams_do_not_meet(void **state)
{
    (void)state;
    team *a = opened(2), *b = opened(3);
    atomic_uint count = 0;
    for (unsigned i = 1; i <= 100; i++) {
        team_run(a, count_up, &count);
        team_run(b, count_up, &count);
        assert_int_equal(count, 5 * i);
    }
    team_close(&a);
    team_run(b, count_up, &count);
    assert_int_equal(count, 503);
    team_close(&b);
}

static void absurd_sizes_are_refused(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 100000, UINT32_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        team *t = NULL;
        mlxr_error error = {0};
        assert_int_equal(team_open(&t, sizes[i], &error), MLXR_ARG);
        assert_null(t);
        assert_true(error.text[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_order_plain_memory_for_every_team_size),
        cmocka_unit_test(every_chunk_is_taken_exactly_once_in_every_phase),
        cmocka_unit_test(shares_cover_everything_once_in_whole_grains),
        cmocka_unit_test(a_run_returns_when_all_members_have),
        cmocka_unit_test(members_wake_after_a_long_sleep),
        cmocka_unit_test(members_sleeping_at_a_barrier_are_woken),
        cmocka_unit_test(teams_open_and_close_many_times),
        cmocka_unit_test(two_teams_do_not_meet),
        cmocka_unit_test(absurd_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
