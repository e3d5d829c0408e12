/*
 * Something done with a model that is no generation: tokenising, embedding.
 * Owner: itself. Lifetime: model_call_start to `done`.
 */
#ifndef MLXR_SERVER_MODEL_CALL_H
#define MLXR_SERVER_MODEL_CALL_H

#include "registry/registry.h"
#include "server/auth.h"
#include "server/daemon_parts.h"

typedef struct model_call {
    /* Pool: which model, "" for the daemon's own; NULL: the job has failed by itself, and `done` tells. */
    const char *(*prepare)(void *user);
    /* Pool: the work, under a lease, for some milliseconds; true: call again, behind what else waits for the pool.
     * `entry`: the model as the registry has it, until `done` has returned. */
    bool (*work)(void *user, mlxr_model *model, const registry_model *entry);
    /* Loop: status 0 after `work` or after prepare has failed; else the HTTP status and the reason. */
    void (*done)(void *user, int status, const char *code, const char *message);
    void *user;
    auth_identity identity;
    const int64_t *keep_alive_ms; /* read at the end; NULL: MODEL_KEEP_DEFAULT */
    bool computes;                /* `work` waits for the engine: HTTP_LANE_ENGINE */
} model_call;

/* False: no memory; `done` will not come. */
bool model_call_start(struct daemon *d, const model_call *call);

/* For `done`: the reason that it was given, or else what `work` has made. False: neither; the caller tells why. */
bool model_call_answer(http_exchange *x, int status, const char *code, const char *message, json_t *answer);

#endif
