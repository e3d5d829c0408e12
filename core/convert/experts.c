/*
 * Stacking experts.
 * Owner: the source's memory. Lifetime: the source's.
 */
#include "convert/experts.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "convert/mix.h"
#include "quant/codec.h"

#define NAME_BYTES EXPERTS_NAME_BYTES

typedef struct stacker {
    source *s;
    uint32_t n_expert;
    out_tensor *out; /* [n] */
    size_t n;
    mlxr_error *error;
} stacker;

typedef struct expert_name {
    unsigned layer, expert;
    const char *part;
} expert_name;

static void name_expert(char out[NAME_BYTES], const expert_name *e, uint32_t expert)
{
    snprintf(out, NAME_BYTES, "blk.%u.ffn_%s.%u.weight", e->layer, e->part, expert);
}

static bool read_name(const char *name, expert_name *e)
{
    static const char *const parts[] = {"gate", "up", "down"};
    char part[8], same[NAME_BYTES];
    if (strlen(name) >= 48 || sscanf(name, "blk.%6u.ffn_%4[a-z].%6u.weight", &e->layer, part, &e->expert) != 3) {
        return false;
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        e->part = parts[i];
        name_expert(same, e, e->expert);
        if (strcmp(name, same) == 0) {
            return true;
        }
    }
    return false;
}

/* Matrices of n_rows rows from parts[n_matrices]. Where their types differ it has F32, which holds all of them. */
static mlxr_status add_stack(stacker *b, const char *name, const out_part *parts, uint64_t n_rows, uint64_t n_matrices)
{
    const tensor *first = parts[0].from->in;
    char *own_name = region_strndup(&b->s->memory, name, strlen(name));
    tensor *t = region_array(&b->s->memory, 1, sizeof *t);
    if (!own_name || !t) {
        return error_nomem(b->error, name, sizeof *t);
    }
    *t = (tensor){
        .name = own_name, .type = first->type, .n_dims = 3, .shape = {first->shape[0], n_rows, n_matrices, 1}};
    for (uint64_t i = 0; i < n_matrices; i++) {
        const tensor *in = parts[i].from->in;
        t->type = in->type == first->type ? t->type : DTYPE_F32;
        t->n_bytes += (size_t)n_rows * in->row_bytes;
    }
    t->row_bytes = dtype_row_bytes(t->type, (size_t)t->shape[0]);
    b->out[b->n++] = (out_tensor){.in = t, .parts = parts, .type = t->type};
    return MLXR_OK;
}

/* NULL: not there, and the error says so. */
static const tensor *find_expert(const stacker *b, const expert_name *e, uint32_t expert)
{
    char name[NAME_BYTES];
    name_expert(name, e, expert);
    const tensor *t = model_file_tensor(b->s->file, name);
    if (!t) {
        error_set(b->error, MLXR_FORMAT, "tensor '%s' is missing: the model has %u experts", name, b->n_expert);
    }
    return t;
}

/* Called for each expert's tensor: at the first one's place come all. */
static mlxr_status stack(stacker *b, const char *name, const expert_name *e)
{
    const model_file *file = b->s->file;
    if (e->expert >= b->n_expert || b->n_expert > file->n_tensors) {
        return error_set(b->error, MLXR_FORMAT, "tensor '%s' cannot be: the model has %u experts, and %llu tensors",
                         name, b->n_expert, (unsigned long long)file->n_tensors);
    }
    const tensor *first = find_expert(b, e, 0);
    if (!first || e->expert > 0) {
        return first ? MLXR_OK : MLXR_FORMAT;
    }
    out_part *parts = region_array(&b->s->memory, b->n_expert, sizeof *parts);
    if (!parts) {
        return error_nomem(b->error, name, b->n_expert * sizeof *parts);
    }
    for (uint32_t i = 0; i < b->n_expert; i++) {
        const tensor *t = find_expert(b, e, i);
        if (!t) {
            return MLXR_FORMAT;
        }
        if (t->shape[0] != first->shape[0] || t->shape[1] != first->shape[1] || t->shape[2] != 1 || t->shape[3] != 1) {
            return error_set(b->error, MLXR_FORMAT, "tensor '%s' has another shape than '%s'", t->name, first->name);
        }
        parts[i].from = &b->s->tensors[t - file->tensors];
    }
    char all[NAME_BYTES];
    snprintf(all, sizeof all, "blk.%u.ffn_%s_exps.weight", e->layer, e->part);
    return add_stack(b, all, parts, first->shape[1], b->n_expert);
}

/* ---- gate and up in one ---- */

static const char *const halves[] = {"gate", "up"};

/* The first half of each matrix's rows is gate's. */
static mlxr_status split_weight(stacker *b, const out_tensor *both, unsigned layer)
{
    uint64_t n_rows = both->in->shape[1] / 2, n = both->in->shape[2];
    mlxr_status status = MLXR_OK;
    for (uint32_t half = 0; half < 2 && status == MLXR_OK; half++) {
        char name[NAME_BYTES];
        out_part *parts = region_array(&b->s->memory, (size_t)n, sizeof *parts);
        if (!parts) {
            return error_nomem(b->error, both->in->name, (size_t)n * sizeof *parts);
        }
        for (uint64_t i = 0; i < n; i++) {
            parts[i] = (out_part){.from = both, .first_row = (2 * i + half) * n_rows};
        }
        snprintf(name, sizeof name, "blk.%u.ffn_%s_exps.weight", layer, halves[half]);
        status = add_stack(b, name, parts, n_rows, n);
    }
    return status;
}

