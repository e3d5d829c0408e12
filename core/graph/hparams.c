/*
 * Hyper-parameters of one model.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "graph/hparams_reader.h"

/* Rows of tables that nothing else tells. A folder's config.json is held to; GGUF's vocab_size is nobody's word, and
 * its embedding may be padded. */
static void read_rows(reader *r, hparams *h)
{
    bool folder = r->file->format == MODEL_SAFETENSORS;
    if (folder) {
        read_u32(r, "vocab_size", &h->n_vocab_said);
    }
    if (r->status == MLXR_OK) {
        r->status = model_file_u32(r->file, "tokenizer.ggml.token_type_count", &h->n_token_types, r->error);
    }
    h->needs_token_types = h->n_token_types > (folder ? 0 : 1);
}

/* head_count_kv may be one number, or an array with one number a layer, of which those with windows may have another
 * one than those without. That of layers without attention is 0. */
static void read_head_count_kv(reader *r, hparams *h)
{
    char key[160];
    uint32_t *counts[] = {&h->n_head_kv, &h->n_head_kv_window};
    bool found[] = {false, false};
    key_of(r, "attention.head_count_kv", key, sizeof key);
    const meta_value *value = model_file_meta(r->file, key);
    if (r->status != MLXR_OK || !value || value->type != META_ARRAY) {
        read_u32(r, "attention.head_count_kv", &h->n_head_kv);
        h->n_head_kv_window = h->n_head_kv;
        return;
    }
    const meta_array *a = &value->array;
    if (a->type == META_STRING || a->n < h->n_layers) {
        r->status = error_set(r->error, MLXR_FORMAT,
                              "metadata '%s': an array of %llu; expected a number for each of %u layers", key,
                              (unsigned long long)a->n, h->n_layers);
        return;
    }
    for (uint32_t i = 0; i < h->n_layers; i++) {
        double x = meta_array_number(a, i);
        bool window = h->layer_has_window[i];
        uint32_t n = x >= 1 && x <= 65536 ? (uint32_t)x : 0;
        if (x == 0 && h->fam->mixer) {
            h->layer_kinds[i] = LAYER_MIXER;
            continue;
        }
        if (found[window] && n != *counts[window]) {
            r->status = error_set(r->error, MLXR_UNSUPPORTED,
                                  "metadata '%s': layers %s windows with different numbers of KV heads", key,
                                  window ? "with" : "without");
            return;
        }
        *counts[window] = n;
        found[window] = true;
    }
    if (found[0] != found[1]) { /* the other kind is none's */
        *counts[found[0]] = *counts[found[1]];
    }
}

/* Files give the lengths of what heads see under names of their own where the cache's are others. */
static void read_latent(reader *r, hparams *h, uint32_t value_length)
{
    need_u32(r, "attention.kv_lora_rank", 1u << 16, &h->n_latent_kv);
    read_u32(r, "attention.q_lora_rank", &h->n_latent_q);
    read_u32(r, "attention.key_length_mla", &h->head_dim);
    h->head_v = value_length;
    read_u32(r, "attention.value_length_mla", &h->head_v);
    h->n_head_kv = h->n_head;
    if (r->status == MLXR_OK && (h->n_rot == 0 || h->n_rot >= h->head_dim || h->head_v == 0 || h->head_v > 4096 ||
                                 hparams_latent_row(h) > 4096 || h->n_latent_q > 1u << 16)) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED,
                              "latent attention with keys of %u elements a head, %u of which turn, and values of %u, "
                              "made of %u",
                              h->head_dim, h->n_rot, h->head_v, h->n_latent_kv);
        return;
    }
    h->n_nope = h->head_dim - h->n_rot;
}

static void read_windows(reader *r, hparams *h)
{
    char key[160];
    uint32_t every = h->fam->full_every;
    h->window = h->fam->chunk;
    read_u32(r, "attention.sliding_window", &h->window);
    key_of(r, "attention.sliding_window_pattern", key, sizeof key);
    const meta_value *pattern = model_file_meta(r->file, key);
    if (r->status != MLXR_OK || h->window == 0) {
        return;
    }
    if (pattern && pattern->type != META_ARRAY) {
        read_u32(r, "attention.sliding_window_pattern", &every);
        pattern = NULL;
    }
    if (r->status == MLXR_OK && pattern && (pattern->array.type == META_STRING || pattern->array.n < h->n_layers)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s': expected one number for each of %u layers", key,
                              h->n_layers);
        return;
    }
    for (uint32_t i = 0; i < h->n_layers; i++) {
        h->layer_has_window[i] = pattern ? meta_array_number(&pattern->array, i) != 0
                                         : every == 0 || (i + !h->fam->full_first) % every != 0;
    }
    if (h->fam->encoder) {
        h->window = h->window / 2 + 1; /* what files give is the width of both sides */
    }
}

