/*
 * The fields of /v1/messages and /v1/messages/count_tokens, and what they make of a request.
 * Owner: the request. Lifetime: the call.
 */
#include <stddef.h>
#include <string.h>

#include "server/anthropic_parts.h"

#define O(member) offsetof(anthropic_options, member)
#define N(list) (sizeof(list) / sizeof *(list))
#define THINKING_TOKENS_MIN 1024

/* For what needs a service that only its maker has; an empty list asks for nothing. */
static bool read_refused(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    (void)target;
    return (json_is_array(value) && json_array_size(value) == 0) ||
           request_fields_bad(r, f->name, "%s: %s", f->name, f->note);
}

static const request_field messages_fields[] = {
    {"model", field_skip, 0, 0, 0, NULL},
    {"messages", field_list, O(messages), 0, 0, NULL},
    {"system", field_json, O(system), 0, 0, NULL},
    {"stream", field_bool, O(stream), 0, 0, NULL},
    {"tools", field_list, O(tools), 0, 0, NULL},
    {"tool_choice", field_object, O(tool_choice), 0, 0, NULL},
    {"thinking", field_object, O(thinking), 0, 0, NULL},
    {"metadata", field_object, O(metadata), 0, 0, NULL},
    {"cache_control", field_object, O(cache_control), 0, 0, NULL},
    {"output_config", field_object, O(output_config), 0, 0, NULL},
    {"output_format", field_object, O(output_format), 0, 0, NULL},
    {"service_tier", field_one_of, O(tier), 0, 0, "auto|standard_only"},
    {"speed", field_one_of, O(speed), 0, 0, "standard|fast"},
    {"truncation", field_one_of, O(truncation), 0, 0, "disabled|auto"},
    {"chat_template_kwargs", field_object, O(variables), 0, 0, NULL},
    {"context_management", field_warn, 0, 0, 0, "nothing of a conversation is cleared here; see \"truncation\""},
    {"inference_geo", field_warn, 0, 0, 0, "the answer is made on this machine"},
    {"diagnostics", field_warn, 0, 0, 0, "misses of the cache are told by /metrics"},
    {"user_profile_id", field_warn, 0, 0, 0, "there are no profiles here"},
    {"container", read_refused, 0, 0, 0, "there are no containers here"},
    {"mcp_servers", read_refused, 0, 0, 0, "this server calls no others; the client's own tools go in \"tools\""},
};

/* stop_sequences stands beside what all dialects share; its target is the same. */
static const request_field messages_shared[] = {
    {"stop_sequences", field_stops, offsetof(request_fields, stops), 0, 0, NULL},
};

/* {"type": "enabled" | "disabled" | "adaptive", "budget_tokens", "display"} */
static bool read_thinking(chat_request *r, anthropic_options *o)
{
    const char *type = json_string_value(json_object_get(o->thinking, "type"));
    const json_t *display = json_object_get(o->thinking, "display"),
                 *budget = json_object_get(o->thinking, "budget_tokens");
    const char *shown = json_string_value(display);
    json_int_t n;
    if (!o->thinking) {
        return true;
    }
    if (!anthropic_members_check(r, "thinking", "thinking", o->thinking, "type|budget_tokens|display")) {
        return false;
    }
    bool on = type && strcmp(type, "enabled") == 0, off = type && strcmp(type, "disabled") == 0;
    if (!on && !off && (!type || strcmp(type, "adaptive") != 0)) {
        return request_fields_bad(&r->f, "thinking", "thinking.type must be \"enabled\", \"disabled\" or \"adaptive\"");
    }
    if (display && !json_is_null(display) && (!shown || (strcmp(shown, "summarized") && strcmp(shown, "omitted")))) {
        return request_fields_bad(&r->f, "thinking", "thinking.display must be \"summarized\" or \"omitted\"");
    }
    o->hides_thinking = shown && strcmp(shown, "omitted") == 0;
    r->think = on ? THINK_ON : off ? THINK_OFF : THINK_DEFAULT;
    if (!on) {
        return true;
    }
    if (!request_field_whole(budget, THINKING_TOKENS_MIN, UINT32_MAX, &n)) {
        return request_fields_bad(&r->f, "thinking", "thinking.budget_tokens must be a whole number from %d on",
                                  THINKING_TOKENS_MIN);
    }
    if (!o->counts && n >= (json_int_t)r->f.max_tokens) {
        return request_fields_bad(&r->f, "thinking",
                                  "thinking.budget_tokens is %" JSON_INTEGER_FORMAT
                                  ": it must be less than max_tokens, which it is part of",
                                  n);
    }
    return request_fields_warn(&r->f, "thinking.budget_tokens: reasoning ends where the model ends it");
}

