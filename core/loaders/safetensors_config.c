/*
 * config.json, generation_config.json and tokenizer_config.json as GGUF metadata.
 * Owner: the model_file being filled; strings live in its region. Lifetime: its own.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/text.h"
#include "loaders/safetensors_writer.h"

#define LAYERS_MAX 65536

mlxr_status safetensors_parse_any(json_t **out, text_view text, const char *name, mlxr_error *error)
{
    json_error_t where;
    if (text.n > JSON_TEXT_BYTES_MAX) {
        return error_set(error, MLXR_LIMIT, "%s: %zu bytes of JSON; at most %zu are read", name, text.n,
                         JSON_TEXT_BYTES_MAX);
    }
    if (text.n && memchr(text.data, 0, text.n)) { /* jansson would take it for the end of the text */
        return error_set(error, MLXR_FORMAT, "%s: a NUL byte is not JSON", name);
    }
    json_t *root = json_loadb(text.n ? text.data : "", text.n, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        if (where.text[0] == 0) { /* jansson has no words where it finds no memory */
            return error_set(error, MLXR_NOMEM, "%s: out of memory for %zu bytes of JSON", name, text.n);
        }
        return error_set(error, MLXR_FORMAT, "%s: line %d, column %d: %.200s", name, where.line, where.column,
                         where.text);
    }
    *out = root;
    return MLXR_OK;
}

mlxr_status safetensors_parse_json(json_t **out, text_view text, const char *name, mlxr_error *error)
{
    json_t *root = NULL;
    mlxr_status status = safetensors_parse_any(&root, text, name, error);
    if (status == MLXR_OK && !json_is_object(root)) {
        json_decref(root);
        return error_set(error, MLXR_FORMAT, "%s: not a JSON object", name);
    }
    *out = root;
    return status;
}

/* ---- the shape ------------------------------------------------------------------------------------------------- */

/* Ranks and lengths of latent attention, and its scale on q·k, which YaRN changes: by a key that other programs know,
 * too, where its two factors are one, as in all models there are. Returns the length of values. */
static uint32_t write_latent(hf_writer *w, hf_shape *s, uint32_t n_head)
{
    uint32_t n_q = 0;
    double factor = 1, all = 0, mscale = 0;
    bool pairs = true;
    const json_t *rope = hf_member(w->root, "rope_parameters");
    rope = rope ? rope : hf_member(w->root, "rope_scaling");
    s->head_dim = hf_need_u32(w, "qk_rope_head_dim", 4096);
    s->n_nope = hf_need_u32(w, "qk_nope_head_dim", 4096);
    hf_add_u32(w, ".attention.kv_lora_rank", hf_need_u32(w, "kv_lora_rank", UINT32_MAX));
    if (hf_get_u32(w, w->root, "q_lora_rank", &n_q)) {
        hf_add_u32(w, ".attention.q_lora_rank", n_q);
    }
    if (json_is_object(rope)) {
        hf_get_f64(w, rope, "factor", &factor);
        hf_get_f64(w, rope, "mscale_all_dim", &all);
        hf_get_f64(w, rope, "mscale", &mscale);
    }
    hf_get_bool(w, w->root, "rope_interleave", &pairs);
    if (!pairs && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: 'rope_interleave' false is not supported");
    }
    double more = factor > 1 ? 0.1 * all * log(factor) + 1 : 1;
    if (more > 1 && mscale == all) {
        hf_add_f32(w, ".rope.scaling.yarn_log_multiplier", 0.1 * all);
    } else {
        hf_add_f32(w, ".attention.scale", more * more / sqrt((double)s->head_dim + s->n_nope));
    }
    if (w->class->minicpm_scales && !hf_member(w->root, "v_head_dim")) {
        return n_head ? s->n_embd / n_head : 0;
    }
    return hf_need_u32(w, "v_head_dim", 4096);
}

/* ---- layers with windows and those without, of Gemma 4 ---- */

/* A number of the layers without windows: under a name of its own, or as transformers 5 has it, in per_layer_config
 * under the name of the others'. */
static bool get_full(hf_writer *w, const char *own, const char *shared, uint32_t *out)
{
    const char *index;
    json_t *layer;
    bool found = hf_get_u32(w, w->root, own, out);
    json_object_foreach((json_t *)(uintptr_t)hf_member(w->root, "per_layer_config"), index, layer)
    {
        found = (!found && hf_get_u32(w, layer, shared, out)) || found;
    }
    return found;
}

