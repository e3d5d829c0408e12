/*
 * What the files of the Ollama dialect share: fields, pieces of JSON, handlers.
 * Owner: each answer, until both its exchange and what works for it have ended. Lifetime: as the functions say.
 */
#ifndef MLXR_SERVER_OLLAMA_PARTS_H
#define MLXR_SERVER_OLLAMA_PARTS_H

#include "registry/registry.h"
#include "server/generation.h"
#include "server/routes.h"

/* The version of Ollama whose API this is, for clients that ask before they use what is new. */
#define OLLAMA_VERSION "0.32.0"

/* ---- ollama_fields.c ---- */
typedef struct ollama_options { /* what is asked for beside the generation itself */
    bool stream, raw, truncate, insecure, verbose;
    bool has_keep_alive, has_truncate;
    int64_t keep_alive_ms;                           /* MODEL_KEEP_DEFAULT unless given */
    const char *model, *name, *source, *destination; /* borrowed, as the rest is */
    const char *prompt, *suffix, *system, *template_text, *from, *modelfile;
    json_t *messages, *tools, *tool_choice, *think, *options, *context, *images, *format;
    json_t *input, *files, *adapters, *parameters, *license;
    uint32_t dimensions;
} ollama_options;

/* False after request_fields_bad. */
bool ollama_chat_parse(chat_request *r, ollama_options *o);
bool ollama_generate_parse(chat_request *r, ollama_options *o);
/* Any other route with a body. */
bool ollama_parse(request_fields *f, const char *pattern, const json_t *body, ollama_options *o);
/* What a load needs of a body of generate or chat that asks for nothing else, and whether it is one. Wrong fields are
 * found when it is read as a whole. */
bool ollama_only_loads(const json_t *body, bool chat);
/* {"type": "object", …} of a route's body; NULL: it is none of this dialect. */
json_t *ollama_body_schema(const char *pattern);
/* Template text of either kind as Jinja, malloc'ed; NULL after request_fields_bad. */
char *ollama_template(request_fields *f, const char *text);

/* ---- ollama_json.c ---- */
#define OLLAMA_TIME_MAX 40u
void ollama_time(int64_t unix_us, char *out); /* "2026-01-31T12:00:00.123456Z" */
/* The time of day, in us since 1970. */
int64_t ollama_clock_us(void);
json_t *ollama_now(void);
/* Ollama's names have a tag: "model:latest". out: REGISTRY_NAME_MAX + 8 bytes. */
void ollama_name(const char *name, char *out);
json_t *ollama_details(const char *family, const char *quant, uint64_t n_params);
/* [{"token", "logprob", "bytes", "top_logprobs"}] */
json_t *ollama_logprobs(const mlxr_model *model, const generation_token *tokens, uint32_t n);
/* A line of a stream; takes the reference. */
void ollama_line(http_exchange *x, json_t *line);
void ollama_stream_begin(http_exchange *x);
/* "name value" a line, as a Modelfile has them; malloc'ed. */
char *ollama_parameters_text(const registry_pairs *parameters);

/* ---- handlers ---- */
void ollama_chat(void *service, http_exchange *x);
void ollama_generate(void *service, http_exchange *x);
void ollama_embed(void *service, http_exchange *x);
void ollama_embeddings(void *service, http_exchange *x);
void ollama_version(void *service, http_exchange *x);
void ollama_tags(void *service, http_exchange *x);
void ollama_ps(void *service, http_exchange *x);
void ollama_show(void *service, http_exchange *x);
void ollama_copy(void *service, http_exchange *x);
void ollama_delete(void *service, http_exchange *x);
void ollama_pull(void *service, http_exchange *x);
void ollama_push(void *service, http_exchange *x);
void ollama_create(void *service, http_exchange *x);
void ollama_blob_head(void *service, http_exchange *x);
void ollama_blob_put(void *service, http_exchange *x);

#endif
