/*
 * Recurrent layers in a plan: short convolutions, linear attention, state spaces.
 * Owner: graph_build. Lifetime: the call; what is made lies in the graph's region.
 */
#include <math.h>

#include "graph/plan_builder.h"
#include "quant/codec.h"

/* A small vector as aligned floats; NULL for none. */
const float *plan_copy_vector(builder *b, const tensor *t)
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

/* A convolution's weights × what multiplies its values, keys and queries; its own, where nothing does. */
static const tensor *times_conv(builder *b, const tensor *weight)
{
    const hparams *h = &b->g->h;
    uint32_t n = h->conv_rows, width = hparams_mixer_width(h), keys = hparams_mixer_keys(h);
    bool none = h->times[TIMES_V] == 1 && h->times[TIMES_K] == 1 && h->times[TIMES_Q] == 1;
    if (none || !weight->data) {
        return weight;
    }
    tensor *made = region_array(&b->g->memory, 1, sizeof *made);
    float *values = region_array(&b->g->memory, (size_t)n * h->conv_width, sizeof *values);
    if (!made || !values) {
        b->no_memory = true;
        return weight;
    }
    for (uint32_t i = 0; i < h->conv_width; i++) {
        float times = h->times[i < width ? TIMES_V : i < width + keys ? TIMES_K : TIMES_Q];
        codec_decode(weight->type, (const uint8_t *)weight->data + i * weight->row_bytes, values + (size_t)i * n, n);
        for (uint32_t j = 0; j < n; j++) {
            values[(size_t)i * n + j] *= times;
        }
    }
    *made = *weight;
    made->type = DTYPE_F32;
    made->data = values;
    made->row_bytes = n * sizeof *values;
    made->n_bytes = made->row_bytes * h->conv_width;
    return made;
}

static void add_conv(builder *b, const layer_weights *w, bool silu)
{
    op *o = plan_add(b, OP_CONV, SLOT_C, SLOT_C);
    o->weight = times_conv(b, w->mixer_conv);
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
                    .fade = plan_copy_vector(b, w->mixer_fade),
                    .step_bias = plan_copy_vector(b, w->mixer_step_bias),
                    .skip = plan_copy_vector(b, w->mixer_skip),
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

/* Z = Mamba-2's gated output, normed in groups before its gate or behind it, or not at all. */
static void add_gated_norm(builder *b, const layer_weights *w)
{
    const hparams *h = &b->g->h;
    for (int i = 0; i < 2; i++) {
        bool norm = (i == 0) == h->mixer_norm_first;
        slot s = i == 0 ? SLOT_M : SLOT_Z;
        if (!norm) {
            plan_add(b, OP_GATED, SLOT_Z, SLOT_M)->act = ACT_SILU;
        } else if (w->mixer_norm) {
            plan_add_norm(b, s, s, w->mixer_norm, NULL, hparams_mixer_width(h) / h->n_mixer_heads_k);
            b->ops[b->n_ops - 1].norm.whole_weight = true;
        }
    }
}

/* A mixer in the place of attention, or behind it, which leaves its gated output in Z. */
void plan_add_mixer(builder *b, const layer_weights *w, bool turns)
{
    const hparams *h = &b->g->h;
    slot in = SLOT_N; /* beside attention it reads what that read, which X has joined since */
    if (h->fam->mixer_beside) {
        plan_add_times(b, in, h->times[TIMES_MIXER_IN] / h->times[TIMES_ATTN_IN]);
    } else {
        in = plan_add_input(b, w->attn_norm, w->attn_norm_bias);
    }
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
        plan_add_times(b, SLOT_Z, h->times[TIMES_Z]);
        plan_add_times(b, SLOT_D, h->times[TIMES_STEP]);
        add_conv(b, w, true);
        add_recur(b, w, turns);
        add_gated_norm(b, w);
    }
    b->n_mixer++;
    plan_add_linear(b, SLOT_O, SLOT_Z, w->mixer_out, w->mixer_out_bias);
    plan_add_residual(b, NULL);
    b->ops[b->n_ops - 1].scale *= h->times[TIMES_MIXER_OUT];
}
