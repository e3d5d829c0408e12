/*
 * attn_kv_b → attn_k_b and attn_v_b. No number is copied: rows of values lie in it one behind the other, rows of keys
 * are made when they are asked for.
 * Owner: the source's memory. Lifetime: its own.
 */
#include "convert/latent.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/hparams.h"

#define WHOLE ".attn_kv_b.weight"

static const char *const keys[] = {".attention.head_count_kv", ".attention.key_length", ".attention.value_length"};

bool latent_says(const char *key)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (text_ends_with(key, keys[i])) {
            return true;
        }
    }
    return false;
}

static bool can_split(const source *s)
{
    for (size_t i = 0; i < s->n_tensors; i++) {
        const out_tensor *t = &s->tensors[i];
        if (text_ends_with(t->in->name, WHOLE) && (t->packed || t->merged)) {
            return false;
        }
    }
    return true;
}

static void put(source *s, const hparams *h, const char *key, uint32_t value)
{
    char whole[96];
    snprintf(whole, sizeof whole, "%s%s", h->fam->name, key);
    gguf_out_u32(&s->header, whole, value);
}

static void put_metadata(source *s, const hparams *h, bool split)
{
    for (uint64_t i = 0; i < s->file->n_meta && !split; i++) {
        if (latent_says(s->file->meta[i].key)) {
            gguf_out_put(&s->header, s->file->meta[i].key, &s->file->meta[i]);
        }
    }
    if (split) {
        put(s, h, keys[0], 1);
        put(s, h, keys[1], h->n_latent_kv + h->n_rot);
        put(s, h, keys[2], h->n_latent_kv);
        put(s, h, ".attention.key_length_mla", h->head_dim);
        put(s, h, ".attention.value_length_mla", h->head_v);
    }
}

/* A tensor "blk.N.attn_?_b.weight" of a matrix [n_in, n_out] a head. */
static tensor *matrices(source *s, const tensor *whole, const char *name, uint32_t n_in, uint32_t n_out, uint32_t n)
{
    size_t n_stem = strlen(whole->name) - strlen(WHOLE), cap = strlen(whole->name) + 1;
    tensor *t = region_array(&s->memory, 1, sizeof *t);
    char *own = region_alloc(&s->memory, cap);
    if (!t || !own) {
        return NULL;
    }
    snprintf(own, cap, "%.*s.%s", (int)n_stem, whole->name, name);
    *t = (tensor){.name = own, .type = whole->type, .n_dims = 3, .shape = {n_in, n_out, n, 1}};
    t->row_bytes = dtype_row_bytes(t->type, n_in);
    t->n_bytes = (size_t)n_out * n * t->row_bytes;
    return t;
}

static mlxr_status split_one(source *s, const hparams *h, const out_tensor *whole, out_tensor out[2], mlxr_error *error)
{
    const tensor *in = whole->in;
    const uint64_t up = h->n_nope + h->head_v;
    if (in->n_dims != 2 || in->shape[0] != h->n_latent_kv || in->shape[1] != h->n_head * up) {
        return error_set(error, MLXR_FORMAT, "tensor '%s' has shape [%llu, %llu]; expected [%u, %llu]", in->name,
                         (unsigned long long)in->shape[0], (unsigned long long)in->shape[1], h->n_latent_kv,
                         (unsigned long long)(h->n_head * up));
    }
    tensor *k = matrices(s, in, "attn_k_b.weight", h->n_nope, h->n_latent_kv, h->n_head);
    tensor *v = matrices(s, in, "attn_v_b.weight", h->n_latent_kv, h->head_v, h->n_head);
    packed_weight *turned = region_alloc(&s->memory, sizeof *turned);
    out_part *parts = region_array(&s->memory, h->n_head, sizeof *parts);
    if (!k || !v || !turned || !parts) {
        return error_nomem(error, in->name, h->n_head * sizeof *parts);
    }
    *turned = (packed_weight){.layout = PACKED_TURNED,
                              .type = in->type,
                              .n_in = h->n_nope,
                              .n_rows = h->n_latent_kv,
                              .n_out = (uint64_t)h->n_latent_kv * h->n_head,
                              .step = up * h->n_latent_kv,
                              .q = in->data,
                              .sources = {in->data},
                              .source_bytes = {in->n_bytes},
                              .n_sources = 1};
    for (uint32_t i = 0; i < h->n_head; i++) {
        parts[i] = (out_part){.from = whole, .first_row = i * up + h->n_nope};
    }
    out[0] = (out_tensor){.in = k, .packed = turned, .type = k->type};
    out[1] = (out_tensor){.in = v, .parts = parts, .type = v->type};
    return MLXR_OK;
}

mlxr_status latent_split(source *s, mlxr_error *error)
{
    if (!s->is_latent) {
        return MLXR_OK;
    }
    hparams *h = region_array(&s->memory, 1, sizeof *h);
    out_tensor *all = region_array(&s->memory, 2 * s->n_tensors, sizeof *all);
    mlxr_status status = h && all ? hparams_read(h, s->file, error)
                                  : error_nomem(error, "the tensor table", 2 * s->n_tensors * sizeof *all);
    bool split = status == MLXR_OK && can_split(s);
    size_t n = 0;
    for (size_t i = 0; i < s->n_tensors && split && status == MLXR_OK; i++) {
        if (text_ends_with(s->tensors[i].in->name, WHOLE)) {
            status = split_one(s, h, &s->tensors[i], all + n, error);
            n += 2;
        } else {
            all[n++] = s->tensors[i];
        }
    }
    if (status == MLXR_OK) {
        put_metadata(s, h, split);
        s->tensors = split ? all : s->tensors;
        s->n_tensors = split ? n : s->n_tensors;
    }
    return status;
}
