/*
 * The graph of a step: the plan's operations as MLX's, slot by slot.
 * Owner: the program. Lifetime: the call; the graph is MLX's from then on.
 */
#include <assert.h>
#include <string.h>

#include "kernels/mlx/kernels.h"
#include "kernels/mlx/mixers.h"
#include "kernels/rope_angles.h"
#include "quant/codec.h"

/* ---- operations on rows ---- */

void walk_late(walk *w, mlx_value *array, const void *from, size_t n_bytes)
{
    w->g->late[w->g->n_late++] = (late_array){array, from, n_bytes};
}

/* The embedding's rows are decoded here, by the codec that defines them: some thousand numbers a row. */
void walk_host_rows(const op *o, const step *s, float *rows)
{
    const tensor *t = o->weight;
    if (o->kind == OP_LOAD) {
        memcpy(rows, s->carried, (size_t)s->n_rows * o->width * sizeof *rows);
        return;
    }
    if (o->kind == OP_ADAPT) {
        adapters_host_rows(o, s, rows);
        return;
    }
    for (uint32_t r = 0; r < s->n_rows; r++) {
        codec_decode(t->type, (const uint8_t *)t->data + (size_t)s->tokens[r] * t->row_bytes,
                     rows + (size_t)r * o->width, o->width);
    }
}

/* An array of rows that the host makes: with the graph or, what walk_host_rows makes, `late`, with the step. */
static mlx_value *host_rows(walk *w, const op *o, void (*make)(const op *o, const step *s, float *rows), bool late)
{
    const step *s = w->s;
    const int32_t shape[] = {(int32_t)s->n_rows, (int32_t)o->width};
    float *rows = region_array(w->memory, (size_t)s->n_rows * o->width, sizeof *rows);
    if (!rows) {
        return NULL;
    }
    if (!late) {
        make(o, s, rows);
    }
    mlx_value *array = bridge_copy(w->a, MLX_F32, 2, shape, rows);
    if (late) {
        w->g->embeds[w->g->n_embeds++] = (late_rows){o, rows};
        walk_late(w, array, rows, (size_t)s->n_rows * o->width * sizeof *rows);
    }
    return array;
}

static mlx_value *embed(walk *w, const op *o, const op_arrays *arrays)
{
    mlx_value *array = value_scale(w->a, host_rows(w, o, walk_host_rows, w->late), o->scale);
    return arrays->bias ? value_add(w->a, array, arrays->bias) : array;
}

/* What adapters add to the rows of tokens is made with them. */
static mlx_value *adapt(walk *w, const op *o)
{
    if (o->src != SLOT_NONE) {
        return walk_adapt(w, o);
    }
    mlx_value *y = w->slots[o->dst];
    return adapters_add(w->s, o->product) ? value_add(w->a, y, host_rows(w, o, walk_host_rows, w->late)) : y;
}

static void position_rows(const op *o, const step *s, float *rows)
{
    const tensor *t = o->weight;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        codec_decode(t->type, (const uint8_t *)t->data + (size_t)s->positions[r] * t->row_bytes,
                     rows + (size_t)r * o->width, o->width);
    }
}

/* Positions are known before tokens are. */
static mlx_value *position(walk *w, const op *o, const op_arrays *arrays)
{
    mlx_value *array = host_rows(w, o, position_rows, false);
    return arrays->bias ? value_add(w->a, array, arrays->bias) : array;
}

static void kind_rows(const op *o, const step *s, float *rows)
{
    const tensor *t = o->weight;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *slice = &s->slices[i];
        for (uint32_t r = 0; r < slice->n_rows; r++) {
            bool second = slice->second && slice->start + r >= slice->second;
            codec_decode(t->type, (const uint8_t *)t->data + second * t->row_bytes,
                         rows + (size_t)(slice->first_row + r) * o->width, o->width);
        }
    }
}

/* Where a second text begins is known with its step: a model that reads both ways has no graph built before. */
static mlx_value *kind(walk *w, const op *o)
{
    assert(w->prog->plan->both_ways && !w->late);
    return host_rows(w, o, kind_rows, false);
}

static mlx_value *norm(walk *w, const op *o, const op_arrays *arrays)
{
    int32_t width = (int32_t)o->norm.width, groups = (int32_t)(o->width / o->norm.width);
    bool behind = groups > 1 && o->norm.whole_weight; /* weight and bias are not the same for each group */
    mlx_value *x = w->slots[o->src], *y = behind ? NULL : kernel_norm(w, o, arrays, x);
    int32_t n_rows = bridge_dim(x, 0);
    if (y) {
        return y;
    }
    x = groups > 1 ? value_reshape(w->a, x, 3, n_rows, groups, width) : x;
    x = bridge_norm(w->a, o->norm.kind == NORM_LAYER, x, behind ? NULL : arrays->vector, behind ? NULL : arrays->bias,
                    o->norm.eps);
    x = groups > 1 ? value_reshape(w->a, x, 2, n_rows, (int32_t)o->width) : x;
    x = behind && arrays->vector ? value_mul(w->a, x, arrays->vector) : x;
    return behind && arrays->bias ? value_add(w->a, x, arrays->bias) : x;
}

