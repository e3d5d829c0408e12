/*
 * Binding of experts.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind_experts.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "graph/bind_stack.h"
#include "quant/codec.h"

typedef struct binder {
    const model_file *file;
    uint32_t layer, n_expert;
    bool ungated;
    region *memory;
    uint64_t *n_bound;
    mlxr_error *error;
} binder;

/* "blk.<layer>.ffn_<part>_exps.<end>" */
static const tensor *find(const binder *b, const char *part, const char *end)
{
    char name[96];
    snprintf(name, sizeof name, "blk.%u.ffn_%s_exps.%s", b->layer, part, end);
    return model_file_tensor(b->file, name);
}

static tensor *take_table(const binder *b, size_t n)
{
    tensor *made = region_array(b->memory, n, sizeof *made);
    if (!made) {
        error_nomem(b->error, "table of experts", n * sizeof *made);
    }
    return made;
}

/* A matrix an expert, as old GGUF files and most safetensors have them. */
static mlxr_status bind_each(const binder *b, const char *part, uint64_t in, uint64_t n_out, tensor *out)
{
    char name[96];
    for (uint32_t i = 0; i < b->n_expert; i++) {
        snprintf(name, sizeof name, "blk.%u.ffn_%s.%u.weight", b->layer, part, i);
        const tensor *t = model_file_tensor(b->file, name);
        if (!t) {
            char both[64] = "";
            if (!b->ungated && strcmp(part, "down") != 0) {
                snprintf(both, sizeof both, " or blk.%u.ffn_gate_up_exps.weight", b->layer);
            }
            return error_set(b->error, MLXR_FORMAT, "tensor '%s' is missing, and so is blk.%u.ffn_%s_exps.weight%s",
                             name, b->layer, part, both);
        }
        mlxr_status status = stack_check(t, in, n_out, 1, b->error);
        if (status != MLXR_OK) {
            return status;
        }
        out[i] = *t;
    }
    *b->n_bound += b->n_expert;
    return MLXR_OK;
}

static mlxr_status bind_part(const binder *b, const char *part, uint64_t in, uint64_t n_out, const tensor **out)
{
    tensor *made = take_table(b, b->n_expert);
    if (!made) {
        return MLXR_NOMEM;
    }
    *out = made;
    const tensor *all = find(b, part, "weight");
    if (!all) {
        return bind_each(b, part, in, n_out, made);
    }
    mlxr_status status = stack_check(all, in, n_out, b->n_expert, b->error);
    if (status == MLXR_OK) {
        stack_cut(all, 0, n_out, n_out, b->n_expert, made);
        *b->n_bound += 1;
    }
    return status;
}

/* gate and up in one tensor, gate first. */
static mlxr_status bind_both(const binder *b, const tensor *all, uint64_t in, uint64_t n_ff, layer_weights *out)
{
    mlxr_status status = stack_check(all, in, 2 * n_ff, b->n_expert, b->error);
    if (status != MLXR_OK) {
        return status;
    }
    tensor *made = take_table(b, 2 * (size_t)b->n_expert);
    if (!made) {
        return MLXR_NOMEM;
    }
    stack_cut(all, 0, 2 * n_ff, n_ff, b->n_expert, made);
    stack_cut(all, n_ff, 2 * n_ff, n_ff, b->n_expert, made + b->n_expert);
    out->gate_experts = made;
    out->up_experts = made + b->n_expert;
    *b->n_bound += 1;
    return MLXR_OK;
}

/* Elements [first, first + n) of each expert's n_all biases, as F32; *out stays NULL where the file has none. */
static mlxr_status bind_bias(const binder *b, const char *part, uint64_t n_all, uint64_t first, uint64_t n,
                             const float **out)
{
    const tensor *t = find(b, part, "bias");
    if (!t) {
        return MLXR_OK;
    }
    mlxr_status status = stack_check(t, n_all, b->n_expert, 1, b->error);
    if (status != MLXR_OK) {
        return status;
    }
    float *made = region_array(b->memory, (size_t)(b->n_expert * n), sizeof *made);
    float *row = region_array(b->memory, (size_t)n_all, sizeof *row);
    if (!made || !row) {
        return error_nomem(b->error, t->name, (size_t)(b->n_expert * n) * sizeof *made);
    }
    for (uint32_t i = 0; t->data && i < b->n_expert; i++) { /* none: a packed tensor that is only described */
        codec_decode(t->type, (const uint8_t *)t->data + i * t->row_bytes, row, (size_t)n_all);
        memcpy(made + i * n, row + first, (size_t)n * sizeof *row);
    }
    *out = made;
    *b->n_bound += first == 0; /* the second half is of the same tensor */
    return MLXR_OK;
}

