/*
 * Parts of a layer's tensors.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind_parts.h"

#include "base/error.h"

uint64_t mixer_in_width(const hparams *h)
{
    switch (h->fam->mixer) {
    case MIXER_CONV:
        return 3 * (uint64_t)h->n_embd;
    case MIXER_DELTA:
        return (uint64_t)h->conv_width + hparams_mixer_width(h);
    case MIXER_SSM:
        return (uint64_t)h->conv_width + hparams_mixer_width(h) + h->n_mixer_heads;
    case MIXER_NONE:
        break;
    }
    return 0;
}

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
    if (whole->data) { /* a packed tensor that is only described has none */
        part->data = (const uint8_t *)whole->data + first * stride;
    }
    part->n_bytes = (size_t)n * stride;
    part->row_bytes = vector ? part->n_bytes : whole->row_bytes;
    return part;
}

static mlxr_status split_layer(layer_weights *w, const hparams *h, uint32_t layer, region *memory, mlxr_error *error)
{
    uint64_t head = hparams_head_dim(h, layer), q = h->n_head * head, kv = hparams_n_head_kv(h, layer) * head;
    uint64_t ff = h->layer_ff[layer];
    /* LFM2: a gate of what is convolved, one of the result, what is convolved. Mamba-2: gate, what is convolved, steps.
     */
    bool whole = h->fam->mixer != MIXER_DELTA; /* DeltaNet's is split by heads */
    const tensor *in = whole ? w->mixer_in : NULL, *in_bias = whole ? w->mixer_in_bias : NULL;
    uint64_t first = hparams_mixer_width(h), all = mixer_in_width(h);
    uint64_t second = h->fam->mixer == MIXER_SSM ? h->conv_width : first, third = all - first - second;
    const struct {
        const tensor *whole;
        const tensor **part;
        uint64_t first, n;
    } parts[] = {{w->kv_down, &w->kv_latent, 0, h->n_latent_kv},
                 {w->kv_down, &w->k_shared, h->n_latent_kv, h->n_rot},
                 {w->qkv, &w->q, 0, q},
                 {w->qkv, &w->k, q, kv},
                 {w->qkv, &w->v, q + kv, kv},
                 {w->qkv_bias, &w->q_bias, 0, q},
                 {w->qkv_bias, &w->k_bias, q, kv},
                 {w->qkv_bias, &w->v_bias, q + kv, kv},
                 {w->gate_up, &w->gate, 0, ff},
                 {w->gate_up, &w->up, ff, ff},
                 {w->gate_up_bias, &w->gate_bias, 0, ff},
                 {w->gate_up_bias, &w->up_bias, ff, ff},
                 {in, &w->mixer_first, 0, first},
                 {in, &w->mixer_second, first, second},
                 {in, &w->mixer_third, first + second, third},
                 {in_bias, &w->mixer_first_bias, 0, first},
                 {in_bias, &w->mixer_second_bias, first, second},
                 {in_bias, &w->mixer_third_bias, first + second, third}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bool by_heads = h->qkv_by_heads && (parts[i].whole == w->qkv || parts[i].whole == w->qkv_bias);
        if (parts[i].whole && !by_heads) {
            *parts[i].part = part_of(parts[i].whole, parts[i].first, parts[i].n, memory);
            if (!*parts[i].part) {
                return error_nomem(error, "part of a tensor", sizeof(tensor));
            }
        }
    }
    return MLXR_OK;
}

/* The forms that DeltaNet's inputs come in. */
static mlxr_status check_mixer(const layer_weights *w, const hparams *h, uint32_t layer, mlxr_error *error)
{
    bool whole = w->mixer_in && !w->mixer_qkv && !w->mixer_gate, parts = !w->mixer_in && w->mixer_qkv && w->mixer_gate;
    bool pairs = w->mixer_beta_alpha && !w->mixer_beta && !w->mixer_alpha;
    bool singles = !w->mixer_beta_alpha && w->mixer_beta && w->mixer_alpha;
    if (h->fam->mixer != MIXER_DELTA || h->layer_kinds[layer] != LAYER_MIXER) {
        return MLXR_OK;
    }
    if (!whole && !parts) {
        return error_set(error, MLXR_FORMAT,
                         "layer %u needs either 'blk.%u.ssm_in.weight' or 'blk.%u.attn_qkv.weight' and "
                         "'blk.%u.attn_gate.weight'",
                         layer, layer, layer, layer);
    }
    return pairs || singles ? MLXR_OK
                            : error_set(error, MLXR_FORMAT,
                                        "layer %u needs either 'blk.%u.ssm_ba.weight' or 'blk.%u.ssm_beta.weight' and "
                                        "'blk.%u.ssm_alpha.weight'",
                                        layer, layer, layer, layer);
}

/* Vectors of mixers come as matrices, too: as one row again. */
static mlxr_status flatten_mixer(layer_weights *w, region *memory, mlxr_error *error)
{
    const tensor **vectors[] = {&w->mixer_fade, &w->mixer_skip, &w->mixer_step_bias, &w->mixer_norm};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const tensor *t = *vectors[i];
        if (!t || t->n_dims == 1) {
            continue;
        }
        tensor *flat = region_array(memory, 1, sizeof *flat);
        if (!flat) {
            return error_nomem(error, t->name, sizeof *flat);
        }
        *flat = *t;
        flat->n_dims = 1;
        flat->shape[0] = t->shape[0] * t->shape[1];
        flat->shape[1] = 1;
        flat->row_bytes = t->n_bytes;
        *vectors[i] = flat;
    }
    return MLXR_OK;
}

mlxr_status bind_parts(layer_weights *w, const hparams *h, uint32_t layer, region *memory, mlxr_error *error)
{
    mlxr_status status = split_layer(w, h, layer, memory, error);
    if (status == MLXR_OK) {
        status = check_mixer(w, h, layer, error);
    }
    return status == MLXR_OK ? flatten_mixer(w, memory, error) : status;
}
