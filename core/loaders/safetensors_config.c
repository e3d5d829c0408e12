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

/* ---- the sections ---------------------------------------------------------------------------------------------- */

/* ---- layers without attention ---- */

typedef enum layer_type { TYPE_ATTENTION, TYPE_MIXER, TYPE_MLP, TYPE_EXPERTS, TYPE_UNKNOWN } layer_type;

static layer_type type_of_word(const char *word)
{
    static const struct {
        const char *word;
        layer_type type;
    } words[] = {{"full_attention", TYPE_ATTENTION},
                 {"attention", TYPE_ATTENTION},
                 {"linear_attention", TYPE_MIXER},
                 {"mamba", TYPE_MIXER},
                 {"conv", TYPE_MIXER},
                 {"mlp", TYPE_MLP},
                 {"moe", TYPE_EXPERTS}};
    for (size_t i = 0; word && i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i].word, word) == 0) {
            return words[i].type;
        }
    }
    return TYPE_UNKNOWN;
}

/* Where config.json lists the layers: an array of words, of Nemotron-H also one word of the letters M, *, - and E. */
static const json_t *layer_list(const hf_writer *w)
{
    static const char *const keys[] = {"layer_types", "layers_block_type", "hybrid_override_pattern"};
    const json_t *list = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !list; i++) {
        list = hf_member(w->root, keys[i]);
    }
    return list;
}

static size_t layer_list_length(const json_t *list)
{
    return json_is_string(list) ? json_string_length(list) : json_array_size(list);
}

static layer_type type_of_layer(const json_t *list, size_t i)
{
    if (!json_is_string(list)) {
        return type_of_word(json_string_value(json_array_get(list, i)));
    }
    char letter = json_string_value(list)[i];
    return letter == 'M'   ? TYPE_MIXER
           : letter == '*' ? TYPE_ATTENTION
           : letter == '-' ? TYPE_MLP
           : letter == 'E' ? TYPE_EXPERTS
                           : TYPE_UNKNOWN;
}

static bool lists_experts(const json_t *list)
{
    for (size_t i = 0; i < layer_list_length(list); i++) {
        if (type_of_layer(list, i) == TYPE_EXPERTS) {
            return true;
        }
    }
    return false;
}

/* A number a layer: n in those of a type, 0 in the others. */
static void write_per_layer(hf_writer *w, const char *key, layer_type type, uint32_t n, uint32_t n_layers)
{
    const json_t *list = layer_list(w);
    uint8_t *numbers = hf_add_array(w, key, META_I32, n_layers);
    for (uint32_t i = 0; i < n_layers && numbers; i++) {
        layer_type found = type_of_layer(list, i);
        layer_type mlp = w->class->experts ? TYPE_EXPERTS : TYPE_MLP; /* all of a kind */
        bool fits = found <= TYPE_MIXER || (found == mlp && w->class->mixer == HF_MIXER_NEMOTRON);
        if (!fits && w->status == MLXR_OK) {
            w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: layer %" PRIu32 " is of an unknown type",
                                  i);
        }
        for (uint32_t byte = 0; byte < 4; byte++) {
            numbers[4 * i + byte] = (uint8_t)(found == type ? n >> 8 * byte : 0);
        }
    }
}

static void write_recurrent_layers(hf_writer *w, uint32_t n_layers)
{
    const json_t *list = layer_list(w);
    uint32_t every = 4;
    hf_get_u32(w, w->root, "full_attention_interval", &every);
    uint8_t *recurrent = hf_add_array(w, ".attention.recurrent_layers", META_BOOL, n_layers);
    for (uint32_t i = 0; i < n_layers && recurrent; i++) {
        recurrent[i] = list ? type_of_layer(list, i) == TYPE_MIXER : every == 0 || (i + 1) % every != 0;
        if (list && type_of_layer(list, i) > TYPE_MIXER) {
            hf_wrong(w, "layer_types", "array of 'linear_attention' and 'full_attention'");
        }
    }
}

