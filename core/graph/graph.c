/*
 * Graph: family row + hyper-parameters + tensors → plan.
 * Owner: the model. Lifetime: graph_build to graph_close.
 */
#include "graph/graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "graph/bind_latent.h"
#include "graph/plan_builder.h"
#include "graph/rope.h"
#include "kernels/step_profile.h"
#include "quant/codec.h"

#define OPS_PER_LAYER_MAX 40u
#define OPS_GLOBAL 16u

/* What is cached of a token in a layer with a window, or in one without. */
static kv_group kv_of(const hparams *h, bool window)
{
    kv_group kv = {.n_head_kv = window ? h->n_head_kv_window : h->n_head_kv,
                   .head_dim = window ? h->head_dim_window : h->head_dim,
                   .window = window ? h->window : 0};
    if (h->fam->latent) {
        kv.n_head_kv = 1;
        kv.head_dim = hparams_latent_row(h);
        kv.one_row = true;
    }
    return kv;
}

op *plan_add(builder *b, op_kind kind, slot dst, slot src)
{
    op *o = &b->ops[b->n_ops++];
    *o = (op){.kind = kind, .layer = b->layer, .dst = dst, .src = src, .width = b->width[dst], .scale = 1};
    return o;
}

void plan_add_norm(builder *b, slot dst, slot src, const tensor *weight, const tensor *bias, uint32_t width)
{
    op *o = plan_add(b, OP_NORM, dst, src);
    o->weight = weight;
    o->bias = bias;
    o->norm = (op_norm){.kind = b->g->h.fam->norm, .width = width, .eps = b->g->h.norm_eps};
}

void plan_add_linear(builder *b, slot dst, slot src, const tensor *weight, const tensor *bias)
{
    b->width[dst] = (uint32_t)weight->shape[1];
    op *o = plan_add(b, OP_LINEAR, dst, src);
    o->weight = weight;
    o->bias = bias;
}

/* A block's output joins X, behind a norm of its own where the family has one. */
static void add_residual(builder *b, const tensor *post_norm)
{
    if (post_norm) {
        plan_add_norm(b, SLOT_O, SLOT_O, post_norm, NULL, b->g->h.n_embd);
    }
    plan_add(b, OP_ADD, SLOT_X, SLOT_O)->scale = b->g->h.residual_scale;
}

/* The same where the norm is X's, which the last one hands out. */
static void add_normed_residual(builder *b, const tensor *norm, const tensor *bias, bool last)
{
    plan_add(b, OP_ADD, SLOT_X, SLOT_O)->scale = b->g->h.residual_scale;
    plan_add_norm(b, last ? SLOT_LOGITS : SLOT_X, SLOT_X, norm, bias, b->g->h.n_embd);
}

/* What a block reads: X, or the norm of it. */
static slot add_input(builder *b, const tensor *weight, const tensor *bias)
{
    if (!weight) {
        return SLOT_X;
    }
    plan_add_norm(b, SLOT_N, SLOT_X, weight, bias, b->g->h.n_embd);
    return SLOT_N;
}

/* RMS in all families, whatever their other norms are. */
static void add_head_norm(builder *b, slot s, const tensor *weight, uint32_t width)
{
    plan_add_norm(b, s, s, weight, NULL, width);
    b->ops[b->n_ops - 1].norm.kind = NORM_RMS;
}

static void add_qk_norm(builder *b, slot s, const tensor *weight)
{
    if (weight) {
        add_head_norm(b, s, weight, (uint32_t)weight->shape[0]);
    }
}

/* Of queries, and of keys where the layer writes some. */
static void add_qk_norms(builder *b, const layer_weights *w, bool keys)
{
    add_qk_norm(b, SLOT_Q, w->q_norm);
    if (keys) {
        add_qk_norm(b, SLOT_K, w->k_norm);
    }
}

static void add_rope(builder *b, bool window, bool keys)
{
    const hparams *h = &b->g->h;
    const op_rope *rope = window && h->rope_theta_local > 0 ? &b->rope_local : &b->rope_full;
    op *q = plan_add(b, OP_ROPE, SLOT_Q, SLOT_Q);
    q->rope = *rope;
    if (h->attn_temperature != 0) {
        q->rope.temperature = h->attn_temperature;
        q->rope.temperature_span = h->scaling.n_ctx_orig;
    }
    if (keys) {
        plan_add(b, OP_ROPE, SLOT_K, SLOT_K)->rope = *rope;
    }
}

void plan_add_pick(builder *b, slot dst, slot src, op_pick pick)
{
    plan_add(b, OP_PICK, dst, src)->pick = pick;
}

/* Queries, and where each has a gate beside it, the gates. */
static void add_queries(builder *b, slot in, const layer_weights *w)
{
    const hparams *h = &b->g->h;
    if (!h->fam->gated_attention) {
        plan_add_linear(b, SLOT_Q, in, w->q, w->q_bias);
        return;
    }
    op_pick pick = {.n_groups = h->n_head, .group = 2 * h->head_dim, .n = h->head_dim};
    plan_add_linear(b, SLOT_QG, in, w->q, w->q_bias);
    plan_add_pick(b, SLOT_Q, SLOT_QG, pick);
    pick.from = h->head_dim;
    plan_add_pick(b, SLOT_AG, SLOT_QG, pick);
}

/* Its epsilon is not the model's. */
static void add_latent_norm(builder *b, slot s, const tensor *weight, uint32_t width)
{
    plan_add_norm(b, s, s, weight, NULL, width);
    b->ops[b->n_ops - 1].norm.eps = 1e-6f;
}

static void add_heads(builder *b, slot dst, slot src, op_heads heads)
{
    op_heads *x = region_array(&b->g->memory, 1, sizeof *x);
    if (!x) {
        b->no_memory = true;
        return;
    }
    *x = heads;
    plan_add(b, OP_HEADS, dst, src)->heads = x;
}

