/*
 * Jobs: submitting, collecting tokens as text, handing over.
 * Owner: the verb `batch`. Lifetime: batch_run_open to batch_run_close.
 */
#include "batch_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "output.h"
#include "prompt.h"
#include "session.h"
#include "verbs.h"

/* Sequences that run at once unless --parallel says otherwise: where weights that are read once for all rows have paid.
 */
#define PARALLEL 32u
/* Tokens of an answer at most unless a line or -n says otherwise, as `mlxr run` has it. */
#define RAW_TOKENS 256u
#define ANSWER_TOKENS 2048u

int batch_run_open(batch_run *run, session *s, const options *o)
{
    mlxr_error error;
    const char *path = o->schema ? o->schema : o->grammar;
    size_t n;
    *run = (batch_run){.s = s, .o = o};
    if (path && !(run->grammar = read_all(path, &n))) {
        return EXIT_FAILED;
    }
    uint32_t n_lanes = o->n_parallel ? o->n_parallel : PARALLEL;
    run->n_flying_max = n_lanes < UINT32_MAX / 4 ? 2 * n_lanes + 8
                                                 : UINT32_MAX / 2; /* so that lanes never wait for us */
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->ready, NULL);
    scheduler_options limits = {.lanes_max = n_lanes, .queue_max = run->n_flying_max};
    if (worker_start(&run->worker, s->engine, &limits, &error) != MLXR_OK) {
        batch_run_close(run);
        return print_failure(&error);
    }
    return EXIT_OK;
}

void batch_run_close(batch_run *run)
{
    worker_stop(&run->worker, false);
    while (run->flying) {
        batch_job *job = run->flying;
        run->flying = job->next;
        batch_job_close(&job);
    }
    pthread_mutex_destroy(&run->lock);
    pthread_cond_destroy(&run->ready);
    free(run->grammar);
    *run = (batch_run){0};
}

void batch_job_close(batch_job **pointer)
{
    batch_job *job = *pointer;
    for (uint32_t i = 0; job->choices && i < job->request.f.n_choices; i++) {
        mlxr_stream_close(&job->choices[i].stream);
        json_decref(job->choices[i].logprobs);
        free(job->choices[i].text);
    }
    free(job->choices);
    batch_request_close(&job->request);
    free(job);
    *pointer = NULL;
}

/* ---- on the worker's thread -------------------------------------------------------------------------------------- */

static bool add_text(batch_choice *c, const char *text, size_t n)
{
    if (c->n_text + n > c->cap_text) {
        size_t cap = (c->n_text + n) * 2;
        char *grown = realloc(c->text, cap);
        if (!grown) {
            c->failed = true;
            c->error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
            return false;
        }
        c->text = grown;
        c->cap_text = cap;
    }
    if (n) {
        memcpy(c->text + c->n_text, text, n);
        c->n_text += n;
    }
    return true;
}

/* Takes in a token; false: the choice ends here. */
static bool take(batch_choice *c, const mlxr_model *model, const mlxr_sampled *sampled)
{
    const char *text;
    size_t n = 0;
    c->n_tokens++;
    if (c->logprobs) {
        json_array_append_new(c->logprobs, session_sampled_json(model, sampled));
    }
    if (mlxr_token_is_end(model, sampled->id)) {
        return false;
    }
    if (mlxr_stream_push(c->stream, sampled->id, &text, &n, &c->stopped, &c->error) != MLXR_OK) {
        c->failed = true;
        return false;
    }
    return add_text(c, text, n) && !c->stopped;
}

static void end_choice(batch_choice *c, const scheduler_event *event)
{
    const char *text;
    size_t n = 0;
    c->finish = event->finish;
    if (event->finish == SCHEDULER_FAILED && !c->failed) {
        c->failed = true;
        c->error.status = MLXR_DEVICE;
        snprintf(c->error.text, sizeof c->error.text, "%s", event->error ? event->error : "failed");
    }
    if (!c->failed && mlxr_stream_finish(c->stream, &text, &n, &c->error) == MLXR_OK) {
        add_text(c, text, n);
    }
}

static bool on_event(void *user, const scheduler_event *event)
{
    batch_job *job = user;
    batch_run *run = job->run;
    batch_choice *c = &job->choices[event->choice];
    bool more = true;
    for (uint32_t i = 0; more && i < event->n_sampled; i++) {
        more = take(c, run->s->model, &event->sampled[i]);
    }
    if (event->finish != SCHEDULER_RUNNING) {
        end_choice(c, event);
    }
    if (event->last) {
        job->n_prompt = event->n_prompt;
        job->n_cached = event->n_cached;
        snprintf(job->miss, sizeof job->miss, "%s", event->miss ? event->miss : "");
        pthread_mutex_lock(&run->lock); /* from the unlock on the job is the other thread's */
        job->next_done = run->done;
        run->done = job;
        pthread_cond_signal(&run->ready);
        pthread_mutex_unlock(&run->lock);
    }
    return more;
}

