/*
 * Where a key or value lies inside a KV page.
 * Owner: none; plain values, computed once per layer group. Lifetime: the arena's.
 *
 * A page holds `page_tokens` consecutive positions for every layer of its group:
 *   page: [layer][K: [head_kv][token][head_dim] | V: [head_kv][token][head_dim]]
 * so that one head's keys are contiguous for the attention kernels.
 *
 * A page of a recurrent group holds one state, whatever the number of positions before it:
 *   page: [layer][state_width] F32
 */
#ifndef MLXR_KERNELS_KV_LAYOUT_H
#define MLXR_KERNELS_KV_LAYOUT_H

#include "kernels/plan.h"

#define KV_PAGE_NONE UINT32_MAX

typedef struct kv_layout {
    dtype type;           /* F32, F16, BF16; later Q8_0, Q4_0: rows of head_dim elements in that format */
    uint32_t page_tokens; /* a power of two */
    uint32_t n_layers, n_head_kv, head_dim;
    uint32_t state_width; /* recurrent: F32 elements of a layer; 0: attention */
    size_t row_bytes;     /* one head of one token */
    size_t head_bytes;    /* page_tokens × row_bytes */
    size_t layer_bytes;   /* 2 × n_head_kv × head_bytes */
    size_t page_bytes;    /* n_layers × layer_bytes */
} kv_layout;

static inline kv_layout kv_layout_make(const kv_group *group, dtype type, uint32_t page_tokens)
{
    kv_layout l = {.type = type,
                   .page_tokens = page_tokens,
                   .n_layers = group->n_layers,
                   .n_head_kv = group->n_head_kv,
                   .head_dim = group->head_dim};
    l.row_bytes = dtype_row_bytes(type, group->head_dim);
    l.head_bytes = page_tokens * l.row_bytes;
    l.layer_bytes = 2 * l.n_head_kv * l.head_bytes;
    if (group->state_width) {
        l.type = DTYPE_F32;
        l.state_width = group->state_width;
        l.layer_bytes = group->state_width * sizeof(float);
    }
    l.page_bytes = l.n_layers * l.layer_bytes;
    return l;
}

/* Bytes that one position takes, on average; 0 in recurrent groups. */
static inline size_t kv_layout_token_bytes(const kv_layout *l)
{
    return l->state_width ? 0 : l->page_bytes / l->page_tokens;
}

/* Byte offsets within a page of the first token's row of one head. */
static inline size_t kv_layout_k(const kv_layout *l, uint32_t layer, uint32_t head)
{
    return layer * l->layer_bytes + head * l->head_bytes;
}

static inline size_t kv_layout_v(const kv_layout *l, uint32_t layer, uint32_t head)
{
    return layer * l->layer_bytes + (l->n_head_kv + head) * l->head_bytes;
}

#endif
