/*
 * One line of a batch as a request: MLXR's own form and that of OpenAI's batch files.
 * Owner: whoever read it. Lifetime: batch_request_read to batch_request_close.
 *
 *   own     {"id", "prompt" | "messages", sampling fields, "max_tokens", "stop", "n", "schema" | "grammar", "priority"}
 *   OpenAI  {"custom_id", "method": "POST", "url": "/v1/chat/completions" | "/v1/completions", "body": {…}}
 *
 * A field that is not known is refused by name, wherever it stands: nothing of a line is ignored silently.
 */
#ifndef MLXR_CLI_BATCH_REQUEST_H
#define MLXR_CLI_BATCH_REQUEST_H

#include "session.h"

typedef enum batch_form { BATCH_OWN, BATCH_CHAT, BATCH_COMPLETION } batch_form;

typedef struct batch_request {
    uint64_t line;
    batch_form form;
    json_t *root;  /* the line; NULL: no JSON. What is "borrowed" below belongs to it */
    json_t *id;    /* borrowed: a text or a number; NULL: none */
    char *key;     /* the id as JSON, or "line N": what names the request in the results */
    uint64_t hash; /* of all that decides about the result, but for the model and the defaults */

    const char *prompt; /* borrowed; NULL: messages */
    json_t *messages;   /* owned; texts only; NULL: prompt */
    bool raw;
    mlxr_sampling sampling; /* its arrays are owned, or the defaults' */
    mlxr_logit_bias *bias;
    text_list breakers, stops; /* the texts are borrowed */
    bool own_stops;
    uint32_t max_tokens; /* 0: the usual */
    uint32_t n_choices;
    int32_t priority;
    char *grammar; /* owned; NULL: none */
    bool grammar_is_schema;
    uint64_t client;   /* 0: none */
    json_t *warnings;  /* texts; NULL: none */
    const char *model; /* the one that answers */
    bool bad;          /* error says why */
    const char *field; /* borrowed or static: the one that is wrong; NULL: none */
    mlxr_error error;
} batch_request;

/* Fills *r from a line, whatever is in it: a bad one has its error, and its id if that can be read. `defaults` are the
 * command line's. Only memory may lack for that: then false. */
bool batch_request_read(batch_request *r, const options *defaults, uint64_t line, const char *text, size_t n);
/* The line was too long to be read. */
bool batch_request_too_long(batch_request *r, uint64_t line);
void batch_request_close(batch_request *r);

/* ---- for batch_fields.c ---- */
/* Marks a request as bad; the first reason stays. Returns false. */
bool batch_request_bad(batch_request *r, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool batch_request_warn(batch_request *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads the fields of an object; those in `known` (NULL-terminated) are left alone. */
bool batch_fields_read(batch_request *r, const json_t *object, const char *const *known);

#endif
