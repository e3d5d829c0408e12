/*
 * What the files of the UI's API share: calls of the store, the feed of changes, generations.
 * Owner: struct ui (ui.c). Lifetime: ui_open to ui_close; the loop thread, except where "pool" or "any thread" is said.
 */
#ifndef MLXR_SERVER_UI_PARTS_H
#define MLXR_SERVER_UI_PARTS_H

#include <pthread.h>

#include "chats/chats.h"
#include "server/errors.h"
#include "server/routes.h"
#include "server/ui.h"
#include "server/ui_schema.h"

struct ui {
    struct daemon *d;
    json_t *document; /* ui_api.json */
    char directory[4096];
    pthread_mutex_t lock; /* of what follows, up to the blank line */
    chats *store;         /* NULL: not open; once it is it stays */
    uint64_t tried_ms;
    mlxr_error reason; /* why it is not */

    struct ui_feed *feed;
    struct ui_runs *runs;
    uint64_t tidy_timer;
    uint32_t n_jobs; /* writing for nobody's exchange */
    bool draining;
};

mlxr_status ui_no_memory(mlxr_error *error);
/* Any thread. The store, opened if it was not; NULL: why not. */
chats *ui_store(struct ui *ui, mlxr_error *error);

/* ---- calls: ui_calls.c -------------------------------------------------------------------------------------------
 * A request that the store answers: body and query are read and checked against ui_api.json, the work is done on the
 * pool, the answer is sent and the change told on the loop. */

typedef struct ui_call ui_call;

typedef struct ui_spec {
    chats_status (*work)(ui_call *call); /* pool; fills in `out` */
    const char *kind, *op;               /* of the change; NULL: none */
    /* Loop, instead of answering with `out`: has answered, or will; the call is its own now and ui_call_end its end. */
    void (*done)(ui_call *call);
} ui_spec;

struct ui_call {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    const ui_spec *spec;
    const json_t *route; /* its description */
    char *body;          /* [n_body] */
    size_t n_body;
    json_t *fields, *query; /* checked */
    int64_t id, message;    /* of the path; 0: none */
    auth_identity identity;
    chats_who who; /* points into identity */
    chats *store;
    chats_status status;
    int http_status;           /* where it is none that follows from `status`; 0 */
    char code[40], field[160]; /* of an error; "" */
    mlxr_error error;
    json_t *out;
    void *own; /* of the spec */
};

void ui_call_start(void *service, http_exchange *x, const ui_spec *spec);
void ui_call_end(ui_call *call);
/* Answers with what went wrong. */
void ui_call_fail(ui_call *call);
void ui_call_answer(ui_call *call, json_t *body); /* takes it */
/* Pool: marks what is wrong with a field and returns CHATS_INVALID. */
chats_status ui_call_bad(ui_call *call, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Who this is to the store; points into identity. */
chats_who ui_who(const auth_identity *identity);
/* May it see what is this owner's? */
bool ui_sees(const auth_identity *identity, const char *owner);
/* Pool: parameters as /v1/chat/completions takes them, without what belongs to the chat. False: *field and *error. */
bool ui_parameters_check(const json_t *parameters, char *field, size_t cap, mlxr_error *error);

/* ---- the feed: ui_feed.c ---- */
mlxr_status ui_feed_open(struct ui_feed **out, struct ui *ui, mlxr_error *error);
void ui_feed_drain(struct ui_feed *feed);
void ui_feed_end(struct ui_feed *feed); /* before the model table is closed */
void ui_feed_close(struct ui_feed **feed);
void ui_feed_publish(struct ui_feed *feed, const char *owner, json_t *change);

/* ---- generations: ui_runs.c ---- */
mlxr_status ui_runs_open(struct ui_runs **out, struct ui *ui, mlxr_error *error);
unsigned ui_runs_answering(const struct ui_runs *runs);
bool ui_runs_idle(const struct ui_runs *runs);
void ui_runs_end(struct ui_runs *runs);
void ui_runs_close(struct ui_runs **runs);

#endif
