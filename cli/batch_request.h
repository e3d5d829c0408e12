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

#include "server/request_fields.h"
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
    const char *model; /* the one that answers */
    request_fields f;  /* what all requests have; f.bad: the line cannot be answered */
} batch_request;

/* Fills *r from a line, whatever is in it: a bad one has its error, and its id if that can be read. `defaults` are the
 * command line's. Only memory may lack for that: then false. */
bool batch_request_read(batch_request *r, const options *defaults, uint64_t line, const char *text, size_t n);
/* The line was too long to be read. */
bool batch_request_too_long(batch_request *r, uint64_t line);
void batch_request_close(batch_request *r);

#endif
