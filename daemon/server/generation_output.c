/*
 * The worker's side of a generation (tokens to deltas), the ring, and the loop's side of the ring.
 * Owner: the generation. Lifetime: from submission to its last record.
 *
 * The ring is a run of records: a head, its tokens, its bytes, filled up to 8 bytes. The loop takes all of it at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "server/generation_parts.h"

typedef enum record_type { RECORD_DELTA, RECORD_AGAIN, RECORD_FINISH } record_type;

typedef struct record {
    uint32_t n_bytes, n_token_bytes, n_tokens;
    uint16_t choice;
    uint8_t type;   /* record_type */
    uint8_t detail; /* DELTA, AGAIN: output_kind; FINISH: generation_finish */
} record;

typedef struct token_head { /* followed by its alternatives */
    int32_t id;
    float logprob;
    uint32_t n_top;
} token_head;

#define FILL(n) (((n) + 7u) & ~(size_t)7u)

static bool add(text_buffer *t, const void *data, size_t n)
{
    text_add(t, data, n);
    return !t->failed;
}

void generation_call_id(const generation *g, uint32_t choice, size_t index, char *out)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    struct {
        uint64_t id, start, choice, index;
    } place = {g->id, g->time.start_us, choice, index};
    uint64_t low = XXH3_64bits(&place, sizeof place), high = XXH3_64bits_withSeed(&place, sizeof place, 1);
    bool mistral = g->format.tools == TOOLS_MISTRAL; /* its template insists on nine letters */
    size_t n = mistral ? 9 : 20, at = mistral ? 0 : (size_t)snprintf(out, GENERATION_CALL_ID_MAX, "call_");
    for (size_t i = 0; i < n; i++) {
        uint64_t *from = i < 10 ? &low : &high;
        out[at++] = letters[*from % (sizeof letters - 1)];
        *from /= sizeof letters - 1;
    }
    out[at] = 0;
}

/* ---- the ring ---------------------------------------------------------------------------------------------------- */

/* Appends a record; false: no memory, and the choice must end. */
static bool push(generation *g, const record *head, const text_buffer *tokens, const void *bytes)
{
    static const char zeros[8];
    pthread_mutex_lock(&g->lock);
    size_t before = g->ring.n;
    bool ok = add(&g->ring, head, sizeof *head) && add(&g->ring, tokens ? tokens->data : NULL, head->n_token_bytes) &&
              add(&g->ring, bytes, head->n_bytes) && add(&g->ring, zeros, FILL(g->ring.n) - g->ring.n);
    if (!ok) { /* none of it is there, and what is less may fit */
        g->ring.n = before;
        g->ring.failed = false;
    }
    pthread_mutex_unlock(&g->lock);
    return ok;
}

static bool push_delta(generation_choice *c, output_kind kind, const char *bytes, size_t n)
{
    record head = {.n_bytes = (uint32_t)n,
                   .n_token_bytes = (uint32_t)c->pending.n,
                   .n_tokens = c->n_pending,
                   .choice = (uint16_t)c->index,
                   .type = c->again ? RECORD_AGAIN : RECORD_DELTA,
                   .detail = (uint8_t)kind};
    bool ok = push(c->g, &head, &c->pending, bytes);
    c->pending.n = 0;
    c->n_pending = 0;
    return ok;
}

/* ---- the worker's thread ----------------------------------------------------------------------------------------- */

/* Keeps the answer as a client will send it back. */
static void keep_answer(generation_choice *c, output_kind kind, const char *bytes, size_t n)
{
    if (kind == OUTPUT_TEXT) {
        add(&c->text, bytes, n);
    } else if (kind == OUTPUT_REASONING) {
        add(&c->reasoning, bytes, n);
    } else if (kind == OUTPUT_TOOL_BEGIN) {
        char id[GENERATION_CALL_ID_MAX];
        c->calls = c->calls ? c->calls : json_array();
        generation_call_id(c->g, c->index, json_array_size(c->calls), id);
        json_array_append_new(
            c->calls, json_pack("{s:s, s:s, s:{s:s%}}", "id", id, "type", "function", "function", "name", bytes, n));
    } else if (kind == OUTPUT_TOOL_ARGS) {
        json_t *call = json_array_get(c->calls, json_array_size(c->calls) - 1);
        json_t *arguments = json_loadb(bytes, n, 0, NULL);
        json_object_set_new(json_object_get(call, "function"), "arguments", arguments ? arguments : json_object());
    }
}

static void on_output(void *user, output_kind kind, const char *bytes, size_t n)
{
    generation_choice *c = user;
    if (c->index == 0) {
        keep_answer(c, kind, bytes, n);
    }
    push_delta(c, kind, bytes, n);
}

