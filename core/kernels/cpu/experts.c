/*
 * Mixtures of experts: choosing, grouping, and the products of each group.
 * Owner: none. Lifetime: the pass.
 */
#include "kernels/cpu/experts.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/program.h"

#define PIECES_A_THREAD 4u /* of all products together that a thread takes, or more */

/* ---- sizes ---- */

/* The matrices that an expert's input meets: gate and up, or up alone. */
typedef struct input_weights {
    const tensor *of[2];
    uint32_t n;
} input_weights;

static input_weights input_weights_of(const op_experts *x, uint32_t expert)
{
    return x->gate ? (input_weights){{&x->gate[expert], &x->up[expert]}, 2} : (input_weights){{&x->up[expert]}, 1};
}

void experts_size_add(experts_size *size, const op_experts *x, const linear_kernels *kernels)
{
    size->n_expert = x->n_expert > size->n_expert ? x->n_expert : size->n_expert;
    size->n_used = x->n_used > size->n_used ? x->n_used : size->n_used;
    size->n_in = x->n_in > size->n_in ? x->n_in : size->n_in;
    size->n_ff = x->n_ff > size->n_ff ? x->n_ff : size->n_ff;
    size->n_widest = size->n_in > size->n_ff ? size->n_in : size->n_ff;
    for (uint32_t i = 0; i < x->n_expert; i++) {
        input_weights in = input_weights_of(x, i);
        for (uint32_t j = 0; j < in.n; j++) {
            size->formats |= 1u << kernels->few[in.of[j]->type] | 1u << kernels->many[in.of[j]->type];
        }
        size->middle_formats |= 1u << kernels->few[x->down[i].type] | 1u << kernels->many[x->down[i].type];
    }
}

/* Packed inputs of one tile in all the formats that occur: gate and up may read different ones. */
static uint64_t tile_bytes(uint32_t formats, uint32_t n)
{
    uint64_t n_bytes = 0;
    for (uint32_t f = 0; f < LINEAR_FORMAT_COUNT; f++) {
        n_bytes += formats >> f & 1 ? linear_input_bytes((linear_format)f, LINEAR_TILE, n) + LINEAR_ALIGN : 0;
    }
    return n_bytes;
}

uint64_t experts_packed_bytes(const experts_size *size, uint64_t n_pairs, bool middle)
{
    uint64_t n_groups = n_pairs < size->n_expert ? n_pairs : size->n_expert;
    uint64_t n_tiles = n_pairs / LINEAR_TILE + n_groups; /* each group may end with a tile that is not full */
    return n_tiles * (middle ? tile_bytes(size->middle_formats, size->n_ff) : tile_bytes(size->formats, size->n_in));
}

uint64_t experts_row_bytes(const experts_size *size)
{
    return size->n_used *
           (sizeof(float) * (2 * (uint64_t)size->n_ff + size->n_in) +
            (tile_bytes(size->formats, size->n_in) + tile_bytes(size->middle_formats, size->n_ff)) / LINEAR_TILE);
}

/* ---- choosing ---- */

/* The most likely of what is left, the first of equals; taken out. */
static uint32_t take_best(double *choice, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = choice[i] > choice[best] ? i : best;
    }
    choice[best] = -INFINITY;
    return best;
}

/* Leaves the experts of the best groups, by the sum of the two best of each. */
static void choose_groups(const op_experts *x, double *choice)
{
    uint32_t n = x->n_expert / x->n_groups;
    double sums[EXPERTS_MAX];
    bool kept[EXPERTS_MAX] = {false};
    for (uint32_t g = 0; g < x->n_groups; g++) {
        double first = -INFINITY, second = -INFINITY;
        for (uint32_t i = g * n; i < (g + 1) * n; i++) {
            double c = choice[i];
            second = c > first ? first : c > second ? c : second;
            first = c > first ? c : first;
        }
        sums[g] = n > 1 && !x->groups_by_best ? first + second : first;
    }
    for (uint32_t i = 0; i < x->n_groups_used; i++) {
        kept[take_best(sums, x->n_groups)] = true;
    }
    for (uint32_t i = 0; i < x->n_expert; i++) {
        choice[i] = kept[i / n] ? choice[i] : -INFINITY;
    }
}

