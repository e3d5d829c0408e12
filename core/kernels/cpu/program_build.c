/*
 * From a plan's operations to nodes: the peephole fusions.
 * Owner: the program; everything made here lives in its region. Lifetime: the program's.
 */
#include <string.h>

#include "kernels/cpu/program.h"
#include "kernels/plan_check.h"
#include "kernels/rope_angles.h"
#include "quant/codec.h"

typedef struct builder {
    program *prog;
    const op *ops; /* the plan's, or a copy in which the wanted rows are taken earlier */
    uint32_t n_ops, next;
    bool taken, ok;
} builder;

/* ---- data flow ---- */

static bool reads(const op *o, slot s)
{
    switch (o->kind) {
    case OP_NORM:
    case OP_LINEAR:
    case OP_STORE:
        return o->src == s;
    case OP_ROPE:
    case OP_SCALE:
    case OP_SOFTCAP:
    case OP_CURVE:
    case OP_CONV:
    case OP_SCAN:
    case OP_TAKE_ROWS:
        return o->dst == s;
    case OP_RECUR:
        return o->src == s || s == SLOT_D || (s == SLOT_B && o->recur->kind == RECUR_DELTA);
    case OP_KV_WRITE:
        return s == SLOT_K || s == SLOT_V;
    case OP_ATTEND:
        return s == SLOT_Q;
    case OP_EXPERTS:
        return o->src == s || s == SLOT_R;
    case OP_GATED:
    case OP_ADD:
    case OP_ADAPT:
    case OP_WEIGH:
    case OP_PICK: /* leaves the rest of dst as it is */
    case OP_HEADS:
        return o->dst == s || o->src == s;
    case OP_EMBED:
    case OP_POSITION:
    case OP_KIND:
    case OP_LOAD:
    case OP_KIND_COUNT:
        break;
    }
    return false;
}

static bool overwrites(const op *o, slot s)
{
    switch (o->kind) {
    case OP_EMBED:
    case OP_POSITION:
    case OP_KIND:
    case OP_LOAD:
    case OP_NORM:
    case OP_LINEAR:
    case OP_EXPERTS:
    case OP_RECUR:
        return o->dst == s;
    case OP_ATTEND:
        return s == SLOT_A;
    default:
        return false;
    }
}

/* Does any operation from `from` on read what is in the slot now? */
static bool read_later(const builder *b, uint32_t from, slot s)
{
    for (uint32_t i = from; i < b->n_ops; i++) {
        if (reads(&b->ops[i], s)) {
            return true;
        }
        if (overwrites(&b->ops[i], s)) {
            return false;
        }
    }
    return s == SLOT_LOGITS;
}

static bool row_wise(op_kind kind)
{
    return kind != OP_LINEAR && kind != OP_ATTEND && kind != OP_SCAN && kind != OP_CONV && kind != OP_RECUR &&
           kind != OP_HEADS && kind != OP_EXPERTS && kind != OP_ADAPT && kind != OP_TAKE_ROWS;
}

/* ---- pieces of nodes ---- */

/* A vector tensor as aligned f32 in the program's memory; NULL for none. */
static const float *vector_f32(builder *b, const tensor *t)
{
    if (!t) {
        return NULL;
    }
    float *values = region_array(&b->prog->memory, t->shape[0], sizeof *values);
    if (values) {
        codec_decode(t->type, t->data, values, t->shape[0]);
    } else {
        b->ok = false;
    }
    return values;
}

/* Layers with equal frequencies share one table of angles a step. */
static uint32_t share_angles(program *prog, const op_rope *r)
{
    uint32_t offset = 0;
    if (r->n_rot == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < prog->n_rope_tables; i++) {
        if (rope_angles_same(prog->rope_tables[i], r)) {
            return offset;
        }
        offset += prog->rope_tables[i]->n_rot;
    }
    prog->rope_tables[prog->n_rope_tables++] = r;
    prog->rope_width += r->n_rot;
    return offset;
}

static void add_row_op(builder *b, node *n, const op *o)
{
    row_op *r = &n->rows[n->n_rows++];
    *r = (row_op){.o = o};
    if (o->kind == OP_NORM) {
        r->weight = vector_f32(b, o->weight);
        r->bias = vector_f32(b, o->bias);
        b->prog->widest_row = o->width > b->prog->widest_row ? o->width : b->prog->widest_row;
    } else if (o->kind == OP_POSITION || o->kind == OP_EMBED) {
        r->bias = vector_f32(b, o->bias);
    } else if (o->kind == OP_ROPE) {
        r->rope_offset = share_angles(b->prog, &o->rope);
    }
}

/* The row-wise operations that begin at `next` become the node's rows part. */
static void take_rows_part(builder *b, node *n)
{
    uint32_t end = b->next;
    while (end < b->n_ops && row_wise(b->ops[end].kind) && (end == b->next || !b->prog->scalar)) {
        end++;
    }
    n->rows = region_array(&b->prog->memory, end - b->next, sizeof *n->rows);
    if (!n->rows) {
        b->ok = false;
        return;
    }
    while (b->next < end) {
        add_row_op(b, n, &b->ops[b->next++]);
    }
}