static mlxr_status open_stream(generation_choice *c, mlxr_error *error)
{
    const request_fields *f = &c->g->r.f;
    mlxr_stream_close(&c->stream);
    return mlxr_stream_open(&c->stream, c->g->model, f->stops.items, f->stops.n, error);
}

void generation_choices_close(generation *g)
{
    for (uint32_t i = 0; g->choices && i < g->r.f.n_choices; i++) {
        generation_choice *c = &g->choices[i];
        mlxr_stream_close(&c->stream);
        output_parser_close(&c->parser);
        free(c->tail.data);
        free(c->ids);
        free(c->pending.data);
        free(c->text.data);
        free(c->reasoning.data);
        json_decref(c->calls);
    }
    free(g->choices);
    g->choices = NULL;
}

static bool keep_token(generation_choice *c, const mlxr_sampled *sampled)
{
    if (c->n_ids == c->cap_ids) {
        size_t cap = c->cap_ids ? c->cap_ids * 2 : 64;
        int32_t *grown = realloc(c->ids, cap * sizeof *grown);
        if (!grown) {
            return false;
        }
        c->ids = grown;
        c->cap_ids = cap;
    }
    c->ids[c->n_ids++] = sampled->id;
    bool told = c->g->r.f.sampling.logprobs || c->g->r.tell_tokens;
    if (told && !c->again && (c->g->r.token_ids || !mlxr_token_is_end(c->g->model, sampled->id))) {
        token_head head = {.id = sampled->id, .logprob = sampled->logprob, .n_top = sampled->n_top};
        c->n_pending++;
        return add(&c->pending, &head, sizeof head) &&
               add(&c->pending, sampled->top, sampled->n_top * sizeof *sampled->top);
    }
    return true;
}

/* Which of the stop strings was met: the longest that the last bytes hold. */
static const char *find_stop(const generation_choice *c)
{
    const text_list *stops = &c->g->r.f.stops;
    const char *best = NULL;
    for (size_t i = 0; c->tail.data && i < stops->n; i++) {
        size_t n = strlen(stops->items[i]);
        if ((!best || n > strlen(best)) && memmem(c->tail.data, c->tail.n, stops->items[i], n)) {
            best = stops->items[i];
        }
    }
    return best;
}

static void keep_tail(generation_choice *c, int32_t id)
{
    size_t n = 0, most = 0;
    const char *piece = mlxr_token_text(c->g->model, id, &n);
    for (size_t i = 0; i < c->g->r.f.stops.n; i++) {
        size_t n_stop = strlen(c->g->r.f.stops.items[i]);
        most = n_stop > most ? n_stop : most;
    }
    if (most == 0 || !piece) {
        return;
    }
    if (c->tail.n > 2 * most) {
        memmove(c->tail.data, c->tail.data + c->tail.n - most, most);
        c->tail.n = most;
    }
    add(&c->tail, piece, n);
}

/* Text that was held back for stop strings comes before a marker. */
static bool take_marker(generation_choice *c, int marker)
{
    const char *text;
    size_t n = 0;
    mlxr_error error;
    if (mlxr_stream_finish(c->stream, &text, &n, &error) != MLXR_OK) {
        return false;
    }
    output_parser_text(c->parser, text, n);
    output_parser_marker(c->parser, marker);
    return open_stream(c, &error) == MLXR_OK;
}

/* The calls that are wanted are there. A single forced one ends by its grammar, with the tokens that belong to it. */
static bool has_its_calls(const generation_choice *c)
{
    return output_parser_repeats(c->parser) ||
           (c->g->r.single_call && !c->g->prompt.forced && output_parser_calls(c->parser) > 0);
}

/* Takes in a token; false: the choice ends here. */
static bool take(generation_choice *c, const mlxr_sampled *sampled)
{
    generation *g = c->g;
    const char *text;
    size_t n = 0;
    bool stopped = false;
    mlxr_error error;
    if (!keep_token(c, sampled)) {
        return false;
    }
    if (mlxr_token_is_end(g->model, sampled->id)) {
        return true;
    }
    c->n_reasoning += output_parser_reasons(c->parser);
    int marker = g->r.plain_output ? -1 : output_format_marker(&g->format, sampled->id);
    if (marker >= 0) {
        bool ok = take_marker(c, marker);
        return ok && !has_its_calls(c);
    }
    keep_tail(c, sampled->id);
    if (mlxr_stream_push(c->stream, sampled->id, &text, &n, &stopped, &error) != MLXR_OK) {
        return false;
    }
    output_parser_text(c->parser, text, n);
    if (stopped) {
        c->stop = find_stop(c);
    }
    return !stopped && !output_parser_failed(c->parser) && !has_its_calls(c);
}

