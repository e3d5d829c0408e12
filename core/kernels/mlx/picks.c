/*
 * OP_PICK and OP_HEADS as a graph: parts of rows, or products with them, into parts of other rows. Picks into one slot
 * that follow each other and leave no gap are one concatenation.
 * Owner: the walk. Lifetime: the step's graph.
 */
#include "kernels/mlx/walk.h"

#define PICKS_MAX 8u

/* Where a pick writes: elements [at, at + n) of each of n_groups equal parts of a row. */
typedef struct place {
    int32_t n_groups, part, at, n;
} place;

static bool place_of(const op *o, place *out)
{
    const op_pick *p = &o->pick;
    uint32_t apart = p->apart ? p->apart : p->n;
    if (apart == p->n) { /* side by side: one piece of the row */
        *out = (place){1, (int32_t)o->width, (int32_t)p->to, (int32_t)(p->n_groups * p->n)};
        return true;
    }
    *out = (place){(int32_t)p->n_groups, (int32_t)apart, (int32_t)p->to, (int32_t)p->n};
    return p->n_groups * apart == o->width && p->to + p->n <= apart;
}

bool walk_can_pick(const op *o)
{
    place unused;
    return place_of(o, &unused);
}

/* What is picked, as [n_rows, n_groups, n] of its place. */
static mlx_value *picked(walk *w, const op *o, const place *to)
{
    const op_pick *p = &o->pick;
    mlx_arena *a = w->a;
    mlx_value *x = w->slots[o->src];
    int32_t n_rows = bridge_dim(x, 0), n_groups = (int32_t)p->n_groups, from = (int32_t)p->from, n = (int32_t)p->n;
    if (p->group) {
        x = bridge_slice(a, value_reshape(a, x, 3, n_rows, n_groups, (int32_t)p->group), 2, from, from + n);
    } else {
        const int32_t shape[] = {n_rows, n_groups, n};
        x = value_reshape(a, bridge_slice(a, x, 1, from, from + n), 3, n_rows, 1, n);
        x = bridge_broadcast(a, x, 3, shape);
    }
    return value_reshape(a, x, 3, n_rows, to->n_groups, to->n);
}

/* Writes x over a part of what the slot holds. */
static mlx_value *put(walk *w, mlx_value *row, mlx_value *x, const place *to)
{
    mlx_arena *a = w->a;
    const int32_t end = to->at + to->n, n_rows = bridge_dim(x, 0), shape[] = {n_rows, to->n_groups * to->part};
    if (!row || bridge_dim(row, 0) != n_rows || bridge_dim(row, 1) != shape[1]) {
        /* nothing yet, or of another layer's shape: what no pick writes nobody reads */
        row = bridge_broadcast(a, bridge_scalar(a, 0), 2, shape);
    }
    row = value_reshape(a, row, 3, n_rows, to->n_groups, to->part);
    const mlx_value *parts[3];
    size_t n = 0;
    if (to->at > 0) {
        parts[n++] = bridge_slice(a, row, 2, 0, to->at);
    }
    parts[n++] = x;
    if (end < to->part) {
        parts[n++] = bridge_slice(a, row, 2, end, to->part);
    }
    x = n == 1 ? x : bridge_join(a, parts, n, 2);
    return bridge_reshape(a, x, 2, shape);
}

/* How many picks from o on make a whole slot, one behind the other; 0: they do not. */
static uint32_t whole_slot(const op *o, uint32_t n_ops, place *places)
{
    int32_t end = 0;
    uint32_t n = 0;
    for (; n < n_ops && n < PICKS_MAX && o[n].kind == OP_PICK && o[n].dst == o->dst; n++) {
        if (!place_of(&o[n], &places[n]) || places[n].n_groups != places->n_groups || places[n].part != places->part ||
            places[n].at != end) {
            break;
        }
        end += places[n].n;
        if (end == places->part) {
            return n + 1;
        }
    }
    return 0;
}

uint32_t walk_picks(walk *w, const op *o, uint32_t n_ops)
{
    place places[PICKS_MAX];
    const mlx_value *parts[PICKS_MAX];
    uint32_t n = whole_slot(o, n_ops, places);
    if (n == 0) {
        place_of(o, places);
        w->slots[o->dst] = put(w, w->slots[o->dst], picked(w, o, places), places);
        return 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        parts[i] = picked(w, &o[i], &places[i]);
    }
    mlx_value *x = n == 1 ? bridge_keep(w->a, parts[0]) : bridge_join(w->a, parts, n, 2);
    w->slots[o->dst] = value_reshape(w->a, x, 2, bridge_dim(x, 0), (int32_t)o->width);
    return n;
}

/* ---- a product for each head ---- */

bool walk_can_heads(const op_heads *x, uint32_t src_width, uint32_t dst_width)
{
    return x->from + x->n_in <= x->from_apart && (uint64_t)x->n_heads * x->from_apart == src_width &&
           x->to + x->n_out <= x->to_apart && (uint64_t)x->n_heads * x->to_apart == dst_width;
}

mlx_value *walk_heads(walk *w, const op *o, const op_arrays *arrays)
{
    static const int turned[] = {1, 0, 2}; /* rows and heads */
    const op_heads *h = o->heads;
    mlx_arena *a = w->a;
    mlx_value *x = w->slots[o->src];
    const int32_t n_rows = bridge_dim(x, 0), n_heads = (int32_t)h->n_heads, from = (int32_t)h->from;
    x = value_reshape(a, x, 3, n_rows, n_heads, (int32_t)h->from_apart);
    x = bridge_slice(a, x, 2, from, from + (int32_t)h->n_in);
    x = mlx_stack_product(a, arrays->stacks[0], bridge_transpose(a, x, 3, turned));
    const place to = {n_heads, (int32_t)h->to_apart, (int32_t)h->to, (int32_t)h->n_out};
    return put(w, w->slots[o->dst], bridge_transpose(a, x, 3, turned), &to);
}
