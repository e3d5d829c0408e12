/*
 * Request: a scheduler's own copy of what was asked, and how far it is.
 * Owner: the scheduler. Lifetime: from submission to its last event. Only `cancelled` and `stalled` are shared
 * between threads.
 */
#ifndef MLXR_SCHEDULER_REQUEST_H
#define MLXR_SCHEDULER_REQUEST_H

#include <stdatomic.h>

#include "scheduler/scheduler.h"
#include "telemetry/request_meter.h"

typedef struct request request;
struct request {
    request *previous, *next; /* list of all live requests */
    uint64_t id, arrived_us;
    scheduler_request ask; /* its pointers are this request's own, but for the models */
    mlxr_sampling sampling;
    uint64_t work;        /* tokens it may take, for fairness between clients */
    uint64_t bytes_least; /* of KV memory, without which it can never end */
    uint32_t client_slot; /* in the queue's table */
    uint32_t n_open;      /* choices that have not finished */
    size_t n_cached;
    const char *miss;
    request_meter meter;
    choice_meter *choices; /* [ask.n_choices] */
    atomic_bool cancelled;
    atomic_bool stalled; /* nobody takes its tokens: scheduler_pause */
};

/* Checks what needs no engine and copies. */
mlxr_status request_open(request **out, const scheduler_request *ask, mlxr_error *error);
void request_close(request **r);

#endif
