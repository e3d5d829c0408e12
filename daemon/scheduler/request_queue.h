/*
 * Request queue: what waits to be admitted; bounded, by priority, fair between clients, earliest deadline first.
 * Owner: a scheduler; the requests in it are not the queue's. Lifetime: its owner's. One thread at a time (its owner's
 * lock).
 *
 * The first is, in this order: the highest priority, where every aging_us that a priority went without being served
 * counts as one more (so that none starves, and yet nobody gains by queueing much early); the client that has been
 * served least work (fair queueing by start times: a client that comes back after a pause starts level with
 * the others); the earliest deadline; the earliest arrival.
 */
#ifndef MLXR_SCHEDULER_REQUEST_QUEUE_H
#define MLXR_SCHEDULER_REQUEST_QUEUE_H

#include "scheduler/request.h"

enum { QUEUE_PRIORITY_MAX = 100, QUEUE_N_PRIORITIES = 2 * QUEUE_PRIORITY_MAX + 1 };

typedef struct queue_client {
    uint64_t id;
    uint64_t served; /* work taken out, on a scale common to all clients */
    uint32_t n_queued;
} queue_client;

typedef struct request_queue {
    request **items; /* [n], in no order */
    uint32_t n, n_max, client_max;
    queue_client *clients; /* [2 × n_max] */
    uint32_t n_clients;
    uint64_t level; /* what a client served fairly has had by now */
    uint64_t aging_us;
    uint64_t served_at_us[QUEUE_N_PRIORITIES]; /* when a request of this priority was last served */
} request_queue;

mlxr_status request_queue_open(request_queue *q, uint32_t n_max, uint32_t client_max, uint64_t aging_us,
                               mlxr_error *error);
void request_queue_close(request_queue *q);

/* TAKEN, QUEUE_FULL or CLIENT_FULL. */
scheduler_refusal request_queue_push(request_queue *q, request *r);
/* Who is next, NULL: nobody. Stays in the queue. */
request *request_queue_first(const request_queue *q, uint64_t now_us);
/* Takes a request out; `served`: it was its turn and its client has had its work. */
void request_queue_remove(request_queue *q, request *r, bool served, uint64_t now_us);
/* A request that is cancelled or past its deadline, NULL: none. Stays in the queue. */
request *request_queue_ended(const request_queue *q, uint64_t now_us);
/* The earliest deadline, UINT64_MAX: none. */
uint64_t request_queue_deadline(const request_queue *q);

#endif
