/*
 * Lanes: starting, forking, pre-empting and ending the sequences of a scheduler, and telling their callers.
 * Owner: the scheduler. Lifetime: a lane lives from admission to its choice's last event.
 */
#include "scheduler/lanes.h"

#include <string.h>

#include "mlxr_grammar.h"

static const char *const miss_names[SCHEDULER_N_MISSES] = {"none", "new", "evicted", "rejected", "no-room", "off"};

const char *scheduler_miss_name(uint32_t index)
{
    return index < SCHEDULER_N_MISSES ? miss_names[index] : NULL;
}

/* As finished_reason of the metrics, whose first four are vLLM's. */
static const char *reason_of(scheduler_finish finish)
{
    static const char *const reasons[SCHEDULER_N_FINISHES] = {
        [SCHEDULER_END] = "stop",        [SCHEDULER_STOPPED] = "stop",     [SCHEDULER_LENGTH] = "length",
        [SCHEDULER_CANCELLED] = "abort", [SCHEDULER_SHUTDOWN] = "abort",   [SCHEDULER_FAILED] = "error",
        [SCHEDULER_CONTEXT] = "context", [SCHEDULER_DEADLINE] = "deadline"};
    return reasons[finish];
}

static void measure(request *r, const scheduler_event *event, uint64_t now_us)
{
    choice_meter *choice = &r->choices[event->choice];
    request_meter_tokens(&r->meter, choice, event->n_sampled, now_us);
    if (event->finish != SCHEDULER_RUNNING) {
        request_meter_choice_end(&r->meter, choice, reason_of(event->finish));
    }
    if (event->last) {
        request_meter_end(&r->meter, now_us);
    }
}

/* Calls back, with no lock held; the time it takes is not the scheduler's own. */
static bool tell(scheduler *s, request *r, scheduler_event *event)
{
    event->request = r->id;
    event->n_prompt = r->ask.n_tokens;
    event->n_cached = r->n_cached;
    event->miss = r->miss;
    uint64_t begin = scheduler_now_us(s);
    measure(r, event, begin);
    bool more = r->ask.on_event(r->ask.user, event);
    s->callback_us += scheduler_now_us(s) - begin;
    return more;
}

static void unlist(scheduler *s, request *r)
{
    pthread_mutex_lock(&s->lock);
    *(r->previous ? &r->previous->next : &s->live) = r->next;
    if (r->next) {
        r->next->previous = r->previous;
    }
    s->n_live--;
    pthread_mutex_unlock(&s->lock);
}

/* The last event of a choice, with the tokens that led to it. Frees the request with its last choice. */
static void end_choice(scheduler *s, request *r, scheduler_event *event)
{
    event->last = --r->n_open == 0;
    s->own.n_finished[event->finish]++;
    if (event->last) { /* before the caller hears of it, who may unload the model, stop the worker, ask for counts */
        unlist(s, r);
        scheduler_publish(s);
    }
    tell(s, r, event);
    if (event->last) {
        request_close(&r);
    }
}

void request_finish(scheduler *s, request *r, scheduler_finish finish, const char *error)
{
    for (uint32_t i = 0, n = r->n_open; i < n; i++) { /* with the last one the request is gone */
        end_choice(s, r, &(scheduler_event){.choice = i, .finish = finish, .error = error});
    }
}

/* What is known of the model; the slot of one that nobody uses may go to another. */
static model_use *use_of(scheduler *s, mlxr_model *model)
{
    model_use *found = NULL, *unused = NULL;
    double least_us = -1;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        model_use *use = &s->uses[i];
        if (use->model == model) {
            found = use;
        } else if (use->n_lanes) {
            least_us = least_us < 0 || use->served_us < least_us ? use->served_us : least_us;
        } else if (!unused || (unused->model && !use->model)) {
            unused = use;
        }
    }
    if (!found) { /* there are as many slots as lanes, and this lane has none yet */
        found = unused;
        *found = (model_use){.model = model};
        cost_model_init(&found->cost, mlxr_model_info_get(model));
    }
    if (found->n_lanes == 0 && found->served_us < least_us) {
        found->served_us = least_us; /* not asking earns nothing */
    }
    return found;
}

static lane *free_lane(scheduler *s)
{
    for (uint32_t i = 0; i < s->n_slots; i++) {
        if (!s->lanes[i].r) {
            return &s->lanes[i];
        }
    }
    return NULL; /* admission counts lanes, forks to come included */
}

