/*
 * The GGUF file that is written, or the parts of one: headers first, then whoever has tensors writes them.
 * Owner: the caller. Lifetime: files_out_open to files_out_commit or files_out_discard.
 *
 * Parts have the field's names, OUT-00001-of-00003.gguf, and keys: split.no, split.count, split.tensors.count. The
 * first has all other metadata. It gets its name last, so that a model is there whole or not at all.
 */
#ifndef MLXR_CONVERT_FILES_OUT_H
#define MLXR_CONVERT_FILES_OUT_H

#include "base/new_file.h"
#include "convert/gguf_out.h"

typedef struct files_out {
    new_file *files; /* [n_files] */
    uint32_t n_files;
    uint32_t *file_of; /* [n_tensors] */
    uint64_t *offsets; /* [n_tensors] of a tensor in its file */
    uint64_t n_bytes;  /* of all */
    region memory;
} files_out;

/* Cuts where the next tensor would make a file longer than most_bytes (0: never); a tensor that is longer itself has a
 * file of its own. One that is not cut is `path`. */
mlxr_status files_out_open(files_out *out, const char *path, const gguf_out *header, const gguf_tensor *tensors,
                           size_t n_tensors, uint64_t most_bytes, mlxr_error *error);
/* Closes it in any case. */
mlxr_status files_out_commit(files_out *out, mlxr_error *error);
void files_out_discard(files_out *out);

#endif
