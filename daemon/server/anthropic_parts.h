/*
 * What the files of the Anthropic dialect share: options of a request, blocks of messages, models.
 * Owner: each answer, until both its exchange and its generation have ended. Lifetime: as the functions say.
 */
#ifndef MLXR_SERVER_ANTHROPIC_PARTS_H
#define MLXR_SERVER_ANTHROPIC_PARTS_H

#include "registry/registry.h"
#include "server/generation.h"
#include "server/routes.h"

/* ---- anthropic_fields.c ---- */
typedef struct anthropic_options { /* what is asked for beside the generation itself */
    bool counts;                   /* /count_tokens; set before parsing */
    bool stream;
    bool hides_thinking; /* thinking blocks come without their text */
    /* As in the body, borrowed. */
    json_t *messages, *system, *tools, *tool_choice, *thinking, *metadata, *cache_control;
    json_t *output_config, *output_format, *variables;
    const char *tier, *speed, *truncation;
} anthropic_options;

/* Fills in r from r->body; false after request_fields_bad. */
bool anthropic_parse(chat_request *r, anthropic_options *o);
/* The body of a route as JSON Schema; NULL: it is none of this dialect's. */
json_t *anthropic_body_schema(const char *pattern);

/* ---- anthropic_input.c ---- */
/* "system" and "messages" into r->messages; r->continues where the last message begins the answer. */
bool anthropic_input_read(chat_request *r, const anthropic_options *o);
/* "tools" and "tool_choice" into r->tools, r->choice, r->single_call. */
bool anthropic_tools_read(chat_request *r, const anthropic_options *o);
/* Are all members of an object in `known` ("type|text|…")? Null counts as not there. `where`: the object's place. */
bool anthropic_members_check(chat_request *r, const char *field, const char *where, const json_t *object,
                             const char *known);

/* ---- anthropic_models.c ---- */
/* A model as the list of models has it. */
json_t *anthropic_model(const registry_model *m, uint32_t n_ctx);
/* Answers with the part of `all` (borrowed) that the query asks for: limit, after_id, before_id. */
void anthropic_models_answer(http_exchange *x, const json_t *all);

/* ---- handlers ---- */
void anthropic_messages(void *service, http_exchange *x);
void anthropic_count_tokens(void *service, http_exchange *x);

#endif
