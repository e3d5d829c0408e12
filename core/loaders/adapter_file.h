/*
 * LoRA adapters on disk: GGUF, and safetensors as PEFT writes them, under GGUF's names.
 * Owner: the caller closes it. Lifetime: open to close; tensors point into the mapping. Immutable; any thread.
 */
#ifndef MLXR_LOADERS_ADAPTER_FILE_H
#define MLXR_LOADERS_ADAPTER_FILE_H

#include "loaders/model_file.h"

#define ADAPTER_RANK_MAX 4096u

/* Where a target's numbers are. */
typedef enum adapter_layout {
    ADAPTER_MATRIX,    /* a [n_in, rank], b [rank, n_out] */
    ADAPTER_TABLE,     /* of an embedding, as GGUF has it: a [rank, n_in] */
    ADAPTER_STACK,     /* of all experts, as GGUF has it: a [n_in, rank, n], b [rank, n_out, n] */
    ADAPTER_PARAMETER, /* … as PEFT has it: a [n_in, n × rank], b [rank × n, n_out], the experts innermost */
} adapter_layout;

/* y += scale · B · (A · x) for the matrix `name`, or for each of n experts'. */
typedef struct adapter_target {
    const char *name; /* "blk.0.attn_q.weight"; of experts "blk.0.ffn_up_exps.weight", or "blk.0.ffn_up.3.weight" */
    const tensor *a, *b;
    adapter_layout layout;
    bool zipped;          /* of "ffn_gate_up_exps": gate and up alternate in b's rows, else all of gate comes first */
    uint32_t n;           /* matrices; 1 but of stacks */
    uint64_t n_in, n_out; /* of each; of an embedding n_in are its tokens */
    uint32_t rank;
    float scale; /* alpha ÷ rank, or as the file says */
} adapter_target;

/* Of the model that a file is read for: what names mean, and how a parameter of all experts is divided. */
typedef struct adapter_model {
    const char *arch;
    uint32_t n_layers;
    uint32_t n_expert, n_expert_in, n_ff_expert; /* n_expert 0: it has none */
    bool ungated;                                /* experts have no gate */
} adapter_model;

typedef struct adapter_file {
    const adapter_target *targets; /* [n_targets] */
    uint32_t n_targets;
    bool halves;                  /* rows of Q and K as Hugging Face has them, else as GGUF does */
    uint64_t hash_low, hash_high; /* of all its bytes */
    model_file *gguf;             /* or NULL */
    mapping weights, config;
    text_view config_text; /* of the second, or of the first's metadata */
    bool borrowed;         /* both are somebody else's memory */
    region memory;
} adapter_file;

/* GGUF; PEFT's folder, or the adapter_model.safetensors in it; or one safetensors file of any name whose __metadata__
 * has the text of adapter_config.json as ADAPTER_CONFIG_KEY, which a store of files without folders keeps. */
#define ADAPTER_CONFIG_KEY "mlxr.adapter_config"
mlxr_status adapter_file_open(adapter_file **out, const char *path, const adapter_model *of, mlxr_error *error);
/* The same from memory that outlives it: GGUF where `config` has no data, else PEFT's weights. For tests and fuzzing.
 */
mlxr_status adapter_file_open_memory(adapter_file **out, text_view config, const void *data, size_t n_bytes,
                                     const adapter_model *of, mlxr_error *error);
void adapter_file_close(adapter_file **file);

/* Is a tensor of this name an embedding, whose rows are tokens? */
bool adapter_is_table(const char *name);

/* A of a matrix, decoded to out[rank][n_in]; and a row of its B, to out[rank], without the scale. `expert` < n. */
void adapter_target_a(const adapter_target *t, uint32_t expert, float *out);
void adapter_target_b(const adapter_target *t, uint32_t expert, uint64_t row, float *out);

#endif
