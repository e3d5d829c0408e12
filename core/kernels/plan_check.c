/*
 * Is a plan well-formed, and does a step fit it? Shapes, slots and data flow are checked once, at load, so that running
 * needs no checks.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/plan_check.h"

#include "base/checked.h"
#include "base/error.h"

#define SLOT_WIDTH_MAX (1u << 22) /* times the rows of any step fits 32 bits */

_Static_assert(SLOT_COUNT <= 32, "a bit per slot");

typedef struct check {
    const plan *p;
    const op *o;
    uint32_t index;
    bool taken;                 /* an OP_TAKE_ROWS went before */
    uint32_t valid;             /* bit per slot that holds something */
    uint32_t valid_taken;       /* … and whose rows are the wanted ones */
    uint32_t width[SLOT_COUNT]; /* of what it holds */
    mlxr_error *error;
} check;

static const char *const slot_names[SLOT_COUNT] = {"none", "X",  "N",  "Q",  "K",  "V",  "A", "O", "G",  "U",     "R",
                                                   "SG",   "SU", "SW", "QG", "AG", "W",  "C", "Z", "M",  "D",     "B",
                                                   "DB",   "QL", "KL", "KR", "LE", "LP", "P", "H", "EH", "logits"};
static const char *const kind_names[OP_KIND_COUNT] = {
    [OP_EMBED] = "embed",     [OP_POSITION] = "position", [OP_KIND] = "kind",           [OP_NORM] = "norm",
    [OP_LINEAR] = "linear",   [OP_ROPE] = "rope",         [OP_KV_WRITE] = "kv_write",   [OP_ATTEND] = "attend",
    [OP_GATED] = "gated",     [OP_ADD] = "add",           [OP_EXPERTS] = "experts",     [OP_SCALE] = "scale",
    [OP_SOFTCAP] = "softcap", [OP_CONV] = "conv",         [OP_RECUR] = "recur",         [OP_PICK] = "pick",
    [OP_WEIGH] = "weigh",     [OP_SCAN] = "scan",         [OP_TAKE_ROWS] = "take_rows", [OP_ADAPT] = "adapt",
    [OP_HEADS] = "heads",     [OP_CURVE] = "curve",       [OP_LOAD] = "load",           [OP_STORE] = "store",
};

static mlxr_status bad(const check *c, const char *what)
{
    const char *kind = plan_kind_name(c->o->kind);
    return error_set(c->error, MLXR_ARG, "plan operation %u (%s, layer %u): %s", c->index, kind, c->o->layer, what);
}

static mlxr_status read_slot(const check *c, slot s, uint32_t width)
{
    if (s <= SLOT_NONE || s >= SLOT_COUNT || c->p->slot_width[s] == 0) {
        return bad(c, "reads a slot that the plan does not have");
    }
    if (!((c->taken ? c->valid_taken : c->valid) >> s & 1)) {
        return bad(c, c->taken ? "reads a slot that was not among the rows taken" : "reads a slot never written");
    }
    if (c->width[s] != width) {
        return error_set(c->error, MLXR_ARG, "plan operation %u (%s, layer %u): slot %s is %u wide, not %u", c->index,
                         plan_kind_name(c->o->kind), c->o->layer, slot_names[s], c->width[s], width);
    }
    return MLXR_OK;
}

static mlxr_status write_slot(check *c, slot s, uint32_t width)
{
    if (s <= SLOT_NONE || s >= SLOT_COUNT || width > c->p->slot_width[s] || width == 0) {
        return bad(c, "writes a slot that the plan does not have or has with a smaller width");
    }
    if (s == SLOT_LOGITS && (!c->taken || width != c->p->slot_width[s])) {
        return bad(c, "logits are written before the wanted rows are taken, or not all of them");
    }
    c->width[s] = width;
    c->valid |= 1u << s;
    if (c->taken) {
        c->valid_taken |= 1u << s;
    }
    return MLXR_OK;
}

