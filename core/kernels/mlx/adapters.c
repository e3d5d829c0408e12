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

/* n matrices of a product: 0 of one that is no experts'. */
static bool upload_product(device_adapter *d, uint32_t number, const adapter_product *p, uint32_t n, uint64_t n_in,
                           uint64_t n_out)
{
    static const int turned[] = {1, 0}, each_turned[] = {0, 2, 1};
    const int32_t down[] = {(int32_t)n, (int32_t)p->rank, (int32_t)n_in},
                  up[] = {(int32_t)n, (int32_t)p->rank, (int32_t)n_out};
    size_t n_dims = n ? 3 : 2, first = n ? 0 : 1;
    mlx_value **pair = d->products + 2 * (size_t)number;
    if (p->rank && !pair[0]) {
        pair[0] = bridge_transpose(d->arena, bridge_copy(d->arena, MLX_F32, n_dims, down + first, p->a), n_dims,
                                   n ? each_turned : turned);
        pair[1] = bridge_copy(d->arena, MLX_F32, n_dims, up + first, p->b);
    }
    return bridge_status(d->arena, NULL) == MLXR_OK;
}

static bool upload_op(device_adapter *d, const op *o, const adapter_product *products)
{
    const op_experts *x = o->experts;
    if (o->kind == OP_ADAPT && o->src != SLOT_NONE) {
        return upload_product(d, o->product, &products[o->product], 0, o->weight->shape[0], o->width);
    }
    bool ok = true;
    for (uint32_t part = 0; o->kind == OP_EXPERTS && x->adapts && part < 3; part++) {
        bool last = part == 2;
        ok = ok && upload_product(d, x->product + part, &products[x->product + part], x->n_expert,
                                  last ? x->n_ff : x->n_in, last ? x->n_in : x->n_ff);
    }
    return ok;
}

/* Products that an operation of a plan with adapters counts up to. */
static uint32_t products_end(const op *o)
{
    return o->kind == OP_ADAPT                           ? o->product + 1
           : o->kind == OP_EXPERTS && o->experts->adapts ? o->experts->product + 3
                                                         : 0;
}

static device_adapter *upload(const plan *p, const step_adapter *source)
{
    uint32_t n_products = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        uint32_t end = products_end(&p->ops[i]);
        n_products = end > n_products ? end : n_products;
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
        ok = upload_op(d, &p->ops[i], source->products);
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
static mlx_value *factor_of(walk *w, const float *scales, int32_t n, bool *used, bool *one)
{
    bool same = true;
    *used = false;
    for (int32_t i = 0; i < n; i++) {
        same = same && memcmp(&scales[i], &scales[0], sizeof *scales) == 0;
        *used = *used || scales[i] != 0;
    }
    const int32_t shape[] = {n, 1};
    *one = same;
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
        a->factor = factor_of(w, a->scales, (int32_t)s->n_rows, &a->used, &a->one);
        a->factor_taken = factor_of(w, taken, (int32_t)s->n_wanted, &a->used_taken, &a->one_taken);
    }
    return true;
}

adapter_term walk_adapter_term(const walk *w, uint32_t adapter, uint32_t product)
{
    const walk_adapter *a = &w->adapters[adapter];
    mlx_value *const *pair = a->on_device->products + 2 * (size_t)product;
    bool used = w->taken ? a->used_taken : a->used;
    return (adapter_term){.a = used ? pair[0] : NULL,
                          .b = pair[1],
                          .factor = w->taken ? a->factor_taken : a->factor,
                          .one = w->taken ? a->one_taken : a->one};
}

mlx_value *walk_adapt(walk *w, const op *o)
{
    mlx_value *y = w->slots[o->dst];
    for (uint32_t i = 0; i < w->n_adapters; i++) {
        const adapter_term t = walk_adapter_term(w, i, o->product);
        if (t.a) {
            /* weighed before it is multiplied: 0 times a sum of huge numbers would be no number */
            const mlx_value *own = t.factor ? value_mul(w->a, w->slots[o->src], t.factor) : w->slots[o->src];
            y = value_add(w->a, y, bridge_two(w->a, BRIDGE_MATMUL, bridge_two(w->a, BRIDGE_MATMUL, own, t.a), t.b));
        }
    }
    return y;
}

/* ---- of tokens ---- */

bool adapters_add(const step *s, uint32_t product)
{
    for (uint32_t i = 0; i < s->n_slices; i++) {
        for (uint32_t j = 0; j < s->slices[i].n_adapters; j++) {
            if (s->slices[i].adapters[j].products[product].rank) {
                return true;
            }
        }
    }
    return false;
}

/* The host decodes an embedding's rows, and makes these: some thousand products a row. */
void adapters_host_rows(const op *o, const step *s, float *rows)
{
    const size_t n_vocab = (size_t)o->weight->shape[1];
    memset(rows, 0, (size_t)s->n_rows * o->width * sizeof *rows);
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *slice = &s->slices[i];
        for (uint32_t k = 0; k < slice->n_rows * slice->n_adapters; k++) {
            const step_adapter *a = &slice->adapters[k % slice->n_adapters];
            const adapter_product *p = &a->products[o->product];
            uint32_t row = slice->first_row + k / slice->n_adapters;
            for (uint32_t r = 0; r < p->rank; r++) {
                float factor = p->a[r * n_vocab + (size_t)s->tokens[row]] * o->scale * a->scale;
                for (uint32_t c = 0; c < o->width; c++) {
                    rows[(size_t)row * o->width + c] += factor * p->b[(size_t)r * o->width + c];
                }
            }
        }
    }
}
