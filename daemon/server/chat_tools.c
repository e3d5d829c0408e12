/*
 * Tools in prompts.
 * Owner: the caller. Lifetime: the call.
 */
#include "server/chat_tools.h"

#include <stdlib.h>
#include <string.h>

/* ---- described --------------------------------------------------------------------------------------------------- */

static const char *role_at(const json_t *messages, size_t i)
{
    const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
    return role ? role : "";
}

static const char *content_of(const json_t *message)
{
    const char *text = json_string_value(json_object_get(message, "content"));
    return text ? text : "";
}

static json_t *description(const json_t *tools)
{
    json_t *text = json_string("You may call tools. They are, as JSON Schema:\n<tools>\n");
    for (size_t i = 0; text && i < json_array_size(tools); i++) {
        char *one = json_dumps(json_array_get(tools, i), JSON_COMPACT);
        json_t *more = one ? json_sprintf("%s%s\n", json_string_value(text), one) : NULL;
        free(one);
        json_decref(text);
        text = more;
    }
    json_t *all = text ? json_sprintf("%s</tools>\nTo call one, answer with its name and arguments as JSON in tags:\n"
                                      "<tool_call>\n{\"name\": \"…\", \"arguments\": {…}}\n</tool_call>\n"
                                      "Its result comes back in <tool_response> tags.",
                                      json_string_value(text))
                       : NULL;
    json_decref(text);
    return all;
}

static bool tell_tools(json_t *messages, const json_t *tools)
{
    json_t *text = description(tools);
    if (!text) {
        return false;
    }
    if (strcmp(role_at(messages, 0), "system") == 0) {
        json_t *first = json_array_get(messages, 0);
        json_t *joined = json_sprintf("%s\n\n%s", content_of(first), json_string_value(text));
        json_decref(text);
        return joined && json_object_set_new(first, "content", joined) == 0;
    }
    return json_array_insert_new(messages, 0, json_pack("{s:s, s:o}", "role", "system", "content", text)) == 0;
}

static bool calls_to_text(json_t *message, const json_t *calls)
{
    json_t *text = json_string(content_of(message));
    for (size_t i = 0; text && i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        json_t *call = json_pack("{s:O, s:O}", "name", json_object_get(function, "name"), "arguments",
                                 json_object_get(function, "arguments"));
        char *dumped = json_dumps(call, 0);
        const char *before = json_string_value(text);
        json_t *more = dumped ? json_sprintf("%s%s<tool_call>\n%s\n</tool_call>", before, *before ? "\n" : "", dumped)
                              : NULL;
        free(dumped);
        json_decref(call);
        json_decref(text);
        text = more;
    }
    return text && json_object_set_new(message, "content", text) == 0 && json_object_del(message, "tool_calls") == 0;
}

bool chat_tools_describe(json_t *messages, const json_t *tools)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i), *calls = json_object_get(message, "tool_calls");
        if (calls && !calls_to_text(message, calls)) {
            return false;
        }
        if (strcmp(role_at(messages, i), "tool") != 0) {
            continue;
        }
        bool follows = i > 0 && json_is_true(json_object_get(json_array_get(messages, i - 1), "tool_result"));
        json_t *target = follows ? json_array_get(messages, i - 1) : message;
        json_t *text = json_sprintf("%s%s<tool_response>\n%s\n</tool_response>", follows ? content_of(target) : "",
                                    follows ? "\n" : "", content_of(message));
        if (!text || json_object_set_new(target, "content", text) != 0) {
            return false;
        }
        if (follows) {
            json_array_remove(messages, i--);
        } else {
            json_object_set_new(message, "role", json_string("user"));
            json_object_set_new(message, "tool_result", json_true());
        }
    }
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_object_del(json_array_get(messages, i), "tool_result");
    }
    return json_array_size(tools) == 0 || tell_tools(messages, tools);
}