/* A tensor of exactly n_in × n_out elements whose data is all there. */
static mlxr_status shaped(const check *c, const tensor *t, uint64_t n_in, uint64_t n_out)
{
    if (!t || !t->data) {
        return bad(c, "has no weight");
    }
    const char *name = t->name ? t->name : "?";
    const dtype_info *info = dtype_find((uint32_t)t->type);
    if (!info) {
        return error_set(c->error, MLXR_UNSUPPORTED, "tensor %s has element type %d, which this build does not know",
                         name, (int)t->type);
    }
    uint64_t n = 1, n_bytes;
    for (uint32_t i = 1; i < t->n_dims && i < TENSOR_DIMS_MAX; i++) {
        if (!checked_mul(n, t->shape[i], &n)) {
            return bad(c, "has a weight of absurd shape");
        }
    }
    if (t->n_dims < 1 || t->n_dims > TENSOR_DIMS_MAX || t->shape[0] != n_in || n != n_out) {
        return error_set(c->error, MLXR_ARG,
                         "plan operation %u (%s, layer %u): tensor %s is %llu × %llu, not %llu × %llu", c->index,
                         plan_kind_name(c->o->kind), c->o->layer, name, (unsigned long long)t->shape[0],
                         (unsigned long long)n, (unsigned long long)n_in, (unsigned long long)n_out);
    }
    if (n_in % info->block_size || t->row_bytes != dtype_row_bytes(t->type, n_in) ||
        !checked_mul(t->row_bytes, n_out, &n_bytes) || t->n_bytes < n_bytes) {
        return error_set(c->error, MLXR_ARG, "tensor %s (%s, %llu × %llu) has rows of %zu bytes and %zu bytes in all",
                         name, info->name, (unsigned long long)n_in, (unsigned long long)n_out, t->row_bytes,
                         t->n_bytes);
    }
    return MLXR_OK;
}

static mlxr_status check_bias(const check *c, uint32_t n)
{
    if (!c->o->bias) {
        return MLXR_OK;
    }
    return c->o->bias->type == DTYPE_F32 ? shaped(c, c->o->bias, n, 1) : bad(c, "has a bias that is not F32");
}

static mlxr_status check_attend(check *c)
{
    const op_attend *a = &c->o->attend;
    if (a->n_head == 0 || a->n_head_kv == 0 || a->head_dim == 0 || a->n_head % a->n_head_kv) {
        return bad(c, "heads are none, or not a multiple of the KV heads");
    }
    if (a->kv_group >= c->p->n_kv_groups || a->kv_layer >= c->p->kv_groups[a->kv_group].n_layers) {
        return bad(c, "names a KV layer that the plan does not have");
    }
    const kv_group *g = &c->p->kv_groups[a->kv_group];
    if (g->state_width) {
        return bad(c, "names a recurrent KV group");
    }
    if (a->first && (a->window || a->both_ways)) {
        return bad(c, "begins behind the first position and has a window, or sees both ways");
    }
    if (g->n_head_kv != a->n_head_kv || g->head_dim != a->head_dim) {
        return bad(c, "and its KV group disagree on the heads");
    }
    if (a->chunked && (a->window == 0 || a->both_ways)) {
        return bad(c, "sees chunks of no length, or both ways");
    }
    if (g->window && (a->window == 0 || a->window > g->window || a->chunked != g->chunked ||
                      (a->chunked && a->window != g->window))) {
        return bad(c, "looks further back than its KV group keeps");
    }
    if (c->taken) {
        return bad(c, "comes after the wanted rows were taken");
    }
    if (a->both_ways != c->p->both_ways) {
        return bad(c, "and its plan disagree on what a token sees");
    }
    uint64_t q_width = (uint64_t)a->n_head * a->head_dim, kv_width = (uint64_t)a->n_head_kv * a->head_dim;
    if (q_width > UINT32_MAX / 2) {
        return bad(c, "is absurdly wide");
    }
    mlxr_status status;
    if (c->o->kind == OP_ATTEND) {
        status = read_slot(c, SLOT_Q, (uint32_t)q_width);
        return status != MLXR_OK ? status : write_slot(c, SLOT_A, (uint32_t)q_width);
    }
    status = read_slot(c, SLOT_K, (uint32_t)kv_width);
    return status != MLXR_OK || g->one_row ? status : read_slot(c, SLOT_V, (uint32_t)kv_width);
}

