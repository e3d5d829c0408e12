/*
 * Which tensors have value heads, and where in them.
 * Owner: the source's memory. Lifetime: its own.
 */
#include "convert/heads.h"

#include <string.h>

#include "base/error.h"
#include "base/text.h"

uint64_t head_order_source(const head_order *order, uint64_t at)
{
    if (at < order->first) {
        return at;
    }
    uint64_t head = (at - order->first) / order->size, within = (at - order->first) % order->size;
    uint64_t each = order->n_heads / order->n_keys; /* values of a key */
    uint64_t from = head % order->n_keys * each + head / order->n_keys;
    return order->first + from * order->size + within;
}

static uint64_t number_source(const void *order, uint64_t at)
{
    return head_order_source(order, at);
}

static mlxr_status order_tensor(source *s, out_tensor *t, const head_order *order, mlxr_error *error)
{
    const tensor *in = t->in;
    bool vector = in->n_dims == 1;
    uint64_t n = vector || order->columns ? in->shape[0] : in->shape[1];
    if (n != order->first + order->n_heads * order->size || (vector && t->packed)) {
        return error_set(error, MLXR_FORMAT, "tensor '%s': %llu %s are not those of %u %s of %llu", in->name,
                         (unsigned long long)n, vector || order->columns ? "columns" : "rows", order->n_heads,
                         order->of, (unsigned long long)order->size);
    }
    if (order->columns && order->size % dtype_find((uint32_t)in->type)->block_size != 0) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "tensor '%s': %s of %llu columns are no whole blocks of %s, whose order could be GGUF's",
                         in->name, order->of, (unsigned long long)order->size, dtype_name(in->type));
    }
    if (vector) {
        return source_reorder(s, t, number_source, order, error); /* steps and decays: a number a head */
    }
    head_order *own = region_alloc(&s->memory, sizeof *own);
    if (!own) {
        return error_nomem(error, in->name, sizeof *own);
    }
    *own = *order;
    t->order = own;
    return MLXR_OK;
}

bool head_order_find(head_order *out, const hparams *h, const char *name)
{
    const uint64_t keys = 2 * (uint64_t)h->n_mixer_heads_k * h->mixer_head_k;
    const struct {
        const char *end;
        uint64_t first, size;
        bool columns;
    } parts[] = {{".attn_qkv.weight", keys, h->mixer_head_v, false},
                 {".ssm_conv1d.weight", keys, h->mixer_head_v, false},
                 {".attn_gate.weight", 0, h->mixer_head_v, false},
                 {".ssm_beta.weight", 0, 1, false},
                 {".ssm_alpha.weight", 0, 1, false},
                 {".ssm_a", 0, 1, false},
                 {".ssm_dt.bias", 0, 1, false},
                 {".ssm_out.weight", 0, h->mixer_head_v, true}};
    if (h->qkv_by_heads && (text_ends_with(name, ".attn_qkv.weight") || text_ends_with(name, ".attn_qkv.bias"))) {
        *out = (head_order){
            .size = h->head_dim, .n_heads = 3 * h->n_head, .n_keys = h->n_head, .of = "heads of Q, K and V"};
        return true;
    }
    if (!h->fam->gguf_heads_in_turn || h->n_mixer_heads == h->n_mixer_heads_k) {
        return false;
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (text_ends_with(name, parts[i].end)) {
            *out = (head_order){.first = parts[i].first,
                                .size = parts[i].size,
                                .n_heads = h->n_mixer_heads,
                                .n_keys = h->n_mixer_heads_k,
                                .columns = parts[i].columns,
                                .of = "value heads"};
            return true;
        }
    }
    return false;
}

mlxr_status heads_in_turn(source *s, const hparams *h, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < s->n_tensors && status == MLXR_OK; i++) {
        head_order order;
        if (head_order_find(&order, h, s->tensors[i].in->name)) {
            status = order_tensor(s, &s->tensors[i], &order, error);
        }
    }
    return status;
}