/* Sizes of heads, which those of window layers may differ from. */
static void check_heads(reader *r, const hparams *h, uint32_t n_head_kv, uint32_t head_dim, uint32_t value_length,
                        uint32_t n_rot, const char *end)
{
    if (r->status != MLXR_OK) {
        return;
    }
    if (n_head_kv == 0 || h->n_head % n_head_kv != 0) {
        r->status = error_set(r->error, MLXR_FORMAT, "%u query heads do not divide among %u KV heads", h->n_head,
                              n_head_kv);
    } else if (head_dim == 0 || head_dim > 4096) {
        r->status = error_set(r->error, MLXR_FORMAT, "head size %u is outside 1…4096", head_dim);
    } else if (value_length != head_dim) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED, "keys of %u and values of %u elements a head", head_dim,
                              value_length);
    } else if (n_rot > head_dim || n_rot % 2 != 0) {
        r->status = error_set(
            r->error, MLXR_FORMAT,
            "metadata '%s.rope.dimension_count%s' is %u; it must be even and at most the head size %u", r->arch, end,
            n_rot, head_dim);
    }
}

/* Heads of window layers are those of the others where the file says nothing else of them. */
static void read_window_heads(reader *r, hparams *h)
{
    h->head_dim_window = h->head_dim;
    read_u32(r, "attention.key_length_swa", &h->head_dim_window);
    uint32_t value_length = h->head_dim_window;
    read_u32(r, "attention.value_length_swa", &value_length);
    h->n_rot_window = h->head_dim_window == h->head_dim ? h->n_rot : h->head_dim_window;
    read_u32(r, "rope.dimension_count_swa", &h->n_rot_window);
    check_heads(r, h, h->n_head_kv_window, h->head_dim_window, value_length, h->n_rot_window, "_swa");
    bool differ = h->head_dim_window != h->head_dim || h->n_rot_window != h->n_rot;
    if (r->status == MLXR_OK && differ && (!h->fam->unscaled_attention || h->fam->local_rope_theta == 0)) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED,
                              "%s models with heads of another size in layers that have windows", r->arch);
    }
}

/* The last layers may read keys and values that others wrote; there must be one of each kind. */
static void read_shared_layers(reader *r, hparams *h)
{
    bool written[2] = {false, false}, read[2] = {false, false};
    if (!h->fam->layer_embeddings) {
        return;
    }
    read_u32(r, "attention.shared_kv_layers", &h->n_layers_reading);
    read_u32(r, "embedding_length_per_layer_input", &h->n_embd_layer);
    if (r->status == MLXR_OK && (h->n_layers_reading >= h->n_layers || h->n_embd_layer > 1u << 16)) {
        r->status = error_set(r->error, MLXR_FORMAT,
                              "metadata '%s': %u of %u layers read keys of others, and each has %u elements of its own",
                              r->arch, h->n_layers_reading, h->n_layers, h->n_embd_layer);
        return;
    }
    for (uint32_t i = 0; i < h->n_layers && r->status == MLXR_OK; i++) {
        (hparams_reads_kv(h, i) ? read : written)[h->layer_has_window[i]] = true;
    }
    if ((read[0] && !written[0]) || (read[1] && !written[1])) {
        r->status = error_set(r->error, MLXR_FORMAT,
                              "metadata '%s.attention.shared_kv_layers' is %u: no layer of the same kind is left to "
                              "write what these read",
                              r->arch, h->n_layers_reading);
    }
}

/* Is there any tensor of the layer? Files may name one that they have left out. */
static bool has_layer(const model_file *file, uint32_t layer)
{
    char stem[32];
    int n = snprintf(stem, sizeof stem, "blk.%u.", layer);
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        if (strncmp(file->tensors[i].name, stem, (size_t)n) == 0) {
            return true;
        }
    }
    return false;
}

