/*
 * Graph: family row + hyper-parameters + tensors → plan.
 * Owner: the model. Lifetime: graph_build to graph_close.
 */
#include "graph/graph.h"

#include <stdlib.h>

#include "base/error.h"
#include "graph/rope.h"
#include "kernels/step_profile.h"

#define OPS_PER_LAYER_MAX 24u
#define OPS_GLOBAL 8u

typedef struct builder {
    graph *g;
    op *ops;
    uint32_t n_ops;
    uint16_t layer;
    op_rope rope_full, rope_local; /* head_dim, n_rot, frequencies */
    uint16_t group_full, group_window;
    uint16_t n_full, n_window; /* layers placed in each group so far */
} builder;

static op *add(builder *b, op_kind kind, slot dst, slot src)
{
    op *o = &b->ops[b->n_ops++];
    *o = (op){.kind = kind, .layer = b->layer, .dst = dst, .src = src, .width = b->g->plan.slot_width[dst], .scale = 1};
    return o;
}

static void add_norm(builder *b, slot dst, slot src, const tensor *weight, uint32_t width)
{
    op *o = add(b, OP_NORM, dst, src);
    o->weight = weight;
    o->norm = (op_norm){.kind = NORM_RMS, .width = width, .eps = b->g->h.norm_eps};
}

static void add_linear(builder *b, slot dst, slot src, const tensor *weight, const tensor *bias)
{
    op *o = add(b, OP_LINEAR, dst, src);
    o->weight = weight;
    o->bias = bias;
}

static void add_attention(builder *b, const layer_weights *w, bool window)
{
    const hparams *h = &b->g->h;
    add_norm(b, SLOT_N, SLOT_X, w->attn_norm, h->n_embd);
    add_linear(b, SLOT_Q, SLOT_N, w->q, w->q_bias);
    add_linear(b, SLOT_K, SLOT_N, w->k, w->k_bias);
    add_linear(b, SLOT_V, SLOT_N, w->v, w->v_bias);
    if (w->q_norm) {
        add_norm(b, SLOT_Q, SLOT_Q, w->q_norm, h->head_dim);
    }
    if (w->k_norm) {
        add_norm(b, SLOT_K, SLOT_K, w->k_norm, h->head_dim);
    }
    if (h->n_rot) {
        const op_rope *rope = window && h->rope_theta_local > 0 ? &b->rope_local : &b->rope_full;
        add(b, OP_ROPE, SLOT_Q, SLOT_Q)->rope = *rope;
        add(b, OP_ROPE, SLOT_K, SLOT_K)->rope = *rope;
    }
    op_attend attend = {.n_head = h->n_head,
                        .n_head_kv = h->n_head_kv,
                        .head_dim = h->head_dim,
                        .scale = h->attn_scale,
                        .softcap = h->attn_softcap,
                        .window = window ? h->window : 0,
                        .kv_group = window ? b->group_window : b->group_full,
                        .kv_layer = window ? b->n_window++ : b->n_full++};
    add(b, OP_KV_WRITE, SLOT_K, SLOT_K)->attend = attend;
    add(b, OP_ATTEND, SLOT_A, SLOT_Q)->attend = attend;
    add_linear(b, SLOT_O, SLOT_A, w->attn_out, w->attn_out_bias);
    if (w->post_attn_norm) {
        add_norm(b, SLOT_O, SLOT_O, w->post_attn_norm, h->n_embd);
    }
    add(b, OP_ADD, SLOT_X, SLOT_O);
}

static void add_mlp(builder *b, const layer_weights *w)
{
    const hparams *h = &b->g->h;
    add_norm(b, SLOT_N, SLOT_X, w->ffn_norm, h->n_embd);
    add_linear(b, SLOT_G, SLOT_N, w->gate, w->gate_bias);
    add_linear(b, SLOT_U, SLOT_N, w->up, w->up_bias);
    add(b, OP_GATED, SLOT_G, SLOT_U)->act = h->fam->act;
    add_linear(b, SLOT_O, SLOT_G, w->down, w->down_bias);
    if (w->post_ffn_norm) {
        add_norm(b, SLOT_O, SLOT_O, w->post_ffn_norm, h->n_embd);
    }
    add(b, OP_ADD, SLOT_X, SLOT_O);
}

static void add_layers(builder *b)
{
    const hparams *h = &b->g->h;
    const model_weights *w = &b->g->weights;
    b->layer = STEP_NO_LAYER;
    op *embed = add(b, OP_EMBED, SLOT_X, SLOT_NONE);
    embed->weight = w->embedding;
    embed->scale = h->embedding_scale;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        b->layer = (uint16_t)i;
        add_attention(b, &w->layers[i], h->layer_has_window[i]);
        if (i + 1 == h->n_layers) { /* from here on only the rows whose logits are wanted matter */
            add(b, OP_TAKE_ROWS, SLOT_X, SLOT_X);
        }
        add_mlp(b, &w->layers[i]);
    }
    b->layer = STEP_NO_LAYER;
    add_norm(b, SLOT_N, SLOT_X, w->output_norm, h->n_embd);
    add_linear(b, SLOT_LOGITS, SLOT_N, w->output, NULL);
    if (h->final_softcap > 0) {
        add(b, OP_SOFTCAP, SLOT_LOGITS, SLOT_LOGITS)->scale = h->final_softcap;
    }
}

