/*
 * Mixtures of experts as a graph, which is built before the router's numbers are known. A pair is a row and an expert
 * that it has chosen. Few pairs are products that look up their matrices, in the order of the matrices where there are
 * some for each. Of many rows, where looking up does not pay (mlx_stack_gathers), every expert computes every row, and
 * those that were not chosen weigh 0.
 * Owner: the walk. Lifetime: the step's graph.
 */
#include "kernels/mlx/walk.h"

/* Pairs for each expert from which on they are sorted: MLX's grouped product wants as many. */
#define PAIRS_SORTED 4

/* [1, n] of 0, −1, −2, …: the first of equals is the largest. */
static mlx_value *minus_index(walk *w, uint32_t n)
{
    float *values = region_array(w->memory, n, sizeof *values);
    const int32_t shape[] = {1, (int32_t)n};
    for (uint32_t i = 0; values && i < n; i++) {
        values[i] = -(float)i;
    }
    return values ? bridge_copy(w->a, MLX_F32, 2, shape, values) : NULL;
}

/* 1 where one of the `n_best` largest of a row is, else 0; x [n_rows, n]. In `which`, unless it is NULL, where these
 * are: minus their index, [n_rows, 1] each. */
static mlx_value *mark_best(walk *w, mlx_value *x, uint32_t n, uint32_t n_best, const mlx_value **which)
{
    mlx_arena *a = w->a;
    mlx_value *order = minus_index(w, n), *marks = NULL, *never = bridge_scalar(a, -3.0e38f);
    mlx_value *one = bridge_scalar(a, 1), *zero = bridge_scalar(a, 0);
    for (uint32_t k = 0; k < n_best; k++) {
        mlx_value *top = bridge_reduce(a, BRIDGE_MAX, x, 1);
        mlx_value *equal = bridge_where(a, bridge_two(a, BRIDGE_LESS_EQUAL, top, x), order, never);
        mlx_value *first = bridge_reduce(a, BRIDGE_MAX, equal, 1);
        if (which) {
            which[k] = first;
        }
        mlx_value *mark = bridge_where(a, bridge_two(a, BRIDGE_LESS_EQUAL, first, equal), one, zero);
        marks = marks ? value_add(a, marks, mark) : mark;
        x = bridge_where(a, bridge_two(a, BRIDGE_LESS, zero, mark), never, x);
    }
    return marks;
}

/* Only what is in the best groups stays above "never". */
static mlx_value *keep_groups(walk *w, const op_experts *x, mlx_value *choice, int32_t n_rows)
{
    mlx_arena *a = w->a;
    int32_t n_groups = (int32_t)x->n_groups, n = (int32_t)(x->n_expert / x->n_groups);
    mlx_value *rows = value_reshape(a, choice, 2, n_rows * n_groups, n);
    mlx_value *best = mark_best(w, rows, (uint32_t)n, n > 1 && !x->groups_by_best ? 2 : 1, NULL);
    mlx_value *sums = bridge_reduce(a, BRIDGE_SUM, value_mul(a, rows, best), 1);
    mlx_value *kept = mark_best(w, value_reshape(a, sums, 2, n_rows, n_groups), x->n_groups, x->n_groups_used, NULL);
    kept = bridge_two(a, BRIDGE_LESS, bridge_scalar(a, 0), value_reshape(a, kept, 3, n_rows, n_groups, 1));
    choice = value_reshape(a, choice, 3, n_rows, n_groups, n);
    return value_reshape(a, bridge_where(a, kept, choice, bridge_scalar(a, -3.0e37f)), 2, n_rows, n_groups * n);
}

/* What a row's router has decided. */
typedef struct routes {
    mlx_value *chosen;  /* [n_rows, n_used] numbers of experts; NULL: weights are of all experts */
    mlx_value *weights; /* [n_rows, n_used or n_expert] */
} routes;

