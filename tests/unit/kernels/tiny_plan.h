/*
 * A tiny random model as a plan, KV pages for it, and steps of it: what the program tests run.
 * Owner: the test. Lifetime: tiny_open to tiny_close.
 */
#ifndef MLXR_TINY_PLAN_H
#define MLXR_TINY_PLAN_H

#include <math.h>

#include "base/region.h"
#include "kernels/backend.h"
#include "quant/codec.h"
#include "support/test.h"

typedef struct tiny_options {
    uint32_t n_layers, n_embd, n_head, n_head_kv, head_dim, n_ff, n_vocab;
    uint32_t window; /* every layer but the last of each three looks back this far; 0: none */
    uint32_t n_rot;  /* 0: head_dim */
    rope_kind rope;
    norm_kind norm;
    activation act;
    bool qk_norm, post_norm, biases, sinks;
    bool scans;    /* the second of each three layers is recurrent */
    float softcap; /* of attention and of the logits */
    dtype weights; /* F32 (0) or anything whose blocks divide the widths */
} tiny_options;

typedef struct tiny {
    tiny_options o;
    plan p;
    region memory;
    uint64_t seed;
    op ops[512];
} tiny;

static inline float tiny_uniform(uint64_t *seed)
{
    return (float)(test_random(seed) >> 40) * 0x1p-23f - 1.0f;
}

static inline float *tiny_values(tiny *t, uint32_t n, float centre, float spread)
{
    float *v = region_array(&t->memory, n, sizeof *v);
    for (uint32_t i = 0; i < n; i++) {
        v[i] = centre + spread * tiny_uniform(&t->seed);
    }
    return v;
}

static inline const tensor *tiny_tensor(tiny *t, dtype type, uint32_t n_in, uint32_t n_out, float centre, float spread)
{
    tensor *w = region_array(&t->memory, 1, sizeof *w);
    float *values = tiny_values(t, n_in * n_out, centre, spread);
    *w = (tensor){.name = "w", .type = type, .n_dims = 2, .shape = {n_in, n_out, 1, 1}};
    w->row_bytes = dtype_row_bytes(type, n_in);
    w->n_bytes = w->row_bytes * n_out;
    uint8_t *data = region_alloc(&t->memory, w->n_bytes);
    for (uint32_t j = 0; j < n_out; j++) {
        if (type == DTYPE_F32) {
            memcpy(data + j * w->row_bytes, values + (size_t)j * n_in, w->row_bytes);
        } else {
            codec_encode(type, values + (size_t)j * n_in, data + j * w->row_bytes, n_in, NULL);
        }
    }
    w->data = data;
    return w;
}

static inline op *tiny_op(tiny *t, op_kind kind, uint32_t layer, slot dst, slot src, uint32_t width)
{
    op *o = &t->ops[t->p.n_ops++];
    *o = (op){.kind = kind, .layer = (uint16_t)layer, .dst = dst, .src = src, .width = width, .scale = 1.0f};
    return o;
}

static inline void tiny_norm(tiny *t, uint32_t layer, slot dst, slot src, uint32_t width, uint32_t group)
{
    op *o = tiny_op(t, OP_NORM, layer, dst, src, width);
    o->norm = (op_norm){.kind = t->o.norm, .width = group, .eps = 1e-5f};
    o->weight = tiny_tensor(t, DTYPE_F32, group, 1, 1.0f, 0.3f);
    o->bias = t->o.biases && t->o.norm == NORM_LAYER ? tiny_tensor(t, DTYPE_F32, group, 1, 0, 0.2f) : NULL;
}

static inline void tiny_linear(tiny *t, uint32_t layer, slot dst, slot src, uint32_t n_in, uint32_t n_out)
{
    op *o = tiny_op(t, OP_LINEAR, layer, dst, src, n_out);
    o->weight = tiny_tensor(t, t->o.weights, n_in, n_out, 0, 1.7f / sqrtf((float)n_in));
    o->bias = t->o.biases ? tiny_tensor(t, DTYPE_F32, n_out, 1, 0, 0.3f) : NULL;
}