static void set_slots(plan *p, const hparams *h)
{
    uint32_t q = h->n_head * h->head_dim, kv = h->n_head_kv * h->head_dim;
    p->slot_width[SLOT_X] = p->slot_width[SLOT_N] = p->slot_width[SLOT_O] = h->n_embd;
    p->slot_width[SLOT_Q] = p->slot_width[SLOT_A] = q;
    p->slot_width[SLOT_K] = p->slot_width[SLOT_V] = kv;
    p->slot_width[SLOT_G] = p->slot_width[SLOT_U] = h->n_ff;
    p->slot_width[SLOT_LOGITS] = h->n_vocab;
}

/* Layers of one group share a page table; window layers have their own, because their old pages can be dropped. */
static void set_groups(builder *b)
{
    const hparams *h = &b->g->h;
    plan *p = &b->g->plan;
    uint32_t n_window = 0;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        n_window += h->layer_has_window[i];
    }
    kv_group full = {.n_layers = h->n_layers - n_window, .n_head_kv = h->n_head_kv, .head_dim = h->head_dim};
    kv_group window = {.n_layers = n_window, .n_head_kv = h->n_head_kv, .head_dim = h->head_dim, .window = h->window};
    if (full.n_layers) {
        b->group_full = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = full;
    }
    if (window.n_layers) {
        b->group_window = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = window;
    }
}

static mlxr_status set_ropes(builder *b, const model_file *file, mlxr_error *error)
{
    const hparams *h = &b->g->h;
    uint32_t n_pairs = h->n_rot / 2;
    float *full = region_array(&b->g->memory, n_pairs, sizeof *full);
    float *local = region_array(&b->g->memory, n_pairs, sizeof *local);
    if (!full || !local) {
        return error_nomem(error, "RoPE frequencies", 2 * n_pairs * sizeof *full);
    }
    const tensor *factors = b->g->weights.rope_freqs;
    if (factors && (uintptr_t)factors->data % sizeof(float) != 0) {
        return error_set(error, MLXR_FORMAT, "tensor '%s' is not aligned", factors->name);
    }
    rope_kind kind = file->rope_halves ? ROPE_HALVES : h->fam->gguf_rope;
    b->rope_full = (op_rope){.kind = kind, .head_dim = h->head_dim, .n_rot = h->n_rot, .inv_freq = full};
    b->rope_local = b->rope_full;
    b->rope_local.inv_freq = local;
    rope_frequencies(h->n_rot, h->rope_theta, &h->scaling, factors ? factors->data : NULL, full,
                     &b->rope_full.magnitude);
    if (h->rope_theta_local > 0) {
        const rope_scaling none = {.kind = ROPE_SCALING_NONE};
        rope_frequencies(h->n_rot, h->rope_theta_local, &none, NULL, local, &b->rope_local.magnitude);
    }
    return MLXR_OK;
}

static void count_bytes(graph *g, const model_file *file)
{
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i];
        g->weight_bytes += t->n_bytes;
        g->n_params += t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
    }
    g->bytes_per_token = g->weight_bytes;
    if (g->weights.output != g->weights.embedding) {
        g->bytes_per_token -= g->weights.embedding->n_bytes - g->weights.embedding->row_bytes;
    }
}

mlxr_status graph_build(graph **out, const model_file *file, mlxr_error *error)
{
    graph *g = calloc(1, sizeof *g);
    if (!g) {
        return error_nomem(error, "model graph", sizeof *g);
    }
    builder b = {.g = g};
    mlxr_status status = hparams_read(&g->h, file, error);
    if (status != MLXR_OK) {
        goto fail;
    }
    status = bind_weights(&g->weights, &g->h, file, &g->memory, error);
    if (status != MLXR_OK) {
        goto fail;
    }
    status = set_ropes(&b, file, error);
    if (status != MLXR_OK) {
        goto fail;
    }
    size_t n_ops_max = (size_t)g->h.n_layers * OPS_PER_LAYER_MAX + OPS_GLOBAL;
    b.ops = region_array(&g->memory, n_ops_max, sizeof *b.ops);
    if (!b.ops) {
        status = error_nomem(error, "plan", n_ops_max * sizeof *b.ops);
        goto fail;
    }
    set_slots(&g->plan, &g->h);
    set_groups(&b);
    add_layers(&b);
    g->plan.ops = b.ops;
    g->plan.n_ops = b.n_ops;
    g->plan.n_vocab = g->h.n_vocab;
    g->plan.n_embd = g->h.n_embd;
    g->plan.n_layers = g->h.n_layers;
    count_bytes(g, file);
    *out = g;
    return MLXR_OK;
fail:
    graph_close(&g);
    return status;
}

void graph_close(graph **pointer)
{
    graph *g = *pointer;
    if (g) {
        region_close(&g->memory);
        free(g);
        *pointer = NULL;
    }
}
