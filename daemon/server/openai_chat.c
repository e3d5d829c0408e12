/*
 * /v1/chat/completions, /v1/completions and /infill: answers whole and streamed.
 * Owner: an answer belongs to its exchange and its generations together, and is freed when all of them have ended.
 * Lifetime: from the handler to the last `gone` or `released`.
 *
 *   handler ─▶ a generation for each prompt ─▶ deltas ─┬─ stream: an event each, then finish, usage, [DONE]
 *                                                      └─ whole: collected by choice, answered when all are done
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/errors.h"
#include "server/openai_parts.h"
#include "server/sse.h"

#define PROMPTS_MAX 64u

typedef struct openai_choice { /* what a whole answer collects */
    text_buffer bytes, thought;
    json_t *calls, *logprobs;
    size_t text_offset;
    const char *finish;
    json_t *ids; /* NULL: not asked for */
    bool told_role;
    size_t n_calls;
} openai_choice;

typedef struct openai_part { /* one prompt's generation */
    struct openai_answer *a;
    generation *g; /* NULL: not started, or ended */
    uint32_t first_choice;
    bool stream, include_usage, wants_echo; /* the same in all parts; the pool's until on_start */
    char *echo; /* the prompt, to be repeated before its answers; NULL: it is not asked for */
} openai_part;

typedef struct openai_answer {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    bool chat, infill, begun, failed;
    bool stream, include_usage; /* from the first on_start on */
    char id[64], model[256];
    json_int_t created;
    openai_part parts[PROMPTS_MAX];
    uint32_t n_parts, n_live, n_done; /* live: not released */
    openai_choice *choices;
    uint32_t n_choices, n_each, n_finished;
    json_t
        *last; /* of a stream: the finish of the choice that ended last, which goes out with [DONE]; NULL: none yet */
    json_t *warnings;
    generation_usage usage; /* summed */
} openai_answer;

static void free_answer(openai_answer *a)
{
    if (a->x || a->n_live > 0) {
        return;
    }
    for (uint32_t i = 0; i < a->n_choices; i++) {
        openai_choice *c = &a->choices[i];
        text_buffer_close(&c->bytes);
        text_buffer_close(&c->thought);
        json_decref(c->calls);
        json_decref(c->logprobs);
        json_decref(c->ids);
    }
    for (uint32_t i = 0; i < a->n_parts; i++) {
        free(a->parts[i].echo);
    }
    free(a->choices);
    json_decref(a->last);
    json_decref(a->warnings);
    free(a);
}

static void cancel_parts(openai_answer *a)
{
    for (uint32_t i = 0; i < a->n_parts; i++) {
        generation_drop(&a->parts[i].g);
    }
}

static void on_gone(void *user)
{
    openai_answer *a = user;
    a->x = NULL;
    cancel_parts(a);
    free_answer(a);
}

static void on_drain(void *user)
{
    openai_answer *a = user;
    for (uint32_t i = 0; i < a->n_parts; i++) {
        if (a->parts[i].g) {
            generation_resume(a->parts[i].g);
        }
    }
}

static void on_released(void *user)
{
    openai_part *part = user;
    openai_answer *a = part->a;
    a->n_live--;
    free_answer(a);
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

static json_t *head_of(const openai_answer *a, const char *object)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", a->id, "object", object, "created", a->created, "model",
                     a->model, "system_fingerprint", "mlxr-" MLXR_VERSION);
}

static void add_warnings(const openai_answer *a, json_t *body)
{
    if (json_array_size(a->warnings) > 0) {
        json_object_set(body, "warnings", a->warnings);
    }
}

