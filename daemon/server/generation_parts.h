/*
 * Inside of generations: shared by generation.c (loop), generation_prepare.c (pool) and generation_output.c (worker's
 * thread and ring).
 * Owner: generation.c. Lifetime: the generation's.
 */
#ifndef MLXR_SERVER_GENERATION_PARTS_H
#define MLXR_SERVER_GENERATION_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "registry/registry.h"
#include "server/chat_prompt.h"
#include "server/generation.h"
#include "server/response_store.h"

typedef struct generation_choice { /* of the worker's thread, from submission to its last event */
    generation *g;
    uint32_t index;
    mlxr_stream *stream;
    output_parser *parser;
    text_buffer tail; /* the last bytes sampled, for telling which stop string it was */
    int32_t *ids;     /* [n_ids] sampled */
    size_t n_ids, cap_ids;
    size_t n_reasoning;
    const char *stop; /* the one that was met */
    bool ended;
    bool again; /* what it is given is the answer so far */
    /* Tokens with log-probabilities that no delta has carried yet, as ring bytes. */
    text_buffer pending;
    uint32_t n_pending;
    /* The answer as a client has it, for the token store; choice 0 only. */
    text_buffer text, reasoning;
    json_t *calls;
} generation_choice;

typedef struct generation_timing { /* on the scheduler's clock */
    uint64_t start_us, ready_us, first_us, end_us;
} generation_timing;

struct generation {
    struct daemon *d;
    struct generations *gs;
    char *body;
    size_t n_body;
    generation_job job;
    chat_request r;
    registry_model entry;
    bool entry_open;
    text_list default_stops;
    atomic_int refs;
    atomic_int lease;
    mlxr_model *model; /* leased */
    mlxr_error lease_error;
    output_format format;
    chat_prompt prompt;
    chat_model source;
    generation_choice *choices; /* [r.f.n_choices] */
    atomic_bool cancelled;
    bool over;     /* loop: on_done or on_error was called, or it was cancelled */
    bool started;  /* loop: on_start was called */
    bool paused;   /* loop writes it, with the lock */
    bool counted;  /* loop: in gs->n_active */
    bool composed; /* pool, then loop: `prepare` went all the way, or failed */
    /* What went wrong before the scheduler took it. */
    bool failed;
    int status;
    char code[40], param[64], message[520];
    unsigned retry_s;
    pthread_mutex_t lock; /* of the rest, up to the next comment */
    bool submitted;
    uint64_t id; /* the scheduler's */
    text_buffer ring;
    bool queued;
    struct generation *next_ready;
    struct generation *next_draining;   /* loop */
    struct generation *previous, *next; /* loop; in gs->all */
    /* Written by the worker up to its last event, read by the loop behind it. */
    size_t n_prompt, n_cached, n_answer, n_reasoning;
    bool answer_cut; /* a stop string was met in an answer that goes on; the pool's until on_start */
    char miss[16];
    generation_timing time;
    atomic_bool choice_failed;
    scheduler_finish failure;
    http_task lease_task, last_task;
    bool worker_done; /* loop: the last event has come */
};

typedef struct known_format { /* a model's format, found out once */
    struct known_format *next;
    const mlxr_model *model; /* compared, never followed */
    uint64_t key;
    output_format format;
} known_format;

struct generations {
    struct daemon *d;
    pthread_mutex_t lock; /* of ready and posted */
    generation *ready;
    bool posted;
    http_task task;
    pthread_mutex_t formats_lock;
    known_format *formats;
    token_store *store;
    response_store *responses;
    struct response_answer *background; /* loop; openai_responses.c */
    uint32_t n_active, n_paused;        /* loop; paused: of the active */
    generation *all;                    /* loop; linked by previous and next */
    atomic_uint_least64_t n_ids;
    atomic_bool closing; /* the loop has ended: nothing is posted to it any more */
};

/* ---- generation.c ---- */
/* What is told instead of an answer; the first reason stays. */
void generation_fail(generation *g, int status, const char *code, const char *param, unsigned retry_s,
                     const char *format, ...) __attribute__((nonnull(3), format(printf, 6, 7)));
void generation_fail_no_memory(generation *g);
/* Under the generation's lock, so that what the scheduler hears last is what is so. */
void generation_tell_paused(generation *g);
/* Loop: the request was taken, or it was not; drops a reference. */
void generation_composed(void *user);

/* ---- generation_prepare.c ---- */
enum { LEASE_WAITING, LEASE_READY, LEASE_AWAITED }; /* generation.lease */
void generation_prepare(void *user);                /* pool; sets `composed` unless the model has to be waited for */
void generation_lease_ready(void *user);            /* loop: a model that had to be waited for */

/* ---- generation_output.c ---- */
bool generation_on_event(void *user, const scheduler_event *event);
mlxr_status generation_choices_open(generation *g, mlxr_error *error);
void generation_choices_close(generation *g);
/* Loop: hands out what is in the ring. False: it was paused before the end. */
bool generation_drain(generation *g);
/* Any thread: lets the loop look at it. */
void generation_wake(generation *g);

#endif