static routes route(walk *w, const op_experts *x, const op_arrays *arrays, bool choose)
{
    mlx_arena *a = w->a;
    mlx_value *logits = w->slots[SLOT_R], *likely, *scales = arrays->scales;
    const mlx_value *which[EXPERTS_USED_MAX];
    if (x->routing == ROUTE_SIGMOID) {
        likely = bridge_one(a, BRIDGE_SIGMOID, logits);
    } else {
        likely = bridge_one(a, BRIDGE_EXP, value_sub(a, logits, bridge_reduce(a, BRIDGE_MAX, logits, 1)));
        likely = x->routing == ROUTE_SOFTMAX ? value_div(a, likely, bridge_reduce(a, BRIDGE_SUM, likely, 1)) : likely;
    }
    mlx_value *choice = arrays->choice_bias ? value_add(a, likely, arrays->choice_bias) : likely;
    choice = x->n_groups > 1 ? keep_groups(w, x, choice, bridge_dim(logits, 0)) : choice;
    mlx_value *marks = mark_best(w, choice, x->n_expert, x->n_used, which);
    routes r = {0};
    if (choose) {
        r.chosen = bridge_one(a, BRIDGE_NEGATIVE, bridge_join(a, which, x->n_used, 1));
        /* Of a row without numbers nothing is largest: "never" is no expert's number. */
        r.chosen = bridge_cast(a, value_clip(a, r.chosen, 0, (float)x->n_expert - 1), MLX_U32);
        r.weights = bridge_take_along(a, likely, r.chosen, 1);
        scales = scales ? bridge_take(a, value_reshape(a, scales, 1, (int32_t)x->n_expert), r.chosen, 0) : NULL;
    } else {
        r.weights = value_mul(a, likely, marks);
    }
    if (x->normalise || x->routing == ROUTE_TOP_SOFTMAX) {
        r.weights = value_div(a, r.weights, bridge_reduce(a, BRIDGE_SUM, r.weights, 1));
    }
    r.weights = value_scale(a, scales ? value_mul(a, r.weights, scales) : r.weights, x->scale);
    return r;
}

static mlx_value *gated(walk *w, const op_experts *x, mlx_value *gate, mlx_value *up)
{
    return gate ? walk_gate(w, x->act, gate, up) : walk_gate(w, x->act, up, NULL);
}

/* ---- by pairs ---- */

enum { GATE, UP, DOWN };

/* Rows, their experts and what these weigh: x [n, 1, 1, n_in], chosen and weights [n, m]. */
typedef struct pairs {
    mlx_value *x, *chosen, *weights;
    bool sorted;     /* m = 1, and they are in the order of their experts … */
    mlx_value *from; /* … [n] the rows that they are of */
} pairs;

/* Pairs, and where those of each row went. */
static mlx_value *sort_pairs(walk *w, pairs *p, int32_t n_rows, int32_t n_used)
{
    mlx_arena *a = w->a;
    const int32_t n = n_rows * n_used;
    int32_t *rows = region_array(w->memory, (size_t)n, sizeof *rows);
    for (int32_t i = 0; rows && i < n; i++) {
        rows[i] = i / n_used;
    }
    mlx_value *chosen = value_reshape(a, p->chosen, 1, n), *order = bridge_sorting(a, chosen, 0);
    mlx_value *from = rows ? bridge_take(a, bridge_copy(a, MLX_I32, 1, &n, rows), order, 0) : NULL;
    p->chosen = value_reshape(a, bridge_take(a, chosen, order, 0), 2, n, 1);
    p->x = bridge_take(a, p->x, from, 0);
    p->weights = value_reshape(a, bridge_take(a, value_reshape(a, p->weights, 1, n), order, 0), 2, n, 1);
    p->from = from;
    p->sorted = true;
    return bridge_sorting(a, order, 0);
}

/* What adapters add to the products of x: as walk_adapt does, with each pair's own matrices. */
static mlx_value *adapt_pairs(walk *w, const op_experts *e, int which, mlx_value *x, mlx_value *y, const pairs *p)
{
    mlx_arena *a = w->a;
    for (uint32_t i = 0; e->adapts && i < w->n_adapters; i++) {
        const adapter_term t = walk_adapter_term(w, i, e->product + (uint32_t)which);
        if (!t.a) {
            continue;
        }
        mlx_value *factor = t.factor;
        if (factor && !t.one) {
            factor = p->sorted ? bridge_take(a, factor, p->from, 0) : factor;
            factor = value_reshape(a, factor, 4, bridge_dim(x, 0), 1, 1, 1);
        }
        mlx_value *low = bridge_gather_matmul(a, factor ? value_mul(a, x, factor) : x, t.a, p->chosen, p->sorted);
        y = value_add(a, y, bridge_gather_matmul(a, low, t.b, p->chosen, p->sorted));
    }
    return y;
}

static mlx_value *by_pairs(walk *w, const op_experts *e, const op_arrays *arrays, int which, mlx_value *x,
                           const pairs *p)
{
    mlx_arena *a = w->a;
    if (!arrays->stacks[which]) {
        return NULL;
    }
    x = adapt_pairs(w, e, which, x, mlx_stack_chosen(a, arrays->stacks[which], x, p->chosen, p->sorted), p);
    mlx_value *bias = arrays->stack_biases[which];
    if (bias) {
        bias = bridge_take(a, bias, p->chosen, 0);
        bias = value_reshape(a, bias, 4, bridge_dim(bias, 0), bridge_dim(bias, 1), 1, bridge_dim(bias, 2));
    }
    return bias ? value_add(a, x, bias) : x;
}