static bool is_window_layer(const hf_writer *w, uint32_t i)
{
    const char *type = json_string_value(json_array_get(hf_member(w->root, "layer_types"), i));
    return type && strcmp(type, "sliding_attention") == 0;
}

/* Numbers that differ from layer to layer as one that is not 0 where `second` says so. */
static void write_two_numbers(hf_writer *w, const char *key, uint32_t first, uint32_t second, uint32_t n_layers,
                              uint32_t second_from)
{
    uint8_t *numbers = first != second ? hf_add_array(w, key, META_I32, n_layers) : NULL;
    if (first == second) {
        hf_add_u32(w, key, first);
    }
    for (uint32_t i = 0; i < n_layers && numbers; i++) {
        uint32_t n = (second_from ? i >= second_from : !is_window_layer(w, i)) ? second : first;
        for (uint32_t byte = 0; byte < 4; byte++) {
            numbers[4 * i + byte] = (uint8_t)(n >> 8 * byte);
        }
    }
}

/* Sizes of heads, numbers of KV heads, widths of MLPs. s->head_dim is that of window layers, and then the others'. */
static void write_two_kinds(hf_writer *w, hf_shape *s, uint32_t n_head_kv, uint32_t n_ff)
{
    const hf_class *class = w->class;
    uint32_t n_shared = 0, n_embd_layer = class->n_embd_layer, n_head_kv_full = n_head_kv;
    bool k_is_v = false, wide = false;
    if (json_array_size(hf_member(w->root, "layer_types")) != s->n_layers && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_FORMAT, "config.json: 'layer_types' is no list of one word a layer");
    }
    s->head_dim_window = s->head_dim;
    s->head_dim = class->head_dim_full;
    get_full(w, "global_head_dim", "head_dim", &s->head_dim);
    hf_get_bool(w, w->root, "attention_k_eq_v", &k_is_v);
    if (k_is_v) { /* others ignore that number */
        get_full(w, "num_global_key_value_heads", "num_key_value_heads", &n_head_kv_full);
    }
    hf_get_u32(w, w->root, "num_kv_shared_layers", &n_shared);
    hf_get_bool(w, w->root, "use_double_wide_mlp", &wide);
    if (json_is_null(json_object_get(w->root, "hidden_size_per_layer_input"))) {
        n_embd_layer = 0;
    }
    hf_get_u32(w, w->root, "hidden_size_per_layer_input", &n_embd_layer);
    if ((n_shared >= s->n_layers || n_ff > UINT32_MAX / 2) && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_FORMAT, "config.json: 'num_kv_shared_layers' is %" PRIu32 " of %" PRIu32,
                              n_shared, s->n_layers);
    }
    write_two_numbers(w, ".attention.head_count_kv", n_head_kv, n_head_kv_full, s->n_layers, 0);
    write_two_numbers(w, ".feed_forward_length", n_ff, wide && n_shared ? 2 * n_ff : n_ff, s->n_layers,
                      s->n_layers - n_shared);
    hf_add_u32(w, ".attention.key_length_swa", s->head_dim_window);
    hf_add_u32(w, ".attention.value_length_swa", s->head_dim_window);
    hf_add_u32(w, ".attention.shared_kv_layers", n_shared);
    hf_add_u32(w, ".embedding_length_per_layer_input", n_embd_layer);
}

/* The width of an MLP, under the name that the class has for it. */
static uint32_t read_ff(hf_writer *w, uint32_t n_embd)
{
    const hf_class *class = w->class;
    const char *key = class->ff_key ? class->ff_key : "intermediate_size";
    if (class->mixer == HF_MIXER_CONV && hf_member(w->root, "block_ff_dim")) {
        key = "block_ff_dim";
    } else if (class->mixer == HF_MIXER_NEMOTRON && class->experts) {
        key = "moe_intermediate_size";
    } else if (w->config->no_experts && class->mixer) {
        key = "shared_intermediate_size"; /* Granite's MLP is called an expert even so */
    }
    bool four_times = class->words == HF_WORDS_GPT2 && !hf_member(w->root, hf_name_of(w->root, key)) &&
                      n_embd < UINT32_MAX / 4;
    return four_times ? 4 * n_embd : hf_need_u32(w, key, UINT32_MAX);
}

