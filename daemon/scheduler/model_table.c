/*
 * Model table: acquisitions and leases, and the loader's thread.
 * Owner: the caller. Lifetime: model_table_open to model_table_close.
 *
 * The lock is never held while a file is read, the worker is called or a caller is told something. Only the loader's
 * thread changes an entry's state, so that what it looks at stays as it is while it has let go of the lock.
 */
#include "scheduler/model_table.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scheduler/model_cache.h"
#include "scheduler/request.h"
#include "telemetry/daemon_error.h"

#define NEVER UINT64_MAX

typedef struct waiter {
    struct waiter *next;
    cached_model *entry;
    uint64_t deadline_us; /* NEVER: none */
    model_on_ready fn;
    void *user;
} waiter;

typedef struct leaver { /* who wants to know when a model has gone */
    struct leaver *next;
    const cached_model *entry;
    model_on_gone fn;
    void *user;
} leaver;

struct model_table {
    worker *worker;
    model_table_options options;
    pthread_t thread;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    model_cache cache;
    waiter *first;            /* list, who came first first */
    leaver *leavers;          /* list */
    const cached_model *held; /* the entry whose load is held up by models in use; NULL: none */
    uint64_t held_since_us;
    bool closing, poked;
    model_table_stats stats;
    void (*on_change)(void *user); /* NULL: nobody wants to know */
    void *change_user;
};

static uint64_t now_of(const model_table *t)
{
    return scheduler_now_us(worker_scheduler(t->worker));
}

/* Under the lock. */
static void wake(model_table *t)
{
    t->poked = true;
    pthread_cond_signal(&t->changed);
}

/* Under the lock. */
static void changed(model_table *t)
{
    if (t->on_change) {
        t->on_change(t->change_user);
    }
}

/* ---- waiters (under the lock) ------------------------------------------------------------------------------------ */

static bool is_wanted(const model_table *t, const cached_model *m)
{
    const waiter *w = t->first;
    while (w && w->entry != m) {
        w = w->next;
    }
    return w != NULL;
}

/* A model in use that has had its turn takes no more requests while another one's load waits for it. */
static bool must_queue(const model_table *t, const cached_model *m, uint64_t now_us)
{
    return t->held && t->held != m && now_us - t->held_since_us >= t->options.patience_ms * 1000;
}

/* Takes out the first waiter for which `test` holds. */
static waiter *take_waiter(model_table *t, bool (*test)(const model_table *, const waiter *, const void *),
                           const void *context)
{
    for (waiter **link = &t->first; *link; link = &(*link)->next) {
        waiter *w = *link;
        if (test(t, w, context)) {
            *link = w->next;
            t->stats.n_waiting--;
            return w;
        }
    }
    return NULL;
}

static bool is_late(const model_table *t, const waiter *w, const void *now_us)
{
    (void)t;
    return w->deadline_us <= *(const uint64_t *)now_us;
}

static bool can_start(const model_table *t, const waiter *w, const void *now_us)
{
    return w->entry->state == MODEL_LOADED && !must_queue(t, w->entry, *(const uint64_t *)now_us);
}

static bool waits_for(const model_table *t, const waiter *w, const void *entry)
{
    (void)t;
    return !entry || w->entry == entry;
}

/* An absent entry that nobody wants is forgotten, unless it was loaded: a reload is to be counted as one. */
static void forget(model_table *t, cached_model *m)
{
    if (m->state == MODEL_ABSENT && m->n_loads == 0 && !is_wanted(t, m)) {
        model_cache_remove(&t->cache, m);
    }
}

/* Lets go of the lock to tell a waiter; frees it. */
static void tell(model_table *t, waiter *w, mlxr_model *model, const mlxr_error *error)
{
    pthread_mutex_unlock(&t->lock);
    w->fn(w->user, model, error);
    free(w);
    pthread_mutex_lock(&t->lock);
}

/* Those who wait now; who comes while they are told has a chance of his own. */
static void fail_waiters(model_table *t, const cached_model *m, const mlxr_error *error)
{
    waiter *failed = NULL, **last = &failed;
    for (waiter *w; (w = take_waiter(t, waits_for, m)) != NULL; last = &w->next) {
        *last = w;
        w->next = NULL;
        t->stats.n_failed++;
    }
    while (failed) {
        waiter *w = failed;
        failed = w->next;
        tell(t, w, NULL, error);
    }
}