static mlx_value *linear(walk *w, const op *o, const op_arrays *arrays)
{
    mlx_value *y = kernel_product(w, arrays->weight, w->slots[o->src], arrays->bias);
    if (y) {
        return y;
    }
    y = mlx_weight_product(w->a, arrays->weight, w->slots[o->src]);
    return arrays->bias ? value_add(w->a, y, arrays->bias) : y;
}

static mlx_value *activate(walk *w, activation act, mlx_value *x)
{
    mlx_arena *a = w->a;
    mlx_value *inner;
    switch (act) {
    case ACT_SILU:
        return value_mul(a, x, bridge_one(a, BRIDGE_SIGMOID, x));
    case ACT_GELU_TANH: /* x σ(2u), u = √(2/π) (x + 0.044715 x³) */
        inner = value_mul(a, x, value_scale(a, bridge_one(a, BRIDGE_SQUARE, x), 0.044715f));
        inner = value_scale(a, value_add(a, x, inner), 1.59576912160573071176f);
        return value_mul(a, x, bridge_one(a, BRIDGE_SIGMOID, inner));
    case ACT_GELU_ERF:
        inner = bridge_one(a, BRIDGE_ERF, value_scale(a, x, 0.70710678118654752440f));
        inner = value_add(a, inner, bridge_scalar(a, 1.0f));
        return value_mul(a, value_scale(a, x, 0.5f), inner);
    case ACT_RELU:
        return bridge_two(a, BRIDGE_MAXIMUM, x, bridge_scalar(a, 0));
    case ACT_RELU_SQUARED:
        return bridge_one(a, BRIDGE_SQUARE, bridge_two(a, BRIDGE_MAXIMUM, x, bridge_scalar(a, 0)));
    case ACT_SWIGLU_CLAMPED: /* the half of it that sees the gate alone */
        x = bridge_two(a, BRIDGE_MINIMUM, x, bridge_scalar(a, 7));
        return value_mul(a, x, bridge_one(a, BRIDGE_SIGMOID, value_scale(a, x, 1.702f)));
    case ACT_SIGMOID:
        return bridge_one(a, BRIDGE_SIGMOID, x);
    case ACT_NONE:
    case ACT_COUNT:
        break;
    }
    return x;
}

static mlx_value *curve(walk *w, const op_curve *c, mlx_value *x)
{
    mlx_arena *a = w->a;
    if (c->kind == CURVE_CLAMP) {
        return value_clip(a, x, -c->limit, c->limit);
    }
    mlx_value *above = value_scale(a, bridge_one(a, BRIDGE_SQUARE, x), c->rise), *slope = value_scale(a, x, c->slope);
    mlx_value *below = bridge_one(a, BRIDGE_EXP, bridge_two(a, BRIDGE_MINIMUM, x, bridge_scalar(a, c->limit)));
    below = value_scale(a, value_sub(a, value_sub(a, below, bridge_scalar(a, 1)), x), c->fall);
    return value_add(a, bridge_where(a, bridge_two(a, BRIDGE_LESS, bridge_scalar(a, 0), x), above, below), slope);
}

mlx_value *walk_gate(walk *w, activation act, mlx_value *gate, mlx_value *up)
{
    gate = activate(w, act, gate);
    if (act == ACT_SWIGLU_CLAMPED) {
        up = value_add(w->a, value_clip(w->a, up, -7, 7), bridge_scalar(w->a, 1));
    }
    return up ? value_mul(w->a, gate, up) : gate;
}

static mlx_value *softcap(walk *w, const op *o)
{
    mlx_value *x = value_scale(w->a, w->slots[o->dst], 1.0f / o->scale);
    return value_scale(w->a, bridge_one(w->a, BRIDGE_TANH, x), o->scale);
}

/* ---- rotation ---- */

static bool make_angles(walk *w, const op_rope *rope, rope_table *out)
{
    uint32_t half = rope->n_rot / 2, n_rows = w->s->n_rows;
    float *cosines = region_array(w->memory, 2 * (size_t)n_rows * half, sizeof *cosines);
    if (!cosines) {
        return false;
    }
    float *sines = cosines + (size_t)n_rows * half;
    for (uint32_t r = 0; r < n_rows; r++) {
        rope_angles_fill(rope, w->s->positions[r], 0, half, cosines + (size_t)r * half, sines + (size_t)r * half);
    }
    const int32_t shape[] = {(int32_t)n_rows, 1, (int32_t)half};
    *out = (rope_table){.rope = rope,
                        .cosines = bridge_copy(w->a, MLX_F32, 3, shape, cosines),
                        .sines = bridge_copy(w->a, MLX_F32, 3, shape, sines)};
    return true;
}