static mlxr_status check_scan(check *c)
{
    const op_state *s = &c->o->state;
    if (s->kv_group >= c->p->n_kv_groups || s->kv_layer >= c->p->kv_groups[s->kv_group].n_layers) {
        return bad(c, "names a KV layer that the plan does not have");
    }
    if (c->p->kv_groups[s->kv_group].state_width != c->o->width) {
        return bad(c, "and its KV group disagree on the state");
    }
    if (c->taken) {
        return bad(c, "comes after the wanted rows were taken");
    }
    mlxr_status status = read_slot(c, c->o->dst, c->o->width);
    return status != MLXR_OK ? status : shaped(c, c->o->weight, c->o->width, 1);
}

/* A place of n elements in the state of a layer. */
static mlxr_status check_state(const check *c, const op_state *s, uint64_t n)
{
    if (s->kv_group >= c->p->n_kv_groups || s->kv_layer >= c->p->kv_groups[s->kv_group].n_layers) {
        return bad(c, "names a KV layer that the plan does not have");
    }
    uint32_t width = c->p->kv_groups[s->kv_group].state_width;
    if (n == 0 || s->first > width || n > width - s->first) {
        return bad(c, "and its KV group disagree on the state");
    }
    return c->taken ? bad(c, "comes after the wanted rows were taken") : MLXR_OK;
}

static mlxr_status check_conv(check *c)
{
    const op_conv *v = &c->o->conv;
    if (v->n < 2 || v->n > CONV_ROWS_MAX) {
        return bad(c, "sees too few rows, or too many");
    }
    mlxr_status status = check_state(c, &v->state, (uint64_t)(v->n - 1) * c->o->width);
    status = status != MLXR_OK ? status : read_slot(c, c->o->dst, c->o->width);
    status = status != MLXR_OK ? status : shaped(c, c->o->weight, v->n, c->o->width);
    return status != MLXR_OK ? status : check_bias(c, c->o->width);
}

static mlxr_status check_recur(check *c)
{
    const op_recur *r = c->o->recur;
    if (!r || (unsigned)r->kind > RECUR_DELTA || r->n_head == 0 || r->n_head_k == 0 || r->head_k == 0 ||
        r->head_v == 0 || r->n_head % r->n_head_k || r->head_k > RECUR_HEAD_MAX || r->head_v > RECUR_HEAD_MAX ||
        r->n_head > SLOT_WIDTH_MAX / RECUR_HEAD_MAX) {
        return bad(c, "has heads that do not fit");
    }
    if (!r->fade || !r->step_bias || (r->kind == RECUR_SSM) != (r->skip != NULL) || !(r->step_least <= r->step_most)) {
        return bad(c, "lacks a weight, or has one too many");
    }
    uint32_t width = r->n_head * r->head_v, keys = r->n_head_k * r->head_k;
    uint32_t n = c->o->src > SLOT_NONE && c->o->src < SLOT_COUNT ? c->width[c->o->src] : 0;
    if (c->o->src == c->o->dst || c->o->width != width || r->q_first > n || keys > n - r->q_first || r->k_first > n ||
        keys > n - r->k_first || r->v_first > n || width > n - r->v_first) {
        return bad(c, "reads past its rows, or writes a slot of another width");
    }
    mlxr_status status = check_state(c, &r->state, (uint64_t)r->n_head * r->head_k * r->head_v);
    status = status != MLXR_OK ? status : read_slot(c, c->o->src, n);
    status = status != MLXR_OK ? status : read_slot(c, SLOT_D, r->n_head);
    if (status == MLXR_OK && r->kind == RECUR_DELTA) {
        status = read_slot(c, SLOT_B, r->n_head);
    }
    return status != MLXR_OK ? status : write_slot(c, c->o->dst, width);
}

static mlxr_status check_pick(check *c)
{
    const op_pick *p = &c->o->pick;
    uint32_t group = p->group ? p->group : c->width[c->o->src], apart = p->apart ? p->apart : p->n;
    uint64_t n_src = p->group ? (uint64_t)p->n_groups * p->group : group;
    uint64_t n_dst = p->n_groups ? p->to + (p->n_groups - 1u) * (uint64_t)apart + p->n : 0;
    if (c->o->src == c->o->dst || n_src > SLOT_WIDTH_MAX || p->from > group || p->n == 0 || apart < p->n ||
        p->n > group - p->from || n_dst > c->o->width) {
        return bad(c, "picks what is not there, or more than it has room for");
    }
    mlxr_status status = read_slot(c, c->o->src, (uint32_t)n_src);
    return status != MLXR_OK ? status : write_slot(c, c->o->dst, c->o->width);
}