static mlxr_status bind_gate_up(const binder *b, uint64_t embd, uint64_t ff, layer_weights *out)
{
    if (b->ungated) {
        mlxr_status status = bind_part(b, "up", embd, ff, &out->up_experts);
        return status != MLXR_OK ? status : bind_bias(b, "up", ff, 0, ff, &out->up_experts_bias);
    }
    const tensor *both = find(b, "gate_up", "weight");
    const char *gate = both ? "gate_up" : "gate", *up = both ? "gate_up" : "up";
    uint64_t n_all = both ? 2 * ff : ff;
    mlxr_status status = both ? bind_both(b, both, embd, ff, out) : bind_part(b, gate, embd, ff, &out->gate_experts);
    if (status == MLXR_OK && !both) {
        status = bind_part(b, up, embd, ff, &out->up_experts);
    }
    if (status == MLXR_OK) {
        status = bind_bias(b, gate, n_all, 0, ff, &out->gate_experts_bias);
    }
    return status != MLXR_OK ? status : bind_bias(b, up, n_all, both ? ff : 0, ff, &out->up_experts_bias);
}

mlxr_status bind_experts(layer_weights *out, const hparams *h, const model_file *file, uint32_t layer, region *memory,
                         uint64_t *n_bound, mlxr_error *error)
{
    binder b = {.file = file,
                .layer = layer,
                .n_expert = h->n_expert,
                .ungated = h->fam->ungated,
                .memory = memory,
                .n_bound = n_bound,
                .error = error};
    uint64_t embd = hparams_expert_in(h), ff = h->n_ff_expert;
    mlxr_status status = bind_gate_up(&b, embd, ff, out);
    status = status != MLXR_OK ? status : bind_part(&b, "down", ff, embd, &out->down_experts);
    return status != MLXR_OK ? status : bind_bias(&b, "down", embd, 0, embd, &out->down_experts_bias);
}

/* Do gate and up come from one tensor? */
static bool is_of_both(const layer_weights *w)
{
    return w->gate_experts && strstr(w->gate_experts->name, ".ffn_gate_up_exps.");
}

bool experts_know(const layer_weights *w, const hparams *h, const tensor *t, const char *name)
{
    const tensor *const bound[] = {w->gate_experts, w->up_experts, w->down_experts};
    for (size_t i = 0; i < sizeof bound / sizeof *bound; i++) {
        for (uint32_t e = 0; bound[i] && e < h->n_expert; e++) {
            if (bound[i][e].name == t->name) { /* they are views of it, or copies */
                return true;
            }
        }
    }
    bool both = is_of_both(w);
    const struct {
        const char *name;
        bool bound;
    } biases[] = {{"ffn_gate_up_exps.bias", both},
                  {"ffn_gate_exps.bias", !both && !h->fam->ungated},
                  {"ffn_up_exps.bias", !both},
                  {"ffn_down_exps.bias", true}};
    for (size_t i = 0; i < sizeof biases / sizeof *biases; i++) {
        if (strcmp(name, biases[i].name) == 0) {
            return biases[i].bound;
        }
    }
    return false;
}

mlxr_status experts_refuse_gaps(const layer_weights *layers, const hparams *h, mlxr_error *error)
{
    uint32_t with = UINT32_MAX, without = UINT32_MAX;
    const char *lacks = NULL;
    for (uint32_t layer = 0; layer < hparams_layers_bound(h); layer++) {
        const layer_weights *w = &layers[layer];
        if (!hparams_has_mlp(h, layer) || !hparams_is_sparse(h, layer)) {
            continue;
        }
        const struct {
            const char *part;
            bool there;
        } biases[] = {{is_of_both(w) ? "gate_up" : "gate", w->gate_experts_bias},
                      {is_of_both(w) ? "gate_up" : "up", w->up_experts_bias},
                      {"down", w->down_experts_bias}};
        for (size_t i = h->fam->ungated; i < sizeof biases / sizeof *biases; i++) {
            with = biases[i].there ? layer : with;
            without = biases[i].there ? without : layer;
            lacks = biases[i].there ? lacks : biases[i].part;
        }
    }
    if (with == UINT32_MAX || without == UINT32_MAX) {
        return MLXR_OK;
    }
    return error_set(error, MLXR_FORMAT, "tensor 'blk.%u.ffn_%s_exps.bias' is missing, while layer %u has biases",
                     without, lacks, with);
}
