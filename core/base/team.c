/*
 * Thread team: a fixed set of threads that run one function together and meet at barriers.
 * Owner: one backend. Lifetime: team_open to team_close.
 *
 * A run is announced by raising `generation`; a barrier is a sense-reversing counter (Mellor-Crummey & Scott 1991).
 * Waiters first spin, because the work between two barriers of a decode step is tens of microseconds, and then sleep,
 * so that an idle engine costs nothing and an oversubscribed machine still makes progress.
 */
#include "base/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"

#define THREADS_MAX 1024
#define SPINS_BARRIER_MOST 20000u /* about 100–300 µs: longer than a section of a decode step */
#define SPINS_BARRIER_LEAST 200u  /* other programs want the cores: sleep at once, to be woken with priority */
#define SPINS_BUSY 1000u          /* about 10 µs: most waits are shorter; then give the core away now and then */
#define SPINS_IDLE 2000u          /* between steps the caller samples and prints; do not burn a core for long */
#define YIELD_LONG_NS 20000       /* the core went to another program; to none, it takes a microsecond */

struct team {
    uint32_t n_threads;
    uint32_t n_started;
    pthread_t *threads; /* [n_started]; member i + 1 */
    void (*fn)(void *, const team_member *);
    void *context;
    _Alignas(64) _Atomic uint32_t generation; /* of runs; changes wake the members */
    _Alignas(64) _Atomic uint32_t arrived;    /* members at the current barrier */
    _Alignas(64) _Atomic uint32_t phase;      /* of barriers; changes release the members */
    _Alignas(64) _Atomic uint32_t next_chunk;
    _Atomic uint32_t n_asleep; /* members in pthread_cond_wait */
    _Atomic uint32_t spins;    /* at barriers: raised when spinning was enough, halved when it was not */
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

typedef struct start {
    team *t;
    uint32_t index;
} start;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

typedef enum wait_outcome {
    WAIT_SPUN,      /* spinning was enough */
    WAIT_SLEPT,     /* it was not, and nobody else wanted the core */
    WAIT_CONTENDED, /* it was not, and somebody did */
} wait_outcome;

static bool give_core_away(void)
{
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec) > YIELD_LONG_NS;
}

/* Waits until *word differs from `old`. */
static wait_outcome wait_change(team *t, _Atomic uint32_t *word, uint32_t old, uint32_t n_spins)
{
    bool wanted = false;
    for (uint32_t i = 0; i < n_spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) {
            return WAIT_SPUN;
        }
        if (i < SPINS_BUSY || i % 64 != 0) {
            relax();
        } else {
            wanted |= give_core_away(); /* the member waited for may have no core: other programs run too */
        }
    }
    wanted |= give_core_away();
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->n_asleep, 1);
    while (atomic_load(word) == old) {
        pthread_cond_wait(&t->wake, &t->lock);
    }
    atomic_fetch_sub(&t->n_asleep, 1);
    pthread_mutex_unlock(&t->lock);
    return wanted ? WAIT_CONTENDED : WAIT_SLEPT;
}

/* Spins for as long as that has lately been worth it. On a machine with cores to spare that is nearly always. Where
 * other programs hold the cores, the member waited for is not running and spinning only delays it. Where a hypervisor
 * took the other member's core away for a while it is not running either, but nobody wants this core: sleeping would
 * only add the time it takes to wake. */
static void wait_at_barrier(team *t, uint32_t phase)
{
    uint32_t spins = atomic_load_explicit(&t->spins, memory_order_relaxed);
    wait_outcome outcome = wait_change(t, &t->phase, phase, spins);
    if (outcome == WAIT_CONTENDED) {
        spins = spins / 2 > SPINS_BARRIER_LEAST ? spins / 2 : SPINS_BARRIER_LEAST;
    } else {
        spins += outcome == WAIT_SPUN ? spins / 4 + 1 : spins;
        spins = spins < SPINS_BARRIER_MOST ? spins : SPINS_BARRIER_MOST;
    }
    if (spins != atomic_load_explicit(&t->spins, memory_order_relaxed)) {
        atomic_store_explicit(&t->spins, spins, memory_order_relaxed);
    }
}

