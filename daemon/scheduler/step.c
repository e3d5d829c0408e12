/*
 * Step: lays out one step of one model's lanes, runs it, and deals with what went wrong.
 * Owner: the scheduler. Lifetime: the call.
 */
#include <stdlib.h>
#include <time.h>

#include "scheduler/lanes.h"

#define PROMPT_SHARE 0.25

typedef struct plan { /* what the next step is made of */
    uint32_t n_decodes, n_prefills;
    batch batch;
} plan;

static queue_entry entry_of(const scheduler *s, const lane *l)
{
    uint32_t pending = (uint32_t)mlxr_sequence_pending(l->sequence);
    return (queue_entry){.item = {.depth = (uint32_t)mlxr_sequence_computed(l->sequence),
                                  .pending = l->forks ? pending - 1 : pending,
                                  .n_draft = pending == 1 ? l->n_draft : 0,
                                  .waited = l->waited},
                         .since_us = l->since_us,
                         .priority = l->r->ask.priority,
                         .lane = (uint32_t)(l - s->lanes)};
}

/* The two queues of a model's running lanes. A prompt that is to be answered more than once is forked before its last
 * row: that row is each choice's own. */
static void line_up(scheduler *s, const model_use *use, plan *p)
{
    p->n_decodes = p->n_prefills = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        lane *l = &s->lanes[i];
        if (l->r && l->use == use && !l->paused && !l->stalled && l->forks && mlxr_sequence_pending(l->sequence) == 1) {
            lane_fork(s, l);
        }
    }
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const lane *l = &s->lanes[i];
        if (!l->r || l->use != use || l->paused || l->stalled) {
            continue;
        }
        if (mlxr_sequence_pending(l->sequence) == 1) {
            s->decodes[p->n_decodes++] = entry_of(s, l);
        } else {
            s->prefills[p->n_prefills++] = entry_of(s, l);
        }
    }
    decode_queue_order(s->decodes, p->n_decodes);
    prefill_queue_order(s->prefills, p->n_prefills, &use->cost);
    for (uint32_t i = 0; i < p->n_decodes; i++) {
        s->items[i] = s->decodes[i].item;
    }
    for (uint32_t i = 0; i < p->n_prefills; i++) {
        s->items[p->n_decodes + i] = s->prefills[i].item;
    }
}

/* With decoding sequences a step takes what their pace allows: that is how much a long prompt can slow them down.
 * PROMPT_SHARE of the budget is the prompts'. The decoding's own part is put in the cost model's terms: an error there
 * must not leave streams out. */
static void set_budget(const scheduler *s, const model_use *use, const plan *p, batch_limits *limits)
{
    if (p->n_decodes == 0) {
        limits->budget_us = limits->decode_us = s->options.solo_us;
        return;
    }
    cost_load load = {0};
    for (uint32_t i = 0; i < p->n_decodes; i++) {
        batch_item_load(&s->items[i], 1, &load);
    }
    double ratio = p->n_prefills ? pace_alone_ratio(&use->pace, &use->cost) : 1;
    double budget = pace_budget_us(&use->pace, cost_model_step_us(&use->cost, &load), ratio, s->options.stretch);
    budget = budget > s->options.step_us ? budget : s->options.step_us;
    budget = budget < s->options.step_max_us ? budget : s->options.step_max_us;
    double decode_us = (1 - PROMPT_SHARE) * budget / ratio;
    limits->budget_us = budget;
    limits->decode_us = decode_us < budget ? decode_us : budget;
}

/* Where memory may run short, those that nobody reads give theirs before anybody has to wait for it. */
static void stalled_give_way(scheduler *s)
{
    uint32_t n_running;
    lane *victim;
    while (s->n_stalled && memory_of_lanes(s) > s->bytes_budget && (victim = lane_victim(s, &n_running)) &&
           victim->stalled) {
        lane_preempt(s, victim);
    }
}

static uint64_t pages_free(const scheduler *s, const model_use *use)
{
    if (memory_of_lanes(s) <= s->bytes_budget) {
        return UINT64_MAX;
    }
    mlxr_kv_stats stats = mlxr_kv_stats_get(s->engine);
    uint64_t in_use = stats.bytes_used - stats.bytes_cached, page_bytes = memory_of_page(s, use->model);
    return in_use < stats.bytes_budget && page_bytes ? (stats.bytes_budget - in_use) / page_bytes : 0;
}

static void lay_out(scheduler *s, const model_use *use, plan *p)
{
    stalled_give_way(s);
    line_up(s, use, p);
    batch_limits limits = {
        .rows_max = s->options.rows_max, .pages_free = pages_free(s, use), .page_tokens = s->page_tokens};
    set_budget(s, use, p, &limits);
    p->batch = batcher_fill(&use->cost, &limits, s->items, p->n_decodes, s->items + p->n_decodes, p->n_prefills,
                            s->batch);
}

static void fill_slices(scheduler *s, const plan *p)
{
    for (uint32_t i = 0; i < p->batch.n_slices; i++) {
        uint32_t item = s->batch[i].item;
        const queue_entry *e = item < p->n_decodes ? &s->decodes[item] : &s->prefills[item - p->n_decodes];
        s->slice_lanes[i] = e->lane;
        s->slices[i] = (mlxr_slice){
            .sequence = s->lanes[e->lane].sequence, .n_compute = s->batch[i].n, .flags = MLXR_SLICE_NO_LOGITS};
    }
}

/* Of this thread; by the difference to the process's others can tell what all the rest costs. */
static uint64_t cpu_us(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
}

