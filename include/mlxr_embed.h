/*
 * mlxr_embed.h: texts as vectors. The rules of mlxr.h about errors, threads and ownership hold here, too.
 */
#ifndef MLXR_EMBED_H
#define MLXR_EMBED_H

#include "mlxr.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a text's vector is made of: what the last layer leaves of its tokens. */
typedef enum { MLXR_POOLING_MEAN, MLXR_POOLING_FIRST, MLXR_POOLING_LAST } mlxr_pooling;

typedef struct mlxr_embed_info {
    mlxr_pooling pooling;  /* the model's own; the mean where it names none */
    bool intended;         /* it names one: it was made for this */
    bool encoder;          /* it gives nothing else; a step takes whole sequences, with MLXR_SLICE_HIDDEN */
    uint32_t n_dims;       /* of a vector; the model's n_embd where it has no layers behind pooling */
    uint32_t n_tokens_max; /* of a text; of an encoder's that is longer than mlxr_step_tokens_max each takes a step */
} mlxr_embed_info;
MLXR_API mlxr_embed_info mlxr_embed_info_get(const mlxr_model *model);

typedef struct mlxr_embed_input {
    const int32_t *ids; /* [n_ids], with the tokens that MLXR_TOKENIZE_ADD_SPECIAL adds */
    size_t n_ids;       /* 1 to n_tokens_max */
} mlxr_embed_input;

/* vectors [n_inputs][n_dims]: the first n_dims (0: all) of each text's vector, of length 1. Texts are computed
 * together, as many as a step takes. On the engine's thread; on failure nothing is written that means anything. */
MLXR_API mlxr_status mlxr_embed(mlxr_engine *engine, mlxr_model *model, const mlxr_embed_input *inputs, size_t n_inputs,
                                uint32_t n_dims, float *vectors, mlxr_error *error);
/* For callers that step themselves, with MLXR_SLICE_HIDDEN: adds what counts of a computed slice to its text's `pooled`
 * [n_embd], which began as zeros; with the text's last token that is what pooling makes of it. Of a sequence whose
 * beginning came out of the cache only MLXR_POOLING_LAST knows enough: release it behind appending, before others. */
MLXR_API void mlxr_embed_add(const mlxr_slice *slice, mlxr_pooling pooling, double *pooled);
/* The first n_dims (0: all) of the vector of a text whose pooled hidden state [n_embd] the caller had computed. */
MLXR_API mlxr_status mlxr_embed_vector(const mlxr_model *model, const double *pooled, uint32_t n_dims, float *vector,
                                       mlxr_error *error);

#ifdef __cplusplus
}
#endif
#endif
