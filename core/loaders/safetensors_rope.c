/*
 * RoPE of config.json as metadata, and LongRoPE's factors as tensors.
 * Owner: the model_file being filled; factors live in its region. Lifetime: its own.
 */
#include <math.h>
#include <string.h>

#include "loaders/safetensors_writer.h"

/* A YaRN scale on cos and sin: given, or from the ratio of two mscales; else the reader's default. */
static void write_attention_factor(hf_writer *w, const json_t *rope, double factor)
{
    double given, mscale = 0, all = 0;
    if (hf_get_f64(w, rope, "attention_factor", &given)) {
        hf_add_f32(w, ".rope.scaling.attn_factor", given);
        return;
    }
    hf_get_f64(w, rope, "mscale", &mscale);
    hf_get_f64(w, rope, "mscale_all_dim", &all);
    if (w->class->yarn_by_log && mscale == 1 && all != 0) {
        hf_add_f32(w, ".rope.scaling.yarn_log_multiplier", all);
    } else if (mscale != 0 && all != 0 && factor > 1) {
        hf_add_f32(w, ".rope.scaling.attn_factor", (0.1 * mscale * log(factor) + 1) / (0.1 * all * log(factor) + 1));
    }
}

/* LongRoPE's, which readers of GGUF may know by this key alone: Ding et al. 2024. */
static void write_long_magnitude(hf_writer *w, const json_t *rope, double factor, uint32_t n_ctx_orig)
{
    double magnitude = factor > 1 && n_ctx_orig > 1 ? sqrt(1 + log(factor) / log(n_ctx_orig)) : 1;
    hf_get_f64(w, rope, "attention_factor", &magnitude);
    hf_add_f32(w, ".rope.scaling.attn_factor", magnitude);
}

static void add_factors(hf_writer *w, const char *name, const float *values, size_t n)
{
    w->config->extra[w->config->n_extra++] = tensor_of_floats(name, values, n);
}

/* A list of numbers as a tensor. */
static void write_factors(hf_writer *w, const json_t *rope, const char *key, const char *name)
{
    const json_t *list = hf_member(rope, key);
    size_t n = json_array_size(list);
    if (n == 0 || n > 4096) {
        hf_wrong(w, key, "list of 1 to 4096 numbers");
        return;
    }
    float *values = region_array(w->memory, n, sizeof *values);
    if (!values) {
        w->status = error_nomem(w->error, key, n * sizeof *values);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, i);
        values[i] = (float)json_number_value(value);
        if (!json_is_number(value) || !(values[i] > 0) || !isfinite(values[i])) {
            hf_wrong(w, key, "list of numbers above 0");
            return;
        }
    }
    add_factors(w, name, values, n);
}

/* Proportional RoPE: frequencies are those of the whole head, and the first share of its pairs turns. */
static void write_proportional(hf_writer *w, uint32_t head_dim, double share)
{
    if (head_dim < 2 || head_dim > 4096) {
        hf_wrong(w, "global_head_dim", "number from 2 to 4096");
        return;
    }
    uint32_t n = head_dim / 2, n_turned = (uint32_t)(share * head_dim / 2);
    float *values = region_array(w->memory, n, sizeof *values);
    if (!values) {
        w->status = error_nomem(w->error, "RoPE factors", n * sizeof *values);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        values[i] = i < n_turned ? 1.0f : ROPE_FACTOR_STILL;
    }
    add_factors(w, "rope_freqs.weight", values, n);
}

/* The word that older files have is "type". */
static const char *type_of(hf_writer *w, const json_t *rope)
{
    const char *type = hf_get_text(w, rope, "rope_type");
    return type ? type : hf_get_text(w, rope, "type");
}

/* Hunyuan's alpha, which makes another theta of RoPE's scaling "dynamic"; 0: there is none, as its class takes 0, too.
 */
static double alpha_of(hf_writer *w, const json_t *rope, const char *type)
{
    double alpha = 0;
    if (!w->class->alpha || !type || strcmp(type, "dynamic") != 0 || !hf_get_f64(w, rope, "alpha", &alpha)) {
        return 0;
    }
    if (!(alpha >= 0) && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_FORMAT,
                              "config.json: 'alpha' of RoPE scaling 'dynamic' is %g; it must "
                              "not be below 0",
                              alpha);
    }
    return alpha;
}

