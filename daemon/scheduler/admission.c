/*
 * Admission: what may start and what may go on, by memory and lanes.
 * Owner: the scheduler. Lifetime: the call.
 *
 * First by an upper bound that costs nothing: what each lane's pages take if it shares none, windows and rounding
 * counted. Where that does not do, by the engine's own count, which knows pages that are shared. If nothing is running,
 * whatever is first starts: submission has made sure that it fits.
 */
#include "scheduler/lanes.h"

/* Both saturate: their results are only compared with budgets. */
static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* A slice of a decoding lane: its token and the longest draft. */
#define DECODE_ROWS 16u

/* Of sequences that end anywhere in the last page, the one whose windows see the most pages. */
static uint64_t memory_of(const scheduler *s, const mlxr_model *model, uint64_t n_tokens, uint64_t n_rows)
{
    if (n_tokens == 0) {
        return 0;
    }
    uint64_t end = n_tokens - (n_tokens - 1) % s->page_tokens, rows = n_rows < end ? n_rows : end;
    return mlxr_model_kv_bytes(model, end - rows, rows);
}

static bool drafts_by_model(const scheduler_request *ask)
{
    return ask->draft && ask->draft_model;
}

/* A model that drafts keeps the same tokens, and reads prompts in steps of its own. */
static uint64_t memory_with_draft(const scheduler *s, const scheduler_request *ask, uint64_t n_tokens, uint64_t n_rows)
{
    uint64_t n_bytes = memory_of(s, ask->model, n_tokens, n_rows);
    return drafts_by_model(ask)
               ? plus(n_bytes, memory_of(s, ask->draft_model, n_tokens, mlxr_step_tokens_max(s->engine)))
               : n_bytes;
}

/* On the way to n_tokens, too. */
static uint64_t most_with_draft(const scheduler *s, const scheduler_request *ask, uint64_t n_tokens, uint64_t n_rows)
{
    uint64_t n_bytes = mlxr_model_kv_bytes_most(ask->model, n_tokens, n_rows);
    return drafts_by_model(ask)
               ? plus(n_bytes, mlxr_model_kv_bytes_most(ask->draft_model, n_tokens, mlxr_step_tokens_max(s->engine)))
               : n_bytes;
}

uint64_t memory_of_request(const scheduler *s, const scheduler_request *ask, uint64_t n_generated, uint64_t n_rows)
{
    uint64_t first = most_with_draft(s, ask, plus(ask->n_tokens, n_generated), n_rows);
    uint64_t more = most_with_draft(s, ask, plus(n_generated, s->page_tokens), DECODE_ROWS); /* a copied page too */
    uint32_t n_choices = ask->n_choices ? ask->n_choices : 1;
    return plus(first, times(more, n_choices - 1));
}

/* What a running lane may hold in its next step, with n_tokens more than it has appended. */
static uint64_t memory_ahead(const scheduler *s, const lane *l, uint64_t n_more)
{
    uint64_t pending = mlxr_sequence_pending(l->sequence);
    uint64_t n_rows = pending > 1 && pending < s->options.rows_max ? pending : pending > 1 ? s->options.rows_max : 1;
    n_rows = n_rows > DECODE_ROWS ? n_rows : DECODE_ROWS;
    return memory_with_draft(s, &l->r->ask, (uint64_t)mlxr_sequence_length(l->sequence) + n_more, n_rows);
}

/* One page more than it has appended, to go on. */
static uint64_t memory_of_lane(const scheduler *s, const lane *l)
{
    return memory_ahead(s, l, s->page_tokens);
}

uint64_t memory_of_lanes(const scheduler *s)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const lane *l = &s->lanes[i];
        sum = l->r && !l->paused ? plus(sum, memory_of_lane(s, l)) : sum;
    }
    return sum;
}

uint64_t memory_left(const scheduler *s)
{
    mlxr_kv_stats stats = mlxr_kv_stats_get(s->engine);
    uint64_t pinned = stats.bytes_used - stats.bytes_cached, growth = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const lane *l = &s->lanes[i];
        if (l->r && !l->paused) { /* a page more than it goes on with: a shared one may have to be copied */
            uint64_t ahead = memory_ahead(s, l, 2 * (uint64_t)s->page_tokens);
            uint64_t held = mlxr_model_kv_bytes(l->r->ask.model, mlxr_sequence_computed(l->sequence), 0);
            growth = plus(growth, ahead > held ? ahead - held : 0);
        }
    }
    uint64_t taken = plus(pinned, growth);
    return taken < stats.bytes_budget ? stats.bytes_budget - taken : 0;
}

uint64_t memory_of_page(const scheduler *s, const mlxr_model *model)
{
    return mlxr_model_kv_bytes(model, 0, s->page_tokens);
}

