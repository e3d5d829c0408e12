/*
 * /v1/responses: answers as items, kept, streamed as typed events, in the background.
 * Owner: an answer belongs to its exchange and its generation together. Lifetime: until both have ended; what is kept
 * of it lives in the response store.
 *
 *   delta ─▶ the item it belongs to: opened with added (and content_part.added), then delta …, closed with done
 *   end ───▶ kept (pool: it is on the disk) ─▶ told to the client
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "registry/fail.h"
#include "server/errors.h"
#include "server/generation_parts.h"
#include "server/openai_parts.h"
#include "server/sse.h"

typedef enum item_kind { ITEM_NONE, ITEM_MESSAGE, ITEM_REASONING, ITEM_CALL } item_kind;

typedef struct response_answer {
    struct daemon *d;
    http_exchange *x; /* NULL: gone, or answered because the response is made in the background */
    generation *g;    /* NULL: ended */
    bool released, begun, answered, incomplete, listed;
    bool deleted;     /* while it was made: what is kept of it goes again */
    uint32_t n_keeps; /* under way on the pool */
    int64_t version;  /* of what was kept last */
    openai_options o;
    uint64_t owner;
    char id[64], model[256];
    json_int_t created, sequence;
    float temperature, top_p; /* in force */
    json_t *body;             /* what of the request the response repeats */
    json_t *conversation;     /* without instructions; the answer joins it */
    json_t *input;            /* as it came */
    json_t *output;           /* items that are done */
    json_t *warnings;
    /* the item under way */
    item_kind kind;
    char item_id[64], call_id[GENERATION_CALL_ID_MAX], *call_name;
    text_buffer text;
    json_t *logprobs;
    size_t n_calls;
    struct response_answer *next; /* in generations.background, if listed */
} response_answer;

static void free_answer(response_answer *a)
{
    if (a->x || !a->released || a->n_keeps > 0) {
        return;
    }
    json_decref(a->body);
    json_decref(a->conversation);
    json_decref(a->input);
    json_decref(a->output);
    json_decref(a->warnings);
    json_decref(a->logprobs);
    free(a->call_name);
    text_buffer_close(&a->text);
    free(a);
}

/* ---- those in the background ---------------------------------------------------------------------------------------
 */

static void list(response_answer *a)
{
    a->listed = true;
    a->next = a->d->generations->background;
    a->d->generations->background = a;
}

static void unlist(response_answer *a)
{
    response_answer **at = &a->d->generations->background;
    while (a->listed && *at != a) {
        at = &(*at)->next;
    }
    if (a->listed) {
        *at = a->next;
        a->listed = false;
    }
}

static void on_gone(void *user)
{
    response_answer *a = user;
    a->x = NULL;
    if (!a->o.background) {
        generation_drop(&a->g);
    }
    free_answer(a);
}

static void on_drain(void *user)
{
    response_answer *a = user;
    if (a->g) {
        generation_resume(a->g);
    }
}

/* ---- the response as JSON ---------------------------------------------------------------------------------------- */

static json_t *usage_json(const generation_usage *u)
{
    json_int_t n_prompt = (json_int_t)u->n_prompt, n_answer = (json_int_t)u->n_answer;
    return json_pack("{s:I, s:{s:I}, s:I, s:{s:I}, s:I}", "input_tokens", n_prompt, "input_tokens_details",
                     "cached_tokens", (json_int_t)u->n_cached, "output_tokens", n_answer, "output_tokens_details",
                     "reasoning_tokens", (json_int_t)u->n_reasoning, "total_tokens", n_prompt + n_answer);
}

static json_t *given_or(const response_answer *a, const char *key, json_t *otherwise)
{
    json_t *given = json_object_get(a->body, key);
    if (!given || json_is_null(given)) {
        return otherwise;
    }
    json_decref(otherwise);
    return json_incref(given);
}

/* Each tool tells whether its schema is strict, also where the request did not. */
static json_t *tools_json(const response_answer *a)
{
    json_t *tools = json_deep_copy(json_object_get(a->body, "tools"));
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *tool = json_array_get(tools, i);
        if (!json_object_get(tool, "strict")) {
            json_object_set_new(tool, "strict", json_null());
        }
        if (!json_object_get(tool, "description")) {
            json_object_set_new(tool, "description", json_null());
        }
    }
    return json_is_array(tools) ? tools : json_array();
}

