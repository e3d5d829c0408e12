/*
 * Batcher.
 * Owner: none. Lifetime: the call.
 */
#include "scheduler/batcher.h"

typedef struct filling {
    const cost_model *cost;
    const batch_limits *limits;
    batch_slice *slices;
    batch out;
    uint64_t pages_left;
} filling;

static uint64_t pages_of(const filling *f, const batch_item *item, uint32_t n)
{
    uint64_t size = f->limits->page_tokens ? f->limits->page_tokens : 1;
    uint64_t end = (uint64_t)item->depth + n;
    return (end + size - 1) / size - ((uint64_t)item->depth + size - 1) / size;
}

void batch_item_load(const batch_item *item, uint32_t n, cost_load *load)
{
    cost_load_add(load, item->depth, n + item->n_draft, n == item->pending ? 1 + item->n_draft : 0);
}

static void take(filling *f, uint32_t index, const batch_item *item, uint32_t n)
{
    uint64_t pages = pages_of(f, item, n + item->n_draft);
    f->slices[f->out.n_slices++] = (batch_slice){index, n};
    batch_item_load(item, n, &f->out.load);
    f->out.cost_us = cost_model_step_us(f->cost, &f->out.load);
    f->pages_left = f->pages_left == UINT64_MAX ? UINT64_MAX : pages < f->pages_left ? f->pages_left - pages : 0;
}

static bool fits(const filling *f, const batch_item *item, uint32_t n, double budget_us)
{
    cost_load load = f->out.load;
    batch_item_load(item, n, &load);
    return cost_model_step_us(f->cost, &load) <= budget_us && load.rows <= f->limits->rows_max;
}

/* Decoding goes on without asking for pages: where they run out, somebody has to give some back. */
static bool add_decode(filling *f, uint32_t index, const batch_item *item, double budget_us)
{
    if (f->out.n_slices && !fits(f, item, 1, budget_us)) {
        return false;
    }
    f->out.pages_short |= pages_of(f, item, 1) > f->pages_left;
    take(f, index, item, 1);
    return true;
}

static bool add_prefill(filling *f, uint32_t index, const batch_item *item)
{
    uint32_t low = 0, high = item->pending; /* `low` rows fit, more than `high` do not or are not there */
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        if (fits(f, item, middle, f->limits->budget_us)) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    if (low == 0 && f->out.n_slices == 0) {
        low = 1;
    }
    bool full = low < item->pending;
    while (low && pages_of(f, item, low) > f->pages_left) { /* back to the end of the page before */
        uint32_t size = f->limits->page_tokens ? f->limits->page_tokens : 1;
        uint32_t over = (uint32_t)(((uint64_t)item->depth + low - 1) % size) + 1;
        low = over < low ? low - over : 0;
        f->out.pages_short = true;
        full = false; /* others may need no page */
    }
    if (low) {
        take(f, index, item, low);
    }
    return !full;
}

static bool is_late(const batch_item *item)
{
    return item->waited >= BATCH_WAIT_MAX;
}

/* The item that waited longest among those that waited too long and less than `below` (or as long, but later in the
 * order than `after`); UINT32_MAX: none. */
static uint32_t next_late(const batch_item *decodes, uint32_t n_decodes, const batch_item *prefills, uint32_t n,
                          uint32_t below, uint32_t after)
{
    uint32_t best = UINT32_MAX, best_waited = 0;
    for (uint32_t i = 0; i < n; i++) {
        const batch_item *item = i < n_decodes ? &decodes[i] : &prefills[i - n_decodes];
        bool comes = item->waited < below || (item->waited == below && after != UINT32_MAX && i > after);
        if (is_late(item) && comes && (best == UINT32_MAX || item->waited > best_waited)) {
            best = i;
            best_waited = item->waited;
        }
    }
    return best;
}

/* Rule 1. Returns false when the step is full. */
static bool add_late(filling *f, const batch_item *decodes, uint32_t n_decodes, const batch_item *prefills, uint32_t n)
{
    uint32_t below = UINT32_MAX, after = UINT32_MAX;
    for (;;) {
        uint32_t i = next_late(decodes, n_decodes, prefills, n, below, after);
        if (i == UINT32_MAX) {
            return true;
        }
        const batch_item *item = i < n_decodes ? &decodes[i] : &prefills[i - n_decodes];
        if (i < n_decodes ? !add_decode(f, i, item, f->limits->budget_us) : !add_prefill(f, i, item)) {
            return false;
        }
        below = item->waited;
        after = i;
    }
}

batch batcher_fill(const cost_model *cost, const batch_limits *limits, const batch_item *decodes, uint32_t n_decodes,
                   const batch_item *prefills, uint32_t n_prefills, batch_slice *slices)
{
    filling f = {.cost = cost, .limits = limits, .slices = slices, .pages_left = limits->pages_free};
    if (!add_late(&f, decodes, n_decodes, prefills, n_decodes + n_prefills)) {
        return f.out;
    }
    double decode_us = n_prefills ? limits->decode_us : limits->budget_us;
    for (uint32_t i = 0; i < n_decodes; i++) {
        if (!is_late(&decodes[i]) && !add_decode(&f, i, &decodes[i], decode_us)) {
            break;
        }
    }
    for (uint32_t i = 0; i < n_prefills; i++) {
        if (!is_late(&prefills[i]) && !add_prefill(&f, n_decodes + i, &prefills[i])) {
            break;
        }
    }
    return f.out;
}