/* Tells somebody that a model has gone, or that it was asked for before it went. */
static bool tell_leaver(model_table *t)
{
    for (leaver **link = &t->leavers; *link; link = &(*link)->next) {
        leaver *l = *link;
        if (l->entry->state == MODEL_ABSENT || !l->entry->dismissed) {
            bool gone = l->entry->state == MODEL_ABSENT;
            *link = l->next;
            pthread_mutex_unlock(&t->lock);
            l->fn(l->user, gone);
            free(l);
            pthread_mutex_lock(&t->lock);
            return true;
        }
    }
    return false;
}

/* Ends one who waited too long, or starts one who need not wait any more. */
static bool serve_one(model_table *t)
{
    uint64_t now_us = now_of(t);
    if (tell_leaver(t)) {
        return true;
    }
    waiter *w = take_waiter(t, is_late, &now_us);
    if (w) {
        mlxr_error error;
        cached_model *entry = w->entry;
        daemon_error(&error, MLXR_LIMIT, "the deadline passed before %s could be loaded", entry->path);
        t->stats.n_late++;
        t->stats.n_failed++;
        tell(t, w, NULL, &error);
        forget(t, entry);
        return true;
    }
    w = take_waiter(t, can_start, &now_us);
    if (w) {
        model_cache_take(w->entry, now_us);
        t->stats.n_granted++;
        tell(t, w, w->entry->model, NULL);
    }
    return w != NULL;
}

/* ---- on the worker's thread -------------------------------------------------------------------------------------- */

typedef struct change { /* one visit there */
    scheduler *scheduler;
    mlxr_model *attach, *detach;
    uint64_t kv_bytes; /* the budget that goes with it; NEVER: as it is */
    bool kv_held;      /* out: running requests need more */
    mlxr_status status;
    mlxr_error error;
    uint64_t us;
} change;

static void apply(mlxr_engine *engine, void *user)
{
    (void)engine;
    change *c = user;
    uint64_t begin_us = scheduler_now_us(c->scheduler);
    c->status = MLXR_OK;
    if (c->detach) {
        mlxr_model_unref(&c->detach);
    }
    if (c->kv_bytes != NEVER) {
        c->kv_held = !scheduler_budget_set(c->scheduler, c->kv_bytes);
    }
    if (c->attach && !c->kv_held) {
        c->status = mlxr_model_attach(c->attach, &c->error);
    }
    c->us = scheduler_now_us(c->scheduler) - begin_us;
}

/* Lets go of the lock meanwhile. */
static void visit(model_table *t, change *c)
{
    c->scheduler = worker_scheduler(t->worker);
    pthread_mutex_unlock(&t->lock);
    worker_call(t->worker, apply, c);
    pthread_mutex_lock(&t->lock);
}

/* The KV budget beside so many bytes of weights. */
static uint64_t kv_beside(const model_table *t, uint64_t weight_bytes)
{
    uint64_t all = t->options.memory_bytes;
    return all == 0 ? NEVER : all > weight_bytes ? all - weight_bytes : 0;
}

static void unload(model_table *t, cached_model *m, uint64_t *counter)
{
    change c = {.detach = m->model, .kv_bytes = kv_beside(t, t->cache.weight_bytes - m->weight_bytes)};
    m->state = MODEL_UNLOADING;
    changed(t);
    visit(t, &c);
    model_cache_unloaded(&t->cache, m);
    changed(t);
    t->stats.detach_max_us = c.us > t->stats.detach_max_us ? c.us : t->stats.detach_max_us;
    ++*counter;
}

/* ---- loading (the loader's thread, under the lock but where it says otherwise) ----------------------------------- */

