/*
 * MLPs in a plan: gated ones, mixtures of experts, and what stands beside them.
 * Owner: graph_build. Lifetime: the call; what is made lies in the graph's region.
 */
#include <math.h>

#include "graph/plan_builder.h"
#include "quant/codec.h"

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
                      .weigh_input = h->fam->experts_weigh_input,
                      .choice_bias = w->choice_bias ? w->choice_bias->data : NULL,
                      .n_groups = h->n_expert_groups,
                      .n_groups_used = h->n_expert_groups_used,
                      .groups_by_best = h->groups_by_best,
                      .expert_scales = plan_copy_vector(b, w->expert_scales),
                      .act = h->act,
                      .gate = w->gate_experts,
                      .up = w->up_experts,
                      .down = w->down_experts,
                      .gate_bias = w->gate_experts_bias,
                      .up_bias = w->up_experts_bias,
                      .down_bias = w->down_experts_bias};
    b->width[dst] = x->n_in;
    plan_add(b, OP_EXPERTS, dst, in)->experts = x;
}

/* The mixture joins X before what all tokens share does, unless a norm of their sum comes first. */
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
    bool together = w->post_ffn_norm && w->shared_up; /* what both give joins X behind one norm */
    slot shared = together ? SLOT_P : SLOT_O;
    if (!together) {
        plan_add_residual(b, w->post_ffn_norm);
    }
    if (w->shared_up) {
        plan_add_linear(b, SLOT_SG, in, w->shared_gate ? w->shared_gate : w->shared_up, NULL);
        if (w->shared_gate) {
            plan_add_linear(b, SLOT_SU, in, w->shared_up, NULL);
        }
        plan_add(b, OP_GATED, SLOT_SG, w->shared_gate ? SLOT_SU : SLOT_NONE)->act = h->act;
        plan_add_linear(b, shared, SLOT_SG, w->shared_down, NULL);
        if (w->shared_weight) {
            plan_add_linear(b, SLOT_SW, in, w->shared_weight, NULL);
            plan_add(b, OP_WEIGH, shared, SLOT_SW);
        }
        if (together) {
            plan_add(b, OP_ADD, SLOT_O, SLOT_P);
        }
        plan_add_residual(b, together ? w->post_ffn_norm : NULL);
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
    slot in = h->parallel ? SLOT_N : plan_add_input(b, norm, w->ffn_norm_bias);
    if (w->router && !beside) {
        add_experts(b, w, in);
        return;
    }
    if (h->fam->ungated) {
        plan_add_linear(b, SLOT_G, in, w->up, w->up_bias);
        if (h->fam->xielu) {
            plan_add(b, OP_CURVE, SLOT_G, SLOT_G)->curve = w->xielu_curve;
        } else {
            plan_add(b, OP_GATED, SLOT_G, SLOT_NONE)->act = h->act;
        }
    } else {
        plan_add_linear(b, SLOT_G, in, w->gate, w->gate_bias);
        plan_add_times(b, SLOT_G, h->times[TIMES_GATE]);
        plan_add_linear(b, SLOT_U, in, w->up, w->up_bias);
        plan_add(b, OP_GATED, SLOT_G, SLOT_U)->act = h->act;
    }
    plan_add_linear(b, SLOT_O, SLOT_G, w->down, w->down_bias);
    if (beside) {
        plan_add_norm(b, SLOT_O, SLOT_O, w->post_dense_norm, NULL, h->n_embd);
        plan_add(b, OP_ADD, SLOT_O, SLOT_P);
    }
    if (h->fam->norms == NORMS_OF_SUM) {
        plan_add_normed_residual(b, w->post_ffn_norm, w->post_ffn_norm_bias, b->layer + 1u == h->n_layers);
    } else {
        plan_add_residual(b, w->post_ffn_norm);
        b->ops[b->n_ops - 1].scale *= h->times[TIMES_DOWN];
    }
}