static inline void tiny_attention(tiny *t, uint32_t layer)
{
    const tiny_options *o = &t->o;
    uint32_t n_q = o->n_head * o->head_dim, n_kv = o->n_head_kv * o->head_dim,
             n_rot = o->n_rot ? o->n_rot : o->head_dim;
    bool windowed = o->window && layer % 3 != 2;
    tiny_norm(t, layer, SLOT_N, SLOT_X, o->n_embd, o->n_embd);
    tiny_linear(t, layer, SLOT_Q, SLOT_N, o->n_embd, n_q);
    tiny_linear(t, layer, SLOT_K, SLOT_N, o->n_embd, n_kv);
    tiny_linear(t, layer, SLOT_V, SLOT_N, o->n_embd, n_kv);
    if (o->qk_norm) {
        tiny_norm(t, layer, SLOT_Q, SLOT_Q, n_q, o->head_dim);
        tiny_norm(t, layer, SLOT_K, SLOT_K, n_kv, o->head_dim);
    }
    float *inv_freq = region_array(&t->memory, n_rot / 2, sizeof *inv_freq);
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        inv_freq[i] = powf(windowed ? 100.0f : 10000.0f, -2.0f * (float)i / (float)n_rot);
    }
    op_rope rope = {.kind = o->rope, .head_dim = o->head_dim, .n_rot = n_rot, .inv_freq = inv_freq, .magnitude = 1};
    tiny_op(t, OP_ROPE, layer, SLOT_Q, SLOT_NONE, n_q)->rope = rope;
    tiny_op(t, OP_ROPE, layer, SLOT_K, SLOT_NONE, n_kv)->rope = rope;
    op_attend a = {.n_head = o->n_head,
                   .n_head_kv = o->n_head_kv,
                   .head_dim = o->head_dim,
                   .scale = 1.0f / sqrtf((float)o->head_dim),
                   .softcap = o->softcap,
                   .window = windowed ? o->window : 0,
                   .kv_group = (uint16_t)(windowed ? 1 : 0),
                   .sinks = o->sinks ? tiny_values(t, o->n_head, 0, 2.0f) : NULL};
    a.kv_layer = (uint16_t)t->p.kv_groups[a.kv_group].n_layers++;
    tiny_op(t, OP_KV_WRITE, layer, SLOT_NONE, SLOT_NONE, n_kv)->attend = a;
    tiny_op(t, OP_ATTEND, layer, SLOT_A, SLOT_Q, n_q)->attend = a;
    tiny_linear(t, layer, SLOT_O, SLOT_A, n_q, o->n_embd);
    if (o->post_norm) {
        tiny_norm(t, layer, SLOT_O, SLOT_O, o->n_embd, o->n_embd);
    }
    tiny_op(t, OP_ADD, layer, SLOT_X, SLOT_O, o->n_embd);
}

/* silu(gate) ∘ decaying sum of what came so far */
static inline void tiny_recurrent(tiny *t, uint32_t layer)
{
    const tiny_options *o = &t->o;
    uint32_t n = o->n_head * o->head_dim;
    tiny_norm(t, layer, SLOT_N, SLOT_X, o->n_embd, o->n_embd);
    tiny_linear(t, layer, SLOT_A, SLOT_N, o->n_embd, n);
    op *scan = tiny_op(t, OP_SCAN, layer, SLOT_A, SLOT_NONE, n);
    scan->weight = tiny_tensor(t, DTYPE_F32, n, 1, 0.6f, 0.35f);
    scan->state.kv_group = (uint16_t)(t->p.n_kv_groups - 1);
    scan->state.kv_layer = (uint16_t)t->p.kv_groups[scan->state.kv_group].n_layers++;
    tiny_linear(t, layer, SLOT_Q, SLOT_N, o->n_embd, n);
    tiny_op(t, OP_GATED, layer, SLOT_Q, SLOT_A, n)->act = ACT_SILU;
    tiny_linear(t, layer, SLOT_O, SLOT_Q, n, o->n_embd);
    if (o->post_norm) {
        tiny_norm(t, layer, SLOT_O, SLOT_O, o->n_embd, o->n_embd);
    }
    tiny_op(t, OP_ADD, layer, SLOT_X, SLOT_O, o->n_embd);
}

static inline void tiny_mlp(tiny *t, uint32_t layer)
{
    const tiny_options *o = &t->o;
    tiny_norm(t, layer, SLOT_N, SLOT_X, o->n_embd, o->n_embd);
    tiny_linear(t, layer, SLOT_G, SLOT_N, o->n_embd, o->n_ff);
    tiny_linear(t, layer, SLOT_U, SLOT_N, o->n_embd, o->n_ff);
    tiny_op(t, OP_GATED, layer, SLOT_G, SLOT_U, o->n_ff)->act = o->act;
    tiny_linear(t, layer, SLOT_O, SLOT_G, o->n_ff, o->n_embd);
    if (o->post_norm) {
        tiny_norm(t, layer, SLOT_O, SLOT_O, o->n_embd, o->n_embd);
    }
    tiny_op(t, OP_ADD, layer, SLOT_X, SLOT_O, o->n_embd);
}

