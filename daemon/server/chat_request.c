/*
 * Messages, tools and choices of tools as requests have them.
 * Owner: the generation. Lifetime: as the request's.
 */
#include "server/chat_request.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/text_buffer.h"

#define MESSAGES_MAX 10000u
#define TOOLS_MAX 128u

#define R(member) offsetof(chat_request, member)

const request_field chat_request_extensions[] = {
    {"draft", field_one_of, R(draft), 0, 0, "ngram|mtp|none"},
    {"n_ctx", field_count, R(n_ctx), 0, 0, NULL},
    {"keep_volatile", field_bool, R(keep_volatile), 0, 0, NULL},
    {"deadline_ms", field_count, R(deadline_ms), 0, 0, NULL},
    {"lora", field_list, R(lora), 0, 0, NULL},
    {"prompt_cache_key", field_warn, 0, 0, 0, "prompts are found in the cache by their content, whoever asks"},
    {"safety_identifier", field_client, R(f.client), 0, 0, NULL},
};
const size_t n_chat_request_extensions = sizeof chat_request_extensions / sizeof *chat_request_extensions;

bool chat_request_open(chat_request *r, json_t *body, const mlxr_sampling *defaults)
{
    *r = (chat_request){.body = body, .keep_alive_ms = INT64_MIN};
    request_fields_open(&r->f, defaults);
    return json_is_object(body) || request_fields_bad(&r->f, NULL, "the body must be a JSON object");
}

void chat_request_close(chat_request *r)
{
    request_fields_close(&r->f);
    json_decref(r->messages);
    json_decref(r->tools);
    json_decref(r->body);
    free(r->tokens);
    free(r->before);
    free(r->template_text);
    free(r->answer);
    *r = (chat_request){0};
}

static bool no_memory(chat_request *r)
{
    return request_fields_no_memory(&r->f);
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static bool is_text_part(const char *type)
{
    return strcmp(type, "text") == 0 || strcmp(type, "input_text") == 0 || strcmp(type, "output_text") == 0 ||
           strcmp(type, "refusal") == 0;
}

json_t *chat_content_text(chat_request *r, const char *field, const json_t *content, size_t index)
{
    if (!content || json_is_null(content)) {
        return json_string("");
    }
    if (json_is_string(content)) {
        return json_incref((json_t *)content);
    }
    if (!json_is_array(content)) {
        request_fields_bad(&r->f, field, "%s[%zu]: a content is a text or a list of parts", field, index);
        return NULL;
    }
    text_buffer text = {0};
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *more = json_object_get(part, type && strcmp(type, "refusal") == 0 ? "refusal" : "text");
        if (!type || !is_text_part(type) || !json_is_string(more)) {
            request_fields_bad(&r->f, field,
                               "%s[%zu]: part %zu of its content is '%.40s'; only text can be read, no images or sound",
                               field, index, i, type ? type : "of no type");
            text_buffer_close(&text);
            return NULL;
        }
        text_add(&text, json_string_value(more), json_string_length(more));
    }
    json_t *joined = text.failed ? NULL : json_stringn(text.data ? text.data : "", text.n);
    text_buffer_close(&text);
    if (!joined) {
        no_memory(r);
    }
    return joined;
}

/* Arguments are a text that holds an object; templates want the object. One that is none stays the text it is. */
static json_t *call_arguments(const json_t *arguments)
{
    const char *text = json_string_value(arguments);
    mlxr_error ignored;
    json_t *object = text ? request_body_read(text, strlen(text), &ignored) : NULL;
    if (object) {
        return object;
    }
    return arguments ? json_incref((json_t *)arguments) : json_object();
}

static json_t *copy_calls(chat_request *r, const char *field, const json_t *calls, size_t index)
{
    json_t *made = json_array();
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *one = json_array_get(calls, i), *function = json_object_get(one, "function");
        const json_t *id = json_object_get(one, "id"), *name = json_object_get(function, "name");
        if (!json_is_string(name) || (id && !json_is_string(id))) {
            request_fields_bad(&r->f, field, "%s[%zu].tool_calls[%zu] needs a function with a name", field, index, i);
            json_decref(made);
            return NULL;
        }
        json_t *call = json_pack("{s:s, s:{s:O, s:o}}", "type", "function", "function", "name", name, "arguments",
                                 call_arguments(json_object_get(function, "arguments")));
        if (id) {
            json_object_set(call, "id", (json_t *)id);
        }
        json_array_append_new(made, call);
    }
    return made;
}