/* Waits for a change, or for the clock to reach at_us. */
static void sleep_until(model_table *t, uint64_t at_us)
{
    uint64_t now_us = now_of(t), us = at_us > now_us ? at_us - now_us : 0;
    us = us < 1000000 ? us : 1000000; /* the clock may be set meanwhile: look again now and then */
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + us * 1000;
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    if (!t->poked && us > 0) {
        if (at_us == NEVER) {
            pthread_cond_wait(&t->changed, &t->lock);
        } else {
            pthread_cond_timedwait(&t->changed, &t->lock, &until);
        }
    }
    t->poked = false;
}

static uint64_t next_deadline_us(const model_table *t)
{
    uint64_t next = NEVER;
    for (const waiter *w = t->first; w; w = w->next) {
        next = w->deadline_us < next ? w->deadline_us : next;
    }
    return next;
}

static mlxr_status check_ever_fits(model_table *t, const cached_model *m, uint64_t weight_bytes, mlxr_error *error)
{
    uint64_t all = t->options.memory_bytes, kv = t->options.kv_least_bytes;
    if (all == 0 || (weight_bytes <= all && kv <= all - weight_bytes)) {
        return MLXR_OK;
    }
    t->stats.n_never_fits++;
    return daemon_error(error, MLXR_LIMIT,
                           "%s needs %llu bytes of weights in memory; the memory budget is %llu, of which %llu are "
                           "kept for the KV cache: raise the budget or use a smaller model",
                           m->path, (unsigned long long)weight_bytes, (unsigned long long)all, (unsigned long long)kv);
}

static bool has_room(const model_table *t, uint64_t weight_bytes)
{
    uint64_t kv = kv_beside(t, t->cache.weight_bytes + weight_bytes);
    return t->cache.n_loaded < t->options.models_max && kv >= t->options.kv_least_bytes;
}

/* Makes room for a model that has been read and attaches it. */
static mlxr_status settle(model_table *t, const cached_model *m, mlxr_model *model, mlxr_error *error)
{
    uint64_t weight_bytes = mlxr_model_info_get(model)->resident_bytes;
    mlxr_status status = check_ever_fits(t, m, weight_bytes, error);
    while (status == MLXR_OK) {
        if (t->closing || !is_wanted(t, m)) {
            return daemon_error(error, MLXR_LIMIT, "nobody waits for %s any more", m->path);
        }
        if (has_room(t, weight_bytes)) {
            change c = {.attach = model, .kv_bytes = kv_beside(t, t->cache.weight_bytes + weight_bytes)};
            visit(t, &c);
            t->stats.attach_max_us = c.us > t->stats.attach_max_us ? c.us : t->stats.attach_max_us;
            if (!c.kv_held) {
                if (c.status != MLXR_OK && error) {
                    *error = c.error;
                }
                return c.status;
            }
        }
        cached_model *victim = model_cache_victim(&t->cache);
        if (victim) {
            unload(t, victim, &t->stats.n_for_room);
        } else {
            if (!t->held) {
                t->held = m;
                t->held_since_us = now_of(t);
                t->stats.n_held++;
            }
            if (!serve_one(t)) {
                uint64_t soon_us = now_of(t) + 100000, at_us = next_deadline_us(t); /* requests end without telling */
                sleep_until(t, at_us < soon_us ? at_us : soon_us);
            }
        }
    }
    return status;
}

static void load(model_table *t, cached_model *m)
{
    mlxr_error error = {.text = ""};
    mlxr_model *model = NULL;
    uint64_t begin_us = now_of(t);
    m->state = MODEL_LOADING;
    changed(t);
    pthread_mutex_unlock(&t->lock);
    mlxr_status status = mlxr_model_read(&model, worker_engine(t->worker), m->path, &t->options.model, &error);
    pthread_mutex_lock(&t->lock);
    uint64_t us = now_of(t) - begin_us;
    if (status == MLXR_OK) {
        status = settle(t, m, model, &error);
        t->held = NULL;
    }
    if (status == MLXR_OK) {
        t->stats.n_reloads += m->n_loads > 0;
        t->stats.n_loads++;
        t->stats.load_us += us;
        t->stats.load_max_us = us > t->stats.load_max_us ? us : t->stats.load_max_us;
        model_cache_loaded(&t->cache, m, model, mlxr_model_info_get(model)->resident_bytes, now_of(t));
        changed(t);
        return;
    }
    m->state = MODEL_ABSENT;
    changed(t);
    if (model) { /* with the budget that it was to get */
        visit(t, &(change){.detach = model, .kv_bytes = kv_beside(t, t->cache.weight_bytes)});
    }
    fail_waiters(t, m, &error);
    forget(t, m);
}