/* The two parts of what is cached of a token, and the row they make. */
static void add_latent_products(builder *b, slot in, const layer_weights *w)
{
    plan_add_linear(b, SLOT_KL, in, w->kv_latent, NULL);
    plan_add_linear(b, SLOT_KR, in, w->k_shared, NULL);
    add_latent_norm(b, SLOT_KL, w->kv_down_norm, b->g->h.n_latent_kv);
}

static void add_latent_row(builder *b)
{
    const hparams *h = &b->g->h;
    plan_add_pick(b, SLOT_K, SLOT_KR, (op_pick){1, 0, 0, h->n_rot, 0, 0});
    plan_add_pick(b, SLOT_K, SLOT_KL, (op_pick){1, 0, 0, h->n_latent_kv, h->n_rot, 0});
}

/* Latent attention (DeepSeek-AI 2024). A head's keys and values are products of the token's latent numbers c with its
 * matrices K and V. Of a token c alone is cached, and the part of a key that turns, which all heads share: as
 * q · (K c) = (Kᵀ q) · c and Σ p V c = V Σ p c, queries are made to meet c itself, and V meets what attention sums up.
 * So there is one key for all heads, and it is its value, too; what attention makes of its turned part nobody reads. */
static void add_latent(builder *b, slot in, const layer_weights *w)
{
    const hparams *h = &b->g->h;
    uint32_t n = h->n_head, head = h->head_dim, row = hparams_latent_row(h);
    if (w->q_down) {
        plan_add_linear(b, SLOT_QL, in, w->q_down, NULL);
    } else {
        plan_add_linear(b, SLOT_QG, in, w->q, NULL);
    }
    add_latent_products(b, in, w);
    if (w->q_down) {
        add_latent_norm(b, SLOT_QL, w->q_down_norm, h->n_latent_q);
        plan_add_linear(b, SLOT_QG, SLOT_QL, w->q_up, NULL);
    }
    add_heads(b, SLOT_Q, SLOT_QG,
              (op_heads){.n_heads = n,
                         .n_in = h->n_nope,
                         .n_out = h->n_latent_kv,
                         .from_apart = head,
                         .to = h->n_rot,
                         .to_apart = row,
                         .weights = w->k_up,
                         .whole = w->kv_up,
                         .whole_src = SLOT_KL});
    plan_add_pick(b, SLOT_Q, SLOT_QG, (op_pick){n, head, h->n_nope, h->n_rot, 0, row});
    add_latent_row(b);
}

static void add_latent_values(builder *b, const layer_weights *w)
{
    const hparams *h = &b->g->h;
    add_heads(b, SLOT_AG, SLOT_A,
              (op_heads){.n_heads = h->n_head,
                         .n_in = h->n_latent_kv,
                         .n_out = h->head_v,
                         .from = h->n_rot,
                         .from_apart = hparams_latent_row(h),
                         .to_apart = h->head_v,
                         .weights = w->v_up});
}

/* Keys and values, where the layer has some of its own. */
static void add_keys(builder *b, slot in, const layer_weights *w, uint32_t layer)
{
    const hparams *h = &b->g->h;
    plan_add_linear(b, SLOT_K, in, w->k, w->k_bias);
    if (w->v) {
        plan_add_linear(b, SLOT_V, in, w->v, w->v_bias);
    } else {
        plan_add_pick(b, SLOT_V, SLOT_K, (op_pick){.n_groups = 1, .group = b->width[SLOT_K], .n = b->width[SLOT_K]});
    }
    if (h->fam->value_norm) {
        add_head_norm(b, SLOT_V, NULL, hparams_head_dim(h, layer));
    }
}

/* Which layer's keys and values: its own, or those of the last one of its kind. */
static uint16_t next_kv_layer(builder *b, uint32_t layer)
{
    uint16_t *n = b->g->h.layer_has_window[layer] ? &b->n_window : &b->n_full;
    return (uint16_t)(hparams_reads_kv(&b->g->h, layer) ? *n - 1 : (*n)++);
}

/* A head that predicts ahead has nothing at position 0. */
static op_attend attend_of(const builder *b, const layer_weights *w, uint32_t layer)
{
    const hparams *h = &b->g->h;
    bool window = h->layer_has_window[layer];
    kv_group kv = kv_of(h, window);
    return (op_attend){.sinks = w->sinks ? w->sinks->data : NULL,
                       .n_head = h->n_head,
                       .n_head_kv = kv.n_head_kv,
                       .head_dim = kv.head_dim,
                       .scale = h->attn_scale,
                       .softcap = h->attn_softcap,
                       .first = layer == h->n_layers,
                       .window = kv.window,
                       .both_ways = h->fam->encoder,
                       .kv_group = window ? b->group_window : b->group_full};
}

void plan_add_keys_alone(builder *b, slot in, const layer_weights *w, uint32_t layer)
{
    const hparams *h = &b->g->h;
    if (h->fam->latent) {
        add_latent_products(b, in, w);
        add_latent_row(b);
    } else {
        add_keys(b, in, w, layer);
    }
    add_qk_norm(b, SLOT_K, w->k_norm);
    if (h->n_rot && !h->fam->positions && !h->layer_is_unturned[layer]) {
        plan_add(b, OP_ROPE, SLOT_K, SLOT_K)->rope = b->rope_full;
    }
    op_attend attend = attend_of(b, w, layer);
    attend.kv_layer = b->n_full;
    plan_add(b, OP_KV_WRITE, SLOT_K, SLOT_K)->attend = attend;
}