static void read_shape(reader *r, hparams *h)
{
    need_u32(r, "block_count", HPARAMS_LAYERS_MAX, &h->n_layers);
    need_u32(r, "embedding_length", 1u << 20, &h->n_embd);
    need_u32(r, "attention.head_count", 1u << 16, &h->n_head);
    need_u32(r, "context_length", 1u << 30, &h->n_ctx_train);
    read_rows(r, h);
    read_u32(r, "nextn_predict_layers", &h->n_layers_ahead);
    if (r->status != MLXR_OK) { /* before anything counts layers that no table has room for */
        return;
    }
    if (h->n_layers_ahead >= h->n_layers) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s.nextn_predict_layers' is %u, of %u layers in all",
                              r->arch, h->n_layers_ahead, h->n_layers);
        return;
    }
    h->n_layers -= h->n_layers_ahead;
    h->predicts_ahead = h->n_layers_ahead > 0 && h->fam->ahead != AHEAD_NONE && has_layer(r->file, h->n_layers);
    read_windows(r, h);
    read_experts(r, h);
    h->n_head_kv = h->n_head_kv_window = h->n_head;
    read_head_count_kv(r, h);
    if (h->n_expert == 0 || h->n_layers_dense > 0 || h->expert_step > 1 || h->n_ff_expert == 0 ||
        h->fam->experts_beside || h->fam->one_block) {
        read_feed_forward(r, h);
    } else {
        h->n_ff = h->n_ff_expert; /* no layer has a dense one */
    }
    h->n_ff_expert = h->n_ff_expert ? h->n_ff_expert : h->n_ff;
    if (h->predicts_ahead && !h->layer_ff[h->n_layers]) { /* block_count, which is below LAYERS_MAX, counts it */
        h->layer_ff[h->n_layers] = h->n_ff;
    }
    if (r->status != MLXR_OK) {
        return;
    }
    h->head_dim = h->n_embd / h->n_head;
    read_u32(r, "attention.key_length", &h->head_dim);
    uint32_t value_length = h->fam->latent ? h->n_embd / h->n_head : h->head_dim;
    read_u32(r, "attention.value_length", &value_length);
    h->n_rot = h->head_dim;
    read_u32(r, "rope.dimension_count", &h->n_rot);
    if (h->fam->latent) {
        read_latent(r, h, value_length);
        value_length = h->head_dim;
    }
    check_heads(r, h, h->n_head_kv, h->head_dim, value_length, h->n_rot, "");
    if (r->status == MLXR_OK && h->fam->qkv_by_heads && h->n_head_kv != h->n_head) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED,
                              "%u query heads and %u KV heads: the Q, K and V of %s models lie together head by head, "
                              "so that there must be as many of each",
                              h->n_head, h->n_head_kv, r->arch);
    }
    h->n_head_kv_window = h->fam->latent ? h->n_head_kv : h->n_head_kv_window;
    read_window_heads(r, h);
    read_shared_layers(r, h);
}

