/*
 * Mixtures of experts, in the words that config.json has for them.
 * Owner: the model_file being filled; strings live in its region. Lifetime: its own.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "loaders/safetensors_writer.h"

/* The first of the names that is there. */
static bool get_u32_of(hf_writer *w, const char *const *names, size_t n, uint32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        if (hf_get_u32(w, w->root, names[i], out)) {
            return true;
        }
    }
    return false;
}

/* What of a mixture nothing below knows of. */
static void refuse_mixture(hf_writer *w)
{
    uint32_t step = 1;
    double limit = 7, alpha = 1.702;
    hf_get_u32(w, w->root, "decoder_sparse_step", &step);
    hf_get_f64(w, w->root, "swiglu_limit", &limit);
    hf_get_f64(w, w->root, "swiglu_alpha", &alpha);
    if (w->status != MLXR_OK) {
        return;
    }
    const char *what = step != 1 || json_array_size(hf_member(w->root, "mlp_only_layers")) > 0
                           ? "dense layers among sparse ones"
                       : hf_member(w->root, "clip_qkv")           ? "'clip_qkv'"
                       : limit != 7 || fabs(alpha - 1.702) > 1e-6 ? "another clamped SwiGLU than 7 and 1.702"
                                                                  : NULL;
    if (what) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: %s is not supported in %s models", what,
                              w->class->arch);
    }
}

/* A number, or a list of one for each layer that are all the same. */
static uint32_t need_one_of_layers(hf_writer *w, const char *key)
{
    const json_t *list = hf_member(w->root, key);
    if (!json_is_array(list)) {
        return hf_need_u32(w, key, UINT32_MAX);
    }
    json_int_t first = json_integer_value(json_array_get(list, 0));
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!json_is_integer(json_array_get(list, i)) || json_integer_value(json_array_get(list, i)) != first) {
            first = 0;
        }
    }
    if (first < 1 || first > UINT32_MAX) {
        hf_wrong(w, key, "number above 0, or list of the same one for each layer");
    }
    return (uint32_t)first;
}

/* Of every so many layers the last has experts; a list of them must say the same. */
static void write_listed_experts(hf_writer *w)
{
    const json_t *list = hf_member(w->root, "moe_layers");
    uint32_t step = 1;
    hf_get_u32(w, w->root, "interleave_moe_layer_step", &step);
    if (json_is_array(list)) {
        step = (uint32_t)json_integer_value(json_array_get(list, 0)) + 1;
    }
    bool regular = step > 0 && step <= w->n_layers && (!list || json_array_size(list) == w->n_layers / step);
    for (size_t i = 0; i < json_array_size(list) && regular; i++) {
        regular = json_integer_value(json_array_get(list, i)) == (json_int_t)((i + 1) * step - 1);
    }
    if (!regular) {
        hf_wrong(w, list ? "moe_layers" : "interleave_moe_layer_step",
                 list ? "list of every n-th layer" : "number from 1 to that of layers");
        return;
    }
    hf_add_u32(w, ".interleave_moe_layer_step", step);
}

/* Layers before the first of experts; behind it all have some, or of every so many the last. */
static void write_leading_dense(hf_writer *w)
{
    uint32_t n_dense = 0, interval = 1, end = 0;
    bool scattered = false;
    const json_t *types = hf_member(w->root, "mlp_layer_types");
    for (size_t i = 0; i < json_array_size(types) && w->status == MLXR_OK; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool dense = type && strcmp(type, "dense") == 0;
        if (!dense && (!type || strcmp(type, "sparse") != 0)) {
            hf_wrong(w, "mlp_layer_types", "list of 'dense' and 'sparse'");
        } else if (dense && n_dense != i) {
            scattered = true;
        }
        n_dense += dense;
    }
    bool listed = n_dense > 0;
    n_dense = listed ? n_dense : w->class->n_dense;
    bool found = listed || hf_get_u32(w, w->root, "first_k_dense_replace", &n_dense) ||
                 hf_get_u32(w, w->root, "num_dense_layers", &n_dense) ||
                 hf_get_u32(w, w->root, "moe_layer_start_index", &n_dense) || n_dense > 0;
    if (hf_get_u32(w, w->root, "moe_layer_interval", &interval)) {
        hf_add_u32(w, ".interleave_moe_layer_step", interval); /* llama.cpp asks for it */
    }
    const json_t *last = hf_member(w->root, "moe_layer_end_index"); /* -1: the last layer */
    bool to_the_end = json_is_integer(last) && json_integer_value(last) == -1;
    bool ends = !to_the_end && hf_get_u32(w, w->root, "moe_layer_end_index", &end) && end + 1 != w->n_layers;
    if ((scattered || ends) && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED,
                              "config.json: dense layers among sparse ones are not supported in %s models",
                              w->class->arch);
    }
    if (found) {
        hf_add_u32(w, ".leading_dense_block_count", n_dense);
    }
}

