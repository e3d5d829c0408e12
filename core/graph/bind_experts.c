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
            return error_set(b->error, MLXR_FORMAT, "tensor '%s' is missing, and so is blk.%u.ffn_%s_exps.weight", name,
                             b->layer, part);
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

bool experts_know(const char *name, uint32_t n_expert)
{
    static const char *const parts[] = {"gate", "up", "down", "gate_up"};
    char known[64];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        for (uint32_t bias = 0; bias < 2; bias++) {
            snprintf(known, sizeof known, "ffn_%s_exps.%s", parts[i], bias ? "bias" : "weight");
            if (strcmp(name, known) == 0) {
                return true;
            }
        }
        unsigned expert;
        int n = 0;
        size_t length = (size_t)snprintf(known, sizeof known, "ffn_%s.", parts[i]);
        if (strncmp(name, known, length) == 0 && sscanf(name + length, "%u.weight%n", &expert, &n) == 1 && n > 0 &&
            name[length + (size_t)n] == 0) {
            return expert < n_expert;
        }
    }
    return false;
}
