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

static bool read_reasoning_format(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    const char *word;
    if (!field_one_of(r, f, &word, value)) {
        return false;
    }
    *(bool *)target = strcmp(word, "none") == 0;
    return true;
}

static const request_field chat_request_fields[] = {
    {"reasoning_format", read_reasoning_format, R(plain_output), 0, 0, "auto|none"},
    {"return_token_ids", field_bool, R(token_ids), 0, 0, NULL},
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

/* Calls are forced into their schemas where tool_choice forces a call; `strict` asks for more than that. */
static bool read_tools(chat_request *r, const openai_options *o)
{
    if ((o->tools && !chat_tools_read(r, "tools", o->tools)) ||
        (o->tool_choice && !chat_tool_choice_read(r, "tool_choice", o->tool_choice))) {
        return false;
    }
    bool strict = false;
    for (size_t i = 0; i < json_array_size(o->tools); i++) {
        const json_t *tool = json_array_get(o->tools, i), *function = json_object_get(tool, "function");
        strict = strict || json_is_true(json_object_get(function ? function : tool, "strict"));
    }
    return !strict || r->choice != TOOL_CHOICE_AUTO ||
           request_fields_warn(&r->f, "tools: strict is kept where tool_choice forces a call, not with auto");
}

bool openai_chat_parse(chat_request *r, openai_options *o)
{
    o->parallel = true;
    const field_table tables[] = {{chat_fields, N(chat_fields), o},
                                  {chat_request_fields, N(chat_request_fields), r},
                                  {request_fields_common, n_request_fields_common, &r->f},
                                  {chat_request_extensions, n_chat_request_extensions, r}};
    if (!request_fields_read(&r->f, r->body, tables, N(tables)) || !read_stream_options(r, o)) {
        return false;
    }
    take_common(r, o);
    return chat_messages_read(r, "messages", o->messages) && read_tools(r, o);
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
    {"return_token_ids", field_bool, R(token_ids), 0, 0, NULL},
};

#define COMPLETION_TOKENS 16u /* as OpenAI has it */

static bool read_token_list(chat_request *r, const json_t *list)
{
    size_t n = json_array_size(list);
    r->tokens = n ? malloc(n * sizeof *r->tokens) : NULL;
    if (!r->tokens) {
        return n ? request_fields_no_memory(&r->f) : request_fields_bad(&r->f, "prompt", "the prompt is empty");
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
                                  {chat_request_extensions, n_chat_request_extensions, r}};
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
                                  {chat_request_extensions, n_chat_request_extensions, r}};
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

/* ---- responses --------------------------------------------------------------------------------------------------- */

static const request_field responses_fields[] = {
    {"model", field_skip, 0, 0, 0, NULL},
    {"input", field_json, O(input), 0, 0, NULL},
    {"instructions", field_text, O(instructions), 0, 0, NULL},
    {"previous_response_id", field_text, O(previous), 0, 0, NULL},
    {"store", field_bool, O(store), 0, 0, NULL},
    {"background", field_bool, O(background), 0, 0, NULL},
    {"stream", field_bool, O(stream), 0, 0, NULL},
    {"stream_options", field_object, O(stream_options), 0, 0, NULL},
    {"tools", field_list, O(tools), 0, 0, NULL},
    {"tool_choice", field_json, O(tool_choice), 0, 0, NULL},
    {"parallel_tool_calls", field_bool, O(parallel), 0, 0, NULL},
    {"truncation", field_one_of, O(truncation), 0, 0, "disabled|auto"},
    {"text", field_object, O(text), 0, 0, NULL},
    {"reasoning", field_object, O(reasoning), 0, 0, NULL},
    {"metadata", field_object, O(metadata), 0, 0, NULL},
    {"include", field_list, O(include), 0, 0, NULL},
    {"chat_template_kwargs", field_object, O(variables), 0, 0, NULL},
    {"service_tier", field_warn, 0, 0, 0, "there is one tier here"},
    {"prompt_cache_retention", field_warn, 0, 0, 0, "prompts are cached as long as there is room"},
};

static const request_field responses_request_fields[] = {
    {"max_output_tokens", field_count, R(f.max_tokens), 0, 0, NULL},
};

/* {"format": {"type": "text" | "json_object" | "json_schema", "schema"}, "verbosity"} */
static bool read_text_format(chat_request *r, const openai_options *o)
{
    const char *key;
    json_t *value;
    json_object_foreach(o->text, key, value)
    {
        if (strcmp(key, "verbosity") == 0) {
            request_fields_warn(&r->f, "text.verbosity: local models have no such switch");
        } else if (strcmp(key, "format") != 0) {
            return request_fields_bad(&r->f, "text", "text: \"%.60s\" cannot be read", key);
        }
    }
    const json_t *format = json_object_get(o->text, "format");
    const char *type = json_string_value(json_object_get(format, "type"));
    const json_t *schema = json_object_get(format, "schema");
    if (!format || (type && strcmp(type, "text") == 0)) {
        return true;
    }
    if (type && strcmp(type, "json_object") == 0) {
        return request_fields_grammar(&r->f, "text", strdup("{\"type\":\"object\"}"), true);
    }
    if (type && strcmp(type, "json_schema") == 0 && json_is_object(schema)) {
        return request_fields_grammar(&r->f, "text", json_dumps(schema, JSON_COMPACT), true);
    }
    return request_fields_bad(&r->f, "text",
                              "text.format must be of type text, json_object or json_schema with a "
                              "schema");
}

/* {"effort", "summary"} */
static bool read_reasoning(chat_request *r, const openai_options *o)
{
    static const request_field rows[] = {
        {"effort", field_one_of, R(effort), 0, 0, "none|minimal|low|medium|high|xhigh"},
        {"summary", field_warn, 0, 0, 0, "reasoning is given as it is, without a summary"},
        {"generate_summary", field_warn, 0, 0, 0, "reasoning is given as it is, without a summary"},
    };
    const field_table table = {rows, N(rows), r};
    return !o->reasoning || request_fields_read(&r->f, o->reasoning, &table, 1);
}

/* What "include" may ask for beside what is given anyway. */
static bool read_include(chat_request *r, const openai_options *o)
{
    for (size_t i = 0; i < json_array_size(o->include); i++) {
        const char *what = json_string_value(json_array_get(o->include, i));
        if (what && strcmp(what, "message.output_text.logprobs") == 0) {
            r->f.sampling.logprobs = true;
        } else if (what && strcmp(what, "reasoning.encrypted_content") == 0) {
            request_fields_warn(&r->f, "include: reasoning is given in the open, not encrypted");
        } else {
            return request_fields_bad(&r->f, "include", "include: \"%.60s\" is not there", what ? what : "?");
        }
    }
    return true;
}

bool openai_responses_parse(chat_request *r, openai_options *o)
{
    o->parallel = true;
    o->store = true;
    const field_table tables[] = {{responses_fields, N(responses_fields), o},
                                  {responses_request_fields, N(responses_request_fields), r},
                                  {request_fields_common, n_request_fields_common, &r->f},
                                  {chat_request_extensions, n_chat_request_extensions, r}};
    bool logprobs = r->f.sampling.logprobs;
    r->f.sampling.logprobs = true; /* "top_logprobs" alone asks for them here */
    if (!request_fields_read(&r->f, r->body, tables, N(tables))) {
        return false;
    }
    r->f.sampling.logprobs = logprobs || r->f.sampling.n_logprobs > 0;
    if (r->f.n_choices != 1) {
        return request_fields_bad(&r->f, "n", "a response is one answer: n must be 1");
    }
    if (o->stream_options && !o->stream) {
        return request_fields_bad(&r->f, "stream_options", "stream_options needs stream");
    }
    if (o->background && !o->store) {
        return request_fields_bad(&r->f, "background", "a response in the background must be stored");
    }
    take_common(r, o);
    return read_text_format(r, o) && read_reasoning(r, o) && read_include(r, o) && read_tools(r, o);
}

/* ---- texts and tokens -------------------------------------------------------------------------------------------- */

#define T(member) offsetof(openai_text_options, member)

static const request_field tokenize_fields[] = {
    {"model", field_text, T(model), 0, 0, NULL},
    {"content", field_text, T(content), 0, 0, NULL},
    {"prompt", field_text, T(content), 0, 0, NULL},
    {"add_special", field_bool, T(add_special), 0, 0, NULL},
    {"add_special_tokens", field_bool, T(add_special), 0, 0, NULL},
    {"parse_special", field_bool, T(parse_special), 0, 0, NULL},
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
    {"lora", field_list, T(lora), 0, 0, NULL},
    {"user", field_skip, 0, 0, 0, NULL},
};
static const request_field rerank_fields[] = {
    {"model", field_text, T(model), 0, 0, NULL},
    {"query", field_text, T(query), 0, 0, NULL},
    {"documents", field_list, T(input), 0, 0, NULL},
    {"top_n", field_count, T(top_n), 0, 0, NULL},
    {"max_tokens_per_doc", field_count, T(max_tokens_per_doc), 0, 0, NULL},
    {"return_documents", field_bool, T(return_documents), 0, 0, NULL},
    {"raw_scores", field_bool, T(raw_scores), 0, 0, NULL},
    {"instruction", field_text, T(instruction), 0, 0, NULL},
    {"lora", field_list, T(lora), 0, 0, NULL},
    {"user", field_skip, 0, 0, 0, NULL},
};

static const struct {
    const char *pattern;
    const request_field *rows;
    size_t n;
} text_tables[] = {
    {"/tokenize", tokenize_fields, N(tokenize_fields)},       {"/detokenize", detokenize_fields, N(detokenize_fields)},
    {"/apply-template", template_fields, N(template_fields)}, {"/v1/embeddings", embedding_fields, N(embedding_fields)},
    {"/v1/rerank", rerank_fields, N(rerank_fields)},
};

bool openai_text_parse(request_fields *f, const char *pattern, const json_t *body, openai_text_options *o)
{
    o->parse_special = true;
    for (size_t i = 0; i < N(text_tables); i++) {
        if (strcmp(text_tables[i].pattern, pattern) == 0) {
            const field_table table = {text_tables[i].rows, text_tables[i].n, o};
            return request_fields_read(f, body, &table, 1);
        }
    }
    return request_fields_bad(f, NULL, "no such route");
}

/* ---- for /openapi.json ------------------------------------------------------------------------------------------- */

#define BODY_TABLES_MAX 2u

static const struct {
    const char *pattern;
    field_table tables[BODY_TABLES_MAX]; /* targets are not used */
    bool generates;                      /* the fields of samplers and our extensions, too */
    const char *required;                /* JSON */
} bodies[] = {
    {"/v1/chat/completions",
     {{chat_fields, N(chat_fields), NULL}, {chat_request_fields, N(chat_request_fields), NULL}},
     true,
     "[\"model\",\"messages\"]"},
    {"/v1/completions",
     {{completion_fields, N(completion_fields), NULL}, {completion_request_fields, N(completion_request_fields), NULL}},
     true,
     "[\"model\",\"prompt\"]"},
    {"/v1/responses",
     {{responses_fields, N(responses_fields), NULL}, {responses_request_fields, N(responses_request_fields), NULL}},
     true,
     "[\"model\",\"input\"]"},
    {"/infill",
     {{infill_fields, N(infill_fields), NULL}, {infill_request_fields, N(infill_request_fields), NULL}},
     true,
     "[]"},
    {"/v1/embeddings", {{embedding_fields, N(embedding_fields), NULL}}, false, "[\"input\"]"},
    {"/v1/rerank", {{rerank_fields, N(rerank_fields), NULL}}, false, "[\"query\",\"documents\"]"},
    {"/tokenize", {{tokenize_fields, N(tokenize_fields), NULL}}, false, "[]"},
    {"/detokenize", {{detokenize_fields, N(detokenize_fields), NULL}}, false, "[\"tokens\"]"},
    {"/apply-template", {{template_fields, N(template_fields), NULL}}, false, "[\"messages\"]"},
};

/* What a field's reader alone does not tell. */
static const struct {
    const char *name, *schema;
} details[] = {
    {"model", "{\"type\":\"string\",\"description\":\"One of /v1/models; without it the daemon's only one.\"}"},
    {"messages",
     "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\",\"properties\":{\"role\":{\"enum\":["
     "\"system\",\"developer\",\"user\",\"assistant\",\"tool\"]},\"content\":{\"anyOf\":[{\"type\":\"string\"},"
     "{\"type\":\"null\"},{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"type\":{\"const\":"
     "\"text\"},\"text\":{\"type\":\"string\"}},\"required\":[\"type\",\"text\"]}}]}},\"required\":[\"role\"]}}"},
    {"tools", "{\"type\":\"array\",\"maxItems\":128,\"items\":{\"type\":\"object\"}}"},
    {"tool_choice", "{\"anyOf\":[{\"enum\":[\"none\",\"auto\",\"required\"]},{\"type\":\"object\"}]}"},
    {"prompt", "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1}]}"},
    {"input", "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1}]}"},
    {"modalities", "{\"const\":[\"text\"]}"},
    {"store", "{\"type\":\"boolean\"}"},
    {"reasoning_format", "{\"enum\":[\"auto\",\"none\"]}"},
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

json_t *openai_body_schema(const char *pattern)
{
    for (size_t b = 0; b < N(bodies); b++) {
        if (strcmp(bodies[b].pattern, pattern) != 0) {
            continue;
        }
        field_table tables[BODY_TABLES_MAX + 2];
        size_t n = 0;
        for (size_t t = 0; t < N(bodies[b].tables); t++) {
            tables[n++] = bodies[b].tables[t];
        }
        if (bodies[b].generates) {
            tables[n++] = (field_table){request_fields_common, n_request_fields_common, NULL};
            tables[n++] = (field_table){chat_request_extensions, n_chat_request_extensions, NULL};
        }
        return request_fields_schema(tables, n, detail, bodies[b].required);
    }
    return NULL;
}
