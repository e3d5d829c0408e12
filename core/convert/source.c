/*
 * Opening what is quantised or converted.
 * Owner: the caller. Lifetime: source_open to source_close.
 */
#include "convert/source.h"

#include <string.h>

#include "base/error.h"

/* Keys that are written anew or say what will no longer be true. */
static bool is_ours(const char *key)
{
    static const char *const ours[] = {"general.file_type", "general.quantization_version", "general.alignment",
                                       "split.", "quantize.imatrix."};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        size_t n = strlen(ours[i]);
        if (strncmp(key, ours[i], n) == 0 && (ours[i][n - 1] == '.' || key[n] == 0)) {
            return true;
        }
    }
    return false;
}

static mlxr_status take_tensors(source *s, mlxr_error *error)
{
    s->n_tensors = (size_t)s->file->n_tensors;
    s->tensors = region_array(&s->memory, s->n_tensors, sizeof *s->tensors);
    if (!s->tensors) {
        return error_nomem(error, "the tensor table", s->n_tensors * sizeof *s->tensors);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        s->tensors[i] = (out_tensor){.in = &s->file->tensors[i], .type = s->file->tensors[i].type};
    }
    return MLXR_OK;
}

mlxr_status source_open(source *out, const char *path, mlxr_error *error)
{
    source s = {.header = gguf_out_make()};
    mlxr_status status = model_file_open(&s.file, path, error);
    if (status == MLXR_OK && s.file->format != MODEL_GGUF) {
        status = error_set(error, MLXR_UNSUPPORTED, "%s: safetensors; convert it to GGUF first: mlxr convert", path);
    }
    if (status == MLXR_OK) {
        status = take_tensors(&s, error);
    }
    for (uint64_t i = 0; status == MLXR_OK && i < s.file->n_meta; i++) {
        if (!is_ours(s.file->meta[i].key)) {
            gguf_out_put(&s.header, s.file->meta[i].key, &s.file->meta[i]);
        }
    }
    if (status == MLXR_OK) {
        *out = s;
    } else {
        source_close(&s);
    }
    return status;
}

void source_close(source *s)
{
    gguf_out_close(&s->header);
    model_file_close(&s->file);
    region_close(&s->memory);
    *s = (source){0};
}