/* Members of a message that something reads. */
static bool known_member(const char *key)
{
    static const char *const known[] = {
        "role",      "content",  "name",    "tool_calls",  "tool_call_id", "reasoning_content",
        "reasoning", "thinking", "refusal", "annotations", "audio",        "function_call",
        "tool_name", "images",   "prefix"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static bool check_members(chat_request *r, const char *field, const json_t *from, size_t index)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)from, key, value)
    {
        bool empty = json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
        bool media = strcmp(key, "audio") == 0 || strcmp(key, "images") == 0 || strcmp(key, "function_call") == 0;
        if (!known_member(key) || (media && !empty)) {
            return request_fields_bad(&r->f, field, "%s[%zu]: \"%.60s\" cannot be read", field, index, key);
        }
    }
    return true;
}

static bool read_message(chat_request *r, const char *field, const json_t *from, size_t index)
{
    static const char *const copied[] = {"name",      "tool_call_id", "tool_name", "reasoning_content",
                                         "reasoning", "thinking"};
    const char *role = json_string_value(json_object_get(from, "role"));
    if (!role || !*role) {
        return request_fields_bad(&r->f, field, "%s[%zu] has no role", field, index);
    }
    if (!check_members(r, field, from, index)) {
        return false;
    }
    role = strcmp(role, "developer") == 0 ? "system" : strcmp(role, "function") == 0 ? "tool" : role;
    if (strcmp(role, "system") && strcmp(role, "user") && strcmp(role, "assistant") && strcmp(role, "tool")) {
        return request_fields_bad(&r->f, field,
                                  "%s[%zu]: role '%.40s' is none of system, developer, user, assistant, tool", field,
                                  index, role);
    }
    json_t *text = chat_content_text(r, field, json_object_get(from, "content"), index);
    if (!text) {
        return false;
    }
    json_t *made = json_pack("{s:s, s:o}", "role", role, "content", text);
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
        json_t *value = json_object_get(from, copied[i]);
        if (value && !json_is_null(value) && !json_is_string(value)) {
            json_decref(made);
            return request_fields_bad(&r->f, field, "%s[%zu].%s must be a text", field, index, copied[i]);
        }
        if (json_is_string(value)) {
            json_object_set(made, copied[i], value);
        }
    }
    json_t *calls = json_object_get(from, "tool_calls");
    if (calls && !json_is_null(calls)) {
        json_t *copy = json_is_array(calls) ? copy_calls(r, field, calls, index) : NULL;
        if (!copy) {
            json_decref(made);
            return request_fields_bad(&r->f, field, "%s[%zu].tool_calls must be a list", field, index);
        }
        if (json_array_size(copy) == 0) {
            json_decref(copy);
        } else {
            json_object_set_new(made, "tool_calls", copy);
        }
    }
    return made && json_array_append_new(r->messages, made) == 0 ? true : no_memory(r);
}

bool chat_messages_read(chat_request *r, const char *field, const json_t *messages)
{
    size_t n = json_array_size(messages);
    if (n == 0 || n > MESSAGES_MAX) {
        return request_fields_bad(&r->f, field, "%s must be a list of 1 to %u messages {\"role\", \"content\"}", field,
                                  MESSAGES_MAX);
    }
    json_decref(r->messages);
    r->messages = json_array();
    for (size_t i = 0; i < n; i++) {
        if (!read_message(r, field, json_array_get(messages, i), i)) {
            return false;
        }
    }
    return r->messages || no_memory(r);
}

bool chat_message_add(chat_request *r, const char *role, const char *text)
{
    r->messages = r->messages ? r->messages : json_array();
    json_t *one = json_pack("{s:s, s:s}", "role", role, "content", text);
    return (one && json_array_append_new(r->messages, one) == 0) || no_memory(r);
}

/* ---- tools ------------------------------------------------------------------------------------------------------- */

