/*
 * Inside of the reader of config.json: rows of metadata made of its members.
 * Owner: the model_file being filled; strings live in its region. Lifetime: hf_config_read.
 */
#ifndef MLXR_LOADERS_SAFETENSORS_WRITER_H
#define MLXR_LOADERS_SAFETENSORS_WRITER_H

#include "loaders/safetensors.h"

#define META_MAX 64 /* rows: more than any class has */

/* Reads from config.json and appends to the metadata; the first failure sticks, so that rows of reads need one check.
 */
typedef struct hf_writer {
    const json_t *root;
    const hf_class *class;
    hf_config *config;
    const char *arch;
    meta_value *meta; /* [META_MAX] */
    uint64_t n_meta;
    region *memory;
    uint32_t n_layers; /* once the shape is known */
    mlxr_status status;
    mlxr_error *error;
} hf_writer;

typedef struct hf_shape {
    uint32_t n_nope; /* of latent attention: elements of a head that do not turn, and are not in head_dim */
    uint32_t n_layers, n_embd, head_dim, n_ctx;
    uint32_t head_dim_window; /* of layers with windows */
} hf_shape;

/* A new row for key; a key that begins with '.' gets the architecture before it. NULL once something has failed. */
meta_value *hf_add(hf_writer *w, const char *key, meta_type type);
void hf_add_u32(hf_writer *w, const char *key, uint32_t number);
void hf_add_bool(hf_writer *w, const char *key, bool yes);
void hf_add_f32(hf_writer *w, const char *key, double number);
void hf_add_text(hf_writer *w, const char *key, const char *text, size_t n);
/* An array of bytes the caller fills; NULL when something failed. */
uint8_t *hf_add_array(hf_writer *w, const char *key, meta_type type, uint64_t n);

/* A member; NULL where it is absent or null. */
const json_t *hf_member(const json_t *object, const char *key);
/* The key, or what GPT-2 called it, and after it models that had its configuration, where only that is there. */
const char *hf_name_of(const json_t *object, const char *key);
void hf_wrong(hf_writer *w, const char *key, const char *expected);
/* False where the key is absent or wrong; *out keeps its value then. */
bool hf_get_u32(hf_writer *w, const json_t *object, const char *key, uint32_t *out);
bool hf_get_f64(hf_writer *w, const json_t *object, const char *key, double *out);
bool hf_get_bool(hf_writer *w, const json_t *object, const char *key, bool *out);
/* NULL where it is absent or wrong. */
const char *hf_get_text(hf_writer *w, const json_t *object, const char *key);
const json_t *hf_get_object(hf_writer *w, const json_t *object, const char *key);
/* A member of config.json that must be there, from 1 to `most`. */
uint32_t hf_need_u32(hf_writer *w, const char *key, uint32_t most);
/* Does layer i turn queries and keys, of a class that may have layers that do not? */
bool hf_layer_turns(const hf_writer *w, uint32_t i);
/* Which layers have windows or chunks, and Llama 4's temperature and norm of queries; in safetensors_windows.c. */
void hf_write_windows(hf_writer *w, const hf_shape *s);
void hf_write_sharpness(hf_writer *w);
/* A number under our name, where theirs is there. */
void hf_copy_f32(hf_writer *w, const json_t *object, const char *theirs, const char *ours);

/* What turns in a head, how fast, and in which layers. */
void hf_write_rope(hf_writer *w, const hf_shape *s);

/* What config.json calls a layer. */
typedef enum hf_layer_type {
    HF_LAYER_ATTENTION,
    HF_LAYER_MIXER,
    HF_LAYER_MLP,
    HF_LAYER_EXPERTS,
    HF_LAYER_UNKNOWN
} hf_layer_type;

/* Where config.json lists the layers, and how many it lists; NULL, 0: it does not. */
const json_t *hf_layer_list(const hf_writer *w);
size_t hf_layer_list_length(const json_t *list);
bool hf_lists_experts(const json_t *list);
/* An array of a number a layer: n in those of `type`, 0 in the others. */
void hf_write_per_layer(hf_writer *w, const char *key, hf_layer_type type, uint32_t n, uint32_t n_layers);
/* The width of LFM2's MLP, made of the one that config.json names; 0: a number too large. */
uint32_t hf_adjusted_width(hf_writer *w, uint32_t n_ff);
/* Rows of what stands in for attention; sets config->n_groups. */
void hf_write_mixer(hf_writer *w, const hf_shape *s);

/* Rows of a mixture of experts. Needs w->n_layers and config->no_experts. */
void hf_write_experts(hf_writer *w);

/* The row of pooling, as the module's file says, else the class. */
void hf_write_pooling(hf_writer *w, const safetensors_texts *texts);

/* Rows of the tokenizer's special tokens, and of the template of a chat. */
void hf_write_special_tokens(hf_writer *w, text_view generation_text);
void hf_write_template(hf_writer *w, const safetensors_texts *texts);

#endif
