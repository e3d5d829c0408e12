/*
 * GGUF reader: header, metadata, tensor table, split files. Little-endian v2 and v3.
 * Format: the GGUF specification in ggml's docs. Everything read is checked against the file's length first.
 * Owner: the model_file being filled. Lifetime: strings and tensor data point into the mapping, the rest lives in the
 * region.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "loaders/readers.h"

#define KEY_BYTES_MAX 65535       /* the specification's limit */
#define TENSOR_NAME_BYTES_MAX 255 /* the specification says 64; merged and adapted models write a little more */
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MAX (1u << 20)
#define META_BYTES_MIN 14   /* length, one letter, type, smallest value */
#define TENSOR_BYTES_MIN 33 /* length, one letter, n_dims, one dim, type, offset */

typedef struct reader {
    const uint8_t *data;
    uint64_t n_bytes, at;
    const char *path; /* for errors */
    region *memory;
    mlxr_error *error;
} reader;

/* Where a tensor's data lies: offset from the start of the data section. */
typedef struct extent {
    uint64_t begin, end, row;
} extent;

typedef struct part {
    uint32_t version;
    meta_value *meta;
    uint64_t n_meta;
    name_index keys;
    tensor *tensors;
    uint64_t n_tensors;
    uint64_t alignment;
    uint64_t split_no, split_count, split_tensors; /* count 0: not split */
} part;

static mlxr_status bad(const reader *r, mlxr_status status, const char *format, ...) ERROR_PRINTF(3, 4);

