/*
 * Binding of tensors to weights.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "graph/bind_ahead.h"
#include "graph/bind_experts.h"
#include "graph/bind_latent.h"
#include "graph/bind_layer.h"
#include "graph/bind_parts.h"
#include "graph/bind_tensor.h"
#include "graph/bind_xielu.h"

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

static bool has(const model_file *file, const char *name)
{
    return model_file_tensor(file, name) != NULL;
}

/* The vocabulary is as large as its table; what else counts by it, and by the context, must agree. */
static mlxr_status take_vocabulary(hparams *h, const model_file *file, mlxr_error *error)
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
    if (positions && h->fam->positions && positions->shape[1] < h->n_ctx_train) {
        return error_set(error, MLXR_FORMAT, "tensor 'position_embd.weight' has %llu positions for a context of %u",
                         (unsigned long long)positions->shape[1], h->n_ctx_train);
    }
    return MLXR_OK;
}

static mlxr_status bind_globals(model_weights *w, hparams *h, const model_file *file, uint64_t *n_bound,
                                mlxr_error *error)
{
    const tensor *positions = model_file_tensor(file, "position_embd.weight");
    const tensor *types = model_file_tensor(file, "token_types.weight");
    const tensor *cls_out = model_file_tensor(file, "cls.output.weight");
    const tensor *dense_2 = model_file_tensor(file, "dense_2.weight");
    const tensor *dense_3 = model_file_tensor(file, "dense_3.weight");
    const family *fam = h->fam;
    uint64_t n_layer_inputs = (uint64_t)h->n_layers * h->n_embd_layer;
    /* a decoder may have two of them: yes and no */
    uint64_t n_labels = cls_out && cls_out->shape[1] == 2 && !fam->encoder ? 2 : 1;
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
        mlxr_status status = bind_tensor(field, file, global_slots[i].name, globals[i].in, globals[i].n_out,
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

/* ---- what has no place ---- */

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
    return layer_knows(h, layer, rest);
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

mlxr_status bind_weights(model_weights *out, hparams *h, const model_file *file, region *memory, mlxr_error *error)
{
    model_weights w = {0};
    uint64_t n_bound = 0;
    w.layers = region_array(memory, hparams_layers_bound(h), sizeof *w.layers);
    if (!w.layers) {
        return error_nomem(error, "layer table", h->n_layers * sizeof *w.layers);
    }
    mlxr_status status = take_vocabulary(h, file, error);
    status = status == MLXR_OK ? bind_globals(&w, h, file, &n_bound, error) : status;
    if (status == MLXR_OK && h->predicts_ahead) {
        status = bind_ahead(&w, h, file, &n_bound, error);
    }
    for (uint32_t i = 0; i < hparams_layers_bound(h) && status == MLXR_OK; i++) {
        status = bind_layer(&w.layers[i], h, file, i, &n_bound, error);
        if (status == MLXR_OK) {
            status = bind_parts(&w.layers[i], h, i, memory, error);
        }
        if (status == MLXR_OK && h->fam->xielu) {
            status = bind_xielu(&w.layers[i], h, i, error);
        }
        if (status == MLXR_OK && hparams_has_mlp(h, i) && hparams_is_sparse(h, i)) {
            status = bind_experts(&w.layers[i], h, file, i, memory, &n_bound, error);
        }
        if (status == MLXR_OK && h->fam->latent) {
            status = bind_latent(&w.layers[i], h, file, i, memory, &n_bound, error);
        }
    }
    if (status == MLXR_OK) {
        status = layers_refuse_gaps(w.layers, h, error);
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