/* Of a model without experts. */
static void write_dense(hf_writer *w)
{
    uint32_t number = 0;
    if (hf_get_u32(w, w->root, "moe_latent_size", &number) && number && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED,
                              "config.json: 'moe_latent_size' is %" PRIu32 ", but the model has no experts", number);
    }
    if (w->class->latent && !w->class->minicpm_scales && hf_get_u32(w, w->root, "intermediate_size", &number)) {
        hf_add_u32(w, ".expert_feed_forward_length", number); /* llama.cpp asks for these three */
        hf_add_u32(w, ".expert_shared_count", 0);
        hf_add_u32(w, ".leading_dense_block_count", w->n_layers);
    }
}

/* How many experts there are, how many a token uses, and how wide they are: its own and those all tokens share. */
static void write_sizes(hf_writer *w)
{
    static const char *const counts[] = {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"};
    static const char *const used[] = {"top_k_experts", "moe_topk", "moe_k"};
    const char *used_key = "num_experts_per_tok";
    uint32_t n_expert = 0, n_used = 0, number = 0;
    if (!get_u32_of(w, counts, sizeof counts / sizeof *counts, &n_expert) && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_FORMAT, "config.json: 'num_local_experts' is missing");
    }
    for (size_t i = 0; i < sizeof used / sizeof *used; i++) {
        used_key = hf_member(w->root, used[i]) ? used[i] : used_key;
    }
    n_used = need_one_of_layers(w, used_key);
    hf_add_u32(w, ".expert_count", n_expert);
    hf_add_u32(w, ".expert_used_count", n_used);
    if ((!w->class->shared_as_wide && hf_get_u32(w, w->root, "moe_intermediate_size", &number)) ||
        hf_get_u32(w, w->root, "intermediate_size", &number)) {
        hf_add_u32(w, ".expert_feed_forward_length", number);
    }
    if (w->class->shared_as_wide && hf_get_u32(w, w->root, "intermediate_size", &number)) {
        hf_add_u32(w, ".expert_shared_feed_forward_length", number);
    }
    uint32_t n_ff = number;
    bool ernie = hf_get_u32(w, w->root, "moe_num_shared_experts", &number);
    if (ernie || hf_get_u32(w, w->root, "n_shared_experts", &number) ||
        hf_get_u32(w, w->root, "num_shared_experts", &number)) {
        hf_add_u32(w, ".expert_shared_count", number);
    }
    if (ernie && number > 0 && n_ff < UINT32_MAX / number) { /* llama.cpp asks for it */
        hf_add_u32(w, ".expert_shared_feed_forward_length", number * n_ff);
    }
    if (hf_get_u32(w, w->root, "moe_latent_size", &number)) {
        hf_add_u32(w, ".moe_latent_size", number);
    }
    if (hf_get_u32(w, w->root, "shared_expert_intermediate_size", &number) ||
        hf_get_u32(w, w->root, "moe_shared_expert_intermediate_size", &number) ||
        (w->class->mixer == HF_MIXER_MAMBA && hf_get_u32(w, w->root, "shared_intermediate_size", &number))) {
        hf_add_u32(w, ".expert_shared_feed_forward_length", number);
    }
}

/* How experts are chosen and weighted. */
static void write_routing(hf_writer *w)
{
    uint32_t number = 0;
    bool normalise = !w->class->unmixed_weights;
    const char *method = hf_get_text(w, w->root, "topk_method");
    bool by_best = method && strcmp(method, "group_limited_greedy") == 0,
         greedy = method && strcmp(method, "greedy") == 0;
    if (by_best) {
        hf_add_u32(w, ".expert_group_by_best", 1);
    }
    if (w->class->sigmoid_experts) {
        hf_add_u32(w, ".expert_gating_func", 2);
    }
    if (!greedy && hf_get_u32(w, w->root, "n_group", &number)) {
        hf_add_u32(w, ".expert_group_count", number);
    }
    if (!greedy && hf_get_u32(w, w->root, "topk_group", &number)) {
        hf_add_u32(w, ".expert_group_used_count", number);
    }
    hf_get_bool(w, w->root, "norm_topk_prob", &normalise);
    hf_add_bool(w, ".expert_weights_norm", normalise);
    hf_copy_f32(w, w->root, hf_member(w->root, "route_scale") ? "route_scale" : "routed_scaling_factor",
                ".expert_weights_scale");
}

void hf_write_experts(hf_writer *w)
{
    if (!w->class->experts || w->config->no_experts) {
        write_dense(w);
        return;
    }
    write_sizes(w);
    if (w->class->experts_listed) {
        write_listed_experts(w);
    } else {
        write_leading_dense(w);
    }
    write_routing(w);
    refuse_mixture(w);
}
