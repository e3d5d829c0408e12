/*
 * Request queue.
 * Owner: a scheduler. Lifetime: its owner's.
 */
#include "scheduler/request_queue.h"

#include <stdlib.h>

#include "telemetry/daemon_error.h"

mlxr_status request_queue_open(request_queue *q, uint32_t n_max, uint32_t client_max, uint64_t aging_us,
                               mlxr_error *error)
{
    *q = (request_queue){.n_max = n_max, .client_max = client_max, .aging_us = aging_us};
    q->items = calloc(n_max, sizeof *q->items);
    q->clients = calloc((size_t)n_max * 2, sizeof *q->clients);
    if (!q->items || !q->clients) {
        request_queue_close(q);
        return daemon_error(error, MLXR_NOMEM, "no memory for a queue of %u requests", n_max);
    }
    return MLXR_OK;
}

void request_queue_close(request_queue *q)
{
    free(q->items);
    free(q->clients);
    *q = (request_queue){0};
}

/* The client's slot. A new client takes the place of the one with the least to remember that has nothing queued; there
 * always is one, since there are twice as many slots as requests. */
static uint32_t client_slot(request_queue *q, uint64_t id)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < q->n_clients; i++) {
        if (q->clients[i].id == id) {
            return i;
        }
        if (q->clients[i].n_queued == 0 && (least == UINT32_MAX || q->clients[i].served < q->clients[least].served)) {
            least = i;
        }
    }
    if (q->n_clients < q->n_max * 2) {
        least = q->n_clients++;
    }
    q->clients[least] = (queue_client){.id = id, .served = q->level};
    return least;
}

scheduler_refusal request_queue_push(request_queue *q, request *r)
{
    if (q->n == q->n_max) {
        return SCHEDULER_QUEUE_FULL;
    }
    uint32_t slot = client_slot(q, r->ask.client);
    queue_client *client = &q->clients[slot];
    if (client->n_queued >= q->client_max) {
        return SCHEDULER_CLIENT_FULL;
    }
    if (client->n_queued == 0 && client->served < q->level) {
        client->served = q->level; /* not asking earns nothing */
    }
    client->n_queued++;
    r->client_slot = slot;
    q->items[q->n++] = r;
    return SCHEDULER_TAKEN;
}

static uint32_t class_of(const request *r)
{
    return (uint32_t)(r->ask.priority + QUEUE_PRIORITY_MAX);
}

/* The class to serve next: since when each one waits for being served decides how much it has aged. */
static uint32_t urgent_class(const request_queue *q, uint64_t now_us)
{
    uint64_t since_us[QUEUE_N_PRIORITIES];
    for (uint32_t i = 0; i < QUEUE_N_PRIORITIES; i++) {
        since_us[i] = UINT64_MAX;
    }
    for (uint32_t i = 0; i < q->n; i++) {
        uint64_t *since = &since_us[class_of(q->items[i])];
        *since = q->items[i]->arrived_us < *since ? q->items[i]->arrived_us : *since;
    }
    uint32_t best = 0;
    uint64_t best_urgency = 0;
    for (uint32_t i = QUEUE_N_PRIORITIES; i-- > 0;) {
        if (since_us[i] == UINT64_MAX) {
            continue;
        }
        uint64_t since = since_us[i] > q->served_at_us[i] ? since_us[i] : q->served_at_us[i];
        uint64_t aged = q->aging_us && now_us > since ? (now_us - since) / q->aging_us : 0;
        if (1 + i + aged > best_urgency) {
            best = i;
            best_urgency = 1 + i + aged;
        }
    }
    return best;
}

static uint64_t deadline_of(const request *r)
{
    return r->ask.deadline_us ? r->ask.deadline_us : UINT64_MAX;
}

static bool comes_before(const request_queue *q, const request *a, const request *b)
{
    uint64_t served_a = q->clients[a->client_slot].served, served_b = q->clients[b->client_slot].served;
    if (served_a != served_b) {
        return served_a < served_b;
    }
    return deadline_of(a) != deadline_of(b) ? deadline_of(a) < deadline_of(b) : a->id < b->id;
}

request *request_queue_first(const request_queue *q, uint64_t now_us)
{
    uint32_t class = q->n ? urgent_class(q, now_us) : 0;
    request *best = NULL;
    for (uint32_t i = 0; i < q->n; i++) {
        request *r = q->items[i];
        if (class_of(r) == class && (!best || comes_before(q, r, best))) {
            best = r;
        }
    }
    return best;
}

void request_queue_remove(request_queue *q, request *r, bool served, uint64_t now_us)
{
    for (uint32_t i = 0; i < q->n; i++) {
        if (q->items[i] != r) {
            continue;
        }
        queue_client *client = &q->clients[r->client_slot];
        client->n_queued--;
        if (served) {
            q->level = client->served > q->level ? client->served : q->level;
            client->served += r->work;
            q->served_at_us[class_of(r)] = now_us;
        }
        q->items[i] = q->items[--q->n];
        return;
    }
}

request *request_queue_ended(const request_queue *q, uint64_t now_us)
{
    for (uint32_t i = 0; i < q->n; i++) {
        if (atomic_load_explicit(&q->items[i]->cancelled, memory_order_relaxed) || deadline_of(q->items[i]) <= now_us) {
            return q->items[i];
        }
    }
    return NULL;
}

uint64_t request_queue_deadline(const request_queue *q)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < q->n; i++) {
        first = deadline_of(q->items[i]) < first ? deadline_of(q->items[i]) : first;
    }
    return first;
}
