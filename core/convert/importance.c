/*
 * Reading importance matrices.
 * Owner: the caller's importance. Lifetime: importance_open to importance_close.
 *
 * The older format, all little-endian: int32 number of entries; each: int32 n, n bytes of name, int32 calls, int32 m, m
 * floats (sums over `calls` evaluations of means); then, in newer files, int32 chunks, int32 n, n bytes: the text. Of
 * experts, m counts the inputs of all matrices; how many there are it does not tell.
 */
#include "convert/importance.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"
#include "loaders/name_index.h"
#include "loaders/readers.h"

#define ENTRY_BYTES_MIN 16 /* three numbers and a value */
#define NAME_BYTES_MAX 255
#define SUM_SUFFIX ".in_sum2"

void importance_close(importance *imp)
{
    region_close(&imp->memory);
    *imp = (importance){0};
}

static mlxr_status build_index(importance *imp, mlxr_error *error)
{
    name_index *index = region_alloc(&imp->memory, sizeof *index);
    if (!index) {
        return error_nomem(error, "the index of an importance matrix", sizeof *index);
    }
    *index = (name_index){0};
    imp->index = index;
    return name_index_open(index, &imp->memory, imp->entries, sizeof *imp->entries, imp->n, "importance of", error);
}

const importance_entry *importance_find(const importance *imp, const char *tensor_name)
{
    uint64_t row = imp->index ? name_index_find(imp->index, tensor_name) : NAME_INDEX_NONE;
    return row == NAME_INDEX_NONE ? NULL : &imp->entries[row];
}

/* Sums → means. Where nothing was counted, everything counts alike. */
static mlxr_status make_means(importance_entry *e, const char *name, const float *counts, mlxr_error *error)
{
    uint64_t n = e->n / e->n_matrices;
    for (uint64_t i = 0; i < e->n; i++) {
        float count = counts[i / n], value = count > 0 ? e->values[i] / count : 1.0f;
        if (!isfinite(value) || value < 0 || !isfinite(count) || count < 0) {
            return error_set(error, MLXR_FORMAT, "%s: importance of '%s': value %" PRIu64 " is no number of 0 and more",
                             name, e->name, i);
        }
        e->values[i] = value;
    }
    return MLXR_OK;
}

/* ---- the older format ---- */

typedef struct reader {
    const uint8_t *data;
    size_t n, at;
    const char *name;
    mlxr_error *error;
} reader;

static mlxr_status read_count(reader *r, const char *what, uint64_t at_most, uint32_t *out)
{
    if (r->n - r->at < 4) {
        return error_set(r->error, MLXR_FORMAT, "%s: it ends at byte %zu, before %s", r->name, r->n, what);
    }
    uint32_t value = load_u32le(r->data + r->at);
    if (value > at_most) {
        return error_set(r->error, MLXR_FORMAT, "%s: byte %zu: %s is %" PRId32 "; 0 to %" PRIu64 " are possible",
                         r->name, r->at, what, (int32_t)value, at_most);
    }
    r->at += 4;
    *out = value;
    return MLXR_OK;
}

static mlxr_status read_entry(reader *r, region *memory, importance_entry *e)
{
    uint32_t n_name = 0, n_calls = 0, n = 0;
    mlxr_status status = read_count(r, "the length of a name", NAME_BYTES_MAX, &n_name);
    if (status == MLXR_OK && n_name > r->n - r->at) {
        return error_set(r->error, MLXR_FORMAT, "%s: it ends at byte %zu, in a name of %" PRIu32 " bytes", r->name,
                         r->n, n_name);
    }
    if (status == MLXR_OK) {
        const char *text = (const char *)r->data + r->at;
        if (n_name == 0 || memchr(text, 0, n_name)) {
            return error_set(r->error, MLXR_FORMAT, "%s: byte %zu: a name that is none", r->name, r->at);
        }
        e->name = region_strndup(memory, text, n_name);
        r->at += n_name;
        status = e->name ? read_count(r, "a number of calls", INT32_MAX, &n_calls)
                         : error_nomem(r->error, "a name", n_name);
    }
    if (status == MLXR_OK) {
        status = read_count(r, "a number of values", INT32_MAX, &n);
    }
    if (status == MLXR_OK && (n == 0 || (uint64_t)n * 4 > r->n - r->at)) {
        return error_set(r->error, MLXR_FORMAT, "%s: importance of '%s': %" PRIu32 " values, %zu bytes are left",
                         r->name, e->name, n, r->n - r->at);
    }
    if (status != MLXR_OK) {
        return status;
    }
    e->values = region_alloc(memory, (size_t)n * sizeof *e->values);
    if (!e->values) {
        return error_nomem(r->error, e->name, (size_t)n * sizeof *e->values);
    }
    memcpy(e->values, r->data + r->at, (size_t)n * 4);
    r->at += (size_t)n * 4;
    e->n = n;
    e->n_matrices = 1;
    float calls = (float)n_calls;
    return make_means(e, r->name, &calls, r->error);
}

/* Chunks and the text's name; older files end before them. */
static mlxr_status read_trailer(reader *r, importance *out)
{
    uint32_t n = 0;
    out->dataset = "";
    if (r->at == r->n) {
        return MLXR_OK;
    }
    mlxr_status status = read_count(r, "the number of chunks", INT32_MAX, &out->n_chunks);
    if (status == MLXR_OK && r->at < r->n) {
        status = read_count(r, "the length of the text's name", r->n - r->at - (r->n - r->at < 4 ? 0 : 4), &n);
    }
    if (status == MLXR_OK && r->n - r->at != n) {
        return error_set(r->error, MLXR_FORMAT, "%s: %zu bytes behind its end", r->name, r->n - r->at - n);
    }
    if (status == MLXR_OK) {
        out->dataset = region_strndup(&out->memory, (const char *)r->data + r->at, n);
        status = out->dataset ? MLXR_OK : error_nomem(r->error, "a name", n);
    }
    return status;
}