void plan_add_attention(builder *b, const layer_weights *w, uint32_t layer)
{
    const hparams *h = &b->g->h;
    bool window = h->layer_has_window[layer], writes = !hparams_reads_kv(h, layer);
    slot in = add_input(b, w->attn_norm, w->attn_norm_bias);
    if (h->fam->latent) {
        add_latent(b, in, w);
    } else {
        add_queries(b, in, w);
        if (writes) {
            add_keys(b, in, w, layer);
        }
    }
    if (!h->fam->qk_norm_turned) {
        add_qk_norms(b, w, writes);
    }
    if (h->n_rot && !h->fam->positions && !h->layer_is_unturned[layer]) {
        add_rope(b, window, writes);
    }
    if (h->fam->qk_norm_turned) {
        add_qk_norms(b, w, writes);
    }
    op_attend attend = attend_of(b, w, layer);
    attend.kv_layer = next_kv_layer(b, layer);
    if (writes) {
        plan_add(b, OP_KV_WRITE, SLOT_K, SLOT_K)->attend = attend;
    }
    plan_add(b, OP_ATTEND, SLOT_A, SLOT_Q)->attend = attend;
    if (h->fam->gated_attention) {
        plan_add(b, OP_GATED, SLOT_AG, SLOT_A)->act = ACT_SIGMOID;
    }
    if (h->fam->latent) {
        add_latent_values(b, w);
    }
    bool apart = h->fam->gated_attention || h->fam->latent;
    plan_add_linear(b, SLOT_O, apart ? SLOT_AG : SLOT_A, w->attn_out, w->attn_out_bias);
    if (h->fam->norms == NORMS_OF_SUM) {
        add_normed_residual(b, w->post_attn_norm, w->post_attn_norm_bias, false);
    } else {
        add_residual(b, w->post_attn_norm);
    }
}

/* ---- mixers ---- */

/* A small vector as aligned floats; NULL for none. */
static const float *copy_vector(builder *b, const tensor *t)
{
    float *values = t ? region_array(&b->g->memory, (size_t)t->shape[0], sizeof *values) : NULL;
    if (values) {
        codec_decode(t->type, t->data, values, (size_t)t->shape[0]);
    }
    b->no_memory = b->no_memory || (t && !values);
    return values;
}

/* The state of a layer: the rows of its convolution, then its heads. */
static op_state mixer_state(const builder *b, uint32_t first)
{
    return (op_state){.kv_group = b->group_mixer, .kv_layer = b->n_mixer, .first = first};
}

static void add_conv(builder *b, const layer_weights *w, bool silu)
{
    op *o = plan_add(b, OP_CONV, SLOT_C, SLOT_C);
    o->weight = w->mixer_conv;
    o->bias = w->mixer_conv_bias;
    o->conv = (op_conv){.state = mixer_state(b, 0), .n = b->g->h.conv_rows, .silu = silu};
}

/* What is convolved: queries, keys, values (DeltaNet), or values, keys, queries (Mamba-2). */
static void add_recur(builder *b, const layer_weights *w, bool turns)
{
    const hparams *h = &b->g->h;
    bool delta = h->fam->mixer == MIXER_DELTA;
    uint32_t keys = hparams_mixer_keys(h), width = hparams_mixer_width(h);
    op_recur *r = region_array(&b->g->memory, 1, sizeof *r);
    if (!r) {
        b->no_memory = true;
        return;
    }
    *r = (op_recur){.kind = delta ? RECUR_DELTA : RECUR_SSM,
                    .take_turns = turns,
                    .n_head = h->n_mixer_heads,
                    .n_head_k = h->n_mixer_heads_k,
                    .head_k = h->mixer_head_k,
                    .head_v = h->mixer_head_v,
                    .q_first = delta ? 0 : width + keys,
                    .k_first = delta ? keys : width,
                    .v_first = delta ? 2 * keys : 0,
                    .fade = copy_vector(b, w->mixer_fade),
                    .step_bias = copy_vector(b, w->mixer_step_bias),
                    .skip = copy_vector(b, w->mixer_skip),
                    .step_most = INFINITY,
                    .state = mixer_state(b, (h->conv_rows - 1) * h->conv_width)};
    plan_add(b, OP_RECUR, SLOT_M, SLOT_C)->recur = r;
}

/* DeltaNet's inputs, which lie side by side for each key head where one matrix gives them all. */
static void add_delta_inputs(builder *b, const layer_weights *w, slot in)
{
    const hparams *h = &b->g->h;
    uint32_t n = h->n_mixer_heads_k, shared = h->n_mixer_heads / n, k = h->mixer_head_k, v = shared * h->mixer_head_v;
    const op_pick whole = {.n_groups = n, .group = 2 * k + 2 * v},
                  pair = {.n_groups = n, .group = 2 * shared, .n = shared};
    if (w->mixer_in) {
        plan_add_linear(b, SLOT_W, in, w->mixer_in, NULL);
    } else {
        plan_add_linear(b, SLOT_C, in, w->mixer_qkv, NULL);
        plan_add_linear(b, SLOT_Z, in, w->mixer_gate, NULL);
    }
    if (w->mixer_beta_alpha) {
        plan_add_linear(b, SLOT_DB, in, w->mixer_beta_alpha, NULL);
    } else {
        plan_add_linear(b, SLOT_B, in, w->mixer_beta, NULL);
        plan_add_linear(b, SLOT_D, in, w->mixer_alpha, NULL);
    }
    const struct {
        slot dst;
        uint32_t from, n, to;
    } parts[] = {{SLOT_C, 0, k, 0}, {SLOT_C, k, k, n * k}, {SLOT_C, 2 * k, v, 2 * n * k}, {SLOT_Z, 2 * k + v, v, 0}};
    for (size_t i = 0; w->mixer_in && i < sizeof parts / sizeof *parts; i++) {
        op_pick pick = whole;
        pick.from = parts[i].from;
        pick.n = parts[i].n;
        pick.to = parts[i].to;
        plan_add_pick(b, parts[i].dst, SLOT_W, pick);
    }
    for (uint32_t i = 0; w->mixer_beta_alpha && i < 2; i++) {
        op_pick pick = pair;
        pick.from = i * shared;
        plan_add_pick(b, i ? SLOT_D : SLOT_B, SLOT_DB, pick);
    }
}

