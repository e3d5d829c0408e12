/*
 * Running nodes: how the work of each is split over the team.
 * Owner: none. Lifetime: the pass.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/program.h"
#include "kernels/rope_angles.h"
#include "quant/codec.h"

#define STRIP_FLOATS 32768u /* outputs of gate and up computed before they are joined: what stays in L2 */
#define PIECES_A_THREAD 6u  /* pieces of a product's rows a thread takes, in prompts */
#define KERNEL_ROWS (2 * LINEAR_ROW_GRAIN) /* weight rows: the grain of a piece */

void program_rope_angles(const exec *e, const team_member *member)
{
    const program *prog = e->prog;
    uint32_t offset = 0;
    for (uint32_t t = 0; t < prog->n_rope_tables; t++) {
        const op_rope *r = prog->rope_tables[t];
        uint32_t half = r->n_rot / 2, begin, end;
        team_share(member, e->s.n_rows * half, 1, &begin, &end);
        for (uint32_t i = begin; i < end;) {
            uint32_t row = i / half, first = i % half;
            uint32_t n = end - i < half - first ? end - i : half - first;
            float *cosines = e->rope + (size_t)row * prog->rope_width + offset;
            rope_angles_fill(r, e->s.positions[row], first, first + n, cosines, cosines + half);
            i += n;
        }
        offset += r->n_rot;
    }
}

/* ---- row-wise operations ---- */

static void norm_row(const exec *e, const row_op *r, const float *src, float *dst)
{
    const op_norm *norm = &r->o->norm;
    for (uint32_t i = 0; i < r->o->width; i += norm->width) {
        uint32_t at = norm->whole_weight ? i : 0;
        e->prog->ops.norm(norm->kind, src + i, dst + i, r->weight ? r->weight + at : NULL,
                          r->bias ? r->bias + at : NULL, norm->width, norm->eps);
    }
}

static void embed_row(const exec *e, const row_op *r, float *dst, uint32_t row)
{
    const tensor *w = r->o->weight;
    codec_decode(w->type, (const uint8_t *)w->data + (size_t)e->s.tokens[row] * w->row_bytes, dst, r->o->width);
    if (r->o->scale != 1.0f) {
        e->prog->ops.scale(dst, r->o->scale, r->o->width);
    }
    if (r->bias) {
        e->prog->ops.add(dst, r->bias, 1.0f, r->o->width);
    }
}

static void position_row(const exec *e, const row_op *r, float *dst, uint32_t row)
{
    const tensor *w = r->o->weight;
    codec_decode(w->type, (const uint8_t *)w->data + (size_t)e->s.positions[row] * w->row_bytes, dst, r->o->width);
    if (r->bias) {
        e->prog->ops.add(dst, r->bias, 1.0f, r->o->width);
    }
}

static void kind_row(const row_op *r, float *dst, uint32_t row, const step_slice *slice)
{
    const tensor *w = r->o->weight;
    bool second = slice->second && slice->start + (row - slice->first_row) >= slice->second;
    codec_decode(w->type, (const uint8_t *)w->data + second * w->row_bytes, dst, r->o->width);
}

static void pick_row(const op_pick *p, const float *src, float *dst)
{
    uint32_t apart = p->apart ? p->apart : p->n;
    for (uint32_t g = 0; g < p->n_groups; g++) {
        memcpy(dst + p->to + (size_t)g * apart, src + (size_t)g * p->group + p->from, p->n * sizeof *dst);
    }
}

static attend_view view_of(const exec *e, const op_attend *a, const step_slice *slice)
{
    return (attend_view){.base = e->s.kv.base[a->kv_group],
                         .layout = &e->s.kv.layout[a->kv_group],
                         .pages = slice->pages[a->kv_group],
                         .n_positions = slice->start + slice->n_rows,
                         .layer = a->kv_layer};
}

static void kv_write_row(const exec *e, const op_attend *a, const step_slice *slice, uint32_t row)
{
    attend_view view = view_of(e, a, slice);
    uint32_t position = slice->start + (row - slice->first_row);
    for (uint32_t h = 0; h < a->n_head_kv; h++) {
        size_t offset = (size_t)h * a->head_dim;
        ops_kv_write(&e->prog->ops, &view, h, false, position, exec_row(e, SLOT_K, row) + offset);
        if (!view.layout->one_row) {
            ops_kv_write(&e->prog->ops, &view, h, true, position, exec_row(e, SLOT_V, row) + offset);
        }
    }
}