/* Changes *word and wakes sleepers. Sequential consistency on both sides makes it impossible that a waiter sees the
 * old word after this one saw no sleeper. */
static void signal_change(team *t, _Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    if (atomic_load(&t->n_asleep) != 0) {
        pthread_mutex_lock(&t->lock);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->lock);
    }
}

void team_barrier(const team_member *member)
{
    team *t = member->owner;
    if (member->n_threads == 1) {
        return;
    }
    uint32_t phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
    if (atomic_fetch_add(&t->arrived, 1) == member->n_threads - 1) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        signal_change(t, &t->phase);
    } else {
        wait_at_barrier(t, phase);
    }
}

static void *member_main(void *argument)
{
    start s = *(start *)argument;
    free(argument);
    team *t = s.t;
    team_member member = {t, s.index, t->n_threads};
    uint32_t seen = 0;
    for (;;) {
        wait_change(t, &t->generation, seen, SPINS_IDLE);
        seen++;
        if (atomic_load(&t->stop)) {
            return NULL;
        }
        t->fn(t->context, &member);
        team_barrier(&member);
    }
}

mlxr_status team_open(team **out, uint32_t n_threads, mlxr_error *error)
{
    if (n_threads == 0 || n_threads > THREADS_MAX) {
        return error_set(error, MLXR_ARG, "thread count %u is outside 1…%d", n_threads, THREADS_MAX);
    }
    size_t n_bytes = (sizeof(team) + 63) & ~(size_t)63;
    team *t = aligned_alloc(64, n_bytes);
    if (!t) {
        return error_nomem(error, "thread team", n_bytes);
    }
    memset(t, 0, n_bytes);
    t->n_threads = n_threads;
    atomic_init(&t->spins, SPINS_BARRIER_MOST);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    t->threads = calloc(n_threads, sizeof *t->threads);
    if (!t->threads) {
        team_close(&t);
        return error_nomem(error, "thread team", n_threads * sizeof *t->threads);
    }
    for (uint32_t i = 1; i < n_threads; i++) {
        start *s = malloc(sizeof *s);
        int failed = s ? 0 : 1;
        if (s) {
            *s = (start){t, i};
            failed = pthread_create(&t->threads[i - 1], NULL, member_main, s);
        }
        if (failed) {
            free(s);
            team_close(&t);
            return error_set(error, MLXR_NOMEM, "cannot start thread %u of %u: %s", i + 1, n_threads,
                             s ? strerror(failed) : "out of memory");
        }
        t->n_started++;
    }
    *out = t;
    return MLXR_OK;
}

void team_close(team **pointer)
{
    team *t = *pointer;
    if (!t) {
        return;
    }
    atomic_store(&t->stop, true);
    signal_change(t, &t->generation);
    for (uint32_t i = 0; i < t->n_started; i++) {
        pthread_join(t->threads[i], NULL);
    }
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t->threads);
    free(t);
    *pointer = NULL;
}

uint32_t team_size(const team *t)
{
    return t->n_threads;
}

void team_run(team *t, void (*fn)(void *context, const team_member *member), void *context)
{
    team_member member = {t, 0, t->n_threads};
    t->fn = fn;
    t->context = context;
    atomic_store_explicit(&t->next_chunk, 0, memory_order_relaxed);
    if (t->n_threads > 1) {
        signal_change(t, &t->generation);
    }
    fn(context, &member);
    team_barrier(&member);
}

uint32_t team_next_chunk(const team_member *member)
{
    return atomic_fetch_add_explicit(&member->owner->next_chunk, 1, memory_order_relaxed);
}

void team_chunks_reset(const team_member *member)
{
    team_barrier(member);
    if (member->index == 0) {
        atomic_store_explicit(&member->owner->next_chunk, 0, memory_order_relaxed);
    }
    team_barrier(member);
}

void team_share(const team_member *member, uint32_t n, uint32_t grain, uint32_t *begin, uint32_t *end)
{
    uint64_t n_grains = ((uint64_t)n + grain - 1) / grain;
    uint64_t first = n_grains * member->index / member->n_threads * grain;
    uint64_t last = n_grains * (member->index + 1) / member->n_threads * grain;
    *begin = (uint32_t)(first < n ? first : n);
    *end = (uint32_t)(last < n ? last : n);
}
