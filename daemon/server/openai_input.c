/*
 * The "input" of /v1/responses as messages.
 * Owner: the request. Lifetime: the call.
 *
 * Items become messages of chat completions: a function_call joins the assistant's message before it, a
 * function_call_output is a tool's message, reasoning belongs to the assistant's message behind it.
 */
#include <string.h>

#include "server/openai_parts.h"

static bool no_memory(chat_request *r)
{
    return request_fields_no_memory(&r->f);
}

static json_t *last_assistant(json_t *list)
{
    size_t n = json_array_size(list);
    json_t *last = n ? json_array_get(list, n - 1) : NULL;
    const char *role = json_string_value(json_object_get(last, "role"));
    return role && strcmp(role, "assistant") == 0 ? last : NULL;
}

static json_t *assistant_for_call(json_t *list)
{
    json_t *last = last_assistant(list);
    if (!last) {
        last = json_pack("{s:s, s:s}", "role", "assistant", "content", "");
        json_array_append_new(list, last);
    }
    if (!json_object_get(last, "tool_calls")) {
        json_object_set_new(last, "tool_calls", json_array());
    }
    return last;
}

static bool add_call(chat_request *r, json_t *list, const json_t *item, size_t i)
{
    const json_t *name = json_object_get(item, "name"), *arguments = json_object_get(item, "arguments");
    const json_t *id = json_object_get(item, "call_id");
    if (!json_is_string(name) || !json_is_string(arguments) || !json_is_string(id)) {
        return request_fields_bad(&r->f, "input", "input[%zu]: a function_call has a call_id, a name and arguments", i);
    }
    json_t *calls = json_object_get(assistant_for_call(list), "tool_calls");
    json_t *call = json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function", "name", name,
                             "arguments", arguments);
    return json_array_append_new(calls, call) == 0 || no_memory(r);
}

static bool add_output(chat_request *r, json_t *list, const json_t *item, size_t i)
{
    const json_t *id = json_object_get(item, "call_id");
    json_t *text = chat_content_text(r, "input", json_object_get(item, "output"), i);
    if (!text) {
        return false;
    }
    if (!json_is_string(id)) {
        json_decref(text);
        return request_fields_bad(&r->f, "input", "input[%zu]: a function_call_output has a call_id", i);
    }
    json_t *one = json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content", text);
    return json_array_append_new(list, one) == 0 || no_memory(r);
}

/* Its text stands in "content", or in a summary. */
static bool add_reasoning(chat_request *r, json_t *list, const json_t *item)
{
    const json_t *content = json_object_get(item, "content");
    content = json_array_size(content) ? content : json_object_get(item, "summary");
    json_t *text = json_string("");
    for (size_t i = 0; i < json_array_size(content); i++) {
        const char *more = json_string_value(json_object_get(json_array_get(content, i), "text"));
        json_t *joined = json_sprintf("%s%s", json_string_value(text), more ? more : "");
        json_decref(text);
        text = joined;
    }
    json_t *one = json_pack("{s:s, s:s, s:o}", "role", "assistant", "content", "", "reasoning_content", text);
    return json_array_append_new(list, one) == 0 || no_memory(r);
}

static bool add_message(chat_request *r, json_t *list, const json_t *item, size_t i)
{
    const char *role = json_string_value(json_object_get(item, "role"));
    json_t *text = role ? chat_content_text(r, "input", json_object_get(item, "content"), i) : NULL;
    if (!text) {
        return request_fields_bad(&r->f, "input", "input[%zu] has no role", i);
    }
    json_t *last = strcmp(role, "assistant") == 0 ? last_assistant(list) : NULL;
    const char *before = json_string_value(json_object_get(last, "content"));
    if (last && before && !*before && !json_object_get(last, "tool_calls")) { /* reasoning was before it */
        return json_object_set_new(last, "content", text) == 0 || no_memory(r);
    }
    json_t *one = json_pack("{s:s, s:o}", "role", role, "content", text);
    return json_array_append_new(list, one) == 0 || no_memory(r);
}

static bool add_item(chat_request *r, json_t *list, const json_t *item, size_t i)
{
    const char *type = json_string_value(json_object_get(item, "type"));
    if (!json_is_object(item)) {
        return request_fields_bad(&r->f, "input", "input[%zu] must be an object", i);
    }
    if (!type || strcmp(type, "message") == 0) {
        return add_message(r, list, item, i);
    }
    if (strcmp(type, "function_call") == 0) {
        return add_call(r, list, item, i);
    }
    if (strcmp(type, "function_call_output") == 0) {
        return add_output(r, list, item, i);
    }
    if (strcmp(type, "reasoning") == 0) {
        return add_reasoning(r, list, item);
    }
    return request_fields_bad(&r->f, "input", "input[%zu] is of type '%.40s', which cannot be read", i, type);
}

/* `list` gets the items of `input`, behind what is in it. */
static bool add_input(chat_request *r, json_t *list, const json_t *input)
{
    if (json_is_string(input)) {
        json_t *one = json_pack("{s:s, s:O}", "role", "user", "content", input);
        return json_array_append_new(list, one) == 0 || no_memory(r);
    }
    if (!json_is_array(input) || json_array_size(input) == 0) {
        return request_fields_bad(&r->f, "input", "input must be a text or a list of items");
    }
    for (size_t i = 0; i < json_array_size(input); i++) {
        if (!add_item(r, list, json_array_get(input, i), i)) {
            return false;
        }
    }
    return true;
}

bool openai_input_read(chat_request *r, const openai_options *o, json_t *earlier, json_t **conversation)
{
    json_t *list = earlier ? earlier : json_array(), *shown = NULL;
    bool ok = add_input(r, list, o->input);
    if (ok) {
        shown = json_copy(list);
        if (o->instructions) { /* of this response only: they are no part of the conversation */
            json_array_insert_new(shown, 0, json_pack("{s:s, s:s}", "role", "system", "content", o->instructions));
        }
        ok = chat_messages_read(r, "input", shown);
    }
    json_decref(shown);
    *conversation = list;
    return ok;
}
