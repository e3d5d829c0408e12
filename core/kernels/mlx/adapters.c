/*
 * Adapters as a graph. Each of a step's adapters is applied to all rows at once, and weighs 0 in rows of sequences that
 * do not have it: its product is a small part of the one that it follows, and one product of many rows is better than
 * many of few. That adds exactly nothing there, because an adapter's numbers are finite (graph/adapter.c).
 * Owner: see adapters.h. Lifetime: the step's graph; the store's, the program's.
 */
#include "kernels/mlx/adapters.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/mlx/walk.h"

static void device_adapter_close(device_adapter *d)
{
    if (d) {
        bridge_arena_close(&d->arena);
        free(d->products);
        free(d);
    }
}

void adapter_store_close(adapter_store *store)
{
    for (size_t i = 0; i < store->n; i++) {
        device_adapter_close(store->list[i]);
    }
    free(store->list);
    *store = (adapter_store){0};
}

bool adapters_same(const step_slice *a, const step_slice *b)
{
    bool same = a->n_adapters == b->n_adapters;
    for (uint32_t i = 0; same && i < a->n_adapters; i++) {
        const step_adapter *x = &a->adapters[i], *y = &b->adapters[i];
        same = x->name[0] == y->name[0] && x->name[1] == y->name[1] &&
               memcmp(&x->scale, &y->scale, sizeof x->scale) == 0;
    }
    return same;
}

/* ---- the store ---- */

static bool upload_product(device_adapter *d, const op *o, const adapter_product *p)
{
    static const int turned[] = {1, 0};
    const int32_t down[] = {(int32_t)p->rank, (int32_t)o->weight->shape[0]},
                  up[] = {(int32_t)p->rank, (int32_t)o->width};
    mlx_value **pair = d->products + 2 * (size_t)o->product;
    if (p->rank && !pair[0]) {
        pair[0] = bridge_transpose(d->arena, bridge_copy(d->arena, MLX_F32, 2, down, p->a), 2, turned);
        pair[1] = bridge_copy(d->arena, MLX_F32, 2, up, p->b);
    }
    return bridge_status(d->arena, NULL) == MLXR_OK;
}

static device_adapter *upload(const plan *p, const step_adapter *source)
{
    uint32_t n_products = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_ADAPT && p->ops[i].product >= n_products) {
            n_products = p->ops[i].product + 1;
        }
    }
    device_adapter *d = calloc(1, sizeof *d);
    if (!d) {
        return NULL;
    }
    *d = (device_adapter){.name = {source->name[0], source->name[1]},
                          .arena = bridge_arena_open(),
                          .products = calloc(2 * (size_t)n_products, sizeof(mlx_value *))};
    bool ok = d->arena && d->products;
    for (uint32_t i = 0; ok && i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        if (o->kind == OP_ADAPT) {
            ok = upload_product(d, o, &source->products[o->product]);
        }
    }
    if (!ok) {
        device_adapter_close(d);
        return NULL;
    }
    return d;
}

/* Those that were used the longest ago go, where there are many and this step has no use for them. */
static void make_room(adapter_store *store)
{
    while (store->n >= ADAPTERS_KEPT) {
        size_t oldest = 0;
        for (size_t i = 1; i < store->n; i++) {
            oldest = store->list[i]->last_step < store->list[oldest]->last_step ? i : oldest;
        }
        if (store->list[oldest]->last_step >= store->n_steps) {
            return;
        }
        device_adapter_close(store->list[oldest]);
        store->list[oldest] = store->list[--store->n];
    }
}

static const device_adapter *on_device(adapter_store *store, const plan *p, const step_adapter *source)
{
    for (size_t i = 0; i < store->n; i++) {
        device_adapter *d = store->list[i];
        if (d->name[0] == source->name[0] && d->name[1] == source->name[1]) {
            d->last_step = store->n_steps;
            return d;
        }
    }
    make_room(store);
    if (store->n == store->cap) {
        size_t cap = store->cap ? 2 * store->cap : ADAPTERS_KEPT;
        device_adapter **more = realloc(store->list, cap * sizeof(device_adapter *));
        if (!more) {
            return NULL;
        }
        store->list = more;
        store->cap = cap;
    }
    device_adapter *d = upload(p, source);
    if (d) {
        d->last_step = store->n_steps;
        store->list[store->n++] = d;
    }
    return d;
}