/* What the request said, or meant by not saying it. */
static void add_request(const response_answer *a, json_t *r)
{
    static const char *const nulls[] = {"instructions",
                                        "max_output_tokens",
                                        "max_tool_calls",
                                        "previous_response_id",
                                        "prompt_cache_key",
                                        "safety_identifier",
                                        "user"};
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++) {
        json_object_set_new(r, nulls[i], given_or(a, nulls[i], json_null()));
    }
    json_object_set_new(r, "background", json_boolean(a->o.background));
    json_object_set_new(r, "store", json_boolean(a->o.store));
    json_object_set_new(r, "parallel_tool_calls", json_boolean(a->o.parallel));
    json_object_set_new(r, "metadata", given_or(a, "metadata", json_object()));
    json_object_set_new(r, "tools", tools_json(a));
    json_object_set_new(r, "tool_choice", given_or(a, "tool_choice", json_string("auto")));
    json_object_set_new(r, "temperature", json_real((double)a->temperature));
    json_object_set_new(r, "top_p", json_real((double)a->top_p));
    json_object_set_new(r, "top_logprobs", given_or(a, "top_logprobs", json_integer(0)));
    json_object_set_new(r, "truncation", given_or(a, "truncation", json_string("disabled")));
    json_object_set_new(r, "frequency_penalty", given_or(a, "frequency_penalty", json_real(0)));
    json_object_set_new(r, "presence_penalty", given_or(a, "presence_penalty", json_real(0)));
    json_object_set_new(r, "service_tier", json_string("default"));
    json_object_set_new(r, "text", given_or(a, "text", json_pack("{s:{s:s}}", "format", "type", "text")));
    json_t *reasoning = json_pack("{s:n, s:n}", "effort", "summary");
    json_object_update(reasoning, json_object_get(a->body, "reasoning"));
    json_object_set_new(r, "reasoning", reasoning);
}

static json_t *response_json(const response_answer *a, const char *status, const generation_usage *usage)
{
    json_t *r = json_pack("{s:s, s:s, s:I, s:s, s:n, s:n, s:s, s:O}", "id", a->id, "object", "response", "created_at",
                          a->created, "status", status, "error", "incomplete_details", "model", a->model, "output",
                          a->output);
    bool complete = strcmp(status, "completed") == 0;
    json_object_set_new(r, "completed_at", complete ? json_integer((json_int_t)time(NULL)) : json_null());
    add_request(a, r);
    json_object_set_new(r, "usage", usage ? usage_json(usage) : json_null());
    if (strcmp(status, "incomplete") == 0) {
        json_object_set_new(r, "incomplete_details", json_pack("{s:s}", "reason", "max_output_tokens"));
    }
    if (json_array_size(a->warnings) > 0) {
        json_object_set(r, "warnings", a->warnings);
    }
    return r;
}

/* ---- keeping ----------------------------------------------------------------------------------------------------- */

typedef void kept_then(response_answer *a, json_t *response, http_exchange *by);

typedef struct keep_job { /* one version of a response on its way to the disk; all JSON is its own */
    response_answer *a;
    json_t *response, *messages, *input;
    int64_t version;
    kept_then *then;
    struct canceller *by; /* NULL: nobody but its own client waits for it */
    mlxr_status status;
    mlxr_error error;
} keep_job;

typedef struct canceller { /* an exchange that waits for another's response */
    http_exchange *x;      /* NULL: gone */
    bool done;
} canceller;

static void canceller_gone(void *user)
{
    canceller *c = user;
    c->x = NULL;
    if (c->done) {
        free(c);
    }
}

static void remove_kept(void *user)
{
    keep_job *job = user;
    bool removed;
    response_store_remove(generation_responses(job->a->d), job->a->id, job->a->owner, &removed, &job->error);
}

static void end_keep(void *user)
{
    keep_job *job = user;
    response_answer *a = job->a;
    json_decref(job->response);
    json_decref(job->messages);
    json_decref(job->input);
    free(job);
    a->n_keeps--;
    free_answer(a);
}

