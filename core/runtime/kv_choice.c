/*
 * What decides between words and floats: the norms of a model's keys.
 * Owner: none; pure functions. Lifetime: the call.
 */
#include "runtime/kv_choice.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/kv_words.h"
#include "quant/codec.h"

/* Narrower heads gain less, and lose where many sequences decode (docs/performance.md). */
#define HEAD_DIM_MIN 128u
/* Words have 4 bits more than f16's 11: the greatest of a norm's weights over the middle one at most. */
#define SPREAD_MAX 16.0f

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Is no weight far above the others? */
static bool is_even(const tensor *norm, uint32_t head_dim)
{
    float weights[KV_WORDS_MAX];
    if (norm->n_dims != 1 || norm->shape[0] != head_dim || head_dim > KV_WORDS_MAX) {
        return false; /* of all heads at once: a head's length says nothing. Nor packed, which only matrices are */
    }
    codec_decode(norm->type, norm->data, weights, head_dim);
    for (uint32_t i = 0; i < head_dim; i++) {
        weights[i] = fabsf(weights[i]);
        if (!isfinite(weights[i])) {
            return false;
        }
    }
    qsort(weights, head_dim, sizeof *weights, compare);
    return weights[head_dim - 1] <= SPREAD_MAX * weights[head_dim / 2];
}

static bool keys_are_even(const graph *g, uint32_t layer)
{
    const tensor *norm = g->weights.layers[layer].k_norm;
    return g->h.fam->qk_norm == QK_NORM_HEADS && norm && is_even(norm, hparams_head_dim(&g->h, layer));
}

dtype kv_type_choose(const graph *g, const backend_ops *ops)
{
    bool words = ops->words_pay;
    for (uint32_t i = 0; i < g->plan.n_kv_groups && words; i++) {
        const kv_group *group = &g->plan.kv_groups[i];
        words = group->state_width > 0 ||
                (group->head_dim >= HEAD_DIM_MIN && kv_layout_check(group, DTYPE_I16, NULL) == MLXR_OK);
    }
    for (uint32_t i = 0; i < hparams_layers_bound(&g->h) && words; i++) {
        bool keeps_keys = g->h.layer_kinds[i] == LAYER_ATTENTION && !hparams_reads_kv(&g->h, i);
        words = !keeps_keys || keys_are_even(g, i);
    }
    return words ? DTYPE_I16 : KV_TYPE_DEFAULT;
}
