/*
 * Worker: one thread for an engine.
 * Owner: the caller. Lifetime: worker_start to worker_stop.
 */
#include "scheduler/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "scheduler/request.h"
#include "telemetry/daemon_error.h"

typedef struct call { /* on the caller's stack, which waits for `done` */
    struct call *next;
    void (*fn)(mlxr_engine *engine, void *user);
    void *user;
    bool done;
} call;

struct worker {
    mlxr_engine *engine;
    scheduler *scheduler;
    pthread_t thread;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t woken, called;
    bool wake, drain, stop;
    call *first, **last;
};

static void wake(void *user)
{
    worker *w = user;
    pthread_mutex_lock(&w->lock);
    w->wake = true;
    pthread_cond_signal(&w->woken);
    pthread_mutex_unlock(&w->lock);
}

/* Under the lock, which is released while a call runs. */
static void run_calls(worker *w)
{
    while (w->first) {
        call *c = w->first;
        w->first = c->next;
        w->last = w->first ? w->last : &w->first;
        pthread_mutex_unlock(&w->lock);
        c->fn(w->engine, c->user);
        pthread_mutex_lock(&w->lock);
        c->done = true;
        pthread_cond_broadcast(&w->called);
    }
}

/* Under the lock: sleeps until woken or until `at_us` of the scheduler's clock. */
static void sleep_until(worker *w, uint64_t at_us)
{
    if (at_us == UINT64_MAX) {
        pthread_cond_wait(&w->woken, &w->lock);
        return;
    }
    uint64_t now_us = scheduler_now_us(w->scheduler), us = at_us > now_us ? at_us - now_us : 0;
    us = us < 1000000 ? us : 1000000; /* the clock may be set meanwhile: look again now and then */
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + us * 1000;
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    if (pthread_cond_timedwait(&w->woken, &w->lock, &until) == ETIMEDOUT) {
        w->wake = true;
    }
}

static void *work(void *context)
{
    worker *w = context;
    scheduler_pulse pulse = {.worked = true};
    pthread_mutex_lock(&w->lock);
    for (;;) {
        run_calls(w);
        if (w->stop && (!w->drain || scheduler_idle(w->scheduler))) {
            break;
        }
        if (!pulse.worked && !w->wake) {
            sleep_until(w, pulse.wake_at_us);
            continue;
        }
        w->wake = false; /* what comes from here on wakes again */
        pthread_mutex_unlock(&w->lock);
        pulse = scheduler_step(w->scheduler);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    scheduler_abort(w->scheduler);
    return NULL;
}

mlxr_status worker_start(worker **out, mlxr_engine *engine, const scheduler_options *options, mlxr_error *error)
{
    scheduler_options o = options ? *options : (scheduler_options){0};
    worker *w = calloc(1, sizeof *w);
    if (!w) {
        return daemon_error(error, MLXR_NOMEM, "no memory for a worker");
    }
    w->engine = engine;
    w->last = &w->first;
    o.wake = wake;
    o.wake_user = w;
    mlxr_status status = scheduler_open(&w->scheduler, engine, &o, error);
    if (status != MLXR_OK) {
        free(w);
        return status;
    }
    if (pthread_mutex_init(&w->lock, NULL) != 0) {
        goto no_lock;
    }
    if (pthread_cond_init(&w->woken, NULL) != 0) {
        goto no_woken;
    }
    if (pthread_cond_init(&w->called, NULL) != 0) {
        goto no_called;
    }
    if (pthread_create(&w->thread, NULL, work, w) != 0) {
        goto no_thread;
    }
    *out = w;
    return MLXR_OK;
no_thread:
    pthread_cond_destroy(&w->called);
no_called:
    pthread_cond_destroy(&w->woken);
no_woken:
    pthread_mutex_destroy(&w->lock);
no_lock:
    scheduler_close(&w->scheduler);
    free(w);
    return daemon_error(error, MLXR_LIMIT, "the system has no thread for a worker");
}

scheduler *worker_scheduler(worker *w)
{
    return w->scheduler;
}

mlxr_engine *worker_engine(worker *w)
{
    return w->engine;
}

void worker_call(worker *w, void (*fn)(mlxr_engine *engine, void *user), void *user)
{
    call c = {.fn = fn, .user = user};
    pthread_mutex_lock(&w->lock);
    *w->last = &c;
    w->last = &c.next;
    w->wake = true;
    pthread_cond_signal(&w->woken);
    while (!c.done) {
        pthread_cond_wait(&w->called, &w->lock);
    }
    pthread_mutex_unlock(&w->lock);
}

void worker_stop(worker **pointer, bool drain)
{
    worker *w = *pointer;
    if (!w) {
        return;
    }
    scheduler_drain(w->scheduler);
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    w->drain = drain;
    w->wake = true;
    pthread_cond_signal(&w->woken);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    scheduler_close(&w->scheduler);
    pthread_cond_destroy(&w->called);
    pthread_cond_destroy(&w->woken);
    pthread_mutex_destroy(&w->lock);
    free(w);
    *pointer = NULL;
}
