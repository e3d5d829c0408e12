/*
 * Prefill queue.
 * Owner: none. Lifetime: the call.
 */
#include "scheduler/prefill_queue.h"

#include <stdlib.h>

#define PRIORITY_US 1e6

static int by_key(const void *left, const void *right)
{
    const queue_entry *a = left, *b = right;
    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return a->lane < b->lane ? -1 : a->lane > b->lane;
}

void prefill_queue_order(queue_entry *entries, uint32_t n, const cost_model *cost)
{
    for (uint32_t i = 0; i < n; i++) {
        queue_entry *e = &entries[i];
        cost_load load = {0};
        batch_item_load(&e->item, e->item.pending, &load);
        e->key = (double)e->since_us + cost_model_step_us(cost, &load) - PRIORITY_US * (double)e->priority;
    }
    qsort(entries, n, sizeof *entries, by_key);
}
