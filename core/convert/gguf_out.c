/*
 * Writing GGUF's header (version 3, github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 * Owner: the caller's buffer. Lifetime: the writing of one file.
 */
#include "convert/gguf_out.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "loaders/readers.h"

#define META_BYTES_MAX ((size_t)1 << 30)

gguf_out gguf_out_make(void)
{
    return (gguf_out){.meta = buffer_make(META_BYTES_MAX)};
}

void gguf_out_close(gguf_out *out)
{
    buffer_close(&out->meta);
}

static void put_text(buffer *b, const char *text, size_t n)
{
    uint64_t length = n;
    buffer_append(b, &length, 8);
    buffer_append(b, text, n);
}

static void put_u32(buffer *b, uint32_t value)
{
    buffer_append(b, &value, 4);
}

static void begin(gguf_out *out, const char *key, meta_type type)
{
    put_text(&out->meta, key, strlen(key));
    put_u32(&out->meta, (uint32_t)type);
    out->n_meta++;
}

void gguf_out_u16(gguf_out *out, const char *key, uint16_t value)
{
    begin(out, key, META_U16);
    buffer_append(&out->meta, &value, 2);
}

void gguf_out_i32(gguf_out *out, const char *key, int32_t value)
{
    begin(out, key, META_I32);
    buffer_append(&out->meta, &value, 4);
}

void gguf_out_u32(gguf_out *out, const char *key, uint32_t value)
{
    begin(out, key, META_U32);
    put_u32(&out->meta, value);
}

void gguf_out_f32(gguf_out *out, const char *key, float value)
{
    begin(out, key, META_F32);
    buffer_append(&out->meta, &value, 4);
}

void gguf_out_bool(gguf_out *out, const char *key, bool value)
{
    uint8_t byte = value;
    begin(out, key, META_BOOL);
    buffer_append(&out->meta, &byte, 1);
}

void gguf_out_text(gguf_out *out, const char *key, const char *text, size_t n)
{
    begin(out, key, META_STRING);
    put_text(&out->meta, text, n);
}

static void begin_array(gguf_out *out, const char *key, meta_type type, uint64_t n)
{
    begin(out, key, META_ARRAY);
    put_u32(&out->meta, (uint32_t)type);
    buffer_append(&out->meta, &n, 8);
}

void gguf_out_array(gguf_out *out, const char *key, meta_type type, const void *elements, size_t n)
{
    begin_array(out, key, type, n);
    buffer_append(&out->meta, elements, n * meta_type_bytes(type));
}

void gguf_out_texts(gguf_out *out, const char *key, const text_view *texts, size_t n)
{
    begin_array(out, key, META_STRING, n);
    for (size_t i = 0; i < n; i++) {
        put_text(&out->meta, texts[i].data, texts[i].n);
    }
}

void gguf_out_put(gguf_out *out, const char *key, const meta_value *value)
{
    if (value->type == META_ARRAY) {
        const meta_array *a = &value->array;
        if (a->type == META_STRING) {
            gguf_out_texts(out, key, a->strings, (size_t)a->n);
        } else {
            gguf_out_array(out, key, a->type, a->data, (size_t)a->n);
        }
    } else if (value->type == META_STRING) {
        gguf_out_text(out, key, value->s.data, value->s.n);
    } else if (value->type == META_F32) {
        gguf_out_f32(out, key, (float)value->f);
    } else if (value->type == META_F64) {
        begin(out, key, META_F64);
        buffer_append(&out->meta, &value->f, 8);
    } else { /* whole numbers: the low bytes, of u and i alike */
        begin(out, key, value->type);
        buffer_append(&out->meta, &value->u, meta_type_bytes(value->type));
    }
}

uint64_t gguf_out_entry_bytes(const gguf_tensor *t)
{
    return 8 + strlen(t->name) + 4 + 8 * (uint64_t)t->n_dims + 4 + 8;
}

uint64_t gguf_out_data_bytes(const gguf_tensor *t)
{
    return t->n_bytes + (GGUF_ALIGNMENT - t->n_bytes % GGUF_ALIGNMENT) % GGUF_ALIGNMENT;
}

mlxr_status gguf_out_begin(const gguf_out *out, const gguf_out *more, const gguf_tensor *tensors, size_t n,
                           buffer *bytes, uint64_t *offsets, uint64_t *n_file_bytes, mlxr_error *error)
{
    static const gguf_out nothing = {0};
    out = out ? out : &nothing;
    const uint64_t n_tensors = n, n_meta = out->n_meta + more->n_meta;
    uint64_t at = 0;
    buffer_append(bytes, "GGUF\3\0\0\0", 8);
    buffer_append(bytes, &n_tensors, 8);
    buffer_append(bytes, &n_meta, 8);
    buffer_append(bytes, out->meta.data, out->meta.n);
    buffer_append(bytes, more->meta.data, more->meta.n);
    for (size_t i = 0; i < n; i++) {
        const gguf_tensor *t = &tensors[i];
        put_text(bytes, t->name, strlen(t->name));
        put_u32(bytes, t->n_dims);
        buffer_append(bytes, t->shape, 8 * (size_t)t->n_dims);
        put_u32(bytes, (uint32_t)t->type);
        buffer_append(bytes, &at, 8);
        offsets[i] = at;
        if (!checked_add(at, t->n_bytes, &at) || !checked_align(at, GGUF_ALIGNMENT, &at)) {
            return error_set(error, MLXR_LIMIT, "tensor '%s': the file would be longer than can be said", t->name);
        }
    }
    static const char zeros[GGUF_ALIGNMENT] = {0};
    buffer_append(bytes, zeros, (GGUF_ALIGNMENT - bytes->n % GGUF_ALIGNMENT) % GGUF_ALIGNMENT);
    if (bytes->failed || out->meta.failed || more->meta.failed) {
        return error_nomem(error, "the header", bytes->n + out->meta.n);
    }
    for (size_t i = 0; i < n; i++) {
        offsets[i] += bytes->n;
    }
    *n_file_bytes = bytes->n + at;
    return MLXR_OK;
}
