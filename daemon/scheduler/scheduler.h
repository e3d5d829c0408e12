/*
 * Scheduler: requests in from any thread, steps of one engine out, tokens back through a callback.
 * Owner: a worker (worker.h), or whoever calls scheduler_step. Lifetime: scheduler_open to scheduler_close, inside the
 * engine's; a request's model must stay loaded until the request has ended (scheduler_uses).
 *
 *              submit                 admit: memory, lanes          rows of a step               tokens
 *   any thread ──────▶ request_queue ──────────────▶ lanes ─▶ prefill_queue ─▶ batcher ─▶ mlxr_step ─▶ on_event
 *                        │ refused at once             ▲ │    decode_queue ──▶                  │
 *                        └ expired, cancelled   resume │ │ pre-empt: lowest priority, youngest  │ MLXR_KV_FULL
 *                                                      └─┴──────────────◀───────────────────────┘
 *
 * Threads. scheduler_submit, _cancel, _pause, _resume, _drain, _uses, _idle and _stats_get: any. scheduler_step,
 * _budget_set and _abort: the engine's thread, on which also every callback comes, with no lock held; a callback must
 * not block.
 */
#ifndef MLXR_SCHEDULER_H
#define MLXR_SCHEDULER_H

#include "mlxr.h"
#include "mlxr_adapter.h"

typedef struct scheduler scheduler;
struct metrics; /* telemetry/metrics.h */

typedef enum scheduler_finish {                      /* why a choice ended */
                                SCHEDULER_RUNNING,   /* it has not */
                                SCHEDULER_END,       /* the model ended it: the last token told is an end token */
                                SCHEDULER_LENGTH,    /* max_tokens */
                                SCHEDULER_CONTEXT,   /* the context is full */
                                SCHEDULER_STOPPED,   /* on_event returned false */
                                SCHEDULER_CANCELLED, /* scheduler_cancel */
                                SCHEDULER_DEADLINE,  /* its deadline passed, waiting or running */
                                SCHEDULER_FAILED,    /* event.error says why */
                                SCHEDULER_SHUTDOWN,  /* scheduler_abort */
                                SCHEDULER_N_FINISHES
} scheduler_finish;

typedef enum scheduler_refusal { /* why a request was not taken */
                                 SCHEDULER_TAKEN,
                                 SCHEDULER_BAD,         /* a field makes no sense */
                                 SCHEDULER_QUEUE_FULL,  /* try again later */
                                 SCHEDULER_CLIENT_FULL, /* this client has too many waiting */
                                 SCHEDULER_TOO_LONG,    /* the prompt leaves no room in the context */
                                 SCHEDULER_NEVER_FITS,  /* needs more KV memory than there is at all */
                                 SCHEDULER_TOO_LATE,    /* its deadline has passed */
                                 SCHEDULER_CLOSING,
                                 SCHEDULER_NO_MEMORY,
                                 SCHEDULER_N_REFUSALS
} scheduler_refusal;

typedef struct scheduler_event {
    uint64_t request;
    uint32_t choice;             /* 0 … n_choices − 1 */
    const mlxr_sampled *sampled; /* [n_sampled] new tokens, borrowed for the call; an end token is told too */
    uint32_t n_sampled;
    scheduler_finish finish;   /* other than RUNNING exactly once for each choice, and nothing comes after it */
    bool last;                 /* the last event of the request */
    const char *error;         /* of FAILED; else NULL */
    size_t n_prompt, n_cached; /* the prompt's tokens, and how many of them came from the KV cache */
    const char *miss;          /* as mlxr_sequence_miss, from the first tokens on; before "" */
} scheduler_event;

/* Returns false to end this choice (a stop string was met); its last event then follows at once. */
typedef bool (*scheduler_on_event)(void *user, const scheduler_event *event);

typedef struct scheduler_request { /* {0} with model, tokens and on_event is valid; all but the model is copied */
    mlxr_model *model;
    const int32_t *tokens;
    size_t n_tokens;
    const mlxr_sampling *sampling; /* NULL: defaults. With a seed, choice i has seed + i */
    uint32_t n_choices;            /* 0: 1; forks of one prompt */
    uint32_t max_tokens;           /* 0: as many as the context holds */
    bool ignore_end;               /* go on past end tokens */
    const char *grammar;           /* NULL: none; NUL-terminated GBNF or JSON Schema */
    bool grammar_is_schema;
    size_t n_given;                    /* the last of the tokens, which are the beginning of the grammar's sentence */
    bool draft;                        /* speculate */
    bool draft_mtp;                    /* … with the model's own head, which it was loaded with */
    mlxr_model *draft_model;           /* … or with this one; NULL: prompt lookup */
    uint32_t n_draft_max;              /* 0: the default */
    const mlxr_adapter_path *adapters; /* [n_adapters] the texts of paths outlive the request */
    size_t n_adapters;
    int32_t priority;     /* higher first; −100 … 100 */
    uint64_t client;      /* who shares fairly with whom */
    uint64_t deadline_us; /* on the scheduler's clock; 0: none */
    const char *name;     /* of the model, for the metrics; NULL: "" */
    uint64_t received_us; /* when somebody began to wait for it, for the metrics; 0: when it is submitted */
    scheduler_on_event on_event;
    void *user;
} scheduler_request;