/* Takes in the answer so far, so that stream and parser are where they were when it was interrupted. */
static mlxr_status answer_again(generation_choice *c, const chat_request *r, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    c->again = true;
    for (size_t i = 0; i < r->n_answer && status == MLXR_OK; i++) {
        mlxr_sampled sampled = {.id = r->answer[i]};
        if (!take(c, &sampled)) { /* it had ended there, and goes on behind it */
            c->g->answer_cut = c->g->answer_cut || c->stop;
            c->stop = NULL;
            status = open_stream(c, error);
        }
    }
    c->again = false;
    c->n_reasoning = 0;
    if (status == MLXR_OK && (c->n_ids != r->n_answer || output_parser_failed(c->parser))) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        status = MLXR_NOMEM;
    }
    return status;
}

mlxr_status generation_choices_open(generation *g, mlxr_error *error)
{
    const chat_request *r = &g->r;
    g->choices = calloc(r->f.n_choices, sizeof *g->choices);
    if (!g->choices) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return MLXR_NOMEM;
    }
    mlxr_status status = MLXR_OK;
    for (uint32_t i = 0; i < r->f.n_choices && status == MLXR_OK; i++) {
        generation_choice *c = &g->choices[i];
        *c = (generation_choice){.g = g, .index = i};
        output_options options = {.format = &g->format,
                                  .tools = r->tools,
                                  .opened = g->prompt.opened,
                                  .single_call = r->single_call,
                                  .forced = g->prompt.forced,
                                  .raw = r->plain_output || !r->messages,
                                  .sink = on_output,
                                  .user = c};
        status = output_parser_open(&c->parser, &options, error);
        if (status == MLXR_OK) {
            status = open_stream(c, error);
        }
        if (status == MLXR_OK && r->n_answer) {
            status = answer_again(c, r, error);
        }
    }
    return status;
}

static generation_finish reason_of(const generation_choice *c, scheduler_finish finish)
{
    if (finish == SCHEDULER_LENGTH || finish == SCHEDULER_CONTEXT) {
        return GENERATION_LENGTH;
    }
    if (output_parser_calls(c->parser) > 0) {
        return GENERATION_CALLS;
    }
    return c->stop ? GENERATION_STOP_STRING : GENERATION_STOP;
}

static bool is_failure(scheduler_finish finish)
{
    return finish == SCHEDULER_FAILED || finish == SCHEDULER_CANCELLED || finish == SCHEDULER_DEADLINE ||
           finish == SCHEDULER_SHUTDOWN;
}

static void end_choice(generation_choice *c, const scheduler_event *event)
{
    generation *g = c->g;
    const char *text;
    size_t n = 0;
    mlxr_error error;
    c->ended = true;
    if (is_failure(event->finish)) {
        if (!g->choice_failed) {
            g->choice_failed = true;
            g->failure = event->finish;
            snprintf(g->message, sizeof g->message, "%s", event->error ? event->error : "");
        }
        return;
    }
    if (mlxr_stream_finish(c->stream, &text, &n, &error) == MLXR_OK) {
        output_parser_text(c->parser, text, n);
    }
    output_parser_finish(c->parser);
    const char *stop = c->stop ? c->stop : "";
    record head = {.n_bytes = (uint32_t)strlen(stop) + 1,
                   .n_token_bytes = 0,
                   .choice = (uint16_t)c->index,
                   .type = RECORD_FINISH,
                   .detail = (uint8_t)reason_of(c, event->finish)};
    if (c->n_pending > 0) {
        push_delta(c, OUTPUT_TEXT, "", 0);
    }
    push(g, &head, NULL, stop);
}

static void end_all(generation *g, const scheduler_event *event)
{
    g->n_prompt = event->n_prompt;
    g->n_cached = event->n_cached;
    snprintf(g->miss, sizeof g->miss, "%s", event->miss ? event->miss : "");
    g->time.end_us = scheduler_now_us(worker_scheduler(g->d->worker));
    for (uint32_t i = 0; i < g->r.f.n_choices; i++) {
        g->n_answer += g->choices[i].n_ids - g->r.n_answer;
        g->n_reasoning += g->choices[i].n_reasoning;
    }
}

