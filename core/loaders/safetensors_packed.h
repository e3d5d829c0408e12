/*
 * Quantised safetensors: what config.json says of them, and their pieces joined to weights.
 * Owner: the model_file being filled. Lifetime: its own.
 *
 * A weight has several tensors there, whose names have a stem in common: GPTQ's and AWQ's .qweight, .qzeros, .scales
 * (and .g_idx), MLX's .weight, .scales, .biases, bitsandbytes' .weight, .weight.absmax and more, FP8's .weight and
 * .weight_scale or .weight_scale_inv, gpt-oss's _blocks and _scales. Which ones are quantised they tell themselves.
 */
#ifndef MLXR_LOADERS_SAFETENSORS_PACKED_H
#define MLXR_LOADERS_SAFETENSORS_PACKED_H

#include <jansson.h>

#include "loaders/model_file.h"
#include "loaders/name_index.h"
#include "loaders/packed.h"

typedef enum hf_quant_kind {
    HF_QUANT_NONE,
    HF_QUANT_GPTQ,
    HF_QUANT_AWQ,
    HF_QUANT_MLX,
    HF_QUANT_BNB,
    HF_QUANT_FP8,
    HF_QUANT_MXFP4, /* gpt-oss's experts */
} hf_quant_kind;

/* MLX: what a module has otherwise than the rest. */
typedef struct hf_quant_own {
    const char *stem;
    uint32_t bits, group;
    bool mx;
} hf_quant_own;

typedef struct hf_quant {
    hf_quant_kind kind;
    uint32_t bits, group; /* group 0: a row */
    uint32_t group_rows;  /* FP8: of blocks; 0: none */
    bool zero_less_one;
    bool mx;        /* MLX: MXFP4 */
    name_index own; /* of hf_quant_own by their stems */
} hf_quant;

/* What "quantization" or "quantization_config" says; kind NONE where there is neither. What cannot be read is
 * MLXR_UNSUPPORTED by its name. */
mlxr_status hf_quant_read(hf_quant *out, const json_t *config, region *memory, mlxr_error *error);

/* What a tensor is to its weight. */
typedef enum hf_part {
    HF_PART_NONE, /* a weight of its own */
    HF_PART_SKIP, /* scales of activations, which nothing here needs */
    HF_PART_Q,
    HF_PART_SCALES,
    HF_PART_ZEROS, /* or biases */
    HF_PART_ORDER,
    HF_PART_MAP,
    HF_PART_OUTER,
    HF_PART_OUTER_MAP,
    HF_PART_STATE,
} hf_part;

/* Which part the tensor `name` is, and the length of its stem. `type_text` is its dtype, or NULL where that is not
 * known: a ".weight" counts as HF_PART_NONE then. */
hf_part hf_part_of(const hf_quant *quant, const char *name, const char *type_text, size_t *n_stem);

typedef enum raw_type { RAW_FLOAT, RAW_WORDS, RAW_BYTES, RAW_E4M3, RAW_E5M2, RAW_OTHER } raw_type;
/* And the bytes of an element; 0 for RAW_OTHER. */
raw_type raw_type_of(const char *type_text, uint32_t *size, dtype *type);

typedef struct packed_piece {
    const char *stem;
    hf_part part;
    raw_type raw;
    tensor t; /* type: of RAW_FLOAT */
} packed_piece;

typedef struct packed_pieces {
    packed_piece *pieces;
    uint64_t n;
} packed_pieces;

/* One weight: name (".weight" behind the stem), shape, and how its rows are made. */
typedef struct packed_tensor {
    const char *name;      /* Hugging Face's */
    tensor t;              /* without name and data */
    packed_weight *weight; /* of a stack whose rows alternate the caller sets n_zip */
} packed_tensor;

/* Joins pieces of all weight files; *out in the region. */
mlxr_status packed_join(packed_tensor **out, uint64_t *n_out, const packed_pieces *files, uint32_t n_files,
                        const hf_quant *quant, region *memory, mlxr_error *error);

#endif
