/*
 * Model file: metadata and tensors of a model on disk, whatever its format. Loaders erase format quirks: names of
 * metadata and tensors are GGUF's ("llama.block_count", "blk.0.attn_q.weight") for safetensors too.
 * Owner: the model (or `show`). Lifetime: model_file_open to model_file_close; views point into the mapping.
 * Immutable after opening; any thread.
 */
#ifndef MLXR_LOADERS_MODEL_FILE_H
#define MLXR_LOADERS_MODEL_FILE_H

#include "base/mapping.h"
#include "base/region.h"
#include "loaders/packed.h"
#include "quant/tensor.h"

/* GGUF's numbering. */
typedef enum meta_type {
    META_U8,
    META_I8,
    META_U16,
    META_I16,
    META_U32,
    META_I32,
    META_F32,
    META_BOOL,
    META_STRING,
    META_ARRAY,
    META_U64,
    META_I64,
    META_F64,
} meta_type;

typedef struct text_view { /* not NUL-terminated; any bytes */
    const char *data;
    size_t n;
} text_view;

typedef struct meta_array {
    meta_type type; /* of the elements; arrays of arrays are refused */
    uint64_t n;
    const void *data;         /* little-endian scalars, unaligned; NULL for strings */
    const text_view *strings; /* [n] for META_STRING, else NULL */
} meta_array;

typedef struct meta_value {
    const char *key; /* NUL-terminated, valid UTF-8 */
    meta_type type;
    union {
        uint64_t u; /* unsigned kinds and BOOL */
        int64_t i;  /* signed kinds */
        double f;   /* F32, F64 */
        text_view s;
        meta_array array;
    };
} meta_value;

/* In rope_freqs.weight, from here on: a pair that does not turn. */
#define ROPE_FACTOR_STILL 1e30f

typedef enum model_format { MODEL_GGUF, MODEL_SAFETENSORS } model_format;

typedef struct model_file {
    model_format format;
    uint32_t version;       /* GGUF version; 0 for safetensors */
    const meta_value *meta; /* [n_meta], file order */
    uint64_t n_meta;
    const tensor *tensors; /* [n_tensors], file order */
    uint64_t n_tensors;
    /* [n_tensors] or NULL: of a tensor with an entry here, rows are made by packed_rows; its data is NULL until
     * model_file_unpack. */
    const packed_weight *const *packed;
    uint64_t file_bytes;  /* all parts */
    const mapping *parts; /* [n_parts] */
    uint32_t n_parts;
    /* Safetensors keep Q and K rows in the half-split (NEOX) order, GGUF permutes Llama's to adjacent pairs. */
    bool rope_halves;
    /* The raw bytes of tokenizer.json or tokenizer.model beside safetensors; empty for GGUF. */
    text_view tokenizer_json, tokenizer_model, tokenizer_config;
    region memory;
    void *index; /* hash of keys and tensor names */
} model_file;

/* Opens a GGUF file, the first part of a split GGUF ("…-00001-of-00003.gguf"), a directory with safetensors and
 * config.json, or such a directory's *.safetensors / *.index.json file. Everything is checked before it is used. */
mlxr_status model_file_open(model_file **out, const char *path, mlxr_error *error);
void model_file_close(model_file **file);
/* Makes the data of packed tensors, which takes memory of their size; the pages of what they are made of are given
 * back. Those of layers from `end` on stay packed, without data; UINT32_MAX: none does. Nothing else may use the file
 * meanwhile. */
mlxr_status model_file_unpack(model_file *file, uint32_t end, mlxr_error *error);
/* How the rows of one of its tensors are made; NULL: its data has them. */
const packed_weight *model_file_packed(const model_file *file, const tensor *t);
/* Do n_bytes lie in one of its mappings? */
bool model_file_maps(const model_file *file, const void *data, size_t n_bytes);
/* What stands before the tensors' data was read and is seldom needed again: its pages leave memory, until they are. */
void model_file_forget_metadata(const model_file *file);

const meta_value *model_file_meta(const model_file *file, const char *key); /* NULL if absent */
const tensor *model_file_tensor(const model_file *file, const char *name);  /* NULL if absent */

/* Typed reads. Absent: *out keeps its value and OK is returned. Present with a type that cannot hold the value (a
 * string, a negative number, a number above the limit): MLXR_FORMAT naming key, found and expected. */
mlxr_status model_file_u32(const model_file *file, const char *key, uint32_t *out, mlxr_error *error);
mlxr_status model_file_f32(const model_file *file, const char *key, float *out, mlxr_error *error);
mlxr_status model_file_bool(const model_file *file, const char *key, bool *out, mlxr_error *error);
mlxr_status model_file_text(const model_file *file, const char *key, text_view *out, mlxr_error *error);
/* Element i of a scalar array as a number; i < n, type not STRING. */
double meta_array_number(const meta_array *array, uint64_t i);

#endif
