/*
 * A head that predicts the token behind the next (multi-token prediction: DeepSeek-AI 2024, "DeepSeek-V3", section
 * 2.2): one more layer, with keys and values of its own, which joins the hidden state h behind a token with the
 * embedding e of the next one,
 *
 *     x[p] = M · [norm(e[p]) ; norm(h[p − 1])],   logits of token p + 1 = output · norm(layer(x[1 … p]))
 *
 * A row stands at the position of the token whose embedding it has: then what it computes follows from the tokens up to
 * there, as all else that pages hold, and the head's keys lie in the pages of the model's other layers. At position 0
 * nothing stands. The state of the group `group_ahead` is h of the newest token.
 *
 *   the model's plan   ends with the head's keys and values of every row: they need no attention
 *   the head's plan    a row a sequence: h is given, and what stands for it in the next row is handed back, so that the
 *                      head can go on behind a token that it has itself proposed
 *
 * Models may have several such layers, of which the k-th predicts the k-th token from what the one before it leaves.
 * Drafts are made with the first alone, which goes on from itself: as exact for the next token,
 * since the keys of the k-th need all layers before it computed in full for every token of a prompt.
 *
 * Owner: graph_build. Lifetime: the call.
 */
#include <string.h>

#include "base/error.h"
#include "graph/plan_builder.h"
#include "kernels/step_profile.h"

mlxr_status ahead_check(const hparams *h, mlxr_error *error)
{
    if (h->predicts_ahead) {
        return MLXR_OK;
    }
    if (h->n_layers_ahead == 0 || h->fam->ahead == AHEAD_NONE) {
        return error_set(error, MLXR_UNSUPPORTED, "this %s model has no multi-token-prediction head%s", h->fam->name,
                         h->n_layers_ahead ? " that MLXR knows" : "");
    }
    return error_set(error, MLXR_UNSUPPORTED,
                     "the multi-token-prediction head of this model is not in the file: no tensor is called 'blk.%u.…'",
                     h->n_layers);
}

/* What moves each row of a slot to the next: a convolution over two, of which the newer counts nothing. */
static const tensor *shift_weights(builder *b)
{
    uint32_t n = b->g->h.n_embd;
    tensor *made = region_array(&b->g->memory, 1, sizeof *made);
    float *taps = region_array(&b->g->memory, 2 * (size_t)n, sizeof *taps);
    if (!made || !taps) {
        b->no_memory = true;
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        taps[2 * i] = 1;
        taps[2 * i + 1] = 0;
    }
    *made = (tensor){.name = "the row before",
                     .type = DTYPE_F32,
                     .n_dims = 2,
                     .shape = {2, n, 1, 1},
                     .row_bytes = 2 * sizeof *taps,
                     .n_bytes = 2 * (size_t)n * sizeof *taps,
                     .data = taps};
    return made;
}

/* dst = M · [norm(e) ; norm(H)] */
static void add_joined(builder *b, slot dst)
{
    const hparams *h = &b->g->h;
    const ahead_weights *w = &b->g->weights.ahead;
    uint32_t n = h->n_embd;
    op *embed = plan_add(b, OP_EMBED, SLOT_O, SLOT_NONE);
    embed->weight = w->embedding;
    embed->scale = h->embedding_scale;
    plan_add_norm(b, SLOT_O, SLOT_O, w->embd_norm, NULL, n);
    plan_add_norm(b, SLOT_H, SLOT_H, w->hidden_norm, NULL, n);
    plan_add_pick(b, SLOT_EH, SLOT_O, (op_pick){.n_groups = 1, .group = n, .n = n});
    plan_add_pick(b, SLOT_EH, SLOT_H, (op_pick){.n_groups = 1, .group = n, .n = n, .to = n});
    plan_add_linear(b, dst, SLOT_EH, w->joined, NULL);
}

void ahead_add_keys(builder *b)
{
    const hparams *h = &b->g->h;
    const model_weights *w = &b->g->weights;
    const layer_weights *layer = &w->layers[h->n_layers];
    b->layer = (uint16_t)h->n_layers;
    plan_set_layer_widths(b, h->n_layers);
    if (h->fam->ahead == AHEAD_NORMED) {
        plan_add_norm(b, SLOT_H, SLOT_X, w->output_norm, w->output_norm_bias, h->n_embd);
    } else {
        plan_add_pick(b, SLOT_H, SLOT_X, (op_pick){.n_groups = 1, .group = h->n_embd, .n = h->n_embd});
    }
    op *shift = plan_add(b, OP_CONV, SLOT_H, SLOT_H);
    shift->weight = shift_weights(b);
    shift->conv = (op_conv){.state = {.kv_group = b->group_ahead}, .n = 2};
    add_joined(b, SLOT_O);
    plan_add_norm(b, SLOT_N, SLOT_O, layer->attn_norm, NULL, h->n_embd);
    plan_add_keys_alone(b, SLOT_N, layer, h->n_layers);
    b->layer = STEP_NO_LAYER;
}

static void add_head(builder *b)
{
    const hparams *h = &b->g->h;
    const model_weights *w = &b->g->weights;
    const layer_weights *layer = &w->layers[h->n_layers];
    b->layer = (uint16_t)h->n_layers;
    plan_set_layer_widths(b, h->n_layers);
    plan_add(b, OP_LOAD, SLOT_H, SLOT_NONE);
    add_joined(b, SLOT_X);
    plan_add_attention(b, layer, h->n_layers);
    plan_add(b, OP_TAKE_ROWS, SLOT_X, SLOT_X);
    plan_add_mlp(b, layer);
    plan_add_norm(b, SLOT_N, SLOT_X, w->ahead.output_norm, NULL, h->n_embd);
    op *store = plan_add(b, OP_STORE, SLOT_NONE, h->fam->ahead == AHEAD_NORMED ? SLOT_N : SLOT_X);
    store->width = h->n_embd;
    plan_add_logits(b, w->ahead.output);
    b->layer = STEP_NO_LAYER;
}

void ahead_make_plan(builder *b, size_t n_ops_max)
{
    graph *g = b->g;
    op *ops = region_array(&g->memory, n_ops_max, sizeof *ops);
    if (!ops) {
        b->no_memory = true;
        return;
    }
    builder own = *b;
    own.ops = ops;
    own.n_ops = 0;
    memcpy(own.width, g->plan.slot_width, sizeof own.width);
    add_head(&own);
    b->no_memory = own.no_memory;
    g->ahead_plan = g->plan;
    g->ahead_plan.ops = ops;
    g->ahead_plan.n_ops = own.n_ops;
    g->ahead_plan.carried = g->h.n_embd;
    g->group_ahead = b->group_ahead;
}