/* LFM2 makes the width of its MLP from the one it names; its form with experts does not. */
static uint32_t adjusted_width(hf_writer *w, uint32_t n_ff)
{
    bool adjusted = true;
    double factor = 1;
    uint32_t multiple = 256;
    hf_get_bool(w, w->root, "block_auto_adjust_ff_dim", &adjusted);
    hf_get_f64(w, w->root, "block_ffn_dim_multiplier", &factor);
    hf_get_u32(w, w->root, "block_multiple_of", &multiple);
    if (!adjusted || multiple == 0 || !(factor > 0 && factor < 1000)) {
        return n_ff;
    }
    double wide = floor(factor * floor(2.0 * n_ff / 3));
    return wide < UINT32_MAX / 2 ? ((uint32_t)wide + multiple - 1) / multiple * multiple : 0;
}

/* Steps are not kept to limits by any model known; infinity is no number in JSON. */
static void refuse_step_limits(hf_writer *w)
{
    const json_t *limits = hf_member(w->root, "time_step_limit"), *least = json_array_get(limits, 0);
    bool none = !limits || (json_number_value(least) == 0 && !json_is_number(json_array_get(limits, 1)));
    if (!none && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: 'time_step_limit' other than 0 to infinity");
    }
}

static void write_mamba(hf_writer *w, const hf_shape *s, bool nemotron)
{
    uint32_t n_heads = hf_need_u32(w, nemotron ? "mamba_num_heads" : "mamba_n_heads", 1u << 16), head = 0, expand = 2;
    uint32_t most = 1u << 16, n_groups = hf_need_u32(w, nemotron ? "n_groups" : "mamba_n_groups", most);
    hf_get_u32(w, w->root, "mamba_expand", &expand);
    head = n_heads ? (uint32_t)((uint64_t)expand * s->n_embd / n_heads) : 0;
    const char *key = nemotron ? "mamba_head_dim" : "mamba_d_head";
    if (!json_is_string(hf_member(w->root, key))) { /* "auto" */
        hf_get_u32(w, w->root, key, &head);
    }
    hf_add_u32(w, ".ssm.conv_kernel", hf_need_u32(w, nemotron ? "conv_kernel" : "mamba_d_conv", most));
    hf_add_u32(w, ".ssm.state_size", hf_need_u32(w, nemotron ? "ssm_state_size" : "mamba_d_state", most));
    hf_add_u32(w, ".ssm.group_count", n_groups);
    hf_add_u32(w, ".ssm.time_step_rank", n_heads);
    hf_add_u32(w, ".ssm.inner_size", head <= most ? head * n_heads : 0);
    w->config->n_groups = n_groups;
    refuse_step_limits(w);
}

static void write_mixer(hf_writer *w, const hf_shape *s)
{
    const uint32_t most = 1u << 16;
    const char *positions = NULL;
    switch (w->class->mixer) {
    case HF_MIXER_NONE:
        break;
    case HF_MIXER_CONV:
        hf_add_u32(w, ".shortconv.l_cache", hf_need_u32(w, "conv_L_cache", most));
        break;
    case HF_MIXER_DELTA:
        hf_add_u32(w, ".ssm.conv_kernel", hf_need_u32(w, "linear_conv_kernel_dim", most));
        hf_add_u32(w, ".ssm.state_size", hf_need_u32(w, "linear_key_head_dim", most));
        hf_add_u32(w, ".ssm.group_count", hf_need_u32(w, "linear_num_key_heads", most));
        hf_add_u32(w, ".ssm.time_step_rank", hf_need_u32(w, "linear_num_value_heads", most));
        hf_add_u32(w, ".ssm.inner_size",
                   hf_need_u32(w, "linear_num_value_heads", 1u << 15) *
                       hf_need_u32(w, "linear_value_head_dim", 1u << 15));
        write_recurrent_layers(w, s->n_layers);
        break;
    case HF_MIXER_MAMBA:
        write_mamba(w, s, false);
        positions = hf_get_text(w, w->root, "position_embedding_type");
        hf_add_bool(w, ".rope.scaling.finetuned", positions && strcmp(positions, "rope") == 0);
        break;
    case HF_MIXER_NEMOTRON:
        write_mamba(w, s, true);
        break;
    }
}

/* Ranks and lengths of latent attention, and its scale on q·k, which YaRN changes: by a key that other programs know,
 * too, where its two factors are one, as in all models there are. Returns the length of values. */