static void put_kept(void *user)
{
    keep_job *job = user;
    const kept_response kept = {.id = job->a->id,
                                .owner = job->a->owner,
                                .version = job->version,
                                .response = job->response,
                                .messages = job->messages,
                                .input = job->input};
    job->status = response_store_put(generation_responses(job->a->d), &kept, &job->error);
}

static void tell_kept(keep_job *job)
{
    response_answer *a = job->a;
    if (job->status != MLXR_OK) {
        json_t *list = json_object_get(job->response, "warnings");
        list = list ? json_copy(list) : json_array();
        json_array_append_new(list, json_sprintf("store: the response could not be kept: %.200s", job->error.text));
        json_object_set_new(job->response, "warnings", list);
    }
    if (job->then) {
        job->then(a, job->response, job->by ? job->by->x : NULL);
    }
    if (job->by) {
        job->by->done = true;
        if (!job->by->x) {
            free(job->by);
        }
    }
}

static void put_done(void *user)
{
    keep_job *job = user;
    response_answer *a = job->a;
    tell_kept(job);
    if (!a->deleted || http_work(a->d->http, remove_kept, end_keep, job) != 0) {
        end_keep(job);
    }
}

/* Keeps the response as it is now, and calls `then` when it is kept, or if it is not to be. Takes the response.
 * `last`: nothing more comes of the answer, whose conversation and input are given away. */
static void keep(response_answer *a, json_t *response, bool last, kept_then *then, canceller *by)
{
    keep_job *job = calloc(1, sizeof *job);
    a->n_keeps++;
    keep_job made = {.a = a, .response = response, .then = then, .by = by, .version = ++a->version};
    if (!job) {
        made.status = registry_fail_nomem(&made.error);
        tell_kept(&made);
        json_decref(made.response);
        a->n_keeps--;
        return;
    }
    *job = made;
    if (a->o.store && !a->deleted) {
        /* The pool reads, the loop goes on: they must not share what changes. */
        job->messages = last ? json_incref(a->conversation) : json_deep_copy(a->conversation);
        job->input = last ? json_incref(a->input) : json_deep_copy(a->input);
        if (!last) {
            job->response = json_deep_copy(response);
            json_decref(response);
        }
        if (http_work(a->d->http, put_kept, put_done, job) == 0) {
            return;
        }
        job->status = registry_fail_nomem(&job->error);
    }
    tell_kept(job);
    end_keep(job);
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* Takes the members. */
static void send(response_answer *a, const char *type, json_t *members)
{
    if (!a->o.stream || !a->x || a->answered) {
        json_decref(members);
        return;
    }
    json_t *event = json_pack("{s:s, s:I}", "type", type, "sequence_number", a->sequence++);
    json_object_update(event, members);
    json_decref(members);
    sse_write_json(a->x, type, event);
    if (a->g && http_stream_buffered(a->x) > HTTP_BUFFER_MAX) {
        generation_pause(a->g);
    }
}

static json_int_t output_index(const response_answer *a)
{
    return (json_int_t)json_array_size(a->output);
}

static json_t *part_json(const response_answer *a, bool whole)
{
    json_t *text = whole ? generation_text_json(&a->text) : json_string("");
    if (a->kind == ITEM_REASONING) {
        return json_pack("{s:s, s:o}", "type", "reasoning_text", "text", text);
    }
    json_t *logprobs = whole && a->logprobs ? json_incref(a->logprobs) : json_array();
    return json_pack("{s:s, s:o, s:[], s:o}", "type", "output_text", "text", text, "annotations", "logprobs", logprobs);
}

static json_t *item_json(const response_answer *a, const char *status, bool whole)
{
    if (a->kind == ITEM_CALL) {
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "id", a->item_id, "type", "function_call", "status", status,
                         "call_id", a->call_id, "name", a->call_name, "arguments",
                         whole ? generation_text_json(&a->text) : json_string(""));
    }
    json_t *content = json_array();
    if (whole) {
        json_array_append_new(content, part_json(a, true));
    }
    if (a->kind == ITEM_REASONING) {
        return json_pack("{s:s, s:s, s:s, s:[], s:o}", "id", a->item_id, "type", "reasoning", "status", status,
                         "summary", "content", content);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", a->item_id, "type", "message", "status", status, "role",
                     "assistant", "content", content);
}