static inline void tiny_open(tiny *t, const tiny_options *options)
{
    *t = (tiny){.o = *options, .seed = 42};
    const tiny_options *o = &t->o;
    plan *p = &t->p;
    p->ops = t->ops;
    p->n_vocab = o->n_vocab;
    p->n_embd = o->n_embd;
    p->n_layers = o->n_layers;
    p->kv_groups[p->n_kv_groups++] = (kv_group){.n_head_kv = o->n_head_kv, .head_dim = o->head_dim};
    if (o->window) {
        p->kv_groups[p->n_kv_groups++] = (kv_group){
            .n_head_kv = o->n_head_kv, .head_dim = o->head_dim, .window = o->window};
    }
    if (o->scans) {
        p->kv_groups[p->n_kv_groups++] = (kv_group){.state_width = o->n_head * o->head_dim};
    }
    const uint32_t widths[SLOT_COUNT] = {[SLOT_X] = o->n_embd,
                                         [SLOT_N] = o->n_embd,
                                         [SLOT_Q] = o->n_head * o->head_dim,
                                         [SLOT_K] = o->n_head_kv * o->head_dim,
                                         [SLOT_V] = o->n_head_kv * o->head_dim,
                                         [SLOT_A] = o->n_head * o->head_dim,
                                         [SLOT_O] = o->n_embd,
                                         [SLOT_G] = o->n_ff,
                                         [SLOT_U] = o->n_ff,
                                         [SLOT_LOGITS] = o->n_vocab};
    memcpy(p->slot_width, widths, sizeof widths);
    op *embed = tiny_op(t, OP_EMBED, 0, SLOT_X, SLOT_NONE, o->n_embd);
    embed->weight = tiny_tensor(t, o->weights, o->n_embd, o->n_vocab, 0, 1.0f);
    embed->scale = 1.5f;
    for (uint32_t i = 0; i < o->n_layers; i++) {
        if (o->scans && i % 3 == 1) {
            tiny_recurrent(t, i);
        } else {
            tiny_attention(t, i);
        }
        tiny_mlp(t, i);
    }
    tiny_op(t, OP_TAKE_ROWS, o->n_layers, SLOT_X, SLOT_NONE, o->n_embd);
    tiny_norm(t, o->n_layers, SLOT_N, SLOT_X, o->n_embd, o->n_embd);
    tiny_linear(t, o->n_layers, SLOT_LOGITS, SLOT_N, o->n_embd, o->n_vocab);
    if (o->softcap > 0) {
        tiny_op(t, OP_SOFTCAP, o->n_layers, SLOT_LOGITS, SLOT_NONE, o->n_vocab)->scale = o->softcap;
    }
}

static inline void tiny_close(tiny *t)
{
    region_close(&t->memory);
}

/* A backend with the plan prepared and one KV arena, every byte of it NaN. */
typedef struct rig {
    const backend_ops *ops;
    backend *b;
    program *prog;
    const tiny *t;
    kv_memory kv;
    size_t kv_bytes[KV_GROUPS_MAX];
    uint32_t n_pages;
    int32_t *greatest; /* of the next steps, or NULL */
    step_reads reads;  /* likewise */
    bool only_last;    /* likewise: of each timeline, the last row's logits alone are wanted */
    mlxr_error error;
} rig;

static inline void rig_open(rig *r, const tiny *t, bool scalar, uint32_t n_threads, cpu_features features,
                            dtype kv_type, uint32_t page_tokens, uint32_t n_pages)
{
    *r = (rig){.ops = &backend_cpu, .t = t, .n_pages = n_pages};
    backend_options options = {.n_threads = n_threads, .features = features, .scalar = scalar};
    assert_ok(r->ops->open(&r->b, &options, &r->error), &r->error);
    assert_ok(r->ops->prepare(r->b, &t->p, &r->prog, &r->error), &r->error);
    for (uint32_t g = 0; g < t->p.n_kv_groups; g++) {
        r->kv.layout[g] = kv_layout_make(&t->p.kv_groups[g], kv_type, page_tokens);
        r->kv_bytes[g] = n_pages * r->kv.layout[g].page_bytes;
        assert_ok(r->ops->kv_alloc(r->b, r->kv_bytes[g], &r->kv.base[g], &r->error), &r->error);
        memset(r->kv.base[g], 0xff, r->kv_bytes[g]); /* NaN in every KV type */
    }
}