/* {"type": "json_schema", "schema": {…}} */
static bool read_format(chat_request *r, const char *field, const json_t *format)
{
    const char *type = json_string_value(json_object_get(format, "type"));
    json_t *schema = json_object_get(format, "schema");
    if (!format || json_is_null(format)) {
        return true;
    }
    if (!type || strcmp(type, "json_schema") != 0 || !json_is_object(schema)) {
        return request_fields_bad(&r->f, field, "%s must be {\"type\": \"json_schema\", \"schema\": {…}}",
                                  strcmp(field, "output_config") == 0 ? "output_config.format" : field);
    }
    if (json_array_size(r->tools) > 0 && r->choice != TOOL_CHOICE_NONE) {
        return request_fields_bad(&r->f, field,
                                  "%s: an answer bound to a schema cannot call tools: give tool_choice {\"type\": "
                                  "\"none\"}, or no tools",
                                  field);
    }
    return request_fields_grammar(&r->f, field, json_dumps(schema, JSON_COMPACT), true);
}

static bool read_output(chat_request *r, const anthropic_options *o)
{
    static const char *const efforts[] = {"low", "medium", "high", "xhigh", "max"};
    const json_t *effort = json_object_get(o->output_config, "effort");
    if (!anthropic_members_check(r, "output_config", "output_config", o->output_config, "effort|format")) {
        return false;
    }
    for (size_t i = 0; json_is_string(effort) && !r->effort && i < N(efforts); i++) {
        r->effort = strcmp(json_string_value(effort), efforts[i]) == 0 ? efforts[i] : NULL;
    }
    if (effort && !json_is_null(effort) && !r->effort) {
        return request_fields_bad(&r->f, "output_config",
                                  "output_config.effort must be low, medium, high, xhigh or max");
    }
    return read_format(r, "output_config", json_object_get(o->output_config, "format")) &&
           read_format(r, "output_format", o->output_format);
}

/* {"user_id": "…"}: who shares fairly with whom. */
static bool read_metadata(chat_request *r, const anthropic_options *o)
{
    static const request_field row = {"metadata.user_id", field_client, 0, 0, 0, NULL};
    const json_t *id = json_object_get(o->metadata, "user_id");
    return anthropic_members_check(r, "metadata", "metadata", o->metadata, "user_id") &&
           (!id || json_is_null(id) || field_client(&r->f, &row, &r->f.client, id));
}

/* What of the shared fields an answer of this dialect has no place for. */
static bool check_shared(chat_request *r, const anthropic_options *o)
{
    const json_t *most = json_object_get(r->body, "max_tokens");
    if (r->f.n_choices != 1) {
        return request_fields_bad(&r->f, "n", "n: a message is one answer: it must be 1");
    }
    if (r->f.sampling.logprobs) {
        return request_fields_bad(&r->f, "logprobs", "logprobs: a message has no place for log-probabilities");
    }
    if (!o->counts && (!most || json_is_null(most))) {
        return request_fields_bad(&r->f, "max_tokens", "max_tokens is missing: how long the answer may become");
    }
    if (o->speed && strcmp(o->speed, "fast") == 0) {
        return request_fields_warn(&r->f, "speed: there is one speed here");
    }
    return true;
}