static void read_scaling(reader *r, hparams *h)
{
    char key[160];
    rope_scaling *s = &h->scaling;
    text_view type = {"none", 4};
    *s = (rope_scaling){.factor = 1,
                        .beta_fast = 32,
                        .beta_slow = 1,
                        .low_freq_factor = 1,
                        .high_freq_factor = 4,
                        .untruncated = h->fam->yarn_untruncated,
                        .n_ctx_orig = h->n_ctx_train};
    if (r->status == MLXR_OK) {
        r->status = model_file_text(r->file, key_of(r, "rope.scaling.type", key, sizeof key), &type, r->error);
    }
    read_f32(r, "rope.scale_linear", &s->factor); /* the key of old files */
    if (r->status == MLXR_OK && model_file_meta(r->file, key_of(r, "rope.scale_linear", key, sizeof key))) {
        s->kind = ROPE_SCALING_LINEAR;
    }
    read_f32(r, "rope.scaling.factor", &s->factor);
    read_f32(r, "rope.scaling.attn_factor", &s->attn_factor);
    read_f32(r, "rope.scaling.yarn_attn_factor", &s->attn_factor);
    read_f32(r, "rope.scaling.yarn_log_multiplier", &h->yarn_log_multiplier);
    float log_multiplier = h->yarn_log_multiplier; /* of DeepSeek's scale on q·k: that changes, not the magnitude */
    if (log_multiplier != 0 && s->factor > 1 && !h->fam->latent) { /* Ministral's mscale_all_dim, where mscale is 1 */
        float one = 0.1f * logf(s->factor), given = s->attn_factor > 0 ? s->attn_factor : 1;
        s->attn_factor = given * (1 + one) / (1 + log_multiplier * one);
    } else if (log_multiplier != 0 && s->factor > 1) {
        float more = 1 + log_multiplier * logf(s->factor);
        h->attn_scale *= more * more;
        s->attn_factor = s->attn_factor > 0 ? s->attn_factor : 1;
    }
    read_f32(r, "rope.scaling.yarn_beta_fast", &s->beta_fast);
    read_f32(r, "rope.scaling.yarn_beta_slow", &s->beta_slow);
    read_f32(r, "rope.scaling.low_freq_factor", &s->low_freq_factor);
    read_f32(r, "rope.scaling.high_freq_factor", &s->high_freq_factor);
    uint32_t truncate = !s->untruncated;
    read_flag(r, "rope.scaling.yarn_truncate", &truncate);
    s->untruncated = !truncate;
    read_u32(r, "rope.scaling.original_context_length", &s->n_ctx_orig);
    if (r->status != MLXR_OK) {
        return;
    }
    static const struct {
        const char *name;
        rope_scaling_kind kind;
    } kinds[] = {{"linear", ROPE_SCALING_LINEAR},
                 {"yarn", ROPE_SCALING_YARN},
                 {"llama3", ROPE_SCALING_LLAMA3},
                 {"longrope", ROPE_SCALING_LONGROPE},
                 {"ntk", ROPE_SCALING_NTK},
                 /* changes nothing within the context that the model was trained for; beyond it options say how */
                 {"dynamic", ROPE_SCALING_NONE},
                 /* positions of pictures; those of texts are the same in all its parts */
                 {"mrope", ROPE_SCALING_NONE}};
    bool known = type.n == 4 && memcmp(type.data, "none", 4) == 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strlen(kinds[i].name) == type.n && memcmp(kinds[i].name, type.data, type.n) == 0) {
            s->kind = kinds[i].kind;
            known = true;
        }
    }
    if (!known) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED,
                              "RoPE scaling '%.*s' (known: none, linear, ntk, dynamic, yarn, llama3, longrope, mrope)",
                              (int)type.n, type.data);
    } else if (!(s->factor > 0) || s->n_ctx_orig == 0) {
        r->status = error_set(r->error, MLXR_FORMAT, "RoPE scaling: factor %g and original context %u must be above 0",
                              (double)s->factor, s->n_ctx_orig);
    }
}

static void read_rope_and_scales(reader *r, hparams *h)
{
    h->rope_theta = 10000.0f;
    read_f32(r, "rope.freq_base", &h->rope_theta);
    h->rope_theta_local = h->fam->local_rope_theta;
    if (h->rope_theta_local == 0 && h->fam->local_rope_unscaled) {
        h->rope_theta_local = h->rope_theta;
    }
    read_f32(r, "rope.freq_base_swa", &h->rope_theta_local);
    read_f32(r, "attention.logit_softcapping", &h->attn_softcap);
    read_f32(r, "attn_logit_softcapping", &h->attn_softcap);
    read_f32(r, "final_logit_softcapping", &h->final_softcap);
    bool wide = h->fam->wide_head_scale_layers && h->fam->wide_head_scale_layers == h->n_layers;
    h->attn_scale = h->fam->unscaled_attention ? 1.0f
                                               : 1.0f / sqrtf((float)(wide ? h->n_embd / h->n_head : h->head_dim));
    read_f32(r, "attention.scale", &h->attn_scale);
    h->norm_eps = 0;
    const char *eps = h->fam->norm == NORM_LAYER ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    if (h->fam->one_block) { /* Nemotron-H's files may have it under the other name alone */
        read_f32(r, "attention.layer_norm_epsilon", &h->norm_eps);
    }
    read_f32(r, eps, &h->norm_eps);
    if (r->status == MLXR_OK && !(h->norm_eps > 0 && h->norm_eps < 1)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s.%s' is missing or not between 0 and 1", r->arch,
                              eps);
    }
    /* 0: window layers turn as the others do, if their heads allow it */
    bool same = h->head_dim_window == h->head_dim && h->n_rot_window == h->n_rot;
    bool local = h->rope_theta_local > 0 || (h->rope_theta_local == 0 && same);
    if (r->status == MLXR_OK && !(h->rope_theta > 0 && local)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s.rope.freq_base%s' must be above 0", r->arch,
                              h->rope_theta > 0 ? "_swa" : "");
    }
}

