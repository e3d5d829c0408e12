/*
 * Jobs that take long: each on a thread of its own, a few at a time; what they tell goes to whoever watches.
 * Owner: the daemon. Lifetime: a job's from its start until newer ones that ended push it out of the history.
 *
 *   loop                               job's thread
 *   start ─▶ waiting ─▶ running ─────▶ run: registry_pull …
 *   deliver ◀── task, one for all that came since ── note: writes the log of events
 *   deliver: joins the thread ◀── task ──────────── it has ended
 *
 * The log has an event for each thing done; while that lasts, its event is overwritten and gets a new number. So who
 * comes late, or was away, is told each thing once, as far as it went.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/model_jobs_inside.h"

#define RUNNING_MAX 4u  /* jobs at a time; others wait */
#define WAITING_MAX 64u /* jobs that wait; more are refused */
#define ENDED_MAX 32u   /* jobs that are still told of */
#define EVENTS_MAX 64u

typedef struct event {
    uint64_t number, done, total, file_done, file_total;
    uint32_t file, n_files;
    char what[200], digest[REGISTRY_DIGEST_MAX];
} event;

typedef enum job_state { JOB_WAITING, JOB_RUNNING, JOB_ENDED } job_state;

typedef struct model_job {
    struct model_job *next; /* of model_jobs.first; oldest first */
    model_jobs *owner;
    uint64_t id;
    model_job_kind kind;
    job_state state;
    bool keep_going;
    bool delivering; /* its watchers are being called */
    bool told_end;   /* on_change was told that it ended */
    int64_t started_s, ended_s;
    char *source, *name; /* name: NULL: none was asked for */
    registry_recipe recipe;
    model_watch *watchers;
    pthread_t thread;
    http_task task;
    atomic_bool cancelled;
    pthread_mutex_t lock; /* of what follows */
    event events[EVENTS_MAX];
    uint32_t n_events;
    uint64_t number;
    bool posted, over; /* over: the thread has nothing more to do */
    mlxr_status status;
    mlxr_error error;
    char made[REGISTRY_NAME_MAX + 1];
} model_job;

struct model_watch {
    model_watch *next;
    model_job *of;
    model_watcher watcher;
    uint64_t seen; /* the number of the last event told */
    bool left;
};

static void deliver(void *user);
static void start_waiting(model_jobs *j);
static void tell_change(model_job *job);

static mlxr_status fail(mlxr_error *error, mlxr_status status, const char *what)
{
    if (error) {
        error->status = status;
        snprintf(error->text, sizeof error->text, "%s", what);
    }
    return status;
}

const char *model_job_kind_name(model_job_kind kind)
{
    static const char *const names[] = {
        [MODEL_JOB_PULL] = "pull", [MODEL_JOB_CREATE] = "create", [MODEL_JOB_PUSH] = "push"};
    return names[kind];
}

/* ---- the job's thread -------------------------------------------------------------------------------------------- */

/* Under the lock: the loop is to look. */
static void post(model_job *job)
{
    if (!job->posted) {
        job->posted = true;
        http_post_task(job->owner->d->http, &job->task); /* refused once the loop has ended: nobody is told then */
    }
}

/* What was done last is done. */
static void complete_last(model_job *job)
{
    event *last = job->n_events ? &job->events[job->n_events - 1] : NULL;
    if (last && last->file_done < last->file_total) {
        last->file_done = last->file_total;
        last->number = ++job->number;
    }
}

static event *add_event(model_job *job, const char *what, const char *digest)
{
    complete_last(job);
    if (job->n_events == EVENTS_MAX) {
        memmove(job->events, job->events + 1, (EVENTS_MAX - 1) * sizeof *job->events);
        job->n_events--;
    }
    event *e = &job->events[job->n_events++];
    *e = (event){0};
    snprintf(e->what, sizeof e->what, "%s", what);
    snprintf(e->digest, sizeof e->digest, "%s", digest);
    return e;
}

