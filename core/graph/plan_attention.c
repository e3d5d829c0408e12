/*
 * Attention in a plan: queries, keys and values, norms, RoPE, and latent ones (MLA).
 * Owner: graph_build. Lifetime: the call; what is made lies in the graph's region.
 */
#include "graph/plan_builder.h"

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
static void add_qk_norms(builder *b, const layer_weights *w, uint32_t layer, bool keys)
{
    const hparams *h = &b->g->h;
    bool bare = h->qk_norm_bare && !h->layer_is_unturned[layer];
    for (int i = 0; i < 1 + keys; i++) {
        slot s = i ? SLOT_K : SLOT_Q;
        add_qk_norm(b, s, i ? w->k_norm : w->q_norm);
        if (bare) {
            add_head_norm(b, s, NULL, hparams_head_dim(h, layer));
        }
    }
}

static void add_rope(builder *b, bool window, bool keys)
{
    const hparams *h = &b->g->h;
    const op_rope *rope = window && h->rope_theta_local > 0 ? &b->rope_local : &b->rope_full;
    op *q = plan_add(b, OP_ROPE, SLOT_Q, SLOT_Q);
    q->rope = *rope;
    if (h->attn_temperature != 0 && h->fam->still_temperature == 0) {
        q->rope.temperature = h->attn_temperature;
        q->rope.temperature_span = h->temperature_span;
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
    if (h->fam->gate_apart) {
        plan_add_linear(b, SLOT_AG, in, w->attn_gate, NULL);
    }
    if (!h->fam->gated_attention || h->fam->gate_apart) {
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

/* Queries, keys and values of a matrix that gives them head by head. */
static void add_by_heads(builder *b, slot in, const layer_weights *w)
{
    static const slot parts[] = {SLOT_Q, SLOT_K, SLOT_V};
    const hparams *h = &b->g->h;
    op_pick pick = {.n_groups = h->n_head, .group = 3 * h->head_dim, .n = h->head_dim};
    plan_add_linear(b, SLOT_QG, in, w->qkv, w->qkv_bias);
    for (uint32_t i = 0; i < 3; i++) {
        pick.from = i * h->head_dim;
        plan_add_pick(b, parts[i], SLOT_QG, pick);
    }
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
    kv_group kv = plan_kv_of(h, window);
    return (op_attend){.sinks = w->sinks ? w->sinks->data : NULL,
                       .n_head = h->n_head,
                       .n_head_kv = kv.n_head_kv,
                       .head_dim = kv.head_dim,
                       .scale = h->attn_scale,
                       .softcap = h->attn_softcap,
                       .first = layer == h->n_layers,
                       .window = kv.window,
                       .chunked = kv.chunked,
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
    slot in = plan_add_input(b, w->attn_norm, w->attn_norm_bias);
    plan_add_times(b, in, h->times[TIMES_ATTN_IN]);
    if (h->fam->latent) {
        add_latent(b, in, w);
    } else if (h->qkv_by_heads) {
        add_by_heads(b, in, w);
    } else {
        add_queries(b, in, w);
        if (writes) {
            add_keys(b, in, w, layer);
        }
    }
    plan_add_times(b, SLOT_K, h->times[TIMES_KEY]);
    for (int i = 0; h->qkv_limit > 0 && i < 3; i++) {
        static const slot parts[] = {SLOT_Q, SLOT_K, SLOT_V};
        plan_add(b, OP_CURVE, parts[i], parts[i])->curve = (op_curve){.kind = CURVE_CLAMP, .limit = h->qkv_limit};
    }
    if (!h->fam->qk_norm_turned) {
        add_qk_norms(b, w, layer, writes);
    }
    if (h->n_rot && !h->fam->positions && !h->layer_is_unturned[layer]) {
        add_rope(b, window, writes);
    } else if (h->fam->still_temperature > 0 && h->attn_temperature != 0) {
        plan_add(b, OP_ROPE, SLOT_Q, SLOT_Q)->rope = b->rope_still;
    }
    if (h->fam->qk_norm_turned) {
        add_qk_norms(b, w, layer, writes);
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
    if (h->parallel && w->ffn_norm) { /* of the X that attention read, too */
        plan_add_norm(b, SLOT_N, SLOT_X, w->ffn_norm, w->ffn_norm_bias, h->n_embd);
    }
    if (h->fam->norms == NORMS_OF_SUM) {
        plan_add_normed_residual(b, w->post_attn_norm, w->post_attn_norm_bias, false);
    } else {
        plan_add_residual(b, w->post_attn_norm);
        b->ops[b->n_ops - 1].scale *= h->times[TIMES_ATTN_OUT];
    }
}