static void pause_if_full(openai_answer *a)
{
    if (a->x && http_stream_buffered(a->x) > HTTP_BUFFER_MAX) {
        for (uint32_t i = 0; i < a->n_parts; i++) {
            if (a->parts[i].g) {
                generation_pause(a->parts[i].g);
            }
        }
    }
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

/* An event with one choice; takes what it is given. */
static void send_choice(openai_answer *a, json_t *choice, bool last)
{
    json_t *event = head_of(a, a->chat ? "chat.completion.chunk" : "text_completion");
    json_object_set_new(event, "choices", json_pack("[o]", choice));
    if (a->include_usage) {
        json_object_set_new(event, "usage", json_null());
    }
    if (last) {
        add_warnings(a, event);
    }
    if (a->x) {
        sse_write_json(a->x, NULL, event);
        pause_if_full(a);
    } else {
        json_decref(event);
    }
}

static json_t *choice_event(const openai_answer *a, uint32_t index, json_t *what, json_t *logprobs)
{
    return json_pack("{s:I, s:o, s:o, s:n}", "index", (json_int_t)index, a->chat ? "delta" : "text", what, "logprobs",
                     logprobs ? logprobs : json_null(), "finish_reason");
}

static void begin_stream(openai_answer *a)
{
    if (!a->begun && a->x) {
        a->begun = true;
        http_on_drain(a->x, on_drain, a);
        sse_begin(a->x);
    }
}

/* The first event of a choice: its role, or the prompt it repeats. */
static void open_choice(openai_answer *a, uint32_t index)
{
    openai_choice *c = &a->choices[index];
    begin_stream(a);
    if (c->told_role) {
        return;
    }
    c->told_role = true;
    if (a->chat) {
        send_choice(a, choice_event(a, index, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL),
                    false);
    } else if (a->parts[index / a->n_each].echo) {
        send_choice(a, choice_event(a, index, json_string(a->parts[index / a->n_each].echo), NULL), false);
    }
}

static json_t *delta_json(const openai_answer *a, openai_choice *c, const generation *g, const generation_delta *d)
{
    char id[GENERATION_CALL_ID_MAX];
    switch (d->kind) {
    case OUTPUT_TEXT:
        return a->chat ? json_pack("{s:s%}", "content", d->bytes, d->n) : json_stringn(d->bytes, d->n);
    case OUTPUT_REASONING:
        return json_pack("{s:s%}", "reasoning_content", d->bytes, d->n);
    case OUTPUT_TOOL_BEGIN:
        generation_call_id(g, d->choice, c->n_calls, id);
        return json_pack("{s:[{s:I, s:s, s:s, s:{s:s%, s:s}}]}", "tool_calls", "index", (json_int_t)c->n_calls, "id",
                         id, "type", "function", "function", "name", d->bytes, d->n, "arguments", "");
    case OUTPUT_TOOL_ARGS:
        return json_pack("{s:[{s:I, s:{s:s%}}]}", "tool_calls", "index", (json_int_t)c->n_calls, "function",
                         "arguments", d->bytes, d->n);
    default:
        return NULL;
    }
}

static json_t *logprobs_of(const openai_answer *a, openai_choice *c, const generation *g, const generation_delta *d)
{
    if (d->n_tokens == 0) {
        return NULL;
    }
    if (a->chat) {
        return openai_logprobs(generation_model(g), d->tokens, d->n_tokens);
    }
    json_t *legacy = json_object();
    openai_legacy_logprobs(legacy, generation_model(g), d->tokens, d->n_tokens, &c->text_offset);
    return legacy;
}

static void stream_delta(openai_answer *a, openai_choice *c, uint32_t index, const generation *g,
                         const generation_delta *d)
{
    if (d->kind == OUTPUT_TOOL_END) {
        c->n_calls++;
        return;
    }
    open_choice(a, index);
    send_choice(a, choice_event(a, index, delta_json(a, c, g, d), logprobs_of(a, c, g, d)), false);
}

/* ---- whole answers ----------------------------------------------------------------------------------------------- */

static void collect_logprobs(const openai_answer *a, openai_choice *c, const generation *g, const generation_delta *d)
{
    if (d->n_tokens == 0) {
        return;
    }
    if (!a->chat) {
        c->logprobs = c->logprobs ? c->logprobs : json_object();
        openai_legacy_logprobs(c->logprobs, generation_model(g), d->tokens, d->n_tokens, &c->text_offset);
        return;
    }
    json_t *more = openai_logprobs(generation_model(g), d->tokens, d->n_tokens);
    if (!c->logprobs) {
        c->logprobs = more;
    } else {
        json_array_extend(json_object_get(c->logprobs, "content"), json_object_get(more, "content"));
        json_decref(more);
    }
}

static void collect_delta(openai_answer *a, openai_choice *c, const generation *g, const generation_delta *d)
{
    char id[GENERATION_CALL_ID_MAX];
    collect_logprobs(a, c, g, d);
    switch (d->kind) {
    case OUTPUT_TEXT:
        text_add(&c->bytes, d->bytes, d->n);
        break;
    case OUTPUT_REASONING:
        text_add(&c->thought, d->bytes, d->n);
        break;
    case OUTPUT_TOOL_BEGIN:
        c->calls = c->calls ? c->calls : json_array();
        generation_call_id(g, d->choice, json_array_size(c->calls), id);
        json_array_append_new(c->calls, json_pack("{s:s, s:s, s:{s:s%}}", "id", id, "type", "function", "function",
                                                  "name", d->bytes, d->n));
        break;
    case OUTPUT_TOOL_ARGS:
        json_object_set_new(json_object_get(json_array_get(c->calls, json_array_size(c->calls) - 1), "function"),
                            "arguments", json_stringn(d->bytes, d->n));
        break;
    default:
        break;
    }
    a->failed = a->failed || c->bytes.failed || c->thought.failed;
}

/* The prompt, if it is to be repeated, and the answer, which may have a NUL like any other character. */
static json_t *echoed_text(const char *echo, const openai_choice *c)
{
    text_buffer both = {0};
    if (!echo) {
        return generation_text_json(&c->bytes);
    }
    text_add_string(&both, echo);
    text_add(&both, c->bytes.data, c->bytes.n);
    json_t *text = both.failed ? NULL : generation_text_json(&both);
    text_buffer_close(&both);
    return text;
}

static json_t *whole_choice(const openai_answer *a, const openai_choice *c, uint32_t index)
{
    json_t *one = json_pack("{s:I}", "index", (json_int_t)index);
    if (a->chat) {
        json_t *message = json_pack("{s:s, s:o, s:n, s:[]}", "role", "assistant", "content",
                                    c->bytes.n || !c->calls ? generation_text_json(&c->bytes) : json_null(), "refusal",
                                    "annotations");
        if (c->thought.n) {
            json_object_set_new(message, "reasoning_content", generation_text_json(&c->thought));
        }
        if (c->calls) {
            json_object_set(message, "tool_calls", c->calls);
        }
        json_object_set_new(one, "message", message);
    } else {
        json_object_set_new(one, "text", echoed_text(a->parts[index / a->n_each].echo, c));
    }
    json_object_set_new(one, "finish_reason", json_string(c->finish ? c->finish : "stop"));
    json_object_set_new(one, "logprobs", c->logprobs ? json_incref(c->logprobs) : json_null());
    if (c->ids) {
        json_object_set(one, "token_ids", c->ids);
    }
    return one;
}

static void send_whole(openai_answer *a)
{
    json_t *body = head_of(a, a->chat ? "chat.completion" : "text_completion"), *list = json_array();
    for (uint32_t i = 0; i < a->n_choices; i++) {
        json_array_append_new(list, whole_choice(a, &a->choices[i], i));
    }
    json_object_set_new(body, "choices", list);
    json_object_set_new(body, "usage", openai_usage(&a->usage));
    add_warnings(a, body);
    http_respond_json(a->x, 200, body);
}

/* Who hears that all is finished may ask on at once, and is to find its answer's tokens: they are known with the end.
 */
static void send_last(openai_answer *a)
{
    json_t *last = a->last;
    a->last = NULL;
    if (last) {
        send_choice(a, last, true);
    }
}

static void end_stream(openai_answer *a)
{
    begin_stream(a);
    send_last(a);
    if (a->include_usage) {
        json_t *event = head_of(a, a->chat ? "chat.completion.chunk" : "text_completion");
        json_object_set_new(event, "choices", json_array());
        json_object_set_new(event, "usage", openai_usage(&a->usage));
        sse_write_json(a->x, NULL, event);
    }
    sse_write(a->x, NULL, "[DONE]", 6);
    http_stream_end(a->x);
}

/* ---- callbacks of generations ------------------------------------------------------------------------------------ */

/* The first of them tells how many choices there are. */
static bool open_choices(openai_answer *a, const chat_request *r)
{
    if (a->choices) {
        return true;
    }
    a->n_each = r->f.n_choices;
    a->choices = calloc((size_t)a->n_each * a->n_parts, sizeof *a->choices);
    a->n_choices = a->choices ? a->n_each * a->n_parts : 0;
    for (uint32_t i = 0; i < a->n_parts; i++) {
        a->parts[i].first_choice = i * a->n_each;
    }
    return a->choices != NULL;
}

static void fail_answer(openai_answer *a, int status, const char *code, const char *message, const char *param,
                        unsigned retry_s)
{
    if (!a->x || a->failed) {
        return;
    }
    http_exchange *x = a->x;
    a->failed = true;
    cancel_parts(a);
    if (a->begun) {
        send_last(a);
        sse_write_json(x, NULL, error_json(ROUTE_OPENAI, status, code, message, param, http_request_of(x)->request_id));
        http_stream_end(x);
    } else if (retry_s) {
        error_respond_retry(x, status, code, message, retry_s);
    } else {
        error_respond(x, status, code, message, param);
    }
}

static void on_start(void *user, const generation_info *info)
{
    openai_part *part = user;
    openai_answer *a = part->a;
    a->stream = part->stream;
    a->include_usage = part->include_usage;
    if (!open_choices(a, generation_request(part->g))) {
        fail_answer(a, 503, NULL, "out of memory", NULL, 5);
        return;
    }
    const chat_request *asked = generation_request(part->g);
    strncpy(a->model, info->model, sizeof a->model - 1);
    if (part->wants_echo && asked->prompt) {
        part->echo = strndup(asked->prompt, asked->n_prompt);
    }
    if (!a->warnings) {
        a->warnings = info->warnings ? json_copy((json_t *)info->warnings) : json_array();
    }
    /* A grammar is compiled when its request starts: until it has, the answer may still become a 400. */
    bool bound = chat_request_is_bound(asked);
    for (uint32_t i = 0; a->stream && !bound && i < a->n_each; i++) {
        open_choice(a, part->first_choice + i);
    }
}

static void on_delta(void *user, const generation_delta *delta)
{
    openai_part *part = user;
    openai_answer *a = part->a;
    uint32_t index = part->first_choice + delta->choice;
    if (!a->x || a->failed) {
        return;
    }
    if (delta->kind == OUTPUT_WARNING) {
        json_array_append_new(a->warnings, json_stringn(delta->bytes, delta->n));
    } else if (a->stream) {
        stream_delta(a, &a->choices[index], index, part->g, delta);
    } else {
        collect_delta(a, &a->choices[index], part->g, delta);
    }
}

static json_t *ids_of(const generation *g, uint32_t choice)
{
    size_t n = 0;
    const int32_t *ids = generation_ids(g, choice, &n);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(ids[i]));
    }
    return list;
}

