/*
 * Which experts to keep in memory where not all fit.
 * Owner: expert_cache. Lifetime: expert_policy_open to expert_policy_close.
 */
#include "runtime/expert_policy.h"

#include <math.h>
#include <stdlib.h>

#define HALF_LIVES_MAX 256 /* between two changes of unit: far from what a double ends at */

bool expert_policy_open(expert_policy *p, uint32_t n_items, uint64_t n_bytes_max, double half_life)
{
    *p = (expert_policy){.n_items = n_items, .n_bytes_max = n_bytes_max, .half_life = half_life};
    p->items = calloc(n_items, sizeof *p->items);
    p->missed = calloc(n_items, sizeof *p->missed);
    p->given_up = calloc(n_items, sizeof *p->given_up);
    if (!p->items || !p->missed || !p->given_up) {
        expert_policy_close(p);
        return false;
    }
    return true;
}

void expert_policy_close(expert_policy *p)
{
    free(p->items);
    free(p->missed);
    free(p->given_up);
    *p = (expert_policy){0};
}

/* What a use counts now. */
static double weight_of(expert_policy *p, double now)
{
    double age = (now - p->base) / p->half_life;
    if (age > HALF_LIVES_MAX) {
        double scale = exp2(-age);
        for (uint32_t i = 0; i < p->n_items; i++) {
            p->items[i].value *= scale;
        }
        p->base = now;
        age = 0;
    }
    return exp2(age);
}

/* UINT32_MAX: this pass uses all that are kept. */
static uint32_t least_valued(const expert_policy *p)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < p->n_items; i++) {
        const expert_item *item = &p->items[i];
        if (item->kept && item->pass != p->n_passes && (least == UINT32_MAX || item->value < p->items[least].value)) {
            least = i;
        }
    }
    return least;
}

void expert_policy_use(expert_policy *p, double now, const uint32_t *used, uint32_t n)
{
    double weight = weight_of(p, now);
    p->n_passes++;
    p->n_missed = p->n_given = 0;
    for (uint32_t i = 0; i < n; i++) {
        expert_item *item = &p->items[used[i]];
        item->value += weight;
        item->pass = p->n_passes;
        if (!item->kept) {
            item->kept = true;
            p->n_bytes_kept += item->n_bytes;
            p->missed[p->n_missed++] = used[i];
        }
    }
    p->n_misses += p->n_missed;
    p->n_hits += n - p->n_missed;
    while (p->n_bytes_kept > p->n_bytes_max) {
        uint32_t least = least_valued(p);
        if (least == UINT32_MAX) {
            break;
        }
        p->items[least].kept = false;
        p->n_bytes_kept -= p->items[least].n_bytes;
        p->given_up[p->n_given++] = least;
    }
    p->n_given_up += p->n_given;
}