/* Far queries may be sharpened: by the context that RoPE was first made for, or as chunks are long. */
static void read_temperature(reader *r, hparams *h)
{
    h->attn_temperature = h->window && h->fam->chunk ? h->fam->still_temperature : 0;
    h->temperature_span = h->fam->chunk ? h->fam->chunk : h->scaling.n_ctx_orig;
    read_f32(r, "attention.temperature_scale", &h->attn_temperature);
    read_u32(r, "attention.temperature_length", &h->temperature_span);
    if (r->status == MLXR_OK && h->attn_temperature != 0 && h->temperature_span == 0) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s.attention.temperature_length' is 0", r->arch);
    }
}

static void read_parallel(reader *r, hparams *h)
{
    uint32_t parallel = h->fam->parallel || h->fam->parallel_norms;
    if (h->fam->parallel_norms) {
        read_flag(r, "use_parallel_residual", &parallel);
    }
    h->parallel = parallel != 0;
}

/* Of Llama 4 the model with 128 experts has no norm of queries and keys; other programs know it by that. */
static void read_qk_norm(reader *r, hparams *h)
{
    uint32_t has = h->n_expert != 128;
    if (h->fam->qk_norm == QK_NORM_BARE) {
        read_flag(r, "attention.qk_norm", &has);
        h->qk_norm_bare = has != 0;
    }
}

/* What a head that ranks reads: the first token, of a decoder the last, or what the file says. Files of ModernBERT that
 * say nothing have the mean. */
static void read_ranking(reader *r, hparams *h)
{
    uint32_t pooling = !h->fam->encoder ? 3 : h->fam->gelu_head ? 1 : 2;
    read_u32(r, "classifier.pooling_type", &pooling);
    if (r->status == MLXR_OK && (pooling == 0 || pooling > 3)) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED,
                              "metadata '%s.classifier.pooling_type' is %u; 1 to 3 (mean, first, last) are supported",
                              r->arch, pooling);
    }
    uint32_t biased = 0;
    read_flag(r, "classifier.bias", &biased);
    h->cls_biased = biased != 0;
    h->pooling = pooling;
}

static void read_scales(reader *r, hparams *h)
{
    h->embedding_scale = h->fam->scale_embedding ? sqrtf((float)h->n_embd) : 1.0f;
    h->residual_scale = h->logit_scale = 1;
    if (h->fam->minicpm_scales) {
        h->embedding_scale = 12;
        h->residual_scale = 1.4f / sqrtf((float)h->n_layers);
        h->logit_scale = 256.0f / (float)h->n_embd;
    }
    read_f32(r, "embedding_scale", &h->embedding_scale);
    read_f32(r, "residual_scale", &h->residual_scale);
    read_f32(r, "logit_scale", &h->logit_scale);
    read_u32(r, "pooling_type", &h->pooling);
    if (r->status == MLXR_OK && h->pooling > 4) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED,
                              "metadata '%s.pooling_type' is %u; 0 to 4 (none, mean, first, last, rank) are supported",
                              r->arch, h->pooling);
    }
    /* llama.cpp's files of rankers may say it by having the head alone. */
    h->ranks = h->pooling == 4 || (h->fam->encoder && model_file_tensor(r->file, "cls.output.weight"));
    uint32_t headless = h->ranks;
    read_flag(r, "headless", &headless);
    h->headless = headless != 0 && !h->fam->encoder;
    if (h->ranks) {
        read_ranking(r, h);
    }
    uint32_t causal = !h->fam->encoder;
    read_flag(r, "attention.causal", &causal);
    if (r->status == MLXR_OK && causal == h->fam->encoder) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED, "metadata '%s.attention.causal' is %u", r->arch, causal);
    }
    read_temperature(r, h);
    read_qk_norm(r, h);
    read_parallel(r, h);
    read_xielu(r, h);
    read_multipliers(r, h);
    if (h->fam->clamps_qkv) {
        read_f32(r, "attention.clamp_kqv", &h->qkv_limit);
    }
    if (r->status == MLXR_OK && !(h->qkv_limit >= 0)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s.attention.clamp_kqv' is below 0", r->arch);
    }
    if (r->status == MLXR_OK && h->logit_scale == 0) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s.logit_scale' is 0", r->arch);
        return;
    }
    if (h->fam->logit_scale_divides) {
        h->logit_scale = 1 / h->logit_scale;
    }
}

