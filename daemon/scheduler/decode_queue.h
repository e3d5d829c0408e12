/*
 * Decode queue: the order in which decoding sequences get their row, where a step's budget does not do for all.
 * Owner: none; an ordering of the scheduler's lanes. Lifetime: the call. Any thread.
 *
 * Highest priority first, among equals who had a row longest ago. That a low priority never starves is the batcher's
 * first rule.
 */
#ifndef MLXR_SCHEDULER_DECODE_QUEUE_H
#define MLXR_SCHEDULER_DECODE_QUEUE_H

#include "scheduler/prefill_queue.h"

void decode_queue_order(queue_entry *entries, uint32_t n);

#endif
