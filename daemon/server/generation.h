/*
 * Generation: the one service behind all dialects: a request's body in, what the model generates out, piece by piece.
 * Owner: itself; a dialect holds a pointer until on_done or on_error has been called, or it has cancelled.
 * Lifetime: generation_start to on_done, on_error or generation_cancel.
 *
 *   loop      generation_start ─▶                                                        ┌─▶ on_start, on_delta …,
 *                                │                                                       │   on_finish, on_done
 *   pool      body → JSON → model's name → registry → lease → parse → render → tokens ─▶ │   or on_error, once
 *                                                       │ loading: goes on when ready    │
 *   worker                                              scheduler_submit ─▶ tokens → text, stops → output_parser → ring
 *
 * Callbacks come on the loop thread. Between the threads lies a ring of deltas, filled by the worker and emptied by the
 * loop, which is woken once for all that came since. A dialect whose client does not read calls generation_pause, and
 * generation_resume when it does again; meanwhile nothing is computed for it: the ring grows by the step that was under
 * way, and its pages go first where others need them.
 */
#ifndef MLXR_SERVER_GENERATION_H
#define MLXR_SERVER_GENERATION_H

#include "server/auth.h"
#include "server/chat_request.h"
#include "server/daemon_parts.h"
#include "server/output_parser.h"
#include "telemetry/text_buffer.h"

typedef struct generation generation;

typedef enum generation_finish {
    GENERATION_STOP,        /* the model ended its answer */
    GENERATION_STOP_STRING, /* a stop string was met */
    GENERATION_LENGTH,      /* max_tokens, or the context is full */
    GENERATION_CALLS,       /* it ended with calls of tools */
} generation_finish;

typedef struct generation_info {
    const char *model;             /* its name in the registry */
    const mlxr_model_info *engine; /* what the library knows of it */
    size_t n_prompt;               /* tokens */
    size_t n_dropped;              /* messages (of a text: tokens) that were left out because the request allowed it */
    const json_t *warnings;        /* so far; texts; NULL: none */
} generation_info;

typedef struct generation_token {
    int32_t id;
    float logprob;
    const mlxr_token_logprob *top; /* [n_top] */
    uint32_t n_top;
} generation_token;

typedef struct generation_delta {
    uint32_t choice;
    output_kind kind;
    bool again;        /* of the answer so far, which goes on (chat_request.answer): comes before all that is new */
    const char *bytes; /* [n], whole UTF-8 characters; n may be 0 where tokens have no text yet */
    size_t n;
    const generation_token
        *tokens; /* [n_tokens], if they or log-probabilities were asked for: those sampled since the last */
    uint32_t n_tokens;
} generation_delta;

typedef struct generation_usage {
    size_t n_prompt, n_cached;                        /* cached: of n_prompt, found in the KV cache */
    size_t n_answer, n_reasoning;                     /* sampled, over all choices; reasoning: of them */
    const char *miss;                                 /* why the cache had no more; mlxr_sequence_miss */
    uint64_t load_us, prompt_us, answer_us, total_us; /* waiting for the model; to the first token; from there; all */
    const json_t *warnings;                           /* texts; NULL: none */
    const char *model;                                /* its name, for the call */
} generation_usage;
/* For the access log, before the exchange has ended. */
void generation_note_usage(http_exchange *x, const generation_usage *usage);

typedef struct generation_callbacks {
    void (*on_start)(void *user, const generation_info *info); /* the request was taken; may be NULL */
    void (*on_delta)(void *user, const generation_delta *delta);
    /* stop: the stop string that was met; NULL unless STOP_STRING */
    void (*on_finish)(void *user, uint32_t choice, generation_finish reason, const char *stop);
    /* By then its tokens are remembered and its use is counted; the model's lease goes in the same turn of the loop. */
    void (*on_done)(void *user, const generation_usage *usage);
    /* Nothing more comes. status: HTTP's; code: a word for programs; param: the field that is wrong, or NULL; retry_s:
     * for Retry-After, 0: none. */
    void (*on_error)(void *user, int status, const char *code, const char *message, const char *param,
                     unsigned retry_s);
} generation_callbacks;

typedef struct generation_job {
    const char *body; /* [n_body] the request's, copied */
    size_t n_body;
    json_t *json; /* instead of body: taken over */
    /* On a pool thread: fills in the request from r->body, whose "model" was resolved and whose defaults are the
     * model's. False after request_fields_bad. */
    bool (*parse)(void *user, chat_request *r);
    const generation_callbacks *callbacks; /* static */
    void *user;                            /* of both; must live until the end, also after generation_cancel */
    void (*on_released)(void *user);       /* nothing will use `user` any more; always called, last; may be NULL */
    auth_identity identity;
    bool default_model; /* a body without "model" means the daemon's only one */
    bool prompt_only;   /* nothing is generated: behind on_start comes on_done with the size of the prompt */
} generation_job;

/* NULL: no memory; then nothing is called, and the caller answers 503. */
generation *generation_start(struct daemon *d, generation_job *job);
/* No callback comes any more but on_released; what is computed for it ends within a step, and its pages are free. */
void generation_cancel(generation *g);
/* The same where there is one; *g is NULL before anything is called back. */
void generation_drop(generation **g);
void generation_pause(generation *g);
void generation_resume(generation *g);
/* For the texts of tokens; from on_start to the end. */
const mlxr_model *generation_model(const generation *g);
/* From on_finish to on_done: the ids of a choice as they were sampled, with that which ended it; [*n]. */
const int32_t *generation_ids(const generation *g, uint32_t choice, size_t *n);
/* Within on_done: what was read, and what was sampled for the first choice. */
typedef struct generation_lists {
    const int32_t *prompt, *answer; /* [n_prompt], [n_answer] */
    size_t n_prompt, n_answer;
} generation_lists;
generation_lists generation_tokens(const generation *g);
/* The prompt's tokens, without those of an answer that goes on; from on_start to the end. */
const int32_t *generation_prompt_ids(const generation *g, size_t *n);
/* From on_start on: was a stop string met in an answer that goes on? It does not come again whole then. */
bool generation_answer_was_cut(const generation *g);
/* Within parse and after: the request. */
const chat_request *generation_request(const generation *g);

/* The id of a choice's call `index`; the same for the same place, so that what a client sends back is what was kept. */
#define GENERATION_CALL_ID_MAX 40u
void generation_call_id(const generation *g, uint32_t choice, size_t index, char *out);

/* Is there room for one more? Answers 429 with Retry-After where not. Call it before anything else. */
bool generation_admit(struct daemon *d, http_exchange *x);
/* Responses of /v1/responses that are kept. */
struct response_store *generation_responses(struct daemon *d);
/* What deltas were collected in, as JSON; a text may have a NUL like any other character. */
json_t *generation_text_json(const text_buffer *text);
/* "chatcmpl-5f…": an id that this daemon gives once. Any thread. */
void generation_new_id(struct daemon *d, const char *prefix, char *out, size_t cap);
/* Loop thread: generations that have not ended. */
uint32_t generation_count(const struct daemon *d);

/* ---- for daemon.c ---- */
struct generations; /* what they share: ready list, formats of models, tokens of earlier answers */
mlxr_status generations_open(struct generations **out, struct daemon *d, mlxr_error *error);
/* The loop has ended, and the scheduler has ended all requests: what was under way is let go, its leases above all. */
void generations_end(struct generations *gs);
/* Behind model_table_close, when nobody waits for a model any more. */
void generations_close(struct generations **gs);

#endif