static mlxr_status check_heads(check *c)
{
    const op_heads *x = c->o->heads;
    slot src = c->o->src;
    if (!x || !x->weights || x->n_heads == 0 || x->n_heads > SLOT_WIDTH_MAX || src == c->o->dst || src <= SLOT_NONE ||
        src >= SLOT_COUNT) {
        return bad(c, "has no heads, or reads and writes the same slot, or none");
    }
    uint64_t last = x->n_heads - 1u, n_src = x->from + last * x->from_apart + x->n_in;
    uint64_t n_dst = x->to + last * x->to_apart + x->n_out;
    if (x->n_in == 0 || x->n_out == 0 || x->to_apart < x->n_out || n_src > c->width[src] || n_dst > c->o->width) {
        return bad(c, "has heads that do not fit");
    }
    mlxr_status status = read_slot(c, src, c->width[src]);
    for (uint32_t i = 0; i < x->n_heads && status == MLXR_OK; i++) {
        status = shaped(c, &x->weights[i], x->n_in, x->n_out);
    }
    if (status == MLXR_OK && x->whole) {
        status = x->whole_src > SLOT_NONE && x->whole_src < SLOT_COUNT
                     ? read_slot(c, x->whole_src, c->width[x->whole_src])
                     : bad(c, "shows a slot that there is not");
        status = status == MLXR_OK && x->whole->shape[0] != c->width[x->whole_src]
                     ? bad(c, "shows what another matrix meets")
                     : status;
    }
    return status != MLXR_OK ? status : write_slot(c, c->o->dst, c->o->width);
}

static mlxr_status check_rope(check *c)
{
    const op_rope *r = &c->o->rope;
    if (r->head_dim == 0 || c->o->width % r->head_dim || r->n_rot % 2 || r->n_rot > r->head_dim ||
        (r->n_rot && !r->inv_freq) || (r->temperature != 0 && (r->temperature_span == 0 || r->n_rot < r->head_dim))) {
        return bad(c, "has head sizes or rotated elements that do not fit");
    }
    return c->taken ? bad(c, "comes after the wanted rows were taken") : read_slot(c, c->o->dst, c->o->width);
}

static mlxr_status check_norm(check *c)
{
    const op *o = c->o;
    if (o->norm.width == 0 || o->width % o->norm.width) {
        return bad(c, "has a width that is not a multiple of its groups'");
    }
    mlxr_status status = read_slot(c, o->src, o->width);
    uint32_t n_weight = o->norm.whole_weight ? o->width : o->norm.width;
    if (status == MLXR_OK && o->weight) {
        status = shaped(c, o->weight, n_weight, 1);
    }
    if (status == MLXR_OK) {
        status = check_bias(c, n_weight);
    }
    return status != MLXR_OK ? status : write_slot(c, o->dst, o->width);
}

static mlxr_status check_linear(check *c)
{
    const op *o = c->o;
    if (o->src == SLOT_NONE) { /* of tokens, which wanted rows have no longer */
        mlxr_status status = c->taken ? bad(c, "comes after the wanted rows were taken")
                                      : shaped(c, o->weight, o->width, c->p->n_vocab);
        return status != MLXR_OK ? status : read_slot(c, o->dst, o->width);
    }
    if (o->src == o->dst || o->src < SLOT_NONE || o->src >= SLOT_COUNT) {
        return bad(c, "reads and writes the same slot, or none");
    }
    uint32_t n_in = c->width[o->src];
    mlxr_status status = read_slot(c, o->src, n_in);
    if (status == MLXR_OK) {
        status = shaped(c, o->weight, n_in, o->width);
    }
    if (status == MLXR_OK) {
        status = check_bias(c, o->width);
    }
    return status != MLXR_OK ? status : write_slot(c, o->dst, o->width);
}