static mlx_value *chosen_experts(walk *w, const op *o, const op_arrays *arrays)
{
    mlx_arena *a = w->a;
    const op_experts *x = o->experts;
    const routes r = route(w, x, arrays, true);
    int32_t n_rows = bridge_dim(w->slots[o->src], 0), n_used = (int32_t)x->n_used, n_in = (int32_t)x->n_in;
    pairs p = {
        .x = value_reshape(a, w->slots[o->src], 4, n_rows, 1, 1, n_in), .chosen = r.chosen, .weights = r.weights};
    bool sort = n_rows * n_used / PAIRS_SORTED >= (int32_t)x->n_expert;
    mlx_value *places = sort ? sort_pairs(w, &p, n_rows, n_used) : NULL;
    mlx_value *gate = by_pairs(w, x, arrays, GATE, p.x, &p), *up = by_pairs(w, x, arrays, UP, p.x, &p);
    if (x->weigh_input) { /* products are of w x what they are of x, times w */
        mlx_value *weights = value_reshape(a, p.weights, 4, bridge_dim(p.weights, 0), bridge_dim(p.weights, 1), 1, 1);
        gate = gate ? value_mul(a, gate, weights) : NULL;
        up = value_mul(a, up, weights);
    }
    mlx_value *y = by_pairs(w, x, arrays, DOWN, gated(w, x, gate, up), &p);
    y = sort ? bridge_take(a, value_reshape(a, y, 2, n_rows * n_used, n_in), places, 0) : y;
    y = value_reshape(a, y, 3, n_rows, n_used, n_in);
    y = x->weigh_input ? y : value_mul(a, y, value_reshape(a, r.weights, 3, n_rows, n_used, 1));
    return value_reshape(a, bridge_reduce(a, BRIDGE_SUM, y, 1), 2, n_rows, n_in);
}

/* ---- all of them ---- */

/* One expert's of a stack [n_expert, m, k]. */
static mlx_value *matrix_of(walk *w, const mlx_value *stack, int32_t expert)
{
    return value_reshape(w->a, bridge_slice(w->a, stack, 0, expert, expert + 1), 2, bridge_dim(stack, 1),
                         bridge_dim(stack, 2));
}

static mlx_value *adapt_one(walk *w, const op_experts *e, int which, mlx_value *x, mlx_value *y, int32_t expert)
{
    mlx_arena *a = w->a;
    for (uint32_t i = 0; e->adapts && i < w->n_adapters; i++) {
        const adapter_term t = walk_adapter_term(w, i, e->product + (uint32_t)which);
        if (t.a) {
            mlx_value *own = t.factor ? value_mul(a, x, t.factor) : x;
            own = bridge_two(a, BRIDGE_MATMUL, own, matrix_of(w, t.a, expert));
            y = value_add(a, y, bridge_two(a, BRIDGE_MATMUL, own, matrix_of(w, t.b, expert)));
        }
    }
    return y;
}

static mlx_value *by_one(walk *w, const op_experts *e, const op_arrays *arrays, int which, mlx_value *x, int32_t expert)
{
    if (!arrays->stacks[which]) {
        return NULL;
    }
    x = adapt_one(w, e, which, x, mlx_weight_product(w->a, &arrays->stacks[which]->each[expert], x), expert);
    mlx_value *bias = arrays->stack_biases[which];
    return bias ? value_add(w->a, x, bridge_slice(w->a, bias, 0, expert, expert + 1)) : x;
}

static mlx_value *all_experts(walk *w, const op *o, const op_arrays *arrays)
{
    mlx_arena *a = w->a;
    const op_experts *x = o->experts;
    const routes r = route(w, x, arrays, false);
    mlx_value *in = w->slots[o->src], *sum = NULL;
    for (int32_t i = 0; i < (int32_t)x->n_expert; i++) {
        mlx_value *gate = by_one(w, x, arrays, GATE, in, i), *up = by_one(w, x, arrays, UP, in, i);
        mlx_value *weight = bridge_slice(a, r.weights, 1, i, i + 1);
        if (x->weigh_input) { /* of 0 an expert without biases makes 0 */
            gate = gate ? value_mul(a, gate, weight) : NULL;
            up = value_mul(a, up, weight);
        }
        mlx_value *y = by_one(w, x, arrays, DOWN, gated(w, x, gate, up), i);
        y = x->weigh_input ? y : value_mul(a, y, weight);
        sum = sum ? value_add(a, sum, y) : y;
    }
    return sum;
}

mlx_value *walk_experts(walk *w, const op *o, const op_arrays *arrays)
{
    int32_t n_rows = bridge_dim(w->slots[o->src], 0), n_used = (int32_t)o->experts->n_used;
    bool few = true;
    for (size_t i = 0; i < 3; i++) {
        few = few && (!arrays->stacks[i] || mlx_stack_gathers(arrays->stacks[i], n_rows, n_used));
    }
    return few ? chosen_experts(w, o, arrays) : all_experts(w, o, arrays);
}