static void add_product(builder *b, node *n, const op *o)
{
    program *prog = b->prog;
    product *p = &n->products[n->n_products++];
    *p = (product){.weight = linear_weight_of(o->weight), .bias = vector_f32(b, o->bias), .dst = o->dst};
    p->rows = p->weight.data;
    uint32_t n_in = p->weight.n_in;
    prog->widest_in = n_in > prog->widest_in ? n_in : prog->widest_in;
    linear_format few = n->kernels->few[p->weight.type], many = n->kernels->many[p->weight.type];
    prog->packed_in[few] = n_in > prog->packed_in[few] ? n_in : prog->packed_in[few];
    prog->packed_in[many] = n_in > prog->packed_in[many] ? n_in : prog->packed_in[many];
    prog->packed_many[many] = true;
}

/* Row-wise operations that end as the node's last product does. */
static void fuse_tail(builder *b, node *n)
{
    const op *o = &b->ops[b->next];
    if (b->next == b->n_ops || b->prog->scalar) {
        return;
    }
    if (o->kind == OP_GATED && n->n_products == 2 && o->dst == n->products[0].dst && o->src == n->products[1].dst &&
        n->products[0].weight.n_out == n->products[1].weight.n_out && !read_later(b, b->next + 1, o->src)) {
        n->gated = true;
        n->act = o->act;
        b->next++;
    } else if (o->kind == OP_ADD && n->n_products == 1 && o->src == n->products[0].dst && o->dst != o->src &&
               o->scale == 1.0f && o->dst != n->source && !read_later(b, b->next + 1, o->src) &&
               !(n->pure && n->n_rows && n->rows[0].o->src == o->dst)) { /* another thread may be reading it still */
        n->products[0].dst = o->dst;
        n->products[0].add = true;
        b->next++;
    }
}

/* The matrices that begin at `next` and read the same slot. */
static void take_products(builder *b, node *n)
{
    n->kind = NODE_LINEAR;
    n->source = b->ops[b->next].src;
    n->kernels = program_kernels(b->prog, &b->ops[b->next]);
    while (b->next < b->n_ops && n->n_products < PROGRAM_PRODUCTS_MAX) {
        const op *o = &b->ops[b->next];
        bool joins = o->kind == OP_LINEAR && o->src == n->source && (n->n_products == 0 || !b->prog->scalar) &&
                     program_kernels(b->prog, o) == n->kernels;
        for (uint32_t i = 0; i < n->n_products; i++) {
            joins = joins && n->products[i].dst != o->dst;
        }
        if (!joins) {
            break;
        }
        add_product(b, n, o);
        b->next++;
    }
    const op *norm = n->n_rows == 1 ? n->rows[0].o : NULL;
    bool norm_only = norm && norm->kind == OP_NORM && norm->dst == n->source && norm->src != n->source;
    n->pure = !b->prog->scalar && (n->n_rows == 0 || (norm_only && !read_later(b, b->next, n->source)));
    fuse_tail(b, n);
}

static void take_attend(builder *b, node *n)
{
    program *prog = b->prog;
    n->kind = NODE_ATTEND;
    n->attend = b->ops[b->next++].attend;
    prog->attends_taken = prog->attends_taken || n->taken;
    for (n->work = 0; n->work < prog->n_shapes; n->work++) {
        const op_attend *s = &prog->shapes[n->work];
        if (s->n_head == n->attend.n_head && s->n_head_kv == n->attend.n_head_kv && s->head_dim == n->attend.head_dim &&
            s->window == n->attend.window && s->chunked == n->attend.chunked && s->first == n->attend.first) {
            return;
        }
    }
    if (prog->n_shapes < PROGRAM_SHAPES_MAX) {
        prog->shapes[prog->n_shapes++] = n->attend;
    }
}

static void take_scan(builder *b, node *n)
{
    n->kind = NODE_SCAN;
    n->mixer = &b->ops[b->next++];
    n->decay = vector_f32(b, n->mixer->weight);
}

static void take_conv(builder *b, node *n)
{
    const op *o = n->mixer = &b->ops[b->next++];
    uint32_t n_rows = o->conv.n;
    float *weights = region_array(&b->prog->memory, (size_t)n_rows * o->width, sizeof *weights), row[CONV_ROWS_MAX];
    n->kind = NODE_CONV;
    n->bias = vector_f32(b, o->bias);
    n->decay = weights;
    b->ok = b->ok && weights;
    for (uint32_t c = 0; c < o->width && weights; c++) {
        codec_decode(o->weight->type, (const uint8_t *)o->weight->data + c * o->weight->row_bytes, row, n_rows);
        for (uint32_t j = 0; j < n_rows; j++) {
            weights[(size_t)j * o->width + c] = row[j];
        }
    }
}

