/*
 * Binding of tensors to weights.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "graph/bind_experts.h"
#include "graph/bind_latent.h"

typedef enum extent {
    EXTENT_NONE,
    EXTENT_EMBD,
    EXTENT_Q,
    EXTENT_Q_GATED,
    EXTENT_KV,
    EXTENT_QKV,
    EXTENT_QNORM,
    EXTENT_KNORM,
    EXTENT_FF,
    EXTENT_GATE_UP,
    EXTENT_HEADS,
    EXTENT_EXPERTS,
    EXTENT_SHARED,
    EXTENT_ONE,
    EXTENT_LAYER_EMBD,
    EXTENT_EXPERT_LATENT,
    EXTENT_HEADS_V,
    EXTENT_LATENT_Q,
    EXTENT_LATENT_KV,
    EXTENT_LATENT_KV_ROT,
    EXTENT_CONV_ROWS,
    EXTENT_CONV,
    EXTENT_MIXER,
    EXTENT_MIXER_IN,
    EXTENT_MIXER_HEADS, /* vectors of these may have any shape */
    EXTENT_MIXER_PAIRS,
    EXTENT_MIXER_NORM,
} extent;

/* Whether a layer has the weight: R must, O may, else it has no place there. */
typedef enum need {
    NEED_ATTENTION, /* R in a layer that attends */
    NEED_ATTENTION_BIAS,
    NEED_BEFORE,         /* R with norms on a block's input */
    NEED_BEFORE_BIAS,    /* … that have biases */
    NEED_FFN_NORM,       /* R likewise, unless attention and MLP share one */
    NEED_FFN_NORM_SHORT, /* R where GGUF has another name for it */
    NEED_FFN_NORM_BIAS,
    NEED_AFTER,   /* R with norms on a block's output */
    NEED_SPLIT,   /* R where Q, K and V are apart */
    NEED_SPLIT_K, /* … and the layer writes keys */
    NEED_SPLIT_V, /* … and values of their own */
    NEED_SPLIT_BIAS,
    NEED_FUSED, /* R where they are not */
    NEED_FUSED_BIAS,
    NEED_QK_NORM,
    NEED_K_NORM,
    NEED_GATE, /* R in a gated MLP whose gate is apart */
    NEED_GATE_BIAS,
    NEED_UP, /* R where "up" is up alone */
    NEED_UP_BIAS,
    NEED_GATE_UP, /* R where it is both */
    NEED_GATE_UP_BIAS,
    NEED_FFN_NORM_AFTER, /* R where that is what GGUF calls the norm before the MLP */
    NEED_DOWN,           /* R in a dense layer */
    NEED_DOWN_BIAS,
    NEED_XIELU,          /* R where the MLP has xIELU whose numbers are no metadata */
    NEED_ATTENTION_GATE, /* R where attention's output has a gate of its own */
    NEED_SINKS,
    NEED_LATENT,      /* R in latent attention */
    NEED_LATENT_Q,    /* … whose queries are made of few numbers, too */
    NEED_LATENT_NO_Q, /* … whose are not */
    NEED_EXPERTS,     /* R in a layer of experts */
    NEED_EXPERTS_BIAS,
    NEED_CHOICE_BIAS,
    NEED_OF_SUM,        /* R with norms of X behind a block */
    NEED_SHARED,        /* R in one with experts that all tokens share */
    NEED_SHARED_GATE,   /* … with gates */
    NEED_EXPERT_LATENT, /* R where experts read fewer numbers than X has */
    NEED_SHARED_WEIGHT,
    NEED_BESIDE,        /* R in a layer of experts beside a dense MLP */
    NEED_EXPERT_SCALES, /* O there */
    NEED_LAYER_EMBD,    /* R where layers have embeddings of their own */
    NEED_LAYER_SCALE,
    NEED_CONV, /* R in a layer with a convolution for a mixer */
    NEED_CONV_BIAS,
    NEED_RECUR,      /* R in one with a mixer that has a state */
    NEED_MIXER_NORM, /* R, or O beside attention */
    NEED_DELTA_IN,
    NEED_SSM,
    NEED_SSM_BIAS,
} need;

