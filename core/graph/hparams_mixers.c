/*
 * Hyper-parameters of mixers.
 * Owner: the model's graph. Lifetime: the call.
 */
#include <math.h>

#include "base/error.h"
#include "graph/hparams_reader.h"

/* Every n-th layer attends, or those that the file lists as not recurrent do. */
static void read_recurrent_layers(reader *r, hparams *h)
{
    char key[160];
    uint32_t every = 4;
    read_u32(r, "full_attention_interval", &every);
    key_of(r, "attention.recurrent_layers", key, sizeof key);
    const meta_value *list = model_file_meta(r->file, key);
    if (r->status == MLXR_OK && list &&
        (list->type != META_ARRAY || list->array.type == META_STRING || list->array.n < h->n_layers)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s': expected one number for each of %u layers", key,
                              h->n_layers);
        return;
    }
    for (uint32_t i = 0; i < h->n_layers; i++) {
        bool recurrent = list ? meta_array_number(&list->array, i) != 0 : every == 0 || (i + 1) % every != 0;
        h->layer_kinds[i] = recurrent ? LAYER_MIXER : LAYER_ATTENTION;
    }
}

void read_mixers(reader *r, hparams *h)
{
    uint32_t inner = 0;
    if (h->fam->mixer == MIXER_NONE) {
        return;
    }
    if (h->fam->mixer == MIXER_CONV) {
        need_u32(r, "shortconv.l_cache", CONV_ROWS_MAX, &h->conv_rows);
        h->conv_width = h->n_embd;
    } else {
        need_u32(r, "ssm.conv_kernel", CONV_ROWS_MAX, &h->conv_rows);
        need_u32(r, "ssm.state_size", RECUR_HEAD_MAX, &h->mixer_head_k);
        need_u32(r, "ssm.group_count", 1u << 12, &h->n_mixer_heads_k);
        need_u32(r, "ssm.time_step_rank", 1u << 12, &h->n_mixer_heads);
        need_u32(r, "ssm.inner_size", 1u << 20, &inner);
    }
    if (r->status == MLXR_OK && h->conv_rows < 2) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED, "a convolution over %u rows; 2 to %u are supported",
                              h->conv_rows, CONV_ROWS_MAX);
    }
    if (r->status != MLXR_OK || h->fam->mixer == MIXER_CONV) {
        return;
    }
    h->mixer_head_v = inner / h->n_mixer_heads;
    h->conv_width = inner + 2 * h->n_mixer_heads_k * h->mixer_head_k;
    if (inner % h->n_mixer_heads || h->n_mixer_heads % h->n_mixer_heads_k || h->mixer_head_v == 0 ||
        h->mixer_head_v > RECUR_HEAD_MAX || inner % h->n_mixer_heads_k) {
        r->status = error_set(r->error, MLXR_FORMAT,
                              "metadata '%s.ssm.*': %u elements do not divide among %u heads of at most %u and these "
                              "among %u groups",
                              r->arch, inner, h->n_mixer_heads, RECUR_HEAD_MAX, h->n_mixer_heads_k);
    }
    uint32_t norm_first = 0;
    read_flag(r, "ssm.norm_before_gate", &norm_first);
    h->mixer_norm_first = norm_first != 0;
    if (r->status == MLXR_OK && h->fam->mixer == MIXER_DELTA) {
        read_recurrent_layers(r, h);
    }
}

/* What the plan, or GGUF's weights, are multiplied by once, where two multipliers meet. */
static void check_products(reader *r, const hparams *h, const char *key)
{
    const float *x = h->times;
    const struct {
        const char *what;
        float one, other, product;
    } all[] = {
#define TIMES(what, one, other) {what, one, other, (one) * (other)}
        TIMES("inputs of attention × keys", x[TIMES_ATTN_IN], x[TIMES_KEY]),
        TIMES("inputs of mixers × gates", x[TIMES_MIXER_IN], x[TIMES_Z]),
        TIMES("inputs of mixers × values", x[TIMES_MIXER_IN], x[TIMES_V]),
        TIMES("inputs of mixers × keys", x[TIMES_MIXER_IN], x[TIMES_K]),
        TIMES("inputs of mixers × queries", x[TIMES_MIXER_IN], x[TIMES_Q]),
        TIMES("inputs of mixers × steps", x[TIMES_MIXER_IN], x[TIMES_STEP]),
        TIMES("outputs of attention × residual_scale", x[TIMES_ATTN_OUT], h->residual_scale),
        TIMES("outputs of mixers × residual_scale", x[TIMES_MIXER_OUT], h->residual_scale),
        TIMES("outputs of MLPs × residual_scale", x[TIMES_DOWN], h->residual_scale),
#undef TIMES
        {"inputs of mixers ÷ those of attention", x[TIMES_MIXER_IN], x[TIMES_ATTN_IN],
         x[TIMES_MIXER_IN] / x[TIMES_ATTN_IN]},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!isnormal(all[i].product) && all[i].one != 0 && all[i].other != 0) {
            r->status = error_set(r->error, MLXR_UNSUPPORTED,
                                  "metadata '%s': %s, %g and %g, is a number no float holds", key, all[i].what,
                                  (double)all[i].one, (double)all[i].other);
            return;
        }
    }
}

void read_multipliers(reader *r, hparams *h)
{
    char key[160];
    for (size_t i = 0; i < TIMES_COUNT; i++) {
        h->times[i] = 1;
    }
    const meta_value *value = model_file_meta(r->file, key_of(r, "multipliers", key, sizeof key));
    if (!h->fam->mixer_beside || !value || r->status != MLXR_OK) {
        return;
    }
    bool list = value->type == META_ARRAY && value->array.type != META_STRING && value->array.n == TIMES_COUNT;
    for (size_t i = 0; i < TIMES_COUNT; i++) {
        h->times[i] = list ? (float)meta_array_number(&value->array, i) : 0;
        if (r->status == MLXR_OK && (!isfinite(h->times[i]) || h->times[i] == 0)) {
            r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s': expected %d numbers that are not 0", key,
                                  TIMES_COUNT);
        }
    }
    if (r->status == MLXR_OK) {
        check_products(r, h, key);
    }
}
