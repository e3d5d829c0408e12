/*
 * Binding of latent attention's matrices.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind_latent.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "graph/bind_stack.h"
#include "quant/codec.h"

static const char *const names[] = {"attn_kv_b.weight", "attn_k_b.weight", "attn_v_b.weight"};

static mlxr_status find(const model_file *file, uint32_t layer, const char *end, const uint64_t shape[3],
                        const tensor **out, mlxr_error *error)
{
    char name[96];
    snprintf(name, sizeof name, "blk.%u.%s", layer, end);
    const tensor *t = *out = model_file_tensor(file, name);
    return t ? stack_check(t, shape[0], shape[1], shape[2], error) : MLXR_OK;
}

/* Matrices [n_nope, n_latent_kv] that are yet to be made. */
static void lay_out_keys(const tensor *whole, const hparams *h, tensor *out)
{
    bool as_is = whole->type == DTYPE_F16 || whole->type == DTYPE_BF16; /* and F32, of course */
    for (uint32_t i = 0; i < h->n_head; i++) {
        out[i] = (tensor){.name = whole->name,
                          .type = as_is ? whole->type : DTYPE_F32,
                          .n_dims = 2,
                          .shape = {h->n_nope, h->n_latent_kv, 1, 1}};
        out[i].row_bytes = dtype_row_bytes(out[i].type, h->n_nope);
        out[i].n_bytes = h->n_latent_kv * out[i].row_bytes;
    }
}

mlxr_status bind_latent(layer_weights *out, const hparams *h, const model_file *file, uint32_t layer, region *memory,
                        uint64_t *n_bound, mlxr_error *error)
{
    const uint64_t up = h->n_nope + h->head_v;
    const uint64_t shapes[][3] = {{h->n_latent_kv, h->n_head * up, 1},
                                  {h->n_nope, h->n_latent_kv, h->n_head},
                                  {h->n_latent_kv, h->head_v, h->n_head}};
    const tensor *found[3];
    for (size_t i = 0; i < 3; i++) {
        mlxr_status status = find(file, layer, names[i], shapes[i], &found[i], error);
        if (status != MLXR_OK) {
            return status;
        }
        *n_bound += found[i] != NULL;
    }
    const tensor *whole = found[0], *k = found[1], *v = found[2];
    if (!whole && (!k || !v)) {
        return error_set(error, MLXR_FORMAT, "tensor 'blk.%u.%s' is missing, and so is blk.%u.%s", layer, names[0],
                         layer, k ? names[2] : names[1]);
    }
    tensor *made = region_array(memory, 2 * (size_t)h->n_head, sizeof *made);
    if (!made) {
        return error_nomem(error, "table of heads", 2 * (size_t)h->n_head * sizeof *made);
    }
    out->k_up = made;
    out->v_up = made + h->n_head;
    if (k && v) { /* a file may have the whole beside them: the same numbers once more */
        stack_cut(k, 0, h->n_latent_kv, h->n_latent_kv, h->n_head, out->k_up);
        stack_cut(v, 0, h->head_v, h->head_v, h->n_head, out->v_up);
        return MLXR_OK;
    }
    out->kv_up = whole;
    lay_out_keys(whole, h, out->k_up);
    stack_cut(whole, h->n_nope, up, h->head_v, h->n_head, out->v_up);
    return MLXR_OK;
}

bool latent_knows(const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

uint64_t latent_keys_bytes(const layer_weights *w, const hparams *h)
{
    return w->kv_up ? (uint64_t)h->n_head * w->k_up->n_bytes : 0;
}

mlxr_status latent_make_keys(layer_weights *w, const hparams *h, region *memory, mlxr_error *error)
{
    if (!w->kv_up || !w->kv_up->data) {
        return MLXR_OK;
    }
    const tensor *whole = w->kv_up;
    size_t n_in = h->n_nope, n_out = h->n_latent_kv, n_bytes = (size_t)latent_keys_bytes(w, h);
    bool decode = whole->type != w->k_up->type;
    size_t row_bytes = decode ? n_out * sizeof(float) : whole->row_bytes, element = w->k_up->row_bytes / n_in;
    region scratch = {0};
    uint8_t *to = region_alloc(memory, n_bytes);
    float *decoded = region_alloc(&scratch, decode ? n_in * row_bytes : 0);
    if (!to || !decoded) {
        region_close(&scratch);
        return error_nomem(error, whole->name, n_bytes);
    }
    for (uint32_t i = 0; i < h->n_head; i++) {
        const uint8_t *from = (const uint8_t *)whole->data + i * (n_in + h->head_v) * whole->row_bytes;
        for (size_t r = 0; r < n_in && decode; r++) {
            codec_decode(whole->type, from + r * whole->row_bytes, decoded + r * n_out, n_out);
        }
        from = decode ? (const uint8_t *)decoded : from;
        w->k_up[i].data = to;
        for (size_t c = 0; c < n_out; c++) {
            for (size_t r = 0; r < n_in; r++, to += element) {
                memcpy(to, from + r * row_bytes + c * element, element);
            }
        }
    }
    region_close(&scratch);
    return MLXR_OK;
}