static void on_finish(void *user, uint32_t choice, generation_finish reason, const char *stop)
{
    openai_part *part = user;
    openai_answer *a = part->a;
    uint32_t index = part->first_choice + choice;
    (void)stop;
    if (!a->x || a->failed) {
        return;
    }
    a->choices[index].finish = openai_finish(reason);
    a->choices[index].ids = generation_request(part->g)->token_ids ? ids_of(part->g, choice) : NULL;
    if (a->stream) {
        open_choice(a, index);
        json_t *one = choice_event(a, index, a->chat ? json_object() : json_string(""), NULL);
        json_object_set_new(one, "finish_reason", json_string(openai_finish(reason)));
        if (a->choices[index].ids) {
            json_object_set(one, "token_ids", a->choices[index].ids);
        }
        if (++a->n_finished == a->n_choices) {
            a->last = one;
        } else {
            send_choice(a, one, true);
        }
    }
}

static void on_done(void *user, const generation_usage *usage)
{
    openai_part *part = user;
    openai_answer *a = part->a;
    part->g = NULL;
    a->usage.n_prompt += usage->n_prompt;
    a->usage.n_cached += usage->n_cached;
    a->usage.n_answer += usage->n_answer;
    a->usage.n_reasoning += usage->n_reasoning;
    a->usage.model = usage->model;
    a->n_done++;
    if (a->n_done < a->n_parts || !a->x || a->failed) {
        return;
    }
    generation_note_usage(a->x, &a->usage);
    a->usage.model = NULL;
    if (a->stream) {
        end_stream(a);
    } else {
        send_whole(a);
    }
}