static void write_norm_epsilon(hf_writer *w)
{
    const hf_class *class = w->class;
    double eps = class->eps > 0 ? class->eps : 1e-6;
    bool gpt = class->words == HF_WORDS_NOMIC || class->words == HF_WORDS_EXAONE || class->words == HF_WORDS_GPT2;
    hf_get_f64(w, w->root, gpt ? "layer_norm_epsilon" : "", &eps);
    hf_get_f64(w, w->root, class->eps_key ? class->eps_key : "rms_norm_eps", &eps);
    hf_add_f32(w, class->layer_norm ? ".attention.layer_norm_epsilon" : ".attention.layer_norm_rms_epsilon", eps);
    if (class->mixer == HF_MIXER_NEMOTRON) { /* others look for it under this name, though its norms are RMS */
        hf_add_f32(w, ".attention.layer_norm_epsilon", eps);
    }
}

static void write_shape(hf_writer *w, hf_shape *s)
{
    const hf_class *class = w->class;
    uint32_t n_embd = hf_need_u32(w, "hidden_size", UINT32_MAX);
    uint32_t n_ff = read_ff(w, n_embd);
    uint32_t n_head = hf_need_u32(w, "num_attention_heads", UINT32_MAX), n_vocab = 0, n_types = 0;
    const json_t *list = class->mixer && class->mixer != HF_MIXER_BESIDE ? hf_layer_list(w) : NULL;
    if (class->mixer == HF_MIXER_NEMOTRON && hf_layer_list_length(list) > 0 &&
        hf_layer_list_length(list) <= LAYERS_MAX) {
        s->n_layers = (uint32_t)hf_layer_list_length(list); /* it may say nothing else of them */
    } else {
        s->n_layers = hf_need_u32(w, "num_hidden_layers", LAYERS_MAX);
    }
    bool by_layers = class->mixer != HF_MIXER_NONE && class->mixer != HF_MIXER_DELTA && class->mixer != HF_MIXER_BESIDE;
    if (w->status == MLXR_OK && (list ? hf_layer_list_length(list) != s->n_layers : by_layers)) {
        w->status = error_set(w->error, MLXR_FORMAT, "config.json: 'layer_types' is no list of one word a layer");
    }
    n_ff = class->mixer == HF_MIXER_CONV && !class->experts ? hf_adjusted_width(w, n_ff) : n_ff;
    s->n_embd = n_embd;
    s->n_ctx = class->n_ctx;
    hf_get_u32(w, w->root, "max_position_embeddings", &s->n_ctx);
    hf_get_u32(w, w->root, class->logit_scale > 0 ? "model_max_length" : "", &s->n_ctx); /* Command R */
    /* beyond it RoPE would have to change */
    hf_get_u32(w, w->root, class->words == HF_WORDS_NOMIC ? "max_trained_positions" : "", &s->n_ctx);
    uint32_t n_head_kv = class->n_head_kv ? class->n_head_kv : n_head;
    if (json_is_null(json_object_get(w->root, "num_key_value_heads"))) {
        n_head_kv = n_head; /* null is not absence: as many as query heads */
    }
    hf_get_u32(w, w->root, "num_key_value_heads", &n_head_kv);
    n_head_kv = class->multi_query ? 1 : n_head_kv;
    s->head_dim = class->head_dim ? class->head_dim : n_head ? n_embd / n_head : 0;
    hf_get_u32(w, w->root, "head_dim", &s->head_dim);
    hf_add_u32(w, ".block_count", s->n_layers);
    s->n_ctx -= s->n_ctx > class->first_position ? class->first_position : 0;
    hf_add_u32(w, ".context_length", s->n_ctx);
    hf_add_u32(w, ".embedding_length", n_embd);
    if (class->mixer == HF_MIXER_NEMOTRON) {
        hf_write_per_layer(w, ".feed_forward_length", class->experts ? HF_LAYER_EXPERTS : HF_LAYER_MLP, n_ff,
                           s->n_layers);
    } else if (!class->head_dim_full) {
        hf_add_u32(w, ".feed_forward_length", n_ff);
    }
    if (hf_get_u32(w, w->root, "vocab_size", &n_vocab)) {
        hf_add_u32(w, ".vocab_size", n_vocab);
    }
    if (class->encoder && hf_get_u32(w, w->root, "type_vocab_size", &n_types)) {
        hf_add_u32(w, "tokenizer.ggml.token_type_count", n_types);
    }
    hf_add_u32(w, ".attention.head_count", n_head);
    if (by_layers) {
        hf_write_per_layer(w, ".attention.head_count_kv", HF_LAYER_ATTENTION, n_head_kv, s->n_layers);
    } else if (class->head_dim_full) {
        write_two_kinds(w, s, n_head_kv, n_ff);
    } else {
        hf_add_u32(w, ".attention.head_count_kv", n_head_kv);
    }
    uint32_t head_v = s->head_dim;
    if (class->latent) {
        head_v = write_latent(w, s, n_head);
    }
    hf_add_u32(w, ".attention.key_length", class->latent ? s->head_dim + s->n_nope : s->head_dim);
    hf_add_u32(w, ".attention.value_length", head_v);
    write_norm_epsilon(w);
}

