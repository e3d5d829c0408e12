/*
 * Binding of tensors to weights.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

typedef enum extent { EXTENT_NONE, EXTENT_EMBD, EXTENT_Q, EXTENT_KV, EXTENT_HEAD, EXTENT_FF } extent;

typedef enum need { NEED_ALWAYS, NEED_OPTIONAL, NEED_QKV_BIAS, NEED_QK_NORM, NEED_POST_NORMS } need;

/* One weight a layer: name after "blk.<i>.", shape [in, out] (a vector has no out), who needs it. */
static const struct {
    const char *name;
    size_t field;
    extent in, out;
    need needed;
} layer_slots[] = {
#define SLOT(field) offsetof(layer_weights, field)
    {"attn_norm.weight", SLOT(attn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_ALWAYS},
    {"attn_q.weight", SLOT(q), EXTENT_EMBD, EXTENT_Q, NEED_ALWAYS},
    {"attn_k.weight", SLOT(k), EXTENT_EMBD, EXTENT_KV, NEED_ALWAYS},
    {"attn_v.weight", SLOT(v), EXTENT_EMBD, EXTENT_KV, NEED_ALWAYS},
    {"attn_output.weight", SLOT(attn_out), EXTENT_Q, EXTENT_EMBD, NEED_ALWAYS},
    {"attn_q.bias", SLOT(q_bias), EXTENT_Q, EXTENT_NONE, NEED_QKV_BIAS},
    {"attn_k.bias", SLOT(k_bias), EXTENT_KV, EXTENT_NONE, NEED_QKV_BIAS},
    {"attn_v.bias", SLOT(v_bias), EXTENT_KV, EXTENT_NONE, NEED_QKV_BIAS},
    {"attn_output.bias", SLOT(attn_out_bias), EXTENT_EMBD, EXTENT_NONE, NEED_OPTIONAL},
    {"attn_q_norm.weight", SLOT(q_norm), EXTENT_HEAD, EXTENT_NONE, NEED_QK_NORM},
    {"attn_k_norm.weight", SLOT(k_norm), EXTENT_HEAD, EXTENT_NONE, NEED_QK_NORM},
    {"post_attention_norm.weight", SLOT(post_attn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_POST_NORMS},
    {"post_ffw_norm.weight", SLOT(post_ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_POST_NORMS},
    {"ffn_norm.weight", SLOT(ffn_norm), EXTENT_EMBD, EXTENT_NONE, NEED_ALWAYS},
    {"ffn_gate.weight", SLOT(gate), EXTENT_EMBD, EXTENT_FF, NEED_ALWAYS},
    {"ffn_up.weight", SLOT(up), EXTENT_EMBD, EXTENT_FF, NEED_ALWAYS},
    {"ffn_down.weight", SLOT(down), EXTENT_FF, EXTENT_EMBD, NEED_ALWAYS},
    {"ffn_gate.bias", SLOT(gate_bias), EXTENT_FF, EXTENT_NONE, NEED_OPTIONAL},
    {"ffn_up.bias", SLOT(up_bias), EXTENT_FF, EXTENT_NONE, NEED_OPTIONAL},
    {"ffn_down.bias", SLOT(down_bias), EXTENT_EMBD, EXTENT_NONE, NEED_OPTIONAL},
#undef SLOT
};

#define N_LAYER_SLOTS (sizeof layer_slots / sizeof *layer_slots)

static uint64_t extent_of(const hparams *h, extent e)
{
    switch (e) {
    case EXTENT_NONE:
        return 1;
    case EXTENT_EMBD:
        return h->n_embd;
    case EXTENT_Q:
        return (uint64_t)h->n_head * h->head_dim;
    case EXTENT_KV:
        return (uint64_t)h->n_head_kv * h->head_dim;
    case EXTENT_HEAD:
        return h->head_dim;
    case EXTENT_FF:
        return h->n_ff;
    }
    return 0;
}

/* Does this family take the weight, and must it be there? A weight the family does not take stays unbound, and the
 * count of bound tensors then finds it as an extra. */
static bool takes(const family *fam, need n, bool *required)
{
    switch (n) {
    case NEED_ALWAYS:
        *required = true;
        return true;
    case NEED_OPTIONAL:
        *required = false;
        return true;
    case NEED_QKV_BIAS:
        *required = fam->qkv_bias;
        return true;
    case NEED_QK_NORM:
        *required = fam->qk_norm;
        return fam->qk_norm;
    case NEED_POST_NORMS:
        *required = fam->post_norms;
        return fam->post_norms;
    }
    return false;
}

static mlxr_status bind_one(const tensor **out, const model_file *file, const char *name, uint64_t in, uint64_t n_out,
                            bool required, mlxr_error *error)
{
    const tensor *t = model_file_tensor(file, name);
    *out = NULL;
    if (!t) {
        return required ? error_set(error, MLXR_FORMAT, "tensor '%s' is missing", name) : MLXR_OK;
    }
    bool vector = n_out == 1;
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
        if (!takes(h->fam, layer_slots[i].needed, &required)) {
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
    if (t == w->embedding || t == w->output_norm || t == w->output || t == w->rope_freqs) {
        return true;
    }
    unsigned layer;
    int n = 0;
    if (sscanf(t->name, "blk.%u.%n", &layer, &n) != 1 || n == 0 || layer >= h->n_layers) {
        return false;
    }
    for (size_t i = 0; i < N_LAYER_SLOTS; i++) {
        bool required;
        if (takes(h->fam, layer_slots[i].needed, &required) && strcmp(t->name + n, layer_slots[i].name) == 0) {
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
    mlxr_status status = bind_one(&w->embedding, file, "token_embd.weight", h->n_embd, h->n_vocab, true, error);
    if (status == MLXR_OK) {
        status = bind_one(&w->output_norm, file, "output_norm.weight", h->n_embd, 1, true, error);
    }
    if (status == MLXR_OK) {
        status = bind_one(&w->output, file, "output.weight", h->n_embd, h->n_vocab, false, error);
    }
    if (status == MLXR_OK) {
        status = bind_one(&w->rope_freqs, file, "rope_freqs.weight", h->n_rot / 2, 1, false, error);
    }
    *n_bound += 2 + (w->output != NULL) + (w->rope_freqs != NULL);
    if (!w->output) {
        w->output = w->embedding;
    }
    return status;
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
    }
    if (status == MLXR_OK && n_bound < file->n_tensors) {
        status = refuse_extra(&w, h, file, error);
    }
    if (status == MLXR_OK) {
        *out = w;
    }
    return status;
}