/* An error with the file's name before it. */
static mlxr_status bad(const reader *r, mlxr_status status, const char *format, ...)
{
    char text[sizeof r->error->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(r->error, status, "%s: %s", short_path(r->path), text);
}

static mlxr_status no_memory(const reader *r, const char *what, uint64_t n_bytes)
{
    return bad(r, MLXR_NOMEM, "out of memory: %s needs %" PRIu64 " bytes", what, n_bytes);
}

/* ---- bytes ----------------------------------------------------------------------------------------------------- */

static uint64_t left(const reader *r)
{
    return r->n_bytes - r->at;
}

static mlxr_status truncated(const reader *r, const char *what)
{
    return bad(r, MLXR_FORMAT, "the file ends inside %s at byte %" PRIu64 "; it is truncated, download it again", what,
               r->n_bytes);
}

static mlxr_status read_u32(reader *r, const char *what, uint32_t *out)
{
    if (left(r) < 4) {
        return truncated(r, what);
    }
    *out = load_u32le(r->data + r->at);
    r->at += 4;
    return MLXR_OK;
}

static mlxr_status read_u64(reader *r, const char *what, uint64_t *out)
{
    if (left(r) < 8) {
        return truncated(r, what);
    }
    *out = load_u64le(r->data + r->at);
    r->at += 8;
    return MLXR_OK;
}

static mlxr_status read_string(reader *r, const char *what, text_view *out)
{
    uint64_t n = 0;
    mlxr_status status = read_u64(r, what, &n);
    if (status != MLXR_OK) {
        return status;
    }
    if (n > left(r)) {
        return bad(r, MLXR_FORMAT,
                   "%s claims %" PRIu64 " bytes at byte %" PRIu64 ", but the file has only %" PRIu64 " more", what, n,
                   r->at, left(r));
    }
    *out = (text_view){(const char *)r->data + r->at, (size_t)n};
    r->at += n;
    return MLXR_OK;
}

static bool is_plain_text(text_view text)
{
    for (size_t i = 0; i < text.n;) {
        uint32_t code;
        size_t n = text.data[i] ? utf8_decode(text.data + i, text.n - i, &code) : 0;
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

/* A key or tensor name: 1 to `most` bytes of UTF-8 without NUL, copied into the region. `number` counts them from 0. */
static mlxr_status read_name(reader *r, const char *what, uint64_t number, size_t most, const char **out)
{
    char label[64];
    snprintf(label, sizeof label, "%s %" PRIu64, what, number);
    uint64_t at = r->at;
    text_view name;
    mlxr_status status = read_string(r, label, &name);
    if (status != MLXR_OK) {
        return status;
    }
    if (name.n == 0 || name.n > most) {
        return bad(r, MLXR_FORMAT, "%s at byte %" PRIu64 " is %zu bytes long; it must be 1 to %zu", label, at, name.n,
                   most);
    }
    if (!is_plain_text(name)) {
        return bad(r, MLXR_FORMAT, "%s at byte %" PRIu64 " is not UTF-8 text", label, at);
    }
    char *copy = region_strndup(r->memory, name.data, name.n);
    if (!copy) {
        return no_memory(r, label, name.n + 1);
    }
    *out = copy;
    return MLXR_OK;
}

/* ---- metadata -------------------------------------------------------------------------------------------------- */

static mlxr_status check_type(const reader *r, const char *key, uint32_t type)
{
    if (type > META_F64) {
        return bad(r, MLXR_FORMAT, "metadata '%.128s' has the unknown type %" PRIu32 "; GGUF has types 0 to %d", key,
                   type, META_F64);
    }
    return MLXR_OK;
}

static mlxr_status check_bools(const reader *r, const char *key, const uint8_t *bytes, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (bytes[i] > 1) {
            return bad(r, MLXR_FORMAT, "metadata '%.128s': %d is no bool; it must be 0 or 1", key, bytes[i]);
        }
    }
    return MLXR_OK;
}

/* The vocabulary's 262,144 strings pass here: one bounds check for each length, one for each text. */
static mlxr_status read_string_array(reader *r, const char *key, meta_array *array)
{
    if (array->n > left(r) / 8) {
        return bad(r, MLXR_FORMAT,
                   "metadata '%.128s' claims %" PRIu64 " strings, but the file has only %" PRIu64
                   " more bytes: it is truncated or damaged",
                   key, array->n, left(r));
    }
    text_view *strings = region_alloc(r->memory, (size_t)array->n * sizeof *strings);
    if (!strings) {
        return no_memory(r, key, array->n * sizeof *strings);
    }
    uint64_t at = r->at;
    for (uint64_t i = 0; i < array->n; i++) {
        uint64_t n = r->n_bytes - at >= 8 ? load_u64le(r->data + at) : UINT64_MAX;
        if (n > r->n_bytes - at - 8) {
            return bad(r, MLXR_FORMAT,
                       "metadata '%.128s': string %" PRIu64 " of %" PRIu64 " at byte %" PRIu64
                       " reaches past the end of the file",
                       key, i, array->n, at);
        }
        strings[i] = (text_view){(const char *)r->data + at + 8, (size_t)n};
        at += 8 + n;
    }
    r->at = at;
    array->strings = strings;
    return MLXR_OK;
}

static mlxr_status read_array(reader *r, const char *key, meta_array *array)
{
    uint32_t type = 0;
    mlxr_status status = read_u32(r, key, &type);
    if (status == MLXR_OK) {
        status = check_type(r, key, type);
    }
    if (status == MLXR_OK) {
        status = read_u64(r, key, &array->n);
    }
    if (status != MLXR_OK) {
        return status;
    }
    array->type = (meta_type)type;
    if (array->type == META_ARRAY) {
        return bad(r, MLXR_UNSUPPORTED, "metadata '%.128s' is an array of arrays, which is not supported", key);
    }
    if (array->type == META_STRING) {
        return read_string_array(r, key, array);
    }
    uint64_t size = meta_type_bytes(array->type);
    if (array->n > left(r) / size) {
        return bad(r, MLXR_FORMAT,
                   "metadata '%.128s' claims %" PRIu64 " %s, but the file has only %" PRIu64
                   " more bytes: it is truncated or damaged",
                   key, array->n, meta_type_name(array->type), left(r));
    }
    array->data = r->data + r->at;
    r->at += array->n * size;
    return array->type == META_BOOL ? check_bools(r, key, array->data, array->n) : MLXR_OK;
}

static mlxr_status read_scalar(reader *r, meta_value *value)
{
    size_t size = meta_type_bytes(value->type);
    if (left(r) < size) {
        return truncated(r, value->key);
    }
    meta_array one = {.type = value->type, .n = 1, .data = r->data + r->at};
    r->at += size;
    switch (value->type) {
    case META_U64: /* doubles do not hold all of these */
        value->u = load_u64le(one.data);
        break;
    case META_I64:
        value->i = (int64_t)load_u64le(one.data);
        break;
    case META_F32:
    case META_F64:
        value->f = meta_array_number(&one, 0);
        break;
    case META_I8:
    case META_I16:
    case META_I32:
        value->i = (int64_t)meta_array_number(&one, 0);
        break;
    default:
        value->u = (uint64_t)meta_array_number(&one, 0);
        break;
    }
    return value->type == META_BOOL ? check_bools(r, value->key, one.data, 1) : MLXR_OK;
}

static mlxr_status read_meta(reader *r, uint64_t number, meta_value *value)
{
    uint32_t type = 0;
    mlxr_status status = read_name(r, "metadata key", number, KEY_BYTES_MAX, &value->key);
    if (status == MLXR_OK) {
        status = read_u32(r, value->key, &type);
    }
    if (status == MLXR_OK) {
        status = check_type(r, value->key, type);
    }
    if (status != MLXR_OK) {
        return status;
    }
    value->type = (meta_type)type;
    switch (value->type) {
    case META_STRING:
        return read_string(r, value->key, &value->s);
    case META_ARRAY:
        return read_array(r, value->key, &value->array);
    default:
        return read_scalar(r, value);
    }
}

/* A whole number of the part's metadata; *out keeps its value where the key is absent. */
static mlxr_status part_number(const reader *r, const part *p, const char *key, uint64_t *out)
{
    uint64_t row = name_index_find(&p->keys, key);
    if (row != NAME_INDEX_NONE && !meta_as_u64(&p->meta[row], out)) {
        return bad(r, MLXR_FORMAT, "metadata '%s' is no whole number from 0 on", key);
    }
    return MLXR_OK;
}

static mlxr_status read_all_meta(reader *r, part *p)
{
    p->meta = region_array(r->memory, (size_t)p->n_meta, sizeof *p->meta);
    if (!p->meta) {
        return no_memory(r, "the metadata", p->n_meta * sizeof *p->meta);
    }
    for (uint64_t i = 0; i < p->n_meta; i++) {
        mlxr_status status = read_meta(r, i, &p->meta[i]);
        if (status != MLXR_OK) {
            return status;
        }
    }
    mlxr_status status = name_index_open(&p->keys, r->memory, p->meta, sizeof *p->meta, p->n_meta, "metadata key",
                                         r->error);
    if (status != MLXR_OK) {
        return error_prefix(r->error, status, "%s", short_path(r->path));
    }
    p->alignment = ALIGNMENT_DEFAULT;
    status = part_number(r, p, "general.alignment", &p->alignment);
    if (status == MLXR_OK) {
        status = part_number(r, p, "split.no", &p->split_no);
    }
    if (status == MLXR_OK) {
        status = part_number(r, p, "split.count", &p->split_count);
    }
    if (status == MLXR_OK) {
        p->split_tensors = UINT64_MAX;
        status = part_number(r, p, "split.tensors.count", &p->split_tensors);
    }
    if (status == MLXR_OK &&
        (p->alignment == 0 || (p->alignment & (p->alignment - 1)) || p->alignment > ALIGNMENT_MAX)) {
        status = bad(r, MLXR_FORMAT, "general.alignment is %" PRIu64 "; it must be a power of two up to %u",
                     p->alignment, ALIGNMENT_MAX);
    }
    return status;
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */

static mlxr_status read_shape(reader *r, tensor *t)
{
    uint32_t n_dims = 0;
    mlxr_status status = read_u32(r, t->name, &n_dims);
    if (status != MLXR_OK) {
        return status;
    }
    if (n_dims < 1 || n_dims > TENSOR_DIMS_MAX) {
        return bad(r, MLXR_FORMAT, "tensor '%s' has %" PRIu32 " dimensions; it must have 1 to %d", t->name, n_dims,
                   TENSOR_DIMS_MAX);
    }
    t->n_dims = n_dims;
    for (uint32_t i = 0; i < TENSOR_DIMS_MAX; i++) {
        t->shape[i] = 1;
        if (i < n_dims) {
            status = read_u64(r, t->name, &t->shape[i]);
        }
        if (status != MLXR_OK) {
            return status;
        }
        if (t->shape[i] == 0) {
            return bad(r, MLXR_FORMAT, "tensor '%s': dimension %" PRIu32 " is 0", t->name, i);
        }
    }
    return MLXR_OK;
}

/* Bytes of a row and of the whole, from type and shape. */
static mlxr_status measure(const reader *r, tensor *t, uint32_t type)
{
    const dtype_info *info = type < DTYPE_OWN ? dtype_find(type) : NULL;
    if (!info) {
        return bad(r, MLXR_UNSUPPORTED, "tensor '%s' has the unknown type %" PRIu32 "; this build cannot read it",
                   t->name, type);
    }
    t->type = (dtype)type;
    if (t->shape[0] % info->block_size != 0) {
        return bad(r, MLXR_FORMAT, "tensor '%s': rows of %" PRIu64 " elements do not divide into %s blocks of %" PRIu32,
                   t->name, t->shape[0], info->name, info->block_size);
    }
    uint64_t row_bytes, n_bytes;
    bool fits = checked_mul(t->shape[0] / info->block_size, info->block_bytes, &row_bytes);
    n_bytes = row_bytes;
    for (int i = 1; i < TENSOR_DIMS_MAX; i++) {
        fits = fits && checked_mul(n_bytes, t->shape[i], &n_bytes);
    }
    if (!fits || n_bytes > SIZE_MAX) {
        return bad(r, MLXR_FORMAT,
                   "tensor '%s': [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 "] elements overflow", t->name,
                   t->shape[0], t->shape[1], t->shape[2], t->shape[3]);
    }
    t->row_bytes = (size_t)row_bytes;
    t->n_bytes = (size_t)n_bytes;
    return MLXR_OK;
}

static mlxr_status read_tensor(reader *r, const part *p, uint64_t number, tensor *t, extent *e)
{
    uint32_t type = 0;
    mlxr_status status = read_name(r, "tensor name", number, TENSOR_NAME_BYTES_MAX, &t->name);
    if (status == MLXR_OK) {
        status = read_shape(r, t);
    }
    if (status == MLXR_OK) {
        status = read_u32(r, t->name, &type);
    }
    if (status == MLXR_OK) {
        status = measure(r, t, type);
    }
    if (status == MLXR_OK) {
        status = read_u64(r, t->name, &e->begin);
    }
    if (status != MLXR_OK) {
        return status;
    }
    if (e->begin % p->alignment != 0) {
        return bad(r, MLXR_FORMAT, "tensor '%s': offset %" PRIu64 " is no multiple of the alignment %" PRIu64, t->name,
                   e->begin, p->alignment);
    }
    if (!checked_add(e->begin, t->n_bytes, &e->end)) {
        return bad(r, MLXR_FORMAT, "tensor '%s': offset %" PRIu64 " and size %zu overflow", t->name, e->begin,
                   t->n_bytes);
    }
    e->row = number;
    return MLXR_OK;
}

static int compare_extents(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* No writer shares bytes between tensors, so shared bytes mean a damaged or hostile table. Gaps are harmless. */
static mlxr_status refuse_overlaps(const reader *r, const part *p, extent *extents)
{
    bool sorted = true;
    for (uint64_t i = 1; i < p->n_tensors && sorted; i++) {
        sorted = extents[i].begin >= extents[i - 1].begin;
    }
    if (!sorted) {
        qsort(extents, (size_t)p->n_tensors, sizeof *extents, compare_extents);
    }
    for (uint64_t i = 1; i < p->n_tensors; i++) {
        if (extents[i].begin < extents[i - 1].end) {
            return bad(r, MLXR_FORMAT, "tensors '%s' and '%s' overlap", p->tensors[extents[i - 1].row].name,
                       p->tensors[extents[i].row].name);
        }
    }
    return MLXR_OK;
}

static mlxr_status place(const reader *r, const part *p, const extent *extents)
{
    uint64_t begin = (r->at + p->alignment - 1) & ~(p->alignment - 1); /* both far below 2^63 */
    for (uint64_t i = 0; i < p->n_tensors; i++) {
        tensor *t = &p->tensors[i];
        uint64_t end;
        if (!checked_add(begin, extents[i].end, &end)) {
            return bad(r, MLXR_FORMAT, "tensor '%s': offset %" PRIu64 " overflows", t->name, extents[i].begin);
        }
        if (end > r->n_bytes) {
            return bad(r, MLXR_FORMAT,
                       "tensor '%s': data ends at byte %" PRIu64 ", but the file has %" PRIu64
                       "; the file is truncated, download it again",
                       t->name, end, r->n_bytes);
        }
        t->data = r->data + begin + extents[i].begin;
    }
    return MLXR_OK;
}

static mlxr_status read_all_tensors(reader *r, part *p)
{
    p->tensors = region_array(r->memory, (size_t)p->n_tensors, sizeof *p->tensors);
    extent *extents = calloc((size_t)p->n_tensors + 1, sizeof *extents);
    mlxr_status status = MLXR_OK;
    if (!p->tensors || !extents) {
        status = no_memory(r, "the tensor table", p->n_tensors * (sizeof *p->tensors + sizeof *extents));
    }
    for (uint64_t i = 0; i < p->n_tensors && status == MLXR_OK; i++) {
        status = read_tensor(r, p, i, &p->tensors[i], &extents[i]);
    }
    if (status == MLXR_OK) {
        status = place(r, p, extents);
    }
    if (status == MLXR_OK) {
        status = refuse_overlaps(r, p, extents);
    }
    free(extents);
    return status;
}

/* ---- parts ----------------------------------------------------------------------------------------------------- */

static mlxr_status read_header(reader *r, part *p)
{
    if (r->n_bytes < 4 || memcmp(r->data, "GGUF", 4) != 0) {
        return bad(r, MLXR_FORMAT, "not a model file: it does not begin with 'GGUF' (%" PRIu64 " bytes)", r->n_bytes);
    }
    r->at = 4;
    mlxr_status status = read_u32(r, "the header", &p->version);
    if (status != MLXR_OK) {
        return status;
    }
    if (p->version != 0 && (p->version & 0xffff) == 0) {
        return bad(r, MLXR_UNSUPPORTED, "a big-endian GGUF file; this build reads little-endian ones, convert it");
    }
    if (p->version != 2 && p->version != 3) {
        return bad(r, MLXR_UNSUPPORTED, "GGUF version %" PRIu32 "; versions 2 and 3 are supported", p->version);
    }
    status = read_u64(r, "the header", &p->n_tensors);
    if (status == MLXR_OK) {
        status = read_u64(r, "the header", &p->n_meta);
    }
    if (status == MLXR_OK && p->n_meta > left(r) / META_BYTES_MIN) {
        status = bad(r, MLXR_FORMAT,
                     "the header claims %" PRIu64 " metadata entries, more than %" PRIu64 " bytes can hold", p->n_meta,
                     left(r));
    }
    if (status == MLXR_OK && p->n_tensors > left(r) / TENSOR_BYTES_MIN) {
        status = bad(r, MLXR_FORMAT, "the header claims %" PRIu64 " tensors, more than %" PRIu64 " bytes can hold",
                     p->n_tensors, left(r));
    }
    return status;
}

static mlxr_status read_part(part *p, const mapping *bytes, const char *path, region *memory, mlxr_error *error)
{
    reader r = {.data = bytes->data, .n_bytes = bytes->n_bytes, .path = path, .memory = memory, .error = error};
    mlxr_status status = read_header(&r, p);
    if (status == MLXR_OK) {
        status = read_all_meta(&r, p);
    }
    if (status == MLXR_OK) {
        status = read_all_tensors(&r, p);
    }
    return status;
}

/* The path of part `number` (from 0), in the region: the first part's with its numbers replaced. */
static char *sibling_path(region *memory, const char *path, size_t n_stem, uint64_t number, uint64_t count)
{
    size_t cap = n_stem + 64;
    char *sibling = region_alloc(memory, cap);
    if (sibling) {
        snprintf(sibling, cap, "%.*s-%05" PRIu64 "-of-%05" PRIu64 ".gguf", (int)n_stem, path, number + 1, count);
    }
    return sibling;
}

/* Checks that `path` is the first of its split and named as such; *n_stem bytes precede "-00001-of-000NN.gguf". */
static mlxr_status check_split(const reader *r, const part *first, size_t *n_stem)
{
    char suffix[64];
    if (first->split_count > 99999) {
        return bad(r, MLXR_FORMAT, "split.count is %" PRIu64 "; at most 99999 parts have a name", first->split_count);
    }
    if (first->split_no != 0) {
        return bad(r, MLXR_ARG,
                   "this is part %" PRIu64 " of %" PRIu64 " of a split model; open the first, '…-00001-of-%05" PRIu64
                   ".gguf'",
                   first->split_no + 1, first->split_count, first->split_count);
    }
    size_t n_suffix = (size_t)snprintf(suffix, sizeof suffix, "-00001-of-%05" PRIu64 ".gguf", first->split_count);
    size_t n = strlen(r->path);
    if (n < n_suffix || strcmp(r->path + (n - n_suffix), suffix) != 0) {
        return bad(r, MLXR_ARG, "the first of %" PRIu64 " parts must be named '…%s' for the others to be found",
                   first->split_count, suffix);
    }
    *n_stem = n - n_suffix;
    return MLXR_OK;
}

static mlxr_status read_sibling(model_file *file, mapping *parts, part *first, part *p, uint32_t i, const char *path,
                                mlxr_error *error)
{
    mlxr_status status = mapping_open(&parts[i], path, error);
    if (status != MLXR_OK) {
        return error_prefix(error, status, "part %" PRIu32 " of %" PRIu64, i + 1, first->split_count);
    }
    file->n_parts = i + 1;
    status = read_part(p, &parts[i], path, &file->memory, error);
    if (status == MLXR_OK && (p->split_no != i || p->split_count != first->split_count)) {
        status = error_set(error, MLXR_FORMAT,
                           "%s: it says it is part %" PRIu64 " of %" PRIu64 ", expected %" PRIu32 " of %" PRIu64,
                           short_path(path), p->split_no + 1, p->split_count, i + 1, first->split_count);
    }
    return status;
}

/* Tensors of all parts in one array. */
static mlxr_status join(const reader *r, part *parts, uint32_t n_parts)
{
    uint64_t n = 0, at = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        n += parts[i].n_tensors;
    }
    if (parts[0].split_tensors != UINT64_MAX && parts[0].split_tensors != n) {
        return bad(r, MLXR_FORMAT,
                   "split.tensors.count is %" PRIu64 ", but the %" PRIu32 " parts hold %" PRIu64 " tensors",
                   parts[0].split_tensors, n_parts, n);
    }
    tensor *all = region_array(r->memory, (size_t)n, sizeof *all);
    if (!all) {
        return no_memory(r, "the tensor table", n * sizeof *all);
    }
    for (uint32_t i = 0; i < n_parts; i++) {
        memcpy(all + at, parts[i].tensors, (size_t)parts[i].n_tensors * sizeof *all);
        at += parts[i].n_tensors;
    }
    parts[0].tensors = all;
    parts[0].n_tensors = n;
    return MLXR_OK;
}

static mlxr_status read_siblings(model_file *file, part *first, const char *path, mlxr_error *error)
{
    reader r = {.path = path, .memory = &file->memory, .error = error};
    size_t n_stem = 0;
    mlxr_status status = check_split(&r, first, &n_stem);
    if (status != MLXR_OK) {
        return status;
    }
    uint32_t count = (uint32_t)first->split_count;
    mapping *bytes = region_array(&file->memory, count, sizeof *bytes);
    part *parts = region_array(&file->memory, count, sizeof *parts);
    if (!bytes || !parts) {
        return no_memory(&r, "the table of parts", count * (sizeof *bytes + sizeof *parts));
    }
    bytes[0] = file->parts[0];
    parts[0] = *first;
    file->parts = bytes;
    for (uint32_t i = 1; i < count; i++) {
        char *sibling = sibling_path(&file->memory, path, n_stem, i, count);
        if (!sibling) {
            return no_memory(&r, "a path", n_stem + 64);
        }
        status = read_sibling(file, bytes, first, &parts[i], i, sibling, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    status = join(&r, parts, count);
    *first = parts[0];
    return status;
}

mlxr_status gguf_read(model_file *file, const char *path, mlxr_error *error)
{
    mlxr_status status;
    if (file->n_parts == 0) {
        mapping *only = region_array(&file->memory, 1, sizeof *only);
        if (!only) {
            return error_nomem(error, "the table of parts", sizeof *only);
        }
        status = mapping_open(only, path, error);
        if (status != MLXR_OK) {
            return status;
        }
        file->parts = only;
        file->n_parts = 1;
    }
    part first = {0};
    status = read_part(&first, &file->parts[0], path, &file->memory, error);
    if (status == MLXR_OK && first.split_count > 1) {
        status = read_siblings(file, &first, path, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    file->format = MODEL_GGUF;
    file->version = first.version;
    file->meta = first.meta;
    file->n_meta = first.n_meta;
    file->tensors = first.tensors;
    file->n_tensors = first.n_tensors;
    for (uint32_t i = 0; i < file->n_parts; i++) {
        file->file_bytes += file->parts[i].n_bytes;
    }
    status = model_file_index(file, error);
    return status == MLXR_OK ? MLXR_OK : error_prefix(error, status, "%s", short_path(path));
}

mlxr_status gguf_open_memory(model_file **out, const void *data, size_t n_bytes, mlxr_error *error)
{
    model_file *file = NULL;
    mlxr_status status = model_file_make(&file, error);
    if (status != MLXR_OK) {
        return status;
    }
    mapping *only = region_array(&file->memory, 1, sizeof *only);
    if (!only) {
        model_file_close(&file);
        return error_nomem(error, "the table of parts", sizeof *only);
    }
    *only = (mapping){data, n_bytes};
    file->parts = only;
    file->n_parts = 1;
    ((model_index *)file->index)->borrowed = true;
    status = gguf_read(file, "memory", error);
    if (status != MLXR_OK) {
        model_file_close(&file);
        return status;
    }
    *out = file;
    return MLXR_OK;
}