static mlxr_status constrain(scheduler *s, const request *r, mlxr_sequence *sequence, mlxr_error *error)
{
    if (!r->ask.grammar) {
        return MLXR_OK;
    }
    mlxr_grammar *grammar = NULL;
    size_t n = strlen(r->ask.grammar);
    uint64_t n_found = mlxr_grammar_stats_get(r->ask.model).n_found;
    mlxr_status status = r->ask.grammar_is_schema
                             ? mlxr_grammar_open_schema(&grammar, r->ask.model, r->ask.grammar, n, error)
                             : mlxr_grammar_open_gbnf(&grammar, r->ask.model, r->ask.grammar, n, error);
    s->own.n_grammars++;
    s->own.n_grammars_found += mlxr_grammar_stats_get(r->ask.model).n_found - n_found;
    if (status == MLXR_OK) {
        status = mlxr_sequence_constrain_behind(sequence, grammar, r->ask.n_given, error);
        mlxr_grammar_close(&grammar);
    }
    return status;
}

mlxr_status scheduler_sequence_open(mlxr_sequence **out, mlxr_model *model, const mlxr_adapter_path *adapters,
                                    size_t n_adapters, const mlxr_sampling *sampling, mlxr_error *error)
{
    mlxr_model *adapted = NULL;
    mlxr_status status = n_adapters ? mlxr_model_with(&adapted, model, adapters, n_adapters, error) : MLXR_OK;
    if (status == MLXR_OK) {
        status = mlxr_sequence_open(out, adapted ? adapted : model, sampling, error);
    }
    mlxr_model_unref(&adapted); /* the sequence has it */
    return status;
}

static mlxr_status open_sequence(scheduler *s, mlxr_sequence **out, const request *r, mlxr_error *error)
{
    mlxr_sequence *sequence = NULL;
    mlxr_status status = scheduler_sequence_open(&sequence, r->ask.model, r->ask.adapters, r->ask.n_adapters,
                                                 &r->sampling, error);
    if (status == MLXR_OK && r->ask.draft) {
        status = r->ask.draft_mtp ? mlxr_sequence_draft_mtp(sequence, r->ask.n_draft_max, error)
                                  : mlxr_sequence_draft(sequence, r->ask.draft_model, r->ask.n_draft_max, error);
    }
    if (status == MLXR_OK) {
        status = mlxr_sequence_append(sequence, r->ask.tokens, r->ask.n_tokens, error);
    }
    if (status == MLXR_OK) {
        status = constrain(s, r, sequence, error);
    }
    if (status != MLXR_OK) {
        mlxr_sequence_close(&sequence);
        return status;
    }
    *out = sequence;
    return MLXR_OK;
}

static lane *place(scheduler *s, request *r, uint32_t choice, mlxr_sequence *sequence, uint64_t since_us)
{
    lane *l = free_lane(s);
    *l = (lane){.r = r,
                .choice = choice,
                .sequence = sequence,
                .use = use_of(s, r->ask.model),
                .order = s->next_order++,
                .since_us = since_us};
    l->use->n_lanes++;
    s->n_lanes++;
    return l;
}

void lane_start(scheduler *s, request *r, uint64_t now_us)
{
    mlxr_error error = {.text = ""};
    mlxr_sequence *sequence = NULL;
    s->own.n_admitted++;
    s->own.waited_us += now_us > r->arrived_us ? now_us - r->arrived_us : 0;
    s->own.n_prompt_tokens += r->ask.n_tokens;
    if (open_sequence(s, &sequence, r, &error) != MLXR_OK) {
        request_finish(s, r, SCHEDULER_FAILED, error.text);
        return;
    }
    r->n_cached = mlxr_sequence_cached(sequence);
    r->miss = mlxr_sequence_miss(sequence);
    s->own.n_cached_tokens += r->n_cached;
    request_meter_prompt(&r->meter, r->ask.n_tokens, r->n_cached, now_us);
    for (uint32_t i = 0; i < SCHEDULER_N_MISSES; i++) {
        s->own.n_misses[i] += strcmp(r->miss, miss_names[i]) == 0;
    }
    lane *l = place(s, r, 0, sequence, now_us);
    l->forks = r->ask.n_choices > 1;
    s->n_forks_due += r->ask.n_choices - 1;
}

void lane_fork(scheduler *s, lane *l)
{
    request *r = l->r;
    l->forks = false;
    s->n_forks_due -= r->ask.n_choices - 1;
    for (uint32_t i = 1; i < r->ask.n_choices; i++) {
        mlxr_error error = {.text = ""};
        mlxr_sequence *copy = NULL;
        mlxr_sampling sampling = r->sampling;
        sampling.seed += sampling.seed ? i : 0;
        if (mlxr_sequence_fork(&copy, l->sequence, &sampling, &error) == MLXR_OK) {
            place(s, r, i, copy, l->since_us);
            s->own.n_forked++;
        } else { /* choice 0 goes on, so the request does not end here */
            end_choice(s, r, &(scheduler_event){.choice = i, .finish = SCHEDULER_FAILED, .error = error.text});
        }
    }
}

/* Frees the lane; its sequence and its request stay. */
static void clear_lane(scheduler *s, lane *l)
{
    if (l->forks) {
        s->n_forks_due -= l->r->ask.n_choices - 1;
    }
    s->n_paused -= l->paused;
    s->n_stalled -= l->stalled;
    s->n_lanes--;
    l->use->n_lanes--;
    *l = (lane){0};
}

