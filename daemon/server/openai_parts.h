/*
 * What the files of the OpenAI dialect share: fields, usage, log-probabilities, answers under way.
 * Owner: each answer, until both its exchange and its generations have ended. Lifetime: as the functions say.
 */
#ifndef MLXR_SERVER_OPENAI_PARTS_H
#define MLXR_SERVER_OPENAI_PARTS_H

#include "server/generation.h"
#include "server/routes.h"

/* ---- openai_fields.c ---- */
typedef struct openai_options { /* what is asked for beside the generation itself */
    bool stream, include_usage, echo;
    json_t *stream_options, *tools, *tool_choice, *messages, *prompt; /* borrowed */
    json_t *variables, *text;
    bool parallel;
    bool store;
    const char *truncation, *think;
    bool raw_output;
    uint32_t best_of;
    const char *previous, *instructions; /* /v1/responses */
    json_t *input, *reasoning, *metadata, *include;
    bool background;
    uint32_t max_tool_calls;
} openai_options;

bool openai_chat_parse(chat_request *r, openai_options *o);
bool openai_completion_parse(chat_request *r, openai_options *o);
bool openai_infill_parse(chat_request *r, openai_options *o); /* /infill */
bool openai_responses_parse(chat_request *r, openai_options *o);
/* openai_input.c: r->messages from `earlier` (taken over; NULL: none), the instructions and the input; *conversation is
 * the same without instructions, for the next turn. */
bool openai_input_read(chat_request *r, const openai_options *o, json_t *earlier, json_t **conversation);
/* The tables of a route as JSON Schema: {"type": "object", "properties": …}; NULL: it takes no body. */
json_t *openai_body_schema(const char *pattern);
/* Tables for /tokenize and its like. */
typedef struct openai_text_options {
    const char *model, *content, *prompt, *prefix, *suffix;
    json_t *messages, *tools, *variables, *tokens, *input, *lora;
    bool add_special, parse_special, with_pieces, with_special;
    const char *encoding_format;
    uint32_t dimensions;
    const char *query, *instruction;
    uint32_t top_n, max_tokens_per_doc;
    bool return_documents, raw_scores;
} openai_text_options;
bool openai_text_parse(request_fields *f, const char *pattern, const json_t *body, openai_text_options *o);

/* ---- openai_json.c ---- */
json_t *openai_usage(const generation_usage *u);
/* {"content": […]}; tokens: [n]. */
json_t *openai_logprobs(const mlxr_model *model, const generation_token *tokens, uint32_t n);
/* The older form of /v1/completions: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, appended to `into`.
 */
void openai_legacy_logprobs(json_t *into, const mlxr_model *model, const generation_token *tokens, uint32_t n,
                            size_t *text_offset);
const char *openai_finish(generation_finish reason);

/* ---- handlers ---- */
void openai_chat(void *service, http_exchange *x);
void openai_completions(void *service, http_exchange *x);
void openai_models(void *service, http_exchange *x);
void openai_model(void *service, http_exchange *x);
void openai_embeddings(void *service, http_exchange *x);
void openai_rerank(void *service, http_exchange *x);
void openai_tokenize(void *service, http_exchange *x);
void openai_detokenize(void *service, http_exchange *x);
void openai_apply_template(void *service, http_exchange *x);
void openai_infill(void *service, http_exchange *x);
void openai_document(void *service, http_exchange *x);
void openai_responses_create(void *service, http_exchange *x);
void openai_responses_get(void *service, http_exchange *x);
void openai_responses_delete(void *service, http_exchange *x);
void openai_responses_cancel(void *service, http_exchange *x);
void openai_responses_compact(void *service, http_exchange *x);
void openai_responses_input(void *service, http_exchange *x);

#endif