void experts_route(const op_experts *x, const float *logits, uint32_t *chosen, float *weights)
{
    double likely[EXPERTS_MAX], choice[EXPERTS_MAX], top = -INFINITY, sum = 0, w[EXPERTS_USED_MAX];
    for (uint32_t i = 0; i < x->n_expert; i++) {
        top = logits[i] > top ? logits[i] : top;
    }
    for (uint32_t i = 0; i < x->n_expert; i++) {
        double l = logits[i];
        likely[i] = x->routing == ROUTE_SIGMOID ? 1 / (1 + exp(-l)) : exp(l - top);
        sum += likely[i];
    }
    for (uint32_t i = 0; i < x->n_expert; i++) {
        likely[i] = x->routing == ROUTE_SOFTMAX ? likely[i] / sum : likely[i];
        choice[i] = likely[i] + (x->choice_bias ? (double)x->choice_bias[i] : 0);
        choice[i] = isnan(choice[i]) ? -INFINITY : choice[i];
    }
    if (x->n_groups > 1) {
        choose_groups(x, choice);
    }
    sum = 0;
    for (uint32_t k = 0; k < x->n_used; k++) {
        chosen[k] = take_best(choice, x->n_expert);
        w[k] = likely[chosen[k]];
        sum += w[k];
    }
    bool whole = x->normalise || x->routing == ROUTE_TOP_SOFTMAX;
    for (uint32_t k = 0; k < x->n_used; k++) {
        double scale = (double)x->scale * (x->expert_scales ? (double)x->expert_scales[chosen[k]] : 1);
        weights[k] = (float)(w[k] / (whole ? sum : 1) * scale);
    }
}

/* ---- grouping ---- */

/* Where an expert's packed inputs end: gate's, and up's where that reads another format. */
static size_t packed_end(const linear_kernels *k, const tensor *const *weights, uint32_t n_weights, uint32_t n_tokens,
                         size_t at)
{
    uint32_t formats = 0;
    for (uint32_t i = 0; i < n_weights; i++) {
        formats |= 1u << linear_format_for(k, weights[i]->type, n_tokens);
    }
    for (uint32_t f = 0; f < LINEAR_FORMAT_COUNT; f++) {
        if (formats >> f & 1) {
            at += (linear_input_bytes((linear_format)f, n_tokens, (uint32_t)weights[0]->shape[0]) + LINEAR_ALIGN - 1) &
                  ~(size_t)(LINEAR_ALIGN - 1);
        }
    }
    return at;
}

/* Sorts pairs by expert, rows of one in their order. One member does. */
static void group_pairs(const exec *e, const linear_kernels *k, const op_experts *x, uint32_t n_rows)
{
    const experts_work *w = &e->experts;
    uint32_t counts[EXPERTS_MAX] = {0}, n_groups = 0, at = 0;
    size_t input = 0, middle = 0;
    for (uint32_t i = 0; i < n_rows * x->n_used; i++) {
        counts[w->chosen[i]]++;
    }
    for (uint32_t i = 0; i < x->n_expert; i++) {
        uint32_t n = counts[i];
        counts[i] = at; /* from now on: where its next pair goes */
        if (n) {
            const tensor *out[] = {&x->down[i]};
            input_weights in = input_weights_of(x, i);
            w->groups[n_groups++] = (experts_group){
                .kernels = k, .expert = i, .first = at, .n = n, .input = input, .middle = middle};
            input = packed_end(k, in.of, in.n, n, input);
            middle = packed_end(k, out, 1, n, middle);
            at += n;
        }
    }
    w->groups[n_groups] = (experts_group){0};
    for (uint32_t i = 0; i < n_rows * x->n_used; i++) {
        w->place[i] = counts[w->chosen[i]]++;
        w->row[w->place[i]] = i / x->n_used;
    }
}