static inline void rig_close(rig *r)
{
    for (uint32_t g = 0; g < r->t->p.n_kv_groups; g++) {
        r->ops->kv_free(r->b, &r->kv.base[g], r->kv_bytes[g]);
    }
    r->ops->release(r->b, &r->prog);
    r->ops->close(&r->b);
}

/* One sequence in a rig: its page tables (position → page), the same for all groups. */
typedef struct timeline {
    uint32_t pages[KV_GROUPS_MAX][512]; /* recurrent groups: states are kept in the first two by turns */
    uint32_t n_computed, n_steps;
    const int32_t *tokens;
} timeline;

/* Pages first, first + stride, … (modulo the arena). */
static inline timeline timeline_make(const rig *r, const int32_t *tokens, uint32_t first, uint32_t stride)
{
    timeline s = {.tokens = tokens};
    for (uint32_t g = 0; g < KV_GROUPS_MAX; g++) {
        for (uint32_t i = 0; i < 512; i++) {
            s.pages[g][i] = (first + i * stride) % r->n_pages;
        }
    }
    return s;
}

/* Computes the next n[i] tokens of each of n_lines timelines in one step; logits of every row that is wanted go to
 * logits[row][n_vocab], in the order of the timelines. */
static inline void rig_step(rig *r, timeline **lines, const uint32_t *n, uint32_t n_lines, float *logits)
{
    enum { ROWS_MAX = 2048 };
    static int32_t tokens[ROWS_MAX], positions[ROWS_MAX];
    static uint32_t wanted[ROWS_MAX], states[KV_GROUPS_MAX][ROWS_MAX + 64];
    step_slice slices[64];
    step s = {.tokens = tokens,
              .positions = positions,
              .slices = slices,
              .n_slices = n_lines,
              .wanted = wanted,
              .kv = r->kv,
              .greatest = r->greatest,
              .reads = r->reads,
              .logits = logits};
    for (uint32_t i = 0; i < n_lines; i++) {
        timeline *line = lines[i];
        slices[i] = (step_slice){.first_row = s.n_rows, .n_rows = n[i], .start = line->n_computed};
        for (uint32_t g = 0; g < KV_GROUPS_MAX; g++) {
            uint32_t *state = &states[g][s.n_rows + i]; /* [n + 1] */
            bool recurrent = r->kv.layout[g].state_width != 0;
            memset(state, 0xff, (n[i] + 1) * sizeof *state); /* KV_PAGE_NONE */
            state[0] = line->n_computed ? line->pages[g][line->n_steps % 2] : KV_PAGE_NONE;
            state[n[i]] = line->pages[g][(line->n_steps + 1) % 2];
            slices[i].pages[g] = recurrent ? state : line->pages[g];
        }
        line->n_steps++;
        for (uint32_t j = 0; j < n[i]; j++) {
            assert_true(s.n_rows < ROWS_MAX);
            tokens[s.n_rows] = line->tokens[line->n_computed];
            positions[s.n_rows] = (int32_t)line->n_computed++;
            if (!r->only_last || j + 1 == n[i]) {
                wanted[s.n_wanted++] = s.n_rows;
            }
            s.n_rows++;
        }
    }
    assert_ok(r->ops->run(r->b, r->prog, &s, &r->error), &r->error);
}

/* All logits of `n` tokens of one timeline, computed `chunk` at a time. */
static inline void rig_compute(rig *r, timeline *line, uint32_t n, uint32_t chunk, float *logits)
{
    for (uint32_t done = 0; done < n;) {
        uint32_t now = n - done < chunk ? n - done : chunk;
        rig_step(r, &line, &now, 1, logits + (size_t)done * r->t->o.n_vocab);
        done += now;
    }
}

static inline int32_t *tiny_tokens(tiny *t, uint32_t n)
{
    int32_t *tokens = region_array(&t->memory, n, sizeof *tokens);
    for (uint32_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)(test_random(&t->seed) % t->o.n_vocab);
    }
    return tokens;
}

/* Σ(a − b)² / Σb² */
static inline double tiny_nmse(const float *a, const float *b, size_t n)
{
    double error = 0, energy = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        energy += (double)b[i] * b[i];
    }
    return error / energy;
}

