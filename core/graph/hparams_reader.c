/*
 * Reading of single hyper-parameters.
 * Owner: the model's graph. Lifetime: the call.
 */
#include "graph/hparams_reader.h"

#include <math.h>
#include <stdio.h>

#include "base/error.h"

const char *key_of(const reader *r, const char *suffix, char *buffer, size_t cap)
{
    snprintf(buffer, cap, "%s.%s", r->arch, suffix);
    return buffer;
}

void read_u32(reader *r, const char *suffix, uint32_t *out)
{
    char key[160];
    if (r->status == MLXR_OK) {
        r->status = model_file_u32(r->file, key_of(r, suffix, key, sizeof key), out, r->error);
    }
}

void read_f32(reader *r, const char *suffix, float *out)
{
    char key[160];
    if (r->status == MLXR_OK) {
        r->status = model_file_f32(r->file, key_of(r, suffix, key, sizeof key), out, r->error);
    }
    if (r->status == MLXR_OK && !isfinite(*out)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s' is not a finite number", key);
    }
}

void read_flag(reader *r, const char *suffix, uint32_t *out)
{
    char key[160];
    const meta_value *value = model_file_meta(r->file, key_of(r, suffix, key, sizeof key));
    if (r->status == MLXR_OK && value && value->type == META_BOOL) {
        *out = value->u != 0;
    } else {
        read_u32(r, suffix, out);
    }
}

void need_u32(reader *r, const char *suffix, uint32_t max, uint32_t *out)
{
    char key[160];
    key_of(r, suffix, key, sizeof key);
    *out = 0;
    read_u32(r, suffix, out);
    if (r->status == MLXR_OK && !model_file_meta(r->file, key)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s' is missing", key);
    } else if (r->status == MLXR_OK && (*out == 0 || *out > max)) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s' is %u; it must be 1 to %u", key, *out, max);
    }
}