static void write_scaling(hf_writer *w, const json_t *rope, const hf_shape *s)
{
    const char *type = type_of(w, rope);
    if (!type || alpha_of(w, rope, type) > 0 || strcmp(type, "default") == 0 || strcmp(type, "mrope") == 0) {
        return; /* m-RoPE's sections have the same positions in a text */
    }
    double factor = 0;
    uint32_t n_ctx_orig = s->n_ctx;
    bool truncate = true;
    if (!hf_get_u32(w, w->root, "original_max_position_embeddings", &n_ctx_orig)) {
        hf_get_u32(w, rope, "original_max_position_embeddings", &n_ctx_orig);
    }
    hf_get_bool(w, rope, "truncate", &truncate);
    if (strcmp(type, "proportional") == 0) { /* the tensor says it; a factor is of all frequencies */
        if (!hf_get_f64(w, rope, "factor", &factor) || factor == 1) {
            return;
        }
        type = "linear";
    } else if (!hf_get_f64(w, rope, "factor", &factor) && w->status == MLXR_OK) {
        if ((strcmp(type, "yarn") != 0 && strcmp(type, "longrope") != 0) || n_ctx_orig == 0) {
            w->status = error_set(w->error, MLXR_FORMAT, "config.json: RoPE scaling '%.60s' without 'factor'", type);
        }
        factor = (double)s->n_ctx / (n_ctx_orig ? n_ctx_orig : 1);
    }
    type = strcmp(type, "su") == 0 ? "longrope" : type; /* what it was called at first */
    hf_add_text(w, ".rope.scaling.type", type, strlen(type));
    if (strcmp(type, "longrope") != 0) { /* whose factors are all; llama.cpp would divide by this one, too */
        hf_add_f32(w, ".rope.scaling.factor", factor);
    }
    hf_add_u32(w, ".rope.scaling.original_context_length", n_ctx_orig);
    if (strcmp(type, "longrope") == 0) {
        write_long_magnitude(w, rope, factor, n_ctx_orig);
        write_factors(w, rope, "long_factor", "rope_factors_long.weight");
        write_factors(w, rope, "short_factor", "rope_factors_short.weight");
    }
    if (strcmp(type, "yarn") == 0) {
        hf_add_u32(w, ".rope.scaling.yarn_truncate", truncate); /* families differ in what they do without it */
        write_attention_factor(w, rope, factor);
        hf_copy_f32(w, rope, "beta_fast", ".rope.scaling.yarn_beta_fast");
        hf_copy_f32(w, rope, "beta_slow", ".rope.scaling.yarn_beta_slow");
    }
    hf_copy_f32(w, rope, "low_freq_factor", ".rope.scaling.low_freq_factor");
    hf_copy_f32(w, rope, "high_freq_factor", ".rope.scaling.high_freq_factor");
}

/* Window layers with a theta of their own are only known without scaling. */
static void check_local_rope(hf_writer *w, const json_t *local)
{
    const char *type = hf_get_text(w, local, "rope_type");
    if (type && strcmp(type, "default") != 0 && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED,
                              "config.json: RoPE scaling '%.60s' of window layers is not supported", type);
    }
}

/* no_rope_layers: one number a layer, 0 for those that do not turn (the name says the opposite). */
bool hf_layer_turns(const hf_writer *w, uint32_t i)
{
    const json_t *list = hf_member(w->root, "no_rope_layers"), *interval = hf_member(w->root, "no_rope_layer_interval");
    json_int_t every = json_is_integer(interval) ? json_integer_value(interval) : w->class->no_rope_interval;
    if (json_array_size(list) > 0) {
        return json_integer_value(json_array_get(list, i)) != 0;
    }
    return every <= 0 || (i + 1) % every != 0;
}

static void write_turned(hf_writer *w, const hf_shape *s)
{
    const json_t *list = hf_member(w->root, "no_rope_layers");
    uint32_t every = 0;
    if (w->class->no_rope_interval == 0) {
        return;
    }
    hf_get_u32(w, w->root, "no_rope_layer_interval", &every); /* which says where it is no number */
    bool empty = json_is_array(list) && json_array_size(list) == 0;
    if (list && !empty && json_array_size(list) != s->n_layers) {
        hf_wrong(w, "no_rope_layers", "list with one number a layer");
        return;
    }
    uint8_t *turned = hf_add_array(w, ".rope.layers", META_BOOL, s->n_layers);
    for (uint32_t i = 0; i < s->n_layers && turned; i++) {
        turned[i] = hf_layer_turns(w, i);
    }
}

