/*
 * A model file as GGUF would have it: metadata ready to be written, tensors with what has to happen to their rows.
 * Owner: the caller. Lifetime: source_open to source_close.
 */
#ifndef MLXR_CONVERT_SOURCE_H
#define MLXR_CONVERT_SOURCE_H

#include "base/region.h"
#include "convert/gguf_out.h"
#include "convert/write.h"

typedef struct source {
    model_file *file;
    gguf_out header;     /* without general.file_type, .quantization_version and .alignment, and split.* */
    out_tensor *tensors; /* [n_tensors] with the types they have: the file's in their order, then those added */
    size_t n_tensors;
    bool folds_multipliers; /* metadata does not say them again: multipliers.h */
    bool is_latent;         /* from safetensors, with latent attention: see latent.h */
    bool scaling_is_tensor; /* of RoPE: metadata does not say it again */
    region memory;
} source;

mlxr_status source_open(source *out, const char *path, mlxr_error *error);
void source_close(source *s);

/* Where number `i` of a vector comes from, in an order that only the function knows. */
typedef uint64_t source_index(const void *order, uint64_t i);

/* Puts a copy of a vector in the order that `from` tells, as F32. */
mlxr_status source_reorder(source *s, out_tensor *t, source_index *from, const void *order, mlxr_error *error);

#endif