static bool find_angles(walk *w, const op_rope *rope, rope_table *out)
{
    for (uint32_t i = 0; i < w->n_angles; i++) {
        if (rope_angles_same(w->angles[i].rope, rope)) {
            *out = w->angles[i];
            return true;
        }
    }
    if (!make_angles(w, rope, out)) {
        return false;
    }
    if (w->n_angles < WALK_ANGLES_MAX) {
        w->angles[w->n_angles++] = *out;
    }
    return true;
}

static mlx_value *rotate_plainly(walk *w, const op *o)
{
    const op_rope *r = &o->rope;
    mlx_arena *a = w->a;
    rope_table t;
    if (!find_angles(w, r, &t)) {
        return NULL;
    }
    int32_t n_rows = (int32_t)w->s->n_rows, n = (int32_t)r->head_dim, n_heads = (int32_t)o->width / n;
    int32_t n_rot = (int32_t)r->n_rot, half = n_rot / 2;
    mlx_value *x = value_reshape(a, w->slots[o->dst], 3, n_rows, n_heads, n);
    mlx_value *turning = bridge_slice(a, x, 2, 0, n_rot), *first, *second, *parts[2];
    if (r->kind == ROPE_PAIRS) { /* neighbours: an axis of two */
        turning = value_reshape(a, turning, 4, n_rows, n_heads, half, 2);
        first = value_reshape(a, bridge_slice(a, turning, 3, 0, 1), 3, n_rows, n_heads, half);
        second = value_reshape(a, bridge_slice(a, turning, 3, 1, 2), 3, n_rows, n_heads, half);
    } else {
        first = bridge_slice(a, turning, 2, 0, half);
        second = bridge_slice(a, turning, 2, half, n_rot);
    }
    parts[0] = value_sub(a, value_mul(a, first, t.cosines), value_mul(a, second, t.sines));
    parts[1] = value_add(a, value_mul(a, first, t.sines), value_mul(a, second, t.cosines));
    if (r->kind == ROPE_PAIRS) {
        parts[0] = value_reshape(a, parts[0], 4, n_rows, n_heads, half, 1);
        parts[1] = value_reshape(a, parts[1], 4, n_rows, n_heads, half, 1);
        turning = value_reshape(a, bridge_join(a, (const mlx_value *const *)parts, 2, 3), 3, n_rows, n_heads, n_rot);
    } else {
        turning = bridge_join(a, (const mlx_value *const *)parts, 2, 2);
    }
    if (n_rot < n) {
        parts[0] = turning;
        parts[1] = bridge_slice(a, x, 2, n_rot, n);
        turning = bridge_join(a, (const mlx_value *const *)parts, 2, 2);
    }
    return value_reshape(a, turning, 2, n_rows, (int32_t)o->width);
}

static mlx_value *rotate(walk *w, const op *o)
{
    mlx_value *x = w->slots[o->dst], *y;
    if (o->rope.n_rot == 0) {
        return x;
    }
    y = kernel_rope(w, o, x);
    y = y ? y : rotate_plainly(w, o);
    w->turned[o->dst] = (turned_slot){.rope = &o->rope, .from = x, .to = y};
    return y;
}

/* ---- the walk ---- */

static mlx_value *take(walk *w, const op *o)
{
    const step *s = w->s;
    w->taken = true;
    if (s->n_wanted == s->n_rows) {
        return w->slots[o->dst];
    }
    int32_t n = (int32_t)s->n_wanted;
    return bridge_take(w->a, w->slots[o->dst], bridge_copy(w->a, MLX_U32, 1, &n, s->wanted), 0);
}

bool walk_has_graph(const op *o, uint32_t src_width)
{
    switch (o->kind) {
    case OP_EMBED:
    case OP_POSITION:
    case OP_KIND:
    case OP_NORM:
    case OP_LINEAR:
    case OP_ROPE:
    case OP_KV_WRITE:
    case OP_ATTEND:
    case OP_GATED:
    case OP_ADD:
    case OP_EXPERTS:
    case OP_ADAPT:
    case OP_SCALE:
    case OP_SOFTCAP:
    case OP_CURVE:
    case OP_CONV:
    case OP_RECUR:
    case OP_WEIGH:
    case OP_SCAN:
    case OP_TAKE_ROWS:
    case OP_LOAD:
    case OP_STORE:
        return true;
    case OP_PICK:
        return walk_can_pick(o);
    case OP_HEADS:
        return walk_can_heads(o->heads, src_width, o->width);
    default:
        return false;
    }
}