static uint32_t write_latent(hf_writer *w, hf_shape *s)
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

static void write_shape(hf_writer *w, hf_shape *s)
{
    const hf_class *class = w->class;
    const char *ff_key = "intermediate_size";
    if (class->mixer == HF_MIXER_CONV && hf_member(w->root, "block_ff_dim")) {
        ff_key = "block_ff_dim";
    } else if (class->mixer == HF_MIXER_NEMOTRON && class->experts) {
        ff_key = "moe_intermediate_size";
    } else if (w->config->no_experts && class->mixer) {
        ff_key = "shared_intermediate_size"; /* Granite's MLP is called an expert even so */
    }
    uint32_t n_embd = hf_need_u32(w, "hidden_size", UINT32_MAX);
    bool four_times = class->words == HF_WORDS_GPT2 && !hf_member(w->root, hf_name_of(w->root, ff_key)) &&
                      n_embd < UINT32_MAX / 4;
    uint32_t n_ff = four_times ? 4 * n_embd : hf_need_u32(w, ff_key, UINT32_MAX);
    uint32_t n_head = hf_need_u32(w, "num_attention_heads", UINT32_MAX), n_vocab = 0, n_types = 0;
    const json_t *list = class->mixer ? layer_list(w) : NULL;
    if (class->mixer == HF_MIXER_NEMOTRON && layer_list_length(list) > 0 && layer_list_length(list) <= LAYERS_MAX) {
        s->n_layers = (uint32_t)layer_list_length(list); /* it may say nothing else of them */
    } else {
        s->n_layers = hf_need_u32(w, "num_hidden_layers", LAYERS_MAX);
    }
    bool by_layers = class->mixer != HF_MIXER_NONE && class->mixer != HF_MIXER_DELTA;
    if (w->status == MLXR_OK && (list ? layer_list_length(list) != s->n_layers : by_layers)) {
        w->status = error_set(w->error, MLXR_FORMAT, "config.json: 'layer_types' is no list of one word a layer");
    }
    n_ff = class->mixer == HF_MIXER_CONV && !class->experts ? adjusted_width(w, n_ff) : n_ff;
    s->n_embd = n_embd;
    s->n_ctx = class->n_ctx;
    hf_get_u32(w, w->root, "max_position_embeddings", &s->n_ctx);
    hf_get_u32(w, w->root, class->logit_scale > 0 ? "model_max_length" : "", &s->n_ctx); /* Command R */
    /* beyond it RoPE would have to change */
    hf_get_u32(w, w->root, class->words == HF_WORDS_NOMIC ? "max_trained_positions" : "", &s->n_ctx);
    uint32_t n_head_kv = class->n_head_kv ? class->n_head_kv : n_head;
    if (json_is_null(
            json_object_get(w->root, "num_key_value_heads"))) { /* null is not absence: as many as query heads */
        n_head_kv = n_head;
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
        write_per_layer(w, ".feed_forward_length", class->experts ? TYPE_EXPERTS : TYPE_MLP, n_ff, s->n_layers);
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
        write_per_layer(w, ".attention.head_count_kv", TYPE_ATTENTION, n_head_kv, s->n_layers);
    } else if (class->head_dim_full) {
        write_two_kinds(w, s, n_head_kv, n_ff);
    } else {
        hf_add_u32(w, ".attention.head_count_kv", n_head_kv);
    }
    uint32_t head_v = s->head_dim;
    if (class->latent) {
        head_v = write_latent(w, s);
    }
    hf_add_u32(w, ".attention.key_length", class->latent ? s->head_dim + s->n_nope : s->head_dim);
    hf_add_u32(w, ".attention.value_length", head_v);
    double eps = class->eps > 0 ? class->eps : 1e-6;
    bool gpt = class->words == HF_WORDS_NOMIC || class->words == HF_WORDS_EXAONE || class->words == HF_WORDS_GPT2;
    hf_get_f64(w, w->root, gpt ? "layer_norm_epsilon" : "", &eps);
    hf_get_f64(w, w->root, class->eps_key ? class->eps_key : "rms_norm_eps", &eps);
    hf_add_f32(w, class->layer_norm ? ".attention.layer_norm_epsilon" : ".attention.layer_norm_rms_epsilon", eps);
    if (class->mixer == HF_MIXER_NEMOTRON) { /* others look for it under this name, though its norms are RMS */
        hf_add_f32(w, ".attention.layer_norm_epsilon", eps);
    }
}

