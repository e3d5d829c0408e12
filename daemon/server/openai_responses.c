/*
 * /v1/responses: answers as items, kept, streamed as typed events, in the background.
 * Owner: an answer belongs to its exchange and its generation together. Lifetime: until both have ended; what is kept
 * of it lives in the response store.
 *
 *   end ───▶ kept (pool: it is on the disk) ─▶ told to the client
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/errors.h"
#include "server/openai_response.h"
#include "server/openai_routes.h"
#include "server/sse.h"

void response_answer_free(response_answer *a)
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

/* ---- those in the background ------------------------------------------------------------------------------------- */

static void list(response_answer *a)
{
    a->listed = true;
    a->next = a->d->generations->background;
    a->d->generations->background = a;
}

void response_unlist(response_answer *a)
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

unsigned openai_background_answering(const struct daemon *d)
{
    unsigned n = 0;
    for (const response_answer *a = d->generations->background; a; a = a->next) {
        n++;
    }
    return n;
}

static void on_gone(void *user)
{
    response_answer *a = user;
    a->x = NULL;
    if (!a->o.background) {
        generation_drop(&a->g);
    }
    response_answer_free(a);
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
        response_open_item(a, kind);
        response_announce_item(a);
    }
    text_add(&a->text, d->bytes, d->n);
    json_t *delta = response_place_with(a, "delta", json_stringn(d->bytes, d->n));
    if (message) {
        json_t *all = d->n_tokens ? openai_logprobs(generation_model(a->g), d->tokens, d->n_tokens) : NULL;
        json_t *list = all ? json_incref(json_object_get(all, "content")) : json_array();
        json_decref(all);
        a->logprobs = a->logprobs ? a->logprobs : json_array();
        json_array_extend(a->logprobs, list);
        json_object_set_new(delta, "logprobs", list);
    }
    response_send(a, message ? "response.output_text.delta" : "response.reasoning_text.delta", delta);
}

static void answer_whole(response_answer *a, json_t *response)
{
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
        response_begin(a);
    }
    if (a->o.background) {
        list(a);
        a->answered = !a->o.stream;
        response_keep(a, response_json(a, "in_progress", NULL), false, a->o.stream ? NULL : answer_whole);
    }
}

static void on_delta(void *user, const generation_delta *d)
{
    response_answer *a = user;
    response_begin(a);
    switch (d->kind) {
    case OUTPUT_TEXT:
    case OUTPUT_REASONING:
        text_delta(a, d);
        break;
    case OUTPUT_TOOL_BEGIN:
        response_open_item(a, ITEM_CALL);
        a->call_name = strndup(d->bytes, d->n);
        generation_call_id(a->g, 0, a->n_calls++, a->call_id);
        response_announce_item(a);
        break;
    case OUTPUT_TOOL_ARGS:
        text_add(&a->text, d->bytes, d->n);
        response_send(a, "response.function_call_arguments.delta",
                      response_place_with(a, "delta", json_stringn(d->bytes, d->n)));
        break;
    case OUTPUT_TOOL_END:
        response_close_item(a, "completed");
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
    response_begin(a);
    a->incomplete = reason == GENERATION_LENGTH;
    response_close_item(a, reason == GENERATION_LENGTH ? "incomplete" : "completed");
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
static void end_stream(response_answer *a, json_t *response)
{
    const char *status = json_string_value(json_object_get(response, "status"));
    char type[40];
    if (a->x) {
        snprintf(type, sizeof type, "response.%s", status);
        response_send(a, type, json_pack("{s:O}", "response", response));
        a->answered = true;
        http_stream_end(a->x);
    }
}

static void end_cancelled(response_answer *a, json_t *response)
{
    if (a->begun && !a->answered) {
        end_stream(a, response);
    }
    a->answered = true;
}

static void on_error(void *user, int status, const char *code, const char *message, const char *param, unsigned retry_s)
{
    response_answer *a = user;
    a->g = NULL;
    bool waits = a->x && !a->begun && !a->answered;
    if (a->begun || a->listed) {
        json_t *response = response_json(a, "failed", NULL);
        json_object_set_new(response, "error", json_pack("{s:s, s:s}", "code", code, "message", message));
        response_keep(a, response, true, a->begun ? end_stream : NULL);
    }
    if (waits && retry_s) {
        error_respond_retry(a->x, status, code, message, retry_s);
    } else if (waits) {
        error_respond(a->x, status, code, message, param);
    }
    a->answered = a->answered || waits;
}

static void on_done(void *user, const generation_usage *usage)
{
    response_answer *a = user;
    if (a->text.failed) {
        on_error(a, 503, "server_error", "out of memory", NULL, 5);
        return;
    }
    a->g = NULL;
    join_conversation(a);
    json_t *response = response_json(a, a->incomplete ? "incomplete" : "completed", usage);
    if (a->x) {
        generation_note_usage(a->x, usage);
    }
    bool waits = a->x && !a->answered;
    a->answered = a->answered || !a->o.stream;
    response_keep(a, response, true, !waits ? NULL : a->o.stream ? end_stream : answer_whole);
}

void response_cancel(response_answer *a)
{
    generation *g = a->g;
    response_close_item(a, "incomplete");
    a->g = NULL;
    response_keep(a, response_json(a, "cancelled", NULL), true, end_cancelled);
    generation_cancel(g);
}

static void on_released(void *user)
{
    response_answer *a = user;
    a->released = true;
    response_answer_free(a);
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