bool anthropic_parse(chat_request *r, anthropic_options *o)
{
    const field_table tables[] = {{messages_fields, N(messages_fields), o},
                                  {messages_shared, N(messages_shared), &r->f},
                                  {request_fields_common, n_request_fields_common, &r->f},
                                  {chat_request_extensions, n_chat_request_extensions, r}};
    if (!request_fields_read(&r->f, r->body, tables, N(tables)) || !check_shared(r, o)) {
        return false;
    }
    r->truncate = o->truncation && strcmp(o->truncation, "auto") == 0 ? TRUNCATE_OLDEST : TRUNCATE_NEVER;
    r->variables = o->variables;
    return anthropic_tools_read(r, o) && read_thinking(r, o) && read_output(r, o) && read_metadata(r, o) &&
           anthropic_input_read(r, o);
}

/* ---- for /openapi.json ------------------------------------------------------------------------------------------- */

#define CONTENT                                                                                                        \
    "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"type\":{"  \
    "\"const\":\"text\"},\"text\":{\"type\":\"string\"}},\"required\":[\"type\",\"text\"]}}]}"

static const struct {
    const char *name, *schema;
} details[] = {
    {"model", "{\"type\":\"string\",\"description\":\"One of /v1/models.\"}"},
    {"messages",
     "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\",\"properties\":{\"role\":{\"enum\":["
     "\"user\",\"assistant\",\"system\"]},\"content\":" CONTENT "},\"required\":[\"role\",\"content\"],"
     "\"additionalProperties\":false}}"},
    {"system", CONTENT},
    {"tools", "{\"type\":\"array\",\"maxItems\":128,\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":"
              "\"string\",\"minLength\":1,\"maxLength\":128},\"description\":{\"type\":\"string\"},\"input_schema\":{"
              "\"type\":\"object\"}},\"required\":[\"name\",\"input_schema\"]}}"},
    {"tool_choice", "{\"type\":\"object\",\"properties\":{\"type\":{\"enum\":[\"auto\",\"any\",\"tool\",\"none\"]},"
                    "\"name\":{\"type\":\"string\"},\"disable_parallel_tool_use\":{\"type\":\"boolean\"}},"
                    "\"required\":[\"type\"]}"},
    {"thinking", "{\"type\":\"object\",\"properties\":{\"type\":{\"enum\":[\"enabled\",\"disabled\",\"adaptive\"]},"
                 "\"budget_tokens\":{\"type\":\"integer\",\"minimum\":1024},\"display\":{\"enum\":[\"summarized\","
                 "\"omitted\"]}},\"required\":[\"type\"],\"additionalProperties\":false}"},
    {"metadata", "{\"type\":\"object\",\"properties\":{\"user_id\":{\"type\":[\"string\",\"null\"]}},"
                 "\"additionalProperties\":false}"},
    {"cache_control", "{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"ephemeral\"},\"ttl\":{\"enum\":["
                      "\"5m\",\"1h\"]}},\"required\":[\"type\"]}"},
};

static json_t *detail(const request_field *f)
{
    for (size_t i = 0; i < N(details); i++) {
        if (strcmp(details[i].name, f->name) == 0) {
            return json_loads(details[i].schema, 0, NULL);
        }
    }
    return NULL;
}

json_t *anthropic_body_schema(const char *pattern)
{
    const field_table tables[] = {{messages_fields, N(messages_fields), NULL},
                                  {messages_shared, N(messages_shared), NULL},
                                  {request_fields_common, n_request_fields_common, NULL},
                                  {chat_request_extensions, n_chat_request_extensions, NULL}};
    if (strcmp(pattern, "/v1/messages") == 0) {
        return request_fields_schema(tables, N(tables), detail, "[\"model\",\"messages\",\"max_tokens\"]");
    }
    return strcmp(pattern, "/v1/messages/count_tokens") == 0
               ? request_fields_schema(tables, N(tables), detail, "[\"model\",\"messages\"]")
               : NULL;
}
