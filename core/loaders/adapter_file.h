/*
 * LoRA adapters on disk: GGUF, and safetensors as PEFT writes them, under GGUF's names.
 * Owner: the caller closes it. Lifetime: open to close; tensors point into the mapping. Immutable; any thread.
 */
#ifndef MLXR_LOADERS_ADAPTER_FILE_H
#define MLXR_LOADERS_ADAPTER_FILE_H

#include "loaders/model_file.h"

/* y += scale · B · (A · x) for the matrix `name`. */
typedef struct adapter_target {
    const char *name; /* "blk.0.attn_q.weight" */
    const tensor *a;  /* [n_in, rank] */
    const tensor *b;  /* [rank, n_out] */
    uint32_t rank;
    float scale; /* alpha ÷ rank, or as the file says */
} adapter_target;

typedef struct adapter_file {
    const adapter_target *targets; /* [n_targets] */
    uint32_t n_targets;
    bool halves;                  /* rows of Q and K as Hugging Face has them, else as GGUF does */
    uint64_t hash_low, hash_high; /* of all its bytes */
    model_file *gguf;             /* or NULL */
    mapping weights, config;
    bool borrowed; /* the last two are somebody else's memory */
    region memory;
} adapter_file;

/* `arch` and n_layers: of the model it is for, which tells what names mean. */
mlxr_status adapter_file_open(adapter_file **out, const char *path, const char *arch, uint32_t n_layers,
                              mlxr_error *error);
/* The same from memory that outlives it: GGUF where `config` has no data, else PEFT's weights. For tests and fuzzing.
 */
mlxr_status adapter_file_open_memory(adapter_file **out, text_view config, const void *data, size_t n_bytes,
                                     const char *arch, uint32_t n_layers, mlxr_error *error);
void adapter_file_close(adapter_file **file);

#endif