/* `whole`: which row of the pass it is. */
static void row_op_run(const exec *e, const row_op *r, uint32_t row, uint32_t whole, uint32_t *slice_hint)
{
    const op *o = r->o;
    const ops_table *ops = &e->prog->ops;
    float *dst = o->dst != SLOT_NONE ? exec_row(e, o->dst, row) : NULL;
    switch (o->kind) {
    case OP_EMBED:
        embed_row(e, r, dst, row);
        break;
    case OP_POSITION:
        position_row(e, r, dst, row);
        break;
    case OP_KIND:
        kind_row(r, dst, row, exec_slice(e, row, slice_hint));
        break;
    case OP_NORM:
        norm_row(e, r, exec_row(e, o->src, row), dst);
        break;
    case OP_ROPE: {
        const float *cosines = e->rope + (size_t)whole * e->prog->rope_width + r->rope_offset;
        ops->rope(o->rope.kind, dst, o->width / o->rope.head_dim, o->rope.head_dim, o->rope.n_rot, cosines,
                  cosines + o->rope.n_rot / 2);
        break;
    }
    case OP_KV_WRITE:
        kv_write_row(e, &o->attend, exec_slice(e, row, slice_hint), row);
        break;
    case OP_GATED:
        ops->gated(o->act, dst, o->src == SLOT_NONE ? NULL : exec_row(e, o->src, row), o->width);
        break;
    case OP_ADD:
        ops->add(dst, exec_row(e, o->src, row), o->scale, o->width);
        break;
    case OP_PICK:
        pick_row(&o->pick, exec_row(e, o->src, row), dst);
        break;
    case OP_LOAD:
        memcpy(dst, e->s.carried + (size_t)whole * o->width, o->width * sizeof *dst);
        break;
    case OP_STORE:
        memcpy(e->s.carried + (size_t)whole * o->width, exec_row(e, o->src, row), o->width * sizeof *dst);
        break;
    case OP_WEIGH:
        ops->scale(dst, (float)(1 / (1 + exp(-(double)*exec_row(e, o->src, row)))), o->width);
        break;
    case OP_SCALE:
        ops->scale(dst, o->scale, o->width);
        break;
    case OP_SOFTCAP:
        ops->softcap(dst, o->scale, o->width);
        break;
    case OP_CURVE:
        ops->curve(&o->curve, dst, o->width);
        break;
    default: /* not row-wise: never in a rows part */
        break;
    }
}

void program_rows_part(const exec *e, const node *n, uint32_t begin, uint32_t end)
{
    uint32_t hint = 0;
    for (uint32_t row = begin; row < end; row++) {
        for (uint32_t i = 0; i < n->n_rows; i++) {
            row_op_run(e, &n->rows[i], row, exec_whole_row(e, n, row), &hint);
        }
    }
}

/* ---- matrix products ---- */

/* The packed forms of a node's input, one a format. */
typedef struct node_inputs {
    linear_input of[LINEAR_FORMAT_COUNT];
    uint32_t needed; /* bit per format */
} node_inputs;

static void set_inputs(const node *n, node_inputs *in, uint32_t rows, void *const packed[LINEAR_FORMAT_COUNT])
{
    in->needed = 0;
    for (uint32_t i = 0; i < n->n_products; i++) {
        in->needed |= 1u << linear_format_for(n->kernels, n->products[i].weight.type, rows);
    }
    for (uint32_t f = 0; f < LINEAR_FORMAT_COUNT; f++) {
        in->of[f] = linear_input_make((linear_format)f, rows, n->products[0].weight.n_in, packed[f]);
    }
}

/* Packs rows into every format that the node's matrices read and that is not the rows themselves. */
static void pack_rows(const exec *e, const node *n, const node_inputs *in, uint32_t row, uint32_t n_rows,
                      const float *src)
{
    for (uint32_t f = LINEAR_F32; f < LINEAR_FORMAT_COUNT; f++) {
        if (in->needed >> f & 1 && in->of[f].data != e->slots[n->source].data) {
            linear_pack_rows(n->kernels, &in->of[f], row, n_rows, src, e->slots[n->source].stride);
        }
    }
}

