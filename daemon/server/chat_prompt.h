/*
 * From a request to the tokens that a model reads, and what its answer is bound to.
 * Owner: the generation. Lifetime: chat_prompt_make to chat_prompt_close. Any thread.
 *
 *   messages ─ tools described where the template has no place for them ─ volatile lines out ─ template ─┐
 *   prompt, suffix ──────────────────────────────────────────────────────────────────────────────────────┴▶ text
 *   text ─ what earlier answers are known to be made of (token_store.h) + the rest tokenised ─▶ tokens
 */
#ifndef MLXR_SERVER_CHAT_PROMPT_H
#define MLXR_SERVER_CHAT_PROMPT_H

#include "server/chat_request.h"
#include "server/output_format.h"
#include "server/token_store.h"

typedef struct chat_prompt {
    char *text; /* [n_text], freed with mlxr_free; NULL: the request came as tokens */
    size_t n_text;
    int32_t *ids; /* [n_ids] */
    size_t n_ids;
    bool opened;      /* it ends in the middle of reasoning */
    bool forced;      /* the answer is a call, or a list of them, as JSON */
    char *grammar;    /* of a forced call; NULL: the request's own, or none */
    size_t n_dropped; /* messages or tokens left out at the front */
} chat_prompt;

typedef struct chat_model { /* whose prompt */
    const mlxr_model *model;
    const char *template_text; /* Jinja, in the place of the model's; NULL: the model's */
    const output_format *format;
    uint64_t key; /* names the model in the store */
    token_store *store;
} chat_model;

/* Fills *out; false after request_fields_bad (messages, template, numbers of a context that is too small). */
bool chat_prompt_make(chat_prompt *out, const chat_model *m, chat_request *r);
void chat_prompt_close(chat_prompt *p);
/* Only the text, as /apply-template shows it. */
bool chat_prompt_text(chat_prompt *out, const chat_model *m, chat_request *r);

/* Keeps what an answer was made of: as the text it is, and as the template writes it when a client sends it back.
 * `answer`: the assistant's message as a client has it, or NULL. */
void chat_prompt_remember(const chat_prompt *p, const chat_model *m, const chat_request *r, const int32_t *sampled,
                          size_t n_sampled, json_t *answer);

#endif