/* Writes the log. False: the job is to end. */
static bool note(model_job *job, const registry_pull_progress *p)
{
    pthread_mutex_lock(&job->lock);
    event *last = job->n_events ? &job->events[job->n_events - 1] : NULL;
    const char *digest = p->digest ? p->digest : "";
    bool same = last && last->file == p->file && strncmp(last->what, p->what, sizeof last->what - 1) == 0 &&
                strcmp(last->digest, digest) == 0;
    event *e = same ? last : add_event(job, p->what, digest);
    if (!same || e->file_done != p->file_done || e->done != p->done || e->file_total != p->file_total) {
        e->done = p->done;
        e->total = p->total;
        /* When a file is there its own count begins anew, before the next one's name is told. */
        e->file_done = same && p->file_total == 0 ? e->file_done : p->file_done;
        e->file_total = same && p->file_total == 0 ? e->file_total : p->file_total;
        e->file = p->file;
        e->n_files = p->n_files;
        e->number = ++job->number;
        post(job);
    }
    pthread_mutex_unlock(&job->lock);
    return !atomic_load(&job->cancelled);
}

static bool on_progress(void *user, const registry_pull_progress *p)
{
    return note(user, p);
}

static mlxr_status run_pull(model_job *job)
{
    registry_pull_options options = {.name = job->name, .progress = on_progress, .user = job};
    return registry_pull(job->owner->d->registry, job->source, &options, job->made, &job->error);
}

static mlxr_status run_push(model_job *job)
{
    registry_pull_options options = {.progress = on_progress, .user = job};
    mlxr_status status = registry_push(job->owner->d->registry, job->source, job->name, &options, &job->error);
    snprintf(job->made, sizeof job->made, "%s", status == MLXR_OK ? job->source : "");
    return status;
}

static mlxr_status run_create(model_job *job)
{
    note(job, &(registry_pull_progress){.what = "storing"});
    mlxr_status status = registry_create(job->owner->d->registry, job->name, &job->recipe, NULL, &job->error);
    snprintf(job->made, sizeof job->made, "%s", status == MLXR_OK ? job->name : "");
    return status;
}

static void *run(void *user)
{
    model_job *job = user;
    mlxr_status status = job->kind == MODEL_JOB_PULL   ? run_pull(job)
                         : job->kind == MODEL_JOB_PUSH ? run_push(job)
                                                       : run_create(job);
    pthread_mutex_lock(&job->lock);
    if (status == MLXR_OK) {
        complete_last(job);
    }
    job->status = status;
    job->over = true;
    post(job);
    pthread_mutex_unlock(&job->lock);
    return NULL;
}

/* ---- what watchers are told -------------------------------------------------------------------------------------- */

static model_job_event event_of(const event *e)
{
    return (model_job_event){.number = e->number,
                             .what = e->what,
                             .digest = e->digest,
                             .done = e->done,
                             .total = e->total,
                             .file_done = e->file_done,
                             .file_total = e->file_total,
                             .file = e->file,
                             .n_files = e->n_files};
}

static model_job_end end_of(const model_job *job)
{
    bool cancelled = job->status != MLXR_OK && atomic_load(&job->cancelled);
    return (model_job_end){.status = job->status,
                           .cancelled = cancelled,
                           .message = cancelled                ? "it was cancelled"
                                      : job->status == MLXR_OK ? ""
                                                               : job->error.text,
                           .name = job->status == MLXR_OK ? job->made : ""};
}

static void sweep_watchers(model_job *job)
{
    for (model_watch **at = &job->watchers; *at;) {
        model_watch *w = *at;
        if (w->left) {
            *at = w->next;
            free(w);
        } else {
            at = &w->next;
        }
    }
}

static void tell(model_job *job, model_watch *w, const event *events, uint32_t n)
{
    for (uint32_t i = 0; i < n && !w->left; i++) {
        if (events[i].number > w->seen) {
            model_job_event told = event_of(&events[i]);
            w->seen = events[i].number;
            if (w->watcher.on_event) {
                w->watcher.on_event(w->watcher.user, &told);
            }
        }
    }
    if (job->state == JOB_ENDED && !w->left) {
        model_job_end end = end_of(job);
        w->left = true; /* before the call: it is no more */
        w->watcher.on_end(w->watcher.user, &end);
    }
}