/* A mixer in the place of attention, which leaves its gated output in Z. */
static void add_mixer(builder *b, const layer_weights *w, bool turns)
{
    const hparams *h = &b->g->h;
    slot in = add_input(b, w->attn_norm, w->attn_norm_bias);
    if (h->fam->mixer == MIXER_CONV) {
        plan_add_linear(b, SLOT_M, in, w->mixer_first, w->mixer_first_bias);
        plan_add_linear(b, SLOT_Z, in, w->mixer_second, w->mixer_second_bias);
        plan_add_linear(b, SLOT_C, in, w->mixer_third, w->mixer_third_bias);
        plan_add(b, OP_GATED, SLOT_C, SLOT_M)->act = ACT_NONE;
        add_conv(b, w, false);
        plan_add(b, OP_GATED, SLOT_Z, SLOT_C)->act = ACT_NONE;
    } else if (h->fam->mixer == MIXER_DELTA) {
        add_delta_inputs(b, w, in);
        add_conv(b, w, true);
        add_recur(b, w, turns);
        plan_add_norm(b, SLOT_M, SLOT_M, w->mixer_norm, NULL, h->mixer_head_v);
        plan_add(b, OP_GATED, SLOT_Z, SLOT_M)->act = ACT_SILU;
    } else {
        plan_add_linear(b, SLOT_Z, in, w->mixer_first, w->mixer_first_bias);
        plan_add_linear(b, SLOT_C, in, w->mixer_second, w->mixer_second_bias);
        plan_add_linear(b, SLOT_D, in, w->mixer_third, w->mixer_third_bias);
        add_conv(b, w, true);
        add_recur(b, w, turns);
        plan_add(b, OP_GATED, SLOT_Z, SLOT_M)->act = ACT_SILU;
        plan_add_norm(b, SLOT_Z, SLOT_Z, w->mixer_norm, NULL, hparams_mixer_width(h) / h->n_mixer_heads_k);
        b->ops[b->n_ops - 1].norm.whole_weight = true;
    }
    b->n_mixer++;
    plan_add_linear(b, SLOT_O, SLOT_Z, w->mixer_out, w->mixer_out_bias);
    add_residual(b, NULL);
}

static void add_mixture(builder *b, const layer_weights *w, slot dst, slot in)
{
    const hparams *h = &b->g->h;
    op_experts *x = region_array(&b->g->memory, 1, sizeof *x);
    if (!x) {
        b->no_memory = true;
        return;
    }
    *x = (op_experts){.n_expert = h->n_expert,
                      .n_used = h->n_expert_used,
                      .n_in = hparams_expert_in(h),
                      .n_ff = h->n_ff_expert,
                      .routing = h->routing,
                      .normalise = h->normalise_experts,
                      .scale = h->expert_scale,
                      .choice_bias = w->choice_bias ? w->choice_bias->data : NULL,
                      .n_groups = h->n_expert_groups,
                      .n_groups_used = h->n_expert_groups_used,
                      .groups_by_best = h->groups_by_best,
                      .expert_scales = copy_vector(b, w->expert_scales),
                      .act = h->fam->act,
                      .gate = w->gate_experts,
                      .up = w->up_experts,
                      .down = w->down_experts,
                      .gate_bias = w->gate_experts_bias,
                      .up_bias = w->up_experts_bias,
                      .down_bias = w->down_experts_bias};
    b->width[dst] = x->n_in;
    plan_add(b, OP_EXPERTS, dst, in)->experts = x;
}

/* The mixture joins X before what all tokens share does. */
static void add_experts(builder *b, const layer_weights *w, slot in)
{
    const hparams *h = &b->g->h;
    plan_add_linear(b, SLOT_R, in, w->router, w->router_bias);
    if (w->latent_down) {
        plan_add_linear(b, SLOT_O, in, w->latent_down, NULL);
        add_mixture(b, w, SLOT_P, SLOT_O);
        plan_add_linear(b, SLOT_O, SLOT_P, w->latent_up, NULL);
    } else {
        add_mixture(b, w, SLOT_O, in);
    }
    add_residual(b, w->post_ffn_norm);
    if (w->shared_up) {
        plan_add_linear(b, SLOT_SG, in, w->shared_gate ? w->shared_gate : w->shared_up, NULL);
        if (w->shared_gate) {
            plan_add_linear(b, SLOT_SU, in, w->shared_up, NULL);
        }
        plan_add(b, OP_GATED, SLOT_SG, w->shared_gate ? SLOT_SU : SLOT_NONE)->act = h->fam->act;
        plan_add_linear(b, SLOT_O, SLOT_SG, w->shared_down, NULL);
        if (w->shared_weight) {
            plan_add_linear(b, SLOT_SW, in, w->shared_weight, NULL);
            plan_add(b, OP_WEIGH, SLOT_O, SLOT_SW);
        }
        add_residual(b, NULL);
    }
}

/* A vector × factor, as a tensor; NULL: no memory. */
static const tensor *scaled_vector(builder *b, const tensor *t, float factor)
{
    tensor *made = region_array(&b->g->memory, 1, sizeof *made);
    float *values = region_array(&b->g->memory, (size_t)t->shape[0], sizeof *values);
    if (!made || !values) {
        b->no_memory = true;
        return NULL;
    }
    codec_decode(t->type, t->data, values, (size_t)t->shape[0]);
    for (size_t i = 0; i < t->shape[0]; i++) {
        values[i] *= factor;
    }
    *made = *t;
    made->data = values;
    return made;
}

/* Experts beside a dense MLP: all three, the router too, read X through norms of their own, and what the two give joins
 * behind others. */
static void add_experts_beside(builder *b, const layer_weights *w)
{
    uint32_t n = b->g->h.n_embd;
    plan_add_norm(b, SLOT_N, SLOT_X, scaled_vector(b, w->router_scale, 1.0f / sqrtf((float)n)), NULL, n);
    plan_add_linear(b, SLOT_R, SLOT_N, w->router, w->router_bias);
    plan_add_norm(b, SLOT_N, SLOT_X, w->experts_norm, NULL, n);
    add_mixture(b, w, SLOT_O, SLOT_N);
    plan_add_norm(b, SLOT_P, SLOT_O, w->post_experts_norm, NULL, n);
}

