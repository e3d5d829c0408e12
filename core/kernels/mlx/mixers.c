/*
 * States, recurrent sums and short convolutions as a graph. A state is never written in place: what a graph reads are
 * the pages of earlier steps, whatever the host stores meanwhile.
 * Owner: the walk. Lifetime: the step's graph.
 */
#include "kernels/mlx/mixers.h"

#include <string.h>

/* ---- states ---- */

state_part state_part_of(const op *o)
{
    const op_recur *r;
    switch (o->kind) {
    case OP_SCAN:
        return (state_part){&o->state, o->width};
    case OP_CONV:
        return (state_part){&o->conv.state, (o->conv.n - 1) * o->width};
    case OP_RECUR:
        r = o->recur;
        return (state_part){&r->state, r->n_head * r->head_k * r->head_v};
    default:
        return (state_part){NULL, 0};
    }
}

mlx_value *state_before(walk *w, const batch *b, const op *o)
{
    const state_part part = state_part_of(o);
    const uint16_t group = part.state->kv_group;
    const int32_t n_layers = (int32_t)w->s->kv.layout[group].n_layers, first = (int32_t)part.state->first;
    int32_t *ids = region_array(w->memory, (size_t)b->n, sizeof *ids);
    uint8_t *there = region_array(w->memory, (size_t)b->n, sizeof *there);
    uint32_t page_end = 0;
    bool all = true;
    if (!ids || !there) {
        return bridge_keep(w->a, NULL);
    }
    for (int32_t i = 0; i < b->n; i++) {
        uint32_t page = b->slices[i]->pages[group][0];
        there[i] = page != KV_PAGE_NONE;
        all = all && there[i];
        ids[i] = (there[i] ? (int32_t)page * n_layers : 0) + part.state->kv_layer;
        page_end = there[i] && page + 1 > page_end ? page + 1 : page_end;
    }
    if (page_end == 0) {
        return NULL;
    }
    mlx_value *x = bridge_slice(w->a, walk_pool(w, group, page_end), 1, first, first + (int32_t)part.width);
    if (b->n == 1) {
        return bridge_slice(w->a, x, 0, ids[0], ids[0] + 1); /* where it lies */
    }
    const int32_t shape[] = {b->n, 1};
    x = bridge_take(w->a, x, bridge_copy(w->a, MLX_I32, 1, &b->n, ids), 0);
    return all ? x : bridge_where(w->a, bridge_copy(w->a, MLX_BOOL, 2, shape, there), x, bridge_scalar(w->a, 0));
}

const state_target *states_wanted(walk *w, const batch *b, const op *o, uint32_t *n)
{
    const uint16_t group = state_part_of(o).state->kv_group;
    state_target *targets = region_array(w->memory, (size_t)b->n * (size_t)b->n_rows, sizeof *targets);
    *n = 0;
    for (int32_t i = 0; targets && i < b->n; i++) {
        const step_slice *slice = b->slices[i];
        for (uint32_t r = 0; r < slice->n_rows; r++) {
            if (slice->pages[group][r + 1] != KV_PAGE_NONE) {
                targets[(*n)++] = (state_target){(uint32_t)(slice - w->s->slices), (uint32_t)i, r};
            }
        }
    }
    if (!targets) {
        bridge_keep(w->a, NULL);
    }
    return targets;
}

void states_keep(walk *w, const op *o, mlx_value *states, const state_target *targets, uint32_t n_targets)
{
    if (n_targets) {
        w->g->rows[w->g->n_rows++] = (page_rows){
            .o = o, .k = bridge_one(w->a, BRIDGE_CONTIGUOUS, states), .targets = targets, .n_targets = n_targets};
    }
}

/* ---- rows of a batch ---- */

mlx_value *batch_rows(walk *w, const batch *b, const mlx_value *x)
{
    int32_t width = bridge_dim(x, 1);
    mlx_value *rows = b->rows ? bridge_take(w->a, x, b->rows, 0) : bridge_keep(w->a, x);
    return value_reshape(w->a, rows, 3, b->n, b->n_rows, width);
}

mlx_value *batches_joined(walk *w, const mlx_value *const *parts)
{
    const mlx_value **rows = region_array(w->memory, w->n_batches, sizeof *rows);
    for (uint32_t i = 0; rows && i < w->n_batches; i++) {
        const batch *b = &w->batches[i];
        rows[i] = value_reshape(w->a, parts[i], 2, b->n * b->n_rows, bridge_dim(parts[i], 2));
    }
    if (!rows || w->n_batches == 0) {
        return bridge_keep(w->a, NULL);
    }
    mlx_value *x = w->n_batches == 1 ? bridge_keep(w->a, rows[0]) : bridge_join(w->a, rows, w->n_batches, 0);
    return w->order ? bridge_take(w->a, x, w->order, 0) : x;
}

