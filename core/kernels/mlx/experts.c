/*
 * Mixtures of experts as a graph. MLX's graph is built before the router's numbers are known, so that every expert
 * computes every row and those that were not chosen weigh 0: exact, and as slow as all experts together. Owner: the
 * walk. Lifetime: the step's graph.
 */
#include "kernels/mlx/walk.h"

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

/* 1 where one of the `n_best` largest of a row is, else 0; x [n_rows, n]. */
static mlx_value *mark_best(walk *w, mlx_value *x, uint32_t n, uint32_t n_best)
{
    mlx_arena *a = w->a;
    mlx_value *order = minus_index(w, n), *marks = NULL, *never = bridge_scalar(a, -3.0e38f);
    mlx_value *one = bridge_scalar(a, 1), *zero = bridge_scalar(a, 0);
    for (uint32_t k = 0; k < n_best; k++) {
        mlx_value *top = bridge_reduce(a, BRIDGE_MAX, x, 1);
        mlx_value *equal = bridge_where(a, bridge_two(a, BRIDGE_LESS_EQUAL, top, x), order, never);
        mlx_value *first = bridge_reduce(a, BRIDGE_MAX, equal, 1);
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
    mlx_value *best = mark_best(w, rows, (uint32_t)n, n > 1 && !x->groups_by_best ? 2 : 1);
    mlx_value *sums = bridge_reduce(a, BRIDGE_SUM, value_mul(a, rows, best), 1);
    mlx_value *kept = mark_best(w, value_reshape(a, sums, 2, n_rows, n_groups), x->n_groups, x->n_groups_used);
    kept = bridge_two(a, BRIDGE_LESS, bridge_scalar(a, 0), value_reshape(a, kept, 3, n_rows, n_groups, 1));
    choice = value_reshape(a, choice, 3, n_rows, n_groups, n);
    return value_reshape(a, bridge_where(a, kept, choice, bridge_scalar(a, -3.0e37f)), 2, n_rows, n_groups * n);
}

/* [n_rows, n_expert] what each expert weighs. */
static mlx_value *route(walk *w, const op_experts *x, mlx_value *logits)
{
    mlx_arena *a = w->a;
    mlx_value *likely, *choice;
    if (x->routing == ROUTE_SIGMOID) {
        likely = bridge_one(a, BRIDGE_SIGMOID, logits);
    } else {
        likely = bridge_one(a, BRIDGE_EXP, value_sub(a, logits, bridge_reduce(a, BRIDGE_MAX, logits, 1)));
        likely = x->routing == ROUTE_SOFTMAX ? value_div(a, likely, bridge_reduce(a, BRIDGE_SUM, likely, 1)) : likely;
    }
    const int32_t shape[] = {1, (int32_t)x->n_expert};
    choice = x->choice_bias ? value_add(a, likely, bridge_copy(a, MLX_F32, 2, shape, x->choice_bias)) : likely;
    choice = x->n_groups > 1 ? keep_groups(w, x, choice, bridge_dim(logits, 0)) : choice;
    mlx_value *weights = value_mul(a, likely, mark_best(w, choice, x->n_expert, x->n_used));
    if (x->normalise || x->routing == ROUTE_TOP_SOFTMAX) {
        weights = value_div(a, weights, bridge_reduce(a, BRIDGE_SUM, weights, 1));
    }
    weights = x->expert_scales ? value_mul(a, weights, bridge_copy(a, MLX_F32, 2, shape, x->expert_scales)) : weights;
    return value_scale(a, weights, x->scale);
}

static mlx_value *with_bias(walk *w, mlx_value *y, const float *bias, uint32_t n)
{
    const int32_t shape[] = {1, (int32_t)n};
    return bias ? value_add(w->a, y, bridge_copy(w->a, MLX_F32, 2, shape, bias)) : y;
}

mlx_value *walk_experts(walk *w, const op *o, const op_arrays *arrays)
{
    const op_experts *x = o->experts;
    mlx_arena *a = w->a;
    mlx_value *in = w->slots[o->src], *weights = route(w, x, w->slots[SLOT_R]), *sum = NULL;
    for (uint32_t i = 0; i < x->n_expert; i++) {
        const mlx_weight *const *three = arrays->experts + 3 * (size_t)i;
        size_t at = (size_t)i * x->n_ff;
        mlx_value *gate = mlx_weight_product(a, three[0], in), *up = mlx_weight_product(a, three[1], in);
        gate = with_bias(w, gate, x->gate_bias ? x->gate_bias + at : NULL, x->n_ff);
        up = with_bias(w, up, x->up_bias ? x->up_bias + at : NULL, x->n_ff);
        mlx_value *y = mlx_weight_product(a, three[2], walk_gate(w, x->act, gate, up));
        y = with_bias(w, y, x->down_bias ? x->down_bias + (size_t)i * x->n_in : NULL, x->n_in);
        y = value_mul(a, y, bridge_slice(a, weights, 1, (int32_t)i, (int32_t)i + 1));
        sum = sum ? value_add(a, sum, y) : y;
    }
    return sum;
}