mlxr_status importance_read_legacy(importance *out, const void *data, size_t n_bytes, const char *name,
                                   mlxr_error *error)
{
    reader r = {.data = data, .n = n_bytes, .name = name, .error = error};
    uint32_t n = 0;
    *out = (importance){0};
    mlxr_status status = read_count(&r, "the number of entries", n_bytes / ENTRY_BYTES_MIN, &n);
    if (status == MLXR_OK && n == 0) {
        status = error_set(error, MLXR_FORMAT, "%s: an importance matrix without entries", name);
    }
    if (status == MLXR_OK) {
        out->entries = region_array(&out->memory, n, sizeof *out->entries);
        status = out->entries ? MLXR_OK : error_nomem(error, "an importance matrix", n * sizeof *out->entries);
    }
    for (; status == MLXR_OK && out->n < n; out->n += status == MLXR_OK) {
        status = read_entry(&r, &out->memory, &out->entries[out->n]);
    }
    if (status == MLXR_OK) {
        status = read_trailer(&r, out);
    }
    if (status == MLXR_OK) {
        status = build_index(out, error);
    }
    if (status != MLXR_OK) {
        importance_close(out);
    }
    return status;
}

/* ---- GGUF ---- */

/* The entry of NAME.in_sum2. */
static mlxr_status take_tensor(importance *out, const model_file *file, const tensor *sums, size_t n_name,
                               const char *name, mlxr_error *error)
{
    char counts_name[NAME_BYTES_MAX + 16];
    importance_entry *e = &out->entries[out->n];
    uint64_t n_matrices = sums->shape[1] * sums->shape[2] * sums->shape[3];
    if (n_name == 0 || n_name > NAME_BYTES_MAX) {
        return error_set(error, MLXR_FORMAT, "%s: tensor '%s' names nothing", name, sums->name);
    }
    memcpy(counts_name, sums->name, n_name);
    strcpy(counts_name + n_name, ".counts");
    const tensor *counts = model_file_tensor(file, counts_name);
    if (!counts || counts->type != DTYPE_F32 || sums->type != DTYPE_F32 ||
        counts->n_bytes != n_matrices * sizeof(float)) {
        return error_set(error, MLXR_FORMAT,
                         "%s: tensor '%s' needs a tensor '%s' of %" PRIu64 " numbers beside it, both F32", name,
                         sums->name, counts_name, n_matrices);
    }
    *e = (importance_entry){.name = region_strndup(&out->memory, sums->name, n_name),
                            .values = region_alloc(&out->memory, sums->n_bytes),
                            .n = sums->n_bytes / sizeof(float),
                            .n_matrices = (uint32_t)n_matrices};
    float *numbers = region_alloc(&out->memory, counts->n_bytes);
    if (!e->name || !e->values || !numbers || n_matrices > UINT32_MAX) {
        return error_nomem(error, sums->name, sums->n_bytes);
    }
    memcpy(e->values, sums->data, sums->n_bytes);
    memcpy(numbers, counts->data, counts->n_bytes);
    out->n++;
    return make_means(e, name, numbers, error);
}

mlxr_status importance_read_gguf(importance *out, const model_file *file, const char *name, mlxr_error *error)
{
    const size_t n_suffix = strlen(SUM_SUFFIX);
    const meta_value *datasets = model_file_meta(file, "imatrix.datasets");
    mlxr_status status = MLXR_OK;
    *out = (importance){.dataset = ""};
    out->entries = region_array(&out->memory, (size_t)file->n_tensors, sizeof *out->entries);
    if (!out->entries) {
        return error_nomem(error, "an importance matrix", (size_t)file->n_tensors * sizeof *out->entries);
    }
    for (uint64_t i = 0; i < file->n_tensors && status == MLXR_OK; i++) {
        size_t n = strlen(file->tensors[i].name);
        if (text_ends_with(file->tensors[i].name, SUM_SUFFIX)) {
            status = take_tensor(out, file, &file->tensors[i], n - n_suffix, name, error);
        }
    }
    if (status == MLXR_OK && out->n == 0) {
        status = error_set(error, MLXR_FORMAT, "%s: no tensor '*" SUM_SUFFIX "': this is no importance matrix", name);
    }
    if (status == MLXR_OK && datasets && datasets->type == META_ARRAY && datasets->array.type == META_STRING &&
        datasets->array.n > 0) {
        const text_view *last = &datasets->array.strings[datasets->array.n - 1];
        out->dataset = region_strndup(&out->memory, last->data, last->n);
        status = out->dataset ? MLXR_OK : error_nomem(error, "a name", last->n);
    }
    if (status == MLXR_OK) {
        status = model_file_u32(file, "imatrix.chunk_count", &out->n_chunks, error);
    }
    if (status == MLXR_OK) {
        status = build_index(out, error);
    }
    if (status != MLXR_OK) {
        importance_close(out);
    }
    return status;
}

mlxr_status importance_open(importance *out, const char *path, mlxr_error *error)
{
    mapping bytes = {0};
    model_file *file = NULL;
    mlxr_status status = mapping_open(&bytes, path, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (bytes.n_bytes >= 4 && memcmp(bytes.data, "GGUF", 4) == 0) {
        status = model_file_open(&file, path, error);
        if (status == MLXR_OK) {
            status = importance_read_gguf(out, file, short_path(path), error);
        }
        model_file_close(&file);
    } else {
        status = importance_read_legacy(out, bytes.data, bytes.n_bytes, short_path(path), error);
    }
    mapping_close(&bytes);
    return status;
}
