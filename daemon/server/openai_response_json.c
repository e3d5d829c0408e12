/*
 * /v1/responses: the response and its items as JSON.
 * Owner: the caller's values. Lifetime: the call.
 */
#include <string.h>
#include <time.h>

#include "server/openai_response.h"

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

json_t *response_json(const response_answer *a, const char *status, const generation_usage *usage)
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

json_t *response_part_json(const response_answer *a, bool whole)
{
    json_t *text = whole ? generation_text_json(&a->text) : json_string("");
    if (a->kind == ITEM_REASONING) {
        return json_pack("{s:s, s:o}", "type", "reasoning_text", "text", text);
    }
    json_t *logprobs = whole && a->logprobs ? json_incref(a->logprobs) : json_array();
    return json_pack("{s:s, s:o, s:[], s:o}", "type", "output_text", "text", text, "annotations", "logprobs", logprobs);
}

json_t *response_item_json(const response_answer *a, const char *status, bool whole)
{
    if (a->kind == ITEM_CALL) {
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "id", a->item_id, "type", "function_call", "status", status,
                         "call_id", a->call_id, "name", a->call_name, "arguments",
                         whole ? generation_text_json(&a->text) : json_string(""));
    }
    json_t *content = json_array();
    if (whole) {
        json_array_append_new(content, response_part_json(a, true));
    }
    if (a->kind == ITEM_REASONING) {
        return json_pack("{s:s, s:s, s:s, s:[], s:o}", "id", a->item_id, "type", "reasoning", "status", status,
                         "summary", "content", content);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", a->item_id, "type", "message", "status", status, "role",
                     "assistant", "content", content);
}