static mlxr_status check_adapt(check *c)
{
    const op *o = c->o;
    if (o->src == SLOT_NONE) { /* of tokens, which wanted rows have no longer */
        mlxr_status status = c->taken ? bad(c, "comes after the wanted rows were taken")
                                      : shaped(c, o->weight, o->width, c->p->n_vocab);
        return status != MLXR_OK ? status : read_slot(c, o->dst, o->width);
    }
    if (o->src == o->dst || o->src < SLOT_NONE || o->src >= SLOT_COUNT) {
        return bad(c, "reads and writes the same slot, or none");
    }
    uint32_t n_in = c->width[o->src];
    mlxr_status status = read_slot(c, o->src, n_in);
    status = status != MLXR_OK ? status : shaped(c, o->weight, n_in, o->width);
    return status != MLXR_OK ? status : read_slot(c, o->dst, o->width);
}

static mlxr_status check_experts(check *c)
{
    const op_experts *x = c->o->experts;
    if (!x || x->n_expert == 0 || x->n_expert > EXPERTS_MAX || x->n_used == 0 || x->n_used > x->n_expert ||
        x->n_used > EXPERTS_USED_MAX || (unsigned)x->routing > ROUTE_SIGMOID || (unsigned)x->act >= ACT_COUNT) {
        return bad(c, "has no experts, or more than are supported, or an unknown way to choose them");
    }
    if (x->n_groups > 1 && (x->n_expert % x->n_groups || x->n_groups_used == 0 || x->n_groups_used > x->n_groups ||
                            x->n_used > x->n_groups_used * (x->n_expert / x->n_groups))) {
        return bad(c, "chooses groups that do not fit its experts");
    }
    if (c->o->width != x->n_in || c->o->src == c->o->dst || x->n_ff == 0 || !x->up || !x->down ||
        (!x->gate && (x->gate_bias || x->act == ACT_SWIGLU_CLAMPED))) {
        return bad(c, "has experts of another width");
    }
    if (x->weigh_input && (x->gate_bias || x->up_bias || x->down_bias)) {
        return bad(c, "weighs what experts with biases read");
    }
    for (uint32_t i = 0; i < x->n_expert; i++) {
        mlxr_status status = x->gate ? shaped(c, &x->gate[i], x->n_in, x->n_ff) : MLXR_OK;
        status = status != MLXR_OK ? status : shaped(c, &x->up[i], x->n_in, x->n_ff);
        status = status != MLXR_OK ? status : shaped(c, &x->down[i], x->n_ff, x->n_in);
        if (status != MLXR_OK) {
            return status;
        }
    }
    mlxr_status status = read_slot(c, SLOT_R, x->n_expert);
    status = status != MLXR_OK ? status : read_slot(c, c->o->src, x->n_in);
    return status != MLXR_OK ? status : write_slot(c, c->o->dst, x->n_in);
}

static mlxr_status check_take(check *c)
{
    slot s = c->o->dst;
    bool was_taken = c->taken;
    c->taken = false; /* the rows taken are those of the whole step */
    mlxr_status status = read_slot(c, s, c->o->width);
    if (status == MLXR_OK && was_taken && c->valid_taken >> s & 1) {
        status = bad(c, "takes rows of a slot twice");
    }
    c->taken = true;
    if (status == MLXR_OK) {
        c->valid_taken |= 1u << s;
    }
    return status;
}

/* Rows of the caller's go in and out whole. */
static mlxr_status check_carried(check *c)
{
    const op *o = c->o;
    if (o->width == 0 || o->width != c->p->carried) {
        return bad(c, "and its plan disagree on what is carried");
    }
    if (o->kind == OP_LOAD) {
        return c->taken ? bad(c, "comes after the wanted rows were taken") : write_slot(c, o->dst, o->width);
    }
    return read_slot(c, o->src, o->width);
}