static void free_job(model_job *job)
{
    pthread_mutex_destroy(&job->lock);
    registry_recipe_close(&job->recipe);
    free(job->source);
    free(job->name);
    free(job);
}

/* The oldest of those that ended go. */
static void forget_old(model_jobs *j)
{
    uint32_t n = 0;
    for (const model_job *job = j->first; job; job = job->next) {
        n += job->state == JOB_ENDED;
    }
    for (model_job **at = &j->first; *at && n > ENDED_MAX;) {
        model_job *old = *at;
        if (old->state == JOB_ENDED && !old->watchers && !old->delivering && !old->posted) {
            *at = old->next;
            free_job(old);
            n--;
        } else {
            at = &old->next;
        }
    }
}

static void deliver(void *user)
{
    model_job *job = user;
    model_jobs *j = job->owner;
    event events[EVENTS_MAX];
    pthread_mutex_lock(&job->lock);
    uint32_t n = job->n_events;
    memcpy(events, job->events, n * sizeof *events);
    job->posted = false;
    bool over = job->over;
    pthread_mutex_unlock(&job->lock);
    if (over && job->state == JOB_RUNNING) {
        pthread_join(job->thread, NULL);
        job->state = JOB_ENDED;
        job->ended_s = (int64_t)time(NULL);
        j->n_running--;
    }
    job->delivering = true;
    for (model_watch *w = job->watchers; w; w = w->next) {
        tell(job, w, events, n);
    }
    job->delivering = false;
    sweep_watchers(job);
    if (over && !job->told_end) {
        job->told_end = true;
        tell_change(job);
        model_jobs_changed(j);
    }
    if (over) {
        forget_old(j);
        start_waiting(j);
    }
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

/* Ends a job that has no thread. */
static void end_now(model_job *job, mlxr_status status, const char *what)
{
    pthread_mutex_lock(&job->lock);
    job->state = JOB_ENDED;
    job->ended_s = (int64_t)time(NULL);
    job->status = fail(&job->error, status, what);
    job->over = true;
    post(job);
    pthread_mutex_unlock(&job->lock);
}

static void start_waiting(model_jobs *j)
{
    for (model_job *job = j->first; job && j->n_running < RUNNING_MAX; job = job->next) {
        if (job->state != JOB_WAITING) {
            continue;
        }
        job->state = JOB_RUNNING;
        j->n_running++;
        if (pthread_create(&job->thread, NULL, run, job) != 0) {
            j->n_running--;
            end_now(job, MLXR_LIMIT, "the system has no thread for it");
        }
    }
}

static model_watch *add_watch(model_job *job, const model_watcher *watcher, uint64_t after)
{
    model_watch *w = calloc(1, sizeof *w);
    if (w) {
        *w = (model_watch){.of = job, .watcher = *watcher, .seen = after};
        model_watch **at = &job->watchers;
        while (*at) {
            at = &(*at)->next;
        }
        *at = w;
        pthread_mutex_lock(&job->lock);
        post(job); /* what there is already */
        pthread_mutex_unlock(&job->lock);
    }
    return w;
}

static bool equal(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* One that is under way and the same. */
static model_job *find_same(model_jobs *j, model_job_kind kind, const char *source, const char *name)
{
    for (model_job *job = j->first; job; job = job->next) {
        if (job->kind == kind && job->state != JOB_ENDED && !atomic_load(&job->cancelled) &&
            equal(job->source, source) && equal(job->name, name)) {
            return job;
        }
    }
    return NULL;
}

static model_job *new_job(model_jobs *j, model_job_kind kind, const char *source, const char *name)
{
    model_job *made = calloc(1, sizeof *made);
    char *source_copy = strdup(source), *name_copy = name ? strdup(name) : NULL;
    if (!made || !source_copy || (name && !name_copy)) {
        free(made);
        free(source_copy);
        free(name_copy);
        return NULL;
    }
    made->owner = j;
    made->kind = kind;
    made->source = source_copy;
    made->name = name_copy;
    made->started_s = (int64_t)time(NULL);
    made->task = (http_task){.fn = deliver, .user = made};
    atomic_init(&made->cancelled, false);
    pthread_mutex_init(&made->lock, NULL);
    return made;
}

static mlxr_status start(model_jobs *j, model_job *job, const model_watcher *w, model_watch **out, mlxr_error *error)
{
    model_job **at = &j->first;
    job->id = ++j->n_ids;
    while (*at) {
        at = &(*at)->next;
    }
    *at = job;
    if (w) {
        *out = add_watch(job, w, 0);
        if (!*out) {
            *at = NULL;
            free_job(job);
            return fail(error, MLXR_NOMEM, "out of memory");
        }
    }
    start_waiting(j);
    tell_change(job);
    return MLXR_OK;
}

static mlxr_status may_start(const model_jobs *j, mlxr_error *error)
{
    uint32_t n = 0;
    for (const model_job *job = j->first; job; job = job->next) {
        n += job->state == JOB_WAITING;
    }
    return n < WAITING_MAX ? MLXR_OK : fail(error, MLXR_LIMIT, "too many jobs are waiting; try again later");
}

/* Starts a job, or joins the one that is the same. */
static mlxr_status start_or_join(model_jobs *j, model_job_kind kind, const char *source, const char *name,
                                 bool keep_going, const model_watcher *w, model_watch **out, mlxr_error *error)
{
    model_job *job = find_same(j, kind, source, name);
    if (job) {
        job->keep_going = job->keep_going || keep_going;
        return !w || (*out = add_watch(job, w, 0)) ? MLXR_OK : fail(error, MLXR_NOMEM, "out of memory");
    }
    mlxr_status status = may_start(j, error);
    if (status != MLXR_OK) {
        return status;
    }
    job = new_job(j, kind, source, name);
    if (!job) {
        return fail(error, MLXR_NOMEM, "out of memory");
    }
    job->keep_going = keep_going;
    return start(j, job, w, out, error);
}

mlxr_status model_jobs_pull(model_jobs *j, const model_pull *ask, const model_watcher *w, model_watch **out,
                            mlxr_error *error)
{
    if (!ask->source || !*ask->source) {
        return fail(error, MLXR_ARG, "which model is to be pulled?");
    }
    return start_or_join(j, MODEL_JOB_PULL, ask->source, ask->name, ask->keep_going, w, out, error);
}

mlxr_status model_jobs_push(model_jobs *j, const model_push *ask, const model_watcher *w, model_watch **out,
                            mlxr_error *error)
{
    if (!ask->name || !*ask->name) {
        return fail(error, MLXR_ARG, "which model is to be pushed?");
    }
    return start_or_join(j, MODEL_JOB_PUSH, ask->name, ask->destination, ask->keep_going, w, out, error);
}

mlxr_status model_jobs_create(model_jobs *j, model_create *ask, const model_watcher *w, model_watch **out,
                              mlxr_error *error)
{
    mlxr_status status = may_start(j, error);
    model_job *job = status == MLXR_OK
                         ? new_job(j, MODEL_JOB_CREATE, ask->recipe.from ? ask->recipe.from : "", ask->name)
                         : NULL;
    if (!job) {
        registry_recipe_close(&ask->recipe);
        return status == MLXR_OK ? fail(error, MLXR_NOMEM, "out of memory") : status;
    }
    job->recipe = ask->recipe;
    ask->recipe = (registry_recipe){0};
    return start(j, job, w, out, error);
}

/* ---- watching ---------------------------------------------------------------------------------------------------- */

static model_job *find_job(model_jobs *j, uint64_t id)
{
    model_job *job = j->first;
    while (job && job->id != id) {
        job = job->next;
    }
    return job;
}

model_watch *model_jobs_watch(model_jobs *j, uint64_t id, uint64_t after, const model_watcher *w)
{
    model_job *job = find_job(j, id);
    return job ? add_watch(job, w, after) : NULL;
}

uint64_t model_watch_job(const model_watch *w)
{
    return w->of->id;
}

static void cancel(model_job *job)
{
    atomic_store(&job->cancelled, true);
    if (job->state == JOB_WAITING) {
        end_now(job, MLXR_LIMIT, "it was cancelled");
    }
}

void model_watch_leave(model_watch *w)
{
    model_job *job = w->of;
    bool any = false;
    w->left = true;
    for (const model_watch *other = job->watchers; other; other = other->next) {
        any = any || !other->left;
    }
    if (!any && !job->keep_going && job->state != JOB_ENDED) {
        cancel(job);
    }
    if (!job->delivering) {
        sweep_watchers(job);
    }
}

bool model_jobs_cancel(model_jobs *j, uint64_t id)
{
    model_job *job = find_job(j, id);
    if (!job || job->state == JOB_ENDED) {
        return false;
    }
    cancel(job);
    return true;
}

/* What it points to lies in the job, and in `now` where events are concerned. */
static model_job_info info_with(model_job *job, event *now)
{
    model_job_info info = {.id = job->id,
                           .kind = job->kind,
                           .source = job->source,
                           .name = job->name ? job->name : "",
                           .running = job->state == JOB_RUNNING,
                           .ended = job->state == JOB_ENDED,
                           .keep_going = job->keep_going,
                           .started_s = job->started_s,
                           .ended_s = job->ended_s};
    for (const model_watch *w = job->watchers; w; w = w->next) {
        info.n_watchers += !w->left;
    }
    pthread_mutex_lock(&job->lock);
    *now = job->n_events ? job->events[job->n_events - 1] : (event){0};
    pthread_mutex_unlock(&job->lock);
    info.now = event_of(now);
    info.end = info.ended ? end_of(job) : (model_job_end){.message = "", .name = ""};
    return info;
}

static void tell_change(model_job *job)
{
    event now;
    if (job->owner->on_change) {
        model_job_info info = info_with(job, &now);
        job->owner->on_change(job->owner->change_user, &info);
    }
}

void model_jobs_each(model_jobs *j, void (*seen)(void *user, const model_job_info *info), void *user)
{
    for (model_job *job = j->first; job; job = job->next) {
        event now;
        model_job_info info = info_with(job, &now);
        seen(user, &info);
    }
}

void model_jobs_on_change(model_jobs *j, void (*fn)(void *user, const model_job_info *info), void *user)
{
    j->on_change = fn;
    j->change_user = user;
}

void model_jobs_changed(const model_jobs *j)
{
    if (j->on_change) {
        j->on_change(j->change_user, NULL);
    }
}

/* ---- the service ------------------------------------------------------------------------------------------------- */

mlxr_status model_jobs_open(model_jobs **out, struct daemon *d, mlxr_error *error)
{
    model_jobs *j = calloc(1, sizeof *j);
    if (!j) {
        return fail(error, MLXR_NOMEM, "no memory for the jobs of models");
    }
    j->d = d;
    pthread_mutex_init(&j->names_lock, NULL);
    *out = j;
    return MLXR_OK;
}

void model_jobs_end(model_jobs *j)
{
    if (!j) {
        return;
    }
    for (model_job *job = j->first; job; job = job->next) {
        atomic_store(&job->cancelled, true);
    }
    for (model_job *job = j->first; job; job = job->next) {
        if (job->state == JOB_RUNNING) {
            pthread_join(job->thread, NULL);
            job->state = JOB_ENDED;
        }
        for (model_watch *w = job->watchers; w; w = w->next) {
            w->left = true;
        }
        sweep_watchers(job);
    }
}

void model_jobs_close(model_jobs **pointer)
{
    model_jobs *j = *pointer;
    if (!j) {
        return;
    }
    while (j->first) {
        model_job *job = j->first;
        j->first = job->next;
        free_job(job);
    }
    for (size_t i = 0; i < MODEL_NAMES_MAX; i++) {
        free(j->names[i].path);
        free(j->names[i].name);
    }
    pthread_mutex_destroy(&j->names_lock);
    free(j);
    *pointer = NULL;
}
