/*
 * Nodes that are one operation of the plan each: how its work is split over the team.
 * Owner: none. Lifetime: the step.
 */
#include <string.h>

#include "kernels/cpu/program.h"
#include "quant/codec.h"

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
            ops_rope_table(r, e->s.positions[row], first, first + n, cosines, cosines + half);
            i += n;
        }
        offset += r->n_rot;
    }
}

static void node_embed(const exec *e, const node *n, const team_member *member)
{
    const tensor *w = n->o->weight;
    uint32_t begin, end;
    team_share(member, e->s.n_rows, 1, &begin, &end);
    for (uint32_t r = begin; r < end; r++) {
        float *dst = exec_row(e, n->o->dst, r);
        codec_decode(w->type, (const uint8_t *)w->data + (size_t)e->s.tokens[r] * w->row_bytes, dst, n->o->width);
        if (n->o->scale != 1.0f) {
            e->prog->ops.scale(dst, n->o->scale, n->o->width);
        }
    }
}

static void node_norm(const exec *e, const node *n, const team_member *member)
{
    const op_norm *norm = &n->o->norm;
    uint32_t n_groups = n->o->width / norm->width, begin, end;
    team_share(member, exec_rows(e, n) * n_groups, 1, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        size_t offset = (size_t)(i % n_groups) * norm->width;
        e->prog->ops.norm(norm->kind, exec_row(e, n->o->src, i / n_groups) + offset,
                          exec_row(e, n->o->dst, i / n_groups) + offset, n->weight, n->bias, norm->width, norm->eps);
    }
}

/* Each thread decodes its share of the weight rows once and multiplies all rows of the step with each. */
static void node_linear(const exec *e, const node *n, const team_member *member)
{
    const tensor *w = n->o->weight;
    uint32_t n_in = (uint32_t)w->shape[0], begin, end;
    float *row = (float *)exec_private(e, member);
    team_share(member, n->o->width, 16, &begin, &end);
    for (uint32_t j = begin; j < end; j++) {
        codec_decode(w->type, (const uint8_t *)w->data + j * w->row_bytes, row, n_in);
        double bias = n->bias ? (double)n->bias[j] : 0.0;
        for (uint32_t r = 0; r < exec_rows(e, n); r++) {
            exec_row(e, n->o->dst, r)[j] = (float)(ops_dot_double(exec_row(e, n->o->src, r), row, n_in) + bias);
        }
    }
}

static void node_rope(const exec *e, const node *n, const team_member *member)
{
    const op_rope *rope = &n->o->rope;
    uint32_t offset = 0, begin, end;
    for (uint32_t t = 0; t < n->rope_table; t++) {
        offset += e->prog->rope_tables[t]->n_rot;
    }
    team_share(member, e->s.n_rows, 1, &begin, &end);
    for (uint32_t r = begin; r < end; r++) {
        const float *cosines = e->rope + (size_t)r * e->prog->rope_width + offset;
        e->prog->ops.rope(rope->kind, exec_row(e, n->o->dst, r), n->o->width / rope->head_dim, rope->head_dim,
                          rope->n_rot, cosines, cosines + rope->n_rot / 2);
    }
}

static attend_view view_of(const exec *e, const op_attend *a, const step_slice *slice)
{
    return (attend_view){.base = e->s.kv.base[a->kv_group],
                         .layout = &e->s.kv.layout[a->kv_group],
                         .pages = slice->pages[a->kv_group],
                         .layer = a->kv_layer};
}

static void node_kv_write(const exec *e, const node *n, const team_member *member)
{
    const op_attend *a = &n->o->attend;
    uint32_t begin, end;
    team_share(member, e->s.n_rows, 1, &begin, &end);
    for (uint32_t i = 0; i < e->s.n_slices; i++) {
        const step_slice *slice = &e->s.slices[i];
        attend_view view = view_of(e, a, slice);
        for (uint32_t r = 0; r < slice->n_rows; r++) {
            uint32_t row = slice->first_row + r;
            for (uint32_t h = 0; row >= begin && row < end && h < a->n_head_kv; h++) {
                size_t offset = (size_t)h * a->head_dim;
                e->prog->ops.to_kv(view.layout->type, exec_row(e, SLOT_K, row) + offset,
                                   attend_key(&view, h, slice->start + r), a->head_dim);
                e->prog->ops.to_kv(view.layout->type, exec_row(e, SLOT_V, row) + offset,
                                   attend_value(&view, h, slice->start + r), a->head_dim);
            }
        }
    }
}

size_t program_attend_scratch(const program *prog, uint32_t n_positions)
{
    size_t widest = 0;
    for (uint32_t g = 0; g < prog->plan->n_kv_groups; g++) {
        size_t n = prog->plan->kv_groups[g].head_dim;
        widest = n > widest ? n : widest;
    }
    return (n_positions + 2 * widest) * sizeof(double);
}

static void node_attend(const exec *e, const node *n, const team_member *member)
{
    const op_attend *a = &n->o->attend;
    double *scratch = (double *)exec_private(e, member);
    uint32_t job = 0;
    for (uint32_t i = 0; i < e->s.n_slices; i++) {
        const step_slice *slice = &e->s.slices[i];
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

static void node_gated(const exec *e, const node *n, const team_member *member)
{
    uint32_t begin, end;
    team_share(member, n->o->width, 16, &begin, &end);
    for (uint32_t r = 0; r < exec_rows(e, n) && begin < end; r++) {
        e->prog->ops.gated(n->o->act, exec_row(e, n->o->dst, r) + begin, exec_row(e, n->o->src, r) + begin,
                           end - begin);
    }
}

static void node_add(const exec *e, const node *n, const team_member *member)
{
    uint32_t begin, end;
    team_share(member, n->o->width, 16, &begin, &end);
    for (uint32_t r = 0; r < exec_rows(e, n) && begin < end; r++) {
        e->prog->ops.add(exec_row(e, n->o->dst, r) + begin, exec_row(e, n->o->src, r) + begin, n->o->scale,
                         end - begin);
    }
}

static void node_softcap(const exec *e, const node *n, const team_member *member)
{
    uint32_t begin, end;
    team_share(member, n->o->width, 16, &begin, &end);
    for (uint32_t r = 0; r < exec_rows(e, n) && begin < end; r++) {
        e->prog->ops.softcap(exec_row(e, n->o->dst, r) + begin, n->o->scale, end - begin);
    }
}

/* In place: wanted rows ascend, so a row is never overwritten before it was read. Threads own columns. */
static void node_take_rows(const exec *e, const node *n, const team_member *member)
{
    uint32_t begin, end;
    team_share(member, n->o->width, 16, &begin, &end);
    for (uint32_t i = 0; i < e->s.n_wanted && begin < end; i++) {
        if (e->s.wanted[i] != i) {
            memcpy(exec_row(e, n->o->dst, i) + begin, exec_row(e, n->o->dst, e->s.wanted[i]) + begin,
                   (end - begin) * sizeof(float));
        }
    }
}

node_fn program_node_fn(op_kind kind)
{
    static const node_fn functions[OP_KIND_COUNT] = {
        [OP_EMBED] = node_embed,     [OP_NORM] = node_norm,     [OP_LINEAR] = node_linear,
        [OP_ROPE] = node_rope,       [OP_KV_WRITE] = node_kv_write, [OP_ATTEND] = node_attend,
        [OP_GATED] = node_gated,     [OP_ADD] = node_add,       [OP_SOFTCAP] = node_softcap,
        [OP_TAKE_ROWS] = node_take_rows};
    return functions[kind];
}
