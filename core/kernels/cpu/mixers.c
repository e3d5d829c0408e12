/*
 * Nodes with a state: recurrent sums, short convolutions, linear attention. Rows of a sequence wait for each other,
 * channels and heads do not: members own channels or heads. A result does not depend on where steps cut the rows.
 * Owner: none. Lifetime: the pass.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/program.h"

#define CONV_STRIP 256u /* channels at a time */

/* Where an operation's own state begins in a page. */
static float *state_of(const exec *e, const op_state *s, uint32_t page)
{
    const kv_layout *l = &e->s.kv.layout[s->kv_group];
    uint8_t *at = page >= PROGRAM_CARRY ? e->carry[page - PROGRAM_CARRY] + e->carry_first[s->kv_group]
                                        : (uint8_t *)e->s.kv.base[s->kv_group] + page * l->page_bytes;
    return (float *)(void *)(at + s->kv_layer * l->layer_bytes) + s->first;
}

/* A row's result is the state behind it. */
static void run_scan(const exec *e, const node *n, const team_member *member)
{
    const op *o = n->mixer;
    uint32_t begin, end;
    team_share(member, o->width, 16, &begin, &end);
    for (uint32_t i = 0; i < e->s.n_slices && begin < end; i++) {
        const step_slice *slice = &e->s.slices[i];
        const uint32_t *pages = slice->pages[o->state.kv_group];
        const float *before = pages[0] != KV_PAGE_NONE ? state_of(e, &o->state, pages[0]) + begin : NULL;
        for (uint32_t r = 0; r < slice->n_rows; r++) {
            float *x = exec_row(e, o->dst, slice->first_row + r) + begin;
            if (before) {
                e->prog->ops.decay(x, before, n->decay + begin, end - begin);
            }
            if (pages[1 + r] != KV_PAGE_NONE) {
                memcpy(state_of(e, &o->state, pages[1 + r]) + begin, x, (end - begin) * sizeof *x);
            }
            before = x;
        }
    }
}

/* ---- short convolutions ---- */

typedef struct conv_slice {
    const exec *e;
    const node *n;
    const step_slice *slice;
    const float *before; /* [n − 1][width] the rows before the slice's first, or NULL: there were none */
} conv_slice;

/* Row `row` of the slice, which is negative where it came before; NULL: it is all zeros. */
static float *conv_row(const conv_slice *c, int64_t row)
{
    const op *o = c->n->mixer;
    if (row >= 0) {
        return exec_row(c->e, o->dst, c->slice->first_row + (uint32_t)row);
    }
    int64_t at = row + o->conv.n - 1;
    return c->before ? (float *)(uintptr_t)(c->before + at * o->width) : NULL;
}

/* The state behind a row: it and those before it, channels [begin, end). */
static void conv_keep(const conv_slice *c, uint32_t row, float *state, uint32_t begin, uint32_t end)
{
    const op *o = c->n->mixer;
    for (uint32_t j = 0; j + 1 < o->conv.n; j++) {
        const float *from = conv_row(c, (int64_t)row + j + 2 - o->conv.n);
        float *to = state + (size_t)j * o->width;
        if (from) {
            memcpy(to + begin, from + begin, (end - begin) * sizeof *to);
        } else {
            memset(to + begin, 0, (end - begin) * sizeof *to);
        }
    }
}

static void conv_compute(const conv_slice *c, uint32_t row, uint32_t begin, uint32_t end)
{
    const op *o = c->n->mixer;
    const ops_table *ops = &c->e->prog->ops;
    float sum[CONV_STRIP];
    for (uint32_t i = begin; i < end; i += CONV_STRIP) {
        uint32_t n = end - i < CONV_STRIP ? end - i : CONV_STRIP;
        if (c->n->bias) {
            memcpy(sum, c->n->bias + i, n * sizeof *sum);
        } else {
            memset(sum, 0, n * sizeof *sum);
        }
        for (uint32_t j = 0; j < o->conv.n; j++) {
            const float *x = conv_row(c, (int64_t)row + j + 1 - o->conv.n);
            if (x) {
                ops->decay(sum, x + i, c->n->decay + (size_t)j * o->width + i, n);
            }
        }
        if (o->conv.silu) {
            ops->gated(ACT_SILU, sum, NULL, n);
        }
        memcpy(conv_row(c, row) + i, sum, n * sizeof *sum);
    }
}

/* From the last row to the first: what a row is computed from is not overwritten yet. */
static void run_conv(const exec *e, const node *n, const team_member *member)
{
    const op_state *state = &n->mixer->conv.state;
    uint32_t begin, end;
    team_share(member, n->mixer->width, 16, &begin, &end);
    for (uint32_t i = 0; i < e->s.n_slices && begin < end; i++) {
        const step_slice *slice = &e->s.slices[i];
        const uint32_t *pages = slice->pages[state->kv_group];
        conv_slice c = {.e = e, .n = n, .slice = slice};
        c.before = pages[0] != KV_PAGE_NONE ? state_of(e, state, pages[0]) : NULL;
        for (uint32_t r = slice->n_rows; r-- > 0;) {
            if (pages[1 + r] != KV_PAGE_NONE) {
                conv_keep(&c, r, state_of(e, state, pages[1 + r]), begin, end);
            }
            conv_compute(&c, r, begin, end);
        }
    }
}