/* Which layers do not turn queries and keys: by the family's rule, or as the file lists them. */
static void read_unturned(reader *r, hparams *h)
{
    char key[160];
    uint32_t every = h->fam->unturned_every;
    key_of(r, "rope.layers", key, sizeof key);
    const meta_value *turned = model_file_meta(r->file, key);
    if (r->status == MLXR_OK && turned &&
        (turned->type != META_ARRAY || turned->array.type == META_STRING || turned->array.n < h->n_layers)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s': expected one number for each of %u layers", key,
                              h->n_layers);
        return;
    }
    uint32_t finetuned = 1; /* Granite's word for it */
    read_flag(r, "rope.scaling.finetuned", &finetuned);
    every = !finetuned && h->fam->mixer ? 1 : every;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        bool full = h->fam->full_is_unturned && h->window && !h->layer_has_window[i];
        h->layer_is_unturned[i] = turned ? meta_array_number(&turned->array, i) == 0
                                         : full || (every && (i + 1) % every == 0);
    }
}

/* Writers fuse Q, K and V of any family, or do not: the first layer with attention tells, by what it has, and where
 * that is lost, the others. */
static void read_fused(reader *r, hparams *h)
{
    bool apart = false, fused = false;
    if (h->fam->latent || (h->fam->gated_attention && !h->fam->gate_apart)) {
        return;
    }
    for (uint32_t i = 0; i < h->n_layers && !apart && !fused; i++) {
        char name[48];
        if (h->layer_kinds[i] == LAYER_ATTENTION) {
            snprintf(name, sizeof name, "blk.%u.attn_q.weight", i);
            apart = model_file_tensor(r->file, name) != NULL;
            snprintf(name, sizeof name, "blk.%u.attn_qkv.weight", i);
            fused = model_file_tensor(r->file, name) != NULL;
        }
    }
    h->fused_qkv = fused;
    h->qkv_by_heads = fused && h->fam->qkv_by_heads && r->file->format == MODEL_SAFETENSORS;
}

static mlxr_status find_family(reader *r, hparams *h)
{
    text_view arch = {0};
    mlxr_status status = model_file_text(r->file, "general.architecture", &arch, r->error);
    if (status != MLXR_OK) {
        return status;
    }
    if (!arch.data) {
        return error_set(r->error, MLXR_FORMAT, "metadata 'general.architecture' is missing");
    }
    h->fam = arch.n < sizeof r->arch ? family_find(arch.data, arch.n) : NULL;
    if (!h->fam) {
        size_t n = 0;
        while (family_at(n)) { /* their names would not fit in a line */
            n++;
        }
        return error_set(r->error, MLXR_UNSUPPORTED,
                         "model family '%.*s' is not supported; %zu are, which docs/models.md lists",
                         (int)(arch.n < 64 ? arch.n : 64), arch.data, n);
    }
    memcpy(r->arch, arch.data, arch.n);
    r->arch[arch.n] = 0;
    return MLXR_OK;
}

uint32_t hparams_layers_own(const model_file *file)
{
    hparams h = {0};
    reader r = {.file = file};
    r.status = find_family(&r, &h);
    read_u32(&r, "block_count", &h.n_layers);
    read_u32(&r, "nextn_predict_layers", &h.n_layers_ahead);
    return r.status == MLXR_OK && h.n_layers_ahead < h.n_layers ? h.n_layers - h.n_layers_ahead : UINT32_MAX;
}

mlxr_status hparams_read(hparams *out, const model_file *file, mlxr_error *error)
{
    hparams h = {0};
    reader r = {.file = file, .error = error};
    r.status = find_family(&r, &h);
    if (r.status == MLXR_OK) {
        read_shape(&r, &h);
    }
    if (r.status == MLXR_OK) {
        read_mixers(&r, &h);
    }
    if (r.status == MLXR_OK) {
        read_fused(&r, &h);
    }
    if (r.status == MLXR_OK) {
        read_rope_and_scales(&r, &h);
    }
    if (r.status == MLXR_OK) {
        read_scaling(&r, &h);
    }
    if (r.status == MLXR_OK) {
        read_unturned(&r, &h);
    }
    if (r.status == MLXR_OK) {
        read_scales(&r, &h);
    }
    if (r.status == MLXR_OK) {
        read_activation(&r, &h);
    }
    if (r.status == MLXR_OK) {
        *out = h;
    }
    return r.status;
}
