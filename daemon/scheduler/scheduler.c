/*
 * Scheduler: life, submission, and the steps.
 * Owner: a worker. Lifetime: scheduler_open to scheduler_close.
 */
#include "scheduler/scheduler.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scheduler/lanes.h"
#include "telemetry/daemon_error.h"

static const char *const finish_names[SCHEDULER_N_FINISHES] = {"running",   "end",      "length", "context", "stopped",
                                                               "cancelled", "deadline", "failed", "shutdown"};
static const char *const refusal_names[SCHEDULER_N_REFUSALS] = {
    "taken", "bad", "queue-full", "client-full", "too-long", "never-fits", "too-late", "closing", "no-memory"};

const char *scheduler_finish_name(scheduler_finish finish)
{
    return (unsigned)finish < SCHEDULER_N_FINISHES ? finish_names[finish] : "unknown";
}

const char *scheduler_refusal_name(scheduler_refusal refusal)
{
    return (unsigned)refusal < SCHEDULER_N_REFUSALS ? refusal_names[refusal] : "unknown";
}

static uint64_t monotonic_us(void *user)
{
    (void)user;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t scheduler_now_us(const scheduler *s)
{
    return s->options.now_us(s->options.now_user);
}

static scheduler_options with_defaults(const scheduler_options *options, uint32_t rows_max)
{
    scheduler_options o = options ? *options : (scheduler_options){0};
    o.queue_max = o.queue_max ? o.queue_max : 1024;
    o.client_max = o.client_max ? o.client_max : o.queue_max;
    o.lanes_max = o.lanes_max ? o.lanes_max : 64;
    o.rows_max = o.rows_max && o.rows_max < rows_max ? o.rows_max : rows_max;
    o.step_us = o.step_us > 0 ? o.step_us : 40000;
    o.stretch = o.stretch > 0 ? o.stretch : 2.5;
    o.step_max_us = o.step_max_us > 0 ? o.step_max_us : 1e6;
    o.solo_us = o.solo_us > 0 ? o.solo_us : 250000;
    o.lookahead = o.lookahead ? o.lookahead : 256;
    o.aging_us = o.aging_us ? o.aging_us : 10000000;
    o.now_us = o.now_us ? o.now_us : monotonic_us;
    return o;
}

static bool open_arrays(scheduler *s)
{
    uint32_t n = s->n_slots;
    s->lanes = calloc(n, sizeof *s->lanes);
    s->uses = calloc(n, sizeof *s->uses);
    s->decodes = calloc(n, sizeof *s->decodes);
    s->prefills = calloc(n, sizeof *s->prefills);
    s->items = calloc(n, sizeof *s->items);
    s->batch = calloc(n, sizeof *s->batch);
    s->slices = calloc(n, sizeof *s->slices);
    s->slice_lanes = calloc(n, sizeof *s->slice_lanes);
    return s->lanes && s->uses && s->decodes && s->prefills && s->items && s->batch && s->slices && s->slice_lanes;
}

static void close_arrays(scheduler *s)
{
    free(s->lanes);
    free(s->uses);
    free(s->decodes);
    free(s->prefills);
    free(s->items);
    free(s->batch);
    free(s->slices);
    free(s->slice_lanes);
    request_queue_close(&s->queue);
    free(s);
}

mlxr_status scheduler_open(scheduler **out, mlxr_engine *engine, const scheduler_options *options, mlxr_error *error)
{
    scheduler_options o = with_defaults(options, mlxr_step_tokens_max(engine));
    if (o.queue_max > 1u << 20 || o.lanes_max > 1u << 16) {
        return daemon_error(error, MLXR_ARG, "at most 1048576 requests can wait and 65536 sequences run, not %u and %u",
                            o.queue_max, o.lanes_max);
    }
    scheduler *s = calloc(1, sizeof *s);
    if (!s) {
        return daemon_error(error, MLXR_NOMEM, "no memory for a scheduler");
    }
    s->engine = engine;
    s->options = o;
    s->n_slots = 2 * o.lanes_max;
    s->next_id = 1;
    mlxr_kv_stats kv = mlxr_kv_stats_get(engine);
    s->bytes_budget = kv.bytes_budget;
    s->bytes_promised = kv.bytes_budget;
    s->page_tokens = kv.page_tokens ? kv.page_tokens : 1;
    if (request_queue_open(&s->queue, o.queue_max, o.client_max, o.aging_us, error) != MLXR_OK) {
        free(s);
        return MLXR_NOMEM;
    }
    if (!open_arrays(s) || pthread_mutex_init(&s->lock, NULL) != 0) {
        close_arrays(s);
        return daemon_error(error, MLXR_NOMEM, "no memory for a scheduler of %u sequences", o.lanes_max);
    }
    *out = s;
    return MLXR_OK;
}

void scheduler_close(scheduler **pointer)
{
    scheduler *s = *pointer;
    if (!s) {
        return;
    }
    scheduler_abort(s);
    pthread_mutex_destroy(&s->lock);
    close_arrays(s);
    *pointer = NULL;
}

/* ---- submission ---------------------------------------------------------------------------------------------- */

/* What can be said at once about a request that is well formed. */
static scheduler_refusal check_limits(const scheduler *s, const scheduler_request *ask, mlxr_error *error)
{
    uint64_t n_ctx = mlxr_model_info_get(ask->model)->n_ctx;
    uint32_t n_choices = ask->n_choices ? ask->n_choices : 1;
    if (n_choices > s->options.lanes_max) {
        daemon_error(error, MLXR_LIMIT, "%u choices were asked for; at most %u sequences run at once", n_choices,
                     s->options.lanes_max);
        return SCHEDULER_BAD;
    }
    if (ask->n_tokens >= n_ctx) {
        daemon_error(error, MLXR_LIMIT,
                     "the prompt has %zu tokens and the context %llu, which leaves no room for an answer; shorten it",
                     ask->n_tokens, (unsigned long long)n_ctx);
        return SCHEDULER_TOO_LONG;
    }
    if (ask->deadline_us && ask->deadline_us <= scheduler_now_us(s)) {
        daemon_error(error, MLXR_LIMIT, "the deadline has passed already");
        return SCHEDULER_TOO_LATE;
    }
    return SCHEDULER_TAKEN;
}

/* Under the lock. */
static scheduler_refusal enqueue(scheduler *s, request *r, mlxr_error *error)
{
    if (s->closing) {
        daemon_error(error, MLXR_LIMIT, "the scheduler is closing");
        return SCHEDULER_CLOSING;
    }
    if (r->bytes_least > s->bytes_promised) {
        daemon_error(error, MLXR_LIMIT,
                     "%zu tokens of prompt and %u of answer need %llu bytes of KV memory; the budget is %llu: "
                     "shorten the prompt, lower max_tokens or raise the budget",
                     r->ask.n_tokens, r->ask.max_tokens ? r->ask.max_tokens : 1, (unsigned long long)r->bytes_least,
                     (unsigned long long)s->bytes_promised);
        return SCHEDULER_NEVER_FITS;
    }
    r->id = s->next_id;
    scheduler_refusal refusal = request_queue_push(&s->queue, r);
    if (refusal == SCHEDULER_QUEUE_FULL) {
        daemon_error(error, MLXR_LIMIT, "%u requests are waiting, no more are taken; try again later", s->queue.n);
    } else if (refusal == SCHEDULER_CLIENT_FULL) {
        daemon_error(error, MLXR_LIMIT, "%u requests of this client are waiting, no more are taken; try again later",
                     s->options.client_max);
    } else {
        s->next_id++;
        r->next = s->live;
        if (s->live) {
            s->live->previous = r;
        }
        s->live = r;
        s->n_live++;
    }
    return refusal;
}

uint32_t scheduler_answer_max(scheduler *s, const scheduler_request *ask)
{
    scheduler_request tried = *ask;
    uint32_t fits = 0, beyond = ask->max_tokens;
    pthread_mutex_lock(&s->lock);
    uint64_t budget = s->bytes_promised;
    pthread_mutex_unlock(&s->lock);
    if (memory_least(s, ask) <= budget) {
        return ask->max_tokens;
    }
    while (fits + 1 < beyond) {
        tried.max_tokens = fits + (beyond - fits) / 2;
        bool held = memory_least(s, &tried) <= budget;
        fits = held ? tried.max_tokens : fits;
        beyond = held ? beyond : tried.max_tokens;
    }
    return fits;
}

mlxr_status scheduler_submit(scheduler *s, const scheduler_request *ask, uint64_t *id, scheduler_refusal *refusal,
                             mlxr_error *error)
{
    mlxr_error local = {.status = MLXR_OK, .text = ""};
    request *r = NULL;
    mlxr_status status = request_open(&r, ask, &local);
    scheduler_refusal reason = status == MLXR_OK      ? check_limits(s, ask, &local)
                               : status == MLXR_NOMEM ? SCHEDULER_NO_MEMORY
                                                      : SCHEDULER_BAD;
    if (reason == SCHEDULER_TAKEN) {
        r->arrived_us = scheduler_now_us(s);
        request_meter_begin(&r->meter, s->options.metrics, r->ask.name ? r->ask.name : "",
                            ask->received_us ? ask->received_us : r->arrived_us);
        r->bytes_least = memory_least(s, ask);
        r->work = ask->n_tokens +
                  (uint64_t)r->ask.n_choices * (ask->max_tokens ? ask->max_tokens : s->options.lookahead);
    }
    pthread_mutex_lock(&s->lock);
    if (reason == SCHEDULER_TAKEN) {
        reason = enqueue(s, r, &local);
    }
    uint64_t given = reason == SCHEDULER_TAKEN ? r->id : 0; /* from the unlock on the request is another thread's */
    s->stats.n_submitted++;
    s->stats.n_refused[reason]++;
    pthread_mutex_unlock(&s->lock);
    if (refusal) {
        *refusal = reason;
    }
    if (reason != SCHEDULER_TAKEN) {
        request_close(&r);
        if (error) {
            *error = local;
        }
        return local.status;
    }
    if (id) {
        *id = given;
    }
    if (s->options.wake) {
        s->options.wake(s->options.wake_user);
    }
    return MLXR_OK;
}

/* Under the lock; NULL: there is none any more. */
static request *find_live(const scheduler *s, uint64_t id)
{
    request *r = s->live;
    while (r && r->id != id) {
        r = r->next;
    }
    return r;
}

bool scheduler_cancel(scheduler *s, uint64_t id)
{
    pthread_mutex_lock(&s->lock);
    request *r = find_live(s, id);
    if (r) {
        atomic_store_explicit(&r->cancelled, true, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->lock);
    if (r && s->options.wake) { /* r itself may be gone by now */
        s->options.wake(s->options.wake_user);
    }
    return r != NULL;
}

bool scheduler_pause(scheduler *s, uint64_t id)
{
    pthread_mutex_lock(&s->lock);
    request *r = find_live(s, id);
    if (r) { /* nobody need wake up in order to do nothing */
        atomic_store_explicit(&r->stalled, true, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->lock);
    return r != NULL;
}

bool scheduler_resume(scheduler *s, uint64_t id)
{
    pthread_mutex_lock(&s->lock);
    request *r = find_live(s, id);
    bool stalled = r && atomic_exchange_explicit(&r->stalled, false, memory_order_relaxed);
    pthread_mutex_unlock(&s->lock);
    if (stalled && s->options.wake) {
        s->options.wake(s->options.wake_user);
    }
    return r != NULL;
}

void scheduler_drain(scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_mutex_unlock(&s->lock);
    if (s->options.wake) {
        s->options.wake(s->options.wake_user);
    }
}

bool scheduler_idle(scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    bool idle = s->n_live == 0;
    pthread_mutex_unlock(&s->lock);
    return idle;
}

size_t scheduler_uses(scheduler *s, const mlxr_model *model)
{
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    for (const request *r = s->live; r; r = r->next) {
        n += r->ask.model == model || (r->ask.draft && r->ask.draft_model == model);
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* From now on new requests are measured by this budget; do those taken before fit into it, one at a time? */
static bool promise(scheduler *s, uint64_t kv_bytes)
{
    bool fits = true;
    pthread_mutex_lock(&s->lock);
    s->bytes_promised = kv_bytes;
    for (const request *r = s->live; r; r = r->next) {
        fits = fits && r->bytes_least <= kv_bytes;
    }
    pthread_mutex_unlock(&s->lock);
    return fits;
}

bool scheduler_budget_set(scheduler *s, uint64_t kv_bytes)
{
    if (!promise(s, kv_bytes) && kv_bytes < s->bytes_budget) {
        return false;
    }
    uint64_t bytes_now;
    while ((bytes_now = mlxr_kv_budget_set(s->engine, kv_bytes)) > kv_bytes) {
        uint32_t n_running;
        lane *victim = lane_victim(s, &n_running);
        if (!victim) { /* held by sequences that are not the scheduler's */
            break;
        }
        lane_preempt(s, victim);
    }
    s->bytes_budget = bytes_now;
    return bytes_now <= kv_bytes;
}

/* ---- the engine's thread --------------------------------------------------------------------------------------- */

void scheduler_publish(scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->own.n_submitted = s->stats.n_submitted;
    memcpy(s->own.n_refused, s->stats.n_refused, sizeof s->own.n_refused);
    s->stats = s->own;
    s->stats.n_running = s->n_lanes - s->n_paused;
    s->stats.n_paused = s->n_paused;
    s->stats.n_stalled = s->n_stalled;
    pthread_mutex_unlock(&s->lock);
}

scheduler_stats scheduler_stats_get(scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    scheduler_stats stats = s->stats;
    stats.n_queued = s->queue.n;
    pthread_mutex_unlock(&s->lock);
    return stats;
}

/* Looked at once a step, so that a step sees one state of it. Who stalls gives its lane up, and has one again, before
 * those that have not begun, when one is free. */
static void see_stalls(scheduler *s, uint64_t now_us)
{
    lane *l;
    for (uint32_t i = 0; s->n_lanes && i < s->n_slots; i++) {
        if (!s->lanes[i].stalled && lane_unread(&s->lanes[i])) {
            s->lanes[i].stalled = true;
            s->n_stalled++;
        }
    }
    while ((l = lane_back(s)) != NULL && lanes_in_use(s) + lanes_needed(l) <= s->options.lanes_max) {
        l->stalled = false;
        s->n_stalled--;
        l->since_us = now_us; /* it did not wait for its turn, but for its reader */
        l->waited = 0;
        l->r->choices[l->choice].last_us = now_us; /* nor is that between its tokens ours */
    }
}

static void end_lanes(scheduler *s, uint64_t now_us)
{
    for (uint32_t i = 0; s->n_lanes && i < s->n_slots; i++) {
        lane *l = &s->lanes[i];
        if (!l->r) {
            continue;
        }
        if (atomic_load_explicit(&l->r->cancelled, memory_order_relaxed)) {
            lane_finish(s, l, SCHEDULER_CANCELLED, NULL);
        } else if (l->r->ask.deadline_us && l->r->ask.deadline_us <= now_us) {
            lane_finish(s, l, SCHEDULER_DEADLINE, NULL);
        }
    }
}

void scheduler_abort(scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_mutex_unlock(&s->lock);
    for (uint32_t i = 0; i < s->n_slots; i++) {
        if (s->lanes[i].r) {
            lane_finish(s, &s->lanes[i], SCHEDULER_SHUTDOWN, NULL);
        }
    }
    for (;;) {
        pthread_mutex_lock(&s->lock);
        request *r = s->queue.n ? s->queue.items[0] : NULL;
        if (r) {
            request_queue_remove(&s->queue, r, false, 0);
        }
        pthread_mutex_unlock(&s->lock);
        if (!r) {
            break;
        }
        request_finish(s, r, SCHEDULER_SHUTDOWN, NULL);
    }
    scheduler_publish(s);
}

/* Models take turns by the time their steps took. */
static model_use *next_model(const scheduler *s)
{
    model_use *next = NULL;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const lane *l = &s->lanes[i];
        if (l->r && !l->paused && !l->stalled && (!next || l->use->served_us < next->served_us)) {
            next = l->use;
        }
    }
    return next;
}

/* The earliest deadline of lanes when none is computed, UINT64_MAX: none. */
static uint64_t stalled_deadline(const scheduler *s)
{
    uint64_t first_us = UINT64_MAX;
    for (uint32_t i = 0; s->n_stalled && i < s->n_slots; i++) {
        const request *r = s->lanes[i].r;
        first_us = r && r->ask.deadline_us && r->ask.deadline_us < first_us ? r->ask.deadline_us : first_us;
    }
    return first_us;
}

scheduler_pulse scheduler_step(scheduler *s)
{
    uint64_t begin_us = scheduler_now_us(s);
    uint64_t computed_us = s->own.step_us;
    s->callback_us = 0;
    end_lanes(s, begin_us);
    see_stalls(s, begin_us);
    admission_run(s, begin_us);
    model_use *use = next_model(s);
    scheduler_pulse pulse = {.worked = use != NULL, .wake_at_us = UINT64_MAX};
    if (use) {
        step_run(s, use);
    }
    uint64_t us = scheduler_now_us(s) - begin_us, others_us = s->own.step_us - computed_us + s->callback_us;
    uint64_t own_us = us > others_us ? us - others_us : 0;
    s->own.own_us += own_us;
    s->own.own_max_us = own_us > s->own.own_max_us ? own_us : s->own.own_max_us;
    scheduler_publish(s);
    if (!use) {
        pthread_mutex_lock(&s->lock);
        pulse.wake_at_us = request_queue_deadline(&s->queue);
        pthread_mutex_unlock(&s->lock);
        uint64_t stalled_us = stalled_deadline(s);
        pulse.wake_at_us = stalled_us < pulse.wake_at_us ? stalled_us : pulse.wake_at_us;
    }
    return pulse;
}
