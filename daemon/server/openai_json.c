/*
 * Pieces of the OpenAI dialect's JSON.
 * Owner: the caller. Lifetime: the call.
 */
#include "server/openai_parts.h"

json_t *openai_usage(const generation_usage *u)
{
    json_int_t n_prompt = (json_int_t)u->n_prompt, n_answer = (json_int_t)u->n_answer;
    return json_pack("{s:I, s:I, s:I, s:{s:I}, s:{s:I}}", "prompt_tokens", n_prompt, "completion_tokens", n_answer,
                     "total_tokens", n_prompt + n_answer, "prompt_tokens_details", "cached_tokens",
                     (json_int_t)u->n_cached, "completion_tokens_details", "reasoning_tokens",
                     (json_int_t)u->n_reasoning);
}

/* What a token stands for, as JSON can have it: half a character becomes U+FFFD, its bytes stand beside it. */
static json_t *token_text(const char *bytes, size_t n)
{
    json_t *text = json_stringn(bytes, n);
    return text ? text : json_string("\xef\xbf\xbd");
}

static json_t *one_logprob(const mlxr_model *model, int32_t id, float logprob)
{
    size_t n = 0;
    const char *bytes = mlxr_token_text(model, id, &n);
    json_t *list = json_array();
    for (size_t i = 0; bytes && i < n; i++) {
        json_array_append_new(list, json_integer((unsigned char)bytes[i]));
    }
    return json_pack("{s:o, s:f, s:o, s:i}", "token", token_text(bytes ? bytes : "", n), "logprob", (double)logprob,
                     "bytes", list, "id", (int)id);
}

json_t *openai_logprobs(const mlxr_model *model, const generation_token *tokens, uint32_t n)
{
    json_t *content = json_array();
    for (uint32_t i = 0; i < n; i++) {
        json_t *one = one_logprob(model, tokens[i].id, tokens[i].logprob), *top = json_array();
        for (uint32_t k = 0; k < tokens[i].n_top; k++) {
            json_array_append_new(top, one_logprob(model, tokens[i].top[k].id, tokens[i].top[k].logprob));
        }
        json_object_set_new(one, "top_logprobs", top);
        json_array_append_new(content, one);
    }
    return json_pack("{s:o, s:n}", "content", content, "refusal");
}

static json_t *list_of(json_t *into, const char *key)
{
    json_t *list = json_object_get(into, key);
    if (!list) {
        json_object_set_new(into, key, json_array());
        list = json_object_get(into, key);
    }
    return list;
}

void openai_legacy_logprobs(json_t *into, const mlxr_model *model, const generation_token *tokens, uint32_t n,
                            size_t *text_offset)
{
    for (uint32_t i = 0; i < n; i++) {
        size_t n_bytes = 0;
        const char *bytes = mlxr_token_text(model, tokens[i].id, &n_bytes);
        json_t *top = json_object();
        for (uint32_t k = 0; k < tokens[i].n_top; k++) {
            size_t n_other = 0;
            const char *other = mlxr_token_text(model, tokens[i].top[k].id, &n_other);
            json_t *key = token_text(other ? other : "", n_other);
            json_object_set_new(top, json_string_value(key), json_real((double)tokens[i].top[k].logprob));
            json_decref(key);
        }
        json_array_append_new(list_of(into, "tokens"), token_text(bytes ? bytes : "", n_bytes));
        json_array_append_new(list_of(into, "token_logprobs"), json_real((double)tokens[i].logprob));
        json_array_append_new(list_of(into, "top_logprobs"), top);
        json_array_append_new(list_of(into, "text_offset"), json_integer((json_int_t)*text_offset));
        *text_offset += n_bytes;
    }
}

const char *openai_finish(generation_finish reason)
{
    return reason == GENERATION_LENGTH ? "length" : reason == GENERATION_CALLS ? "tool_calls" : "stop";
}