static json_t *place(const response_answer *a)
{
    json_t *made = json_pack("{s:s, s:I}", "item_id", a->item_id, "output_index", output_index(a));
    if (a->kind != ITEM_CALL) {
        json_object_set_new(made, "content_index", json_integer(0));
    }
    return made;
}

static json_t *place_with(const response_answer *a, const char *key, json_t *value)
{
    json_t *made = place(a);
    json_object_set_new(made, key, value);
    return made;
}

static void close_item(response_answer *a, const char *status)
{
    if (a->kind == ITEM_NONE) {
        return;
    }
    json_t *text = generation_text_json(&a->text);
    if (a->kind == ITEM_CALL) {
        json_t *done = place_with(a, "arguments", text);
        json_object_set_new(done, "name", json_string(a->call_name));
        send(a, "response.function_call_arguments.done", done);
    } else {
        bool message = a->kind == ITEM_MESSAGE;
        json_t *done = place_with(a, "text", text);
        if (message) {
            json_object_set_new(done, "logprobs", a->logprobs ? json_incref(a->logprobs) : json_array());
        }
        send(a, message ? "response.output_text.done" : "response.reasoning_text.done", done);
        send(a, "response.content_part.done", place_with(a, "part", part_json(a, true)));
    }
    json_t *item = item_json(a, status, true);
    send(a, "response.output_item.done", json_pack("{s:I, s:O}", "output_index", output_index(a), "item", item));
    json_array_append_new(a->output, item);
    a->kind = ITEM_NONE;
    a->text.n = 0;
    json_decref(a->logprobs);
    a->logprobs = NULL;
    free(a->call_name);
    a->call_name = NULL;
}

static void open_item(response_answer *a, item_kind kind)
{
    static const char *const prefixes[] = {"", "msg_", "rs_", "fc_"};
    if (a->kind == kind && kind != ITEM_CALL) {
        return;
    }
    close_item(a, "completed");
    a->kind = kind;
    generation_new_id(a->d, prefixes[kind], a->item_id, sizeof a->item_id);
}

static void announce_item(response_answer *a)
{
    send(a, "response.output_item.added",
         json_pack("{s:I, s:o}", "output_index", output_index(a), "item", item_json(a, "in_progress", false)));
    if (a->kind != ITEM_CALL) {
        send(a, "response.content_part.added", place_with(a, "part", part_json(a, false)));
    }
}

static void begin(response_answer *a)
{
    if (a->begun || !a->x || !a->o.stream) {
        return;
    }
    a->begun = true;
    http_on_drain(a->x, on_drain, a);
    sse_begin(a->x);
    send(a, "response.created", json_pack("{s:o}", "response", response_json(a, "in_progress", NULL)));
    send(a, "response.in_progress", json_pack("{s:o}", "response", response_json(a, "in_progress", NULL)));
}

/* ---- callbacks --------------------------------------------------------------------------------------------------- */

static void text_delta(response_answer *a, const generation_delta *d)
{
    bool message = d->kind == OUTPUT_TEXT;
    item_kind kind = message ? ITEM_MESSAGE : ITEM_REASONING;
    if (d->n == 0 && d->n_tokens == 0) {
        return;
    }
    if (a->kind != kind) {
        open_item(a, kind);
        announce_item(a);
    }
    text_add(&a->text, d->bytes, d->n);
    json_t *delta = place_with(a, "delta", json_stringn(d->bytes, d->n));
    if (message) {
        json_t *all = d->n_tokens ? openai_logprobs(generation_model(a->g), d->tokens, d->n_tokens) : NULL;
        json_t *list = all ? json_incref(json_object_get(all, "content")) : json_array();
        json_decref(all);
        a->logprobs = a->logprobs ? a->logprobs : json_array();
        json_array_extend(a->logprobs, list);
        json_object_set_new(delta, "logprobs", list);
    }
    send(a, message ? "response.output_text.delta" : "response.reasoning_text.delta", delta);
}

static void answer_whole(response_answer *a, json_t *response, http_exchange *by)
{
    (void)by;
    if (a->x) {
        http_respond_json(a->x, 200, json_incref(response));
    }
}