/* The team packs all rows together, unless they are made behind the rows part; a barrier follows. */
static void pack_shared(const exec *e, const node *n, bool made, const team_member *member, node_inputs *in)
{
    uint32_t rows = exec_rows(e, n), begin, end;
    set_inputs(n, in, rows, e->packed);
    in->of[LINEAR_F32] = linear_input_wrap(e->slots[n->source].data, e->slots[n->source].stride, rows,
                                           n->products[0].weight.n_in);
    team_share(member, rows, LINEAR_TILE, &begin, &end);
    for (uint32_t row = begin, last; row < end; row = last) { /* a tile, while its rows are in cache */
        last = end - row < LINEAR_TILE ? end : row + LINEAR_TILE;
        if (!made) {
            program_rows_part(e, n, row, last);
        }
        pack_rows(e, n, in, row, last - row, exec_row(e, n->source, row));
    }
    team_barrier(member);
}

/* Few rows: each member packs them for itself, which costs less than a barrier. */
static void pack_private(const exec *e, const node *n, const team_member *member, node_inputs *in)
{
    uint32_t rows = exec_rows(e, n);
    uint8_t *private = exec_private(e, member);
    float *buffer = (float *)(private + e->private_row);
    void *packed[LINEAR_FORMAT_COUNT];
    for (uint32_t f = 0; f < LINEAR_FORMAT_COUNT; f++) {
        packed[f] = private + e->private_packed[f];
    }
    set_inputs(n, in, rows, packed);
    for (uint32_t row = 0; row < rows; row++) {
        const float *src = n->n_rows ? buffer : exec_row(e, n->source, row);
        if (n->n_rows) {
            norm_row(e, &n->rows[0], exec_row(e, n->rows[0].o->src, row), buffer);
        }
        pack_rows(e, n, in, row, 1, src);
    }
}

static uint32_t in_grains(uint32_t n_out)
{
    return (n_out + LINEAR_ROW_GRAIN - 1) / LINEAR_ROW_GRAIN * LINEAR_ROW_GRAIN;
}

/* Rows of weights that a member will multiply soon: at most a piece, from an output column of the node's products laid
 * end to end. */
static linear_soon rows_at(const node *n, uint32_t column, uint32_t piece)
{
    for (uint32_t i = 0; i < n->n_products; i++) {
        const linear_weight *w = &n->products[i].weight;
        if (column < w->n_out) {
            uint32_t left = w->n_out - column;
            return (linear_soon){.rows = (const uint8_t *)w->data + column * w->row_bytes,
                                 .row_bytes = w->row_bytes,
                                 .n_rows = left < piece ? left : piece};
        }
        column -= in_grains(w->n_out);
    }
    return (linear_soon){0};
}

static void product_rows(const exec *e, const node *n, const product *p, const node_inputs *in, uint32_t begin,
                         uint32_t end, linear_soon soon, void *scratch)
{
    linear_weight weight = p->weight;
    weight.soon = soon;
    linear_output out = {
        .dst = e->slots[p->dst].data, .stride = e->slots[p->dst].stride, .bias = p->bias, .add = p->add};
    const linear_kernels *k = n->kernels;
    linear_format f = linear_format_for(k, p->weight.type, in->of[0].n_tokens);
    if (e->few.reads && p->dst == SLOT_LOGITS) {
        few_rows(e, k, &weight, &in->of[f], &out, begin, end, scratch);
    } else {
        linear_rows(k, &weight, &in->of[f], &out, begin, end, scratch);
    }
}

/* Gate and up in strips that are still in cache when they are joined. */
static void gated_rows(const exec *e, const node *n, const node_inputs *in, uint32_t begin, uint32_t end,
                       linear_soon soon, void *scratch)
{
    uint32_t rows = exec_rows(e, n), strip = STRIP_FLOATS / rows / LINEAR_ROW_GRAIN * LINEAR_ROW_GRAIN;
    strip = strip ? strip : LINEAR_ROW_GRAIN;
    for (uint32_t i = begin; i < end; i += strip) {
        uint32_t last = end - i < strip ? end : i + strip;
        uint32_t n_out = n->products[0].weight.n_out; /* up's columns lie behind gate's */
        product_rows(e, n, &n->products[0], in, i, last, rows_at(n, in_grains(n_out) + i, last - i), scratch);
        product_rows(e, n, &n->products[1], in, i, last, last < end ? rows_at(n, last, strip) : soon, scratch);
        for (uint32_t row = 0; row < rows; row++) {
            e->prog->ops.gated(n->act, exec_row(e, n->products[0].dst, row) + i,
                               exec_row(e, n->products[1].dst, row) + i, last - i);
        }
    }
}

