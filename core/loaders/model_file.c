/*
 * Opening a model of any format, looking things up in it, typed reads of its metadata.
 * Owner: the model (or `show`). Lifetime: model_file_open to model_file_close.
 */
#include "loaders/model_file.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/text.h"
#include "loaders/readers.h"

static const struct {
    const char *name;
    size_t bytes;
} meta_types[] = {
    [META_U8] = {"uint8", 1},      [META_I8] = {"int8", 1},     [META_U16] = {"uint16", 2},  [META_I16] = {"int16", 2},
    [META_U32] = {"uint32", 4},    [META_I32] = {"int32", 4},   [META_F32] = {"float32", 4}, [META_BOOL] = {"bool", 1},
    [META_STRING] = {"string", 0}, [META_ARRAY] = {"array", 0}, [META_U64] = {"uint64", 8},  [META_I64] = {"int64", 8},
    [META_F64] = {"float64", 8},
};

const char *meta_type_name(meta_type type)
{
    return meta_types[type].name;
}

size_t meta_type_bytes(meta_type type)
{
    return meta_types[type].bytes;
}

const char *short_path(const char *path)
{
    size_t n = strlen(path), most = 160;
    return n <= most ? path : path + (n - most);
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

mlxr_status model_file_make(model_file **out, mlxr_error *error)
{
    model_file *file = calloc(1, sizeof *file);
    if (!file) {
        return error_nomem(error, "model file", sizeof *file);
    }
    file->index = region_array(&file->memory, 1, sizeof(model_index));
    if (!file->index) {
        free(file);
        return error_nomem(error, "model file", sizeof(model_index));
    }
    *out = file;
    return MLXR_OK;
}

mlxr_status model_file_index(model_file *file, mlxr_error *error)
{
    model_index *index = file->index;
    mlxr_status status = name_index_open(&index->keys, &file->memory, file->meta, sizeof *file->meta, file->n_meta,
                                         "metadata key", error);
    if (status == MLXR_OK) {
        status = name_index_open(&index->tensors, &file->memory, file->tensors, sizeof *file->tensors, file->n_tensors,
                                 "tensor", error);
    }
    return status;
}

static mlxr_status read_any(model_file *file, const char *path, mlxr_error *error)
{
    if (path_find(path) == PATH_FOLDER || text_ends_with(path, ".safetensors") || text_ends_with(path, ".json")) {
        return safetensors_read(file, path, error);
    }
    return gguf_read(file, path, error);
}

mlxr_status model_file_open(model_file **out, const char *path, mlxr_error *error)
{
    model_file *file = NULL;
    mlxr_status status = model_file_make(&file, error);
    if (status == MLXR_OK) {
        status = read_any(file, path, error);
    }
    if (status != MLXR_OK) {
        model_file_close(&file);
        return status;
    }
    *out = file;
    return MLXR_OK;
}

const packed_weight *model_file_packed(const model_file *file, const tensor *t)
{
    return file->packed && t >= file->tensors && t < file->tensors + file->n_tensors ? file->packed[t - file->tensors]
                                                                                     : NULL;
}

mlxr_status model_file_unpack(model_file *file, uint32_t end, mlxr_error *error)
{
    for (uint64_t i = 0; file->packed && i < file->n_tensors; i++) {
        const packed_weight *p = file->packed[i];
        tensor *t = (tensor *)(uintptr_t)&file->tensors[i]; /* the reader made the table; it is the file's own */
        unsigned layer;
        if (!p || t->data || (sscanf(t->name, "blk.%6u.", &layer) == 1 && layer >= end)) {
            continue;
        }
        void *data = region_alloc(&file->memory, t->n_bytes);
        if (!data) {
            return error_nomem(error, t->name, t->n_bytes);
        }
        packed_rows(p, 0, p->n_out, data);
        packed_forget(p);
        t->data = data;
    }
    return MLXR_OK;
}

bool model_file_maps(const model_file *file, const void *data, size_t n_bytes)
{
    for (uint32_t i = 0; i < file->n_parts; i++) {
        uintptr_t at = (uintptr_t)data - (uintptr_t)file->parts[i].data; /* elsewhere: beyond n_bytes */
        if (at < file->parts[i].n_bytes && n_bytes <= file->parts[i].n_bytes - at) {
            return true;
        }
    }
    return false;
}

void model_file_forget_metadata(const model_file *file)
{
    const model_index *index = file->index;
    for (uint32_t i = 0; i < file->n_parts && !index->borrowed; i++) {
        const mapping *part = &file->parts[i];
        size_t n_before = part->n_bytes;
        for (uint64_t t = 0; t < file->n_tensors; t++) {
            uintptr_t at = (uintptr_t)file->tensors[t].data - (uintptr_t)part->data; /* elsewhere: beyond n_bytes */
            n_before = at < n_before ? at : n_before;
        }
        mapping_in_small_pages(part->data, n_before); /* or a token's text would bring 2 MiB of others along */
        mapping_forget(part, n_before);
    }
}

void model_file_close(model_file **file)
{
    model_file *f = *file;
    if (!f) {
        return;
    }
    model_index *index = f->index;
    for (size_t i = 0; i < EXTRAS_MAX; i++) {
        mapping_close(&index->extras[i]);
    }
    for (uint32_t i = 0; i < f->n_parts && !index->borrowed; i++) {
        mapping part = f->parts[i];
        mapping_close(&part);
    }
    region_close(&f->memory);
    free(f);
    *file = NULL;
}

/* ---- looking up ------------------------------------------------------------------------------------------------ */

const meta_value *model_file_meta(const model_file *file, const char *key)
{
    const model_index *index = file->index;
    uint64_t row = name_index_find(&index->keys, key);
    return row == NAME_INDEX_NONE ? NULL : &file->meta[row];
}

const tensor *model_file_tensor(const model_file *file, const char *name)
{
    const model_index *index = file->index;
    uint64_t row = name_index_find(&index->tensors, name);
    return row == NAME_INDEX_NONE ? NULL : &file->tensors[row];
}

/* ---- typed reads ----------------------------------------------------------------------------------------------- */

/* What was found, for an error line: "a string of 5 bytes", "-7", "an array of 3 uint32". */
static const char *describe(const meta_value *value, char *buffer, size_t cap)
{
    switch (value->type) {
    case META_U8:
    case META_U16:
    case META_U32:
    case META_U64:
        snprintf(buffer, cap, "%" PRIu64, value->u);
        break;
    case META_I8:
    case META_I16:
    case META_I32:
    case META_I64:
        snprintf(buffer, cap, "%" PRId64, value->i);
        break;
    case META_F32:
    case META_F64:
        snprintf(buffer, cap, "%g (%s)", value->f, meta_type_name(value->type));
        break;
    case META_BOOL:
        snprintf(buffer, cap, "%s", value->u ? "true" : "false");
        break;
    case META_STRING:
        snprintf(buffer, cap, "a string of %zu bytes", value->s.n);
        break;
    case META_ARRAY:
        snprintf(buffer, cap, "an array of %" PRIu64 " %s", value->array.n, meta_type_name(value->array.type));
        break;
    }
    return buffer;
}

static mlxr_status mismatch(const meta_value *value, const char *expected, mlxr_error *error)
{
    char found[96];
    return error_set(error, MLXR_FORMAT, "metadata '%.128s' is %s; expected %s", value->key,
                     describe(value, found, sizeof found), expected);
}

bool meta_as_u64(const meta_value *value, uint64_t *out)
{
    switch (value->type) {
    case META_U8:
    case META_U16:
    case META_U32:
    case META_U64:
        *out = value->u;
        return true;
    case META_I8:
    case META_I16:
    case META_I32:
    case META_I64:
        if (value->i >= 0) {
            *out = (uint64_t)value->i;
            return true;
        }
        return false;
    default:
        return false;
    }
}

mlxr_status model_file_u32(const model_file *file, const char *key, uint32_t *out, mlxr_error *error)
{
    const meta_value *value = model_file_meta(file, key);
    uint64_t number;
    if (!value) {
        return MLXR_OK;
    }
    if (!meta_as_u64(value, &number) || number > UINT32_MAX) {
        return mismatch(value, "a whole number from 0 to 4294967295", error);
    }
    *out = (uint32_t)number;
    return MLXR_OK;
}

mlxr_status model_file_f32(const model_file *file, const char *key, float *out, mlxr_error *error)
{
    const meta_value *value = model_file_meta(file, key);
    uint64_t number;
    double result;
    if (!value) {
        return MLXR_OK;
    }
    if (value->type == META_F32 || value->type == META_F64) {
        result = value->f;
    } else if (meta_as_u64(value, &number)) {
        result = (double)number;
    } else if (value->type != META_BOOL && meta_type_bytes(value->type) > 0) { /* what is left: negative integers */
        result = (double)value->i;
    } else {
        return mismatch(value, "a number", error);
    }
    if (isfinite(result) && fabs(result) > FLT_MAX) {
        return mismatch(value, "a number that fits a float32", error);
    }
    *out = (float)result;
    return MLXR_OK;
}

mlxr_status model_file_bool(const model_file *file, const char *key, bool *out, mlxr_error *error)
{
    const meta_value *value = model_file_meta(file, key);
    if (!value) {
        return MLXR_OK;
    }
    if (value->type != META_BOOL) {
        return mismatch(value, "true or false", error);
    }
    *out = value->u != 0;
    return MLXR_OK;
}

mlxr_status model_file_text(const model_file *file, const char *key, text_view *out, mlxr_error *error)
{
    const meta_value *value = model_file_meta(file, key);
    if (!value) {
        return MLXR_OK;
    }
    if (value->type != META_STRING) {
        return mismatch(value, "a string", error);
    }
    *out = value->s;
    return MLXR_OK;
}

double meta_array_number(const meta_array *array, uint64_t i)
{
    const uint8_t *at = (const uint8_t *)array->data + i * meta_type_bytes(array->type);
    uint32_t bits32;
    uint64_t bits64;
    float f32;
    double f64;
    switch (array->type) {
    case META_U8:
    case META_BOOL:
        return *at;
    case META_I8:
        return (int8_t)*at;
    case META_U16:
        return load_u16le(at);
    case META_I16:
        return (int16_t)load_u16le(at);
    case META_U32:
        return load_u32le(at);
    case META_I32:
        return (int32_t)load_u32le(at);
    case META_U64:
        return (double)load_u64le(at);
    case META_I64:
        return (double)(int64_t)load_u64le(at);
    case META_F32:
        bits32 = load_u32le(at);
        memcpy(&f32, &bits32, sizeof f32);
        return f32;
    case META_F64:
        bits64 = load_u64le(at);
        memcpy(&f64, &bits64, sizeof f64);
        return f64;
    case META_STRING:
    case META_ARRAY:
        break;
    }
    return 0;
}