/* Adds what drafts came to in a sequence that ends. */
static void count_drafts(scheduler *s, const mlxr_sequence *sequence)
{
    mlxr_draft_stats d = mlxr_draft_stats_get(sequence), *sum = &s->own.drafts;
    sum->n_steps += d.n_steps;
    double share = sum->n_steps ? (double)d.n_steps / (double)sum->n_steps : 0;
    sum->acceptance += share * (d.acceptance - sum->acceptance);
    sum->row_cost += share * (d.row_cost - sum->row_cost);
    sum->n_drafting_steps += d.n_drafting_steps;
    sum->n_drafted += d.n_drafted;
    sum->n_accepted += d.n_accepted;
    for (size_t i = 0; i < sizeof d.drafted_at / sizeof *d.drafted_at; i++) {
        sum->drafted_at[i] += d.drafted_at[i];
        sum->accepted_at[i] += d.accepted_at[i];
    }
}

/* Ends the lane's choice, and those it would have been forked into. */
static void finish_with(scheduler *s, lane *l, scheduler_event *event)
{
    request *r = l->r;
    if (r->ask.draft) {
        count_drafts(s, l->sequence);
    }
    bool forks = l->forks;
    uint32_t n_choices = r->ask.n_choices;
    mlxr_sequence *sequence = l->sequence; /* what was sampled lies in it: it goes after the event */
    clear_lane(s, l);
    end_choice(s, r, event);
    mlxr_sequence_close(&sequence);
    for (uint32_t i = 1; forks && i < n_choices; i++) {
        end_choice(s, r, &(scheduler_event){.choice = i, .finish = event->finish, .error = event->error});
    }
}

void lane_finish(scheduler *s, lane *l, scheduler_finish finish, const char *error)
{
    finish_with(s, l, &(scheduler_event){.choice = l->choice, .finish = finish, .error = error});
}

void lane_deliver(scheduler *s, lane *l, const mlxr_slice *slice)
{
    if (slice->n_sampled == 0) {
        return;
    }
    const scheduler_request *ask = &l->r->ask;
    scheduler_event event = {.choice = l->choice, .sampled = slice->sampled};
    while (event.n_sampled < slice->n_sampled && event.finish == SCHEDULER_RUNNING) {
        int32_t id = slice->sampled[event.n_sampled++].id;
        l->n_sampled++;
        if (!ask->ignore_end && mlxr_token_is_end(ask->model, id)) {
            event.finish = SCHEDULER_END;
        } else if (ask->max_tokens && l->n_sampled >= ask->max_tokens) {
            event.finish = SCHEDULER_LENGTH;
        }
    }
    s->own.n_sampled += event.n_sampled;
    if (event.finish == SCHEDULER_RUNNING && mlxr_sequence_pending(l->sequence) == 0) {
        event.finish = SCHEDULER_CONTEXT;
    }
    if (event.finish != SCHEDULER_RUNNING) {
        finish_with(s, l, &event);
    } else if (!tell(s, l->r, &event)) {
        lane_finish(s, l, SCHEDULER_STOPPED, NULL);
    }
}

void lane_preempt(scheduler *s, lane *l)
{
    mlxr_sequence_release(l->sequence);
    l->paused = true;
    s->n_paused++;
    s->own.n_preempted++;
}

void lane_resume(scheduler *s, lane *l, uint64_t now_us)
{
    mlxr_sequence_resume(l->sequence);
    l->paused = false;
    l->since_us = now_us;
    l->waited = 0;
    s->n_paused--;
    s->own.n_resumed++;
}

bool lane_unread(const lane *l)
{
    return l->r && atomic_load_explicit(&l->r->stalled, memory_order_relaxed);
}

lane *lane_back(const scheduler *s)
{
    lane *first = NULL;
    for (uint32_t i = 0; s->n_stalled && i < s->n_slots; i++) {
        lane *l = &s->lanes[i];
        if (l->stalled && !lane_unread(l) && (!first || l->order < first->order)) {
            first = l;
        }
    }
    return first;
}

/* Does a give its pages back before b? */
static bool yields_before(const lane *a, const lane *b)
{
    if (a->stalled != b->stalled) {
        return a->stalled;
    }
    if (a->r->ask.priority != b->r->ask.priority) {
        return a->r->ask.priority < b->r->ask.priority;
    }
    return a->order > b->order;
}

lane *lane_victim(scheduler *s, uint32_t *n_running)
{
    lane *victim = NULL;
    *n_running = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        lane *l = &s->lanes[i];
        if (!l->r || l->paused) {
            continue;
        }
        ++*n_running;
        if (!victim || yields_before(l, victim)) {
            victim = l;
        }
    }
    return victim;
}