static mlxr_status check_op(check *c)
{
    const op *o = c->o;
    mlxr_status status;
    switch (o->kind) {
    case OP_EMBED:
        status = c->taken ? bad(c, "comes after the wanted rows were taken")
                          : shaped(c, o->weight, o->width, c->p->n_vocab);
        status = status != MLXR_OK ? status : check_bias(c, o->width);
        return status != MLXR_OK ? status : write_slot(c, o->dst, o->width);
    case OP_POSITION:
        status = c->taken || c->p->n_positions == 0
                     ? bad(c, "comes after the wanted rows were taken, or has no rows")
                     : shaped(c, o->weight, o->width, o->weight ? o->weight->shape[1] : 0);
        if (status == MLXR_OK && o->weight->shape[1] < c->p->n_positions) {
            status = bad(c, "has fewer rows than the plan has positions");
        }
        status = status != MLXR_OK ? status : check_bias(c, o->width);
        return status != MLXR_OK ? status : write_slot(c, o->dst, o->width);
    case OP_KIND:
        status = c->taken || !o->weight || o->weight->shape[1] < 2
                     ? bad(c, "comes after the wanted rows were taken, or has fewer than two rows")
                     : shaped(c, o->weight, o->width, o->weight->shape[1]);
        if (status == MLXR_OK && o->bias) {
            status = bad(c, "has a bias, which nobody would add");
        }
        return status != MLXR_OK ? status : write_slot(c, o->dst, o->width);
    case OP_NORM:
        return check_norm(c);
    case OP_LINEAR:
        return check_linear(c);
    case OP_ROPE:
        return check_rope(c);
    case OP_KV_WRITE:
    case OP_ATTEND:
        return check_attend(c);
    case OP_GATED:
        if ((unsigned)o->act >= ACT_COUNT || (o->act == ACT_SWIGLU_CLAMPED && o->src == SLOT_NONE)) {
            return bad(c, "names an unknown activation");
        }
        if (o->src == SLOT_NONE) {
            return read_slot(c, o->dst, o->width);
        }
        /* fall through - reads the same slots as an addition */
    case OP_ADD:
        status = read_slot(c, o->src, o->width);
        return status != MLXR_OK ? status : read_slot(c, o->dst, o->width);
    case OP_EXPERTS:
        return check_experts(c);
    case OP_ADAPT:
        return check_adapt(c);
    case OP_SCALE:
        return read_slot(c, o->dst, o->width);
    case OP_SOFTCAP:
        return o->scale > 0 ? read_slot(c, o->dst, o->width) : bad(c, "has a cap that is not positive");
    case OP_CURVE:
        return (unsigned)o->curve.kind <= CURVE_XIELU ? read_slot(c, o->dst, o->width)
                                                      : bad(c, "names an unknown curve");
    case OP_CONV:
        return check_conv(c);
    case OP_RECUR:
        return check_recur(c);
    case OP_PICK:
        return check_pick(c);
    case OP_HEADS:
        return check_heads(c);
    case OP_WEIGH:
        status = read_slot(c, o->src, 1);
        return status != MLXR_OK ? status : read_slot(c, o->dst, o->width);
    case OP_SCAN:
        return check_scan(c);
    case OP_LOAD:
    case OP_STORE:
        return check_carried(c);
    case OP_TAKE_ROWS:
        return check_take(c);
    case OP_KIND_COUNT:
        break;
    }
    return error_set(c->error, MLXR_UNSUPPORTED, "there is no operation number %d (plan operation %u)", (int)o->kind,
                     c->index);
}

const char *plan_kind_name(op_kind kind)
{
    return (unsigned)kind < OP_KIND_COUNT ? kind_names[kind] : "unknown";
}

/* Does a later row depend on what the operation does for this one? Attention reads pages, so that of encoders alone,
 * which see what is not written yet. */
static bool serves_later_rows(const op *o)
{
    switch (o->kind) {
    case OP_EMBED:
    case OP_POSITION:
    case OP_KIND:
    case OP_KV_WRITE:
    case OP_SCAN:
    case OP_CONV:
    case OP_RECUR:
        return true;
    case OP_ATTEND:
        return o->attend.both_ways;
    default:
        return false;
    }
}

uint32_t plan_serving_ops(const plan *p)
{
    uint32_t n = p->n_ops;
    while (n > 0 && !serves_later_rows(&p->ops[n - 1])) {
        n--;
    }
    return n;
}