/* n tokens from the start, with all logits; `greatest`: or, where it is not −1 then, which one is the greatest of a
 * row. */
static inline void rig_logits(rig *r, const int32_t *tokens, uint32_t n, int32_t *greatest, float *logits)
{
    timeline line = timeline_make(r, tokens, 0, 1);
    timeline *lines = &line;
    for (uint32_t i = 0; greatest && i < n; i++) {
        greatest[i] = -1;
    }
    r->greatest = greatest;
    rig_step(r, &lines, &n, 1, logits);
}

/* The first of the greatest ones; −1: none is above −infinity. */
static inline int32_t greatest_of(const float *row, uint32_t n)
{
    int32_t at = -1;
    float most = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (row[i] > most) {
            most = row[i];
            at = (int32_t)i;
        }
    }
    return at;
}

static inline const tensor *tiny_logits_matrix(const tiny *t)
{
    const op *last = &t->ops[t->p.n_ops - 1];
    return last->kind == OP_LINEAR ? last->weight : last[-1].weight; /* a softcap may follow */
}

static inline uint8_t *tiny_logits_row(const tiny *t, uint32_t row)
{
    const tensor *w = tiny_logits_matrix(t);
    return (uint8_t *)(uintptr_t)w->data + row * w->row_bytes;
}

/* Row 0 of a matrix of Q8_0 over its first n, but for one weight each, which differs by the least there is. */
static inline void tiny_logits_alike(const tiny *t, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        memcpy(tiny_logits_row(t, i), tiny_logits_row(t, 0), tiny_logits_matrix(t)->row_bytes);
        int8_t *weight = (int8_t *)tiny_logits_row(t, i) + i % 8 * 34 + 2 + i % 32;
        *weight = (int8_t)(*weight > 0 ? *weight - 1 : *weight + 1);
    }
}

/* A rig that may find greatest logits in any way, beside one that is only asked for whole rows. */
typedef struct logits_pair {
    rig r, reference;
    uint32_t n_vocab, n_rows; /* n_rows: of a pass, at most */
    int32_t *tokens;          /* random ones; the tiny model's memory has them */
    int32_t greatest[64];     /* of the last check */
    float *whole, *got;       /* [n_rows][n_vocab] */
} logits_pair;

static inline logits_pair logits_pair_open(tiny *t, uint32_t n_rows, uint32_t n_tokens, uint32_t n_threads,
                                           cpu_features features)
{
    logits_pair p = {.n_vocab = t->o.n_vocab, .n_rows = n_rows, .tokens = tiny_tokens(t, n_tokens)};
    p.whole = calloc(n_rows * (size_t)p.n_vocab, sizeof *p.whole);
    p.got = calloc(n_rows * (size_t)p.n_vocab, sizeof *p.got);
    assert_true(p.whole && p.got && n_rows <= sizeof p.greatest / sizeof *p.greatest);
    rig_open(&p.r, t, false, n_threads, features, DTYPE_F32, 64, 2);
    rig_open(&p.reference, t, false, n_threads, features, DTYPE_F32, 64, 2);
    return p;
}

static inline void logits_pair_close(logits_pair *p)
{
    rig_close(&p->r);
    rig_close(&p->reference);
    free(p->whole);
    free(p->got);
}

/* What passes of these tokens, or of the first of them, have to give. */
static inline void logits_pair_expect(logits_pair *p, const int32_t *tokens, uint32_t n)
{
    assert_true(n <= p->n_rows);
    rig_logits(&p->reference, tokens, n, NULL, p->whole);
}

/* A pass that wants the greatest names the one that whole rows have, or leaves whole rows; `all`: it wants whole rows.
 * Returns how many rows it names. */
static inline uint32_t logits_pair_check(logits_pair *p, const int32_t *tokens, uint32_t n, bool all)
{
    uint32_t n_named = 0;
    assert_true(n <= p->n_rows);
    rig_logits(&p->r, tokens, n, all ? NULL : p->greatest, p->got);
    for (uint32_t i = 0; i < n; i++) {
        const float *row = p->whole + (size_t)i * p->n_vocab;
        if (all || p->greatest[i] == -1) {
            assert_memory_equal(p->got + (size_t)i * p->n_vocab, row, p->n_vocab * sizeof *row);
        } else {
            assert_int_equal(p->greatest[i], greatest_of(row, p->n_vocab));
            n_named++;
        }
    }
    return n_named;
}

#endif