/* Output columns [begin, end) of all products laid end to end, each rounded up to whole grains; behind them the member
 * will probably read `soon`. */
static void products_range(const exec *e, const node *n, const node_inputs *in, uint32_t begin, uint32_t end,
                           linear_soon soon, void *scratch)
{
    if (n->gated) {
        uint32_t n_out = n->products[0].weight.n_out;
        gated_rows(e, n, in, begin, end < n_out ? end : n_out, soon, scratch);
        return;
    }
    uint32_t origin = 0;
    for (uint32_t i = 0; i < n->n_products; i++) {
        const product *p = &n->products[i];
        uint32_t n_out = p->weight.n_out, padded = in_grains(n_out);
        uint32_t first = begin > origin ? begin - origin : 0, last = end > origin ? end - origin : 0;
        last = last < n_out ? last : n_out;
        if (first < last) {
            uint32_t next = origin + padded;
            product_rows(e, n, p, in, first, last, end > next ? rows_at(n, next, end - next) : soon, scratch);
        }
        origin += padded;
    }
}

static uint32_t product_total(const node *n)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < (n->gated ? 1 : n->n_products); i++) {
        total += in_grains(n->products[i].weight.n_out);
    }
    return total;
}

/* Behind pack_shared: the source's rows are made, and no product writes to them. */
static void show_inputs(const exec *e, const node *n, const team_member *member)
{
    const step_observer *o = e->s.observer;
    const observed_rows rows = {
        .data = e->slots[n->source].data, .stride = e->slots[n->source].stride, .n = exec_rows(e, n)};
    for (uint32_t i = 0; o && i < n->n_products; i++) {
        const product *p = &n->products[i];
        o->see(o->user, p->rows, p->weight.n_in, &rows, member->index, member->n_threads);
    }
}

static bool is_screened(const exec *e, const node *n)
{
    return (e->screens || e->copy.screens || e->few.screens) && n == &e->prog->nodes[e->prog->n_nodes - 1];
}

/* Pieces are as many for each member, or those that have one less would wait for the others, a twentieth of the time in
 * prompts. */
pieces program_pieces(const exec *e, const node *n, uint32_t n_threads)
{
    pieces p = {.total = product_total(n), .grain = is_screened(e, n) ? SCREEN_CHUNK : KERNEL_ROWS};
    p.grains = (p.total + p.grain - 1) / p.grain;
    uint32_t of_piece = p.grains / (n_threads * PIECES_A_THREAD);
    p.n = of_piece ? (p.grains + of_piece - 1) / of_piece : p.grains;
    p.n = (p.n + n_threads - 1) / n_threads * n_threads;
    p.n = p.n < p.grains ? p.n : p.grains;
    return p;
}

/* Pieces are even but for a grain, which the first ones have more. */
uint32_t pieces_begin(const pieces *p, uint32_t i)
{
    uint32_t larger = p->grains % p->n, begin = (i * (p->grains / p->n) + (i < larger ? i : larger)) * p->grain;
    return begin < p->total ? begin : p->total;
}

static linear_soon piece_at(const node *n, const pieces *p, uint32_t i)
{
    uint32_t begin = pieces_begin(p, i < p->n ? i : p->n), end = pieces_begin(p, i < p->n ? i + 1 : p->n);
    return begin < end ? rows_at(n, begin, end - begin) : (linear_soon){0};
}

/* The next products that somebody asks for rows of, behind a node; after the last ones those of the next step. */
static const node *products_after(const exec *e, uint32_t index)
{
    const program *prog = e->prog;
    for (uint32_t i = 1; i < prog->n_nodes; i++) {
        const node *n = &prog->nodes[(index + i) % prog->n_nodes];
        if (n->kind == NODE_LINEAR && exec_rows(e, n) > 0) {
            return n;
        }
    }
    return NULL;
}

static linear_soon first_piece(const exec *e, const node *n, const team_member *member)
{
    pieces p = program_pieces(e, n, member->n_threads);
    return piece_at(n, &p, member->index);
}

/* Members take turns where none loses its core, across nodes too. */
linear_soon program_soon(const exec *e, uint32_t index, uint32_t i, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    pieces p = program_pieces(e, n, member->n_threads);
    if (i + member->n_threads < p.n) {
        return piece_at(n, &p, i + member->n_threads);
    }
    n = products_after(e, index);
    return n ? first_piece(e, n, member) : (linear_soon){0};
}

