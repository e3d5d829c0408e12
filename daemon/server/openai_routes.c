/*
 * The routes of the OpenAI dialect, and of ours beside them.
 * Owner: none; constant. Lifetime: the process.
 */
#include "server/openai_routes.h"

#include "server/openai_parts.h"

const route openai_routes[N_OPENAI_ROUTES] = {
    {"POST", "/v1/chat/completions", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_chat},
    {"POST", "/v1/completions", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_completions},
    {"GET", "/v1/models", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_NONE, 0, openai_models},
    {"GET", "/v1/models/{id...}", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_NONE, 0, openai_model},
    {"POST", "/v1/responses", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_responses_create},
    {"POST", "/v1/responses/compact", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_responses_compact},
    {"GET", "/v1/responses/{id}", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_NONE, 0, openai_responses_get},
    {"DELETE", "/v1/responses/{id}", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_NONE, 0, openai_responses_delete},
    {"POST", "/v1/responses/{id}/cancel", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_NONE, 0, openai_responses_cancel},
    {"GET", "/v1/responses/{id}/input_items", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_NONE, 0, openai_responses_input},
    {"POST", "/v1/embeddings", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_embeddings},
    {"POST", "/v1/rerank", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_rerank},
    {"POST", "/tokenize", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_tokenize},
    {"POST", "/detokenize", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_detokenize},
    {"POST", "/apply-template", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_apply_template},
    {"GET", "/openapi.json", ROUTE_PUBLIC, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, openai_document},
    {"POST", "/infill", ROUTE_USE, ROUTE_OPENAI, ROUTE_BODY_JSON, 0, openai_infill},
};
