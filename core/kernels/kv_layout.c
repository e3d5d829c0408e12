/*
 * The types a KV cache may have.
 * Owner: none; const tables. Lifetime: static.
 */
#include "kernels/kv_layout.h"

#include <string.h>

#include "base/error.h"
#include "kernels/kv_words.h"

static const struct {
    const char *name;
    dtype type;
} types[] = {
#define KV_TYPE_ROW(enum_name, text) {text, DTYPE_##enum_name},
    KV_TYPE_LIST(KV_TYPE_ROW)
#undef KV_TYPE_ROW
};

bool kv_type_find(const char *name, dtype *type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) == 0) {
            *type = types[i].type;
            return true;
        }
    }
    return false;
}

const char *kv_type_name(dtype type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].type == type) {
            return types[i].name;
        }
    }
    return NULL;
}

const char *kv_type_names(void)
{
#define KV_TYPE_NAME(enum_name, text) ", " text
    return &KV_TYPE_LIST(KV_TYPE_NAME)[2];
#undef KV_TYPE_NAME
}

mlxr_status kv_layout_check(const kv_group *group, dtype type, mlxr_error *error)
{
    if (!kv_type_name(type)) {
        return error_set(error, MLXR_UNSUPPORTED, "a KV cache cannot have type %d; it may have %s", (int)type,
                         kv_type_names());
    }
    uint32_t block = type == DTYPE_I16 ? KV_PART : dtype_find((uint32_t)type)->block_size;
    if (type == DTYPE_I16 && group->one_row) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "KV type i16 stores keys and values in different orders, but in this model's latent attention "
                         "they are the same rows; use f16, bf16, f32, q8_0 or q4_0");
    }
    if (type == DTYPE_I16 && group->head_dim > KV_WORDS_MAX) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "KV type i16 stores heads of up to %u elements, but this model's heads have %u; use f16, bf16 "
                         "or f32",
                         KV_WORDS_MAX, group->head_dim);
    }
    if (group->head_dim % block) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "KV type %s stores heads in blocks of %u elements, but this model's heads have %u; use f16, "
                         "bf16 or f32",
                         kv_type_name(type), block, group->head_dim);
    }
    return MLXR_OK;
}