uint64_t memory_least(const scheduler *s, const scheduler_request *ask)
{
    scheduler_request one = *ask;
    one.n_choices = 1;
    uint64_t room = mlxr_model_info_get(ask->model)->n_ctx - ask->n_tokens;
    uint64_t n_generated = ask->max_tokens ? ask->max_tokens : 1;
    return memory_of_request(s, &one, n_generated < room ? n_generated : room, s->page_tokens);
}

static bool is_free(const scheduler *s, uint64_t n_bytes)
{
    return plus(memory_of_lanes(s), n_bytes) <= s->bytes_budget || n_bytes <= memory_left(s);
}

uint32_t lanes_needed(const lane *l)
{
    return 1 + (l->forks ? l->r->ask.n_choices - 1 : 0);
}

uint32_t lanes_in_use(const scheduler *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; s->n_lanes && i < s->n_slots; i++) {
        const lane *l = &s->lanes[i];
        n += l->r && !l->stalled ? lanes_needed(l) : 0;
    }
    return n;
}

static uint32_t n_running(const scheduler *s)
{
    return s->n_lanes - s->n_paused;
}

/* Of those that could go on the highest priority, among equals the oldest. */
static lane *first_paused(scheduler *s)
{
    lane *first = NULL;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        lane *l = &s->lanes[i];
        if (l->r && l->paused && !l->stalled &&
            (!first || l->r->ask.priority > first->r->ask.priority ||
             (l->r->ask.priority == first->r->ask.priority && l->order < first->order))) {
            first = l;
        }
    }
    return first;
}

/* Pre-empts lanes that stall or are of lower priority until the bytes are there; none if that would not do. */
static bool make_room(scheduler *s, int32_t priority, uint64_t n_bytes)
{
    if (is_free(s, n_bytes)) {
        return true;
    }
    uint32_t n;
    uint64_t lower = 0, n_higher = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const lane *l = &s->lanes[i];
        if (l->r && !l->paused && (l->stalled || l->r->ask.priority < priority)) {
            lower = plus(lower, memory_of_lane(s, l));
        } else {
            n_higher += l->r && !l->paused;
        }
    }
    if (n_higher && plus(lower, memory_left(s)) < n_bytes) {
        return false;
    }
    while (!is_free(s, n_bytes)) {
        lane *victim = lane_victim(s, &n);
        if (!victim) {
            return true; /* nothing else is running */
        }
        if (!victim->stalled && victim->r->ask.priority >= priority) {
            return false;
        }
        lane_preempt(s, victim);
    }
    return true;
}

static void end_waiting(scheduler *s, uint64_t now_us)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        request *r = request_queue_ended(&s->queue, now_us);
        if (r) {
            request_queue_remove(&s->queue, r, false, now_us);
        }
        pthread_mutex_unlock(&s->lock);
        if (!r) {
            return;
        }
        bool cancelled = atomic_load_explicit(&r->cancelled, memory_order_relaxed);
        request_finish(s, r, cancelled ? SCHEDULER_CANCELLED : SCHEDULER_DEADLINE, NULL);
    }
}

static void resume_paused(scheduler *s, uint64_t now_us)
{
    lane *l;
    while (s->n_paused && (l = first_paused(s)) != NULL) {
        if (!make_room(s, l->r->ask.priority, memory_of_lane(s, l))) {
            return;
        }
        lane_resume(s, l, now_us);
    }
}

/* May this one, the queue's first, start now? */
static bool may_start(scheduler *s, const request *r)
{
    const lane *paused = first_paused(s);
    if (lane_back(s) || lanes_in_use(s) + r->ask.n_choices > s->options.lanes_max ||
        s->n_lanes + s->n_forks_due + r->ask.n_choices > s->n_slots) {
        s->own.n_held_lanes++;
        return false;
    }
    if (paused && r->ask.priority <= paused->r->ask.priority) {
        s->own.n_held_paused++;
        return false;
    }
    uint32_t n_generated = r->ask.max_tokens && r->ask.max_tokens < s->options.lookahead ? r->ask.max_tokens
                                                                                         : s->options.lookahead;
    uint64_t n_bytes = memory_of_request(s, &r->ask, n_generated, s->options.rows_max);
    if (n_running(s) && !make_room(s, r->ask.priority, n_bytes)) {
        s->own.n_held_memory++;
        return false;
    }
    return true;
}

void admission_run(scheduler *s, uint64_t now_us)
{
    end_waiting(s, now_us);
    resume_paused(s, now_us);
    for (;;) {
        pthread_mutex_lock(&s->lock);
        request *r = request_queue_first(&s->queue, now_us);
        pthread_mutex_unlock(&s->lock); /* only this thread takes requests out */
        if (!r || !may_start(s, r)) {
            return;
        }
        pthread_mutex_lock(&s->lock);
        request_queue_remove(&s->queue, r, true, now_us);
        pthread_mutex_unlock(&s->lock);
        lane_start(s, r, now_us);
    }
}