static void walk_op(walk *w, const op *o, const op_arrays *arrays)
{
    mlx_value **dst = &w->slots[o->dst];
    switch (o->kind) {
    case OP_EMBED:
        *dst = embed(w, o, arrays);
        break;
    case OP_POSITION:
        *dst = position(w, o, arrays);
        break;
    case OP_KIND:
        *dst = kind(w, o);
        break;
    case OP_ADAPT:
        *dst = adapt(w, o);
        break;
    case OP_NORM:
        *dst = norm(w, o, arrays);
        break;
    case OP_LINEAR:
        *dst = linear(w, o, arrays);
        break;
    case OP_ROPE:
        *dst = rotate(w, o);
        break;
    case OP_KV_WRITE:
        walk_keep_keys(w, o);
        break;
    case OP_ATTEND:
        w->slots[SLOT_A] = walk_attend(w, o, arrays);
        break;
    case OP_GATED:
        *dst = walk_gate(w, o->act, *dst, o->src == SLOT_NONE ? NULL : w->slots[o->src]);
        break;
    case OP_ADD:
        *dst = value_add(w->a, *dst, value_scale(w->a, w->slots[o->src], o->scale));
        break;
    case OP_EXPERTS:
        *dst = walk_experts(w, o, arrays);
        break;
    case OP_SCALE:
        *dst = value_scale(w->a, *dst, o->scale);
        break;
    case OP_SOFTCAP:
        *dst = softcap(w, o);
        break;
    case OP_CURVE:
        *dst = curve(w, &o->curve, *dst);
        break;
    case OP_SCAN:
        *dst = walk_scan(w, o, arrays);
        break;
    case OP_WEIGH:
        *dst = value_mul(w->a, *dst, bridge_one(w->a, BRIDGE_SIGMOID, w->slots[o->src]));
        break;
    case OP_CONV:
        *dst = walk_conv(w, o, arrays);
        break;
    case OP_RECUR:
        *dst = walk_recur(w, o, arrays);
        break;
    case OP_HEADS:
        *dst = walk_heads(w, o, arrays);
        break;
    case OP_LOAD:
        *dst = host_rows(w, o, walk_host_rows, w->late);
        break;
    case OP_STORE: /* all rows are wanted where any is */
        w->g->stored = bridge_one(w->a, BRIDGE_CONTIGUOUS, w->slots[o->src]);
        break;
    case OP_PICK: /* walk_picks */
        break;
    case OP_TAKE_ROWS:
        *dst = take(w, o);
        break;
    case OP_KIND_COUNT:
        break;
    }
}

/* LINEAR, LINEAR, GATED at op i by one kernel: G takes the result, nobody reads U again. */
static bool walk_gated(walk *w, uint32_t i)
{
    const plan *p = w->prog->plan;
    const op *gate = &p->ops[i], *up = gate + 1, *gated = gate + 2;
    if (i + 2 >= p->n_ops || gate->kind != OP_LINEAR || up->kind != OP_LINEAR || gated->kind != OP_GATED ||
        gate->src != up->src || gate->dst != SLOT_G || up->dst != SLOT_U || gated->dst != SLOT_G ||
        gated->src != SLOT_U || gate->bias || up->bias) {
        return false;
    }
    const op_arrays *arrays = &w->prog->ops[i];
    mlx_value *x = w->slots[gate->src];
    mlx_value *y = kernel_gated(w, arrays[0].weight, arrays[1].weight, gated->act, x, bridge_dim(x, 0));
    if (y) {
        w->slots[SLOT_G] = y;
        w->slots[SLOT_U] = NULL;
    }
    return y != NULL;
}

void walk_build(program *prog, const step *s, step_graph *g, bool late)
{
    walk w = {.prog = prog, .s = s, .g = g, .memory = &g->memory, .late = late, .a = prog->step};
    const plan *p = prog->plan;
    batches_make(&w);
    if (!adapters_make(&w)) {
        g->logits = bridge_keep(prog->step, NULL); /* which fails */
        return;
    }
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_TAKE_ROWS && s->n_wanted == 0) {
            if (prog->kernels && w.slots[SLOT_A]) { /* attention may store the rows itself, and nobody asks for it */
                g->rows[g->n_rows++] = (page_rows){.k = w.slots[SLOT_A]};
            }
            return; /* all that is left would be computed for no row */
        }
        if (walk_gated(&w, i)) {
            i += 2;
        } else if (p->ops[i].kind == OP_PICK) {
            i += walk_picks(&w, &p->ops[i], p->n_ops - i) - 1;
        } else {
            walk_op(&w, &p->ops[i], &prog->ops[i]);
        }
    }
    g->logits = bridge_one(prog->step, BRIDGE_CONTIGUOUS, w.slots[SLOT_LOGITS]);
}