/* ---- on the main thread ------------------------------------------------------------------------------------------ */

static bool open_choices(batch_job *job, const mlxr_model *model)
{
    batch_request *r = &job->request;
    job->choices = calloc(r->f.n_choices, sizeof *job->choices);
    for (uint32_t i = 0; i < r->f.n_choices; i++) {
        batch_choice *c = job->choices ? &job->choices[i] : NULL;
        if (!c) {
            return request_fields_bad(&r->f, NULL, "out of memory");
        }
        if (mlxr_stream_open(&c->stream, model, r->f.stops.items, r->f.stops.n, &c->error) != MLXR_OK) {
            return request_fields_bad(&r->f, "stop", "%s", c->error.text);
        }
        c->logprobs = r->f.sampling.logprobs ? json_array() : NULL;
    }
    return true;
}

static bool to_tokens(batch_run *run, batch_request *r, int32_t **ids, size_t *n)
{
    mlxr_error error;
    const mlxr_model *model = run->s->model;
    char *text = NULL;
    mlxr_status status = r->messages ? prompt_render(model, &run->s->entry, r->messages, false, &text, &error)
                                     : MLXR_OK;
    const char *prompt = r->messages ? text : r->prompt;
    if (status == MLXR_OK) {
        status = prompt_tokenize(model, prompt, strlen(prompt), prompt_flags(!r->messages), ids, n, &error);
    }
    mlxr_free(text);
    return status == MLXR_OK || request_fields_bad(&r->f, r->messages ? "messages" : "prompt", "%s", error.text);
}

static bool submit(batch_run *run, batch_job *job, const int32_t *ids, size_t n)
{
    mlxr_error error;
    const options *o = run->o;
    batch_request *r = &job->request;
    scheduler_refusal refusal = SCHEDULER_TAKEN;
    scheduler_request ask = {.model = run->s->model,
                             .tokens = ids,
                             .n_tokens = n,
                             .sampling = &r->f.sampling,
                             .n_choices = r->f.n_choices,
                             .max_tokens = r->f.max_tokens ? r->f.max_tokens
                                           : r->messages   ? ANSWER_TOKENS
                                                           : RAW_TOKENS,
                             .grammar = r->f.grammar ? r->f.grammar : run->grammar,
                             .grammar_is_schema = r->f.grammar ? r->f.grammar_is_schema : o->schema != NULL,
                             .draft = o->draft != NULL,
                             .draft_mtp = session_drafts_ahead(o),
                             .draft_model = run->s->draft_model,
                             .n_draft_max = o->n_draft_max,
                             .priority = r->f.priority,
                             .client = r->f.client,
                             .on_event = on_event,
                             .user = job};
    if (scheduler_submit(worker_scheduler(run->worker), &ask, &job->id, &refusal, &error) == MLXR_OK) {
        return true;
    }
    return request_fields_bad(&r->f, NULL, "%s: %s", scheduler_refusal_name(refusal), error.text);
}

bool batch_run_submit(batch_run *run, batch_request *request)
{
    int32_t *ids = NULL;
    size_t n = 0;
    batch_job *job = calloc(1, sizeof *job);
    if (!job) {
        return request_fields_bad(&request->f, NULL, "out of memory");
    }
    job->run = run;
    job->request = *request;
    bool ok = open_choices(job, run->s->model) && to_tokens(run, &job->request, &ids, &n) && submit(run, job, ids, n);
    free(ids);
    if (!ok) {
        *request = job->request;
        job->request = (batch_request){.f.n_choices = job->choices ? request->f.n_choices : 0};
        batch_job_close(&job);
        return false;
    }
    *request = (batch_request){0};
    job->next = run->flying;
    if (run->flying) {
        run->flying->previous = job;
    }
    run->flying = job;
    run->n_flying++;
    return true;
}

batch_job *batch_run_wait(batch_run *run, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    long ns = until.tv_nsec + (long)(seconds * 1e9);
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&run->lock);
    while (!run->done && pthread_cond_timedwait(&run->ready, &run->lock, &until) == 0) {
    }
    batch_job *job = run->done;
    if (job) {
        run->done = job->next_done;
    }
    pthread_mutex_unlock(&run->lock);
    if (job) {
        *(job->previous ? &job->previous->next : &run->flying) = job->next;
        if (job->next) {
            job->next->previous = job->previous;
        }
        run->n_flying--;
    }
    return job;
}

void batch_run_cancel(batch_run *run)
{
    for (const batch_job *job = run->flying; job; job = job->next) {
        scheduler_cancel(worker_scheduler(run->worker), job->id);
    }
}

bool batch_job_unfinished(const batch_job *job)
{
    for (uint32_t i = 0; i < job->request.f.n_choices; i++) {
        scheduler_finish end = job->choices[i].finish;
        if (end == SCHEDULER_CANCELLED || end == SCHEDULER_SHUTDOWN) {
            return true;
        }
    }
    return false;
}