/* ---- linear attention ---- */

/* Columns of a state at a time: a value depends on those of its own column alone, and they stay in the L1 cache for all
 * rows of a slice. */
#define RECUR_STRIP 64u

/* In a thread's private memory: a strip of a state, a query and a key. */
uint32_t program_recur_floats(const op_recur *r)
{
    return r->head_k * RECUR_STRIP + 2 * r->head_k;
}

/* softplus, kept to its limits */
static double step_of(const op_recur *r, uint32_t head, float x)
{
    double d = (double)x + r->step_bias[head];
    d = d > 20 ? d : log1p(exp(d));
    d = d < r->step_least ? r->step_least : d;
    return d > r->step_most ? r->step_most : d;
}

static const float *unit(const float *x, float *to, uint32_t n, double factor)
{
    factor /= sqrt(ops_dot_double(x, x, n) + RECUR_EPS);
    for (uint32_t i = 0; i < n; i++) {
        to[i] = (float)(x[i] * factor);
    }
    return to;
}

/* All but the states. */
static void recur_operands(const exec *e, const op *o, uint32_t head, uint32_t row, float *room, recur_row *out)
{
    const op_recur *r = o->recur;
    const float *src = exec_row(e, o->src, row);
    uint32_t shared = r->take_turns ? head % r->n_head_k : head / (r->n_head / r->n_head_k);
    double d = step_of(r, head, exec_row(e, SLOT_D, row)[head]);
    *out = (recur_row){.q = src + r->q_first + shared * r->head_k,
                       .k = src + r->k_first + shared * r->head_k,
                       .v = src + r->v_first + head * r->head_v,
                       .out = exec_row(e, o->dst, row) + head * r->head_v,
                       .n_k = r->head_k,
                       .n_v = r->head_v,
                       .fade = (float)exp(d * r->fade[head]),
                       .learn = (float)d,
                       .delta = r->kind == RECUR_DELTA};
    if (out->delta) {
        out->learn = (float)(1 / (1 + exp(-(double)exec_row(e, SLOT_B, row)[head])));
        out->q = unit(out->q, room, r->head_k, 1 / sqrt(r->head_k));
        out->k = unit(out->k, room + r->head_k, r->head_k, 1);
    }
}

/* Columns [first, first + n) of a head. Each row goes on from the state of the one before, which lies in its page where
 * somebody wants it, else here. */
static void recur_strip(const exec *e, const op *o, const step_slice *slice, uint32_t head, uint32_t first, uint32_t n,
                        float *room)
{
    const op_recur *r = o->recur;
    const uint32_t *pages = slice->pages[r->state.kv_group];
    size_t at = (size_t)head * r->head_k * r->head_v + first, stride = r->head_v;
    const float *before = pages[0] != KV_PAGE_NONE ? state_of(e, &r->state, pages[0]) + at : NULL;
    for (uint32_t i = 0; i < slice->n_rows; i++) {
        recur_row row;
        bool kept = pages[1 + i] != KV_PAGE_NONE;
        recur_operands(e, o, head, slice->first_row + i, room + (size_t)r->head_k * RECUR_STRIP, &row);
        row.before = before;
        row.before_stride = stride;
        row.after = kept ? state_of(e, &r->state, pages[1 + i]) + at : room;
        row.after_stride = kept ? r->head_v : n;
        row.v += first;
        row.out += first;
        row.n_v = n;
        e->prog->ops.recur(&row);
        if (r->skip) {
            e->prog->ops.add(row.out, row.v, r->skip[head], n);
        }
        before = row.after;
        stride = row.after_stride;
    }
}

static void recur_head(const exec *e, const op *o, const step_slice *slice, uint32_t head, float *room)
{
    uint32_t n = o->recur->head_v;
    for (uint32_t first = 0; first < n; first += RECUR_STRIP) {
        recur_strip(e, o, slice, head, first, n - first < RECUR_STRIP ? n - first : RECUR_STRIP, room);
    }
}

static void run_recur(const exec *e, const node *n, const team_member *member)
{
    const op_recur *r = n->mixer->recur;
    uint32_t begin, end;
    team_share(member, e->s.n_slices * r->n_head, 1, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        recur_head(e, n->mixer, &e->s.slices[i / r->n_head], i % r->n_head, (float *)(void *)exec_private(e, member));
    }
}

void program_run_mixer(const exec *e, const node *n, const team_member *member)
{
    if (n->kind == NODE_SCAN) {
        run_scan(e, n, member);
    } else if (n->kind == NODE_CONV) {
        run_conv(e, n, member);
    } else {
        run_recur(e, n, member);
    }
}
