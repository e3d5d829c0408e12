/*
 * The fields of the OpenAI dialect's bodies, and what they make of a request.
 * Owner: the request. Lifetime: the call.
 */
#include <stdlib.h>
#include <string.h>

#include "server/openai_parts.h"

#define O(member) offsetof(openai_options, member)
#define R(member) offsetof(chat_request, member)
#define N(list) (sizeof(list) / sizeof *(list))

/* ---- our extensions, everywhere ---------------------------------------------------------------------------------- */

static const request_field extensions[] = {
    {"draft", field_one_of, R(draft), 0, 0, "ngram|none"},
    {"n_ctx", field_count, R(n_ctx), 0, 0, NULL},
    {"keep_volatile", field_bool, R(keep_volatile), 0, 0, NULL},
    {"deadline_ms", field_count, R(deadline_ms), 0, 0, NULL},
    {"prompt_cache_key", field_text, R(cache_key), 0, 0, NULL},
    {"safety_identifier", field_client, R(f.client), 0, 0, NULL},
};

#define IGNORED_FIELDS                                                                                                 \
    {"service_tier", field_warn, 0, 0, 0, "there is one tier here"},                                                   \
        {"metadata", field_warn, 0, 0, 0, "it is kept nowhere"},                                                       \
        {"prompt_cache_retention", field_warn, 0, 0, 0, "prompts are cached as long as there is room"}

/* ---- chat -------------------------------------------------------------------------------------------------------- */

static bool read_modalities(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    const char *first = json_string_value(json_array_get(value, 0));
    (void)target;
    return (json_array_size(value) == 1 && first && strcmp(first, "text") == 0) ||
           request_fields_want(r, f, "[\"text\"]: this server answers with text only");
}

static bool read_store(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    return field_bool(r, f, target, value) &&
           (!*(bool *)target || request_fields_warn(r, "store: chat completions are kept nowhere"));
}

static const request_field chat_fields[] = {
    {"model", field_skip, 0, 0, 0, NULL},
    {"messages", field_list, O(messages), 0, 0, NULL},
    {"stream", field_bool, O(stream), 0, 0, NULL},
    {"stream_options", field_object, O(stream_options), 0, 0, NULL},
    {"tools", field_list, O(tools), 0, 0, NULL},
    {"tool_choice", field_json, O(tool_choice), 0, 0, NULL},
    {"parallel_tool_calls", field_bool, O(parallel), 0, 0, NULL},
    {"chat_template_kwargs", field_object, O(variables), 0, 0, NULL},
    {"truncation", field_one_of, O(truncation), 0, 0, "disabled|auto"},
    {"store", read_store, O(store), 0, 0, NULL},
    {"modalities", read_modalities, 0, 0, 0, NULL},
    {"verbosity", field_warn, 0, 0, 0, "local models have no such switch"},
    IGNORED_FIELDS,
};

static const request_field chat_request_fields[] = {
    {"reasoning_effort", field_one_of, R(effort), 0, 0, "none|minimal|low|medium|high|xhigh"},
};

/* {"include_usage": true, "include_obfuscation": false} */
static bool read_stream_options(chat_request *r, openai_options *o)
{
    const char *key;
    json_t *value;
    if (o->stream_options && !o->stream) {
        return request_fields_bad(&r->f, "stream_options", "stream_options needs stream");
    }
    json_object_foreach(o->stream_options, key, value)
    {
        bool usage = strcmp(key, "include_usage") == 0;
        if ((!usage && strcmp(key, "include_obfuscation") != 0) || !json_is_boolean(value)) {
            return request_fields_bad(&r->f, "stream_options", "stream_options: \"%.60s\" cannot be %s", key,
                                      usage ? "that: true or false" : "read");
        }
        if (usage) {
            o->include_usage = json_is_true(value);
        }
    }
    return true;
}

static void take_common(chat_request *r, const openai_options *o)
{
    r->truncate = o->truncation && strcmp(o->truncation, "auto") == 0 ? TRUNCATE_OLDEST : TRUNCATE_NEVER;
    r->variables = o->variables;
    r->single_call = !o->parallel;
}