/* Of classes that run what the word says: GELU by tanh has several names, the exact one has a row of metadata. */
static bool takes_gelu(hf_writer *w, const char *activation)
{
    static const char *const by_tanh[] = {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"};
    if (!w->class->gelu_by_word || !activation) {
        return false;
    }
    if (strcmp(activation, "gelu") == 0) {
        hf_add_text(w, ".hidden_activation", activation, strlen(activation));
        return true;
    }
    for (size_t i = 0; i < sizeof by_tanh / sizeof *by_tanh; i++) {
        if (strcmp(activation, by_tanh[i]) == 0) {
            return true;
        }
    }
    return false;
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
    const char *activation = hf_get_text(w, w->root, w->class->activation_key);
    const char *too = w->class->activation_too;
    refuse_unscaled(w);
    if (w->status == MLXR_OK && activation && !takes_gelu(w, activation) &&
        strcmp(activation, w->class->activation) != 0 && !(too && strcmp(activation, too) == 0)) {
        w->status = error_set(
            w->error, MLXR_UNSUPPORTED, "config.json: activation '%.60s'; %s models are supported with '%s'%s%s%s",
            activation, w->class->arch, w->class->activation, too ? " and '" : "", too ? too : "", too ? "'" : "");
    }
    if (too && activation) {
        hf_add_text(w, ".hidden_activation", activation, strlen(activation));
    }
    static const char *const without[] = {
        "prenorm", "rotary_emb_interleaved",         "use_parallel_residual", "qk_layernorm",
        "use_cla", "scale_attn_by_inverse_layer_idx"}; /* of NomicBERT, StableLM, Phi, Hunyuan, GPT-2 */
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        bool has = false;
        if (hf_get_bool(w, w->root, without[i], &has) && has && w->status == MLXR_OK) {
            w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: '%s' is not supported", without[i]);
        }
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

/* layer_types: an array of "sliding_attention" and "full_attention", one a layer. */
static void write_layer_types(hf_writer *w, const json_t *types, uint32_t n_layers)
{
    if (!json_is_array(types) || json_array_size(types) != n_layers) {
        hf_wrong(w, "layer_types", "array with one string a layer");
        return;
    }
    uint8_t *pattern = hf_add_array(w, ".attention.sliding_window_pattern", META_BOOL, n_layers);
    for (uint32_t i = 0; i < n_layers && pattern; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        pattern[i] = type && strcmp(type, "sliding_attention") == 0;
        if (!type || (!pattern[i] && strcmp(type, "full_attention") != 0)) {
            hf_wrong(w, "layer_types", "array of 'sliding_attention' and 'full_attention'");
            return;
        }
    }
}

/* "LLLG": local and global layers, again and again. */
static void write_letters(hf_writer *w, const char *letters, uint32_t n_layers)
{
    size_t n = strspn(letters, "LG");
    if (n == 0 || letters[n] != 0) {
        hf_wrong(w, "sliding_window_pattern", "number, or word of the letters L and G");
        return;
    }
    uint8_t *pattern = hf_add_array(w, ".attention.sliding_window_pattern", META_BOOL, n_layers);
    for (uint32_t i = 0; i < n_layers && pattern; i++) {
        pattern[i] = letters[i % n] == 'L';
    }
}

static void write_windows(hf_writer *w, const hf_shape *s)
{
    const hf_windows windows = w->class->windows;
    bool late = windows == HF_WINDOWS_LATE, optional = windows == HF_WINDOWS_OPTIONAL, used = !optional;
    uint32_t window = w->class->window, first = late ? 62 : 28, every = 0;
    if (json_is_null(json_object_get(w->root, "sliding_window"))) { /* null switches a default off */
        window = 0;
    }
    hf_get_u32(w, w->root, "sliding_window", &window);
    hf_get_u32(w, w->root, "local_attention", &window);
    hf_get_bool(w, w->root, optional ? "use_sliding_window" : "", &used);
    hf_get_u32(w, w->root, optional || late ? "max_window_layers" : "", &first);
    /* Mistral's class does not look at layer_types */
    const json_t *types = windows == HF_WINDOWS_ALL ? NULL : hf_member(w->root, "layer_types");
    bool none = !types && (windows == HF_WINDOWS_LISTED || (late && first >= s->n_layers));
    if (!used || window == 0 || none || windows == HF_WINDOWS_NONE) {
        return;
    }
    hf_add_u32(w, ".attention.sliding_window", window);
    const json_t *pattern_value = hf_member(w->root, "sliding_window_pattern");
    if (types) {
        write_layer_types(w, types, s->n_layers);
    } else if (optional || late) {
        uint8_t *pattern = hf_add_array(w, ".attention.sliding_window_pattern", META_BOOL, s->n_layers);
        for (uint32_t i = 0; i < s->n_layers && pattern; i++) {
            pattern[i] = i >= first;
        }
    } else if (json_is_string(pattern_value)) {
        write_letters(w, json_string_value(pattern_value), s->n_layers);
    } else if (w->class->full_every) {
        every = w->class->full_every;
        hf_get_u32(w, w->root, "global_attn_every_n_layers", &every);
        uint8_t *pattern = hf_add_array(w, ".attention.sliding_window_pattern", META_BOOL, s->n_layers);
        for (uint32_t i = 0; i < s->n_layers && pattern; i++) {
            pattern[i] = every > 0 && i % every != 0;
        }
    } else if (hf_get_u32(w, w->root, "sliding_window_pattern", &every)) {
        hf_add_u32(w, ".attention.sliding_window_pattern", every);
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

/* Layers before the first of experts; all behind it must have some. */
static void write_leading_dense(hf_writer *w)
{
    uint32_t n_dense = 0, interval = 1, end = 0;
    const json_t *types = hf_member(w->root, "mlp_layer_types");
    for (size_t i = 0; i < json_array_size(types) && w->status == MLXR_OK; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool dense = type && strcmp(type, "dense") == 0;
        if (!dense && (!type || strcmp(type, "sparse") != 0)) {
            hf_wrong(w, "mlp_layer_types", "list of 'dense' and 'sparse'");
        } else if (dense && n_dense != i) {
            interval = 2;
        }
        n_dense += dense;
    }
    bool found = n_dense > 0 || hf_get_u32(w, w->root, "first_k_dense_replace", &n_dense) ||
                 hf_get_u32(w, w->root, "num_dense_layers", &n_dense) ||
                 hf_get_u32(w, w->root, "moe_layer_start_index", &n_dense);
    if (interval == 1 && hf_get_u32(w, w->root, "moe_layer_interval", &interval)) {
        hf_add_u32(w, ".interleave_moe_layer_step", interval); /* llama.cpp asks for it */
    }
    const json_t *last = hf_member(w->root, "moe_layer_end_index"); /* -1: the last layer */
    bool to_the_end = json_is_integer(last) && json_integer_value(last) == -1;
    bool ends = !to_the_end && hf_get_u32(w, w->root, "moe_layer_end_index", &end) && end + 1 != w->n_layers;
    if ((interval != 1 || ends) && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED,
                              "config.json: dense layers among sparse ones are not supported in %s models",
                              w->class->arch);
    }
    if (found) {
        hf_add_u32(w, ".leading_dense_block_count", n_dense);
    }
}

static void write_experts(hf_writer *w)
{
    static const char *const counts[] = {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"};
    static const char *const used[] = {"top_k_experts", "moe_topk", "moe_k"};
    const char *used_key = "num_experts_per_tok";
    uint32_t n_expert = 0, n_used = 0, number = 0;
    bool normalise = !w->class->unmixed_weights;
    if ((!w->class->experts || w->config->no_experts) && hf_get_u32(w, w->root, "moe_latent_size", &number) && number &&
        w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED,
                              "config.json: 'moe_latent_size' is %" PRIu32 ", but the model has no experts", number);
    }
    if (!w->class->experts || w->config->no_experts) {
        if (w->class->latent && hf_get_u32(w, w->root, "intermediate_size", &number)) {
            hf_add_u32(w, ".expert_feed_forward_length", number); /* llama.cpp asks for these three */
            hf_add_u32(w, ".expert_shared_count", 0);
            hf_add_u32(w, ".leading_dense_block_count", w->n_layers);
        }
        return;
    }
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
    if (ernie || hf_get_u32(w, w->root, "n_shared_experts", &number)) {
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
    write_leading_dense(w);
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
    hf_copy_f32(w, w->root, "routed_scaling_factor", ".expert_weights_scale");
    refuse_mixture(w);
}

/* What ModernBERT's head reads, and how. */
static void write_classifier(hf_writer *w)
{
    const char *pooling = hf_get_text(w, w->root, "classifier_pooling");
    const char *activation = hf_get_text(w, w->root, "classifier_activation");
    bool mean = pooling && strcmp(pooling, "mean") == 0;
    if (w->class->words != HF_WORDS_MODERN || w->status != MLXR_OK) {
        return;
    }
    if (pooling && !mean && strcmp(pooling, "cls") != 0) {
        hf_wrong(w, "classifier_pooling", "\"cls\" or \"mean\"");
    } else if (activation && strcmp(activation, "gelu") != 0) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: 'classifier_activation' is '%.40s', not 'gelu'",
                              activation);
    }
    hf_add_u32(w, ".classifier.pooling_type", mean ? 1 : 2);
}

static const struct {
    const char *word, *key; /* pooling_mode's, and of files before sentence-transformers 5 */
    uint32_t gguf;          /* pooling_type; 0: it is not supported */
} pooling_modes[] = {{"mean", "pooling_mode_mean_tokens", 1},
                     {"cls", "pooling_mode_cls_token", 2},
                     {"lasttoken", "pooling_mode_lasttoken", 3},
                     {"max", "pooling_mode_max_tokens", 0},
                     {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", 0},
                     {"weightedmean", "pooling_mode_weightedmean_tokens", 0}};
#define N_POOLING_MODES (sizeof pooling_modes / sizeof *pooling_modes)

/* The one mode of a pooling module's configuration; several would be put side by side. */
static void read_pooling(hf_writer *w, const json_t *root, const char *name, uint32_t *pooling)
{
    const json_t *mode = hf_member(root, "pooling_mode");
    const json_t *only = json_array_size(mode) == 1 ? json_array_get(mode, 0) : mode;
    uint32_t n_modes = 0, known = 0;
    for (size_t i = 0; i < N_POOLING_MODES; i++) {
        bool used = false;
        if (mode) {
            used = json_is_string(only) && strcmp(json_string_value(only), pooling_modes[i].word) == 0;
        } else {
            hf_get_bool(w, root, pooling_modes[i].key, &used);
        }
        n_modes += used;
        known = used && pooling_modes[i].gguf ? pooling_modes[i].gguf : known;
    }
    if (w->status == MLXR_OK && (n_modes != 1 || !known)) {
        w->status = error_set(w->error, MLXR_UNSUPPORTED, "%s: exactly one of mean, first and last token is supported",
                              name);
    }
    *pooling = known;
}

/* What makes a vector of a text: sentence-transformers' file says, else the class. */
static void write_pooling(hf_writer *w, const safetensors_texts *texts)
{
    const char *name = texts->pooling_name ? texts->pooling_name : "1_Pooling/config.json";
    uint32_t pooling = w->class->pooling;
    json_t *root = NULL;
    if (texts->pooling.n && w->status == MLXR_OK) {
        w->status = safetensors_parse_json(&root, texts->pooling, name, w->error);
    }
    if (root) {
        read_pooling(w, root, name, &pooling);
    }
    json_decref(root);
    if (w->class->encoder) {
        const char *kind = hf_get_text(w, w->root, "position_embedding_type");
        if (kind && strcmp(kind, "absolute") != 0 && w->status == MLXR_OK) {
            w->status = error_set(w->error, MLXR_UNSUPPORTED, "config.json: position_embedding_type '%.40s'", kind);
        }
        hf_add_bool(w, ".attention.causal", false); /* so typed other programs read it */
    }
    if (w->config->ranks) { /* what a head makes of it */
        write_classifier(w);
        pooling = 4;
    }
    if (pooling) {
        hf_add_u32(w, ".pooling_type", pooling);
    }
}

/* ---- special tokens and template ------------------------------------------------------------------------------- */

static bool is_id(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= INT32_MAX;
}

/* One id, or a list of them. */
static void write_ids(hf_writer *w, const json_t *value, const char *name, const char *one, const char *many)
{
    if (is_id(value)) {
        hf_add_u32(w, one, (uint32_t)json_integer_value(value));
        return;
    }
    size_t n = json_array_size(value);
    for (size_t i = 0; i < n; i++) {
        if (!is_id(json_array_get(value, i))) {
            n = 0;
        }
    }
    if (n == 0 || n > 1024) {
        hf_wrong(w, name, "token id or list of them");
        return;
    }
    hf_add_u32(w, one, (uint32_t)json_integer_value(json_array_get(value, 0)));
    uint8_t *ids = many ? hf_add_array(w, many, META_I32, n) : NULL;
    for (size_t i = 0; i < n && ids; i++) {
        uint32_t id = (uint32_t)json_integer_value(json_array_get(value, i));
        for (int byte = 0; byte < 4; byte++) {
            ids[4 * i + (size_t)byte] = (uint8_t)(id >> 8 * byte);
        }
    }
}

/* generation_config.json knows better than config.json which tokens end a generation. */
static void write_special_tokens(hf_writer *w, text_view generation_text)
{
    json_t *generation = NULL;
    if (generation_text.n && w->status == MLXR_OK) {
        w->status = safetensors_parse_json(&generation, generation_text, "generation_config.json", w->error);
    }
    static const struct {
        const char *theirs, *one, *many;
    } ids[] = {{"bos_token_id", "tokenizer.ggml.bos_token_id", NULL},
               {"eos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eos_token_ids"}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const json_t *value = hf_member(generation, ids[i].theirs);
        value = value ? value : hf_member(w->root, ids[i].theirs);
        if (value) {
            write_ids(w, value, ids[i].theirs, ids[i].one, ids[i].many);
        }
    }
    json_decref(generation);
}

/* "chat_template" is a string, or a list of {name, template} of which "default" is the one for chats. */
static const json_t *find_template(const json_t *tokenizer_config)
{
    const json_t *value = hf_member(tokenizer_config, "chat_template");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0) {
            return json_object_get(entry, "template");
        }
    }
    return value;
}

static void write_template(hf_writer *w, const safetensors_texts *texts)
{
    json_t *tokenizer_config = NULL;
    if (texts->tokenizer_config.n && w->status == MLXR_OK) {
        w->status = safetensors_parse_json(&tokenizer_config, texts->tokenizer_config, "tokenizer_config.json",
                                           w->error);
    }
    if (texts->chat_template.n) { /* the newer place */
        meta_value *value = hf_add(w, "tokenizer.chat_template", META_STRING);
        if (value) {
            value->s = texts->chat_template;
        }
    } else {
        const json_t *template = find_template(tokenizer_config);
        if (json_is_string(template)) {
            hf_add_text(w, "tokenizer.chat_template", json_string_value(template), json_string_length(template));
        }
    }
    json_decref(tokenizer_config);
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
    if (w->class && w->class->mixer == HF_MIXER_NEMOTRON && lists_experts(layer_list(w))) {
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
    return w->class->mixer == HF_MIXER_MAMBA && n && json_integer_value(n) == 0;
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
        write_mixer(w, &s);
        refuse_unknown(w);
        if (w->status == MLXR_OK) {
            w->status = hf_quant_read(&config->quant, outer, w->memory, w->error);
        }
        hf_write_rope(w, &s);
        write_windows(w, &s);
        write_scales(w);
        write_experts(w);
        write_pooling(w, texts);
        if (config->headless && !config->tied) {
            hf_add_u32(w, ".headless", 1);
        }
        config->n_layers = s.n_layers;
        config->n_embd = s.n_embd;
    }
    write_special_tokens(w, texts->generation_config);
    write_template(w, texts);
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
