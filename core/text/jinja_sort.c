/*
 * Sorting as Python's sorted() does: stable, with comparisons that can fail.
 * Owner: the render. Lifetime: the call.
 */
#include <string.h>

#include "text/jinja_run.h"

/* Merges order[low, mid) and order[mid, high) through spare. */
static bool merge(jrun *r, const jvalue *keys, bool reverse, uint32_t *order, uint32_t *spare, size_t low, size_t mid,
                  size_t high)
{
    size_t a = low, b = mid;
    for (size_t to = low; to < high; to++) {
        bool second = a >= mid;
        if (a < mid && b < high) {
            const jvalue *left = &keys[order[a]], *right = &keys[order[b]];
            if (!jrun_charge(r, 1) ||
                !jvalue_compare(r, JCMP_LT, reverse ? *left : *right, reverse ? *right : *left, &second)) {
                return false;
            }
        }
        spare[to] = second ? order[b++] : order[a++];
    }
    memcpy(order + low, spare + low, (high - low) * sizeof *order);
    return true;
}

bool jsort_order(jrun *r, const jvalue *keys, size_t n, bool reverse, uint32_t **out)
{
    if (n > UINT32_MAX / 2) {
        return jrun_limit(r, "%zu items are too many to sort", n);
    }
    uint32_t *order = jrun_array(r, n, sizeof *order), *spare = order ? jrun_array(r, n, sizeof *spare) : NULL;
    if (!spare) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t low = 0; low + width < n; low += 2 * width) {
            size_t high = low + 2 * width < n ? low + 2 * width : n;
            if (!merge(r, keys, reverse, order, spare, low, low + width, high)) {
                return false;
            }
        }
    }
    *out = order;
    return true;
}