/* A bias is a row an expert: copies. */
static mlxr_status split_bias(stacker *b, const out_tensor *both, unsigned layer)
{
    const tensor *in = both->in;
    size_t n_half = (size_t)in->shape[0] / 2, n = (size_t)in->shape[1];
    float *row = region_array(&b->s->memory, 2 * n_half, sizeof *row);
    for (uint32_t half = 0; half < 2; half++) {
        char name[NAME_BYTES];
        int n_name = snprintf(name, sizeof name, "blk.%u.ffn_%s_exps.bias", layer, halves[half]);
        char *own_name = region_strndup(&b->s->memory, name, (size_t)n_name);
        float *values = region_array(&b->s->memory, n * n_half, sizeof *values);
        tensor *t = region_array(&b->s->memory, 1, sizeof *t);
        if (!row || !own_name || !values || !t) {
            return error_nomem(b->error, in->name, n * n_half * sizeof *values);
        }
        for (size_t i = 0; i < n; i++) {
            codec_decode(in->type, (const uint8_t *)in->data + i * in->row_bytes, row, 2 * n_half);
            memcpy(values + i * n_half, row + half * n_half, n_half * sizeof *row);
        }
        *t = (tensor){.name = own_name,
                      .type = DTYPE_F32,
                      .n_dims = 2,
                      .shape = {n_half, n, 1, 1},
                      .data = values,
                      .row_bytes = n_half * sizeof *values,
                      .n_bytes = n * n_half * sizeof *values};
        b->out[b->n++] = (out_tensor){.in = t, .type = DTYPE_F32};
    }
    return MLXR_OK;
}

/* Has gate and up of a layer in one; *bias: their biases. */
static bool is_both(const char *name, unsigned *layer, bool *bias)
{
    char same[NAME_BYTES];
    if (strlen(name) >= 48 || sscanf(name, "blk.%6u.", layer) != 1) {
        return false;
    }
    *bias = text_ends_with(name, ".bias");
    snprintf(same, sizeof same, "blk.%u.ffn_gate_up_exps.%s", *layer, *bias ? "bias" : "weight");
    return strcmp(name, same) == 0;
}

bool experts_stack_name(const char *name, char out[EXPERTS_NAME_BYTES], uint32_t *expert)
{
    expert_name e;
    if (!read_name(name, &e)) {
        return false;
    }
    *expert = e.expert;
    snprintf(out, EXPERTS_NAME_BYTES, "blk.%u.ffn_%s_exps.weight", e.layer, e.part);
    return true;
}

bool experts_halves_names(const char *name, char gate[EXPERTS_NAME_BYTES], char up[EXPERTS_NAME_BYTES])
{
    unsigned layer;
    bool bias;
    if (!is_both(name, &layer, &bias) || bias) {
        return false;
    }
    snprintf(gate, EXPERTS_NAME_BYTES, "blk.%u.ffn_gate_exps.weight", layer);
    snprintf(up, EXPERTS_NAME_BYTES, "blk.%u.ffn_up_exps.weight", layer);
    return true;
}

static mlxr_status split(stacker *b, const out_tensor *both, unsigned layer, bool bias)
{
    const tensor *in = both->in;
    if (in->n_dims != (bias ? 2 : 3) || in->shape[bias ? 0 : 1] % 2 != 0 || (bias && both->packed)) {
        return error_set(b->error, MLXR_FORMAT,
                         "tensor '%s' of shape [%llu, %llu, %llu] cannot be halved into gate and up", in->name,
                         (unsigned long long)in->shape[0], (unsigned long long)in->shape[1],
                         (unsigned long long)in->shape[2]);
    }
    return bias ? split_bias(b, both, layer) : split_weight(b, both, layer);
}

mlxr_status experts_stack(source *s, mlxr_error *error)
{
    stacker b = {.s = s, .n_expert = mix_model_of(s->file, false).n_expert, .error = error};
    mlxr_status status = MLXR_OK;
    if (b.n_expert == 0) {
        return MLXR_OK;
    }
    b.out = region_array(&s->memory, 2 * s->n_tensors, sizeof *b.out);
    if (!b.out) {
        return error_nomem(error, "the tensor table", 2 * s->n_tensors * sizeof *b.out);
    }
    for (size_t i = 0; i < s->n_tensors && status == MLXR_OK; i++) {
        const char *name = s->tensors[i].in->name;
        expert_name e;
        unsigned layer;
        bool bias;
        if (read_name(name, &e)) {
            status = stack(&b, name, &e);
        } else if (s->file->format == MODEL_SAFETENSORS && is_both(name, &layer, &bias)) {
            status = split(&b, &s->tensors[i], layer, bias);
        } else {
            b.out[b.n++] = s->tensors[i];
        }
    }
    if (status == MLXR_OK) {
        s->tensors = b.out;
        s->n_tensors = b.n;
    }
    return status;
}