void plan_add_mlp(builder *b, const layer_weights *w)
{
    const hparams *h = &b->g->h;
    const tensor *norm = h->fam->one_block ? w->attn_norm : w->ffn_norm;
    bool beside = w->router && h->fam->experts_beside;
    if (beside) {
        add_experts_beside(b, w);
    }
    slot in = h->fam->parallel ? SLOT_N : add_input(b, norm, w->ffn_norm_bias);
    if (w->router && !beside) {
        add_experts(b, w, in);
        return;
    }
    if (h->fam->ungated) {
        plan_add_linear(b, SLOT_G, in, w->up, w->up_bias);
        plan_add(b, OP_GATED, SLOT_G, SLOT_NONE)->act = h->fam->act;
    } else {
        plan_add_linear(b, SLOT_G, in, w->gate, w->gate_bias);
        plan_add_linear(b, SLOT_U, in, w->up, w->up_bias);
        plan_add(b, OP_GATED, SLOT_G, SLOT_U)->act = h->fam->act;
    }
    plan_add_linear(b, SLOT_O, SLOT_G, w->down, w->down_bias);
    if (beside) {
        plan_add_norm(b, SLOT_O, SLOT_O, w->post_dense_norm, NULL, h->n_embd);
        plan_add(b, OP_ADD, SLOT_O, SLOT_P);
    }
    if (h->fam->norms == NORMS_OF_SUM) {
        add_normed_residual(b, w->post_ffn_norm, w->post_ffn_norm_bias, b->layer + 1u == h->n_layers);
    } else {
        add_residual(b, w->post_ffn_norm);
    }
}

/* What each layer has of the token: an embedding, and what a matrix makes of X. */
static void add_layer_inputs(builder *b)
{
    const hparams *h = &b->g->h;
    const model_weights *w = &b->g->weights;
    const float half = sqrtf(0.5f); /* of the sum of two */
    op *o = plan_add(b, OP_EMBED, SLOT_LE, SLOT_NONE);
    o->weight = w->layer_embedding;
    o->scale = sqrtf((float)h->n_embd_layer) * half;
    plan_add_linear(b, SLOT_LP, SLOT_X, w->layer_inputs, NULL);
    plan_add(b, OP_SCALE, SLOT_LP, SLOT_LP)->scale = 1.0f / sqrtf((float)h->n_embd);
    plan_add_norm(b, SLOT_LP, SLOT_LP, w->layer_inputs_norm, NULL, h->n_embd_layer);
    plan_add(b, OP_ADD, SLOT_LE, SLOT_LP)->scale = half;
}

/* What the layer has of the token, gated by X, joins X. */
static void add_layer_embedding(builder *b, const layer_weights *w, uint32_t layer)
{
    const hparams *h = &b->g->h;
    uint32_t n = h->n_embd_layer;
    plan_add_linear(b, SLOT_G, SLOT_X, w->layer_gate, NULL);
    b->width[SLOT_U] = n;
    plan_add_pick(b, SLOT_U, SLOT_LE, (op_pick){.n_groups = 1, .group = h->n_layers * n, .from = layer * n, .n = n});
    plan_add(b, OP_GATED, SLOT_G, SLOT_U)->act = h->fam->act;
    plan_add_linear(b, SLOT_O, SLOT_G, w->layer_proj, NULL);
    add_residual(b, w->post_layer_norm);
}

static void add_layer_scale(builder *b, const tensor *scale)
{
    float value = 1;
    codec_decode(scale->type, scale->data, &value, 1);
    plan_add(b, OP_SCALE, SLOT_X, SLOT_X)->scale = value;
}

/* Heads of the layer may have another size than those before it. */
void plan_set_layer_widths(builder *b, uint32_t layer)
{
    const hparams *h = &b->g->h;
    kv_group kv = kv_of(h, h->layer_has_window[layer]);
    b->width[SLOT_Q] = b->width[SLOT_A] = h->n_head * kv.head_dim;
    b->width[SLOT_K] = b->width[SLOT_V] = kv.n_head_kv * kv.head_dim;
}

/* What all tokens of the first kind have in common, as a vector; NULL where there are no kinds, or no memory is. */
static const tensor *first_kind(builder *b, const tensor *kinds)
{
    if (!kinds) {
        return NULL;
    }
    uint32_t n = b->g->h.n_embd;
    tensor *first = region_array(&b->g->memory, 1, sizeof *first);
    float *values = region_array(&b->g->memory, n, sizeof *values);
    if (!first || !values) {
        b->no_memory = true;
        return NULL;
    }
    if (kinds->data) { /* a packed tensor that is only described has none */
        codec_decode(kinds->type, kinds->data, values, n);
    }
    *first = (tensor){.name = kinds->name,
                      .type = DTYPE_F32,
                      .n_dims = 1,
                      .shape = {n, 1, 1, 1},
                      .row_bytes = n * sizeof *values,
                      .n_bytes = n * sizeof *values,
                      .data = values};
    return first;
}

void plan_add_logits(builder *b, const tensor *output)
{
    const hparams *h = &b->g->h;
    plan_add_linear(b, SLOT_LOGITS, SLOT_N, output, b->g->weights.output_bias);
    if (h->logit_scale != 1) {
        plan_add(b, OP_SCALE, SLOT_LOGITS, SLOT_LOGITS)->scale = h->logit_scale;
    }
    if (h->final_softcap > 0) {
        plan_add(b, OP_SOFTCAP, SLOT_LOGITS, SLOT_LOGITS)->scale = h->final_softcap;
    }
}

/* From here on only the rows whose logits are wanted matter. */
static void add_take(builder *b)
{
    plan_add(b, OP_TAKE_ROWS, SLOT_X, SLOT_X);
    if (b->g->h.fam->parallel) {
        plan_add(b, OP_TAKE_ROWS, SLOT_N, SLOT_N);
    }
    if (b->g->h.n_embd_layer) {
        plan_add(b, OP_TAKE_ROWS, SLOT_LE, SLOT_LE);
    }
}