/* GELU by tanh has several names: one for all of them. */
static const char *activation_word(const char *word)
{
    static const char *const by_tanh[] = {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"};
    for (size_t i = 0; i < sizeof by_tanh / sizeof *by_tanh; i++) {
        if (strcmp(word, by_tanh[i]) == 0) {
            return "gelu_pytorch_tanh";
        }
    }
    return word;
}

static bool is_same_activation(const char *a, const char *b)
{
    return strcmp(activation_word(a), activation_word(b)) == 0;
}

/* A class with a word of its own for it may say it by the usual one: what a program saved that computes it as another
 * class, and files of the first Gemma, whose "gelu" there has always meant the one by tanh. */
static const char *usual_activation(hf_writer *w, const char *own)
{
    const char *word = hf_get_text(w, w->root, "hidden_act");
    return word && strcmp(word, "gelu") == 0 && is_same_activation(own, "gelu_pytorch_tanh") ? own : word;
}

/* The class's activation needs no row; the other one that it may have has one. */
static void write_activation(hf_writer *w)
{
    const hf_class *class = w->class;
    const char *own = class->activation ? class->activation : "silu", *too = class->activation_too;
    const char *word = class->activation_key ? hf_get_text(w, w->root, class->activation_key) : NULL;
    word = word ? word : usual_activation(w, class->activation_key ? own : "");
    if (!word || is_same_activation(word, own)) {
        return;
    }
    if (too && is_same_activation(word, too)) {
        word = activation_word(word);
        hf_add_text(w, ".hidden_activation", word, strlen(word));
    } else if (w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED,
                              "config.json: activation '%.60s'; %s models are supported with '%s'%s%s%s", word,
                              class->arch, own, too ? " and '" : "", too ? too : "", too ? "'" : "");
    }
}

/* Things of GPT-2 and its kin that are true unless config.json says otherwise, which nothing below knows of. */
static void refuse_unscaled(hf_writer *w)
{
    static const char *const with[] = {"scale_attn_weights", "multi_query"};
    for (size_t i = 0; w->class->words == HF_WORDS_GPT2 && i < (w->class->multi_query ? 2 : 1); i++) {
        bool has = true;
        if (hf_get_bool(w, w->root, with[i], &has) && !has && w->status == MLXR_OK) {
            w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: '%s' false is not supported in %s models",
                                  with[i], w->class->arch);
        }
    }
}

/* Things that would change the mathematics and that nothing below knows of. */
static void refuse_unknown(hf_writer *w)
{
    refuse_unscaled(w);
    static const char *const without[] = {
        "prenorm", "rotary_emb_interleaved", "qk_layernorm", "use_cla",
        "scale_attn_by_inverse_layer_idx"}; /* of NomicBERT, StableLM, Phi, Hunyuan, GPT-2 */
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        bool has = false;
        if (hf_get_bool(w, w->root, without[i], &has) && has && w->status == MLXR_OK) {
            w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: '%s' is not supported", without[i]);
        }
    }
    bool parallel = w->class->parallel;
    hf_get_bool(w, w->root, "use_parallel_residual", &parallel);
    if (w->class->parallel) {
        hf_add_bool(w, ".use_parallel_residual", parallel);
    } else if (parallel && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: 'use_parallel_residual' is not supported");
    }
    bool both_ways = false;
    const char *which = json_string_value(hf_member(w->root, "use_bidirectional_attention"));
    if (which) { /* "vision": not of texts */
        both_ways = strcmp(which, "vision") != 0;
    } else {
        hf_get_bool(w, w->root, "use_bidirectional_attention", &both_ways);
    }
    if (w->status == MLXR_OK && both_ways != w->class->both_ways) {
        w->status = both_ways ? error_set(w->error, MLXR_UNSUPPORTED,
                                          "config.json: 'use_bidirectional_attention' is not supported in %s models",
                                          w->class->arch)
                              : error_set(w->error, MLXR_UNSUPPORTED,
                                          "config.json: %s models without 'use_bidirectional_attention' need a class "
                                          "with a head",
                                          w->class->arch);
    }
}