static void tell_chosen(const exec *e, const op *o)
{
    const experts_group *groups = e->experts.groups;
    uint32_t chosen[EXPERTS_MAX], n = 0;
    for (; groups[n].n; n++) {
        chosen[n] = groups[n].expert;
    }
    e->s.experts->use(e->s.experts->user, o, chosen, n);
}

/* ---- products ---- */

/* The packed inputs of a group: `of` by format, those of `needed` made. */
typedef struct group_inputs {
    linear_input of[LINEAR_FORMAT_COUNT];
    uint32_t needed;
} group_inputs;

static void inputs_of(const experts_group *g, const tensor *const *weights, uint32_t n_weights, uint8_t *at,
                      group_inputs *in)
{
    const uint32_t n_tokens = g->n;
    in->needed = 0;
    for (uint32_t i = 0; i < n_weights; i++) {
        in->needed |= 1u << linear_format_for(g->kernels, weights[i]->type, n_tokens);
    }
    for (uint32_t f = 0; f < LINEAR_FORMAT_COUNT; f++) {
        if (in->needed >> f & 1) {
            uint32_t n_in = (uint32_t)weights[0]->shape[0];
            in->of[f] = linear_input_make((linear_format)f, n_tokens, n_in, at);
            at += (linear_input_bytes((linear_format)f, n_tokens, n_in) + LINEAR_ALIGN - 1) &
                  ~(size_t)(LINEAR_ALIGN - 1);
        }
    }
}

/* Packs a group's pairs, tile by tile in turn with the other members; `job` counts tiles of all groups. */
static void pack_group(const exec *e, const experts_group *g, const group_inputs *in,
                       const float *(*row_of)(const exec *, const op *, uint32_t), const op *o,
                       const team_member *member, uint32_t *job)
{
    for (uint32_t tile = 0; tile < g->n; tile += LINEAR_TILE) {
        if ((*job)++ % member->n_threads != member->index) {
            continue;
        }
        for (uint32_t i = tile; i < g->n && i < tile + LINEAR_TILE; i++) {
            const float *src = row_of(e, o, g->first + i);
            for (uint32_t f = 0; f < LINEAR_FORMAT_COUNT; f++) {
                if (in->needed >> f & 1) {
                    linear_pack(g->kernels, &in->of[f], i, src);
                }
            }
        }
    }
}

static const float *input_row(const exec *e, const op *o, uint32_t pair)
{
    return exec_row(e, o->src, e->experts.row[pair]);
}

static const float *middle_row(const exec *e, const op *o, uint32_t pair)
{
    return e->experts.gate + (size_t)pair * o->experts->n_ff;
}

static void multiply(const experts_group *g, const tensor *weight, const group_inputs *in, const float *bias,
                     float *dst, uint32_t begin, uint32_t end, void *scratch)
{
    const linear_kernels *k = g->kernels;
    linear_weight w = linear_weight_of(weight);
    linear_output out = {.dst = dst, .stride = w.n_out, .bias = bias};
    linear_rows(k, &w, &in->of[linear_format_for(k, w.type, g->n)], &out, begin, end, scratch);
}

/* The weight of the pair that group_pairs has put at `place`. */
static float weight_at(const experts_work *w, const op_experts *x, uint32_t place)
{
    size_t pair = (size_t)w->row[place] * x->n_used;
    while (w->place[pair] != place) {
        pair++;
    }
    return w->weights[pair];
}

typedef struct adapted {
    uint32_t part, n_in, n_out; /* of gate, up and down, 0 to 2 */
    const float *(*row_of)(const exec *, const op *, uint32_t);
    float *dst; /* [group's pairs][n_out] */
} adapted;

/* What adapters add to columns [begin, end) of a group's products. Each row by itself: its bits depend on no other's.
 */