static cached_model *next_load(const model_table *t)
{
    for (const waiter *w = t->first; w; w = w->next) {
        if (w->entry->state == MODEL_ABSENT) {
            return w->entry;
        }
    }
    return NULL;
}

static void *work(void *context)
{
    model_table *t = context;
    pthread_mutex_lock(&t->lock);
    while (!t->closing) {
        cached_model *m;
        if (serve_one(t)) {
            continue;
        }
        if ((m = model_cache_expired(&t->cache, now_of(t))) != NULL) {
            unload(t, m, m->dismissed ? &t->stats.n_dismissed : &t->stats.n_expired);
        } else if ((m = next_load(t)) != NULL) {
            load(t, m);
        } else {
            uint64_t expiry_us = model_cache_next_us(&t->cache), deadline_us = next_deadline_us(t);
            sleep_until(t, expiry_us < deadline_us ? expiry_us : deadline_us);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static model_table_options with_defaults(const model_table_options *options)
{
    model_table_options o = options ? *options : (model_table_options){0};
    o.kv_least_bytes = o.kv_least_bytes ? o.kv_least_bytes : o.memory_bytes / 8;
    o.models_max = o.models_max ? o.models_max : 64;
    o.waiting_max = o.waiting_max ? o.waiting_max : 1024;
    o.keep_alive_ms = o.keep_alive_ms ? o.keep_alive_ms : MODEL_KEEP_USUAL_MS;
    o.patience_ms = o.patience_ms ? o.patience_ms : 5000;
    return o;
}

mlxr_status model_table_open(model_table **out, worker *w, const model_table_options *options, mlxr_error *error)
{
    model_table *t = calloc(1, sizeof *t);
    if (!t) {
        return daemon_error(error, MLXR_NOMEM, "no memory for a table of models");
    }
    t->worker = w;
    t->options = with_defaults(options);
    if (pthread_mutex_init(&t->lock, NULL) != 0) {
        goto no_lock;
    }
    if (pthread_cond_init(&t->changed, NULL) != 0) {
        goto no_changed;
    }
    if (pthread_create(&t->thread, NULL, work, t) != 0) {
        goto no_thread;
    }
    pthread_mutex_lock(&t->lock);
    visit(t, &(change){.kv_bytes = kv_beside(t, 0)});
    pthread_mutex_unlock(&t->lock);
    *out = t;
    return MLXR_OK;
no_thread:
    pthread_cond_destroy(&t->changed);
no_changed:
    pthread_mutex_destroy(&t->lock);
no_lock:
    free(t);
    return daemon_error(error, MLXR_LIMIT, "the system has no thread for loading models");
}

void model_table_close(model_table **pointer)
{
    model_table *t = *pointer;
    if (!t) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->closing = true;
    wake(t);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    mlxr_error error;
    daemon_error(&error, MLXR_LIMIT, "the table of models is closing");
    pthread_mutex_lock(&t->lock);
    fail_waiters(t, NULL, &error);
    for (uint32_t i = 0; i < t->cache.n; i++) {
        if (t->cache.items[i]->state == MODEL_LOADED) {
            unload(t, t->cache.items[i], &t->stats.n_dismissed);
        }
    }
    while (tell_leaver(t)) {
    }
    if (t->options.memory_bytes) { /* as much as the engine was opened with */
        visit(t, &(change){.kv_bytes = NEVER - 1});
    }
    pthread_mutex_unlock(&t->lock);
    model_cache_close(&t->cache);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
    *pointer = NULL;
}

/* ---- what others call ------------------------------------------------------------------------------------------- */

/* One model, one entry, however its file is named. NULL: no memory. */
static char *canonical(const char *path)
{
    char *real = realpath(path, NULL);
    return real ? real : strdup(path); /* a file that is not there is for the load to complain about */
}

/* Under the lock: grants at once, or makes a waiter. */
static mlxr_status ask(model_table *t, const char *path, waiter *w, mlxr_model **granted, mlxr_error *error)
{
    uint64_t now_us = now_of(t);
    if (t->closing) {
        return daemon_error(error, MLXR_LIMIT, "the table of models is closing");
    }
    if (w->deadline_us <= now_us) {
        return daemon_error(error, MLXR_LIMIT, "the deadline has passed already");
    }
    if (t->stats.n_waiting >= t->options.waiting_max) {
        return daemon_error(error, MLXR_LIMIT, "%u requests wait for models, no more are taken; try again later",
                               t->stats.n_waiting);
    }
    cached_model *m = model_cache_add(&t->cache, path);
    if (!m) {
        return daemon_error(error, MLXR_NOMEM, "no memory to load %s", path);
    }
    m->dismissed = false;
    if (m->state == MODEL_LOADED && !must_queue(t, m, now_us)) {
        model_cache_take(m, now_us);
        t->stats.n_granted++;
        t->stats.n_at_once++;
        *granted = m->model;
        return MLXR_OK;
    }
    w->entry = m;
    waiter **link = &t->first;
    while (*link) {
        link = &(*link)->next;
    }
    *link = w;
    t->stats.n_waiting++;
    wake(t);
    return MLXR_OK;
}

mlxr_status model_table_acquire(model_table *t, const char *path, uint64_t deadline_us, model_on_ready on_ready,
                                void *user, mlxr_error *error)
{
    char *real = canonical(path);
    waiter *w = calloc(1, sizeof *w);
    mlxr_model *granted = NULL;
    mlxr_status status = real && w ? MLXR_OK : daemon_error(error, MLXR_NOMEM, "no memory to load %s", path);
    if (status == MLXR_OK) {
        *w = (waiter){.deadline_us = deadline_us ? deadline_us : NEVER, .fn = on_ready, .user = user};
        pthread_mutex_lock(&t->lock);
        status = ask(t, real, w, &granted, error);
        pthread_mutex_unlock(&t->lock);
    }
    free(real);
    if (status != MLXR_OK || granted) {
        free(w);
    }
    if (granted) {
        on_ready(user, granted, NULL);
    }
    return status;
}

typedef struct ready { /* of a caller that waits */
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool done;
    mlxr_model *model;
    mlxr_error error;
} ready;

static void on_waited(void *user, mlxr_model *model, const mlxr_error *error)
{
    ready *r = user;
    pthread_mutex_lock(&r->lock);
    r->done = true;
    r->model = model;
    if (error) {
        r->error = *error;
    }
    pthread_cond_signal(&r->told);
    pthread_mutex_unlock(&r->lock);
}

mlxr_status model_table_wait(model_table *t, const char *path, uint64_t deadline_us, mlxr_model **out,
                             mlxr_error *error)
{
    ready r = {.lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER};
    mlxr_status status = model_table_acquire(t, path, deadline_us, on_waited, &r, error);
    if (status != MLXR_OK) {
        return status;
    }
    pthread_mutex_lock(&r.lock);
    while (!r.done) {
        pthread_cond_wait(&r.told, &r.lock);
    }
    pthread_mutex_unlock(&r.lock);
    if (!r.model) {
        if (error) {
            *error = r.error;
        }
        return r.error.status;
    }
    *out = r.model;
    return MLXR_OK;
}

static uint64_t keep_us(const model_table *t, int64_t keep_alive_ms)
{
    int64_t ms = keep_alive_ms == MODEL_KEEP_DEFAULT ? t->options.keep_alive_ms : keep_alive_ms;
    return ms < 0 || (uint64_t)ms > NEVER / 1000 ? NEVER : (uint64_t)ms * 1000;
}

void model_table_release(model_table *t, mlxr_model *model, int64_t keep_alive_ms)
{
    pthread_mutex_lock(&t->lock);
    cached_model *m = model_cache_of(&t->cache, model);
    model_cache_give(m, keep_us(t, keep_alive_ms), now_of(t));
    wake(t);
    pthread_mutex_unlock(&t->lock);
}

mlxr_status model_table_load(model_table *t, const char *path, int64_t keep_alive_ms, mlxr_error *error)
{
    mlxr_model *model = NULL;
    mlxr_status status = model_table_wait(t, path, 0, &model, error);
    if (status == MLXR_OK) {
        model_table_release(t, model, keep_alive_ms);
    }
    return status;
}

/* Calls fn on the entry of a loaded model, under the lock. */
static mlxr_status with_loaded(model_table *t, const char *path, void (*fn)(model_table *, cached_model *, void *),
                               void *context, mlxr_error *error)
{
    char *real = canonical(path);
    if (!real) {
        return daemon_error(error, MLXR_NOMEM, "no memory to find %s", path);
    }
    pthread_mutex_lock(&t->lock);
    cached_model *m = model_cache_find(&t->cache, real);
    bool found = m && m->state == MODEL_LOADED;
    if (found) {
        fn(t, m, context);
        changed(t);
        wake(t);
    }
    pthread_mutex_unlock(&t->lock);
    free(real);
    return found ? MLXR_OK : daemon_error(error, MLXR_ARG, "%s is not loaded", path);
}

typedef struct dismissal {
    leaver *told; /* the table's once the model leaves now */
    model_leaving leaving;
} dismissal;

static void dismiss(model_table *t, cached_model *m, void *context)
{
    dismissal *d = context;
    m->dismissed = true;
    d->leaving = m->pinned ? MODEL_STAYS : m->n_uses ? MODEL_LEAVES_WHEN_IDLE : MODEL_LEAVES_NOW;
    if (d->leaving == MODEL_LEAVES_NOW && d->told) {
        d->told->entry = m;
        d->told->next = t->leavers;
        t->leavers = d->told;
        d->told = NULL;
    }
}

mlxr_status model_table_unload(model_table *t, const char *path, model_on_gone on_gone, void *user,
                               model_leaving *leaving, mlxr_error *error)
{
    dismissal d = {.told = leaving ? calloc(1, sizeof *d.told) : NULL};
    if (leaving && !d.told) {
        return daemon_error(error, MLXR_NOMEM, "no memory to unload %s", path);
    }
    if (d.told) {
        *d.told = (leaver){.fn = on_gone, .user = user};
    }
    mlxr_status status = with_loaded(t, path, dismiss, &d, error);
    if (leaving) {
        *leaving = d.leaving;
    }
    free(d.told);
    return status;
}

static void set_pinned(model_table *t, cached_model *m, void *pinned)
{
    (void)t;
    m->dismissed = false;
    m->pinned = *(const bool *)pinned;
}

mlxr_status model_table_pin(model_table *t, const char *path, bool pinned, mlxr_error *error)
{
    return with_loaded(t, path, set_pinned, &pinned, error);
}

void model_table_on_change(model_table *t, void (*fn)(void *user), void *user)
{
    pthread_mutex_lock(&t->lock);
    t->on_change = fn;
    t->change_user = user;
    pthread_mutex_unlock(&t->lock);
}

void model_table_poke(model_table *t)
{
    pthread_mutex_lock(&t->lock);
    wake(t);
    pthread_mutex_unlock(&t->lock);
}

model_table_stats model_table_stats_get(model_table *t)
{
    pthread_mutex_lock(&t->lock);
    model_table_stats stats = t->stats;
    stats.weight_bytes = t->cache.weight_bytes;
    stats.n_loaded = t->cache.n_loaded;
    stats.kv_bytes = t->options.memory_bytes ? kv_beside(t, t->cache.weight_bytes) : 0;
    pthread_mutex_unlock(&t->lock);
    return stats;
}

void model_table_each(model_table *t, void (*fn)(void *user, const model_table_item *item), void *user)
{
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < t->cache.n; i++) {
        const cached_model *m = t->cache.items[i];
        model_table_item item = {.path = m->path,
                                 .info = m->state == MODEL_LOADED ? mlxr_model_info_get(m->model) : NULL,
                                 .n_uses = m->n_uses,
                                 .pinned = m->pinned,
                                 .expires_at_us = m->expires_at_us};
        if (m->state != MODEL_ABSENT) {
            fn(user, &item);
        }
    }
    pthread_mutex_unlock(&t->lock);
}