static void on_start(void *user, const generation_info *info)
{
    response_answer *a = user;
    const chat_request *r = generation_request(a->g);
    strncpy(a->model, info->model, sizeof a->model - 1);
    a->warnings = info->warnings ? json_copy((json_t *)info->warnings) : json_array();
    bool bound = chat_request_is_bound(r);
    if (!bound) {
        begin(a);
    }
    if (a->o.background) {
        list(a);
        a->answered = !a->o.stream;
        keep(a, response_json(a, "in_progress", NULL), false, a->o.stream ? NULL : answer_whole, NULL);
    }
}

static void on_delta(void *user, const generation_delta *d)
{
    response_answer *a = user;
    begin(a);
    switch (d->kind) {
    case OUTPUT_TEXT:
    case OUTPUT_REASONING:
        text_delta(a, d);
        break;
    case OUTPUT_TOOL_BEGIN:
        open_item(a, ITEM_CALL);
        a->call_name = strndup(d->bytes, d->n);
        generation_call_id(a->g, 0, a->n_calls++, a->call_id);
        announce_item(a);
        break;
    case OUTPUT_TOOL_ARGS:
        text_add(&a->text, d->bytes, d->n);
        send(a, "response.function_call_arguments.delta", place_with(a, "delta", json_stringn(d->bytes, d->n)));
        break;
    case OUTPUT_TOOL_END:
        close_item(a, "completed");
        break;
    case OUTPUT_WARNING:
        json_array_append_new(a->warnings, json_stringn(d->bytes, d->n));
        break;
    }
}

static void on_finish(void *user, uint32_t choice, generation_finish reason, const char *stop)
{
    response_answer *a = user;
    (void)choice;
    (void)stop;
    begin(a);
    a->incomplete = reason == GENERATION_LENGTH;
    close_item(a, reason == GENERATION_LENGTH ? "incomplete" : "completed");
}

/* The items as the assistant's message of the conversation. */
static void join_conversation(response_answer *a)
{
    json_t *message = json_pack("{s:s, s:s}", "role", "assistant", "content", ""), *calls = json_array();
    for (size_t i = 0; i < json_array_size(a->output); i++) {
        const json_t *item = json_array_get(a->output, i);
        const char *type = json_string_value(json_object_get(item, "type"));
        json_t *text = json_object_get(json_array_get(json_object_get(item, "content"), 0), "text");
        if (strcmp(type, "function_call") == 0) {
            json_array_append_new(calls,
                                  json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", json_object_get(item, "call_id"), "type",
                                            "function", "function", "name", json_object_get(item, "name"), "arguments",
                                            json_object_get(item, "arguments")));
        } else {
            json_object_set(message, strcmp(type, "message") == 0 ? "content" : "reasoning_content", text);
        }
    }
    if (json_array_size(calls) > 0) {
        json_object_set(message, "tool_calls", calls);
    }
    json_decref(calls);
    json_array_append_new(a->conversation, message);
}

/* The last event of a stream: what the response has come to. */
static void end_stream(response_answer *a, json_t *response, http_exchange *by)
{
    const char *status = json_string_value(json_object_get(response, "status"));
    char type[40];
    (void)by;
    if (a->x) {
        snprintf(type, sizeof type, "response.%s", status);
        send(a, type, json_pack("{s:O}", "response", response));
        a->answered = true;
        http_stream_end(a->x);
    }
}

static void answer_canceller(response_answer *a, json_t *response, http_exchange *by)
{
    if (a->begun && a->x && !a->answered) {
        end_stream(a, response, NULL);
    }
    a->answered = true;
    if (by) {
        http_respond_json(by, 200, json_incref(response));
    }
}

static void on_error(void *user, int status, const char *code, const char *message, const char *param, unsigned retry_s)
{
    response_answer *a = user;
    a->g = NULL;
    unlist(a);
    if (a->begun || (a->answered && a->o.background)) {
        json_t *response = response_json(a, "failed", NULL);
        json_object_set_new(response, "error", json_pack("{s:s, s:s}", "code", code, "message", message));
        keep(a, response, true, a->begun ? end_stream : NULL, NULL);
        return;
    }
    if (a->x && retry_s) {
        error_respond_retry(a->x, status, code, message, retry_s);
    } else if (a->x) {
        error_respond(a->x, status, code, message, param);
    }
    a->answered = true;
}