static mlxr_status run(scheduler *s, model_use *use, mlxr_slice *slices, uint32_t n, mlxr_error *error)
{
    uint64_t begin = scheduler_now_us(s), cpu_begin = cpu_us();
    mlxr_status status = mlxr_step(s->engine, slices, n, error);
    uint64_t us = scheduler_now_us(s) - begin;
    s->own.step_cpu_us += cpu_us() - cpu_begin;
    s->own.step_us += us;
    s->own.step_max_us = us > s->own.step_max_us ? us : s->own.step_max_us;
    s->own.n_steps++;
    s->own.n_steps_failed += status != MLXR_OK;
    use->served_us += (double)us + 1;
    return status;
}

/* Slice i has been computed. */
static void deliver(scheduler *s, uint32_t i, uint64_t now_us)
{
    lane *l = &s->lanes[s->slice_lanes[i]];
    l->waited = 0;
    if (mlxr_sequence_pending(l->sequence) == 1) {
        l->since_us = now_us;
    }
    lane_deliver(s, l, &s->slices[i]);
}

/* Learns from a step, given its rows as they were laid out. */
static void learn(scheduler *s, model_use *use, const plan *p, uint64_t us)
{
    cost_load load = {0};
    uint32_t n_decodes = 0;
    for (uint32_t i = 0; i < p->batch.n_slices; i++) {
        lane *l = &s->lanes[s->slice_lanes[i]];
        batch_item item = s->items[s->batch[i].item];
        if (l->r->ask.draft) {
            uint64_t n_drafted = mlxr_draft_stats_get(l->sequence).n_drafted;
            l->n_draft = (uint32_t)(n_drafted - l->n_drafted);
            l->n_drafted = n_drafted;
            item.n_draft = l->n_draft;
        }
        n_decodes += s->batch[i].item < p->n_decodes;
        batch_item_load(&item, s->batch[i].n, &load);
    }
    double error_us = p->batch.cost_us - (double)us;
    s->own.n_rows += (uint64_t)load.rows;
    s->own.predicted_us += p->batch.cost_us;
    s->own.error_us += error_us < 0 ? -error_us : error_us;
    cost_model_learn(&use->cost, &load, (double)us);
    if (n_decodes == p->batch.n_slices) {
        pace_alone(&use->pace, &load, (double)us);
    } else if (n_decodes) {
        pace_shared(&use->pace, p->batch.cost_us, (double)us);
    }
}

/* The step failed, and not for lack of pages: each slice on its own, so that only who is to blame ends. */
static void run_apart(scheduler *s, model_use *use, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mlxr_error error = {.text = ""};
        mlxr_status status = run(s, use, &s->slices[i], 1, &error);
        if (status == MLXR_OK) {
            deliver(s, i, scheduler_now_us(s));
        } else if (status != MLXR_KV_FULL) { /* that is for the next step to deal with */
            lane_finish(s, &s->lanes[s->slice_lanes[i]], SCHEDULER_FAILED, error.text);
        }
    }
}

/* Nobody else has pages to give: a chunk of one page, or the end. Returns false when the lane is gone. */
static bool make_small(scheduler *s, plan *p, const mlxr_error *error)
{
    mlxr_slice *slice = &s->slices[0];
    if (p->batch.n_slices > 1 || slice->n_compute > s->page_tokens) {
        slice->n_compute = slice->n_compute < s->page_tokens ? slice->n_compute : s->page_tokens;
        s->batch[0].n = slice->n_compute;
        p->batch.n_slices = 1;
        return true;
    }
    lane_finish(s, &s->lanes[s->slice_lanes[0]], SCHEDULER_FAILED, error->text);
    return false;
}

static void completed(scheduler *s, model_use *use, const plan *p, uint64_t us)
{
    learn(s, use, p, us);
    uint64_t now_us = scheduler_now_us(s);
    for (uint32_t i = 0; i < s->n_slots; i++) {
        lane *l = &s->lanes[i];
        l->waited += l->r && l->use == use && !l->paused && !l->stalled;
    }
    for (uint32_t i = 0; i < p->batch.n_slices; i++) {
        deliver(s, i, now_us);
    }
}

/* Lays a step out for pages that there are; false: nothing of this model is left to run. */
static bool prepare(scheduler *s, const model_use *use, plan *p)
{
    for (;;) {
        lay_out(s, use, p);
        if (p->batch.n_slices == 0) {
            uint32_t n_running;
            lane *victim = lane_victim(s, &n_running);
            if (p->n_decodes + p->n_prefills == 0) {
                return false;
            }
            if (n_running > 1) { /* prompts that wait for each other's pages */
                lane_preempt(s, victim);
                continue;
            }
            uint32_t pending = s->items[0].pending; /* alone: let the engine's own count decide */
            s->batch[0] = (batch_slice){0, pending < s->page_tokens ? pending : s->page_tokens};
            p->batch = (batch){.n_slices = 1, .load.rows = s->batch[0].n};
        }
        fill_slices(s, p);
        return true;
    }
}

void step_run(scheduler *s, model_use *use)
{
    plan p;
    bool ready = prepare(s, use, &p);
    while (ready) {
        mlxr_error error = {.text = ""};
        uint64_t step_us = s->own.step_us;
        mlxr_status status = run(s, use, s->slices, p.batch.n_slices, &error);
        if (status == MLXR_OK) {
            completed(s, use, &p, s->own.step_us - step_us);
            return;
        }
        if (status != MLXR_KV_FULL) {
            run_apart(s, use, p.batch.n_slices);
            return;
        }
        uint32_t n_running;
        lane *victim = lane_victim(s, &n_running);
        if (n_running > 1) {
            lane_preempt(s, victim);
            ready = prepare(s, use, &p);
        } else {
            ready = make_small(s, &p, &error);
        }
    }
}