/* m-RoPE's sections: pictures have several positions, which nothing here computes, but other programs ask for it. */
static void write_sections(hf_writer *w, const json_t *rope)
{
    const json_t *list = hf_member(rope, "mrope_section");
    size_t n = json_array_size(list);
    if (list && (n < 1 || n > 4)) {
        hf_wrong(w, "mrope_section", "list of 1 to 4 numbers of pairs");
        return;
    }
    uint8_t *sections = w->class->rope_sections[0] ? hf_add_array(w, ".rope.dimension_sections", META_I32, 4) : NULL;
    for (size_t i = 0; i < 4 && sections; i++) {
        const json_t *pairs = json_array_get(list, i);
        json_int_t number = list ? json_integer_value(pairs) : w->class->rope_sections[i];
        if (number < 0 || number > UINT8_MAX || (pairs && json_typeof(pairs) != JSON_INTEGER)) {
            hf_wrong(w, "mrope_section", "list of 1 to 4 numbers of pairs");
            return;
        }
        memcpy(sections + 4 * i, (const uint8_t[4]){(uint8_t)number}, 4);
    }
}

/* rope_parameters (transformers 5; one set, or one for each kind of layer), or rope_theta and rope_scaling (before). */
void hf_write_rope(hf_writer *w, const hf_shape *s)
{
    double theta = w->class->rope_theta > 0 ? w->class->rope_theta : 1e4, local_theta = w->class->rope_theta_local;
    double share = w->class->rotary_share > 0 ? w->class->rotary_share : 1, local_share = 1, temperature;
    const json_t *rope = hf_get_object(w, w->root, "rope_scaling"), *local = NULL;
    rope = rope ? rope : hf_get_object(w, w->root, "rope_parameters");
    hf_get_f64(w, w->root, "rope_theta", &theta);
    hf_get_f64(w, w->root, "rope_local_base_freq", &local_theta);
    hf_get_f64(w, w->root, "global_rope_theta", &theta); /* ModernBERT */
    hf_get_f64(w, w->root, "local_rope_theta", &local_theta);
    hf_get_f64(w, w->root, "rotary_emb_base", &theta); /* NomicBERT, GPT-NeoX */
    hf_get_f64(w, w->root, "partial_rotary_factor", &share);
    hf_get_f64(w, w->root, "rotary_pct", &share); /* GPT-NeoX */
    local_theta = w->class->one_rope_theta ? theta : local_theta;
    if (rope && w->class->rope_theta_local > 0 &&
        (hf_member(rope, "full_attention") || hf_member(rope, "sliding_attention"))) {
        local = hf_get_object(w, rope, "sliding_attention");
        rope = hf_get_object(w, rope, "full_attention");
    }
    if (local) {
        hf_get_f64(w, local, "rope_theta", &local_theta);
        hf_get_f64(w, local, "partial_rotary_factor", &local_share);
        check_local_rope(w, local);
    }
    if (rope) {
        hf_get_f64(w, rope, "rope_theta", &theta);
        hf_get_f64(w, rope, "partial_rotary_factor", &share);
    }
    const char *type = rope ? type_of(w, rope) : NULL;
    uint32_t n_rot = 0;
    if (w->class->rotary_dim && hf_get_u32(w, w->root, "rotary_dim", &n_rot) && s->head_dim) {
        share = (double)n_rot / s->head_dim;
    }
    double alpha = alpha_of(w, rope, type);
    if (alpha > 0 && s->head_dim > 2) {
        theta *= pow(alpha, (double)s->head_dim / (s->head_dim - 2));
    }
    bool proportional = w->class->head_dim_full && (!rope || (type && strcmp(type, "proportional") == 0));
    share = proportional && !rope ? 0.25 : share;
    if (!(share > 0 && share <= 1 && local_share > 0 && local_share <= 1)) {
        hf_wrong(w, "partial_rotary_factor", "number above 0 and up to 1");
        return;
    }
    if (proportional) {
        write_proportional(w, s->head_dim, share);
    }
    hf_add_u32(w, ".rope.dimension_count", proportional ? s->head_dim : (uint32_t)(s->head_dim * share));
    if (w->class->head_dim_full) {
        hf_add_u32(w, ".rope.dimension_count_swa", (uint32_t)(s->head_dim_window * local_share));
    }
    hf_add_f32(w, ".rope.freq_base", theta);
    if (w->class->rope_theta_local > 0) {
        hf_add_f32(w, ".rope.freq_base_swa", local_theta);
    }
    if (rope) {
        write_scaling(w, rope, s);
    }
    if (rope && hf_get_f64(w, rope, "llama_4_scaling_beta", &temperature)) {
        hf_add_f32(w, ".attention.temperature_scale", temperature);
    }
    write_sections(w, rope);
    write_turned(w, s);
}
