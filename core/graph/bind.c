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

typedef enum extent {
    EXTENT_NONE,
    EXTENT_EMBD,
    EXTENT_Q,
    EXTENT_KV,
    EXTENT_QKV,
    EXTENT_QNORM,
    EXTENT_KNORM,
    EXTENT_FF,
    EXTENT_GATE_UP,
    EXTENT_HEADS,
    EXTENT_EXPERTS,
    EXTENT_SHARED,
} extent;

/* Whether a layer has the weight: R must, O may, else it has no place there. */
typedef enum need {
    NEED_ALWAYS,
    NEED_OPTIONAL,
    NEED_BEFORE,      /* R with norms on a block's input */
    NEED_BEFORE_BIAS, /* … that have biases */
    NEED_FFN_NORM,    /* R likewise, unless attention and MLP share one */
    NEED_FFN_NORM_BIAS,
    NEED_AFTER, /* R with norms on a block's output */
    NEED_SPLIT, /* R where Q, K and V are apart */
    NEED_SPLIT_BIAS,
    NEED_FUSED, /* R where they are not */
    NEED_FUSED_BIAS,
    NEED_QK_NORM,
    NEED_GATE, /* R in a gated MLP whose gate is apart */
    NEED_GATE_BIAS,
    NEED_UP, /* R where "up" is up alone */
    NEED_UP_BIAS,
    NEED_GATE_UP, /* R where it is both */
    NEED_GATE_UP_BIAS,
    NEED_FFN_NORM_AFTER, /* R where that is what GGUF calls the norm before the MLP */
    NEED_DOWN,           /* R in a dense layer */
    NEED_DOWN_BIAS,
    NEED_SINKS,
    NEED_EXPERTS, /* R in a layer of experts */
    NEED_EXPERTS_BIAS,
    NEED_CHOICE_BIAS,
    NEED_OF_SUM, /* R with norms of X behind a block */
    NEED_SHARED, /* R in one with experts that all tokens share */
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
    {"attn_q.weight", SLOT(q), EXTENT_EMBD, EXTENT_Q, NEED_SPLIT},
    {"attn_k.weight", SLOT(k), EXTENT_EMBD, EXTENT_KV, NEED_SPLIT},
    {"attn_v.weight", SLOT(v), EXTENT_EMBD, EXTENT_KV, NEED_SPLIT},
    {"attn_output.weight", SLOT(attn_out), EXTENT_Q, EXTENT_EMBD, NEED_ALWAYS},
    {"attn_q.bias", SLOT(q_bias), EXTENT_Q, EXTENT_NONE, NEED_SPLIT_BIAS},
    {"attn_k.bias", SLOT(k_bias), EXTENT_KV, EXTENT_NONE, NEED_SPLIT_BIAS},
    {"attn_v.bias", SLOT(v_bias), EXTENT_KV, EXTENT_NONE, NEED_SPLIT_BIAS},
    {"attn_output.bias", SLOT(attn_out_bias), EXTENT_EMBD, EXTENT_NONE, NEED_OPTIONAL},
    {"attn_q_norm.weight", SLOT(q_norm), EXTENT_QNORM, EXTENT_NONE, NEED_QK_NORM},
    {"attn_k_norm.weight", SLOT(k_norm), EXTENT_KNORM, EXTENT_NONE, NEED_QK_NORM},
    {"post_attention_norm.weight", SLOT(post_attn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_AFTER},
    {"post_ffw_norm.weight", SLOT(post_ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_AFTER},
    {"ffn_norm.weight", SLOT(ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_FFN_NORM},
    {"ffn_norm.bias", SLOT(ffn_norm_bias), EXTENT_EMBD, EXTENT_NONE, NEED_FFN_NORM_BIAS},
    {"ffn_gate.weight", SLOT(gate), EXTENT_EMBD, EXTENT_FF, NEED_GATE},
    {"ffn_up.weight", SLOT(up), EXTENT_EMBD, EXTENT_FF, NEED_UP},
    {"ffn_up.weight", SLOT(gate_up), EXTENT_EMBD, EXTENT_GATE_UP, NEED_GATE_UP},
    {"ffn_down.weight", SLOT(down), EXTENT_FF, EXTENT_EMBD, NEED_DOWN},
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
    {"ffn_gate_shexp.weight", SLOT(shared_gate), EXTENT_EMBD, EXTENT_SHARED, NEED_SHARED},
    {"ffn_up_shexp.weight", SLOT(shared_up), EXTENT_EMBD, EXTENT_SHARED, NEED_SHARED},
    {"ffn_down_shexp.weight", SLOT(shared_down), EXTENT_SHARED, EXTENT_EMBD, NEED_SHARED},
#undef SLOT
};

#define N_LAYER_SLOTS (sizeof layer_slots / sizeof *layer_slots)

static uint64_t extent_of(const hparams *h, extent e)
{
    uint64_t q = (uint64_t)h->n_head * h->head_dim, kv = (uint64_t)h->n_head_kv * h->head_dim;
    bool norm_all = h->fam->qk_norm == QK_NORM_ALL;
    switch (e) {
    case EXTENT_NONE:
        return 0;
    case EXTENT_EMBD:
        return h->n_embd;
    case EXTENT_Q:
        return q;
    case EXTENT_KV:
        return kv;
    case EXTENT_QKV:
        return q + 2 * kv;
    case EXTENT_QNORM:
        return norm_all ? q : h->head_dim;
    case EXTENT_KNORM:
        return norm_all ? kv : h->head_dim;
    case EXTENT_FF:
        return h->n_ff;
    case EXTENT_GATE_UP:
        return 2 * (uint64_t)h->n_ff;
    case EXTENT_HEADS:
        return h->n_head;
    case EXTENT_EXPERTS:
        return h->n_expert;
    case EXTENT_SHARED:
        return h->n_ff_shared;
    }
    return 0;
}

/* Does this family take the weight, and must it be there? A weight the family does not take stays unbound, and the
 * count of bound tensors then finds it as an extra. */
static bool takes(const hparams *h, uint32_t layer, need n, bool *required)
{
    const family *fam = h->fam;
    bool sparse = hparams_is_sparse(h, layer);
    bool before = fam->norms == NORMS_BEFORE || fam->norms == NORMS_AROUND, apart = !sparse && !fam->fused_gate_up;
    *required = true;
    switch (n) {
    case NEED_ALWAYS:
        return true;
    case NEED_OPTIONAL:
        *required = false;
        return true;
    case NEED_BEFORE:
        *required = !(fam->first_unnormed && layer == 0);
        return before;
    case NEED_BEFORE_BIAS:
        return before && fam->norm_bias;
    case NEED_FFN_NORM:
        return before && !fam->parallel && !fam->ffn_norm_after;
    case NEED_FFN_NORM_AFTER:
        return fam->ffn_norm_after;
    case NEED_FFN_NORM_BIAS:
        return before && !fam->parallel && fam->norm_bias;
    case NEED_AFTER:
        return fam->norms == NORMS_AROUND || fam->norms == NORMS_AFTER;
    case NEED_OF_SUM:
        return fam->norms == NORMS_OF_SUM;
    case NEED_SPLIT:
        return !fam->fused_qkv;
    case NEED_SPLIT_BIAS:
        *required = fam->qkv_bias;
        return !fam->fused_qkv;
    case NEED_FUSED:
        return fam->fused_qkv;
    case NEED_FUSED_BIAS:
        *required = fam->qkv_bias;
        return fam->fused_qkv;
    case NEED_QK_NORM:
        *required = !fam->qk_norm_optional;
        return fam->qk_norm != QK_NORM_NONE;
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
        return !sparse && fam->fused_gate_up;
    case NEED_GATE_UP_BIAS:
        *required = false;
        return !sparse && fam->fused_gate_up;
    case NEED_DOWN:
        return !sparse;
    case NEED_DOWN_BIAS:
        *required = false;
        return !sparse;
    case NEED_SINKS:
        return fam->sinks;
    case NEED_EXPERTS:
        return sparse;
    case NEED_EXPERTS_BIAS:
        *required = false;
        return sparse;
    case NEED_CHOICE_BIAS:
        *required = h->routing == ROUTE_SIGMOID;
        return sparse;
    case NEED_SHARED:
        return sparse && h->n_ff_shared > 0;
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
    part->data = (const uint8_t *)whole->data + first * stride;
    part->n_bytes = (size_t)n * stride;
    part->row_bytes = vector ? part->n_bytes : whole->row_bytes;
    return part;
}

static mlxr_status split_layer(layer_weights *w, const hparams *h, region *memory, mlxr_error *error)
{
    uint64_t q = extent_of(h, EXTENT_Q), kv = extent_of(h, EXTENT_KV), ff = h->n_ff;
    const struct {
        const tensor *whole;
        const tensor **part;
        uint64_t first, n;
    } parts[] = {{w->qkv, &w->q, 0, q},
                 {w->qkv, &w->k, q, kv},
                 {w->qkv, &w->v, q + kv, kv},
                 {w->qkv_bias, &w->q_bias, 0, q},
                 {w->qkv_bias, &w->k_bias, q, kv},
                 {w->qkv_bias, &w->v_bias, q + kv, kv},
                 {w->gate_up, &w->gate, 0, ff},
                 {w->gate_up, &w->up, ff, ff},
                 {w->gate_up_bias, &w->gate_bias, 0, ff},
                 {w->gate_up_bias, &w->up_bias, ff, ff}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].whole) {
            *parts[i].part = part_of(parts[i].whole, parts[i].first, parts[i].n, memory);
            if (!*parts[i].part) {
                return error_nomem(error, "part of a tensor", sizeof(tensor));
            }
        }
    }
    return MLXR_OK;
}

/* ---- binding ---- */

/* n_out 0: a vector, which is read as it lies. */
static mlxr_status bind_one(const tensor **out, const model_file *file, const char *name, uint64_t in, uint64_t n_out,
                            bool required, mlxr_error *error)
{
    const tensor *t = model_file_tensor(file, name);
    bool vector = n_out == 0;
    n_out = vector ? 1 : n_out;
    *out = NULL;
    if (!t) {
        return required ? error_set(error, MLXR_FORMAT, "tensor '%s' is missing", name) : MLXR_OK;
    }
    bool fits = t->shape[0] == in && t->shape[1] == n_out && t->shape[2] == 1 && t->shape[3] == 1;
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
        mlxr_status status = bind_one(field, file, name, extent_of(h, layer_slots[i].in),
                                      extent_of(h, layer_slots[i].out), required, error);
        if (status != MLXR_OK) {
            return status;
        }
        *n_bound += *field != NULL;
    }
    return MLXR_OK;
}

/* Does a tensor of this name have a place in the model? */
static bool is_known(const model_weights *w, const hparams *h, const tensor *t)
{
    const tensor *const globals[] = {
        w->embedding,      w->output_norm, w->output_norm_bias, w->positions, w->token_types, w->embd_norm,
        w->embd_norm_bias, w->output,      w->rope_freqs,       w->rope_long, w->rope_short,  w->cls,
        w->cls_bias,       w->cls_out,     w->cls_out_bias,     w->dense[0],  w->dense[1]};
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (t == globals[i]) {
            return true;
        }
    }
    unsigned layer;
    int n = 0;
    if (sscanf(t->name, "blk.%u.%n", &layer, &n) != 1 || n == 0) {
        return false;
    }
    if (layer >= h->n_layers) {
        return layer < h->n_layers + h->n_layers_ahead;
    }
    if (hparams_is_sparse(h, layer) && experts_know(t->name + n, h->n_expert)) {
        return true;
    }
    for (size_t i = 0; i < N_LAYER_SLOTS; i++) {
        bool required;
        if (takes(h, layer, layer_slots[i].needed, &required) && strcmp(t->name + n, layer_slots[i].name) == 0) {
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
    const tensor *positions = model_file_tensor(file, "position_embd.weight");
    const tensor *types = model_file_tensor(file, "token_types.weight");
    const tensor *cls_out = model_file_tensor(file, "cls.output.weight");
    const tensor *dense_2 = model_file_tensor(file, "dense_2.weight");
    const tensor *dense_3 = model_file_tensor(file, "dense_3.weight");
    const family *fam = h->fam;
    /* a decoder may have two of them: yes and no */
    uint64_t n_labels = cls_out && cls_out->shape[1] == 2 && !fam->encoder ? 2 : 1;
    if (positions && fam->positions && positions->shape[1] < h->n_ctx_train) {
        return error_set(error, MLXR_FORMAT, "tensor 'position_embd.weight' has %llu positions for a context of %u",
                         (unsigned long long)positions->shape[1], h->n_ctx_train);
    }
    const struct {
        const tensor **out;
        const char *name;
        uint64_t in, n_out;
        bool required, taken;
    } globals[] = {
        {&w->positions, "position_embd.weight", h->n_embd, positions ? positions->shape[1] : 0, true, fam->positions},
        {&w->token_types, "token_types.weight", h->n_embd, types ? types->shape[1] : 0, false,
         fam->positions || fam->token_types},
        {&w->embd_norm, "token_embd_norm.weight", h->n_embd, 0, true, fam->embedding_norm},
        {&w->embd_norm_bias, "token_embd_norm.bias", h->n_embd, 0, fam->norm_bias, fam->embedding_norm},
        {&w->embedding, "token_embd.weight", h->n_embd, h->n_vocab, true, true},
        {&w->output_norm, "output_norm.weight", h->n_embd, 0, true, fam->norms != NORMS_OF_SUM},
        {&w->output_norm_bias, "output_norm.bias", h->n_embd, 0, true, fam->norm_bias && fam->norms != NORMS_OF_SUM},
        {&w->output, "output.weight", h->n_embd, h->n_vocab, false, !fam->encoder},
        {&w->rope_freqs, "rope_freqs.weight", h->n_rot / 2, 0, false, true},
        {&w->rope_long, "rope_factors_long.weight", h->n_rot / 2, 0, false, true},
        {&w->rope_short, "rope_factors_short.weight", h->n_rot / 2, 0, false, true},
        {&w->dense[0], "dense_2.weight", h->n_embd, dense_2 ? dense_2->shape[1] : 1, dense_3 != NULL, fam->dense_heads},
        {&w->dense[1], "dense_3.weight", dense_2 ? dense_2->shape[1] : 0, dense_3 ? dense_3->shape[1] : 1, false,
         fam->dense_heads},
        {&w->cls, "cls.weight", h->n_embd, h->n_embd, false, h->ranks},
        {&w->cls_bias, "cls.bias", h->n_embd, 0, false, h->ranks},
        {&w->cls_out, "cls.output.weight", h->n_embd, n_labels, true, h->ranks},
        {&w->cls_out_bias, "cls.output.bias", n_labels, 0, false, h->ranks}};
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (!globals[i].taken) {
            continue;
        }
        mlxr_status status = bind_one(globals[i].out, file, globals[i].name, globals[i].in, globals[i].n_out,
                                      globals[i].required, error);
        if (status != MLXR_OK) {
            return status;
        }
        *n_bound += *globals[i].out != NULL;
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
    w.layers = region_array(memory, h->n_layers, sizeof *w.layers);
    if (!w.layers) {
        return error_nomem(error, "layer table", h->n_layers * sizeof *w.layers);
    }
    mlxr_status status = bind_globals(&w, h, file, &n_bound, error);
    for (uint32_t i = 0; i < h->n_layers && status == MLXR_OK; i++) {
        status = bind_layer(&w.layers[i], h, file, i, &n_bound, error);
        if (status == MLXR_OK) {
            status = split_layer(&w.layers[i], h, memory, error);
        }
        if (status == MLXR_OK && hparams_is_sparse(h, i)) {
            status = bind_experts(&w.layers[i], h, file, i, memory, &n_bound, error);
        }
    }
    if (status == MLXR_OK && n_bound < file->n_tensors) {
        status = refuse_extra(&w, h, file, error);
    }
    if (status == MLXR_OK) {
        *out = w;
    }
    return status;
}