static void adapt_group(const exec *e, const node *n, const experts_group *g, const adapted *d, uint32_t begin,
                        uint32_t end)
{
    const op_experts *x = n->experts->experts;
    uint32_t hint = 0;
    for (uint32_t i = 0; x->adapts && i < g->n; i++) {
        const step_slice *slice = exec_slice(e, exec_whole_row(e, n, e->experts.row[g->first + i]), &hint);
        const float *src = slice->n_adapters ? d->row_of(e, n->experts, g->first + i) : NULL;
        for (uint32_t j = 0; j < slice->n_adapters; j++) {
            const adapter_product *p = &slice->adapters[j].products[x->product + d->part];
            if (p->rank == 0) { /* not of this adapter: a and b are NULL */
                continue;
            }
            const float *a = p->a + (size_t)g->expert * p->rank * d->n_in;
            const float *b = p->b + (size_t)g->expert * p->rank * d->n_out + begin;
            for (uint32_t r = 0; r < p->rank; r++) {
                float sum = e->prog->ops.dot(a + (size_t)r * d->n_in, src, d->n_in) * slice->adapters[j].scale;
                e->prog->ops.add(d->dst + (size_t)i * d->n_out + begin, b + (size_t)r * d->n_out, sum, end - begin);
            }
        }
    }
}

static void gate_up_piece(const exec *e, const node *n, const experts_group *g, uint32_t begin, uint32_t end,
                          void *scratch)
{
    const op_experts *x = n->experts->experts;
    const experts_work *w = &e->experts;
    input_weights weights = input_weights_of(x, g->expert);
    group_inputs in;
    inputs_of(g, weights.of, weights.n, w->input + g->input, &in);
    float *first = w->gate + (size_t)g->first * x->n_ff, *up = w->up + (size_t)g->first * x->n_ff;
    size_t bias = (size_t)g->expert * x->n_ff;
    const float *up_bias = x->up_bias ? x->up_bias + bias : NULL;
    const float *first_bias = !x->gate ? up_bias : x->gate_bias ? x->gate_bias + bias : NULL;
    multiply(g, weights.of[0], &in, first_bias, first, begin, end, scratch);
    if (x->gate) {
        multiply(g, weights.of[1], &in, up_bias, up, begin, end, scratch);
        adapt_group(e, n, g, &(adapted){0, x->n_in, x->n_ff, input_row, first}, begin, end);
    }
    adapt_group(e, n, g, &(adapted){1, x->n_in, x->n_ff, input_row, x->gate ? up : first}, begin, end);
    for (uint32_t i = 0; i < g->n; i++) {
        size_t at = (size_t)i * x->n_ff + begin;
        if (x->weigh_input) { /* products are of w x what they are of x, times w */
            float weight = weight_at(w, x, g->first + i);
            e->prog->ops.scale(first + at, weight, end - begin);
            e->prog->ops.scale(up + at, weight, x->gate ? end - begin : 0);
        }
        e->prog->ops.gated(x->act, first + at, x->gate ? up + at : NULL, end - begin);
    }
}

static void down_piece(const exec *e, const node *n, const experts_group *g, uint32_t begin, uint32_t end,
                       void *scratch)
{
    const op_experts *x = n->experts->experts;
    const experts_work *w = &e->experts;
    const tensor *down[] = {&x->down[g->expert]};
    group_inputs in;
    inputs_of(g, down, 1, w->middle + g->middle, &in);
    float *out = w->out + (size_t)g->first * x->n_in;
    multiply(g, down[0], &in, x->down_bias ? x->down_bias + (size_t)g->expert * x->n_in : NULL, out, begin, end,
             scratch);
    adapt_group(e, n, g, &(adapted){2, x->n_ff, x->n_in, middle_row, out}, begin, end);
}

typedef void piece_fn(const exec *e, const node *n, const experts_group *g, uint32_t begin, uint32_t end,
                      void *scratch);

