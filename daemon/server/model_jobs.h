/*
 * Model jobs: what is done to models, whoever asks for it: Ollama's routes, the UI's, the command line's.
 * Owner: the daemon. Lifetime: model_jobs_open to model_jobs_close; model_jobs_end comes when the loop has ended.
 *
 * What takes long (pull, push, create) is a job on a thread of its own, with numbered events; several may watch it:
 *
 *   model_jobs_pull ─▶ waiting ─▶ running ─▶ ended, known for a while: model_jobs_each, model_jobs_watch
 *     the same again: joins        │ │ ▲
 *     watcher ◀── on_event … ──────┘ │ └─ the last watcher leaves: cancelled, unless the job keeps going
 *     watcher ◀── on_end, once ──────┘
 *
 * What does not (list, show, copy, delete, what is loaded, load, unload) is asked for and answered once.
 *
 * Threads. All functions are the loop thread's unless they say "any thread", and all callbacks come on it, none before
 * the function that asked has returned. The work is done elsewhere.
 */
#ifndef MLXR_SERVER_MODEL_JOBS_H
#define MLXR_SERVER_MODEL_JOBS_H

#include "registry/registry.h"
#include "server/auth.h"
#include "server/daemon_parts.h"

typedef struct model_jobs model_jobs;   /* daemon_parts.h: d->jobs */
typedef struct model_watch model_watch; /* somebody who watches a job */

/* ---- long ones --------------------------------------------------------------------------------------------------- */

typedef enum model_job_kind { MODEL_JOB_PULL, MODEL_JOB_CREATE, MODEL_JOB_PUSH } model_job_kind;
const char *model_job_kind_name(model_job_kind kind); /* "pull", "create", "push" */

typedef struct model_job_event {    /* borrowed for the call */
    uint64_t number;                /* grows within a job, from 1; what was overtaken by a later one is left out */
    const char *what;               /* what is being done: "manifest", the name of the file under way, "storing" */
    const char *digest;             /* of that file, where it is known beforehand; else "" */
    uint64_t done, total;           /* bytes of the files before this one; of all files, 0: not known */
    uint64_t file_done, file_total; /* of this one; both 0: it is no file */
    uint32_t file, n_files;         /* counted from 1 */
} model_job_event;

typedef struct model_job_end { /* borrowed for the call */
    mlxr_status status;
    bool cancelled;
    const char *message; /* why it failed, or "" */
    const char *name;    /* what the model is called now; "" where it failed */
} model_job_end;

typedef struct model_watcher {
    void (*on_event)(void *user, const model_job_event *event); /* may be NULL */
    void (*on_end)(void *user, const model_job_end *end);       /* nothing comes behind it; the watch is no more */
    void *user;
} model_watcher;

typedef struct model_pull {
    const char *source; /* as registry_pull takes it, but for files of this machine */
    const char *name;   /* to store it under; NULL: what its source calls it */
    bool keep_going;    /* also when nobody watches any more */
} model_pull;

typedef struct model_push {
    const char *name;        /* of the model here */
    const char *destination; /* as registry_push takes it; NULL: the same name */
    bool keep_going;         /* also when nobody watches any more */
} model_push;

typedef struct model_create {
    const char *name;
    registry_recipe recipe; /* taken over in any case */
} model_create;

/* Start a job, or join one under way that is the same; *out watches it (`out` and `w` NULL: nobody does, which needs
 * keep_going). An error: nothing was started and nothing will be called. A create always is a job of its own. */
mlxr_status model_jobs_pull(model_jobs *j, const model_pull *ask, const model_watcher *w, model_watch **out,
                            mlxr_error *error);
mlxr_status model_jobs_push(model_jobs *j, const model_push *ask, const model_watcher *w, model_watch **out,
                            mlxr_error *error);
mlxr_status model_jobs_create(model_jobs *j, model_create *ask, const model_watcher *w, model_watch **out,
                              mlxr_error *error);
/* Watches a job that is there, from its events behind `after` on. NULL: no such job, or no memory. Of one that has
 * ended, on_end comes at once (from the loop). */
model_watch *model_jobs_watch(model_jobs *j, uint64_t id, uint64_t after, const model_watcher *w);
uint64_t model_watch_job(const model_watch *w); /* the id */
/* Nothing comes any more. */
void model_watch_leave(model_watch *w);
/* False: no such job, or it has ended. Its watchers are told its end. */
bool model_jobs_cancel(model_jobs *j, uint64_t id);