bool generation_on_event(void *user, const scheduler_event *event)
{
    generation *g = user;
    generation_choice *c = &g->choices[event->choice];
    bool more = true;
    if (event->n_sampled > 0 && g->time.first_us == 0) {
        g->time.first_us = scheduler_now_us(worker_scheduler(g->d->worker));
    }
    for (uint32_t i = 0; more && !c->ended && i < event->n_sampled; i++) {
        more = take(c, &event->sampled[i]);
    }
    if (c->n_pending > 0 && more) {
        push_delta(c, OUTPUT_TEXT, "", 0);
    }
    if (event->finish != SCHEDULER_RUNNING) {
        end_choice(c, event);
    }
    more = more && !atomic_load_explicit(&g->cancelled, memory_order_relaxed);
    if (event->last) {
        end_all(g, event);
        http_post_task(g->d->http, &g->last_task); /* from here on `g` is the loop's */
    } else {
        generation_wake(g);
    }
    return more;
}

/* ---- the loop's thread ------------------------------------------------------------------------------------------- */

typedef struct ring_reader {
    const char *at, *end;
    generation_token *tokens; /* [cap] */
    size_t cap;
} ring_reader;

/* Tokens of a record as an array; false: no memory, then they are left out. */
static uint32_t read_tokens(ring_reader *r, const char *at, uint32_t n)
{
    if (n > r->cap) {
        generation_token *grown = realloc(r->tokens, n * sizeof *grown);
        if (!grown) {
            return 0;
        }
        r->tokens = grown;
        r->cap = n;
    }
    for (uint32_t i = 0; i < n; i++) {
        const token_head *head = (const void *)at;
        const mlxr_token_logprob *top = (const void *)(at + sizeof *head);
        r->tokens[i] = (generation_token){.id = head->id, .logprob = head->logprob, .top = top, .n_top = head->n_top};
        at += sizeof *head + head->n_top * sizeof *top;
    }
    return n;
}

static void hand_out(generation *g, ring_reader *r, const record *head, const char *body)
{
    const generation_callbacks *to = g->job.callbacks;
    const char *bytes = body + head->n_token_bytes;
    if (head->type == RECORD_DELTA || head->type == RECORD_AGAIN) {
        uint32_t n_tokens = read_tokens(r, body, head->n_tokens);
        generation_delta delta = {.choice = head->choice,
                                  .kind = (output_kind)head->detail,
                                  .again = head->type == RECORD_AGAIN,
                                  .bytes = bytes,
                                  .n = head->n_bytes,
                                  .tokens = r->tokens,
                                  .n_tokens = n_tokens};
        to->on_delta(g->job.user, &delta);
    } else if (head->type == RECORD_FINISH) {
        generation_finish reason = (generation_finish)head->detail;
        to->on_finish(g->job.user, head->choice, reason, reason == GENERATION_STOP_STRING ? bytes : NULL);
    }
}

bool generation_drain(generation *g)
{
    pthread_mutex_lock(&g->lock);
    text_buffer taken = g->ring;
    g->ring = taken.n ? (text_buffer){0} : taken;
    pthread_mutex_unlock(&g->lock);
    if (taken.n == 0) {
        return true;
    }
    ring_reader r = {.at = taken.data, .end = taken.data + taken.n};
    while (r.at < r.end && !(g->paused && !g->over)) {
        const record *head = (const void *)r.at;
        size_t n = FILL(sizeof *head + head->n_token_bytes + head->n_bytes);
        if (!g->over && !g->choice_failed) {
            hand_out(g, &r, head, r.at + sizeof *head);
        }
        r.at += n;
    }
    if (r.at < r.end) { /* paused: what is left goes back before what came meanwhile */
        text_buffer rest = {0};
        pthread_mutex_lock(&g->lock);
        if (add(&rest, r.at, (size_t)(r.end - r.at)) && add(&rest, g->ring.data, g->ring.n)) {
            free(g->ring.data);
            g->ring = rest;
        }
        pthread_mutex_unlock(&g->lock);
    }
    bool all = r.at == r.end;
    free(r.tokens);
    free(taken.data);
    return all;
}

const int32_t *generation_ids(const generation *g, uint32_t choice, size_t *n)
{
    *n = g->choices[choice].n_ids;
    return g->choices[choice].ids;
}

void generation_wake(generation *g)
{
    struct generations *gs = g->gs;
    pthread_mutex_lock(&gs->lock);
    bool post = false;
    if (!g->queued) {
        g->queued = true;
        g->next_ready = gs->ready;
        gs->ready = g;
        post = !gs->posted;
        gs->posted = true;
    }
    pthread_mutex_unlock(&gs->lock);
    if (post) {
        http_post_task(gs->d->http, &gs->task);
    }
}
