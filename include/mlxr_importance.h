/*
 * mlxr_importance.h: which inputs of a model's matrices matter, measured on a text, for mlxr_quantize. The rules of
 * mlxr.h about errors, threads and ownership hold here, too.
 */
#ifndef MLXR_IMPORTANCE_H
#define MLXR_IMPORTANCE_H

#include "mlxr.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mlxr_importance mlxr_importance;

/* From now on each step of this engine adds up the squares of what the model's matrices meet, one measurement at a
 * time. Where only the last row's logits are wanted, the last layer sees only that row: ask for all
 * (MLXR_SLICE_LOGITS_ALL). The CPU's backends can; others are MLXR_UNSUPPORTED. Not measured: embeddings and the output
 * matrix. */
MLXR_API mlxr_status mlxr_importance_begin(mlxr_importance **out, mlxr_engine *engine, mlxr_model *model,
                                           mlxr_error *error);

/* Tensors of a GGUF file, stacks of experts as one, that met anything. */
MLXR_API uint32_t mlxr_importance_count(const mlxr_importance *imp);

/* What there is so far as a GGUF file that mlxr_quantize and other tools read; it appears when it is whole. `dataset`
 * names the text; n_chunks pieces of chunk_tokens tokens were computed. */
MLXR_API mlxr_status mlxr_importance_write(const mlxr_importance *imp, const char *path, const char *dataset,
                                           uint32_t n_chunks, uint32_t chunk_tokens, mlxr_error *error);

/* Ends it; before the model is unloaded. */
MLXR_API void mlxr_importance_end(mlxr_importance **pointer);

#ifdef __cplusplus
}
#endif
#endif
