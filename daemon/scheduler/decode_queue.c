/*
 * Decode queue.
 * Owner: none. Lifetime: the call.
 */
#include "scheduler/decode_queue.h"

#include <stdlib.h>

static int by_turn(const void *left, const void *right)
{
    const queue_entry *a = left, *b = right;
    if (a->priority != b->priority) {
        return a->priority > b->priority ? -1 : 1;
    }
    if (a->since_us != b->since_us) {
        return a->since_us < b->since_us ? -1 : 1;
    }
    return a->lane < b->lane ? -1 : a->lane > b->lane;
}

void decode_queue_order(queue_entry *entries, uint32_t n)
{
    qsort(entries, n, sizeof *entries, by_turn);
}
