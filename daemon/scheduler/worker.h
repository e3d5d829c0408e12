/*
 * Worker: the one thread that makes an engine's calls, with the scheduler that tells it which.
 * Owner: the caller. Lifetime: worker_start to worker_stop, inside the engine's, which no other thread uses meanwhile.
 *
 *   worker_start ─▶ working ⇄ asleep (no CPU: woken by submit, cancel, call, a deadline) ─▶ worker_stop: drain or abort
 */
#ifndef MLXR_SCHEDULER_WORKER_H
#define MLXR_SCHEDULER_WORKER_H

#include "scheduler/scheduler.h"

typedef struct worker worker;

/* `wake` of the options must be NULL: it is the worker's. */
mlxr_status worker_start(worker **out, mlxr_engine *engine, const scheduler_options *options, mlxr_error *error);
/* For scheduler_submit, _cancel, _uses, _stats_get. */
scheduler *worker_scheduler(worker *w);
/* For mlxr_model_read, which takes any thread. */
mlxr_engine *worker_engine(worker *w);
/* Runs fn(engine, user) on the worker's thread between two steps, and returns when it has: loading and unloading
 * models, statistics of the KV cache. Any thread but the worker's own; not after worker_stop has begun. */
void worker_call(worker *w, void (*fn)(mlxr_engine *engine, void *user), void *user);
/* Ends the thread: with `drain` after everything submitted has finished, else at once, with SHUTDOWN. From any thread
 * but the worker's own. */
void worker_stop(worker **w, bool drain);

#endif
