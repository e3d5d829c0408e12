/*
 * Graph: family row + hyper-parameters + tensors → plan.
 * Owner: the model. Lifetime: graph_build to graph_close.
 */
#include "graph/graph.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "graph/bind_latent.h"
#include "graph/plan_builder.h"
#include "graph/rope.h"
#include "graph/rope_extend.h"

#define OPS_PER_LAYER_MAX 48u
#define OPS_GLOBAL 16u

/* What embeds or ranks texts stays as it is where a length for whatever can have it is asked for, not a scale: the
 * vectors of all texts would be others, and those that were kept from before would go with none of them. */
static mlxr_status keep_reader(const hparams *h, const mlxr_model_options *o, mlxr_error *error)
{
    bool reads = !h->fam->positions && (h->fam->encoder || h->ranks || h->pooling);
    if (!reads || !o || !o->rope.if_possible || o->rope.scale != 0) {
        return MLXR_OK;
    }
    bool changes = o->rope.base != 0 || o->rope.n_original != 0 ||
                   (o->rope.scaling != MLXR_ROPE_OF_FILE && o->n_ctx_max > h->n_ctx_train);
    return changes ? error_set(error, MLXR_UNSUPPORTED,
                               "it embeds or ranks texts, whose vectors would all be others: that needs a RoPE scale")
                   : MLXR_OK;
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
static void choose_longrope(graph *g, const mlxr_model_options *options)
{
    uint32_t n_ctx = options ? options->n_ctx_max : 0;
    hparams *h = &g->h;
    if (h->scaling.kind == ROPE_SCALING_NONE && g->weights.rope_long) {
        h->scaling.kind = ROPE_SCALING_LONGROPE;
        h->scaling.factor = (float)h->n_ctx_train / (float)h->scaling.n_ctx_orig;
    }
    if (h->scaling.kind == ROPE_SCALING_LONGROPE) {
        h->rope_is_long = (n_ctx && n_ctx < h->n_ctx_train ? n_ctx : h->n_ctx_train) > h->scaling.n_ctx_orig;
    }
}

/* Factors where the options leave them out: but for those of pairs that do not turn, 1. */
static const float *plain_factors(graph *g, const float *factors)
{
    float *plain = region_array(&g->memory, g->h.n_rot / 2, sizeof *plain);
    for (uint32_t i = 0; plain && i < g->h.n_rot / 2; i++) {
        plain[i] = factors[i] >= ROPE_FACTOR_STILL ? factors[i] : 1.0f;
    }
    return plain;
}

static mlxr_status set_ropes(builder *b, const model_file *file, const mlxr_model_options *options, mlxr_error *error)
{
    hparams *h = &b->g->h;
    float *full = region_array(&b->g->memory, h->n_rot / 2, sizeof *full);
    float *local = region_array(&b->g->memory, h->n_rot_window / 2, sizeof *local);
    if (!full || !local) {
        return error_nomem(error, "RoPE frequencies", h->n_rot * sizeof *full);
    }
    float *still = region_array(&b->g->memory, h->n_rot / 2, sizeof *still);
    if (!still) {
        return error_nomem(error, "RoPE frequencies", h->n_rot * sizeof *still);
    }
    const tensor *factors = rope_factors(b->g);
    if (factors && (uintptr_t)factors->data % sizeof(float) != 0) {
        return error_set(error, MLXR_FORMAT, "tensor '%s' is not aligned", factors->name);
    }
    if (!factors && h->scaling.kind == ROPE_SCALING_LONGROPE) {
        return error_set(error, MLXR_FORMAT, "RoPE scaling 'longrope' without rope_factors_%s.weight",
                         h->rope_is_long ? "long" : "short");
    }
    const float *divisors = factors ? factors->data : NULL;
    mlxr_status status = keep_reader(h, options, error);
    status = status == MLXR_OK ? rope_extend(h, divisors, options, error) : status;
    if (status != MLXR_OK) {
        return status;
    }
    divisors = divisors && h->rope_unfactored ? plain_factors(b->g, divisors) : divisors;
    if (factors && !divisors) {
        return error_nomem(error, "RoPE frequencies", h->n_rot * sizeof *full);
    }
    if (h->attn_temperature != 0 && h->n_rot < h->head_dim) {
        return error_set(error, MLXR_UNSUPPORTED, "attention temperature in a model that turns %u of %u elements",
                         h->n_rot, h->head_dim);
    }
    bool pairs = file->rope_halves ? h->fam->safetensors_keep_pairs : h->fam->gguf_rope == ROPE_PAIRS;
    rope_kind kind = pairs ? ROPE_PAIRS : ROPE_HALVES;
    b->rope_full = (op_rope){
        .kind = kind, .head_dim = plan_kv_of(h, false).head_dim, .n_rot = h->n_rot, .inv_freq = full};
    b->rope_local = (op_rope){
        .kind = kind, .head_dim = plan_kv_of(h, true).head_dim, .n_rot = h->n_rot_window, .inv_freq = local};
    b->rope_still = b->rope_full;
    b->rope_still.inv_freq = still; /* zeros */
    b->rope_still.magnitude = 1;
    b->rope_still.temperature = h->attn_temperature;
    b->rope_still.temperature_span = h->temperature_span;
    b->rope_still.temperature_from = 1;
    rope_frequencies(h->n_rot, h->rope_theta, &h->scaling, divisors, full, &b->rope_full.magnitude);
    for (uint32_t i = 0; h->rope_stretch != 1 && i < h->n_rot / 2; i++) {
        full[i] /= h->rope_stretch;
    }
    b->g->rope_name = rope_name(h);
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

mlxr_status graph_build(graph **out, const model_file *file, const mlxr_model_options *options, bool ahead,
                        mlxr_error *error)
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
    choose_longrope(g, options);
    status = set_ropes(&b, file, options, error);
    if (status != MLXR_OK) {
        goto fail;
    }
    size_t n_ops_max = ((size_t)g->h.n_layers + ahead) * OPS_PER_LAYER_MAX + OPS_GLOBAL;
    b.ops = region_array(&g->memory, n_ops_max, sizeof *b.ops);
    if (!b.ops) {
        status = error_nomem(error, "plan", n_ops_max * sizeof *b.ops);
        goto fail;
    }
    plan_set_slots(&g->plan, &g->h, ahead);
    /* What ranks reads two texts, which others never do. */
    g->plan.two_texts = g->h.ranks && g->weights.token_types && g->weights.token_types->shape[1] > 1;
    memcpy(b.width, g->plan.slot_width, sizeof b.width);
    plan_set_groups(&b);
    if (g->plan.n_kv_groups == 0) {
        status = error_set(error, MLXR_UNSUPPORTED, "no layer of the model sees other tokens than its own");
        goto fail;
    }
    plan_add_layers(&b, g->h.fam->gguf_heads_in_turn && !file->rope_halves);
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
    graph_count_bytes(g, file);
    *out = g;
    return MLXR_OK;
fail:
    graph_close(&g);
    return status;
}

mlxr_status graph_make_weights(graph *g, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (uint32_t i = 0; i < graph_layers_used(g) && status == MLXR_OK; i++) {
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