/* A number that null switches off. */
static void write_softcap(hf_writer *w, const char *key, const char *ours, double value)
{
    if (json_is_null(json_object_get(w->root, key))) {
        return;
    }
    hf_get_f64(w, w->root, key, &value);
    if (value != 0) {
        hf_add_f32(w, ours, value);
    }
}

/* MiniCPM 3's scales; null, or a base of hidden_size, is none. */
static void write_minicpm(hf_writer *w)
{
    double n_embd = w->config->n_embd, depth = 1.4, embedding = 12, base = 256;
    depth = json_is_null(json_object_get(w->root, "scale_depth")) ? sqrt(w->n_layers) : depth;
    base = json_is_null(json_object_get(w->root, "dim_model_base")) ? n_embd : base;
    hf_get_f64(w, w->root, "scale_depth", &depth);
    hf_get_f64(w, w->root, "dim_model_base", &base);
    hf_get_f64(w, w->root, "scale_emb", &embedding);
    hf_add_f32(w, ".embedding_scale", embedding);
    hf_add_f32(w, ".residual_scale", depth / sqrt(w->n_layers));
    hf_add_f32(w, ".logit_scale", base / n_embd);
}

static void write_scales(hf_writer *w)
{
    const hf_class *class = w->class;
    double scalar = class->query_scalar, logit_scale = class->logit_scale;
    if (scalar > 0) {
        hf_get_f64(w, w->root, "query_pre_attn_scalar", &scalar);
        if (!(scalar > 0)) {
            hf_wrong(w, "query_pre_attn_scalar", "number above 0");
            return;
        }
        hf_add_f32(w, ".attention.scale", 1 / sqrt(scalar));
        write_softcap(w, "attn_logit_softcapping", ".attn_logit_softcapping", class->attn_softcap);
    }
    if (scalar > 0 || class->head_dim_full) {
        write_softcap(w, "final_logit_softcapping", ".final_logit_softcapping", class->final_softcap);
    }
    if (class->minicpm_scales) {
        write_minicpm(w);
    }
    if (class->clamps_qkv) {
        hf_copy_f32(w, w->root, "clip_qkv", ".attention.clamp_kqv");
    }
    if (class->mup) {
        bool scaled = false;
        hf_get_bool(w, w->root, "mup_enabled", &scaled);
        hf_add_f32(w, ".embedding_scale", scaled ? sqrt(w->config->n_embd) : 1);
    }
    if (class->windows == HF_WINDOWS_CHUNKS) {
        hf_write_sharpness(w);
    }
    if (logit_scale > 0) {
        hf_get_f64(w, w->root, "logit_scale", &logit_scale);
        hf_add_f32(w, ".logit_scale", logit_scale);
    }
    if (class->attn_multiplier) {
        double attention = 1;
        hf_get_f64(w, w->root, "attention_multiplier", &attention);
        hf_add_f32(w, ".attention.scale", attention);
        hf_copy_f32(w, w->root, "embedding_multiplier", ".embedding_scale");
        hf_copy_f32(w, w->root, "residual_multiplier", ".residual_scale");
        hf_copy_f32(w, w->root, "logits_scaling", ".logit_scale");
    }
}

/* ---- all ------------------------------------------------------------------------------------------------------- */

/* The class from "architectures" (of a model that sees and hears that of its language model), or from "model_type"
 * where that is absent. What is unknown keeps its own name as the architecture: `show` can describe it, and running it
 * fails with that name. */