static void add_layers(builder *b, bool turns)
{
    const hparams *h = &b->g->h;
    const model_weights *w = &b->g->weights;
    b->layer = STEP_NO_LAYER;
    op *embed = plan_add(b, OP_EMBED, SLOT_X, SLOT_NONE);
    embed->weight = w->embedding;
    embed->scale = h->embedding_scale;
    if (h->fam->positions) {
        op *o = plan_add(b, OP_POSITION, SLOT_N, SLOT_NONE);
        o->weight = w->positions;
        o->bias = b->g->plan.pairs ? NULL : first_kind(b, w->token_types);
        plan_add(b, OP_ADD, SLOT_X, SLOT_N);
    } else {
        embed->bias = b->g->plan.pairs ? NULL : first_kind(b, w->token_types);
    }
    if (b->g->plan.pairs) {
        plan_add(b, OP_KIND, SLOT_N, SLOT_NONE)->weight = w->token_types;
        plan_add(b, OP_ADD, SLOT_X, SLOT_N);
    }
    if (w->embd_norm) {
        plan_add_norm(b, SLOT_X, SLOT_X, w->embd_norm, w->embd_norm_bias, h->n_embd);
    }
    if (h->n_embd_layer) {
        add_layer_inputs(b);
    }
    for (uint32_t i = 0; i < h->n_layers; i++) {
        b->layer = (uint16_t)i;
        plan_set_layer_widths(b, i);
        if (h->layer_kinds[i] == LAYER_ATTENTION) {
            plan_add_attention(b, &w->layers[i], i);
        } else if (h->layer_kinds[i] == LAYER_MIXER) {
            add_mixer(b, &w->layers[i], turns);
        }
        if (i + 1 == h->n_layers && !b->ahead) {
            add_take(b);
        }
        if (hparams_has_mlp(h, i)) {
            plan_add_mlp(b, &w->layers[i]);
        }
        if (h->n_embd_layer) {
            add_layer_embedding(b, &w->layers[i], i);
        }
        if (w->layers[i].layer_scale) {
            add_layer_scale(b, w->layers[i].layer_scale);
        }
    }
    b->layer = STEP_NO_LAYER;
    if (b->ahead) { /* its keys need what the last layer leaves of every row */
        ahead_add_keys(b);
        add_take(b);
    }
    if (h->fam->encoder) { /* ends with hidden states, which the last norm hands out */
        if (h->fam->norms != NORMS_OF_SUM) {
            plan_add_norm(b, SLOT_LOGITS, SLOT_X, w->output_norm, w->output_norm_bias, h->n_embd);
        }
        return;
    }
    plan_add_norm(b, SLOT_N, SLOT_X, w->output_norm, w->output_norm_bias, h->n_embd);
    plan_add_logits(b, w->output);
}

static void set_mixer_slots(plan *p, const hparams *h)
{
    if (h->fam->gated_attention) {
        p->slot_width[SLOT_QG] = 2 * h->n_head * h->head_dim;
        p->slot_width[SLOT_AG] = h->n_head * h->head_dim;
    }
    p->slot_width[SLOT_SW] = h->n_ff_shared && h->fam->gated_shared;
    if (h->fam->mixer != MIXER_NONE) {
        p->slot_width[SLOT_C] = h->conv_width;
        p->slot_width[SLOT_Z] = p->slot_width[SLOT_M] = hparams_mixer_width(h);
        p->slot_width[SLOT_D] = p->slot_width[SLOT_B] = h->n_mixer_heads;
    }
    if (h->fam->mixer == MIXER_DELTA) {
        p->slot_width[SLOT_W] = h->conv_width + hparams_mixer_width(h);
        p->slot_width[SLOT_DB] = 2 * h->n_mixer_heads;
    }
}

static void set_slots(plan *p, const hparams *h, bool ahead)
{
    uint32_t q = 0, kv = 0;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        uint32_t head = hparams_head_dim(h, i), n_kv = hparams_n_head_kv(h, i) * head;
        q = h->n_head * head > q ? h->n_head * head : q;
        kv = n_kv > kv ? n_kv : kv;
    }
    p->slot_width[SLOT_X] = p->slot_width[SLOT_N] = p->slot_width[SLOT_O] = h->n_embd;
    p->slot_width[SLOT_Q] = p->slot_width[SLOT_A] = q;
    p->slot_width[SLOT_K] = p->slot_width[SLOT_V] = kv;
    p->slot_width[SLOT_G] = p->slot_width[SLOT_U] = h->n_ff;
    if (h->n_embd_layer) {
        uint32_t n = h->n_ff > h->n_embd_layer ? h->n_ff : h->n_embd_layer;
        p->slot_width[SLOT_G] = p->slot_width[SLOT_U] = n;
        p->slot_width[SLOT_LE] = p->slot_width[SLOT_LP] = h->n_layers * h->n_embd_layer;
    }
    p->slot_width[SLOT_P] = h->n_expert && h->fam->experts_beside ? h->n_embd : h->n_expert_latent;
    if (h->n_expert_latent > h->n_embd) {
        p->slot_width[SLOT_O] = h->n_expert_latent;
    }
    p->slot_width[SLOT_R] = h->n_expert;
    p->slot_width[SLOT_SG] = p->slot_width[SLOT_SU] = h->n_ff_shared;
    set_mixer_slots(p, h);
    p->slot_width[SLOT_H] = ahead ? h->n_embd : 0;
    p->slot_width[SLOT_EH] = ahead ? 2 * h->n_embd : 0;
    if (h->fam->latent) {
        p->slot_width[SLOT_Q] = p->slot_width[SLOT_A] = h->n_head * hparams_latent_row(h);
        p->slot_width[SLOT_K] = hparams_latent_row(h);
        p->slot_width[SLOT_V] = 0;
        p->slot_width[SLOT_QG] = q;
        p->slot_width[SLOT_QL] = h->n_latent_q;
        p->slot_width[SLOT_KL] = h->n_latent_kv;
        p->slot_width[SLOT_KR] = h->n_rot;
        p->slot_width[SLOT_AG] = h->n_head * h->head_v;
    }
    p->slot_width[SLOT_LOGITS] = h->fam->encoder ? h->n_embd : h->n_vocab;
    p->both_ways = h->fam->encoder;
    p->n_positions = h->fam->positions ? h->n_ctx_train : 0;
}