static void on_done(void *user, const generation_usage *usage)
{
    response_answer *a = user;
    if (a->text.failed) {
        on_error(a, 503, "server_error", "out of memory", NULL, 5);
        return;
    }
    a->g = NULL;
    unlist(a);
    join_conversation(a);
    json_t *response = response_json(a, a->incomplete ? "incomplete" : "completed", usage);
    if (a->x) {
        generation_note_usage(a->x, usage);
    }
    bool waits = a->x && !a->answered;
    a->answered = a->answered || !a->o.stream;
    keep(a, response, true, !waits ? NULL : a->o.stream ? end_stream : answer_whole, NULL);
}

/* Ends what is in the background; `by` (may be NULL) gets the response as it is kept from now on. */
static void cancel(response_answer *a, canceller *by)
{
    generation *g = a->g;
    close_item(a, "incomplete");
    a->g = NULL;
    unlist(a);
    keep(a, response_json(a, "cancelled", NULL), true, answer_canceller, by);
    generation_cancel(g);
}

static void on_released(void *user)
{
    response_answer *a = user;
    a->released = true;
    free_answer(a);
}

static const generation_callbacks callbacks = {on_start, on_delta, on_finish, on_done, on_error};

/* ---- on the pool ------------------------------------------------------------------------------------------------- */

