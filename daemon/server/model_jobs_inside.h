/*
 * Inside of the service for models: shared by model_jobs.c (what takes long) and model_asks.c (what does not).
 * Owner: model_jobs.c. Lifetime: model_jobs_open to model_jobs_close.
 */
#ifndef MLXR_SERVER_MODEL_JOBS_INSIDE_H
#define MLXR_SERVER_MODEL_JOBS_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/model_jobs.h"

#define MODEL_NAMES_MAX 128u

struct model_jobs {
    struct daemon *d;
    struct model_job *first;
    uint64_t n_ids;
    uint32_t n_running;
    void (*on_change)(void *user, const model_job_info *info); /* NULL: nobody wants to know */
    void *change_user;
    pthread_mutex_t names_lock; /* of what follows */
    struct {
        char *path, *name; /* path: as the model table has it */
    } names[MODEL_NAMES_MAX];
    size_t next_name;               /* the one that is given up next */
    _Atomic uint64_t machine_bytes; /* its memory, which stays; 0: not looked at yet */
};

#endif