typedef struct model_job_info { /* borrowed for the call */
    uint64_t id;
    model_job_kind kind;
    const char *source, *name; /* as asked for; name "" where none was */
    bool running, ended;       /* neither: it waits for its turn */
    bool keep_going;
    uint32_t n_watchers;
    int64_t started_s, ended_s; /* Unix time */
    model_job_event now;        /* the latest; number 0: nothing yet */
    model_job_end end;          /* if ended */
} model_job_info;
/* Jobs under way, and the last that have ended, oldest first. `seen` must not call this service. */
void model_jobs_each(model_jobs *j, void (*seen)(void *user, const model_job_info *info), void *user);

/* ---- short ones -------------------------------------------------------------------------------------------------- */

typedef struct model_loaded {
    const char *name;                                /* the last one it was asked for by */
    const char *path, *id, *digest, *family, *quant; /* as registry_model has them */
    uint64_t n_params, file_bytes, weight_bytes, kv_bytes_per_token;
    uint32_t n_ctx, n_uses;
    const char *rope_scaling; /* as mlxr_model_info has it */
    float rope_factor;
    bool loading, pinned;  /* loading, or unloading: the numbers are not known */
    bool mtp;              /* with its multi-token-prediction head */
    int64_t expires_in_ms; /* when idle; negative: never. In use: as if it were idle from now on */
} model_loaded;

typedef struct model_answer { /* borrowed for the call */
    int status;               /* HTTP's; 200: it was done */
    const char *code;         /* of an error: a word for programs; else "" */
    const char *message;
    const registry_model *models; /* [n_models] of list (those the asker's key may use), show, load and unload: one */
    size_t n_models;
    const model_loaded *loaded; /* [n_loaded] of model_jobs_loaded */
    size_t n_loaded;
    const char *description; /* of show with details: JSON, as mlxr_model_describe gives it; else NULL */
    bool is_loaded;          /* and of such a show: it is in memory already */
    uint64_t memory_bytes, memory_free_bytes; /* of such a show and of model_jobs_machine: the machine's, or of what
                                                 this process may have of it; 0: not known */
    const char *left; /* of unload: "unloaded": its memory is free; "in_use": it goes when nobody uses it any
                         more; "pinned": it stays; "not_loaded": it was not */
    uint64_t load_us; /* of load: how long it was waited for */
} model_answer;

typedef struct model_asker {
    void (*done)(void *user, const model_answer *answer); /* exactly once */
    void *user;                                           /* must live until then, whoever leaves */
    auth_identity identity;                               /* what its key may not use it does not see */
} model_asker;

/* All of these: false: no memory; `done` will not come. Names that do not exist are answered with 404. */
bool model_jobs_list(model_jobs *j, const model_asker *asker);
bool model_jobs_show(model_jobs *j, const char *name, bool details, const model_asker *asker);
bool model_jobs_copy(model_jobs *j, const char *from, const char *to, bool alias, const model_asker *asker);
/* Unloads it, too, before the answer where nobody uses it. grace_s > 0: model_jobs_restore brings it back until
 * then. */
bool model_jobs_delete(model_jobs *j, const char *name, uint32_t grace_s, const model_asker *asker);
bool model_jobs_restore(model_jobs *j, const char *name, const model_asker *asker);
bool model_jobs_loaded(model_jobs *j, const model_asker *asker);
/* Loads it where it is not, and sets how long it stays when idle (model_table.h). */
bool model_jobs_load(model_jobs *j, const char *name, int64_t keep_alive_ms, const model_asker *asker);
/* As soon as nobody uses it; of one that is idle the answer comes when it has gone. One that is not loaded is no
 * error. */
bool model_jobs_unload(model_jobs *j, const char *name, const model_asker *asker);
/* How much memory there is, whatever the models. */
bool model_jobs_machine(model_jobs *j, const model_asker *asker);

/* Called on the loop whenever a job begins or ends, or models of the registry may have changed (info NULL). Once. */
void model_jobs_on_change(model_jobs *j, void (*fn)(void *user, const model_job_info *info), void *user);

/* Somebody else has changed models of the registry. */
void model_jobs_changed(const model_jobs *j);

/* Any thread: this file was asked for by this name, which model_jobs_loaded tells. */
void model_jobs_note_name(model_jobs *j, const char *path, const char *name);

/* ---- for daemon.c ------------------------------------------------------------------------------------------------ */

mlxr_status model_jobs_open(model_jobs **out, struct daemon *d, mlxr_error *error);
/* The loop has ended: jobs are cancelled and waited for, nobody is told anything. */
void model_jobs_end(model_jobs *j);
void model_jobs_close(model_jobs **j);

#endif