void chat_system_merge(json_t *messages)
{
    if (json_array_size(messages) < 2 || strcmp(role_at(messages, 0), "system") != 0 ||
        strcmp(role_at(messages, 1), "user") != 0) {
        return;
    }
    json_t *user = json_array_get(messages, 1);
    json_t *joined = json_sprintf("%s\n\n%s", content_of(json_array_get(messages, 0)), content_of(user));
    if (joined && json_object_set_new(user, "content", joined) == 0) {
        json_array_remove(messages, 0);
    }
}

/* ---- forced ------------------------------------------------------------------------------------------------------ */

const char *chat_tools_prefix(tool_style style)
{
    return style == TOOLS_HERMES ? "<tool_call>\n" : style == TOOLS_MISTRAL ? "[TOOL_CALLS]" : "";
}

#define CALLS_MAX 128 /* in one answer */

/* References of a schema that now lies deeper: "#/…" becomes "<path>/…". */
static void move_references(json_t *schema, const char *path, unsigned depth)
{
    const char *key;
    json_t *value;
    size_t i;
    if (depth > 64) { /* the compiler refuses it anyway */
        return;
    }
    if (json_is_array(schema)) {
        json_array_foreach(schema, i, value)
        {
            move_references(value, path, depth + 1);
        }
        return;
    }
    json_t *reference = json_object_get(schema, "$ref");
    const char *text = json_string_value(reference);
    if (text && *text == '#') {
        json_object_set_new(schema, "$ref", json_sprintf("%s%s", path, text + 1));
    }
    json_object_foreach(schema, key, value)
    {
        move_references(value, path, depth + 1);
    }
}

static json_t *call_schema(const json_t *function, const char *path, const char *arguments_key)
{
    json_t *parameters = json_deep_copy(json_object_get(function, "parameters"));
    json_t *here = json_sprintf("%s/properties/%s", path, arguments_key);
    move_references(parameters, json_string_value(here), 0);
    json_decref(here);
    if (json_object_size(parameters) == 0) {
        json_object_set_new(parameters, "type", json_string("object"));
    }
    return json_pack("{s:s, s:{s:{s:O}, s:o}, s:[s, s], s:b}", "type", "object", "properties", "name", "const",
                     json_object_get(function, "name"), arguments_key, parameters, "required", "name", arguments_key,
                     "additionalProperties", 0);
}

static bool allowed(const chat_request *r, const json_t *function)
{
    const char *name = json_string_value(json_object_get(function, "name"));
    return r->choice != TOOL_CHOICE_NAMED || (name && strcmp(name, r->tool_name) == 0);
}

char *chat_tools_schema(const chat_request *r, tool_style style)
{
    const char *arguments_key = style == TOOLS_LLAMA3 ? "parameters" : "arguments";
    bool list = style == TOOLS_MISTRAL || style == TOOLS_HERMES;
    json_t *choices = json_array();
    for (size_t i = 0; i < json_array_size(r->tools); i++) {
        const json_t *function = json_object_get(json_array_get(r->tools, i), "function");
        if (allowed(r, function)) {
            json_t *path = json_sprintf("#%s/anyOf/%zu", list ? "/items" : "", json_array_size(choices));
            json_array_append_new(choices, call_schema(function, json_string_value(path), arguments_key));
            json_decref(path);
        }
    }
    json_t *schema = json_pack("{s:o}", "anyOf", choices);
    if (list) {
        bool single = r->single_call || r->choice == TOOL_CHOICE_NAMED;
        schema = json_pack("{s:s, s:o, s:i, s:i}", "type", "array", "items", schema, "minItems", 1, "maxItems",
                           single ? 1 : CALLS_MAX);
    }
    if (style == TOOLS_HERMES) { /* each in tags of its own; the first is opened by the prefix */
        json_object_set_new(schema, "x-mlxr-items",
                            json_pack("{s:s, s:s}", "between", "\n<tool_call>\n", "behind", "\n</tool_call>"));
    }
    char *text = json_dumps(schema, JSON_COMPACT);
    json_decref(schema);
    return text;
}