/* All groups' products in pieces of weight rows, which members take in turn. */
static void run_pieces(const exec *e, uint32_t index, uint32_t phase, uint32_t n_out, piece_fn *run,
                       const team_member *member)
{
    const experts_group *groups = e->experts.groups;
    uint32_t n_groups = 0;
    while (groups[n_groups].n) {
        n_groups++;
    }
    uint32_t grains = (n_out + LINEAR_ROW_GRAIN - 1) / LINEAR_ROW_GRAIN;
    uint32_t n_pieces = (member->n_threads * PIECES_A_THREAD + n_groups - 1) / n_groups; /* of each */
    n_pieces = n_pieces < grains ? n_pieces : grains;
    uint32_t piece = (grains + n_pieces - 1) / n_pieces * LINEAR_ROW_GRAIN;
    n_pieces = (n_out + piece - 1) / piece;
    void *scratch = exec_private(e, member);
    for (uint32_t i = exec_next(e, index, phase); i < n_groups * n_pieces; i = exec_next(e, index, phase)) {
        uint32_t begin = i % n_pieces * piece, end = n_out - begin < piece ? n_out : begin + piece;
        run(e, &e->prog->nodes[index], &groups[i / n_pieces], begin, end, scratch);
    }
}

static void combine(const exec *e, const op *o, uint32_t row)
{
    const op_experts *x = o->experts;
    const experts_work *w = &e->experts;
    float *dst = exec_row(e, o->dst, row);
    memset(dst, 0, x->n_in * sizeof *dst);
    for (uint32_t k = 0; k < x->n_used; k++) {
        size_t pair = (size_t)row * x->n_used + k;
        float weight = x->weigh_input ? 1 : w->weights[pair];
        e->prog->ops.add(dst, w->out + (size_t)w->place[pair] * x->n_in, weight, x->n_in);
    }
}

/* What the gates and ups, or the downs, of all groups meet. */
static void show_groups(const exec *e, const op *o, bool middle, const team_member *member)
{
    const step_observer *seen = e->s.observer;
    const op_experts *x = o->experts;
    const experts_work *w = &e->experts;
    for (const experts_group *g = w->groups; seen && g->n; g++) {
        observed_rows rows = {
            .data = e->slots[o->src].data, .stride = e->slots[o->src].stride, .order = w->row + g->first, .n = g->n};
        if (middle) {
            rows = (observed_rows){.data = middle_row(e, o, g->first), .stride = x->n_ff, .n = g->n};
            seen->see(seen->user, x->down[g->expert].data, x->n_ff, &rows, member->index, member->n_threads);
        } else {
            input_weights in = input_weights_of(x, g->expert);
            for (uint32_t i = 0; i < in.n; i++) {
                seen->see(seen->user, in.of[i]->data, x->n_in, &rows, member->index, member->n_threads);
            }
        }
    }
}

void program_run_experts(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    const op *o = n->experts;
    const op_experts *x = o->experts;
    const experts_work *w = &e->experts;
    uint32_t rows = exec_rows(e, n), begin, end, job = 0;
    team_share(member, rows, 1, &begin, &end);
    for (uint32_t row = begin; row < end; row++) {
        size_t at = (size_t)row * x->n_used;
        experts_route(x, exec_row(e, SLOT_R, row), w->chosen + at, w->weights + at);
    }
    team_barrier(member);
    if (member->index == 0) {
        group_pairs(e, n->kernels, x, rows);
        if (e->s.experts) {
            tell_chosen(e, o);
        }
    }
    team_barrier(member);
    group_inputs in;
    for (const experts_group *g = w->groups; g->n; g++) {
        input_weights weights = input_weights_of(x, g->expert);
        inputs_of(g, weights.of, weights.n, w->input + g->input, &in);
        pack_group(e, g, &in, input_row, o, member, &job);
    }
    team_barrier(member);
    show_groups(e, o, false, member);
    run_pieces(e, index, 0, x->n_ff, gate_up_piece, member);
    team_barrier(member);
    for (const experts_group *g = w->groups; g->n; g++) {
        const tensor *down[] = {&x->down[g->expert]};
        inputs_of(g, down, 1, w->middle + g->middle, &in);
        pack_group(e, g, &in, middle_row, o, member, &job);
    }
    team_barrier(member);
    show_groups(e, o, true, member);
    run_pieces(e, index, 1, x->n_in, down_piece, member);
    team_barrier(member);
    for (uint32_t row = begin; row < end; row++) {
        combine(e, o, row);
    }
}