/* What the member will multiply behind its share of few rows' products: its share of the next ones. */
static linear_soon soon_share(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = products_after(e, index);
    uint32_t begin = 0, end = 0;
    if (n && is_screened(e, n)) {
        return first_piece(e, n, member);
    }
    if (n) {
        team_share(member, product_total(n), LINEAR_ROW_GRAIN, &begin, &end);
    }
    return begin < end ? rows_at(n, begin, end - begin) : (linear_soon){0};
}

/* `counted`: whose first counter gives pieces out. */
static void run_products(const exec *e, uint32_t index, const node_inputs *in, uint32_t counted,
                         const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    uint32_t begin, end;
    void *scratch = exec_private(e, member);
    if (exec_rows(e, n) <= LINEAR_TILE || member->n_threads == 1) {
        team_share(member, product_total(n), LINEAR_ROW_GRAIN, &begin, &end);
        products_range(e, n, in, begin, end, soon_share(e, index, member), scratch);
        return;
    }
    /* Pieces taken in turn: who lost its core for a while takes fewer. Each one's first is known beforehand. */
    pieces p = program_pieces(e, n, member->n_threads);
    for (uint32_t i = member->index; i < p.n; i = member->n_threads + exec_next(e, counted, 0)) {
        products_range(e, n, in, pieces_begin(&p, i), pieces_begin(&p, i + 1), program_soon(e, index, i, member),
                       scratch);
    }
}

static void run_linear(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    node_inputs in;
    if (n->pure && exec_rows(e, n) <= LINEAR_TILE && !e->s.observer) {
        pack_private(e, n, member, &in);
    } else {
        pack_shared(e, n, false, member, &in);
        show_inputs(e, n, member);
    }
    run_products(e, index, &in, index, member);
}

void program_run_made(const exec *e, uint32_t index, const team_member *member)
{
    node_inputs in;
    pack_shared(e, &e->prog->nodes[index], true, member, &in);
    run_products(e, index, &in, e->prog->n_nodes, member);
}

/* ---- adapters ---- */

/* Columns [begin, end) of a row: every member that has some computes the few sums of A for itself. */
static void adapt_row(const exec *e, const op *o, const step_slice *slice, uint32_t row, uint32_t begin, uint32_t end)
{
    const ops_table *ops = &e->prog->ops;
    bool embeds = o->src == SLOT_NONE; /* a column of A is what the token makes */
    const float *src = embeds ? NULL : exec_row(e, o->src, row);
    uint32_t n_in = (uint32_t)o->weight->shape[embeds];
    for (uint32_t i = 0; i < slice->n_adapters; i++) {
        const adapter_product *p = &slice->adapters[i].products[o->product];
        for (uint32_t r = 0; r < p->rank; r++) {
            const float *a = p->a + (size_t)r * n_in;
            float sum = (embeds ? a[e->s.tokens[row]] * o->scale : ops->dot(a, src, n_in)) * slice->adapters[i].scale;
            ops->add(exec_row(e, o->dst, row) + begin, p->b + (size_t)r * o->width + begin, sum, end - begin);
        }
    }
}

static bool run_adapt(const exec *e, const node *n, const team_member *member)
{
    const op *o = n->adapt;
    uint32_t rows = exec_rows(e, n), first = 0, last = rows, begin = 0, end = o->width, hint = 0;
    bool any = false;
    for (uint32_t i = 0; i < e->s.n_slices; i++) {
        for (uint32_t j = 0; j < e->s.slices[i].n_adapters; j++) {
            any = any || e->s.slices[i].adapters[j].products[o->product].rank > 0;
        }
    }
    if (!any) {
        return false;
    }
    if (rows < 4 * member->n_threads) {
        team_share(member, o->width, 16, &begin, &end);
    } else {
        team_share(member, rows, 1, &first, &last);
    }
    for (uint32_t row = first; row < last && begin < end; row++) {
        adapt_row(e, o, exec_slice(e, exec_whole_row(e, n, row), &hint), row, begin, end);
    }
    return true;
}

/* ---- attention ---- */