static void find_class(hf_writer *w)
{
    const json_t *list = hf_member(w->root, "architectures");
    const char *class_name = json_string_value(json_array_get(list, 0)), *type = hf_get_text(w, w->root, "model_type");
    if (list && !class_name) {
        hf_wrong(w, "architectures", "list of class names");
    } else if (!class_name && !type && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_FORMAT,
                              "config.json: neither 'architectures' nor 'model_type' tells what this model is");
    } else {
        w->class = class_name ? hf_class_find(class_name, w->config) : hf_class_find_type(type ? type : "");
        w->arch = w->class ? w->class->arch : class_name ? class_name : type;
    }
    if (w->class && w->class->mixer == HF_MIXER_NEMOTRON && hf_lists_experts(hf_layer_list(w))) {
        w->class = hf_class_of("nemotron_h_moe");
        w->arch = w->class->arch;
    }
    const json_t *inner = hf_member(w->root, "text_config");
    const char *inner_type = json_string_value(hf_member(inner, "model_type"));
    bool sees = text_ends_with(class_name ? class_name : "", "ForConditionalGeneration");
    if (!w->class && !inner && sees) { /* older files have both parts' numbers side by side */
        char inner_of[64];
        snprintf(inner_of, sizeof inner_of, "%.50s_text", type ? type : "");
        w->class = hf_class_find_type(inner_of);
        w->arch = w->class ? w->class->arch : w->arch;
        w->config->inner = w->class != NULL;
    }
    if (!w->class && inner_type && sees) {
        w->class = hf_class_find_type(inner_type);
        w->arch = w->class ? w->class->arch : w->arch;
        w->root = w->class ? inner : w->root;
        w->config->inner = w->class != NULL;
    }
}

/* Of a class that may have some. */
static bool has_no_experts(hf_writer *w)
{
    const json_t *n = hf_member(w->root, "num_local_experts");
    bool enabled = false;
    if (w->class->head_dim_full) {
        hf_get_bool(w, w->root, "enable_moe_block", &enabled);
        return !enabled;
    }
    const json_t *listed = w->class->experts_listed ? hf_member(w->root, "moe_layers") : NULL;
    bool none_listed = json_is_array(listed) && json_array_size(listed) == 0;
    return none_listed || (w->class->mixer == HF_MIXER_MAMBA && n && json_integer_value(n) == 0);
}

static void write_all(hf_writer *w, const safetensors_texts *texts, hf_config *config)
{
    const json_t *outer = w->root;
    find_class(w);
    if (w->status != MLXR_OK) {
        return;
    }
    hf_add_text(w, "general.architecture", w->arch, strlen(w->arch));
    if (texts->name) {
        hf_add_text(w, "general.name", texts->name, strlen(texts->name));
    }
    config->class = w->class;
    config->tied = false;
    if (w->class) {
        hf_shape s = {0};
        config->tied = w->class->tied;
        hf_get_bool(w, w->root, "tie_word_embeddings", &config->tied);
        hf_get_bool(w, outer, "tie_word_embeddings", &config->tied);
        config->no_experts = has_no_experts(w);
        write_shape(w, &s);
        w->n_layers = s.n_layers;
        config->n_embd = s.n_embd;
        hf_write_mixer(w, &s);
        write_activation(w);
        refuse_unknown(w);
        if (w->status == MLXR_OK) {
            w->status = hf_quant_read(&config->quant, outer, w->memory, w->error);
        }
        hf_write_rope(w, &s);
        hf_write_windows(w, &s);
        write_scales(w);
        hf_write_experts(w);
        hf_write_pooling(w, texts);
        if (config->headless && !config->tied) {
            hf_add_u32(w, ".headless", 1);
        }
        config->n_layers = s.n_layers;
    }
    hf_write_special_tokens(w, texts->generation_config);
    hf_write_template(w, texts);
}

mlxr_status hf_config_read(model_file *file, const safetensors_texts *texts, hf_config *config, mlxr_error *error)
{
    json_t *root = NULL;
    mlxr_status status = safetensors_parse_json(&root, texts->config, "config.json", error);
    if (status != MLXR_OK) {
        return status;
    }
    hf_writer w = {.root = root, .config = config, .memory = &file->memory, .error = error};
    w.meta = region_array(&file->memory, META_MAX, sizeof *w.meta);
    if (w.meta) {
        write_all(&w, texts, config);
        file->meta = w.meta;
        file->n_meta = w.n_meta;
    } else {
        w.status = error_nomem(error, "metadata", META_MAX * sizeof *w.meta);
    }
    json_decref(root);
    return w.status;
}