/* ---- recurrent sums ---- */

/* y[r] = x[r] + f y[r − 1] for every row at once, by doubling: after the step of s rows, y[r] holds the last 2s terms.
 */
static mlx_value *scan_batch(walk *w, const batch *b, const op *o, const op_arrays *arrays)
{
    mlx_arena *a = w->a;
    int32_t n = b->n_rows, width = (int32_t)o->width;
    mlx_value *y = batch_rows(w, b, w->slots[o->dst]), *before = state_before(w, b, o);
    const mlx_value *parts[2];
    if (before) {
        parts[0] = value_reshape(a, before, 3, b->n, 1, width);
        parts[1] = y;
        y = bridge_join(a, parts, 2, 1);
    }
    mlx_value *factor = arrays->vector;
    for (int32_t s = 1, n_all = n + (before != NULL); s < n_all; s *= 2) {
        mlx_value *earlier = value_mul(a, bridge_slice(a, y, 1, 0, n_all - s), factor);
        parts[0] = bridge_slice(a, y, 1, 0, s);
        parts[1] = value_add(a, bridge_slice(a, y, 1, s, n_all), earlier);
        y = bridge_join(a, parts, 2, 1);
        factor = value_mul(a, factor, factor);
    }
    return before ? bridge_slice(a, y, 1, 1, n + 1) : y;
}

/* States that are rows of x [n, rows, width] and n_before of those before it: [n_targets, n_before + 1, width] */
static void keep_rows_of(walk *w, const batch *b, const op *o, const mlx_value *x, int32_t n_before)
{
    uint32_t n_targets;
    const state_target *targets = states_wanted(w, b, o, &n_targets);
    if (!targets || n_targets == 0) {
        return;
    }
    if (b->n_rows == 1 && n_targets == (uint32_t)b->n) { /* all of them, as they lie */
        states_keep(w, o, bridge_slice(w->a, x, 1, 0, n_before + 1), targets, n_targets);
        return;
    }
    const mlx_value **parts = region_array(w->memory, n_targets, sizeof *parts);
    if (!parts) {
        bridge_keep(w->a, NULL);
        return;
    }
    for (uint32_t i = 0; i < n_targets; i++) {
        int32_t slice = (int32_t)targets[i].in_batch, row = (int32_t)targets[i].row;
        parts[i] = bridge_slice(w->a, bridge_slice(w->a, x, 0, slice, slice + 1), 1, row, row + n_before + 1);
    }
    states_keep(w, o, bridge_join(w->a, parts, n_targets, 0), targets, n_targets);
}

mlx_value *walk_scan(walk *w, const op *o, const op_arrays *arrays)
{
    const mlx_value **parts = region_array(w->memory, w->n_batches, sizeof *parts);
    for (uint32_t i = 0; parts && i < w->n_batches; i++) {
        parts[i] = scan_batch(w, &w->batches[i], o, arrays);
        keep_rows_of(w, &w->batches[i], o, parts[i], 0);
    }
    return parts ? batches_joined(w, parts) : NULL;
}

/* ---- short convolutions ---- */

/* The rows of the batch behind those that they see. */
static mlx_value *with_rows_before(walk *w, const batch *b, const op *o)
{
    mlx_arena *a = w->a;
    const int32_t shape[] = {b->n, (int32_t)o->conv.n - 1, (int32_t)o->width};
    mlx_value *before = state_before(w, b, o);
    before = before ? bridge_reshape(a, before, 3, shape) : bridge_broadcast(a, bridge_scalar(a, 0), 3, shape);
    const mlx_value *parts[] = {before, batch_rows(w, b, w->slots[o->dst])};
    return bridge_join(a, parts, 2, 1);
}

mlx_value *walk_conv(walk *w, const op *o, const op_arrays *arrays)
{
    mlx_arena *a = w->a;
    const mlx_value **parts = region_array(w->memory, w->n_batches, sizeof *parts);
    int32_t n_before = (int32_t)o->conv.n - 1;
    for (uint32_t i = 0; parts && i < w->n_batches; i++) {
        const batch *b = &w->batches[i];
        mlx_value *x = with_rows_before(w, b, o), *y = bridge_conv(a, x, arrays->vector);
        keep_rows_of(w, b, o, bridge_slice(a, x, 1, 1, b->n_rows + n_before), n_before - 1);
        y = arrays->bias ? value_add(a, y, arrays->bias) : y;
        parts[i] = o->conv.silu ? value_mul(a, y, bridge_one(a, BRIDGE_SIGMOID, y)) : y;
    }
    return parts ? batches_joined(w, parts) : NULL;
}