bool openai_chat_parse(chat_request *r, openai_options *o)
{
    o->parallel = true;
    const field_table tables[] = {{chat_fields, N(chat_fields), o},
                                  {chat_request_fields, N(chat_request_fields), r},
                                  {request_fields_common, n_request_fields_common, &r->f},
                                  {extensions, N(extensions), r}};
    if (!request_fields_read(&r->f, r->body, tables, N(tables)) || !read_stream_options(r, o)) {
        return false;
    }
    take_common(r, o);
    return chat_messages_read(r, "messages", o->messages) && (!o->tools || chat_tools_read(r, "tools", o->tools)) &&
           (!o->tool_choice || chat_tool_choice_read(r, "tool_choice", o->tool_choice));
}

/* ---- completions ------------------------------------------------------------------------------------------------- */

static const request_field completion_fields[] = {
    {"model", field_skip, 0, 0, 0, NULL},
    {"prompt", field_json, O(prompt), 0, 0, NULL},
    {"stream", field_bool, O(stream), 0, 0, NULL},
    {"stream_options", field_object, O(stream_options), 0, 0, NULL},
    {"echo", field_bool, O(echo), 0, 0, NULL},
    {"best_of", field_count, O(best_of), 0, 0, NULL},
    {"truncation", field_one_of, O(truncation), 0, 0, "disabled|auto"},
    IGNORED_FIELDS,
};

static const request_field completion_request_fields[] = {
    {"suffix", field_text, R(suffix), 0, 0, NULL},
};

#define COMPLETION_TOKENS 16u /* as OpenAI has it */

static bool read_token_list(chat_request *r, const json_t *list)
{
    size_t n = json_array_size(list);
    r->tokens = n ? malloc(n * sizeof *r->tokens) : NULL;
    if (!r->tokens) {
        return request_fields_bad(&r->f, "prompt", n ? "out of memory" : "the prompt is empty");
    }
    for (size_t i = 0; i < n; i++) {
        json_int_t id;
        if (!request_field_whole(json_array_get(list, i), 0, INT32_MAX, &id)) {
            return request_fields_bad(&r->f, "prompt", "prompt[%zu] is no token", i);
        }
        r->tokens[i] = (int32_t)id;
    }
    r->n_tokens = n;
    return true;
}

/* A text, a list of one text, tokens, or a list of one list of tokens: the handler has made one of many. */
static bool read_prompt(chat_request *r, const json_t *prompt)
{
    const json_t *first = json_array_get(prompt, 0);
    if (json_is_array(prompt) && json_array_size(prompt) == 1 && (json_is_string(first) || json_is_array(first))) {
        prompt = first;
    }
    if (json_is_array(prompt)) {
        return read_token_list(r, prompt);
    }
    if (!json_is_string(prompt)) {
        return request_fields_bad(&r->f, "prompt", "prompt must be a text, tokens, or a list of these");
    }
    r->prompt = json_string_value(prompt);
    r->n_prompt = json_string_length(prompt);
    return true;
}

bool openai_completion_parse(chat_request *r, openai_options *o)
{
    r->f.max_tokens = r->f.max_tokens ? r->f.max_tokens : COMPLETION_TOKENS;
    r->plain_output = true;
    const field_table tables[] = {{completion_fields, N(completion_fields), o},
                                  {completion_request_fields, N(completion_request_fields), r},
                                  {request_fields_common, n_request_fields_common, &r->f},
                                  {extensions, N(extensions), r}};
    if (!request_fields_read(&r->f, r->body, tables, N(tables)) || !read_stream_options(r, o)) {
        return false;
    }
    take_common(r, o);
    if (o->best_of && o->best_of != r->f.n_choices) {
        return request_fields_bad(&r->f, "best_of", "best_of must be n: there is no choosing among answers here");
    }
    if (o->echo && (r->f.sampling.logprobs || (r->suffix && *r->suffix))) {
        return request_fields_bad(&r->f, "echo", "echo does not go together with %s",
                                  r->f.sampling.logprobs ? "logprobs" : "suffix");
    }
    return read_prompt(r, o->prompt);
}

