/*
 * Prefill queue: the order in which prompts (and what a pre-empted sequence must compute again) get rows.
 * Owner: none; an ordering of the scheduler's lanes. Lifetime: the call. Any thread.
 *
 * By virtual finishing time: when it became ready + what is left of it, in predicted microseconds, − one second for
 * each priority. A short prompt overtakes a long one that arrived little before it; none is overtaken for ever, because
 * those that come later come with later times.
 */
#ifndef MLXR_SCHEDULER_PREFILL_QUEUE_H
#define MLXR_SCHEDULER_PREFILL_QUEUE_H

#include "scheduler/batcher.h"

typedef struct queue_entry {
    batch_item item;
    uint64_t since_us; /* prefill: when it became ready; decode: when it last had a row */
    int32_t priority;
    uint32_t lane; /* index; decides between equals */
    double key;    /* filled in by the ordering */
} queue_entry;

/* Sorts entries[n]; the first goes first. */
void prefill_queue_order(queue_entry *entries, uint32_t n, const cost_model *cost);

#endif
