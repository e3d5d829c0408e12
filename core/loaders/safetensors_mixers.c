/*
 * Layers without attention, as config.json lists them and gives their numbers.
 * Owner: the model_file being filled; strings live in its region. Lifetime: its own.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "loaders/safetensors_writer.h"

static hf_layer_type type_of_word(const char *word)
{
    static const struct {
        const char *word;
        hf_layer_type type;
    } words[] = {{"full_attention", HF_LAYER_ATTENTION},
                 {"attention", HF_LAYER_ATTENTION},
                 {"linear_attention", HF_LAYER_MIXER},
                 {"mamba", HF_LAYER_MIXER},
                 {"conv", HF_LAYER_MIXER},
                 {"mlp", HF_LAYER_MLP},
                 {"moe", HF_LAYER_EXPERTS}};
    for (size_t i = 0; word && i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i].word, word) == 0) {
            return words[i].type;
        }
    }
    return HF_LAYER_UNKNOWN;
}

/* Where config.json lists the layers: an array of words, of Nemotron-H also one word of the letters M, *, - and E. */
const json_t *hf_layer_list(const hf_writer *w)
{
    static const char *const keys[] = {"layer_types", "layers_block_type", "hybrid_override_pattern"};
    const json_t *list = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !list; i++) {
        list = hf_member(w->root, keys[i]);
    }
    return list;
}

size_t hf_layer_list_length(const json_t *list)
{
    return json_is_string(list) ? json_string_length(list) : json_array_size(list);
}

static hf_layer_type type_of_layer(const json_t *list, size_t i)
{
    if (!json_is_string(list)) {
        return type_of_word(json_string_value(json_array_get(list, i)));
    }
    char letter = json_string_value(list)[i];
    return letter == 'M'   ? HF_LAYER_MIXER
           : letter == '*' ? HF_LAYER_ATTENTION
           : letter == '-' ? HF_LAYER_MLP
           : letter == 'E' ? HF_LAYER_EXPERTS
                           : HF_LAYER_UNKNOWN;
}

bool hf_lists_experts(const json_t *list)
{
    for (size_t i = 0; i < hf_layer_list_length(list); i++) {
        if (type_of_layer(list, i) == HF_LAYER_EXPERTS) {
            return true;
        }
    }
    return false;
}

/* A number a layer: n in those of a type, 0 in the others. */
void hf_write_per_layer(hf_writer *w, const char *key, hf_layer_type type, uint32_t n, uint32_t n_layers)
{
    const json_t *list = hf_layer_list(w);
    uint8_t *numbers = hf_add_array(w, key, META_I32, n_layers);
    for (uint32_t i = 0; i < n_layers && numbers; i++) {
        hf_layer_type found = type_of_layer(list, i);
        hf_layer_type mlp = w->class->experts ? HF_LAYER_EXPERTS : HF_LAYER_MLP; /* all of a kind */
        bool fits = found <= HF_LAYER_MIXER || (found == mlp && w->class->mixer == HF_MIXER_NEMOTRON);
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
    const json_t *list = hf_layer_list(w);
    uint32_t every = 4;
    hf_get_u32(w, w->root, "full_attention_interval", &every);
    uint8_t *recurrent = hf_add_array(w, ".attention.recurrent_layers", META_BOOL, n_layers);
    for (uint32_t i = 0; i < n_layers && recurrent; i++) {
        recurrent[i] = list ? type_of_layer(list, i) == HF_LAYER_MIXER : every == 0 || (i + 1) % every != 0;
        if (list && type_of_layer(list, i) > HF_LAYER_MIXER) {
            hf_wrong(w, "layer_types", "array of 'linear_attention' and 'full_attention'");
        }
    }
}

/* LFM2 makes the width of its MLP from the one it names; its form with experts does not. */
uint32_t hf_adjusted_width(hf_writer *w, uint32_t n_ff)
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
    uint64_t width = (uint64_t)expand * s->n_embd;
    uint32_t own_width = 1024; /* what is meant where nothing is said; null means that it follows from hidden_size */
    if (w->class->mixer == HF_MIXER_BESIDE &&
        (hf_get_u32(w, w->root, "mamba_d_ssm", &own_width) || !json_object_get(w->root, "mamba_d_ssm"))) {
        width = own_width;
    }
    head = n_heads ? (uint32_t)(width / n_heads) : 0;
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

/* A number, or one of a list of n; 1 where config.json says nothing. */
static double multiplier_of(hf_writer *w, const char *key, size_t i, size_t n)
{
    const json_t *value = hf_member(w->root, key), *number = n ? json_array_get(value, i) : value;
    if (value && (!json_is_number(number) || (n && json_array_size(value) != n))) {
        hf_wrong(w, key, n ? "list of numbers, as long as its class has it" : "number");
    }
    return value && json_is_number(number) ? json_number_value(number) : 1;
}

/* Falcon-H1's, in hparams.h's order. */
static void write_multipliers(hf_writer *w)
{
    static const struct {
        const char *key;
        size_t i, n;
    } all[] = {{"attention_in_multiplier", 0, 0}, {"key_multiplier", 0, 0},  {"attention_out_multiplier", 0, 0},
               {"ssm_in_multiplier", 0, 0},       {"ssm_multipliers", 0, 5}, {"ssm_multipliers", 1, 5},
               {"ssm_multipliers", 2, 5},         {"ssm_multipliers", 3, 5}, {"ssm_multipliers", 4, 5},
               {"ssm_out_multiplier", 0, 0},      {"mlp_multipliers", 0, 2}, {"mlp_multipliers", 1, 2}};
    bool normed = false, first = true;
    float values[sizeof all / sizeof *all];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        values[i] = (float)multiplier_of(w, all[i].key, all[i].i, all[i].n);
    }
    uint8_t *out = hf_add_array(w, ".multipliers", META_F32, sizeof all / sizeof *all);
    if (out) {
        memcpy(out, values, sizeof values); /* GGUF's order of bytes, which is that of all machines here */
    }
    hf_get_bool(w, w->root, "mamba_rms_norm", &normed);
    hf_get_bool(w, w->root, "mamba_norm_before_gate", &first);
    hf_add_bool(w, ".ssm.norm_before_gate", normed && first);
    hf_add_f32(w, ".embedding_scale", multiplier_of(w, "embedding_multiplier", 0, 0));
    hf_add_f32(w, ".logit_scale", multiplier_of(w, "lm_head_multiplier", 0, 0));
}

void hf_write_mixer(hf_writer *w, const hf_shape *s)
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
    case HF_MIXER_BESIDE:
        write_mamba(w, s, false);
        write_multipliers(w);
        break;
    case HF_MIXER_NEMOTRON:
        write_mamba(w, s, true);
        break;
    }
}