static void on_error(void *user, int status, const char *code, const char *message, const char *param, unsigned retry_s)
{
    openai_part *part = user;
    part->g = NULL;
    fail_answer(part->a, status, code, message, param, retry_s);
}

static const generation_callbacks callbacks = {on_start, on_delta, on_finish, on_done, on_error};

/* ---- parsing, on the pool ---------------------------------------------------------------------------------------- */

/* Each part parses for itself, on any thread and in any order; what concerns the whole answer is the same in all. */
static bool parse(void *user, chat_request *r)
{
    openai_part *part = user;
    openai_answer *a = part->a;
    openai_options o = {0};
    bool ok = a->infill ? openai_infill_parse(r, &o)
              : a->chat ? openai_chat_parse(r, &o)
                        : openai_completion_parse(r, &o);
    part->stream = o.stream;
    part->include_usage = o.include_usage;
    part->wants_echo = o.echo;
    return ok;
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

static openai_answer *new_answer(struct daemon *d, http_exchange *x, bool chat)
{
    openai_answer *a = calloc(1, sizeof *a);
    if (!a) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        return NULL;
    }
    a->d = d;
    a->x = x;
    a->chat = chat;
    a->created = (json_int_t)time(NULL);
    generation_new_id(d, chat ? "chatcmpl-" : "cmpl-", a->id, sizeof a->id);
    http_on_gone(x, on_gone, a);
    return a;
}

