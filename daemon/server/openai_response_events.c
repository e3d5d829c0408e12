/*
 * /v1/responses: what is being made as typed events.
 * Owner: the answer. Lifetime: its stream.
 *
 *   delta ─▶ the item it belongs to: opened with added (and content_part.added), then delta …, closed with done
 */
#include <stdlib.h>

#include "server/openai_response.h"
#include "server/sse.h"

void response_send(response_answer *a, const char *type, json_t *members)
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

static json_t *place(const response_answer *a)
{
    json_t *made = json_pack("{s:s, s:I}", "item_id", a->item_id, "output_index", output_index(a));
    if (a->kind != ITEM_CALL) {
        json_object_set_new(made, "content_index", json_integer(0));
    }
    return made;
}

json_t *response_place_with(const response_answer *a, const char *key, json_t *value)
{
    json_t *made = place(a);
    json_object_set_new(made, key, value);
    return made;
}

void response_close_item(response_answer *a, const char *status)
{
    if (a->kind == ITEM_NONE) {
        return;
    }
    json_t *text = generation_text_json(&a->text);
    if (a->kind == ITEM_CALL) {
        json_t *done = response_place_with(a, "arguments", text);
        json_object_set_new(done, "name", json_string(a->call_name));
        response_send(a, "response.function_call_arguments.done", done);
    } else {
        bool message = a->kind == ITEM_MESSAGE;
        json_t *done = response_place_with(a, "text", text);
        if (message) {
            json_object_set_new(done, "logprobs", a->logprobs ? json_incref(a->logprobs) : json_array());
        }
        response_send(a, message ? "response.output_text.done" : "response.reasoning_text.done", done);
        response_send(a, "response.content_part.done", response_place_with(a, "part", response_part_json(a, true)));
    }
    json_t *item = response_item_json(a, status, true);
    response_send(a, "response.output_item.done",
                  json_pack("{s:I, s:O}", "output_index", output_index(a), "item", item));
    json_array_append_new(a->output, item);
    a->kind = ITEM_NONE;
    a->text.n = 0;
    json_decref(a->logprobs);
    a->logprobs = NULL;
    free(a->call_name);
    a->call_name = NULL;
}

void response_open_item(response_answer *a, item_kind kind)
{
    static const char *const prefixes[] = {"", "msg_", "rs_", "fc_"};
    if (a->kind == kind && kind != ITEM_CALL) {
        return;
    }
    response_close_item(a, "completed");
    a->kind = kind;
    generation_new_id(a->d, prefixes[kind], a->item_id, sizeof a->item_id);
}

void response_announce_item(response_answer *a)
{
    response_send(
        a, "response.output_item.added",
        json_pack("{s:I, s:o}", "output_index", output_index(a), "item", response_item_json(a, "in_progress", false)));
    if (a->kind != ITEM_CALL) {
        response_send(a, "response.content_part.added", response_place_with(a, "part", response_part_json(a, false)));
    }
}

static void on_drain(void *user)
{
    response_answer *a = user;
    if (a->g) {
        generation_resume(a->g);
    }
}

void response_begin(response_answer *a)
{
    if (a->begun || !a->x || !a->o.stream) {
        return;
    }
    a->begun = true;
    http_on_drain(a->x, on_drain, a);
    sse_begin(a->x);
    response_send(a, "response.created", json_pack("{s:o}", "response", response_json(a, "in_progress", NULL)));
    response_send(a, "response.in_progress", json_pack("{s:o}", "response", response_json(a, "in_progress", NULL)));
}
