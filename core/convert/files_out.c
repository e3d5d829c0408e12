/*
 * One file or several parts.
 * Owner: see files_out.h. Lifetime: the writing of one model.
 */
#include "convert/files_out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"

#define FILES_MAX UINT16_MAX /* split.no and split.count have 16 bits */
#define HEADER_BYTES 24      /* before the metadata */

/* What a part says of itself. */
static gguf_out split_keys(uint32_t number, uint32_t n_files, size_t n_tensors)
{
    gguf_out keys = gguf_out_make();
    gguf_out_u16(&keys, "split.no", (uint16_t)number);
    gguf_out_u16(&keys, "split.count", (uint16_t)n_files);
    gguf_out_i32(&keys, "split.tensors.count", (int32_t)n_tensors);
    return keys;
}

/* Which file each tensor goes to; the bytes of all, nearly: without what aligns the headers. */
static mlxr_status divide(files_out *f, const gguf_out *header, const gguf_tensor *tensors, size_t n, uint64_t most,
                          uint64_t *n_bytes, mlxr_error *error)
{
    gguf_out keys = split_keys(0, 0, 0);
    uint64_t n_keys = keys.meta.n, head = HEADER_BYTES + header->meta.n + n_keys, data = 0;
    size_t first = 0;
    gguf_out_close(&keys);
    f->n_files = 1;
    *n_bytes = head;
    for (size_t i = 0; i < n; i++) {
        uint64_t entry = gguf_out_entry_bytes(&tensors[i]), bytes = gguf_out_data_bytes(&tensors[i]), all;
        if (!checked_add(head + data + GGUF_ALIGNMENT, entry, &all) || !checked_add(all, bytes, &all) ||
            !checked_add(*n_bytes, entry + bytes, n_bytes)) {
            return error_set(error, MLXR_LIMIT, "tensor '%s': the file would be longer than can be said",
                             tensors[i].name);
        }
        if (most && all > most && i > first) {
            f->n_files++;
            first = i;
            head = HEADER_BYTES + n_keys;
            data = 0;
        }
        head += entry;
        data += bytes;
        f->file_of[i] = f->n_files - 1;
    }
    if (f->n_files > FILES_MAX || (f->n_files > 1 && n > INT32_MAX)) {
        return error_set(error, MLXR_LIMIT,
                         "%" PRIu32 " files of %" PRIu64 " bytes: there can be %u; allow longer ones", f->n_files, most,
                         FILES_MAX);
    }
    return MLXR_OK;
}

/* The name of one of several: ".gguf" goes behind its number. */
static const char *part_path(files_out *f, const char *path, uint32_t number)
{
    size_t n = strlen(path), cap = n + 32;
    char *name = region_alloc(&f->memory, cap);
    if (name && f->n_files > 1) {
        n -= text_ends_with(path, ".gguf") ? strlen(".gguf") : 0;
        snprintf(name, cap, "%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf", (int)n, path, number + 1, f->n_files);
    } else if (name) {
        memcpy(name, path, n + 1);
    }
    return name;
}

/* Header and table of file `number`, which has tensors [first, first + n). */
static mlxr_status open_file(files_out *f, const char *path, const gguf_out *header, const gguf_tensor *tensors,
                             size_t n_tensors, uint32_t number, size_t first, size_t n, mlxr_error *error)
{
    gguf_out keys = f->n_files > 1 ? split_keys(number, f->n_files, n_tensors) : gguf_out_make();
    buffer bytes = buffer_make(SIZE_MAX / 2);
    uint64_t n_bytes = 0;
    const char *name = part_path(f, path, number);
    mlxr_status status = name ? MLXR_OK : error_nomem(error, "a path", strlen(path) + 32);
    if (status == MLXR_OK) {
        status = gguf_out_begin(number == 0 ? header : NULL, &keys, tensors + first, n, &bytes, f->offsets + first,
                                &n_bytes, error);
    }
    if (status == MLXR_OK) {
        status = new_file_open(&f->files[number], name, n_bytes, error);
    }
    if (status == MLXR_OK) {
        status = new_file_write(&f->files[number], 0, bytes.data, bytes.n, error);
    }
    f->n_bytes += n_bytes;
    gguf_out_close(&keys);
    buffer_close(&bytes);
    return status;
}

mlxr_status files_out_open(files_out *out, const char *path, const gguf_out *header, const gguf_tensor *tensors,
                           size_t n_tensors, uint64_t most_bytes, mlxr_error *error)
{
    files_out f = {0};
    uint64_t n_bytes = 0;
    f.file_of = region_array(&f.memory, n_tensors, sizeof *f.file_of);
    f.offsets = region_array(&f.memory, n_tensors, sizeof *f.offsets);
    mlxr_status status = f.file_of && f.offsets ? divide(&f, header, tensors, n_tensors, most_bytes, &n_bytes, error)
                                                : error_nomem(error, "the tensor table", n_tensors * 12);
    f.files = status == MLXR_OK ? region_array(&f.memory, f.n_files, sizeof *f.files) : NULL;
    if (status == MLXR_OK && !f.files) {
        status = error_nomem(error, "the table of files", f.n_files * sizeof *f.files);
    }
    for (uint32_t i = 0; f.files && i < f.n_files; i++) {
        f.files[i] = (new_file){.fd = -1};
    }
    if (status == MLXR_OK) {
        status = new_file_room(path, n_bytes, error);
    }
    size_t first = 0;
    for (uint32_t i = 0; status == MLXR_OK && i < f.n_files; i++) {
        size_t end = first;
        while (end < n_tensors && f.file_of[end] == i) {
            end++;
        }
        status = open_file(&f, path, header, tensors, n_tensors, i, first, end - first, error);
        first = end;
    }
    if (status == MLXR_OK) {
        *out = f;
    } else {
        files_out_discard(&f);
    }
    return status;
}

mlxr_status files_out_commit(files_out *out, mlxr_error *error)
{
    mlxr_status status = new_files_commit(out->files, out->n_files, error);
    region_close(&out->memory);
    *out = (files_out){0};
    return status;
}

void files_out_discard(files_out *out)
{
    for (uint32_t i = 0; out->files && i < out->n_files; i++) {
        new_file_discard(&out->files[i]);
    }
    region_close(&out->memory);
    *out = (files_out){0};
}
