/*
 * Lanes: the sequences a scheduler runs; its inside, shared by its files.
 * Owner: the scheduler. Lifetime: a lane lives from admission (or its fork) to its choice's last event.
 *
 *            lane_start                    last prompt row             end, length, stop, cancel, …
 *   request ───────────▶ prefill (pending > 1) ───────────▶ decode ────────────────────▶ lane_finish
 *                            │  ▲      lane_fork at the last row           │
 *               lane_preempt │  │ lane_resume                              │ lane_preempt
 *                            ▼  │                                          ▼
 *                           paused (no pages) ◀────────────────────────────┘
 *
 * A lane whose request stalls (scheduler_pause) keeps its place in this picture and is not computed; where pages are
 * short it is the first that lane_preempt is called for, and lane_resume is not while it stalls.
 */
#ifndef MLXR_SCHEDULER_LANES_H
#define MLXR_SCHEDULER_LANES_H

#include <pthread.h>

#include "scheduler/decode_queue.h"
#include "scheduler/request_queue.h"

enum { ALONE_N = 15 };

typedef struct alone_step { /* a step without prompts: what a long prompt's slowing down is measured by */
    cost_load load;
    double us;
} alone_step;

typedef struct model_use { /* what is known of a model that has lanes, or had */
    mlxr_model *model;     /* compared only, unless it has lanes */
    cost_model cost;
    alone_step alone[ALONE_N]; /* the newest steps without prompts, in a ring */
    uint32_t n_alone;          /* there were */
    uint32_t n_lanes;
    double served_us; /* time of steps; the model with the least is next */
} model_use;

typedef struct lane {
    request *r; /* NULL: free */
    uint32_t choice;
    mlxr_sequence *sequence;
    model_use *use;
    uint64_t order; /* of admission; higher is younger */
    uint64_t since_us;
    uint32_t n_sampled, waited;
    uint64_t n_drafted; /* of mlxr_draft_stats, for the rows of its last step */
    uint32_t n_draft;   /* rows expected behind its token */
    bool paused, forks; /* forks: before its last prompt row it becomes several */
    bool stalled;       /* its request is, as this step sees it */
} lane;

struct scheduler {
    mlxr_engine *engine;
    scheduler_options options;
    pthread_mutex_t lock; /* queue, live, n_live, next_id, bytes_promised, closing, stats */
    request_queue queue;
    request *live; /* list: waiting and running */
    size_t n_live;
    uint64_t next_id;
    uint64_t bytes_promised; /* what submissions are measured by: the budget, or a lower one that is to come */
    bool closing;
    scheduler_stats stats; /* shown to others */
    /* the engine's thread alone: */
    scheduler_stats own; /* counted here, copied once a step; submit's counters are only in `stats` */
    lane *lanes;         /* [lanes_max] */
    uint32_t n_lanes, n_paused, n_forks_due; /* running and paused; paused; lanes kept for forks to come */
    uint32_t n_stalled;                      /* of n_lanes */
    uint64_t next_order;
    model_use *uses;                 /* [lanes_max] */
    queue_entry *decodes, *prefills; /* [lanes_max] each */
    batch_item *items;               /* [lanes_max] */
    batch_slice *batch;              /* [lanes_max] */
    mlxr_slice *slices;              /* [lanes_max] */
    uint32_t *slice_lanes;           /* [lanes_max] */
    uint64_t bytes_budget, callback_us;
    uint32_t page_tokens;
};

/* Starts a request that has been taken out of the queue; where that fails it ends with FAILED. */
void lane_start(scheduler *s, request *r, uint64_t now_us);
/* Before the last prompt row: the other choices become lanes of their own. */
void lane_fork(scheduler *s, lane *l);
/* Ends the choice of a lane and tells so; `error` only with FAILED. */
void lane_finish(scheduler *s, lane *l, scheduler_finish finish, const char *error);
/* Tells what a step sampled; ends the lane where that was the last of it. */
void lane_deliver(scheduler *s, lane *l, const mlxr_slice *slice);
void lane_preempt(scheduler *s, lane *l);
void lane_resume(scheduler *s, lane *l, uint64_t now_us);
/* Who gives its pages back: who stalls, lowest priority, then youngest. NULL: nobody has any. *n_running: how many do.
 */
lane *lane_victim(scheduler *s, uint32_t *n_running);
/* Ends all choices of a request that has no lane. */
void request_finish(scheduler *s, request *r, scheduler_finish finish, const char *error);

/* Bytes of one page in every layer group. */
uint64_t memory_of_page(const scheduler *s, const mlxr_model *model);
/* Bytes that a request needs from its start to `n_generated` tokens of each choice, its prompt in steps of n_rows. */
uint64_t memory_of_request(const scheduler *s, const scheduler_request *ask, uint64_t n_generated, uint64_t n_rows);
/* Bytes without which it can never end: one choice at a time, the prompt page by page. */
uint64_t memory_least(const scheduler *s, const scheduler_request *ask);
/* What the running lanes may need for all they have appended and one page more each. */
uint64_t memory_of_lanes(const scheduler *s);
/* Bytes that can be had now, cached ones included, less what running lanes still need for what they have appended. */
uint64_t memory_left(const scheduler *s);

/* Computes one step of a model's lanes and delivers; pre-empts where pages run out. */
void step_run(scheduler *s, model_use *use);

/* Takes waiting requests that have ended, resumes, admits. */
void admission_run(scheduler *s, uint64_t now_us);

#endif