/* Layers of one group share a page table; window layers have their own, because their old pages can be dropped. */
static void set_groups(builder *b)
{
    const hparams *h = &b->g->h;
    plan *p = &b->g->plan;
    uint32_t n_full = 0, n_window = 0, n_mixer = 0;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        bool attends = h->layer_kinds[i] == LAYER_ATTENTION && !hparams_reads_kv(h, i);
        n_window += attends && h->layer_has_window[i];
        n_full += attends && !h->layer_has_window[i];
        n_mixer += h->layer_kinds[i] == LAYER_MIXER;
    }
    kv_group full = kv_of(h, false), window = kv_of(h, true);
    full.n_layers = n_full + b->ahead;
    window.n_layers = n_window;
    if (full.n_layers) {
        b->group_full = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = full;
    }
    if (window.n_layers) {
        b->group_window = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = window;
    }
    if (n_mixer) {
        b->group_mixer = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = (kv_group){
            .n_layers = n_mixer,
            .state_width = (h->conv_rows - 1) * h->conv_width + h->n_mixer_heads * h->mixer_head_k * h->mixer_head_v};
    }
    if (b->ahead) { /* the hidden state behind the newest token, which belongs to the next one */
        b->group_ahead = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = (kv_group){.n_layers = 1, .state_width = h->n_embd};
    }
}

/* What divides each pair's frequency, or NULL. */
static const tensor *rope_factors(const graph *g)
{
    if (g->h.scaling.kind != ROPE_SCALING_LONGROPE) {
        return g->weights.rope_freqs;
    }
    return g->h.rope_is_long ? g->weights.rope_long : g->weights.rope_short;
}

/* GGUF files say LongRoPE by having its factors. */
static void choose_longrope(graph *g, uint32_t n_ctx)
{
    hparams *h = &g->h;
    if (h->scaling.kind == ROPE_SCALING_NONE && g->weights.rope_long) {
        h->scaling.kind = ROPE_SCALING_LONGROPE;
        h->scaling.factor = (float)h->n_ctx_train / (float)h->scaling.n_ctx_orig;
    }
    if (h->scaling.kind == ROPE_SCALING_LONGROPE) {
        h->rope_is_long = (n_ctx && n_ctx < h->n_ctx_train ? n_ctx : h->n_ctx_train) > h->scaling.n_ctx_orig;
    }
}

static mlxr_status set_ropes(builder *b, const model_file *file, mlxr_error *error)
{
    const hparams *h = &b->g->h;
    float *full = region_array(&b->g->memory, h->n_rot / 2, sizeof *full);
    float *local = region_array(&b->g->memory, h->n_rot_window / 2, sizeof *local);
    if (!full || !local) {
        return error_nomem(error, "RoPE frequencies", h->n_rot * sizeof *full);
    }
    const tensor *factors = rope_factors(b->g);
    if (factors && (uintptr_t)factors->data % sizeof(float) != 0) {
        return error_set(error, MLXR_FORMAT, "tensor '%s' is not aligned", factors->name);
    }
    if (!factors && h->scaling.kind == ROPE_SCALING_LONGROPE) {
        return error_set(error, MLXR_FORMAT, "RoPE scaling 'longrope' without rope_factors_%s.weight",
                         h->rope_is_long ? "long" : "short");
    }
    if (h->attn_temperature != 0 && h->n_rot < h->head_dim) {
        return error_set(error, MLXR_UNSUPPORTED, "attention temperature in a model that turns %u of %u elements",
                         h->n_rot, h->head_dim);
    }
    bool pairs = file->rope_halves ? h->fam->safetensors_keep_pairs : h->fam->gguf_rope == ROPE_PAIRS;
    rope_kind kind = pairs ? ROPE_PAIRS : ROPE_HALVES;
    b->rope_full = (op_rope){.kind = kind, .head_dim = kv_of(h, false).head_dim, .n_rot = h->n_rot, .inv_freq = full};
    b->rope_local = (op_rope){
        .kind = kind, .head_dim = kv_of(h, true).head_dim, .n_rot = h->n_rot_window, .inv_freq = local};
    rope_frequencies(h->n_rot, h->rope_theta, &h->scaling, factors ? factors->data : NULL, full,
                     &b->rope_full.magnitude);
    if (h->rope_theta_local > 0) {
        const rope_scaling none = {.kind = ROPE_SCALING_NONE};
        rope_frequencies(h->n_rot_window, h->rope_theta_local, &none, NULL, local, &b->rope_local.magnitude);
    }
    return MLXR_OK;
}

static void add_head_layer(text_head *head, const tensor *weight, const tensor *bias, head_act act)
{
    if (weight) {
        head->layers[head->n_layers++] = (head_layer){.weight = weight, .bias = bias, .act = act};
    }
}

static void add_head(graph *g)
{
    const model_weights *w = &g->weights;
    add_head_layer(&g->head, w->dense[0], NULL, HEAD_PLAIN);
    add_head_layer(&g->head, w->dense[1], NULL, HEAD_PLAIN);
    if (w->cls) {
        add_head_layer(&g->head, w->cls, w->cls_bias, g->h.fam->gelu_head ? HEAD_GELU : HEAD_TANH);
        head_layer *made = &g->head.layers[g->head.n_layers - 1];
        made->norm = w->cls_norm;
        made->norm_bias = w->cls_norm_bias;
        made->eps = g->h.norm_eps;
    }
    add_head_layer(&g->head, w->cls_out, w->cls_out_bias, HEAD_PLAIN);
}

