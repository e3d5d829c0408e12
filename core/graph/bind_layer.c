/*
 * Binding of a layer's tensors.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind_layer.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "graph/bind_parts.h"
#include "graph/bind_tensor.h"

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

mlxr_status bind_layer(layer_weights *out, const hparams *h, const model_file *file, uint32_t layer, uint64_t *n_bound,
                       mlxr_error *error)
{
    for (size_t i = 0; i < N_LAYER_SLOTS; i++) {
        bool required;
        if (!takes(h, layer, layer_slots[i].needed, &required)) {
            continue;
        }
        char name[96];
        snprintf(name, sizeof name, "blk.%u.%s", layer, layer_slots[i].name);
        const tensor **field = (const tensor **)(void *)((char *)out + layer_slots[i].field);
        mlxr_status status = bind_tensor(field, file, name, extent_of(h, layer, layer_slots[i].in),
                                         extent_of(h, layer, layer_slots[i].out), required,
                                         layer_slots[i].in >= EXTENT_MIXER_HEADS, error);
        if (status != MLXR_OK) {
            return status;
        }
        *n_bound += *field != NULL;
    }
    return MLXR_OK;
}

bool layer_knows(const hparams *h, uint32_t layer, const char *name)
{
    for (size_t i = 0; i < N_LAYER_SLOTS; i++) {
        bool required;
        if (takes(h, layer, layer_slots[i].needed, &required) && strcmp(name, layer_slots[i].name) == 0) {
            return true;
        }
    }
    return false;
}

/* Layers that read what others wrote may have what they do not use; where keys are values there is no bias of these
 * either; DeltaNet's inputs have several forms. */
static bool may_differ(const hparams *h, const layer_weights *weights, uint32_t layer, size_t row)
{
    const char *name = layer_slots[row].name;
    bool keys_values = strncmp(name, "attn_k", 6) == 0 || strncmp(name, "attn_v", 6) == 0;
    bool made_of_keys = strcmp(name, "attn_v.bias") == 0 && h->fam->keys_as_values && !h->layer_has_window[layer] &&
                        !weights->v;
    return layer_slots[row].needed == NEED_DELTA_IN || made_of_keys || (keys_values && hparams_reads_kv(h, layer));
}

mlxr_status layers_refuse_gaps(const layer_weights *layers, const hparams *h, mlxr_error *error)
{
    for (size_t i = 0; i < N_LAYER_SLOTS; i++) {
        uint32_t with = UINT32_MAX, without = UINT32_MAX;
        for (uint32_t layer = 0; layer < hparams_layers_bound(h); layer++) {
            bool required;
            if (takes(h, layer, layer_slots[i].needed, &required) && !required &&
                !may_differ(h, &layers[layer], layer, i)) {
                const void *field = (const char *)&layers[layer] + layer_slots[i].field;
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
