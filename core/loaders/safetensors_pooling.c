/*
 * What makes a vector, or one number, of a text.
 * Owner: the model_file being filled; strings live in its region. Lifetime: its own.
 */
#include <string.h>

#include "loaders/safetensors_writer.h"

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
    bool biased = false;
    hf_get_bool(w, w->root, "classifier_bias", &biased);
    hf_add_u32(w, ".classifier.pooling_type", mean ? 1 : 2);
    hf_add_bool(w, ".classifier.bias", biased);
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
void hf_write_pooling(hf_writer *w, const safetensors_texts *texts)
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