/* ---- infill ------------------------------------------------------------------------------------------------------ */

static const request_field infill_fields[] = {
    {"model", field_skip, 0, 0, 0, NULL},
    {"stream", field_bool, O(stream), 0, 0, NULL},
    {"stream_options", field_object, O(stream_options), 0, 0, NULL},
    {"prompt", field_json, O(prompt), 0, 0, NULL},
    {"input_prefix", field_json, O(prompt), 0, 0, NULL},
};

static const request_field infill_request_fields[] = {
    {"input_suffix", field_text, R(suffix), 0, 0, NULL},
    {"suffix", field_text, R(suffix), 0, 0, NULL},
};

bool openai_infill_parse(chat_request *r, openai_options *o)
{
    r->plain_output = true;
    const field_table tables[] = {{infill_fields, N(infill_fields), o},
                                  {infill_request_fields, N(infill_request_fields), r},
                                  {request_fields_common, n_request_fields_common, &r->f},
                                  {extensions, N(extensions), r}};
    if (!request_fields_read(&r->f, r->body, tables, N(tables)) || !read_stream_options(r, o)) {
        return false;
    }
    take_common(r, o);
    if (!json_is_string(o->prompt) || !r->suffix || !*r->suffix) {
        return request_fields_bad(&r->f, !json_is_string(o->prompt) ? "input_prefix" : "input_suffix",
                                  "input_prefix and input_suffix are the texts around the hole");
    }
    r->prompt = json_string_value(o->prompt);
    r->n_prompt = json_string_length(o->prompt);
    return true;
}

/* ---- texts and tokens -------------------------------------------------------------------------------------------- */

#define T(member) offsetof(openai_text_options, member)

static const request_field tokenize_fields[] = {
    {"model", field_text, T(model), 0, 0, NULL},
    {"content", field_text, T(content), 0, 0, NULL},
    {"prompt", field_text, T(content), 0, 0, NULL},
    {"add_special", field_bool, T(add_special), 0, 0, NULL},
    {"add_special_tokens", field_bool, T(add_special), 0, 0, NULL},
    {"with_pieces", field_bool, T(with_pieces), 0, 0, NULL},
};
static const request_field detokenize_fields[] = {
    {"model", field_text, T(model), 0, 0, NULL},
    {"tokens", field_list, T(tokens), 0, 0, NULL},
    {"with_special", field_bool, T(with_special), 0, 0, NULL},
};
static const request_field template_fields[] = {
    {"model", field_text, T(model), 0, 0, NULL},
    {"messages", field_list, T(messages), 0, 0, NULL},
    {"tools", field_list, T(tools), 0, 0, NULL},
    {"chat_template_kwargs", field_object, T(variables), 0, 0, NULL},
};
static const request_field embedding_fields[] = {
    {"model", field_text, T(model), 0, 0, NULL},
    {"input", field_json, T(input), 0, 0, NULL},
    {"encoding_format", field_one_of, T(encoding_format), 0, 0, "float|base64"},
    {"dimensions", field_count, T(dimensions), 0, 0, NULL},
    {"user", field_skip, 0, 0, 0, NULL},
};

static const struct {
    const char *pattern;
    const request_field *rows;
    size_t n;
} text_tables[] = {
    {"/tokenize", tokenize_fields, N(tokenize_fields)},
    {"/detokenize", detokenize_fields, N(detokenize_fields)},
    {"/apply-template", template_fields, N(template_fields)},
    {"/v1/embeddings", embedding_fields, N(embedding_fields)},
};

bool openai_text_parse(request_fields *f, const char *pattern, const json_t *body, openai_text_options *o)
{
    for (size_t i = 0; i < N(text_tables); i++) {
        if (strcmp(text_tables[i].pattern, pattern) == 0) {
            const field_table table = {text_tables[i].rows, text_tables[i].n, o};
            return request_fields_read(f, body, &table, 1);
        }
    }
    return request_fields_bad(f, NULL, "no such route");
}