static bool read_tool(chat_request *r, const char *field, const json_t *tool, size_t i)
{
    const char *type = json_string_value(json_object_get(tool, "type"));
    const json_t *inner = json_object_get(tool, "function");
    const json_t *function = inner ? inner : tool; /* the form of /v1/responses has no inner object */
    const char *name = json_string_value(json_object_get(function, "name"));
    if (!json_is_object(tool) || (type && strcmp(type, "function") != 0)) {
        return request_fields_bad(&r->f, field, "%s[%zu] is of type '%.40s'; only functions can be called", field, i,
                                  type ? type : "?");
    }
    if (!name || !*name || strlen(name) > 128) {
        return request_fields_bad(&r->f, field, "%s[%zu] needs a function with a name of 1 to 128 bytes", field, i);
    }
    const json_t *parameters = json_object_get(function, "parameters");
    if (parameters && !json_is_object(parameters) && !json_is_null(parameters)) {
        return request_fields_bad(&r->f, field, "%s[%zu].function.parameters must be a JSON Schema", field, i);
    }
    json_t *copy = json_object();
    static const char *const kept[] = {"name", "description", "parameters"};
    for (size_t k = 0; k < sizeof kept / sizeof *kept; k++) {
        json_t *value = json_object_get(function, kept[k]);
        if (value && !json_is_null(value)) {
            json_object_set(copy, kept[k], value);
        }
    }
    if (!json_object_get(copy, "parameters")) {
        json_object_set_new(copy, "parameters", json_pack("{s:s, s:{}}", "type", "object", "properties"));
    }
    json_t *made = json_pack("{s:s, s:o}", "type", "function", "function", copy);
    return (made && json_array_append_new(r->tools, made) == 0) || no_memory(r);
}

bool chat_tools_read(chat_request *r, const char *field, const json_t *tools)
{
    size_t n = json_array_size(tools);
    if (!json_is_array(tools) || n > TOOLS_MAX) {
        return request_fields_bad(&r->f, field, "%s must be a list of at most %u tools", field, TOOLS_MAX);
    }
    if (n == 0) {
        return true;
    }
    json_decref(r->tools);
    r->tools = json_array();
    for (size_t i = 0; i < n; i++) {
        if (!read_tool(r, field, json_array_get(tools, i), i)) {
            return false;
        }
    }
    return true;
}

bool chat_tool_choice_read(chat_request *r, const char *field, const json_t *choice)
{
    const char *word = json_string_value(choice);
    if (word && strcmp(word, "auto") == 0) {
        r->choice = TOOL_CHOICE_AUTO;
    } else if (word && strcmp(word, "none") == 0) {
        r->choice = TOOL_CHOICE_NONE;
    } else if (word && (strcmp(word, "required") == 0 || strcmp(word, "any") == 0)) {
        r->choice = TOOL_CHOICE_REQUIRED;
    } else {
        const json_t *function = json_object_get(choice, "function");
        const char *name = json_string_value(json_object_get(function ? function : choice, "name"));
        const char *type = json_string_value(json_object_get(choice, "type"));
        if (!name || !type || strcmp(type, "function") != 0) {
            return request_fields_bad(&r->f, field,
                                      "%s must be \"none\", \"auto\", \"required\" or {\"type\": \"function\", "
                                      "\"function\": {\"name\": …}}",
                                      field);
        }
        r->choice = TOOL_CHOICE_NAMED;
        r->tool_name = name;
    }
    return true;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static bool has_tool(const chat_request *r, const char *name)
{
    for (size_t i = 0; i < json_array_size(r->tools); i++) {
        const json_t *function = json_object_get(json_array_get(r->tools, i), "function");
        const char *own = json_string_value(json_object_get(function, "name"));
        if (own && strcmp(own, name) == 0) {
            return true;
        }
    }
    return false;
}

bool chat_request_check(chat_request *r)
{
    bool forced = chat_request_is_forced(r);
    if (r->f.n_choices > CHAT_CHOICES_MAX) {
        return request_fields_bad(&r->f, "n", "n is %u; at most %u answers are made at once", r->f.n_choices,
                                  CHAT_CHOICES_MAX);
    }
    if (forced && !r->tools) {
        return request_fields_bad(&r->f, "tool_choice", "tool_choice asks for a call, but there are no tools");
    }
    if (r->choice == TOOL_CHOICE_NAMED && !has_tool(r, r->tool_name)) {
        return request_fields_bad(&r->f, "tool_choice", "tool_choice names '%.60s', which is none of the tools",
                                  r->tool_name);
    }
    if (r->choice == TOOL_CHOICE_NONE) { /* they are neither told nor looked for */
        json_decref(r->tools);
        r->tools = NULL;
    }
    if (r->tools && r->f.grammar) {
        return request_fields_bad(
            &r->f, "response_format",
            "an answer bound to a grammar or schema cannot call tools: give tool_choice \"none\", "
            "or no tools");
    }
    return true;
}

bool chat_request_is_forced(const chat_request *r)
{
    return r->choice == TOOL_CHOICE_REQUIRED || r->choice == TOOL_CHOICE_NAMED;
}

bool chat_request_is_bound(const chat_request *r)
{
    return chat_request_is_forced(r) || r->f.grammar != NULL;
}
