/*
 * Tensors of a model file, encoded and written to a GGUF file by a thread team.
 * Owner: the caller. Lifetime: the call.
 */
#ifndef MLXR_CONVERT_WRITE_H
#define MLXR_CONVERT_WRITE_H

#include "base/cpu.h"
#include "convert/gguf_out.h"
#include "mlxr_convert.h"

typedef struct merge_part merge_part;
typedef struct head_order head_order;

typedef struct out_tensor out_tensor;

/* Where the rows of one matrix lie: in->shape[1] of another tensor's. */
typedef struct out_part {
    const out_tensor *from;
    uint64_t first_row;
} out_part;

/* So many rows (of a vector elements), one part behind the other, are multiplied by this. */
typedef struct row_scale {
    uint64_t n_rows;
    float factor;
} row_scale;

struct out_tensor {
    const tensor *in;
    const out_part *parts;       /* [in->shape[2]], where `in` has no data, or NULL (experts.h) */
    const merge_part *merged;    /* what adapters add, or NULL (merge.h) */
    const packed_weight *packed; /* or NULL: rows of in->type, where `in` has no data */
    const head_order *order;     /* of value heads, or NULL (heads.h) */
    const row_scale *scales;     /* [n_scales], or NULL: nothing is multiplied (multipliers.h) */
    uint32_t n_scales;
    dtype type;
    uint32_t n_pair_heads;   /* not 0: in each head, rows change from halves (i, i + n/2) to pairs (2i, 2i + 1) … */
    uint32_t n_pair_rows;    /* … the first n of them; RoPE does not turn the others */
    const float *importance; /* [n_matrices][shape[0]] or NULL */
    uint32_t n_matrices;     /* 1: the same for all rows; else shape[2] */
};

/* What a row is multiplied by. */
static inline float row_scale_of(const out_tensor *t, uint64_t row)
{
    for (uint32_t i = 0; i < t->n_scales; i++) {
        if (row < t->scales[i].n_rows) {
            return t->scales[i].factor;
        }
        row -= t->scales[i].n_rows;
    }
    return 1;
}

typedef struct write_options {
    uint32_t n_threads; /* 0: one for each usable core */
    cpu_features features;
    mlxr_progress_fn *progress; /* or NULL */
    void *user;
    uint64_t most_bytes; /* of a file, 0: one file; see files_out.h */
} write_options;

typedef struct write_result {
    uint64_t n_bytes;
    uint32_t n_files;
} write_result;

/* Writes header and tensors to `path`, or to parts of its name. */
mlxr_status write_model(const char *path, const gguf_out *header, const out_tensor *tensors, size_t n,
                        const write_options *options, write_result *result, mlxr_error *error);

#endif
