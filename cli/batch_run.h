/*
 * Requests of a batch through the scheduler: what is in flight, and what has come out.
 * Owner: the verb `batch`. Lifetime: batch_run_open to batch_run_close, inside the session's, whose engine belongs to
 * the worker's thread meanwhile.
 *
 *   main thread     batch_run_submit ─▶ flying ─────────────────── batch_run_wait ─▶ result, batch_job_close
 *   worker's thread                       └ tokens, text, end ─▶ done ─┘
 */
#ifndef MLXR_CLI_BATCH_RUN_H
#define MLXR_CLI_BATCH_RUN_H

#include <pthread.h>

#include "batch_request.h"
#include "scheduler/worker.h"

typedef struct batch_choice { /* of the worker's thread until the job is done */
    mlxr_stream *stream;
    char *text; /* [n_text] */
    size_t n_text, cap_text;
    uint64_t n_tokens;
    json_t *logprobs; /* an array of session_sampled_json; NULL: not asked for */
    scheduler_finish finish;
    bool stopped; /* by a stop string */
    bool failed;  /* error says why */
    mlxr_error error;
} batch_choice;

typedef struct batch_job {
    struct batch_job *previous, *next; /* in flying */
    struct batch_job *next_done;
    struct batch_run *run;
    batch_request request;
    uint64_t id;           /* the scheduler's */
    batch_choice *choices; /* [request.n_choices] */
    size_t n_prompt, n_cached;
    char miss[16];
} batch_job;

typedef struct batch_run {
    session *s;
    const options *o;
    char *grammar; /* of the command line, for lines that bring none; NULL: none */
    worker *worker;
    pthread_mutex_t lock; /* of done */
    pthread_cond_t ready;
    batch_job *done;   /* ended, the newest first */
    batch_job *flying; /* all that batch_run_wait has not given back; the main thread's */
    uint32_t n_flying, n_flying_max;
} batch_run;

/* Returns an exit code after telling what is wrong. */
int batch_run_open(batch_run *run, session *s, const options *o);
/* Ends what is in flight without results. */
void batch_run_close(batch_run *run);
/* Renders, tokenises and submits a request, which is the job's from now on (*request is zeroed). If it cannot be taken
 * it stays the caller's and is marked as bad. */
bool batch_run_submit(batch_run *run, batch_request *request);
/* A job that has ended, for the caller to close; NULL if there is none within `seconds`. */
batch_job *batch_run_wait(batch_run *run, double seconds);
/* Ends everything in flight as soon as may be; the jobs come out of batch_run_wait as cancelled ones. */
void batch_run_cancel(batch_run *run);
void batch_job_close(batch_job **job);
/* Was it cancelled? Then it has no result, and the next run makes one. */
bool batch_job_unfinished(const batch_job *job);

#endif
