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
 * short it is the first that lane_preempt is called for, and lane_resume is not while it stalls. It is not one of the
 * lanes_max either: another request may start in its stead, and it goes on when there is a lane for it again.
 */
#ifndef MLXR_SCHEDULER_LANES_H
#define MLXR_SCHEDULER_LANES_H

#include <pthread.h>

#include "scheduler/decode_queue.h"
#include "scheduler/pace.h"
#include "scheduler/request_queue.h"

typedef struct model_use { /* what is known of a model that has lanes, or had */
    mlxr_model *model;     /* compared only, unless it has lanes */
    cost_model cost;
    pace pace;
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
    bool stalled;       /* its request is, as this step sees it, or it waits for a lane since */
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
    uint32_t n_slots;    /* 2 × lanes_max: lanes, and those that stall */
    scheduler_stats own; /* counted here, shown by scheduler_publish; submit's counters are only in `stats` */
    lane *lanes;         /* [n_slots] */
    uint32_t n_lanes, n_paused, n_forks_due; /* running and paused; paused; lanes kept for forks to come */
    uint32_t n_stalled;                      /* of n_lanes */
    uint64_t next_order;
    model_use *uses;                 /* [n_slots] */
    queue_entry *decodes, *prefills; /* [n_slots] each */
    batch_item *items;               /* [n_slots] */
    batch_slice *batch;              /* [n_slots] */
    mlxr_slice *slices;              /* [n_slots] */
    uint32_t *slice_lanes;           /* [n_slots] */
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
/* Its request is stalled now. */
bool lane_unread(const lane *l);
/* Of the lanes that stalled and could go on the oldest, NULL: none. */
lane *lane_back(const scheduler *s);
/* Ends all choices of a request that has no lane. */
void request_finish(scheduler *s, request *r, scheduler_finish finish, const char *error);

/* Others see what was counted so far: at the end of a step, and before a request's last event. */
void scheduler_publish(scheduler *s);

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

/* Of lanes_max: what those take that do not stall, forks to come included; what one takes. */
uint32_t lanes_in_use(const scheduler *s);
uint32_t lanes_needed(const lane *l);

/* Takes waiting requests that have ended, resumes, admits. */
void admission_run(scheduler *s, uint64_t now_us);

#endif