static bool parse(void *user, chat_request *r)
{
    response_answer *a = user;
    json_t *earlier = NULL;
    if (!openai_responses_parse(r, &a->o)) {
        return false;
    }
    if (a->o.previous && *a->o.previous) {
        mlxr_error error;
        if (response_store_get(generation_responses(a->d), a->o.previous, a->owner, RESPONSE_MESSAGES, &earlier,
                               &error) != MLXR_OK) {
            return request_fields_fail(&r->f, error.status, "previous_response_id", "%s", error.text);
        }
        if (!earlier) {
            return request_fields_bad(&r->f, "previous_response_id", "there is no response '%.80s'", a->o.previous);
        }
    }
    a->temperature = r->f.sampling.temperature;
    a->top_p = r->f.sampling.top_p;
    a->body = json_deep_copy(r->body);
    a->input = json_is_string(a->o.input) ? json_pack("[{s:s, s:s, s:[{s:s, s:O}]}]", "type", "message", "role", "user",
                                                      "content", "type", "input_text", "text", a->o.input)
                                          : json_deep_copy(a->o.input);
    return openai_input_read(r, &a->o, earlier, &a->conversation);
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

void openai_responses_create(void *service, http_exchange *x)
{
    const http_request *q = http_request_of(x);
    if (!generation_admit(service, x)) {
        return;
    }
    response_answer *a = calloc(1, sizeof *a);
    if (!a || !(a->output = json_array())) {
        free(a);
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    a->d = service;
    a->x = x;
    a->owner = route_identity(x)->key_id;
    a->created = (json_int_t)time(NULL);
    generation_new_id(service, "resp_", a->id, sizeof a->id);
    http_on_gone(x, on_gone, a);
    generation_job job = {.body = q->body,
                          .n_body = q->n_body,
                          .parse = parse,
                          .callbacks = &callbacks,
                          .user = a,
                          .on_released = on_released,
                          .identity = *route_identity(x)};
    a->g = generation_start(service, &job);
    if (!a->g) {
        a->released = true;
        error_respond(x, 503, NULL, "out of memory", NULL);
    }
}

void openai_responses_compact(void *service, http_exchange *x)
{
    (void)service;
    error_respond(x, 404, "unsupported",
                  "conversations are not compacted here: \"truncation\": \"auto\" leaves the oldest turns out", NULL);
}

static void not_found(http_exchange *x, const char *id)
{
    error_respondf(x, 404, "response_not_found", "response_id", "there is no response '%.80s'", id);
}

/* ---- what is kept ------------------------------------------------------------------------------------------------ */

typedef struct stored_job {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    bool worked, removes, removed;
    response_part part;
    char *id;
    uint64_t owner;
    json_t *found;
    void (*tell)(struct stored_job *j);
    mlxr_status status;
    mlxr_error error;
} stored_job;

static void free_stored(stored_job *j)
{
    if (!j->x && j->worked) {
        json_decref(j->found);
        free(j->id);
        free(j);
    }
}

static void stored_gone(void *user)
{
    stored_job *j = user;
    j->x = NULL;
    free_stored(j);
}

static void stored_work(void *user)
{
    stored_job *j = user;
    response_store *s = generation_responses(j->d);
    j->status = j->removes ? response_store_remove(s, j->id, j->owner, &j->removed, &j->error)
                           : response_store_get(s, j->id, j->owner, j->part, &j->found, &j->error);
}

static void stored_done(void *user)
{
    stored_job *j = user;
    j->worked = true;
    if (!j->x) {
        free_stored(j);
    } else if (j->status != MLXR_OK) {
        error_respond(j->x, j->status == MLXR_NOMEM ? 503 : 500, "store_failed", j->error.text, NULL);
    } else if (!j->found && !j->removed) {
        not_found(j->x, j->id);
    } else {
        j->tell(j);
    }
}

static void stored_start(struct daemon *d, http_exchange *x, const stored_job *what)
{
    stored_job *j = calloc(1, sizeof *j);
    char *id = strdup(http_path_param(x, "id"));
    if (j && id) {
        *j = *what;
        j->d = d;
        j->x = x;
        j->id = id;
        j->owner = route_identity(x)->key_id;
        if (http_work(d->http, stored_work, stored_done, j) == 0) {
            http_on_gone(x, stored_gone, j);
            return;
        }
    }
    free(id);
    free(j);
    error_respond(x, 503, NULL, "out of memory", NULL);
}

/* One that is being made in the background; NULL: none. */
static response_answer *find_background(struct daemon *d, http_exchange *x)
{
    const char *id = http_path_param(x, "id");
    response_answer *a = d->generations->background;
    while (a && (a->owner != route_identity(x)->key_id || strcmp(a->id, id) != 0)) {
        a = a->next;
    }
    return a && a->g ? a : NULL;
}

static void tell_found(stored_job *j)
{
    http_respond_json(j->x, 200, json_incref(j->found));
}

static void tell_input(stored_job *j)
{
    http_respond_json(j->x, 200, json_pack("{s:s, s:O, s:b}", "object", "list", "data", j->found, "has_more", 0));
}

static void tell_removed(stored_job *j)
{
    http_respond_json(j->x, 200, json_pack("{s:s, s:s, s:b}", "id", j->id, "object", "response", "deleted", 1));
}

/* What is done stays as it is. */
static void tell_uncancelled(stored_job *j)
{
    if (json_is_true(json_object_get(j->found, "background"))) {
        tell_found(j);
    } else {
        error_respond(j->x, 400, "not_cancellable", "only a response that is made in the background can be cancelled",
                      "response_id");
    }
}

void openai_responses_get(void *service, http_exchange *x)
{
    stored_start(service, x, &(stored_job){.part = RESPONSE_WHOLE, .tell = tell_found});
}

void openai_responses_input(void *service, http_exchange *x)
{
    stored_start(service, x, &(stored_job){.part = RESPONSE_INPUT, .tell = tell_input});
}

void openai_responses_delete(void *service, http_exchange *x)
{
    response_answer *a = find_background(service, x);
    if (a) { /* it is not made any further, and what was kept of it goes behind what is on its way */
        a->deleted = true;
        cancel(a, NULL);
    }
    stored_start(service, x, &(stored_job){.removes = true, .tell = tell_removed});
}

void openai_responses_cancel(void *service, http_exchange *x)
{
    response_answer *a = find_background(service, x);
    canceller *by = a ? calloc(1, sizeof *by) : NULL;
    if (!a) {
        stored_start(service, x, &(stored_job){.part = RESPONSE_WHOLE, .tell = tell_uncancelled});
    } else if (!by) {
        error_respond(x, 503, NULL, "out of memory", NULL);
    } else {
        by->x = x;
        http_on_gone(x, canceller_gone, by);
        cancel(a, by);
    }
}