/* Weights that a row of the plan reads. */
static uint64_t bytes_read(const plan *p)
{
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        n_bytes += o->kind == OP_LINEAR ? o->weight->n_bytes : 0;
        for (uint32_t x = 0; o->kind == OP_EXPERTS && x < o->experts->n_used; x++) {
            n_bytes += o->experts->gate ? o->experts->gate[x].n_bytes : 0;
            n_bytes += o->experts->up[x].n_bytes + o->experts->down[x].n_bytes;
        }
        for (uint32_t x = 0; o->kind == OP_HEADS && x < o->heads->n_heads; x++) {
            n_bytes += o->heads->weights[x].n_bytes;
        }
    }
    return n_bytes;
}

/* Layers behind the last one are read by nobody who does not predict ahead; who does reads what their keys need. */
static uint64_t bytes_ahead(const graph *g, const model_file *file, uint64_t *unread)
{
    uint64_t n_bytes = 0;
    unsigned layer;
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        if (sscanf(file->tensors[i].name, "blk.%u.", &layer) == 1 && layer >= g->h.n_layers) {
            n_bytes += file->tensors[i].n_bytes;
        }
    }
    *unread = n_bytes;
    for (uint32_t i = 0; i < g->plan.n_ops; i++) {
        const op *o = &g->plan.ops[i];
        *unread -= o->kind == OP_LINEAR && o->layer == g->h.n_layers ? o->weight->n_bytes : 0;
    }
    return n_bytes;
}

/* Of those that are bound: one that predicts ahead is used only where it was asked for. */
static uint32_t layers_used(const graph *g)
{
    return g->ahead_plan.n_ops ? hparams_layers_bound(&g->h) : g->h.n_layers;
}

static void count_bytes(graph *g, const model_file *file)
{
    uint64_t unused; /* experts that a token does not go through, rows that there is a copy of, layers ahead */
    g->ahead_bytes = bytes_ahead(g, file, &unused);
    g->ahead_bytes_per_token = bytes_read(&g->ahead_plan);
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i];
        g->weight_bytes += t->n_bytes;
        g->n_params += t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
    }
    for (uint32_t i = 0; i < g->plan.n_ops; i++) {
        const op *o = &g->plan.ops[i];
        for (uint32_t x = o->kind == OP_EXPERTS ? o->experts->n_used : UINT32_MAX; x < g->h.n_expert; x++) {
            unused += o->experts->gate ? o->experts->gate[x].n_bytes : 0;
            unused += o->experts->up[x].n_bytes + o->experts->down[x].n_bytes;
        }
    }
    for (uint32_t i = 0; i < layers_used(g); i++) {
        const layer_weights *w = &g->weights.layers[i];
        uint64_t n_bytes = latent_keys_bytes(w, &g->h);
        bool is_read = i < g->h.n_layers;
        g->weight_bytes += n_bytes;
        unused += !n_bytes ? 0 : is_read ? (uint64_t)g->h.n_head * g->h.n_nope * w->kv_up->row_bytes : n_bytes;
    }
    g->bytes_per_token = g->weight_bytes - unused;
    if (g->weights.output != g->weights.embedding) {
        g->bytes_per_token -= g->weights.embedding->n_bytes - g->weights.embedding->row_bytes;
    }
    if (g->weights.layer_embedding) {
        g->bytes_per_token -= g->weights.layer_embedding->n_bytes - g->weights.layer_embedding->row_bytes;
    }
}

mlxr_status graph_build(graph **out, const model_file *file, uint32_t n_ctx, bool ahead, mlxr_error *error)
{
    graph *g = calloc(1, sizeof *g);
    if (!g) {
        return error_nomem(error, "model graph", sizeof *g);
    }
    builder b = {.g = g, .ahead = ahead};
    mlxr_status status = hparams_read(&g->h, file, error);
    if (status == MLXR_OK && ahead) {
        status = ahead_check(&g->h, error);
    }
    if (status != MLXR_OK) {
        goto fail;
    }
    status = bind_weights(&g->weights, &g->h, file, &g->memory, error);
    if (status != MLXR_OK) {
        goto fail;
    }
    choose_longrope(g, n_ctx);
    status = set_ropes(&b, file, error);
    if (status != MLXR_OK) {
        goto fail;
    }
    size_t n_ops_max = ((size_t)g->h.n_layers + ahead) * OPS_PER_LAYER_MAX + OPS_GLOBAL;
    b.ops = region_array(&g->memory, n_ops_max, sizeof *b.ops);
    if (!b.ops) {
        status = error_nomem(error, "plan", n_ops_max * sizeof *b.ops);
        goto fail;
    }
    set_slots(&g->plan, &g->h, ahead);
    /* What ranks reads two texts, which others never do. */
    g->plan.pairs = g->h.ranks && g->weights.token_types && g->weights.token_types->shape[1] > 1;
    memcpy(b.width, g->plan.slot_width, sizeof b.width);
    set_groups(&b);
    if (g->plan.n_kv_groups == 0) {
        status = error_set(error, MLXR_UNSUPPORTED, "no layer of the model sees other tokens than its own");
        goto fail;
    }
    add_layers(&b, g->h.fam->gguf_heads_in_turn && !file->rope_halves);
    g->plan.ops = b.ops;
    g->plan.n_ops = b.n_ops;
    g->plan.n_vocab = g->h.n_vocab;
    g->plan.n_embd = g->h.n_embd;
    g->plan.n_layers = g->h.n_layers;
    if (ahead) {
        ahead_make_plan(&b, OPS_PER_LAYER_MAX + OPS_GLOBAL);
    }
    add_head(g);
    if (b.no_memory) {
        status = error_nomem(error, "plan", sizeof(op));
        goto fail;
    }
    count_bytes(g, file);
    *out = g;
    return MLXR_OK;
fail:
    graph_close(&g);
    return status;
}

mlxr_status graph_make_weights(graph *g, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (uint32_t i = 0; i < layers_used(g) && status == MLXR_OK; i++) {
        status = latent_make_keys(&g->weights.layers[i], &g->h, &g->memory, error);
    }
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
