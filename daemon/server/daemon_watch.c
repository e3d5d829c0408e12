/*
 * Watchdog: does the engine's thread still answer? A step that never ends would otherwise look like a busy daemon.
 * Owner: the daemon. Lifetime: watch_start until the daemon stops; while it closes, a thread that only tells of that.
 */
#include <time.h>

#include "server/daemon_private.h"
#include "server/notify.h"

#define BEAT_MS 1000u
#define SILENCE_MS 7000u
_Static_assert(BEAT_MS + SILENCE_MS <= 8000, "with a probe's own interval it is seen within 10 s");

uint64_t daemon_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t now_ms(const struct daemon_private *p)
{
    return p->options.now_ms ? p->options.now_ms(p->options.now_user) : daemon_clock_ms();
}

static void beat(mlxr_engine *engine, void *user)
{
    struct daemon_private *p = user;
    mlxr_kv_stats kv = mlxr_kv_stats_get(engine);
    mlxr_expert_stats experts = mlxr_expert_stats_get(engine);
    pthread_mutex_lock(&p->lock);
    p->experts = experts;
    p->kv = kv;
    pthread_mutex_unlock(&p->lock);
}

static void *watch(void *user)
{
    struct daemon_private *p = user;
    uint64_t told_ms = 0, every_ms = notify_watchdog_us() / 1000 / 2;
    do {
        atomic_store(&p->asked_ms, now_ms(p));
        worker_call(p->d->worker, beat, p);
        atomic_store(&p->asked_ms, 0);
        if (every_ms && daemon_clock_ms() - told_ms >= (every_ms > BEAT_MS ? every_ms - BEAT_MS : 0)) {
            notify_send("WATCHDOG=1");
            told_ms = daemon_clock_ms();
        }
    } while (daemon_sleep(p, BEAT_MS));
    return NULL;
}

mlxr_status watch_start(struct daemon_private *p, mlxr_error *error)
{
    p->has_watch = pthread_create(&p->watch, NULL, watch, p) == 0;
    if (!p->has_watch) {
        *error = (mlxr_error){.status = MLXR_LIMIT, .text = "the system has no thread for the watchdog"};
        return MLXR_LIMIT;
    }
    return MLXR_OK;
}

static void *tell_closing(void *user)
{
    struct daemon_private *p = user;
    uint64_t every_ms = notify_watchdog_us() / 1000 / 2, until_ms = daemon_clock_ms() + DAEMON_HANGS_MS;
    do {
        notify_send("WATCHDOG=1");
    } while (daemon_clock_ms() < until_ms && daemon_wait(p, &p->closed, every_ms ? every_ms : 1));
    return NULL;
}

void watch_closing(struct daemon_private *p)
{
    p->has_closing = p->has_watch && notify_watchdog_us() && pthread_create(&p->closing, NULL, tell_closing, p) == 0;
}

void watch_closed(struct daemon_private *p)
{
    if (p->has_closing) {
        pthread_mutex_lock(&p->lock);
        p->closed = true;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->closing, NULL);
    }
}

bool daemon_engine_alive(const struct daemon *d)
{
    uint64_t asked = atomic_load(&d->own->asked_ms), now = now_ms(d->own);
    return asked == 0 || now < asked || now - asked < SILENCE_MS;
}