mlxr_status plan_check(const plan *p, mlxr_error *error)
{
    if (p->n_kv_groups > KV_GROUPS_MAX || p->n_vocab == 0) {
        return error_set(error, MLXR_ARG, "plan has %u KV groups (at most %d) and %u tokens", p->n_kv_groups,
                         KV_GROUPS_MAX, p->n_vocab);
    }
    for (uint32_t i = 0; i < SLOT_COUNT; i++) {
        if (p->slot_width[i] > SLOT_WIDTH_MAX) {
            return error_set(error, MLXR_ARG, "slot %s is %u wide; at most %u", slot_names[i], p->slot_width[i],
                             SLOT_WIDTH_MAX);
        }
    }
    check c = {.p = p, .error = error};
    for (uint32_t i = 0; i < p->n_ops; i++) {
        c.o = &p->ops[i];
        c.index = i;
        mlxr_status status = check_op(&c);
        if (status != MLXR_OK) {
            return status;
        }
    }
    /* A plan that ends with a norm gives hidden states in their place. */
    bool hidden = p->n_ops > 0 && p->ops[p->n_ops - 1].kind == OP_NORM;
    if (!(c.valid >> SLOT_LOGITS & 1) || (p->slot_width[SLOT_LOGITS] != p->n_vocab && !hidden)) {
        return error_set(error, MLXR_ARG, "plan of %u operations ends without logits of %u tokens", p->n_ops,
                         p->n_vocab);
    }
    return MLXR_OK;
}

static mlxr_status check_kv(const plan *p, const step *s, mlxr_error *error)
{
    for (uint32_t g = 0; g < p->n_kv_groups; g++) {
        const kv_group *group = &p->kv_groups[g];
        const kv_layout *l = &s->kv.layout[g];
        if (l->n_layers != group->n_layers || l->n_head_kv != group->n_head_kv || l->head_dim != group->head_dim ||
            l->state_width != group->state_width || l->one_row != group->one_row || l->page_tokens == 0 ||
            (l->page_tokens & (l->page_tokens - 1)) || !s->kv.base[g]) {
            return error_set(error, MLXR_ARG,
                             "KV group %u has %u layers of %u heads of %u, states of %u and %u tokens a page, but the "
                             "model %u, %u, %u, %u",
                             g, l->n_layers, l->n_head_kv, l->head_dim, l->state_width, l->page_tokens, group->n_layers,
                             group->n_head_kv, group->head_dim, group->state_width);
        }
        mlxr_status status = kv_layout_check(group, l->type, error);
        if (status != MLXR_OK) {
            return status;
        }
        if (l->type == DTYPE_I16 && l->page_tokens % KV_PART != 0) {
            return error_set(error, MLXR_ARG, "KV group %u has %u tokens a page, but rows of i16 lie in parts of %u", g,
                             l->page_tokens, KV_PART);
        }
    }
    return MLXR_OK;
}

mlxr_status step_check(const plan *p, const step *s, mlxr_error *error)
{
    for (uint32_t r = 0; r < s->n_rows; r++) {
        if (s->tokens[r] < 0 || (uint32_t)s->tokens[r] >= p->n_vocab || s->positions[r] < 0) {
            return error_set(error, MLXR_ARG, "row %u of %u has token %d (of %u) at position %d", r, s->n_rows,
                             s->tokens[r], p->n_vocab, s->positions[r]);
        }
    }
    uint32_t row = 0;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *slice = &s->slices[i];
        if (slice->first_row != row || slice->n_rows > s->n_rows - row || slice->start > INT32_MAX - slice->n_rows) {
            return error_set(error, MLXR_ARG, "slice %u covers rows %u…%u of %u from position %u", i, slice->first_row,
                             slice->first_row + slice->n_rows, s->n_rows, slice->start);
        }
        row += slice->n_rows;
        uint32_t end = slice->start + slice->n_rows;
        if ((p->both_ways && slice->start) || (p->n_positions && end > p->n_positions)) {
            return error_set(error, MLXR_ARG, "slice %u has positions %u…%u; the model has %u and sees all at once", i,
                             slice->start, end, p->n_positions);
        }
    }
    for (uint32_t i = 0; i < s->n_wanted; i++) {
        if (s->wanted[i] >= s->n_rows || (i && s->wanted[i] <= s->wanted[i - 1])) {
            return error_set(error, MLXR_ARG, "wanted row %u of %u is out of order or range", s->wanted[i], s->n_rows);
        }
    }
    if (row != s->n_rows || (s->n_wanted && !s->logits)) {
        return error_set(error, MLXR_ARG, "slices cover %u of %u rows, or logits have no place", row, s->n_rows);
    }
    if (p->carried && (!s->carried || s->n_wanted != s->n_rows)) {
        return error_set(error, MLXR_ARG, "%u rows of %u are wanted, and all that are carried have to be", s->n_wanted,
                         s->n_rows);
    }
    return check_kv(p, s, error);
}
