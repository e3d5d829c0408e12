/*
 * Which layers of config.json see a part of the text, and how their queries are sharpened.
 * Owner: the model_file being filled. Lifetime: its own.
 */
#include <string.h>

#include "loaders/safetensors_writer.h"

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

/* Chunks of Llama 4: a length of 0 says that there are none, which other programs would take for one of 8,192. */
static void write_chunks(hf_writer *w, const hf_shape *s)
{
    const json_t *types = hf_member(w->root, "layer_types");
    uint32_t chunk = w->class->window, n_chunked = 0, n_layers = s->n_layers;
    if (json_is_null(json_object_get(w->root, "attention_chunk_size"))) {
        chunk = 0;
    }
    hf_get_u32(w, w->root, "attention_chunk_size", &chunk);
    if (json_array_size(types) > 0 && json_array_size(types) != n_layers) {
        hf_wrong(w, "layer_types", "array with one string a layer");
        return;
    }
    uint8_t *pattern = chunk ? hf_add_array(w, ".attention.sliding_window_pattern", META_BOOL, n_layers) : NULL;
    for (uint32_t i = 0; i < n_layers && pattern; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        pattern[i] = json_array_size(types) > 0 ? type && strcmp(type, "chunked_attention") == 0 : hf_layer_turns(w, i);
        n_chunked += pattern[i];
        if (json_array_size(types) > 0 && !pattern[i] && (!type || strcmp(type, "full_attention") != 0)) {
            hf_wrong(w, "layer_types", "array of 'chunked_attention' and 'full_attention'");
            return;
        }
    }
    hf_add_u32(w, ".attention.sliding_window", n_chunked ? chunk : 0);
}

void hf_write_windows(hf_writer *w, const hf_shape *s)
{
    if (w->class->windows == HF_WINDOWS_CHUNKS) {
        write_chunks(w, s);
        return;
    }
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
    } else if (hf_get_u32(w, w->root, "sliding_window_pattern", &every) ||
               hf_get_u32(w, w->root, "global_attn_every_n_layers", &every)) {
        hf_add_u32(w, ".attention.sliding_window_pattern", every);
    }
}

/* Llama 4's attention: far queries of layers that do not turn are sharpened; queries and keys of the others normed. */
void hf_write_sharpness(hf_writer *w)
{
    bool tuned = true, normed = true;
    double scale = 0.1;
    uint32_t span = 8192;
    hf_get_bool(w, w->root, "attn_temperature_tuning", &tuned);
    hf_get_bool(w, w->root, "use_qk_norm", &normed);
    hf_get_f64(w, w->root, "attn_scale", &scale);
    hf_get_u32(w, w->root, "floor_scale", &span);
    hf_add_f32(w, ".attention.temperature_scale", tuned ? scale : 0);
    hf_add_u32(w, ".attention.temperature_length", span);
    hf_add_bool(w, ".attention.qk_norm", normed);
}