static void attend_by_definition(const exec *e, const step *s, const op_attend *a, const team_member *member)
{
    double *scratch = (double *)exec_private(e, member);
    uint32_t job = 0;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *slice = &s->slices[i];
        attend_view view = view_of(e, a, slice);
        for (uint32_t r = 0; r < slice->n_rows; r++) {
            for (uint32_t h = 0; h < a->n_head; h++) { /* in turn: neighbours in a prompt cost the same */
                if (job++ % member->n_threads == member->index) {
                    size_t offset = (size_t)h * a->head_dim;
                    attend_scalar(&view, a, h, slice->start + r, exec_row(e, SLOT_Q, slice->first_row + r) + offset,
                                  exec_row(e, SLOT_A, slice->first_row + r) + offset, scratch);
                }
            }
        }
    }
}

/* A node's tasks, for attend_tasks. */
typedef struct node_tasks {
    const exec *e;
    uint32_t index;
} node_tasks;

static uint32_t next_task(const void *context)
{
    const node_tasks *t = context;
    return exec_next(t->e, t->index, 0);
}

static attend_view view_of_task(const void *context, const step_slice *slice)
{
    const node_tasks *t = context;
    return view_of(t->e, &t->e->prog->nodes[t->index].attend, slice);
}

static void run_attend(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    const attend_kernels *kernels = &e->prog->ops.attend;
    const step *s = n->taken ? &e->taken : &e->s;
    if (!kernels->scores) {
        attend_by_definition(e, s, &n->attend, member);
        return;
    }
    const attend_work *work = n->taken ? &e->taken_works[n->work] : &e->works[n->work];
    attend_rows rows = {.q = e->slots[SLOT_Q].data,
                        .out = e->slots[SLOT_A].data,
                        .q_stride = e->slots[SLOT_Q].stride,
                        .out_stride = e->slots[SLOT_A].stride,
                        .partials = e->partials};
    const node_tasks tasks = {e, index};
    const attend_source from = {next_task, view_of_task, &tasks};
    attend_tasks(kernels, &n->attend, s, work, &rows, &from, member->n_threads, exec_private(e, member));
    if (work->n_split == 0) {
        return;
    }
    team_barrier(member);
    for (uint32_t i = 0; i < work->n_split; i++) {
        const attend_task *whole = &work->split[i];
        for (uint32_t q = 0; q < whole->n_rows * whole->n_heads; q++) {
            if ((i + q) % member->n_threads == member->index) {
                attend_join(kernels, &n->attend, &e->s.kv.layout[n->attend.kv_group], s->slices[whole->slice].first_row,
                            whole, q, &rows, exec_private(e, member));
            }
        }
    }
}

/* In place: wanted rows ascend, so a row is never overwritten before it was read. Members own columns. */
static void run_take(const exec *e, const node *n, const team_member *member)
{
    uint32_t begin, end;
    team_share(member, e->prog->plan->slot_width[n->taken_slot], 16, &begin, &end);
    for (uint32_t i = 0; i < e->s.n_wanted && begin < end; i++) {
        if (e->s.wanted[i] != i) {
            memcpy(exec_row(e, n->taken_slot, i) + begin, exec_row(e, n->taken_slot, e->s.wanted[i]) + begin,
                   (end - begin) * sizeof(float));
        }
    }
}

bool program_run_node(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    uint32_t begin, end;
    switch (n->kind) {
    case NODE_ROWS:
        team_share(member, exec_rows(e, n), 1, &begin, &end);
        program_rows_part(e, n, begin, end);
        break;
    case NODE_LINEAR:
        if (e->screens && index + 1 == e->prog->n_nodes) {
            program_run_screen(e, index, member);
        } else if (e->copy.screens && index + 1 == e->prog->n_nodes) {
            copy_run(e, index, member);
        } else if (e->few.screens && index + 1 == e->prog->n_nodes) {
            few_run(e, index, member);
        } else {
            run_linear(e, index, member);
        }
        break;
    case NODE_ATTEND:
        run_attend(e, index, member);
        break;
    case NODE_SCAN:
    case NODE_CONV:
    case NODE_RECUR:
        program_run_mixer(e, n, member);
        break;
    case NODE_HEADS:
        program_run_heads(e, index, member);
        break;
    case NODE_EXPERTS:
        program_run_experts(e, index, member);
        break;
    case NODE_ADAPT:
        return run_adapt(e, n, member);
    case NODE_TAKE:
        if (e->s.n_wanted == e->s.n_rows) {
            return false; /* all of them, in order */
        }
        run_take(e, n, member);
        break;
    case NODE_KIND_COUNT:
        break;
    }
    return true;
}