static void take_recur(builder *b, node *n)
{
    n->kind = NODE_RECUR;
    n->mixer = &b->ops[b->next++];
    uint32_t floats = program_recur_floats(n->mixer->recur);
    b->prog->recur_floats = floats > b->prog->recur_floats ? floats : b->prog->recur_floats;
}

static void take_heads(builder *b, node *n)
{
    program *prog = b->prog;
    n->kind = NODE_HEADS;
    n->heads = &b->ops[b->next++];
    const op_heads *x = n->heads->heads;
    uint64_t n_bytes = program_heads_bytes(x, &prog->linear);
    prog->heads_bytes = n_bytes > prog->heads_bytes ? n_bytes : prog->heads_bytes;
    prog->widest_in = x->n_in > prog->widest_in ? x->n_in : prog->widest_in;
}

static void build_node(builder *b)
{
    node *n = &b->prog->nodes[b->prog->n_nodes++];
    *n = (node){.kind = NODE_ROWS, .layer = b->ops[b->next].layer, .taken = b->taken, .first_op = b->next};
    if (row_wise(b->ops[b->next].kind)) {
        take_rows_part(b, n);
        if (b->next == b->n_ops || b->ops[b->next].kind != OP_LINEAR || b->prog->scalar) {
            return;
        }
    }
    switch (b->ops[b->next].kind) {
    case OP_LINEAR:
        n->layer = b->ops[b->next].layer;
        take_products(b, n);
        break;
    case OP_ATTEND:
        take_attend(b, n);
        break;
    case OP_SCAN:
        take_scan(b, n);
        break;
    case OP_CONV:
        take_conv(b, n);
        break;
    case OP_RECUR:
        take_recur(b, n);
        break;
    case OP_HEADS:
        take_heads(b, n);
        break;
    case OP_EXPERTS:
        n->kind = NODE_EXPERTS;
        n->experts = &b->ops[b->next++];
        n->kernels = program_kernels(b->prog, n->experts);
        experts_size_add(&b->prog->experts, n->experts->experts, n->kernels);
        b->prog->widest_in = b->prog->experts.n_widest > b->prog->widest_in ? b->prog->experts.n_widest
                                                                            : b->prog->widest_in;
        break;
    case OP_ADAPT:
        n->kind = NODE_ADAPT;
        n->adapt = &b->ops[b->next++];
        break;
    default: /* OP_TAKE_ROWS */
        n->kind = NODE_TAKE;
        n->taken_slot = b->ops[b->next++].dst;
        n->taken = b->taken = true;
        break;
    }
}

/* ---- taking the wanted rows earlier ---- */

/* Behind the last keys that are written, or the last state, nothing that a row computes is of use to another one, so
 * the rows nobody wants may as well be dropped right there: a prompt then skips most of its last layer, and all the
 * layers that read keys of earlier ones. Copies the operations with that change; false: out of memory. */
static bool take_rows_early(builder *b)
{
    const plan *p = b->prog->plan;
    uint32_t take = 0, n_serving = plan_serving_ops(p), n = n_serving;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        take = p->ops[i].kind == OP_TAKE_ROWS ? i : take;
    }
    if (take == 0) {
        return true;
    }
    op *copy = region_array(&b->prog->memory, p->n_ops + SLOT_COUNT, sizeof *copy);
    if (!copy) {
        return false;
    }
    memcpy(copy, p->ops, n * sizeof *copy);
    for (uint32_t s = 1; s < SLOT_COUNT; s++) {
        if (p->slot_width[s] && read_later(b, n_serving, (slot)s) && s != SLOT_LOGITS) {
            copy[n++] = (op){
                .kind = OP_TAKE_ROWS, .layer = p->ops[take].layer, .dst = (slot)s, .width = p->slot_width[s]};
        }
    }
    for (uint32_t i = n_serving; i < p->n_ops; i++) {
        if (p->ops[i].kind != OP_TAKE_ROWS) {
            copy[n++] = p->ops[i];
        }
    }
    b->ops = copy;
    b->n_ops = n;
    return true;
}

bool program_build(program *prog)
{
    builder b = {.prog = prog, .ops = prog->plan->ops, .n_ops = prog->plan->n_ops, .ok = true};
    if (!prog->scalar && !take_rows_early(&b)) {
        return false;
    }
    prog->nodes = region_array(&prog->memory, b.n_ops, sizeof *prog->nodes);
    prog->rope_tables = region_array(&prog->memory, b.n_ops, sizeof *prog->rope_tables);
    if (!prog->nodes || !prog->rope_tables) {
        return false;
    }
    while (b.ok && b.next < b.n_ops) {
        uint32_t first = b.next;
        build_node(&b);
        b.ok = b.ok && program_label(prog, &prog->nodes[prog->n_nodes - 1], b.ops + first, b.next - first);
    }
    return b.ok && program_screen_make(prog) && few_make(prog) && copy_open(prog) && laid_open(prog);
}