static bool start_part(openai_answer *a, openai_part *part, const char *body, size_t n_body, json_t *json)
{
    generation_job job = {.body = body,
                          .n_body = n_body,
                          .json = json,
                          .parse = parse,
                          .callbacks = &callbacks,
                          .user = part,
                          .on_released = on_released,
                          .identity = *route_identity(a->x),
                          .default_model = a->infill};
    part->a = a;
    part->g = generation_start(a->d, &job);
    if (part->g) {
        a->n_live++;
    } else {
        json_decref(json);
        fail_answer(a, 503, NULL, "out of memory", NULL, 5);
    }
    return part->g != NULL;
}

static void start_one(struct daemon *d, http_exchange *x, bool chat, bool infill)
{
    const http_request *q = http_request_of(x);
    openai_answer *a = generation_admit(d, x) ? new_answer(d, x, chat) : NULL;
    if (a) {
        a->infill = infill;
        a->n_parts = 1;
        start_part(a, &a->parts[0], q->body, q->n_body, NULL);
    }
}

void openai_chat(void *service, http_exchange *x)
{
    start_one(service, x, true, false);
}

void openai_infill(void *service, http_exchange *x)
{
    start_one(service, x, false, true);
}

/* Many prompts, or NULL: one, or something that the parser of one will refuse. */
static const json_t *many_prompts(const json_t *body)
{
    const json_t *prompt = json_object_get(body, "prompt"), *first = json_array_get(prompt, 0);
    return json_array_size(prompt) > 1 && (json_is_string(first) || json_is_array(first)) ? prompt : NULL;
}

void openai_completions(void *service, http_exchange *x)
{
    const http_request *q = http_request_of(x);
    mlxr_error ignored; /* start_one says what is wrong with it */
    json_t *body = request_body_read(q->body, q->n_body, &ignored);
    const json_t *prompts = many_prompts(body);
    if (!prompts) {
        json_decref(body);
        start_one(service, x, false, false);
        return;
    }
    if (json_array_size(prompts) > PROMPTS_MAX) {
        json_decref(body);
        error_respondf(x, 400, NULL, "prompt", "at most %u prompts are answered at once", PROMPTS_MAX);
        return;
    }
    openai_answer *a = generation_admit(service, x) ? new_answer(service, x, false) : NULL;
    if (a) {
        a->n_parts = (uint32_t)json_array_size(prompts);
        bool ok = true;
        for (uint32_t i = 0; ok && i < a->n_parts; i++) {
            json_t *one = json_copy(body);
            json_object_set(one, "prompt", json_array_get(prompts, i));
            ok = start_part(a, &a->parts[i], NULL, 0, one);
        }
    }
    json_decref(body);
}
