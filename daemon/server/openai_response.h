/*
 * An answer of /v1/responses while it is made: what the files of the route share.
 * Owner: its exchange and its generation together. Lifetime: until both have ended and nothing of it is on its way to
 * the disk. Loop thread only.
 */
#ifndef MLXR_SERVER_OPENAI_RESPONSE_H
#define MLXR_SERVER_OPENAI_RESPONSE_H

#include "server/generation_parts.h"
#include "server/openai_parts.h"

typedef enum item_kind { ITEM_NONE, ITEM_MESSAGE, ITEM_REASONING, ITEM_CALL } item_kind;

typedef struct response_answer {
    struct daemon *d;
    http_exchange *x; /* NULL: gone, or answered because the response is made in the background */
    generation *g;    /* NULL: ended */
    bool released, begun, answered, incomplete, listed;
    bool told;        /* its last version is kept, as far as it can be */
    bool deleted;     /* while it was made: what is kept of it goes again */
    uint32_t n_keeps; /* under way on the pool */
    int64_t version;  /* of what was kept last */
    openai_options o;
    uint64_t owner;
    char id[64], model[256];
    json_int_t created, sequence;
    float temperature, top_p; /* in force */
    json_t *body;             /* what of the request the response repeats */
    json_t *conversation;     /* without instructions; the answer joins it */
    json_t *input;            /* as it came */
    json_t *output;           /* items that are done */
    json_t *warnings;
    /* the item under way */
    item_kind kind;
    char item_id[64], call_id[GENERATION_CALL_ID_MAX], *call_name;
    text_buffer text;
    json_t *logprobs;
    size_t n_calls;
    struct canceller *cancellers;
    struct response_answer *next; /* in generations.background, if listed */
} response_answer;

/* ---- openai_responses.c ---- */
/* Frees what nobody needs any more; nothing as long as anybody does. */
void response_answer_free(response_answer *a);
/* One that is listed is found by its id, until all its versions are kept: the store has an older one meanwhile. */
void response_unlist(response_answer *a);
/* Ends what is being made in the background (a->g). */
void response_cancel(response_answer *a);

/* An exchange that gets another's response once nothing more comes of it. */
typedef struct canceller {
    http_exchange *x; /* NULL: gone */
    bool done;
    struct canceller *next;
} canceller;

/* ---- openai_response_json.c ---- */
/* The whole response; usage: NULL while it is made. */
json_t *response_json(const response_answer *a, const char *status, const generation_usage *usage);
/* The item under way and its only part; `whole`: with the text so far, else as they are announced. */
json_t *response_part_json(const response_answer *a, bool whole);
json_t *response_item_json(const response_answer *a, const char *status, bool whole);

/* ---- openai_response_events.c: nothing is sent where the client asked for no stream ---- */
void response_begin(response_answer *a); /* the first events, once */
/* Takes the members. */
void response_send(response_answer *a, const char *type, json_t *members);
/* Where the item under way stands in the output, and {KEY: value} (taken) beside it. */
json_t *response_place_with(const response_answer *a, const char *key, json_t *value);
void response_open_item(response_answer *a, item_kind kind); /* closes another */
void response_announce_item(response_answer *a);
void response_close_item(response_answer *a, const char *status); /* into the output; nothing if none is open */

/* ---- openai_response_keep.c ---- */
typedef void kept_then(response_answer *a, json_t *response);
/* Keeps the response as it is now, and calls `then` when it is kept, or if it is not to be. Takes the response.
 * `last`: nothing more comes of the answer, whose conversation and input are given away; cancellers are answered. */
void response_keep(response_answer *a, json_t *response, bool last, kept_then *then);

#endif