typedef struct scheduler_options {  /* {0} is a valid default */
    uint32_t queue_max;             /* waiting requests; 0: 1024 */
    uint32_t client_max;            /* waiting requests of one client; 0: queue_max */
    uint32_t lanes_max;             /* sequences running at once; 0: 64 */
    uint32_t rows_max;              /* rows of a step; 0: mlxr_step_tokens_max */
    double step_us;                 /* what a step may always take; 0: 40,000 */
    double stretch;                 /* … or this many times what its decoding takes alone (pace.h); 0: 2.5 */
    double step_max_us;             /* but with decoding never more than this; 0: 1,000,000 */
    double solo_us;                 /* a step of prompts only; 0: 250,000 (cancellation waits for it) */
    uint32_t lookahead;             /* generated tokens that must fit for a request to start; 0: 256 */
    uint64_t aging_us;              /* waiting so long counts as much as one priority; 0: 10 s */
    uint64_t (*now_us)(void *user); /* NULL: a monotonic clock */
    void *now_user;
    struct metrics *metrics;  /* NULL: none; of metric_table.h: what requests wait, take and get is told there */
    void (*wake)(void *user); /* there is something to do; any thread. NULL: nobody sleeps */
    void *wake_user;
} scheduler_options;

#define SCHEDULER_N_MISSES 6

typedef struct scheduler_stats {
    uint64_t n_submitted, n_refused[SCHEDULER_N_REFUSALS]; /* every call of submit; [TAKEN] were taken */
    uint64_t n_admitted, n_preempted, n_resumed, n_forked;
    uint64_t n_held_lanes, n_held_memory,
        n_held_paused;                         /* steps in which the queue's first had to wait, and for what */
    uint64_t n_finished[SCHEDULER_N_FINISHES]; /* choices */
    uint64_t n_steps, n_steps_failed, n_rows, n_sampled;
    uint64_t n_prompt_tokens, n_cached_tokens;
    uint64_t n_grammars, n_grammars_found;  /* requests with a grammar or schema; compiled before */
    uint64_t n_misses[SCHEDULER_N_MISSES];  /* requests, by why the cache had no more: scheduler_miss_name */
    uint64_t waited_us;                     /* Σ from submission to admission */
    uint64_t step_us, step_max_us;          /* Σ and the longest of mlxr_step */
    uint64_t step_cpu_us;                   /* Σ of the engine's thread; its team's others not counted */
    double predicted_us, error_us;          /* Σ of predictions, and of |prediction − step| */
    uint64_t own_us, own_max_us;            /* the scheduler itself, callbacks not counted, Σ and most in a step */
    mlxr_draft_stats drafts;                /* of finished choices: Σ; acceptance and row_cost are means over steps */
    uint32_t n_queued, n_running, n_paused; /* now; running and paused count choices; paused: without pages */
    uint32_t n_stalled;                     /* of both: choices of scheduler_pause */
} scheduler_stats;

const char *scheduler_miss_name(uint32_t index); /* "none", "new", …; NULL past the end */
const char *scheduler_finish_name(scheduler_finish finish);
const char *scheduler_refusal_name(scheduler_refusal refusal);

mlxr_status scheduler_open(scheduler **out, mlxr_engine *engine, const scheduler_options *options, mlxr_error *error);
/* Everything must have ended (scheduler_abort). */
void scheduler_close(scheduler **s);

/* Any thread. The most tokens, up to max_tokens, that an answer to this request may have for the KV budget to hold it
 * alone; 0: not one. */
uint32_t scheduler_answer_max(scheduler *s, const scheduler_request *request);
/* Takes a request, or says at once why not: *refusal (may be NULL) and the error. *id may be NULL. */
mlxr_status scheduler_submit(scheduler *s, const scheduler_request *request, uint64_t *id, scheduler_refusal *refusal,
                             mlxr_error *error);
/* Ends a request before its next chunk. False: no such request any more. */
bool scheduler_cancel(scheduler *s, uint64_t id);
/* Nobody takes the tokens of a request: from the next step on none of its choices is computed, until scheduler_resume.
 * It gives up its lanes (as many choices as there are lanes may do so at once), and keeps its pages while no other
 * needs them; of all it is the first to give them back, and computes again what they held. It goes on before any that
 * waits. It can be cancelled, and its deadline counts. A request that waits is admitted in its turn.
 * False: no such request any more. */
bool scheduler_pause(scheduler *s, uint64_t id);
bool scheduler_resume(scheduler *s, uint64_t id);
/* Refuses all further requests. */
void scheduler_drain(scheduler *s);

typedef struct scheduler_pulse {
    bool worked;         /* call again at once */
    uint64_t wake_at_us; /* if not: when a deadline wants to be looked at; UINT64_MAX: when `wake` is called */
} scheduler_pulse;

/* Admits, computes at most one step, and delivers. */
scheduler_pulse scheduler_step(scheduler *s);
/* Changes the KV budget (mlxr_kv_budget_set), on the engine's thread; where running sequences hold more they are
 * pre-empted. False: a request taken before needs more even alone. New requests are measured by the new budget from
 * then on, so call again later, or once more with the old one. */
bool scheduler_budget_set(scheduler *s, uint64_t kv_bytes);
/* Ends everything with SHUTDOWN and refuses further requests. */
void scheduler_abort(scheduler *s);

uint64_t scheduler_now_us(const scheduler *s);
bool scheduler_idle(scheduler *s);
/* Requests waiting or running that need this model, as such or for drafts. */
size_t scheduler_uses(scheduler *s, const mlxr_model *model);
/* Of a request that has had its last event, all is counted. */
scheduler_stats scheduler_stats_get(scheduler *s);

/* A sequence of the model with these adapters, as those of requests are. On the engine's thread. sampling: NULL: the
 * defaults. */
mlxr_status scheduler_sequence_open(mlxr_sequence **out, mlxr_model *model, const mlxr_adapter_path *adapters,
                                    size_t n_adapters, const mlxr_sampling *sampling, mlxr_error *error);

#endif