/* ---- in a step ---- */

static walk_adapter *find(walk *w, const step_adapter *source)
{
    for (uint32_t i = 0; i < w->n_adapters; i++) {
        const uint64_t *name = w->adapters[i].source->name;
        if (name[0] == source->name[0] && name[1] == source->name[1]) {
            return &w->adapters[i];
        }
    }
    walk_adapter *a = &w->adapters[w->n_adapters];
    *a = (walk_adapter){.source = source,
                        .on_device = on_device(&w->prog->adapters, w->prog->plan, source),
                        .scales = region_array(w->memory, w->s->n_rows, sizeof(float))};
    if (!a->on_device || !a->scales) {
        return NULL;
    }
    w->n_adapters++;
    return a;
}

/* One number where all rows have the same, NULL where that is 1. */
static mlx_value *factor_of(walk *w, const float *scales, int32_t n, bool *used)
{
    bool same = true;
    *used = false;
    for (int32_t i = 0; i < n; i++) {
        same = same && memcmp(&scales[i], &scales[0], sizeof *scales) == 0;
        *used = *used || scales[i] != 0;
    }
    const int32_t shape[] = {n, 1};
    if (!*used || (same && scales[0] == 1)) {
        return NULL;
    }
    return same ? bridge_scalar(w->a, scales[0]) : bridge_copy(w->a, MLX_F32, 2, shape, scales);
}

bool adapters_make(walk *w)
{
    const step *s = w->s;
    size_t n_max = 0;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        n_max += s->slices[i].n_adapters;
    }
    if (n_max == 0) {
        return true;
    }
    w->prog->adapters.n_steps++;
    w->adapters = region_array(w->memory, n_max, sizeof *w->adapters);
    float *taken = region_array(w->memory, s->n_wanted, sizeof *taken);
    if (!w->adapters || !taken) {
        return false;
    }
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *slice = &s->slices[i];
        for (uint32_t j = 0; j < slice->n_adapters; j++) {
            walk_adapter *a = find(w, &slice->adapters[j]);
            for (uint32_t r = 0; a && r < slice->n_rows; r++) {
                a->scales[slice->first_row + r] += slice->adapters[j].scale;
            }
            if (!a) {
                return false;
            }
        }
    }
    for (uint32_t i = 0; i < w->n_adapters; i++) {
        walk_adapter *a = &w->adapters[i];
        for (uint32_t j = 0; j < s->n_wanted; j++) {
            taken[j] = a->scales[s->wanted[j]];
        }
        a->factor = factor_of(w, a->scales, (int32_t)s->n_rows, &a->used);
        a->factor_taken = factor_of(w, taken, (int32_t)s->n_wanted, &a->used_taken);
    }
    return true;
}

mlx_value *walk_adapt(walk *w, const op *o)
{
    mlx_value *y = w->slots[o->dst];
    for (uint32_t i = 0; i < w->n_adapters; i++) {
        const walk_adapter *a = &w->adapters[i];
        mlx_value *const *pair = a->on_device->products + 2 * (size_t)o->product;
        const mlx_value *own = w->slots[o->src], *factor = w->taken ? a->factor_taken : a->factor;
        if (pair[0] && (w->taken ? a->used_taken : a->used)) {
            /* weighed before it is multiplied: 0 times a sum of huge numbers would be no number */
            own = factor ? value_mul(w->a, own, factor) : own;
            mlx_value *low = bridge_two(w->a, BRIDGE_MATMUL, own, pair[0]);
            y = value_add(w->a, y, bridge_two(w->a, BRIDGE_MATMUL, low, pair[1]));
        }
    }
    return y;
}
