/*
 * The layers of a plan, one behind the other, and the operations that all of them share.
 * Owner: graph_build. Lifetime: the call; what is made lies in the graph's region.
 */
#include <math.h>

#include "graph/plan_builder.h"
#include "kernels/step_profile.h"
#include "quant/codec.h"

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

/* A slot × factor, if it is no 1. */
void plan_add_times(builder *b, slot s, float factor)
{
    if (factor != 1) {
        plan_add(b, OP_SCALE, s, s)->scale = factor;
    }
}

/* A block's output joins X, behind a norm of its own where the family has one. */
void plan_add_residual(builder *b, const tensor *post_norm)
{
    if (post_norm) {
        plan_add_norm(b, SLOT_O, SLOT_O, post_norm, NULL, b->g->h.n_embd);
    }
    plan_add(b, OP_ADD, SLOT_X, SLOT_O)->scale = b->g->h.residual_scale;
}

/* The same where the norm is X's, which the last one hands out. */
void plan_add_normed_residual(builder *b, const tensor *norm, const tensor *bias, bool last)
{
    plan_add(b, OP_ADD, SLOT_X, SLOT_O)->scale = b->g->h.residual_scale;
    plan_add_norm(b, last ? SLOT_LOGITS : SLOT_X, SLOT_X, norm, bias, b->g->h.n_embd);
}

/* What a block reads: X, or the norm of it. */
slot plan_add_input(builder *b, const tensor *weight, const tensor *bias)
{
    if (!weight && !b->g->h.fam->bare_norms) {
        return SLOT_X;
    }
    plan_add_norm(b, SLOT_N, SLOT_X, weight, bias, b->g->h.n_embd);
    return SLOT_N;
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
    plan_add(b, OP_GATED, SLOT_G, SLOT_U)->act = h->act;
    plan_add_linear(b, SLOT_O, SLOT_G, w->layer_proj, NULL);
    plan_add_residual(b, w->post_layer_norm);
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
    kv_group kv = plan_kv_of(h, h->layer_has_window[layer]);
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
    *first = tensor_of_floats(kinds->name, values, n);
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
    if (b->g->h.parallel) {
        plan_add(b, OP_TAKE_ROWS, SLOT_N, SLOT_N);
    }
    if (b->g->h.n_embd_layer) {
        plan_add(b, OP_TAKE_ROWS, SLOT_LE, SLOT_LE);
    }
}

void plan_add_layers(builder *b, bool turns)
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
        o->bias = b->g->plan.two_texts ? NULL : first_kind(b, w->token_types);
        plan_add(b, OP_ADD, SLOT_X, SLOT_N);
    } else {
        embed->bias = b->g->plan.two_texts ? NULL : first_kind(b, w->token_types);
    }
    if (b->g->plan.two_texts) {
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
        }
        if (hparams_mixes(h, i)) {
            plan_add_mixer(b, &w->layers[i], turns);
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
