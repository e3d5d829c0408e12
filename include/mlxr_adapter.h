/*
 * mlxr_adapter.h: LoRA adapters (Hu et al. 2021), applied while a step computes. The rules of mlxr.h about errors,
 * threads and ownership hold here, too.
 *
 * A model with adapters is a model: sequences are opened of it, and a step computes sequences of one model with
 * different adapters, and without any, together. What the KV cache keeps is found again only with the same adapters.
 */
#ifndef MLXR_ADAPTER_H
#define MLXR_ADAPTER_H

#include "mlxr.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mlxr_adapter mlxr_adapter;

typedef struct mlxr_adapter_info {
    const char *path;
    uint32_t n_targets, rank; /* matrices that change; the largest rank */
    float scale;              /* alpha ÷ rank, as the first of the file's matrices has it */
    uint64_t n_bytes;         /* in memory */
} mlxr_adapter_info;

/* Reads a GGUF adapter, or a folder (or its adapter_model.safetensors) with adapter_config.json as PEFT writes it, for
 * a model. What of it the model cannot take is an error that names it. Any thread. */
MLXR_API mlxr_status mlxr_adapter_load(mlxr_adapter **out, const mlxr_model *model, const char *path,
                                       mlxr_error *error);
/* Can the model in a file or folder take it? Reads both and loads neither; what it cannot take is an error that names
 * it. Any thread. */
MLXR_API mlxr_status mlxr_adapter_check(const char *model_path, const char *path, mlxr_error *error);
MLXR_API mlxr_adapter *mlxr_adapter_ref(mlxr_adapter *adapter);
MLXR_API void mlxr_adapter_unref(mlxr_adapter **adapter);
MLXR_API const mlxr_adapter_info *mlxr_adapter_info_get(const mlxr_adapter *adapter);

#define MLXR_ADAPTERS_MAX 16

typedef struct mlxr_adapter_use {
    mlxr_adapter *adapter; /* loaded for this model */
    float scale;           /* on top of the adapter's own; 1 usually */
} mlxr_adapter_use;

/* The model with adapters; of one that has adapters already, with these instead. It keeps both alive and shares
 * the model's weights; the first one of a model also makes the program that all of them share. On the engine's thread;
 * mlxr_model_unref ends it. Backends that cannot compute it say so: MLXR_UNSUPPORTED. */
MLXR_API mlxr_status mlxr_model_adapt(mlxr_model **out, mlxr_model *model, const mlxr_adapter_use *uses, size_t n_uses,
                                      mlxr_error *error);

typedef struct mlxr_adapter_path {
    const char *path;
    float scale;
} mlxr_adapter_path;

/* The model with the adapters of these files. The model keeps for its life what it has read, and some of the models it
 * has made with what they cached: the same files and scales give the same model again. On the engine's thread, which
 * waits for a file that was not read before: mlxr_model_read_adapters, from any thread, reads it beforehand. */
MLXR_API mlxr_status mlxr_model_read_adapters(mlxr_model *model, const mlxr_adapter_path *files, size_t n_files,
                                              mlxr_error *error);
MLXR_API mlxr_status mlxr_model_with(mlxr_model **out, mlxr_model *model, const mlxr_adapter_path *files,
                                     size_t n_files, mlxr_error *error);

#ifdef __cplusplus
}
#endif
#endif