/* One weight a layer: name after "blk.<i>.", shape [in, out] (a vector has no out), who needs it. */
static const struct {
    const char *name;
    size_t field;
    extent in, out;
    need needed;
} layer_slots[] = {
#define SLOT(field) offsetof(layer_weights, field)
    {"attn_norm.weight", SLOT(attn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_BEFORE},
    {"attn_norm.bias", SLOT(attn_norm_bias), EXTENT_EMBD, EXTENT_NONE, NEED_BEFORE_BIAS},
    {"attn_qkv.weight", SLOT(qkv), EXTENT_EMBD, EXTENT_QKV, NEED_FUSED},
    {"attn_qkv.bias", SLOT(qkv_bias), EXTENT_QKV, EXTENT_NONE, NEED_FUSED_BIAS},
    {"attn_q.weight", SLOT(q), EXTENT_EMBD, EXTENT_Q_GATED, NEED_SPLIT},
    {"attn_k.weight", SLOT(k), EXTENT_EMBD, EXTENT_KV, NEED_SPLIT_K},
    {"attn_v.weight", SLOT(v), EXTENT_EMBD, EXTENT_KV, NEED_SPLIT_V},
    {"attn_output.weight", SLOT(attn_out), EXTENT_HEADS_V, EXTENT_EMBD, NEED_ATTENTION},
    {"attn_q.weight", SLOT(q), EXTENT_EMBD, EXTENT_Q, NEED_LATENT_NO_Q},
    {"attn_q_a.weight", SLOT(q_down), EXTENT_EMBD, EXTENT_LATENT_Q, NEED_LATENT_Q},
    {"attn_q_a_norm.weight", SLOT(q_down_norm), EXTENT_LATENT_Q, EXTENT_NONE, NEED_LATENT_Q},
    {"attn_q_b.weight", SLOT(q_up), EXTENT_LATENT_Q, EXTENT_Q, NEED_LATENT_Q},
    {"attn_kv_a_mqa.weight", SLOT(kv_down), EXTENT_EMBD, EXTENT_LATENT_KV_ROT, NEED_LATENT},
    {"attn_kv_a_norm.weight", SLOT(kv_down_norm), EXTENT_LATENT_KV, EXTENT_NONE, NEED_LATENT},
    {"attn_q.bias", SLOT(q_bias), EXTENT_Q_GATED, EXTENT_NONE, NEED_SPLIT_BIAS},
    {"attn_k.bias", SLOT(k_bias), EXTENT_KV, EXTENT_NONE, NEED_SPLIT_BIAS},
    {"attn_v.bias", SLOT(v_bias), EXTENT_KV, EXTENT_NONE, NEED_SPLIT_BIAS},
    {"attn_output.bias", SLOT(attn_out_bias), EXTENT_EMBD, EXTENT_NONE, NEED_ATTENTION_BIAS},
    {"attn_gate.weight", SLOT(attn_gate), EXTENT_EMBD, EXTENT_Q, NEED_ATTENTION_GATE},
    {"attn_q_norm.weight", SLOT(q_norm), EXTENT_QNORM, EXTENT_NONE, NEED_QK_NORM},
    {"attn_k_norm.weight", SLOT(k_norm), EXTENT_KNORM, EXTENT_NONE, NEED_K_NORM},
    {"post_attention_norm.weight", SLOT(post_attn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_AFTER},
    {"post_ffw_norm.weight", SLOT(post_ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_AFTER},
    {"ffn_norm.weight", SLOT(ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_FFN_NORM},
    {"ffn_norm", SLOT(ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_FFN_NORM_SHORT},
    {"ffn_norm.bias", SLOT(ffn_norm_bias), EXTENT_EMBD, EXTENT_NONE, NEED_FFN_NORM_BIAS},
    {"ffn_gate.weight", SLOT(gate), EXTENT_EMBD, EXTENT_FF, NEED_GATE},
    {"ffn_up.weight", SLOT(up), EXTENT_EMBD, EXTENT_FF, NEED_UP},
    {"ffn_up.weight", SLOT(gate_up), EXTENT_EMBD, EXTENT_GATE_UP, NEED_GATE_UP},
    {"ffn_down.weight", SLOT(down), EXTENT_FF, EXTENT_EMBD, NEED_DOWN},
    {"ffn_act.alpha_n", SLOT(xielu[XIELU_FALL]), EXTENT_ONE, EXTENT_NONE, NEED_XIELU},
    {"ffn_act.alpha_p", SLOT(xielu[XIELU_RISE]), EXTENT_ONE, EXTENT_NONE, NEED_XIELU},
    {"ffn_act.beta", SLOT(xielu[XIELU_SLOPE]), EXTENT_ONE, EXTENT_NONE, NEED_XIELU},
    {"ffn_act.eps", SLOT(xielu[XIELU_LIMIT]), EXTENT_ONE, EXTENT_NONE, NEED_XIELU},
    {"ffn_gate.bias", SLOT(gate_bias), EXTENT_FF, EXTENT_NONE, NEED_GATE_BIAS},
    {"ffn_up.bias", SLOT(up_bias), EXTENT_FF, EXTENT_NONE, NEED_UP_BIAS},
    {"ffn_up.bias", SLOT(gate_up_bias), EXTENT_GATE_UP, EXTENT_NONE, NEED_GATE_UP_BIAS},
    {"ffn_down.bias", SLOT(down_bias), EXTENT_EMBD, EXTENT_NONE, NEED_DOWN_BIAS},
    {"post_attention_norm.weight", SLOT(ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_FFN_NORM_AFTER},
    {"attn_output_norm.weight", SLOT(post_attn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_OF_SUM},
    {"attn_output_norm.bias", SLOT(post_attn_norm_bias), EXTENT_EMBD, EXTENT_NONE, NEED_OF_SUM},
    {"layer_output_norm.weight", SLOT(post_ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_OF_SUM},
    {"layer_output_norm.bias", SLOT(post_ffn_norm_bias), EXTENT_EMBD, EXTENT_NONE, NEED_OF_SUM},
    {"attn_sinks.weight", SLOT(sinks), EXTENT_HEADS, EXTENT_NONE, NEED_SINKS},
    {"ffn_gate_inp.weight", SLOT(router), EXTENT_EMBD, EXTENT_EXPERTS, NEED_EXPERTS},
    {"ffn_gate_inp.bias", SLOT(router_bias), EXTENT_EXPERTS, EXTENT_NONE, NEED_EXPERTS_BIAS},
    {"exp_probs_b.bias", SLOT(choice_bias), EXTENT_EXPERTS, EXTENT_NONE, NEED_CHOICE_BIAS},
    {"ffn_latent_down.weight", SLOT(latent_down), EXTENT_EMBD, EXTENT_EXPERT_LATENT, NEED_EXPERT_LATENT},
    {"ffn_latent_up.weight", SLOT(latent_up), EXTENT_EXPERT_LATENT, EXTENT_EMBD, NEED_EXPERT_LATENT},
    {"ffn_gate_shexp.weight", SLOT(shared_gate), EXTENT_EMBD, EXTENT_SHARED, NEED_SHARED_GATE},
    {"ffn_up_shexp.weight", SLOT(shared_up), EXTENT_EMBD, EXTENT_SHARED, NEED_SHARED},
    {"ffn_down_shexp.weight", SLOT(shared_down), EXTENT_SHARED, EXTENT_EMBD, NEED_SHARED},
    {"ffn_gate_inp_shexp.weight", SLOT(shared_weight), EXTENT_EMBD, EXTENT_ONE, NEED_SHARED_WEIGHT},
    {"ffn_gate_inp.scale", SLOT(router_scale), EXTENT_EMBD, EXTENT_NONE, NEED_BESIDE},
    {"pre_ffw_norm_2.weight", SLOT(experts_norm), EXTENT_EMBD, EXTENT_NONE, NEED_BESIDE},
    {"post_ffw_norm_1.weight", SLOT(post_dense_norm), EXTENT_EMBD, EXTENT_NONE, NEED_BESIDE},
    {"post_ffw_norm_2.weight", SLOT(post_experts_norm), EXTENT_EMBD, EXTENT_NONE, NEED_BESIDE},
    {"ffn_down_exps.scale", SLOT(expert_scales), EXTENT_EXPERTS, EXTENT_NONE, NEED_EXPERT_SCALES},
    {"inp_gate.weight", SLOT(layer_gate), EXTENT_EMBD, EXTENT_LAYER_EMBD, NEED_LAYER_EMBD},
    {"proj.weight", SLOT(layer_proj), EXTENT_LAYER_EMBD, EXTENT_EMBD, NEED_LAYER_EMBD},
    {"post_norm.weight", SLOT(post_layer_norm), EXTENT_EMBD, EXTENT_NONE, NEED_LAYER_EMBD},
    {"layer_output_scale.weight", SLOT(layer_scale), EXTENT_ONE, EXTENT_NONE, NEED_LAYER_SCALE},
    {"shortconv.in_proj.weight", SLOT(mixer_in), EXTENT_EMBD, EXTENT_MIXER_IN, NEED_CONV},
    {"shortconv.in_proj.bias", SLOT(mixer_in_bias), EXTENT_MIXER_IN, EXTENT_NONE, NEED_CONV_BIAS},
    {"shortconv.conv.weight", SLOT(mixer_conv), EXTENT_CONV_ROWS, EXTENT_CONV, NEED_CONV},
    {"shortconv.conv.bias", SLOT(mixer_conv_bias), EXTENT_CONV, EXTENT_NONE, NEED_CONV_BIAS},
    {"shortconv.out_proj.weight", SLOT(mixer_out), EXTENT_MIXER, EXTENT_EMBD, NEED_CONV},
    {"shortconv.out_proj.bias", SLOT(mixer_out_bias), EXTENT_EMBD, EXTENT_NONE, NEED_CONV_BIAS},
    {"ssm_in.weight", SLOT(mixer_in), EXTENT_EMBD, EXTENT_MIXER_IN, NEED_SSM},
    {"ssm_in.bias", SLOT(mixer_in_bias), EXTENT_MIXER_IN, EXTENT_NONE, NEED_SSM_BIAS},
    {"ssm_in.weight", SLOT(mixer_in), EXTENT_EMBD, EXTENT_MIXER_IN, NEED_DELTA_IN},
    {"attn_qkv.weight", SLOT(mixer_qkv), EXTENT_EMBD, EXTENT_CONV, NEED_DELTA_IN},
    {"attn_gate.weight", SLOT(mixer_gate), EXTENT_EMBD, EXTENT_MIXER, NEED_DELTA_IN},
    {"ssm_ba.weight", SLOT(mixer_beta_alpha), EXTENT_EMBD, EXTENT_MIXER_PAIRS, NEED_DELTA_IN},
    {"ssm_beta.weight", SLOT(mixer_beta), EXTENT_EMBD, EXTENT_MIXER_HEADS, NEED_DELTA_IN},
    {"ssm_alpha.weight", SLOT(mixer_alpha), EXTENT_EMBD, EXTENT_MIXER_HEADS, NEED_DELTA_IN},
    {"ssm_conv1d.weight", SLOT(mixer_conv), EXTENT_CONV_ROWS, EXTENT_CONV, NEED_RECUR},
    {"ssm_conv1d.bias", SLOT(mixer_conv_bias), EXTENT_CONV, EXTENT_NONE, NEED_SSM_BIAS},
    {"ssm_dt.bias", SLOT(mixer_step_bias), EXTENT_MIXER_HEADS, EXTENT_NONE, NEED_RECUR},
    {"ssm_a", SLOT(mixer_fade), EXTENT_MIXER_HEADS, EXTENT_NONE, NEED_RECUR},
    {"ssm_d", SLOT(mixer_skip), EXTENT_MIXER_HEADS, EXTENT_NONE, NEED_SSM},
    {"ssm_norm.weight", SLOT(mixer_norm), EXTENT_MIXER_NORM, EXTENT_NONE, NEED_MIXER_NORM},
    {"ssm_out.weight", SLOT(mixer_out), EXTENT_MIXER, EXTENT_EMBD, NEED_RECUR},
    {"ssm_out.bias", SLOT(mixer_out_bias), EXTENT_EMBD, EXTENT_NONE, NEED_SSM_BIAS},
#undef SLOT
};

#define N_LAYER_SLOTS (sizeof layer_slots / sizeof *layer_slots)

/* All that a mixer reads: gates and what they open (LFM2); or queries, keys, values and gates; with Mamba-2's steps. */
static uint64_t mixer_in_width(const hparams *h)
{
    switch (h->fam->mixer) {
    case MIXER_CONV:
        return 3 * (uint64_t)h->n_embd;
    case MIXER_DELTA:
        return (uint64_t)h->conv_width + hparams_mixer_width(h);
    case MIXER_SSM:
        return (uint64_t)h->conv_width + hparams_mixer_width(h) + h->n_mixer_heads;
    case MIXER_NONE:
        break;
    }
    return 0;
}

static uint64_t extent_of(const hparams *h, uint32_t layer, extent e)
{
    uint64_t head = hparams_head_dim(h, layer), q = h->n_head * head, kv = hparams_n_head_kv(h, layer) * head;
    bool norm_all = h->fam->qk_norm == QK_NORM_ALL;
    switch (e) {
    case EXTENT_NONE:
        return 0;
    case EXTENT_EMBD:
        return h->n_embd;
    case EXTENT_Q:
        return q;
    case EXTENT_Q_GATED:
        return h->fam->gated_attention && !h->fam->gate_apart ? 2 * q : q;
    case EXTENT_KV:
        return kv;
    case EXTENT_QKV:
        return q + 2 * kv;
    case EXTENT_QNORM:
        return norm_all ? q : head;
    case EXTENT_KNORM:
        return norm_all ? kv : head;
    case EXTENT_FF:
        return h->layer_ff[layer];
    case EXTENT_GATE_UP:
        return 2 * (uint64_t)h->layer_ff[layer];
    case EXTENT_HEADS:
        return h->n_head;
    case EXTENT_EXPERTS:
        return h->n_expert;
    case EXTENT_SHARED:
        return h->n_ff_shared;
    case EXTENT_ONE:
        return 1;
    case EXTENT_EXPERT_LATENT:
        return h->n_expert_latent;
    case EXTENT_LAYER_EMBD:
        return h->n_embd_layer;
    case EXTENT_HEADS_V:
        return h->fam->latent ? (uint64_t)h->n_head * h->head_v : q;
    case EXTENT_LATENT_Q:
        return h->n_latent_q;
    case EXTENT_LATENT_KV:
        return h->n_latent_kv;
    case EXTENT_LATENT_KV_ROT:
        return (uint64_t)h->n_latent_kv + h->n_rot;
    case EXTENT_CONV_ROWS:
        return h->conv_rows;
    case EXTENT_CONV:
        return h->conv_width;
    case EXTENT_MIXER:
        return hparams_mixer_width(h);
    case EXTENT_MIXER_IN:
        return mixer_in_width(h);
    case EXTENT_MIXER_HEADS:
        return h->n_mixer_heads;
    case EXTENT_MIXER_PAIRS:
        return 2 * h->n_mixer_heads;
    case EXTENT_MIXER_NORM:
        return h->fam->mixer == MIXER_SSM ? hparams_mixer_width(h) : h->mixer_head_v;
    }
    return 0;
}

/* Does this family take the weight, and must it be there? A weight the family does not take stays unbound, and the
 * count of bound tensors then finds it as an extra. */
static bool takes(const hparams *h, uint32_t layer, need n, bool *required)
{
    const family *fam = h->fam;
    bool mlp = hparams_has_mlp(h, layer), sparse = mlp && hparams_is_sparse(h, layer);
    bool dense = mlp && hparams_is_dense(h, layer);
    bool before = (fam->norms == NORMS_BEFORE || fam->norms == NORMS_AROUND) && !fam->bare_norms,
         apart = dense && !fam->fused_gate_up;
    bool attends = h->layer_kinds[layer] == LAYER_ATTENTION, mixes = hparams_mixes(h, layer);
    bool second_norm = !fam->parallel && !fam->one_block;
    *required = true;
    switch (n) {
    case NEED_ATTENTION:
        return attends;
    case NEED_ATTENTION_BIAS:
        *required = false;
        return attends;
    case NEED_BEFORE:
        *required = !(fam->first_unnormed && layer == 0);
        return before;
    case NEED_BEFORE_BIAS:
        return before && fam->norm_bias;
    case NEED_FFN_NORM:
        return before && second_norm && !fam->ffn_norm_after && !fam->ffn_norm_short;
    case NEED_FFN_NORM_SHORT:
        return fam->ffn_norm_short;
    case NEED_FFN_NORM_AFTER:
        return fam->ffn_norm_after;
    case NEED_FFN_NORM_BIAS:
        return before && second_norm && fam->norm_bias;
    case NEED_AFTER:
        return fam->norms == NORMS_AROUND || fam->norms == NORMS_AFTER;
    case NEED_OF_SUM:
        return fam->norms == NORMS_OF_SUM;
    case NEED_SPLIT:
        return attends && !h->fused_qkv && !fam->latent;
    case NEED_SPLIT_K: /* files may have those that nobody uses */
        *required = !hparams_reads_kv(h, layer);
        return attends && !h->fused_qkv && !fam->latent;
    case NEED_SPLIT_V:
        *required = !hparams_reads_kv(h, layer) && !(fam->keys_as_values && !h->layer_has_window[layer]);
        return attends && !h->fused_qkv && !fam->latent;
    case NEED_SPLIT_BIAS:
        *required = fam->qkv_bias;
        return attends && !h->fused_qkv && !fam->latent;
    case NEED_LATENT:
        return attends && fam->latent;
    case NEED_LATENT_Q:
        return attends && fam->latent && h->n_latent_q > 0;
    case NEED_LATENT_NO_Q:
        return attends && fam->latent && h->n_latent_q == 0;
    case NEED_FUSED:
        return attends && h->fused_qkv;
    case NEED_FUSED_BIAS:
        *required = fam->qkv_bias;
        return attends && h->fused_qkv;
    case NEED_QK_NORM:
        *required = !fam->qk_norm_optional;
        return attends && fam->qk_norm != QK_NORM_NONE && fam->qk_norm != QK_NORM_BARE;
    case NEED_K_NORM:
        *required = !fam->qk_norm_optional && !hparams_reads_kv(h, layer);
        return attends && fam->qk_norm != QK_NORM_NONE && fam->qk_norm != QK_NORM_BARE;
    case NEED_GATE:
        return apart && !fam->ungated;
    case NEED_GATE_BIAS:
        *required = false;
        return apart && !fam->ungated;
    case NEED_UP:
        return apart;
    case NEED_UP_BIAS:
        *required = false;
        return apart;
    case NEED_GATE_UP:
        return dense && fam->fused_gate_up;
    case NEED_GATE_UP_BIAS:
        *required = false;
        return dense && fam->fused_gate_up;
    case NEED_DOWN:
        return dense;
    case NEED_DOWN_BIAS:
        *required = false;
        return dense;
    case NEED_XIELU:
        return fam->xielu && dense && !h->xielu[XIELU_FALL];
    case NEED_ATTENTION_GATE:
        return attends && fam->gate_apart;
    case NEED_SINKS:
        return attends && fam->sinks;
    case NEED_EXPERTS:
        return sparse;
    case NEED_EXPERTS_BIAS:
        *required = false;
        return sparse;
    case NEED_CHOICE_BIAS:
        *required = h->routing == ROUTE_SIGMOID;
        return sparse && !fam->experts_weigh_input;
    case NEED_SHARED:
        return sparse && h->n_ff_shared > 0;
    case NEED_SHARED_GATE:
        return sparse && h->n_ff_shared > 0 && !fam->ungated;
    case NEED_EXPERT_LATENT:
        return sparse && h->n_expert_latent > 0;
    case NEED_SHARED_WEIGHT:
        return sparse && h->n_ff_shared > 0 && fam->gated_shared;
    case NEED_BESIDE:
        return sparse && fam->experts_beside;
    case NEED_EXPERT_SCALES:
        *required = false;
        return sparse && fam->experts_beside;
    case NEED_LAYER_EMBD:
        return h->n_embd_layer > 0;
    case NEED_LAYER_SCALE:
        *required = false;
        return fam->layer_scale;
    case NEED_CONV:
        return mixes && fam->mixer == MIXER_CONV;
    case NEED_CONV_BIAS:
        *required = false;
        return mixes && fam->mixer == MIXER_CONV;
    case NEED_RECUR:
        return mixes && fam->mixer != MIXER_CONV;
    case NEED_MIXER_NORM:
        *required = !fam->mixer_beside;
        return mixes && fam->mixer != MIXER_CONV;
    case NEED_DELTA_IN: /* in one of several forms: check_mixer */
        *required = false;
        return mixes && fam->mixer == MIXER_DELTA;
    case NEED_SSM:
        return mixes && fam->mixer == MIXER_SSM;
    case NEED_SSM_BIAS:
        *required = false;
        return mixes && fam->mixer == MIXER_SSM;
    }
    return false;
}

/* ---- parts of fused tensors ---- */

/* Rows [first, first + n) of a matrix, elements of a vector, as a tensor of their own. */
static const tensor *part_of(const tensor *whole, uint64_t first, uint64_t n, region *memory)
{
    tensor *part = whole ? region_array(memory, 1, sizeof *part) : NULL;
    if (!part) {
        return NULL;
    }
    *part = *whole;
    bool vector = whole->n_dims == 1;
    size_t stride = vector ? sizeof(float) : whole->row_bytes;
    part->shape[vector ? 0 : 1] = n;
    if (whole->data) { /* a packed tensor that is only described has none */
        part->data = (const uint8_t *)whole->data + first * stride;
    }
    part->n_bytes = (size_t)n * stride;
    part->row_bytes = vector ? part->n_bytes : whole->row_bytes;
    return part;
}

static mlxr_status split_layer(layer_weights *w, const hparams *h, uint32_t layer, region *memory, mlxr_error *error)
{
    uint64_t q = extent_of(h, layer, EXTENT_Q), kv = extent_of(h, layer, EXTENT_KV), ff = h->layer_ff[layer];
    /* LFM2: a gate of what is convolved, one of the result, what is convolved. Mamba-2: gate, what is convolved, steps.
     */
    bool whole = h->fam->mixer != MIXER_DELTA; /* DeltaNet's is split by heads */
    const tensor *in = whole ? w->mixer_in : NULL, *in_bias = whole ? w->mixer_in_bias : NULL;
    uint64_t first = hparams_mixer_width(h), all = mixer_in_width(h);
    uint64_t second = h->fam->mixer == MIXER_SSM ? h->conv_width : first, third = all - first - second;
    const struct {
        const tensor *whole;
        const tensor **part;
        uint64_t first, n;
    } parts[] = {{w->kv_down, &w->kv_latent, 0, h->n_latent_kv},
                 {w->kv_down, &w->k_shared, h->n_latent_kv, h->n_rot},
                 {w->qkv, &w->q, 0, q},
                 {w->qkv, &w->k, q, kv},
                 {w->qkv, &w->v, q + kv, kv},
                 {w->qkv_bias, &w->q_bias, 0, q},
                 {w->qkv_bias, &w->k_bias, q, kv},
                 {w->qkv_bias, &w->v_bias, q + kv, kv},
                 {w->gate_up, &w->gate, 0, ff},
                 {w->gate_up, &w->up, ff, ff},
                 {w->gate_up_bias, &w->gate_bias, 0, ff},
                 {w->gate_up_bias, &w->up_bias, ff, ff},
                 {in, &w->mixer_first, 0, first},
                 {in, &w->mixer_second, first, second},
                 {in, &w->mixer_third, first + second, third},
                 {in_bias, &w->mixer_first_bias, 0, first},
                 {in_bias, &w->mixer_second_bias, first, second},
                 {in_bias, &w->mixer_third_bias, first + second, third}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bool by_heads = h->qkv_by_heads && (parts[i].whole == w->qkv || parts[i].whole == w->qkv_bias);
        if (parts[i].whole && !by_heads) {
            *parts[i].part = part_of(parts[i].whole, parts[i].first, parts[i].n, memory);
            if (!*parts[i].part) {
                return error_nomem(error, "part of a tensor", sizeof(tensor));
            }
        }
    }
    return MLXR_OK;
}

/* ---- binding ---- */

/* The forms that DeltaNet's inputs come in. */
static mlxr_status check_mixer(const layer_weights *w, const hparams *h, uint32_t layer, mlxr_error *error)
{
    bool whole = w->mixer_in && !w->mixer_qkv && !w->mixer_gate, parts = !w->mixer_in && w->mixer_qkv && w->mixer_gate;
    bool pairs = w->mixer_beta_alpha && !w->mixer_beta && !w->mixer_alpha;
    bool singles = !w->mixer_beta_alpha && w->mixer_beta && w->mixer_alpha;
    if (h->fam->mixer != MIXER_DELTA || h->layer_kinds[layer] != LAYER_MIXER) {
        return MLXR_OK;
    }
    if (!whole && !parts) {
        return error_set(error, MLXR_FORMAT,
                         "layer %u needs either 'blk.%u.ssm_in.weight' or 'blk.%u.attn_qkv.weight' and "
                         "'blk.%u.attn_gate.weight'",
                         layer, layer, layer, layer);
    }
    return pairs || singles ? MLXR_OK
                            : error_set(error, MLXR_FORMAT,
                                        "layer %u needs either 'blk.%u.ssm_ba.weight' or 'blk.%u.ssm_beta.weight' and "
                                        "'blk.%u.ssm_alpha.weight'",
                                        layer, layer, layer, layer);
}

/* Vectors of mixers come as matrices, too: as one row again. */
static mlxr_status flatten_mixer(layer_weights *w, region *memory, mlxr_error *error)
{
    const tensor **vectors[] = {&w->mixer_fade, &w->mixer_skip, &w->mixer_step_bias, &w->mixer_norm};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const tensor *t = *vectors[i];
        if (!t || t->n_dims == 1) {
            continue;
        }
        tensor *flat = region_array(memory, 1, sizeof *flat);
        if (!flat) {
            return error_nomem(error, t->name, sizeof *flat);
        }
        *flat = *t;
        flat->n_dims = 1;
        flat->shape[0] = t->shape[0] * t->shape[1];
        flat->shape[1] = 1;
        flat->row_bytes = t->n_bytes;
        *vectors[i] = flat;
    }
    return MLXR_OK;
}

/* n_out 0: a vector, which is read as it lies. */
static mlxr_status bind_one(const tensor **out, const model_file *file, const char *name, uint64_t in, uint64_t n_out,
                            bool required, bool any_shape, mlxr_error *error)
{
    const tensor *t = model_file_tensor(file, name);
    bool vector = n_out == 0;
    n_out = vector ? 1 : n_out;
    *out = NULL;
    if (!t) {
        return required ? error_set(error, MLXR_FORMAT, "tensor '%s' is missing", name) : MLXR_OK;
    }
    bool fits = t->shape[0] == in && t->shape[1] == n_out && t->shape[2] == 1 && t->shape[3] == 1;
    fits = fits || (vector && any_shape && t->n_dims == 2 && in % t->shape[0] == 0 && in / t->shape[0] == t->shape[1]);
    if (!fits) {
        return error_set(error, MLXR_FORMAT, "tensor '%s' has shape [%llu, %llu, %llu, %llu]; expected [%llu, %llu]",
                         name, (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
                         (unsigned long long)t->shape[2], (unsigned long long)t->shape[3], (unsigned long long)in,
                         (unsigned long long)n_out);
    }
    if (vector && t->type != DTYPE_F32) {
        return error_set(error, MLXR_UNSUPPORTED, "tensor '%s' is %s; norms and biases must be F32", name,
                         dtype_name(t->type));
    }
    *out = t;
    return MLXR_OK;
}

static mlxr_status bind_layer(layer_weights *out, const hparams *h, const model_file *file, uint32_t layer,
                              uint64_t *n_bound, mlxr_error *error)
{
    for (size_t i = 0; i < N_LAYER_SLOTS; i++) {
        bool required;
        if (!takes(h, layer, layer_slots[i].needed, &required)) {
            continue;
        }
        char name[96];
        snprintf(name, sizeof name, "blk.%u.%s", layer, layer_slots[i].name);
        const tensor **field = (const tensor **)(void *)((char *)out + layer_slots[i].field);
        mlxr_status status = bind_one(field, file, name, extent_of(h, layer, layer_slots[i].in),
                                      extent_of(h, layer, layer_slots[i].out), required,
                                      layer_slots[i].in >= EXTENT_MIXER_HEADS, error);
        if (status != MLXR_OK) {
            return status;
        }
        *n_bound += *field != NULL;
    }
    return MLXR_OK;
}

/* ---- the head that predicts ahead ---- */

/* What stands behind "blk.<i>.nextn."; shapes are [n_embd] (0), or [in × n_embd, n_embd or n_vocab]. */
static const struct {
    const char *name;
    size_t field;
    uint32_t in;
    bool to_vocab, required;
} ahead_slots[] = {
#define SLOT(field) offsetof(ahead_weights, field)
    {"eh_proj.weight", SLOT(joined), 2, false, true},
    {"enorm.weight", SLOT(embd_norm), 0, false, true},
    {"hnorm.weight", SLOT(hidden_norm), 0, false, true},
    {"shared_head_norm.weight", SLOT(output_norm), 0, false, false},
    {"embed_tokens.weight", SLOT(embedding), 1, true, false},
    {"shared_head_head.weight", SLOT(output), 1, true, false},
#undef SLOT
};
#define N_AHEAD_SLOTS (sizeof ahead_slots / sizeof *ahead_slots)

static bool ahead_knows(const char *name)
{
    for (size_t i = 0; i < N_AHEAD_SLOTS; i++) {
        if (strncmp(name, "nextn.", 6) == 0 && strcmp(name + 6, ahead_slots[i].name) == 0) {
            return true;
        }
    }
    return false;
}

static mlxr_status bind_ahead(model_weights *w, const hparams *h, const model_file *file, uint64_t *n_bound,
                              mlxr_error *error)
{
    for (size_t i = 0; i < N_AHEAD_SLOTS; i++) {
        char name[96];
        snprintf(name, sizeof name, "blk.%u.nextn.%s", h->n_layers, ahead_slots[i].name);
        const tensor **field = (const tensor **)(void *)((char *)&w->ahead + ahead_slots[i].field);
        uint64_t n_in = ahead_slots[i].in ? ahead_slots[i].in * (uint64_t)h->n_embd : h->n_embd;
        uint64_t n_out = ahead_slots[i].in == 0 ? 0 : ahead_slots[i].to_vocab ? h->n_vocab : h->n_embd;
        mlxr_status status = bind_one(field, file, name, n_in, n_out, ahead_slots[i].required, false, error);
        if (status != MLXR_OK) {
            return status;
        }
        *n_bound += *field != NULL;
    }
    w->ahead.output_norm = w->ahead.output_norm ? w->ahead.output_norm : w->output_norm;
    w->ahead.embedding = w->ahead.embedding ? w->ahead.embedding : w->embedding;
    w->ahead.output = w->ahead.output ? w->ahead.output : w->output;
    return MLXR_OK;
}

/* The layer of "blk.<layer>.<rest>", written as GGUF does: no sign, blank or leading 0. False: it is no such name. */
static bool layer_of(const char *name, uint32_t *layer, const char **rest)
{
    const char *at = name + 4;
    if (strncmp(name, "blk.", 4) != 0 || *at < '0' || *at > '9' || (*at == '0' && at[1] != '.')) {
        return false;
    }
    for (*layer = 0; *at >= '0' && *at <= '9' && *layer < HPARAMS_LAYERS_MAX; at++) {
        *layer = *layer * 10 + (uint32_t)(*at - '0');
    }
    *rest = at + 1;
    return *at == '.';
}

/* ---- what stands outside of layers ---- */

enum {
    GLOBAL_POSITIONS,
    GLOBAL_TOKEN_TYPES,
    GLOBAL_EMBD_NORM,
    GLOBAL_EMBD_NORM_BIAS,
    GLOBAL_EMBEDDING,
    GLOBAL_OUTPUT_NORM,
    GLOBAL_OUTPUT_NORM_EMBD,
    GLOBAL_OUTPUT_NORM_BIAS,
    GLOBAL_OUTPUT,
    GLOBAL_OUTPUT_BIAS,
    GLOBAL_LAYER_EMBEDDING,
    GLOBAL_LAYER_INPUTS,
    GLOBAL_LAYER_INPUTS_NORM,
    GLOBAL_ROPE_FREQS,
    GLOBAL_ROPE_LONG,
    GLOBAL_ROPE_SHORT,
    GLOBAL_DENSE_2,
    GLOBAL_DENSE_3,
    GLOBAL_CLS,
    GLOBAL_CLS_BIAS,
    GLOBAL_CLS_NORM,
    GLOBAL_CLS_NORM_BIAS,
    GLOBAL_CLS_OUT,
    GLOBAL_CLS_OUT_BIAS,
    N_GLOBALS
};

static const struct {
    const char *name;
    size_t field;
} global_slots[N_GLOBALS] = {
#define SLOT(field) offsetof(model_weights, field)
    [GLOBAL_POSITIONS] = {"position_embd.weight", SLOT(positions)},
    [GLOBAL_TOKEN_TYPES] = {"token_types.weight", SLOT(token_types)},
    [GLOBAL_EMBD_NORM] = {"token_embd_norm.weight", SLOT(embd_norm)},
    [GLOBAL_EMBD_NORM_BIAS] = {"token_embd_norm.bias", SLOT(embd_norm_bias)},
    [GLOBAL_EMBEDDING] = {"token_embd.weight", SLOT(embedding)},
    [GLOBAL_OUTPUT_NORM] = {"output_norm.weight", SLOT(output_norm)},
    [GLOBAL_OUTPUT_NORM_EMBD] = {"token_embd_norm.weight", SLOT(output_norm)}, /* LFM2's name for it */
    [GLOBAL_OUTPUT_NORM_BIAS] = {"output_norm.bias", SLOT(output_norm_bias)},
    [GLOBAL_OUTPUT] = {"output.weight", SLOT(output)},
    [GLOBAL_OUTPUT_BIAS] = {"output.bias", SLOT(output_bias)},
    [GLOBAL_LAYER_EMBEDDING] = {"per_layer_token_embd.weight", SLOT(layer_embedding)},
    [GLOBAL_LAYER_INPUTS] = {"per_layer_model_proj.weight", SLOT(layer_inputs)},
    [GLOBAL_LAYER_INPUTS_NORM] = {"per_layer_proj_norm.weight", SLOT(layer_inputs_norm)},
    [GLOBAL_ROPE_FREQS] = {"rope_freqs.weight", SLOT(rope_freqs)},
    [GLOBAL_ROPE_LONG] = {"rope_factors_long.weight", SLOT(rope_long)},
    [GLOBAL_ROPE_SHORT] = {"rope_factors_short.weight", SLOT(rope_short)},
    [GLOBAL_DENSE_2] = {"dense_2.weight", SLOT(dense[0])},
    [GLOBAL_DENSE_3] = {"dense_3.weight", SLOT(dense[1])},
    [GLOBAL_CLS] = {"cls.weight", SLOT(cls)},
    [GLOBAL_CLS_BIAS] = {"cls.bias", SLOT(cls_bias)},
    [GLOBAL_CLS_NORM] = {"cls.norm.weight", SLOT(cls_norm)},
    [GLOBAL_CLS_NORM_BIAS] = {"cls.norm.bias", SLOT(cls_norm_bias)},
    [GLOBAL_CLS_OUT] = {"cls.output.weight", SLOT(cls_out)},
    [GLOBAL_CLS_OUT_BIAS] = {"cls.output.bias", SLOT(cls_out_bias)},
#undef SLOT
};

/* Does a tensor of this name have a place in the model? */
static bool is_known(const model_weights *w, const hparams *h, const tensor *t)
{
    for (size_t i = 0; i < N_GLOBALS; i++) {
        if (t == *(const tensor *const *)(const void *)((const char *)w + global_slots[i].field)) {
            return true;
        }
    }
    uint32_t layer;
    const char *rest;
    if (!layer_of(t->name, &layer, &rest)) {
        return false;
    }
    if (layer >= h->n_layers && !h->predicts_ahead) {
        return layer < h->n_layers + h->n_layers_ahead;
    }
    if (layer >=
        hparams_layers_bound(h)) { /* further ones that predict ahead: what the model says does not need them */
        return layer < h->n_layers + h->n_layers_ahead;
    }
    if (layer == h->n_layers && ahead_knows(rest)) {
        return true;
    }
    if (hparams_has_mlp(h, layer) && hparams_is_sparse(h, layer) && experts_know(&w->layers[layer], h, t, rest)) {
        return true;
    }
    if (h->fam->latent && latent_knows(rest)) {
        return true;
    }
    for (size_t i = 0; i < N_LAYER_SLOTS; i++) {
        bool required;
        if (takes(h, layer, layer_slots[i].needed, &required) && strcmp(rest, layer_slots[i].name) == 0) {
            return true;
        }
    }
    return false;
}

/* A tensor we do not use would be a silent lie about the model's mathematics. */
static mlxr_status refuse_extra(const model_weights *w, const hparams *h, const model_file *file, mlxr_error *error)
{
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        if (!is_known(w, h, &file->tensors[i])) {
            return error_set(error, MLXR_UNSUPPORTED, "tensor '%s' has no place in a %s model of %u layers",
                             file->tensors[i].name, h->fam->name, h->n_layers);
        }
    }
    return MLXR_OK;
}

/* Layers that read what others wrote may have what they do not use; DeltaNet's inputs have several forms. */
static bool may_differ(const hparams *h, uint32_t layer, size_t row)
{
    const char *name = layer_slots[row].name;
    bool keys_values = strncmp(name, "attn_k", 6) == 0 || strncmp(name, "attn_v", 6) == 0;
    return layer_slots[row].needed == NEED_DELTA_IN || (keys_values && hparams_reads_kv(h, layer));
}

/* What layers may lack, all of them have or none has: one that is missing would silently count for nothing. */
static mlxr_status refuse_gaps(const model_weights *w, const hparams *h, mlxr_error *error)
{
    for (size_t i = 0; i < N_LAYER_SLOTS; i++) {
        uint32_t with = UINT32_MAX, without = UINT32_MAX;
        for (uint32_t layer = 0; layer < hparams_layers_bound(h); layer++) {
            bool required;
            if (takes(h, layer, layer_slots[i].needed, &required) && !required && !may_differ(h, layer, i)) {
                const void *field = (const char *)&w->layers[layer] + layer_slots[i].field;
                *(*(const tensor *const *)field ? &with : &without) = layer;
            }
        }
        if (with != UINT32_MAX && without != UINT32_MAX) {
            return error_set(error, MLXR_FORMAT, "tensor 'blk.%u.%s' is missing, while layer %u has one", without,
                             layer_slots[i].name, with);
        }
    }
    return MLXR_OK;
}

static bool has(const model_file *file, const char *name)
{
    return model_file_tensor(file, name) != NULL;
}

static mlxr_status bind_globals(model_weights *w, hparams *h, const model_file *file, uint64_t *n_bound,
                                mlxr_error *error)
{
    const tensor *embedding = model_file_tensor(file, "token_embd.weight");
    if (!embedding) {
        return error_set(error, MLXR_FORMAT, "tensor 'token_embd.weight' is missing");
    }
    if (embedding->shape[1] == 0 || embedding->shape[1] > (1u << 24)) {
        return error_set(error, MLXR_FORMAT,
                         "tensor 'token_embd.weight' gives a vocabulary of %llu; it must be 1 to %u",
                         (unsigned long long)embedding->shape[1], 1u << 24);
    }
    h->n_vocab = (uint32_t)embedding->shape[1];
    if (h->n_vocab_said > 0 && h->n_vocab != h->n_vocab_said) {
        return error_set(error, MLXR_FORMAT, "tensor 'token_embd.weight' has %u rows; vocab_size in config.json is %u",
                         h->n_vocab, h->n_vocab_said);
    }
    const tensor *positions = model_file_tensor(file, "position_embd.weight");
    const tensor *types = model_file_tensor(file, "token_types.weight");
    const tensor *cls_out = model_file_tensor(file, "cls.output.weight");
    const tensor *dense_2 = model_file_tensor(file, "dense_2.weight");
    const tensor *dense_3 = model_file_tensor(file, "dense_3.weight");
    const family *fam = h->fam;
    uint64_t n_layer_inputs = (uint64_t)h->n_layers * h->n_embd_layer;
    /* a decoder may have two of them: yes and no */
    uint64_t n_labels = cls_out && cls_out->shape[1] == 2 && !fam->encoder ? 2 : 1;
    if (positions && fam->positions && positions->shape[1] < h->n_ctx_train) {
        return error_set(error, MLXR_FORMAT, "tensor 'position_embd.weight' has %llu positions for a context of %u",
                         (unsigned long long)positions->shape[1], h->n_ctx_train);
    }
    /* llama.cpp's converter leaves BERT's pooler out: what it wrote ranks without, and loading it says so */
    bool has_cls = has(file, "cls.weight") || has(file, "cls.bias");
    bool needs_cls = fam->encoder && (fam->gelu_head || has_cls || file->format != MODEL_GGUF);
    const struct {
        uint64_t in, n_out; /* n_out 0: a vector */
        bool required, taken;
    } globals[N_GLOBALS] = {
        [GLOBAL_POSITIONS] = {h->n_embd, positions ? positions->shape[1] : 0, true, fam->positions},
        [GLOBAL_TOKEN_TYPES] = {h->n_embd, h->n_token_types || !types ? h->n_token_types : types->shape[1],
                                h->needs_token_types, fam->positions || fam->token_types},
        [GLOBAL_EMBD_NORM] = {h->n_embd, 0, true, fam->embedding_norm},
        [GLOBAL_EMBD_NORM_BIAS] = {h->n_embd, 0, fam->norm_bias, fam->embedding_norm},
        [GLOBAL_EMBEDDING] = {h->n_embd, h->n_vocab, true, true},
        [GLOBAL_OUTPUT_NORM] = {h->n_embd, 0, true,
                                fam->norms != NORMS_OF_SUM && !fam->output_norm_embd && !fam->bare_norms},
        [GLOBAL_OUTPUT_NORM_EMBD] = {h->n_embd, 0, true, fam->norms != NORMS_OF_SUM && fam->output_norm_embd},
        [GLOBAL_OUTPUT_NORM_BIAS] = {h->n_embd, 0, true, fam->norm_bias && fam->norms != NORMS_OF_SUM},
        [GLOBAL_OUTPUT] = {h->n_embd, h->n_vocab, false, !fam->encoder},
        [GLOBAL_OUTPUT_BIAS] = {h->n_vocab, 0, !h->headless, fam->output_bias},
        [GLOBAL_LAYER_EMBEDDING] = {n_layer_inputs, h->n_vocab, true, h->n_embd_layer > 0},
        [GLOBAL_LAYER_INPUTS] = {h->n_embd, n_layer_inputs, true, h->n_embd_layer > 0},
        [GLOBAL_LAYER_INPUTS_NORM] = {h->n_embd_layer, 0, true, h->n_embd_layer > 0},
        [GLOBAL_ROPE_FREQS] = {h->n_rot / 2, 0, false, true},
        [GLOBAL_ROPE_LONG] = {h->n_rot / 2, 0, has(file, "rope_factors_short.weight"), true},
        [GLOBAL_ROPE_SHORT] = {h->n_rot / 2, 0, has(file, "rope_factors_long.weight"), true},
        [GLOBAL_DENSE_2] = {h->n_embd, dense_2 ? dense_2->shape[1] : 1, dense_3 != NULL, fam->dense_heads},
        [GLOBAL_DENSE_3] = {dense_2 ? dense_2->shape[1] : 0, dense_3 ? dense_3->shape[1] : 1, dense_2 != NULL,
                            fam->dense_heads},
        /* of an encoder's first token first another vector is made, of a decoder's last token the number at once */
        [GLOBAL_CLS] = {h->n_embd, h->n_embd, needs_cls, h->ranks},
        [GLOBAL_CLS_BIAS] = {h->n_embd, 0, needs_cls && (!fam->gelu_head || h->cls_biased), h->ranks},
        [GLOBAL_CLS_NORM] = {h->n_embd, 0, fam->gelu_head, h->ranks && fam->gelu_head},
        [GLOBAL_CLS_NORM_BIAS] = {h->n_embd, 0, false, h->ranks && fam->gelu_head},
        [GLOBAL_CLS_OUT] = {h->n_embd, n_labels, true, h->ranks},
        [GLOBAL_CLS_OUT_BIAS] = {n_labels, 0, fam->encoder, h->ranks}};
    for (size_t i = 0; i < N_GLOBALS; i++) {
        const tensor **field = (const tensor **)(void *)((char *)w + global_slots[i].field);
        if (!globals[i].taken) {
            continue;
        }
        mlxr_status status = bind_one(field, file, global_slots[i].name, globals[i].in, globals[i].n_out,
                                      globals[i].required, false, error);
        if (status != MLXR_OK) {
            return status;
        }
        *n_bound += *field != NULL;
    }
    if (!w->output) {
        w->output = w->embedding;
    }
    return MLXR_OK;
}

mlxr_status bind_weights(model_weights *out, hparams *h, const model_file *file, region *memory, mlxr_error *error)
{
    model_weights w = {0};
    uint64_t n_bound = 0;
    w.layers = region_array(memory, hparams_layers_bound(h), sizeof *w.layers);
    if (!w.layers) {
        return error_nomem(error, "layer table", h->n_layers * sizeof *w.layers);
    }
    mlxr_status status = bind_globals(&w, h, file, &n_bound, error);
    if (status == MLXR_OK && h->predicts_ahead) {
        status = bind_ahead(&w, h, file, &n_bound, error);
    }
    for (uint32_t i = 0; i < hparams_layers_bound(h) && status == MLXR_OK; i++) {
        status = bind_layer(&w.layers[i], h, file, i, &n_bound, error);
        if (status == MLXR_OK) {
            status = split_layer(&w.layers[i], h, i, memory, error);
        }
        if (status == MLXR_OK) {
            status = check_mixer(&w.layers[i], h, i, error);
        }
        if (status == MLXR_OK) {
            status = flatten_mixer(&w.layers[i], memory, error);
        }
        if (status == MLXR_OK && hparams_has_mlp(h, i) && hparams_is_sparse(h, i)) {
            status = bind_experts(&w.layers[i], h, file, i, memory, &n_bound, error);
        }
        if (status == MLXR_OK && h->fam->latent) {
            status = bind_latent(&w.layers[i], h, file, i, memory, &n_bound, error);
        }
    }
    if (status == MLXR_OK) {
        status = refuse_gaps(&w, h, error);
    }
    if (status == MLXR_OK && h->n_expert > 0) {
        status = experts_refuse_gaps(w.layers, h, error);
    }
    if (status == MLXR_OK && n_bound < file->n_tensors) {
        status = refuse_extra(&w, h, file, error);
    }
    if (status == MLXR_OK) {
        *out = w;
    }
    return status;
}
