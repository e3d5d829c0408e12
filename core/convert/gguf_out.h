/*
 * What stands before the tensors' data in a GGUF file: header, metadata, tensor table.
 * Owner: the caller's buffer. Lifetime: the writing of one file. One thread.
 */
#ifndef MLXR_CONVERT_GGUF_OUT_H
#define MLXR_CONVERT_GGUF_OUT_H

#include "base/buffer.h"
#include "loaders/model_file.h"

#define GGUF_ALIGNMENT 32

typedef struct gguf_out {
    buffer meta; /* entries, as they will stand in the file */
    uint64_t n_meta;
} gguf_out;

gguf_out gguf_out_make(void);
void gguf_out_close(gguf_out *out);

/* A failure sticks to the buffer; gguf_out_begin tells it. */
void gguf_out_put(gguf_out *out, const char *key, const meta_value *value); /* under another key than its own, too */
void gguf_out_u16(gguf_out *out, const char *key, uint16_t value);
void gguf_out_u32(gguf_out *out, const char *key, uint32_t value);
void gguf_out_i32(gguf_out *out, const char *key, int32_t value);
void gguf_out_f32(gguf_out *out, const char *key, float value);
void gguf_out_bool(gguf_out *out, const char *key, bool value);
void gguf_out_text(gguf_out *out, const char *key, const char *text, size_t n);
/* Elements of a fixed size as they lie in memory (little-endian machines only, as everything here). */
void gguf_out_array(gguf_out *out, const char *key, meta_type type, const void *elements, size_t n);
void gguf_out_texts(gguf_out *out, const char *key, const text_view *texts, size_t n);

/* A tensor of the table; its data comes at the next multiple of GGUF_ALIGNMENT behind the one before. */
typedef struct gguf_tensor {
    const char *name;
    dtype type;
    uint32_t n_dims;
    const uint64_t *shape;
    uint64_t n_bytes;
} gguf_tensor;

/* Bytes of what stands in the table for a tensor, and of its data with what is between it and the next one's. */
uint64_t gguf_out_entry_bytes(const gguf_tensor *t);
uint64_t gguf_out_data_bytes(const gguf_tensor *t);

/* Everything before the data, padded, appended to *bytes; offsets[i] from the beginning of the file, *n_file_bytes of
 * all. The metadata is that of `out` (or NULL) and that of `more`. */
mlxr_status gguf_out_begin(const gguf_out *out, const gguf_out *more, const gguf_tensor *tensors, size_t n,
                           buffer *bytes, uint64_t *offsets, uint64_t *n_file_bytes, mlxr_error *error);

#endif
