/*
 * mlxr_convert.h: model files out of model files: quantising, converting. The rules of mlxr.h about errors and
 * ownership hold here, too. These calls need no engine; each may run on any thread.
 *
 * What is written appears under its name when it is whole, in the place of what had that name, or never. Of several
 * files the first, which a model is opened by, appears last.
 */
#ifndef MLXR_CONVERT_H
#define MLXR_CONVERT_H

#include "mlxr.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called now and then from the calling thread; `what` is the tensor or step under way. False: stop; the call fails with
 * MLXR_IO and "stopped", and nothing is written. */
typedef bool mlxr_progress_fn(void *user, uint64_t n_done, uint64_t n_total, const char *what);

typedef struct mlxr_quantize_options {
    /* A mix such as "Q4_K_M", or a type for all matrices such as "Q8_0" or "F16"; NULL: as they are. */
    const char *type;
    const char *const *adapters; /* [n_adapters] LoRA adapters to be merged into the weights */
    const float *adapter_scales; /* [n_adapters] on top of their own, or NULL: 1 each */
    size_t n_adapters;
    const char *imatrix; /* path of an importance matrix, GGUF or the older format; NULL: none */
    /* 0: one file. Else parts, OUT-00001-of-00003.gguf and so on, of at most so many bytes, but for tensors that have
     * more; what fits in one file is OUT. */
    uint64_t split_max_bytes;
    uint32_t n_threads;       /* 0: one for each usable core */
    const char *cpu_features; /* mask as in mlxr_engine_options, or NULL; the result is the same with any */
    mlxr_progress_fn *progress;
    void *user;
} mlxr_quantize_options;

typedef struct mlxr_quantize_report {
    uint64_t n_tensors, n_weights, n_bytes_in, n_bytes_out;
    double bits_per_weight; /* of all tensors */
    uint32_t n_encoded;     /* tensors whose type changed */
    uint32_t n_gave_way;    /* of them: rows do not divide into the blocks of the type they should have had */
    uint32_t n_requantised; /* of them: were quantised before; what was lost then stays lost */
    uint32_t n_weighted;    /* of them: with importance from the matrix */
    uint32_t n_files;       /* 1, or the parts that the model was cut into */
} mlxr_quantize_report;

/* `in` is a GGUF file (the first of its parts) or a folder with safetensors; `out` a GGUF file. `report` may be NULL. A
 * weight that is no finite number is MLXR_FORMAT naming its tensor. */
MLXR_API mlxr_status mlxr_quantize(const char *in, const char *out, const mlxr_quantize_options *options,
                                   mlxr_quantize_report *report, mlxr_error *error);

#ifdef __cplusplus
}
#endif
#endif
