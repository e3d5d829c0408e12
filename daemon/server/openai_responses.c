/*
 * /v1/responses: answers as items, kept, streamed as typed events, in the background.
 * Owner: an answer belongs to its exchange and its generation together. Lifetime: until both have ended; what is kept
 * of it lives in the response store.
 *
 *   delta ─▶ the item it belongs to: opened with added (and content_part.added), then delta …, closed with done
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    char *text;
    size_t n_text, cap_text;
    json_t *logprobs;
    size_t n_calls;
    struct response_answer *next; /* in generations.background, if listed */
} response_answer;

static void free_answer(response_answer *a)
{
    if (a->x || !a->released) {
        return;
    }
    json_decref(a->body);
    json_decref(a->conversation);
    json_decref(a->input);
    json_decref(a->output);
    json_decref(a->warnings);
    json_decref(a->logprobs);
    free(a->call_name);
    free(a->text);
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
    if (a->g && !a->o.background) {
        generation *g = a->g;
        a->g = NULL;
        generation_cancel(g);
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

/* Keeps the response as it is now. Takes nothing. */
static void keep(response_answer *a, json_t *response)
{
    if (a->o.store) {
        response_store_put(generation_responses(a->d), a->id, a->owner, response, a->conversation, a->input);
    }
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
    json_t *text = json_stringn(whole && a->text ? a->text : "", whole ? a->n_text : 0);
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
                         json_stringn(whole && a->text ? a->text : "", whole ? a->n_text : 0));
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
    json_t *text = json_stringn(a->text ? a->text : "", a->n_text);
    if (a->kind == ITEM_NONE) {
        json_decref(text);
        return;
    }
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
    a->n_text = 0;
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

static bool add_text(response_answer *a, const char *bytes, size_t n)
{
    if (a->n_text + n + 1 > a->cap_text) {
        size_t cap = (a->n_text + n + 1) * 2;
        char *grown = realloc(a->text, cap);
        if (!grown) {
            return false;
        }
        a->text = grown;
        a->cap_text = cap;
    }
    memcpy(a->text + a->n_text, bytes, n);
    a->n_text += n;
    return true;
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
    add_text(a, d->bytes, d->n);
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

static void on_start(void *user, const generation_info *info)
{
    response_answer *a = user;
    const chat_request *r = generation_request(a->g);
    strncpy(a->model, info->model, sizeof a->model - 1);
    a->warnings = info->warnings ? json_copy((json_t *)info->warnings) : json_array();
    bool bound = r->f.grammar || r->choice == TOOL_CHOICE_REQUIRED || r->choice == TOOL_CHOICE_NAMED;
    if (!bound) {
        begin(a);
    }
    if (a->o.background) {
        json_t *response = response_json(a, "in_progress", NULL);
        list(a);
        keep(a, response);
        if (a->x && !a->o.stream) {
            a->answered = true;
            http_respond_json(a->x, 200, json_incref(response));
        }
        json_decref(response);
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
        add_text(a, d->bytes, d->n);
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

static void on_done(void *user, const generation_usage *usage)
{
    response_answer *a = user;
    bool incomplete = a->incomplete;
    a->g = NULL;
    unlist(a);
    join_conversation(a);
    json_t *response = response_json(a, incomplete ? "incomplete" : "completed", usage);
    keep(a, response);
    if (a->x) {
        generation_note_usage(a->x, usage);
    }
    if (a->x && !a->answered && a->o.stream) {
        send(a, incomplete ? "response.incomplete" : "response.completed", json_pack("{s:O}", "response", response));
        http_stream_end(a->x);
    } else if (a->x && !a->answered) {
        http_respond_json(a->x, 200, json_incref(response));
    }
    a->answered = true;
    json_decref(response);
}

static void on_error(void *user, int status, const char *code, const char *message, const char *param, unsigned retry_s)
{
    response_answer *a = user;
    a->g = NULL;
    unlist(a);
    if (a->begun || (a->answered && a->o.background)) {
        json_t *response = response_json(a, "failed", NULL);
        json_object_set_new(response, "error", json_pack("{s:s, s:s}", "code", code, "message", message));
        keep(a, response);
        if (a->begun && a->x) {
            send(a, "response.failed", json_pack("{s:O}", "response", response));
            http_stream_end(a->x);
        }
        json_decref(response);
    } else if (a->x && retry_s) {
        error_respond_retry(a->x, status, code, message, retry_s);
    } else if (a->x) {
        error_respond(a->x, status, code, message, param);
    }
    a->answered = true;
}

/* Ends what is in the background; the response as it is kept from now on. */
static json_t *cancel(response_answer *a)
{
    generation *g = a->g;
    close_item(a, "incomplete");
    json_t *response = response_json(a, "cancelled", NULL);
    keep(a, response);
    if (a->begun && a->x && !a->answered) {
        send(a, "response.cancelled", json_pack("{s:O}", "response", response));
        http_stream_end(a->x);
    }
    a->answered = true;
    a->g = NULL;
    unlist(a);
    generation_cancel(g);
    return response;
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
        earlier = response_store_messages(generation_responses(a->d), a->o.previous, a->owner);
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

void openai_responses_get(void *service, http_exchange *x)
{
    const char *id = http_path_param(x, "id");
    json_t *found = response_store_get(generation_responses(service), id, route_identity(x)->key_id);
    if (found) {
        http_respond_json(x, 200, found);
    } else {
        not_found(x, id);
    }
}

void openai_responses_input(void *service, http_exchange *x)
{
    const char *id = http_path_param(x, "id");
    json_t *found = response_store_input(generation_responses(service), id, route_identity(x)->key_id);
    if (found) {
        http_respond_json(x, 200, json_pack("{s:s, s:o, s:b}", "object", "list", "data", found, "has_more", 0));
    } else {
        not_found(x, id);
    }
}

void openai_responses_delete(void *service, http_exchange *x)
{
    const char *id = http_path_param(x, "id");
    if (response_store_remove(generation_responses(service), id, route_identity(x)->key_id)) {
        http_respond_json(x, 200, json_pack("{s:s, s:s, s:b}", "id", id, "object", "response", "deleted", 1));
    } else {
        not_found(x, id);
    }
}

/* One that is made in the background; what is done stays as it is. */
void openai_responses_cancel(void *service, http_exchange *x)
{
    struct daemon *d = service;
    const char *id = http_path_param(x, "id");
    uint64_t owner = route_identity(x)->key_id;
    json_t *found = response_store_get(generation_responses(d), id, owner);
    const char *status = json_string_value(json_object_get(found, "status"));
    if (!found) {
        not_found(x, id);
        return;
    }
    if (!json_is_true(json_object_get(found, "background"))) {
        json_decref(found);
        error_respond(x, 400, "not_cancellable", "only a response that is made in the background can be cancelled",
                      "response_id");
        return;
    }
    if (status && strcmp(status, "in_progress") == 0) {
        response_answer *a = d->generations->background;
        while (a && (a->owner != owner || strcmp(a->id, id) != 0)) {
            a = a->next;
        }
        if (a && a->g) {
            json_decref(found);
            found = cancel(a);
        }
    }
    http_respond_json(x, 200, found);
}
