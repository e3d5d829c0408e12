/*
 * Element types of tensors.
 * Owner: none; const tables. Lifetime: static.
 */
#include "quant/dtype.h"

static const dtype_info infos[] = {
#define DTYPE_INFO(name, text, id, n, bytes) [id] = {text, n, bytes},
    DTYPE_LIST(DTYPE_INFO)
#undef DTYPE_INFO
};

const dtype_info *dtype_find(uint32_t gguf_id)
{
    if (gguf_id >= sizeof infos / sizeof *infos || !infos[gguf_id].name) {
        return NULL;
    }
    return &infos[gguf_id];
}

const char *dtype_name(dtype type)
{
    return infos[type].name;
}

size_t dtype_row_bytes(dtype type, size_t n)
{
    return n / infos[type].block_size * infos[type].block_bytes;
}
